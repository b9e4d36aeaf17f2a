//! Rules of others that may stop what ours let pass: an accept of ours does not overrule a drop of another table.

use overlayd_core::contract;
use overlayd_netlink::nft::{Barrier, Hook, Loss};

use super::{Elements, Rules};
use crate::error::host;

/// Where the kernel names the tables of iptables that are not nftables, which cannot be looked into this way.
const LEGACY: [(&str, &str); 2] = [
    ("iptables-legacy", "/proc/thread-self/net/ip_tables_names"),
    ("ip6tables-legacy", "/proc/thread-self/net/ip6_tables_names"),
];

/// What was found, and in which generation of the ruleset.
#[derive(Debug, Default)]
pub(super) struct Found {
    generation: Option<u32>,
    words: Vec<String>,
}

impl Rules {
    /// What may stop our packets, in words; nothing while there are no networks.
    pub(crate) fn obstacles(&mut self) -> contract::Result<Vec<String>> {
        if self.elements == Elements::default() {
            return Ok(Vec::new());
        }
        let generation = Some(self.nft.generation().map_err(host)?);
        if self.obstacles.generation != generation {
            let interfaces: Vec<String> = self.elements.bridges.union(&self.elements.overlays).cloned().collect();
            let barriers = self.nft.barriers(&self.names.table, &interfaces).map_err(host)?;
            self.obstacles = Found { generation, words: barriers.iter().map(in_words).collect() };
        }
        let legacy = self.netns.run(legacy).map_err(host)?;
        Ok(self.obstacles.words.iter().cloned().chain(legacy).collect())
    }
}

fn in_words(barrier: &Barrier) -> String {
    let Barrier { family, table, chain, hook, how } = barrier;
    let what = match hook {
        Hook::Input => "what is for this host",
        Hook::Forward => "what this host passes on",
    };
    let how = match how {
        Loss::Policy => "by its policy",
        Loss::Rule => "by a rule for everything",
    };
    format!("nftables table {family} {table}, chain {chain}: drops {what} {how}")
}

/// Filters of iptables proper. A kernel that has none has no such file, or an empty one.
fn legacy() -> Vec<String> {
    let filters =
        |path: &str| std::fs::read_to_string(path).is_ok_and(|names| names.lines().any(|name| name == "filter"));
    let found = LEGACY.into_iter().filter(|(_, path)| filters(path));
    found.map(|(program, _)| format!("{program}, table filter: what it drops cannot be seen from here")).collect()
}
