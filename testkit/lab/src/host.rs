use std::{
    fs::{self, File},
    net::IpAddr,
    path::{Path, PathBuf},
    process::ExitStatus,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal};

use super::HostFacts;
use super::{LabClient, Namespace, confined::ConfinementBounds, daemon::DaemonProcess, facts};

/// A host: its namespaces, and the daemon on it while that runs.
#[derive(Debug)]
pub struct Host {
    /// Network and mounts.
    pub namespace: Namespace,
    /// What the daemon is to log, in the form of `RUST_LOG`; `None` is the usual.
    pub log_filter: Option<String>,
    /// What the daemon's environment says apart from that.
    pub environment: Vec<(String, String)>,
    overlayd: PathBuf,
    directory: PathBuf,
    addresses: (IpAddr, IpAddr),
    daemon: Option<DaemonProcess>,
}

/// What the daemon may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostPrivileges {
    /// All of root's.
    Root,
    /// `CAP_NET_ADMIN` and `CAP_SYS_ADMIN`, the least that it works with.
    TwoCapabilities,
    /// These and `CAP_NET_BIND_SERVICE`, as the packaged unit grants.
    Packaged,
    /// The capabilities and the system calls of the systemd unit in this file.
    Unit(PathBuf),
}

/// The daemon's socket, in the host's directory.
const SOCKET: &str = "overlayd.sock";
/// How long a daemon may take to start, or a host to settle. Far more than they need.
const PATIENCE: Duration = Duration::from_secs(20);

impl Host {
    pub(super) fn new(namespace: Namespace, directory: &Path, overlayd: &Path, addresses: (IpAddr, IpAddr)) -> Self {
        fs::create_dir_all(directory).expect("a directory for the host");
        let (overlayd, directory) = (overlayd.to_owned(), directory.to_owned());
        Self { namespace, log_filter: None, environment: Vec::new(), overlayd, directory, addresses, daemon: None }
    }

    /// IPv4 address on the underlay.
    pub fn v4(&self) -> IpAddr {
        self.addresses.0
    }

    /// IPv6 address on the underlay.
    pub fn v6(&self) -> IpAddr {
        self.addresses.1
    }

    /// The daemon's data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// The daemon's socket.
    pub fn socket(&self) -> PathBuf {
        self.directory.join(SOCKET)
    }

    /// What the daemon said so far, over all its runs.
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.join("overlayd.log")).unwrap_or_default()
    }

    /// Starts the daemon and waits until it answers.
    pub fn start(&mut self) -> LabClient {
        self.start_with(HostPrivileges::Root)
    }

    /// Starts the daemon with these privileges and waits until it answers.
    pub fn start_with(&mut self, privileges: HostPrivileges) -> LabClient {
        self.spawn(privileges);
        self.client()
    }

    /// Starts the daemon and waits until it takes connections, or has ended; whether it lives.
    pub fn start_if_it_can(&mut self) -> bool {
        self.spawn(HostPrivileges::Root);
        let daemon = self.daemon.as_mut().expect("it was just started");
        daemon.lives_until(|| LabClient::connect(&self.directory.join(SOCKET), Duration::ZERO).is_ok())
    }

    fn spawn(&mut self, privileges: HostPrivileges) {
        assert!(self.daemon.is_none(), "the daemon runs already");
        let (data, socket) = (self.data_dir(), self.socket());
        let mut command = vec!["setpriv", "--pdeathsig=KILL"];
        let bounds = match &privileges {
            HostPrivileges::Unit(unit) => Some(ConfinementBounds::of_unit(unit)),
            HostPrivileges::Root | HostPrivileges::TwoCapabilities | HostPrivileges::Packaged => None,
        };
        let capabilities = match &privileges {
            HostPrivileges::Root => None,
            HostPrivileges::TwoCapabilities => Some("-all,+net_admin,+sys_admin"),
            HostPrivileges::Packaged => Some("-all,+net_admin,+sys_admin,+net_bind_service"),
            HostPrivileges::Unit(_) => bounds.as_ref().map(|bounds| bounds.capabilities.as_str()),
        };
        let sets = capabilities.map(|set| [format!("--bounding-set={set}"), format!("--inh-caps={set}")]);
        command.extend(sets.iter().flatten().map(String::as_str));
        let paths = [&self.overlayd, &data, &socket].map(|path| path.to_str().expect("a path in UTF-8"));
        command.extend([paths[0], "--data-dir", paths[1], "--socket", paths[2]]);
        let log = File::options().create(true).append(true).open(self.directory.join("overlayd.log"));
        let log = log.expect("a log file");
        let mut command = self.namespace.command(&command);
        command.stdout(log.try_clone().expect("a second handle of the log")).stderr(log);
        // Where `wg` looks, in the host's own `/run`.
        command.env("OVERLAYD_CONTROL_DIR", "/run/wireguard");
        let usual = || std::env::var("RUST_LOG").unwrap_or_else(|_| "info,overlayd=debug".into());
        command.env("RUST_LOG", self.log_filter.clone().unwrap_or_else(usual));
        if let Some(bounds) = &bounds {
            bounds.bind(&mut command);
        }
        command.envs(self.environment.clone());
        self.daemon = Some(DaemonProcess::Started(command.spawn().expect("the daemon starts")));
    }

    /// A connection to the daemon.
    pub fn client(&self) -> LabClient {
        LabClient::connect(&self.socket(), PATIENCE)
            .unwrap_or_else(|error| panic!("no daemon answers at {:?}: {error}\n{}", self.socket(), self.log()))
    }

    /// PID of the daemon.
    pub fn daemon_pid(&self) -> u32 {
        self.daemon.as_ref().expect("the daemon runs").pid().as_raw_nonzero().get().unsigned_abs()
    }

    /// Kills the daemon as `kill -9` does.
    pub fn kill(&mut self) {
        let mut daemon = self.daemon.take().expect("the daemon runs");
        daemon.signal(Signal::KILL).expect("a signal");
        daemon.wait().expect("an end");
    }

    /// Waits for the daemon to end by itself, as after `shutdown`.
    pub fn wait(&mut self) -> ExitStatus {
        self.daemon.take().expect("the daemon runs").wait().expect("an end")
    }

    /// Asks the daemon to end with SIGTERM and waits for it.
    pub fn terminate(&mut self) -> ExitStatus {
        self.daemon.as_ref().expect("the daemon runs").signal(Signal::TERM).expect("a signal");
        self.wait()
    }

    /// Has the daemon replace itself by the program that is now at its path, as `overlayd upgrade` does; what the command
    /// printed, or its complaint. The older process is not waited for: [`Host::succeed`] does that.
    pub fn upgrade(&self, overlayd: &Path) -> Result<String, String> {
        self.adopt_successor();
        let socket = self.socket();
        let paths = [overlayd, &socket].map(|path| path.to_str().expect("a path in UTF-8"));
        self.namespace.try_run(&[paths[0], "upgrade", "--socket", paths[1]])
    }

    /// From now on a successor becomes the test's own child, no matter who asks for it.
    pub fn adopt_successor(&self) {
        DaemonProcess::adopt_orphans();
    }

    /// Waits until the older process has ended after an upgrade, and takes its successor for the daemon from now on.
    /// How the older one ended.
    pub fn succeed(&mut self) -> ExitStatus {
        let successor = self.lock_owner();
        let status = self.wait();
        self.daemon = Some(DaemonProcess::Succeeded(successor));
        status
    }

    /// The process that holds the data directory.
    pub fn lock_owner(&self) -> Pid {
        let path = self.data_dir().join("overlayd.lock");
        let start = Instant::now();
        // The file is empty between the moment in which the next holder truncates it and that in which it writes its PID.
        loop {
            let text = fs::read_to_string(&path).expect("the lock's file");
            if let Some(owner) = text.trim().parse().ok().and_then(Pid::from_raw) {
                return owner;
            }
            assert!(start.elapsed() < PATIENCE, "{} names no process: {text:?}", path.display());
            std::thread::yield_now();
        }
    }

    /// What is on the host: links, addresses, routes, rules, nftables, sysctls, files in `/run`.
    pub fn facts(&self) -> HostFacts {
        facts::of(&self.namespace)
    }

    /// Waits until the host is as it was, and panics with the difference if that does not come to be. The daemon answers
    /// a detach before the kernel has deleted the links, which takes it a grace period each.
    #[track_caller]
    pub fn comes_back_to(&self, before: &HostFacts) {
        let now = self.wait_until(|facts| facts == before);
        let gone: Vec<_> = before.difference(&now).collect();
        let new: Vec<_> = now.difference(before).collect();
        assert!(gone.is_empty() && new.is_empty(), "left behind: {new:#?}, gone: {gone:#?}");
    }

    /// Looks at the host until it is as wished, or until patience ends, and returns what was seen last.
    pub fn wait_until(&self, wished: impl Fn(&HostFacts) -> bool) -> HostFacts {
        let start = Instant::now();
        loop {
            let facts = self.facts();
            if wished(&facts) || start.elapsed() > PATIENCE {
                return facts;
            }
        }
    }

    /// Runs a program on the host and returns what it printed.
    pub fn run(&self, command: &[&str]) -> String {
        self.namespace.run(command)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            // A daemon that is gone already is what is wanted.
            let _ = daemon.signal(Signal::KILL);
            let _ = daemon.wait();
        }
        if std::thread::panicking() {
            let log = self.log();
            let from = log.char_indices().rev().nth(6000).map_or(0, |(at, _)| at);
            eprintln!("--- the end of the log of the daemon at {:?}\n{}", self.directory, &log[from..]);
        }
    }
}
