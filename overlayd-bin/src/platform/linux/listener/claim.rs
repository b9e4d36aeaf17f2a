//! Takes a path for the socket: a stale one is replaced, everything else is left alone.

use std::{
    fs::{File, Metadata, Permissions, TryLockError},
    io::{self, ErrorKind},
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use tokio::net::{UnixListener, UnixStream};

/// Mode of the socket: its owner and its group may connect.
const MODE: u32 = 0o660;
/// How often and how long to wait for another daemon that is claiming a path in the same directory.
const TURNS: u32 = 40;
const TURN: Duration = Duration::from_millis(50);

/// Why the socket's path cannot be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClaimError {
    /// Another process answers there.
    #[error("another process is listening on {}; stop it, or choose another path with --socket", .0.display())]
    Live(PathBuf),
    /// Something else is there.
    #[error("{} exists and is no socket; it is left alone: remove it, or choose another path with --socket", .0.display())]
    NotASocket(PathBuf),
    /// It cannot be told whether a process answers there.
    #[error("could not tell whether {} is in use, so it is left alone", path.display())]
    Unclear {
        /// The socket.
        path: PathBuf,
        /// The host's own words.
        source: io::Error,
    },
    /// The directory belongs to another user.
    #[error("this user may not {step} {}: choose a path in a directory of its own with --socket", path.display())]
    Denied {
        /// What was tried.
        step: &'static str,
        /// On what.
        path: PathBuf,
        /// The host's own words.
        source: io::Error,
    },
    /// A step failed.
    #[error("could not {step} {}", path.display())]
    Io {
        /// What was tried.
        step: &'static str,
        /// On what.
        path: PathBuf,
        /// The host's own words.
        source: io::Error,
    },
}

impl ClaimError {
    fn of_step(step: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            ErrorKind::PermissionDenied => Self::Denied { step, path, source },
            _ => Self::Io { step, path, source },
        }
    }
}

/// The socket's file. It is removed when this is dropped, if it is still the one that was made.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
    /// Whether another process listens there from now on.
    left: AtomicBool,
}

impl SocketFile {
    /// That of a socket which another process has bound and given to this one.
    pub(super) fn of_another(path: &Path) -> Result<Self, ClaimError> {
        let metadata = path.symlink_metadata().map_err(|source| ClaimError::of_step("inspect", path, source))?;
        if !metadata.file_type().is_socket() {
            return Err(ClaimError::NotASocket(path.to_owned()));
        }
        Ok(Self { path: path.to_owned(), identity: identity(&metadata), left: AtomicBool::new(false) })
    }

    /// Leaves it in place for the process that listens there from now on.
    pub(super) fn leave(&self) {
        self.left.store(true, Ordering::Relaxed);
    }
}

/// Binds `path`. What a daemon that is gone left there is replaced; everything else is left alone.
pub(super) async fn claim(path: &Path, group: Option<u32>) -> Result<(UnixListener, SocketFile), ClaimError> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(parent).map_err(|source| ClaimError::of_step("create the directory of", path, source))?;
    // Two daemons that find the same stale socket at once must not remove each other's new one.
    let turn = take_turn(parent).await.map_err(|source| ClaimError::of_step("open the directory of", path, source))?;
    remove_stale(path).await?;
    let listener = UnixListener::bind(path).map_err(|source| ClaimError::of_step("listen on", path, source))?;
    let metadata = path.symlink_metadata().map_err(|source| ClaimError::of_step("inspect", path, source))?;
    let file = SocketFile { path: path.to_owned(), identity: identity(&metadata), left: AtomicBool::new(false) };
    // Between bind and here the mode is the umask's, which may be wider; the kernel's word on the peer is checked anyway.
    restrict(path, group);
    drop(turn);
    Ok((listener, file))
}

/// Locks the directory against other daemons. Every user who can read the directory can hold this lock, so waiting for it
/// is bounded, and going on without it only costs the protection against a race.
async fn take_turn(directory: &Path) -> io::Result<File> {
    let handle = File::open(directory)?;
    for _ in 0..TURNS {
        match handle.try_lock() {
            Ok(()) => return Ok(handle),
            Err(TryLockError::WouldBlock) => tokio::time::sleep(TURN).await,
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
    tracing::warn!(directory = %directory.display(), "another process keeps the socket's directory locked; going on without the lock");
    Ok(handle)
}

/// Removes a socket that no process listens on.
async fn remove_stale(path: &Path) -> Result<(), ClaimError> {
    match path.symlink_metadata() {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(ClaimError::of_step("inspect", path, error)),
        Ok(metadata) if !metadata.file_type().is_socket() => return Err(ClaimError::NotASocket(path.to_owned())),
        Ok(_) => {}
    }
    match UnixStream::connect(path).await {
        Ok(_) => Err(ClaimError::Live(path.to_owned())),
        // The backlog is full: a process listens, and is busy.
        Err(error) if error.kind() == ErrorKind::WouldBlock => Err(ClaimError::Live(path.to_owned())),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            tracing::info!(path = %path.display(), "removing the socket of a daemon that is gone");
            std::fs::remove_file(path).map_err(|source| ClaimError::of_step("remove the stale socket", path, source))
        }
        Err(source) => Err(ClaimError::Unclear { path: path.to_owned(), source }),
    }
}

/// Lets the owner and the group connect. A failure leaves the socket to fewer users than wanted, so it is only told.
fn restrict(path: &Path, group: Option<u32>) {
    if let Err(error) = std::fs::set_permissions(path, Permissions::from_mode(MODE)) {
        tracing::warn!(%error, path = %path.display(), "could not set the socket's mode; only its owner may connect");
    }
    if let Some(gid) = group
        && let Err(error) = chown(path, None, Some(gid))
    {
        tracing::warn!(
            %error, gid, path = %path.display(),
            "could not give the socket to its group, whose members cannot connect; \
             the daemon needs that group among its own, or CAP_CHOWN"
        );
    }
}

/// What tells one file from another that has taken its name.
fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.left.load(Ordering::Relaxed) {
            return;
        }
        // Another daemon may have taken the path over: its socket has another inode.
        let ours = self.path.symlink_metadata().is_ok_and(|metadata| identity(&metadata) == self.identity);
        if ours && let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(%error, path = %self.path.display(), "could not remove the socket");
        }
    }
}
