//! Which device a peer is on, and what an edge may reach: choices that have a name each, so that nothing absent or empty
//! stands for "everything". On disk they are written as earlier releases did, as an optional name and as a list.

use std::fmt;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// The caller's name for a service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ServiceName(String);

impl ServiceName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for ServiceName {
    fn from(name: &str) -> Self {
        Self(name.to_owned())
    }
}

impl From<String> for ServiceName {
    fn from(name: String) -> Self {
        Self(name)
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which WireGuard device of this node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "Option<ServiceName>", into = "Option<ServiceName>")]
pub enum DeviceScope {
    /// The device of the global overlay.
    Global,
    /// The device of a dedicated service.
    Service(ServiceName),
}

impl DeviceScope {
    /// The device of the dedicated service of this name.
    pub fn service(name: &str) -> Self {
        Self::Service(name.into())
    }

    /// The service, unless it is the global device.
    pub fn service_name(&self) -> Option<&str> {
        match self {
            Self::Global => None,
            Self::Service(name) => Some(name.as_str()),
        }
    }
}

impl From<Option<ServiceName>> for DeviceScope {
    fn from(service: Option<ServiceName>) -> Self {
        service.map_or(Self::Global, Self::Service)
    }
}

impl From<DeviceScope> for Option<ServiceName> {
    fn from(scope: DeviceScope) -> Self {
        match scope {
            DeviceScope::Global => None,
            DeviceScope::Service(name) => Some(name),
        }
    }
}

/// What an edge peer may reach, next to this node and the resolver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<IpNet>", into = "Vec<IpNet>")]
pub enum EdgeAccess {
    /// Everything on the overlay: it has no fence.
    WholeOverlay,
    /// Only these ranges.
    Only(GrantedRanges),
}

/// Ranges that were granted; at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantedRanges(Vec<IpNet>);

impl GrantedRanges {
    /// The ranges in the order given; `None` where there are none.
    pub fn new(ranges: Vec<IpNet>) -> Option<Self> {
        if ranges.is_empty() { None } else { Some(Self(ranges)) }
    }

    /// The ranges.
    pub fn as_slice(&self) -> &[IpNet] {
        &self.0
    }
}

impl EdgeAccess {
    /// The granted ranges; none for the whole overlay, as the wire writes it.
    pub fn ranges(&self) -> &[IpNet] {
        match self {
            Self::WholeOverlay => &[],
            Self::Only(ranges) => ranges.as_slice(),
        }
    }
}

impl From<Vec<IpNet>> for EdgeAccess {
    fn from(ranges: Vec<IpNet>) -> Self {
        GrantedRanges::new(ranges).map_or(Self::WholeOverlay, Self::Only)
    }
}

impl From<EdgeAccess> for Vec<IpNet> {
    fn from(access: EdgeAccess) -> Self {
        access.ranges().to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_and_access_are_written_as_earlier_releases_did() {
        let written = |scope: &DeviceScope| serde_json::to_string(scope).unwrap();
        assert_eq!(written(&DeviceScope::Global), "null");
        assert_eq!(written(&DeviceScope::service("db")), "\"db\"");
        assert_eq!(serde_json::from_str::<DeviceScope>("\"db\"").unwrap(), DeviceScope::service("db"));
        assert_eq!(serde_json::from_str::<EdgeAccess>("[]").unwrap(), EdgeAccess::WholeOverlay);
        let only = serde_json::from_str::<EdgeAccess>("[\"10.0.0.0/8\"]").unwrap();
        assert_eq!(serde_json::to_string(&only).unwrap(), "[\"10.0.0.0/8\"]");
    }
}
