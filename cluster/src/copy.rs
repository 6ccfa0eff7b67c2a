//! A copy of all replicated rows as of one entry, taken while the node goes on.
//!
//! The rows travel in the chunks a snapshot has; [`RowsFile`] keeps them in the form a
//! received snapshot has on disk. Deliberately not here: vote, log and whatever else is
//! local to a node, so that a copy can never be mistaken for its data.

use std::fs::File;
use std::io;
use std::path::Path;

use strowger_core::ports::{NodeNumber, Table};

use crate::cluster::Cluster;
use crate::error::StoreError;
use crate::raft::snapshot::{Chunk, Pin, Staged, Staging, encode_chunk};
use crate::store::keys::{self, GroupId};

/// Where in the log a copy was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Taken {
    /// Term of the last entry it holds.
    pub term: u64,
    /// Who led in that term.
    pub leader: NodeNumber,
    /// Index of that entry.
    pub index: u64,
}

/// The rows as of one entry, read piece by piece. Holds their old versions in the store
/// until it is dropped.
pub struct RowsCopy {
    taken: Taken,
    pin: Pin,
}

/// Some of the rows.
pub struct CopiedRows(Chunk);

impl Cluster {
    /// Begins a copy of all rows as of the last applied entry.
    ///
    /// # Errors
    /// [`StoreError`] when they cannot be read, or nothing was applied yet.
    pub async fn copy(&self) -> Result<RowsCopy, StoreError> {
        let (meta, pin) = Pin::take(self.store(), GroupId::FIRST).await?;
        let last = meta.last_log_id.ok_or(StoreError::Format {
            what: "the applied position",
            why: "nothing was applied yet".to_owned(),
        })?;
        let taken = Taken {
            term: last.leader_id.term,
            leader: last.leader_id.node_id,
            index: last.index,
        };
        Ok(RowsCopy { taken, pin })
    }
}

impl RowsCopy {
    /// Where it was taken.
    pub fn taken(&self) -> Taken {
        self.taken
    }

    /// The next rows; `None` at the end.
    ///
    /// # Errors
    /// [`StoreError`] when a row is damaged: the copy is worthless then.
    pub async fn next(&mut self) -> Result<Option<CopiedRows>, StoreError> {
        Ok(self.pin.next().await?.map(CopiedRows))
    }
}

impl CopiedRows {
    /// How many.
    pub fn rows(&self) -> u64 {
        u64::try_from(self.0.rows.len()).unwrap_or(u64::MAX)
    }

    /// Their encoded form, for a [`RowsFile`].
    pub fn encoded(&self) -> Vec<u8> {
        encode_chunk(&self.0)
    }

    /// The value of a row, if it is among these.
    pub fn find(&self, table: Table, key: &[u8]) -> Option<&[u8]> {
        let full = keys::row(GroupId::FIRST, table, key);
        let mut rows = self.0.rows.iter();
        let found = (self.0.family == keys::family_of(table))
            .then(|| rows.find(|(key, _)| *key == full))
            .flatten();
        found.map(|(_, value)| value.as_slice())
    }
}

/// A file of copied rows.
pub struct RowsFile(Staging);

impl RowsFile {
    /// Starts a file at `path`, which must not exist.
    ///
    /// # Errors
    /// What the system said.
    pub fn create(path: &Path) -> io::Result<Self> {
        let file = File::create_new(path)?;
        Ok(Self(Staging::into_file(path.to_owned(), file)))
    }

    /// Adds rows in their encoded form.
    ///
    /// # Errors
    /// What the system said.
    pub fn add(&mut self, encoded: &[u8]) -> io::Result<()> {
        self.0.add(encoded)
    }

    /// Ends the file and syncs it.
    ///
    /// # Errors
    /// What the system said.
    pub fn finish(self) -> io::Result<()> {
        self.0.finish().map(drop)
    }

    /// Reads the file at `path` through and compares its hash.
    ///
    /// # Errors
    /// What the system said, or `InvalidData` when the file is damaged.
    pub fn verify(path: &Path) -> io::Result<()> {
        Staged::verify(path)
    }
}
