//! Answers what peers and newcomers ask.

use std::sync::Arc;
use std::time::Duration;

use quinn::RecvStream;
use serde::Serialize;
use serde::de::DeserializeOwned;
use strowger_core::ports::NodeNumber;

use crate::admission;
use crate::cluster::Lane;
use crate::core::Core;
use crate::event::StandAside;
use crate::identity::{BootstrapReply, BootstrapRequest, hash_of};
use crate::limits;
use crate::liveness::BootTime;
use crate::liveness::death::Greeting;
use crate::liveness::election::Position;
use crate::raft::network::SnapshotHeader;
use crate::raft::snapshot::{SnapshotRows, Staging};
use crate::raft::{OwnCommand, OwnReply, Snapshot};
use crate::store::keys;
use crate::store::{Family, decode, encode};
use crate::transport::wire::{self, Kind};
use crate::transport::{Serve, Serving};

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    decode("request", body).map_err(|error| error.to_string())
}

fn reply<T: Serialize, E: std::fmt::Display>(answer: Result<T, E>) -> Result<Vec<u8>, String> {
    answer
        .map(|answer| encode(&answer))
        .map_err(|error| error.to_string())
}

type Never = std::convert::Infallible;

impl Core {
    /// Who we are, for the death watch.
    pub fn greeting(&self) -> Greeting {
        Greeting {
            cluster: self.identity.cluster,
            node: self.node,
            incarnation: self.incarnation,
        }
    }

    async fn answer(
        self: Arc<Self>,
        from: NodeNumber,
        kind: Kind,
        body: Vec<u8>,
    ) -> Result<Vec<u8>, String> {
        // Whoever may have forgotten gives no vote and takes no entry.
        let takes_part = matches!(
            kind,
            Kind::Vote | Kind::PreVote | Kind::Append | Kind::Transfer
        );
        if takes_part {
            self.takes_part(from)?;
        }
        if kind == Kind::Append {
            self.leases.met(from, BootTime::now());
        }
        match kind {
            Kind::Vouch => {
                let standing = read(&body)?;
                let answer = tokio::task::spawn_blocking(move || self.vouch(from, &standing));
                reply(answer.await.map_err(|error| error.to_string())?)
            }
            Kind::Vote => reply(self.raft.vote(read(&body)?).await),
            Kind::PreVote => reply(self.raft.pre_vote(read(&body)?).await),
            Kind::Append => reply(self.raft.append_entries(read(&body)?).await),
            Kind::Transfer => reply(self.raft.handle_transfer_leader(read(&body)?).await),
            Kind::Propose => reply::<_, Never>(Ok(self.propose_forwarded(read(&body)?).await)),
            Kind::Own => reply::<_, Never>(Ok(self.own_here(read(&body)?).await)),
            Kind::Lease => reply::<_, Never>(Ok(self.grant(from, &read(&body)?))),
            Kind::Hello => reply(self.hello(from, read(&body)?).await),
            Kind::OtherLeader => {
                reply::<_, Never>(Ok(self.since_other_leader(from, &read(&body)?)))
            }
            Kind::Position => reply::<_, Never>(Ok(Position(self.log.last()))),
            Kind::Remove => reply(self.remove_here(read(&body)?).await),
            Kind::Call => self.hand_over(from, Lane::Control, body).await,
            Kind::CallBulk => self.hand_over(from, Lane::Bulk, body).await,
            Kind::Snapshot => Err("snapshots are streamed".to_owned()),
        }
    }

    async fn hand_over(
        &self,
        from: NodeNumber,
        lane: Lane,
        body: Vec<u8>,
    ) -> Result<Vec<u8>, String> {
        match self.handler.load_full() {
            Some(handler) => handler.call(from, lane, body).await,
            None => Err("the daemon is not ready".to_owned()),
        }
    }

    async fn receive_snapshot(
        self: &Arc<Self>,
        from: NodeNumber,
        mut stream: RecvStream,
    ) -> Result<Vec<u8>, String> {
        let idle = limits::SNAPSHOT_IDLE_MAX;
        let mut frame = async || {
            let frame = wire::read_frame(&mut stream, limits::RPC_BYTES_MAX);
            match tokio::time::timeout(idle, frame).await {
                Ok(frame) => frame.map_err(|error| error.to_string()),
                Err(_) => Err("the snapshot stalled".to_owned()),
            }
        };
        self.takes_part(from)?;
        // One at a time; a broken predecessor ends by its own timeout.
        let turn = tokio::time::timeout(idle, self.receiving.lock()).await;
        let _turn = turn.map_err(|_| "another snapshot is being received".to_owned())?;
        // Its file is what an installation that was cut off goes on from at the next start.
        let unfinished = self.store.read(Family::Local, keys::INSTALLING);
        let unfinished = unfinished.map_err(|error| error.to_string())?.is_some();
        if unfinished || self.stood_aside.lock().is_some() {
            return Err("this node takes no snapshot in this life".to_owned());
        }
        let header: SnapshotHeader = read(&frame().await?)?;
        let failed = |error: std::io::Error| format!("the snapshot cannot be stored: {error}");
        let mut staging = Staging::start(&self.data_dir).map_err(failed)?;
        let mut hasher = blake3::Hasher::new();
        loop {
            let chunk = frame().await?;
            if chunk.is_empty() {
                break;
            }
            hasher.update(&chunk);
            tokio::task::block_in_place(|| staging.add(&chunk)).map_err(failed)?;
        }
        if frame().await? != hasher.finalize().as_bytes() {
            return Err("the snapshot arrived damaged".to_owned());
        }
        let file = tokio::task::block_in_place(|| staging.finish()).map_err(failed)?;
        tracing::info!(covers = ?header.meta.last_log_id, "a snapshot arrived");
        let snapshot = Snapshot {
            meta: header.meta,
            snapshot: SnapshotRows::Staged(file),
        };
        self.leases.met(from, BootTime::now());
        reply(self.raft.install_full_snapshot(header.vote, snapshot).await)
    }

    async fn admit(self: Arc<Self>, request: BootstrapRequest) -> BootstrapReply {
        let secret_hash = hash_of(&request.secret);
        // Who guesses writes nothing into the log. A token that was just made may be on its way.
        let until = tokio::time::Instant::now() + limits::TOKEN_WAIT;
        while !admission::is_token(&self.store, self.group, &secret_hash).unwrap_or(false) {
            if tokio::time::Instant::now() >= until {
                return BootstrapReply::Wrong;
            }
            tokio::time::sleep(limits::TOKEN_WAIT / 20).await;
        }
        let command = OwnCommand::Admit {
            secret_hash,
            key_hash: hash_of(&request.request),
        };
        match self.own(command, Duration::from_secs(5)).await {
            Some(OwnReply::Admitted(node)) => {
                let members = self.member_addresses();
                match self.identity.welcome(node, &request.request, members) {
                    Ok(welcome) => {
                        tracing::info!(node, address = request.address, "a node was admitted");
                        BootstrapReply::Admitted(Box::new(welcome))
                    }
                    Err(error) => BootstrapReply::Refused(error.to_string()),
                }
            }
            Some(OwnReply::Wrong) => BootstrapReply::Wrong,
            Some(OwnReply::Used) => BootstrapReply::Used,
            Some(OwnReply::Expired) => BootstrapReply::Expired,
            Some(OwnReply::NodeTaken(node)) => BootstrapReply::NodeTaken(node),
            Some(other) => BootstrapReply::Refused(format!("{other:?}")),
            None => BootstrapReply::NoQuorum,
        }
    }
}

impl Serve for Core {
    fn serve(
        self: Arc<Self>,
        from: NodeNumber,
        kind: Kind,
        body: Vec<u8>,
    ) -> Serving<'static, Result<Vec<u8>, String>> {
        Box::pin(self.answer(from, kind, body))
    }

    fn snapshot(
        self: Arc<Self>,
        from: NodeNumber,
        stream: RecvStream,
    ) -> Serving<'static, Result<Vec<u8>, String>> {
        Box::pin(async move {
            let result = self.receive_snapshot(from, stream).await;
            if let Err(error) = &result {
                tracing::warn!(from, error, "a snapshot was not received");
            }
            result
        })
    }

    fn message(&self, from: NodeNumber, body: Vec<u8>) {
        if let Some(handler) = self.handler.load_full() {
            handler.message(from, body);
        }
    }

    fn bootstrap(self: Arc<Self>, body: Vec<u8>) -> Serving<'static, Vec<u8>> {
        Box::pin(async move {
            let answer = match read(&body) {
                Ok(request) => self.admit(request).await,
                Err(error) => BootstrapReply::Refused(error),
            };
            encode(&answer)
        })
    }

    fn removed(self: Arc<Self>) {
        self.stand_aside(StandAside::Removed);
    }

    fn is_removed(&self, node: NodeNumber) -> bool {
        self.is_removed_node(node)
    }
}
