//! The actor of a call between a real state machine and legs played by the test: what is
//! asked of the legs, in which order, and what must wait for which commit.

#[path = "../core/tests/floor/rows.rs"]
mod rows;
#[path = "../core/tests/floor/site.rs"]
#[allow(dead_code, reason = "each test uses what it needs")]
mod site;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use strowger_actors::call::CallContext;
use strowger_actors::desk::Desk;
use strowger_actors::follow::Follower;
use strowger_actors::gate::Gate;
use strowger_actors::ports::{Answer, LegEvent, Legs};
use strowger_actors::switchboard::Switchboard;
use strowger_actors::wake::WakeHub;
use strowger_core::call::{CallRow, Caller, Cause, Codec, Disposition};
use strowger_core::cdr::CdrRow;
use strowger_core::ids::{AgentId, BlobId, CallId, Extension, LegId, NodeId, QueueName};
use strowger_core::ivr::speech::Key;
use strowger_core::outstanding::Audio;
use strowger_core::ports::{
    Meta, Outcome, Proposal, ProposeFuture, Proposer, RequestId, RowsRead, Table,
};
use strowger_core::state::command::{Action, CallArrived, Command, Reply, SiteApply};
use strowger_core::state::{SharedState, Wake, WakeSink, decode_row};
use tokio::sync::mpsc;

use rows::Copy;

/// What legs are told of an end that is committed.
const KNOWN: &str = "end is known";

/// Commits at once, unless told that there is no majority.
struct Exchange {
    copy: Mutex<(Copy, u64)>,
    cut_off: AtomicBool,
    /// Proposals made while there was none.
    refused: AtomicU64,
}

impl Exchange {
    fn commit(&self, command: Vec<u8>) -> Vec<u8> {
        let mut guard = self
            .copy
            .lock()
            .expect("no test panics while it holds this");
        let (copy, index) = &mut *guard;
        *index += 1;
        let request = RequestId {
            node: 1,
            incarnation: 1,
            sequence: *index,
        };
        let meta = Meta {
            index: *index,
            stamp_ms: 1_000_000 + *index * 10,
        };
        let mut replies = copy.apply(meta, &[Proposal { request, command }]);
        replies.pop().expect("one proposal has one reply")
    }

    fn state(&self) -> SharedState {
        let guard = self
            .copy
            .lock()
            .expect("no test panics while it holds this");
        guard.0.state.clone()
    }

    fn records(&self) -> Vec<CdrRow> {
        let guard = self
            .copy
            .lock()
            .expect("no test panics while it holds this");
        let rows = guard.0.rows.scan(Table::Cdr, &[], None, 10);
        rows.iter()
            .filter_map(|(_, value)| decode_row(value))
            .collect()
    }
}

struct Door(Arc<Exchange>);

impl Proposer for Door {
    fn propose(&self, command: Vec<u8>, _deadline: Duration) -> ProposeFuture<'_> {
        Box::pin(async move {
            if self.0.cut_off.load(Ordering::Acquire) {
                self.0.refused.fetch_add(1, Ordering::AcqRel);
                return Outcome::NoQuorum;
            }
            Outcome::Committed(self.0.commit(command))
        })
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

/// Says what it is asked to do.
struct Told(mpsc::UnboundedSender<String>);

impl Told {
    fn say(&self, text: String) {
        self.0.send(text).expect("the test listens to its end");
    }
}

impl Legs for Told {
    fn resume(&self, _call: &CallRow, leg: LegId, _patient: bool) -> bool {
        self.say(format!("resume {}", leg.n()));
        true
    }
    fn invite(&self, _call: &CallRow, leg: LegId) {
        self.say(format!("invite {}", leg.n()));
    }
    fn alert(&self, leg: LegId, _early: Option<LegId>) {
        self.say(format!("alert {}", leg.n()));
    }
    fn prepare(&self, _call: &CallRow, leg: LegId) {
        self.say(format!("prepare {}", leg.n()));
    }
    fn answer(&self, leg: LegId) {
        self.say(format!("answer {}", leg.n()));
    }
    fn confirm(&self, leg: LegId) {
        self.say(format!("confirm {}", leg.n()));
    }
    fn agree(&self, leg: LegId, yes: bool) {
        self.say(format!("agree {} {yes}", leg.n()));
    }
    fn end(&self, leg: LegId, cause: Cause) {
        self.say(format!("end {} {}", leg.n(), cause.status));
    }
    fn may_signal(&self) -> bool {
        true
    }
    fn lasts(&self, _sound: BlobId) -> Duration {
        Duration::ZERO
    }
    fn hear(&self, _call: CallId, leg: LegId, audio: Audio) {
        let what = match audio {
            Audio::Silence => "silence",
            Audio::Bridge(_) => "bridge",
            Audio::Prompt(_) => "prompt",
            Audio::Say(..) => "words",
            Audio::Advert(_) => "advert",
            Audio::Whisper(_) => "whisper",
            Audio::Music(_) => "music",
            Audio::Tone(_) => "tone",
            Audio::Ringing => "ringing",
        };
        self.say(format!("hear {} {what}", leg.n()));
    }
    fn let_go(&self, leg: LegId) {
        self.forget(leg);
    }
    fn end_is_known(&self, leg: LegId) {
        self.say(format!("{KNOWN} {}", leg.n()));
    }
    fn forget(&self, leg: LegId) {
        self.say(format!("forget {}", leg.n()));
    }
}

struct Bench {
    exchange: Arc<Exchange>,
    switchboard: Switchboard,
    told: mpsc::UnboundedReceiver<String>,
    gate: Gate,
}

impl Bench {
    async fn new() -> Self {
        Self::with(site::site()).await
    }

    async fn with(site: strowger_core::site::Site) -> Self {
        let exchange = Arc::new(Exchange {
            copy: Mutex::new((Copy::new(), 0)),
            cut_off: AtomicBool::new(false),
            refused: AtomicU64::new(0),
        });
        let (sender, told) = mpsc::unbounded_channel();
        let context = CallContext {
            state: exchange.state(),
            desk: Desk::new(Arc::new(Door(Arc::clone(&exchange)))),
            legs: Arc::new(Told(sender)),
            node: NodeId(1),
        };
        let switchboard = Switchboard::start(NodeId(1), context)
            .await
            .expect("an actor system without a name clash starts");
        let bench = Self {
            exchange,
            switchboard,
            told,
            gate: Gate::new(4),
        };
        bench.begin_life(1);
        bench.commit(&Command::SiteApply(SiteApply {
            site: Arc::new(site),
            text: String::new(),
            base: 0,
            times: Vec::new(),
            secrets: Vec::new(),
        }));
        bench
    }

    fn commit(&self, command: &Command) -> Reply {
        let encoded = strowger_core::state::machine::encode_command(command);
        let reply = self.exchange.commit(encoded);
        strowger_core::state::machine::decode_reply(&reply).expect("a reply of this version")
    }

    /// A call from extension 1001, with an actor.
    async fn call(&self, to: &str) -> (CallId, LegId) {
        let (call, leg) = self.arrive(to);
        let pass = self.gate.enter().expect("there is room");
        self.switchboard.admit(call, leg, pass).await;
        (call, leg)
    }

    /// A call from extension 1001.
    fn arrive(&self, to: &str) -> (CallId, LegId) {
        let address = site::address(1);
        let epoch = self.exchange.state().read().addresses[&address].epoch;
        let reply = self.commit(&Command::CallArrived(CallArrived {
            tenant: site::tenant(),
            address,
            node: NodeId(1),
            epoch,
            from: Caller {
                number: String::from("1001"),
                display: String::new(),
                extension: Some(Extension::from("1001")),
                trunk: None,
                e164: None,
            },
            to: to.to_owned(),
            sip_call_id: String::from("caller"),
            remote: None,
            called: None,
            checkpoint: Some(b"invite".to_vec()),
        }));
        let Reply::Call { call, leg } = reply else {
            panic!("not admitted: {reply:?}");
        };
        (call, leg)
    }

    fn sign_in(&self, agent: &str) {
        self.commit(&Command::Act {
            id: String::new(),
            tenant: site::tenant(),
            action: Action::SignIn {
                agent: AgentId::from(agent),
                extension: None,
            },
        });
    }

    /// A caller in the queue, greeted, whom Eve's phone rings for.
    async fn queued(&mut self) -> (CallId, LegId, LegId) {
        self.sign_in("eve");
        let (call, caller) = self.call("4008").await;
        let far = self.far_leg(call);
        let (c, f) = (caller.n(), far.n());
        self.expect(&[&format!("prepare {c}"), &format!("invite {f}")])
            .await;
        self.event(call, caller, answer());
        self.expect(&[&format!("answer {c}"), &format!("hear {c} prompt")])
            .await;
        self.event(call, far, LegEvent::Alerting { early_media: false });
        (call, caller, far)
    }

    /// A caller who talks to a fixed device.
    async fn bridged(&mut self) -> (CallId, LegId, LegId) {
        let (call, caller) = self.call("1090").await;
        let far = self.far_leg(call);
        let (c, f) = (caller.n(), far.n());
        self.expect(&[&format!("invite {f}")]).await;
        self.event(call, far, answer());
        self.expect(&[&format!("prepare {c}")]).await;
        self.event(call, caller, answer());
        let wanted = [
            format!("confirm {f}"),
            format!("answer {c}"),
            format!("hear {f} bridge"),
            format!("hear {c} bridge"),
        ];
        self.expect(&wanted.each_ref().map(String::as_str)).await;
        (call, caller, far)
    }

    /// Another life of the node has the calls of the first; this one is woken.
    fn live_anew(&self, call: CallId) {
        self.begin_life(2);
        self.switchboard.wake(&Wake::Call(call));
    }

    fn begin_life(&self, incarnation: u64) {
        self.commit(&Command::NodeUp {
            node: NodeId(1),
            incarnation,
            address: site::address(1),
            version: String::from("1"),
            level: strowger_core::state::FEATURE_LEVEL,
        });
    }

    fn event(&self, call: CallId, leg: LegId, event: LegEvent) {
        assert!(
            self.switchboard.leg(call, leg, event),
            "the call has an actor"
        );
    }

    /// The next things asked of the legs, in any order within the list.
    async fn expect(&mut self, wanted: &[&str]) {
        let mut seen: Vec<String> = Vec::new();
        while seen.len() < wanted.len() {
            let next = tokio::time::timeout(Duration::from_secs(10), self.told.recv()).await;
            let next = next.ok().flatten().unwrap_or_else(|| {
                panic!("of {wanted:?} only {seen:?} were asked");
            });
            // It follows every end; only one test is about it.
            if !next.starts_with(KNOWN) || wanted.contains(&next.as_str()) {
                seen.push(next);
            }
        }
        let mut wanted: Vec<&str> = wanted.to_vec();
        wanted.sort_unstable();
        seen.sort_unstable();
        assert_eq!(seen, wanted);
    }

    /// Entries committed so far.
    fn commits(&self) -> u64 {
        let guard = self.exchange.copy.lock();
        guard.expect("no test panics while it holds this").1
    }

    /// Waits until the call is over in the log.
    async fn over(&self, call: CallId) {
        while self.exchange.state().read().calls.contains_key(&call) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    fn far_leg(&self, call: CallId) -> LegId {
        let state = self.exchange.state();
        let state = state.read();
        state.calls[&call].legs.last().expect("a call has legs").id
    }
}

fn answer() -> LegEvent {
    LegEvent::Answered(Answer {
        sip_call_id: String::from("far"),
        remote: None,
        codec: Codec::Pcmu,
        checkpoint: vec![1],
    })
}

fn ended(cause: Cause) -> LegEvent {
    LegEvent::Ended {
        sip_call_id: String::from("x"),
        cause,
    }
}

#[tokio::test]
async fn a_call_to_a_fixed_device_from_ringing_to_its_record() {
    let mut bench = Bench::new().await;
    let (call, caller) = bench.call("1090").await;
    let far = bench.far_leg(call);
    let (c, f) = (caller.n(), far.n());
    bench.expect(&[&format!("invite {f}")]).await;
    bench.event(call, far, LegEvent::Alerting { early_media: false });
    bench.expect(&[&format!("alert {c}")]).await;
    bench.event(call, far, answer());
    bench.expect(&[&format!("prepare {c}")]).await;
    let before = bench.commits();
    bench.event(call, caller, answer());
    let wanted = [
        format!("confirm {f}"),
        format!("answer {c}"),
        format!("hear {f} bridge"),
        format!("hear {c} bridge"),
    ];
    bench.expect(&wanted.each_ref().map(String::as_str)).await;
    assert_eq!(bench.commits(), before + 1, "both answers are one commit");
    bench.event(call, caller, ended(Cause::NORMAL));
    let wanted = [format!("forget {c}"), format!("end {f} 200")];
    bench.expect(&wanted.each_ref().map(String::as_str)).await;
    bench.event(call, far, ended(Cause::NORMAL));
    bench.expect(&[&format!("forget {f}")]).await;
    bench.over(call).await;
    assert_eq!(bench.commits(), before + 2, "both ends are one commit");
    let records = bench.exchange.records();
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].disposition, Disposition::Answered);
}

#[tokio::test]
async fn without_a_majority_nothing_is_confirmed_and_nothing_is_lost() {
    let mut bench = Bench::new().await;
    let (call, caller) = bench.call("1090").await;
    let far = bench.far_leg(call);
    bench.expect(&[&format!("invite {}", far.n())]).await;
    bench.exchange.cut_off.store(true, Ordering::Release);
    bench.event(call, far, answer());
    let (c, f) = (caller.n(), far.n());
    bench.expect(&[&format!("prepare {c}")]).await;
    bench.event(call, caller, answer());
    // Long enough for the proposal to have failed more than once.
    tokio::time::sleep(strowger_actors::limits::RETRY * 3).await;
    assert!(
        bench.told.try_recv().is_err(),
        "an answer was confirmed without its commit"
    );
    bench.exchange.cut_off.store(false, Ordering::Release);
    let wanted = [
        format!("confirm {f}"),
        format!("answer {c}"),
        format!("hear {f} bridge"),
        format!("hear {c} bridge"),
    ];
    bench.expect(&wanted.each_ref().map(String::as_str)).await;
}

#[tokio::test]
async fn who_hung_up_is_told_so_when_that_is_committed_and_not_before() {
    let mut bench = Bench::new().await;
    let (call, caller, far) = bench.bridged().await;
    let (c, f) = (caller.n(), far.n());
    bench.exchange.cut_off.store(true, Ordering::Release);
    bench.event(call, caller, ended(Cause::NORMAL));
    let wanted = [format!("forget {c}"), format!("end {f} 200")];
    bench.expect(&wanted.each_ref().map(String::as_str)).await;
    // Long enough for the proposal to have failed more than once.
    tokio::time::sleep(strowger_actors::limits::RETRY * 3).await;
    assert!(bench.told.try_recv().is_err(), "his end is not committed");
    bench.exchange.cut_off.store(false, Ordering::Release);
    bench.expect(&[&format!("{KNOWN} {c}")]).await;
}

#[tokio::test]
async fn a_far_end_that_is_slow_to_go_keeps_nobody() {
    let mut bench = Bench::new().await;
    let (call, caller, far) = bench.bridged().await;
    let (c, f) = (caller.n(), far.n());
    let before = bench.commits();
    bench.event(call, caller, ended(Cause::NORMAL));
    let wanted = [format!("forget {c}"), format!("end {f} 200")];
    bench.expect(&wanted.each_ref().map(String::as_str)).await;
    // The caller's end is committed although the far end says nothing.
    while bench.commits() == before {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    bench.event(call, far, ended(Cause::NORMAL));
    bench.expect(&[&format!("forget {f}")]).await;
    bench.over(call).await;
    assert_eq!(bench.exchange.records().len(), 1);
}

#[tokio::test]
async fn a_caller_who_leaves_while_an_answer_is_under_way_leaves_one_record() {
    let mut bench = Bench::new().await;
    let (call, caller) = bench.call("1090").await;
    let far = bench.far_leg(call);
    let (c, f) = (caller.n(), far.n());
    bench.expect(&[&format!("invite {f}")]).await;
    bench.event(call, far, answer());
    bench.expect(&[&format!("prepare {c}")]).await;
    // The caller leaves while the answer is under way.
    bench.event(call, caller, ended(Cause::CANCELLED));
    bench
        .expect(&[&format!("forget {c}"), &format!("end {f} 200")])
        .await;
    bench.event(call, far, ended(Cause::NORMAL));
    bench.expect(&[&format!("forget {f}")]).await;
    bench.over(call).await;
    let records = bench.exchange.records();
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].disposition, Disposition::Abandoned);
}

#[tokio::test]
async fn legs_of_a_call_that_ended_with_its_node_are_left_to_whoever_holds_the_address() {
    let mut bench = Bench::new().await;
    let (call, caller) = bench.call("1090").await;
    let far = bench.far_leg(call);
    bench.expect(&[&format!("invite {}", far.n())]).await;
    bench.commit(&Command::NodeDown {
        node: NodeId(1),
        incarnation: 1,
    });
    bench.switchboard.wake(&Wake::Call(call));
    // A second word from here could contradict that of the holder.
    let let_go = [caller, far].map(|leg| format!("forget {}", leg.n()));
    bench.expect(&let_go.each_ref().map(String::as_str)).await;
    let left: Vec<LegId> = bench
        .exchange
        .state()
        .read()
        .leftovers
        .keys()
        .copied()
        .collect();
    assert_eq!(left, [caller, far], "the state has them ended");
    let records = bench.exchange.records();
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].disposition, Disposition::NodeLost);
}

#[tokio::test]
async fn a_caller_whose_call_is_over_before_it_was_looked_at_is_told_so() {
    let mut bench = Bench::new().await;
    let address = site::address(1);
    let (call, caller) = bench.arrive("1090");
    bench.commit(&Command::Act {
        id: String::new(),
        tenant: site::tenant(),
        action: Action::Hangup { call },
    });
    bench.commit(&Command::NodeDown {
        node: NodeId(1),
        incarnation: 1,
    });
    assert_eq!(bench.exchange.state().read().holder(address), None);
    let pass = bench.gate.enter().expect("the gate is empty");
    bench.switchboard.admit(call, caller, pass).await;
    bench.expect(&[&format!("end {} 200", caller.n())]).await;
    bench.event(call, caller, ended(Cause::NORMAL));
    bench.expect(&[&format!("forget {}", caller.n())]).await;
}

#[tokio::test]
async fn a_call_whose_caller_was_refused_before_its_commit_was_known_rings_nobody() {
    let mut bench = Bench::new().await;
    let (call, caller) = bench.arrive("1090");
    // The sweep over calls without an actor has found it.
    bench.switchboard.open(call, bench.gate.enter()).await;
    bench.expect(&[&format!("end {} 503", caller.n())]).await;
    bench.over(call).await;
    let records = bench.exchange.records();
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].disposition, Disposition::Abandoned);
    while let Ok(asked) = bench.told.try_recv() {
        assert!(!asked.starts_with("invite"), "{asked}");
    }
}

#[tokio::test]
async fn a_bridge_of_another_life_is_let_go_without_a_word_and_taken_up_anew() {
    let mut bench = Bench::new().await;
    let (call, caller, far) = bench.bridged().await;
    let (c, f) = (caller.n(), far.n());
    bench.live_anew(call);
    bench
        .expect(&[&format!("forget {c}"), &format!("forget {f}")])
        .await;
    let again = [
        format!("resume {c}"),
        format!("resume {f}"),
        format!("hear {c} bridge"),
        format!("hear {f} bridge"),
    ];
    let again: Vec<&str> = again.iter().map(String::as_str).collect();
    bench.expect(&again).await;
    bench.event(call, far, ended(Cause::NORMAL));
    bench
        .expect(&[&format!("forget {f}"), &format!("end {c} 200")])
        .await;
    bench.event(call, caller, ended(Cause::NORMAL));
    bench.expect(&[&format!("forget {c}")]).await;
    bench.over(call).await;
    let records = bench.exchange.records();
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].disposition, Disposition::Answered);
}

#[tokio::test(start_paused = true)]
async fn a_life_that_the_rows_do_not_know_takes_up_no_call_of_an_older_one() {
    let mut bench = Bench::new().await;
    let (call, caller) = bench.arrive("1090");
    bench.live_anew(call);
    let follower = Follower {
        node: NodeId(1),
        incarnation: 3,
        state: bench.exchange.state(),
        switchboard: bench.switchboard.clone(),
        gate: bench.gate.clone(),
    };
    let mut wakes = WakeHub::default();
    tokio::spawn(follower.clone().dispatch(wakes.clone()));
    tokio::spawn(follower.sweep());
    // What the second life had may be somebody else's in entries still to come.
    wakes.wake(vec![Wake::Call(call)]);
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(!bench.switchboard.has(call), "sweeps have passed it by");
    bench.begin_life(3);
    wakes.wake(vec![Wake::Call(call)]);
    let far = bench.far_leg(call);
    let taken = [
        format!("resume {}", caller.n()),
        format!("invite {}", far.n()),
    ];
    bench.expect(&taken.each_ref().map(String::as_str)).await;
}

#[tokio::test]
async fn an_end_seen_without_a_majority_is_said_by_the_former_owner_until_it_is_heard() {
    let mut bench = Bench::new().await;
    let (call, caller, far) = bench.bridged().await;
    let (c, f) = (caller.n(), far.n());
    bench.exchange.cut_off.store(true, Ordering::Release);
    bench.event(call, caller, ended(Cause::NORMAL));
    let hung_up = [format!("forget {c}"), format!("end {f} 200")];
    bench.expect(&hung_up.each_ref().map(String::as_str)).await;
    bench.live_anew(call);
    let anew = [
        format!("forget {c}"),
        format!("forget {f}"),
        format!("resume {c}"),
        format!("resume {f}"),
        format!("hear {c} bridge"),
        format!("hear {f} bridge"),
    ];
    bench.expect(&anew.each_ref().map(String::as_str)).await;
    let refused = || bench.exchange.refused.load(Ordering::Acquire);
    let before = refused();
    let again = async {
        while refused() == before {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let again = tokio::time::timeout(Duration::from_secs(10), again).await;
    again.expect("what he saw is proposed again");
    bench.exchange.cut_off.store(false, Ordering::Release);
    let clearing = [
        format!("hear {c} silence"),
        format!("end {f} 200"),
        format!("hear {f} silence"),
    ];
    bench.expect(&clearing.each_ref().map(String::as_str)).await;
    bench.event(call, far, ended(Cause::NORMAL));
    let over = [
        format!("forget {f}"),
        format!("end {c} 200"),
        format!("forget {f}"),
    ];
    bench.expect(&over.each_ref().map(String::as_str)).await;
    bench.event(call, caller, ended(Cause::NORMAL));
    bench.expect(&[&format!("forget {c}")]).await;
    assert_eq!(bench.exchange.records().len(), 1);
}

#[tokio::test]
async fn a_change_of_session_is_agreed_after_its_commit() {
    let mut bench = Bench::new().await;
    let (call, _) = bench.call("1090").await;
    let far = bench.far_leg(call);
    bench.expect(&[&format!("invite {}", far.n())]).await;
    let change = LegEvent::Changed {
        held: true,
        checkpoint: vec![2],
    };
    bench.event(call, far, change);
    bench.expect(&[&format!("agree {} true", far.n())]).await;
    let state = bench.exchange.state();
    assert!(
        state.read().calls[&call]
            .leg(far)
            .is_some_and(|leg| leg.held)
    );
}

#[tokio::test]
async fn phones_are_told_that_the_caller_left_before_that_is_committed() {
    let mut bench = Bench::new().await;
    let (call, caller, far) = bench.queued().await;
    let (c, f) = (caller.n(), far.n());
    bench.exchange.cut_off.store(true, Ordering::Release);
    bench.event(call, caller, ended(Cause::NORMAL));
    bench
        .expect(&[&format!("forget {c}"), &format!("end {f} 200")])
        .await;
    // The phone answers at that very moment.
    bench.event(call, far, answer());
    bench.exchange.cut_off.store(false, Ordering::Release);
    while bench.exchange.records().is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let state = bench.exchange.state();
    let dialog = state.read().calls[&call]
        .leg(far)
        .map(|leg| leg.checkpoint.clone());
    assert_eq!(dialog, Some(Some(vec![1])), "an heir can end her leg");
    bench.event(call, far, ended(Cause::NORMAL));
    bench.expect(&[&format!("forget {f}")]).await;
    bench.over(call).await;
    let records = bench.exchange.records();
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].disposition, Disposition::Abandoned);
    let eve = (site::tenant(), AgentId::from("eve"));
    assert_eq!(state.read().agents[&eve].missed, 0);
}

#[tokio::test]
async fn an_agent_hears_the_announcement_and_then_both_are_bridged() {
    for by_key in [false, true] {
        let mut told = site::site();
        let blob = BlobId([8; 32]);
        let spec = told.queues.get_mut(&QueueName::from("support"));
        spec.expect("the site has it").agent_announcement = Some(blob);
        let mut bench = Bench::with(told).await;
        let (call, caller, far) = bench.queued().await;
        let (c, f) = (caller.n(), far.n());
        bench.event(call, far, answer());
        bench
            .expect(&[&format!("confirm {f}"), &format!("hear {f} whisper")])
            .await;
        // The greeting he heard is over: he hears music, not yet the agent.
        bench.event(
            call,
            caller,
            LegEvent::Played(Audio::Prompt(BlobId([1; 32]))),
        );
        bench.expect(&[&format!("hear {c} music")]).await;
        let before = bench.commits();
        let key = Key::parse('#').expect("a key");
        let over = if by_key {
            LegEvent::Key(key)
        } else {
            LegEvent::Played(Audio::Whisper(blob))
        };
        bench.event(call, far, over);
        bench
            .expect(&[&format!("hear {f} bridge"), &format!("hear {c} bridge")])
            .await;
        assert_eq!(bench.commits(), before, "nothing of it is committed");
    }
}

#[tokio::test]
async fn an_agent_offered_a_caller_who_is_leaving_is_not_rung_and_free_at_once() {
    let mut bench = Bench::new().await;
    let (call, caller) = bench.call("4008").await;
    let c = caller.n();
    bench.expect(&[&format!("prepare {c}")]).await;
    bench.event(call, caller, answer());
    bench
        .expect(&[&format!("answer {c}"), &format!("hear {c} prompt")])
        .await;
    // The offer is committed, and before anybody looks at it the caller leaves.
    bench.sign_in("eve");
    let far = bench.far_leg(call);
    assert_ne!(far, caller);
    bench.event(call, caller, ended(Cause::NORMAL));
    bench
        .expect(&[&format!("forget {c}"), &format!("end {} 200", far.n())])
        .await;
    bench.over(call).await;
    assert_eq!(
        bench.exchange.records()[0].disposition,
        Disposition::Abandoned
    );
    let state = bench.exchange.state();
    let eve = (site::tenant(), AgentId::from("eve"));
    assert_eq!(state.read().agents[&eve].missed, 0);
}
