//! Names: ten thousand of them, all asked for by dnsperf.

use std::{
    fmt::Write as _,
    fs,
    net::{Ipv4Addr, UdpSocket},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, ensure};

use crate::{
    Bench,
    build::DIST,
    peers::{Peer, Peers, Source, program},
    processes::{processor_time, resident},
    report::Table,
    survived,
};

/// Headline of the table.
pub(crate) const TITLE: &str = "Names";

const NAMES: u32 = 10_000;
/// Of them, how many change each second in the run with changes.
const CHANGES: u32 = 1000;
const PATIENCE: Duration = Duration::from_secs(30);

/// One who serves names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Contender {
    Overlayd,
    /// The same while records change.
    Changing,
    Knot,
    Dnsmasq,
}

const ALL: [Contender; 4] = [Contender::Overlayd, Contender::Changing, Contender::Knot, Contender::Dnsmasq];

/// Measures all servers in turns.
pub(crate) fn compare(bench: &mut Bench) -> Result<()> {
    let (rounds, seconds) = (bench.options.rounds, bench.options.seconds);
    let method = format!(
        "{NAMES} names, each with two addresses, over loopback by dnsperf (4 clients, 200 questions at a time), {seconds} s \
         a run, {rounds} rounds in turns. The server has a core of its own, and dnsperf another.",
    );
    let columns = [("answers", "1/s"), ("processor time of the server", "µs each"), ("failed", ""), ("resident", "MB")];
    let mut table = Table::new(TITLE, method, &columns);
    let dnsperf = Peer { program: "dnsperf", source: Source::Debian("dnsperf") };
    let dnsperf = match bench.peers.find(&dnsperf) {
        Ok(path) => path,
        Err(why) => {
            table.leave_out("everyone, without dnsperf", &why);
            bench.report.take(table);
            return Ok(());
        }
    };
    let directory = std::path::absolute("target/bench/dns")?;
    write_names(&directory)?;
    build_server()?;
    for round in 0..rounds {
        for (port, contender) in (5301..).zip(ALL) {
            eprintln!("   round {}: {}", round + 1, contender.name());
            let served = contender.serve(port, &directory, &bench.peers);
            let figures = served.and_then(|server| survived(|| server.asked(&dnsperf, &directory, seconds)));
            match figures {
                Ok(figures) => table.add(&contender.name(), &figures),
                Err(why) => table.leave_out(&contender.name(), &why),
            }
        }
    }
    bench.report.take(table);
    Ok(())
}

/// Name of our own server while records change.
pub(crate) fn changing() -> String {
    format!("overlayd, {CHANGES} records a second changing")
}

/// The program with a core of its own: the server has the first, the client the second.
fn on_core(core: u32, path: &str) -> Command {
    let mut command = program("taskset");
    command.args(["--cpu-list", &core.to_string(), path]);
    command
}

/// A server that ends with this.
struct Server {
    process: Child,
    port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        // One that has ended already is what is wanted.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Contender {
    fn name(self) -> String {
        match self {
            Self::Overlayd => "overlayd".to_owned(),
            Self::Changing => changing(),
            Self::Knot => "knot".to_owned(),
            Self::Dnsmasq => "dnsmasq".to_owned(),
        }
    }

    fn serve(self, port: u16, directory: &Path, peers: &Peers) -> Result<Server, String> {
        let mut command = match self {
            Self::Overlayd => ours(port, 0),
            Self::Changing => ours(port, CHANGES),
            Self::Knot => knot(port, directory, peers)?,
            Self::Dnsmasq => dnsmasq(port, directory, peers)?,
        };
        let process = command.stdout(Stdio::null()).spawn().map_err(|error| error.to_string())?;
        let server = Server { process, port };
        if server.answers() { Ok(server) } else { Err("it answers nothing".to_owned()) }
    }
}

fn ours(port: u16, changes: u32) -> Command {
    let mut command = on_core(0, &format!("{DIST}/examples/serve"));
    command.args([format!("127.0.0.1:{port}"), changes.to_string()]);
    command
}

fn dnsmasq(port: u16, directory: &Path, peers: &Peers) -> Result<Command, String> {
    let path = peers.find(&Peer { program: "dnsmasq", source: Source::Debian("dnsmasq-base") })?;
    let mut command = on_core(0, &path.display().to_string());
    command.args(["--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--pid-file="]);
    command.args(["--user=root", "--bind-interfaces", "--listen-address=127.0.0.1", "--cache-size=10000"]);
    command.arg(format!("--port={port}"));
    command.arg(format!("--addn-hosts={}", directory.join("hosts").display()));
    Ok(command)
}

fn knot(port: u16, directory: &Path, peers: &Peers) -> Result<Command, String> {
    let path = peers.find(&Peer { program: "knotd", source: Source::Debian("knot") })?;
    let home = directory.join("knot");
    let config = format!(
        "server:\n  rundir: {home}\n  user: root\n  listen: 127.0.0.1@{port}\n  udp-workers: 1\n\
         log:\n  - target: stderr\n    any: error\n\
         database:\n  storage: {home}\n\
         zone:\n  - domain: bench.local\n    file: {zone}\n",
        home = home.display(),
        zone = directory.join("zone").display(),
    );
    let file = directory.join("knot.conf");
    fs::create_dir_all(&home).and_then(|()| fs::write(&file, config)).map_err(|error| error.to_string())?;
    let mut command = on_core(0, &path.display().to_string());
    command.arg("--config").arg(file);
    Ok(command)
}

impl Server {
    /// Whether it comes to answer a question for the first name.
    fn answers(&self) -> bool {
        let question = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x02h0\x05bench\x05local\x00\x00\x01\x00\x01";
        let Ok(socket) = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)) else { return false };
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            let asked = socket.set_read_timeout(Some(Duration::from_millis(100)));
            let asked = asked.and_then(|()| socket.send_to(question, (Ipv4Addr::LOCALHOST, self.port)));
            let mut answer = [0; 512];
            if asked.is_ok() && socket.recv(&mut answer).is_ok_and(|length| length > question.len()) {
                return true;
            }
        }
        false
    }

    fn asked(&self, dnsperf: &Path, directory: &Path, seconds: u32) -> Result<[Option<f64>; 4]> {
        let pid = self.process.id();
        let before = processor_time(&[pid]);
        let mut command = on_core(1, &dnsperf.display().to_string());
        command.args(["-s", "127.0.0.1", "-p", &self.port.to_string(), "-c", "4", "-q", "200"]);
        let output = command.args(["-l", &seconds.to_string(), "-d"]).arg(directory.join("names")).output();
        let output = output.context("dnsperf")?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(output.status.success(), "dnsperf: {}", String::from_utf8_lossy(&output.stderr));
        let spent = processor_time(&[pid]) - before;
        let figure = |name: &str| {
            let line = text.lines().find_map(|line| line.trim().strip_prefix(name))?;
            line.split_whitespace().next()?.parse::<f64>().ok()
        };
        let lost = figure("Queries lost:").ok_or_else(|| anyhow!("dnsperf said {text}"))?;
        let completed = figure("Queries completed:").unwrap_or_default();
        // "Response codes:       NOERROR 123 (100.00%)"
        let good = text.split("NOERROR ").nth(1).and_then(|rest| rest.split(' ').next()?.parse::<f64>().ok());
        let answered = good.unwrap_or_default();
        let each = (answered > 0.0).then(|| spent / answered * 1e6);
        Ok([figure("Queries per second:"), each, Some(lost + completed - answered), resident(pid)])
    }
}

/// What is asked, and the names as a file of hosts and as a zone.
fn write_names(directory: &Path) -> Result<()> {
    let (mut names, mut hosts) = (String::new(), String::new());
    let mut zone = "$TTL 5\n@ SOA ns hostmaster 1 3600 600 86400 5\n@ NS ns\nns A 127.0.0.1\n".to_owned();
    for number in 0..NAMES {
        writeln!(names, "h{number}.bench.local A")?;
        for address in [Ipv4Addr::from(0x0a4d_0000 + number), Ipv4Addr::new(10, 99, 0, 0)] {
            writeln!(hosts, "{address} h{number}.bench.local")?;
            writeln!(zone, "h{number} A {address}")?;
        }
    }
    fs::create_dir_all(directory)?;
    for (file, text) in [("names", names), ("hosts", hosts), ("zone", zone)] {
        fs::write(directory.join(file), text)?;
    }
    Ok(())
}

fn build_server() -> Result<PathBuf> {
    let mut cargo = program(std::env::var("CARGO").as_deref().unwrap_or("cargo"));
    cargo.args([
        "build",
        "--profile",
        "dist",
        "--quiet",
        "--locked",
        "--package",
        "overlayd-dns-responder",
        "--example",
        "serve",
    ]);
    ensure!(cargo.status().context("cargo")?.success(), "the name server could not be built");
    Ok(Path::new(DIST).join("examples/serve"))
}
