//! The real daemon ends at every crash point of every operation: before and after each change of the kernel, of a file and
//! of the store. Every second time its successor ends as well, while it starts or when the request is repeated. Another one
//! starts, the request is repeated, and the host has to look as if nothing had happened; after a shutdown, as if there never
//! had been a daemon.
//!
//! ```text
//!   5 containers, a guest, a host process, edges ── host
//! ```

mod look;
mod script;

use std::{fs, mem::discriminant, os::unix::process::ExitStatusExt, time::Duration};

use overlayd_core::protocol::{Request, Response};
use overlayd_testkit::{
    contract::HostFacts,
    lab::{self, Host, Lab, LabClient, Namespace, Underlay},
};

use self::script::Script;
use crate::container;

const SIGABRT: i32 = 6;
/// A successor ends at one of so many points, counted from its start.
const SUCCESSORS_POINTS: usize = 24;

/// Operations that are another matter with another WireGuard, so they end at every point under each.
mod of_devices {
    use super::{play, script::Script};

    #[test]
    fn while_overlays_are_set_up() {
        play(Script::setting_up, 30);
    }

    #[test]
    fn while_peers_come_and_go() {
        play(Script::peers, 12);
    }

    #[test]
    fn while_a_container_is_attached_to_an_overlay_of_its_own() {
        play(Script::attaching_to_a_device, 8);
    }

    #[test]
    fn while_all_is_torn_down() {
        play(Script::tearing_down, 20);
    }
}

/// Operations that do the same to the host and to a device of either kind.
mod of_all_else {
    use super::{play, script::Script};

    #[test]
    fn while_edges_come_and_go() {
        play(Script::edges, 12);
    }

    #[test]
    fn while_containers_are_attached() {
        play(Script::attaching, 40);
    }

    #[test]
    fn while_others_are_attached_and_ports_published() {
        play(Script::attaching_others, 16);
    }

    #[test]
    fn while_containers_are_detached() {
        play(Script::detaching, 15);
    }
}

/// Plays the script for each point of it; fewer than `least` mean that some have been lost.
fn play(script: impl Fn(&[Namespace]) -> Script, least: usize) {
    if !lab::available() {
        return;
    }
    let mut lab = crate::lab(1, &Underlay::default());
    let mut stage = Stage::new(&mut lab, script);
    let first = stage.rehearse();
    let points = (first..).take_while(|number| stage.end_at(*number)).count();
    println!("{points} crash points in the daemon {}", std::thread::current().name().unwrap_or_default());
    assert!(points >= least, "only {points} crash points");
}

/// A host with its containers, and how things are on it without a crash.
struct Stage<'a> {
    host: &'a mut Host,
    containers: Vec<Namespace>,
    script: Script,
    /// What the daemon answers, and what is there afterwards.
    undisturbed: Vec<(Response, HostFacts)>,
    /// What is there without a daemon.
    before: HostFacts,
}

impl<'a> Stage<'a> {
    fn new(lab: &'a mut Lab, script: impl Fn(&[Namespace]) -> Script) -> Self {
        let mut containers: Vec<Namespace> = (0..script::CONTAINERS).map(|_| container()).collect();
        let script = script(&containers);
        // Those that nothing happens to need not be looked at.
        containers.retain(|container| script.names(container));
        let host = &mut lab.hosts[0];
        let before = host.facts();
        Self { host, script, containers, undisturbed: Vec::new(), before }
    }

    /// Plays the script without a crash, and returns the number of the first point that it is about.
    fn rehearse(&mut self) -> usize {
        let trace = self.host.data_dir().with_extension("trace");
        let client = self.set_up(("OVERLAYD_CRASH_TRACE", trace.to_str().expect("a path in UTF-8")));
        let mut client = client.expect("a daemon");
        for request in &self.script.before {
            client.ask(request.clone());
        }
        let first = 1 + fs::read_to_string(trace).map_or(0, |trace| trace.lines().count());
        for request in self.script.requests.clone() {
            let reply = client.call(request).expect("an answer");
            let facts = look::settled(self.host, &self.containers);
            self.undisturbed.push((reply, facts));
        }
        self.shut_down();
        first
    }

    /// Ends the daemon at this point, and sees to it that no trace of that is left. Whether there is such a point.
    fn end_at(&mut self, number: usize) -> bool {
        let mut client = self.set_up(("OVERLAYD_CRASH_AT", &number.to_string()));
        let mut ends = |request: &Request| client.as_mut().is_none_or(|client| client.call(request.clone()).is_err());
        let mut counts = true;
        // What comes before is the matter of another test; no two runs count exactly alike.
        if self.script.before.iter().any(&mut ends) {
            self.succeed();
        } else if let Some(at) = self.script.requests.iter().position(&mut ends) {
            self.come_back(number, at);
        } else {
            if !ends(&Request::Shutdown) {
                self.has_shut_down();
                return false;
            }
            self.succeed();
            counts = self.script.shutdown_counts;
        }
        self.shut_down();
        counts
    }

    /// After the daemon has ended at this point of a request, others start, and it is repeated.
    fn come_back(&mut self, number: usize, at: usize) {
        let request = self.script.requests[at].clone();
        let mut what = format!("{}, during {request:?}", self.ended());
        if number.is_multiple_of(2) {
            what.push_str(&self.have_successor_end(number / 2 % SUCCESSORS_POINTS + 1, &request));
        }
        self.host.environment.clear();
        let reply = script::ask_again(&mut self.host.start(), &request);
        let (known, facts) = &self.undisturbed[at];
        assert_eq!(discriminant(&reply), discriminant(known), "{what}; the repeated request was answered {reply:?}");
        let is = look::until(self.host, &self.containers, facts);
        let (missing, left): (Vec<_>, Vec<_>) = (facts.difference(&is).collect(), is.difference(facts).collect());
        assert!(left.is_empty() && missing.is_empty(), "{what}; left: {left:#?}, missing: {missing:#?}");
    }

    /// A successor ends at this point of its own, or is ended when it has none; what the point was.
    fn have_successor_end(&mut self, number: usize, request: &Request) -> String {
        self.host.environment = vec![("OVERLAYD_CRASH_AT".into(), number.to_string())];
        let answered = self.start().and_then(|mut client| client.call(request.clone()).ok());
        if answered.is_none() {
            return format!(", and then {}", self.ended());
        }
        self.host.kill();
        String::new()
    }

    /// Starts another daemon after the one that has ended at a point.
    fn succeed(&mut self) {
        self.ended();
        self.host.environment.clear();
        self.host.start();
    }

    /// The point that the daemon has ended at.
    fn ended(&mut self) -> String {
        let status = self.host.wait();
        let log = self.host.log();
        let point = log.lines().rev().find(|line| line.starts_with("crash point")).unwrap_or("no crash point");
        assert_eq!(status.signal(), Some(SIGABRT), "{point}");
        point.to_owned()
    }

    /// Starts a daemon and waits until it is at work; `None` if it ends before.
    fn start(&mut self) -> Option<LabClient> {
        let lives = self.host.start_if_it_can();
        let mut client = lives.then(|| LabClient::connect(&self.host.socket(), Duration::ZERO).ok()).flatten()?;
        client.call(Request::Status).ok().map(|_| client)
    }

    /// A daemon that nothing was asked of yet; `None` if it has ended.
    fn set_up(&mut self, (name, value): (&str, &str)) -> Option<LabClient> {
        let data = self.host.data_dir();
        if data.exists() {
            fs::remove_dir_all(&data).expect("the data of the daemon before is removed");
        }
        fs::create_dir_all(&data).expect("a data directory");
        // An address that is released and leased again is the same one then.
        fs::write(data.join("overlayd.toml"), "cool_down_secs = 0\n").expect("a configuration");
        self.host.environment = vec![(name.to_owned(), value.to_owned())];
        self.start()
    }

    /// Everything is removed, and the host is as it was.
    fn shut_down(&mut self) {
        assert_eq!(self.host.client().ask(Request::Shutdown), Response::Ok);
        self.has_shut_down();
    }

    fn has_shut_down(&mut self) {
        assert!(self.host.wait().success());
        self.host.comes_back_to(&self.before);
        for container in &self.containers {
            let links = container.links();
            assert!(links.is_empty(), "a container has {links:?} after the shutdown");
        }
    }
}
