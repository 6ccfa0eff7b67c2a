//! Rows in a map, written through an overlay as an entry's batch is, and one node's
//! copy of the machine over them.

#![allow(dead_code, reason = "shared with the bench, which needs less of it")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use strowger_core::ports::{Machine, Meta, Proposal, Row, Rows, RowsRead, Table};
use strowger_core::state::{ExchangeMachine, SharedState, Wake, WakeSink};

/// Committed rows.
#[derive(Clone, Default, PartialEq)]
pub struct MemRows(BTreeMap<(Table, Vec<u8>), Vec<u8>>);

impl MemRows {
    /// Sets a row behind the machine's back.
    pub fn replace(&mut self, table: Table, key: &[u8], value: Vec<u8>) {
        self.0.insert((table, key.to_vec()), value);
    }
}

impl RowsRead for MemRows {
    fn get(&self, table: Table, key: &[u8]) -> Option<Vec<u8>> {
        self.0.get(&(table, key.to_vec())).cloned()
    }

    fn scan(&self, table: Table, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Vec<Row> {
        let from = (table, after.unwrap_or(prefix).to_vec());
        self.0
            .range(from..)
            .take_while(|((of, key), _)| *of == table && key.starts_with(prefix))
            .filter(|((_, key), _)| after.is_none_or(|after| key.as_slice() > after))
            .take(limit)
            .map(|((_, key), value)| (key.clone(), value.clone()))
            .collect()
    }
}

/// Writes of one entry over committed rows.
struct Overlay<'a> {
    base: &'a MemRows,
    writes: BTreeMap<(Table, Vec<u8>), Option<Vec<u8>>>,
}

impl RowsRead for Overlay<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Option<Vec<u8>> {
        match self.writes.get(&(table, key.to_vec())) {
            Some(written) => written.clone(),
            None => self.base.get(table, key),
        }
    }

    fn scan(&self, table: Table, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Vec<Row> {
        // As many rows again as this entry may have deleted.
        let base = self.base.scan(
            table,
            prefix,
            after,
            limit.saturating_add(self.writes.len()),
        );
        let mut merged: BTreeMap<Vec<u8>, Vec<u8>> = base.into_iter().collect();
        let from = (table, after.unwrap_or(prefix).to_vec());
        for ((of, key), value) in self.writes.range(from..) {
            let wanted = *of == table
                && key.starts_with(prefix)
                && after.is_none_or(|after| key.as_slice() > after);
            match value {
                _ if !wanted => {}
                Some(value) => drop(merged.insert(key.clone(), value.clone())),
                None => drop(merged.remove(key)),
            }
        }
        merged.into_iter().take(limit).collect()
    }
}

impl Rows for Overlay<'_> {
    fn put(&mut self, table: Table, key: &[u8], value: Vec<u8>) {
        self.writes.insert((table, key.to_vec()), Some(value));
    }

    fn delete(&mut self, table: Table, key: &[u8]) {
        self.writes.insert((table, key.to_vec()), None);
    }
}

/// Keeps wake-ups until somebody looks.
#[derive(Clone, Default)]
pub struct Recorder(Arc<Mutex<Vec<Wake>>>);

impl Recorder {
    /// What has come since the last look.
    pub fn take(&self) -> Vec<Wake> {
        std::mem::take(&mut *self.0.lock().expect("no test panics while it holds this"))
    }
}

impl WakeSink for Recorder {
    fn wake(&mut self, wakes: Vec<Wake>) {
        let mut kept = self.0.lock().expect("no test panics while it holds this");
        kept.extend(wakes);
    }
}

/// One node's copy: machine and rows.
pub struct Copy {
    pub machine: ExchangeMachine,
    pub state: SharedState,
    pub rows: MemRows,
    pub wakes: Recorder,
}

impl Copy {
    pub fn new() -> Self {
        let (state, wakes) = (SharedState::default(), Recorder::default());
        let machine = ExchangeMachine::new(state.clone(), Box::new(wakes.clone()));
        let rows = MemRows::default();
        Self {
            machine,
            state,
            rows,
            wakes,
        }
    }

    /// A copy that starts from these rows, as after a restart or a snapshot.
    pub fn restored(rows: &MemRows) -> Self {
        let mut copy = Self::new();
        copy.machine.restore(rows);
        copy.rows = rows.clone();
        copy
    }

    /// Applies one entry, commits its rows and says so.
    pub fn apply(&mut self, meta: Meta, batch: &[Proposal]) -> Vec<Vec<u8>> {
        let replies = self.apply_unpublished(meta, batch);
        self.machine.published(meta.index);
        replies
    }

    /// Applies one entry and commits its rows.
    pub fn apply_unpublished(&mut self, meta: Meta, batch: &[Proposal]) -> Vec<Vec<u8>> {
        let mut overlay = Overlay {
            base: &self.rows,
            writes: BTreeMap::new(),
        };
        let replies = self.machine.apply(&mut overlay, meta, batch);
        for (key, value) in overlay.writes {
            match value {
                Some(value) => self.rows.0.insert(key, value),
                None => self.rows.0.remove(&key),
            };
        }
        replies
    }

    /// Everything the state knows, in words that can be compared.
    pub fn words(&self) -> String {
        format!("{:?}", self.state.read())
    }
}
