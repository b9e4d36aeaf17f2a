//! Names: what containers get from the daemon's own name server, over UDP and TCP.
//!
//! ```text
//!   one, two ── web bridge ── host 0, which answers at its overlay address, port 53
//! ```

use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket},
    time::Duration,
};

use overlayd_core::protocol::{Request, Response};
use overlayd_testkit::lab::{self, Host, HostPrivileges, LabCluster, Namespace, NamespaceConfinement, Underlay};

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

fn configure(host: &Host, text: &str) {
    std::fs::create_dir_all(host.data_dir()).expect("a data directory");
    std::fs::write(host.data_dir().join("overlayd.toml"), text).expect("a configuration");
}

/// A query for the A records of `name` (RFC 1035, section 4.1).
fn query(name: &str) -> Vec<u8> {
    let mut message = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        message.push(label.len().try_into().expect("a short label"));
        message.extend(label.as_bytes());
    }
    message.extend([0, 0, 1, 0, 1]);
    message
}

/// The addresses of an answer: each is the last four bytes of a record that begins with a pointer to the question.
fn addresses(answer: &[u8], question: usize) -> Vec<IpAddr> {
    let count = usize::from(u16::from_be_bytes([answer[6], answer[7]]));
    let record = |number: usize| &answer[question + 16 * number..][..16];
    let address = |record: &[u8]| IpAddr::V4(Ipv4Addr::new(record[12], record[13], record[14], record[15]));
    let mut found: Vec<_> = (0..count).map(|number| address(record(number))).collect();
    found.sort();
    found
}

fn ask(container: &Namespace, server: IpAddr, name: &str) -> Vec<IpAddr> {
    let (query, server) = (query(name), SocketAddr::new(server, 53));
    let length = query.len();
    let by_udp = container.enter(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
        socket.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        socket.send_to(&query, server).expect("a query is sent");
        let mut answer = vec![0; 1232];
        let length = overlayd_testkit::uninterrupted(|| socket.recv(&mut answer)).expect("an answer over UDP");
        answer.truncate(length);
        answer
    });
    let by_tcp = container.enter(|| {
        let mut stream = TcpStream::connect_timeout(&server, PATIENCE).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        let length = u16::try_from(query.len()).expect("a short query").to_be_bytes();
        stream.write_all(&[&length, query.as_slice()].concat()).expect("a query is sent");
        let mut length = [0; 2];
        stream.read_exact(&mut length).expect("an answer over TCP");
        let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut answer).expect("all of it");
        answer
    });
    assert_eq!(addresses(&by_udp, length), addresses(&by_tcp, length));
    addresses(&by_udp, length)
}

#[test]
fn a_container_finds_a_service_by_its_name() {
    if !lab::available() {
        return;
    }
    let mut lab = crate::lab(1, &Underlay::default());
    let host = &mut lab.hosts[0];
    configure(host, "[dns]\nservice_names = \"attached\"\n");
    let mut client = host.start_with(HostPrivileges::Packaged);
    LabCluster::V4.raise(&mut client, 0, &["web"], host.v4());
    let [one, two] = [(); 2].map(|()| Namespace::container(NamespaceConfinement::NoCapabilities));
    let first = client.attach(one.pid(), "web");
    let second = client.attach(two.pid(), "web");
    let server = client.status().node_ip.expect("a node has an address");
    assert_eq!(ask(&one, server, "web.lab.local"), [first, second]);
    client.ok(Request::RegisterDns { name: "ledger".into(), ip: first });
    client.ok(Request::RegisterDns { name: "ledger".into(), ip: second });
    host.terminate();
    let mut client = host.start_with(HostPrivileges::Packaged);
    assert_eq!(client.status().node_ip, Some(server), "the daemon has caught up");
    assert_eq!(ask(&one, server, "ledger.lab.local"), [first, second]);
    client.detach(two.pid());
    assert_eq!(ask(&one, server, "web.lab.local"), [first]);
    client.ok(Request::UnregisterDns { name: "ledger".into() });
    assert!(ask(&one, server, "ledger.lab.local").is_empty());
}

#[test]
fn without_the_capability_for_port_53_a_registration_says_what_is_missing() {
    if !lab::available() {
        return;
    }
    let mut lab = crate::lab(1, &Underlay::default());
    let host = &mut lab.hosts[0];
    let mut client = host.start_with(HostPrivileges::TwoCapabilities);
    LabCluster::V4.raise(&mut client, 0, &["web"], host.v4());
    let register = Request::RegisterDns { name: "ledger".into(), ip: host.v4() };
    let reply = client.call(register).expect("an answer");
    let Response::Err { message, .. } = reply else { panic!("{reply:?}") };
    assert!(message.contains("CAP_NET_BIND_SERVICE") && message.contains(":53"), "{message}");
    let one = crate::container();
    client.attach(one.pid(), "web");
}
