//! What an operator should know about a host: a closed list of things that were found, each with what to do about it.

use std::fmt;

use super::{AttachmentId, NetworkName};
use crate::{keys::PublicKey, names::LinkName};

/// Something that was found on the host, or that could not be done there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// What kind of thing it is.
    pub code: FindingCode,
    /// How bad it is.
    pub severity: Severity,
    /// What it is about.
    pub subject: FindingSubject,
    /// One sentence without a final stop.
    pub text: String,
    /// What to do: a command, or one sentence.
    pub remedy: String,
}

/// The kinds of findings. Their words are published and never change their meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FindingCode {
    /// A chain of another program drops packets that overlayd lets pass.
    ForeignRulesDrop,
    /// Rules of another program filter packets and cannot be read.
    ForeignRulesUnreadable,
    /// A step of a start or of a reconcile pass failed; the next pass tries again.
    ReconcileFailed,
    /// An identity is kept out because its fence could not be set up.
    IdentityKeptOut,
}

impl FindingCode {
    /// All of them.
    pub const ALL: [Self; 4] =
        [Self::ForeignRulesDrop, Self::ForeignRulesUnreadable, Self::ReconcileFailed, Self::IdentityKeptOut];

    /// The published word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ForeignRulesDrop => "foreign_rules_drop",
            Self::ForeignRulesUnreadable => "foreign_rules_unreadable",
            Self::ReconcileFailed => "reconcile_failed",
            Self::IdentityKeptOut => "identity_kept_out",
        }
    }

    /// Whether it is about rules of others that may stop packets: what the member `obstacles` of `status` lists.
    pub fn is_obstacle(self) -> bool {
        match self {
            Self::ForeignRulesDrop | Self::ForeignRulesUnreadable => true,
            Self::ReconcileFailed | Self::IdentityKeptOut => false,
        }
    }
}

impl fmt::Display for FindingCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Good to know.
    Info,
    /// Something may not work.
    Warning,
    /// Something does not work.
    Error,
}

impl Severity {
    /// The published word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a finding is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FindingSubject {
    /// The host as a whole.
    Host,
    /// Packet filter rules of another program, by the name under which its own tool lists them.
    Rules(String),
    /// A WireGuard device.
    Device(LinkName),
    /// A local network.
    Network(NetworkName),
    /// The attachment of a container.
    Attachment(AttachmentId),
    /// A peer.
    Peer(PublicKey),
}

impl fmt::Display for FindingSubject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => f.write_str("host"),
            Self::Rules(name) => write!(f, "rules {name}"),
            Self::Device(name) => write!(f, "device {name}"),
            Self::Network(name) => write!(f, "network {name}"),
            Self::Attachment(id) => write!(f, "attachment {id}"),
            Self::Peer(key) => write!(f, "peer {key}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_snake_case_and_differ() {
        let words: std::collections::BTreeSet<_> = FindingCode::ALL.into_iter().map(FindingCode::as_str).collect();
        assert_eq!(words.len(), FindingCode::ALL.len());
        for word in words {
            assert!(word.bytes().all(|byte| byte == b'_' || byte.is_ascii_lowercase()), "{word}");
        }
    }
}
