//! Keys on disk: group (4 bytes, big endian), then what the family keeps.
//!
//! Table number 0 of `state` belongs to the cluster itself (applied position, join
//! tokens, removed nodes); the machine's tables start at 1.

use strowger_core::ports::Table;

use super::Family;

/// Names one Raft group. There is one today; keys carry it from the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(pub u32);

impl GroupId {
    /// The one group there is.
    pub const FIRST: Self = Self(1);
}

/// Counter of this node's lives, in `local`.
pub const INCARNATION: &[u8] = b"incarnation";

/// Present while a snapshot is being installed, in `local`.
pub const INSTALLING: &[u8] = b"installing";

/// Present once peers have found that this node has forgotten something, in `local`.
pub const FORGOT: &[u8] = b"forgot";

/// Key of the furthest a peer was seen, in `local`.
pub fn witness(node: u64) -> Vec<u8> {
    [b"witness/".as_slice(), &node.to_be_bytes()].concat()
}

/// The cluster's own table in `state`.
pub const OWN_TABLE: u8 = 0;

/// Key of a log entry.
pub fn log(group: GroupId, index: u64) -> [u8; 13] {
    let mut key = [0; 13];
    key[..4].copy_from_slice(&group.0.to_be_bytes());
    key[4] = b'l';
    key[5..].copy_from_slice(&index.to_be_bytes());
    key
}

/// Key of a singleton of the log: `v` vote, `p` purged, `c` committed.
pub fn log_single(group: GroupId, which: u8) -> [u8; 5] {
    let mut key = [0; 5];
    key[..4].copy_from_slice(&group.0.to_be_bytes());
    key[4] = which;
    key
}

/// Key of a row of the machine.
pub fn row(group: GroupId, table: Table, key: &[u8]) -> Vec<u8> {
    in_table(group, table as u8, key)
}

/// Key of a row of the cluster itself, in `state`.
pub fn own(group: GroupId, key: &[u8]) -> Vec<u8> {
    in_table(group, OWN_TABLE, key)
}

/// Bytes of a row key before the machine's key.
pub const ROW_PREFIX: usize = 5;

fn in_table(group: GroupId, table: u8, key: &[u8]) -> Vec<u8> {
    let mut full = Vec::with_capacity(ROW_PREFIX + key.len());
    full.extend_from_slice(&group.0.to_be_bytes());
    full.push(table);
    full.extend_from_slice(key);
    full
}

/// The family a table lives in.
pub fn family_of(table: Table) -> Family {
    match table {
        Table::CdrByCall | Table::CustomerByNumber | Table::CustomerByName => Family::CrmIdx,
        table if table.is_history() => Family::Crm,
        _ => Family::State,
    }
}

/// The first key after all keys that start with `prefix`; `None` when there is none.
pub fn after_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return Some(end);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_on_disk_never_change() {
        let group = GroupId::FIRST;
        assert_eq!(hex::encode(log(group, 258)), "000000016c0000000000000102");
        assert_eq!(hex::encode(row(group, Table::Call, b"k")), "00000001066b");
        assert_eq!(hex::encode(own(group, b"k")), "00000001006b");
    }

    #[test]
    fn the_end_of_a_prefix_skips_full_bytes() {
        assert_eq!(after_prefix(&[1, 255]), Some(vec![2]));
        assert_eq!(after_prefix(&[255, 255]), None);
    }
}
