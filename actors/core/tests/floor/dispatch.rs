//! The distributor: strategies, skills, steps, scores, the agent meant for a caller,
//! ring-all, pauses, wrap-up, times and explanations.

use std::collections::BTreeMap;

use strowger_core::call::{Cause, Want};
use strowger_core::floor::agent::AgentState;
use strowger_core::floor::explanation::{Exclusion, Explanation};
use strowger_core::ids::{AgentId, CallId, QueueName, SkillName, TeamName};
use strowger_core::limits;
use strowger_core::ports::{RowsRead, Table};
use strowger_core::site::{AgentSpec, PauseSpec, QueueSpec, RelaxStep, Site, Strategy};
use strowger_core::skill::SkillRule;
use strowger_core::state::command::{Action, Command, Refusal, Reply};
use strowger_core::state::{decode_row, encode_row};

use crate::harness::{Phone, World, agent_key, agent_spec, refusal, site};

/// An agent at a fixed device, at work at once.
fn at_device(name: &str, place: u32, queues: &[&str]) -> (AgentId, AgentSpec) {
    let mut spec = agent_spec(None, queues, true);
    spec.contact = Some(format!("sip:{name}@127.0.0.91"));
    spec.place = place;
    (AgentId::from(name), spec)
}

/// A site whose agents sit at fixed devices and serve `support`, changed by `with`.
fn floor(names: &[&str], with: impl FnOnce(&mut Site)) -> World {
    let mut site = site();
    let named = (0u32..).zip(names);
    site.agents = named
        .map(|(place, name)| at_device(name, place, &["support"]))
        .collect();
    with(&mut site);
    World::with_site(site)
}

fn queue<'s>(site: &'s mut Site, name: &str) -> &'s mut QueueSpec {
    site.queues
        .get_mut(&QueueName::from(name))
        .expect("in the site")
}

fn support(site: &mut Site) -> &mut QueueSpec {
    queue(site, "support")
}

fn agent(name: &str) -> AgentId {
    AgentId::from(name)
}

fn skill(site: &mut Site, name: &str, levels: &[(&str, u8)]) {
    let spec = site.agents.get_mut(&agent(name)).expect("in the site");
    let levels = levels
        .iter()
        .map(|(skill, level)| (SkillName::from(*skill), *level));
    spec.skills = levels.collect();
}

fn rule(text: &str) -> SkillRule {
    SkillRule::parse(text).expect("a rule")
}

fn step(after_s: u64, skills: Option<&str>, queues: &[&str], teams: &[&str]) -> RelaxStep {
    RelaxStep {
        after_ms: after_s * 1_000,
        skills: skills.map(rule),
        queues: queues.iter().map(|name| QueueName::from(*name)).collect(),
        teams: teams.iter().map(|name| TeamName::from(*name)).collect(),
    }
}

/// Everybody answers at once.
fn all_answer(world: &mut World, names: &[&str]) {
    for name in names {
        let uri = format!("sip:{name}@127.0.0.91");
        world.phones.insert(uri, Phone::Answers);
    }
}

fn explanations(world: &World, call: CallId) -> Vec<Explanation> {
    let key = call.0.to_be_bytes();
    let rows = world
        .copy
        .rows
        .scan(Table::Explanation, &key, None, usize::MAX);
    let rows = rows.iter().map(|(_, value)| decode_row(value));
    rows.map(|row| row.expect("of this version")).collect()
}

/// Serves callers one after the other, each talking for the given time; who took them.
fn served(world: &mut World, talks_ms: &[u64]) -> Vec<String> {
    let mut by = Vec::new();
    for talk_ms in talks_ms {
        let call = world.call("anonymous", "4008");
        by.push(world.row(call).agent.expect("answered").to_string());
        world.advance(*talk_ms);
        world.leaves(call);
        world.advance(1_000);
    }
    by
}

#[test]
fn each_strategy_asks_in_its_own_order() {
    let names = ["c", "a", "b"];
    // Talks of 4 s and of 1 s in turn; agents are idle from the same moment on.
    let talks = [4_000, 1_000, 1_000, 4_000, 1_000, 1_000];
    let table = [
        (Strategy::LongestIdle, ["a", "b", "c", "a", "b", "c"]),
        (Strategy::RoundRobin, ["a", "b", "c", "a", "b", "c"]),
        (Strategy::FewestCalls, ["a", "b", "c", "a", "b", "c"]),
        (Strategy::LeastTalk, ["a", "b", "c", "b", "c", "c"]),
        (Strategy::Linear, ["c", "c", "c", "c", "c", "c"]),
    ];
    for (strategy, expected) in table {
        let mut world = floor(&names, |site| {
            support(site).strategy = strategy;
            support(site).wrap_ms = 0;
        });
        all_answer(&mut world, &names);
        assert_eq!(served(&mut world, &talks), expected, "{strategy:?}");
    }
}

#[test]
fn round_robin_goes_on_behind_whoever_was_asked_last_even_in_vain() {
    let mut world = floor(&["a", "b", "c"], |site| {
        support(site).strategy = Strategy::RoundRobin;
        support(site).missed_max = 0;
    });
    let call = world.call("anonymous", "4008");
    let mut asked = Vec::new();
    for _ in 0..3 {
        asked.push(world.offered_to(call).expect("offered"));
        world.advance(15_000);
    }
    assert_eq!(asked, ["a", "b", "c"]);
}

#[test]
fn random_leaves_nobody_out() {
    let names = ["a", "b", "c", "d"];
    let mut world = floor(&names, |site| {
        support(site).strategy = Strategy::Random;
        support(site).wrap_ms = 0;
    });
    all_answer(&mut world, &names);
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    for name in served(&mut world, &[1_000; 200]) {
        *counts.entry(name).or_default() += 1;
    }
    assert!(
        counts.len() == 4 && counts.values().all(|n| *n >= 20),
        "{counts:?}"
    );
}

#[test]
fn with_equal_calls_the_fair_strategies_spread_them_evenly() {
    for strategy in [
        Strategy::LongestIdle,
        Strategy::RoundRobin,
        Strategy::FewestCalls,
    ] {
        let names = ["a", "b", "c", "d", "e"];
        let mut world = floor(&names, |site| {
            support(site).strategy = strategy;
            support(site).wrap_ms = 3_000;
        });
        all_answer(&mut world, &names);
        let mut counts: BTreeMap<String, u32> = BTreeMap::new();
        for name in served(&mut world, &[2_000; 203]) {
            *counts.entry(name).or_default() += 1;
        }
        let (least, most) = (counts.values().min(), counts.values().max());
        let spread = most.zip(least).map(|(most, least)| most - least);
        assert!(
            spread.is_some_and(|spread| spread <= 2),
            "{strategy:?} {counts:?}"
        );
    }
}

#[test]
fn ring_all_offers_to_everybody_and_the_first_answer_wins() {
    let names = ["a", "b", "c"];
    let mut world = floor(&names, |site| support(site).strategy = Strategy::RingAll);
    let call = world.call("anonymous", "4008");
    assert_eq!(world.offered_to_all(call), names);
    let (a, b) = (
        world.leg_at(call, "sip:a@127.0.0.91"),
        world.leg_at(call, "sip:b@127.0.0.91"),
    );
    let both = vec![crate::harness::answered(b), crate::harness::answered(a)];
    world.observe(call, both);
    let row = world.row(call);
    assert_eq!(row.agent, Some(agent("b")));
    for leg in row.legs.iter().skip(1).filter(|leg| leg.id != b) {
        assert_eq!(leg.want, Want::End(Cause::ELSEWHERE), "{:?}", leg.role);
    }
    world.run();
    assert_eq!(world.agent("a"), AgentState::Ready);
    assert_eq!(world.agent("b"), AgentState::Talking);
    let missed = world.state(|state| state.agents.values().map(|agent| agent.missed).sum::<u32>());
    assert_eq!(missed, 0, "whoever was slower has missed nothing");
    let calls = world.state(|state| state.agents[&agent_key("a")].calls);
    assert_eq!(calls, 0);
    let why = explanations(&world, call);
    assert_eq!(why.len(), 1, "one choice");
    assert_eq!(why[0].winners, names.map(AgentId::from));
}

#[test]
fn ring_all_goes_on_at_the_others_when_one_declines() {
    let mut world = floor(&["a", "b"], |site| {
        support(site).strategy = Strategy::RingAll
    });
    let call = world.call("anonymous", "4008");
    let a = world.leg_at(call, "sip:a@127.0.0.91");
    world.ends(call, a, Cause::BUSY);
    assert_eq!(world.offered_to_all(call), ["b"]);
    assert_eq!(world.agent("a"), AgentState::Ready);
    world.advance(15_000);
    assert_eq!(world.offered_to_all(call), ["a"], "b missed him last");
}

#[test]
fn nobody_is_offered_a_caller_whom_the_skills_do_not_fit() {
    let mut world = floor(&["a", "b", "c"], |site| {
        support(site).skills = rule("lang>=2 & (tv | radio>=3)");
        skill(site, "a", &[("lang", 1), ("tv", 9)]);
        skill(site, "b", &[("lang", 2)]);
        skill(site, "c", &[("lang", 3), ("radio", 3)]);
    });
    let first = world.call("anonymous", "4008");
    let second = world.call("anonymous", "4008");
    assert_eq!(world.offered_to(first).as_deref(), Some("c"));
    assert_eq!(world.offered_to(second), None);
}

#[test]
fn steps_widen_who_may_serve_and_each_is_told() {
    let mut world = floor(&["a", "b", "c"], |site| {
        let spec = support(site);
        spec.skills = rule("lang>=3");
        spec.relax = vec![
            step(20, Some("lang>=1"), &[], &[]),
            step(40, None, &["sales"], &[]),
            step(60, Some(""), &[], &["night"]),
        ];
        skill(site, "a", &[("lang", 1)]);
        for (name, queues, team, levels) in [
            ("b", "sales", None, &[("lang", 1)][..]),
            ("c", "other", Some("night"), &[]),
        ] {
            let spec = site.agents.get_mut(&agent(name)).expect("in the site");
            spec.queues = [QueueName::from(queues)].into();
            spec.team = team.map(TeamName::from);
            skill(site, name, levels);
        }
    });
    let calls: Vec<CallId> = (0..3).map(|_| world.call("anonymous", "4008")).collect();
    let offered = |world: &World| -> Vec<Option<String>> {
        calls.iter().map(|call| world.offered_to(*call)).collect()
    };
    let some = |name: &str| Some(name.to_string());
    world.advance(19_999);
    assert_eq!(offered(&world), [None, None, None]);
    world.advance(1);
    assert_eq!(offered(&world), [some("a"), None, None]);
    world.agent_answers(calls[0]);
    world.advance(20_000);
    assert_eq!(offered(&world), [None, some("b"), None]);
    world.agent_answers(calls[1]);
    world.advance(20_000);
    assert_eq!(offered(&world), [None, None, some("c")]);
    let told: Vec<_> = world
        .events()
        .into_iter()
        .filter(|e| e.kind == "call.relaxed")
        .collect();
    assert_eq!(
        told.len(),
        3 + 2 + 1,
        "each caller who still waits, at each step"
    );
    let steps: Vec<u32> = calls
        .iter()
        .map(|call| explanations(&world, *call)[0].step)
        .collect();
    assert_eq!(steps, [1, 2, 3]);
}

#[test]
fn the_higher_score_goes_first_over_all_queues_and_age_before_everything() {
    let mut world = floor(&["a"], |site| {
        support(site).weight = 30;
        support(site).wrap_ms = 0;
        queue(site, "sales").slope = 3;
        queue(site, "sales").wrap_ms = 0;
        let both = ["support", "sales"].map(QueueName::from);
        site.agents
            .get_mut(&agent("a"))
            .expect("in the site")
            .queues = both.into();
    });
    world.act(Action::Pause {
        agent: agent("a"),
        reason: "coffee".into(),
    });
    let sales = world.call("1002", "4009");
    world.advance(2_000);
    let support = world.call("anonymous", "4008");
    world.advance(2_000);
    let vip = world.call("anonymous", "4008");
    let weigh = |call, weight| Action::Prioritize { call, weight };
    assert_eq!(world.act(weigh(vip, 1_000)), Reply::Done);
    let next = |world: &mut World| {
        world.act(Action::Ready { agent: agent("a") });
        world.run();
        let mut all = [sales, support, vip].into_iter();
        let call = all.find(|call| world.is_live(*call) && world.offered_to(*call).is_some());
        let call = call.expect("somebody is offered");
        world.act(Action::Pause {
            agent: agent("a"),
            reason: "coffee".into(),
        });
        world.agent_answers(call);
        world.leaves(call);
        world.run();
        call
    };
    assert_eq!(next(&mut world), vip);
    // 30 + 2 against 3 × 4; ten seconds later 30 + 12 against 3 × 14.
    assert_eq!(next(&mut world), support);
    let other = world.call("anonymous", "4008");
    world.act(weigh(other, 100_000));
    world.advance(600_000);
    let aged = next(&mut world);
    assert_eq!(aged, sales, "nobody later goes before him any more");
}

#[test]
fn a_caller_nobody_can_serve_holds_up_nobody() {
    let mut world = floor(&["a", "b"], |site| {
        support(site).skills = rule("lang");
        let spec = site.agents.get_mut(&agent("b")).expect("in the site");
        spec.queues = [QueueName::from("sales")].into();
    });
    let stuck = world.call("anonymous", "4008");
    let served = world.call("1002", "4009");
    assert_eq!(world.offered_to(stuck), None);
    assert_eq!(world.offered_to(served).as_deref(), Some("b"));
}

#[test]
fn as_many_as_can_be_are_served_by_one_entry() {
    let names: Vec<String> = (0..9).map(|n| format!("a{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut closed = None;
    let mut world = floor(&names, |site| {
        closed = Some(site.clone());
        site.agents
            .values_mut()
            .for_each(|agent| agent.queues.clear());
    });
    let calls: Vec<CallId> = (0..12).map(|_| world.call("anonymous", "4008")).collect();
    let entry = world.index;
    world.apply_site(closed.expect("made"), 1);
    assert_eq!(world.index, entry + 1);
    let offered: Vec<Option<String>> = calls.iter().map(|call| world.offered_to(*call)).collect();
    assert!(offered[..9].iter().all(Option::is_some), "{offered:?}");
    assert!(offered[9..].iter().all(Option::is_none), "{offered:?}");
}

fn prefer(world: &mut World, call: CallId, name: &str) -> Reply {
    let agent = agent(name);
    world.act(Action::Prefer { call, agent })
}

#[test]
fn a_caller_waits_for_the_agent_meant_for_him_and_then_for_anybody() {
    let begin = || {
        let mut world = floor(&["a", "b"], |site| support(site).sticky_ms = 20_000);
        let first = world.call("anonymous", "4008");
        let second = world.call("anonymous", "4008");
        world.agent_answers(first);
        world.agent_answers(second);
        let call = world.call("anonymous", "4008");
        assert_eq!(prefer(&mut world, call, "b"), Reply::Done);
        // The other one becomes free first, and is left alone.
        world.leaves(first);
        world.advance(10_000);
        assert_eq!(world.agent("a"), AgentState::Ready);
        assert_eq!(world.offered_to(call), None);
        (world, second, call)
    };
    let (mut world, second, call) = begin();
    world.leaves(second);
    world.act(Action::Ready { agent: agent("b") });
    assert_eq!(world.offered_to(call).as_deref(), Some("b"));
    let why = explanations(&world, call).pop().expect("explained");
    assert!(why.meant);
    assert!(
        why.excluded.contains(&(agent("a"), Exclusion::Meant)),
        "{why:?}"
    );
    let (mut world, _, call) = begin();
    world.advance(9_999);
    assert_eq!(world.offered_to(call), None);
    world.advance(1);
    assert_eq!(world.offered_to(call).as_deref(), Some("a"), "by time");
    let (mut world, _, call) = begin();
    let reason = "coffee".to_string();
    let agent = agent("b");
    world.act(Action::Pause { agent, reason });
    assert_eq!(world.offered_to(call).as_deref(), Some("a"), "he is paused");
}

#[test]
fn nobody_waits_for_an_agent_who_may_not_serve_him_any_more() {
    let mut world = floor(&["a", "b"], |site| {
        skill(site, "b", &[("lang", 1)]);
        let queue = support(site);
        queue.sticky_ms = 60_000;
        queue.relax = vec![step(10, Some("lang"), &[], &[])];
    });
    let talks = world.call("anonymous", "4008");
    world.agent_answers(talks);
    let other = world.call("anonymous", "4008");
    world.agent_answers(other);
    let call = world.call("anonymous", "4008");
    assert_eq!(prefer(&mut world, call, "a"), Reply::Done);
    world.advance(10_000);
    world.leaves(talks);
    world.act(Action::Ready { agent: agent("a") });
    assert_eq!(world.offered_to(call), None, "a does not speak it");
    world.leaves(other);
    world.act(Action::Ready { agent: agent("b") });
    assert_eq!(world.offered_to(call).as_deref(), Some("b"));
}

#[test]
fn nobody_waits_for_an_agent_who_cannot_come() {
    let mut world = floor(&["a", "b"], |_| {});
    world.act(Action::SignOut { agent: agent("a") });
    world.act(Action::SignOut { agent: agent("b") });
    let call = world.call("anonymous", "4008");
    let reply = prefer(&mut world, call, "a");
    assert!(
        matches!(refusal(&reply), Refusal::Conflict(_)),
        "signed out"
    );
    world.sign_in("a");
    let reply = prefer(&mut world, call, "a");
    assert!(
        matches!(refusal(&reply), Refusal::Conflict(_)),
        "nothing is granted"
    );
    let gone = CallId::from_parts(1, 9);
    let reply = prefer(&mut world, gone, "a");
    assert!(matches!(refusal(&reply), Refusal::NotFound(_)));
}

#[test]
fn who_missed_a_caller_is_passed_over_while_others_are_at_work() {
    let mut world = floor(&["a", "b"], |site| support(site).missed_max = 0);
    let other = world.call("anonymous", "4008");
    let call = world.call("anonymous", "4008");
    assert_eq!(world.offered_to(call).as_deref(), Some("b"));
    world.agent_answers(other);
    world.advance(15_000);
    // A talks on; b has missed the caller and is not asked again.
    world.advance(60_000);
    assert_eq!(world.offered_to(call), None);
    assert_eq!(world.agent("b"), AgentState::Ready);
    world.act(Action::SignOut { agent: agent("a") });
    assert_eq!(
        world.offered_to(call).as_deref(),
        Some("b"),
        "nobody else is left"
    );
}

fn pauses() -> Vec<PauseSpec> {
    let pause = |reason: &str, limit_ms, productive| PauseSpec {
        reason: reason.into(),
        limit_ms,
        productive,
    };
    vec![
        pause("lunch", Some(60_000), false),
        pause("training", None, true),
    ]
}

#[test]
fn a_site_that_lists_reasons_wants_one_of_them_and_tells_when_it_lasts_too_long() {
    let mut world = floor(&["a"], |site| site.pauses = pauses());
    let pause = |reason: &str| Action::Pause {
        agent: agent("a"),
        reason: reason.into(),
    };
    let reply = world.act(pause("coffee"));
    let Refusal::Conflict(why) = refusal(&reply) else {
        panic!("{reply:?}");
    };
    assert!(why.contains("lunch, training"), "{why}");
    assert_eq!(world.act(pause("lunch")), Reply::Done);
    let overdue = |world: &World| {
        let told = world
            .events()
            .into_iter()
            .filter(|e| e.kind == "agent.pause_overdue")
            .count();
        (
            told,
            world.state(|state| state.agents[&agent_key("a")].overdue),
        )
    };
    world.advance(59_999);
    assert_eq!(overdue(&world), (0, false));
    world.advance(1);
    assert_eq!(overdue(&world), (1, true));
    world.advance(30_000);
    assert_eq!(world.agent("a"), AgentState::Paused, "and stays so");
    assert_eq!(world.act(pause("training")), Reply::Done);
    world.advance(600_000);
    assert_eq!(overdue(&world), (1, false), "another reason, another limit");
    world.act(Action::Ready { agent: agent("a") });
    let row = world.state(|state| state.agents[&agent_key("a")].clone());
    assert_eq!(row.times[AgentState::Paused.slot()], 690_000);
    assert_eq!(row.unproductive_ms, 90_000);
}

#[test]
fn feature_codes_choose_the_reason_by_its_place() {
    let table = [
        ("*13", Some("lunch")),
        ("*132", Some("training")),
        ("*133", None),
    ];
    for (code, reason) in table {
        let mut site = site();
        site.pauses = pauses();
        let mut world = World::with_site(site);
        world.register("1002", "desk", 3_600);
        world.sign_in("bob");
        world.call("1002", code);
        world.run();
        let paused = world.state(|state| state.agents[&agent_key("bob")].paused.clone());
        assert_eq!(paused.as_deref(), reason, "{code}");
    }
}

#[test]
fn wrap_up_is_the_agents_own_and_grows_by_action_and_by_phone() {
    let mut world = World::with_site({
        let mut site = site();
        let spec = site.agents.get_mut(&agent("bob")).expect("in the site");
        spec.wrap_ms = Some(30_000);
        site
    });
    world.register("1002", "desk", 7_200);
    world.sign_in("bob");
    let extend = |by_ms| Action::ExtendWrapUp {
        agent: agent("bob"),
        by_ms,
    };
    let reply = world.act(extend(1_000));
    assert!(
        matches!(refusal(&reply), Refusal::Conflict(_)),
        "not in wrap-up"
    );
    let call = world.call("anonymous", "4008");
    world.agent_answers(call);
    world.leaves(call);
    world.advance(20_000);
    assert_eq!(
        world.agent("bob"),
        AgentState::WrapUp,
        "30 s, not the queue's 10"
    );
    assert_eq!(world.act(extend(5_000)), Reply::Done);
    let base = world.state(|state| state.sites[&crate::harness::tenant()].version);
    world.apply_site(site(), base);
    world.call("1002", "*15");
    world.advance(10_000 + 5_000 + limits::WRAP_EXTENSION_MS - 1);
    let waiting = world.call("anonymous", "4008");
    assert_eq!(
        world.offered_to(waiting),
        None,
        "no change of the site ends it"
    );
    world.advance(1);
    assert_eq!(world.offered_to(waiting).as_deref(), Some("bob"));
    world.agent_answers(waiting);
    world.leaves(waiting);
    world.act(extend(u64::MAX));
    world.advance(limits::WRAP_MAX_MS);
    assert_eq!(world.agent("bob"), AgentState::Ready, "an hour at most");
}

#[test]
fn the_times_of_the_states_add_up_to_the_time_at_work() {
    let mut world = World::at_work(&["bob"]);
    let begun = world.now - 10;
    let call = world.call("anonymous", "4008");
    world.advance(3_000);
    world.agent_answers(call);
    world.advance(7_000);
    world.act(Action::SignOut {
        agent: agent("bob"),
    });
    world.advance(2_000);
    world.leaves(call);
    let ended = world.now;
    world.advance(50_000);
    let row = world.state(|state| state.agents[&agent_key("bob")].clone());
    let time = |state: AgentState| row.times[state.slot()];
    assert_eq!(time(AgentState::Offered), 3_000);
    assert_eq!(time(AgentState::Talking), 9_000, "until the call ends");
    assert_eq!(row.times.iter().sum::<u64>(), ended - begun);
    assert_eq!(row.at_work_ms, ended - begun);
}

#[test]
fn each_assignment_is_explained_for_ever_and_in_few_bytes() {
    let mut world = floor(&["a", "b", "c", "d"], |site| {
        support(site).weight = 5;
        support(site).skills = rule("lang");
        for name in ["a", "b", "c"] {
            skill(site, name, &[("lang", 2)]);
        }
    });
    world.act(Action::Pause {
        agent: agent("c"),
        reason: "coffee".into(),
    });
    world.advance(4_000);
    let call = world.call("anonymous", "4008");
    world.advance(15_000);
    world.agent_answers(call);
    world.leaves(call);
    assert!(!world.is_live(call));
    let why = explanations(&world, call);
    assert_eq!(why.len(), 2);
    let (first, second) = (&why[0], &why[1]);
    assert_eq!(
        (first.winners.as_slice(), second.winners.as_slice()),
        (&[agent("a")][..], &[agent("b")][..])
    );
    let considered: Vec<&AgentId> = first.candidates.iter().map(|one| &one.agent).collect();
    assert_eq!(considered, [&agent("a"), &agent("b")]);
    assert_eq!(first.candidates[0].idle_ms, 4_000);
    assert_eq!(
        first.excluded,
        [
            (agent("c"), Exclusion::State(AgentState::Paused)),
            (agent("d"), Exclusion::Skills),
        ]
    );
    assert_eq!(second.excluded[0], (agent("a"), Exclusion::Missed));
    assert_eq!((second.waited_ms, second.score), (15_000, 20_000));
    assert_eq!(second.weight, 5);
    assert_eq!(first.counts.members, 3);
    assert!(
        why.iter()
            .all(|one| encode_row(one).len() <= limits::EXPLANATION_BYTES)
    );
    assert_eq!(first.index, first.leg.index());
}

#[test]
fn all_devices_of_an_agent_ring() {
    let mut world = floor(&["a"], |site| {
        let spec = site.agents.get_mut(&agent("a")).expect("in the site");
        spec.devices = vec!["sip:mobile@127.0.0.92".into()];
    });
    let call = world.call("anonymous", "4008");
    world.leg_at(call, "sip:a@127.0.0.91");
    let mobile = world.leg_at(call, "sip:mobile@127.0.0.92");
    world.answers(call, mobile);
    assert_eq!(world.word(call), "bridged");
}

#[test]
fn a_score_is_given_to_waiting_callers_only_and_within_bounds() {
    let mut world = floor(&["a"], |_| {});
    let talking = world.call("anonymous", "4008");
    world.agent_answers(talking);
    let call = world.call("anonymous", "4008");
    let weigh = |call, weight| Action::Prioritize { call, weight };
    let reply = world.act(weigh(talking, 1));
    assert!(matches!(refusal(&reply), Refusal::Conflict(_)));
    assert_eq!(world.act(weigh(call, i64::MAX)), Reply::Done);
    let given = world.row(call).visit.map(|visit| visit.priority);
    assert_eq!(given, Some(limits::PRIORITY_MAX));
    let reply = world.propose(Command::Act {
        id: String::new(),
        tenant: "elsewhere".into(),
        action: weigh(call, 1),
    });
    assert!(
        matches!(refusal(&reply), Refusal::NotFound(_)),
        "another's call"
    );
}
