//! The container to plug in: found once, held by handles that no recycled PID can redirect.

use std::{fs, io::Read as _, os::fd::OwnedFd, path::Path};

use overlayd_core::contract::{self, Error, TargetIdentity};
use overlayd_netlink::{Netns, NetnsId};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    process::{Pid, PidfdFlags, pidfd_open},
};

/// An open container.
#[derive(Debug)]
pub(crate) struct OpenTarget {
    /// Its network namespace.
    pub(crate) netns: Netns,
    /// Which container it is, for the record.
    pub(crate) identity: TargetIdentity,
    process: Option<TargetProcess>,
}

#[derive(Debug)]
struct TargetProcess {
    pid: u32,
    pidfd: OwnedFd,
    start: u64,
}

impl OpenTarget {
    /// Opens what the plan names. `home` is the daemon's own namespace, which is no container.
    pub(crate) fn open(target: &contract::Target, home: NetnsId, boot: &str) -> contract::Result<Self> {
        let target = match target {
            contract::Target::Process(pid) => Self::of_process(*pid, boot)?,
            contract::Target::Namespace(path) => Self::at_path(path, boot)?,
            contract::Target::Compute(_) | contract::Target::Address(_) => {
                let reason = "containers are named by process or network namespace here".into();
                return Err(Error::Unsupported { what: format!("attaching {target:?}"), reason });
            }
        };
        if target.netns.id() == home {
            return Err(Error::Refused(format!("{target} is in the daemon's own network namespace")));
        }
        Ok(target)
    }

    fn of_process(pid: u32, boot: &str) -> contract::Result<Self> {
        let gone = || Error::TargetGone(format!("no process has PID {pid}"));
        let number = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or_else(gone)?;
        let pidfd = match pidfd_open(number, PidfdFlags::empty()) {
            Err(Errno::SRCH) => return Err(gone()),
            other => other.map_err(|e| Error::host(format!("open process {pid}"), e.into()))?,
        };
        let netns = match Netns::of_process(&pidfd) {
            // A container often has capabilities that the daemon has not, which forbids looking into its process.
            Err(error) if matches!(error.errno(), Some(Errno::ACCESS | Errno::PERM)) => Netns::of_stronger_process(pid),
            other => other,
        };
        let netns = match netns {
            Err(error) if error.errno() == Some(Errno::SRCH) => return Err(gone()),
            other => other?,
        };
        let start = start_of(pid).ok_or_else(gone)?;
        let process = TargetProcess { pid, pidfd, start };
        // All of the above was about this process only if it lives still.
        if process.has_ended()? {
            return Err(gone());
        }
        let identity = TargetIdentity(format!("{boot}/{start}/{}", netns.id()));
        Ok(Self { netns, identity, process: Some(process) })
    }

    fn at_path(path: &Path, boot: &str) -> contract::Result<Self> {
        let netns = match Netns::at_path(path) {
            Err(error) if error.errno() == Some(Errno::NOENT) => {
                return Err(Error::TargetGone(format!("there is no network namespace at {}", path.display())));
            }
            other => other?,
        };
        let identity = TargetIdentity(format!("{boot}/{}", netns.id()));
        Ok(Self { netns, identity, process: None })
    }

    /// When its process started, in clock ticks since boot.
    pub(crate) fn start(&self) -> Option<u64> {
        self.process.as_ref().map(|process| process.start)
    }

    /// The container's process, where it is known by one, to hear of its end.
    pub(crate) fn into_process(self) -> Option<OwnedFd> {
        self.process.map(|process| process.pidfd)
    }

    /// Fails if the container has ended. Its namespace may then live on only because we hold it.
    pub(crate) fn check_alive(&self) -> contract::Result<()> {
        match &self.process {
            Some(process) if process.has_ended()? => {
                Err(Error::TargetGone(format!("process {} ended while it was plugged in", process.pid)))
            }
            _ => Ok(()),
        }
    }
}

impl std::fmt::Display for OpenTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.process {
            Some(process) => write!(f, "process {}", process.pid),
            None => write!(f, "namespace {}", self.netns.id()),
        }
    }
}

impl TargetProcess {
    fn has_ended(&self) -> contract::Result<bool> {
        let mut fds = [PollFd::new(&self.pidfd, PollFlags::IN)];
        let ready = poll(&mut fds, Some(&Timespec::default()))
            .map_err(|e| Error::host(format!("look at process {}", self.pid), e.into()))?;
        Ok(ready > 0)
    }
}

/// When the process with this PID started, in clock ticks since boot (`proc(5)`, field 22 of `stat`); `None` where there
/// is no such process.
pub(crate) fn start_of(pid: u32) -> Option<u64> {
    // 52 numbers and a name of at most 64 bytes; the kernel gives all of it to the first read that has room.
    let mut stat = [0; 2048];
    let length = fs::File::open(format!("/proc/{pid}/stat")).and_then(|mut file| file.read(&mut stat)).ok()?;
    // The second field is the program's name, in parentheses, and may contain anything.
    let after_name = stat[..length].rsplit(|byte| *byte == b')').next()?;
    str::from_utf8(after_name).ok()?.split_ascii_whitespace().nth(22 - 3)?.parse().ok()
}
