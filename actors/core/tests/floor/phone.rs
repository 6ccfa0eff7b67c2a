//! Phones that stop answering: their agents have no phone until they answer again.

use strowger_core::call::Cause;
use strowger_core::floor::agent::AgentState;
use strowger_core::floor::phone::PhoneName;
use strowger_core::ids::{AgentId, CallId, Extension};
use strowger_core::limits;
use strowger_core::state::command::{Command, PhoneSeen, Refusal, Reply};

use crate::harness::{Phone, World, agent_key, refusal, site, tenant};
use crate::rows::Copy;

/// Agents at work at phones that are checked.
fn checked(agents: &[&str]) -> World {
    let mut site = site();
    for spec in site.extensions.values_mut() {
        spec.qualify_s = None;
    }
    for spec in site.agents.values_mut() {
        spec.qualify_s = 4;
    }
    let mut world = World::with_site(site);
    for extension in ["1001", "1002"] {
        world.register(extension, "desk", 3_600);
    }
    for agent in agents {
        world.sign_in(agent);
        world.advance(10);
    }
    world
}

fn seen(world: &mut World, phone: PhoneName, failed: Option<u16>) -> Reply {
    let tenant = tenant();
    let reply = world.propose(Command::PhoneSeen(PhoneSeen {
        tenant,
        phone,
        failed,
    }));
    let restarted = Copy::restored(&world.copy.rows);
    assert_eq!(restarted.words(), world.copy.words());
    reply
}

fn desk(extension: &str) -> PhoneName {
    PhoneName::Extension(Extension::from(extension))
}

fn reason(world: &World, agent: &str) -> String {
    world.state(|state| state.no_phone_reason(&state.agents[&agent_key(agent)]))
}

fn waits(world: &World, call: CallId) -> bool {
    world.word(call) == "queued"
}

#[test]
fn a_silent_phone_is_offered_nothing_until_it_answers() {
    let mut world = checked(&["bob"]);
    assert_eq!(world.agent("bob"), AgentState::Ready);
    assert_eq!(seen(&mut world, desk("1002"), Some(408)), Reply::Done);
    assert_eq!(world.agent("bob"), AgentState::NoPhone);
    assert_eq!(reason(&world, "bob"), "phone does not answer");
    let call = world.call("anonymous", "4008");
    assert!(waits(&world, call));
    world.register("1002", "desk", 3_600);
    assert!(waits(&world, call), "a refresh proves nothing");
    assert_eq!(seen(&mut world, desk("1002"), None), Reply::Done);
    assert_eq!(world.word(call), "offered");
    let told = world
        .events()
        .into_iter()
        .filter(|event| event.entity == "bob");
    let told: Vec<String> = told.map(|event| format!("{:?}", event.fields)).collect();
    assert!(
        told.iter()
            .any(|fields| fields.contains("phone does not answer")),
        "the change of state says why: {told:?}"
    );
}

#[test]
fn only_a_change_leaves_a_trace() {
    let mut world = checked(&["bob"]);
    let count = |world: &World| world.events().len();
    seen(&mut world, desk("1002"), None);
    let before = count(&world);
    seen(&mut world, desk("1002"), Some(408));
    let after = count(&world);
    seen(&mut world, desk("1002"), Some(503));
    assert!(before < after);
    assert_eq!(count(&world), after);
}

#[test]
fn an_offer_that_meets_silence_takes_the_phone_away() {
    for (status, failing) in [(408, true), (503, true), (486, false), (404, false)] {
        let mut world = checked(&["bob"]);
        let uri = "sip:1002@desk".to_string();
        world.phones.insert(uri.clone(), Phone::Refuses(status));
        let call = world.call("anonymous", "4008");
        world.phones.insert(uri, Phone::Rings);
        assert!(waits(&world, call));
        let key = (tenant(), desk("1002"));
        assert_eq!(world.state(|state| state.is_failing(&key)), failing);
        world.advance(limits::UNREACHABLE_MS + limits::MISSED_SKIP_MS);
        assert_eq!(waits(&world, call), failing, "{status}");
        if failing {
            seen(&mut world, desk("1002"), None);
            assert_eq!(world.word(call), "offered", "{status}");
        }
    }
}

#[test]
fn our_own_want_of_ports_is_not_the_phones_fault() {
    let mut world = checked(&["bob"]);
    let call = world.call("anonymous", "4008");
    let leg = world.far_leg(call);
    world.ends(call, leg, Cause::CONGESTION);
    let key = (tenant(), desk("1002"));
    assert!(!world.state(|state| state.is_failing(&key)));
}

#[test]
fn a_fixed_device_is_known_by_its_agent() {
    let mut world = checked(&["eve"]);
    let phone = PhoneName::Agent(AgentId::from("eve"));
    assert_eq!(world.agent("eve"), AgentState::Ready);
    seen(&mut world, phone.clone(), Some(503));
    assert_eq!(world.agent("eve"), AgentState::NoPhone);
    assert_eq!(reason(&world, "eve"), "phone answers 503");
    seen(&mut world, phone, None);
    assert_eq!(world.agent("eve"), AgentState::Ready);
}

#[test]
fn what_is_not_checked_or_gone_is_forgotten() {
    let mut world = checked(&["bob"]);
    let nobody = seen(&mut world, desk("1999"), Some(408));
    assert!(matches!(refusal(&nobody), Refusal::NotFound(_)));
    seen(&mut world, desk("1002"), Some(408));
    world.apply_site(site(), 1);
    assert_eq!(world.agent("bob"), AgentState::Ready, "checked no more");
    let unchecked = seen(&mut world, desk("1002"), Some(408));
    assert!(matches!(refusal(&unchecked), Refusal::NotFound(_)));
    let mut world = checked(&["bob"]);
    seen(&mut world, desk("1002"), Some(408));
    world.register("1002", "desk", 0);
    assert_eq!(reason(&world, "bob"), "not registered");
    world.register("1002", "desk", 60);
    assert_eq!(world.agent("bob"), AgentState::Ready, "a new registration");
}
