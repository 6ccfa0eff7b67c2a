//! The disk of one node: rows, written unsynced entry by entry as the cluster does, so that
//! a power cut takes the newest of them away and they are applied again from the log.

use std::collections::{BTreeMap, VecDeque};

use strowger_core::ports::{Row, Rows, RowsRead, Table};

type Key = (Table, Vec<u8>);
/// The entry before an entry, and what that entry has overwritten.
type Before = (u64, Vec<(Key, Option<Vec<u8>>)>);

/// Entries whose rows may still be lost in a power cut.
const UNSYNCED_MAX: usize = 128;

/// Rows of one node and how far they have come.
#[derive(Clone, Default)]
pub struct Disk {
    rows: BTreeMap<Key, Vec<u8>>,
    /// Index of the last applied entry.
    pub applied: u64,
    /// What the newest entries have overwritten, oldest first.
    undo: VecDeque<Before>,
}

impl Disk {
    /// The rows with the writes of one entry gathered above them.
    pub fn overlay(&self) -> Overlay<'_> {
        Overlay {
            base: self,
            writes: BTreeMap::new(),
        }
    }

    /// Writes the rows of the entry at `index`.
    pub fn write(&mut self, index: u64, writes: BTreeMap<Key, Option<Vec<u8>>>) {
        let mut before = Vec::with_capacity(writes.len());
        for (key, value) in writes {
            let old = match value {
                Some(value) => self.rows.insert(key.clone(), value),
                None => self.rows.remove(&key),
            };
            before.push((key, old));
        }
        self.undo.push_back((self.applied, before));
        self.applied = index;
        if self.undo.len() > UNSYNCED_MAX {
            self.undo.drain(..UNSYNCED_MAX / 2);
        }
    }

    /// Rows up to this entry survive a power cut.
    pub fn synced(&self) -> u64 {
        self.undo
            .front()
            .map_or(self.applied, |(before, _)| *before)
    }

    /// Entries a power cut may take.
    pub fn unsynced(&self) -> usize {
        self.undo.len()
    }

    /// The power fails: the rows of the newest `entries` are gone.
    pub fn lose(&mut self, entries: usize) {
        for _ in 0..entries {
            let Some((applied, before)) = self.undo.pop_back() else {
                break;
            };
            for (key, old) in before {
                match old {
                    Some(old) => self.rows.insert(key, old),
                    None => self.rows.remove(&key),
                };
            }
            self.applied = applied;
        }
    }

    /// True when both hold the same rows, replies kept for repeated requests included.
    pub fn has_same_rows(&self, other: &Self) -> bool {
        self.rows == other.rows
    }

    /// Takes over the rows of another node, synced.
    pub fn install(&mut self, other: &Self) {
        self.rows = other.rows.clone();
        self.applied = other.applied;
        self.undo.clear();
    }
}

impl RowsRead for Disk {
    fn get(&self, table: Table, key: &[u8]) -> Option<Vec<u8>> {
        self.rows.get(&(table, key.to_vec())).cloned()
    }

    fn scan(&self, table: Table, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Vec<Row> {
        let from = (table, after.unwrap_or(prefix).to_vec());
        self.rows
            .range(from..)
            .take_while(|((of, key), _)| *of == table && key.starts_with(prefix))
            .filter(|((_, key), _)| after.is_none_or(|after| key.as_slice() > after))
            .take(limit)
            .map(|((_, key), value)| (key.clone(), value.clone()))
            .collect()
    }
}

/// Writes of one entry over the rows.
pub struct Overlay<'a> {
    base: &'a Disk,
    /// What the entry writes; `None` removes.
    pub writes: BTreeMap<Key, Option<Vec<u8>>>,
}

impl RowsRead for Overlay<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Option<Vec<u8>> {
        match self.writes.get(&(table, key.to_vec())) {
            Some(written) => written.clone(),
            None => self.base.get(table, key),
        }
    }

    fn scan(&self, table: Table, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Vec<Row> {
        // As many rows again as this entry may have removed.
        let limit_below = limit.saturating_add(self.writes.len());
        let base = self.base.scan(table, prefix, after, limit_below);
        let mut merged: BTreeMap<Vec<u8>, Vec<u8>> = base.into_iter().collect();
        let from = (table, after.unwrap_or(prefix).to_vec());
        for ((of, key), value) in self.writes.range(from..) {
            if *of != table || !key.starts_with(prefix) {
                break;
            }
            if after.is_some_and(|after| key.as_slice() <= after) {
                continue;
            }
            match value {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_power_cut_takes_the_newest_entries_and_nothing_else() {
        let mut disk = Disk::default();
        for index in 1..=3u8 {
            let mut overlay = disk.overlay();
            overlay.put(Table::Meta, b"last", vec![index]);
            overlay.put(Table::Meta, &[index], vec![index]);
            let writes = overlay.writes;
            disk.write(u64::from(index), writes);
        }
        disk.lose(2);
        assert_eq!(disk.applied, 1);
        assert_eq!(disk.get(Table::Meta, b"last"), Some(vec![1]));
        assert_eq!(disk.get(Table::Meta, &[3]), None);
        disk.lose(9);
        assert_eq!((disk.applied, disk.get(Table::Meta, b"last")), (0, None));
    }
}
