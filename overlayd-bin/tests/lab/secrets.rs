//! No private key leaves the daemon but in the one reply that hands it out.
//!
//! ```text
//!   a container, a guest, an edge ── host 0 (overlayd, every line of its log) ════ a peer that never speaks
//! ```

use std::{
    fmt::Write as _,
    fs,
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
};

use overlayd_core::{
    keys::PrivateKey,
    protocol::{AttachHandle, Frame, OverlayMode, PeerScope, PeerSpec, Request, Response},
};
use overlayd_testkit::{
    lab::{self, Host, LabCluster, Underlay},
    requests::{attach, process},
};

use crate::container;

/// A key and where it came from.
struct Secret {
    owner: String,
    key: PrivateKey,
}

impl Secret {
    fn new(owner: &str, base64: &str) -> Self {
        Self { owner: owner.to_owned(), key: PrivateKey::from_base64(base64.trim()).expect("a private key") }
    }

    /// The ways a key gets written: base64 of both alphabets, hexadecimal digits, a list of numbers.
    fn spellings(&self) -> [String; 4] {
        let base64 = self.key.reveal_base64().trim_end_matches('=').to_owned();
        let hex = self.key.as_bytes().iter().fold(String::new(), |mut hex, byte| {
            write!(hex, "{byte:02x}").expect("a string takes all");
            hex
        });
        let url_safe = base64.replace('+', "-").replace('/', "_");
        let numbers = format!("{:?}", &self.key.as_bytes()[..8]).replace(['[', ']'], "");
        [base64, url_safe, hex, numbers]
    }

    fn is_in(&self, text: &str) -> bool {
        self.spellings().iter().any(|spelling| text.contains(spelling.as_str()))
    }
}

#[test]
fn no_log_line_and_no_other_reply_holds_a_private_key() {
    if !lab::available() {
        return;
    }
    let mut lab = crate::lab(1, &Underlay::default());
    let host = &mut lab.hosts[0];
    host.log_filter = Some("trace".into());
    host.start();
    let container = container();
    let (secrets, replies) = a_day(host, container.pid());
    let secrets: Vec<Secret> = secrets.into_iter().chain(stored(host)).collect();
    let log = host.log();
    host.terminate();
    let owners: Vec<&str> = secrets.iter().map(|secret| secret.owner.as_str()).collect();
    assert!(owners.len() >= 4 && owners.contains(&"node.key"), "{owners:?}");
    assert!(log.contains("TRACE") || log.contains("DEBUG"), "every line was logged");
    for secret in &secrets {
        let found = log.lines().find(|line| secret.is_in(line));
        assert_eq!(found, None, "the log holds the key of {}", secret.owner);
        let found = replies.iter().find(|reply| secret.is_in(reply));
        assert_eq!(found, None, "a reply holds the key of {}", secret.owner);
    }
}

/// Everything that has to do with keys. Returns the keys that were handed out, and all other replies as they came.
fn a_day(host: &Host, pid: u32) -> (Vec<Secret>, Vec<String>) {
    let mut wire = Wire(UnixStream::connect(host.socket()).expect("the daemon answers"));
    let (mut secrets, mut replies) = (Vec::new(), Vec::new());
    for request in requests(pid) {
        let (text, response) = wire.ask(request);
        match response {
            Response::GuestConfig(config) => secrets.push(Secret::new("the guest", config.private_key.reveal())),
            Response::EdgeConfig(config) => secrets.push(Secret::new("the edge", config.private_key.reveal())),
            _ => replies.push(text),
        }
    }
    (secrets, replies)
}

/// The keys in the daemon's files.
fn stored(host: &Host) -> Vec<Secret> {
    let files = fs::read_dir(host.data_dir().join("overlayd/keys")).expect("a directory of keys");
    let secret = |file: fs::DirEntry| {
        let name = file.file_name().into_string().expect("a name in UTF-8");
        Secret::new(&name, &fs::read_to_string(file.path()).expect("a key"))
    };
    files.map(|file| secret(file.expect("an entry"))).collect()
}

fn requests(pid: u32) -> Vec<Request> {
    let mint = Request::MintEdgePeer {
        name: "laptop".into(),
        ttl_secs: 600,
        allow: Vec::new(),
        node_endpoint: "192.0.2.1:51820".into(),
    };
    let guest = AttachHandle::GuestManaged { id: "vm-1".into() };
    let again = [Request::Status, Request::NatStatus, Request::ListEdgePeers];
    let mut requests = vec![
        Request::SetLocalNodeId { node_id: 0 },
        LabCluster::V4.setup(0),
        Request::SetupServiceOverlay { service: "web".into(), mode: OverlayMode::Auto },
        Request::SetupServiceOverlay { service: "ledger".into(), mode: OverlayMode::Dedicated },
        Request::AttachContainer(attach(process(pid), "web")),
        Request::AttachContainer(attach(guest.clone(), "web")),
        mint.clone(),
        mint,
        peer("10.77.240.0/26", PeerScope::Global),
        peer("10.77.241.0/26", PeerScope::Service { service: "ledger".into() }),
        peer("no range", PeerScope::Global),
    ];
    requests.extend(again.clone());
    requests.extend([
        Request::RevokeEdgePeer { name: "laptop".into() },
        Request::DetachContainer { handle: guest },
        Request::DetachContainer { handle: process(pid) },
    ]);
    requests.extend(again);
    requests
}

fn peer(range: &str, scope: PeerScope) -> Request {
    let peer = PeerSpec {
        public_key: PrivateKey::generate().public_key().to_base64(),
        endpoint: "192.0.2.200:51820".into(),
        allowed_ips: range.into(),
        persistent_keepalive_secs: 25,
        candidates: Vec::new(),
    };
    Request::AddPeer { peer, scope }
}

/// A connection that shows replies as they came: what a decoder drops would hide a leak.
struct Wire(UnixStream);

impl Wire {
    fn ask(&mut self, request: Request) -> (String, Response) {
        let body = Frame::Request { id: 1, request }.encode().expect("a request can be written");
        self.0.write_all(&u32::try_from(body.len()).expect("a short request").to_le_bytes()).expect("sent");
        self.0.write_all(&body).expect("sent");
        loop {
            let mut length = [0; 4];
            self.0.read_exact(&mut length).expect("a reply");
            let mut body = vec![0; u32::from_le_bytes(length) as usize];
            self.0.read_exact(&mut body).expect("a whole reply");
            if let Frame::Response { response, .. } = Frame::decode(&body).expect("a frame") {
                return (String::from_utf8(body).expect("JSON"), response);
            }
        }
    }
}
