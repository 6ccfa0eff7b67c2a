//! The log on disk: one thread gathers appends and votes, syncs once, fires callbacks.
//!
//! Invariants: operations reach the disk in the order they were asked for; entries are
//! readable as soon as `append` returns (from the cache); a callback fires only after
//! the sync that covers it.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use openraft::entry::RaftEntry;
use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::{LogState, OptionalSend, RaftLogReader};
use parking_lot::Mutex;
use rocksdb::{Direction, IteratorMode, ReadOptions, WriteBatch};
use tokio::sync::{mpsc, oneshot};

use super::{Entry, LogId, Types, Vote};
use crate::error::StoreError;
use crate::limits;
use crate::store::keys::{self, GroupId};
use crate::store::{Family, Store, decode, encode, unseal};

/// Key part of the vote.
pub const VOTE: u8 = b'v';
/// Key part of the position up to which the log was purged.
pub const PURGED: u8 = b'p';
/// Key part of the committed position.
pub const COMMITTED: u8 = b'c';

/// The log of one group. Cheap to clone; also its own reader.
#[derive(Clone)]
pub struct LogStore {
    shared: Arc<Shared>,
    queue: mpsc::Sender<Operation>,
}

struct Shared {
    store: Arc<Store>,
    group: GroupId,
    syncs: Arc<AtomicU64>,
    state: Mutex<State>,
}

/// What is known without the disk.
struct State {
    vote: Option<Vote>,
    committed: Option<LogId>,
    purged: Option<LogId>,
    last: Option<LogId>,
    cache: Cache,
    /// Entries up to here are on disk and may leave the cache.
    flushed: u64,
}

/// The newest entries, with the length of each as it is on disk.
#[derive(Default)]
struct Cache {
    entries: BTreeMap<u64, (Entry, usize)>,
    bytes: usize,
}

impl Cache {
    fn insert(&mut self, entry: Entry, bytes: usize) {
        self.bytes += bytes;
        if let Some((_, before)) = self.entries.insert(entry.index(), (entry, bytes)) {
            self.bytes -= before;
        }
    }

    /// Lets the oldest go beyond what is kept, but nothing that is not on disk.
    fn trim(&mut self, flushed: u64) {
        while let Some(oldest) = self.entries.first_entry()
            && *oldest.key() <= flushed
            && (self.bytes > limits::LOG_CACHE_BYTES_MAX
                || self.entries.len() > limits::LOG_CACHE_ENTRIES_MAX)
        {
            self.pop_first();
        }
    }

    fn pop_first(&mut self) {
        if let Some((_, (_, bytes))) = self.entries.pop_first() {
            self.bytes -= bytes;
        }
    }

    fn keep(&mut self, indices: impl RangeBounds<u64>) {
        self.entries.retain(|index, (_, bytes)| {
            let kept = indices.contains(index);
            self.bytes -= if kept { 0 } else { *bytes };
            kept
        });
    }
}

enum Operation {
    Append {
        entries: Vec<(u64, Vec<u8>)>,
        callback: IOFlushed<Types>,
    },
    Vote {
        vote: Vote,
        done: oneshot::Sender<io::Result<()>>,
    },
    Committed(Option<LogId>),
    Truncate {
        from: u64,
        done: oneshot::Sender<io::Result<()>>,
    },
    Purge {
        upto: LogId,
        done: oneshot::Sender<io::Result<()>>,
    },
}

impl LogStore {
    /// Opens the log of `group` and starts its thread, which ends when the last handle
    /// is dropped. `syncs` counts synced writes.
    ///
    /// # Errors
    /// [`StoreError`] when the log cannot be read.
    pub fn open(
        store: Arc<Store>,
        group: GroupId,
        syncs: Arc<AtomicU64>,
    ) -> Result<Self, StoreError> {
        let vote = single(&store, group, VOTE, "vote")?;
        let committed: Option<Option<LogId>> =
            single(&store, group, COMMITTED, "committed position")?;
        let purged = single(&store, group, PURGED, "purged position")?;
        let last = last_entry(&store, group)?
            .map(|entry| entry.log_id())
            .max(purged);
        let state = State {
            vote,
            committed: committed.flatten(),
            purged,
            last,
            cache: Cache::default(),
            flushed: last.map_or(0, |id| id.index),
        };
        let shared = Arc::new(Shared {
            store,
            group,
            syncs,
            state: Mutex::new(state),
        });
        let (queue, operations) = mpsc::channel(limits::LOG_QUEUE_MAX);
        let writer = shared.clone();
        let threads = shared.store.threads();
        threads.spawn("cluster-log", move || writer.run(operations))?;
        Ok(Self { shared, queue })
    }

    /// The last entry's position, on disk or not.
    pub fn last(&self) -> Option<LogId> {
        self.shared.state.lock().last
    }

    /// The vote, the last entry that is known to be committed and is on disk, and the last
    /// entry of all.
    pub fn standing(&self) -> (Option<Vote>, Option<LogId>, Option<LogId>) {
        let state = self.shared.state.lock();
        let committed = state.committed.filter(|id| id.index <= state.flushed);
        (state.vote, committed, state.last)
    }

    async fn ask<F>(&self, operation: F) -> io::Result<()>
    where
        F: FnOnce(oneshot::Sender<io::Result<()>>) -> Operation,
    {
        let (done, answer) = oneshot::channel();
        self.queue
            .send(operation(done))
            .await
            .map_err(|_| io::Error::other(StoreError::Closed))?;
        answer
            .await
            .map_err(|_| io::Error::other(StoreError::Closed))?
    }
}

impl Shared {
    fn run(&self, mut operations: mpsc::Receiver<Operation>) {
        let mut gathered = Vec::new();
        while operations.blocking_recv_many(&mut gathered, limits::LOG_GATHER_MAX) > 0 {
            self.write(std::mem::take(&mut gathered));
        }
    }

    /// Writes what was gathered as one batch, syncs when anything in it must last, and
    /// tells whoever waits.
    fn write(&self, operations: Vec<Operation>) {
        let mut batch = WriteBatch::default();
        let mut sync = false;
        let mut flushed = 0;
        for operation in &operations {
            sync |= self.stage(operation, &mut batch, &mut flushed);
        }
        let result = self.store.write(batch, sync);
        if sync {
            self.syncs.fetch_add(1, Ordering::Relaxed);
        }
        if let Err(error) = &result {
            self.store.fault().raise(error);
        } else if flushed > 0 {
            self.trim_cache(flushed);
        }
        let answer = || match &result {
            Ok(()) => Ok(()),
            Err(error) => Err(io::Error::other(error.to_string())),
        };
        for operation in operations {
            match operation {
                Operation::Append { callback, .. } => callback.io_completed(answer()),
                Operation::Vote { done, .. }
                | Operation::Truncate { done, .. }
                | Operation::Purge { done, .. } => {
                    // Whoever asked may be gone by now.
                    let _ = done.send(answer());
                }
                Operation::Committed(_) => {}
            }
        }
    }

    /// Adds `operation` to `batch`; true when it must be synced.
    fn stage(&self, operation: &Operation, batch: &mut WriteBatch, flushed: &mut u64) -> bool {
        let single = |which| keys::log_single(self.group, which);
        let store = &self.store;
        match operation {
            Operation::Append { entries, .. } => {
                for (index, bytes) in entries {
                    store.put(batch, Family::Raft, &keys::log(self.group, *index), bytes);
                    *flushed = *index;
                }
                true
            }
            Operation::Vote { vote, .. } => {
                store.put(batch, Family::Raft, &single(VOTE), &encode(vote));
                true
            }
            // Written behind the entries it covers, in the same write-ahead log, so a
            // crash can lose it but never keep it without them.
            Operation::Committed(committed) => {
                store.put(batch, Family::Raft, &single(COMMITTED), &encode(committed));
                false
            }
            Operation::Truncate { from, .. } => {
                let family = store.family(Family::Raft);
                let end = keys::log(self.group, u64::MAX);
                batch.delete_range_cf(family, keys::log(self.group, *from), end);
                true
            }
            Operation::Purge { upto, .. } => {
                let family = store.family(Family::Raft);
                let end = keys::log(self.group, upto.index + 1);
                batch.delete_range_cf(family, keys::log(self.group, 0), end);
                store.put(batch, Family::Raft, &single(PURGED), &encode(upto));
                false
            }
        }
    }

    fn trim_cache(&self, flushed: u64) {
        let mut state = self.state.lock();
        state.flushed = flushed;
        state.cache.trim(flushed);
    }

    /// Entries from `start` up to and without `end`: the newest from the cache, older
    /// ones from disk.
    fn entries(&self, start: u64, end: u64) -> Result<Vec<Entry>, StoreError> {
        self.some_entries(start, end, usize::MAX)
    }

    /// The same, up to so many bytes and at least one.
    fn some_entries(
        &self,
        start: u64,
        end: u64,
        bytes_max: usize,
    ) -> Result<Vec<Entry>, StoreError> {
        if start >= end {
            return Ok(Vec::new());
        }
        let mut left = bytes_max;
        let mut fits = |bytes: usize, first: bool| {
            let fits = first || bytes <= left;
            left = left.saturating_sub(bytes);
            fits
        };
        let (cached, purged) = {
            let state = self.state.lock();
            let cached = state.cache.entries.range(start..end);
            let cached: Vec<(Entry, usize)> = cached.map(|(_, held)| held.clone()).collect();
            (cached, state.purged)
        };
        let start = start.max(purged.map_or(0, |id| id.index + 1));
        let first = cached.first().map(|(entry, _)| entry.index());
        let on_disk_end = first.unwrap_or(end).min(end);
        let mut entries = Vec::new();
        if start < on_disk_end {
            let mut options = ReadOptions::default();
            options.set_iterate_upper_bound(keys::log(self.group, on_disk_end));
            let from = keys::log(self.group, start);
            let walk = self.store.db().iterator_cf_opt(
                self.store.family(Family::Raft),
                options,
                IteratorMode::From(&from, Direction::Forward),
            );
            for item in walk {
                let (key, sealed) = item?;
                let bytes = unseal(Family::Raft, &key, sealed.into_vec())?;
                if !fits(bytes.len(), entries.is_empty()) {
                    return Ok(entries);
                }
                entries.push(decode("log entry", &bytes)?);
            }
        }
        for (entry, bytes) in cached {
            if entry.index() < start {
                continue;
            }
            if !fits(bytes, entries.is_empty()) {
                break;
            }
            entries.push(entry);
        }
        Ok(entries)
    }
}

fn single<T: serde::de::DeserializeOwned>(
    store: &Store,
    group: GroupId,
    which: u8,
    what: &'static str,
) -> Result<Option<T>, StoreError> {
    match store.read(Family::Raft, &keys::log_single(group, which))? {
        Some(bytes) => decode(what, &bytes).map(Some),
        None => Ok(None),
    }
}

pub(crate) fn last_entry(store: &Store, group: GroupId) -> Result<Option<Entry>, StoreError> {
    let mut options = ReadOptions::default();
    options.set_iterate_lower_bound(keys::log(group, 0));
    let from = keys::log(group, u64::MAX);
    let mut walk = store.db().iterator_cf_opt(
        store.family(Family::Raft),
        options,
        IteratorMode::From(&from, Direction::Reverse),
    );
    let Some(item) = walk.next() else {
        return Ok(None);
    };
    let (key, sealed) = item?;
    let bytes = unseal(Family::Raft, &key, sealed.into_vec())?;
    decode("log entry", &bytes).map(Some)
}

fn bounds(range: &impl RangeBounds<u64>) -> (u64, u64) {
    let start = match range.start_bound() {
        Bound::Included(start) => *start,
        Bound::Excluded(start) => start.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(end) => end.saturating_add(1),
        Bound::Excluded(end) => *end,
        Bound::Unbounded => u64::MAX,
    };
    (start, end)
}

impl RaftLogReader<Types> for LogStore {
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> Result<Vec<Entry>, io::Error>
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (start, end) = bounds(&range);
        self.shared.entries(start, end).map_err(|error| {
            self.shared.store.fault().raise(&error);
            io::Error::other(error)
        })
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry>, io::Error> {
        let entries = self
            .shared
            .some_entries(start, end, limits::APPEND_BYTES_MAX);
        entries.map_err(|error| {
            self.shared.store.fault().raise(&error);
            io::Error::other(error)
        })
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.shared.state.lock().vote)
    }
}

impl RaftLogStorage<Types> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, io::Error> {
        let state = self.shared.state.lock();
        Ok(LogState {
            last_purged_log_id: state.purged,
            last_log_id: state.last,
        })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        let vote = *vote;
        self.ask(|done| Operation::Vote { vote, done }).await?;
        self.shared.state.lock().vote = Some(vote);
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        self.shared.state.lock().committed = committed;
        let sent = self.queue.send(Operation::Committed(committed)).await;
        sent.map_err(|_| io::Error::other(StoreError::Closed))
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.shared.state.lock().committed)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut encoded = Vec::new();
        {
            let mut state = self.shared.state.lock();
            for entry in entries {
                let bytes = encode(&entry);
                state.last = Some(entry.log_id());
                state.cache.insert(entry, bytes.len());
                encoded.push((state.last.map_or(0, |id| id.index), bytes));
            }
        }
        let sent = self
            .queue
            .send(Operation::Append {
                entries: encoded,
                callback,
            })
            .await;
        sent.map_err(|_| io::Error::other(StoreError::Closed))
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        let from = last.map_or(0, |id| id.index + 1);
        self.ask(|done| Operation::Truncate { from, done }).await?;
        let mut state = self.shared.state.lock();
        state.cache.keep(..from);
        state.last = state.last.min(last).max(state.purged);
        // What is appended in its place is not on disk yet.
        state.flushed = state.flushed.min(last.map_or(0, |id| id.index));
        Ok(())
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), io::Error> {
        self.ask(|done| Operation::Purge { upto, done }).await?;
        let mut state = self.shared.state.lock();
        state.cache.keep(upto.index + 1..);
        state.purged = Some(upto).max(state.purged);
        state.last = state.last.max(state.purged);
        Ok(())
    }
}
