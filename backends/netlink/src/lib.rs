//! What the Linux backends share: links, addresses, routes, namespaces, nftables and sysctls.
//!
//! Requests are plain values ([`Request`]), built by the functions of [`link`], [`address`], [`route`] and
//! [`neighbour`], and carried out by an [`Rtnl`], alone or many in one datagram. An `Rtnl` speaks for the network
//! namespace it was opened in, also when another thread uses it later; [`Netns`] is how to open one elsewhere.
//!
//! Calls here block: the kernel works on a routing request inside the `send`, under a lock that deletions of links hold
//! for milliseconds. Asynchronous callers keep them off their executor's threads (`tokio::task::spawn_blocking`).

pub mod address;
mod channel;
pub mod conntrack;
pub mod device;
mod error;
pub mod link;
mod managers;
mod message;
pub mod neighbour;
mod netns;
mod netns_pool;
pub mod nft;
pub mod overlap;
mod own_changes;
mod request;
pub mod route;
mod rtnl;
pub mod steps;
mod stronger_process;
pub mod sysctl;
mod traffic;
pub mod watch;

pub use address::Address;
pub use error::{Error, OrAbsent, Result};
pub use link::Link;
pub use managers::NetworkManagers;
pub use netns::{Netns, NetnsId};
pub use netns_pool::{NetnsPool, NetnsWorker};
pub use own_changes::OwnChanges;
pub use request::Request;
pub use route::Route;
pub use rtnl::Rtnl;
pub use traffic::Traffic;
