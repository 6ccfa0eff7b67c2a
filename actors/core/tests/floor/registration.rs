//! Registrations as the log sees them.

use strowger_core::floor::agent::AgentState;
use strowger_core::floor::registration::{ContactWish, Register};
use strowger_core::ids::Extension;
use strowger_core::limits;
use strowger_core::ports::{RowsRead, Table};
use strowger_core::state::FEATURE_LEVEL;
use strowger_core::state::command::{Command, Refusal, Reply};

use crate::harness::{World, flow, refusal, tenant};

fn bindings(reply: &Reply) -> Vec<(String, u64)> {
    match reply {
        Reply::Registered { now, bindings } => bindings
            .iter()
            .map(|one| (one.contact.clone(), one.expires_at.since(*now) / 1_000))
            .collect(),
        other => panic!("not registered: {other:?}"),
    }
}

fn wish(cseq: u32, contacts: Vec<ContactWish>) -> Register {
    Register {
        tenant: tenant(),
        extension: Extension::from("1001"),
        flow: flow(1, 5062),
        call_id: "one".to_string(),
        cseq,
        contacts,
        remove_all: false,
    }
}

#[test]
fn contacts_come_refresh_and_run_out_one_by_one() {
    let mut world = World::new();
    world.register("1001", "desk", 60);
    let both = world.register("1001", "mobile", 120);
    let desk = ("sip:1001@desk".to_string(), 60);
    let mobile = ("sip:1001@mobile".to_string(), 120);
    assert_eq!(bindings(&both), [desk.clone(), mobile]);
    world.advance(50_000);
    world.register("1001", "desk", 60);
    world.advance(70_000);
    let asked = world.propose(Command::Register(wish(1, Vec::new())));
    assert_eq!(
        bindings(&asked),
        [],
        "120 s after both came, both have run out"
    );
    assert!(world.state(|state| state.registrations.is_empty()));
    let expired = world
        .events()
        .into_iter()
        .filter(|event| event.kind == "phone.expired");
    assert_eq!(expired.count(), 1, "the extension became unreachable once");
}

#[test]
fn a_refresh_before_the_end_keeps_the_binding() {
    let mut world = World::new();
    world.register("1001", "desk", 60);
    for _ in 0..20 {
        world.advance(40_000);
        world.register("1001", "desk", 60);
    }
    let count = world.state(|state| state.registrations.len());
    assert_eq!(count, 1);
    world.advance(60_000);
    assert!(world.state(|state| state.registrations.is_empty()));
}

#[test]
fn a_binding_past_its_end_is_not_rung_even_before_the_tick() {
    let mut world = World::new();
    world.register("1001", "desk", 60);
    world.register("1002", "desk", 3_600);
    world.sign_in("amy");
    world.now += 60_000;
    let reply = world.invite_at(1, "1002", "4008");
    let Reply::Call { call, .. } = reply else {
        panic!("not admitted: {reply:?}");
    };
    assert_eq!(world.offered_to(call), None);
    assert_eq!(world.agent("amy"), AgentState::NoPhone);
    let refused = world.invite_at(1, "1002", "1001");
    assert!(matches!(refused, Reply::CallRefused(_)));
}

#[test]
fn what_cannot_register_is_told_so() {
    let mut world = World::new();
    for unknown in ["9999", "1090"] {
        let reply = world.register(unknown, "desk", 60);
        assert!(matches!(refusal(&reply), Refusal::NotFound(_)), "{unknown}");
    }
    let contact = |n: usize| ContactWish {
        contact: format!("sip:{n}@desk"),
        expires_s: 60,
        q: 500,
        instance: None,
    };
    let many = (0..=limits::BINDINGS_PER_EXTENSION).map(contact).collect();
    let reply = world.propose(Command::Register(wish(5, many)));
    assert_eq!(refusal(&reply), &Refusal::TooManyContacts);
    world.propose(Command::Register(wish(5, vec![contact(1)])));
    let late = world.propose(Command::Register(wish(4, vec![contact(1)])));
    assert_eq!(refusal(&late), &Refusal::OutOfOrder);
    let again = world.propose(Command::Register(wish(5, vec![contact(1)])));
    assert_eq!(bindings(&again).len(), 1, "a retransmission is answered");
}

#[test]
fn removing_all_leaves_nothing_and_a_long_wish_is_shortened() {
    let mut world = World::new();
    let long = world.register("1001", "desk", 1_000_000);
    let most = u64::from(limits::REGISTRATION_S_MAX);
    assert_eq!(bindings(&long), [("sip:1001@desk".to_string(), most)]);
    let mut all = wish(900, Vec::new());
    all.remove_all = true;
    let none = world.propose(Command::Register(all));
    assert_eq!(bindings(&none), []);
    let kinds: Vec<String> = world.events().into_iter().map(|event| event.kind).collect();
    let phone: Vec<&String> = kinds
        .iter()
        .filter(|kind| kind.starts_with("phone."))
        .collect();
    assert_eq!(phone, ["phone.registered", "phone.left"]);
}

#[test]
fn a_restart_of_a_phone_replaces_its_binding_by_instance() {
    let mut world = World::new();
    let at = |contact: &str| ContactWish {
        contact: contact.to_string(),
        expires_s: 60,
        q: 500,
        instance: Some(("urn:uuid:1".to_string(), 1)),
    };
    world.propose(Command::Register(wish(1, vec![at("sip:a@desk:1")])));
    let moved = world.propose(Command::Register(wish(2, vec![at("sip:a@desk:2")])));
    assert_eq!(bindings(&moved), [("sip:a@desk:2".to_string(), 60)]);
}

#[test]
fn the_preferred_contact_is_rung_first() {
    let mut world = World::new();
    let at = |contact: &str, q: u16| ContactWish {
        contact: contact.to_string(),
        expires_s: 60,
        q,
        instance: None,
    };
    let contacts = vec![at("sip:low@desk", 100), at("sip:high@desk", 900)];
    world.propose(Command::Register(wish(1, contacts)));
    let call = world.call("1002", "1001");
    let uris: Vec<String> = world
        .row(call)
        .legs
        .iter()
        .filter_map(|leg| leg.target.as_ref().map(|to| to.uri.clone()))
        .collect();
    assert_eq!(uris, ["sip:high@desk", "sip:low@desk"]);
}

#[test]
fn one_deadline_stands_however_often_a_phone_refreshes() {
    let mut world = World::new();
    let deadlines = |world: &World| {
        let rows = world.copy.rows.scan(Table::Timer, &[], None, usize::MAX);
        rows.len()
    };
    world.propose(Command::Raise {
        level: FEATURE_LEVEL,
    });
    let before = deadlines(&world);
    for _ in 0..200 {
        world.register("1001", "desk", 3_600);
        world.advance(30_000);
        assert!(deadlines(&world) <= before + 1);
    }
    // The deadline that stood was that of an earlier end.
    world.advance(3_560_000);
    assert!(world.state(|state| !state.registrations.is_empty()));
    world.advance(20_000);
    assert!(world.state(|state| state.registrations.is_empty()));
    assert!(deadlines(&world) <= before);
    // A shorter one is not overlooked.
    world.register("1001", "desk", 3_600);
    world.register("1001", "desk", 60);
    world.advance(61_000);
    assert!(world.state(|state| state.registrations.is_empty()));
}
