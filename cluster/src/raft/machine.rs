//! Applying the log: its own thread, one write batch per apply call.
//!
//! The thread owns the [`Machine`]; the library reaches it through [`Applier`]. Rows and
//! the applied position are one batch, unsynced: what a power cut takes is applied again
//! from the log. Invariant: `published` and replies follow the write, never precede it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use futures_util::{Stream, StreamExt};
use openraft::entry::{RaftEntry, RaftPayload};
use openraft::storage::{ApplyResponder, EntryResponder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder};
use parking_lot::Mutex;
use rocksdb::WriteBatch;
use serde::{Deserialize, Serialize};
use strowger_core::ports::{Machine, Meta, Proposal};
use tokio::sync::{mpsc, oneshot, watch};

use super::snapshot::{Chunk, Pin, SnapshotRows, Staged};
use super::{
    Entry, LeaderId, LogId, Payload, Replies, Snapshot, SnapshotMeta, StoredMembership, Types,
};
use crate::admission;
use crate::error::StoreError;
use crate::limits;
use crate::store::keys::{self, GroupId};
use crate::store::{Family, Overlay, Store, StoredRows, decode, encode};

/// Key of the applied position in the cluster's own table.
pub const APPLIED: &[u8] = b"applied";

/// How far the rows have come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// Last applied entry.
    pub log_id: Option<LogId>,
    /// Last applied membership.
    pub membership: StoredMembership,
}

impl Applied {
    /// As the description of a snapshot.
    pub fn meta(self) -> SnapshotMeta {
        SnapshotMeta {
            last_log_id: self.log_id,
            last_membership: self.membership,
        }
    }
}

/// Written synced before the first row of a snapshot is touched.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Installing {
    /// What the snapshot covers.
    pub log_id: Option<LogId>,
    /// Membership at that entry.
    pub membership: StoredMembership,
    /// Its file, under the data directory.
    pub file: PathBuf,
}

/// Counters the apply thread keeps for the daemon.
#[derive(Debug, Default)]
pub struct ApplyFigures {
    /// Entries applied.
    pub entries: AtomicU64,
    /// Proposals applied.
    pub proposals: AtomicU64,
    /// Snapshots installed.
    pub installed: AtomicU64,
}

/// What the apply thread tells the rest of the node.
#[derive(Clone)]
pub struct ApplyOutputs {
    /// Last applied index.
    pub applied: Arc<watch::Sender<u64>>,
    /// The leader whose entry that is.
    pub applied_of: Arc<Mutex<Option<LeaderId>>>,
    /// Counters.
    pub figures: Arc<ApplyFigures>,
    /// The feature level at which applying has ended.
    pub beyond: Arc<OnceLock<u32>>,
}

impl Default for ApplyOutputs {
    fn default() -> Self {
        Self {
            applied: Arc::new(watch::Sender::new(0)),
            applied_of: Arc::default(),
            figures: Arc::default(),
            beyond: Arc::default(),
        }
    }
}

enum Ask {
    Position(oneshot::Sender<Applied>),
    Apply {
        entries: Vec<(Entry, Option<ApplyResponder<Types>>)>,
        done: oneshot::Sender<io::Result<()>>,
    },
    Install {
        meta: SnapshotMeta,
        rows: SnapshotRows,
        done: oneshot::Sender<io::Result<()>>,
    },
    Hash(oneshot::Sender<(u64, [u8; 16])>),
}

/// The library's handle on the apply thread.
#[derive(Clone)]
pub struct Applier {
    asks: mpsc::Sender<Ask>,
    store: Arc<Store>,
    group: GroupId,
}

impl Applier {
    /// Resumes an interrupted installation, restores `machine` from the rows and starts
    /// the thread, which ends when the last handle is dropped.
    ///
    /// # Errors
    /// [`StoreError`] when rows cannot be read; [`StoreError::File`] when an interrupted
    /// installation cannot be resumed.
    pub fn start(
        store: Arc<Store>,
        group: GroupId,
        machine: impl Machine,
        data_dir: &Path,
        outputs: ApplyOutputs,
    ) -> Result<Self, StoreError> {
        let rows = StoredRows::new(store.clone(), group);
        let mut worker = Worker {
            store: store.clone(),
            group,
            machine: Box::new(machine),
            overlay: Overlay::new(rows.clone()),
            rows,
            applied: Applied::default(),
            data_dir: data_dir.to_owned(),
            outputs,
        };
        worker.resume_installation()?;
        worker.load()?;
        let (asks, inbox) = mpsc::channel(64);
        let threads = store.threads();
        threads.spawn("cluster-apply", move || worker.run(inbox))?;
        Ok(Self { asks, store, group })
    }

    /// The machine's hash and the index it stands at.
    pub async fn state_hash(&self) -> Option<(u64, [u8; 16])> {
        let (tell, answer) = oneshot::channel();
        self.asks.send(Ask::Hash(tell)).await.ok()?;
        answer.await.ok()
    }

    async fn ask<T>(&self, ask: impl FnOnce(oneshot::Sender<T>) -> Ask) -> io::Result<T> {
        let (tell, answer) = oneshot::channel();
        let closed = || io::Error::other(StoreError::Closed);
        self.asks.send(ask(tell)).await.map_err(|_| closed())?;
        answer.await.map_err(|_| closed())
    }

    async fn pin(&self) -> io::Result<Snapshot> {
        let pinned = Pin::take(self.store.clone(), self.group).await;
        let (meta, pin) = pinned.map_err(|error| {
            self.store.fault().raise(&error);
            io::Error::other(error)
        })?;
        Ok(Snapshot {
            meta,
            snapshot: SnapshotRows::Pinned(pin),
        })
    }
}

struct Worker {
    store: Arc<Store>,
    group: GroupId,
    machine: Box<dyn Machine>,
    overlay: Overlay,
    rows: StoredRows,
    applied: Applied,
    data_dir: PathBuf,
    outputs: ApplyOutputs,
}

impl Worker {
    fn run(mut self, mut inbox: mpsc::Receiver<Ask>) {
        while let Some(ask) = inbox.blocking_recv() {
            // An asker that is gone needs no answer.
            match ask {
                Ask::Position(tell) => drop(tell.send(self.applied.clone())),
                Ask::Apply { entries, done } => {
                    let result = self.apply(entries);
                    self.note_fault(result.as_ref().err());
                    drop(done.send(result.map_err(io::Error::other)));
                }
                Ask::Install { meta, rows, done } => {
                    let result = self.receive(meta, rows);
                    self.note_fault(result.as_ref().err());
                    if let Err(error) = &result {
                        tracing::error!(%error, "a snapshot could not be installed");
                    }
                    drop(done.send(result.map_err(io::Error::other)));
                }
                Ask::Hash(tell) => {
                    let index = self.applied.log_id.map_or(0, |id| id.index);
                    let _ = tell.send((index, self.machine.state_hash()));
                }
            }
        }
    }

    fn load(&mut self) -> Result<(), StoreError> {
        let key = keys::own(self.group, APPLIED);
        self.applied = match self.store.read(Family::State, &key)? {
            Some(value) => decode("applied position", &value)?,
            None => Applied::default(),
        };
        self.overlay = Overlay::new(self.rows.clone());
        self.machine.restore(&self.rows);
        self.check_fault()?;
        self.check_level(&[])?;
        self.tell_applied();
        Ok(())
    }

    fn tell_applied(&self) {
        let last = self.applied.log_id;
        *self.outputs.applied_of.lock() = last.map(|id| id.leader_id);
        let index = last.map_or(0, |id| id.index);
        self.outputs.applied.send_replace(index);
    }

    /// Ends applying before what this program does not read.
    fn check_level(&self, proposals: &[Proposal]) -> Result<(), StoreError> {
        match self.machine.beyond(proposals) {
            Some(level) => Err(StoreError::Beyond(
                *self.outputs.beyond.get_or_init(|| level),
            )),
            None => Ok(()),
        }
    }

    /// Says first why agreement is about to end, so that it is told as what it is.
    fn note_fault(&self, error: Option<&StoreError>) {
        if let Some(error) = error
            && !matches!(error, StoreError::Beyond(_))
        {
            self.store.fault().raise(error);
        }
    }

    fn check_fault(&self) -> Result<(), StoreError> {
        match self.store.fault().raised() {
            Some(why) => Err(StoreError::Format { what: "a row", why }),
            None => Ok(()),
        }
    }

    fn apply(
        &mut self,
        entries: Vec<(Entry, Option<ApplyResponder<Types>>)>,
    ) -> Result<(), StoreError> {
        self.check_fault()?;
        let mut batch = WriteBatch::default();
        let mut answers = Vec::new();
        let mut count = 0;
        let mut ended = Ok(());
        for (entry, responder) in entries {
            let replies = match self.apply_entry(&entry, &mut batch) {
                Ok(replies) => replies,
                Err(error @ StoreError::Beyond(_)) => {
                    // What is before it stands: a newer program goes on from there.
                    ended = Err(error);
                    break;
                }
                Err(error) => return Err(error),
            };
            count += 1;
            self.applied.log_id = Some(entry.log_id());
            if let Some(responder) = responder {
                answers.push((responder, replies));
            }
        }
        // A row read while applying was damaged: nothing of this batch may be kept.
        self.check_fault()?;
        self.overlay.drain_into(&mut batch);
        let key = keys::own(self.group, APPLIED);
        self.store
            .put(&mut batch, Family::State, &key, &encode(&self.applied));
        self.store.write(batch, false)?;
        let index = self.applied.log_id.map_or(0, |id| id.index);
        self.outputs
            .figures
            .entries
            .fetch_add(count, Ordering::Relaxed);
        self.tell_applied();
        self.machine.published(index);
        for (responder, replies) in answers {
            responder.send(replies);
        }
        ended
    }

    fn apply_entry(
        &mut self,
        entry: &Entry,
        batch: &mut WriteBatch,
    ) -> Result<Replies, StoreError> {
        if let Some(membership) = entry.payload.get_membership() {
            self.applied.membership = StoredMembership::new(Some(entry.log_id()), membership);
        }
        let EntryPayload::Normal(data) = &entry.payload else {
            return Ok(Replies::default());
        };
        match &*data.0 {
            Payload::Batch {
                stamp_ms,
                proposals,
            } => {
                let meta = Meta {
                    index: entry.index(),
                    stamp_ms: *stamp_ms,
                };
                self.check_level(proposals)?;
                let replies = self.machine.apply(&mut self.overlay, meta, proposals);
                let figures = &self.outputs.figures;
                figures
                    .proposals
                    .fetch_add(proposals.len() as u64, Ordering::Relaxed);
                Ok(Replies { replies, own: None })
            }
            Payload::Own { stamp_ms, command } => {
                // Own commands are rare; each reads what earlier entries of this very
                // batch wrote, so those go to the store first.
                self.store.write(std::mem::take(batch), false)?;
                let members = self
                    .applied
                    .membership
                    .nodes()
                    .map(|(node, _)| *node)
                    .collect();
                let reply =
                    admission::apply(&self.store, self.group, batch, *stamp_ms, command, &members)?;
                Ok(Replies {
                    replies: Vec::new(),
                    own: Some(reply),
                })
            }
        }
    }

    /// Brings the rows of a snapshot into a synced file, then installs from it.
    fn receive(&mut self, meta: SnapshotMeta, rows: SnapshotRows) -> Result<(), StoreError> {
        let at = |source| StoreError::File {
            path: self.data_dir.clone(),
            source,
        };
        let file = match rows {
            SnapshotRows::Staged(file) => file,
            SnapshotRows::Pinned(mut pin) => {
                let mut staging = super::snapshot::Staging::start(&self.data_dir).map_err(at)?;
                while let Some(chunk) = pin.next_blocking()? {
                    staging.add(&encode(&chunk)).map_err(at)?;
                }
                staging.finish().map_err(at)?
            }
        };
        let marker = Installing {
            log_id: meta.last_log_id,
            membership: meta.last_membership,
            file: file.file_name().map(PathBuf::from).unwrap_or_default(),
        };
        let mut batch = WriteBatch::default();
        self.store.put(
            &mut batch,
            Family::Local,
            keys::INSTALLING,
            &encode(&marker),
        );
        self.store.write(batch, true)?;
        self.install(marker)?;
        self.load()?;
        self.outputs
            .figures
            .installed
            .fetch_add(1, Ordering::Relaxed);
        self.machine
            .published(self.applied.log_id.map_or(0, |id| id.index));
        Ok(())
    }

    /// Finishes an installation that a stop interrupted.
    fn resume_installation(&mut self) -> Result<(), StoreError> {
        let Some(value) = self.store.read(Family::Local, keys::INSTALLING)? else {
            return Ok(());
        };
        let marker: Installing = decode("installing marker", &value)?;
        let path = self.data_dir.join(&marker.file);
        tracing::warn!(path = %path.display(), "resuming an interrupted snapshot installation");
        Staged::verify(&path).map_err(|source| StoreError::File { path, source })?;
        self.install(marker)
    }

    /// Replaces all replicated rows by those of the file. Restartable at every step:
    /// the marker goes last, in one synced batch with the applied position.
    fn install(&mut self, marker: Installing) -> Result<(), StoreError> {
        let path = self.data_dir.join(&marker.file);
        let at = |source| StoreError::File {
            path: path.clone(),
            source,
        };
        let mut batch = WriteBatch::default();
        for family in Family::REPLICATED {
            let start = self.group.0.to_be_bytes();
            let end = self.group.0.saturating_add(1).to_be_bytes();
            batch.delete_range_cf(self.store.family(family), start, end);
        }
        self.store.write(batch, false)?;
        let mut staged = Staged::open(&path).map_err(at)?;
        let mut first = true;
        while let Some(Chunk { family, rows }) = staged.next().map_err(at)? {
            let mut batch = WriteBatch::default();
            for (key, value) in rows {
                self.store.put(&mut batch, family, &key, &value);
            }
            self.store.write(batch, false)?;
            if std::mem::take(&mut first) {
                crash_point("install");
            }
        }
        let applied = Applied {
            log_id: marker.log_id,
            membership: marker.membership,
        };
        let mut batch = WriteBatch::default();
        let key = keys::own(self.group, APPLIED);
        self.store
            .put(&mut batch, Family::State, &key, &encode(&applied));
        batch.delete_cf(self.store.family(Family::Local), keys::INSTALLING);
        self.store.write(batch, true)?;
        // The rows hold everything now; a file that stays behind is only in the way.
        let _ = std::fs::remove_file(&path);
        Ok(())
    }
}

/// Ends the process at a named step when the fault suite asks for it through the
/// environment; does nothing otherwise.
fn crash_point(name: &str) {
    if std::env::var("STROWGER_CRASH_POINT").is_ok_and(|wanted| wanted == name) {
        tracing::error!(name, "ending the process at a crash point");
        std::process::abort();
    }
}

/// "Builds" a snapshot: the rows are one already, so only their position is noted.
pub struct Builder(Applier);

impl RaftSnapshotBuilder<Types> for Builder {
    type SnapshotData = SnapshotRows;

    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        self.0.pin().await
    }
}

impl RaftStateMachine<Types> for Applier {
    type SnapshotData = SnapshotRows;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        let applied = self.ask(Ask::Position).await?;
        Ok((applied.log_id, applied.membership))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<Types>, io::Error>> + Unpin + OptionalSend,
    {
        let mut ended = false;
        while !ended {
            let mut gathered = Vec::new();
            while gathered.len() < limits::APPLY_ENTRIES_MAX {
                match entries.next().await {
                    Some(entry) => gathered.push(entry?),
                    None => {
                        ended = true;
                        break;
                    }
                }
            }
            if !gathered.is_empty() {
                self.ask(|done| Ask::Apply {
                    entries: gathered,
                    done,
                })
                .await??;
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder(self.clone())
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: SnapshotRows,
    ) -> Result<(), io::Error> {
        let meta = meta.clone();
        self.ask(|done| Ask::Install {
            meta,
            rows: snapshot,
            done,
        })
        .await?
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        let snapshot = self.pin().await?;
        Ok(snapshot.meta.last_log_id.is_some().then_some(snapshot))
    }
}
