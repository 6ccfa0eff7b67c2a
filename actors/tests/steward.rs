//! What a leader declares, and when.

#[path = "../core/tests/floor/rows.rs"]
mod rows;

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use strowger_actors::desk::Desk;
use strowger_actors::steward::{Standing, Steward};
use strowger_core::ids::NodeId;
use strowger_core::ports::{Meta, Outcome, Proposal, ProposeFuture, Proposer, RequestId};
use strowger_core::state::command::Command;
use strowger_core::state::machine::encode_command;
use strowger_core::time::TimeMs;

use rows::Copy;

/// Commits at once.
struct Log(Mutex<(Copy, u64)>);

impl Log {
    fn commit(&self, command: Vec<u8>) -> Vec<u8> {
        let mut guard = self.0.lock().expect("no test panics while it holds this");
        let (copy, index) = &mut *guard;
        *index += 1;
        let request = RequestId {
            node: 1,
            incarnation: 1,
            sequence: *index,
        };
        let meta = Meta {
            index: *index,
            stamp_ms: 1_000_000 + *index,
        };
        let mut replies = copy.apply(meta, &[Proposal { request, command }]);
        replies.pop().expect("one proposal has one reply")
    }

    fn begin_life(&self, node: u64, incarnation: u64) {
        self.commit(encode_command(&Command::NodeUp {
            node: NodeId(node),
            incarnation,
            address: IpAddr::from([127, 0, 0, 1]),
            version: String::from("1"),
            level: strowger_core::state::FEATURE_LEVEL,
        }));
    }

    fn is_up(&self, node: u64) -> bool {
        let guard = self.0.lock().expect("no test panics while it holds this");
        let state = guard.0.state.read();
        state.nodes.get(&NodeId(node)).is_some_and(|node| node.up)
    }
}

struct Door(Arc<Log>);

impl Proposer for Door {
    fn propose(&self, command: Vec<u8>, _deadline: Duration) -> ProposeFuture<'_> {
        Box::pin(async move { Outcome::Committed(self.0.commit(command)) })
    }

    fn propose_again(
        &self,
        _request: RequestId,
        command: Vec<u8>,
        deadline: Duration,
    ) -> ProposeFuture<'_> {
        // Whatever is proposed here is committed at once or not at all.
        self.propose(command, deadline)
    }
}

/// The second life of a leader, to whom this life of everybody else is over.
struct Alone {
    over: u64,
    up_to_date: AtomicBool,
}

impl Standing for Alone {
    fn incarnation(&self) -> u64 {
        2
    }
    fn lease_valid(&self) -> bool {
        true
    }
    fn leads(&self) -> bool {
        true
    }
    fn leads_up_to_date(&self) -> bool {
        self.up_to_date.load(Ordering::Acquire)
    }
    fn over(&self, _node: NodeId) -> Option<u64> {
        Some(self.over)
    }
    fn now(&self) -> TimeMs {
        TimeMs(1_000_000)
    }
    fn stand_aside(&self, index: u64) {
        panic!("told to stand aside at {index}");
    }
}

fn log() -> Arc<Log> {
    Arc::new(Log(Mutex::new((Copy::new(), 0))))
}

fn steward(log: &Arc<Log>, over: u64) -> Steward {
    let up_to_date = AtomicBool::new(true);
    steward_as(log, Arc::new(Alone { over, up_to_date }))
}

fn steward_as(log: &Arc<Log>, standing: Arc<Alone>) -> Steward {
    let state = log.0.lock().expect("nobody panicked").0.state.clone();
    Steward {
        node: NodeId(1),
        address: IpAddr::from([127, 0, 0, 1]),
        version: "1",
        state,
        desk: Desk::new(Arc::new(Door(Arc::clone(log)))),
        standing,
    }
}

#[tokio::test]
async fn after_the_death_of_all_nobody_is_declared_down_before_the_leader_is_up() {
    let log = log();
    log.begin_life(1, 1);
    log.begin_life(2, 1);
    let steward = steward(&log, 0);
    steward.declare().await;
    assert!(log.is_up(2), "calls of node 2 had no heir");
    steward.announce().await;
    assert!(log.is_up(1), "the leader says that it is up");
    steward.declare().await;
    assert!(!log.is_up(2), "and then who is not");
}

#[tokio::test]
async fn a_life_that_ended_before_it_was_up_takes_the_one_before_it_down() {
    let log = log();
    log.begin_life(1, 2);
    log.begin_life(2, 7);
    steward(&log, 6).declare().await;
    assert!(log.is_up(2), "an older life was over long ago");
    steward(&log, 8).declare().await;
    assert!(!log.is_up(2), "calls of node 2 waited for it to come back");
}

#[tokio::test]
async fn a_new_leader_declares_nobody_down_before_it_knows_what_earlier_ones_have_declared() {
    let log = log();
    log.begin_life(1, 2);
    log.begin_life(2, 1);
    let standing = Arc::new(Alone {
        over: 0,
        up_to_date: AtomicBool::new(false),
    });
    let steward = steward_as(&log, Arc::clone(&standing));
    steward.declare().await;
    assert!(log.is_up(2), "node 1 may be down itself by now");
    standing.up_to_date.store(true, Ordering::Release);
    steward.declare().await;
    assert!(!log.is_up(2));
}
