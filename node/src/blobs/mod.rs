//! Sound files: content-addressed, replicated beside the log.
//!
//! A site is proposed only when a majority of the voters holds every file it names;
//! afterwards each node fetches what it lacks. A blob is named by its hash, so it never
//! changes and a damaged copy is recognised and fetched anew.

mod store;

use std::collections::BTreeSet;
use std::sync::Arc;

use strowger_cluster::{Cluster, Liveness, Role};
use strowger_core::ids::BlobId;
use strowger_core::ports::NodeNumber;
use strowger_core::state::SharedState;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

pub use self::store::{BlobStore, Examined};
use crate::limits;
use crate::peer::{Held, PeerRequest, Piece, ask};

/// The blobs of this node and their exchange with the others.
pub struct Blobs {
    store: BlobStore,
    came: Arc<Notify>,
}

impl Blobs {
    /// Blobs kept under `data/blobs`, where nobody else writes.
    pub fn new(data: &std::path::Path) -> Arc<Self> {
        let store = BlobStore::new(data.join("blobs"));
        store.remove_drafts();
        Arc::new(Self {
            store,
            came: Arc::default(),
        })
    }

    /// The files of this node.
    pub fn store(&self) -> &BlobStore {
        &self.store
    }

    /// Told when a blob has been fetched.
    pub fn came(&self) -> &Arc<Notify> {
        &self.came
    }

    /// Fetches a blob from `node` unless it is here; whether it is here afterwards.
    pub async fn fetch_from(&self, cluster: &Cluster, node: NodeNumber, id: BlobId) -> bool {
        if self.store.holds(id).await {
            return true;
        }
        let mut bytes = Vec::new();
        loop {
            let offset = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            let request = PeerRequest::Piece(id, offset);
            let asked = ask::<Piece>(cluster, node, &request, limits::BLOB_PIECE_DEADLINE).await;
            let Some(Piece(Some(piece))) = asked else {
                return false;
            };
            let last = piece.len() < limits::BLOB_PIECE_BYTES;
            bytes.extend(piece);
            if last {
                break;
            }
            if bytes.len() > limits::SITE_ATTACHMENT_BYTES_MAX {
                return false;
            }
        }
        let fits = BlobId(*blake3::hash(&bytes).as_bytes()) == id;
        let kept = fits && self.store.put(&bytes).await.is_ok() && self.store.holds(id).await;
        if kept {
            self.came.notify_one();
        }
        kept
    }

    /// Asks every other voter to hold these blobs; whether a majority of the voters does,
    /// this node included. Call it when they are stored here.
    pub async fn spread(&self, cluster: &Cluster, ids: &BTreeSet<BlobId>) -> bool {
        if ids.is_empty() {
            return true;
        }
        let voters = cluster
            .members()
            .into_iter()
            .filter(|member| member.role == Role::Voter);
        let voters: Vec<NodeNumber> = voters.map(|member| member.node).collect();
        let own = cluster.node();
        let request = PeerRequest::Hold(ids.iter().copied().collect());
        let mut asking = tokio::task::JoinSet::new();
        for node in voters.iter().copied().filter(|node| *node != own) {
            let (cluster, request) = (cluster.clone(), request.clone());
            asking.spawn(async move {
                let deadline = limits::REQUEST_TIMEOUT / 2;
                ask::<Held>(&cluster, node, &request, deadline).await == Some(Held(true))
            });
        }
        let mut held = usize::from(voters.contains(&own));
        while held * 2 <= voters.len() {
            match asking.join_next().await {
                Some(answer) => held += usize::from(answer.unwrap_or(false)),
                None => return false,
            }
        }
        // The rest go on by themselves: repair fetches what they lack.
        asking.detach_all();
        true
    }

    /// Fetches, for as long as the node runs, what the sites in force name and this node
    /// lacks.
    pub async fn repair(
        self: Arc<Self>,
        cluster: Cluster,
        state: SharedState,
        stop: CancellationToken,
    ) {
        let mut complete: BTreeSet<BlobId> = BTreeSet::new();
        loop {
            let wanted: BTreeSet<BlobId> = {
                let state = state.read();
                state
                    .sites
                    .values()
                    .flat_map(|row| row.site.blobs.keys().copied())
                    .collect()
            };
            // One that was found damaged has been removed.
            complete.retain(|id| wanted.contains(id) && self.store.path(*id).exists());
            for id in &wanted {
                if !complete.contains(id) && self.repair_one(&cluster, *id).await {
                    complete.insert(*id);
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(limits::BLOB_REPAIR_INTERVAL) => {}
            }
        }
    }

    async fn repair_one(&self, cluster: &Cluster, id: BlobId) -> bool {
        if self.store.get(id).await.is_some() {
            return true;
        }
        for member in cluster.members() {
            let alive = matches!(member.liveness, Liveness::Alive { .. });
            if alive
                && member.node != cluster.node()
                && self.fetch_from(cluster, member.node, id).await
            {
                tracing::info!(blob = %id, from = member.node, "sound file fetched");
                return true;
            }
        }
        tracing::warn!(blob = %id, "no reachable node holds this sound file");
        false
    }
}
