//! Names of host objects: validated at the door, so that nothing below has to wonder what a string holds.

use std::{fmt, hash::Hasher};

use serde::{Deserialize, Serialize};

/// Whether `text` is a DNS name without the final dot: labels of letters, digits, `-` and `_` (RFC 1035 sizes).
pub fn is_dns_name(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(label)
}

/// Name of a network interface as the kernel accepts it: 1 to 15 bytes, no `/`, no white space, not `.` or `..`
/// (Linux `dev_valid_name`).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LinkName(String);

/// Why a string is no [`LinkName`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an interface name: 1 to 15 bytes without `/`, `:` or white space are needed")]
pub struct InvalidLinkName(String);

impl LinkName {
    /// Longest interface name in bytes (`IFNAMSIZ` less its terminator).
    pub const MAX_LEN: usize = 15;

    /// Checks `name` against the kernel's rules.
    pub fn new(name: impl Into<String>) -> Result<Self, InvalidLinkName> {
        let name = name.into();
        let fits = (1..=Self::MAX_LEN).contains(&name.len());
        let clean = !name.contains(|c: char| matches!(c, '/' | ':' | '\0') || c.is_ascii_whitespace());
        if fits && clean && name != "." && name != ".." { Ok(Self(name)) } else { Err(InvalidLinkName(name)) }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for LinkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for LinkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for LinkName {
    type Error = InvalidLinkName;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        Self::new(name)
    }
}

impl From<LinkName> for String {
    fn from(name: LinkName) -> Self {
        name.0
    }
}

/// Tells one daemon's host objects from another's: 16 lowercase hex digits, the same for every run of a daemon on one
/// data directory. Backends put it into the mark of everything they create (link alias, table name).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct InstanceId(String);

impl InstanceId {
    /// The id of the daemon that owns `data_dir` (FNV-1a-64 of its path, so that removal needs no memory).
    pub fn of_data_dir(data_dir: &std::path::Path) -> Self {
        let mut hasher = fnv::FnvHasher::default();
        hasher.write(data_dir.as_os_str().as_encoded_bytes());
        Self(format!("{:016x}", hasher.finish()))
    }

    /// The id as text, safe in names of links, tables and files.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The interface name of an object, as the orchestrator derives it too: `zl-` and the parts and suffix joined by `-`
/// where that fits 15 bytes, else a hash of them (SipHash-1-3, zero key, each part followed by `0xFF`; lowercase hex
/// without padding, cut to what fits).
pub fn interface_name(parts: &[&str], suffix: &str) -> Result<LinkName, InvalidLinkName> {
    let mut plain = format!("zl-{}", parts.join("-"));
    if !suffix.is_empty() {
        plain = format!("{plain}-{suffix}");
    }
    if plain.len() <= LinkName::MAX_LEN {
        return LinkName::new(plain);
    }
    let mut hasher = siphasher::sip::SipHasher13::new();
    for part in parts.iter().chain([&suffix]) {
        hasher.write(part.as_bytes());
        hasher.write_u8(0xff);
    }
    let digits = format!("{:x}", hasher.finish());
    match (LinkName::MAX_LEN - "zl--".len()).checked_sub(suffix.len()) {
        None | Some(0) => LinkName::new(format!("zl-{}", &digits[..digits.len().min(12)])),
        Some(_) if suffix.is_empty() => LinkName::new(format!("zl-{}", &digits[..digits.len().min(12)])),
        Some(room) => LinkName::new(format!("zl-{}-{suffix}", &digits[..digits.len().min(room)])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_are_named_as_the_golden_vectors_say() {
        let golden =
            std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/interface_names.jsonl"));
        for line in golden.unwrap().lines() {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            let parts: Vec<&str> =
                line["parts"].as_array().unwrap().iter().map(|part| part.as_str().unwrap()).collect();
            let name = interface_name(&parts, line["suffix"].as_str().unwrap()).unwrap();
            assert_eq!(name.as_str(), line["name"].as_str().unwrap(), "{parts:?}");
        }
    }

    #[test]
    fn an_interface_name_is_what_the_kernel_accepts() {
        for good in ["eth0", "zl-atlas-n1-g", "veth-4194304-s", "a"] {
            assert!(LinkName::new(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a b", "a:b", "sixteen-bytes-xx"] {
            assert!(LinkName::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_instance_is_known_by_its_data_directory() {
        let a = InstanceId::of_data_dir("/var/lib/zlayer".as_ref());
        assert_eq!(a, InstanceId::of_data_dir("/var/lib/zlayer".as_ref()));
        assert_ne!(a, InstanceId::of_data_dir("/srv/other".as_ref()));
        assert_eq!(a.as_str().len(), 16);
    }
}
