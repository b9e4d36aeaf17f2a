//! What stands in the way of an attach, many attaches at once, and few privileges. Needs root.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::sync::Arc;

use common::{Bench, V4, V6, container, ip};
use overlayd_core::contract::{Attacher, AttachmentId, Error};
use overlayd_testkit::lab::{Namespace, NamespaceConfinement, probe::pings};

/// Links, IPv4 addresses and routes, and rules of the host.
async fn facts(bench: &Bench) -> Vec<String> {
    bench.backend.settle().await.unwrap();
    let links = bench.host.run(&["ls", "/sys/class/net"]);
    let said = [&["ip", "-4", "-oneline", "address"][..], &["ip", "-4", "route"], &["nft", "list", "ruleset"]];
    let said = said.map(|command| bench.host.run(command).replace(" linkdown", ""));
    std::iter::once(links).chain(said).collect()
}

#[tokio::test]
async fn an_interface_of_the_containers_own_is_a_conflict_and_stays() {
    let (bench, one) = (Bench::new(V4), container());
    bench.backend.ensure_network(&bench.web()).await.unwrap();
    one.run(&["ip", "link", "add", "eth0", "type", "bridge"]);
    let before = facts(&bench).await;
    let error = bench.backend.attach(&bench.plan(&one, &bench.web(), 2)).await.unwrap_err();
    assert!(matches!(&error, Error::Conflict { what, .. } if what.contains("eth0")), "{error}");
    assert_eq!(facts(&bench).await, before);
    assert!(one.run(&["ip", "-d", "link", "show", "eth0"]).contains("bridge"));
}

#[tokio::test]
async fn a_default_route_of_the_containers_own_is_a_conflict_and_stays() {
    let (bench, one) = (Bench::new(V4), container());
    bench.backend.ensure_network(&bench.web()).await.unwrap();
    one.run(&["ip", "link", "add", "own", "type", "bridge"]);
    one.run(&["ip", "link", "set", "own", "up"]);
    one.run(&["ip", "route", "add", "default", "dev", "own"]);
    let before = facts(&bench).await;
    let error = bench.backend.attach(&bench.plan(&one, &bench.web(), 2)).await.unwrap_err();
    assert!(matches!(&error, Error::Conflict { what, .. } if what.contains("0.0.0.0/0")), "{error}");
    assert_eq!(facts(&bench).await, before);
    assert!(one.try_run(&["ip", "link", "show", "eth0"]).is_err());
    assert!(one.run(&["ip", "route"]).contains("default dev own"));
}

#[tokio::test]
async fn a_link_of_somebody_else_under_our_name_is_a_conflict_and_stays() {
    let (bench, one) = (Bench::new(V4), container());
    bench.backend.ensure_network(&bench.web()).await.unwrap();
    bench.host.run(&["ip", "link", "add", &format!("veth-{}-s", one.pid()), "type", "bridge"]);
    let before = facts(&bench).await;
    let error = bench.backend.attach(&bench.plan(&one, &bench.web(), 2)).await.unwrap_err();
    assert!(matches!(error, Error::Conflict { .. }), "{error}");
    bench.backend.detach(&AttachmentId::Process(one.pid())).await.unwrap();
    assert_eq!(facts(&bench).await, before);
}

#[tokio::test]
async fn a_container_that_has_ipv6_switched_off_gets_its_ipv6_address() {
    let (bench, one) = (Bench::new(V6), container());
    one.set("ipv6/conf/all/disable_ipv6", "1");
    one.set("ipv6/conf/default/disable_ipv6", "1");
    bench.backend.ensure_network(&bench.web()).await.unwrap();
    bench.backend.attach(&bench.plan(&one, &bench.web(), 2)).await.unwrap();
    assert!(pings(&one, ip(bench.family.outside)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_containers_come_and_go_at_once() {
    const CONTAINERS: u8 = 100;
    const CLIENTS: usize = 8;
    let mut bench = Bench::new(V4);
    bench.family.web = "10.77.128.{}/24";
    let web = bench.web();
    bench.backend.ensure_network(&web).await.unwrap();
    let before = facts(&bench).await;
    let containers: Vec<Namespace> = (0..CONTAINERS).map(|_| container()).collect();
    let plans: Vec<_> = (2..).zip(&containers).map(|(number, one)| bench.plan(one, &web, number)).collect();
    let bench = Arc::new(bench);
    let each = |work: fn(Arc<Bench>, overlayd_core::contract::AttachPlan) -> Call| {
        let (bench, plans) = (bench.clone(), plans.clone());
        async move {
            let clients = plans.chunks(plans.len().div_ceil(CLIENTS)).map(|share| {
                let (bench, share) = (bench.clone(), share.to_vec());
                tokio::spawn(async move {
                    for plan in share {
                        work(bench.clone(), plan).await;
                    }
                })
            });
            for client in clients.collect::<Vec<_>>() {
                client.await.unwrap();
            }
        }
    };
    each(|bench, plan| Box::pin(async move { drop(bench.backend.attach(&plan).await.unwrap()) })).await;
    assert_eq!(bench.backend.observe().await.unwrap().attachments.len(), usize::from(CONTAINERS));
    assert!(containers.iter().all(|one| pings(one, web.gateways[0].addr())));
    each(|bench, plan| Box::pin(async move { bench.backend.detach(&plan.id).await.unwrap() })).await;
    assert_eq!(bench.backend.observe().await.unwrap().attachments, []);
    assert_eq!(facts(&bench).await, before);
}

type Call = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

/// Runs itself again with the two capabilities that the service has, inside a host of its own.
#[tokio::test]
async fn two_capabilities_are_enough_for_a_container_that_has_no_more() {
    const PID: &str = "LBT_CONTAINER_PID";
    if let Ok(pid) = std::env::var(PID) {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        assert!(status.contains("CapEff:\t0000000000201000"), "{status}");
        return attach_with_few_privileges(pid.parse().unwrap()).await;
    }
    let (host, one) = (Namespace::host(), Namespace::container(NamespaceConfinement::NoCapabilities));
    let (own, pid) = (std::env::current_exe().unwrap(), one.pid().to_string());
    let name = "two_capabilities_are_enough_for_a_container_that_has_no_more";
    let capabilities = "-all,+net_admin,+sys_admin";
    let (bounding, inheritable) = (format!("--bounding-set={capabilities}"), format!("--inh-caps={capabilities}"));
    let command = ["setpriv", &bounding, &inheritable, own.to_str().unwrap(), "--exact", name, "--nocapture"];
    let output = host.command(&command).env(PID, pid).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(pings(&one, ip("10.77.8.1")));
}

async fn attach_with_few_privileges(pid: u32) {
    use overlayd_core::{contract::*, names::InstanceId};
    let state = std::env::temp_dir().join(format!("lbt-{pid}"));
    std::fs::create_dir_all(&state).unwrap();
    let config = overlayd_linux_bridge::BridgeConfig {
        instance: InstanceId::of_data_dir(&state),
        state_dir: state.clone(),
        protection: overlayd_linux_bridge::TableProtection::default(),
        own_changes: overlayd_netlink::OwnChanges::default(),
    };
    let backend = overlayd_linux_bridge::LinuxBridge::new(config).unwrap();
    for (name, net) in [("lbt-four", "10.77.8.1/26"), ("lbt-six", "fd77:8::1/120")] {
        let plan = NetworkPlan {
            name: NetworkName(name.into()),
            guid: None,
            gateways: vec![net.parse().unwrap()],
            mtu: 1420,
            egress: Egress::Masquerade,
            overlay: None,
        };
        backend.ensure_network(&plan).await.unwrap();
    }
    let leg = ServiceLeg {
        network: NetworkName("lbt-four".into()),
        address: "10.77.8.2/26".parse().unwrap(),
        gateway: ip("10.77.8.1"),
        mtu: 1420,
    };
    let plan = AttachPlan {
        id: AttachmentId::Process(pid),
        target: Target::Process(pid),
        known: None,
        service: Some(leg),
        overlay: None,
        resolver: None,
        fence: None,
        ports: Vec::new(),
    };
    let first = backend.attach(&plan).await.unwrap();
    backend.detach(&plan.id).await.unwrap();
    assert_eq!(backend.attach(&plan).await.unwrap(), first);
    std::fs::remove_dir_all(&state).unwrap();
}
