//! Base chains that filter, whoever made them, and what becomes of packets that they have no word for.

use nlink::netlink::nftables::{ChainType, Family, NFTA_LIST_ELEM, RuleInfo};

use super::{Nft, failed};
use crate::Result;

/// Where a base chain filters (`linux/netfilter.h`, `nf_inet_hooks`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hook {
    /// What is for the host itself.
    Input,
    /// What the host passes on.
    Forward,
}

/// A base chain that loses packets which none of its rules takes an interest in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Barrier {
    /// The table's family, as nft calls it.
    pub family: &'static str,
    /// The table.
    pub table: String,
    /// The chain.
    pub chain: String,
    /// Where it filters.
    pub hook: Hook,
    /// How it loses them.
    pub how: Loss,
}

/// How a chain loses what it has no other word for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// By its policy.
    Policy,
    /// By a rule that drops or rejects whatever comes to it.
    Rule,
}

/// `NF_DROP` of `linux/netfilter.h`.
const DROP: u32 = 0;

impl Nft {
    /// The barriers in other tables than this, but for tables that accept something by name of one of these interfaces:
    /// whoever wrote those knows of them.
    pub fn barriers(&self, own_table: &str, interfaces: &[String]) -> Result<Vec<Barrier>> {
        let chains = self.wait(self.connection.list_chains()).map_err(|e| failed("list chains", e))?;
        let mut barriers = Vec::new();
        for chain in chains.iter().filter(|chain| chain.table != own_table) {
            let filters = chain.chain_type.is_none_or(|kind| kind == ChainType::Filter);
            let (Some(hook), Some(family), true) = (hook_of(chain.hook), name_of(chain.family), filters) else {
                continue;
            };
            let rules = self.rules(chain.family, &chain.table)?;
            let how = if chain.policy == Some(DROP) {
                Loss::Policy
            } else if rules.iter().any(|rule| rule.chain == chain.name && loses_all(&rule.expression_bytes)) {
                Loss::Rule
            } else {
                continue;
            };
            if !rules.iter().any(|rule| names_one_of(&rule.expression_bytes, interfaces)) {
                let (table, chain) = (chain.table.clone(), chain.name.clone());
                barriers.push(Barrier { family, table, chain, hook, how });
            }
        }
        Ok(barriers)
    }

    fn rules(&self, family: Family, table: &str) -> Result<Vec<RuleInfo>> {
        self.wait(self.connection.list_rules(table, family)).map_err(|e| failed("list rules", e))
    }

    /// How many rules a table has.
    pub fn count_rules(&self, family: Family, table: &str) -> Result<usize> {
        Ok(self.rules(family, table)?.len())
    }
}

fn hook_of(number: Option<u32>) -> Option<Hook> {
    match number? {
        1 => Some(Hook::Input),
        2 => Some(Hook::Forward),
        _ => None,
    }
}

fn name_of(family: Family) -> Option<&'static str> {
    match family {
        Family::Ip => Some("ip"),
        Family::Ip6 => Some("ip6"),
        Family::Inet => Some("inet"),
        Family::Bridge => Some("bridge"),
        _ => None,
    }
}

/// Whether the rule drops or rejects, and does not look at the packet before.
fn loses_all(rule: &[u8]) -> bool {
    let mut loses = false;
    for (name, data) in expressions(rule) {
        match name {
            "counter" | "log" => {}
            "reject" => loses = true,
            "immediate" if verdict(data) == Some(DROP) => loses = true,
            // As iptables writes it; `NFTA_TARGET_NAME`.
            "target" if within(data, &[1]).is_some_and(|target| target.starts_with(b"REJECT\0")) => loses = true,
            _ => return false,
        }
    }
    loses
}

/// Whether the rule compares something with the name of one of the interfaces, or with how it begins.
fn names_one_of(rule: &[u8], interfaces: &[String]) -> bool {
    /// `NFTA_CMP_DATA`, and `NFTA_DATA_VALUE` in it.
    const CMP: [u16; 2] = [3, 1];
    let compared = expressions(rule).filter(|(name, _)| *name == "cmp").filter_map(|(_, data)| within(data, &CMP));
    let texts = compared.map(|value| {
        let end = value.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        // The whole name has all 16 bytes of the field, a beginning (`zl-*`) has its own only.
        (&value[..end], value.len() == 16)
    });
    texts.filter(|(text, _)| text.len() >= 2).any(|(text, whole)| {
        interfaces.iter().any(|name| if whole { name.as_bytes() == text } else { name.as_bytes().starts_with(text) })
    })
}

/// The verdict of an `immediate`: `NFTA_IMMEDIATE_DATA`, `NFTA_DATA_VERDICT`, `NFTA_VERDICT_CODE`.
fn verdict(data: &[u8]) -> Option<u32> {
    let code = within(data, &[2, 2, 1])?;
    Some(u32::from_be_bytes(code.try_into().ok()?))
}

/// Names and data of a rule's expressions: a list of `NFTA_EXPR_NAME` and `NFTA_EXPR_DATA`.
fn expressions(rule: &[u8]) -> impl Iterator<Item = (&str, &[u8])> {
    attributes(rule).filter(|(kind, _)| *kind == NFTA_LIST_ELEM).filter_map(|(_, expression)| {
        let name = within(expression, &[1])?;
        let name = std::str::from_utf8(name.strip_suffix(&[0]).unwrap_or(name)).ok()?;
        Some((name, within(expression, &[2]).unwrap_or(&[])))
    })
}

/// The attribute at the end of this path of nested ones.
fn within<'a>(bytes: &'a [u8], path: &[u16]) -> Option<&'a [u8]> {
    path.iter()
        .try_fold(bytes, |bytes, wanted| attributes(bytes).find_map(|(kind, value)| (kind == *wanted).then_some(value)))
}

/// Netlink attributes one after the other: length and type, both of the host's order, value, padding (`linux/netlink.h`).
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    /// Two bits say how the value is to be read.
    const KIND: u16 = 0x3fff;
    std::iter::from_fn(move || {
        let (header, _) = bytes.split_first_chunk::<4>()?;
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let kind = u16::from_ne_bytes([header[2], header[3]]) & KIND;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        Some((kind, value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let length = u16::try_from(4 + value.len()).unwrap();
        let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn expression(name: &str, data: &[u8]) -> Vec<u8> {
        let name = [name.as_bytes(), &[0]].concat();
        attribute(NFTA_LIST_ELEM, &[attribute(1, &name), attribute(0x8002, data)].concat())
    }

    fn drop() -> Vec<u8> {
        let code = attribute(1, &DROP.to_be_bytes());
        expression("immediate", &[attribute(1, &[0; 4]), attribute(2, &attribute(2, &code))].concat())
    }

    fn compared(with: &[u8]) -> Vec<u8> {
        expression("cmp", &attribute(3, &attribute(1, with)))
    }

    #[test]
    fn a_rule_that_looks_at_nothing_loses_all() {
        assert!(loses_all(&drop()));
        assert!(loses_all(&[expression("counter", &[]), expression("reject", &[])].concat()));
        assert!(loses_all(&expression("target", &attribute(1, b"REJECT\0"))));
        assert!(!loses_all(&expression("target", &attribute(1, b"MARK\0"))));
        assert!(!loses_all(&[compared(b"eth0"), drop()].concat()));
        assert!(!loses_all(&expression("counter", &[])));
        assert!(!loses_all(&[]));
    }

    #[test]
    fn a_name_is_compared_whole_or_by_its_beginning() {
        let interfaces = ["zl-lab-n0-g".to_owned()];
        let mut whole = b"zl-lab-n0-g".to_vec();
        whole.resize(16, 0);
        assert!(names_one_of(&compared(&whole), &interfaces));
        assert!(names_one_of(&compared(b"zl-"), &interfaces));
        let mut other = b"zl-lab".to_vec();
        other.resize(16, 0);
        assert!(!names_one_of(&compared(&other), &interfaces));
        assert!(!names_one_of(&compared(b"br-"), &interfaces) && !names_one_of(&compared(&[6]), &interfaces));
    }

    #[test]
    fn broken_attributes_end_the_list() {
        for bytes in [&[9, 0, 1, 0, 7][..], &[2, 0, 1, 0], &[0, 0], &[255; 7]] {
            assert_eq!(attributes(bytes).count(), 0);
        }
    }
}
