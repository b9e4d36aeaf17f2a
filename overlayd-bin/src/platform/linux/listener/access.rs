//! Who may use the socket, by what the kernel says about the peer.

use std::{collections::BTreeSet, io};

use nix::unistd::Group;
use overlayd_core::ipc::CallerIdentity;
use tokio::net::UnixStream;

use super::peer_groups::peer_groups;

/// Who may use the socket: root, the daemon's own user, and members of one group.
#[derive(Debug, Clone)]
pub(super) struct AccessPolicy {
    pub(super) own_uid: u32,
    group: Option<AdmittedGroup>,
}

/// The group whose members may use the socket.
#[derive(Debug, Clone, PartialEq, Eq)]
struct AdmittedGroup {
    name: String,
    gid: u32,
}

/// A peer as the kernel knows it.
#[derive(Debug)]
pub(super) struct PeerCredentials {
    pub(super) identity: CallerIdentity,
    uid: u32,
    /// Primary and supplementary, at the time it connected.
    groups: BTreeSet<u32>,
}

impl AccessPolicy {
    /// Reads the group's id. A group that does not exist admits no one.
    pub(super) fn new(group: Option<&str>) -> io::Result<Self> {
        let group = match group {
            Some(name) => find_group(name)?,
            None => None,
        };
        Ok(Self { own_uid: rustix::process::geteuid().as_raw(), group })
    }

    /// The group's id, where it exists.
    pub(super) fn gid(&self) -> Option<u32> {
        self.group.as_ref().map(|group| group.gid)
    }

    /// Why `peer` may not use the socket, if so, in words that go back to it.
    pub(super) fn refusal(&self, peer: &PeerCredentials) -> Option<String> {
        let member = self.gid().is_some_and(|gid| peer.groups.contains(&gid));
        if peer.uid == 0 || peer.uid == self.own_uid || member {
            return None;
        }
        let admitted = match &self.group {
            Some(group) => format!("root, uid {} and members of group `{}`", self.own_uid, group.name),
            None => format!("root and uid {}", self.own_uid),
        };
        Some(format!("not allowed: {} may not use this daemon; {admitted} may", peer.identity))
    }
}

impl PeerCredentials {
    /// What the kernel recorded when the peer connected.
    pub(super) fn of(stream: &UnixStream) -> io::Result<Self> {
        let credentials = stream.peer_cred()?;
        let uid = credentials.uid();
        let gid = credentials.gid();
        // The option lists supplementary groups only, and the primary group counts for access as well.
        let mut groups: BTreeSet<u32> = peer_groups(stream)?.into_iter().collect();
        groups.insert(gid);
        Ok(Self { identity: CallerIdentity::Unix { uid, gid, pid: credentials.pid().unwrap_or(0) }, uid, groups })
    }
}

/// Looks a group up by name.
fn find_group(name: &str) -> io::Result<Option<AdmittedGroup>> {
    let found = Group::from_name(name)?;
    if found.is_none() {
        tracing::debug!(group = name, "the group does not exist; only root and the daemon's own user are admitted");
    }
    Ok(found.map(|group| AdmittedGroup { name: group.name, gid: group.gid.as_raw() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(uid: u32, groups: &[u32]) -> PeerCredentials {
        let identity = CallerIdentity::Unix { uid, gid: groups[0], pid: 42 };
        PeerCredentials { identity, uid, groups: groups.iter().copied().collect() }
    }

    #[test]
    fn root_the_own_user_and_members_are_admitted_and_nobody_else() {
        let members = AdmittedGroup { name: "zlayer".to_owned(), gid: 990 };
        let access = AccessPolicy { own_uid: 500, group: Some(members) };
        for admitted in [peer(0, &[0]), peer(500, &[500]), peer(1000, &[990]), peer(1000, &[1000, 7, 990])] {
            assert_eq!(access.refusal(&admitted), None, "{admitted:?}");
        }
        let refusal = access.refusal(&peer(1000, &[1000, 7])).unwrap();
        assert!(refusal.contains("uid 1000") && refusal.contains("pid 42") && refusal.contains("zlayer"), "{refusal}");
    }

    #[test]
    fn without_the_group_only_root_and_the_own_user_are_admitted() {
        let access = AccessPolicy { own_uid: 500, ..AccessPolicy::new(Some("no-such-group-here")).unwrap() };
        assert!(access.refusal(&peer(1000, &[990])).is_some());
        assert!(access.refusal(&peer(500, &[500])).is_none());
    }
}
