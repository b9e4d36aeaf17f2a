//! Hosts in memory that keep the contract of `overlayd_core::contract` strictly: a plan that contradicts itself or the
//! host is an error here, even where a kernel would let it pass.
//!
//! A fake is a handle: clones share the host, the instance and the [`FaultScript`]. `restarted` is what a new process of the
//! same daemon finds; `neighbour` is another daemon on the same host.

mod attach;
mod dns;
mod machine;
mod nat;
mod overlay;
mod script;

pub use attach::{FakeAttacher, SeenInterface};
pub use dns::FakeDns;
pub use machine::FakeMachine;
pub use nat::FakeNat;
pub use overlay::FakeOverlay;
pub use script::{CallStage, FaultReaction, FaultScript, RecordedCall};

use overlayd_core::names::InstanceId;

/// The instance that a fake belongs to unless told otherwise.
pub fn first_instance() -> InstanceId {
    InstanceId::of_data_dir("/fake/first".as_ref())
}

/// Another daemon on the same host.
pub fn second_instance() -> InstanceId {
    InstanceId::of_data_dir("/fake/second".as_ref())
}
