//! Base chains of other programs that filter, and what becomes of packets that none of their rules decides on.

use super::{
    HEADER, Nft, chain,
    expression::{DROP, expressions, verdict_code},
    numbers::Family,
    rule,
    transaction::MessageKind,
};
use crate::{
    Result,
    message::{attribute_of, be32_of, nested_attribute, text_of},
};

/// A chain as the kernel lists it.
#[derive(Debug)]
struct ListedChain {
    family: u8,
    table: String,
    name: String,
    hook: Option<u32>,
    /// `filter` where the kernel does not say.
    filters: bool,
    policy: Option<u32>,
}

/// A rule as the kernel lists it.
#[derive(Debug)]
struct ListedRule {
    chain: String,
    expressions: Vec<u8>,
}

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

/// How a chain loses what no rule decides on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// By its policy.
    Policy,
    /// By a rule that drops or rejects every packet that comes to it.
    Rule,
}

impl Nft {
    /// The barriers in other tables than this, but for tables that accept something by name of one of these interfaces:
    /// their authors know of them.
    pub fn barriers(&self, own_table: &str, interfaces: &[String]) -> Result<Vec<Barrier>> {
        let chains = self.dump("list chains", MessageKind::GetChain, 0, &[], ListedChain::read)?;
        let mut barriers = Vec::new();
        for chain in chains.iter().filter(|chain| chain.table != own_table && chain.filters) {
            let (Some(hook), Some(family)) = (hook_of(chain.hook), Family::from_number(chain.family)) else { continue };
            let rules = self.rules(family, &chain.table)?;
            let how = if chain.policy == Some(DROP) {
                Loss::Policy
            } else if rules.iter().any(|rule| rule.chain == chain.name && loses_all(&rule.expressions)) {
                Loss::Rule
            } else {
                continue;
            };
            if !rules.iter().any(|rule| names_one_of(&rule.expressions, interfaces)) {
                let (table, chain) = (chain.table.clone(), chain.name.clone());
                barriers.push(Barrier { family: family.name(), table, chain, hook, how });
            }
        }
        Ok(barriers)
    }

    fn rules(&self, family: Family, table: &str) -> Result<Vec<ListedRule>> {
        self.dump("list rules", MessageKind::GetRule, family as u8, &[(rule::TABLE, table)], ListedRule::read)
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

impl ListedChain {
    fn read(payload: &[u8]) -> Option<Self> {
        let listed = payload.get(HEADER..)?;
        let text = |kind| attribute_of(listed, kind).map(text_of);
        Some(Self {
            family: *payload.first()?,
            table: text(chain::TABLE)?,
            name: text(chain::NAME)?,
            hook: nested_attribute(listed, &[chain::HOOK, chain::HOOK_NUMBER]).and_then(be32_of),
            filters: text(chain::TYPE).is_none_or(|kind| kind == "filter"),
            policy: attribute_of(listed, chain::POLICY).and_then(be32_of),
        })
    }
}

impl ListedRule {
    fn read(payload: &[u8]) -> Option<Self> {
        let listed = payload.get(HEADER..)?;
        let chain = attribute_of(listed, rule::CHAIN).map(text_of)?;
        Some(Self { chain, expressions: attribute_of(listed, rule::EXPRESSIONS).unwrap_or_default().to_vec() })
    }
}

/// Whether the rule drops or rejects, and does not look at the packet before.
fn loses_all(rule: &[u8]) -> bool {
    let mut loses = false;
    for (name, data) in expressions(rule) {
        match name {
            "counter" | "log" => {}
            "reject" => loses = true,
            "immediate" if verdict_code(data) == Some(DROP) => loses = true,
            // As iptables writes it; `NFTA_TARGET_NAME`.
            "target" if nested_attribute(data, &[1]).is_some_and(|target| target.starts_with(b"REJECT\0")) => {
                loses = true
            }
            _ => return false,
        }
    }
    loses
}

/// Whether the rule compares something with the name of one of the interfaces, or with how it begins.
fn names_one_of(rule: &[u8], interfaces: &[String]) -> bool {
    /// `NFTA_CMP_DATA`, and `NFTA_DATA_VALUE` in it.
    const CMP: [u16; 2] = [3, 1];
    let compared =
        expressions(rule).filter(|(name, _)| *name == "cmp").filter_map(|(_, data)| nested_attribute(data, &CMP));
    let texts = compared.map(|value| {
        let end = value.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        // The whole name has all 16 bytes of the field, a beginning (`zl-*`) has its own only.
        (&value[..end], value.len() == 16)
    });
    texts.filter(|(text, _)| text.len() >= 2).any(|(text, whole)| {
        interfaces.iter().any(|name| if whole { name.as_bytes() == text } else { name.as_bytes().starts_with(text) })
    })
}

#[cfg(test)]
mod tests {
    use super::{super::expression::LIST_ELEMENT, *};

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let length = u16::try_from(4 + value.len()).unwrap();
        let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn expression(name: &str, data: &[u8]) -> Vec<u8> {
        let name = [name.as_bytes(), &[0]].concat();
        attribute(LIST_ELEMENT, &[attribute(1, &name), attribute(0x8002, data)].concat())
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
}
