/// What a device may use of the kernel's offloads, at most. What the kernel does not have is found out and done without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KernelOffloads {
    /// Between the interface and the host.
    pub tun: TunOffload,
    /// Datagrams sent.
    pub send: UdpSend,
    /// Datagrams received.
    pub receive: UdpReceive,
}

/// How packets pass between the interface and the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TunOffload {
    /// One by one, without any header.
    None,
    /// TCP segments as one frame (`TUN_F_TSO4`, `TUN_F_TSO6`), and checksums left to us (`TUN_F_CSUM`).
    Tcp,
    /// UDP datagrams as one frame too (`TUN_F_USO4`, `TUN_F_USO6`; Linux 6.2).
    TcpAndUdp,
}

/// How datagrams are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum UdpSend {
    /// One with each call.
    Single,
    /// Many with each call (`sendmmsg(2)`).
    Many,
    /// Many as one (`UDP_SEGMENT`; Linux 4.18).
    Segmented,
}

/// How datagrams are received.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum UdpReceive {
    /// One with each call.
    Single,
    /// Many with each call (`recvmmsg(2)`).
    Many,
    /// Many as one (`UDP_GRO`; Linux 5.0).
    Coalesced,
}

impl KernelOffloads {
    /// Everything that the kernel has.
    pub const ALL: Self = Self { tun: TunOffload::TcpAndUdp, send: UdpSend::Segmented, receive: UdpReceive::Coalesced };

    /// One packet, one call.
    pub const NONE: Self = Self { tun: TunOffload::None, send: UdpSend::Single, receive: UdpReceive::Single };
}

impl Default for KernelOffloads {
    fn default() -> Self {
        Self::ALL
    }
}
