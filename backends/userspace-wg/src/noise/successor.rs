use std::net::SocketAddr;

use super::time::SteadyTime;

/// What a tunnel in a handover leaves to the process that takes the device over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SuccessorTraffic {
    /// Came from the network, and belongs to no session of this process.
    Datagram(SocketAddr, Vec<u8>),
    /// Came from the host, and there is no session to send it on.
    Packet(Vec<u8>),
}

/// The state of a tunnel while another process takes the device over.
#[derive(Debug)]
pub(crate) struct HandoverState {
    /// What waits to be passed on, oldest first.
    pub(crate) traffic: Vec<SuccessorTraffic>,
    /// When a message last came on a session of this process.
    pub(crate) last_received: SteadyTime,
}
