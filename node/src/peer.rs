//! Requests between the daemons of a cluster that are not agreement: what a node says
//! about itself, and sound files.
//!
//! A request's first byte says that it is ours; one-way messages belong to telephony,
//! so that both share the connection without knowing each other's messages.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};
use strowger_cluster::{Cluster, Lane, PeerHandler};
use strowger_core::ids::BlobId;
use strowger_core::ports::NodeNumber;

use crate::blobs::Blobs;
use crate::limits;

/// First byte of a request of this module.
const EDGE: u8 = 0;

/// A request of one daemon to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PeerRequest {
    /// What are you? Answered with [`PeerStatus`].
    Status,
    /// The bytes of a blob from an offset, at most a piece. Answered with [`Piece`].
    Piece(BlobId, u64),
    /// Fetch these blobs from me unless you hold them. Answered with [`Held`].
    Hold(Vec<BlobId>),
}

/// What a node says about itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerStatus {
    /// Raft term.
    pub term: u64,
    /// Last applied index.
    pub applied: u64,
    /// Version of the program.
    pub version: String,
    /// Hash of the floor at `applied`.
    pub state_hash: Option<[u8; 16]>,
}

/// A piece of a blob; `None` when the node does not hold it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece(pub Option<Vec<u8>>);

/// Whether all blobs asked for are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held(pub bool);

/// Asks the daemon of `node`; `None` when it does not answer in time or not as expected.
pub async fn ask<T: serde::de::DeserializeOwned>(
    cluster: &Cluster,
    node: NodeNumber,
    request: &PeerRequest,
    deadline: std::time::Duration,
) -> Option<T> {
    let lane = match request {
        PeerRequest::Status => Lane::Control,
        PeerRequest::Piece(..) | PeerRequest::Hold(_) => Lane::Bulk,
    };
    let frame = postcard::to_extend(request, vec![EDGE]).ok()?;
    let answer = cluster.call(node, lane, frame, deadline).await.ok()?;
    postcard::from_bytes(&answer).ok()
}

/// What this node says about itself.
pub async fn status(cluster: &Cluster) -> PeerStatus {
    let hash = cluster.state_hash().await;
    let figures = cluster.figures();
    PeerStatus {
        term: figures.term,
        // The index the hash stands at, so that both can be compared between nodes.
        applied: hash.map_or(figures.applied, |(index, _)| index),
        version: crate::VERSION.to_owned(),
        state_hash: hash.map(|(_, hash)| hash),
    }
}

/// Takes in one-way messages; false when a message cannot be understood.
pub type Messages = dyn Fn(&[u8]) -> bool + Send + Sync;

/// Answers the other daemons; give it to [`Cluster::set_handler`].
pub struct PeerService {
    cluster: Cluster,
    blobs: Arc<Blobs>,
    messages: OnceLock<Box<Messages>>,
}

type Answering<'a> = Pin<Box<dyn Future<Output = Result<Vec<u8>, String>> + Send + 'a>>;

impl PeerService {
    /// A service over these blobs. It holds the cluster, which holds it: both live as
    /// long as the daemon.
    pub fn new(cluster: &Cluster, blobs: Arc<Blobs>) -> Arc<Self> {
        Arc::new(Self {
            cluster: cluster.clone(),
            blobs,
            messages: OnceLock::new(),
        })
    }

    /// Who takes in one-way messages. The first call counts; messages before are dropped,
    /// as datagrams are.
    pub fn set_messages(&self, messages: Box<Messages>) {
        let _ = self.messages.set(messages);
    }

    async fn edge(&self, from: NodeNumber, body: &[u8]) -> Result<Vec<u8>, String> {
        let request = postcard::from_bytes(body).map_err(|_| "unreadable request".to_owned())?;
        let cluster = &self.cluster;
        let answer = match request {
            PeerRequest::Status => postcard::to_stdvec(&status(cluster).await),
            PeerRequest::Piece(id, offset) => {
                let piece = self
                    .blobs
                    .store()
                    .piece(id, offset, limits::BLOB_PIECE_BYTES)
                    .await;
                postcard::to_stdvec(&Piece(piece))
            }
            PeerRequest::Hold(ids) => {
                let mut held = true;
                for id in ids {
                    held &= self.blobs.fetch_from(cluster, from, id).await;
                }
                postcard::to_stdvec(&Held(held))
            }
        };
        answer.map_err(|error| error.to_string())
    }
}

impl PeerHandler for PeerService {
    fn call(&self, from: NodeNumber, _lane: Lane, body: Vec<u8>) -> Answering<'_> {
        Box::pin(async move {
            match body.split_first() {
                Some((&EDGE, rest)) => self.edge(from, rest).await,
                _ => Err("no such service".to_owned()),
            }
        })
    }

    fn message(&self, from: NodeNumber, body: Vec<u8>) {
        let taken = self.messages.get().is_some_and(|messages| messages(&body));
        if !taken {
            tracing::debug!(from, "a message of another node was not understood");
        }
    }
}
