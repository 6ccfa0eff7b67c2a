//! The library's own conformance suite, run on our storage.

use std::sync::Arc;
use std::time::Duration;

use openraft::entry::RaftEntry;
use openraft::storage::{RaftLogStorage, RaftLogStorageExt};
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::{EntryPayload, RaftTypeConfig, StorageError};
use parking_lot::Mutex;
use strowger_core::ports::{Machine, Meta, Proposal, Rows, RowsRead};

use super::log::LogStore;
use super::machine::{Applier, ApplyOutputs};
use super::{Entry, LeaderId, LogId, Types};
use crate::store::keys::GroupId;
use crate::store::{Store, Threads};

struct Mute;

impl Machine for Mute {
    fn apply(&mut self, _: &mut dyn Rows, _: Meta, batch: &[Proposal]) -> Vec<Vec<u8>> {
        batch.iter().map(|_| Vec::new()).collect()
    }

    fn restore(&mut self, _: &dyn RowsRead) {}

    fn published(&mut self, _: u64) {}

    fn state_hash(&self) -> [u8; 16] {
        [0; 16]
    }
}

/// Remembers the threads that hold the stores it opened.
#[derive(Default)]
struct Builder(Mutex<Vec<Arc<Threads>>>);

impl Builder {
    /// Waits until every store is closed: the engine must not be in use when the process ends.
    fn closed(&self) {
        for threads in self.0.lock().drain(..) {
            assert!(threads.join(Duration::from_secs(60)), "a store stays open");
        }
    }
}

impl StoreBuilder<Types, LogStore, Applier, tempfile::TempDir> for Builder {
    async fn build(&self) -> Result<(tempfile::TempDir, LogStore, Applier), StorageError<Types>> {
        let failed = |error: &dyn std::fmt::Display| {
            let source = <Types as RaftTypeConfig>::ErrorSource::from_string(error);
            StorageError::write(source)
        };
        use openraft::errors::ErrorSource;
        let dir = tempfile::tempdir().map_err(|error| failed(&error))?;
        let store = Store::open(&dir.path().join("store")).map_err(|error| failed(&error))?;
        self.0.lock().push(store.threads().clone());
        let group = GroupId::FIRST;
        let log =
            LogStore::open(store.clone(), group, Arc::default()).map_err(|error| failed(&error))?;
        let outputs = ApplyOutputs::default();
        let applier = Applier::start(store, group, Mute, dir.path(), outputs)
            .map_err(|error| failed(&error))?;
        Ok((dir, log, applier))
    }
}

/// What peers keep of a node is never more than its disk: entries written in the place of
/// others are not there yet.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_to_be_on_disk_ends_where_the_log_was_cut_off() {
    let builder = Builder::default();
    let (dir, mut log, applier) = builder.build().await.expect("a store");
    let leader = LeaderId {
        term: 1,
        node_id: 1,
    };
    let id = |index| LogId::new(leader, index);
    let entries = (0..=5).map(|index| Entry::new(id(index), EntryPayload::Blank));
    log.blocking_append(entries).await.expect("written");
    log.save_committed(Some(id(5))).await.expect("noted");
    assert_eq!(log.standing().1, Some(id(5)));
    log.truncate_after(Some(id(2))).await.expect("cut off");
    assert_eq!(log.standing().1, None);
    let again = (3..=5).map(|index| Entry::new(id(index), EntryPayload::Blank));
    log.blocking_append(again).await.expect("written");
    assert_eq!(log.standing().1, Some(id(5)));
    drop((log, applier, dir));
    tokio::task::block_in_place(|| builder.closed());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_passes_the_suite_of_the_library() {
    let builder = Builder::default();
    Suite::test_store(&builder)
        .await
        .expect("every test of the suite holds");
    tokio::task::block_in_place(|| builder.closed());
}
