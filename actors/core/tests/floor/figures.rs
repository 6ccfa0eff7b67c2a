//! What is counted of a day, by hand: callers, offers, times of agents, quarters.

use strowger_core::call::Cause;
use strowger_core::floor::figure::{QUARTER_MS, Subject, Tally};
use strowger_core::ids::AgentId;
use strowger_core::state::command::Action;

use crate::harness::{BEGIN, World, agent_key, held, queue_key, site};
use crate::rows::Copy;

fn queue(name: &str) -> Subject {
    Subject::Queue(queue_key(name).1)
}

fn agent(name: &str) -> Subject {
    Subject::Agent(agent_key(name).1)
}

#[test]
fn answers_and_abandons_are_set_against_the_target_of_their_queue() {
    let mut site = site();
    let name = queue_key("support").1;
    let spec = site.queues.get_mut(&name).expect("is there");
    (spec.sl_ms, spec.short_abandon_ms) = (7_000, 3_000);
    let mut world = World::with_site(site);
    world.register("1001", "desk", 3_600);
    for (wait, in_target, short) in [(2_999, 1, 1), (3_000, 1, 0), (7_000, 1, 0), (7_001, 0, 0)] {
        let before = world.figure("support");
        let call = world.call("anonymous", "4008");
        world.advance(wait);
        world.leaves(call);
        let after = world.figure("support");
        let counted = (
            after.abandoned - before.abandoned,
            after.abandoned_in_target - before.abandoned_in_target,
            after.short_abandoned - before.short_abandoned,
        );
        assert_eq!(counted, (1, in_target, short), "after {wait} ms");
    }
    for (wait, in_target) in [(7_000, 1), (7_001, 0)] {
        let before = world.figure("support");
        let call = world.call("anonymous", "4008");
        world.advance(wait);
        world.sign_in("amy");
        world.run();
        world.agent_answers(call);
        world.leaves(call);
        world.act(Action::SignOut {
            agent: AgentId::from("amy"),
        });
        world.run();
        let after = world.figure("support");
        let counted = (
            after.answered - before.answered,
            after.answered_in_target - before.answered_in_target,
            after.answered_wait_ms - before.answered_wait_ms,
        );
        assert_eq!(counted, (1, in_target, wait), "after {wait} ms");
    }
}

#[test]
fn the_parts_of_handling_add_up_to_the_agents_busy_time() {
    let mut world = World::at_work(&["bob"]);
    let call = world.call("anonymous", "4008");
    world.advance(4_000);
    world.agent_answers(call);
    world.advance(30_000);
    let (near, far) = (world.caller_leg(call), world.far_leg(call));
    world.observe(call, vec![held(far, true)]);
    world.advance(6_000);
    // Both hold: one hold.
    world.observe(call, vec![held(near, true)]);
    world.observe(call, vec![held(far, false)]);
    world.advance(1_000);
    world.observe(call, vec![held(near, false)]);
    world.advance(20_000);
    world.ends(call, far, Cause::NORMAL);
    world.advance(60_000);
    for tally in [world.figure("support"), world.agent_figure("bob")] {
        let parts = (tally.ring_ms, tally.talk_ms, tally.hold_ms, tally.wrap_ms);
        assert_eq!(parts, (4_000, 50_000, 7_000, 10_000));
        assert_eq!((tally.offers, tally.missed, tally.answered), (1, 0, 1));
        assert_eq!(tally.mean_handling_ms(), Some(67_000));
    }
    assert_eq!(world.agent_figure("bob").busy_ms, 71_000);
    let cdr = world.cdr(call);
    assert_eq!(cdr.talk_ms, 57_000, "the record's talk has the hold in it");
}

#[test]
fn a_missed_offer_is_counted_for_queue_and_agent() {
    let mut world = World::at_work(&["bob"]);
    let call = world.call("anonymous", "4008");
    world.advance(15_000);
    world.leaves(call);
    for tally in [world.figure("support"), world.agent_figure("bob")] {
        assert_eq!((tally.offers, tally.missed), (1, 1));
        assert_eq!(tally.ring_ms, 15_000);
        assert_eq!(tally.missed_share(), Some(1_000));
    }
}

#[test]
fn each_fact_stands_in_the_quarter_in_which_it_happened() {
    let mut world = World::at_work(&["bob"]);
    let into = world.now % QUARTER_MS;
    world.advance(QUARTER_MS - into - 2_000);
    let first = world.now + 2_000 - QUARTER_MS;
    assert_eq!(first % QUARTER_MS, 0);
    let call = world.call("anonymous", "4008");
    world.advance(5_000);
    world.agent_answers(call);
    world.advance(QUARTER_MS);
    world.leaves(call);
    world.advance(3 * QUARTER_MS);
    let quarters = world.quarters(&queue("support"));
    let told: Vec<_> = quarters
        .iter()
        .map(|(at, t)| ((at - first) / QUARTER_MS, t.entered, t.answered, t.talk_ms))
        .collect();
    assert_eq!(
        told,
        [(0, 1, 0, 0), (1, 0, 1, 0), (2, 0, 0, QUARTER_MS)],
        "entered, answered, talked"
    );
}

#[test]
fn time_at_work_is_spread_over_its_quarters() {
    let mut world = World::at_work(&[]);
    let into = world.now % QUARTER_MS;
    world.advance(QUARTER_MS - into + 60_000);
    let second = world.now - 60_000;
    world.sign_in("bob");
    world.advance(2 * QUARTER_MS);
    let bob = AgentId::from("bob");
    world.act(Action::Pause {
        agent: bob.clone(),
        reason: "lunch".into(),
    });
    world.advance(30_000);
    world.act(Action::SignOut { agent: bob });
    let told: Vec<_> = world
        .quarters(&agent("bob"))
        .iter()
        .map(|(at, t)| ((at - second) / QUARTER_MS, t.staffed_ms, t.paused_ms))
        .collect();
    assert_eq!(
        told,
        [
            (0, QUARTER_MS - 60_000, 0),
            (1, QUARTER_MS, 0),
            (2, 60_000 + 30_000, 30_000),
        ]
    );
    let live = world.agent_figure("bob");
    assert_eq!(live.staffed_ms, 2 * QUARTER_MS + 30_000);
    assert_eq!(live.occupancy(), Some(0));
    assert!(world.now > BEGIN);
}

#[test]
fn figures_survive_a_restart_at_every_step() {
    let mut world = World::at_work(&["bob"]);
    let mut served = 0;
    for _ in 0..3 {
        let call = world.call("anonymous", "4008");
        world.copy = Copy::restored(&world.copy.rows);
        world.reconcile();
        world.agent_answers(call);
        world.copy = Copy::restored(&world.copy.rows);
        world.leaves(call);
        world.reconcile();
        world.advance(400_000);
        world.copy = Copy::restored(&world.copy.rows);
        served += 1;
        let live = world.figure("support");
        assert_eq!((live.entered, live.answered), (served, served));
        let mut sum = Tally::default();
        let quarters = world.quarters(&queue("support"));
        quarters.iter().for_each(|(_, tally)| sum.add(tally));
        assert_eq!(sum, live);
    }
}
