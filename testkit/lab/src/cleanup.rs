use std::{
    thread,
    time::{Duration, Instant},
};

use super::{Namespace, NamespaceConfinement};

/// How long the kernel may take for what has ended by then.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(2);

/// Waits until the kernel has taken away what was in network namespaces that have ended. It does so on a thread of its own,
/// and every change of a link waits for it: a measurement should not wait for what the one before it left.
pub fn await_cleanup() {
    // It works in batches, and a second one begins when the first is done.
    for _ in 0..2 {
        let witness = Namespace::container(NamespaceConfinement::None);
        let last = Namespace::container(NamespaceConfinement::None);
        let netns = last.pid().to_string();
        witness.run(&["ip", "link", "add", "last", "type", "veth", "peer", "name", "last", "netns", &netns]);
        drop(last);
        let begun = Instant::now();
        while witness.links().iter().any(|link| link == "last") {
            assert!(begun.elapsed() < PATIENCE, "namespaces that ended are still there after {PATIENCE:?}");
            thread::sleep(PAUSE);
        }
    }
}
