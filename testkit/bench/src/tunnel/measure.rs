//! What is measured of a tunnel.

use std::process::Stdio;

use anyhow::{Context as _, Result, anyhow};
use serde_json::Value;

use super::contenders::Tunnel;
use crate::{processes::processor_time, report::percentile};

/// Bursts of round trips in a round, and round trips in a burst.
const BURSTS: usize = 10;
const TRIPS: &str = "100";

/// What is transferred in one round, in the order of the columns.
pub(super) fn transfers(tunnel: &Tunnel, seconds: u32) -> Result<[Option<f64>; 7]> {
    let before = processor_time(&tunnel.processes);
    let one = transfer(tunnel, seconds, &[])?;
    let spent = processor_time(&tunnel.processes) - before;
    let four = transfer(tunnel, seconds, &["-P", "4"])?;
    let large = transfer(tunnel, seconds, &["-u", "-b", "0", "-l", "1392"])?;
    let small = transfer(tunnel, seconds, &["-u", "-b", "0", "-l", "128"])?;
    Ok([
        one.rate().map(|rate| rate / 1e9),
        one.retransmits(),
        one.bytes().filter(|_| !tunnel.processes.is_empty()).map(|bytes| spent / (bytes / 1e9)),
        four.rate().map(|rate| rate / 1e9),
        four.retransmits(),
        large.rate().map(|rate| rate / 1e9),
        small.rate().map(|rate| rate / 1e6),
    ])
}

/// Median and 99th percentile of the round trips of each tunnel, in microseconds.
///
/// They come in bursts, and the tunnels take turns at them: what else the machine does comes and goes within seconds,
/// and is to meet all of them alike.
pub(super) fn round_trips(tunnels: &[Tunnel]) -> Result<Vec<[Option<f64>; 2]>> {
    let mut all = vec![Vec::new(); tunnels.len()];
    for _ in 0..BURSTS {
        for (tunnel, trips) in tunnels.iter().zip(&mut all) {
            trips.extend(burst(tunnel)?);
        }
    }
    Ok(all.iter().map(|trips| [percentile(trips, 50), percentile(trips, 99)]).collect())
}

/// The report of iperf3 at its end.
struct Sums(Value);

impl Sums {
    /// Bits that arrived each second. Of datagrams, older versions tell only how many of the sent ones did.
    fn rate(&self) -> Option<f64> {
        let end = &self.0["end"];
        match end["sum"]["lost_percent"].as_f64() {
            Some(lost) => {
                let sent = end["sum_sent"].get("bits_per_second").or_else(|| end["sum"].get("bits_per_second"));
                Some(sent?.as_f64()? * (100.0 - lost) / 100.0)
            }
            None => end["sum_received"]["bits_per_second"].as_f64(),
        }
    }

    fn bytes(&self) -> Option<f64> {
        self.0["end"]["sum_received"]["bytes"].as_f64()
    }

    fn retransmits(&self) -> Option<f64> {
        self.0["end"]["sum_sent"]["retransmits"].as_f64()
    }
}

fn transfer(tunnel: &Tunnel, seconds: u32, further: &[&str]) -> Result<Sums> {
    let (far, seconds) = (tunnel.far.to_string(), seconds.to_string());
    let [near_end, far_end] = tunnel.ends();
    let server = far_end.command(&["iperf3", "-s", "-1", "--forceflush", "-B", &far]).stdout(Stdio::piped()).spawn();
    let mut server = server.context("iperf3")?;
    wait_for_listener(&mut server)?;
    let mut command = vec!["iperf3", "-J", "-c", &far, "-t", &seconds];
    command.extend(further);
    let text = near_end.try_run(&command);
    // It ends by itself after one test, but not after one that failed.
    let _ = server.kill();
    server.wait().context("iperf3")?;
    let text = text.map_err(|error| anyhow!("{}: iperf3: {error}", tunnel.name))?;
    Ok(Sums(serde_json::from_str(&text).context("the words of iperf3")?))
}

/// Reads until the server says that it listens.
fn wait_for_listener(server: &mut std::process::Child) -> Result<()> {
    use std::io::{BufRead as _, BufReader};
    let stdout = server.stdout.take().context("stdout is piped")?;
    let mut lines = BufReader::new(stdout).lines();
    let listening = lines.by_ref().map_while(Result::ok).any(|line| line.contains("listening"));
    anyhow::ensure!(listening, "iperf3 does not listen");
    // Keeps the pipe open, or its next words would end it.
    std::thread::spawn(move || lines.for_each(drop));
    Ok(())
}

/// Round trips in microseconds.
fn burst(tunnel: &Tunnel) -> Result<Vec<f64>> {
    let far = tunnel.far.to_string();
    let text = tunnel.ends()[0].try_run(&["ping", "-i", "0.002", "-c", TRIPS, &far]);
    let text = text.map_err(|error| anyhow!("{}: ping: {error}", tunnel.name))?;
    let time = |line: &str| line.split("time=").nth(1)?.split(' ').next()?.parse::<f64>().ok();
    Ok(text.lines().filter_map(time).map(|milliseconds| milliseconds * 1000.0).collect())
}
