//! What a former owner of a call says of it after it has gone on elsewhere.

use strowger_core::call::{Cause, Disposition, LegRole, Seen, Stage};
use strowger_core::floor::agent::AgentState;
use strowger_core::ids::{CallId, LegId, NodeId};
use strowger_core::state::command::{Action, Command, Late, Refusal, Reply};
use strowger_core::state::{FEATURE_LEVEL, State};

use crate::harness::{World, answered, ended, held, refusal};

/// A call that went on from node 2 elsewhere, with the epoch it had before.
fn moved(bridged: bool) -> (World, CallId, u32) {
    let mut world = World::at_work(&["amy"]);
    let at = world.state(|state| {
        let mut rows = state.addresses.values();
        let row = rows.find(|row| row.holder == Some(NodeId(2)));
        row.map(|row| row.address.to_string())
            .expect("it holds some")
    });
    let last = at.rsplit('.').next().and_then(|last| last.parse().ok());
    let Reply::Call { call, .. } = world.invite_at(last.expect("IPv4"), "anonymous", "4008") else {
        panic!("not admitted");
    };
    world.run();
    if bridged {
        world.agent_answers(call);
    }
    let before = world.row(call).epoch;
    world.node_down(2, 1);
    assert_ne!(world.row(call).epoch, before);
    (world, call, before)
}

fn stale(reply: &Reply) -> bool {
    *refusal(reply) == Refusal::Stale
}

#[test]
fn timers_of_a_former_owner_end_nothing() {
    let (mut world, call, before) = moved(true);
    let legs: Vec<LegId> = world.row(call).legs.iter().map(|leg| leg.id).collect();
    for cause in [Cause::SILENCE, Cause::FAILURE] {
        for leg in &legs {
            assert!(stale(&world.observe_under(
                call,
                before,
                vec![ended(*leg, cause)]
            )));
        }
    }
    assert!(matches!(world.row(call).stage, Stage::Bridged { .. }));
    assert_eq!(world.agent("amy"), AgentState::Talking);
    // The same of its owner is believed.
    world.observe(call, vec![ended(legs[0], Cause::SILENCE)]);
    assert_eq!(world.row(call).stage, Stage::Clearing);
}

#[test]
fn a_session_is_the_new_owners() {
    let (mut world, call, before) = moved(true);
    let caller = world.caller_leg(call);
    let checkpoint = world
        .row(call)
        .leg(caller)
        .and_then(|leg| leg.checkpoint.clone());
    assert!(stale(&world.observe_under(
        call,
        before,
        vec![held(caller, true)]
    )));
    let leg = world.row(call).leg(caller).cloned().expect("it stands");
    assert_eq!((leg.held, leg.checkpoint), (false, checkpoint));

    let (mut world, call, before) = moved(false);
    world.run();
    let caller = world.caller_leg(call);
    let fresh = world.row(call).leg(caller).map(|leg| leg.seen);
    if fresh == Some(Seen::Fresh) {
        assert!(stale(&world.observe_under(
            call,
            before,
            vec![answered(caller)]
        )));
        let seen = world.row(call).leg(caller).map(|leg| leg.seen);
        assert_eq!(seen, Some(Seen::Fresh), "the ports were the former owner's");
    }
}

#[test]
fn a_far_end_that_left_has_left_whoever_saw_it() {
    let (mut world, call, before) = moved(true);
    let caller = world.caller_leg(call);
    let reply = world.observe_under(call, before, vec![ended(caller, Cause::NORMAL)]);
    assert!(stale(&reply));
    assert_eq!(world.row(call).stage, Stage::Clearing);
    world.run();
    assert_eq!(world.cdr(call).disposition, Disposition::Answered);
    assert_eq!(world.cdrs().len(), 1);
    assert_eq!(world.state(State::check), Vec::<String>::new());
}

#[test]
fn the_answer_of_a_phone_given_up_leads_nowhere() {
    let (mut world, call, before) = moved(false);
    // The phone that rang when the node died is no leg of the call any more.
    let rang = world.row(call).legs[1].clone();
    assert_eq!(rang.seen, Seen::Ended);
    let now = world.far_leg(call);
    assert_ne!(now, rang.id);
    assert!(stale(&world.observe_under(
        call,
        before,
        vec![answered(rang.id)]
    )));
    assert_eq!(world.row(call).stage, Stage::Waiting);
    world.agent_answers(call);
    assert_eq!(world.row(call).stage, Stage::Bridged { far: now });
}

/// What an owner, this one or the one before, saw while it could commit nothing.
fn seen_late(world: &mut World, call: CallId, epoch: u32, age_ms: u64) -> Reply {
    let observation = ended(world.caller_leg(call), Cause::NORMAL);
    world.propose(Command::CallObservedLate {
        call,
        epoch,
        observations: vec![Late {
            age_ms,
            observation,
        }],
    })
}

#[test]
fn an_end_that_is_told_late_is_recorded_when_it_was_seen() {
    let level = FEATURE_LEVEL;
    for before in [true, false] {
        let (mut world, call, former) = moved(true);
        world.propose(Command::Raise { level });
        world.advance(60_000);
        let epoch = if before { former } else { former + 1 };
        seen_late(&mut world, call, epoch, 15_000);
        world.run();
        let cdr = world.cdr(call);
        let talk_ms = cdr.talk_ms;
        assert!((44_000..46_000).contains(&talk_ms), "{talk_ms} ms");
        let caller = cdr.legs.iter().find(|leg| leg.role == LegRole::Caller);
        let left = caller.and_then(|leg| leg.ended_at).expect("it left");
        assert_eq!(left.since(cdr.answered_at.expect("it talked")), talk_ms);
        let counted = world.agent_figure("amy").talk_ms;
        assert_eq!(counted, talk_ms, "the figures say the same");
        assert_eq!(world.state(State::check), Vec::<String>::new());
    }
}

#[test]
fn a_hold_ends_with_the_talk_that_was_seen_to_end() {
    let (mut world, call, before) = moved(true);
    let level = FEATURE_LEVEL;
    world.propose(Command::Raise { level });
    world.advance(30_000);
    let far = world.far_leg(call);
    world.observe(call, vec![held(far, true)]);
    world.advance(25_000);
    seen_late(&mut world, call, before, 15_000);
    world.run();
    let figure = world.agent_figure("amy");
    assert!((9_000..11_000).contains(&figure.hold_ms), "{figure:?}");
    assert_eq!(figure.hold_ms + figure.talk_ms, world.cdr(call).talk_ms);
}

#[test]
fn nothing_ends_before_it_began_however_long_ago_it_was_seen() {
    let (mut world, call, before) = moved(true);
    let level = FEATURE_LEVEL;
    world.propose(Command::Raise { level });
    world.advance(5_000);
    seen_late(&mut world, call, before, u64::MAX);
    world.run();
    assert_eq!(world.cdr(call).talk_ms, 0);
    assert_eq!(world.cdr(call).disposition, Disposition::Answered);
}

#[test]
fn an_age_is_refused_before_every_node_can_read_it() {
    let (mut world, call, before) = moved(true);
    let reply = seen_late(&mut world, call, before, 1_000);
    assert_eq!(*refusal(&reply), Refusal::Unreadable);
    assert!(world.is_live(call));
}

#[test]
fn a_call_being_cleared_does_not_hold_up_a_drain() {
    let mut world = World::at_work(&["amy"]);
    let call = world.call("anonymous", "4008");
    world.agent_answers(call);
    let owner = world.row(call).owner;
    world.propose(Command::CallObserved {
        call,
        epoch: world.row(call).epoch,
        observations: vec![ended(world.caller_leg(call), Cause::NORMAL)],
    });
    assert_eq!(world.row(call).stage, Stage::Clearing);
    let far = world.row(call).legs[1].id;
    world.act(Action::Drain {
        node: owner,
        on: true,
    });
    let held = world.state(|state| {
        let mut rows = state.addresses.values();
        rows.any(|row| row.holder == Some(owner))
    });
    assert!(!held, "its addresses are elsewhere");
    assert_eq!(world.cdr(call).disposition, Disposition::Answered);
    let left = world.state(|state| state.leftovers.contains_key(&far));
    assert!(left, "the far end is told by the new holder");
    assert_eq!(world.state(State::check), Vec::<String>::new());
}
