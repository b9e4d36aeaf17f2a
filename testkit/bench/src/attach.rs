//! Containers that come and go: one contender at a time, by one client and by eight.

mod contenders;

use std::{
    path::Path,
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow};
use overlayd_lab::{Lab, LinkShape, Namespace, NamespaceConfinement, Underlay, await_cleanup, probe::pings};

use self::contenders::{ALL, Contender, Way};
use crate::{
    Bench, load,
    report::{Table, percentile},
    survived,
};

/// Headline of the table.
pub(crate) const TITLE: &str = "Containers attached and detached";

/// As many as the service networks of all contenders hold.
const CONTAINERS: usize = 200;
const CLIENTS: usize = 8;

/// Measures all contenders in turns, and then the daemon with many containers and the kernel by itself.
pub(crate) fn compare(bench: &mut Bench) -> Result<()> {
    let rounds = bench.options.rounds;
    let method = format!(
        "{CONTAINERS} containers that are there already are attached to four networks and detached again, one after the \
         other by one client, and by {CLIENTS} clients at once; {rounds} rounds in turns, each on a new host and after the \
         kernel has taken the one before it away. After the attach by one client every container pings its gateway.",
    );
    let columns = [
        ("attach by 8 clients", "1/s"),
        ("attach p50, 1 client", "ms"),
        ("attach p99, 1 client", "ms"),
        ("detach by 8 clients", "1/s"),
        ("detach p50, 1 client", "ms"),
        ("detach p99, 1 client", "ms"),
        ("refused", ""),
    ];
    let mut table = Table::new(TITLE, method, &columns);
    for round in 0..rounds {
        for contender in ALL {
            eprintln!("   round {}: {}", round + 1, contender.name());
            let program = contender.find(&bench.peers, &bench.overlayd);
            let figures = program.and_then(|program| survived(|| figures(*contender, &program)));
            match figures {
                Ok(figures) => table.add(contender.name(), &figures),
                Err(why) => table.leave_out(contender.name(), &why),
            }
        }
    }
    bench.report.take(table);
    load::measure(bench, load::ATTACH)
}

/// The figures of one round.
fn figures(contender: Contender, program: &Path) -> Result<[Option<f64>; 7]> {
    let containers: Vec<Namespace> =
        (0..CONTAINERS).map(|_| Namespace::container(NamespaceConfinement::None)).collect();
    let one = Round::run(contender, program, &containers, 1, Proof::Pinged)?;
    let eight = Round::run(contender, program, &containers, CLIENTS, Proof::None)?;
    let refused = one.refused + eight.refused;
    let percentile = |took: &[f64], part| percentile(took, part);
    Ok([
        Some(CONTAINERS as f64 / eight.attaching.as_secs_f64()),
        percentile(&one.attached, 50),
        percentile(&one.attached, 99),
        Some(CONTAINERS as f64 / eight.detaching.as_secs_f64()),
        percentile(&one.detached, 50),
        percentile(&one.detached, 99),
        Some(refused as f64),
    ])
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Proof {
    None,
    /// Every container must reach its gateway.
    Pinged,
}

/// What one round saw; times of single calls in milliseconds.
#[derive(Default)]
struct Round {
    attached: Vec<f64>,
    detached: Vec<f64>,
    attaching: Duration,
    detaching: Duration,
    refused: usize,
}

impl Round {
    fn run(
        contender: Contender,
        program: &Path,
        containers: &[Namespace],
        clients: usize,
        proof: Proof,
    ) -> Result<Self> {
        await_cleanup();
        let mut lab = Lab::new(1, &Underlay { shape: LinkShape::Cable, ..Underlay::default() }, program);
        let directory = lab.directory();
        let host = &mut lab.hosts[0];
        let place = contender.prepare(host, &directory)?;
        let mut round = Self::default();
        let begun = Instant::now();
        (round.attached, round.refused) = deal(containers, clients, |number, container| {
            contender.call(host, program, &place, Way::Attach, number, container)
        });
        round.attaching = begun.elapsed();
        if proof == Proof::Pinged {
            let silent = containers.iter().zip(0..).filter(|(container, number)| {
                let gateway = place.gateway(*number);
                !pings(container, gateway)
            });
            let silent = silent.count();
            if silent > round.refused {
                return Err(anyhow!("{}: {silent} containers do not reach their gateway", contender.name()));
            }
        }
        let begun = Instant::now();
        let refused;
        (round.detached, refused) = deal(containers, clients, |number, container| {
            contender.call(host, program, &place, Way::Detach, number, container)
        });
        round.detaching = begun.elapsed();
        round.refused += refused;
        Ok(round)
    }
}

/// Deals the containers out to the clients: how long each call took, and how many were refused.
fn deal(
    containers: &[Namespace],
    clients: usize,
    call: impl Fn(usize, &Namespace) -> Result<(), String> + Sync,
) -> (Vec<f64>, usize) {
    let seen = Mutex::new((Vec::with_capacity(containers.len()), 0));
    thread::scope(|scope| {
        for first in 0..clients {
            let (seen, call) = (&seen, &call);
            scope.spawn(move || {
                for (number, container) in containers.iter().enumerate().skip(first).step_by(clients) {
                    let start = Instant::now();
                    let outcome = call(number, container);
                    let took = start.elapsed().as_secs_f64() * 1e3;
                    let mut seen = seen.lock().expect("no client panics with it");
                    seen.0.push(took);
                    if let Err(why) = outcome {
                        seen.1 += 1;
                        if seen.1 == 1 {
                            eprintln!("      refused: {why}");
                        }
                    }
                }
            });
        }
    });
    seen.into_inner().expect("no client panics with it")
}
