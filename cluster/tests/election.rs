//! A killed leader is replaced at once, by one election, and what is proposed meanwhile waits
//! for the new one.

mod common;

use std::time::{Duration, Instant};

use common::{Node, child, cluster_of, wait, write};
use strowger_cluster::{ClusterEvent, Liveness};
use strowger_core::ports::{Outcome, Proposer};

#[test]
#[ignore = "runs as a child process"]
fn child_node() {
    child::body(|_| {});
}

/// Hands leadership to node 1, a process of its own, and waits until the others watch it.
fn child_leads(nodes: &[Node]) {
    wait("the child leads", || {
        for node in nodes {
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
}

#[test]
fn what_is_proposed_while_the_leader_dies_is_committed_under_the_next() {
    /// Shorter than it takes to dial in vain.
    const DEADLINE: Duration = Duration::from_millis(900);
    let mut nodes = cluster_of(3, |_| {});
    let mut old = nodes.remove(0);
    old.close();
    let (dir, address) = (old.dir.path().to_owned(), old.address);
    for round in 0..3 {
        let mut process = child::spawn("child_node", &dir, address, &[]);
        assert!(child::is_up(&mut process));
        child_leads(&nodes);

        process.kill().expect("kill");
        let outcomes = common::block(async {
            let each = (0..60_u32).flat_map(|at| nodes.iter().map(move |node| (at, node)));
            let proposals = each.map(|(at, node)| async move {
                tokio::time::sleep(Duration::from_millis(2) * at).await;
                let command = format!("round-{round}-{at}-{}", node.cluster().node());
                let cluster = node.cluster();
                (at, cluster.propose(command.into_bytes(), DEADLINE).await)
            });
            futures_util::future::join_all(proposals).await
        });
        process.wait().expect("wait");

        for (at, outcome) in outcomes {
            assert!(
                matches!(outcome, Outcome::Committed(_)),
                "round {round}, {} ms after the kill: {outcome:?}",
                2 * at
            );
        }
    }
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
        child_leads(&nodes);
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
        // Another survivor may have seen it first, and stood.
        wait("the death was certain here as well", || {
            std::iter::from_fn(|| events.try_recv().ok()).any(|event| {
                matches!(
                    event,
                    ClusterEvent::Liveness {
                        node: 1,
                        liveness: Liveness::Dead { certain: true, .. }
                    }
                )
            })
        });
        println!("round {round}: committed {took:?} after the kill");
    }
    assert!(
        worst < Duration::from_millis(300),
        "the slowest round took {worst:?}"
    );
}
