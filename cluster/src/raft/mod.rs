//! Everything that touches the Raft library. Nothing outside this folder names it,
//! so that it can be upgraded or replaced behind our own fault suite.

pub mod log;
pub mod machine;
pub mod network;
pub mod snapshot;
#[cfg(test)]
mod suite;

use std::fmt;
use std::sync::Arc;

use openraft::SnapshotPolicy;
use serde::{Deserialize, Serialize};
use strowger_core::ports::{NodeNumber, Proposal};

use crate::config::ClusterConfig;
use crate::limits;

openraft::declare_raft_types!(
    /// The types of our Raft groups.
    pub Types:
        D = Data,
        R = Replies,
        NodeId = NodeNumber,
        Node = Peer,
);

/// The Raft core of this node.
pub type Raft = openraft::Raft<Types, machine::Applier>;
/// Term and node of a leader.
pub type LeaderId = openraft::impls::leader_id_adv::LeaderId<u64, NodeNumber>;
/// Position in the log.
pub type LogId = openraft::LogId<LeaderId>;
/// A vote.
pub type Vote = openraft::Vote<LeaderId>;
/// A log entry.
pub type Entry = openraft::type_config::alias::EntryOf<Types>;
/// Members and the position they were set at.
pub type StoredMembership = openraft::type_config::alias::StoredMembershipOf<Types>;
/// What a snapshot covers.
pub type SnapshotMeta = openraft::type_config::alias::SnapshotMetaOf<Types>;
/// A snapshot with its rows.
pub type Snapshot = openraft::type_config::alias::SnapshotOf<Types, snapshot::SnapshotRows>;

/// Where a member is dialled.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Address of its cluster port.
    pub address: String,
}

/// What a log entry carries. Shared, because log cache, replication and apply hold it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Data(pub Arc<Payload>);

impl fmt::Display for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            Payload::Batch { proposals, .. } => write!(f, "{} proposals", proposals.len()),
            Payload::Own { command, .. } => write!(f, "{command:?}"),
        }
    }
}

/// The content of an entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Payload {
    /// Commands of the machine.
    Batch {
        /// Wall clock of the leader just before appending, ms since 1970 UTC.
        stamp_ms: u64,
        /// The commands.
        proposals: Vec<Proposal>,
    },
    /// A command of the cluster itself.
    Own {
        /// Wall clock of the leader just before appending, ms since 1970 UTC.
        stamp_ms: u64,
        /// The command.
        command: OwnCommand,
    },
}

/// Commands of the cluster itself, applied before the machine sees anything.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum OwnCommand {
    /// Makes a join token known.
    Invite {
        /// Hash of its secret.
        secret_hash: [u8; 32],
        /// The node number it is for; the next free one when absent.
        node: Option<NodeNumber>,
        /// End of its life, ms since 1970 UTC.
        expires_ms: u64,
    },
    /// Uses a join token.
    Admit {
        /// Hash of its secret.
        secret_hash: [u8; 32],
        /// Hash of the key the newcomer made, so that a repeated request is answered.
        key_hash: [u8; 32],
    },
    /// Notes that a node was removed and may not come back under its old certificate.
    Remove {
        /// The node.
        node: NodeNumber,
    },
}

impl fmt::Debug for OwnCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invite {
                node, expires_ms, ..
            } => {
                write!(f, "Invite {{ node: {node:?}, expires_ms: {expires_ms} }}")
            }
            Self::Admit { .. } => write!(f, "Admit"),
            Self::Remove { node } => write!(f, "Remove {{ node: {node} }}"),
        }
    }
}

/// Answer to an [`OwnCommand`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OwnReply {
    /// Done.
    Done,
    /// The newcomer is admitted under this number.
    Admitted(NodeNumber),
    /// The token is not known.
    Wrong,
    /// The token was used.
    Used,
    /// The token is too old.
    Expired,
    /// The wished node number is taken.
    NodeTaken(NodeNumber),
    /// Too many tokens are open.
    TooMany,
}

/// What applying an entry answered, proposal by proposal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replies {
    /// Replies of the machine, in order.
    pub replies: Vec<Vec<u8>>,
    /// Answer to a command of the cluster itself.
    pub own: Option<OwnReply>,
}

/// The library's settings for `config`.
///
/// # Errors
/// A sentence when the timings contradict each other.
pub fn settings(config: &ClusterConfig) -> Result<Arc<openraft::Config>, String> {
    let ms = |duration: std::time::Duration| {
        u64::try_from(duration.as_millis()).expect("configured times are short")
    };
    let settings = openraft::Config {
        cluster_name: "strowger".to_owned(),
        election_timeout_min: ms(config.timing.election_min),
        election_timeout_max: ms(config.timing.election_max),
        heartbeat_interval: ms(config.timing.heartbeat),
        enable_pre_vote: Some(true),
        // Peers vouch for this life first.
        enable_elect: false,
        // A restarted leader always stands again; its rows may be behind its log.
        enable_leader_restore: Some(false),
        install_snapshot_timeout: ms(limits::SNAPSHOT_IDLE_MAX),
        max_payload_entries: 256,
        // A follower is brought up by entries as long as we hold them.
        replication_lag_threshold: config.log_kept.max(config.snapshot_every) + 1,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(config.snapshot_every),
        max_in_snapshot_log_to_keep: config.log_kept,
        purge_batch_size: (config.log_kept / 8).clamp(1, 4_096),
        backoff: "50ms 100ms 200ms ...500ms".to_owned(),
        ..openraft::Config::default()
    };
    settings
        .validate()
        .map(Arc::new)
        .map_err(|error| error.to_string())
}

/// Milliseconds since 1970 UTC.
pub fn wall_clock_ms() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| {
            u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
        })
}
