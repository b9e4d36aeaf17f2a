//! How a device goes from one process to another without missing a packet: the channel between the two processes, and
//! what each of them does.

pub(crate) mod channel;
pub(crate) mod predecessor;
pub(crate) mod successor;
