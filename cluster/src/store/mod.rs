//! One RocksDB per node: log, rows, history and what is local to the node.
//!
//! Families: `raft` (log, vote, committed, purged; synced), `state` (the floor and the
//! applied position, written together), `crm` (history), `crm_idx` (its indexes), `local`
//! (incarnation, installing marker; never leaves the node). Every value carries a
//! checksum over family, key and value.
//!
//! Invariant: a value that does not match its checksum is never returned; the fault is
//! raised once, and the node stands aside.

mod checked;
pub mod keys;
mod overlay;
mod rows;
mod threads;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rocksdb::{
    ColumnFamily, ColumnFamilyDescriptor, DB, DBRecoveryMode, Options, WriteBatch, WriteOptions,
};

use crate::error::StoreError;
pub use checked::{seal, unseal};
pub use overlay::Overlay;
pub use rows::StoredRows;
pub use threads::Threads;

/// Column families.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Family {
    /// Log, vote, committed, purged.
    Raft,
    /// The floor.
    State,
    /// History.
    Crm,
    /// Indexes of history.
    CrmIdx,
    /// What never leaves the node.
    Local,
}

impl Family {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Raft,
        Self::State,
        Self::Crm,
        Self::CrmIdx,
        Self::Local,
    ];

    /// Those a snapshot carries.
    pub const REPLICATED: [Self; 3] = [Self::State, Self::Crm, Self::CrmIdx];

    /// Its name on disk.
    pub fn name(self) -> &'static str {
        match self {
            Self::Raft => "raft",
            Self::State => "state",
            Self::Crm => "crm",
            Self::CrmIdx => "crm_idx",
            Self::Local => "local",
        }
    }
}

/// The open store. Shared behind an `Arc`.
pub struct Store {
    db: DB,
    fault: Fault,
    /// When the writes under way began.
    writing: Mutex<Vec<Instant>>,
    threads: Arc<Threads>,
}

/// Remembers the first fault and tells whoever waits for it.
#[derive(Clone)]
pub struct Fault(Arc<tokio::sync::watch::Sender<Option<String>>>);

impl Default for Fault {
    fn default() -> Self {
        Self(Arc::new(tokio::sync::watch::Sender::new(None)))
    }
}

impl Fault {
    /// Records `error`; the first one stays.
    pub fn raise(&self, error: &StoreError) {
        self.0.send_if_modified(|slot| {
            if slot.is_some() {
                return false;
            }
            tracing::error!(%error, "the store is damaged, this node stands aside");
            *slot = Some(error.to_string());
            true
        });
    }

    /// The fault, if any.
    pub fn raised(&self) -> Option<String> {
        self.0.borrow().clone()
    }

    /// Watches for a fault.
    pub fn watch(&self) -> tokio::sync::watch::Receiver<Option<String>> {
        self.0.subscribe()
    }
}

impl Store {
    /// Opens or creates the store at `path`.
    ///
    /// # Errors
    /// [`StoreError::Engine`] when RocksDB refuses.
    pub fn open(path: &Path) -> Result<Arc<Self>, StoreError> {
        let mut options = options();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        let db = DB::open_cf_descriptors(&options, path, families())?;
        Ok(Self::of(db))
    }

    /// Opens the store at `path` to be read only; nothing on disk changes.
    ///
    /// # Errors
    /// [`StoreError::Engine`] when there is none or RocksDB refuses.
    pub fn open_to_read(path: &Path) -> Result<Arc<Self>, StoreError> {
        let db = DB::open_cf_descriptors_read_only(&options(), path, families(), false)?;
        Ok(Self::of(db))
    }

    fn of(db: DB) -> Arc<Self> {
        Arc::new(Self {
            db,
            fault: Fault::default(),
            writing: Mutex::default(),
            threads: Arc::default(),
        })
    }

    /// Memory of the engine's write buffers, block caches and table readers, bytes. What it does
    /// not tell counts as nothing.
    pub fn memory(&self) -> u64 {
        let properties = [
            "rocksdb.size-all-mem-tables",
            "rocksdb.block-cache-usage",
            "rocksdb.estimate-table-readers-mem",
        ];
        let of = |family: &Family, property: &&str| {
            let value = self
                .db
                .property_int_value_cf(self.family(*family), *property);
            value.ok().flatten().unwrap_or(0)
        };
        let all = Family::ALL.iter();
        all.flat_map(|family| properties.iter().map(move |property| of(family, property)))
            .sum()
    }

    /// The threads that hold it.
    pub fn threads(&self) -> &Arc<Threads> {
        &self.threads
    }

    /// Where faults are raised.
    pub fn fault(&self) -> &Fault {
        &self.fault
    }

    /// The engine, for iterators and snapshots.
    pub(crate) fn db(&self) -> &DB {
        &self.db
    }

    /// The handle of a family.
    pub(crate) fn family(&self, family: Family) -> &ColumnFamily {
        self.db
            .cf_handle(family.name())
            .expect("open() creates every family")
    }

    /// The checked value at `key`.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when the value does not match its checksum.
    pub fn read(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        match self.db.get_cf(self.family(family), key)? {
            Some(sealed) => unseal(family, key, sealed).map(Some),
            None => Ok(None),
        }
    }

    /// Adds a put with checksum to `batch`.
    pub(crate) fn put(&self, batch: &mut WriteBatch, family: Family, key: &[u8], value: &[u8]) {
        batch.put_cf(self.family(family), key, seal(family, key, value));
    }

    /// Writes `batch`; with `sync` it is on disk when this returns.
    ///
    /// # Errors
    /// [`StoreError::Engine`] when the disk refuses.
    pub(crate) fn write(&self, batch: WriteBatch, sync: bool) -> Result<(), StoreError> {
        let mut options = WriteOptions::default();
        options.set_sync(sync);
        self.write_timed(batch, &options)
    }

    fn write_timed(&self, batch: WriteBatch, options: &WriteOptions) -> Result<(), StoreError> {
        let began = Instant::now();
        self.writing.lock().push(began);
        let written = self.db.write_opt(batch, options);
        let mut writing = self.writing.lock();
        if let Some(at) = writing.iter().position(|at| *at == began) {
            writing.swap_remove(at);
        }
        Ok(written?)
    }

    /// How long the oldest write under way takes already.
    pub(crate) fn writing_for(&self) -> Duration {
        let oldest = self.writing.lock().iter().min().copied();
        oldest.map_or(Duration::ZERO, |began| began.elapsed())
    }

    /// Writes `batch` without the write-ahead log: it lasts from the next
    /// [`Store::flush`] on.
    ///
    /// # Errors
    /// [`StoreError::Engine`] when the disk refuses.
    pub(crate) fn write_unlogged(&self, batch: WriteBatch) -> Result<(), StoreError> {
        let mut options = WriteOptions::default();
        options.disable_wal(true);
        self.write_timed(batch, &options)
    }

    /// Writes out and syncs everything that is only in memory.
    ///
    /// # Errors
    /// [`StoreError::Engine`] when the disk refuses.
    pub(crate) fn flush(&self) -> Result<(), StoreError> {
        for family in Family::ALL {
            self.db.flush_cf(self.family(family))?;
        }
        Ok(())
    }

    /// How many lives of this node the store has seen.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    pub fn lives(&self) -> Result<u64, StoreError> {
        match self.read(Family::Local, keys::INCARNATION)? {
            Some(value) => decode("incarnation", &value),
            None => Ok(0),
        }
    }

    /// Raises and writes the counter of this node's lives; returns the new one.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read or written.
    pub fn next_incarnation(&self) -> Result<u64, StoreError> {
        let next = self.lives()? + 1;
        let mut batch = WriteBatch::default();
        self.put(&mut batch, Family::Local, keys::INCARNATION, &encode(&next));
        self.write(batch, true)?;
        Ok(next)
    }
}

fn options() -> Options {
    let mut options = Options::default();
    options.set_max_open_files(512);
    options.set_keep_log_file_num(4);
    options.set_max_log_file_size(16 << 20);
    options.set_max_total_wal_size(256 << 20);
    options.set_max_background_jobs(2);
    // The engine's default ends the write-ahead log silently at the first damaged record:
    // entries that were acknowledged would be gone without a word. Only a record cut off
    // at the very end, which nobody was told of, may be missing.
    options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
    options
}

fn families() -> [ColumnFamilyDescriptor; Family::ALL.len()] {
    Family::ALL.map(|family| {
        let mut options = Options::default();
        options.set_compression_type(match family {
            Family::Crm | Family::CrmIdx => rocksdb::DBCompressionType::Lz4,
            Family::Raft | Family::State | Family::Local => rocksdb::DBCompressionType::None,
        });
        options.set_write_buffer_size(32 << 20);
        ColumnFamilyDescriptor::new(family.name(), options)
    })
}

/// Encodes a value of ours.
pub(crate) fn encode<T: serde::Serialize>(value: &T) -> Vec<u8> {
    postcard::to_stdvec(value).expect("our own types always encode")
}

/// Decodes a value of ours.
pub(crate) fn decode<T: serde::de::DeserializeOwned>(
    what: &'static str,
    value: &[u8],
) -> Result<T, StoreError> {
    postcard::from_bytes(value).map_err(|error| StoreError::Format {
        what,
        why: error.to_string(),
    })
}
