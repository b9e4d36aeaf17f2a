//! What the daemon costs when there is nothing to do.

use std::time::{Duration, Instant};

use overlayd_testkit::lab::{Lab, Underlay};

use crate::{
    Args,
    node::Node,
    stats::{Report, Timed},
};

/// Starts of the daemon.
const STARTS: usize = 20;

pub(crate) fn measure(args: &Args, report: &mut Report) {
    let mut lab = Lab::new(1, &Underlay::default(), &args.overlayd);
    let host = &mut lab.hosts[0];
    let begun = Instant::now();
    let each: Vec<Duration> = (0..STARTS)
        .map(|_| {
            let start = Instant::now();
            host.start().status();
            let took = start.elapsed();
            host.kill();
            took
        })
        .collect();
    // nsenter and setpriv, which the lab starts it by, are in this.
    report.timed("start to answering socket", 1, &Timed::new(each, begun.elapsed()));
    let node = Node::up(args);
    std::thread::sleep(Duration::from_secs(3));
    report.figure("resident, overlay up and idle", node.resident(), "MB");
}
