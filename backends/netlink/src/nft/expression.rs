//! The expressions that a rule is made of, and how the kernel takes them: a name, and attributes that depend on it.

use super::{
    chain::ChainName,
    numbers::{CmpOp, MetaKey, PayloadBase, PayloadCsum, Register},
};
use crate::message::{MessageBuilder, attribute_of, attributes, be32_of, nested_attribute, text_of};

/// An element of a list (`NFTA_LIST_ELEM`).
pub(crate) const LIST_ELEMENT: u16 = 1;
/// `NFTA_EXPR_NAME` and `NFTA_EXPR_DATA`.
const NAME: u16 = 1;
const DATA: u16 = 2;
/// `NFTA_DATA_VALUE` and `NFTA_DATA_VERDICT`.
pub(crate) const DATA_VALUE: u16 = 1;
const DATA_VERDICT: u16 = 2;
/// `NFTA_VERDICT_CODE` and `NFTA_VERDICT_CHAIN`.
const VERDICT_CODE: u16 = 1;
const VERDICT_CHAIN: u16 = 2;
/// `NF_DROP` of `linux/netfilter.h`.
pub(super) const DROP: u32 = 0;
/// `NF_ACCEPT`, and codes that stand for no end of the packet's way (`enum nft_verdicts`).
const ACCEPT: u32 = 1;
const JUMP: u32 = -3i32 as u32;
const GOTO: u32 = -4i32 as u32;
const RETURN: u32 = -5i32 as u32;

/// What becomes of a packet.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It passes this chain.
    Accept,
    /// It is lost.
    Drop,
    /// The chain that led here goes on.
    Return,
    /// Another chain looks at it, and then this one goes on.
    JumpTo(ChainName),
    /// Another chain looks at it in place of this one.
    GotoTo(ChainName),
}

/// One step of a rule. A step that does not match ends the rule.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "fields are what the kernel calls them: source and destination registers, offset, length"
)]
pub enum Expr {
    /// Loads what is known of the packet.
    Meta { dreg: Register, key: MetaKey },
    /// Changes what is known of the packet.
    MetaSet { key: MetaKey, sreg: Register },
    /// Matches where the register compares so with the data.
    Cmp { sreg: Register, op: CmpOp, data: Vec<u8> },
    /// Loads bytes of the packet.
    Payload { dreg: Register, base: PayloadBase, offset: u32, len: u32 },
    /// Changes bytes of the packet.
    PayloadSet {
        sreg: Register,
        base: PayloadBase,
        offset: u32,
        len: u32,
        csum: PayloadCsum,
        csum_offset: u32,
        l4_pseudo_header: bool,
    },
    /// Loads a constant.
    Immediate { dreg: Register, data: Vec<u8> },
    /// Computes `(register & mask) ^ xor`.
    Bitwise { sreg: Register, dreg: Register, len: u32, mask: Vec<u8>, xor: Vec<u8> },
    /// Looks a key up in a set or map.
    Lookup(LookupExpr),
    /// Decides.
    Verdict(Verdict),
    /// One that has numbers for all of its attributes.
    Numbers(NumbersExpr),
}

/// Looks up the key that begins in a register.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LookupExpr {
    set: String,
    key: Register,
    value: Option<Register>,
    inverted: bool,
}

impl LookupExpr {
    /// Matches where the key is in the set of this name.
    pub fn new(set: impl Into<String>, key: Register) -> Self {
        Self { set: set.into(), key, value: None, inverted: false }
    }

    /// Loads what the map has for the key.
    #[must_use]
    pub fn dreg(self, value: Register) -> Self {
        Self { value: Some(value), ..self }
    }

    /// Matches where the key is not in the set.
    #[must_use]
    pub fn invert(self) -> Self {
        Self { inverted: true, ..self }
    }
}

impl From<LookupExpr> for Expr {
    fn from(lookup: LookupExpr) -> Self {
        Self::Lookup(lookup)
    }
}

/// An expression whose attributes are numbers, each of 32 bits but where the kernel wants one byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NumbersExpr {
    pub(super) name: &'static str,
    pub(super) words: Vec<(u16, u32)>,
    pub(super) bytes: Vec<(u16, u8)>,
}

impl NumbersExpr {
    pub(super) fn new(name: &'static str, words: &[(u16, u32)], bytes: &[(u16, u8)]) -> Self {
        Self { name, words: words.to_vec(), bytes: bytes.to_vec() }
    }
}

impl Expr {
    fn name(&self) -> &'static str {
        match self {
            Self::Meta { .. } | Self::MetaSet { .. } => "meta",
            Self::Cmp { .. } => "cmp",
            Self::Payload { .. } | Self::PayloadSet { .. } => "payload",
            Self::Immediate { .. } | Self::Verdict(_) => "immediate",
            Self::Bitwise { .. } => "bitwise",
            Self::Lookup(_) => "lookup",
            Self::Numbers(NumbersExpr { name, .. }) => name,
        }
    }

    /// Adds it to a list of expressions.
    pub(super) fn write(&self, list: &mut MessageBuilder) {
        list.nest(LIST_ELEMENT, |element| {
            element.attribute_text(NAME, self.name());
            element.nest(DATA, |data| self.write_data(data));
        });
    }

    fn write_data(&self, to: &mut MessageBuilder) {
        match self {
            Self::Meta { dreg, key } => words(to, [(1, *dreg as u32), (2, *key as u32)]),
            Self::MetaSet { key, sreg } => words(to, [(2, *key as u32), (3, *sreg as u32)]),
            Self::Cmp { sreg, op, data } => {
                words(to, [(1, *sreg as u32), (2, *op as u32)]);
                value(to, 3, data);
            }
            Self::Payload { dreg, base, offset, len } => {
                words(to, [(1, *dreg as u32), (2, *base as u32), (3, *offset), (4, *len)]);
            }
            Self::PayloadSet { sreg, base, offset, len, csum, csum_offset, l4_pseudo_header } => {
                words(to, [(5, *sreg as u32), (2, *base as u32), (3, *offset), (4, *len)]);
                words(to, [(6, *csum as u32), (7, *csum_offset), (8, u32::from(*l4_pseudo_header))]);
            }
            Self::Immediate { dreg, data } => {
                words(to, [(1, *dreg as u32)]);
                value(to, 2, data);
            }
            Self::Bitwise { sreg, dreg, len, mask, xor } => {
                words(to, [(1, *sreg as u32), (2, *dreg as u32), (3, *len)]);
                value(to, 4, mask);
                value(to, 5, xor);
            }
            Self::Lookup(LookupExpr { set, key, value, inverted }) => {
                to.attribute_text(1, set);
                words(to, [(2, *key as u32)]);
                words(to, value.map(|register| (3, register as u32)));
                words(to, [(5, u32::from(*inverted))]);
            }
            Self::Verdict(verdict) => {
                words(to, [(1, Register::Verdict as u32)]);
                to.nest(2, |data| verdict.write(data));
            }
            Self::Numbers(numbers) => {
                words(to, numbers.words.iter().copied());
                numbers.bytes.iter().for_each(|(kind, byte)| to.attribute_u8(*kind, *byte));
            }
        }
    }
}

fn words(to: &mut MessageBuilder, words: impl IntoIterator<Item = (u16, u32)>) {
    words.into_iter().for_each(|(kind, word)| to.attribute_be32(kind, word));
}

/// Bytes as an attribute that holds data.
pub(super) fn value(to: &mut MessageBuilder, kind: u16, bytes: &[u8]) {
    to.nest(kind, |data| data.attribute(DATA_VALUE, bytes));
}

impl Verdict {
    /// Adds it to an attribute that holds data.
    pub(super) fn write(&self, data: &mut MessageBuilder) {
        let (code, chain) = match self {
            Self::Accept => (ACCEPT, None),
            Self::Drop => (DROP, None),
            Self::Return => (RETURN, None),
            Self::JumpTo(chain) => (JUMP, Some(chain)),
            Self::GotoTo(chain) => (GOTO, Some(chain)),
        };
        data.nest(DATA_VERDICT, |verdict| {
            verdict.attribute_be32(VERDICT_CODE, code);
            if let Some(chain) = chain {
                verdict.attribute_text(VERDICT_CHAIN, chain.as_str());
            }
        });
    }

    /// From an attribute that holds data; `None` for data and for verdicts of other kinds.
    pub(super) fn read(data: &[u8]) -> Option<Self> {
        let verdict = attribute_of(data, DATA_VERDICT)?;
        let chain = || ChainName::new(text_of(attribute_of(verdict, VERDICT_CHAIN)?)).ok();
        match attribute_of(verdict, VERDICT_CODE).and_then(be32_of)? {
            ACCEPT => Some(Self::Accept),
            DROP => Some(Self::Drop),
            RETURN => Some(Self::Return),
            JUMP => chain().map(Self::JumpTo),
            GOTO => chain().map(Self::GotoTo),
            _ => None,
        }
    }
}

/// Names and data of the expressions of a rule, as the kernel lists them.
pub(super) fn expressions(rule: &[u8]) -> impl Iterator<Item = (&str, &[u8])> {
    attributes(rule).filter(|(kind, _)| *kind == LIST_ELEMENT).filter_map(|(_, expression)| {
        let name = attribute_of(expression, NAME)?;
        let name = std::str::from_utf8(name.strip_suffix(&[0]).unwrap_or(name)).ok()?;
        Some((name, attribute_of(expression, DATA).unwrap_or(&[])))
    })
}

/// The code of the verdict of an `immediate`.
pub(super) fn verdict_code(immediate: &[u8]) -> Option<u32> {
    nested_attribute(immediate, &[2, DATA_VERDICT, VERDICT_CODE]).and_then(be32_of)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_are_read_as_they_are_written() {
        let chain = ChainName::new("gate").unwrap();
        let jump = Verdict::JumpTo(chain.clone());
        for verdict in [Verdict::Accept, Verdict::Drop, Verdict::Return, jump, Verdict::GotoTo(chain)] {
            let mut data = MessageBuilder::attributes();
            verdict.write(&mut data);
            assert_eq!(Verdict::read(data.body()), Some(verdict));
        }
    }

    #[test]
    fn an_expression_has_its_name_and_its_attributes() {
        let mut list = MessageBuilder::attributes();
        Expr::Verdict(Verdict::Drop).write(&mut list);
        Expr::from(LookupExpr::new("bridges", Register::R0).invert()).write(&mut list);
        let read: Vec<_> = expressions(list.body()).collect();
        assert_eq!([read[0].0, read[1].0], ["immediate", "lookup"]);
        assert_eq!(verdict_code(read[0].1), Some(DROP));
        let lookup: Vec<_> = attributes(read[1].1).collect();
        assert_eq!(lookup, [(1, &b"bridges\0"[..]), (2, &[0, 0, 0, 1]), (5, &[0, 0, 0, 1])]);
    }
}
