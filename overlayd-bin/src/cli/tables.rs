//! Replies as tables for people.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use comfy_table::{Table, presets::NOTHING};
use overlayd_core::protocol::{
    DedicatedServiceStatus, EdgePeerStatus, OverlayMode, PeerStatus, ServiceStatus, StatusSnapshot,
};

/// The node, its peers and its services.
pub(crate) fn status(status: &StatusSnapshot, now: SystemTime) -> String {
    let mut node = Table::new();
    node.load_preset(NOTHING);
    node.add_row(["interface", &or_dash(&status.interface)]);
    node.add_row(["address", &or_dash(&status.node_ip.map(|ip| ip.to_string()))]);
    node.add_row(["public key", &or_dash(&status.public_key)]);
    // Without an overlay the snapshot carries the range that the next one would get.
    let cluster = status.interface.as_ref().and(status.overlay_cidr.clone());
    node.add_row(["cluster", &or_dash(&cluster)]);
    node.add_row(["slice", &or_dash(&status.slice_cidr)]);
    node.add_row(["peers", &status.peer_count.to_string()]);
    node.add_row(["services", &status.service_count.to_string()]);
    let mut parts = vec![trimmed(&node)];
    let notes = notes(status);
    if !notes.is_empty() {
        parts.push(notes.join("\n"));
    }
    if !status.peers.is_empty() {
        parts.push(peers(&status.peers, now));
    }
    if !status.services.is_empty() {
        parts.push(services(&status.services));
    }
    if !status.dedicated_services.is_empty() {
        parts.push(dedicated(&status.dedicated_services));
    }
    parts.join("\n\n")
}

/// What an operator should know, each with what to do about it. A daemon of an earlier release sends obstacles alone.
fn notes(status: &StatusSnapshot) -> Vec<String> {
    if status.findings.is_empty() {
        return status.obstacles.iter().map(|obstacle| format!("warning: {obstacle}")).collect();
    }
    let notes = status.findings.iter();
    notes.map(|finding| format!("{}: {}\n  {}", finding.severity, finding.text, finding.remedy)).collect()
}

fn or_dash(value: &Option<String>) -> String {
    value.clone().unwrap_or_else(|| "-".into())
}

/// One line a peer.
pub(super) fn peers(peers: &[PeerStatus], now: SystemTime) -> String {
    let mut table = headed(["PEER", "ENDPOINT", "LAST HANDSHAKE", "ALLOWED IPS"]);
    for peer in peers {
        let endpoint = if peer.endpoint.is_empty() { "-" } else { &peer.endpoint };
        let handshake = since(peer.last_handshake_unix_secs, now);
        table.add_row([&peer.public_key, endpoint, &handshake, &peer.allowed_ips]);
    }
    trimmed(&table)
}

/// One line an edge peer.
pub(super) fn edges(edges: &[EdgePeerStatus], now: SystemTime) -> String {
    let mut table = headed(["EDGE", "ADDRESS", "EXPIRES IN", "LAST HANDSHAKE", "MAY REACH"]);
    let now_secs = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    for edge in edges {
        let left = format!("{} s", edge.expires_at_unix.saturating_sub(now_secs));
        let handshake = since(edge.last_handshake_unix_secs.unwrap_or(0), now);
        let allowed = if edge.allowed.is_empty() { "everything".into() } else { edge.allowed.join(",") };
        table.add_row([edge.name.clone(), edge.overlay_ip.to_string(), left, handshake, allowed]);
    }
    trimmed(&table)
}

/// One line a service.
pub(super) fn services(services: &[ServiceStatus]) -> String {
    let mut table = headed(["SERVICE", "MODE", "NETWORK", "SUBNET", "CONTAINERS"]);
    for service in services {
        let containers = service.attachments.to_string();
        table.add_row([&service.service, mode(service.mode), &service.name, &or_dash(&service.subnet), &containers]);
    }
    trimmed(&table)
}

/// One line a service with a device of its own.
pub(super) fn dedicated(services: &[DedicatedServiceStatus]) -> String {
    let mut table = headed(["DEDICATED", "INTERFACE", "PORT", "ADDRESS", "SUBNET", "PEERS", "PUBLIC KEY"]);
    for service in services {
        table.add_row([
            service.service.clone(),
            service.interface.clone(),
            service.listen_port.to_string(),
            service.overlay_ip.to_string(),
            service.subnet.clone(),
            service.peer_count.to_string(),
            service.public_key.clone(),
        ]);
    }
    trimmed(&table)
}

fn headed<const N: usize>(titles: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_preset(NOTHING).set_header(titles);
    table
}

/// The table without the blanks its cells are padded with at both ends of a line.
fn trimmed(table: &Table) -> String {
    table.lines().map(|line| line.trim().to_owned()).collect::<Vec<_>>().join("\n")
}

fn mode(mode: OverlayMode) -> &'static str {
    match mode {
        OverlayMode::Auto => "auto",
        OverlayMode::Shared => "shared",
        OverlayMode::Dedicated => "dedicated",
        OverlayMode::Isolated => "isolated",
    }
}

/// How long ago `unix_secs` was; 0 is never.
fn since(unix_secs: i64, now: SystemTime) -> String {
    let Some(at) = u64::try_from(unix_secs).ok().filter(|secs| *secs > 0) else { return "never".into() };
    let ago = now.duration_since(UNIX_EPOCH + Duration::from_secs(at)).unwrap_or_default().as_secs();
    match ago {
        0..60 => format!("{ago} s ago"),
        60..3600 => format!("{} min ago", ago / 60),
        3600..86400 => format!("{} h ago", ago / 3600),
        _ => format!("{} days ago", ago / 86400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(secs)
    }

    #[test]
    fn a_peer_that_never_spoke_is_shown_as_such() {
        let peer = PeerStatus {
            public_key: "KEY".into(),
            endpoint: String::new(),
            allowed_ips: "10.0.0.0/26".into(),
            last_handshake_unix_secs: 0,
        };
        let shown = peers(&[peer], at(5));
        let lines: Vec<_> = shown
            .lines()
            .map(|line| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()))
            .map(Vec::from_iter)
            .collect();
        assert_eq!(lines[0], ["PEER", "ENDPOINT", "LAST HANDSHAKE", "ALLOWED IPS"]);
        assert_eq!(lines[1], ["KEY", "-", "never", "10.0.0.0/26"]);
    }

    #[test]
    fn the_age_of_a_handshake_is_told_in_the_unit_that_fits() {
        let ages = [(100, "5 s ago"), (45, "1 min ago")];
        for (then, text) in ages {
            assert_eq!(since(then, at(105)), text);
        }
        assert_eq!(since(1, at(8000)), "2 h ago");
        assert_eq!(since(1, at(200_000)), "2 days ago");
        assert_eq!(since(300, at(105)), "0 s ago", "a clock that runs ahead");
    }

    #[test]
    fn a_node_without_an_overlay_shows_dashes() {
        let shown = status(&StatusSnapshot::default(), at(0));
        let first: Vec<_> = shown.lines().next().unwrap().split_whitespace().collect();
        assert_eq!(first, ["interface", "-"]);
        assert!(!shown.contains("PEER"));
    }
}
