//! A daemon in a directory of its own.

use std::{
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use tempfile::TempDir;

use crate::common::{Outcome, overlayd};

/// Longest wait for a daemon to be ready.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running daemon, killed on drop.
pub(crate) struct Daemon {
    data_dir: PathBuf,
    process: Child,
    manager: UnixDatagram,
    _directory: TempDir,
}

impl Daemon {
    /// Starts one in a new directory and waits until it says that it is ready.
    pub(crate) fn start() -> Self {
        Self::start_as(|command| command)
    }

    /// The same, with more said about the process.
    pub(crate) fn start_as(more: impl FnOnce(&mut Command) -> &mut Command) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let data_dir = directory.path().join("data");
        let notify = directory.path().join("notify");
        let manager = UnixDatagram::bind(&notify).unwrap();
        manager.set_read_timeout(Some(PATIENCE)).unwrap();
        let log = std::fs::File::create(directory.path().join("log")).unwrap();
        let mut command = overlayd();
        command
            .args(["--service", "--data-dir"])
            .arg(&data_dir)
            .env("NOTIFY_SOCKET", &notify)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        let process = more(&mut command).spawn().unwrap();
        let daemon = Self { data_dir, process, manager, _directory: directory };
        assert_eq!(daemon.told(), "READY=1", "what a service manager hears first");
        daemon
    }

    /// What it tells the service manager next.
    pub(crate) fn told(&self) -> String {
        let mut message = [0; 64];
        let length = overlayd_testkit::uninterrupted(|| self.manager.recv(&mut message))
            .expect("the daemon says something to the service manager");
        String::from_utf8(message[..length].trim_ascii_end().to_vec()).unwrap()
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Its data directory.
    pub(crate) fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Its socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.data_dir.join("run/zlayer-overlayd.sock")
    }

    /// Runs a command against it.
    pub(crate) fn ask(&self, arguments: &[&str]) -> Outcome {
        overlayd().args(arguments).arg("--data-dir").arg(&self.data_dir).output().unwrap().into()
    }

    /// Tells it to end as a service manager does.
    pub(crate) fn terminate(&self) {
        let pid = rustix::process::Pid::from_child(&self.process);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.process.wait().unwrap()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended already, which is what is wanted here.
        self.process.kill().ok();
        self.process.wait().ok();
    }
}
