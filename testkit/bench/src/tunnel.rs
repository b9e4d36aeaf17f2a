//! WireGuard in user space: two hosts on one cable, one tunnel, one contender at a time.

mod contenders;
mod measure;

use std::path::Path;

use anyhow::Result;

pub(crate) use self::contenders::{ZLAYER, shared_control};
use crate::{
    Options,
    report::{Report, Table},
};

/// Measures all contenders in turns.
pub(crate) fn compare(options: &Options, overlayd: &Path, report: &mut Report) -> Result<()> {
    let method = format!(
        "Two hosts on one cable with an MTU of 1500, tunnel MTU 1420; iperf3 for {} s a transfer, {} rounds in turns. \
         Processor time is that of the tunnel's processes on both sides, for each 10⁹ bytes that arrived.",
        options.seconds, options.rounds
    );
    let columns = [
        ("TCP, 1 stream", "Gbit/s"),
        ("retransmits", ""),
        ("processor time", "s/GB"),
        ("TCP, 4 streams", "Gbit/s"),
        ("UDP of 1392 bytes", "Gbit/s"),
        ("UDP of 128 bytes", "Mbit/s"),
        ("ping p50", "µs"),
        ("ping p99", "µs"),
    ];
    let mut table = Table::new("Tunnels in user space", method, &columns);
    let mut tunnels = Vec::new();
    for contender in contenders::ALL {
        match contender.raise(options.offline, overlayd) {
            Ok(tunnel) => tunnels.push(tunnel),
            Err(why) => table.leave_out(contender.name(), &why),
        }
    }
    for round in 0..options.rounds {
        for tunnel in &tunnels {
            eprintln!("   round {}: {}", round + 1, tunnel.name);
            table.add(tunnel.name, &measure::all(tunnel, options.seconds)?);
        }
    }
    report.take(table);
    Ok(())
}
