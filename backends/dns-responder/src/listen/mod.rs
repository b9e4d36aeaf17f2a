//! The sockets. Each address has one UDP and one TCP socket, which live until the address is no longer planned.

mod tcp;
mod udp;

use std::{
    io,
    net::{SocketAddr, TcpListener as StdTcpListener, UdpSocket as StdUdpSocket},
    sync::Arc,
};

use overlayd_core::contract::{Error, Result};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tokio::net::{TcpListener, UdpSocket};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    platform::{REUSE_ADDRESS, find_port_owner},
    service::DnsService,
};

/// Room for queries that arrive while others are answered, in bytes; the host may grant less.
const RECEIVE_BUFFER: usize = 4 << 20;
/// Connections that wait to be accepted.
const BACKLOG: i32 = 256;

/// The sockets of an address, not yet answered on.
pub(crate) struct BoundSockets {
    udp: UdpSocket,
    tcp: TcpListener,
}

impl BoundSockets {
    /// Binds both sockets, or neither.
    pub(crate) fn new(address: SocketAddr) -> Result<Self> {
        let udp =
            bind_udp(address).and_then(UdpSocket::from_std).map_err(|error| failure(address, Protocol::UDP, error))?;
        let tcp = bind_tcp(address)
            .and_then(TcpListener::from_std)
            .map_err(|error| failure(address, Protocol::TCP, error))?;
        Ok(Self { udp, tcp })
    }
}

/// An address that is answered on.
#[derive(Debug)]
pub(crate) struct AddressListener {
    scope: TaskScope,
}

impl AddressListener {
    /// Starts answering.
    pub(crate) fn start(bound: BoundSockets, service: &Arc<DnsService>) -> Self {
        let scope = TaskScope::default();
        scope.spawn(udp::serve(bound.udp, Arc::clone(service), scope.clone()));
        scope.spawn(tcp::serve(bound.tcp, Arc::clone(service), scope.clone()));
        Self { scope }
    }

    /// Begins to stop.
    pub(crate) fn stop(&self) {
        self.scope.closing.cancel();
        self.scope.tasks.close();
    }

    /// Resolves when the sockets are free, after [`Listener::stop`].
    pub(crate) async fn stopped(&self) {
        self.scope.tasks.wait().await;
    }
}

/// The tasks of a listener, which end together.
#[derive(Debug, Clone, Default)]
pub(crate) struct TaskScope {
    closing: CancellationToken,
    tasks: TaskTracker,
}

impl TaskScope {
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let closing = self.closing.clone();
        self.tasks.spawn(async move {
            // Done or cut off: either way it has ended, and has nothing to tell.
            let _ = closing.run_until_cancelled(task).await;
        });
    }
}

fn bind_udp(address: SocketAddr) -> io::Result<StdUdpSocket> {
    let socket = socket(address, Type::DGRAM, Protocol::UDP)?;
    // No SO_REUSEADDR: with UDP it would let another process take our queries.
    socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    socket.bind(&SockAddr::from(address))?;
    Ok(socket.into())
}

fn bind_tcp(address: SocketAddr) -> io::Result<StdTcpListener> {
    let socket = socket(address, Type::STREAM, Protocol::TCP)?;
    socket.set_reuse_address(REUSE_ADDRESS)?;
    socket.bind(&SockAddr::from(address))?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn socket(address: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    if address.is_ipv6() {
        // Without it, `[::]:53` would take the IPv4 port as well, which may be planned by itself.
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn failure(address: SocketAddr, protocol: Protocol, error: io::Error) -> Error {
    let name = if protocol == Protocol::UDP { "UDP" } else { "TCP" };
    if error.kind() == io::ErrorKind::AddrInUse {
        let by = find_port_owner(address, protocol).unwrap_or_else(|| "another process".to_owned());
        return Error::Conflict { what: format!("{name} {address}"), by };
    }
    if error.kind() == io::ErrorKind::PermissionDenied {
        return Error::Unsupported {
            what: format!("listening on {name} {address}"),
            reason: "ports below 1024 need CAP_NET_BIND_SERVICE; give it to the daemon or configure another port"
                .into(),
        };
    }
    Error::host(format!("listen on {name} {address}"), error)
}
