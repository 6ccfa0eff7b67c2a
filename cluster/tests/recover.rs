//! One survivor is made the whole of its cluster.

mod common;

use std::path::Path;

use common::{Node, cluster_of, rows, voters, wait, write};
use rocksdb::{DB, IteratorMode, Options};
use strowger_cluster::offline;

/// Takes the last `count` entries from a log, as a crash does that comes between the rows of an
/// entry others had written and its own copy.
fn cut_off(dir: &Path, count: usize) {
    let families = ["default", "raft", "state", "crm", "crm_idx", "local"];
    let db = DB::open_cf(&Options::default(), dir.join("store"), families).expect("open");
    let raft = db.cf_handle("raft").expect("family");
    let entries = db
        .iterator_cf(raft, IteratorMode::End)
        .map(|row| row.expect("readable").0)
        .filter(|key| key.get(4) == Some(&b'l'));
    let last: Vec<_> = entries.take(count).collect();
    assert_eq!(last.len(), count);
    for key in last {
        db.delete_cf(raft, key).expect("delete");
    }
}

fn recovered(entries_lost: usize) {
    let mut nodes = cluster_of(2, |_| {});
    let keys = ["one", "two", "three", "four"];
    for key in keys {
        write(nodes[0].cluster(), key);
    }
    wait("the other has them", || {
        rows(nodes[1].cluster()).len() == keys.len()
    });
    for node in &mut nodes {
        node.close();
    }
    let mut survivor: Node = nodes.pop().expect("two");
    let data = survivor.dir.path().to_owned();
    if entries_lost > 0 {
        cut_off(&data, entries_lost);
    }
    let found = offline::recover(&data, |_| Vec::new()).expect("it recovers");
    assert_eq!(found.lost.len(), 1, "{found:?}");
    // And again: the second life stands on what the first has written.
    for life in ["first", "second"] {
        survivor.open(|config| {
            config.snapshot_every = 5;
            config.log_kept = 2;
        });
        let cluster = survivor.cluster();
        wait("it leads alone", || {
            voters(cluster) == 1 && cluster.lease_valid()
        });
        let kept = rows(cluster);
        assert!(keys.iter().all(|key| kept.contains_key(*key)), "{kept:?}");
        for turn in 0..12 {
            write(cluster, &format!("{life}-{turn}"));
        }
        survivor.close();
    }
}

#[test]
fn a_survivor_goes_on_with_all_it_has() {
    recovered(0);
}

#[test]
fn a_survivor_whose_rows_are_ahead_of_its_log_goes_on_as_well() {
    recovered(2);
}
