//! The control socket, by `wg(8)` and by hand.

mod support;

use std::os::unix::{fs::PermissionsExt, net::UnixListener};

use support::{DEVICE, Host, Node, Pair, eventually, peer, two_hosts, uapi};

/// Runs `wg` where it finds the node's sockets: its directory is fixed, so the node's is mounted there, for it alone.
fn wg(host: &Host, node: &Node, arguments: &str) -> String {
    let script = format!(
        "mkdir -p /var/run/wireguard && mount --bind {} /var/run/wireguard && exec wg {arguments}",
        node.uapi_dir.display()
    );
    host.must("unshare", &["-m", "sh", "-c", &script])
}

#[test]
fn wg_shows_the_device_its_peers_and_their_handshakes() {
    let pair = Pair::new();
    pair.left.must_ping("10.77.0.2");
    let text = wg(&pair.left, &pair.a, &format!("show {DEVICE}"));
    for part in [
        &format!("public key: {}", pair.a.public()),
        "listening port: 51820",
        &format!("peer: {}", pair.b.public()),
        "endpoint: 192.0.2.2:51820",
        "allowed ips: 10.77.0.2/32, fd77::2/128",
        "latest handshake: ",
        "transfer: ",
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    assert_eq!(wg(&pair.left, &pair.a, "show interfaces").trim(), DEVICE);
}

#[test]
fn wg_showconf_is_what_wg_setconf_takes() {
    let pair = Pair::new();
    let before = wg(&pair.left, &pair.a, &format!("showconf {DEVICE}"));
    assert!(before.contains(&format!("PrivateKey = {}", pair.a.key.reveal_base64())), "{before}");
    let file = pair.a.uapi_dir.join("conf");
    std::fs::write(&file, &before).unwrap();
    wg(&pair.left, &pair.a, &format!("set {DEVICE} peer {} remove", pair.b.public()));
    assert!(pair.a.status().peers.is_empty());
    wg(&pair.left, &pair.a, &format!("setconf {DEVICE} /var/run/wireguard/conf"));
    assert_eq!(wg(&pair.left, &pair.a, &format!("showconf {DEVICE}")), before);
    pair.left.must_ping("10.77.0.2");
}

#[test]
fn wg_set_changes_peers_and_device() {
    let pair = Pair::new();
    let key = pair.b.public().to_base64();
    let set = |arguments: &str| wg(&pair.left, &pair.a, &format!("set {DEVICE} {arguments}"));
    set(&format!("peer {key} persistent-keepalive 25 allowed-ips 10.77.0.2/32,10.9.0.0/16 endpoint 192.0.2.2:4242"));
    let seen = pair.a.peer(&pair.b.public());
    assert_eq!(seen.keepalive.map(std::num::NonZeroU16::get), Some(25));
    assert_eq!(seen.allowed_ips.len(), 2);
    assert_eq!(seen.endpoint.unwrap().port(), 4242);
    set("listen-port 51999 fwmark 0x7");
    assert_eq!(pair.a.status().listen_port, 51999);
    assert!(wg(&pair.left, &pair.a, &format!("show {DEVICE} fwmark")).contains("0x7"));
    set(&format!("peer {key} remove"));
    assert!(pair.a.status().peers.is_empty());
}

#[test]
fn requests_by_hand_are_answered_as_the_interface_says() {
    let pair = Pair::new();
    let hex: String = pair.b.public().as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    let ranges = |node: &Node| node.peer(&pair.b.public()).allowed_ips.len();
    assert_eq!(pair.a.uapi(&format!("set=1\npublic_key={hex}\nallowed_ip=-fd77::2/128\n\n")), "errno=0\n");
    assert_eq!(ranges(&pair.a), 1);
    assert_eq!(pair.a.uapi(&format!("set=1\npublic_key={hex}\nallowed_ip=10.1.0.0/16\n\n")), "errno=0\n");
    assert_eq!(ranges(&pair.a), 2);
    let stranger = "aa".repeat(32);
    assert_eq!(pair.a.uapi(&format!("set=1\npublic_key={stranger}\nupdate_only=true\n\n")), "errno=0\n");
    assert_eq!(pair.a.status().peers.len(), 1, "update_only makes no peer");
    assert_eq!(pair.a.uapi("set=1\nreplace_peers=true\nnonsense=1\n\n"), "errno=-22\n");
    assert_eq!(pair.a.status().peers.len(), 1, "a request that is not understood changes nothing");
    assert_eq!(pair.a.uapi("make=1\n\n"), "errno=-22\n");
    let answer = pair.a.uapi("get=1\n\n");
    assert!(answer.starts_with("private_key=") && answer.ends_with("errno=0\n"), "{answer}");
    let taken = pair.left.netns.run(|| std::net::UdpSocket::bind("0.0.0.0:4000").unwrap()).unwrap();
    assert_eq!(pair.a.uapi("set=1\nlisten_port=4000\nreplace_peers=true\n\n"), "errno=-98\n");
    assert_eq!((pair.a.status().listen_port, pair.a.status().peers.len()), (51820, 1));
    drop(taken);
}

#[test]
fn the_socket_is_for_root_alone_and_goes_with_its_device() {
    let (left, _right) = two_hosts();
    let a = Node::new(&left);
    a.ensure(&a.plan(&["10.77.0.1/24"])).unwrap();
    let socket = a.uapi_dir.join(format!("{DEVICE}.sock"));
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&socket), mode(&a.uapi_dir)), (0o600, 0o700));
    a.with_backend(|runtime, backend| {
        use overlayd_core::contract::OverlayBackend;
        let name = overlayd_core::names::LinkName::new(DEVICE).unwrap();
        runtime.block_on(backend.remove_device(&name)).unwrap();
    });
    assert!(!socket.exists());
}

#[test]
fn a_socket_that_somebody_listens_on_is_a_conflict_and_a_stale_one_is_not() {
    let (left, _right) = two_hosts();
    let a = Node::new(&left);
    std::fs::create_dir_all(&a.uapi_dir).unwrap();
    let socket = a.uapi_dir.join(format!("{DEVICE}.sock"));
    let listener = UnixListener::bind(&socket).unwrap();
    assert_eq!(a.ensure(&a.plan(&["10.77.0.1/24"])).unwrap_err().code(), "conflict");
    assert!(left.rtnl.link(DEVICE).unwrap().is_none());
    drop(listener);
    a.ensure(&a.plan(&["10.77.0.1/24"])).unwrap();
    assert!(uapi(&socket, "get=1\n\n").ends_with("errno=0\n"));
}

#[test]
fn a_client_that_says_nothing_keeps_nobody_waiting() {
    let (left, _right) = two_hosts();
    let a = Node::new(&left);
    a.ensure(&a.plan(&["10.77.0.1/24"])).unwrap();
    let socket = a.uapi_dir.join(format!("{DEVICE}.sock"));
    let silent: Vec<_> = (0..8).map(|_| std::os::unix::net::UnixStream::connect(&socket).unwrap()).collect();
    assert!(a.uapi("get=1\n\n").ends_with("errno=0\n"));
    drop(silent);
    eventually("the device can still be set", || {
        a.set(peer(overlayd_core::keys::PrivateKey::generate().public_key(), "", &[]));
        true
    });
}
