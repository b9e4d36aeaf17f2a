//! What the kernel and the disk need by themselves for what an attach does.

use std::{fs, io::Write, net::Ipv4Addr, os::fd::AsFd, path::Path};

use ipnet::Ipv4Net;
use overlayd_netlink::{
    Netns, Route, Rtnl,
    address::{self, PrefixRoute},
    link::{self, NewBridge, NewVeth},
    route,
};
use overlayd_testkit::lab::{Namespace, await_cleanup};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::{
    Args,
    node::{containers, deal, timed},
    stats::{Report, Timed},
};

pub(crate) fn measure(args: &Args, report: &mut Report) {
    report.timed("one fdatasync of 4 KiB", 1, &sync(args.containers));
    for clients in [1, args.clients] {
        let floor = Floor::new();
        let guests = containers(args.containers);
        report.timed("floor: raw netlink attach", clients, &floor.attach(clients, &guests));
        report.timed("floor: raw netlink detach, one by one", clients, &floor.detach(clients, &guests));
    }
}

/// A host with a bridge, and no daemon.
pub(crate) struct Floor {
    /// Lives as long as what is in it.
    _host: Namespace,
    home: Netns,
    bridge: u32,
}

impl Floor {
    pub(crate) fn new() -> Self {
        await_cleanup();
        let host = Namespace::host();
        let bridge = host.enter(|| {
            let rtnl = Rtnl::here().unwrap();
            rtnl.run(NewBridge { name: "floor", mac: None, group: 0 }.request()).unwrap();
            let bridge = rtnl.link("floor").unwrap().unwrap().index;
            let gateway = Ipv4Net::new_assert(Ipv4Addr::new(10, 1, 0, 1), 16).into();
            rtnl.run_all([address::add(bridge, gateway, PrefixRoute::Connected), link::up(bridge)]).unwrap();
            bridge
        });
        let home = host.enter(|| Netns::current().unwrap());
        Self { _host: host, home, bridge }
    }

    /// Attaches all of them.
    pub(crate) fn attach(&self, clients: usize, guests: &[Namespace]) -> Timed {
        let jobs: Vec<(usize, &Namespace)> = guests.iter().enumerate().collect();
        let attach = |worker: &mut Worker<'_>, job: &(usize, &Namespace)| worker.attach(self.bridge, job.0, job.1);
        deal(clients, &jobs, || Worker::new(&self.home), attach)
    }

    /// Detaches them again.
    pub(crate) fn detach(&self, clients: usize, guests: &[Namespace]) -> Timed {
        let jobs: Vec<usize> = (0..guests.len()).collect();
        deal(clients, &jobs, || Worker::new(&self.home), |worker, number| worker.detach(*number))
    }
}

/// One process's hands: a socket on the host, and a thread that may go anywhere.
struct Worker<'a> {
    home: &'a Netns,
    rtnl: Rtnl,
}

impl<'a> Worker<'a> {
    fn new(home: &'a Netns) -> Self {
        enter(home);
        Self { home, rtnl: Rtnl::here().unwrap() }
    }

    /// The pair, its inner end in the container; then one batch in there.
    fn attach(&self, bridge: u32, number: usize, guest: &Namespace) {
        let netns = Netns::at_path(format!("/proc/{}/ns/net", guest.pid())).unwrap();
        let name = format!("v{number}");
        let pair = NewVeth { master: Some(bridge), ..NewVeth::pair(&name, "eth0") }.into_netns(&netns);
        self.rtnl.run_all([pair.request(), link::up(name.as_str())]).unwrap();
        enter(&netns);
        let inside = Rtnl::here().unwrap();
        enter(self.home);
        let eth0 = inside.link("eth0").unwrap().unwrap().index;
        let own = Ipv4Addr::from(0x0a01_0002 + number as u32);
        let default = Route::by_gateway("0.0.0.0/0".parse().unwrap(), Ipv4Addr::new(10, 1, 0, 1).into(), Some(eth0));
        let batch = [
            address::add(eth0, Ipv4Net::new_assert(own, 16).into(), PrefixRoute::Connected),
            link::up(eth0),
            link::up("lo"),
            route::add(&default),
        ];
        inside.run_all(batch).unwrap();
    }

    fn detach(&self, number: usize) {
        self.rtnl.run(link::delete(format!("v{number}").as_str())).unwrap();
    }
}

fn enter(netns: &Netns) {
    move_into_link_name_space(netns.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
}

/// Where the lab keeps its hosts' state, so that the disk is the same.
fn sync(count: usize) -> Timed {
    let directory = tempfile::tempdir().unwrap();
    let path: &Path = directory.path();
    let mut file = fs::File::create(path.join("floor")).unwrap();
    let begun = std::time::Instant::now();
    let each = (0..count)
        .map(|_| {
            timed(|| {
                file.write_all(&[7; 4096]).unwrap();
                file.sync_data().unwrap();
            })
        })
        .collect();
    Timed::new(each, begun.elapsed())
}
