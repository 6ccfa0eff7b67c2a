//! Random days of the distributor, over random sites: strategies, rules, steps, weights,
//! waits for one agent. Each entry is held against the reference, which knows nothing of
//! how the state keeps its pools.
//!
//! A failing day is shortened and printed with the seed of its run. `STROWGER_SEED` and
//! `STROWGER_ASSIGNMENTS` repeat or lengthen a run.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};
use strowger_core::call::{Cause, Seen};
use strowger_core::ids::{AgentId, CallId, QueueName, SkillName, TeamName};
use strowger_core::site::{NumberSpec, QueueSpec, RelaxStep, Site, Strategy as Picking, Target};
use strowger_core::skill::SkillRule;
use strowger_core::state::command::Action;

use crate::harness::{World, agent_spec, site};
use crate::rows::Copy;

const QUEUES: [&str; 4] = ["q0", "q1", "q2", "q3"];
const AGENTS: [&str; 8] = ["a0", "a1", "a2", "a3", "a4", "a5", "a6", "a7"];
const SKILLS: [&str; 3] = ["lang", "tv", "radio"];
const RULES: [&str; 6] = ["", "", "lang", "lang>=2 & tv", "tv | radio>=2", "radio"];

/// A queue of a random site, by numbers that pick among what there is.
#[derive(Clone, Debug)]
struct Line {
    strategy: u8,
    rule: u8,
    step: u8,
    weight: i64,
    slope: u32,
    age_max_s: u64,
    sticky_s: u64,
    missed_max: u32,
}

/// An agent of a random site.
#[derive(Clone, Debug)]
struct Person {
    /// Bits of the queues served.
    queues: u8,
    levels: [u8; 3],
    team: bool,
    wrap_s: Option<u64>,
}

#[derive(Clone, Debug)]
struct Plan {
    lines: Vec<Line>,
    people: Vec<Person>,
}

#[derive(Clone, Debug)]
enum Step {
    Call {
        queue: u8,
    },
    /// An offered call is answered.
    Answer {
        call: u8,
    },
    /// An offer is declined, or its phone fails.
    Decline {
        call: u8,
        fails: bool,
    },
    /// A call ends at the caller.
    Leave {
        call: u8,
    },
    Agent {
        agent: u8,
        what: u8,
    },
    Prioritize {
        call: u8,
        weight: i64,
    },
    Prefer {
        call: u8,
        agent: u8,
    },
    Pass {
        ms: u64,
    },
    /// The site changes: these strategies from now on.
    Site {
        turn: u8,
    },
}

fn plan() -> impl Strategy<Value = Plan> {
    let line = (
        0..7u8,
        0..6u8,
        0..8u8,
        prop_oneof![3 => Just(0i64), 1 => 1..200i64],
        prop_oneof![Just(1u32), 0..5u32],
        prop_oneof![Just(600u64), 0..60u64],
        prop_oneof![Just(0u64), Just(20u64)],
        prop_oneof![Just(0u32), Just(2u32)],
    );
    let line = line.prop_map(
        |(strategy, rule, step, weight, slope, age_max_s, sticky_s, missed_max)| Line {
            strategy,
            rule,
            step,
            weight,
            slope,
            age_max_s,
            sticky_s,
            missed_max,
        },
    );
    let person = (
        1..16u8,
        [0..4u8, 0..4u8, 0..4u8],
        any::<bool>(),
        prop_oneof![Just(None), Just(Some(0)), Just(Some(5u64))],
    );
    let person = person.prop_map(|(queues, levels, team, wrap_s)| Person {
        queues,
        levels,
        team,
        wrap_s,
    });
    let lines = prop::collection::vec(line, QUEUES.len());
    let people = prop::collection::vec(person, AGENTS.len());
    (lines, people).prop_map(|(lines, people)| Plan { lines, people })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (0..4u8).prop_map(|queue| Step::Call { queue }),
        10 => any::<u8>().prop_map(|call| Step::Answer { call }),
        2 => (any::<u8>(), any::<bool>()).prop_map(|(call, fails)| Step::Decline { call, fails }),
        10 => any::<u8>().prop_map(|call| Step::Leave { call }),
        4 => (0..8u8, 0..6u8).prop_map(|(agent, what)| Step::Agent { agent, what }),
        1 => (any::<u8>(), -50..500i64).prop_map(|(call, weight)| Step::Prioritize { call, weight }),
        2 => (any::<u8>(), 0..8u8).prop_map(|(call, agent)| Step::Prefer { call, agent }),
        8 => (0..9_000u64).prop_map(|ms| Step::Pass { ms }),
        1 => (10_000..60_000u64).prop_map(|ms| Step::Pass { ms }),
        1 => (0..7u8).prop_map(|turn| Step::Site { turn }),
    ]
}

fn rule(place: u8) -> SkillRule {
    SkillRule::parse(RULES[usize::from(place) % RULES.len()]).expect("a rule")
}

/// Steps that widen a rule, by number; half of them none.
fn relax(kind: u8) -> Vec<RelaxStep> {
    let step = |after_ms, skills: Option<u8>, queue: Option<&str>, team: bool| RelaxStep {
        after_ms,
        skills: skills.map(rule),
        queues: queue.into_iter().map(QueueName::from).collect(),
        teams: team.then(|| TeamName::from("night")).into_iter().collect(),
    };
    match kind {
        0 => vec![step(10_000, Some(0), None, false)],
        1 => vec![
            step(5_000, None, Some("q0"), false),
            step(20_000, Some(0), None, true),
        ],
        2 => vec![step(8_000, Some(2), Some("q1"), false)],
        3 => vec![step(1_000, None, None, true)],
        _ => Vec::new(),
    }
}

/// The site of a plan, with the strategies turned by some places.
fn site_of(plan: &Plan, turn: u8) -> Site {
    let mut site = site();
    site.queues.clear();
    for (name, line) in QUEUES.iter().zip(&plan.lines) {
        let place = usize::from(line.strategy + turn) % Picking::ALL.len();
        let spec = QueueSpec {
            weight: line.weight,
            slope: line.slope,
            age_max_ms: line.age_max_s * 1_000,
            skills: rule(line.rule),
            relax: relax(line.step),
            sticky_ms: line.sticky_s * 1_000,
            ..QueueSpec::plain(Picking::ALL[place], 15_000, 3_000, line.missed_max)
        };
        site.queues.insert(QueueName::from(*name), spec);
        let number = NumberSpec {
            target: Target::Queue(QueueName::from(*name)),
            public: true,
            greeting: None,
            hours: None,
        };
        site.numbers.insert(format!("40{}", &name[1..]), number);
    }
    site.numbers.retain(|_, spec| match &spec.target {
        Target::Queue(queue) => site.queues.contains_key(queue),
        Target::Extension(_) => true,
    });
    site.agents.clear();
    for ((place, name), person) in (0u32..).zip(AGENTS).zip(&plan.people) {
        let served = QUEUES.iter().enumerate();
        let served = served.filter(|(n, _)| person.queues >> n & 1 == 1);
        let queues: Vec<&str> = served.map(|(_, name)| *name).collect();
        let mut spec = agent_spec(None, &queues, true);
        spec.contact = Some(format!("sip:{name}@127.0.0.91"));
        // Not the order of the names, so that ties by name show.
        spec.place = (place * 5) % 8;
        spec.wrap_ms = person.wrap_s.map(|s| s * 1_000);
        spec.team = person.team.then(|| TeamName::from("night"));
        let levels = SKILLS
            .iter()
            .zip(person.levels)
            .filter(|(_, level)| *level > 0);
        spec.skills = levels
            .map(|(skill, level)| (SkillName::from(*skill), level))
            .collect();
        site.agents.insert(AgentId::from(name), spec);
    }
    site
}

fn pick(
    world: &World,
    n: u8,
    wanted: impl Fn(&strowger_core::call::CallRow) -> bool,
) -> Option<CallId> {
    world.state(|state| {
        let all: Vec<CallId> = state
            .calls
            .values()
            .filter(|call| wanted(call))
            .map(|call| call.id)
            .collect();
        all.get(usize::from(n) % all.len().max(1)).copied()
    })
}

fn is_offered(call: &strowger_core::call::CallRow) -> bool {
    call.visit
        .as_ref()
        .is_some_and(|visit| !visit.offers.is_empty())
}

/// A leg that rings at an agent of an offered call.
fn ringing(world: &World, n: u8) -> Option<(CallId, strowger_core::ids::LegId)> {
    let call = pick(world, n, is_offered)?;
    let row = world.row(call);
    let mut legs = row.legs.iter().skip(1);
    let leg = legs.find(|leg| leg.seen == Seen::Fresh && row.visit.as_ref().is_some_and(|visit| {
        matches!(&leg.role, strowger_core::call::LegRole::Agent(agent) if visit.offer_to(agent).is_some())
    }))?;
    Some((call, leg.id))
}

fn play(world: &mut World, plan: &Plan, step: &Step) {
    match *step {
        Step::Call { queue } => {
            world.invite_at(1, "anonymous", &format!("40{queue}"));
        }
        Step::Answer { call } => {
            if let Some((call, leg)) = ringing(world, call) {
                world.answers(call, leg);
            }
        }
        Step::Decline { call, fails } => {
            if let Some((call, leg)) = ringing(world, call) {
                let status = if fails { 503 } else { 486 };
                world.ends(call, leg, Cause::from_status(status));
            }
        }
        Step::Leave { call } => {
            if let Some(call) = pick(world, call, |call| call.ending.is_none()) {
                world.leaves(call);
            }
        }
        Step::Agent { agent, what } => {
            let agent = AgentId::from(AGENTS[usize::from(agent)]);
            world.act(match what {
                0 => Action::SignOut { agent },
                1 => Action::Pause {
                    agent,
                    reason: "coffee".into(),
                },
                2 => Action::ExtendWrapUp {
                    agent,
                    by_ms: 10_000,
                },
                3 => Action::Ready { agent },
                _ => Action::SignIn {
                    agent,
                    extension: None,
                },
            });
        }
        Step::Prioritize { call, weight } => {
            if let Some(call) = pick(world, call, |call| call.is_waiting()) {
                world.act(Action::Prioritize { call, weight });
            }
        }
        Step::Prefer { call, agent } => {
            let agent = AgentId::from(AGENTS[usize::from(agent)]);
            if let Some(call) = pick(world, call, |call| call.is_waiting() && !is_offered(call)) {
                world.act(Action::Prefer { call, agent });
            }
        }
        Step::Pass { ms } => world.advance(ms),
        Step::Site { turn } => {
            let base = world.state(|state| state.sites[&crate::harness::tenant()].version);
            world.apply_site(site_of(plan, turn), base);
        }
    }
    world.run();
}

/// Plays a day; the offers made.
fn day(plan: &Plan, steps: &[Step], check_every: u64) -> World {
    let mut world = World::with_site(site_of(plan, 0));
    world.check_every = check_every;
    for one in steps {
        play(&mut world, plan, one);
    }
    world
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn every_day_is_dispatched_as_the_reference_says(
        plan in plan(),
        steps in prop::collection::vec(step(), 1..250),
    ) {
        day(&plan, &steps, 1);
    }

    #[test]
    fn a_restart_keeps_every_pool(
        plan in plan(),
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let mut world = World::with_site(site_of(&plan, 0));
        for one in &steps {
            play(&mut world, &plan, one);
            let restarted = Copy::restored(&world.copy.rows);
            prop_assert_eq!(restarted.words(), world.copy.words());
        }
    }
}

fn from_environment(name: &str, default: u64) -> u64 {
    let given = std::env::var(name).ok().and_then(|text| text.parse().ok());
    given.unwrap_or(default)
}

/// Plays days until enough assignments were held against the reference, on so many
/// processors, each with a seed of its own that follows the one before.
fn many_days(wanted: usize, seed: u64, check_every: u64, processors: usize) {
    let begun = Instant::now();
    let counts = Counts::default();
    std::thread::scope(|scope| {
        for own in (seed..).take(processors) {
            let counts = &counts;
            scope.spawn(move || days_of(own, wanted, check_every, counts));
        }
    });
    println!(
        "seeds from {seed} on: {} assignments in {} days and {} entries, 0 against the \
         reference, {:.0} s on {processors} processors",
        counts.assigned.load(Ordering::Relaxed),
        counts.days.load(Ordering::Relaxed),
        counts.entries.load(Ordering::Relaxed),
        begun.elapsed().as_secs_f64(),
    );
}

/// What was played so far, by all.
#[derive(Default)]
struct Counts {
    assigned: AtomicUsize,
    entries: AtomicUsize,
    days: AtomicUsize,
}

/// The days of one seed, until all together have made enough assignments.
fn days_of(seed: u64, wanted: usize, check_every: u64, counts: &Counts) {
    let mut bytes = [0u8; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let config = ProptestConfig {
        failure_persistence: None,
        cases: 1,
        max_shrink_iters: 300,
        ..ProptestConfig::default()
    };
    let mut runner = TestRunner::new_with_rng(config, rng);
    let days = (plan(), prop::collection::vec(step(), 400));
    let mut played = 0;
    while counts.assigned.load(Ordering::Relaxed) < wanted {
        let tree = days.new_tree(&mut runner).expect("days can be made");
        let result = runner.run_one(tree, |(plan, steps)| {
            let world = day(&plan, &steps, check_every);
            counts.assigned.fetch_add(world.assigned, Ordering::Relaxed);
            counts.entries.fetch_add(world.log.len(), Ordering::Relaxed);
            Ok(())
        });
        if let Err(failure) = result {
            panic!("STROWGER_SEED={seed} STROWGER_ASSIGNMENTS={wanted}: day {played}: {failure}");
        }
        counts.days.fetch_add(1, Ordering::Relaxed);
        played += 1;
    }
}

#[test]
fn thousands_of_assignments_are_as_the_reference_says() {
    many_days(3_000, from_environment("STROWGER_SEED", 1), 16, 1);
}

#[test]
#[ignore = "takes many minutes; make test-long runs it optimised"]
fn a_million_assignments_are_as_the_reference_says() {
    let wanted = from_environment("STROWGER_ASSIGNMENTS", 1_000_000);
    let wanted = usize::try_from(wanted).expect("a number that fits");
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    many_days(
        wanted,
        from_environment("STROWGER_SEED", 2),
        256,
        processors,
    );
}
