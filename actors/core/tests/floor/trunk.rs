//! Trunks: channels, calls per second, failover, and what a lost node leaves behind.

use proptest::prelude::*;
use strowger_core::call::{CallRow, Cause, Disposition, LegRole, Seen, Want};
use strowger_core::ids::{CallId, LegId, NodeId, TrunkName};
use strowger_core::limits;
use strowger_core::outstanding::Phase;
use strowger_core::site::{CallerId, Choice, RouteSpec, Site, TrunkSpec};
use strowger_core::state::State;
use strowger_core::state::command::{Action, Command, Observation, Reply};

use crate::harness::{Phone, World, answered, ended, site, tenant};
use crate::rows::Copy;

const A1: &str = "sip:5550@127.0.0.81:5060";
const A2: &str = "sip:5550@127.0.0.82:5060";
const B1: &str = "sip:5550@127.0.0.83:5060";

fn trunk(hosts: &[&str], channels: u32) -> TrunkSpec {
    let uri = |host: &&str| Choice::plain(format!("sip:{host}:5060"));
    TrunkSpec {
        destinations: hosts.iter().map(uri).collect(),
        sources: Vec::new(),
        channels,
        cps: 0,
        failover_ms: 3_000,
        caller_id: CallerId::default(),
        qualify_s: 0,
    }
}

/// Trunk `a` with two destinations and trunk `b` with one; `9` leads to `a`, then `b`;
/// `8` to `a` alone.
fn two_trunks(channels: u32) -> Site {
    let mut site = site();
    let hosts_a = ["127.0.0.81", "127.0.0.82"];
    site.trunks = [
        ("a".into(), trunk(&hosts_a, channels)),
        ("b".into(), trunk(&["127.0.0.83"], channels)),
    ]
    .into();
    let rule = |prefix: &str, trunks: &[&str]| RouteSpec {
        prefix: prefix.to_string(),
        strip: 1,
        trunks: trunks
            .iter()
            .map(|name| Choice::plain(TrunkName::from(*name)))
            .collect(),
    };
    site.routes = vec![rule("9", &["a", "b"]), rule("8", &["a"])];
    site
}

fn in_use(world: &World, name: &str) -> usize {
    world.state(|state| state.channels_in_use(&(tenant(), name.into())))
}

fn row<R>(
    world: &World,
    name: &str,
    look: impl Fn(&strowger_core::floor::trunk::TrunkRow) -> R,
) -> R {
    world.state(|state| look(&state.trunks[&(tenant(), name.into())]))
}

fn is_out(role: &LegRole) -> bool {
    matches!(role, LegRole::Trunk(..))
}

/// Where the attempt made last went.
fn rung(world: &World, call: CallId) -> String {
    let leg = world.leg(call, is_out);
    leg.target.expect("an outgoing leg has a target").uri
}

fn refused_with(reply: &Reply) -> Cause {
    match reply {
        Reply::CallRefused(cause) => *cause,
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn a_full_trunk_takes_no_call_in_either_direction() {
    let mut world = World::with_site(two_trunks(2));
    let first = world.call("1001", "85550");
    let coming = world.call("via-a", "4008");
    assert_eq!(in_use(&world, "a"), 2);
    let out = world.invite_at(2, "1002", "85550");
    let inward = world.invite_at(3, "via-a", "4008");
    assert_eq!(refused_with(&out), Cause::CONGESTION);
    assert_eq!(refused_with(&inward), Cause::CONGESTION);
    assert_eq!(Cause::CONGESTION.q850, 34);
    assert_eq!(row(&world, "a", |row| (row.peak, row.refused)), (2, 2));
    let records = world.cdrs();
    assert!(
        records
            .iter()
            .all(|cdr| cdr.disposition == Disposition::Failed)
    );
    world.leaves(first);
    assert_eq!(in_use(&world, "a"), 1);
    let again = world.call("1002", "85550");
    world.leaves(coming);
    world.leaves(again);
    assert_eq!(in_use(&world, "a"), 0);
    assert_eq!(
        row(&world, "a", |row| (row.peak, row.seized, row.doubtful)),
        (2, 3, 0)
    );
}

#[test]
fn a_full_trunk_leaves_the_call_to_the_next_one() {
    let mut world = World::with_site(two_trunks(1));
    let first = world.call("1001", "95550");
    assert_eq!(rung(&world, first), A1);
    let second = world.call("1002", "95550");
    assert_eq!(rung(&world, second), B1);
    let third = world.invite_at(1, "1003", "95550");
    assert_eq!(refused_with(&third), Cause::CONGESTION);
    assert_eq!((in_use(&world, "a"), in_use(&world, "b")), (1, 1));
}

#[test]
fn a_channel_is_seized_in_the_commit_that_makes_the_leg() {
    let mut world = World::with_site(two_trunks(60));
    let arrivals: Vec<Command> = (0..200)
        .map(|n| {
            let at = crate::harness::address(u8::try_from(n % 6 + 1).unwrap_or(1));
            let address = world.state(|state| state.addresses[&at].clone());
            Command::CallArrived(strowger_core::state::command::CallArrived {
                tenant: tenant(),
                address: at,
                node: address.holder.unwrap_or_default(),
                epoch: address.epoch,
                from: crate::harness::caller("1001"),
                to: "85550".to_string(),
                sip_call_id: format!("in-{n}"),
                remote: None,
                called: None,
                checkpoint: Some(b"invite".to_vec()),
            })
        })
        .collect();
    let replies = world.propose_all(&arrivals);
    let taken = replies
        .iter()
        .filter(|reply| matches!(reply, Reply::Call { .. }));
    assert_eq!(taken.count(), 60, "two hundred at once, one entry");
    assert_eq!(in_use(&world, "a"), 60);
    assert_eq!(row(&world, "a", |row| row.peak), 60);
}

#[test]
fn a_failing_destination_is_followed_by_the_next_and_by_the_next_trunk() {
    let mut world = World::with_site(two_trunks(5));
    world.phones.insert(A1.into(), Phone::Refuses(503));
    world.phones.insert(A2.into(), Phone::Silent);
    world.phones.insert(B1.into(), Phone::Answers);
    let call = world.call("1001", "95550");
    assert_eq!(rung(&world, call), A2, "503 at once: the next destination");
    let silent = world.leg(call, is_out).id;
    world.observe(call, vec![Observation::LegSilent { leg: silent }]);
    assert_eq!(rung(&world, call), B1);
    assert_eq!(
        (in_use(&world, "a"), in_use(&world, "b")),
        (1, 1),
        "the silent attempt may still be counted there"
    );
    world.run();
    assert_eq!(in_use(&world, "a"), 0, "taken back");
    assert_eq!(world.word(call), "bridged");
    world.leaves(call);
    let cdr = world.cdr(call);
    assert_eq!(cdr.disposition, Disposition::Answered);
    let tried: Vec<_> = cdr
        .legs
        .iter()
        .filter_map(|leg| Some((leg.target.as_ref()?.uri.as_str(), leg.cause?.status)))
        .collect();
    assert_eq!(
        tried,
        [(A1, 503), (A2, 408), (B1, 200)],
        "one record, all attempts"
    );
    assert_eq!((in_use(&world, "a"), in_use(&world, "b")), (0, 0));
}

#[test]
fn what_the_called_party_says_is_final() {
    for (status, told, disposition) in [
        (486, 486, Disposition::Busy),
        (404, 404, Disposition::Rejected),
        (603, 603, Disposition::Rejected),
    ] {
        let mut world = World::with_site(two_trunks(5));
        world.phones.insert(A1.into(), Phone::Refuses(status));
        let call = world.call("1001", "95550");
        let cdr = world.cdr(call);
        assert_eq!((cdr.cause.status, cdr.disposition), (told, disposition));
        assert_eq!(cdr.legs.len(), 2, "{status} is not tried elsewhere");
    }
}

#[test]
fn when_every_way_fails_the_caller_may_try_again() {
    let mut world = World::with_site(two_trunks(5));
    for uri in [A1, A2, B1] {
        world.phones.insert(uri.into(), Phone::Refuses(500));
    }
    let call = world.call("1001", "95550");
    let cdr = world.cdr(call);
    assert_eq!(
        (cdr.cause.status, cdr.disposition),
        (503, Disposition::Failed)
    );
    assert_eq!(cdr.legs.len(), 4);
}

#[test]
fn a_silent_last_destination_goes_on() {
    let mut world = World::with_site(two_trunks(5));
    let call = world.call("1001", "85550");
    for _ in 0..3 {
        let leg = world.leg(call, is_out).id;
        world.observe(call, vec![Observation::LegSilent { leg }]);
    }
    let last = world.leg(call, is_out);
    assert_eq!(last.target.map(|to| to.uri).as_deref(), Some(A2));
    assert_eq!(last.want, Want::Alert);
    assert_eq!(world.row(call).legs.len(), 3);
}

#[test]
fn no_second_sees_more_calls_than_allowed() {
    let mut site = two_trunks(1_000);
    site.trunks
        .get_mut(&TrunkName::from("a"))
        .expect("there")
        .cps = 3;
    let mut world = World::with_site(site);
    let mut begun = Vec::new();
    for _ in 0..200 {
        if let Reply::Call { .. } = world.invite_at(1, "1001", "85550") {
            begun.push(world.now);
        }
        world.now += 17;
    }
    for window in begun.windows(4) {
        assert!(window[3] - window[0] >= 1_000, "{window:?}");
    }
    assert_eq!(begun.len(), 12, "and as many as allowed: {begun:?}");
}

#[test]
fn the_far_end_sees_the_number_the_trunk_says() {
    let mut site = two_trunks(5);
    site.trunks
        .get_mut(&TrunkName::from("a"))
        .expect("there")
        .caller_id = CallerId::Fixed("4008".into());
    let mut world = World::with_site(site);
    let call = world.call("1001", "85550");
    let shown = |world: &World, call: &CallRow| {
        let legs = call.legs.iter();
        legs.map(|leg| world.state(|state| state.shown_caller(call, &leg.role).0))
            .collect::<Vec<_>>()
    };
    let live = world.row(call);
    assert_eq!(shown(&world, &live), ["1001", "4008"]);
}

/// A call out and answered, by way of a node.
fn talking_at(world: &mut World, node: u64, from: &str) -> CallId {
    let at = (1..=6).find(|n| {
        world.state(|state| state.holder(crate::harness::address(*n))) == Some(NodeId(node))
    });
    let reply = world.invite_at(at.expect("each node holds addresses"), from, "85550");
    let Reply::Call { call, .. } = reply else {
        panic!("not admitted: {reply:?}");
    };
    world.run();
    let leg = world.leg(call, is_out).id;
    world.answers(call, leg);
    assert_eq!(world.word(call), "bridged");
    call
}

fn restarts_equal(world: &World) {
    let restarted = Copy::restored(&world.copy.rows);
    assert_eq!(restarted.words(), world.copy.words());
}

fn leftovers(world: &World) -> Vec<LegId> {
    world.state(|state| state.leftovers.keys().copied().collect())
}

#[test]
fn channels_of_a_dead_node_come_back_with_the_answer_or_after_a_while() {
    let mut world = World::with_site(two_trunks(3));
    let lost = [
        talking_at(&mut world, 2, "1001"),
        talking_at(&mut world, 2, "1002"),
    ];
    let kept = talking_at(&mut world, 3, "1003");
    // Nobody else can have the addresses, and calls are not to go to others.
    for call in lost {
        let address = world.row(call).address;
        world.bar(address, &[1, 3]);
    }
    world.node_down(2, 1);
    restarts_equal(&world);
    assert!(lost.iter().all(|call| !world.is_live(*call)));
    assert_eq!(in_use(&world, "a"), 3, "their far ends still count them");
    let full = world.invite_at(1, "1004", "85550");
    assert_eq!(refused_with(&full), Cause::CONGESTION);
    let left = leftovers(&world);
    assert_eq!(left.len(), 4, "the callers' legs are told too");
    let outward = world.state(|state| {
        let rows = state.leftovers.values();
        rows.filter(|row| row.trunk.is_some())
            .map(|row| (row.leg, row.checkpoint.clone(), state.teller(row)))
            .collect::<Vec<_>>()
    });
    assert_eq!(outward.len(), 2);
    for (_, checkpoint, teller) in &outward {
        assert_eq!(checkpoint.as_deref(), Some(&[1, 2, 3][..]));
        let (node, address) = teller.expect("somebody tells them");
        assert_ne!(node, NodeId(2));
        assert_eq!(world.state(|state| state.holder(address)), Some(node));
    }
    let told = Command::Released {
        legs: vec![outward[0].0],
    };
    assert_eq!(world.propose(told.clone()), Reply::Done);
    assert_eq!(world.propose(told), Reply::Done, "told twice");
    restarts_equal(&world);
    assert_eq!(in_use(&world, "a"), 2);
    assert_eq!(row(&world, "a", |row| row.doubtful), 0);
    world.advance(limits::LEFTOVER_MS);
    restarts_equal(&world);
    assert_eq!(in_use(&world, "a"), 1, "after a while it is given up");
    assert_eq!(row(&world, "a", |row| (row.doubtful, row.peak)), (1, 3));
    let doubts = world
        .events()
        .into_iter()
        .filter(|event| event.kind == "trunk.doubtful");
    assert_eq!(doubts.map(|event| event.entity).collect::<Vec<_>>(), ["a"]);
    assert!(leftovers(&world).is_empty());
    assert!(world.is_live(kept));
    world.call("1004", "85550");
}

#[test]
fn an_owner_that_never_says_so_leaves_the_channel_in_doubt() {
    let mut world = World::with_site(two_trunks(3));
    let call = world.call("1001", "85550");
    world.act(Action::Hangup { call });
    assert_eq!(in_use(&world, "a"), 1);
    world.copy.wakes.take();
    world.now += limits::CLEARING_MS;
    world.propose(Command::Tick);
    assert_eq!(in_use(&world, "a"), 0);
    assert_eq!(row(&world, "a", |row| row.doubtful), 1);
    let call = world.call("1001", "85550");
    let leg = world.leg(call, is_out).id;
    world.ends(call, leg, Cause::SILENCE);
    assert_eq!(row(&world, "a", |row| row.doubtful), 2, "nobody answered");
}

#[test]
fn a_site_applied_again_keeps_what_is_in_use_and_counted() {
    let mut world = World::with_site(two_trunks(3));
    world.call("1001", "85550");
    world.call("1002", "85550");
    world.apply_site(two_trunks(1), 1);
    assert_eq!(in_use(&world, "a"), 2, "no call is dropped");
    assert_eq!(row(&world, "a", |row| (row.peak, row.seized)), (2, 2));
    let full = world.invite_at(1, "1003", "85550");
    assert_eq!(refused_with(&full), Cause::CONGESTION);
}

/// Something that happens around trunks.
#[derive(Clone, Debug)]
enum Step {
    Out { at: u8, to: u8 },
    In { at: u8, trunk: bool },
    Answer { call: u8 },
    Silent { call: u8 },
    End { call: u8, leg: u8, status: u16 },
    Hangup { call: u8 },
    Node { node: u8, up: bool },
    Released { leg: u8 },
    Far { which: u8, does: Phone },
    Pass { ms: u64 },
    Owners,
}

fn step() -> impl Strategy<Value = Step> {
    let far = prop_oneof![
        3 => Just(Phone::Rings),
        3 => Just(Phone::Answers),
        1 => Just(Phone::Silent),
        2 => prop_oneof![Just(486), Just(503), Just(500)].prop_map(Phone::Refuses),
    ];
    let status = prop_oneof![Just(200u16), Just(486), Just(503), Just(408)];
    prop_oneof![
        10 => (1..=6u8, 0..2u8).prop_map(|(at, to)| Step::Out { at, to }),
        5 => (1..=6u8, any::<bool>()).prop_map(|(at, trunk)| Step::In { at, trunk }),
        4 => any::<u8>().prop_map(|call| Step::Answer { call }),
        2 => any::<u8>().prop_map(|call| Step::Silent { call }),
        5 => (any::<u8>(), any::<u8>(), status)
            .prop_map(|(call, leg, status)| Step::End { call, leg, status }),
        2 => any::<u8>().prop_map(|call| Step::Hangup { call }),
        2 => (1..=3u8, any::<bool>()).prop_map(|(node, up)| Step::Node { node, up }),
        4 => any::<u8>().prop_map(|leg| Step::Released { leg }),
        2 => (0..3u8, far).prop_map(|(which, does)| Step::Far { which, does }),
        3 => (0..3_000u64).prop_map(|ms| Step::Pass { ms }),
        6 => Just(Step::Owners),
    ]
}

fn pick<T: Clone>(all: &[T], n: u8) -> Option<T> {
    all.get(usize::from(n) % all.len().max(1)).cloned()
}

fn play(world: &mut World, step: &Step) {
    let calls: Vec<CallId> = world.state(|state| state.calls.keys().copied().collect());
    match *step {
        Step::Out { at, to } => {
            world.invite_at(at, "1001", ["95550", "85550"][usize::from(to)]);
        }
        Step::In { at, trunk } => {
            world.invite_at(at, if trunk { "via-a" } else { "via-b" }, "4008");
        }
        Step::Answer { call } => each_far(world, pick(&calls, call), |world, call, leg| {
            world.set_phase(call, leg, Phase::Proposed);
            world.observe(call, vec![answered(leg)]);
        }),
        Step::Silent { call } => each_far(world, pick(&calls, call), |world, call, leg| {
            world.observe(call, vec![Observation::LegSilent { leg }]);
        }),
        Step::End { call, leg, status } => {
            let Some(call) = pick(&calls, call) else {
                return;
            };
            let legs: Vec<LegId> = world.row(call).legs.iter().map(|leg| leg.id).collect();
            if let Some(leg) = pick(&legs, leg) {
                world.set_phase(call, leg, Phase::Gone);
                world.observe(call, vec![ended(leg, Cause::from_status(status))]);
            }
        }
        Step::Hangup { call } => {
            if let Some(call) = pick(&calls, call) {
                world.act(Action::Hangup { call });
            }
        }
        Step::Node { node, up } => {
            let id = NodeId(u64::from(node));
            let nodes = world.state(|state| state.nodes.clone());
            let others = nodes.values().filter(|row| row.up && row.id != id).count();
            let row = &nodes[&id];
            if up {
                world.node_up(u64::from(node), row.incarnation + u64::from(!row.up));
            } else if others > 0 {
                world.node_down(u64::from(node), row.incarnation);
            }
        }
        Step::Released { leg } => {
            if let Some(leg) = pick(&leftovers(world), leg) {
                world.propose(Command::Released { legs: vec![leg] });
            }
        }
        Step::Far { which, does } => {
            world
                .phones
                .insert([A1, A2, B1][usize::from(which)].into(), does);
        }
        Step::Pass { ms } => world.advance(ms),
        Step::Owners => world.run(),
    }
}

fn each_far(world: &mut World, call: Option<CallId>, act: impl Fn(&mut World, CallId, LegId)) {
    let Some(call) = call else { return };
    let legs = world.row(call).legs;
    let fresh = legs
        .iter()
        .rev()
        .find(|leg| is_out(&leg.role) && leg.seen == Seen::Fresh);
    if let Some(leg) = fresh {
        act(world, call, leg.id);
    }
}

/// Channels in use are never above the limit, and are what live legs and leftovers hold.
fn check(state: &State, channels: usize) {
    for name in ["a", "b"] {
        let trunk = (tenant(), TrunkName::from(name));
        let live = state.calls.values().flat_map(|call| {
            call.legs.iter().filter(|leg| {
                let holds = match &leg.role {
                    LegRole::Caller => call.from.trunk.as_ref() == Some(&trunk.1),
                    LegRole::Trunk(at, _) => *at == trunk.1,
                    LegRole::Extension(_) | LegRole::Agent(_) => false,
                };
                holds && leg.seen != Seen::Ended
            })
        });
        let left = state.leftovers.values();
        let left = left.filter(|row| row.trunk.as_ref() == Some(&trunk.1));
        let counted = live.count() + left.count();
        assert_eq!(state.channels_in_use(&trunk), counted, "trunk {name}");
        assert!(counted <= channels, "trunk {name}: {counted} of {channels}");
        assert!(state.trunks[&trunk].peak as usize <= channels);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, ..ProptestConfig::default() })]

    #[test]
    fn channels_are_exact_whatever_happens(
        steps in prop::collection::vec(step(), 1..120),
        channels in 1..5u32,
    ) {
        let mut world = World::with_site(two_trunks(channels));
        let limit = usize::try_from(channels).unwrap_or(0);
        for one in &steps {
            play(&mut world, one);
            world.state(|state| check(state, limit));
            restarts_equal(&world);
        }
        world.reconcile();
        let left: Vec<CallId> = world.state(|state| state.calls.keys().copied().collect());
        for call in left {
            world.act(Action::Hangup { call });
        }
        world.reconcile();
        world.advance(60_000);
        prop_assert_eq!((in_use(&world, "a"), in_use(&world, "b")), (0, 0));
        let mut other = Copy::new();
        for (meta, batch) in &world.log {
            other.apply(*meta, batch);
        }
        prop_assert!(other.rows == world.copy.rows, "the log gives the same rows again");
    }
}
