use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::fd::AsFd,
    process::{Child, Command, Stdio},
    thread,
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// A network namespace and the process that holds it open. The process ends when this is dropped.
#[derive(Debug)]
pub struct Namespace {
    holder: Child,
    mounts: MountView,
}

/// What the process in a container may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NamespaceConfinement {
    /// All that the test may do.
    None,
    /// No capability at all.
    NoCapabilities,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MountView {
    Shared,
    Private,
}

/// A host has its own `/run` (and so its own `/var/run/wireguard`) and the `/sys` of its own links.
const HOST: &str = "mount -t sysfs sysfs /sys && mount -t tmpfs tmpfs /run && mkdir -m 700 /run/wireguard \
                    && ip link set lo up && echo ready && exec cat";
/// A container starts with nothing, not even a loopback.
const CONTAINER: &str = "echo ready && exec cat";

impl Namespace {
    /// A namespace for a host or a router, with the loopback up.
    pub fn host() -> Self {
        let unshare = ["unshare", "--net", "--mount", "--propagation", "private", "sh", "-c", HOST];
        let host = Self::start(&unshare, MountView::Private);
        // IPv4's settings are inherited from the machine that runs the test.
        host.set("ipv4/ip_forward", "0");
        host
    }

    /// A namespace for a container, with nothing in it.
    pub fn container(confinement: NamespaceConfinement) -> Self {
        let drop = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"];
        let mut command = vec!["unshare", "--net"];
        if confinement == NamespaceConfinement::NoCapabilities {
            command.extend(drop);
        }
        command.extend(["sh", "-c", CONTAINER]);
        Self::start(&command, MountView::Shared)
    }

    fn start(command: &[&str], mounts: MountView) -> Self {
        let mut holder = program(command[0])
            .args(&command[1..])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let mut line = String::new();
        BufReader::new(holder.stdout.as_mut().expect("stdout is piped")).read_line(&mut line).expect("a pipe");
        assert_eq!(line, "ready\n", "{command:?} did not make its namespace");
        let namespace = Self { holder, mounts };
        namespace.allow_pings();
        namespace
    }

    /// Lets every group send pings without a raw socket. A user namespace refuses groups that it does not map, and then
    /// it has a single one, which is root's.
    fn allow_pings(&self) {
        const RANGE: &str = "/proc/sys/net/ipv4/ping_group_range";
        let allowed = self.enter(|| fs::write(RANGE, "0 2147483647").or_else(|_| fs::write(RANGE, "0 0")));
        allowed.unwrap_or_else(|error| panic!("{RANGE}: {error}"));
    }

    /// Sets a sysctl below `net/`, as `ipv4/ip_forward`.
    pub fn set(&self, sysctl: &str, value: &str) {
        let path = format!("/proc/sys/net/{sysctl}");
        self.enter(|| fs::write(&path, value)).unwrap_or_else(|error| panic!("{path}: {error}"));
    }

    /// The process that is in the namespace.
    pub fn pid(&self) -> u32 {
        self.holder.id()
    }

    /// Runs a program in the namespace and returns what it printed; panics with its words if it fails.
    pub fn run(&self, command: &[&str]) -> String {
        self.try_run(command).unwrap_or_else(|error| panic!("{command:?}: {error}"))
    }

    /// Runs a program in the namespace: what it printed, or its complaint.
    pub fn try_run(&self, command: &[&str]) -> Result<String, String> {
        let output = self.command(command).output().map_err(|error| error.to_string())?;
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
            false => Err(format!("{} {}", output.status, String::from_utf8_lossy(&output.stderr).trim())),
        }
    }

    /// Runs a program in the namespace with this text as its input.
    pub fn feed(&self, command: &[&str], input: &str) {
        let mut child = self.command(command).stdin(Stdio::piped()).spawn().expect("nsenter starts");
        child.stdin.take().expect("stdin is piped").write_all(input.as_bytes()).expect("the program reads");
        assert!(child.wait().expect("an end").success(), "{command:?} refused: {input}");
    }

    /// Runs a program in the network namespace, with this text as its input, and returns what it printed; panics with its
    /// words if it fails. It sees the files of this machine, and is started without help of another program.
    pub fn enter_and_run(&self, command: &[&str], input: &str) -> String {
        let mut started = program(command[0]);
        started.args(&command[1..]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.enter(|| started.spawn()).unwrap_or_else(|error| panic!("{command:?}: {error}"));
        child.stdin.take().expect("stdin is piped").write_all(input.as_bytes()).expect("the program reads");
        let output = child.wait_with_output().expect("an end");
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command:?}, told {input:?}: {} {}", output.status, complaint.trim());
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// What `ip` with these options says to the commands, one after the other.
    pub fn ip(&self, options: &[&str], commands: &[&str]) -> String {
        self.enter_and_run(&[&["ip"], options, &["-batch", "-"]].concat(), &commands.join("\n"))
    }

    /// Names of the links but for the loopback.
    pub fn links(&self) -> Vec<String> {
        let known = self.enter(|| fs::read_to_string("/proc/thread-self/net/dev")).expect("links are listed");
        let names = known.lines().filter_map(|line| line.split_once(':')).map(|(name, _)| name.trim().to_owned());
        names.filter(|name| name != "lo").collect()
    }

    /// A program to be started in the namespace; its PID is that of the program.
    pub fn command(&self, command: &[&str]) -> Command {
        let mut nsenter = program("nsenter");
        nsenter.arg(format!("--target={}", self.pid())).arg("--net");
        if self.mounts == MountView::Private {
            nsenter.arg("--mount");
        }
        nsenter.arg("--").args(command);
        nsenter
    }

    /// Runs the closure on a thread of its own in the network namespace. Sockets made there stay in it.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let pid = self.pid();
        thread::scope(|scope| {
            let inside = scope.spawn(move || {
                join(pid);
                work()
            });
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Starts the closure on a thread of its own in the network namespace.
    pub fn spawn<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> thread::JoinHandle<T> {
        let pid = self.pid();
        thread::spawn(move || {
            join(pid);
            work()
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // A holder that is gone already is what is wanted.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

fn join(pid: u32) {
    let path = format!("/proc/{pid}/ns/net");
    let namespace = fs::File::open(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).expect("entering a namespace");
}

/// Whether namespaces can be made here.
pub(super) fn probe() -> Result<(), String> {
    let mut command = program("unshare");
    command.args(["--net", "--mount", "--propagation", "private", "mount", "-t", "sysfs", "sysfs", "/sys"]);
    let output = command.output().map_err(|error| format!("unshare(1): {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
    }
}

#[expect(clippy::disallowed_methods, reason = "the lab is a test tool, and ip, nft and wg are what operators see with")]
pub(super) fn program(name: &str) -> Command {
    Command::new(name)
}
