//! A node with rotten data stands aside instead of serving it.

mod common;

use std::path::Path;

use common::{cluster_of, leader_of, wait, write};
use rocksdb::{DB, IteratorMode, Options};
use strowger_cluster::StandAside;
use strowger_core::ports::Table;

/// Flips one bit of the value behind the last key of `family` that contains `part`.
fn flip(dir: &Path, family: &str, part: &[u8]) {
    let families = ["default", "raft", "state", "crm", "crm_idx", "local"];
    let db = DB::open_cf(&Options::default(), dir.join("store"), families).expect("open");
    let handle = db.cf_handle(family).expect("family");
    let (key, mut value) = db
        .iterator_cf(handle, IteratorMode::End)
        .map(|row| row.expect("readable"))
        .find(|(key, _)| key.windows(part.len()).any(|window| window == part))
        .expect("such a key");
    value[0] ^= 1;
    db.put_cf(handle, key, value).expect("put");
}

#[test]
fn a_flipped_bit_in_a_row_makes_the_node_stand_aside_and_the_others_go_on() {
    let mut nodes = cluster_of(3, |_| {});
    write(nodes[0].cluster(), "victim=precious");
    let rotten = (leader_of(&nodes) + 1) % 3;
    wait("it has the row", || {
        common::rows(nodes[rotten].cluster()).len() == 1
    });
    nodes[rotten].close();
    flip(nodes[rotten].dir.path(), "crm", b"victim");
    nodes[rotten].open(|_| {});
    let bad = nodes[rotten].cluster();
    assert_eq!(
        bad.rows().get(Table::Call, b"victim"),
        Some(b"precious".to_vec())
    );
    assert_eq!(
        bad.rows().get(Table::Cdr, b"victim"),
        None,
        "rot is not served"
    );
    wait("it stands aside", || {
        matches!(bad.stood_aside(), Some(StandAside::Store(_)))
    });
    assert!(!bad.lease_valid());
    let other = nodes[(rotten + 1) % 3].cluster();
    write(other, "goes-on");
}

#[test]
fn a_flipped_bit_in_the_log_is_named_at_start() {
    let mut node = common::founder(|_| {});
    write(node.cluster(), "entry");
    node.close();
    flip(node.dir.path(), "raft", b"l");
    let config = common::config(node.dir.path(), node.address);
    let opened = strowger_cluster::Cluster::open(config, common::Counter::default());
    let error = opened.err().expect("refused").to_string();
    assert!(error.contains("does not match its checksum"), "{error}");
}
