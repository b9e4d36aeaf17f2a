use overlayd_core::{
    contract::PortProtocol,
    protocol::{AttachHandle, PortSpec, Request},
};

use crate::node::{Node, detach};

fn spec(host_port: u16, end: Option<u16>, container_port: u16) -> PortSpec {
    PortSpec { protocol: PortProtocol::Tcp, host_ip: None, host_port, host_port_end: end, container_port }
}

fn publish(pid: u32, ports: &[PortSpec]) -> Request {
    Request::PublishPorts { handle: AttachHandle::LinuxPid { pid }, ports: ports.to_vec() }
}

async fn two_containers() -> Node {
    let node = Node::ready().await;
    for pid in [7, 8] {
        node.start_process(pid);
        node.attach(pid).await;
    }
    node
}

#[tokio::test]
async fn published_ports_last_through_a_crash_and_go_with_their_container() {
    let node = two_containers().await;
    let before = node.host();
    for _ in 0..2 {
        node.ok(publish(7, &[spec(8080, None, 80), spec(9000, Some(9009), 90)])).await;
    }
    let host = node.host();
    assert!(format!("{host:?}").contains("host_ports: (9000, 9009)"), "{host:?}");
    let node = node.crash_and_restart().await;
    assert_eq!(node.host(), host);
    node.ok(publish(7, &[])).await;
    assert_eq!(node.host(), before);
    node.ok(publish(7, &[spec(8080, None, 80)])).await;
    node.ok(detach(7)).await;
    node.ok(publish(8, &[spec(8080, None, 80)])).await;
}

#[tokio::test]
async fn a_taken_port_is_refused_with_the_name_of_its_owner() {
    let node = two_containers().await;
    node.ok(publish(7, &[spec(8080, Some(8090), 80)])).await;
    let message = node.refused(publish(8, &[spec(8085, None, 80)])).await;
    assert!(message.contains("tcp *:8085 is published by pid 7"), "{message}");
    node.ok(publish(8, &[PortSpec { protocol: PortProtocol::Udp, ..spec(8085, None, 80) }])).await;
}

#[tokio::test]
async fn ports_that_make_no_sense_are_refused() {
    let node = two_containers().await;
    for ports in [
        vec![spec(0, None, 80)],
        vec![spec(90, Some(80), 80)],
        vec![spec(80, Some(90), 65530)],
        vec![spec(80, None, 80), spec(80, None, 81)],
    ] {
        node.refused(publish(7, &ports)).await;
    }
    assert!(node.refused(publish(9, &[spec(80, None, 80)])).await.contains("is not attached"));
}
