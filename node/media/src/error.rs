//! What the engine refuses, and why. Each variant is something a caller can meet.

use std::io;
use std::net::{IpAddr, SocketAddr};

use crate::LegKey;

/// Why the engine did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// No worker, or more than [`crate::limits::WORKERS_MAX`].
    #[error("{0} media workers: 1 to {max} are possible", max = crate::limits::WORKERS_MAX)]
    Workers(usize),
    /// The port range holds no even port with its odd neighbour.
    #[error("the RTP port range {first}-{last} holds no pair of an even port and the next one")]
    Ports {
        /// First port of the range given.
        first: u16,
        /// Last port of the range given.
        last: u16,
    },
    /// A thread, poller or wake-up could not be made.
    #[error("a media worker could not start: {0}")]
    Io(#[from] io::Error),
}

/// Why a leg was not opened. Nothing is held after any of these.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The leg is open already; its ports are unchanged.
    #[error("{0} is open already")]
    AlreadyOpen(LegKey),
    /// Every port pair of this local address is in use.
    #[error("all {pairs} RTP port pairs of {local} are in use")]
    PortsExhausted {
        /// The service address.
        local: IpAddr,
        /// Size of its pool.
        pairs: usize,
    },
    /// The wanted port is in use by another leg of ours.
    #[error("RTP port {port} of {local} is in use by another leg")]
    PortInUse {
        /// The service address.
        local: IpAddr,
        /// The RTP port asked for.
        port: u16,
    },
    /// The wanted port is odd or outside the configured range.
    #[error("RTP port {0} is not an even port of the configured range")]
    PortOutOfRange(u16),
    /// The operating system refused the socket.
    #[error("cannot bind RTP socket {address}: {source}")]
    Bind {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// Too many local addresses have open legs.
    #[error("more than {max} local addresses", max = crate::limits::LOCAL_ADDRESSES_MAX)]
    TooManyAddresses,
    /// Every worker serves its maximum of legs.
    #[error("the media workers serve their maximum of legs")]
    TooManyLegs,
    /// The worker's command queue is full; try again.
    #[error("the media worker has too many commands waiting")]
    Overloaded,
    /// The engine was stopped.
    #[error("the media engine is stopped")]
    Stopped,
}

/// Why a command for a leg was refused. The leg is unchanged after any of these.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MediaError {
    /// Never opened, or closed.
    #[error("{0} is not open")]
    UnknownLeg(LegKey),
    /// A leg cannot be bridged to itself.
    #[error("{0} cannot be bridged to itself")]
    SameLeg(LegKey),
    /// RTP payload types are seven bits wide.
    #[error("{0} is not an RTP payload type (0 to 127)")]
    PayloadType(u8),
    /// The phone did not agree to telephone events, so digits cannot be sent to it.
    #[error("{0} has no telephone-event payload type")]
    NoTelephoneEvents(LegKey),
    /// The worker's command queue is full; try again.
    #[error("the media worker has too many commands waiting")]
    Overloaded,
    /// The engine was stopped.
    #[error("the media engine is stopped")]
    Stopped,
}
