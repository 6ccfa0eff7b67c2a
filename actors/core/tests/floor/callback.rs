//! Callbacks: who is called back, when, how often, and by whom he is served.

use strowger_core::call::{Caller, Cause, Disposition, LegRole};
use strowger_core::floor::agent::AgentState;
use strowger_core::floor::callback::CallbackState;
use strowger_core::ids::{CallId, QueueName};
use strowger_core::ivr::speech::Key;
use strowger_core::site::{Callback, RungFirst, Site, Target};
use strowger_core::state::State;
use strowger_core::state::command::{Action, CallArrived, Command, Observation, Refusal, Reply};

use crate::harness::{Phone, World, refusal};
use crate::rows::Copy;
use crate::site::{address, site, tenant};

fn site_with(change: impl FnOnce(&mut Callback)) -> Site {
    let mut rule = Callback {
        key: Key::parse('1').expect("a key"),
        after_ms: 5_000,
        attempts: 2,
        pause_ms: 60_000,
        prefix: "0".to_string(),
        hours: None,
        first: RungFirst::Customer,
    };
    change(&mut rule);
    let mut site = site();
    let spec = site.queues.get_mut(&QueueName::from("support"));
    spec.expect("the site has it").comfort.callback = Some(rule);
    site
}

fn world() -> World {
    World::with_site(site_with(|_| {}))
}

fn press(world: &mut World, call: CallId) {
    let leg = world.caller_leg(call);
    let key = Key::parse('1').expect("a key");
    world.observe(call, vec![Observation::KeyPressed { leg, key }]);
    world.run();
}

/// A caller at an extension who waits 6 s and takes a callback.
fn taken(world: &mut World, from: &str) -> CallId {
    let call = world.call(from, "4008");
    world.advance(6_000);
    press(world, call);
    assert_eq!(world.word(call), "over");
    assert_eq!(world.cdr(call).disposition, Disposition::CallbackTaken);
    call
}

/// The attempt under way for a callback.
fn attempt(world: &World, origin: CallId) -> Option<CallId> {
    world.state(|state| match &state.callbacks.get(&origin)?.state {
        CallbackState::Dialling { call, .. } => Some(*call),
        _ => None,
    })
}

fn bob_works(world: &mut World) {
    world.register("1002", "bob", 36_000);
    world.sign_in("bob");
    world.run();
}

#[test]
fn a_callback_is_dialled_when_its_turn_comes_and_served_like_a_caller() {
    let mut world = world();
    world.register("1005", "desk", 36_000);
    let origin = taken(&mut world, "1005");
    assert_eq!(world.figure("support").callback_taken, 1);
    bob_works(&mut world);
    let call = attempt(&world, origin).expect("bob is free for it");
    assert_eq!(
        (world.word(call), world.agent("bob")),
        ("dialling".into(), AgentState::Offered)
    );
    let leg = world.leg_at(call, "sip:1005@desk");
    let shown = world.state(|state| {
        let row = &state.calls[&call];
        let role = &row.leg(leg).expect("it was just found").role;
        state.shown_caller(row, role).0
    });
    assert_eq!(shown, "4008", "he sees what he had dialled");
    world.answers(call, leg);
    assert_eq!(world.offered_to(call).as_deref(), Some("bob"));
    assert_eq!(world.row(call).legs[0].role, LegRole::Caller);
    world.agent_answers(call);
    assert_eq!(world.word(call), "bridged");
    world.advance(9_000);
    world.leaves(call);
    let cdr = world.cdr(call);
    assert_eq!(
        (cdr.disposition, cdr.talk_ms),
        (Disposition::Answered, 9_000)
    );
    assert_eq!(cdr.callback, Some(origin));
    assert!(world.state(|state| state.callbacks.is_empty()));
    world.advance(3_600_000);
    assert_eq!(world.cdrs().len(), 2, "nobody is dialled again");
}

#[test]
fn the_key_means_nothing_too_early_or_for_a_number_that_leads_nowhere() {
    let mut world = world();
    let early = world.call("1005", "4008");
    world.advance(4_999);
    press(&mut world, early);
    assert_eq!(world.word(early), "queued");
    world.advance(1);
    press(&mut world, early);
    assert_eq!(world.word(early), "over");
    // Anybody may write any number into an INVITE.
    let claimed = world.call("+861062345678", "4008");
    let outside = world.call("via-out", "4008");
    world.advance(10_000);
    press(&mut world, claimed);
    press(&mut world, outside);
    assert_eq!(world.word(claimed), "queued");
    assert_eq!(world.word(outside), "queued", "that shows no number");
}

#[test]
fn callers_who_came_earlier_are_served_first_and_later_ones_after() {
    let mut world = world();
    for extension in ["1005", "1006", "1007"] {
        world.register(extension, "desk", 36_000);
    }
    let first = world.call("1005", "4008");
    world.advance(1_000);
    let origin = taken(&mut world, "1006");
    let last = world.call("1007", "4008");
    bob_works(&mut world);
    assert_eq!(world.offered_to(first).as_deref(), Some("bob"));
    assert_eq!(attempt(&world, origin), None);
    world.agent_answers(first);
    world.leaves(first);
    world.advance(10_000);
    let call = attempt(&world, origin).expect("its turn comes before the last caller's");
    assert_eq!(world.offered_to(last), None);
    let leg = world.leg_at(call, "sip:1006@desk");
    world.answers(call, leg);
    assert_eq!(world.offered_to(call).as_deref(), Some("bob"));
    world.agent_answers(call);
    world.leaves(call);
    world.advance(10_000);
    assert_eq!(world.offered_to(last).as_deref(), Some("bob"));
}

#[test]
fn who_is_not_reached_is_tried_again_and_then_given_up() {
    let mut world = world();
    world.register("1005", "desk", 36_000);
    world
        .phones
        .insert("sip:1005@desk".into(), Phone::Refuses(486));
    let origin = taken(&mut world, "1005");
    bob_works(&mut world);
    assert_eq!(world.agent("bob"), AgentState::Ready);
    let state = world.state(|state| state.callbacks[&origin].clone());
    assert_eq!(state.attempts, 1);
    assert!(matches!(state.state, CallbackState::Resting { .. }));
    world.phones.insert("sip:1005@desk".into(), Phone::Rings);
    world.advance(60_000);
    let call = attempt(&world, origin).expect("the second attempt");
    world.advance(60_000);
    assert_eq!(world.agent("bob"), AgentState::Ready);
    assert!(
        world.state(|state| state.callbacks.is_empty()),
        "two were allowed"
    );
    assert_eq!(world.cdr(call).disposition, Disposition::NoAnswer);
    let attempts = world
        .cdrs()
        .into_iter()
        .filter(|cdr| cdr.callback == Some(origin));
    assert_eq!(attempts.count(), 2, "one record per attempt");
    world.advance(3_600_000);
    assert_eq!(world.cdrs().len(), 3);
}

#[test]
fn a_node_that_dies_while_dialling_costs_one_attempt_and_dials_nobody_twice() {
    let mut world = world();
    world.register("1005", "desk", 36_000);
    let origin = taken(&mut world, "1005");
    bob_works(&mut world);
    let call = attempt(&world, origin).expect("bob is free for it");
    let owner = world.row(call).owner;
    world.node_down(owner.0, 1);
    world.reconcile();
    assert_eq!(attempt(&world, origin), None);
    assert_eq!(world.cdr(call).disposition, Disposition::NodeLost);
    let restored = Copy::restored(&world.copy.rows);
    assert_eq!(restored.state.read().check(), Vec::<String>::new());
    assert_eq!(
        restored.state.read().callbacks,
        world.state(|state| state.callbacks.clone())
    );
    world.advance(60_000);
    let again = attempt(&world, origin).expect("a survivor tries again");
    assert_ne!(world.row(again).owner, owner);
}

#[test]
fn an_agent_who_leaves_while_the_customer_is_dialled_is_not_offered_him() {
    let mut world = world();
    world.register("1005", "desk", 36_000);
    let origin = taken(&mut world, "1005");
    bob_works(&mut world);
    let call = attempt(&world, origin).expect("bob is free for it");
    world.act(Action::SignOut {
        agent: "bob".into(),
    });
    let leg = world.leg_at(call, "sip:1005@desk");
    world.answers(call, leg);
    assert_eq!(
        (world.word(call).as_str(), world.offered_to(call)),
        ("queued", None)
    );
    world.leaves(call);
    assert_eq!(world.cdr(call).disposition, Disposition::Abandoned);
    assert_eq!(world.state(State::check), Vec::<String>::new());
}

fn place(world: &World, call: CallId) -> Option<u64> {
    world.state(|state| state.position(&state.calls[&call]))
}

#[test]
fn callers_are_told_a_place_behind_the_callbacks_before_them() {
    let mut world = world();
    world.register("1006", "desk", 36_000);
    let refuses = Phone::Refuses(486);
    world.phones.insert("sip:1006@desk".into(), refuses);
    let first = world.call("1005", "4008");
    world.advance(1_000);
    let origin = taken(&mut world, "1006");
    let last = world.call("1007", "4008");
    assert_eq!(
        (place(&world, first), place(&world, last)),
        (Some(1), Some(3))
    );
    // It rests when the customer is not reached, and then his turn comes after theirs.
    world.leaves(first);
    bob_works(&mut world);
    assert_eq!(world.offered_to(last).as_deref(), Some("bob"));
    assert_eq!(place(&world, last), Some(1));
    world.act(Action::SignOut {
        agent: "bob".into(),
    });
    let leg = world.leg_at(last, "sip:1002@bob");
    world.ends(last, leg, Cause::BUSY);
    world.advance(60_000);
    assert!(world.state(|state| state.callbacks.contains_key(&origin)));
    assert_eq!(place(&world, last), Some(2));
}

#[test]
fn a_place_among_thousands_of_callbacks_is_found_at_once() {
    use std::collections::BTreeMap;
    use strowger_core::floor::callback::{CallbackIndex, CallbackRow};
    let from = |n: u64| Caller {
        number: n.to_string(),
        ..crate::harness::caller("via-out")
    };
    let row = |n: u64| CallbackRow {
        id: CallId(n),
        tenant: tenant(),
        queue: QueueName::from("support"),
        from: from(n),
        to: String::new(),
        order: n,
        since: strowger_core::time::TimeMs(0),
        priority: 0,
        step: 0,
        customer: None,
        taken_at: strowger_core::time::TimeMs(0),
        attempts: 0,
        passed_over: Vec::new(),
        state: CallbackState::Waiting,
    };
    let rows: BTreeMap<u64, CallbackRow> = (1..=10_000).map(|n| (n, row(n))).collect();
    let index = CallbackIndex::of(rows.values());
    let queue = (tenant(), QueueName::from("support"));
    let begun = std::time::Instant::now();
    for later in 0..100_000 {
        assert_eq!(index.ahead(&queue, 20_000 + later), 10_000);
    }
    let each = begun.elapsed() / 100_000;
    assert!(each.as_micros() < 50, "{each:?} for one place");
}

#[test]
fn callbacks_go_with_their_queue() {
    let mut world = world();
    let origin = taken(&mut world, "1005");
    let mut without = site();
    let spec = without.queues.get_mut(&QueueName::from("support"));
    spec.expect("the site has it").comfort.callback = None;
    world.apply_site(without, 1);
    assert!(world.state(|state| !state.callbacks.contains_key(&origin)));
    bob_works(&mut world);
    assert_eq!(world.agent("bob"), AgentState::Ready);
}

#[test]
fn who_asks_twice_is_called_once() {
    let mut world = world();
    world.register("1005", "desk", 36_000);
    // Both calls wait, and each asks.
    let first = world.call("1005", "4008");
    let second = world.call("1005", "4008");
    world.advance(6_000);
    press(&mut world, first);
    press(&mut world, second);
    let stand = world.state(|state| state.callbacks.keys().copied().collect::<Vec<_>>());
    assert_eq!(stand, [first]);
}

#[test]
fn a_customer_outside_is_dialled_over_a_trunk_and_holds_one_channel() {
    let mut world = world();
    let from = Caller {
        number: "13800138000".to_string(),
        display: String::new(),
        extension: None,
        trunk: Some("out".into()),
        e164: "+8613800138000".parse().ok(),
    };
    let row = world.state(|state| state.addresses[&address(1)].clone());
    let reply = world.propose(Command::CallArrived(CallArrived {
        tenant: tenant(),
        address: address(1),
        node: row.holder.unwrap_or_default(),
        epoch: row.epoch,
        from,
        to: "4008".to_string(),
        sip_call_id: "in-trunk".to_string(),
        remote: None,
        called: None,
        checkpoint: Some(b"invite".to_vec()),
    }));
    let Reply::Call { call: origin, .. } = reply else {
        panic!("not admitted: {reply:?}");
    };
    world.run();
    world.advance(6_000);
    press(&mut world, origin);
    let trunk = (tenant(), "out".into());
    let in_use = |world: &World| world.state(|state| state.channels_in_use(&trunk));
    assert_eq!(in_use(&world), 0);
    bob_works(&mut world);
    let call = attempt(&world, origin).expect("bob is free for it");
    let leg = world.leg_at(call, "sip:13800138000@127.0.0.80:5080");
    assert_eq!(in_use(&world), 1);
    world.answers(call, leg);
    world.agent_answers(call);
    assert_eq!((world.word(call).as_str(), in_use(&world)), ("bridged", 1));
    world.leaves(call);
    assert_eq!(in_use(&world), 0);
    assert_eq!(world.cdr(call).disposition, Disposition::Answered);
}

fn withdrawn(world: &World) -> Vec<String> {
    let events = world.events().into_iter();
    let events = events.filter(|event| event.kind == "callback.withdrawn");
    events.map(|event| event.entity).collect()
}

#[test]
fn an_operator_takes_a_callback_back_whatever_it_is_doing() {
    // Waiting.
    let mut world = world();
    world.register("1005", "desk", 36_000);
    let origin = taken(&mut world, "1005");
    let withdraw = |callback| Action::Withdraw { callback };
    assert_eq!(world.act(withdraw(origin)), Reply::Done);
    let gone = world.act(withdraw(origin));
    assert!(matches!(refusal(&gone), Refusal::NotFound(_)), "{gone:?}");
    // Of another client.
    let origin = taken(&mut world, "1005");
    let foreign = world.propose(Command::Act {
        id: String::new(),
        tenant: "other".into(),
        action: withdraw(origin),
    });
    assert!(matches!(refusal(&foreign), Refusal::NotFound(_)));
    // Dialling: the phone stops ringing, the agent is free.
    bob_works(&mut world);
    let call = attempt(&world, origin).expect("bob is free for it");
    assert_eq!(world.act(withdraw(origin)), Reply::Done);
    world.run();
    assert_eq!(world.cdr(call).disposition, Disposition::Abandoned);
    assert_eq!(world.agent("bob"), AgentState::Ready);
    // Resting.
    let refuses = Phone::Refuses(486);
    world.phones.insert("sip:1005@desk".into(), refuses);
    let call = world.call("1005", "4009");
    press(&mut world, call);
    world.sign_in("dan");
    world.register("1004", "dan", 36_000);
    world.run();
    assert_eq!(world.act(withdraw(call)), Reply::Done);
    world.advance(3_600_000);
    assert!(world.state(|state| state.callbacks.is_empty() && state.calls.is_empty()));
    assert_eq!(withdrawn(&world).len(), 3);
}

#[test]
fn an_answer_that_comes_too_late_for_a_callback_taken_back_leads_nowhere() {
    let mut world = world();
    world.register("1005", "desk", 36_000);
    let origin = taken(&mut world, "1005");
    bob_works(&mut world);
    let call = attempt(&world, origin).expect("bob is free for it");
    let leg = world.leg_at(call, "sip:1005@desk");
    // Both are on their way to the log, in either order.
    world.act(Action::Withdraw { callback: origin });
    world.answers(call, leg);
    assert_eq!(world.word(call), "over");
    assert_eq!(world.figure("support").answered, 0);

    let origin = taken(&mut world, "1005");
    let call = attempt(&world, origin).expect("bob is free for it");
    let leg = world.leg_at(call, "sip:1005@desk");
    world.answers(call, leg);
    let late = world.act(Action::Withdraw { callback: origin });
    assert!(matches!(refusal(&late), Refusal::NotFound(_)));
    assert_eq!(world.offered_to(call).as_deref(), Some("bob"));
}

#[test]
fn a_customer_who_calls_again_takes_up_the_place_of_his_callback() {
    let mut world = world();
    let origin = taken(&mut world, "1005");
    let between = world.call("1006", "4008");
    world.advance(30_000);
    // Elsewhere he is a caller like any other.
    let sales = world.call("1005", "4009");
    assert!(world.state(|state| state.callbacks.contains_key(&origin)));
    world.leaves(sales);
    let again = world.call("1005", "4008");
    assert_eq!(
        (place(&world, again), place(&world, between)),
        (Some(1), Some(2))
    );
    assert!(world.state(|state| state.callbacks.is_empty()));
    assert_eq!(withdrawn(&world), [origin.to_string()]);
    bob_works(&mut world);
    assert_eq!(world.offered_to(again).as_deref(), Some("bob"));
    world.agent_answers(again);
    world.leaves(again);
    world.advance(3_600_000);
    let figure = world.figure("support");
    assert_eq!((figure.answered, figure.callback_taken), (1, 1));
}

#[test]
fn a_customer_who_calls_while_he_is_dialled_is_served_once() {
    let mut world = world();
    world.register("1005", "desk", 36_000);
    let origin = taken(&mut world, "1005");
    bob_works(&mut world);
    let dialled = attempt(&world, origin).expect("bob is free for it");
    let again = world.call("1005", "4008");
    assert_eq!(world.word(dialled), "over");
    assert_eq!(world.cdr(dialled).disposition, Disposition::Abandoned);
    assert_eq!(world.offered_to(again).as_deref(), Some("bob"));
    world.agent_answers(again);
    world.leaves(again);
    world.advance(3_600_000);
    assert_eq!(world.figure("support").answered, 1);
    assert!(world.state(|state| state.callbacks.is_empty()));
}

#[test]
fn nobody_takes_up_a_callback_by_claiming_a_number() {
    let mut world = world();
    let origin = taken(&mut world, "1005");
    let row = world.state(|state| state.addresses[&address(1)].clone());
    let from = Caller {
        extension: None,
        ..crate::harness::caller("1005")
    };
    world.propose(Command::CallArrived(CallArrived {
        tenant: tenant(),
        address: address(1),
        node: row.holder.unwrap_or_default(),
        epoch: row.epoch,
        from,
        to: "4008".to_string(),
        sip_call_id: "claimed".to_string(),
        remote: None,
        called: None,
        checkpoint: Some(b"invite".to_vec()),
    }));
    assert!(world.state(|state| state.callbacks.contains_key(&origin)));
}

#[test]
fn who_is_sent_on_from_a_full_queue_goes_on_being_called_back() {
    let mut full = site_with(|_| {});
    let spec = full.queues.get_mut(&QueueName::from("support"));
    let comfort = &mut spec.expect("the site has it").comfort;
    comfort.max_length = Some((1, Target::Queue(QueueName::from("sales"))));
    let mut world = World::with_site(full);
    let origin = taken(&mut world, "1005");
    world.call("1006", "4008");
    let again = world.call("1005", "4008");
    let queue = world.row(again).visit.map(|visit| visit.queue);
    assert_eq!(queue, Some(QueueName::from("sales")));
    assert!(world.state(|state| state.callbacks.contains_key(&origin)));
}

#[test]
fn who_is_served_in_another_call_of_his_is_not_called_back() {
    let mut world = world();
    let first = world.call("1005", "4008");
    let second = world.call("1005", "4008");
    world.advance(6_000);
    press(&mut world, second);
    assert!(world.state(|state| state.callbacks.contains_key(&second)));
    bob_works(&mut world);
    assert_eq!(world.offered_to(first).as_deref(), Some("bob"));
    world.agent_answers(first);
    assert_eq!(withdrawn(&world), [second.to_string()]);
}
