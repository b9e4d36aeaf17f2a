//! The `[dns]` table of the configuration.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use anyhow::{Result, ensure};
use overlayd_core::{
    contract::Upstreams,
    plan::{DnsConfig, DnsListen, ServeDns, ServiceNames},
};
use serde::Deserialize;

/// How names are answered; each key is explained in docs/operations.md.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct DnsSettings {
    serve: ServePolicy,
    port: Option<u16>,
    listen: Vec<AddressWithPort>,
    zones: BTreeSet<String>,
    service_names: ServiceNamePolicy,
    ttl_secs: Option<u32>,
    upstreams: Option<Vec<AddressWithPort>>,
    resolv_conf: Option<Vec<PathBuf>>,
    split: BTreeMap<String, Vec<AddressWithPort>>,
    cache_bytes: Option<usize>,
}

/// `ADDRESS:PORT`. The port has no default: a server that was meant for another one would be asked at 53.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
struct AddressWithPort(SocketAddr);

impl TryFrom<String> for AddressWithPort {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match (text.parse(), text.parse()) {
            (Ok(socket), _) => Ok(Self(socket)),
            (_, Ok(IpAddr::V4(address))) => Err(format!("`{text}` has no port: write {address}:53")),
            (_, Ok(IpAddr::V6(address))) => Err(format!("`{text}` has no port: write [{address}]:53")),
            _ => Err(format!("`{text}` is no address with port, such as 192.0.2.53:53 or [2001:db8::53]:53")),
        }
    }
}

fn sockets(named: &[AddressWithPort]) -> Vec<SocketAddr> {
    named.iter().map(|AddressWithPort(socket)| *socket).collect()
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum ServePolicy {
    #[default]
    OnceRegistered,
    Always,
    Never,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum ServiceNamePolicy {
    #[default]
    Off,
    Attached,
}

/// Where a Linux host names its own servers. The second file has those behind the stub of systemd-resolved that the first
/// may name.
const HOST_SERVERS: [&str; 2] = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];

impl DnsSettings {
    /// Refuses what no plan could be made of.
    pub(super) fn check(&self) -> Result<()> {
        ensure!(self.port != Some(0), "dns.port must be at least 1");
        ensure!(self.port.is_none() || self.listen.is_empty(), "dns.port and dns.listen exclude each other");
        ensure!(
            self.upstreams.is_none() || self.resolv_conf.is_none(),
            "dns.upstreams and dns.resolv_conf exclude each other"
        );
        ensure!(
            self.ttl_secs.is_none_or(|secs| i32::try_from(secs).is_ok()),
            "dns.ttl_secs must be at most {}",
            i32::MAX
        );
        if let Some(socket) =
            sockets(&self.listen).iter().find(|socket| socket.ip().is_unspecified() || socket.port() == 0)
        {
            anyhow::bail!("dns.listen: {socket} cannot be listened on: name an address and a port");
        }
        if let Some(zone) = self.zones.iter().chain(self.split.keys()).find(|zone| !is_name(zone)) {
            anyhow::bail!("dns: `{zone}` is no lowercase name without final dot");
        }
        Ok(())
    }

    /// What the engine is told.
    pub(crate) fn config(&self) -> DnsConfig {
        let usual = DnsConfig::default();
        let upstreams = match (&self.upstreams, &self.resolv_conf) {
            (Some(servers), _) if servers.is_empty() => Upstreams::None,
            (Some(servers), _) => Upstreams::Servers(sockets(servers)),
            (None, Some(files)) => Upstreams::ResolvConf(files.clone()),
            (None, None) => Upstreams::ResolvConf(HOST_SERVERS.map(PathBuf::from).to_vec()),
        };
        let listen = match (self.port, self.listen.as_slice()) {
            (Some(port), _) => DnsListen::Node(port),
            (None, []) => usual.listen,
            (None, listen) => DnsListen::Sockets(sockets(listen)),
        };
        DnsConfig {
            serve: match self.serve {
                ServePolicy::OnceRegistered => ServeDns::OnceRegistered,
                ServePolicy::Always => ServeDns::Always,
                ServePolicy::Never => ServeDns::Never,
            },
            listen,
            zones: self.zones.clone(),
            service_names: match self.service_names {
                ServiceNamePolicy::Off => ServiceNames::Off,
                ServiceNamePolicy::Attached => ServiceNames::Attached,
            },
            ttl: self.ttl_secs.map_or(usual.ttl, |secs| Duration::from_secs(secs.into())),
            upstreams,
            split: self.split.iter().map(|(zone, servers)| (zone.clone(), sockets(servers))).collect(),
            cache_bytes: self.cache_bytes.unwrap_or(usual.cache_bytes),
        }
    }
}

fn is_name(text: &str) -> bool {
    // The longest name in text form; on the wire it takes two bytes more (RFC 1035, section 2.3.4).
    text.len() <= 253 && text.split('.').all(is_label)
}

fn is_label(text: &str) -> bool {
    // Capitals would never match: names are compared in lower case.
    let mut bytes = text.bytes();
    (1..=63).contains(&text.len())
        && bytes.all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<DnsConfig> {
        let dns: DnsSettings = toml::from_str(text)?;
        dns.check()?;
        Ok(dns.config())
    }

    #[test]
    fn without_a_table_the_defaults_hold() {
        let upstreams = Upstreams::ResolvConf(HOST_SERVERS.map(PathBuf::from).to_vec());
        assert_eq!(parsed("").unwrap(), DnsConfig { upstreams, ..DnsConfig::default() });
    }

    #[test]
    fn every_key_is_heard() {
        let config = parsed(
            "serve = \"always\"\nport = 5353\nzones = [\"zlayer.local\"]\nservice_names = \"attached\"\nttl_secs = 30\nupstreams = []\n\
             cache_bytes = 0\n[split]\n\"corp.example\" = [\"10.0.0.53:53\"]\n",
        )
        .unwrap();
        let expected = DnsConfig {
            serve: ServeDns::Always,
            listen: DnsListen::Node(5353),
            zones: BTreeSet::from(["zlayer.local".to_owned()]),
            service_names: ServiceNames::Attached,
            ttl: Duration::from_secs(30),
            upstreams: Upstreams::None,
            split: BTreeMap::from([("corp.example".to_owned(), vec!["10.0.0.53:53".parse().unwrap()])]),
            cache_bytes: 0,
        };
        assert_eq!(config, expected);
    }

    #[test]
    fn a_server_without_a_port_is_shown_how_it_is_written() {
        let error = parsed("upstreams = [\"192.0.2.53\"]").unwrap_err().to_string();
        assert!(error.contains("192.0.2.53:53") && error.contains("line 1"), "{error}");
        let error = parsed("listen = [\"2001:db8::53\"]").unwrap_err().to_string();
        assert!(error.contains("[2001:db8::53]:53"), "{error}");
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        for bad in [
            "port = 0",
            "ttl_secs = 2147483648",
            "port = 53\nlisten = [\"10.0.0.1:53\"]",
            "listen = [\"0.0.0.0:53\"]",
            "upstreams = []\nresolv_conf = []",
            "zones = [\"Atlas.local\"]",
            "zones = [\"atlas.local.\"]",
            "serve = \"sometimes\"",
            "service_names = true",
        ] {
            assert!(parsed(bad).is_err(), "{bad}");
        }
    }
}
