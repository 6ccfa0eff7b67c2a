//! Lagging nodes get snapshots that really install, also when killed in the middle.

mod common;

use common::{child, cluster_of, leader_of, rows, wait, write};
use strowger_cluster::ClusterConfig;

fn small_log(config: &mut ClusterConfig) {
    config.snapshot_every = 20;
    config.log_kept = 5;
}

#[test]
#[ignore = "runs as a child process"]
fn child_node() {
    child::body(small_log);
}

/// Three nodes; one is closed and so far behind that the log does not reach it.
fn with_one_far_behind() -> (Vec<common::Node>, usize) {
    let mut nodes = cluster_of(3, small_log);
    write(nodes[0].cluster(), "gone-later=old");
    let late = (leader_of(&nodes) + 1) % 3;
    nodes[late].close();
    let writer = (late + 1) % 3;
    let large = "x".repeat(20_000);
    for turn in 0..150 {
        write(nodes[writer].cluster(), &format!("row-{turn:03}={large}"));
    }
    write(nodes[writer].cluster(), "gone-later=new");
    let leader = nodes
        .iter()
        .filter_map(|node| node.cluster.as_ref())
        .find(|cluster| cluster.leader() == Some(cluster.node()))
        .expect("somebody leads");
    common::block(leader.trigger_snapshot());
    // The log is purged after the snapshot is noted; a few more entries let it happen.
    for turn in 0..30 {
        write(nodes[writer].cluster(), &format!("more-{turn:03}"));
    }
    (nodes, late)
}

#[test]
fn a_node_far_behind_gets_a_snapshot() {
    let (mut nodes, late) = with_one_far_behind();
    nodes[late].open(small_log);
    let other = (late + 1) % 3;
    wait("it has the same rows", || {
        rows(nodes[late].cluster()) == rows(nodes[other].cluster())
    });
    // One is enough; where the leader purges on while it installs, a newer one follows. It is
    // counted after its rows can be read.
    wait("a snapshot was installed", || {
        nodes[late].cluster().figures().snapshots_installed > 0
    });
    write(nodes[late].cluster(), "goes-on");
    nodes[late].close();
    nodes[late].open(small_log);
    wait("it goes on after a restart", || {
        rows(nodes[late].cluster()).contains_key("goes-on")
    });
}

#[test]
fn an_installation_killed_in_the_middle_is_finished_at_the_next_start() {
    let (mut nodes, late) = with_one_far_behind();
    let (dir, address) = (nodes[late].dir.path().to_owned(), nodes[late].address);
    let crash = [("STROWGER_CRASH_POINT", "install")];
    let mut process = child::spawn("child_node", &dir, address, &crash);
    child::is_up(&mut process);
    let status = process.wait().expect("wait");
    assert!(!status.success(), "the child died at the crash point");
    nodes[late].open(small_log);
    assert!(
        rows(nodes[late].cluster()).contains_key("gone-later"),
        "the rows were complete before the node was open"
    );
    let other = (late + 1) % 3;
    wait("it has the same rows", || {
        rows(nodes[late].cluster()) == rows(nodes[other].cluster())
    });
    write(nodes[late].cluster(), "goes-on");
}

#[test]
fn a_lost_snapshot_file_is_named_instead_of_serving_half_the_rows() {
    let (nodes, late) = with_one_far_behind();
    let (dir, address) = (nodes[late].dir.path().to_owned(), nodes[late].address);
    let crash = [("STROWGER_CRASH_POINT", "install")];
    let mut process = child::spawn("child_node", &dir, address, &crash);
    child::is_up(&mut process);
    process.wait().expect("wait");
    std::fs::remove_file(dir.join("snapshot.received")).expect("it was there");
    let mut config = common::config(&dir, address);
    small_log(&mut config);
    let opened = strowger_cluster::Cluster::open(config, common::Counter::default());
    let error = opened.err().expect("refused");
    assert!(
        matches!(error, strowger_cluster::OpenError::Unrepairable { .. }),
        "{error}"
    );
    drop(nodes);
}
