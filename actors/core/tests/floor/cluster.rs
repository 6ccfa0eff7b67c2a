//! Nodes, service addresses and sites.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use strowger_core::call::Disposition;
use strowger_core::floor::agent::AgentState;
use strowger_core::ids::{AgentId, CallId, Extension, LegId, NodeId};
use strowger_core::ports::{RowsRead, Table};
use strowger_core::site::TakeoverMode;
use strowger_core::state::command::{Action, Command, Refusal, Reply, SiteApply};
use strowger_core::state::store::secret_key;
use strowger_core::state::{FEATURE_LEVEL, State, Wake};

use crate::harness::{World, address, agent_key, agent_spec, refusal, site, tenant};
use crate::rows::Copy;

fn held(world: &World) -> BTreeMap<u64, usize> {
    let mut held = BTreeMap::new();
    world.state(|state| {
        for row in state.addresses.values() {
            *held.entry(row.holder.unwrap_or_default().0).or_default() += 1;
        }
    });
    held
}

fn epochs(world: &World) -> BTreeMap<IpAddr, (Option<NodeId>, u32)> {
    world.state(|state| {
        let rows = state.addresses.values();
        rows.map(|row| (row.address, (row.holder, row.epoch)))
            .collect()
    })
}

/// An address of each node.
fn address_of(world: &World, node: u64) -> u8 {
    let found =
        (1..=6).find(|n| world.state(|state| state.holder(address(*n))) == Some(NodeId(node)));
    found.expect("each node holds addresses")
}

#[test]
fn addresses_are_spread_and_survivors_take_those_of_a_dead_node() {
    let mut world = World::new();
    assert_eq!(held(&world), BTreeMap::from([(1, 2), (2, 2), (3, 2)]));
    let before = epochs(&world);
    assert_eq!(world.node_down(2, 1), Reply::Done);
    assert_eq!(held(&world), BTreeMap::from([(1, 3), (3, 3)]));
    for (address, (holder, epoch)) in epochs(&world) {
        let (held_by, at) = before[&address];
        let moved = held_by != holder;
        assert_eq!(
            epoch,
            at + u32::from(moved),
            "the epoch rises with the holder"
        );
    }
    assert!(world.copy.wakes.take().contains(&Wake::Cluster));
    assert_eq!(world.node_down(2, 1), Reply::Done, "told twice");
}

#[test]
fn a_node_that_comes_back_carries_its_share_again() {
    let mut world = World::new();
    world.node_down(2, 1);
    world.node_up(2, 2);
    assert_eq!(held(&world), BTreeMap::from([(1, 2), (2, 2), (3, 2)]));
}

#[test]
fn addresses_with_calls_stay_until_these_have_ended() {
    let mut world = World::new();
    world.register("1001", "desk", 3_600);
    world.register("1002", "desk", 3_600);
    world.node_down(2, 1);
    for at in 1..=6 {
        world.invite_at(at, "1001", "1002");
    }
    world.run();
    world.node_up(2, 2);
    assert_eq!(held(&world), BTreeMap::from([(1, 3), (3, 3)]));
    for call in world.arrived.clone() {
        world.leaves(call);
    }
    assert_eq!(held(&world), BTreeMap::from([(1, 2), (2, 2), (3, 2)]));
}

/// Three calls of a node, of which amy talks with the first, and one of another node.
fn busy() -> (World, Vec<CallId>, CallId) {
    let mut world = World::at_work(&["amy", "bob", "cat"]);
    let dying = address_of(&world, 2);
    let living = address_of(&world, 3);
    let mut calls = Vec::new();
    for _ in 0..3 {
        let Reply::Call { call, .. } = world.invite_at(dying, "anonymous", "4008") else {
            panic!("not admitted");
        };
        calls.push(call);
    }
    let Reply::Call { call: other, .. } = world.invite_at(living, "anonymous", "4008") else {
        panic!("not admitted");
    };
    world.run();
    world.agent_answers(calls[0]);
    assert_eq!(world.agent("amy"), AgentState::Talking);
    world.advance(2_000);
    (world, calls, other)
}

#[test]
fn calls_of_a_dead_node_go_on_at_the_new_holders_of_their_addresses() {
    let (mut world, calls, other) = busy();
    let rang: Vec<LegId> = calls[1..].iter().map(|call| world.far_leg(*call)).collect();
    let agents = world.offered_to(calls[1]);
    let missed = |world: &World| {
        world.state(|state| state.agents.values().map(|row| row.missed).sum::<u32>())
    };
    assert_eq!(missed(&world), 0);
    world.node_down(2, 1);
    for call in &calls {
        let row = world.row(*call);
        let address = world.state(|state| state.addresses[&row.address].clone());
        assert_eq!(
            (Some(row.owner), row.epoch),
            (address.holder, address.epoch)
        );
        assert_ne!(row.owner, NodeId(2));
    }
    assert_eq!(world.agent("amy"), AgentState::Talking, "the talk goes on");
    assert_eq!(world.offered_to(calls[1]), agents, "offered as before");
    for (call, leg) in calls[1..].iter().zip(rang) {
        let left = world.state(|state| state.leftovers.get(&leg).cloned());
        assert_eq!(
            left.map(|row| row.call),
            Some(*call),
            "what rang is cancelled"
        );
        assert_ne!(world.far_leg(*call), leg, "and rung anew");
    }
    assert_eq!(missed(&world), 0, "nobody missed anything");
    assert!(world.is_live(other));
    world.run();
    assert_eq!(world.state(State::check), Vec::<String>::new());
    let restarted = Copy::restored(&world.copy.rows);
    assert_eq!(restarted.words(), world.copy.words());

    world.advance(3_000);
    world.leaves(calls[0]);
    let cdr = world.cdr(calls[0]);
    assert_eq!(cdr.disposition, Disposition::Answered);
    assert_eq!(cdr.talk_ms, 5_000, "the whole talk is in one record");
    assert_ne!(cdr.node, NodeId(2));
    world.agent_answers(calls[1]);
    world.leaves(calls[1]);
    world.leaves(calls[2]);
    assert_eq!(world.cdr(calls[1]).disposition, Disposition::Answered);
    assert_eq!(world.cdr(calls[2]).disposition, Disposition::Abandoned);
    let figure = world.figure("support");
    assert_eq!((figure.entered, figure.answered), (4, 2));
    assert_eq!((figure.abandoned, figure.node_lost), (1, 0));
}

#[test]
fn a_caller_who_hears_an_extension_ring_goes_on_hearing_it() {
    let mut world = World::new();
    world.register("1001", "desk", 3_600);
    world.register("1002", "desk", 3_600);
    let at = address_of(&world, 2);
    let Reply::Call { call, .. } = world.invite_at(at, "1001", "1002") else {
        panic!("not admitted");
    };
    world.run();
    let rang = world.far_leg(call);
    world.node_down(2, 1);
    world.run();
    let again = world.far_leg(call);
    assert_ne!(again, rang);
    assert_eq!(world.state(|state| state.leftovers.len()), 1);
    world.answers(call, again);
    world.leaves(call);
    assert_eq!(world.cdr(call).disposition, Disposition::Answered);
}

#[test]
fn only_a_caller_whose_invite_was_kept_can_be_answered_by_another_node() {
    let mut world = World::new();
    let at = address_of(&world, 2);
    let Reply::Call { call, .. } = world.invite_at(at, "anonymous", "4008") else {
        panic!("not admitted");
    };
    // Never answered, and too long to be kept: nobody can answer this caller.
    world.keeps_invites = false;
    let Reply::Call { call: lost, .. } = world.invite_at(at, "anonymous", "4008") else {
        panic!("not admitted");
    };
    world.node_down(2, 1);
    assert_eq!(world.cdr(lost).disposition, Disposition::NodeLost);
    assert!(world.is_live(call), "this one can be answered");
    world.run();
    assert_eq!(world.state(State::check), Vec::<String>::new());
}

#[test]
fn a_drained_node_gives_its_calls_away() {
    let (mut world, calls, other) = busy();
    let reply = world.act(Action::Drain {
        node: NodeId(2),
        on: true,
    });
    assert_eq!(reply, Reply::Done);
    assert!(!held(&world).contains_key(&2), "{:?}", held(&world));
    for call in calls.iter().chain([&other]) {
        assert_ne!(world.row(*call).owner, NodeId(2));
    }
    assert_eq!(world.agent("amy"), AgentState::Talking);
    assert!(world.cdrs().is_empty());
    assert_eq!(world.state(State::check), Vec::<String>::new());
}

/// Puts the site in force with calls that leave their addresses.
fn calls_leave_addresses(world: &mut World) {
    let mut site = site();
    site.takeover = TakeoverMode::Reinvite;
    site.agents = world.state(|state| state.site(&tenant()).expect("in force").agents.clone());
    let base = world.state(|state| state.sites[&tenant()].version);
    world.apply_site(site, base);
}

/// Every address is found to be of one machine only, that of its present holder.
fn each_its_own(world: &mut World) {
    for (address, (holder, _)) in epochs(world) {
        let holder = holder.expect("held");
        let others: Vec<u64> = (1..=3).filter(|node| *node != holder.0).collect();
        world.bar(address, &others);
        assert_eq!(world.state(|state| state.holder(address)), Some(holder));
    }
}

#[test]
fn where_addresses_do_not_move_a_drained_node_is_a_better_heir_than_nobody() {
    let (mut world, calls, other) = busy();
    world.propose(Command::Raise {
        level: FEATURE_LEVEL,
    });
    calls_leave_addresses(&mut world);
    each_its_own(&mut world);
    for node in [1, 3] {
        let node = NodeId(node);
        assert_eq!(world.act(Action::Drain { node, on: true }), Reply::Done);
    }
    let before: Vec<bool> = calls.iter().map(|call| world.is_live(*call)).collect();
    world.node_down(2, 1);
    let after: Vec<bool> = calls.iter().map(|call| world.is_live(*call)).collect();
    assert_eq!(before, after, "no call ends with its node");
    for call in calls.iter().filter(|call| world.is_live(**call)) {
        assert_ne!(world.row(*call).owner, NodeId(2));
    }
    assert!(world.is_live(other));
    assert_eq!(world.state(State::check), Vec::<String>::new());
}

#[test]
fn where_addresses_do_not_move_calls_go_to_those_of_the_survivors() {
    let (mut world, calls, other) = busy();
    calls_leave_addresses(&mut world);
    each_its_own(&mut world);
    let home = world.row(calls[0]).address;
    let before = world.row(calls[0]).epoch;
    let rang: Vec<LegId> = calls[1..].iter().map(|call| world.far_leg(*call)).collect();
    world.node_down(2, 1);
    assert_eq!(
        world.state(|state| state.holder(home)),
        None,
        "nobody can have it"
    );
    for call in &calls {
        let row = world.row(*call);
        let address = world.state(|state| state.addresses[&row.address].clone());
        assert_ne!(row.address, home);
        assert_eq!(Some(row.owner), address.holder);
        assert_eq!(row.address_epoch, address.epoch);
        assert!(row.epoch > before, "what its old owner says is out of date");
    }
    let homes: BTreeSet<IpAddr> = calls.iter().map(|call| world.row(*call).address).collect();
    assert!(
        homes.len() > 1,
        "spread over what the survivors hold: {homes:?}"
    );
    assert_eq!(world.agent("amy"), AgentState::Talking, "the talk goes on");
    for (call, leg) in calls[1..].iter().zip(rang) {
        let row = world.row(*call);
        let (left, teller) = world.state(|state| {
            let left = state.leftovers.get(&leg).cloned().expect("it rang");
            let teller = state.teller(&left);
            (left, teller)
        });
        assert_eq!(left.address, home, "its INVITE named this address");
        assert_eq!(
            teller,
            Some((row.owner, row.address)),
            "told before it is rung anew"
        );
        assert_ne!(world.far_leg(*call), leg, "and rung anew");
    }
    assert!(world.is_live(other));
    world.run();
    assert_eq!(world.state(State::check), Vec::<String>::new());
    let restarted = Copy::restored(&world.copy.rows);
    assert_eq!(restarted.words(), world.copy.words());
    let stale = Command::CallObserved {
        call: calls[0],
        epoch: before,
        observations: vec![crate::harness::held(world.far_leg(calls[0]), true)],
    };
    world.propose(stale);
    let far = world.far_leg(calls[0]);
    let is_held = world.row(calls[0]).leg(far).map(|leg| leg.held);
    assert_eq!(
        is_held,
        Some(false),
        "its old owner has nothing to say any more"
    );

    // The node comes back: its address is its own again, and the calls stay where they are.
    let owner = world.row(calls[0]).owner;
    world.node_up(2, 2);
    assert_eq!(world.state(|state| state.holder(home)), Some(NodeId(2)));
    assert_eq!(world.row(calls[0]).owner, owner);
    // Another death: it may go back there, under an epoch above all before.
    let epoch = world.row(calls[0]).epoch;
    world.node_down(owner.0, 1);
    assert_ne!(world.row(calls[0]).owner, owner);
    assert!(world.row(calls[0]).epoch > epoch);
    world.run();
    world.leaves(calls[0]);
    assert_eq!(world.cdr(calls[0]).disposition, Disposition::Answered);
    assert_eq!(world.figure("support").node_lost, 0);
    assert_eq!(world.state(State::check), Vec::<String>::new());
}

#[test]
fn calls_move_once_however_many_nodes_are_tried_for_the_address_they_left() {
    let (mut world, calls, other) = busy();
    calls_leave_addresses(&mut world);
    let homes: Vec<IpAddr> = world.state(|state| {
        let of_two = state.addresses.values();
        let of_two = of_two.filter(|row| row.holder == Some(NodeId(2)));
        of_two.map(|row| row.address).collect()
    });
    world.node_down(2, 1);
    let anchors = |world: &World| -> Vec<(IpAddr, u32)> {
        let all = calls.iter().chain([&other]);
        all.map(|call| (world.row(*call).address, world.row(*call).epoch))
            .collect()
    };
    let moved = anchors(&world);
    for home in homes {
        let holder = world
            .state(|state| state.holder(home))
            .expect("it is tried");
        world.bar(home, &[holder.0]);
        let next = world
            .state(|state| state.holder(home))
            .expect("one is left");
        assert_ne!(next, holder);
        world.bar(home, &[next.0]);
        assert_eq!(world.state(|state| state.holder(home)), None);
    }
    assert_eq!(anchors(&world), moved, "nobody is told twice");
}

#[test]
fn a_node_that_starts_again_before_anybody_saw_it_die_goes_on_at_its_own_addresses() {
    let (mut world, calls, _) = busy();
    calls_leave_addresses(&mut world);
    each_its_own(&mut world);
    let home = world.row(calls[0]).address;
    assert_eq!(world.node_up(2, 2), Reply::Done);
    let row = world.row(calls[0]);
    assert_eq!((row.owner, row.address), (NodeId(2), home));
    assert_eq!(world.state(State::check), Vec::<String>::new());
}

#[test]
fn a_drained_node_keeps_the_addresses_that_nobody_else_can_have_without_their_calls() {
    let (mut world, calls, other) = busy();
    calls_leave_addresses(&mut world);
    each_its_own(&mut world);
    let node = NodeId(2);
    assert_eq!(world.act(Action::Drain { node, on: true }), Reply::Done);
    assert_eq!(held(&world), BTreeMap::from([(1, 2), (2, 2), (3, 2)]));
    for call in calls.iter().chain([&other]) {
        assert_ne!(world.row(*call).owner, node);
        assert!(world.is_live(*call));
    }
    assert_eq!(world.agent("amy"), AgentState::Talking);
    // Who still calls there is served elsewhere.
    let at = address_of(&world, 2);
    let Reply::Call { call, .. } = world.invite_at(at, "anonymous", "4008") else {
        panic!("not admitted");
    };
    assert_ne!(world.row(call).owner, node);
    assert!(world.cdrs().is_empty());
    world.run();
    assert_eq!(world.state(State::check), Vec::<String>::new());
}

#[test]
fn an_address_goes_round_until_a_machine_has_it() {
    let mut world = World::new();
    calls_leave_addresses(&mut world);
    let at = address(1);
    let first = world.state(|state| state.holder(at)).expect("held");
    let next = |world: &World| world.state(|state| state.holder(at));
    world.bar(at, &[first.0]);
    let second = next(&world).expect("two are left");
    assert_ne!(second, first);
    world.bar(at, &[second.0]);
    let third = next(&world).expect("one is left");
    assert!(third != first && third != second);
    world.bar(at, &[third.0]);
    assert_eq!(next(&world), None);
    assert_eq!(world.state(State::check), Vec::<String>::new());
    let restarted = Copy::restored(&world.copy.rows);
    assert_eq!(restarted.words(), world.copy.words());
    // Whoever comes up anew may have got it meanwhile.
    world.node_down(second.0, 1);
    world.node_up(second.0, 2);
    assert_eq!(next(&world), Some(second));
    let stale = world.propose(Command::AddressBarred {
        node: second,
        incarnation: 1,
        address: at,
    });
    assert_eq!(stale, Reply::Refused(Refusal::Stale));
    // Addresses that follow their holder are everybody's.
    world.bar(at, &[second.0]);
    assert_eq!(next(&world), None);
    let base = world.state(|state| state.sites[&tenant()].version);
    world.apply_site(site(), base);
    assert!(next(&world).is_some());
}

#[test]
fn calls_that_cannot_go_on_end_with_their_node_wherever_others_go() {
    let (mut world, calls, _) = busy();
    calls_leave_addresses(&mut world);
    each_its_own(&mut world);
    world.keeps_invites = false;
    let at = address_of(&world, 2);
    let Reply::Call { call: lost, .. } = world.invite_at(at, "anonymous", "4008") else {
        panic!("not admitted");
    };
    world.node_down(2, 1);
    assert_eq!(world.cdr(lost).disposition, Disposition::NodeLost);
    assert_eq!(world.cdr(lost).node, NodeId(2));
    assert!(calls.iter().all(|call| world.is_live(*call)));
    let reply = world.observe(lost, Vec::new());
    assert!(matches!(refusal(&reply), Refusal::NotFound(_)));
}

#[test]
fn many_calls_lost_at_once_leave_a_record_each() {
    let mut world = World::new();
    world.keeps_invites = false;
    let at = address_of(&world, 2);
    for _ in 0..500 {
        world.invite_at(at, "anonymous", "4008");
    }
    world.node_down(2, 1);
    let cdrs = world.cdrs();
    let calls: BTreeSet<_> = cdrs.iter().map(|cdr| cdr.call).collect();
    assert_eq!((cdrs.len(), calls.len()), (500, 500));
    assert_eq!(world.figure("support").node_lost, 500);
}

#[test]
fn a_new_life_of_a_node_goes_on_with_the_calls_of_the_older_one() {
    let mut world = World::new();
    let at = address_of(&world, 2);
    let Reply::Call { call, .. } = world.invite_at(at, "anonymous", "4008") else {
        panic!("not admitted");
    };
    let epoch = world.row(call).epoch;
    assert_eq!(world.node_up(2, 2), Reply::Done);
    let row = world.row(call);
    assert_eq!((row.owner, row.epoch), (NodeId(2), epoch + 1));
    let stale = Reply::Refused(Refusal::Stale);
    assert_eq!(world.node_down(2, 1), stale, "the older life ended before");
    assert_eq!(world.node_up(2, 1), stale);
    assert_eq!(held(&world)[&2], 2);
}

#[test]
fn a_new_life_nobody_saw_begin_holds_its_addresses_at_a_higher_epoch() {
    let mut world = World::new();
    let at = address_of(&world, 2);
    let before = epochs(&world);
    let Reply::Call { call, .. } = world.invite_at(at, "anonymous", "4008") else {
        panic!("not admitted");
    };
    world.node_up(2, 2);
    assert!(world.is_live(call));
    for (address, (holder, epoch)) in epochs(&world) {
        let (held_by, at) = before[&address];
        assert_eq!(holder, held_by);
        assert_eq!(
            epoch,
            at + u32::from(holder == Some(NodeId(2))),
            "{address}"
        );
    }
    let kinds: Vec<String> = world.events().into_iter().map(|event| event.kind).collect();
    let ended = kinds.iter().position(|kind| kind == "call.ended");
    let moved = kinds.iter().rposition(|kind| kind == "address.moved");
    assert!(ended < moved, "the old calls end first: {kinds:?}");
    let after = epochs(&world);
    world.node_up(2, 2);
    assert_eq!(epochs(&world), after, "told twice");
}

#[test]
fn callers_in_a_queue_that_leaves_the_site_leave_with_a_record() {
    let mut world = World::at_work(&["amy"]);
    let offered = world.call("anonymous", "4008");
    let waiting = world.call("anonymous", "4008");
    let elsewhere = world.call("1004", "4009");
    let mut changed = site();
    let support = "support".into();
    changed.queues.remove(&support);
    changed.numbers.remove("4008");
    for agent in changed.agents.values_mut() {
        agent.queues.remove(&support);
    }
    assert_eq!(world.apply_site(changed, 1), Reply::Site { version: 2 });
    world.run();
    for call in [offered, waiting] {
        let cdr = world.cdr(call);
        assert_eq!(cdr.disposition, Disposition::Abandoned);
        assert_eq!(cdr.cause.status, 480, "told apart from who hung up: 487");
        assert_eq!(cdr.queue, Some("support".into()));
    }
    let figure = world.figure("support");
    assert_eq!((figure.entered, figure.abandoned), (2, 2));
    assert_eq!(world.figure("sales").entered, 1);
    assert_eq!(world.offered_to(elsewhere).as_deref(), Some("amy"));
}

#[test]
fn a_life_declared_over_in_error_goes_on() {
    let mut world = World::new();
    world.node_down(2, 1);
    assert_eq!(world.node_up(2, 1), Reply::Done);
    assert_eq!(held(&world)[&2], 2);
}

#[test]
fn without_any_node_addresses_wait_for_the_first() {
    let mut world = World::new();
    for node in 1..=3 {
        world.node_down(node, 1);
    }
    assert_eq!(held(&world), BTreeMap::from([(0, 6)]));
    world.node_up(3, 2);
    assert_eq!(held(&world), BTreeMap::from([(3, 6)]));
}

#[test]
fn a_draining_node_gives_away_what_it_holds_and_gets_nothing() {
    let mut world = World::new();
    let node = NodeId(3);
    assert_eq!(world.act(Action::Drain { node, on: true }), Reply::Done);
    assert_eq!(held(&world), BTreeMap::from([(1, 3), (2, 3)]));
    world.node_down(1, 1);
    assert_eq!(held(&world), BTreeMap::from([(2, 6)]));
    world.act(Action::Drain { node, on: false });
    assert_eq!(held(&world), BTreeMap::from([(2, 3), (3, 3)]));
}

#[test]
fn addresses_rest_where_every_node_is_drained() {
    let mut world = World::new();
    world.propose(Command::Raise {
        level: FEATURE_LEVEL,
    });
    world.node_down(3, 1);
    let drain = |world: &mut World, node: u64| {
        let node = NodeId(node);
        assert_eq!(world.act(Action::Drain { node, on: true }), Reply::Done);
    };
    drain(&mut world, 1);
    assert_eq!(held(&world), BTreeMap::from([(2, 6)]));
    let before = epochs(&world);
    drain(&mut world, 2);
    world.propose(Command::Tick);
    assert_eq!(
        epochs(&world),
        before,
        "nobody takes what he would give away"
    );
    world.node_down(2, 1);
    assert_eq!(held(&world), BTreeMap::from([(1, 6)]), "who is left serves");
}

#[test]
fn only_a_node_that_is_down_is_forgotten() {
    let mut world = World::new();
    let forget = |node: u64| Action::Forget { node: NodeId(node) };
    let up = world.act(forget(2));
    assert!(matches!(refusal(&up), Refusal::Conflict(_)));
    world.node_down(2, 1);
    assert_eq!(world.act(forget(2)), Reply::Done);
    let again = world.act(forget(2));
    assert!(matches!(refusal(&again), Refusal::NotFound(_)));
    assert!(world.state(|state| !state.nodes.contains_key(&NodeId(2))));
}

#[test]
fn a_site_applied_again_keeps_counters_calls_and_seats() {
    let mut world = World::at_work(&["bob"]);
    let call = world.call("anonymous", "4008");
    world.agent_answers(call);
    let waiting = world.call("anonymous", "4008");
    let mut changed = site();
    changed.agents.remove(&AgentId::from("bob"));
    changed
        .queues
        .values_mut()
        .for_each(|queue| queue.wrap_ms = 0);
    let spec = agent_spec(Some("1005"), &["support"], true);
    changed.agents.insert(AgentId::from("fay"), spec);
    assert_eq!(world.apply_site(changed, 1), Reply::Site { version: 2 });
    assert_eq!(world.word(call), "bridged");
    assert_eq!(world.word(waiting), "queued");
    assert_eq!(world.figure("support").answered, 1);
    assert_eq!(
        world.agent("bob"),
        AgentState::Talking,
        "he stays until his call ends"
    );
    assert_eq!(
        world.agent("fay"),
        AgentState::NoPhone,
        "signed in by the site"
    );
    world.leaves(call);
    assert_eq!(world.agent("bob"), AgentState::Ready);
    assert_eq!(
        world.offered_to(waiting),
        None,
        "who has left the site is asked nothing"
    );
    assert_eq!(
        world.apply_site(site_without_bob(), 2),
        Reply::Site { version: 3 }
    );
    assert!(world.state(|state| !state.agents.contains_key(&agent_key("bob"))));
}

fn site_without_bob() -> strowger_core::site::Site {
    let mut changed = site();
    changed.agents.remove(&AgentId::from("bob"));
    changed
}

#[test]
fn a_site_based_on_an_older_version_is_refused() {
    let mut world = World::new();
    let stale = Reply::Refused(Refusal::Stale);
    assert_eq!(world.apply_site(site(), 0), stale);
    assert_eq!(world.apply_site(site(), 2), stale);
    assert_eq!(world.apply_site(site(), 1), Reply::Site { version: 2 });
}

#[test]
fn extensions_that_leave_the_site_take_their_phones_along() {
    let mut world = World::at_work(&["bob"]);
    let mut changed = site();
    changed.extensions.remove(&Extension::from("1002"));
    world.apply_site(changed, 1);
    assert_eq!(world.agent("bob"), AgentState::NoPhone);
    let shown = world.state(|state| state.agents[&agent_key("bob")].shown);
    assert_eq!(shown, AgentState::NoPhone, "and whoever watches is told");
    let reply = world.register("1002", "desk", 60);
    assert!(matches!(refusal(&reply), Refusal::NotFound(_)));
}

#[test]
fn addresses_come_and_go_with_the_sites_that_name_them() {
    let mut world = World::new();
    let mut other = site();
    other.tenant = "beta".into();
    other.domain = "beta.example".to_string();
    other.service_addresses = vec![address(6), address(7)];
    world.apply_site(other, 0);
    assert_eq!(world.state(|state| state.addresses.len()), 7);
    let mut fewer = site();
    fewer.service_addresses.truncate(2);
    world.apply_site(fewer, 1);
    let left: Vec<_> = world.state(|state| state.addresses.keys().copied().collect());
    assert_eq!(left, [address(1), address(2), address(6), address(7)]);
    let tenants = world.state(|state| {
        let of = |domain: &str| {
            state
                .tenant_of(domain)
                .map(|row| row.site.tenant.to_string())
        };
        [
            of("BETA.example"),
            of("acme.example"),
            of("127.0.1.1"),
            of("nobody.example"),
        ]
    });
    let names: Vec<Option<&str>> = tenants.iter().map(Option::as_deref).collect();
    assert_eq!(names, [Some("beta"), Some("acme"), Some("acme"), None]);
}

#[test]
fn the_secret_of_an_extension_leaves_the_site_with_it() {
    let mut world = World::new();
    let key = secret_key(&tenant(), &Extension::from("1001"));
    let secret = |world: &World| world.copy.rows.get(Table::Secret, &key);
    assert_eq!(world.apply_site(site(), 1), Reply::Site { version: 2 });
    assert_eq!(secret(&world), Some(vec![7]), "kept while it stays");
    let mut changed = site();
    changed.extensions.remove(&Extension::from("1001"));
    let command = SiteApply {
        site: Arc::new(changed),
        text: String::new(),
        base: 2,
        times: Vec::new(),
        secrets: Vec::new(),
    };
    world.propose(Command::SiteApply(command));
    assert_eq!(secret(&world), None);
}

#[test]
fn secrets_are_rows_and_never_events() {
    let world = World::new();
    let key = secret_key(&tenant(), &Extension::from("1001"));
    assert_eq!(world.copy.rows.get(Table::Secret, &key), Some(vec![7]));
    assert!(!format!("{:?}", world.events()).contains("secret"));
}

#[test]
fn a_state_refounded_from_a_backup_ends_every_call_once_and_begins_with_no_node() {
    let mut world = World::at_work(&["amy"]);
    let talking = world.call("1003", "1002");
    let answering = world.far_leg(talking);
    world.answers(talking, answering);
    let offered = world.call("anonymous", "4008");
    let waiting = world.call("anonymous", "4008");
    world.run();
    assert_eq!(world.propose(Command::Refounded), Reply::Done);
    for call in [talking, offered, waiting] {
        assert!(!world.is_live(call));
        assert_eq!(world.cdr(call).disposition, Disposition::NodeLost);
    }
    assert_eq!(world.cdrs().len(), 3);
    let left = world.state(|state| (state.nodes.len(), state.leftovers.len(), state.calls.len()));
    assert_eq!(left, (0, 0, 0), "nodes, legs to end, calls");
    assert!(world.state(|state| state.addresses.values().all(|row| row.holder.is_none())));
    assert_eq!(world.agent("amy"), AgentState::Ready);
    let figure = world.figure("support");
    assert_eq!(figure.node_lost, 2, "{figure:?}");
    let restored = Copy::restored(&world.copy.rows);
    assert_eq!(restored.words(), world.copy.words());

    // A node of the new cluster begins with its first life.
    assert_eq!(world.node_up(2, 1), Reply::Done);
    assert_eq!(held(&world), BTreeMap::from([(2, 6)]));
    let again = world.call("anonymous", "4008");
    assert_eq!(world.offered_to(again).as_deref(), Some("amy"));
}
