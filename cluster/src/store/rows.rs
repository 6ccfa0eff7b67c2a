//! Reading committed rows from any thread.

use std::sync::Arc;

use rocksdb::{Direction, IteratorMode, ReadOptions};
use strowger_core::ports::{Row, RowsRead, Table};

use super::keys::{self, GroupId};
use super::{Store, unseal};
use crate::error::StoreError;

/// Committed rows of one group. Reads of a damaged value raise the store's fault and
/// return nothing; the node stands aside at once.
#[derive(Clone)]
pub struct StoredRows {
    store: Arc<Store>,
    group: GroupId,
}

impl StoredRows {
    /// Rows of `group` in `store`.
    pub fn new(store: Arc<Store>, group: GroupId) -> Self {
        Self { store, group }
    }

    pub(crate) fn store(&self) -> &Arc<Store> {
        &self.store
    }

    pub(crate) fn group(&self) -> GroupId {
        self.group
    }

    /// A lazy walk over the rows under `prefix` after `after`.
    pub(crate) fn walk(
        &self,
        table: Table,
        prefix: &[u8],
        after: Option<&[u8]>,
    ) -> impl Iterator<Item = Result<Row, StoreError>> + '_ {
        let family = keys::family_of(table);
        let full = keys::row(self.group, table, prefix);
        let mut start = full.clone();
        if let Some(after) = after {
            let mut past = keys::row(self.group, table, after);
            past.push(0);
            if past > start {
                start = past;
            }
        }
        let mut options = ReadOptions::default();
        if let Some(end) = keys::after_prefix(&full) {
            options.set_iterate_upper_bound(end);
        }
        let walk = self.store.db().iterator_cf_opt(
            self.store.family(family),
            options,
            IteratorMode::From(&start, Direction::Forward),
        );
        walk.map(move |item| {
            let (key, sealed) = item?;
            let value = unseal(family, &key, sealed.into_vec())?;
            Ok((
                key.get(keys::ROW_PREFIX..).unwrap_or_default().to_vec(),
                value,
            ))
        })
    }
}

impl RowsRead for StoredRows {
    fn get(&self, table: Table, key: &[u8]) -> Option<Vec<u8>> {
        let full = keys::row(self.group, table, key);
        self.store
            .read(keys::family_of(table), &full)
            .unwrap_or_else(|error| {
                self.store.fault().raise(&error);
                None
            })
    }

    fn scan(&self, table: Table, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Vec<Row> {
        let mut rows = Vec::new();
        for row in self.walk(table, prefix, after).take(limit) {
            match row {
                Ok(row) => rows.push(row),
                Err(error) => {
                    self.store.fault().raise(&error);
                    return Vec::new();
                }
            }
        }
        rows
    }
}
