//! A node that has forgotten what it acknowledged never takes part again.

mod common;

use std::path::Path;
use std::time::Duration;

use common::{Counter, block, cluster_of, leader_of, rows, wait, write};
use strowger_cluster::{Cluster, OpenError, StandAside};
use strowger_core::ports::{Outcome, Proposer};

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("listed").flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("copied");
        }
    }
}

fn put_back(copied: &Path, dir: &Path) {
    for entry in std::fs::read_dir(dir).expect("listed").flatten() {
        let path = entry.path();
        let removed = if path.is_dir() {
            std::fs::remove_dir_all(path)
        } else {
            std::fs::remove_file(path)
        };
        removed.expect("removed");
    }
    copy(copied, dir);
}

fn forgot(cluster: &Cluster) -> bool {
    matches!(cluster.stood_aside(), Some(StandAside::Forgot { .. }))
}

#[test]
fn an_old_copy_put_back_gives_no_majority_to_anybody() {
    let mut nodes = cluster_of(3, |_| {});
    let leader = leader_of(&nodes);
    let (old, other) = ((leader + 1) % 3, (leader + 2) % 3);
    write(nodes[leader].cluster(), "before");
    nodes[old].close();
    let copied = tempfile::tempdir().expect("a folder");
    copy(nodes[old].dir.path(), copied.path());
    nodes[old].open(|_| {});
    // Acknowledged by the leader and this node alone.
    nodes[other].close();
    write(nodes[leader].cluster(), "acknowledged");
    wait("it has it", || {
        rows(nodes[old].cluster()).contains_key("acknowledged")
    });
    nodes[old].close();
    put_back(copied.path(), nodes[old].dir.path());
    nodes[old].open(|_| {});
    wait("it stands aside", || forgot(nodes[old].cluster()));
    let number = nodes[old].cluster().node();
    wait("the leader tells", || {
        nodes[leader].cluster().forgetful() == [number]
    });
    // Starting it again does not help, though each start is a life more.
    nodes[old].close();
    for _ in 0..3 {
        let config = common::config(nodes[old].dir.path(), nodes[old].address);
        let error = Cluster::open(config, Counter::default()).err();
        let forgot = matches!(error, Some(OpenError::Aside(StandAside::Forgot { .. })));
        assert!(forgot, "{error:?}");
    }
    // The one that lacks the entry finds no majority with it, whatever it asks.
    nodes[leader].close();
    nodes[other].open(|_| {});
    let alone = nodes[other].cluster();
    let outcome = block(alone.propose(b"wrong".to_vec(), Duration::from_secs(3)));
    assert!(!matches!(outcome, Outcome::Committed(_)), "{outcome:?}");
    // With the leader back, everything is there and goes on.
    nodes[leader].open(|_| {});
    write(nodes[other].cluster(), "after");
    wait("nothing is lost", || {
        rows(nodes[other].cluster()).contains_key("acknowledged")
    });
}

#[test]
fn a_copy_taken_in_the_same_life_is_noticed_by_the_entries_it_lacks() {
    let mut nodes = cluster_of(3, |_| {});
    let leader = leader_of(&nodes);
    let old = (leader + 1) % 3;
    write(nodes[leader].cluster(), "before");
    let copied = tempfile::tempdir().expect("a folder");
    copy(nodes[old].dir.path(), copied.path());
    // Its peers hear once a second where it stands.
    for n in 0..30 {
        write(nodes[leader].cluster(), &format!("entry-{n}"));
        std::thread::sleep(Duration::from_millis(100));
    }
    nodes[old].close();
    put_back(copied.path(), nodes[old].dir.path());
    nodes[old].open(|_| {});
    wait("it stands aside", || forgot(nodes[old].cluster()));
    write(nodes[leader].cluster(), "goes-on");
}

#[test]
fn a_founder_put_back_to_when_it_was_alone_is_told_by_the_others() {
    let founder = common::founder(|_| {});
    let mut founder = founder;
    write(founder.cluster(), "alone");
    founder.close();
    let copied = tempfile::tempdir().expect("a folder");
    copy(founder.dir.path(), copied.path());
    founder.open(|_| {});
    let mut others: Vec<_> = (0..2).map(|_| common::joiner(founder.cluster())).collect();
    others.iter_mut().for_each(|node| node.open(|_| {}));
    wait("all vote", || common::voters(founder.cluster()) == 3);
    write(founder.cluster(), "together");
    founder.close();
    put_back(copied.path(), founder.dir.path());
    founder.open(|_| {});
    wait("it stands aside", || forgot(founder.cluster()));
    write(others[0].cluster(), "goes-on");
}

#[test]
fn a_lost_store_is_not_begun_anew() {
    let mut nodes = cluster_of(3, |_| {});
    let victim = (leader_of(&nodes) + 1) % 3;
    nodes[victim].close();
    std::fs::remove_dir_all(nodes[victim].dir.path().join("store")).expect("removed");
    let config = common::config(nodes[victim].dir.path(), nodes[victim].address);
    let opened = Cluster::open(config, Counter::default());
    let error = opened.err().expect("refused");
    assert!(
        matches!(error, OpenError::Outdated { store: 0, lives: 1 }),
        "{error}"
    );
    assert!(!nodes[victim].dir.path().join("store").exists());
    write(nodes[(victim + 1) % 3].cluster(), "goes-on");
}

#[test]
fn an_old_store_is_not_made_a_new_one_by_starting_it_often() {
    let mut node = common::founder(|_| {});
    node.close();
    let copied = tempfile::tempdir().expect("a folder");
    copy(&node.dir.path().join("store"), copied.path());
    for _ in 0..2 {
        node.open(|_| {});
        node.close();
    }
    let store = node.dir.path().join("store");
    std::fs::remove_dir_all(&store).expect("removed");
    copy(copied.path(), &store);
    for _ in 0..4 {
        let config = common::config(node.dir.path(), node.address);
        let error = Cluster::open(config, Counter::default()).err();
        let outdated = matches!(error, Some(OpenError::Outdated { store: 1, lives: 3 }));
        assert!(outdated, "{error:?}");
    }
}

#[test]
fn a_node_whose_peers_were_all_replaced_meanwhile_is_vouched_for_by_the_new_ones() {
    let mut nodes = cluster_of(3, |_| {});
    write(nodes[0].cluster(), "before");
    nodes[2].close();
    for gone in 0..2 {
        let mut fresh = common::joiner(nodes[1].cluster());
        fresh.open(|_| {});
        nodes.push(fresh);
        let all = || common::voters(nodes[1].cluster()) == 4;
        wait("the new one votes", all);
        let number = nodes[gone].cluster().node();
        // A leader that removes itself may be cut off before it has answered, and one that
        // has just changed refuses.
        wait("it is a member no more", || {
            let members = nodes[3].cluster().members();
            let gone = members.iter().all(|member| member.node != number);
            if !gone {
                drop(block(nodes[3].cluster().remove(number)));
            }
            gone
        });
        nodes[gone].close();
    }
    write(nodes[3].cluster(), "meanwhile");
    nodes[2].open(|_| {});
    wait("it catches up", || {
        rows(nodes[2].cluster()).contains_key("meanwhile")
    });
}

#[test]
fn nodes_that_all_start_at_once_vouch_for_each_other() {
    let mut nodes = cluster_of(3, |_| {});
    for round in 0..3 {
        write(nodes[0].cluster(), &format!("round-{round}"));
        nodes.iter_mut().for_each(common::Node::close);
        nodes.iter_mut().for_each(|node| node.open(|_| {}));
        wait("a leader", || nodes[0].cluster().leader().is_some());
    }
    write(nodes[0].cluster(), "after");
    wait("nothing is lost", || rows(nodes[0].cluster()).len() == 4);
}
