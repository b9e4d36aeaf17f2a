//! Names of host objects: validated at the door, so that nothing below has to wonder what a string holds.

use std::fmt;

use serde::{Deserialize, Serialize};

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
        use std::hash::Hasher;
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

#[cfg(test)]
mod tests {
    use super::*;

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
