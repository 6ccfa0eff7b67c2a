//! The library's requests, carried by our transport. Deadlines are ours: a follower that
//! hangs costs the core nothing but the wait it asked for.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use openraft::errors::{
    NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable,
};
use openraft::network::RPCOption;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderError,
    TransferLeaderRequest, VoteRequest, VoteResponse,
};
use openraft::{EntryPayload, OptionalSend, RPCTypes, RaftNetworkFactory, RaftNetworkV2};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use strowger_core::ports::NodeNumber;

use super::snapshot::{SnapshotRows, encode_chunk};
use super::{Data, Entry, Payload, Peer, Snapshot, SnapshotMeta, Types, Vote};
use crate::error::CallError;
use crate::limits;
use crate::transport::Transport;
use crate::transport::wire::{self, Kind};

/// Makes clients for the library.
#[derive(Clone)]
pub struct Network {
    /// This node.
    pub node: NodeNumber,
    /// Our transport.
    pub transport: Arc<Transport>,
}

/// A client of one peer.
pub struct PeerClient {
    node: NodeNumber,
    target: NodeNumber,
    transport: Arc<Transport>,
}

/// First frame of a snapshot stream.
#[derive(Serialize, Deserialize)]
pub struct SnapshotHeader {
    /// Vote of the leader that sends.
    pub vote: Vote,
    /// What the snapshot covers.
    pub meta: SnapshotMeta,
}

impl RaftNetworkFactory<Types> for Network {
    type Network = PeerClient;

    async fn new_client(&mut self, target: NodeNumber, peer: &Peer) -> PeerClient {
        self.transport.set_address(target, &peer.address);
        PeerClient {
            node: self.node,
            target,
            transport: self.transport.clone(),
        }
    }
}

impl PeerClient {
    async fn ask<Q: Serialize, A: DeserializeOwned>(
        &self,
        kind: Kind,
        question: &Q,
        deadline: Duration,
        action: RPCTypes,
    ) -> Result<A, RPCError<Types>> {
        let answer = self
            .transport
            .ask(self.target, kind, question, deadline)
            .await;
        answer.map_err(|error| match error {
            CallError::Timeout(target) => Timeout {
                action,
                id: self.node,
                target,
                timeout: deadline,
            }
            .into(),
            CallError::Refused { .. } => RPCError::Network(NetworkError::new(&error)),
            error => RPCError::Unreachable(Unreachable::new(&error)),
        })
    }

    async fn stream_snapshot(
        &self,
        vote: Vote,
        snapshot: Snapshot,
    ) -> Result<SnapshotResponse<Types>, CallError> {
        let broken = |error: &dyn std::fmt::Display| CallError::Unreachable {
            node: self.target,
            why: error.to_string(),
        };
        let idle = |_| CallError::Timeout(self.target);
        let SnapshotRows::Pinned(mut pin) = snapshot.snapshot else {
            return Err(broken(&"only pinned rows are sent"));
        };
        let (mut send, mut receive) = self.transport.stream(self.target, Kind::Snapshot).await?;
        let header = crate::store::encode(&SnapshotHeader {
            vote,
            meta: snapshot.meta,
        });
        wire::send_frame(&mut send, &header)
            .await
            .map_err(|error| broken(&error))?;
        let mut hasher = blake3::Hasher::new();
        while let Some(chunk) = pin.next().await.map_err(|error| broken(&error))? {
            let bytes = encode_chunk(&chunk);
            hasher.update(&bytes);
            let sending = wire::send_frame(&mut send, &bytes);
            let sent = tokio::time::timeout(limits::SNAPSHOT_IDLE_MAX, sending).await;
            sent.map_err(idle)?.map_err(|error| broken(&error))?;
        }
        wire::send_frame(&mut send, &[])
            .await
            .map_err(|error| broken(&error))?;
        let hash = *hasher.finalize().as_bytes();
        wire::send_frame(&mut send, &hash)
            .await
            .map_err(|error| broken(&error))?;
        send.finish().map_err(|error| broken(&error))?;
        // Installing takes as long as the rows are many; the connection's own idle
        // timeout ends the wait when the peer is gone.
        let answer = wire::read_answer(&mut receive)
            .await
            .map_err(|error| broken(&error))?;
        postcard::from_bytes(&answer).map_err(|error| broken(&error))
    }
}

/// Bytes of the commands in an entry.
fn weight(entry: &Entry) -> usize {
    match &entry.payload {
        EntryPayload::Normal(Data(payload)) => match &**payload {
            Payload::Batch { proposals, .. } => {
                let bytes = proposals.iter().map(|proposal| proposal.command.len());
                bytes.sum()
            }
            Payload::Own { .. } => 0,
        },
        EntryPayload::Blank | EntryPayload::Membership(_) => 0,
    }
}

impl RaftNetworkV2<Types> for PeerClient {
    type SnapshotData = SnapshotRows;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        // Entries may be large and need a sync over there; heartbeats are neither.
        let deadline = if rpc.entries.is_empty() {
            option.hard_ttl()
        } else {
            let bytes: usize = rpc.entries.iter().map(weight).sum();
            let ms = u64::try_from(bytes * 1_000 / limits::APPEND_RATE_MIN).unwrap_or(0);
            option.hard_ttl().max(Duration::from_millis(500)) + Duration::from_millis(ms)
        };
        self.ask(Kind::Append, &rpc, deadline, RPCTypes::AppendEntries)
            .await
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        self.ask(Kind::Vote, &rpc, option.hard_ttl(), RPCTypes::Vote)
            .await
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        self.ask(Kind::PreVote, &rpc, option.hard_ttl(), RPCTypes::Vote)
            .await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        tokio::select! {
            closed = cancel => Err(StreamingError::Closed(closed)),
            sent = self.stream_snapshot(vote, snapshot) => sent.map_err(|error| {
                tracing::warn!(target = self.target, %error, "a snapshot was not delivered");
                StreamingError::Unreachable(Unreachable::new(&error))
            }),
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<Types>,
        option: RPCOption,
    ) -> Result<Result<(), TransferLeaderError<Types>>, RPCError<Types>> {
        self.ask(
            Kind::Transfer,
            &request,
            option.hard_ttl(),
            RPCTypes::TransferLeader,
        )
        .await
    }
}
