//! Rules of other programs that may drop what this daemon accepts: in nftables an accept ends one base chain, a drop ends
//! all of them.

use overlayd_core::contract::{self, Finding, FindingCode, FindingSubject, Severity};
use overlayd_netlink::nft::{Barrier, Hook, Loss};

use super::{NetworkElements, NftRules};

/// Where the kernel names the tables of iptables that are not nftables, which cannot be looked into this way.
const LEGACY: [(&str, &str); 2] = [
    ("iptables-legacy", "/proc/thread-self/net/ip_tables_names"),
    ("ip6tables-legacy", "/proc/thread-self/net/ip6_tables_names"),
];

/// What was found, and in which generation of the ruleset.
#[derive(Debug, Default)]
pub(super) struct KnownBarriers {
    generation: Option<u32>,
    findings: Vec<Finding>,
}

impl NftRules {
    /// What may stop our packets; nothing while there are no networks.
    pub(crate) fn obstacles(&mut self) -> contract::Result<Vec<Finding>> {
        if self.elements == NetworkElements::default() {
            return Ok(Vec::new());
        }
        let generation = Some(self.nft.generation()?);
        if self.obstacles.generation != generation {
            let interfaces: Vec<String> = self.elements.bridges.union(&self.elements.overlays).cloned().collect();
            let barriers = self.nft.barriers(&self.names.table, &interfaces)?;
            self.obstacles = KnownBarriers { generation, findings: barriers.iter().map(drops).collect() };
        }
        let legacy = self.netns.run(legacy)?;
        Ok(self.obstacles.findings.iter().cloned().chain(legacy).collect())
    }
}

fn drops(barrier: &Barrier) -> Finding {
    let Barrier { family, table, chain, hook, how } = barrier;
    let packets = match hook {
        Hook::Input => "what is for this host",
        Hook::Forward => "what this host passes on",
    };
    let by = match how {
        Loss::Policy => "by its policy",
        Loss::Rule => "by a rule for everything",
    };
    Finding {
        code: FindingCode::ForeignRulesDrop,
        severity: Severity::Warning,
        subject: FindingSubject::Rules(format!("{family} {table} {chain}")),
        text: format!("nftables table {family} {table}, chain {chain}: drops {packets} {by}"),
        remedy: format!(
            "add rules to chain {chain} of table {family} {table} that accept what comes in or goes out by the \
             interfaces of the overlay, by name (`ip link` lists them as zl-...)"
        ),
    }
}

/// Filters of iptables proper. A kernel that has none has no such file, or an empty one.
fn legacy() -> Vec<Finding> {
    LEGACY.into_iter().filter(|(_, path)| has_filter(path)).map(|(program, _)| unreadable(program)).collect()
}

fn has_filter(path: &str) -> bool {
    std::fs::read_to_string(path).is_ok_and(|names| names.lines().any(|name| name == "filter"))
}

fn unreadable(program: &str) -> Finding {
    Finding {
        code: FindingCode::ForeignRulesUnreadable,
        severity: Severity::Warning,
        subject: FindingSubject::Rules(format!("{program} filter")),
        text: format!("{program}, table filter: what it drops cannot be seen from here"),
        remedy: format!("see for yourself: {program} -L -v -n"),
    }
}
