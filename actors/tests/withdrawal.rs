//! A caller was refused before anybody knew what came of his call: nothing may come of it
//! later, whenever the log takes it in.

#[path = "../core/tests/floor/rows.rs"]
mod rows;
#[path = "../core/tests/floor/site.rs"]
#[allow(dead_code, reason = "each test uses what it needs")]
mod site;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use strowger_actors::desk::{Desk, DeskError};
use strowger_actors::gate::Gate;
use strowger_actors::limits::ARRIVAL;
use strowger_actors::withdrawal::Withdrawal;
use strowger_core::call::{Caller, LegRow, Seen, Want};
use strowger_core::cdr::CdrRow;
use strowger_core::ids::{CallId, Extension, NodeId};
use strowger_core::ports::{
    Meta, Outcome, Proposal, ProposeFuture, Proposer, RequestId, RowsRead, Table,
};
use strowger_core::state::command::{CallArrived, Command, Reply, SiteApply};
use strowger_core::state::machine::decode_reply;
use strowger_core::state::{SharedState, decode_row};

use rows::Copy;

/// The exchange, and what is on its way into its log.
struct Log(Mutex<Written>);

struct Written {
    copy: Copy,
    index: u64,
    sequence: u64,
    /// Nobody is told what becomes of a command, which may be written down later.
    late: Option<Vec<Proposal>>,
}

impl Written {
    fn write(&mut self, proposal: Proposal) -> Vec<u8> {
        self.index += 1;
        let meta = Meta {
            index: self.index,
            stamp_ms: 1_000_000 + self.index * 10,
        };
        let mut replies = self.copy.apply(meta, &[proposal]);
        replies.pop().expect("one proposal has one reply")
    }

    fn propose(&mut self, proposal: Proposal) -> Outcome {
        let request = proposal.request;
        match &mut self.late {
            Some(late) => {
                late.push(proposal);
                Outcome::Unknown(request)
            }
            None => Outcome::Committed(self.write(proposal)),
        }
    }
}

impl Log {
    fn with<T>(&self, act: impl FnOnce(&mut Written) -> T) -> T {
        act(&mut self.0.lock().expect("no test panics while it holds this"))
    }

    fn state(&self) -> SharedState {
        self.with(|log| log.copy.state.clone())
    }

    /// What was on its way arrives; from now on everybody is told at once.
    fn arrive(&self) -> Vec<Reply> {
        self.with(|log| {
            let late = log.late.take().unwrap_or_default();
            let replies = late.into_iter().map(|proposal| log.write(proposal));
            let replies = replies.map(|reply| decode_reply(&reply));
            replies.map(|reply| reply.expect("it reads")).collect()
        })
    }

    fn records(&self) -> Vec<CdrRow> {
        self.with(|log| {
            let rows = log.copy.rows.scan(Table::Cdr, &[], None, 10);
            rows.iter().filter_map(|(_, row)| decode_row(row)).collect()
        })
    }
}

struct Door(Arc<Log>);

impl Proposer for Door {
    fn propose(&self, command: Vec<u8>, _deadline: Duration) -> ProposeFuture<'_> {
        Box::pin(async move {
            self.0.with(|log| {
                log.sequence += 1;
                let request = RequestId {
                    node: 1,
                    incarnation: 1,
                    sequence: log.sequence,
                };
                log.propose(Proposal { request, command })
            })
        })
    }

    fn propose_again(
        &self,
        request: RequestId,
        command: Vec<u8>,
        _deadline: Duration,
    ) -> ProposeFuture<'_> {
        let proposal = Proposal { request, command };
        Box::pin(async move { self.0.with(|log| log.propose(proposal)) })
    }
}

/// An exchange with a site, and a call from 1001 of which nobody knows what becomes.
async fn refused() -> (Arc<Log>, Withdrawal, Gate) {
    let log = Arc::new(Log(Mutex::new(Written {
        copy: Copy::new(),
        index: 0,
        sequence: 0,
        late: None,
    })));
    let desk = Desk::new(Arc::new(Door(Arc::clone(&log))));
    let up = Command::NodeUp {
        node: NodeId(1),
        incarnation: 1,
        address: site::address(1),
        version: String::from("1"),
        level: strowger_core::state::FEATURE_LEVEL,
    };
    let apply = Command::SiteApply(SiteApply {
        site: Arc::new(site::site()),
        text: String::new(),
        base: 0,
        times: Vec::new(),
        secrets: Vec::new(),
    });
    for command in [up, apply] {
        desk.propose(&command, ARRIVAL).await.expect("it is taken");
    }
    let address = site::address(1);
    let arrived = Command::CallArrived(CallArrived {
        tenant: site::tenant(),
        address,
        node: NodeId(1),
        epoch: log.state().read().addresses[&address].epoch,
        from: Caller {
            number: String::from("1001"),
            display: String::new(),
            extension: Some(Extension::from("1001")),
            trunk: None,
            e164: None,
        },
        to: String::from("1090"),
        sip_call_id: String::from("caller"),
        remote: None,
        called: None,
        checkpoint: Some(b"invite".to_vec()),
    });
    log.with(|log| log.late = Some(Vec::new()));
    let Err(DeskError::Unknown(request)) = desk.propose(&arrived, ARRIVAL).await else {
        panic!("nobody knows what becomes of it");
    };
    let gate = Gate::new(1);
    let withdrawal = Withdrawal {
        desk,
        state: log.state(),
        request,
        refusal_known: Arc::new(AtomicBool::new(true)),
        pass: gate.enter().expect("there is room"),
    };
    (log, withdrawal, gate)
}

/// The caller is gone, and whom he called is not to be rung any more.
fn is_ending(log: &Log, call: Option<CallId>) {
    let state = log.state();
    let state = state.read();
    let row = call.and_then(|call| state.calls.get(&call));
    let row = row.expect("its owner has still to end the other leg");
    let over = |leg: &LegRow| leg.seen == Seen::Ended || matches!(leg.want, Want::End(_));
    assert!(row.legs.iter().all(over), "{row:?}");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_was_made_after_all_ends() {
    let (log, withdrawal, gate) = refused().await;
    let withdrawn = tokio::spawn(withdrawal.carry_out());
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(!withdrawn.is_finished(), "nobody knows yet");
    assert_eq!(gate.alive(), 1, "it keeps its place");

    let replies = log.arrive();
    assert!(matches!(replies[0], Reply::Call { .. }), "{replies:?}");
    assert!(replies.len() > 1, "it was asked for again meanwhile");
    assert!(replies.iter().all(|reply| *reply == replies[0]));
    let call = withdrawn.await.expect("no panic");
    assert_eq!(gate.alive(), 0);
    is_ending(&log, call);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_was_not_made_yet_is_never_made() {
    let (log, withdrawal, _gate) = refused().await;
    let on_its_way = log.with(|log| log.late.take()).expect("it was written");
    assert_eq!(withdrawal.carry_out().await, None);
    log.with(|log| log.late = Some(on_its_way));
    assert_eq!(log.arrive(), [Reply::Done], "its id is taken");
    assert_eq!(log.state().read().calls.len(), 0);
    assert_eq!(log.records(), []);
}

/// Another node has the call by the time this one knows of it.
async fn moved(known: bool) {
    let (log, withdrawal, _gate) = refused().await;
    log.arrive();
    let down = Command::NodeDown {
        node: NodeId(1),
        incarnation: 1,
    };
    let other = Command::NodeUp {
        node: NodeId(2),
        incarnation: 1,
        address: site::address(2),
        version: String::from("1"),
        level: strowger_core::state::FEATURE_LEVEL,
    };
    for command in [other, down] {
        let said = withdrawal.desk.propose(&command, ARRIVAL).await;
        said.expect("it is taken");
    }
    let state = log.state();
    let owner = state.read().calls.values().map(|call| call.owner).next();
    assert_eq!(owner, Some(NodeId(2)));
    // Who may not know that he is refused may have been answered by now.
    withdrawal.refusal_known.store(known, Ordering::Release);
    let call = withdrawal.carry_out().await;
    if known {
        is_ending(&log, call);
    } else {
        assert_eq!(call, None);
        assert_eq!(state.read().calls.len(), 1, "it goes on");
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_another_node_has_by_then_ends_if_its_caller_knows_that_he_is_refused() {
    moved(true).await;
    moved(false).await;
}
