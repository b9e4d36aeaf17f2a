//! Handshakes of a sender that knows the node's public key and nothing else, faster than anyone could answer them.

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use overlayd_testkit::lab::{
    self, Host, LabCluster, Namespace, Underlay,
    probe::{PacketPulse, UdpEcho, pings},
};

use super::told_elsewhere;

#[test]
fn a_flood_of_handshakes_is_answered_by_cookies_and_harms_no_session() {
    if !lab::available() || told_elsewhere() {
        return;
    }
    const FLOOD: Duration = Duration::from_secs(3);
    let mut lab = crate::lab(2, &Underlay::default());
    let nodes = LabCluster::V4.join(&mut lab.hosts, &["web"], Host::v4);
    let node_ip = lab.hosts[0].client().status().node_ip.expect("a node address");
    assert!(pings(&lab.hosts[1].namespace, node_ip));
    let echo = UdpEcho::start(&lab.hosts[0].namespace, node_ip);
    let pulse =
        PacketPulse::start(&lab.hosts[1].namespace, SocketAddr::new(node_ip, echo.port), Duration::from_millis(2));
    let pid = lab.hosts[0].daemon_pid();
    let before = cpu_time(pid);
    let key = overlayd_core::keys::PublicKey::from_base64(&nodes[0].public_key).expect("a key");
    let flood = flood(&lab.core, nodes[0].endpoint, key.as_bytes(), FLOOD);
    let spent = cpu_time(pid) - before;
    let heard = pulse.end();
    println!(
        "{} bad handshakes in {FLOOD:?}: {} cookies, {} responses, {spent:?} of processor time; of other senders {heard:?}",
        flood.sent, flood.cookies, flood.responses
    );
    assert_eq!(flood.responses, 0, "a bad handshake was answered");
    assert!(flood.cookies > 0, "no sender had to prove its address");
    assert!(flood.cookies < flood.sent, "the flood was doubled");
    let lost = heard.sent - heard.answered;
    assert!(lost * 3 < heard.sent, "{heard:?}");
    assert!(pings(&lab.hosts[1].namespace, node_ip));
}

struct Flood {
    sent: u64,
    cookies: u64,
    responses: u64,
}

/// Sends initiations whose first code is right, and nothing else about them.
fn flood(from: &Namespace, to: SocketAddr, key: &[u8; 32], duration: Duration) -> Flood {
    const INITIATION: usize = 148;
    const BURST: u64 = 20;
    from.enter(|| {
        let socket = std::net::UdpSocket::bind("0.0.0.0:0").expect("a socket");
        socket.set_nonblocking(true).expect("a socket that does not wait");
        let mut flood = Flood { sent: 0, cookies: 0, responses: 0 };
        let start = Instant::now();
        let mut answer = [0; 256];
        while start.elapsed() < duration {
            let mut message = [0; INITIATION];
            message[0] = 1;
            message[4..12].copy_from_slice(&flood.sent.to_le_bytes());
            // Something that is a point of the curve and of no use.
            message[12] = 9;
            let code = first_code(key, &message[..116]);
            message[116..132].copy_from_slice(&code);
            if socket.send_to(&message, to).is_ok() {
                flood.sent += 1;
            }
            if flood.sent.is_multiple_of(BURST) {
                // The flood takes the processor that the daemon runs on.
                thread::sleep(Duration::from_millis(1));
            }
            while let Ok((length, _)) = socket.recv_from(&mut answer) {
                match (answer[0], length) {
                    (3, 64) => flood.cookies += 1,
                    (2, _) => flood.responses += 1,
                    _ => {}
                }
            }
        }
        flood
    })
}

/// `mac1` of the WireGuard whitepaper, section 5.4.4.
fn first_code(key: &[u8; 32], body: &[u8]) -> [u8; 16] {
    use blake2::{
        Blake2s256, Blake2sMac, Digest as _,
        digest::{KeyInit, Mac as _, consts::U16},
    };
    let mac_key = Blake2s256::new().chain_update(b"mac1----").chain_update(key).finalize();
    let mut mac = <Blake2sMac<U16> as KeyInit>::new_from_slice(&mac_key).expect("a key of 32 bytes");
    mac.update(body);
    mac.finalize().into_bytes().into()
}

/// Processor time of a process, of both kinds (`proc(5)`, fields 14 and 15 of `stat`, in hundredths of a second).
fn cpu_time(pid: u32) -> Duration {
    let stat = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).expect("the process runs");
    let after_name = &stat[stat.rfind(')').expect("a name") + 1..];
    let ticks: Vec<i64> = after_name.split_whitespace().filter_map(|field| field.parse().ok()).collect();
    // Letters are left out above, so that field 4 is the first.
    Duration::from_millis(10 * u64::try_from(ticks[10] + ticks[11]).expect("a time"))
}
