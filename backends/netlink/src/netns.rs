mod beside;

use std::{
    fmt,
    os::fd::{AsFd, BorrowedFd},
    path::Path,
};

use nlink::netlink::namespace;
use rustix::thread::UnshareFlags;

use crate::{Error, Result};

/// An open network namespace, which lives at least as long as this.
#[derive(Debug)]
pub struct Netns(namespace::Netns);

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
        namespace::Netns::current().map(Self).map_err(|e| failed("open the own network namespace", e))
    }

    /// The one that the file at `path` stands for: a bind mount or `/proc/…/ns/net`.
    pub fn at_path(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let action = || format!("open the network namespace at {}", path.display());
        namespace::Netns::from_path(path).map(Self).map_err(|e| failed(action(), e))
    }

    /// That of the process which a pidfd stands for.
    pub fn of_process(pidfd: impl AsFd) -> Result<Self> {
        namespace::Netns::from_pidfd(pidfd).map(Self).map_err(|e| failed("open the process's network namespace", e))
    }

    /// That of the process with this PID, also where [`Netns::of_process`] is denied because the process has
    /// capabilities that the caller has not. Takes some milliseconds. Whoever calls this has to see afterwards, by a
    /// pidfd, that the process still lived: then it was not another one's.
    pub fn of_stronger_process(pid: u32) -> Result<Self> {
        let fd = beside::open(pid)?;
        namespace::Netns::from_fd(fd).map(Self).map_err(|e| failed("take a network namespace over", e))
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

    /// A new one that `ip netns` shows under this name until [`Netns::delete_named`].
    pub fn create_named(name: &str) -> Result<Self> {
        let action = || format!("create network namespace {name}");
        namespace::Netns::create(name).map(Self).map_err(|e| failed(action(), e))
    }

    /// The one that `ip netns` shows under this name.
    pub fn open_named(name: &str) -> Result<Self> {
        let action = || format!("open network namespace {name}");
        namespace::Netns::open(name).map(Self).map_err(|e| failed(action(), e))
    }

    /// Takes the name away; the namespace ends with its last user.
    pub fn delete_named(name: &str) -> Result<()> {
        let action = || format!("delete network namespace {name}");
        namespace::delete(name).map_err(|e| failed(action(), e))
    }

    /// Its identity.
    pub fn id(&self) -> NetnsId {
        let id = self.0.id();
        NetnsId { device: id.dev(), inode: id.ino() }
    }

    /// Another handle to it.
    pub fn try_clone(&self) -> Result<Self> {
        self.0.try_clone().map(Self).map_err(|e| failed("duplicate a namespace handle", e))
    }

    /// Does `work` inside the namespace, on a thread of its own that ends with it: sockets it opens and processes it
    /// starts stay inside.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        self.0.run(work).map_err(|e| failed("enter a network namespace", e))
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
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

fn failed(action: impl Into<String>, error: nlink::netlink::Error) -> Error {
    match error.errno() {
        Some(errno) => Error::new(action, std::io::Error::from_raw_os_error(errno.abs())),
        None if error.is_not_found() => Error::new(action, rustix::io::Errno::NOENT),
        None => Error::new(action, std::io::Error::other(error)),
    }
}
