//! A killed leader is replaced at once, by one election.

mod common;

use std::time::{Duration, Instant};

use common::{child, cluster_of, wait, write};
use strowger_cluster::{ClusterEvent, Liveness};

#[test]
#[ignore = "runs as a child process"]
fn child_node() {
    child::body(|_| {});
}

#[test]
fn a_killed_leader_is_replaced_long_before_its_lease_ends() {
    let mut nodes = cluster_of(3, |_| {});
    let mut old = nodes.remove(0);
    old.close();
    let (dir, address) = (old.dir.path().to_owned(), old.address);
    let mut worst = Duration::ZERO;
    for round in 0..3 {
        let mut process = child::spawn("child_node", &dir, address, &[]);
        assert!(child::is_up(&mut process));
        write(nodes[1].cluster(), &format!("before-{round}"));
        wait("the child leads", || {
            for node in &nodes {
                if node.cluster().leader() == Some(node.cluster().node()) {
                    common::block(node.cluster().transfer_leader(1));
                }
            }
            std::thread::sleep(Duration::from_millis(50));
            nodes.iter().all(|node| node.cluster().leader() == Some(1))
        });
        wait("the survivors watch the child", || {
            nodes
                .iter()
                .all(|node| node.cluster().figures().watched.contains(&1))
        });
        let term = nodes[0].cluster().figures().term;
        let mut events = nodes[0].cluster().events();
        let forced: u64 = nodes
            .iter()
            .map(|node| node.cluster().figures().forced_elections)
            .sum();

        let killed = Instant::now();
        process.kill().expect("kill");
        write(nodes[0].cluster(), &format!("after-{round}"));
        let took = killed.elapsed();
        process.wait().expect("wait");

        worst = worst.max(took);
        let figures = nodes[0].cluster().figures();
        assert_eq!(figures.term, term + 1, "one election settled it");
        let now: u64 = nodes
            .iter()
            .map(|node| node.cluster().figures().forced_elections)
            .sum();
        assert!(
            now > forced,
            "a survivor stood without waiting for the lease"
        );
        let mut certain = false;
        while let Ok(event) = events.try_recv() {
            certain |= matches!(
                event,
                ClusterEvent::Liveness {
                    node: 1,
                    liveness: Liveness::Dead { certain: true, .. }
                }
            );
        }
        assert!(certain, "the death was certain");
        println!("round {round}: committed {took:?} after the kill");
    }
    assert!(
        worst < Duration::from_millis(300),
        "the slowest round took {worst:?}"
    );
}
