//! UDP and TCP sockets of the service addresses (RFC 3261 §18).
//!
//! Addresses come and go at run time. Everything received is parsed on the task that received it
//! and handed on in the same breath; everything sent is one non-blocking call. The transport
//! judges sources (rate, connections), never content.
//!
//! Invariant: no queue here grows without bound, and what is dropped is counted by cause.

mod framer;
mod guard;
mod tcp;
mod udp;

pub use framer::Framer;
pub use guard::{Network, RateLimits};

use crate::limits;
use crate::stats::{Drop, Stats};
use bytes::Bytes;
use guard::Guard;
use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// A transport protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Protocol {
    /// Datagrams.
    Udp,
    /// Streams.
    Tcp,
}

impl Protocol {
    /// The name in a Via.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
        }
    }

    /// True when the transport itself retransmits.
    #[must_use]
    pub fn is_reliable(self) -> bool {
        self == Self::Tcp
    }
}

/// The path between one of our addresses and a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Flow {
    /// Transport protocol.
    pub protocol: Protocol,
    /// Our service address and the port it listens on.
    pub local: SocketAddr,
    /// The peer as seen on the wire.
    pub remote: SocketAddr,
    /// The TCP connection, when there is one; unknown to every process but the one that has it.
    pub connection: Option<u64>,
}

impl Flow {
    /// A UDP flow.
    #[must_use]
    pub fn udp(local: SocketAddr, remote: SocketAddr) -> Self {
        Self {
            protocol: Protocol::Udp,
            local,
            remote,
            connection: None,
        }
    }

    /// A TCP flow that is connected when first used.
    #[must_use]
    pub fn tcp(local: SocketAddr, remote: SocketAddr) -> Self {
        Self {
            protocol: Protocol::Tcp,
            local,
            remote,
            connection: None,
        }
    }
}

/// Why an address could not be bound.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// The address is bound here already.
    #[error("{0} is bound already")]
    AlreadyBound(IpAddr),
    /// The operating system refused.
    #[error("cannot bind {protocol} {address}: {source}")]
    System {
        /// `UDP` or `TCP`.
        protocol: &'static str,
        /// What was to be bound.
        address: SocketAddr,
        /// The reason given.
        source: std::io::Error,
    },
}

impl BindError {
    /// True when the machine does not have the address.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        let Self::System { source, .. } = self else {
            return false;
        };
        source.kind() == std::io::ErrorKind::AddrNotAvailable
    }
}

/// The sockets one address got; differs from what was asked for only when a port was 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bound {
    /// UDP address.
    pub udp: SocketAddr,
    /// TCP address, when asked for.
    pub tcp: Option<SocketAddr>,
}

/// What became of a message that was to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sent {
    /// On its way.
    Yes,
    /// The flow's local address is not bound here.
    Elsewhere,
    /// Dropped and counted.
    Dropped,
}

/// Receives what the sockets deliver. Must not block.
pub(crate) trait Receiver: Send + Sync + 'static {
    /// One datagram or one stream frame.
    fn received(&self, bytes: &[u8], flow: Flow);
}

struct Address {
    tasks: Vec<JoinHandle<()>>,
    udp: SocketAddr,
    since: Instant,
}

/// The sockets of one endpoint.
pub(crate) struct Transport {
    addresses: Mutex<HashMap<IpAddr, Address>>,
    sockets: RwLock<HashMap<SocketAddr, Arc<tokio::net::UdpSocket>>>,
    tcp: tcp::Connections,
    guard: Guard,
    quiet: AtomicBool,
    stats: Arc<Stats>,
}

impl Transport {
    pub(crate) fn new(limits: RateLimits, stats: Arc<Stats>) -> Self {
        Self {
            addresses: Mutex::default(),
            sockets: RwLock::default(),
            tcp: tcp::Connections::new(),
            guard: Guard::new(limits),
            quiet: AtomicBool::new(false),
            stats,
        }
    }

    pub(crate) fn bind(
        self: &Arc<Self>,
        receiver: &Arc<dyn Receiver>,
        ip: IpAddr,
        udp_port: u16,
        tcp_port: Option<u16>,
    ) -> Result<Bound, BindError> {
        let mut addresses = self.addresses.lock();
        if addresses.contains_key(&ip) {
            return Err(BindError::AlreadyBound(ip));
        }
        // TCP first: a second listener is refused by the system, while a second UDP socket with
        // SO_REUSEADDR is not, so this is what notices that another process holds the address.
        let tcp_listener = match tcp_port {
            Some(port) => Some(tcp::listen(SocketAddr::new(ip, port))?),
            None => None,
        };
        let (udp_address, socket) = udp::open(SocketAddr::new(ip, udp_port))?;
        let mut tasks = vec![tokio::spawn(udp::run(
            Arc::clone(self),
            Arc::clone(receiver),
            Arc::clone(&socket),
            udp_address,
        ))];
        let mut tcp_address = None;
        if let Some((address, listener)) = tcp_listener {
            tcp_address = Some(address);
            self.tcp.add_local(address);
            tasks.push(tokio::spawn(tcp::accept(
                Arc::clone(self),
                Arc::clone(receiver),
                listener,
                address,
            )));
        }
        self.sockets.write().insert(udp_address, socket);
        let udp = udp_address;
        let since = Instant::now();
        addresses.insert(ip, Address { tasks, udp, since });
        Ok(Bound {
            udp,
            tcp: tcp_address,
        })
    }

    /// Closes the sockets and connections of an address; they are closed when this returns.
    pub(crate) async fn unbind(&self, ip: IpAddr) -> bool {
        let Some(address) = self.addresses.lock().remove(&ip) else {
            return false;
        };
        self.sockets.write().remove(&address.udp);
        let mut tasks = address.tasks;
        tasks.extend(self.tcp.remove_local(ip));
        for task in &tasks {
            task.abort();
        }
        for task in tasks {
            // A task that was aborted ends with an error; that is what was wanted.
            let _ = task.await;
        }
        true
    }

    pub(crate) fn bound(&self) -> Vec<IpAddr> {
        self.addresses.lock().keys().copied().collect()
    }

    pub(crate) fn bound_for(&self, ip: IpAddr) -> Option<Duration> {
        let addresses = self.addresses.lock();
        addresses.get(&ip).map(|address| address.since.elapsed())
    }

    pub(crate) fn set_quiet(&self, quiet: bool) {
        self.quiet.store(quiet, Ordering::Release);
    }

    pub(crate) fn is_quiet(&self) -> bool {
        self.quiet.load(Ordering::Acquire)
    }

    /// Sends bytes that were judged already (by the quiet rule, or by another node).
    pub(crate) fn send(
        self: &Arc<Self>,
        receiver: &Arc<dyn Receiver>,
        flow: &Flow,
        bytes: &Bytes,
    ) -> Sent {
        match flow.protocol {
            Protocol::Udp => self.send_udp(flow, bytes),
            Protocol::Tcp => tcp::send(self, receiver, flow, bytes),
        }
    }

    fn send_udp(&self, flow: &Flow, bytes: &Bytes) -> Sent {
        let sockets = self.sockets.read();
        let Some(socket) = sockets.get(&flow.local) else {
            return Sent::Elsewhere;
        };
        let sent = match socket.try_send_to(bytes, flow.remote) {
            // The runtime has not looked at a socket just opened yet; the system has room.
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                socket2::SockRef::from(&**socket).send_to(bytes, &flow.remote.into())
            }
            sent => sent,
        };
        match sent {
            Ok(_) => {
                self.stats.sent();
                Sent::Yes
            }
            Err(_) => {
                self.stats.dropped(Drop::SendFailed);
                Sent::Dropped
            }
        }
    }
}

/// Sizes of socket buffers asked for; the system may grant less.
const SOCKET_BUFFER_BYTES: usize = 64 * limits::MESSAGE_BYTES_MAX;
