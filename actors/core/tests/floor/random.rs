//! Random days on the floor. After every entry the state's own invariants hold (the
//! harness checks them), and those below; a restart anywhere gives an equal state;
//! lost and repeated wake-ups leave no trace once the owners have looked again.
//!
//! A failing day is printed step by step and kept by proptest for the next run;
//! `PROPTEST_CASES` makes the run longer.

use std::collections::BTreeSet;

use proptest::prelude::*;
use strowger_core::call::Cause;
use strowger_core::floor::agent::Activity;
use strowger_core::floor::figure::{Subject, Tally};
use strowger_core::hours::{HoursSpec, OpenTimes, Span};
use strowger_core::ids::{AgentId, CallId, HoursName, NodeId, QueueName};
use strowger_core::outstanding::Phase;
use strowger_core::ports::Machine;
use strowger_core::site::{RungFirst, Site, TakeoverMode};
use strowger_core::state::State;
use strowger_core::state::command::{Action, Command, Observation, SiteApply};
use strowger_core::time::TimeMs;

use crate::harness::{BEGIN, Phone, World, address, answered, ended, held, site};
use crate::rows::Copy;

/// Something that happens on the floor. Numbers pick among what there is.
#[derive(Clone, Debug)]
enum Step {
    Call {
        at: u8,
        from: u8,
        to: u8,
    },
    /// A leg answers, whatever is thought of it.
    Answer {
        call: u8,
        leg: u8,
    },
    /// A leg ends with this status.
    End {
        call: u8,
        leg: u8,
        status: u16,
    },
    Hold {
        call: u8,
        leg: u8,
        held: bool,
    },
    Confirm {
        call: u8,
    },
    Hangup {
        call: u8,
    },
    /// The caller takes a callback.
    Key {
        call: u8,
    },
    /// A callback is taken back.
    Withdraw {
        callback: u8,
    },
    Agent {
        agent: u8,
        what: u8,
    },
    Register {
        extension: u8,
        name: u8,
        expires_s: u32,
    },
    Phone {
        extension: u8,
        name: u8,
        does: Phone,
    },
    Node {
        node: u8,
        up: bool,
    },
    Drain {
        node: u8,
        on: bool,
    },
    /// An address turns out not to be one of a node's machine.
    Bar {
        node: u8,
        at: u8,
    },
    Site {
        wrap_ms: u64,
        without: u8,
        /// Calls of a dead node go to addresses of others.
        leaves: bool,
    },
    /// Hours are opened or closed by hand, or follow the site.
    Hours {
        open: Option<bool>,
        ms: u64,
    },
    Pass {
        ms: u64,
    },
    /// Time passes, but only one tick is proposed, late.
    LateTick {
        ms: u64,
    },
    /// The owners look at what was woken.
    Owners,
}

const CALLERS: [&str; 6] = ["anonymous", "1001", "1002", "1005", "1006", "1007"];
const DIALLED: [&str; 12] = [
    "4008", "4008", "4008", "4009", "4009", "1001", "1003", "1005", "1006", "*11", "*12", "9",
];
const AGENTS: [&str; 5] = ["amy", "bob", "cat", "dan", "eve"];
const NAMES: [&str; 2] = ["desk", "mobile"];

fn step() -> impl Strategy<Value = Step> {
    let phone = prop_oneof![
        3 => Just(Phone::Rings),
        3 => Just(Phone::Answers),
        1 => Just(Phone::Silent),
        1 => Just(Phone::Crosses),
        1 => prop_oneof![Just(486), Just(503), Just(603)].prop_map(Phone::Refuses),
    ];
    let status = prop_oneof![
        Just(200u16),
        Just(486),
        Just(487),
        Just(503),
        Just(404),
        Just(603)
    ];
    prop_oneof![
        8 => (1..=6u8, 0..6u8, 0..12u8).prop_map(|(at, from, to)| Step::Call { at, from, to }),
        5 => (any::<u8>(), any::<u8>()).prop_map(|(call, leg)| Step::Answer { call, leg }),
        5 => (any::<u8>(), any::<u8>(), status)
            .prop_map(|(call, leg, status)| Step::End { call, leg, status }),
        1 => (any::<u8>(), any::<u8>(), any::<bool>())
            .prop_map(|(call, leg, held)| Step::Hold { call, leg, held }),
        1 => any::<u8>().prop_map(|call| Step::Confirm { call }),
        1 => any::<u8>().prop_map(|call| Step::Hangup { call }),
        3 => any::<u8>().prop_map(|call| Step::Key { call }),
        1 => any::<u8>().prop_map(|callback| Step::Withdraw { callback }),
        5 => (0..5u8, 0..6u8).prop_map(|(agent, what)| Step::Agent { agent, what }),
        3 => (1..=8u8, 0..2u8, prop_oneof![Just(0u32), Just(60), Just(600)])
            .prop_map(|(extension, name, expires_s)| Step::Register { extension, name, expires_s }),
        2 => (1..=8u8, 0..2u8, phone)
            .prop_map(|(extension, name, does)| Step::Phone { extension, name, does }),
        1 => (1..=3u8, any::<bool>()).prop_map(|(node, up)| Step::Node { node, up }),
        1 => (1..=3u8, any::<bool>()).prop_map(|(node, on)| Step::Drain { node, on }),
        1 => (1..=3u8, 1..=6u8).prop_map(|(node, at)| Step::Bar { node, at }),
        1 => (prop_oneof![Just(0u64), Just(5_000)], 0..6u8, any::<bool>())
            .prop_map(|(wrap_ms, without, leaves)| Step::Site { wrap_ms, without, leaves }),
        1 => (any::<Option<bool>>(), 1..600_000u64)
            .prop_map(|(open, ms)| Step::Hours { open, ms }),
        4 => (0..20_000u64).prop_map(|ms| Step::Pass { ms }),
        1 => (0..2_000_000u64).prop_map(|ms| Step::Pass { ms }),
        1 => (0..90_000u64).prop_map(|ms| Step::LateTick { ms }),
        6 => Just(Step::Owners),
    ]
}

/// A floor at work: phones registered, two agents signed in.
fn floor() -> World {
    let mut world = World::at_work(&["amy", "bob"]);
    put_in_force(&mut world, busy_site());
    world
}

/// The usual site; sales rings agents first for callbacks, in hours that come and go.
fn busy_site() -> Site {
    let mut site = site();
    let spec = HoursSpec {
        timezone: "UTC".to_string(),
        week: std::array::from_fn(|_| vec![Span { from: 0, to: 5 }]),
        holidays: std::collections::BTreeMap::new(),
    };
    site.hours.insert(HoursName::from("office"), spec);
    let sales = site.queues.get_mut(&QueueName::from("sales"));
    let rule = sales.and_then(|spec| spec.comfort.callback.as_mut());
    let rule = rule.expect("it calls back");
    rule.first = RungFirst::Agent;
    rule.hours = Some(HoursName::from("office"));
    site
}

/// Applies a site whose hours are open five minutes of every ten on the first day.
fn put_in_force(world: &mut World, site: Site) {
    let base = world.state(|state| state.sites[&crate::harness::tenant()].version);
    let begin = |n: u64| TimeMs(BEGIN + n * 600_000);
    let open = (0..144).map(|n| (begin(n), begin(n).plus(300_000)));
    world.propose(Command::SiteApply(SiteApply {
        site: site.into(),
        text: "text".to_string(),
        base,
        secrets: Vec::new(),
        times: vec![OpenTimes {
            name: HoursName::from("office"),
            until: begin(144),
            open: open.collect(),
        }],
    }));
}

fn pick<T: Clone>(all: &[T], n: u8) -> Option<T> {
    all.get(usize::from(n) % all.len().max(1)).cloned()
}

fn live_call(world: &World, n: u8) -> Option<CallId> {
    let all: Vec<CallId> = world.state(|state| state.calls.keys().copied().collect());
    pick(&all, n)
}

fn incarnation(world: &World, node: u8) -> Option<(u64, bool)> {
    let node = NodeId(u64::from(node));
    world.state(|state| state.nodes.get(&node).map(|row| (row.incarnation, row.up)))
}

/// Carries out one step. What makes no sense now is left out.
fn play(world: &mut World, step: &Step) {
    match *step {
        Step::Call { at, from, to } => {
            let from = CALLERS[usize::from(from)];
            world.invite_at(at, from, DIALLED[usize::from(to)]);
        }
        Step::Answer { call, leg } => report(world, call, leg, Phase::Proposed, answered),
        Step::End { call, leg, status } => {
            let cause = Cause::from_status(status);
            report(world, call, leg, Phase::Gone, |leg| ended(leg, cause));
        }
        Step::Hold {
            call,
            leg,
            held: on,
        } => {
            report(world, call, leg, Phase::Up, |leg| held(leg, on));
        }
        Step::Confirm { call } => {
            if let Some(call) = live_call(world, call) {
                let leg = world.row(call).legs[0].id;
                let told = strowger_core::state::command::Observation::Confirmed { leg };
                world.observe(call, vec![told]);
            }
        }
        Step::Key { call } => {
            if let Some(call) = live_call(world, call) {
                let leg = world.row(call).legs[0].id;
                let key = strowger_core::ivr::speech::Key::parse('1').expect("a key");
                let pressed = Observation::KeyPressed { leg, key };
                world.observe(call, vec![pressed]);
            }
        }
        Step::Withdraw { callback } => {
            let all: Vec<CallId> = world.state(|state| state.callbacks.keys().copied().collect());
            if let Some(callback) = pick(&all, callback) {
                world.act(Action::Withdraw { callback });
            }
        }
        Step::Hangup { call } => {
            if let Some(call) = live_call(world, call) {
                world.act(Action::Hangup { call });
            }
        }
        Step::Agent { agent, what } => {
            world.act(agent_action(AGENTS[usize::from(agent)], what));
        }
        Step::Register {
            extension,
            name,
            expires_s,
        } => {
            let extension = (1_000 + u32::from(extension)).to_string();
            world.register(&extension, NAMES[usize::from(name)], expires_s);
        }
        Step::Phone {
            extension,
            name,
            does,
        } => {
            let uri = format!(
                "sip:{}@{}",
                1_000 + u32::from(extension),
                NAMES[usize::from(name)]
            );
            world.phones.insert(uri, does);
        }
        Step::Node { node, up } => node_turns(world, node, up),
        Step::Drain { node, on } => {
            let node = NodeId(u64::from(node));
            world.act(Action::Drain { node, on });
        }
        Step::Bar { node, at } => world.bar(address(at), &[u64::from(node)]),
        Step::Site {
            wrap_ms,
            without,
            leaves,
        } => {
            let mut next = busy_site();
            if leaves {
                next.takeover = TakeoverMode::Reinvite;
            }
            next.queues
                .values_mut()
                .for_each(|queue| queue.wrap_ms = wrap_ms);
            if let Some(name) = AGENTS.get(usize::from(without)) {
                next.agents.remove(&AgentId::from(*name));
            }
            put_in_force(world, next);
        }
        Step::Hours { open, ms } => {
            let until = TimeMs(world.now + ms);
            world.act(Action::Override {
                hours: HoursName::from("office"),
                open,
                until,
            });
        }
        Step::Pass { ms } => world.advance(ms),
        Step::LateTick { ms } => {
            world.now += ms;
            world.propose(Command::Tick);
        }
        Step::Owners => world.run(),
    }
}

fn report(
    world: &mut World,
    call: u8,
    leg: u8,
    phase: Phase,
    told: impl Fn(strowger_core::ids::LegId) -> strowger_core::state::command::Observation,
) {
    let Some(call) = live_call(world, call) else {
        return;
    };
    let legs: Vec<_> = world.row(call).legs.iter().map(|leg| leg.id).collect();
    if let Some(leg) = pick(&legs, leg) {
        world.set_phase(call, leg, phase);
        world.observe(call, vec![told(leg)]);
    }
}

fn agent_action(name: &str, what: u8) -> Action {
    let agent = AgentId::from(name);
    let elsewhere = |extension: &str| Action::SignIn {
        agent: agent.clone(),
        extension: Some(extension.into()),
    };
    match what {
        0 | 1 => Action::SignIn {
            agent,
            extension: None,
        },
        2 => Action::SignOut { agent },
        3 => Action::Pause {
            agent,
            reason: "lunch".to_string(),
        },
        4 => Action::Ready { agent },
        _ => elsewhere("1005"),
    }
}

/// A node comes or goes; the last one stays, since nobody would be left to say so.
fn node_turns(world: &mut World, node: u8, up: bool) {
    let others = (1..=3).filter(|other| *other != node);
    let others_up = others
        .filter_map(|other| incarnation(world, other))
        .any(|(_, up)| up);
    let Some((life, is_up)) = incarnation(world, node) else {
        return;
    };
    if up {
        world.node_up(u64::from(node), if is_up { life } else { life + 1 });
    } else if others_up {
        world.node_down(u64::from(node), life);
    }
}

/// What must hold after every entry beside the state's own invariants.
fn check(world: &World) {
    let cdrs = world.cdrs();
    let recorded: BTreeSet<CallId> = cdrs.iter().map(|cdr| cdr.call).collect();
    assert_eq!(cdrs.len(), recorded.len(), "a call left two records");
    world.state(|state| {
        // Agents who answered too late are still being told so.
        let parting = state.calls.values().filter(|call| call.recorded);
        // An offer of a callback leaves no record.
        let parting = parting.filter(|call| call.callback.is_none() || call.attempt > 0);
        let parting: BTreeSet<CallId> = parting.map(|call| call.id).collect();
        let live = state.calls.values();
        let live = live.filter(|call| call.callback.is_none() && !call.recorded);
        let all = world.arrived.len() + world.refused;
        // Attempts of callbacks arrive from nowhere.
        let own = cdrs.iter().filter(|cdr| cdr.callback.is_none());
        assert_eq!(own.count() + live.count(), all, "a call left no record");
        let mut live = state.calls.keys();
        assert!(live.all(|call| recorded.contains(call) == parting.contains(call)));
        figures_match_records(state, &cdrs);
        quarters_add_up(world, state);
        for row in state.addresses.values() {
            let up = |node: NodeId| state.nodes.get(&node).is_some_and(|node| node.up);
            // Only one that no running node can have is without.
            let mut running = state.nodes.values().filter(|node| node.up);
            let kept = match row.holder {
                Some(holder) => up(holder) && !row.barred.contains(&holder),
                None => running.all(|node| row.barred.contains(&node.id)),
            };
            assert!(kept, "{} is not held as it could be", row.address);
        }
    });
}

/// Figures are the sums of the records and of the live calls, to the digit.
fn figures_match_records(state: &State, cdrs: &[strowger_core::cdr::CdrRow]) {
    for ((_, subject), figure) in &state.figures {
        let Subject::Queue(queue) = subject else {
            continue;
        };
        let of_queue = cdrs.iter().filter(|cdr| cdr.queue.as_ref() == Some(queue));
        let (mut answered, mut entered, mut talk_ms, mut wait_ms) = (0, 0, 0, 0);
        for cdr in of_queue {
            entered += 1;
            talk_ms += cdr.talk_ms;
            if cdr.answered_at.is_some() {
                answered += 1;
                wait_ms += cdr.wait_ms().unwrap_or(0);
            }
        }
        for call in state.calls.values().filter(|call| !call.recorded) {
            let Some(visit) = call.visit.as_ref().filter(|visit| visit.queue == *queue) else {
                continue;
            };
            entered += 1;
            if let Some(at) = call.answered_at {
                answered += 1;
                wait_ms += at.since(visit.entered_at);
            }
        }
        let counted = (
            figure.entered,
            figure.answered,
            figure.talk_ms + figure.hold_ms,
            figure.answered_wait_ms,
        );
        assert_eq!(
            counted,
            (entered, answered, talk_ms, wait_ms),
            "queue {queue}"
        );
    }
}

/// The quarters of each queue and agent add up to its live figures, to the digit, and
/// agents' share of the answers to that of the queues.
fn quarters_add_up(world: &World, state: &State) {
    let (mut by_queues, mut by_agents) = (0, 0);
    for ((_, subject), live) in &state.figures {
        let mut sum = Tally::default();
        for (_, quarter) in world.quarters(subject) {
            sum.add(&quarter);
        }
        assert_eq!(sum, *live, "{subject}");
        match subject {
            Subject::Queue(_) => by_queues += live.answered,
            Subject::Agent(_) => by_agents += live.answered,
        }
    }
    assert_eq!(by_queues, by_agents, "each answer is one agent's");
}

/// Ends whatever is left and gives the owners time.
fn close_down(world: &mut World) {
    world.reconcile();
    // While agents are at work callbacks go on dialling.
    for agent in AGENTS {
        world.act(Action::SignOut {
            agent: AgentId::from(agent),
        });
    }
    let left: Vec<CallId> = world.state(|state| state.calls.keys().copied().collect());
    for call in left {
        world.act(Action::Hangup { call });
    }
    world.reconcile();
    world.advance(60_000);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 80, ..ProptestConfig::default() })]

    #[test]
    fn every_day_keeps_the_invariants(steps in prop::collection::vec(step(), 1..80)) {
        let mut world = floor();
        for one in &steps {
            play(&mut world, one);
            check(&world);
        }
        close_down(&mut world);
        check(&world);
        prop_assert!(world.state(|state| state.calls.is_empty()));
        let busy = world.state(|state| {
            let agents = state.agents.values();
            agents.filter(|agent| !matches!(agent.activity, Activity::Idle)).count()
        });
        prop_assert_eq!(busy, 0, "agents are free when all calls are over");
    }

    #[test]
    fn a_restart_at_any_time_gives_an_equal_state(
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let mut world = floor();
        for one in &steps {
            play(&mut world, one);
            let restarted = Copy::restored(&world.copy.rows);
            prop_assert_eq!(restarted.words(), world.copy.words());
        }
        let mut other = Copy::new();
        for (meta, batch) in &world.log {
            other.apply(*meta, batch);
        }
        prop_assert_eq!(other.machine.state_hash(), world.copy.machine.state_hash());
        prop_assert!(other.rows == world.copy.rows);
    }

    #[test]
    fn wake_ups_lost_or_repeated_leave_no_trace(
        steps in prop::collection::vec(step(), 1..60),
        faults in prop::collection::vec(0..3u8, 60),
    ) {
        let plain = day(&steps, &[]);
        let faulty = day(&steps, &faults);
        prop_assert_eq!(plain, faulty);
    }
}

/// Plays a day in which the owners come to rest after each step, wake-ups being kept
/// (0), lost (1) or repeated (2), and says how it ended.
fn day(steps: &[Step], faults: &[u8]) -> String {
    let mut world = floor();
    for (n, one) in steps.iter().enumerate() {
        play(&mut world, one);
        match faults.get(n) {
            Some(1) => drop(world.copy.wakes.take()),
            Some(2) => {
                let all: Vec<CallId> = world.state(|state| state.calls.keys().copied().collect());
                for call in all {
                    world.step(call);
                    world.step(call);
                }
            }
            _ => world.run(),
        }
        world.reconcile();
    }
    let cdrs = world.cdrs().into_iter();
    let records: Vec<_> = cdrs
        .map(|cdr| {
            (
                cdr.from,
                cdr.to,
                cdr.disposition,
                cdr.cause,
                cdr.agent,
                cdr.legs.len(),
            )
        })
        .collect();
    world.state(|state| {
        let figures: Vec<_> = state.figures.values().collect();
        let calls: Vec<_> = state
            .calls
            .values()
            .map(|call| {
                (
                    call.state().word(),
                    call.visit.as_ref().map(|v| v.offers.clone()),
                )
            })
            .collect();
        let agents: Vec<_> = state.agents.values().map(|agent| agent.shown).collect();
        format!("{records:#?} {figures:#?} {calls:#?} {agents:#?}")
    })
}
