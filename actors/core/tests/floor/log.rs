//! The log: repeated requests, restarts, determinism and the golden hash.

use strowger_core::call::{Cause, Stage};
use strowger_core::ids::{CallId, NodeId};
use strowger_core::limits;
use strowger_core::ports::{Machine, Meta, Proposal, RequestId, RowsRead, Table};
use strowger_core::state::command::{Action, Command, Late, Refusal, Reply};
use strowger_core::state::event::event_position;
use strowger_core::state::machine::{decode_command, encode_command};
use strowger_core::state::{FEATURE_LEVEL, FEATURE_LEVEL_FIRST, Wake};

use crate::harness::{Phone, World, caller, tenant};
use crate::rows::Copy;

fn request(node: u64, incarnation: u64, sequence: u64) -> RequestId {
    RequestId {
        node,
        incarnation,
        sequence,
    }
}

fn proposal(request: RequestId, command: &Command) -> Proposal {
    Proposal {
        request,
        command: encode_command(command),
    }
}

/// A call into the queue, as the node with the first address would propose it.
fn arrival(world: &World) -> Command {
    let at = crate::harness::address(1);
    let row = world.state(|state| state.addresses[&at].clone());
    Command::CallArrived(strowger_core::state::command::CallArrived {
        tenant: tenant(),
        address: at,
        node: row.holder.unwrap_or(NodeId(0)),
        epoch: row.epoch,
        from: caller("anonymous"),
        to: "4008".to_string(),
        sip_call_id: "x".to_string(),
        remote: None,
        called: None,
        checkpoint: Some(b"invite".to_vec()),
    })
}

#[test]
fn a_repeated_request_is_answered_and_not_repeated() {
    let mut world = World::new();
    let once = proposal(request(2, 1, 1), &arrival(&world));
    let first = world.commit(vec![once.clone()]);
    let again = world.commit(vec![once.clone(), once.clone()]);
    assert_eq!(again, [first[0].clone(), first[0].clone()]);
    assert_eq!(world.figure("support").entered, 1);
    world.copy = Copy::restored(&world.copy.rows);
    assert_eq!(world.commit(vec![once]), first, "nor after a restart");
    assert_eq!(world.figure("support").entered, 1);
}

#[test]
fn a_request_out_of_the_window_is_refused() {
    let mut world = World::new();
    let ask = |sequence: u64| proposal(request(2, 1, sequence), &Command::Tick);
    let last = u64::try_from(limits::REPLIES_PER_PROPOSER).unwrap_or(0) + 1;
    for sequence in 1..=last {
        assert_eq!(world.commit(vec![ask(sequence)]), [Reply::Done]);
    }
    let forgotten = Reply::Refused(Refusal::Forgotten);
    assert_eq!(world.commit(vec![ask(1)]), std::slice::from_ref(&forgotten));
    assert_eq!(world.commit(vec![ask(2)]), [Reply::Done]);
    let kept = world
        .copy
        .rows
        .scan(Table::Reply, &2u64.to_be_bytes(), None, usize::MAX);
    assert_eq!(kept.len(), limits::REPLIES_PER_PROPOSER);
    world.copy = Copy::restored(&world.copy.rows);
    assert_eq!(world.commit(vec![ask(1)]), [forgotten]);
}

#[test]
fn a_new_life_of_a_proposer_starts_a_new_window() {
    let mut world = World::new();
    let ask = |incarnation: u64| proposal(request(2, incarnation, 1), &Command::Tick);
    world.commit(vec![ask(1)]);
    assert_eq!(world.commit(vec![ask(2)]), [Reply::Done]);
    let stale = Reply::Refused(Refusal::Stale);
    assert_eq!(world.commit(vec![ask(1)]), std::slice::from_ref(&stale));
    let kept = world
        .copy
        .rows
        .scan(Table::Reply, &2u64.to_be_bytes(), None, usize::MAX);
    assert_eq!(kept.len(), 1, "replies of the older life are gone");
    world.copy = Copy::restored(&world.copy.rows);
    assert_eq!(world.commit(vec![ask(1)]), [stale]);
}

#[test]
fn bytes_that_are_no_command_are_refused_and_answered_again() {
    let mut world = World::new();
    let mut cut = encode_command(&Command::NodeDown {
        node: NodeId(1),
        incarnation: 1,
    });
    cut.pop();
    for command in [Vec::new(), vec![9], vec![1], vec![1, 200], cut] {
        assert!(decode_command(&command).is_none());
        let request = request(3, 1, u64::try_from(command.len()).unwrap_or(0) + 10);
        let bad = Proposal { request, command };
        let replies = world.commit(vec![bad]);
        assert_eq!(replies, [Reply::Refused(Refusal::Unreadable)]);
    }
}

#[test]
fn log_time_never_steps_back() {
    let mut world = World::new();
    let before = world.state(|state| state.meta.now);
    world.now -= 60_000;
    world.propose(Command::Tick);
    assert_eq!(world.state(|state| state.meta.now), before);
    world.now += 61_000;
    world.propose(Command::Tick);
    assert_eq!(world.state(|state| state.meta.now.since(before)), 1_000);
}

#[test]
fn wake_ups_wait_until_the_rows_can_be_read() {
    let mut world = World::new();
    world.copy.wakes.take();
    let command = proposal(request(2, 1, 1), &arrival(&world));
    let meta = Meta {
        index: world.index + 1,
        stamp_ms: world.now,
    };
    let copy = &mut world.copy;
    copy.apply_unpublished(meta, &[command]);
    assert_eq!(copy.wakes.take(), []);
    copy.machine.published(meta.index);
    let wakes = copy.wakes.take();
    assert!(wakes.iter().any(|wake| matches!(wake, Wake::Call(_))));
    assert!(wakes.contains(&Wake::Events));
    copy.machine.restore(&copy.rows);
    assert_eq!(copy.wakes.take(), [Wake::All]);
}

/// A caller hangs up while nothing can be committed.
fn told_late(world: &mut World) {
    let talk = world.call("1004", "1003");
    assert!(matches!(world.row(talk).stage, Stage::Bridged { .. }));
    world.advance(20_000);
    let (leg, epoch) = (world.caller_leg(talk), world.row(talk).epoch);
    let late = Late {
        age_ms: 7_000,
        observation: crate::harness::ended(leg, Cause::NORMAL),
    };
    world.propose(Command::CallObservedLate {
        call: talk,
        epoch,
        observations: vec![late],
    });
    world.run();
}

/// A short day: calls between phones, a queue, a node that dies, an expiry.
pub fn short_day() -> World {
    let mut world = World::at_work(&["amy", "bob", "eve"]);
    world.propose(Command::Raise {
        level: FEATURE_LEVEL,
    });
    world.phones.insert("sip:1003@desk".into(), Phone::Answers);
    world
        .phones
        .insert("sip:1004@desk".into(), Phone::Refuses(486));
    let talk = world.call("1004", "1003");
    let mut queued: Vec<CallId> = Vec::new();
    for at in 1..=6 {
        if let Reply::Call { call, .. } = world.invite_at(at, "anonymous", "4008") {
            queued.push(call);
        }
    }
    world.run();
    world.agent_answers(queued[0]);
    world.advance(16_000);
    world.invite_at(2, "1003", "1004");
    world.invite_at(2, "1003", "1234");
    world.run();
    world.leaves(queued[4]);
    world.act(Action::Hangup { call: talk });
    world.run();
    world.call("1002", "*13");
    world.node_down(2, 1);
    world.run();
    world.advance(45_000);
    world.node_up(2, 2);
    told_late(&mut world);
    let base = 1;
    world.apply_site(crate::harness::site(), base);
    world.advance(3_600_000);
    world
}

#[test]
fn the_same_log_gives_the_same_rows_on_every_node() {
    let world = short_day();
    let mut other = Copy::new();
    for (meta, batch) in &world.log {
        other.apply(*meta, batch);
    }
    assert_eq!(other.machine.state_hash(), world.copy.machine.state_hash());
    assert_eq!(other.words(), world.copy.words());
    assert!(other.rows == world.copy.rows);
}

#[test]
fn a_restart_anywhere_in_the_log_changes_nothing() {
    let world = short_day();
    let mut going_on = Copy::new();
    for (meta, batch) in &world.log {
        let expected = going_on.apply(*meta, batch);
        let restarted = Copy::restored(&going_on.rows);
        assert_eq!(restarted.words(), going_on.words(), "after {}", meta.index);
        // From here on the restarted copy carries the log.
        going_on = restarted;
        let _ = expected;
    }
    assert_eq!(
        going_on.machine.state_hash(),
        world.copy.machine.state_hash()
    );
}

#[test]
fn events_carry_their_position_and_nothing_is_between_them() {
    let world = short_day();
    let rows = world.copy.rows.scan(Table::Event, &[], None, usize::MAX);
    let positions: Vec<_> = rows
        .iter()
        .filter_map(|(key, _)| event_position(key))
        .collect();
    assert_eq!(positions.len(), rows.len());
    for pair in positions.windows(2) {
        let next_in_entry = pair[1] == (pair[0].0, pair[0].1 + 1);
        let next_entry = pair[1].0 > pair[0].0 && pair[1].1 == 0;
        assert!(next_in_entry || next_entry, "{pair:?}");
    }
}

#[test]
fn old_events_go_and_a_busy_hour_does_not_hold_them() {
    let mut world = World::new();
    let pause = |world: &mut World| {
        world.sign_in("eve");
        let agent = "eve".into();
        world.act(Action::SignOut { agent });
    };
    // Two events each round, more than one removal takes away.
    let rounds = limits::EVENTS_PRUNED_PER_TICK / 2 + 50;
    for _ in 0..rounds {
        pause(&mut world);
    }
    assert!(world.events().len() > limits::EVENTS_PRUNED_PER_TICK);
    world.advance(limits::EVENTS_KEPT_MS - 120_000);
    assert!(world.events().len() > limits::EVENTS_PRUNED_PER_TICK);
    world.advance(190_000);
    assert!(world.events().is_empty(), "{} left", world.events().len());
    let due = world.state(|state| state.next_deadline());
    assert!(due.is_some(), "and looks again");
}

/// `apply` may not change its results within a feature level: a log recorded at each, in the
/// bytes of its day, has to end at the hash it ended at. When this fails, either put
/// the change behind the next feature level, or, before the first release, record
/// anew: `STROWGER_RECORD=1 cargo test -p strowger-core --test floor golden`.
#[test]
fn the_golden_logs_end_at_their_golden_hashes() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/floor");
    let file = |level: u32| folder.join(format!("golden-{level}.log"));
    if std::env::var_os("STROWGER_RECORD").is_some() {
        let text = record(&short_day());
        std::fs::write(file(FEATURE_LEVEL), text).expect("the folder is writable");
    }
    for level in FEATURE_LEVEL_FIRST..=FEATURE_LEVEL {
        let text = std::fs::read_to_string(file(level)).expect("it is part of the sources");
        let (copy, golden) = replay(&text);
        assert_eq!(copy.state.read().meta.feature_level, level);
        assert_eq!(Some(hex(&copy.machine.state_hash())), golden, "{level}");
    }
}

/// A copy that has applied a recorded log, and the hash written at its end.
fn replay(text: &str) -> (Copy, Option<String>) {
    let mut copy = Copy::new();
    let mut golden = None;
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        match words.as_slice() {
            ["entry", index, stamp, rest @ ..] => {
                let meta = Meta {
                    index: index.parse().expect("a number"),
                    stamp_ms: stamp.parse().expect("a number"),
                };
                let batch: Vec<Proposal> = rest.chunks(2).map(read_proposal).collect();
                copy.apply(meta, &batch);
            }
            ["hash", hash] => golden = Some((*hash).to_string()),
            other => panic!("not a line of a recorded log: {other:?}"),
        }
    }
    (copy, golden)
}

fn record(world: &World) -> String {
    let mut text = String::new();
    for (meta, batch) in &world.log {
        text += &format!("entry {} {}", meta.index, meta.stamp_ms);
        for one in batch {
            let RequestId {
                node,
                incarnation,
                sequence,
            } = one.request;
            text += &format!(" {node}/{incarnation}/{sequence} {}", hex(&one.command));
        }
        text.push('\n');
    }
    text + &format!("hash {}\n", hex(&world.copy.machine.state_hash()))
}

fn read_proposal(pair: &[&str]) -> Proposal {
    let numbers: Vec<u64> = pair[0]
        .split('/')
        .map(|part| part.parse().expect("a number"))
        .collect();
    let digits = pair[1].as_bytes().chunks(2);
    let command = digits.map(|two| {
        let two = std::str::from_utf8(two).expect("hexadecimal digits");
        u8::from_str_radix(two, 16).expect("hexadecimal digits")
    });
    Proposal {
        request: request(numbers[0], numbers[1], numbers[2]),
        command: command.collect(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
