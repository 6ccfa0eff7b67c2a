//! The moment an agent answers: what he hears before the caller, and answers that come when
//! the caller is no longer his to take.

use strowger_core::call::{CallRow, Cause, Disposition, LegRole, Seen, Stage, Want};
use strowger_core::floor::agent::{Activity, AgentState};
use strowger_core::ids::{AgentId, BlobId, CallId, LegId, QueueName};
use strowger_core::outstanding::{
    Audio, CallObserved, Effect, LegObserved, Phase, outstanding, whispered,
};
use strowger_core::site::{Site, Strategy};
use strowger_core::state::command::{Action, Command, Reply};

use crate::harness::{Phone, World, agent_key, answered, held, site};

const SALES: BlobId = BlobId([8; 32]);
const MUSIC: BlobId = BlobId([2; 32]);
const GREETING: BlobId = BlobId([1; 32]);

/// The usual site, its agents told that a call is one of support.
fn told() -> Site {
    let mut site = site();
    let spec = site.queues.get_mut(&QueueName::from("support"));
    spec.expect("the site has it").agent_announcement = Some(SALES);
    site
}

fn at_work(site: Site, agents: &[&str]) -> World {
    let mut world = World::with_site(site);
    for extension in ["1001", "1002", "1003"] {
        world.register(extension, "desk", 3_600);
    }
    for agent in agents {
        world.sign_in(agent);
    }
    world
}

/// A bridged call with both legs up, its owner seeing nothing played yet.
fn bridged(world: &mut World) -> (CallRow, LegId, LegId, CallObserved) {
    let call = world.call("anonymous", "4008");
    let far = world.far_leg(call);
    world.set_phase(call, far, Phase::Proposed);
    world.observe(call, vec![answered(far)]);
    let row = world.row(call);
    let caller = row.legs[0].id;
    let up = |audio| LegObserved {
        known: false,
        phase: Phase::Up,
        audio,
        announced: false,
    };
    let seen = CallObserved {
        greeted: true,
        legs: [(caller, up(Audio::Music(MUSIC))), (far, up(Audio::Silence))].into(),
        ..CallObserved::default()
    };
    (row, caller, far, seen)
}

/// What each leg is to hear from now on, if that changes.
fn heard(row: &CallRow, seen: &CallObserved) -> Vec<(LegId, Audio)> {
    let effects = outstanding(Some(row), seen).into_iter();
    effects
        .filter_map(|effect| match effect {
            Effect::Hear(leg, audio) => Some((leg, audio)),
            _ => None,
        })
        .collect()
}

#[test]
fn an_agent_is_told_whose_call_it_is_and_then_both_are_bridged_at_once() {
    let mut world = at_work(told(), &["amy"]);
    let (row, caller, far, mut seen) = bridged(&mut world);
    assert_eq!(row.stage, Stage::Bridged { far });
    assert!(row.answered_at.is_some(), "answered counts from the commit");
    assert_eq!(whispered(&row, &seen), Some(SALES));
    let whisper = (far, Audio::Whisper(SALES));
    assert_eq!(heard(&row, &seen), [whisper], "the caller hears his music");
    seen.legs.get_mut(&far).expect("it is up").audio = whisper.1;
    assert_eq!(heard(&row, &seen), []);

    // A greeting he was hearing goes on, and the music after it.
    seen.greeted = false;
    let mut greeted = row.clone();
    greeted.greeting = Some(GREETING);
    assert_eq!(
        heard(&greeted, &seen),
        [(caller, Audio::Prompt(GREETING))],
        "what the caller heard is no matter of the announcement"
    );
    seen.greeted = true;

    seen.legs.get_mut(&far).expect("it is up").announced = true;
    assert_eq!(
        heard(&row, &seen),
        [(caller, Audio::Bridge(far)), (far, Audio::Bridge(caller))],
        "both at once"
    );
}

#[test]
fn a_new_owner_interrupts_nobody_for_an_announcement() {
    let mut world = at_work(told(), &["amy"]);
    let call = world.call("anonymous", "4008");
    world.agent_answers(call);
    let before = world.row(call);
    world.node_down(before.owner.0, 1);
    world.run();
    let row = world.row(call);
    assert_ne!(row.owner, before.owner);
    let (caller, far) = (row.legs[0].id, world.far_leg(call));
    let hears = |leg| world.seen[&call].legs[&leg].audio;
    assert_eq!(hears(caller), Audio::Bridge(far));
    assert_eq!(hears(far), Audio::Bridge(caller));
}

#[test]
fn without_an_announcement_an_answer_bridges_at_once() {
    let mut world = at_work(site(), &["amy"]);
    let (row, caller, far, mut seen) = bridged(&mut world);
    seen.greeted = false;
    assert_eq!(whispered(&row, &seen), None);
    let both = [(caller, Audio::Bridge(far)), (far, Audio::Bridge(caller))];
    assert_eq!(heard(&row, &seen), both, "even in the greeting");
}

#[test]
fn an_agent_who_holds_is_told_when_he_is_back() {
    let mut world = at_work(told(), &["amy"]);
    let (row, caller, far, mut seen) = bridged(&mut world);
    seen.legs.get_mut(&far).expect("it is up").audio = Audio::Whisper(SALES);
    world.observe(row.id, vec![held(far, true)]);
    let row = world.row(row.id);
    assert_eq!(heard(&row, &seen), [(far, Audio::Silence)]);
    seen.legs.get_mut(&far).expect("it is up").audio = Audio::Silence;
    world.observe(row.id, vec![held(far, false)]);
    let row = world.row(row.id);
    assert_eq!(heard(&row, &seen), [(far, Audio::Whisper(SALES))]);
    // A caller who holds keeps nobody from hearing it, and hears nothing else meanwhile.
    world.observe(row.id, vec![held(caller, true)]);
    let row = world.row(row.id);
    assert_eq!(heard(&row, &seen), [(far, Audio::Whisper(SALES))]);
}

#[test]
fn a_caller_who_leaves_in_the_announcement_ends_the_call_as_any_bridge() {
    let mut world = at_work(told(), &["amy"]);
    let (row, _, far, _) = bridged(&mut world);
    world.advance(2_000);
    world.leaves(row.id);
    assert!(!world.is_live(row.id));
    let cdr = world.cdr(row.id);
    assert_eq!(cdr.disposition, Disposition::Answered);
    assert_eq!(cdr.talk_ms, 2_000, "talk counts from the answer");
    assert_eq!(world.agent("amy"), AgentState::WrapUp);
    assert!(cdr.legs.iter().any(|leg| leg.id == far));
}

#[test]
fn the_announcement_is_that_of_the_site_in_force_when_the_agent_answers() {
    let mut world = at_work(site(), &["amy"]);
    let call = world.call("anonymous", "4008");
    assert_eq!(world.apply_site(told(), 1), Reply::Site { version: 2 });
    world.agent_answers(call);
    let far = world.far_leg(call);
    assert_eq!(world.row(call).announced(), Some((far, SALES)));
    // A call between extensions has none.
    let other = world.call("1005", "1002");
    let far = world.far_leg(other);
    world.answers(other, far);
    assert_eq!(world.row(other).announced(), None);
}

/// Amy's phone answers in the moment it is told to stop.
fn crossing(site: Site, agents: &[&str], crossing: &[&str]) -> World {
    let mut world = at_work(site, agents);
    for extension in crossing {
        let uri = format!("sip:{extension}@desk");
        world.phones.insert(uri, Phone::Crosses);
    }
    world
}

fn parting_leg(world: &World, call: CallId, agent: &str) -> LegId {
    let role = LegRole::Agent(AgentId::from(agent));
    let leg = world.leg(call, |own| *own == role);
    assert_eq!(leg.seen, Seen::Answered);
    assert!(matches!(leg.want, Want::End(_)), "{leg:?}");
    leg.id
}

#[test]
fn a_caller_leaves_while_the_agent_answers_and_nothing_is_counted_of_him() {
    let mut world = crossing(site(), &["amy"], &["1001"]);
    let call = world.call("anonymous", "4008");
    world.advance(3_000);
    world.leaves(call);
    let leg = parting_leg(&world, call, "amy");
    // The record does not wait for what the agent is told.
    let cdr = world.cdr(call);
    assert_eq!(cdr.disposition, Disposition::Abandoned);
    assert_eq!((cdr.talk_ms, cdr.agent.clone()), (0, None));
    assert!(cdr.legs.iter().all(|leg| leg.ended_at.is_some()));
    assert_eq!(world.figure("support").abandoned, 1);

    // The next caller waits until that leg is over.
    let next = world.call("anonymous", "4008");
    assert_eq!(world.offered_to(next), None);
    world.advance(2_000);
    assert_eq!(world.agent("amy"), AgentState::Offered);
    assert_eq!(world.word(call), "clearing");
    world.ends(call, leg, Cause::NORMAL);
    assert!(!world.is_live(call));
    assert_eq!(world.offered_to(next).as_deref(), Some("amy"), "at once");
    let _ = world.cdr(call);
    let row = world.state(|state| state.agents[&agent_key("amy")].clone());
    assert_eq!((row.missed, row.calls, row.talk_ms), (0, 0, 0));
    let figure = world.agent_figure("amy");
    assert_eq!((figure.missed, figure.answered), (0, 0));
    let ended = world.events().into_iter();
    let ended = ended.filter(|event| event.kind == "call.ended");
    assert_eq!(ended.count(), 1, "its end is told once");
}

#[test]
fn an_agent_of_a_ring_all_who_answers_second_is_free_when_his_leg_is_over() {
    let mut all = site();
    let spec = all.queues.get_mut(&QueueName::from("support"));
    spec.expect("the site has it").strategy = Strategy::RingAll;
    let mut world = crossing(all, &["amy", "bob"], &["1002"]);
    let call = world.call("anonymous", "4008");
    assert_eq!(world.offered_to_all(call).len(), 2);
    let amy = world.leg_at(call, "sip:1001@desk");
    world.answers(call, amy);
    let bob = parting_leg(&world, call, "bob");
    assert_eq!(world.row(call).stage, Stage::Bridged { far: amy });
    assert_eq!(world.agent("bob"), AgentState::Offered);
    world.ends(call, bob, Cause::NORMAL);
    assert_eq!(world.agent("bob"), AgentState::Ready);
    assert_eq!(world.agent("amy"), AgentState::Talking);
    assert_eq!(world.agent_figure("bob").missed, 0);
    assert_eq!(world.agent_figure("bob").answered, 0);
    world.leaves(call);
    assert_eq!(world.cdr(call).agent, Some(AgentId::from("amy")));
}

#[test]
fn a_call_shorter_than_what_a_late_agent_is_told_is_recorded_without_him() {
    let mut all = site();
    let spec = all.queues.get_mut(&QueueName::from("support"));
    spec.expect("the site has it").strategy = Strategy::RingAll;
    let mut world = crossing(all, &["amy", "bob"], &["1002"]);
    let call = world.call("anonymous", "4008");
    let amy = world.leg_at(call, "sip:1001@desk");
    world.answers(call, amy);
    world.advance(500);
    world.leaves(call);
    let cdr = world.cdr(call);
    assert_eq!(cdr.disposition, Disposition::Answered);
    assert_eq!(cdr.talk_ms, 500);
    assert!(world.is_live(call));
    assert_eq!(world.agent("amy"), AgentState::WrapUp, "she is done");
    // Hanging up what is over changes nothing.
    assert_eq!(world.act(Action::Hangup { call }), Reply::Done);
    // An owner that never reports is not waited for.
    world.advance(40_000);
    assert!(!world.is_live(call));
    assert_eq!(world.agent("bob"), AgentState::Ready);
    assert_eq!(world.cdr(call), cdr, "the record stays as it was");
}

#[test]
fn a_node_that_dies_while_a_late_agent_is_told_leaves_one_record() {
    let mut world = crossing(site(), &["amy"], &["1001"]);
    let call = world.call("anonymous", "4008");
    world.leaves(call);
    let cdr = world.cdr(call);
    let owner = world.row(call).owner.0;
    world.node_down(owner, 1);
    assert!(!world.is_live(call));
    assert_eq!(world.cdr(call), cdr);
    assert_eq!(world.agent("amy"), AgentState::Ready);
    let leftover = world.state(|state| {
        let mut rows = state.leftovers.values();
        rows.find(|row| row.call == call)
            .map(|row| row.checkpoint.is_some())
    });
    assert_eq!(leftover, Some(true), "a survivor ends her leg");
}

#[test]
fn an_answer_and_the_end_of_the_offer_in_one_moment_have_one_outcome() {
    for answer_first in [true, false] {
        let mut world = at_work(site(), &["amy"]);
        let call = world.call("anonymous", "4008");
        let leg = world.far_leg(call);
        world.now += 15_000;
        let tick = Command::Tick;
        let answer = Command::CallObserved {
            call,
            epoch: world.row(call).epoch,
            observations: vec![answered(leg)],
        };
        world.set_phase(call, leg, Phase::Proposed);
        // One entry: the same stamp for both, in either order.
        let both = if answer_first {
            [answer, tick]
        } else {
            [tick, answer]
        };
        world.propose_all(&both);
        world.run();
        let figure = world.figure("support");
        let row = world.row(call);
        let amy = world.state(|state| state.agents[&agent_key("amy")].activity.clone());
        if answer_first {
            assert_eq!(row.stage, Stage::Bridged { far: leg });
            assert_eq!(amy, Activity::Talking(call));
            assert_eq!((figure.answered, figure.missed), (1, 0));
        } else {
            assert!(row.is_waiting(), "{:?}", row.stage);
            assert_eq!(amy, Activity::Idle);
            assert_eq!((figure.answered, figure.missed), (0, 1));
        }
        assert_ne!(row.leg(leg).map(|leg| leg.seen), Some(Seen::Fresh));
        world.leaves(call);
        let _ = world.cdr(call);
    }
}

#[test]
fn nobody_is_rung_for_a_caller_whose_end_is_being_committed() {
    let mut world = at_work(site(), &["amy", "bob"]);
    let call = world.call("anonymous", "4008");
    let caller = world.caller_leg(call);
    // Gone as his node sees it; the commit takes its time.
    world.set_phase(call, caller, Phase::Gone);
    world.advance(15_000);
    assert_eq!(world.offered_to(call).as_deref(), Some("bob"));
    let leg = world.far_leg(call);
    let seen = world.seen[&call].legs.get(&leg).map(|leg| leg.phase);
    assert_eq!(seen, None, "his phone stays silent");
    world.leaves(call);
    assert_eq!(world.cdr(call).disposition, Disposition::Abandoned);
    assert_eq!(world.agent_figure("bob").missed, 0);
}
