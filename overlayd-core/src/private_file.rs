//! Files that only their owner may read.

use std::{
    fs::{DirBuilder, File, OpenOptions},
    io,
    path::{Path, PathBuf},
};

/// Extension of what is being written.
const DRAFT: &str = "new";

/// Opens `path` for reading and writing, creating it with mode 0600.
pub(crate) fn open_or_create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    owner_only(&mut options);
    options.open(path)
}

/// Creates `path` and its parents with mode 0700 where they are missing.
pub(crate) fn create_dir(path: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    owner_only_dir(&mut builder);
    builder.create(path)
}

/// Replaces the content of `path` so that after a crash either the old or the new content is there (mode 0600).
pub(crate) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    use std::io::Write;
    let draft = draft_of(path);
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    owner_only(&mut options);
    let mut file = options.open(&draft)?;
    file.write_all(content)?;
    file.sync_all()?;
    put_in_place(&draft, path)
}

/// Where the content of `path` is written until it is complete.
pub(crate) fn draft_of(path: &Path) -> PathBuf {
    path.with_extension(DRAFT)
}

/// Gives a complete draft the name that it is for.
pub(crate) fn put_in_place(draft: &Path, path: &Path) -> io::Result<()> {
    std::fs::rename(draft, path)?;
    match path.parent() {
        Some(dir) => sync_dir(dir),
        None => Ok(()),
    }
}

/// Removes a file where there is one.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Removes what a crash during [`replace`] has left in `dir`.
pub(crate) fn remove_drafts(dir: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == DRAFT) {
            std::fs::remove_file(path)?;
        }
    }
    Ok(())
}

#[cfg(unix)]
fn owner_only(options: &mut OpenOptions) {
    use std::os::unix::fs::OpenOptionsExt;
    options.mode(0o600);
}

#[cfg(unix)]
fn owner_only_dir(builder: &mut DirBuilder) {
    use std::os::unix::fs::DirBuilderExt;
    builder.mode(0o700);
}

#[cfg(unix)]
fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// On Windows the data directory's access list protects what is inside.
#[cfg(not(unix))]
fn owner_only(_: &mut OpenOptions) {}

#[cfg(not(unix))]
fn owner_only_dir(_: &mut DirBuilder) {}

/// Windows flushes directory entries with the file.
#[cfg(not(unix))]
fn sync_dir(_: &Path) -> io::Result<()> {
    Ok(())
}
