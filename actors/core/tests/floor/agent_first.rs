//! Callbacks by which the agent is rung first: the offer, the customer's part, and whatever
//! can go wrong on either side.

use proptest::prelude::*;
use strowger_core::call::{Caller, Cause, Disposition, LegRole};
use strowger_core::floor::agent::AgentState;
use strowger_core::floor::callback::{CallbackRow, CallbackState};
use strowger_core::ids::{BlobId, CallId, LegId, QueueName};
use strowger_core::ivr::speech::Key;
use strowger_core::outstanding::{Audio, CallObserved, Effect, Phase, outstanding};
use strowger_core::ports::{RowsRead, Table};
use strowger_core::site::{RungFirst, Site};
use strowger_core::state::State;
use strowger_core::state::command::{Action, CallArrived, Command, Observation, Reply};

use crate::harness::{World, answered};
use crate::rows::Copy;
use crate::site::{address, site, tenant};

const DESK: &str = "sip:1005@desk";

/// The usual site, whose support rings the agent first.
fn agent_first() -> Site {
    let mut site = site();
    let spec = site.queues.get_mut(&QueueName::from("support"));
    let rule = spec.and_then(|spec| spec.comfort.callback.as_mut());
    rule.expect("it calls back").first = RungFirst::Agent;
    site
}

/// A customer at 1005 has taken a callback; nobody is at work.
fn world() -> (World, CallId) {
    let mut world = World::with_site(agent_first());
    world.register("1005", "desk", 7_200);
    world.register("1001", "amy", 7_200);
    world.register("1002", "bob", 7_200);
    let origin = world.call("1005", "4008");
    press(&mut world, origin);
    (world, origin)
}

fn press(world: &mut World, call: CallId) {
    let leg = world.caller_leg(call);
    let key = Key::parse('1').expect("a key");
    world.observe(call, vec![Observation::KeyPressed { leg, key }]);
    world.run();
    assert_eq!(world.word(call), "over");
}

fn works(world: &mut World, agent: &str) {
    world.sign_in(agent);
    world.run();
    world.advance(10);
}

fn stands(world: &World, origin: CallId) -> Option<CallbackRow> {
    world.state(|state| state.callbacks.get(&origin).cloned())
}

/// The call that rings at an agent or dials the customer.
fn own(world: &World, origin: CallId) -> CallId {
    let row = stands(world, origin).expect("the callback stands");
    let call = row.state.call();
    call.unwrap_or_else(|| panic!("nothing is under way: {row:?}"))
}

/// The call that rings at bob, and his leg.
fn asked(world: &World, origin: CallId) -> (CallId, LegId) {
    let call = own(world, origin);
    (call, world.leg_at(call, "sip:1002@bob"))
}

/// Bob has answered and the customer's phone rings.
fn dialling() -> (World, CallId, CallId) {
    let (mut world, origin) = world();
    works(&mut world, "bob");
    let (call, leg) = asked(&world, origin);
    world.answers(call, leg);
    assert_eq!(world.word(call), "dialling");
    (world, origin, call)
}

fn attempts_recorded(world: &World, origin: CallId) -> usize {
    let cdrs = world.cdrs().into_iter();
    cdrs.filter(|cdr| cdr.callback == Some(origin)).count()
}

#[test]
fn the_agent_answers_then_the_customer_and_both_talk_at_once() {
    let (mut world, origin) = world();
    works(&mut world, "bob");
    let (call, leg) = asked(&world, origin);
    assert_eq!(
        (world.word(call).as_str(), world.agent("bob")),
        ("offered", AgentState::Offered)
    );
    assert_eq!(
        world.row(call).legs.len(),
        1,
        "the customer is not rung yet"
    );
    let shown = world.state(|state| {
        let row = &state.calls[&call];
        state.shown_caller(row, &row.legs[0].role).0
    });
    assert_eq!(shown, "1005", "the agent sees whom he will talk to");
    world.advance(3_000);
    world.answers(call, leg);
    assert_eq!(world.agent("bob"), AgentState::Talking);
    assert_eq!(world.seen[&call].legs[&leg].audio, Audio::Ringing);
    let row = stands(&world, origin).expect("it stands until the customer answers");
    assert_eq!((row.attempts, row.state.as_str()), (1, "dialling"));
    assert_eq!(
        world.figure("support").entered,
        1,
        "only the call that took it"
    );
    world.advance(4_000);
    let customer = world.leg_at(call, DESK);
    world.answers(call, customer);
    assert_eq!(world.word(call), "bridged");
    assert_eq!(world.seen[&call].legs[&leg].audio, Audio::Bridge(customer));
    assert_eq!(world.seen[&call].legs[&customer].audio, Audio::Bridge(leg));
    assert_eq!(world.row(call).legs[0].role, LegRole::Caller);
    assert!(stands(&world, origin).is_none());
    world.advance(9_000);
    world.leaves(call);
    assert_eq!(world.agent("bob"), AgentState::WrapUp);
    let cdr = world.cdr(call);
    assert_eq!(
        (cdr.disposition, cdr.talk_ms, cdr.wait_ms()),
        (Disposition::Answered, 9_000, Some(0))
    );
    assert_eq!(cdr.agent.as_ref().map(|agent| agent.as_str()), Some("bob"));
    assert_eq!(cdr.callback, Some(origin));
    let figure = world.figure("support");
    assert_eq!(
        (figure.entered, figure.answered, figure.callback_taken),
        (2, 1, 1)
    );
    assert_eq!((figure.offers, figure.missed), (1, 0));
    let own = world.agent_figure("bob");
    assert_eq!((own.answered, own.offers, own.missed), (1, 1, 0));
    world.advance(3_600_000);
    assert_eq!(world.cdrs().len(), 2, "nobody is dialled again");
}

#[test]
fn an_offer_that_is_not_taken_goes_to_the_next_agent_and_is_no_attempt() {
    let (mut world, origin) = world();
    works(&mut world, "amy");
    works(&mut world, "bob");
    let first = own(&world, origin);
    world.leg_at(first, "sip:1001@amy");
    let later = world.call("1006", "4008");
    assert_eq!(world.offered_to(later).as_deref(), Some("bob"));
    world.leaves(later);
    world.advance(15_000);
    assert_eq!(world.word(first), "over");
    let (second, leg) = asked(&world, origin);
    assert_ne!(first, second);
    assert_eq!(world.agent_figure("amy").missed, 1);
    assert_eq!(attempts_recorded(&world, origin), 0);
    let row = stands(&world, origin).expect("it stands");
    assert_eq!(row.attempts, 0);
    // Bob declines: only when both have missed it is amy asked again.
    world.ends(second, leg, Cause::BUSY);
    assert_eq!(
        stands(&world, origin).map(|row| row.state),
        Some(CallbackState::Waiting)
    );
    world.advance(4_999);
    assert_eq!(
        world.agent("amy"),
        AgentState::Offered,
        "her five seconds are over"
    );
    let prefix = own(&world, origin).0.to_be_bytes();
    let why = world.copy.rows.scan(Table::Explanation, &prefix, None, 9);
    assert_eq!(why.len(), 1, "each offer is explained");
    assert_eq!(world.state(State::check), Vec::<String>::new());
}

#[test]
fn two_missed_offers_pause_the_agent_as_any_others() {
    let (mut world, _) = world();
    works(&mut world, "bob");
    world.advance(15_000);
    world.advance(20_000);
    assert_eq!(world.agent("bob"), AgentState::Paused);
    assert_eq!(world.figure("support").missed, 2);
}

#[test]
fn an_agents_phone_that_fails_is_left_in_peace_and_nothing_counts_against_him() {
    let (mut world, origin) = world();
    works(&mut world, "bob");
    let (call, leg) = asked(&world, origin);
    world.ends(call, leg, Cause::from_status(503));
    assert_eq!(world.agent("bob"), AgentState::NoPhone);
    assert_eq!(world.figure("support").missed, 0);
    world.advance(10_000);
    asked(&world, origin);
}

#[test]
fn a_customer_who_is_not_reached_frees_the_agent_and_is_tried_again() {
    let table = [
        (Cause::BUSY, Disposition::Busy),
        (Cause::from_status(603), Disposition::Rejected),
        (Cause::NO_ANSWER, Disposition::NoAnswer),
    ];
    for (cause, disposition) in table {
        let (mut world, origin, call) = dialling();
        let leg = world.leg_at(call, DESK);
        world.ends(call, leg, cause);
        assert_eq!(world.cdr(call).disposition, disposition);
        assert_eq!(world.agent("bob"), AgentState::Ready, "nothing to wrap up");
        assert_eq!(world.agent_figure("bob").missed, 0);
        let row = stands(&world, origin).expect("one attempt is left");
        assert_eq!((row.attempts, row.state.as_str()), (1, "resting"));
        world.advance(30_000);
        let (call, leg) = asked(&world, origin);
        world.answers(call, leg);
        // This time nobody answers at all.
        world.advance(60_000);
        assert_eq!(world.cdr(call).disposition, Disposition::NoAnswer);
        assert!(stands(&world, origin).is_none(), "two were allowed");
        assert_eq!(attempts_recorded(&world, origin), 2);
        assert_eq!(world.agent("bob"), AgentState::Ready);
        assert_eq!(world.figure("support").answered, 0);
        world.advance(3_600_000);
        assert_eq!(world.cdrs().len(), 3);
    }
}

#[test]
fn a_customer_without_a_phone_costs_an_attempt() {
    let (mut world, origin) = world();
    works(&mut world, "bob");
    world.register("1005", "desk", 0);
    let (call, leg) = asked(&world, origin);
    world.answers(call, leg);
    let cdr = world.cdr(call);
    assert_eq!(
        (cdr.disposition, cdr.cause),
        (Disposition::Failed, Cause::NOT_REGISTERED)
    );
    assert_eq!(world.agent("bob"), AgentState::Ready);
    assert_eq!(stands(&world, origin).map(|row| row.attempts), Some(1));
}

#[test]
fn an_agent_who_hangs_up_first_takes_the_call_from_the_customer() {
    let (mut world, origin, call) = dialling();
    let near = world.leg_at(call, "sip:1002@bob");
    let customer = world.leg_at(call, DESK);
    world.ends(call, near, Cause::NORMAL);
    assert_eq!(world.word(call), "over");
    assert_eq!(world.cdr(call).disposition, Disposition::Abandoned);
    assert!(!world.is_live(call), "{customer} has ended too");
    assert_eq!(world.agent("bob"), AgentState::Ready);
    assert_eq!(stands(&world, origin).map(|row| row.attempts), Some(1));
}

#[test]
fn a_node_that_dies_in_any_state_dials_nobody_twice() {
    // While an agent is asked: nothing has happened yet.
    let (mut world, origin) = world();
    works(&mut world, "bob");
    let (call, _) = asked(&world, origin);
    let owner = world.row(call).owner;
    world.node_down(owner.0, 1);
    world.reconcile();
    assert_eq!(attempts_recorded(&world, origin), 0);
    let (again, leg) = asked(&world, origin);
    assert_ne!(world.row(again).owner, owner);
    // While the customer is dialled: the attempt is over.
    world.answers(again, leg);
    let owner = world.row(again).owner;
    world.node_down(owner.0, 1);
    world.reconcile();
    assert_eq!(world.cdr(again).disposition, Disposition::NodeLost);
    assert_eq!(world.agent("bob"), AgentState::Ready);
    let row = stands(&world, origin).expect("one attempt is left");
    assert_eq!((row.attempts, row.state.as_str()), (1, "resting"));
    let restored = Copy::restored(&world.copy.rows);
    assert_eq!(restored.words(), world.copy.words());
    assert_eq!(restored.state.read().check(), Vec::<String>::new());
}

#[test]
fn a_callback_taken_back_or_out_of_hours_stops_ringing_everywhere() {
    let (mut world, origin) = world();
    works(&mut world, "bob");
    let (call, _) = asked(&world, origin);
    world.act(Action::Withdraw { callback: origin });
    world.run();
    assert_eq!(
        (world.word(call).as_str(), world.agent("bob")),
        ("over", AgentState::Ready)
    );
    assert_eq!(attempts_recorded(&world, origin), 0);

    let (mut world, origin, call) = dialling();
    world.act(Action::Withdraw { callback: origin });
    world.run();
    assert_eq!(
        (world.word(call).as_str(), world.agent("bob")),
        ("over", AgentState::Ready)
    );
    assert_eq!(world.cdr(call).disposition, Disposition::Abandoned);

    // A supervisor hangs up what rings: the agent is not rung again at once.
    let (mut world, origin) = self::world();
    works(&mut world, "bob");
    let (call, _) = asked(&world, origin);
    world.act(Action::Hangup { call });
    world.run();
    assert_eq!(world.agent("bob"), AgentState::Ready);
    assert_eq!(world.figure("support").missed, 0);
    world.advance(5_000);
    asked(&world, origin);
}

#[test]
fn the_customer_who_calls_himself_while_an_agent_is_asked_is_served_by_him() {
    let (mut world, origin) = world();
    works(&mut world, "bob");
    let (asked, _) = asked(&world, origin);
    let again = world.call("1005", "4008");
    assert_eq!(world.word(asked), "over");
    assert_eq!(world.offered_to(again).as_deref(), Some("bob"));
    world.agent_answers(again);
    assert!(stands(&world, origin).is_none());
    assert_eq!(world.figure("support").answered, 1);
}

#[test]
fn a_customer_outside_is_dialled_over_a_trunk_once_the_agent_is_there() {
    let mut world = World::with_site(agent_first());
    world.register("1002", "bob", 7_200);
    let row = world.state(|state| state.addresses[&address(1)].clone());
    let reply = world.propose(Command::CallArrived(CallArrived {
        tenant: tenant(),
        address: address(1),
        node: row.holder.unwrap_or_default(),
        epoch: row.epoch,
        from: Caller {
            number: "13800138000".to_string(),
            e164: "+8613800138000".parse().ok(),
            ..crate::harness::caller("via-out")
        },
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
    press(&mut world, origin);
    let trunk = (tenant(), "out".into());
    let in_use = |world: &World| world.state(|state| state.channels_in_use(&trunk));
    works(&mut world, "bob");
    assert_eq!(in_use(&world), 0);
    let (call, leg) = asked(&world, origin);
    world.answers(call, leg);
    assert_eq!(in_use(&world), 1);
    let customer = world.leg_at(call, "sip:13800138000@127.0.0.80:5080");
    world.answers(call, customer);
    assert_eq!((world.word(call).as_str(), in_use(&world)), ("bridged", 1));
    world.leaves(call);
    assert_eq!(in_use(&world), 0);
    assert_eq!(world.cdr(call).disposition, Disposition::Answered);
}

/// What becomes of one round: of the offer, and where the agent answers, of the customer.
#[derive(Clone, Copy, Debug)]
enum Round {
    Declined,
    Missed,
    PhoneFails,
    LostWhileAsked,
    Busy,
    NoAnswer,
    AgentHangsUp,
    LostWhileDialled,
    Reached,
}

fn round() -> impl Strategy<Value = Round> {
    prop_oneof![
        Just(Round::Declined),
        Just(Round::Missed),
        Just(Round::PhoneFails),
        Just(Round::LostWhileAsked),
        Just(Round::Busy),
        Just(Round::NoAnswer),
        Just(Round::AgentHangsUp),
        Just(Round::LostWhileDialled),
        Just(Round::Reached),
    ]
}

/// A node dies and another life of it comes up.
fn lose(world: &mut World, call: CallId) {
    let owner = world.row(call).owner;
    let life = world.state(|state| state.nodes[&owner].incarnation);
    world.node_down(owner.0, life);
    world.reconcile();
    world.node_up(owner.0, life + 1);
    world.run();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn however_the_rounds_go_a_customer_is_dialled_as_often_as_recorded_and_served_once(
        rounds in prop::collection::vec(round(), 1..12),
    ) {
        let (mut world, origin) = world();
        works(&mut world, "bob");
        let mut attempts = 0;
        for round in rounds {
            // Until it rings again: a pause, a phone's rest, missed offers.
            for _ in 0..100 {
                let row = stands(&world, origin);
                if row.is_none_or(|row| matches!(row.state, CallbackState::Offered { .. })) {
                    break;
                }
                world.act(Action::Ready { agent: "bob".into() });
                world.run();
                world.advance(1_000);
            }
            let Some(row) = stands(&world, origin) else { break };
            prop_assert!(matches!(row.state, CallbackState::Offered { .. }), "{:?}", row);
            let (call, leg) = asked(&world, origin);
            match round {
                Round::Declined => world.ends(call, leg, Cause::BUSY),
                Round::Missed => world.advance(15_000),
                Round::PhoneFails => world.ends(call, leg, Cause::from_status(503)),
                Round::LostWhileAsked => lose(&mut world, call),
                _ => {
                    world.answers(call, leg);
                    attempts += 1;
                }
            }
            match round {
                Round::Busy => {
                    let customer = world.leg_at(call, DESK);
                    world.ends(call, customer, Cause::BUSY);
                }
                Round::NoAnswer => world.advance(60_000),
                Round::AgentHangsUp => world.ends(call, leg, Cause::NORMAL),
                Round::LostWhileDialled => lose(&mut world, call),
                Round::Reached => {
                    let customer = world.leg_at(call, DESK);
                    world.answers(call, customer);
                    world.leaves(call);
                    prop_assert!(stands(&world, origin).is_none());
                }
                _ => {}
            }
            prop_assert_eq!(attempts_recorded(&world, origin), attempts);
            prop_assert!(attempts <= 2);
            let row = stands(&world, origin);
            prop_assert!(row.is_none_or(|row| usize::try_from(row.attempts) == Ok(attempts)));
        }
        let figure = world.figure("support");
        prop_assert!(figure.answered <= 1, "served twice");
        let waiting = world.state(|state| {
            let queue = crate::site::queue_key("support");
            state.waiting_count(&queue)
        });
        prop_assert_eq!(figure.entered, figure.left() + waiting);
    }
}

#[test]
fn the_agent_is_told_whose_callback_it_is_while_the_customer_is_dialled() {
    let (mut world, origin) = world();
    let mut site = agent_first();
    let told = BlobId([8; 32]);
    let spec = site.queues.get_mut(&QueueName::from("support"));
    spec.expect("the site has it").agent_announcement = Some(told);
    assert_eq!(world.apply_site(site, 1), Reply::Site { version: 2 });
    works(&mut world, "bob");
    let (call, leg) = asked(&world, origin);
    world.set_phase(call, leg, Phase::Proposed);
    world.observe(call, vec![answered(leg)]);
    let row = world.row(call);
    assert_eq!(row.announced(), Some((leg, told)));
    let mut seen = CallObserved::default();
    let hears = |seen: &CallObserved| {
        let effects = outstanding(Some(&row), seen).into_iter();
        let heard = effects.filter_map(|effect| match effect {
            Effect::Hear(at, audio) => Some((at, audio)),
            _ => None,
        });
        heard.collect::<Vec<_>>()
    };
    seen.legs.entry(leg).or_default().phase = Phase::Up;
    assert_eq!(hears(&seen), [(leg, Audio::Whisper(told))]);
    seen.legs.entry(leg).or_default().announced = true;
    assert_eq!(hears(&seen), [(leg, Audio::Ringing)]);
    world.run();
    let customer = world.leg_at(call, DESK);
    world.answers(call, customer);
    assert_eq!(
        world.row(call).announced(),
        None,
        "the customer is not kept waiting"
    );
}
