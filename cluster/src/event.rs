//! What the cluster tells the daemon without being asked.
//!
//! Events are wake-ups: a listener that falls behind misses some and must be able to
//! act on the present state alone ([`crate::Cluster::liveness`], `leader`, `members`).

use std::time::Instant;

use strowger_core::ports::{IncarnationNumber, NodeNumber};

/// What is known about whether a peer lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Liveness {
    /// The peer answers.
    Alive {
        /// The life it answers with.
        incarnation: IncarnationNumber,
    },
    /// The peer has stopped answering; it may be dead, cut off or slow.
    Suspect {
        /// Since when.
        since: Instant,
    },
    /// The peer's life is over, or its right to act has surely run out: it may be
    /// declared down.
    Dead {
        /// The life that ended, 0 when it was never learnt.
        incarnation: IncarnationNumber,
        /// True when the process was seen to be gone; false when its lease ran out.
        certain: bool,
    },
}

/// Why a node stopped voting and serving.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StandAside {
    /// A stored value did not match its checksum, or the disk failed.
    #[error("SW0401: the store is damaged: {0}")]
    Store(String),
    /// Agreement stopped.
    #[error("SW0402: agreement has stopped: {0}")]
    Agreement(String),
    /// The state of this node differs from that of most nodes at the same log index.
    #[error("SW0403: the state differs from that of most nodes at log index {index}")]
    StateDiffers {
        /// Where the hashes were compared.
        index: u64,
    },
    /// The data of this node is older than what it acknowledged.
    #[error(
        "SW0407: this data is older than what the node acknowledged: peers saw it in life \
         {incarnation} and up to entry {index}"
    )]
    Forgot {
        /// The life it was seen in.
        incarnation: IncarnationNumber,
        /// The entry it acknowledged.
        index: u64,
    },
    /// The cluster has gone on to a feature level this program does not read.
    #[error("SW0427: the cluster is at feature level {0}, which this program does not read")]
    TooOld(u32),
    /// This node was removed from the cluster.
    #[error("SW0404: this node was removed from the cluster")]
    Removed,
}

/// An event of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClusterEvent {
    /// Leadership changed; `node` is `None` while nobody leads.
    Leader {
        /// The leader.
        node: Option<NodeNumber>,
        /// Its term.
        term: u64,
    },
    /// A peer's liveness changed.
    Liveness {
        /// The peer.
        node: NodeNumber,
        /// What is known now.
        liveness: Liveness,
    },
    /// Members, their roles or addresses changed.
    Membership,
    /// A clock is too far from the majority, or was and is right again.
    ClockOffset {
        /// Whose clock.
        node: NodeNumber,
        /// Its distance from the median of the members, in milliseconds.
        offset_ms: i64,
    },
    /// This node stopped voting and serving.
    StandAside(StandAside),
}

/// Role of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Takes part in decisions.
    Voter,
    /// Receives everything, decides nothing (yet).
    Learner,
}

/// A member of the cluster as this node knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its number.
    pub node: NodeNumber,
    /// Where it is dialled.
    pub address: String,
    /// Voter or learner.
    pub role: Role,
    /// True when it leads.
    pub leader: bool,
    /// What is known about its life.
    pub liveness: Liveness,
    /// Entries it is behind the leader's log; known on the leader only.
    pub lag: Option<u64>,
}

/// Figures of agreement and storage on this node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterFigures {
    /// Present term.
    pub term: u64,
    /// Present leader.
    pub leader: Option<NodeNumber>,
    /// Last log index applied here.
    pub applied: u64,
    /// Last log index appended here.
    pub last_log: u64,
    /// Entries each follower is behind (leader only).
    pub lag: Vec<(NodeNumber, u64)>,
    /// Entries applied by this life of the node.
    pub entries: u64,
    /// Proposals applied by this life of the node.
    pub proposals: u64,
    /// Peers the death watch holds a connection to: their death is noticed at once.
    pub watched: Vec<NodeNumber>,
    /// Synced writes of this life of the node.
    pub syncs: u64,
    /// Memory of the store's own buffers and caches, bytes: bounded, and full only after a while.
    pub store_memory: u64,
    /// Elections this node stood in because its leader had surely died.
    pub forced_elections: u64,
    /// Snapshots installed by this life of the node.
    pub snapshots_installed: u64,
    /// Estimated distance of this node's clock from the leader's, in milliseconds.
    pub clock_offset_ms: i64,
}
