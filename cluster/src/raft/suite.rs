//! The library's own conformance suite, run on our storage.

use std::sync::Arc;

use openraft::testing::log::{StoreBuilder, Suite};
use openraft::{RaftTypeConfig, StorageError};
use strowger_core::ports::{Machine, Meta, Proposal, Rows, RowsRead};

use super::Types;
use super::log::LogStore;
use super::machine::{Applier, ApplyOutputs};
use crate::store::Store;
use crate::store::keys::GroupId;

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

struct Builder;

impl StoreBuilder<Types, LogStore, Applier, tempfile::TempDir> for Builder {
    async fn build(&self) -> Result<(tempfile::TempDir, LogStore, Applier), StorageError<Types>> {
        let failed = |error: &dyn std::fmt::Display| {
            let source = <Types as RaftTypeConfig>::ErrorSource::from_string(error);
            StorageError::write(source)
        };
        use openraft::errors::ErrorSource;
        let dir = tempfile::tempdir().map_err(|error| failed(&error))?;
        let store = Store::open(&dir.path().join("store")).map_err(|error| failed(&error))?;
        let group = GroupId::FIRST;
        let (log, _) =
            LogStore::open(store.clone(), group, Arc::default()).map_err(|error| failed(&error))?;
        let (applier, _) = Applier::start(store, group, Mute, dir.path(), ApplyOutputs::default())
            .map_err(|error| failed(&error))?;
        Ok((dir, log, applier))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_passes_the_suite_of_the_library() {
    Suite::test_all(Builder)
        .await
        .expect("every test of the suite holds");
}
