//! Damage done to the store of a node that does not run.

use std::path::{Path, PathBuf};

use rocksdb::{DB, IteratorMode, Options};
use strowger_tests::cluster::Cluster;

const FAMILIES: [&str; 6] = ["default", "raft", "state", "crm", "crm_idx", "local"];

/// The data folder of a node.
pub fn data(cluster: &Cluster, node: u64) -> PathBuf {
    cluster.dir().join(format!("n{node}/data"))
}

/// The store under a data folder.
pub fn open(data: &Path) -> DB {
    DB::open_cf(&Options::default(), data.join("store"), FAMILIES).expect("the node is gone")
}

/// The keys of a family, in order.
pub fn keys(db: &DB, family: &str) -> Vec<Vec<u8>> {
    let handle = db.cf_handle(family).expect("family");
    let rows = db.iterator_cf(handle, IteratorMode::Start);
    rows.map(|row| row.expect("readable").0.into_vec())
        .collect()
}

/// Flips one bit in the middle of a value; the engine's own checksums fit it.
pub fn flip(db: &DB, family: &str, key: &[u8]) {
    let handle = db.cf_handle(family).expect("family");
    let mut value = db.get_cf(handle, key).expect("readable").expect("there");
    let middle = value.len() / 2;
    value[middle] ^= 1;
    db.put_cf(handle, key, value).expect("put");
}

/// Keys of log entries: group, `l`, index.
pub fn entries(db: &DB) -> Vec<Vec<u8>> {
    let mut keys = keys(db, "raft");
    keys.retain(|key| key.len() == 13 && key[4] == b'l');
    keys
}
