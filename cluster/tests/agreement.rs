//! Nodes agree, keep what they agreed on, and answer retries once.

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{block, cluster_of, founder, leader_of, rows, wait, write};
use strowger_cluster::cluster::PeerHandler;
use strowger_cluster::{CallError, Lane, Liveness};
use strowger_core::ports::{Outcome, Proposer, RequestId};

#[test]
fn three_nodes_agree_from_whichever_node_proposes() {
    let nodes = cluster_of(3, |_| {});
    for turn in 0..60 {
        let node = &nodes[turn % 3];
        assert!(
            write(node.cluster(), &format!("call-{turn:03}=x"))
                .starts_with(&format!("{}@", turn + 1))
        );
    }
    wait("every node has applied all", || {
        nodes.iter().all(|node| rows(node.cluster()).len() == 60)
    });
    let hashes: Vec<_> = nodes
        .iter()
        .map(|node| block(node.cluster().state_hash()).expect("hash").1)
        .collect();
    assert!(hashes.windows(2).all(|pair| pair[0] == pair[1]));
    wait("every node holds a lease and sees the others", || {
        nodes.iter().all(|node| {
            node.cluster().lease_valid()
                && (1..=3)
                    .all(|peer| matches!(node.cluster().liveness(peer), Liveness::Alive { .. }))
        })
    });
}

#[test]
fn a_learner_beside_the_only_voter_is_never_declared_dead() {
    let learners = |config: &mut strowger_cluster::ClusterConfig| config.promote = false;
    let node = founder(learners);
    let mut learner = common::joiner(node.cluster());
    learner.open(learners);
    let alive = |peer| matches!(node.cluster().liveness(peer), Liveness::Alive { .. });
    wait("the learner is seen", || {
        alive(2) && learner.cluster().lease_valid()
    });
    // Longer than the lease inherited from an earlier leader would protect it.
    let until = std::time::Instant::now() + Duration::from_millis(1_500);
    while std::time::Instant::now() < until {
        assert!(alive(2), "{:?}", node.cluster().liveness(2));
        std::thread::sleep(Duration::from_millis(2));
    }
    learner.close();
    wait("a dead learner is found out", || {
        matches!(node.cluster().liveness(2), Liveness::Dead { .. })
    });
}

#[test]
fn a_restarted_node_has_its_data_a_new_life_and_may_move() {
    let mut node = founder(|_| {});
    write(node.cluster(), "kept=1");
    let (life, id) = (node.cluster().incarnation(), node.cluster().cluster_id());
    node.close();
    node.address = common::free_address();
    node.open(|_| {});
    assert_eq!(
        rows(node.cluster()).get("kept").map(String::as_str),
        Some("1")
    );
    assert_eq!(node.cluster().incarnation(), life + 1);
    assert_eq!(node.cluster().cluster_id(), id);
    assert!(
        write(node.cluster(), "next=2").starts_with("2@"),
        "the machine was restored"
    );
    let address = node.address.to_string();
    wait("the new address is committed", || {
        node.cluster().members()[0].address == address
    });
}

#[test]
fn a_restarted_follower_catches_up() {
    let mut nodes = cluster_of(3, |_| {});
    let follower = (leader_of(&nodes) + 1) % 3;
    nodes[follower].close();
    let writer = (follower + 1) % 3;
    for turn in 0..20 {
        write(nodes[writer].cluster(), &format!("while-away-{turn}"));
    }
    nodes[follower].open(|_| {});
    wait("it has caught up", || {
        rows(nodes[follower].cluster()).len() == 20
    });
    write(nodes[follower].cluster(), "back");
}

#[test]
fn without_quorum_new_work_is_refused_and_leases_run_out() {
    let mut nodes = cluster_of(3, |_| {});
    let leader = leader_of(&nodes);
    let (one, two) = ((leader + 1) % 3, (leader + 2) % 3);
    write(nodes[leader].cluster(), "before");
    nodes[one].close();
    nodes[two].close();
    let alone = nodes[leader].cluster();
    wait("the lease of a leader without quorum runs out", || {
        !alone.lease_valid()
    });
    let outcome = block(alone.propose(b"lost".to_vec(), Duration::from_millis(500)));
    assert_eq!(outcome, Outcome::NoQuorum, "surely not appended");
    nodes[one].open(|_| {});
    write(nodes[leader].cluster(), "after");
    assert!(!rows(nodes[leader].cluster()).contains_key("lost"));
}

struct Echo;

impl PeerHandler for Echo {
    fn call(
        &self,
        from: u64,
        lane: Lane,
        body: Vec<u8>,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<Vec<u8>, String>> + Send + '_>> {
        Box::pin(async move {
            match (&*body, lane) {
                (b"refuse", _) => Err("not today".to_owned()),
                (b"hang", _) => std::future::pending().await,
                (_, Lane::Control) => Ok([format!("{from}:").into_bytes(), body].concat()),
                (_, Lane::Bulk) => Ok(body),
            }
        })
    }

    fn message(&self, from: u64, body: Vec<u8>) {
        let told = (from, body);
        TOLD.lock().expect("no panic holds it").push(told);
    }
}

static TOLD: std::sync::Mutex<Vec<(u64, Vec<u8>)>> = std::sync::Mutex::new(Vec::new());

#[test]
fn daemons_reach_each_other_with_deadlines() {
    let nodes = cluster_of(2, |_| {});
    let (one, two) = (nodes[0].cluster(), nodes[1].cluster());
    let ask = |body: &[u8], lane, ms| {
        block(one.call(two.node(), lane, body.to_vec(), Duration::from_millis(ms)))
    };
    assert!(matches!(
        ask(b"early", Lane::Control, 2_000),
        Err(CallError::Refused { .. })
    ));
    two.set_handler(Arc::new(Echo));
    assert_eq!(ask(b"hi", Lane::Control, 2_000), Ok(b"1:hi".to_vec()));
    let large = vec![7; 8 << 20];
    assert_eq!(ask(&large, Lane::Bulk, 10_000), Ok(large));
    let refused = CallError::Refused {
        node: 2,
        why: "not today".to_owned(),
    };
    assert_eq!(ask(b"refuse", Lane::Control, 2_000), Err(refused));
    assert_eq!(ask(b"hang", Lane::Control, 100), Err(CallError::Timeout(2)));
    let nobody = block(one.call(9, Lane::Control, Vec::new(), Duration::from_secs(1)));
    assert_eq!(nobody, Err(CallError::Unknown(9)));
    for turn in 0..100_u8 {
        one.send(2, vec![turn]).expect("queued");
    }
    let arrived = || TOLD.lock().expect("no panic holds it").clone();
    wait("all messages arrive", || arrived().len() == 100);
    let expected: Vec<_> = (0..100_u8).map(|turn| (1, vec![turn])).collect();
    assert_eq!(arrived(), expected, "in order");
}

#[test]
fn a_repeated_request_is_answered_and_not_repeated() {
    let nodes = cluster_of(3, |_| {});
    let follower = nodes[(leader_of(&nodes) + 1) % 3].cluster();
    let first = write(follower, "once");
    let request = RequestId {
        node: follower.node(),
        incarnation: follower.incarnation(),
        sequence: 1,
    };
    let second = Duration::from_secs(5);
    let again = block(follower.propose_again(request, b"once".to_vec(), second));
    assert_eq!(again, Outcome::Committed(first.into_bytes()));
    assert!(
        write(follower, "twice").starts_with("2@"),
        "the retry counted nothing"
    );
}

#[test]
fn many_writers_share_entries() {
    let nodes = cluster_of(3, |_| {});
    let follower = nodes[(leader_of(&nodes) + 1) % 3].cluster();
    let replies: Vec<_> = block(async {
        let all = (0..2_000).map(|turn| {
            follower.propose(format!("key-{turn}").into_bytes(), Duration::from_secs(10))
        });
        futures_util::future::join_all(all).await
    });
    assert!(
        replies
            .iter()
            .all(|reply| matches!(reply, Outcome::Committed(_)))
    );
    wait("it is applied here", || rows(follower).len() == 2_000);
    let figures = follower.figures();
    assert!(
        figures.entries < 500,
        "2000 proposals took {} entries",
        figures.entries
    );
}
