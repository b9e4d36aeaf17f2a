//! What we mean to reach, and whether this run has.

use std::fmt::Write as _;

use crate::{
    attach, dns, load,
    report::{Report, short},
    tunnel,
};

/// One aim.
struct Target {
    what: &'static str,
    bound: Bound,
    /// Where it is in the report; none of what was not measured.
    seen: fn(&Report) -> Option<f64>,
}

#[derive(Debug, Clone, Copy)]
enum Bound {
    AtMost(f64),
    AtLeast(f64),
}
use Bound::{AtLeast, AtMost};

impl Bound {
    fn holds(self, figure: f64) -> bool {
        match self {
            AtMost(bound) => figure <= bound,
            AtLeast(bound) => figure >= bound,
        }
    }
}

const OURS: &str = "overlayd";
const ONE: &str = "TCP, 1 stream";

/// A figure of our tunnel in proportion to that of another.
fn to(report: &Report, other: &str, column: &str) -> Option<f64> {
    Some(tunnel(report, column)? / report.figure(tunnel::TITLE, other, column)?)
}

fn tunnel(report: &Report, column: &str) -> Option<f64> {
    report.figure(tunnel::TITLE, OURS, column)
}

fn attach(report: &Report, column: &str) -> Option<f64> {
    report.figure(attach::TITLE, OURS, column)
}

/// The median of a call of the load generator in proportion to that of another.
fn slower(report: &Report, title: &str, [one, other]: [&str; 2]) -> Option<f64> {
    Some(report.figure(title, one, "p50")? / report.figure(title, other, "p50")?)
}

/// In proportion to what others, or the kernel alone, take for the same in the same run.
///
/// The bounds in seconds are of a machine on which a current wireguard-go takes 2.4 s/GB and raw netlink attaches in
/// 0.20 ms, and 2,130 times a second with eight clients; what they are in proportion to that also holds on others.
const PROPORTIONS: &[Target] = &[
    Target {
        what: "processor time, to a current wireguard-go",
        bound: AtMost(2.0 / 2.43),
        seen: |all| to(all, "wireguard-go-new", "processor time"),
    },
    Target {
        what: "attach p50, to raw netlink",
        bound: AtMost(1.0 / 0.20),
        seen: |all| {
            slower(all, load::ATTACH, ["attach beside none, 1 at once", "floor: raw netlink attach, 1 at once"])
        },
    },
    Target {
        what: "attach by 8 clients, to raw netlink",
        bound: AtLeast(1000.0 / 2130.0),
        seen: |all| {
            let rate = |case| all.figure(load::ATTACH, case, "all together");
            Some(rate("attach beside none, 8 at once")? / rate("floor: raw netlink attach, 8 at once")?)
        },
    },
];

const TARGETS: &[Target] = &[
    Target {
        what: "one stream, to zlayer-overlayd",
        bound: AtLeast(3.0),
        seen: |all| to(all, tunnel::ZLAYER.program, ONE),
    },
    Target { what: "one stream, to boringtun-cli", bound: AtLeast(7.0), seen: |all| to(all, "boringtun-cli", ONE) },
    Target {
        what: "one stream, to a current wireguard-go",
        bound: AtLeast(1.0),
        seen: |all| to(all, "wireguard-go-new", ONE),
    },
    Target { what: "processor time, s/GB", bound: AtMost(2.0), seen: |all| tunnel(all, "processor time") },
    Target { what: "retransmits", bound: AtMost(0.0), seen: |all| tunnel(all, "retransmits") },
    Target {
        what: "four streams, to one",
        bound: AtLeast(1.0),
        seen: |all| Some(tunnel(all, "TCP, 4 streams")? / tunnel(all, ONE)?),
    },
    Target { what: "ping p50, to boringtun-cli", bound: AtMost(1.2), seen: |all| to(all, "boringtun-cli", "ping p50") },
    Target {
        what: "small UDP packets, to gotatun",
        bound: AtLeast(1.0),
        seen: |all| to(all, "gotatun", "UDP of 128 bytes"),
    },
    Target {
        what: "container to container, to host to host",
        bound: AtLeast(0.9),
        seen: |all| to(all, tunnel::CONTAINERS, ONE).map(|ratio| 1.0 / ratio),
    },
    Target { what: "attach p50, ms", bound: AtMost(1.0), seen: |all| attach(all, "attach p50, 1 client") },
    Target { what: "attach p99, ms", bound: AtMost(5.0), seen: |all| attach(all, "attach p99, 1 client") },
    Target { what: "attach by 8 clients, 1/s", bound: AtLeast(1000.0), seen: |all| attach(all, "attach by 8 clients") },
    Target { what: "detach by 8 clients, 1/s", bound: AtLeast(1000.0), seen: |all| attach(all, "detach by 8 clients") },
    Target {
        what: "attach p50 beside many, to beside none",
        bound: AtMost(1.3),
        seen: |all| slower(all, load::ATTACH, ["attach beside many, 1 at once", "attach beside none, 1 at once"]),
    },
    Target {
        what: "attach p50 with an isolation network, to without",
        bound: AtMost(1.5),
        seen: |all| {
            slower(all, load::ATTACH, ["attach isolated beside none, 1 at once", "attach beside none, 1 at once"])
        },
    },
    Target {
        what: "status pipelined, 1/s",
        bound: AtLeast(100_000.0),
        seen: |all| all.alone(load::CONTROL, "status, pipelined on one connection"),
    },
    Target {
        what: "status p99 while 8 clients attach, ms",
        bound: AtMost(1.0),
        seen: |all| all.figure(load::CONTROL, "status while clients attach and detach, 1 at once", "p99"),
    },
    Target {
        what: "status p99 while NAT probes hang, ms",
        bound: AtMost(1.0),
        seen: |all| all.figure(load::CONTROL, "status while NAT probes hang, 1 at once", "p99"),
    },
    Target {
        what: "many peers added, s",
        bound: AtMost(0.5),
        seen: |all| all.alone(load::CONTROL, "many peers added, pipelined"),
    },
    Target {
        what: "status with many peers, ms",
        bound: AtMost(15.0),
        seen: |all| all.figure(load::CONTROL, "status with many peers, 1 at once", "p50"),
    },
    Target {
        what: "short status on another connection meanwhile, p99, ms",
        bound: AtMost(1.0),
        seen: |all| all.figure(load::CONTROL, "hello while another asks for many peers, 1 at once", "p99"),
    },
    Target {
        what: "resident with many peers, MB",
        bound: AtMost(60.0),
        seen: |all| all.alone(load::CONTROL, "resident with many peers"),
    },
    Target {
        what: "idle with many peers, % of a core",
        bound: AtMost(0.5),
        seen: |all| all.alone(load::CONTROL, "idle CPU with many silent peers"),
    },
    Target {
        what: "one AllowedIP change among many peers, to among 10",
        bound: AtMost(1.3),
        seen: |all| {
            slower(
                all,
                load::CONTROL,
                ["one AllowedIP change among many peers, 1 at once", "one AllowedIP change among 10 peers, 1 at once"],
            )
        },
    },
    Target {
        what: "answers about names on one core, 1/s",
        bound: AtLeast(150_000.0),
        seen: |all| all.figure(dns::TITLE, OURS, "answers"),
    },
    Target {
        what: "failed while 1,000 records a second change",
        bound: AtMost(0.0),
        seen: |all| all.figure(dns::TITLE, &dns::changing(), "failed"),
    },
    Target {
        what: "start to answering socket, ms",
        bound: AtMost(20.0),
        seen: |all| all.figure(load::SMALL, "start to answering socket, 1 at once", "p50"),
    },
    Target {
        what: "resident, idle, MB",
        bound: AtMost(12.0),
        seen: |all| all.alone(load::SMALL, "resident, overlay up and idle"),
    },
];

/// The targets that this run tells something about, as Markdown.
pub(crate) fn table(report: &Report) -> String {
    let mut text = "## Targets\n\n| target | bound | seen | |\n|---|---:|---:|---|\n".to_owned();
    for Target { what, bound, seen } in TARGETS.iter().chain(PROPORTIONS) {
        let Some(figure) = seen(report) else { continue };
        let sign = if matches!(bound, AtMost(_)) { '≤' } else { '≥' };
        let (AtMost(size) | AtLeast(size)) = bound;
        let verdict = if bound.holds(figure) { "met" } else { "**missed**" };
        writeln!(text, "| {what} | {sign} {} | {} | {verdict} |", short(*size), short(figure))
            .expect("a string takes everything");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Table;

    #[test]
    fn only_what_was_measured_is_judged() {
        let mut table = Table::new(tunnel::TITLE, String::new(), &[(ONE, "Gbit/s"), ("processor time", "s/GB")]);
        table.add(OURS, &[Some(5.0), Some(2.1)]);
        table.add("boringtun-cli", &[Some(0.5), None]);
        let mut report = Report::default();
        report.take(table);
        let text = self::table(&report);
        assert!(text.contains("| one stream, to boringtun-cli | ≥ 7.00 | 10.0 | met |"), "{text}");
        assert!(text.contains("| processor time, s/GB | ≤ 2.00 | 2.10 | **missed** |"), "{text}");
        assert_eq!(text.lines().count(), 6, "{text}");
    }
}
