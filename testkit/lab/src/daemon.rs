use std::{
    io,
    os::unix::process::ExitStatusExt as _,
    process::{Child, ExitStatus},
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, WaitOptions, kill_process, set_child_subreaper, waitpid};

/// Time between two looks.
const PAUSE: Duration = Duration::from_millis(2);

/// A daemon that runs: one that the lab has started, or the successor of one, which became the test's child when that
/// one ended.
#[derive(Debug)]
pub(super) enum DaemonProcess {
    Started(Child),
    Succeeded(Pid),
}

impl DaemonProcess {
    /// From now on processes whose parent ends become children of the test, which sees how they end.
    pub(super) fn adopt_orphans() {
        set_child_subreaper(rustix::thread::gettid().into()).expect("to adopt orphans");
    }

    pub(super) fn pid(&self) -> Pid {
        match self {
            Self::Started(child) => Pid::from_raw(child.id().try_into().expect("a PID")).expect("a PID"),
            Self::Succeeded(pid) => *pid,
        }
    }

    pub(super) fn signal(&self, signal: Signal) -> io::Result<()> {
        Ok(kill_process(self.pid(), signal)?)
    }

    /// Waits until it holds, or the daemon has ended; whether it lives.
    pub(super) fn lives_until(&mut self, holds: impl Fn() -> bool) -> bool {
        let Self::Started(child) = self else { panic!("only a daemon that the lab has started is watched") };
        while child.try_wait().expect("a child").is_none() {
            if holds() {
                return true;
            }
            thread::sleep(PAUSE);
        }
        false
    }

    pub(super) fn wait(&mut self) -> io::Result<ExitStatus> {
        match self {
            Self::Started(child) => child.wait(),
            Self::Succeeded(pid) => {
                let (_, status) = waitpid(Some(*pid), WaitOptions::empty())?.ok_or(io::ErrorKind::NotFound)?;
                Ok(ExitStatus::from_raw(status.as_raw()))
            }
        }
    }
}
