//! Network namespaces: opening, telling apart and entering them.

pub(crate) mod ffi;

use std::{
    fmt,
    fs::{self, File},
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    path::Path,
};

use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};
use rustix::{
    event::{PollFd, PollFlags, Timespec},
    io::Errno,
};

use crate::{Error, Result};

/// An open network namespace, which lives at least as long as this.
#[derive(Debug)]
pub struct Netns {
    file: OwnedFd,
    id: NetnsId,
}

/// Tells one network namespace from another for as long as it exists (device and inode number of its file).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NetnsId {
    /// Device of the file.
    pub device: u64,
    /// Inode of the file.
    pub inode: u64,
}

impl fmt::Display for NetnsId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.device, self.inode)
    }
}

impl Netns {
    /// The calling thread's.
    pub fn current() -> Result<Self> {
        // `/proc/self` is the first thread of the process; others may be in other namespaces.
        open("open the own network namespace", Path::new("/proc/thread-self/ns/net"))
    }

    /// The one that the file at `path` stands for: a bind mount or `/proc/…/ns/net`.
    pub fn at_path(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        open(&format!("open the network namespace at {}", path.display()), path)
    }

    /// That of the process which a pidfd stands for.
    pub fn of_process(pidfd: impl AsFd) -> Result<Self> {
        const ACTION: &str = "open the process's network namespace";
        match ffi::namespace_of_pidfd(&pidfd) {
            Ok(file) => Self::new(ACTION, file),
            // A kernel before 6.11.
            Err(Errno::NOTTY | Errno::INVAL) => Self::of_pidfd_by_pid(ACTION, pidfd.as_fd()),
            Err(error) => Err(Error::new(ACTION, error)),
        }
    }

    /// A new one without a name, which ends with the last process, socket and handle in it. Its loopback device is
    /// down.
    pub fn create() -> Result<Self> {
        let create = || -> Result<Self> {
            // A thread of its own: entering a namespace cannot be undone with certainty.
            #[expect(deprecated, reason = "its one danger is a file table unshared, and only the network is")]
            rustix::thread::unshare(UnshareFlags::NEWNET).map_err(|e| Error::new("create a network namespace", e))?;
            Self::current()
        };
        on_own_thread(create)?
    }

    /// Its identity.
    pub fn id(&self) -> NetnsId {
        self.id
    }

    /// Another handle to it.
    pub fn try_clone(&self) -> Result<Self> {
        let file = self.file.try_clone().map_err(|e| Error::new("duplicate a namespace handle", e))?;
        Ok(Self { file, id: self.id })
    }

    /// Does `work` inside the namespace, on a thread of its own that ends with it: sockets it opens and processes it
    /// starts stay inside.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        on_own_thread(|| self.enter().map(|()| work()))?
    }

    /// Takes the calling thread there.
    pub(crate) fn enter(&self) -> Result<()> {
        let moved = move_into_link_name_space(self.as_fd(), Some(LinkNameSpaceType::Network));
        moved.map_err(|e| Error::new("enter a network namespace", e))
    }

    /// By the PID that the pidfd shows, which is its process's for as long as that has not ended.
    fn of_pidfd_by_pid(action: &str, pidfd: BorrowedFd<'_>) -> Result<Self> {
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => Error::new(action, Errno::SRCH),
            _ => Error::new(action, error),
        };
        let shown = fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd())).map_err(failed)?;
        let pid = shown.lines().find_map(|line| line.strip_prefix("Pid:")?.trim().parse::<u32>().ok());
        let pid = pid.ok_or_else(|| Error::new(action, Errno::SRCH))?;
        let file = File::open(format!("/proc/{pid}/ns/net")).map_err(failed)?;
        // Readable means that it has ended. Then the PID may have been another process's by the time of the `open`.
        let mut ended = [PollFd::from_borrowed_fd(pidfd, PollFlags::IN)];
        match rustix::event::poll(&mut ended, Some(&Timespec::default())).map_err(|e| Error::new(action, e))? {
            0 => Self::new(action, file.into()),
            _ => Err(Error::new(action, Errno::SRCH)),
        }
    }

    pub(crate) fn new(action: &str, file: OwnedFd) -> Result<Self> {
        let status = rustix::fs::fstat(&file).map_err(|e| Error::new(action, e))?;
        let id = NetnsId { device: status.st_dev, inode: status.st_ino };
        Ok(Self { file, id })
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn open(action: &str, path: &Path) -> Result<Netns> {
    let file = File::open(path).map_err(|e| Error::new(action, e))?;
    match ffi::is_network_namespace(&file) {
        Ok(true) => Netns::new(action, file.into()),
        Ok(false) => Err(Error::new(action, io::Error::other("it is a namespace, but not one of networks"))),
        Err(Errno::NOTTY) => Err(Error::new(action, io::Error::other("the file is not a network namespace"))),
        Err(error) => Err(Error::new(action, error)),
    }
}

fn on_own_thread<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("netns".into())
            .spawn_scoped(scope, work)
            .map_err(|e| Error::new("start a thread", e))?;
        thread.join().map_err(|_| Error::new("run in a network namespace", std::io::Error::other("it panicked")))
    })
}
