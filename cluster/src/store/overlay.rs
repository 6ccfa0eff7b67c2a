//! The rows as `apply` sees them: the writes of this batch over the stored rows.

use std::collections::BTreeMap;
use std::ops::Bound;

use rocksdb::WriteBatch;
use strowger_core::ports::{Row, Rows, RowsRead, Table};

use super::rows::StoredRows;
use super::{keys, seal};

/// Writes of one batch (`None` is a deletion) over stored rows.
pub struct Overlay {
    stored: StoredRows,
    written: BTreeMap<(Table, Vec<u8>), Option<Vec<u8>>>,
}

impl Overlay {
    /// An overlay without writes.
    pub fn new(stored: StoredRows) -> Self {
        Self {
            stored,
            written: BTreeMap::new(),
        }
    }

    /// Adds the writes to `batch` and forgets them.
    pub(crate) fn drain_into(&mut self, batch: &mut WriteBatch) {
        let store = self.stored.store();
        for ((table, key), value) in std::mem::take(&mut self.written) {
            let family = keys::family_of(table);
            let full = keys::row(self.stored.group(), table, &key);
            match value {
                Some(value) => {
                    batch.put_cf(store.family(family), &full, seal(family, &full, &value));
                }
                None => batch.delete_cf(store.family(family), &full),
            }
        }
    }

    fn written_from(
        &self,
        table: Table,
        prefix: &[u8],
        after: Option<&[u8]>,
    ) -> impl Iterator<Item = (&Vec<u8>, &Option<Vec<u8>>)> {
        let start = match after {
            Some(after) if after >= prefix => Bound::Excluded((table, after.to_vec())),
            _ => Bound::Included((table, prefix.to_vec())),
        };
        let prefix = prefix.to_vec();
        self.written
            .range((start, Bound::Unbounded))
            .take_while(move |((at, key), _)| *at == table && key.starts_with(&prefix))
            .map(|((_, key), value)| (key, value))
    }
}

impl RowsRead for Overlay {
    fn get(&self, table: Table, key: &[u8]) -> Option<Vec<u8>> {
        match self.written.get(&(table, key.to_vec())) {
            Some(value) => value.clone(),
            None => self.stored.get(table, key),
        }
    }

    fn scan(&self, table: Table, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Vec<Row> {
        let mut rows = Vec::new();
        let mut written = self.written_from(table, prefix, after).peekable();
        let mut stored = self.stored.walk(table, prefix, after).peekable();
        while rows.len() < limit {
            let stored_first = match (stored.peek(), written.peek()) {
                (None, None) => break,
                (Some(Err(_)), _) => {
                    if let Some(Err(error)) = stored.next() {
                        self.stored.store().fault().raise(&error);
                    }
                    return Vec::new();
                }
                (Some(Ok(_)), None) => true,
                (None, Some(_)) => false,
                (Some(Ok((key, _))), Some((own, _))) if key == *own => {
                    // The batch hides the stored row; drop it and let the write decide.
                    stored.next();
                    continue;
                }
                (Some(Ok((key, _))), Some((own, _))) => key < *own,
            };
            if stored_first {
                if let Some(Ok(row)) = stored.next() {
                    rows.push(row);
                }
            } else if let Some((key, Some(value))) = written.next() {
                rows.push((key.clone(), value.clone()));
            }
        }
        rows
    }
}

impl Rows for Overlay {
    fn put(&mut self, table: Table, key: &[u8], value: Vec<u8>) {
        self.written.insert((table, key.to_vec()), Some(value));
    }

    fn delete(&mut self, table: Table, key: &[u8]) {
        self.written.insert((table, key.to_vec()), None);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Store, keys::GroupId};
    use super::*;

    #[test]
    fn writes_hide_stored_rows_in_order() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let store = Store::open(dir.path()).expect("open");
        let stored = StoredRows::new(store.clone(), GroupId::FIRST);
        let mut first = Overlay::new(stored.clone());
        for key in ["a1", "a2", "a3", "b1"] {
            first.put(Table::Call, key.as_bytes(), b"old".to_vec());
        }
        first.put(Table::Agent, b"a2", b"other table".to_vec());
        let mut batch = WriteBatch::default();
        first.drain_into(&mut batch);
        store.write(batch, false).expect("write");

        let mut overlay = Overlay::new(stored);
        overlay.delete(Table::Call, b"a1");
        overlay.put(Table::Call, b"a2", b"new".to_vec());
        overlay.put(Table::Call, b"a25", b"new".to_vec());
        let row = |key: &str, value: &str| (key.as_bytes().to_vec(), value.as_bytes().to_vec());
        let scan = |after: Option<&[u8]>, limit| overlay.scan(Table::Call, b"a", after, limit);
        assert_eq!(
            scan(None, 9),
            [row("a2", "new"), row("a25", "new"), row("a3", "old")]
        );
        assert_eq!(scan(Some(b"a2"), 1), [row("a25", "new")]);
        assert_eq!(overlay.get(Table::Call, b"a1"), None);
        assert_eq!(overlay.get(Table::Call, b"b1"), Some(b"old".to_vec()));
    }
}
