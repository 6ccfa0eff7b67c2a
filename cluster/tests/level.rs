//! A program that is too old for what was committed stops before it, and a newer one goes on
//! from there on the same data.

mod common;

use common::{Counter, Node, block, cluster_of, leader_of, rows, wait, write};
use strowger_cluster::{ClusterConfig, OpenError, StandAside};

fn is_too_old(node: &Node) -> bool {
    node.cluster().stood_aside() == Some(StandAside::TooOld(2))
}

fn small_log(config: &mut ClusterConfig) {
    config.snapshot_every = 20;
    config.log_kept = 5;
}

fn reopen(node: &mut Node, reads: u32) -> Result<(), OpenError> {
    node.close();
    node.try_open(small_log, Counter::reading(reads))
}

/// Starts a program that reads level 1 where it cannot: it is refused at once, or stands aside
/// when it comes to the entry.
fn is_refused(node: &mut Node) {
    match reopen(node, 1) {
        Ok(()) => wait("it stands aside", || is_too_old(node)),
        Err(error) => {
            let too_old = matches!(error, OpenError::Aside(StandAside::TooOld(2)));
            assert!(too_old, "{error:?}");
        }
    }
}

/// Three nodes of which one that does not lead reads level 1 only.
fn with_an_older_one() -> (Vec<Node>, usize) {
    let mut nodes = cluster_of(3, small_log);
    let old = (leader_of(&nodes) + 1) % 3;
    reopen(&mut nodes[old], 1).expect("level 1 is read");
    write(nodes[old].cluster(), "before");
    (nodes, old)
}

#[test]
fn an_older_program_stops_before_the_entry_and_a_newer_one_goes_on_from_there() {
    let (mut nodes, old) = with_an_older_one();
    let other = (old + 1) % 3;
    write(nodes[other].cluster(), "level=2");
    wait("it stands aside", || is_too_old(&nodes[old]));
    let kept = rows(nodes[old].cluster());
    let before = kept.contains_key("before") && !kept.contains_key("level");
    assert!(before, "{kept:?}");
    write(nodes[other].cluster(), "after");
    // Again and again: the entry is in its log.
    is_refused(&mut nodes[old]);
    is_refused(&mut nodes[old]);
    reopen(&mut nodes[old], 2).expect("level 2 is read");
    wait("it has everything", || {
        rows(nodes[old].cluster()) == rows(nodes[other].cluster())
    });
    // Now its rows are of level 2, and the older program does not even start on them.
    let refused = reopen(&mut nodes[old], 1).expect_err("its rows are of level 2");
    let too_old = matches!(refused, OpenError::Aside(StandAside::TooOld(2)));
    assert!(too_old, "{refused:?}");
    reopen(&mut nodes[old], 2).expect("level 2 is read");
    write(nodes[old].cluster(), "goes-on");
}

#[test]
fn an_older_program_takes_no_part_with_a_snapshot_from_behind_the_entry() {
    let (mut nodes, old) = with_an_older_one();
    nodes[old].close();
    let other = (old + 1) % 3;
    write(nodes[other].cluster(), "level=2");
    let leader = nodes.iter().filter_map(|node| node.cluster.as_ref());
    let mut leader = leader.filter(|cluster| cluster.leader() == Some(cluster.node()));
    let leader = leader.next().expect("somebody leads");
    for turn in 0..60 {
        write(leader, &format!("row-{turn}"));
    }
    block(leader.trigger_snapshot());
    for turn in 0..30 {
        write(leader, &format!("more-{turn}"));
    }
    reopen(&mut nodes[old], 1).expect("its rows are of level 1");
    wait("it stands aside", || is_too_old(&nodes[old]));
    reopen(&mut nodes[old], 2).expect("level 2 is read");
    wait("it has everything", || {
        rows(nodes[old].cluster()) == rows(nodes[other].cluster())
    });
}
