//! The sets that hold what attachments need of the rules, and what is put into them.

use overlayd_core::contract::AttachmentId;
use overlayd_netlink::nft::{
    ChainName, Family, INTERFACE_NAME, Set, SetDataType, SetElement, SetElementData, SetKeyType, Verdict,
};

/// Set of our bridges.
pub(super) const BRIDGES: &str = "bridges";
/// Set of bridges with egress.
pub(super) const EGRESS: &str = "egress";
/// Set of overlay devices.
pub(super) const OVERLAYS: &str = "overlays";
/// Sets of overlay ranges.
pub(super) const RANGES_V4: &str = "ranges4";
pub(super) const RANGES_V6: &str = "ranges6";

/// A set or map of the tables.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SetKind {
    pub(crate) place: TableKind,
    pub(crate) name: &'static str,
    pub(crate) scope: SetScope,
    key: &'static [KeyField],
    value: &'static [KeyField],
    span: KeySpan,
}

/// Whose a set is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum SetScope {
    Instance,
    Network,
    Group,
}

/// Which of the two tables: what the host passes on, or what passes between the ports of a bridge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum TableKind {
    Host,
    Bridge,
}

/// A part of a key or value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum KeyField {
    /// An interface, or what stands for an isolation network.
    Name,
    V4,
    V6,
    Mac,
    Protocol,
    Port,
    Verdict,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum KeySpan {
    Single,
    Range,
}

/// What an attachment has in the ruleset. What is `shared` belongs to several attachments at once.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum RuleItem {
    /// The sets and chains of an isolation network on this host.
    Network(String),
    /// The sets and chains of the members of a network that have the same bounds.
    Group(String, String),
    /// An element of a set.
    Element(NftElement),
}

/// An element of a set.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct NftElement {
    pub(crate) set: SetName,
    pub(crate) key: Vec<u8>,
    /// Inclusive end, where the key is a range.
    pub(crate) key_end: Option<Vec<u8>>,
    pub(crate) value: Option<ElementValue>,
    pub(crate) shared: bool,
}

/// A set; those that a network or a group has of its own are named after it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SetName {
    pub(crate) kind: &'static SetKind,
    pub(crate) of: Option<String>,
}

/// What an element of a map stands for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum ElementValue {
    Data(Vec<u8>),
    /// A chain to go through.
    Jump(String),
}

macro_rules! sets {
    ($($constant:ident = $place:ident $scope:ident $name:literal $key:expr => $value:expr, $span:ident;)*) => {
        $(pub(crate) static $constant: SetKind = SetKind {
            place: TableKind::$place,
            name: $name,
            scope: SetScope::$scope,
            key: &$key,
            value: &$value,
            span: KeySpan::$span,
        };)*
        /// All of them.
        pub(crate) static ALL: &[&SetKind] = &[$(&$constant),*];
    };
}

use KeyField::{Mac, Name, Port, Protocol, V4, V6, Verdict as Chain};

sets! {
    // Members, and the chains that they lead to, as senders and, where not everybody may reach them, as receivers.
    FENCED4 = Host Instance "fenced4" [V4] => [], Single;
    FENCED6 = Host Instance "fenced6" [V6] => [], Single;
    LEAVING4 = Host Instance "leaving4" [V4] => [Chain], Single;
    LEAVING6 = Host Instance "leaving6" [V6] => [Chain], Single;
    ENTERING4 = Host Instance "entering4" [V4] => [Chain], Single;
    ENTERING6 = Host Instance "entering6" [V6] => [Chain], Single;
    MEMBERS4 = Host Network "members4" [V4] => [], Single;
    MEMBERS6 = Host Network "members6" [V6] => [], Single;
    // What members may reach and what is closed to them.
    OPEN4 = Host Group "open4" [V4] => [], Range;
    OPEN6 = Host Group "open6" [V6] => [], Range;
    CLOSED4 = Host Group "closed4" [V4] => [], Range;
    CLOSED6 = Host Group "closed6" [V6] => [], Range;
    // The sources that an interface may send from.
    LEG_SOURCES4 = Host Instance "sources4" [Name, V4] => [], Single;
    LEG_SOURCES6 = Host Instance "sources6" [Name, V6] => [], Single;
    // Published ports of all local addresses, and of certain ones.
    PORTS4 = Host Instance "ports4" [Protocol, Port] => [V4, Port], Single;
    PORTS6 = Host Instance "ports6" [Protocol, Port] => [V6, Port], Single;
    PORTS_AT4 = Host Instance "ports-at4" [V4, Protocol, Port] => [V4, Port], Single;
    PORTS_AT6 = Host Instance "ports-at6" [V6, Protocol, Port] => [V6, Port], Single;
    // A container's address, twice: what it sends to itself by a port of the host's.
    SELVES4 = Host Instance "selves4" [V4, V4] => [], Single;
    SELVES6 = Host Instance "selves6" [V6, V6] => [], Single;
    // Between the ports of a bridge: members, their ports, and the chains of their networks.
    BRIDGED4 = Bridge Instance "fenced4" [V4] => [], Single;
    BRIDGED6 = Bridge Instance "fenced6" [V6] => [], Single;
    BRIDGED_LEAVING4 = Bridge Instance "leaving4" [V4] => [Chain], Single;
    BRIDGED_LEAVING6 = Bridge Instance "leaving6" [V6] => [Chain], Single;
    BRIDGED_MEMBERS4 = Bridge Network "members4" [V4] => [], Single;
    BRIDGED_MEMBERS6 = Bridge Network "members6" [V6] => [], Single;
    WIRED = Bridge Instance "wired" [Name] => [], Single;
    WIRES = Bridge Instance "wires" [Name] => [Chain], Single;
    PLUGS = Bridge Network "plugs" [Name] => [], Single;
    PORT_SOURCES4 = Bridge Instance "sources4" [Name, V4] => [], Single;
    PORT_SOURCES6 = Bridge Instance "sources6" [Name, V6] => [], Single;
    PORT_MACS = Bridge Instance "macs" [Name, Mac] => [], Single;
    // An interface, twice: what would go back by the port that it came in by.
    HAIRPINS = Bridge Instance "hairpins" [Name, Name] => [], Single;
    // The hardware address of the bridge that an interface is plugged into.
    GATES = Bridge Instance "gates" [Name] => [Mac], Single;
}

impl TableKind {
    pub(crate) fn family(self) -> Family {
        match self {
            Self::Host => Family::Inet,
            Self::Bridge => Family::Bridge,
        }
    }
}

impl RuleItem {
    /// Whether it may belong to several attachments.
    pub(crate) fn is_shared(&self) -> bool {
        match self {
            Self::Network(_) | Self::Group(..) => true,
            Self::Element(element) => element.shared,
        }
    }

    /// What a chain that elements lead to belongs to (`leaving-<network>-<group>`, `wire-<network>`).
    pub(crate) fn behind(chain: &str) -> Vec<Self> {
        let mut parts = chain.split('-').skip(1).map(str::to_owned);
        match (parts.next(), parts.next()) {
            (Some(network), Some(group)) => vec![Self::Network(network.clone()), Self::Group(network, group)],
            (Some(network), None) => vec![Self::Network(network)],
            (None, _) => Vec::new(),
        }
    }
}

impl SetKind {
    /// The name of this set of a network or group.
    pub(crate) fn name_of(&self, owner: &str) -> String {
        format!("{}-{owner}", self.name)
    }
}

impl SetName {
    /// The set that is called so in the table.
    pub(crate) fn read(place: TableKind, text: &str) -> Option<Self> {
        let named = |kind: &&&'static SetKind| {
            kind.place == place
                && (kind.name == text || text.strip_prefix(kind.name).is_some_and(|rest| rest.len() == 17))
        };
        let kind = *ALL.iter().find(named)?;
        let of = text.strip_prefix(kind.name)?.strip_prefix('-').map(str::to_owned);
        Some(Self { kind, of })
    }

    pub(crate) fn text(&self) -> String {
        match &self.of {
            Some(owner) => self.kind.name_of(owner),
            None => self.kind.name.to_owned(),
        }
    }

    /// The set in this table.
    pub(crate) fn set(&self, table: &str) -> Set {
        let kind = self.kind;
        let set = Set::new(table, &self.text()).family(kind.place.family()).key_type(type_of(kind.key));
        let set = if kind.span == KeySpan::Range { set.interval() } else { set };
        match kind.value {
            [] => set,
            [KeyField::Verdict] => set.vmap(),
            value => set.map(SetDataType::Value(type_of(value))),
        }
    }
}

impl From<&'static SetKind> for SetName {
    fn from(kind: &'static SetKind) -> Self {
        Self { kind, of: None }
    }
}

impl NftElement {
    pub(crate) fn new(set: impl Into<SetName>, key: Vec<u8>) -> Self {
        Self { set: set.into(), key, key_end: None, value: None, shared: false }
    }

    pub(crate) fn value(self, value: Vec<u8>) -> Self {
        Self { value: Some(ElementValue::Data(value)), ..self }
    }

    pub(crate) fn jump(self, chain: String) -> Self {
        Self { value: Some(ElementValue::Jump(chain)), ..self }
    }

    /// An element that is the same for all attachments that need it.
    pub(crate) fn range(set: SetName, key: Vec<u8>, end: Vec<u8>) -> Self {
        let key_end = (end != key).then_some(end);
        Self { key_end, shared: true, ..Self::new(set, key) }
    }

    /// As the kernel takes it. Whose it is stands in its comment.
    pub(crate) fn told(&self, owner: &AttachmentId) -> SetElement {
        let element = match &self.key_end {
            Some(end) => SetElement::range(self.key.clone(), end.clone()),
            None => SetElement::new(self.key.clone()),
        };
        let element = match &self.value {
            Some(ElementValue::Data(value)) => element.value(SetElement::new(value.clone())),
            Some(ElementValue::Jump(chain)) => element.verdict(Verdict::JumpTo(chain_name(chain))),
            None => element,
        };
        if self.shared { element } else { element.with_comment(comment(owner)) }
    }

    /// From what the kernel holds, with its owner; `None` as the owner of a shared one.
    pub(crate) fn read(set: &SetName, element: &SetElement) -> Option<(Self, Option<AttachmentId>)> {
        let owner = match element.comment() {
            Some(comment) => Some(owner(comment)?),
            None => None,
        };
        let value = match element.data() {
            Some(SetElementData::Value(value)) => Some(ElementValue::Data(value.clone())),
            Some(SetElementData::Verdict(Verdict::JumpTo(chain))) => {
                Some(ElementValue::Jump(chain.as_str().to_owned()))
            }
            _ => None,
        };
        let key = element.key().to_vec();
        let key_end = element.key_end().map(<[u8]>::to_vec).filter(|end| *end != key);
        Some((Self { set: set.clone(), key, key_end, value, shared: owner.is_none() }, owner))
    }
}

/// The parts of a key or value side by side, each padded to words of four bytes, as the kernel's registers hold them.
pub(crate) fn joined(parts: &[&[u8]]) -> Vec<u8> {
    let mut key = Vec::new();
    for part in parts {
        key.extend_from_slice(part);
        key.resize(key.len().next_multiple_of(4), 0);
    }
    key
}

/// The longest comment that nft shows.
pub(crate) const MAX_COMMENT: usize = 127;

/// What says whose an element is.
pub(crate) fn comment(id: &AttachmentId) -> String {
    match id {
        AttachmentId::Process(pid) => format!("pid:{pid}"),
        AttachmentId::Namespace(id) => format!("ns:{id}"),
        AttachmentId::Compute(id) => format!("compute:{id}"),
        AttachmentId::ComputeNamespace(guid) => format!("guid:{}", guid.0),
        AttachmentId::Guest(id) => format!("guest:{id}"),
        AttachmentId::Host(id) => format!("host:{id}"),
        AttachmentId::Edge(name) => format!("edge:{name}"),
    }
}

fn owner(comment: &str) -> Option<AttachmentId> {
    let (kind, name) = comment.split_once(':')?;
    let name = || name.to_owned();
    Some(match kind {
        "pid" => AttachmentId::Process(name().parse().ok()?),
        "ns" => AttachmentId::Namespace(name()),
        "guest" => AttachmentId::Guest(name()),
        "host" => AttachmentId::Host(name()),
        "edge" => AttachmentId::Edge(name()),
        _ => return None,
    })
}

fn type_of(fields: &[KeyField]) -> SetKeyType {
    let each = |field: &KeyField| match field {
        KeyField::Name => INTERFACE_NAME,
        KeyField::V4 => SetKeyType::Ipv4Addr,
        KeyField::V6 => SetKeyType::Ipv6Addr,
        KeyField::Mac => SetKeyType::EtherAddr,
        KeyField::Protocol => SetKeyType::InetProto,
        KeyField::Port | KeyField::Verdict => SetKeyType::InetService,
    };
    match fields {
        [single] => each(single),
        several => SetKeyType::Concat(several.iter().map(each).collect()),
    }
}

/// The name of a chain, as rules and elements refer to it.
pub(super) fn chain_name(chain: &str) -> ChainName {
    ChainName::new(chain).expect("names of chains are constants and hashes")
}
