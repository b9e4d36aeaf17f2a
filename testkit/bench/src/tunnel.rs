//! WireGuard in user space: two hosts on one cable, one tunnel, one contender at a time.

mod contenders;
mod measure;

use anyhow::Result;

use self::contenders::{ALL, Tunnel};
pub(crate) use self::contenders::{CONTAINERS, ZLAYER, shared_control};
use crate::{
    Bench,
    peers::{Peer, Source},
    report::Table,
    survived,
};

/// Headline of the table.
pub(crate) const TITLE: &str = "Tunnels in user space";

/// Measures all contenders in turns.
pub(crate) fn compare(bench: &mut Bench) -> Result<()> {
    let (rounds, seconds) = (bench.options.rounds, bench.options.seconds);
    let method = format!(
        "Two hosts on one cable with an MTU of 1500, tunnel MTU 1420; iperf3 for {seconds} s a transfer, {rounds} rounds \
         in turns. Processor time is that of the tunnel's processes on both sides, for each 10⁹ bytes that arrived.",
    );
    let columns = [
        ("TCP, 1 stream", "Gbit/s"),
        ("retransmits", ""),
        ("processor time", "s/GB"),
        ("TCP, 4 streams", "Gbit/s"),
        ("retransmits of 4 streams", ""),
        ("UDP of 1392 bytes", "Gbit/s"),
        ("UDP of 128 bytes", "Mbit/s"),
        ("ping p50", "µs"),
        ("ping p99", "µs"),
    ];
    let mut table = Table::new(TITLE, method, &columns);
    let tools = [("iperf3", "iperf3"), ("ping", "iputils-ping"), ("wg", "wireguard-tools")];
    let missing = tools.map(|(program, package)| bench.peers.find(&Peer { program, source: Source::Debian(package) }));
    if let Some(why) = missing.into_iter().find_map(Result::err) {
        table.leave_out("everyone, without iperf3, ping and wg", &why);
        bench.report.take(table);
        return Ok(());
    }
    let mut tunnels = Vec::new();
    for contender in ALL {
        match survived(|| contender.raise(bench).map_err(anyhow::Error::msg)) {
            Ok(tunnel) => tunnels.push(tunnel),
            Err(why) => table.leave_out(contender.name(), &why),
        }
    }
    for round in 0..rounds {
        let mut transfers = Vec::new();
        tunnels.retain(|tunnel| take_turn(&mut table, tunnel, round, seconds, &mut transfers));
        eprintln!("   round {}: round trips", round + 1);
        for ((tunnel, transfers), trips) in tunnels.iter().zip(transfers).zip(measure::round_trips(&tunnels)?) {
            table.add(tunnel.name, &[transfers.as_slice(), &trips].concat());
        }
    }
    bench.report.take(table);
    Ok(())
}

/// Transfers over one tunnel; whether it goes on to take part.
fn take_turn(table: &mut Table, tunnel: &Tunnel, round: usize, seconds: u32, all: &mut Vec<[Option<f64>; 7]>) -> bool {
    eprintln!("   round {}: {}", round + 1, tunnel.name);
    match survived(|| measure::transfers(tunnel, seconds)) {
        Ok(figures) => all.push(figures),
        Err(error) => {
            table.leave_out(tunnel.name, &format!("round {} failed: {error}", round + 1));
            return false;
        }
    }
    true
}
