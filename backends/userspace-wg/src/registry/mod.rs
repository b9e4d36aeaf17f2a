//! The devices of this process, by name.

mod devices;
mod handover;
mod make;
mod peers;
mod running;

pub(crate) use devices::DeviceRegistry;
pub use handover::{ExportedDevice, HandoverResult};
