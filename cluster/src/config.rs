//! What a cluster node is told at start.
//!
//! Deliberately holds no identity: who the node is stands in its data directory,
//! written once by [`crate::identity::init`] or [`crate::identity::join`].

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Timing of agreement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Shortest election timeout.
    pub election_min: Duration,
    /// Longest election timeout; also a follower's lease for its leader.
    pub election_max: Duration,
    /// Between two heartbeats of the leader.
    pub heartbeat: Duration,
    /// A node's right to act runs this long from the confirmation it rests on; at most
    /// [`crate::limits::LEASE_MAX`].
    pub lease: Duration,
}

impl Timing {
    /// For machines that give the daemon its processor time: 300/600/100 ms,
    /// leases of 500 ms.
    pub const NORMAL: Self = Self {
        election_min: Duration::from_millis(300),
        election_max: Duration::from_millis(600),
        heartbeat: Duration::from_millis(100),
        lease: Duration::from_millis(500),
    };

    /// For starved machines: 500/1000/150 ms, leases of 1,000 ms. There a living node is
    /// easily kept from its processor for half a second, and to declare it dead costs its
    /// calls.
    pub const STARVED: Self = Self {
        election_min: Duration::from_millis(500),
        election_max: Duration::from_millis(1_000),
        heartbeat: Duration::from_millis(150),
        lease: Duration::from_millis(1_000),
    };
}

/// Configuration of [`crate::Cluster::open`].
#[derive(Clone, Debug)]
pub struct ClusterConfig {
    /// Where identity and rows live. One daemon at a time.
    pub data_dir: PathBuf,
    /// Address of the cluster port: QUIC (UDP) and the death watch (TCP).
    pub listen: SocketAddr,
    /// The address other nodes dial; may change from one start to the next.
    pub advertise: SocketAddr,
    /// Timing of agreement.
    pub timing: Timing,
    /// How long the leader waits for company before it writes an entry. Zero means
    /// that an entry starts at once and later proposals gather while it is under way.
    pub linger: Duration,
    /// Applied entries after which a snapshot is noted and the log before it may go.
    pub snapshot_every: u64,
    /// Entries kept behind a snapshot for followers that are only a little late.
    pub log_kept: u64,
    /// Whether caught-up learners become voters by themselves.
    pub promote: bool,
}

impl ClusterConfig {
    /// Defaults for a node with its data at `data_dir`, reached at `address`.
    pub fn new(data_dir: impl Into<PathBuf>, address: SocketAddr) -> Self {
        Self {
            data_dir: data_dir.into(),
            listen: address,
            advertise: address,
            timing: Timing::NORMAL,
            linger: Duration::ZERO,
            snapshot_every: 200_000,
            log_kept: 50_000,
            promote: true,
        }
    }
}
