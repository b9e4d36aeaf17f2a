//! Which upstreams to ask: those of the plan, or those that the host's resolver files name now.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    sync::{Arc, Mutex},
    time::{Duration, Instant, SystemTime},
};

use overlayd_core::{contract::Upstreams, sync::lock};

use crate::platform::interface_index;

/// Port of name servers.
const PORT: u16 = 53;
/// Most servers taken from a file.
const MAX_SERVERS: usize = 8;
/// How often the files are looked at, at most.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Where systemd-resolved listens; it asks the servers that its own file names, and we may be one of them.
const STUBS: [Ipv4Addr; 2] = [Ipv4Addr::new(127, 0, 0, 53), Ipv4Addr::new(127, 0, 0, 54)];

/// Where the servers to ask come from.
#[derive(Debug)]
pub(crate) struct UpstreamServers {
    files: Vec<PathBuf>,
    own: Vec<SocketAddr>,
    known: Mutex<KnownServers>,
}

#[derive(Debug)]
struct KnownServers {
    servers: Arc<[SocketAddr]>,
    /// The one that answered last.
    good: Option<SocketAddr>,
    /// What the files looked like, and when they were looked at.
    seen: Option<(Instant, Vec<FileStamp>)>,
}

/// What tells one version of a file from the next; `None` for an absent file.
type FileStamp = Option<(SystemTime, u64)>;

impl UpstreamServers {
    pub(crate) fn new(upstreams: &Upstreams, own: &[SocketAddr]) -> Self {
        let (servers, files) = match upstreams {
            Upstreams::None => (Vec::new(), Vec::new()),
            Upstreams::Servers(servers) => (servers.clone(), Vec::new()),
            Upstreams::ResolvConf(files) => (Vec::new(), files.clone()),
        };
        let servers = others(servers, own).into();
        Self { files, own: own.to_vec(), known: Mutex::new(KnownServers { servers, good: None, seen: None }) }
    }

    /// The servers to ask now, and whether they are other ones than the last time.
    pub(crate) fn servers(&self, now: Instant) -> (Arc<[SocketAddr]>, bool) {
        let mut known = lock(&self.known);
        let fresh = known.seen.as_ref().is_some_and(|(at, _)| now.saturating_duration_since(*at) < LOOK_INTERVAL);
        if self.files.is_empty() || fresh {
            return (Arc::clone(&known.servers), false);
        }
        let stamps: Vec<FileStamp> = self.files.iter().map(stamp).collect();
        let same = known.seen.as_ref().is_some_and(|(_, seen)| *seen == stamps);
        known.seen = Some((now, stamps));
        if same {
            return (Arc::clone(&known.servers), false);
        }
        let servers = self.read();
        let changed = *known.servers != *servers;
        if changed {
            tracing::info!(?servers, "upstream name servers");
            known.servers = servers.into();
        }
        (Arc::clone(&known.servers), changed)
    }

    /// The server that answered last.
    pub(crate) fn good(&self) -> Option<SocketAddr> {
        lock(&self.known).good
    }

    pub(crate) fn answered(&self, server: SocketAddr) {
        lock(&self.known).good = Some(server);
    }

    /// The servers of the first file that names any but stubs, else the first stubs.
    fn read(&self) -> Vec<SocketAddr> {
        let mut stubs = Vec::new();
        for file in &self.files {
            let text = match fs::read_to_string(file) {
                Ok(text) => text,
                Err(error) => {
                    tracing::debug!(file = %file.display(), %error, "no upstreams from here");
                    continue;
                }
            };
            let (stub, real): (Vec<_>, Vec<_>) = others(parse(&text), &self.own).into_iter().partition(is_stub);
            if !real.is_empty() {
                return real;
            }
            if stubs.is_empty() {
                stubs = stub;
            }
        }
        stubs
    }
}

/// The servers but ourselves; a wildcard means this host (as the resolvers of libc read it).
fn others(servers: Vec<SocketAddr>, own: &[SocketAddr]) -> Vec<SocketAddr> {
    let mut others: Vec<SocketAddr> = servers.into_iter().map(on_this_host).collect();
    // A query to ourselves would come back as a question, and go round until it times out.
    others.retain(|server| !own.iter().any(|own| (own.ip(), own.port()) == (server.ip(), server.port())));
    others.truncate(MAX_SERVERS);
    others
}

fn on_this_host(server: SocketAddr) -> SocketAddr {
    match server.ip() {
        ip if !ip.is_unspecified() => server,
        IpAddr::V4(_) => (Ipv4Addr::LOCALHOST, server.port()).into(),
        IpAddr::V6(_) => (Ipv6Addr::LOCALHOST, server.port()).into(),
    }
}

fn is_stub(server: &SocketAddr) -> bool {
    STUBS.iter().any(|stub| server.ip() == IpAddr::V4(*stub))
}

fn stamp(file: &PathBuf) -> FileStamp {
    // An unreadable file is reported where it is read.
    let meta = fs::metadata(file).ok()?;
    Some((meta.modified().ok()?, meta.len()))
}

/// The `nameserver` lines of `resolv.conf(5)`.
fn parse(text: &str) -> Vec<SocketAddr> {
    let lines = text.lines().map(str::split_whitespace);
    lines
        .filter_map(|mut words| words.next().filter(|word| *word == "nameserver").and(words.next()))
        .filter_map(server)
        .collect()
}

/// An address, of IPv6 perhaps with the number of its interface behind `%`.
fn server(text: &str) -> Option<SocketAddr> {
    match text.split_once('%') {
        None => text.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, PORT)),
        Some((ip, scope)) => {
            let scope = scope.parse().ok().or_else(|| interface_index(scope))?;
            Some(std::net::SocketAddrV6::new(ip.parse().ok()?, PORT, 0, scope).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn the_lines_of_a_resolv_conf_name_servers() {
        let text = "# nameserver 192.0.2.9\nsearch example.net\nnameserver 192.0.2.1\nnameserver\t2001:db8::1 \n\
                    nameserver fe80::1%7\nnameserver nonsense\noptions edns0\n";
        assert_eq!(parse(text), servers(&["192.0.2.1:53", "[2001:db8::1]:53", "[fe80::1%7]:53"]));
    }

    #[test]
    fn changes_of_a_file_are_followed() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("resolv.conf");
        let source = UpstreamServers::new(&Upstreams::ResolvConf(vec![file.clone()]), &[]);
        let mut now = Instant::now();
        assert_eq!(source.servers(now), (servers(&[]).into(), false));
        for text in ["192.0.2.1", "192.0.2.10", "192.0.2.100"] {
            // Resolvers' files are replaced rather than written in place.
            let new = directory.path().join("new");
            fs::write(&new, format!("nameserver {text}\n")).unwrap();
            fs::rename(&new, &file).unwrap();
            now += LOOK_INTERVAL;
            assert_eq!(source.servers(now), (servers(&[&format!("{text}:53")]).into(), true));
            assert_eq!(source.servers(now), (servers(&[&format!("{text}:53")]).into(), false));
        }
    }

    #[test]
    fn neither_we_nor_a_stub_are_asked_while_there_are_others() {
        let directory = tempfile::tempdir().unwrap();
        let (stub, real) = (directory.path().join("stub"), directory.path().join("real"));
        fs::write(&stub, "nameserver 10.77.4.1\nnameserver 127.0.0.53\n").unwrap();
        let files = Upstreams::ResolvConf(vec![stub, real.clone()]);
        let own = servers(&["10.77.4.1:53"]);
        let found = || UpstreamServers::new(&files, &own).servers(Instant::now()).0.to_vec();
        assert_eq!(found(), servers(&["127.0.0.53:53"]));
        fs::write(&real, "nameserver 10.77.4.1\nnameserver 192.0.2.1\n").unwrap();
        assert_eq!(found(), servers(&["192.0.2.1:53"]));
        fs::write(&real, "nameserver 0.0.0.0\n").unwrap();
        assert_eq!(found(), servers(&["127.0.0.1:53"]));
    }
}
