//! Edge peers: machines outside the cluster, their configuration and its token.

use std::net::IpAddr;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};

use super::{PeerSpec, SecretText, unset};

/// What an edge token starts with.
const TOKEN_PREFIX: &str = "zledge1.";

/// All that a machine outside the cluster needs to join it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EdgeConfig {
    /// [`EdgeConfig::VERSION`]; not checked where it travels in a response.
    pub version: u32,
    /// The identity's name.
    pub name: String,
    /// Its address.
    pub overlay_ip: IpAddr,
    /// Length of the address's prefix.
    pub prefix_len: u8,
    /// Its own key, base64.
    pub private_key: SecretText,
    /// The public half, base64.
    pub public_key: String,
    /// Its peers: the node that issued it.
    pub peers: Vec<PeerSpec>,
    /// Its resolver.
    #[serde(default, skip_serializing_if = "unset")]
    pub dns_server: Option<IpAddr>,
    /// Its search domain.
    #[serde(default, skip_serializing_if = "unset")]
    pub dns_domain: Option<String>,
    /// When it ends, Unix seconds.
    pub expires_at_unix: u64,
}

/// An issued identity as `list_edge_peers` tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EdgePeerStatus {
    /// Its name.
    pub name: String,
    /// Its address.
    pub overlay_ip: IpAddr,
    /// Its public key, base64.
    pub public_key: String,
    /// When it was issued, Unix seconds.
    pub minted_at_unix: u64,
    /// When it ends, Unix seconds.
    pub expires_at_unix: u64,
    /// When it was last heard of, Unix seconds.
    #[serde(default, skip_serializing_if = "unset")]
    pub last_handshake_unix_secs: Option<i64>,
    /// What it may reach; empty means everything.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed: Vec<String>,
}

/// Why a text is no edge token.
#[derive(Debug, thiserror::Error)]
pub enum EdgeTokenError {
    /// It does not start with the prefix of a token.
    #[error("not an edge token: it does not start with `{TOKEN_PREFIX}`")]
    Prefix,
    /// What follows is not base64url without padding.
    #[error("damaged edge token: {0}")]
    Decode(#[from] base64::DecodeError),
    /// The payload is not the JSON of a configuration.
    #[error("damaged edge token: {0}")]
    Parse(#[source] serde_json::Error),
    /// The payload is of another version.
    #[error("edge token of version {0}; this release reads version {known}", known = EdgeConfig::VERSION)]
    UnsupportedVersion(u32),
}

impl EdgeConfig {
    /// The version written and read.
    pub const VERSION: u32 = 1;

    /// The configuration as one word for command lines and environment variables. It contains the private key.
    pub fn to_token(&self) -> Result<SecretText, serde_json::Error> {
        // The JSON holds the private key, so that its memory is wiped as that of the key is.
        let json = zeroize::Zeroizing::new(serde_json::to_vec(self)?);
        Ok(format!("{TOKEN_PREFIX}{}", URL_SAFE_NO_PAD.encode(&*json)).into())
    }

    /// Reads a token; white space around it is not allowed.
    pub fn from_token(token: &str) -> Result<Self, EdgeTokenError> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let payload = token.strip_prefix(TOKEN_PREFIX).ok_or(EdgeTokenError::Prefix)?;
        let json = zeroize::Zeroizing::new(URL_SAFE_NO_PAD.decode(payload)?);
        // The version decides before the shape: a newer configuration may look different altogether.
        let Versioned { version } = serde_json::from_slice(&json).map_err(EdgeTokenError::Parse)?;
        if version != Self::VERSION {
            return Err(EdgeTokenError::UnsupportedVersion(version));
        }
        serde_json::from_slice(&json).map_err(EdgeTokenError::Parse)
    }
}
