//! The one file that `zlayer-overlayd` 0.14 keeps, `agent_network.json`: the identities of dedicated services. An upgrade
//! takes them over; the file itself is only read, so that going back stays possible.

use std::{
    io,
    num::NonZeroU16,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use zeroize::Zeroizing;

use crate::{
    keys::{PrivateKey, PublicKey},
    protocol::SecretText,
};

/// Name of the file in the data directory.
pub const FILE: &str = "agent_network.json";
/// The only version there is.
const VERSION: u64 = 1;

/// Who a dedicated service is to its peers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The service.
    pub service: String,
    /// Its key.
    pub key: PrivateKey,
    /// UDP port that its peers know.
    pub port: NonZeroU16,
}

/// Why the file cannot be taken over. Never quotes the file, which holds keys.
#[derive(Debug, thiserror::Error)]
#[error(
    "could not take over the identities in {path}: {reason}; nothing was changed. Correct the file or restore it from a \
     backup, or move it away to give all dedicated services new keys"
)]
pub struct LegacyError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub reason: String,
}

/// The complete identities in the file at `path`; none where there is no file.
pub fn read(path: &Path) -> Result<Vec<Identity>, LegacyError> {
    let failed = |reason| LegacyError { path: path.to_owned(), reason };
    match std::fs::read(path).map(Zeroizing::new) {
        Ok(content) => parse(&content).map_err(failed),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(failed(error.to_string())),
    }
}

#[derive(Deserialize)]
struct Marker {
    version: u64,
    networks: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    owner: String,
    kind: String,
    wg_port: Option<NonZeroU16>,
    wg_private_key: Option<SecretText>,
    wg_public_key: Option<String>,
}

fn parse(content: &[u8]) -> Result<Vec<Identity>, String> {
    // The library's own words may quote a value, and with it a key.
    let place =
        |error: serde_json::Error| format!("line {} column {} is not as expected", error.line(), error.column());
    let marker: Marker = serde_json::from_slice(content).map_err(place)?;
    if marker.version != VERSION {
        return Err(format!("its version is {}, this daemon knows {VERSION}", marker.version));
    }
    let identities = marker.networks.iter().filter_map(|entry| identity(entry).transpose());
    identities.collect()
}

/// The identity in an entry, if it is one of a service and complete.
fn identity(entry: &Entry) -> Result<Option<Identity>, String> {
    let Some(service) = entry.owner.strip_prefix("service:") else { return Ok(None) };
    let (Some(key), Some(port)) = (&entry.wg_private_key, entry.wg_port) else {
        tracing::warn!(service, kind = entry.kind, "an earlier daemon's record of a service has no key or no port");
        return Ok(None);
    };
    let invalid = |reason: &dyn std::fmt::Display| format!("service {service}: {reason}");
    let key = PrivateKey::from_base64(key.reveal()).map_err(|error| invalid(&error))?;
    if let Some(public) = &entry.wg_public_key {
        let public = PublicKey::from_base64(public).map_err(|error| invalid(&error))?;
        if key.public_key() != public {
            return Err(invalid(&"the private key is not that of the public key"));
        }
    }
    Ok(Some(Identity { service: service.to_owned(), key, port }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn entry(owner: &str, key: &PrivateKey) -> serde_json::Value {
        json!({"owner": owner, "kind": "wg-dedicated", "name": "zl-db00cf6ae4-d", "id": key.public_key().to_base64(),
            "subnet": "10.77.243.0/26", "wg_port": 51430, "wg_private_key": key.reveal_base64(),
            "wg_public_key": key.public_key().to_base64(), "interface": "zl-db00cf6ae4-d"})
    }

    fn parsed(networks: serde_json::Value) -> Result<Vec<Identity>, String> {
        parse(json!({"version": 1, "networks": networks}).to_string().as_bytes())
    }

    #[test]
    fn services_with_key_and_port_have_an_identity_and_nothing_else_has() {
        let key = PrivateKey::generate();
        let networks = json!([
            {"owner": "base", "kind": "hcn-internal", "name": "zlayer-overlay", "id": "x", "subnet": "10.77.0.0/26"},
            {"owner": "service:web", "kind": "hcn-internal", "name": "n", "id": "x", "subnet": "10.77.0.0/26"},
            entry("service:db", &key),
        ]);
        let port = NonZeroU16::new(51430).unwrap();
        assert_eq!(parsed(networks), Ok(vec![Identity { service: "db".into(), key, port }]));
    }

    #[test]
    fn a_file_that_is_not_understood_is_refused_without_quoting_it() {
        let key = PrivateKey::generate();
        let secret = key.reveal_base64();
        let mut misplaced = entry("service:db", &key);
        misplaced["wg_port"] = json!(secret);
        let mut foreign = entry("service:db", &key);
        foreign["wg_public_key"] = json!(PrivateKey::generate().public_key().to_base64());
        let mut short = entry("service:db", &key);
        short["wg_private_key"] = json!(&secret[..40]);
        for networks in [json!([misplaced]), json!([foreign]), json!([short]), json!({"db": secret})] {
            let reason = parsed(networks).unwrap_err();
            assert!(!reason.contains(&secret[..20]), "{reason}");
        }
        assert!(parse(b"").is_err());
        assert!(parse(br#"{"version":2,"networks":[]}"#).unwrap_err().contains("version is 2"));
    }
}
