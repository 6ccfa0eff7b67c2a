//! Calls between phones: how each path ends, for the caller and in the record.

use strowger_core::call::{Cause, Disposition, LegRole, Seen, Stage, Want};
use strowger_core::ids::AgentId;
use strowger_core::limits;
use strowger_core::state::command::{Action, Command, Refusal, Reply};

use crate::harness::{Phone, World, answered, ended, held, refusal};

fn two_phones() -> World {
    let mut world = World::new();
    world.register("1001", "desk", 3_600);
    world.register("1005", "desk", 3_600);
    world
}

#[test]
fn an_answered_call_is_bridged_and_recorded_with_its_talk_time() {
    let mut world = two_phones();
    let call = world.call("1001", "1005");
    assert_eq!(world.word(call), "ringing");
    world.advance(4_000);
    let far = world.far_leg(call);
    world.answers(call, far);
    assert_eq!(world.row(call).stage, Stage::Bridged { far });
    assert_eq!(world.row(call).legs[0].seen, Seen::Answered);
    world.advance(30_000);
    world.leaves(call);
    let cdr = world.cdr(call);
    assert_eq!(cdr.disposition, Disposition::Answered);
    assert_eq!((cdr.talk_ms, cdr.cause), (30_000, Cause::NORMAL));
    assert_eq!(cdr.legs.len(), 2);
    assert!(cdr.legs.iter().all(|leg| leg.seen == Seen::Ended));
    assert!(cdr.legs.iter().all(|leg| leg.checkpoint.is_none()));
    assert!(world.seen.is_empty(), "the owner has forgotten the call");
}

#[test]
fn either_side_may_hang_up() {
    let mut world = two_phones();
    world.phones.insert("sip:1005@desk".into(), Phone::Answers);
    let call = world.call("1001", "1005");
    let far = world.far_leg(call);
    world.ends(call, far, Cause::NORMAL);
    assert_eq!(world.cdr(call).disposition, Disposition::Answered);
}

#[test]
fn what_the_phone_refuses_with_reaches_the_caller_as_it_should() {
    let table = [
        (486, Disposition::Busy, 486),
        (600, Disposition::Busy, 600),
        (603, Disposition::Rejected, 603),
        (480, Disposition::NoAnswer, 480),
        (408, Disposition::NoAnswer, 480),
        (488, Disposition::Rejected, 488),
        (404, Disposition::Failed, 480),
        (401, Disposition::Failed, 480),
        (302, Disposition::Failed, 480),
        (200, Disposition::Failed, 480),
        (500, Disposition::Failed, 480),
        (503, Disposition::Failed, 480),
    ];
    for (status, disposition, told) in table {
        let mut world = two_phones();
        world
            .phones
            .insert("sip:1005@desk".into(), Phone::Refuses(status));
        let call = world.call("1001", "1005");
        let cdr = world.cdr(call);
        assert_eq!(cdr.disposition, disposition, "phone said {status}");
        assert_eq!(cdr.cause.status, told, "phone said {status}");
        assert_eq!(cdr.legs[0].cause.map(|cause| cause.status), Some(told));
    }
}

#[test]
fn nobody_answers_until_the_tick() {
    let mut world = two_phones();
    let call = world.call("1001", "1005");
    world.advance(limits::EXTENSION_RING_MS - 1);
    assert_eq!(world.word(call), "ringing");
    world.advance(1);
    let cdr = world.cdr(call);
    assert_eq!(cdr.disposition, Disposition::NoAnswer);
    assert_eq!(cdr.cause, Cause::NO_ANSWER);
}

#[test]
fn a_caller_may_cancel() {
    let mut world = two_phones();
    let call = world.call("1001", "1005");
    world.leaves(call);
    let cdr = world.cdr(call);
    assert_eq!(cdr.disposition, Disposition::Abandoned);
    assert_eq!(cdr.cause, Cause::CANCELLED);
}

#[test]
fn calls_that_lead_nowhere_are_refused_and_recorded() {
    let table = [
        ("1001", "7777", Cause::UNKNOWN_NUMBER, Disposition::Rejected),
        ("1001", "1006", Cause::NOT_REGISTERED, Disposition::Failed),
        ("anonymous", "1005", Cause::FORBIDDEN, Disposition::Rejected),
        ("anonymous", "4009", Cause::FORBIDDEN, Disposition::Rejected),
        ("anonymous", "*11", Cause::FORBIDDEN, Disposition::Rejected),
        ("anonymous", "0123", Cause::FORBIDDEN, Disposition::Rejected),
        ("1001", "0", Cause::UNKNOWN_NUMBER, Disposition::Rejected),
    ];
    for (from, to, cause, disposition) in table {
        let mut world = two_phones();
        let reply = world.invite_at(1, from, to);
        assert_eq!(reply, Reply::CallRefused(cause), "{from} to {to}");
        let cdrs = world.cdrs();
        assert_eq!(cdrs.len(), 1, "{from} to {to}");
        assert_eq!(cdrs[0].disposition, disposition, "{from} to {to}");
        assert!(world.state(|state| state.calls.is_empty()));
    }
}

#[test]
fn only_the_holder_of_the_address_at_its_epoch_admits_calls() {
    let mut world = two_phones();
    let before = world.cdrs().len();
    let arrived = |node: u64, epoch: u32| {
        Command::CallArrived(strowger_core::state::command::CallArrived {
            tenant: crate::harness::tenant(),
            address: crate::harness::address(1),
            node: strowger_core::ids::NodeId(node),
            epoch,
            from: crate::harness::caller("1001"),
            to: "1005".to_string(),
            sip_call_id: "a".to_string(),
            remote: None,
            called: None,
            checkpoint: Some(b"invite".to_vec()),
        })
    };
    let row = world.state(|state| state.addresses[&crate::harness::address(1)].clone());
    let holder = row.holder.expect("three nodes are up").0;
    for stale in [
        arrived(holder, row.epoch + 1),
        arrived(holder % 3 + 1, row.epoch),
    ] {
        assert_eq!(world.propose(stale), Reply::Refused(Refusal::Stale));
    }
    assert_eq!(
        world.cdrs().len(),
        before,
        "a stale sender leaves no record"
    );
    let known = world.propose(arrived(holder, row.epoch));
    assert!(matches!(known, Reply::Call { .. }));
}

#[test]
fn two_contacts_ring_and_the_first_answer_wins() {
    let mut world = two_phones();
    world.register("1005", "mobile", 3_600);
    let call = world.call("1001", "1005");
    assert_eq!(world.row(call).legs.len(), 3);
    let (desk, mobile) = (
        world.leg_at(call, "sip:1005@desk"),
        world.leg_at(call, "sip:1005@mobile"),
    );
    world.answers(call, mobile);
    let row = world.row(call);
    assert_eq!(row.stage, Stage::Bridged { far: mobile });
    let other = row.leg(desk).expect("it stays in the row");
    assert_eq!(other.want, Want::End(Cause::ELSEWHERE));
    assert_eq!(other.seen, Seen::Ended, "the owner has cancelled it");
    world.leaves(call);
    assert_eq!(world.cdr(call).legs.len(), 3);
}

#[test]
fn crossed_answers_leave_one_bridge() {
    let mut world = two_phones();
    world.register("1005", "mobile", 3_600);
    let call = world.call("1001", "1005");
    let (desk, mobile) = (
        world.leg_at(call, "sip:1005@desk"),
        world.leg_at(call, "sip:1005@mobile"),
    );
    for leg in [desk, mobile] {
        world.set_phase(call, leg, strowger_core::outstanding::Phase::Proposed);
    }
    world.observe(call, vec![answered(desk), answered(mobile)]);
    world.run();
    let row = world.row(call);
    assert_eq!(row.stage, Stage::Bridged { far: desk });
    let other = row.leg(mobile).expect("it stays in the row");
    assert_eq!(other.cause, Some(Cause::ELSEWHERE));
    world.leaves(call);
    assert_eq!(world.cdr(call).disposition, Disposition::Answered);
}

#[test]
fn one_refusal_leaves_the_other_contact_ringing_and_the_best_refusal_counts() {
    let mut world = two_phones();
    world.register("1005", "mobile", 3_600);
    let call = world.call("1001", "1005");
    let desk = world.leg_at(call, "sip:1005@desk");
    world.ends(call, desk, Cause::from_status(503));
    assert_eq!(world.word(call), "ringing");
    let mobile = world.leg_at(call, "sip:1005@mobile");
    world.ends(call, mobile, Cause::BUSY);
    assert_eq!(world.cdr(call).disposition, Disposition::Busy);
}

#[test]
fn a_cancel_that_crosses_the_answer_is_no_answered_call() {
    let mut world = two_phones();
    let call = world.call("1001", "1005");
    let (near, far) = (world.caller_leg(call), world.far_leg(call));
    world.observe(call, vec![answered(far)]);
    assert_eq!(world.word(call), "bridged");
    world.set_phase(call, far, strowger_core::outstanding::Phase::Proposed);
    world.ends(call, near, Cause::CANCELLED);
    let cdr = world.cdr(call);
    assert_eq!(cdr.disposition, Disposition::Abandoned);
    assert_eq!((cdr.answered_at, cdr.talk_ms), (None, 0));
}

#[test]
fn hold_and_resume_show_and_keep_the_newest_dialog() {
    let mut world = two_phones();
    world.phones.insert("sip:1005@desk".into(), Phone::Answers);
    let call = world.call("1001", "1005");
    let near = world.caller_leg(call);
    world.observe(call, vec![held(near, true)]);
    assert_eq!(world.word(call), "held");
    assert_eq!(world.row(call).legs[0].checkpoint, Some(vec![4, 5]));
    world.observe(call, vec![held(near, false)]);
    assert_eq!(world.word(call), "bridged");
    let kinds: Vec<String> = world.events().into_iter().map(|event| event.kind).collect();
    let turns = kinds
        .iter()
        .filter(|kind| kind.starts_with("call.h") || *kind == "call.resumed");
    assert_eq!(turns.count(), 2, "one event for each change");
}

#[test]
fn observations_repeated_or_late_change_nothing() {
    let mut world = two_phones();
    let call = world.call("1001", "1005");
    let far = world.far_leg(call);
    world.answers(call, far);
    let before = world.row(call);
    world.observe(call, vec![answered(far)]);
    let mut after = world.row(call);
    after.seq = before.seq;
    assert_eq!(after, before);
    world.leaves(call);
    let late = world.observe(call, vec![ended(far, Cause::NORMAL)]);
    assert!(matches!(late, Reply::Refused(Refusal::NotFound(_))));
    assert_eq!(world.cdrs().len(), 1);
}

#[test]
fn an_operator_ends_a_call_in_any_stage() {
    let stages = [
        "ringing",
        "bridged",
        "held",
        "queued",
        "offered",
        "announcing",
    ];
    for stage in stages {
        let mut world = two_phones();
        world.register("1002", "desk", 3_600);
        let call = match stage {
            "ringing" | "bridged" | "held" => world.call("1001", "1005"),
            "queued" => world.call("1005", "4008"),
            "offered" => {
                world.sign_in("bob");
                world.call("1005", "4008")
            }
            _ => {
                let reply = world.invite_at(1, "1001", "*11");
                let Reply::Call { call, .. } = reply else {
                    panic!("not admitted: {reply:?}");
                };
                call
            }
        };
        if matches!(stage, "bridged" | "held") {
            let far = world.far_leg(call);
            world.answers(call, far);
        }
        if stage == "held" {
            let far = world.far_leg(call);
            world.observe(call, vec![held(far, true)]);
        }
        assert_eq!(world.word(call), stage);
        assert_eq!(world.act(Action::Hangup { call }), Reply::Done);
        world.run();
        let expected = match stage {
            "bridged" | "held" => Disposition::Answered,
            "queued" | "offered" => Disposition::Abandoned,
            _ => Disposition::Rejected,
        };
        assert_eq!(world.cdr(call).disposition, expected, "while {stage}");
        let again = world.act(Action::Hangup { call });
        assert!(matches!(again, Reply::Refused(Refusal::NotFound(_))));
        assert!(world.state(|state| state.calls.is_empty()));
    }
}

#[test]
fn legs_that_never_end_do_not_keep_a_call_for_ever() {
    let mut world = two_phones();
    let call = world.call("1001", "1005");
    world.act(Action::Hangup { call });
    // The owner is dead to the world: nothing runs, only the leader ticks.
    world.now += limits::CLEARING_MS;
    world.propose(Command::Tick);
    assert_eq!(world.cdr(call).disposition, Disposition::Rejected);
    assert!(!world.is_live(call));
}

#[test]
fn feature_codes_change_the_agent_and_are_confirmed() {
    use strowger_core::floor::agent::AgentState;
    let table = [
        ("*11", AgentState::Ready),
        ("*13", AgentState::Paused),
        ("*14", AgentState::Ready),
        ("*12", AgentState::SignedOut),
    ];
    let mut world = two_phones();
    for (code, state) in table {
        let call = world.call("1001", code);
        assert!(!world.is_live(call), "the tone has ended the call");
        assert_eq!(world.cdr(call).disposition, Disposition::Answered);
        assert_eq!(world.agent("amy"), state, "after {code}");
    }
    let reply = world.invite_at(1, "1005", "*11");
    let Reply::Call { call, .. } = reply else {
        panic!("not admitted: {reply:?}");
    };
    let refused = Stage::Confirming(strowger_core::call::Confirmation::Refused);
    assert_eq!(world.row(call).stage, refused, "nobody works at 1005");
}

#[test]
fn an_agent_who_signed_in_elsewhere_may_sign_in_at_home_again() {
    let mut world = two_phones();
    let extension = Some("1005".into());
    let agent = AgentId::from("amy");
    world.act(Action::SignIn { agent, extension });
    world.call("1005", "*12");
    assert_eq!(world.agent("amy").as_str(), "signed_out");
    world.call("1001", "*11");
    assert_eq!(world.agent("amy").as_str(), "ready");
}

#[test]
fn a_trunk_takes_what_the_route_sends() {
    let mut world = two_phones();
    let call = world.call("1001", "0123456");
    let leg = world.leg(call, |role| matches!(role, LegRole::Trunk(..)));
    let uri = leg.target.expect("an outgoing leg has a target").uri;
    assert_eq!(uri, "sip:123456@127.0.0.80:5080");
    world.answers(call, leg.id);
    assert_eq!(world.word(call), "bridged");
}

#[test]
fn a_public_number_reaches_an_extension_anonymously() {
    let mut world = two_phones();
    world.register("1008", "desk", 60);
    let call = world.call("anonymous", "4010");
    assert_eq!(world.word(call), "ringing");
}

#[test]
fn a_device_at_a_fixed_address_is_rung_there() {
    let mut world = two_phones();
    let call = world.call("1001", "1090");
    world.leg_at(call, "sip:door@127.0.0.90");
}

#[test]
fn a_phone_that_refuses_for_all_of_them_ends_the_ringing_of_the_others() {
    let mut world = two_phones();
    world.register("1005", "mobile", 3_600);
    let refused = |world: &mut World, status: u16| {
        let call = world.call("1001", "1005");
        let desk = world.leg_at(call, "sip:1005@desk");
        world.ends(call, desk, Cause::from_status(status));
        call
    };
    let call = refused(&mut world, 486);
    assert_eq!(world.word(call), "ringing", "486 speaks for one phone");
    world.leaves(call);
    for (status, disposition) in [(603, Disposition::Rejected), (600, Disposition::Busy)] {
        let call = refused(&mut world, status);
        let cdr = world.cdr(call);
        assert_eq!((cdr.disposition, cdr.cause.status), (disposition, status));
        assert_eq!(cdr.legs[0].cause.map(|cause| cause.status), Some(status));
        assert_eq!(cdr.legs.len(), 3);
    }
    let call = refused(&mut world, 486);
    let mobile = world.leg_at(call, "sip:1005@mobile");
    world.ends(call, mobile, Cause::from_status(603));
    assert_eq!(world.cdr(call).cause.status, 603, "a 6xx weighs most");
}

#[test]
fn a_call_is_hung_up_by_its_own_tenant_only() {
    let mut world = two_phones();
    let call = world.call("1001", "1005");
    let hang_up = |tenant: &str| Command::Act {
        id: String::new(),
        tenant: tenant.into(),
        action: Action::Hangup { call },
    };
    let other = world.propose(hang_up("beta"));
    assert!(matches!(refusal(&other), Refusal::NotFound(_)));
    assert_eq!(world.word(call), "ringing");
    assert_eq!(world.propose(hang_up("acme")), Reply::Done);
    world.run();
    assert!(!world.is_live(call));
}
