//! A node to load: one host with the daemon on it, services to attach to, and containers.

use std::{
    fs,
    sync::{Barrier, Mutex},
    thread,
    time::{Duration, Instant},
};

use overlayd_core::protocol::{OverlayMode, Request};
use overlayd_testkit::lab::{
    Host, Lab, LabClient, LabCluster, Namespace, NamespaceConfinement, Underlay, await_cleanup,
};

use crate::{Args, stats::Timed};

/// A block has 61 addresses for containers.
const PER_SERVICE: usize = 50;

/// The lab with its one host.
pub(crate) struct Node {
    lab: Lab,
    services: usize,
}

impl Node {
    /// Starts the daemon and sets its overlay up.
    pub(crate) fn up(args: &Args) -> Self {
        await_cleanup();
        let mut lab = Lab::new(1, &Underlay::default(), &args.overlayd);
        lab.hosts[0].log_filter = Some(std::env::var("RUST_LOG").unwrap_or_else(|_| "info".into()));
        let underlay = lab.hosts[0].v4();
        LabCluster::V4.raise(&mut lab.hosts[0].start(), 0, &[], underlay);
        Self { lab, services: 0 }
    }

    pub(crate) fn host(&self) -> &Host {
        &self.lab.hosts[0]
    }

    pub(crate) fn client(&self) -> LabClient {
        self.host().client()
    }

    /// New services for so many containers; which one the nth container is of.
    pub(crate) fn services_for(&mut self, containers: usize) -> Vec<String> {
        let mut client = self.client();
        let services: Vec<String> = (0..containers.div_ceil(PER_SERVICE))
            .map(|number| {
                let service = format!("s{}", self.services + number);
                client.ask(Request::SetupServiceOverlay { service: service.clone(), mode: OverlayMode::Auto });
                service
            })
            .collect();
        self.services += services.len();
        (0..containers).map(|number| services[number / PER_SERVICE].clone()).collect()
    }

    /// Resident memory of the daemon, in MB of 10⁶ bytes.
    pub(crate) fn resident(&self) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.host().daemon_pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() * 1024.0 / 1e6
    }

    /// CPU time that the daemon has used so far (`proc(5)`, fields 14 and 15 of `stat`, in ticks of 10 ms).
    pub(crate) fn cpu(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.host().daemon_pid())).unwrap();
        let fields = stat[stat.rfind(')').unwrap() + 2..].split(' ').skip(11).take(2);
        Duration::from_millis(10 * fields.map(|ticks| ticks.parse::<u64>().unwrap()).sum::<u64>())
    }
}

/// Containers without anything in them.
pub(crate) fn containers(count: usize) -> Vec<Namespace> {
    (0..count).map(|_| Namespace::container(NamespaceConfinement::None)).collect()
}

/// Deals `jobs` out to so many clients of their own, which work on them at the same time, one after the other each.
pub(crate) fn deal<C, J: Sync>(
    clients: usize,
    jobs: &[J],
    client: impl Fn() -> C + Sync,
    work: impl Fn(&mut C, &J) + Sync,
) -> Timed {
    let (start, took) = (Barrier::new(clients + 1), Mutex::new(Vec::new()));
    let total = thread::scope(|scope| {
        let threads: Vec<_> = (0..clients)
            .map(|first| {
                let (start, took, client, work) = (&start, &took, &client, &work);
                scope.spawn(move || {
                    let mut client = client();
                    start.wait();
                    let mine: Vec<Duration> =
                        jobs.iter().skip(first).step_by(clients).map(|job| timed(|| work(&mut client, job))).collect();
                    took.lock().unwrap().extend(mine);
                })
            })
            .collect();
        start.wait();
        let begun = Instant::now();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        begun.elapsed()
    });
    Timed::new(took.into_inner().unwrap(), total)
}

/// How long the work took.
pub(crate) fn timed(work: impl FnOnce()) -> Duration {
    let begun = Instant::now();
    work();
    begun.elapsed()
}
