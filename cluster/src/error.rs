//! What can go wrong, as values.

use std::net::SocketAddr;
use std::path::PathBuf;

use strowger_core::ports::NodeNumber;

use crate::event::StandAside;

/// Reading or writing the store failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A stored value does not match its checksum.
    #[error("the value of key {key} in {family} does not match its checksum")]
    Corrupt {
        /// Column family.
        family: &'static str,
        /// The key, in hexadecimal.
        key: String,
    },
    /// A stored value matches its checksum but is not of this version.
    #[error("the value of {what} cannot be read: {why}")]
    Format {
        /// Which value.
        what: &'static str,
        /// What the decoder said.
        why: String,
    },
    /// The storage engine failed.
    #[error("the storage engine failed: {0}")]
    Engine(#[from] rocksdb::Error),
    /// A file operation failed.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The rows, or an entry that was committed, are of a feature level this program does not
    /// read.
    #[error("feature level {0} is not read")]
    Beyond(u32),
    /// The store has been closed.
    #[error("the store is closed")]
    Closed,
}

/// Identity files are missing, damaged or could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// There is no identity in this directory.
    #[error("SW0410: {0} holds no identity")]
    Missing(PathBuf),
    /// There already is one.
    #[error("SW0411: {0} already holds an identity")]
    Exists(PathBuf),
    /// A file of the identity cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file of the identity is damaged.
    #[error("SW0412: the identity file {path} is damaged: {why}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A certificate could not be made.
    #[error("a certificate could not be made: {0}")]
    Certificate(String),
    /// A name or number is outside what certificates carry.
    #[error("{0}")]
    Invalid(String),
}

/// [`crate::Cluster::open`] failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another daemon runs on the same data.
    #[error("SW0420: another daemon is running on {0}")]
    Locked(PathBuf),
    /// The identity is missing or damaged.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The store cannot be opened.
    #[error("SW0421: the store cannot be opened: {0}")]
    Store(#[from] StoreError),
    /// A snapshot was being installed when the node stopped and its file is gone or
    /// damaged, so the rows are incomplete.
    #[error(
        "SW0422: an interrupted snapshot cannot be resumed ({why}); remove this node from the \
         cluster, clear its data and join again"
    )]
    Unrepairable {
        /// What is wrong with the snapshot file.
        why: String,
    },
    /// The cluster port is taken.
    #[error("SW0423: the cluster port {address} cannot be bound: {source}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// TLS refused the identity.
    #[error("SW0424: the identity is not accepted by TLS: {0}")]
    Tls(String),
    /// The store is older than the node, or was lost.
    #[error(
        "SW0426: the store has seen {store} lives of this node, which has had {lives}: it was \
         lost, or an old one was put back"
    )]
    Outdated {
        /// Lives the store knows of.
        store: u64,
        /// Lives the node has had.
        lives: u64,
    },
    /// This node can never take part on this data, or not with this program.
    #[error("{0}")]
    Aside(StandAside),
    /// Agreement could not start.
    #[error("SW0425: agreement could not start: {0}")]
    Agreement(String),
}

/// Joining a cluster failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// The token cannot be read.
    #[error("SW0430: this is not a join token: {0}")]
    Malformed(String),
    /// The cluster does not know the token.
    #[error("SW0431: the cluster does not know this join token")]
    Wrong,
    /// The token was used before.
    #[error("SW0432: this join token has been used")]
    Used,
    /// The token is too old.
    #[error("SW0433: this join token has expired")]
    Expired,
    /// The wished node number is taken.
    #[error("SW0434: node number {0} is taken")]
    NodeTaken(NodeNumber),
    /// Whoever answered does not belong to the cluster of the token.
    #[error("SW0435: {address} does not belong to the cluster of this token: {why}")]
    Foreign {
        /// Who answered.
        address: String,
        /// What was wrong.
        why: String,
    },
    /// No member of the token could be reached.
    #[error("SW0436: no member of the cluster answers: {0}")]
    Unreachable(String),
    /// The cluster has no quorum, so it can admit nobody.
    #[error("SW0437: the cluster has no quorum at present")]
    NoQuorum,
    /// The member refused for another reason.
    #[error("SW0438: the cluster refused: {0}")]
    Refused(String),
    /// Writing the identity failed.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

/// A change of members failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MemberError {
    /// There is no such member.
    #[error("node {0} is not a member")]
    Unknown(NodeNumber),
    /// The last voter cannot be removed.
    #[error("node {0} is the last voter")]
    LastVoter(NodeNumber),
    /// The cluster has no quorum.
    #[error("the cluster has no quorum at present")]
    NoQuorum,
    /// Agreement refused.
    #[error("the change was refused: {0}")]
    Refused(String),
}

/// A request to another node failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// There is no such member, or its address is not known.
    #[error("node {0} is not known")]
    Unknown(NodeNumber),
    /// The peer cannot be reached.
    #[error("node {node} cannot be reached: {why}")]
    Unreachable {
        /// The peer.
        node: NodeNumber,
        /// What the transport said.
        why: String,
    },
    /// No answer before the deadline; the peer may have acted.
    #[error("node {0} did not answer in time")]
    Timeout(NodeNumber),
    /// The peer's handler refused.
    #[error("node {node} refused: {why}")]
    Refused {
        /// The peer.
        node: NodeNumber,
        /// What it said.
        why: String,
    },
    /// The request or answer is larger than the limit.
    #[error("the message exceeds {0} bytes")]
    TooLarge(usize),
    /// The queue of one-way messages for this peer is full.
    #[error("the queue for node {0} is full")]
    QueueFull(NodeNumber),
    /// This node is closing.
    #[error("this node is closing")]
    Closed,
}
