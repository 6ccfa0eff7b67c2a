//! Queues and agents: who is offered which call, and what everybody's time is
//! counted as.

use strowger_core::call::{Cause, Disposition, Seen};
use strowger_core::floor::agent::{Activity, AgentState};
use strowger_core::ids::AgentId;
use strowger_core::limits;
use strowger_core::outstanding::Phase;
use strowger_core::state::command::{Action, Command, Refusal, Reply};

use crate::harness::{Phone, World, agent_key, answered, held, queue_key, refusal};

fn agent(name: &str) -> AgentId {
    AgentId::from(name)
}

#[test]
fn callers_are_served_in_the_order_they_came() {
    let mut world = World::at_work(&[]);
    let calls: Vec<_> = (0..4).map(|_| world.call("anonymous", "4008")).collect();
    let places: Vec<_> = calls
        .iter()
        .map(|call| world.state(|state| state.position(&state.calls[call])))
        .collect();
    assert_eq!(places, [Some(1), Some(2), Some(3), Some(4)]);
    world.sign_in("bob");
    world.run();
    for call in calls {
        assert_eq!(world.offered_to(call).as_deref(), Some("bob"));
        world.agent_answers(call);
        world.advance(1_000);
        world.leaves(call);
        assert_eq!(world.agent("bob"), AgentState::WrapUp);
        world.advance(10_000);
    }
    let figure = world.figure("support");
    assert_eq!(
        (figure.entered, figure.answered, figure.abandoned),
        (4, 4, 0)
    );
    assert_eq!((figure.talk_ms, figure.hold_ms), (4_000, 0));
    assert_eq!(figure.answered_wait_ms, 11_000 + 22_000 + 33_000);
}

#[test]
fn the_longest_idle_agent_is_asked_first() {
    let mut world = World::at_work(&["cat", "amy", "bob"]);
    let calls: Vec<_> = (0..3).map(|_| world.call("anonymous", "4008")).collect();
    let asked: Vec<_> = calls.iter().map(|call| world.offered_to(*call)).collect();
    let names: Vec<&str> = asked.iter().flatten().map(String::as_str).collect();
    assert_eq!(names, ["cat", "amy", "bob"]);
    // Cat talked least long ago, so she is asked last next time.
    for call in [calls[0], calls[2], calls[1]] {
        world.agent_answers(call);
        world.leaves(call);
        world.advance(100);
    }
    world.advance(20_000);
    let next: Vec<_> = (0..3).map(|_| world.call("anonymous", "4008")).collect();
    let asked: Vec<_> = next.iter().map(|call| world.offered_to(*call)).collect();
    let names: Vec<&str> = asked.iter().flatten().map(String::as_str).collect();
    assert_eq!(names, ["cat", "bob", "amy"]);
}

#[test]
fn an_agent_is_offered_one_call_at_a_time() {
    let mut world = World::at_work(&["bob"]);
    let first = world.call("anonymous", "4008");
    let second = world.call("anonymous", "4008");
    assert_eq!(world.offered_to(first).as_deref(), Some("bob"));
    assert_eq!(world.offered_to(second), None);
    world.agent_answers(first);
    assert_eq!(world.offered_to(second), None);
    assert_eq!(world.word(second), "queued");
}

#[test]
fn a_missed_caller_keeps_his_place_and_the_next_agent_is_asked() {
    let mut world = World::at_work(&["bob", "cat"]);
    let first = world.call("anonymous", "4008");
    assert_eq!(world.offered_to(first).as_deref(), Some("bob"));
    world.act(Action::Pause {
        agent: agent("cat"),
        reason: "lunch".into(),
    });
    let second = world.call("anonymous", "4008");
    world.advance(15_000);
    let position = |world: &World, call| world.state(|state| state.position(&state.calls[&call]));
    assert_eq!(position(&world, first), Some(1));
    assert_eq!(position(&world, second), Some(2));
    // Bob has just missed the first caller, so the second gets him meanwhile.
    assert_eq!(world.offered_to(first), None);
    assert_eq!(world.offered_to(second).as_deref(), Some("bob"));
    world.act(Action::Ready {
        agent: agent("cat"),
    });
    world.run();
    assert_eq!(world.offered_to(first).as_deref(), Some("cat"));
    world.agent_answers(first);
    assert_eq!(world.row(first).agent, Some(agent("cat")));
}

#[test]
fn an_agent_who_missed_a_caller_is_asked_again_after_a_while() {
    let mut world = World::at_work(&["bob"]);
    let call = world.call("anonymous", "4008");
    world.advance(15_000);
    assert_eq!(world.offered_to(call), None);
    assert_eq!(world.agent("bob"), AgentState::Ready);
    world.advance(limits::MISSED_SKIP_MS - 1);
    assert_eq!(world.offered_to(call), None);
    world.advance(1);
    assert_eq!(world.offered_to(call).as_deref(), Some("bob"));
}

#[test]
fn too_many_missed_offers_pause_the_agent() {
    let mut world = World::at_work(&["bob"]);
    let first = world.call("anonymous", "4008");
    world.advance(15_000);
    let second = world.call("anonymous", "4008");
    assert_eq!(world.offered_to(second).as_deref(), Some("bob"));
    world.advance(15_000);
    assert_eq!(world.agent("bob"), AgentState::Paused);
    world.advance(120_000);
    assert_eq!(world.offered_to(first), None);
    world.act(Action::Ready {
        agent: agent("bob"),
    });
    world.run();
    assert_eq!(world.offered_to(first).as_deref(), Some("bob"));
}

#[test]
fn a_refused_offer_is_missed_and_a_failed_phone_rests() {
    let mut world = World::at_work(&["bob"]);
    let call = world.call("anonymous", "4008");
    let leg = world.far_leg(call);
    world.ends(call, leg, Cause::from_status(503));
    assert_eq!(world.agent("bob"), AgentState::NoPhone);
    world.advance(limits::UNREACHABLE_MS);
    assert_eq!(world.offered_to(call).as_deref(), Some("bob"));
    let leg = world.far_leg(call);
    world.ends(call, leg, Cause::BUSY);
    assert_eq!(world.agent("bob"), AgentState::Ready);
    assert_eq!(
        world.offered_to(call),
        None,
        "he has just refused this caller"
    );
    let missed = world.state(|state| state.agents[&agent_key("bob")].missed);
    assert_eq!(missed, 1, "a failed phone is not the agent's fault");
}

#[test]
fn a_caller_who_leaves_while_offered_is_abandoned_and_the_agent_free() {
    let mut world = World::at_work(&["bob"]);
    let call = world.call("anonymous", "4008");
    world.advance(3_000);
    world.leaves(call);
    let cdr = world.cdr(call);
    assert_eq!(cdr.disposition, Disposition::Abandoned);
    assert_eq!((cdr.wait_ms(), cdr.agent), (Some(3_000), None));
    assert_eq!(world.agent("bob"), AgentState::Ready);
    let figure = world.figure("support");
    assert_eq!((figure.entered, figure.abandoned), (1, 1));
    assert_eq!(
        world.state(|state| state.agents[&agent_key("bob")].missed),
        0
    );
}

#[test]
fn an_answer_that_crosses_the_end_of_the_offer_is_let_go() {
    let mut world = World::at_work(&["bob"]);
    let call = world.call("anonymous", "4008");
    let leg = world.far_leg(call);
    world.now += 15_000;
    world.propose(Command::Tick);
    world.set_phase(call, leg, Phase::Proposed);
    world.observe(call, vec![answered(leg)]);
    assert_eq!(world.word(call), "queued");
    assert_eq!(
        world.agent("bob"),
        AgentState::Offered,
        "until his leg has ended"
    );
    world.run();
    assert_eq!(world.row(call).legs[1].seen, Seen::Ended);
    assert_eq!(world.agent("bob"), AgentState::Ready);
    assert_eq!(world.figure("support").answered, 0);
}

#[test]
fn a_caller_who_leaves_as_the_agent_answers_counts_once() {
    for caller_first in [true, false] {
        let mut world = World::at_work(&["bob"]);
        let call = world.call("anonymous", "4008");
        let (near, far) = (world.caller_leg(call), world.far_leg(call));
        world.set_phase(call, near, Phase::Gone);
        world.set_phase(call, far, Phase::Proposed);
        let left = crate::harness::ended(near, Cause::NORMAL);
        let both = if caller_first {
            vec![left, answered(far)]
        } else {
            vec![answered(far), left]
        };
        world.observe(call, both);
        world.run();
        let figure = world.figure("support");
        let expected = if caller_first { (0, 1) } else { (1, 0) };
        assert_eq!((figure.answered, figure.abandoned), expected);
        let word = if caller_first {
            "abandoned"
        } else {
            "answered"
        };
        assert_eq!(world.cdr(call).disposition.as_str(), word);
    }
}

#[test]
fn wrap_up_ends_by_time_or_by_command() {
    let mut world = World::at_work(&["bob"]);
    for by_command in [false, true] {
        let call = world.call("anonymous", "4008");
        world.agent_answers(call);
        let far = world.far_leg(call);
        world.ends(call, far, Cause::NORMAL);
        assert_eq!(world.agent("bob"), AgentState::WrapUp);
        let waiting = world.call("anonymous", "4008");
        assert_eq!(world.offered_to(waiting), None);
        if by_command {
            world.act(Action::Ready {
                agent: agent("bob"),
            });
            world.run();
        } else {
            world.advance(9_999);
            assert_eq!(world.agent("bob"), AgentState::WrapUp);
            world.advance(1);
        }
        assert_eq!(world.offered_to(waiting).as_deref(), Some("bob"));
        world.leaves(waiting);
    }
}

#[test]
fn a_queue_without_wrap_up_frees_the_agent_at_once() {
    let mut world = World::at_work(&["dan"]);
    let call = world.call("1002", "4009");
    world.agent_answers(call);
    world.leaves(call);
    assert_eq!(world.agent("dan"), AgentState::Ready);
}

#[test]
fn signing_out_in_a_call_ends_neither_the_call_nor_starts_wrap_up() {
    let mut world = World::at_work(&["bob"]);
    let call = world.call("anonymous", "4008");
    world.agent_answers(call);
    world.act(Action::SignOut {
        agent: agent("bob"),
    });
    assert_eq!(world.agent("bob"), AgentState::Talking);
    assert_eq!(world.word(call), "bridged");
    world.leaves(call);
    assert_eq!(world.agent("bob"), AgentState::SignedOut);
    let next = world.call("anonymous", "4008");
    assert_eq!(world.offered_to(next), None);
}

#[test]
fn a_pause_in_a_call_takes_effect_after_wrap_up() {
    let mut world = World::at_work(&["bob"]);
    let call = world.call("anonymous", "4008");
    world.agent_answers(call);
    let reason = "lunch".to_string();
    world.act(Action::Pause {
        agent: agent("bob"),
        reason,
    });
    assert_eq!(world.agent("bob"), AgentState::Talking);
    world.leaves(call);
    world.advance(10_000);
    assert_eq!(world.agent("bob"), AgentState::Paused);
}

#[test]
fn the_state_shown_follows_hold() {
    let mut world = World::at_work(&["bob"]);
    let call = world.call("anonymous", "4008");
    world.agent_answers(call);
    let far = world.far_leg(call);
    world.observe(call, vec![held(far, true)]);
    assert_eq!(world.agent("bob"), AgentState::Held);
    world.observe(call, vec![held(far, false)]);
    assert_eq!(world.agent("bob"), AgentState::Talking);
    let shown: Vec<String> = world
        .events()
        .into_iter()
        .filter(|event| event.kind == "agent.state" && event.entity == "bob")
        .filter_map(|event| match event.fields.first() {
            Some((_, strowger_core::state::event::Value::Text(word))) => Some(word.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(shown, ["ready", "offered", "talking", "held", "talking"]);
}

#[test]
fn an_agent_without_a_phone_is_offered_nothing_until_it_is_back() {
    let mut world = World::at_work(&["bob"]);
    world.register("1002", "desk", 0);
    assert_eq!(world.agent("bob"), AgentState::NoPhone);
    let call = world.call("anonymous", "4008");
    assert_eq!(world.offered_to(call), None);
    world.register("1002", "desk", 60);
    world.run();
    assert_eq!(world.offered_to(call).as_deref(), Some("bob"));
}

#[test]
fn a_call_of_his_own_keeps_an_agent_busy() {
    let mut world = World::at_work(&["bob"]);
    let own = world.call("1001", "1002");
    let far = world.far_leg(own);
    world.answers(own, far);
    assert_eq!(world.agent("bob"), AgentState::Talking);
    let waiting = world.call("anonymous", "4008");
    assert_eq!(world.offered_to(waiting), None);
    world.leaves(own);
    world.run();
    assert_eq!(world.offered_to(waiting).as_deref(), Some("bob"));
}

#[test]
fn all_phones_of_an_agent_ring_and_one_answer_wins() {
    let mut world = World::at_work(&["bob"]);
    world.register("1002", "mobile", 60);
    let call = world.call("anonymous", "4008");
    assert_eq!(world.row(call).legs.len(), 3);
    let desk = world.leg_at(call, "sip:1002@desk");
    world.ends(call, desk, Cause::BUSY);
    assert_eq!(
        world.offered_to(call).as_deref(),
        Some("bob"),
        "the other rings on"
    );
    let mobile = world.leg_at(call, "sip:1002@mobile");
    world.answers(call, mobile);
    assert_eq!(world.word(call), "bridged");
    assert_eq!(
        world.state(|state| state.agents[&agent_key("bob")].calls),
        1
    );
}

#[test]
fn an_agent_at_a_fixed_device_is_rung_there_and_elsewhere_when_he_moves() {
    let mut world = World::at_work(&["eve"]);
    let call = world.call("anonymous", "4008");
    world.leg_at(call, "sip:eve@127.0.0.91");
    world.leaves(call);
    let extension = Some("1005".into());
    world.act(Action::SignIn {
        agent: agent("eve"),
        extension,
    });
    let call = world.call("anonymous", "4008");
    world.leg_at(call, "sip:eve@127.0.0.91");
    world.leaves(call);
    world.register("1005", "desk", 60);
    let call = world.call("anonymous", "4008");
    world.leg_at(call, "sip:1005@desk");
}

#[test]
fn two_agents_cannot_sit_at_one_phone() {
    let mut world = World::at_work(&["bob"]);
    let at = |extension: &str| Action::SignIn {
        agent: agent("amy"),
        extension: Some(extension.into()),
    };
    let taken = world.act(at("1002"));
    assert!(matches!(refusal(&taken), Refusal::Conflict(_)));
    let unknown = world.act(at("9999"));
    assert!(matches!(refusal(&unknown), Refusal::NotFound(_)));
    world.act(Action::SignOut {
        agent: agent("bob"),
    });
    assert_eq!(world.act(at("1002")), Reply::Done);
    let home = world.sign_in("bob");
    assert!(
        matches!(refusal(&home), Refusal::Conflict(_)),
        "his seat is taken"
    );
}

#[test]
fn what_makes_no_sense_is_refused() {
    let mut world = World::new();
    let reply = world.sign_in("nobody");
    assert!(matches!(refusal(&reply), Refusal::NotFound(_)));
    let reply = world.act(Action::Ready {
        agent: agent("bob"),
    });
    assert!(matches!(refusal(&reply), Refusal::Conflict(_)));
    let reason = String::new();
    let reply = world.act(Action::Pause {
        agent: agent("bob"),
        reason,
    });
    assert!(matches!(refusal(&reply), Refusal::Conflict(_)));
}

#[test]
fn one_agent_of_two_queues_takes_whoever_came_first() {
    let mut world = World::at_work(&[]);
    let sales = world.call("1002", "4009");
    world.advance(5);
    let support = world.call("anonymous", "4008");
    world.sign_in("amy");
    world.run();
    assert_eq!(world.offered_to(sales).as_deref(), Some("amy"));
    assert_eq!(world.offered_to(support), None);
}

#[test]
fn a_caller_nobody_ever_takes_waits_on_and_his_row_keeps_its_bound() {
    let mut world = World::at_work(&[]);
    world
        .phones
        .insert("sip:1004@desk".into(), Phone::Refuses(486));
    world.sign_in("dan");
    let call = world.call("1002", "4009");
    let caller = world.caller_leg(call);
    for _ in 0..limits::LEGS_PER_CALL + 20 {
        world.register("1004", "desk", 3_600);
        world.advance(limits::MISSED_SKIP_MS);
    }
    assert_eq!(world.row(call).legs.len(), limits::LEGS_PER_CALL);
    assert_eq!(world.row(call).legs[0].id, caller);
    world.phones.insert("sip:1004@desk".into(), Phone::Answers);
    world.advance(limits::MISSED_SKIP_MS);
    assert_eq!(world.word(call), "bridged");
}

#[test]
fn an_outcome_is_told_to_whoever_asked_under_an_id() {
    let mut world = World::at_work(&["bob"]);
    let (tenant, action) = (
        crate::harness::tenant(),
        Action::Ready {
            agent: agent("cat"),
        },
    );
    let id = "cmd-1".to_string();
    world.propose(Command::Act { id, tenant, action });
    let last = world.events().pop().expect("an event");
    assert_eq!(
        (last.kind.as_str(), last.entity.as_str()),
        ("command.outcome", "cmd-1")
    );
}

#[test]
fn the_board_and_the_rows_agree_about_who_waits() {
    let mut world = World::at_work(&["bob"]);
    let calls: Vec<_> = (0..3).map(|_| world.call("anonymous", "4008")).collect();
    world.agent_answers(calls[0]);
    world.state(|state| {
        let waiting: Vec<_> = state
            .waiting(&queue_key("support"))
            .map(|call| call.id)
            .collect();
        assert_eq!(waiting, calls[1..]);
        let bob = &state.agents[&agent_key("bob")];
        assert_eq!(bob.activity, Activity::Talking(calls[0]));
    });
}

#[test]
fn one_phone_of_an_agent_may_refuse_for_all_of_them() {
    let mut world = World::at_work(&["amy", "bob"]);
    world.register("1001", "mobile", 3_600);
    let call = world.call("anonymous", "4008");
    assert_eq!(world.offered_to(call).as_deref(), Some("amy"));
    let desk = world.leg_at(call, "sip:1001@desk");
    world.ends(call, desk, Cause::from_status(603));
    assert_eq!(world.offered_to(call).as_deref(), Some("bob"));
    assert_eq!(
        world.agent("amy"),
        AgentState::Ready,
        "her mobile is quiet too"
    );
}
