//! Containers come and go: over the socket, with the durable record, next to none and next to many.

use overlayd_core::protocol::{AttachContainer, AttachHandle, Request, Response};
use overlayd_testkit::lab::{LabClient, Namespace};

use crate::{
    Args, floor,
    node::{Node, containers, deal},
    stats::Report,
};

/// What kind of attachment a round is about.
#[derive(Debug, Clone, Copy)]
struct Kind {
    name: &'static str,
    isolation: Option<&'static str>,
    join_global: bool,
}

const PLAIN: Kind = Kind { name: "", isolation: None, join_global: false };
const ISOLATED: Kind = Kind { name: " isolated", isolation: Some("tenant"), join_global: false };

pub(crate) fn measure(args: &Args, report: &mut Report) {
    floor::measure(args, report);
    let mut node = Node::up(args);
    let guests = containers(args.containers);
    round(&mut node, args, report, PLAIN, &guests, "none");
    round(&mut node, args, report, ISOLATED, &guests, "none");
    if args.beside == 0 {
        return;
    }
    let crowd = containers(args.beside);
    let services = node.services_for(crowd.len());
    let jobs: Vec<Request> =
        crowd.iter().zip(&services).map(|(guest, service)| attach(guest, service, PLAIN)).collect();
    deal(args.clients, &jobs, || node.client(), ask);
    round(&mut node, args, report, PLAIN, &guests, "many");
    round(&mut node, args, report, ISOLATED, &guests, "many");
    report.figure("resident with many containers", node.resident(), "MB");
}

/// One client, then many.
fn round(node: &mut Node, args: &Args, report: &mut Report, kind: Kind, guests: &[Namespace], beside: &str) {
    for clients in [1, args.clients] {
        let services = node.services_for(guests.len());
        let jobs: Vec<Request> =
            guests.iter().zip(&services).map(|(guest, service)| attach(guest, service, kind)).collect();
        let before = node.cpu();
        let timed = deal(clients, &jobs, || node.client(), ask);
        let cpu = (node.cpu() - before).as_secs_f64() * 1e3 / guests.len() as f64;
        report.timed(&format!("attach{} beside {beside}", kind.name), clients, &timed);
        report.figure(
            &format!("CPU time of the daemon for each, {clients} at once: attach{} beside {beside}", kind.name),
            cpu,
            "ms",
        );
        let jobs: Vec<Request> = guests.iter().map(detach_request).collect();
        let timed = deal(clients, &jobs, || node.client(), ask);
        report.timed(&format!("detach{} beside {beside}", kind.name), clients, &timed);
    }
}

fn ask(client: &mut LabClient, request: &Request) {
    assert!(matches!(client.ask(request.clone()), Response::Attached(_) | Response::Ok));
}

/// The request for a plain attachment.
pub(crate) fn attach_request(guest: &Namespace, service: &str) -> Request {
    attach(guest, service, PLAIN)
}

fn attach(guest: &Namespace, service: &str, kind: Kind) -> Request {
    Request::AttachContainer(AttachContainer {
        handle: AttachHandle::LinuxPid { pid: guest.pid() },
        service: service.into(),
        join_global: kind.join_global,
        ephemeral: false,
        isolation_network: kind.isolation.map(Into::into),
        dns_server: None,
        dns_domain: None,
    })
}

/// The request that takes it back.
pub(crate) fn detach_request(guest: &Namespace) -> Request {
    Request::DetachContainer { handle: AttachHandle::LinuxPid { pid: guest.pid() } }
}
