//! A client for `overlayd`, the daemon that owns a host's container overlay network.
//!
//! A [`Client`] has one method for each operation. Its clones share one connection, on which many calls may be in flight
//! at the same time. The connection is made when it is first needed, and again after it broke.
//!
//! # Quick start
//!
//! ```no_run
//! use overlayd_client::{AttachContainer, AttachHandle, Client, ClientOptions, OverlayMode, SetupGlobalOverlay};
//!
//! # async fn example() -> overlayd_client::ClientResult<()> {
//! let client = Client::unix("/var/run/zlayer-overlayd.sock", ClientOptions::default());
//!
//! client.set_local_node_id(1).await?;
//! let setup = SetupGlobalOverlay::new("atlas", "n1", "10.77.0.0/16", 51820).slice_cidr("10.77.4.0/26");
//! client.setup_global_overlay(setup).await?;
//!
//! client.setup_service_overlay("web", OverlayMode::Auto).await?;
//! let attached = client.attach_container(AttachContainer::new(AttachHandle::process(31337), "web")).await?;
//! println!("the container has the address {}", attached.ip());
//! # Ok(())
//! # }
//! ```
//!
//! Every request may be sent twice: what is there already is not made again. So after an error whose
//! [outcome is unknown](ClientError::is_outcome_unknown), ask again.
//!
//! # Errors
//!
//! [`ClientError::Refused`] is the daemon's answer on a healthy connection, with a text for people and a
//! [code](ClientError::code) for programs. The other kinds say that there is no daemon, that this user may not use it,
//! that the connection broke, or that no reply came within [`ClientOptions::timeout`].
//!
//! # Events
//!
//! [`Client::events`] gives what the daemon tells without being asked, and says when the connection was lost. Events of
//! the published protocol come without asking; added ones have to be named in a [`Hello`]. A client that has said `hello`
//! says it again on each new connection.
//!
//! # Compatibility
//!
//! The client works against `zlayer-overlayd` 0.14 as well, as long as it uses published operations only: that daemon
//! hangs up on `hello`, `publish_ports` and `upgrade`.
//!
//! The crate follows semantic versioning; before 1.0 a new minor version may break its Rust interface. The wire stays
//! compatible: a client and a daemon of different releases understand each other.

mod calls;
mod client;
mod connect;
mod connection;
mod error;
mod events;
mod pending;
#[cfg(unix)]
mod unix;

pub use overlayd_protocol::{self as protocol, *};

#[cfg(unix)]
pub use self::unix::UnixConnector;
pub use self::{
    calls::AttachOutcome,
    client::{Client, ClientOptions},
    connect::{ByteStream, Connector},
    error::{ClientError, ClientResult},
    events::{EventNotice, EventStream},
};
