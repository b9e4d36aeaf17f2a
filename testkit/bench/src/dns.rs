//! Names: ten thousand of them, all asked for by dnsperf.

use std::{
    fmt::Write as _,
    fs,
    net::{Ipv4Addr, UdpSocket},
    path::{Path, PathBuf},
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, ensure};

use crate::{
    Options,
    peers::{Peer, Source, program},
    processes::{processor_time, resident},
    report::{Report, Table},
};

const NAMES: u32 = 10_000;
const PATIENCE: Duration = Duration::from_secs(30);

/// One who serves names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Contender {
    Overlayd,
    /// The same while so many records change each second.
    Changing(u32),
    Dnsmasq,
}

const ALL: [Contender; 3] = [Contender::Overlayd, Contender::Changing(1000), Contender::Dnsmasq];

/// Measures all servers in turns.
pub(crate) fn compare(options: &Options, report: &mut Report) -> Result<()> {
    let method = format!(
        "{NAMES} names, each with an address, over loopback by dnsperf (4 clients, 200 questions at a time), {} s a run, \
         {} rounds in turns.",
        options.seconds, options.rounds
    );
    let columns =
        [("answers", "1/s"), ("processor time of the server", "µs each"), ("unanswered", ""), ("resident", "MB")];
    let mut table = Table::new("Names", method, &columns);
    let dnsperf = Peer { program: "dnsperf", source: Source::Debian("dnsperf") }.find(options.offline);
    let dnsperf = match dnsperf {
        Ok(path) => path,
        Err(why) => {
            table.leave_out("everyone, without dnsperf", &why);
            report.take(table);
            return Ok(());
        }
    };
    let directory = std::path::absolute("target/bench/dns")?;
    write_names(&directory)?;
    build_server()?;
    for _ in 0..options.rounds {
        for (port, contender) in (5301..).zip(ALL) {
            match contender.serve(port, &directory, options.offline) {
                Ok(server) => table.add(&contender.name(), &server.asked(&dnsperf, &directory, options.seconds)?),
                Err(why) => table.leave_out(&contender.name(), &why),
            }
        }
    }
    report.take(table);
    Ok(())
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
            Self::Changing(rate) => format!("overlayd, {rate} records a second changing"),
            Self::Dnsmasq => "dnsmasq".to_owned(),
        }
    }

    fn serve(self, port: u16, directory: &Path, offline: bool) -> Result<Server, String> {
        let mut command = match self {
            Self::Overlayd | Self::Changing(_) => {
                let rate = if let Self::Changing(rate) = self { rate } else { 0 };
                let mut command = program("target/release/examples/serve");
                command.args([format!("127.0.0.1:{port}"), rate.to_string()]);
                command
            }
            Self::Dnsmasq => {
                let path = Peer { program: "dnsmasq", source: Source::Debian("dnsmasq-base") }.find(offline)?;
                let mut command = program(&path.display().to_string());
                command.args([
                    "--keep-in-foreground",
                    "--conf-file=/dev/null",
                    "--no-resolv",
                    "--no-hosts",
                    "--pid-file=",
                ]);
                command.args(["--user=root", "--bind-interfaces", "--listen-address=127.0.0.1", "--cache-size=10000"]);
                command.arg(format!("--port={port}"));
                command.arg(format!("--addn-hosts={}", directory.join("hosts").display()));
                command
            }
        };
        let process = command.stdout(Stdio::null()).spawn().map_err(|error| error.to_string())?;
        let server = Server { process, port };
        if server.answers() { Ok(server) } else { Err("it answers nothing".to_owned()) }
    }
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
        let mut command = program(&dnsperf.display().to_string());
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
        let sent = figure("Queries sent:").ok_or_else(|| anyhow!("dnsperf said {text}"))?;
        let completed = figure("Queries completed:").unwrap_or_default();
        let each = (completed > 0.0).then(|| spent / completed * 1e6);
        Ok([figure("Queries per second:"), each, Some(sent - completed), resident(pid)])
    }
}

fn write_names(directory: &Path) -> Result<()> {
    let (mut names, mut hosts) = (String::new(), String::new());
    for number in 0..NAMES {
        let address = Ipv4Addr::from(0x0a4d_0000 + number);
        writeln!(names, "h{number}.bench.local A")?;
        writeln!(hosts, "{address} h{number}.bench.local")?;
    }
    fs::create_dir_all(directory)?;
    fs::write(directory.join("names"), names)?;
    fs::write(directory.join("hosts"), hosts)?;
    Ok(())
}

fn build_server() -> Result<PathBuf> {
    let mut cargo = program(std::env::var("CARGO").as_deref().unwrap_or("cargo"));
    cargo.args([
        "build",
        "--release",
        "--quiet",
        "--locked",
        "--package",
        "overlayd-dns-responder",
        "--example",
        "serve",
    ]);
    ensure!(cargo.status().context("cargo")?.success(), "the name server could not be built");
    Ok(PathBuf::from("target/release/examples/serve"))
}
