//! Seeds that must run through, and the same run twice from one seed.
//!
//! A seed that fails is run again by `make sim SEED=n`, which prints its trace.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use strowger_sim::{Outcome, Plan, run};

/// A run that is over soon, also unoptimised: less than a minute under faults.
fn brief(seed: u64) -> Plan {
    Plan {
        busy_ms: 40_000,
        ..Plan::short(seed)
    }
}

/// Runs seeds on every processor; what came of each, in no order.
fn run_all(seeds: std::ops::Range<u64>, plan: fn(u64) -> Plan) -> Vec<Outcome> {
    let next = AtomicU64::new(seeds.start);
    let outcomes = Mutex::new(Vec::new());
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..processors {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    let outcome = run(plan(seed));
                    outcomes.lock().expect("no run panics").push(outcome);
                }
            });
        }
    });
    outcomes.into_inner().expect("no run panics")
}

/// Fails with the seeds that broke something.
fn nothing_is_broken(outcomes: &[Outcome]) {
    let broken: Vec<String> = outcomes
        .iter()
        .filter_map(|outcome| {
            let (property, why) = outcome.broken.as_ref()?;
            let seed = outcome.seed;
            Some(format!("make sim SEED={seed} breaks {property}: {why}"))
        })
        .collect();
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn the_same_seed_is_the_same_run_to_the_last_line() {
    for seed in [7, 8] {
        let plan = Plan {
            whole_trace: true,
            ..brief(seed)
        };
        let (first, second) = (run(plan.clone()), run(plan));
        let differs = first
            .trace
            .lines()
            .zip(second.trace.lines())
            .position(|(one, other)| one != other);
        assert_eq!(differs, None, "seed {seed}: the first line that differs");
        assert_eq!(first.trace.len(), second.trace.len(), "seed {seed}");
        assert_eq!(first.hash, second.hash, "seed {seed}");
        assert!(first.entries > 0, "seed {seed} did something");
    }
}

#[test]
fn another_seed_is_another_run() {
    assert_ne!(run(brief(1)).hash, run(brief(2)).hash);
}

#[test]
fn some_seeds_of_faults_break_nothing() {
    let outcomes = run_all(1..13, brief);
    nothing_is_broken(&outcomes);
    // What is never tried is never found.
    let sum = |of: fn(&Outcome) -> u64| outcomes.iter().map(of).sum::<u64>();
    assert!(sum(|outcome| outcome.talks) > 20, "people talk");
    assert!(sum(|outcome| outcome.faults) > 20, "things go wrong");
    assert!(sum(|outcome| outcome.elections) > 12, "leaders change");
}

#[test]
#[ignore = "ten minutes: `make test-long` and `make sim` run it, optimised"]
fn a_thousand_seeds_break_nothing() {
    let began = std::time::Instant::now();
    let outcomes = run_all(1..1_001, Plan::short);
    let seconds = began.elapsed().as_secs_f64();
    let calls: usize = outcomes.iter().map(|outcome| outcome.calls).sum();
    println!("1000 seeds, {calls} calls: {seconds:.0} s");
    nothing_is_broken(&outcomes);
}

#[test]
#[ignore = "minutes: `make test-long` runs it, optimised"]
fn a_day_with_a_kill_every_five_minutes_leaves_nothing_behind() {
    let began = std::time::Instant::now();
    let outcome = run(Plan::long(1, 24));
    println!(
        "{} h simulated in {:.0} s: {} calls, {} talked, {} kills; longest, ms: {:?}",
        outcome.lasted_ms / 3_600_000,
        began.elapsed().as_secs_f64(),
        outcome.calls,
        outcome.talks,
        outcome.faults,
        outcome.longest
    );
    assert!(outcome.faults >= 287, "a kill every five minutes");
    nothing_is_broken(&[outcome]);
}
