//! Calling again soon: who takes up which place.

use strowger_core::call::Disposition;
use strowger_core::ids::{CallId, QueueName};
use strowger_core::state::State;

use crate::harness::World;
use crate::rows::Copy;
use crate::site::{queue_key, site};

fn place(world: &World, call: CallId) -> Option<u64> {
    world.state(|state| state.position(&state.calls[&call]))
}

fn kept(world: &World) -> usize {
    world.state(|state| state.places.len())
}

/// The callers of a queue in the order they will be served.
fn line(world: &World, queue: &str) -> Vec<String> {
    world.state(|state| {
        let key = queue_key(queue);
        let waiting = state.waiting(&key);
        waiting.map(|call| call.from.number.clone()).collect()
    })
}

#[test]
fn calling_again_in_time_takes_up_the_place_and_the_turn() {
    let mut world = World::new();
    let first = world.call("1005", "4008");
    world.advance(20_000);
    let second = world.call("1006", "4008");
    world.advance(1_000);
    world.leaves(first);
    assert_eq!(line(&world, "support"), ["1006"]);
    world.advance(59_999);
    let again = world.call("1005", "4008");
    assert_eq!(
        (place(&world, again), place(&world, second)),
        (Some(1), Some(2))
    );
    assert_eq!(kept(&world), 0, "a place is taken up once");
    let resumed = world.events();
    let resumed = resumed
        .iter()
        .find(|event| event.kind == "call.place_resumed");
    assert_eq!(
        resumed.map(|event| &*event.entity),
        Some(&*again.to_string())
    );
    world.register("1002", "bob", 36_000);
    world.sign_in("bob");
    assert_eq!(world.offered_to(again).as_deref(), Some("bob"));
    world.agent_answers(again);
    // Figures and records know two calls, each with its own wait.
    world.advance(5_000);
    world.leaves(again);
    let (left, served) = (world.cdr(first), world.cdr(again));
    assert_eq!(
        (left.disposition, left.wait_ms()),
        (Disposition::Abandoned, Some(21_000))
    );
    assert_eq!(
        (served.disposition, served.wait_ms()),
        (Disposition::Answered, Some(0))
    );
    let figure = world.figure("support");
    assert_eq!(
        (figure.entered, figure.abandoned, figure.answered),
        (3, 1, 1)
    );
}

#[test]
fn who_is_late_calls_elsewhere_or_shows_no_number_is_last() {
    for (from, to, pause_ms, expected) in [
        ("1005", "4008", 60_000, 2),
        ("1007", "4008", 1_000, 2),
        ("1005", "4009", 1_000, 2),
        ("1005", "4008", 59_000, 1),
    ] {
        let mut world = World::new();
        let first = world.call("1005", "4008");
        world.call("1006", "4008");
        world.call("1006", "4009");
        world.leaves(first);
        world.advance(pause_ms);
        let again = world.call(from, to);
        let found = place(&world, again);
        assert_eq!(found, Some(expected), "{from} to {to} after {pause_ms} ms");
    }
    let mut world = World::new();
    let first = world.call("anonymous", "4008");
    world.call("1006", "4008");
    world.leaves(first);
    assert_eq!(kept(&world), 0, "anonymous callers look all alike");
    let again = world.call("anonymous", "4008");
    assert_eq!(place(&world, again), Some(2));
}

#[test]
fn numbers_over_a_trunk_count_with_their_country_code() {
    let mut world = World::new();
    let first = world.call("+861062345678", "4008");
    world.call("1006", "4008");
    world.leaves(first);
    let again = world.call("+861062345678", "4008");
    assert_eq!(place(&world, again), Some(1));
}

#[test]
fn a_place_is_for_one_call_and_of_two_the_better_is_kept() {
    let mut world = World::new();
    let first = world.call("1005", "4008");
    world.call("1006", "4008");
    let third = world.call("1005", "4008");
    world.leaves(first);
    world.advance(1_000);
    world.leaves(third);
    assert_eq!(kept(&world), 1);
    let again = world.call("1005", "4008");
    let once_more = world.call("1005", "4008");
    assert_eq!(
        (place(&world, again), place(&world, once_more)),
        (Some(1), Some(3))
    );
    // Leaving again keeps the same place again.
    world.leaves(again);
    let back = world.call("1005", "4008");
    assert_eq!(place(&world, back), Some(1));
}

#[test]
fn who_was_answered_or_left_by_rule_starts_anew() {
    let mut world = World::at_work(&["amy"]);
    let call = world.call("1005", "4008");
    world.agent_answers(call);
    world.leaves(call);
    assert_eq!(kept(&world), 0);
    let mut world = World::new();
    let call = world.call("1005", "4008");
    let mut without = site();
    without.queues.remove(&QueueName::from("support"));
    without.numbers.remove("4008");
    for agent in without.agents.values_mut() {
        agent.queues.remove(&QueueName::from("support"));
    }
    world.apply_site(without, 1);
    world.run();
    assert_eq!(world.word(call), "over");
    assert_eq!(kept(&world), 0, "no queue, no place");
}

#[test]
fn a_queue_may_do_without() {
    let mut without = site();
    for spec in without.queues.values_mut() {
        spec.comfort.redial_ms = 0;
    }
    let mut world = World::with_site(without);
    let first = world.call("1005", "4008");
    world.call("1006", "4008");
    world.leaves(first);
    assert_eq!(kept(&world), 0);
    let again = world.call("1005", "4008");
    assert_eq!(place(&world, again), Some(2));
}

#[test]
fn a_call_lost_with_its_node_and_a_restart_cost_no_place() {
    let mut world = World::new();
    let first = world.call("1005", "4008");
    let owner = world.row(first).owner;
    let survivor = (1..=6)
        .find(|at| world.state(|state| state.holder(crate::site::address(*at)) != Some(owner)));
    let survivor = survivor.expect("three nodes share the addresses");
    world.invite_at(survivor, "1006", "4008");
    // Nobody else can have the address, and calls are not to go to others.
    let others: Vec<u64> = (1..=3).filter(|node| *node != owner.0).collect();
    let address = world.row(first).address;
    world.bar(address, &others);
    world.node_down(owner.0, 1);
    world.reconcile();
    assert_eq!(world.cdr(first).disposition, Disposition::NodeLost);
    assert_eq!(line(&world, "support"), ["1006"]);
    // What the rows say is all that is needed.
    let restarted = Copy::restored(&world.copy.rows);
    let places = world.state(|state| state.places.clone());
    assert_eq!(restarted.state.read().places, places);
    assert_eq!(restarted.state.read().check(), Vec::<String>::new());
    assert_eq!(world.state(State::check), Vec::<String>::new());
    let again = world.invite_at(survivor, "1005", "4008");
    assert!(matches!(
        again,
        strowger_core::state::command::Reply::Call { .. }
    ));
    assert_eq!(line(&world, "support"), ["1005", "1006"]);
}
