//! Snapshots: a pinned view of the rows here, a checked file of them on a peer.
//!
//! The rows on disk are the snapshot; building one costs nothing. When a peer asks, a
//! thread pins a RocksDB snapshot and reads it in bounded chunks. The receiver writes
//! the chunks to a file, syncs it, and installs from it, so that an installation killed
//! at any step is done again from the file. Deliberately not here: sending
//! (`raft::network`) and installing (`raft::machine`).

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rocksdb::{Direction, IteratorMode, ReadOptions};
use serde::{Deserialize, Serialize};
use strowger_core::ports::Row;
use tokio::sync::{mpsc, oneshot};

use super::SnapshotMeta;
use super::machine::Applied;
use crate::error::StoreError;
use crate::limits;
use crate::store::keys::{self, GroupId};
use crate::store::{Family, Store, decode, encode, unseal};

/// Some rows of one family: raw keys and unsealed values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    /// The family.
    pub family: Family,
    /// Its rows, in key order.
    pub rows: Vec<(Vec<u8>, Vec<u8>)>,
}

/// The rows of a snapshot.
#[derive(Debug)]
pub enum SnapshotRows {
    /// A pinned view of our own rows.
    Pinned(Pin),
    /// Received from the leader, complete and synced.
    Staged(PathBuf),
}

/// A view of the rows, held by a thread until this is dropped.
#[derive(Debug)]
pub struct Pin {
    asks: mpsc::Sender<Ask>,
}

enum Ask {
    Next(oneshot::Sender<Result<Option<Chunk>, StoreError>>),
}

impl Pin {
    /// Pins the present rows and reads what they cover.
    ///
    /// # Errors
    /// [`StoreError`] when the position cannot be read.
    pub async fn take(
        store: Arc<Store>,
        group: GroupId,
    ) -> Result<(SnapshotMeta, Self), StoreError> {
        let (asks, inbox) = mpsc::channel(1);
        let (tell, covered) = oneshot::channel();
        let threads = store.threads().clone();
        threads.spawn("cluster-pin", move || hold(&store, group, tell, inbox))?;
        let meta = covered.await.map_err(|_| StoreError::Closed)??;
        Ok((meta, Self { asks }))
    }

    /// The next rows; `None` at the end.
    ///
    /// # Errors
    /// [`StoreError`] when they cannot be read.
    pub async fn next(&mut self) -> Result<Option<Chunk>, StoreError> {
        let (tell, answer) = oneshot::channel();
        self.asks
            .send(Ask::Next(tell))
            .await
            .map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }

    /// Like [`Pin::next`] for a thread that may block.
    ///
    /// # Errors
    /// [`StoreError`] when they cannot be read.
    pub fn next_blocking(&mut self) -> Result<Option<Chunk>, StoreError> {
        let (tell, answer) = oneshot::channel();
        self.asks
            .blocking_send(Ask::Next(tell))
            .map_err(|_| StoreError::Closed)?;
        answer.blocking_recv().map_err(|_| StoreError::Closed)?
    }
}

type Covered = Result<SnapshotMeta, StoreError>;

/// Holds a RocksDB snapshot on its stack and answers asks for rows.
fn hold(
    store: &Store,
    group: GroupId,
    tell: oneshot::Sender<Covered>,
    mut inbox: mpsc::Receiver<Ask>,
) {
    let view = store.db().snapshot();
    let key = keys::own(group, super::machine::APPLIED);
    let covered = || -> Covered {
        // Gone with the last of the rows: until then they are of two positions.
        if view
            .get_cf(store.family(Family::Local), keys::INSTALLING)?
            .is_some()
        {
            return Err(StoreError::Format {
                what: "the rows",
                why: "a snapshot is being installed".to_owned(),
            });
        }
        let Some(sealed) = view.get_cf(store.family(Family::State), &key)? else {
            return Ok(SnapshotMeta::default());
        };
        let applied: Applied = decode("applied position", &unseal(Family::State, &key, sealed)?)?;
        Ok(applied.meta())
    };
    if tell.send(covered()).is_err() {
        return;
    }
    let mut families = Family::REPLICATED.into_iter();
    let mut at = families
        .next()
        .map(|family| (family, group.0.to_be_bytes().to_vec()));
    let end = group.0.checked_add(1).map(u32::to_be_bytes);
    while let Some(Ask::Next(tell)) = inbox.blocking_recv() {
        let answer = loop {
            let Some((family, from)) = at.take() else {
                break Ok(None);
            };
            let mut options = ReadOptions::default();
            if let Some(end) = end {
                options.set_iterate_upper_bound(end);
            }
            let walk = view.iterator_cf_opt(
                store.family(family),
                options,
                IteratorMode::From(&from, Direction::Forward),
            );
            match gather(family, walk) {
                Ok(rows) if rows.is_empty() => {
                    at = families
                        .next()
                        .map(|family| (family, group.0.to_be_bytes().to_vec()));
                }
                Ok(rows) => {
                    at = rows.last().map(|(key, _)| {
                        let mut past = key.clone();
                        past.push(0);
                        (family, past)
                    });
                    break Ok(Some(Chunk { family, rows }));
                }
                Err(error) => {
                    store.fault().raise(&error);
                    break Err(error);
                }
            }
        };
        // Whoever asked may be gone; the next ask or the closed channel tells.
        let _ = tell.send(answer);
    }
}

type RawRow = Result<(Box<[u8]>, Box<[u8]>), rocksdb::Error>;

fn gather(family: Family, walk: impl Iterator<Item = RawRow>) -> Result<Vec<Row>, StoreError> {
    let mut rows = Vec::new();
    let mut bytes = 0;
    for item in walk {
        let (key, sealed) = item?;
        let value = unseal(family, &key, sealed.into_vec())?;
        bytes += key.len() + value.len();
        rows.push((key.into_vec(), value));
        if bytes >= limits::SNAPSHOT_CHUNK_BYTES {
            break;
        }
    }
    Ok(rows)
}

/// Writes received chunks to a file; what is not finished is worthless and replaced.
pub struct Staging {
    path: PathBuf,
    file: BufWriter<File>,
    hasher: blake3::Hasher,
}

/// Name of the file a snapshot is received into, under the data directory.
pub const STAGED_FILE: &str = "snapshot.received";

impl Staging {
    /// Starts a new file in `dir`, replacing an older one.
    ///
    /// # Errors
    /// What the system said.
    pub fn start(dir: &Path) -> io::Result<Self> {
        let path = dir.join(STAGED_FILE);
        let file = File::create(&path)?;
        Ok(Self::into_file(path, file))
    }

    /// Writes into `file`, which lies at `path` and is empty.
    pub fn into_file(path: PathBuf, file: File) -> Self {
        Self {
            path,
            file: BufWriter::new(file),
            hasher: blake3::Hasher::new(),
        }
    }

    /// Adds one encoded chunk.
    ///
    /// # Errors
    /// What the system said.
    pub fn add(&mut self, chunk: &[u8]) -> io::Result<()> {
        let length = u32::try_from(chunk.len()).map_err(io::Error::other)?;
        self.file.write_all(&length.to_be_bytes())?;
        self.file.write_all(chunk)?;
        self.hasher.update(chunk);
        Ok(())
    }

    /// Ends the file and syncs it.
    ///
    /// # Errors
    /// What the system said.
    pub fn finish(mut self) -> io::Result<PathBuf> {
        self.file.write_all(&0u32.to_be_bytes())?;
        self.file.write_all(self.hasher.finalize().as_bytes())?;
        self.file.flush()?;
        self.file.get_ref().sync_all()?;
        Ok(self.path)
    }
}

/// Reads a finished file; the end is reported only when the hash over it matches.
pub struct Staged {
    file: BufReader<File>,
    hasher: blake3::Hasher,
}

impl Staged {
    /// Opens the file at `path`.
    ///
    /// # Errors
    /// What the system said.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self {
            file: BufReader::new(File::open(path)?),
            hasher: blake3::Hasher::new(),
        })
    }

    /// The next chunk; `None` at the end.
    ///
    /// # Errors
    /// What the system said, or `InvalidData` when the file is damaged.
    pub fn next(&mut self) -> io::Result<Option<Chunk>> {
        let mut length = [0; 4];
        self.file.read_exact(&mut length)?;
        let length = u32::from_be_bytes(length) as usize;
        let damaged = || io::Error::new(io::ErrorKind::InvalidData, "the snapshot file is damaged");
        if length == 0 {
            let mut hash = [0; 32];
            self.file.read_exact(&mut hash)?;
            return if self.hasher.finalize() == hash {
                Ok(None)
            } else {
                Err(damaged())
            };
        }
        if length > limits::RPC_BYTES_MAX {
            return Err(damaged());
        }
        let mut bytes = vec![0; length];
        self.file.read_exact(&mut bytes)?;
        self.hasher.update(&bytes);
        postcard::from_bytes(&bytes)
            .map(Some)
            .map_err(|_| damaged())
    }

    /// Reads the file through without using it.
    ///
    /// # Errors
    /// As [`Staged::next`].
    pub fn verify(path: &Path) -> io::Result<()> {
        let mut staged = Self::open(path)?;
        while staged.next()?.is_some() {}
        Ok(())
    }
}

/// The encoded form of `chunk`, on the wire and in the file.
pub fn encode_chunk(chunk: &Chunk) -> Vec<u8> {
    encode(chunk)
}
