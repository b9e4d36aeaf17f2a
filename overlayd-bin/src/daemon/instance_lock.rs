//! One daemon to one data directory.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{Read, Seek, Write},
    path::{Path, PathBuf},
};

/// Name of the lock in the data directory.
const FILE: &str = "overlayd.lock";

/// Says that this process is the one daemon of its data directory. The lock is the kernel's, so it ends with the
/// process however that ends; the file stays and holds the last owner's PID for people to read.
#[derive(Debug)]
pub(crate) struct InstanceLock {
    /// Holds the lock while it is open.
    _file: File,
}

/// Why this process may not be the daemon of a data directory.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LockError {
    /// Another process is.
    #[error("another overlayd ({owner}) already serves this data directory: it holds {}", path.display())]
    Held {
        /// `pid N`, as far as the file tells.
        owner: String,
        /// The lock.
        path: PathBuf,
    },
    /// The directory or the file cannot be used.
    #[error("could not lock {}", path.display())]
    Io {
        /// The lock.
        path: PathBuf,
        /// The host's own words.
        source: std::io::Error,
    },
}

impl InstanceLock {
    /// Takes the lock of `data_dir`, which is created when it is missing.
    pub(crate) fn acquire(data_dir: &Path) -> Result<Self, LockError> {
        let path = data_dir.join(FILE);
        let file = match Self::lock(data_dir, &path) {
            Ok(file) => file,
            Err(source) => return Err(LockError::Io { path, source }),
        };
        file.map(|file| Self { _file: file }).map_err(|owner| LockError::Held { owner, path })
    }

    /// The locked file, or who holds the lock.
    fn lock(data_dir: &Path, path: &Path) -> std::io::Result<Result<File, String>> {
        std::fs::create_dir_all(data_dir)?;
        let mut file = open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(Err(owner(&mut file))),
            Err(TryLockError::Error(source)) => return Err(source),
        }
        record_owner(&mut file)?;
        Ok(Ok(file))
    }
}

/// Opens the lock for reading and writing; only its owner can: another user that held the lock would keep
/// the daemon from starting.
fn open(path: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Writes our PID, for the message that the next one prints.
fn record_owner(file: &mut File) -> std::io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

/// Who holds the lock, for a message.
fn owner(file: &mut File) -> String {
    let mut text = String::new();
    match file.read_to_string(&mut text) {
        Ok(_) if !text.trim().is_empty() => format!("pid {}", text.trim()),
        _ => "pid unknown".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_daemon_on_a_data_directory_is_told_who_the_first_is() {
        let dir = tempfile::tempdir().unwrap();
        let data_dir = dir.path().join("not/there/yet");
        let first = InstanceLock::acquire(&data_dir).unwrap();
        let refusal = InstanceLock::acquire(&data_dir).unwrap_err().to_string();
        assert!(refusal.contains(&format!("pid {}", std::process::id())), "{refusal}");
        assert!(refusal.contains(&*data_dir.join(FILE).to_string_lossy()), "{refusal}");
        drop(first);
        InstanceLock::acquire(&data_dir).unwrap();
    }

    #[test]
    fn a_data_directory_that_cannot_be_made_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        let refusal = InstanceLock::acquire(&file.join("data")).unwrap_err().to_string();
        assert!(refusal.contains(&*file.to_string_lossy()), "{refusal}");
    }
}
