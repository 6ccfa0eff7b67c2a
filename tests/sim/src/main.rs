//! `strowger-sim`: runs seeds and says which of them break what.
//!
//! `strowger-sim --seeds 1000 [--from 1]` runs many, on every processor; `--seed N` runs one
//! and prints its trace when it breaks, `--trace` always; `--hours H` makes it the long run;
//! `--first` stops at the first seed that breaks something.

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use strowger_sim::{Outcome, Plan, run};

/// What was asked for.
#[derive(Clone, Default)]
struct Wanted {
    seeds: u64,
    from: u64,
    seed: Option<u64>,
    hours: u64,
    trace: bool,
    first: bool,
}

fn wanted() -> Result<Wanted, String> {
    let mut wanted = Wanted {
        seeds: 100,
        from: 1,
        ..Wanted::default()
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--trace" => wanted.trace = true,
            "--first" => wanted.first = true,
            _ => {}
        }
        if matches!(word.as_str(), "--trace" | "--first") {
            continue;
        }
        let value = words.next().ok_or(format!("{word} wants a number"))?;
        let number: u64 = value
            .parse()
            .map_err(|_| format!("not a number: {value}"))?;
        match word.as_str() {
            "--seeds" => wanted.seeds = number,
            "--from" => wanted.from = number,
            "--seed" => wanted.seed = Some(number),
            "--hours" => wanted.hours = number,
            _ => return Err(format!("not known: {word}")),
        }
    }
    Ok(wanted)
}

fn plan(wanted: &Wanted, seed: u64) -> Plan {
    let plan = match wanted.hours {
        0 => Plan::short(seed),
        hours => Plan::long(seed, hours),
    };
    Plan {
        whole_trace: wanted.trace,
        ..plan
    }
}

fn describe(outcome: &Outcome) -> String {
    let longest: Vec<String> = outcome
        .longest
        .iter()
        .map(|(property, ms)| format!("{property} {ms}"))
        .collect();
    format!(
        "seed {}: {} s simulated, {} calls, {} talked, {} events, {} entries, {} faults, {} elections, \
         trace {}; longest, ms: {}",
        outcome.seed,
        outcome.lasted_ms / 1_000,
        outcome.calls,
        outcome.talks,
        outcome.events,
        outcome.entries,
        outcome.faults,
        outcome.elections,
        outcome.hash.get(..16).unwrap_or_default(),
        longest.join(", ")
    )
}

fn one(wanted: &Wanted, seed: u64) -> bool {
    let began = Instant::now();
    let outcome = run(plan(wanted, seed));
    if wanted.trace || outcome.broken.is_some() {
        print!("{}", outcome.trace);
    }
    println!(
        "{} ({:.1} s)",
        describe(&outcome),
        began.elapsed().as_secs_f64()
    );
    if let Some((property, why)) = &outcome.broken {
        println!("seed {seed} breaks {property}: {why}");
    }
    outcome.broken.is_none()
}

fn many(wanted: &Wanted) -> bool {
    let began = Instant::now();
    let (next, done) = (AtomicU64::new(wanted.from), AtomicU64::new(0));
    let end = wanted.from + wanted.seeds;
    let broken = Mutex::new(Vec::new());
    let longest = Mutex::new(std::collections::BTreeMap::new());
    let (calls, events) = (AtomicU64::new(0), AtomicU64::new(0));
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..processors {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        return;
                    }
                    let outcome = run(plan(wanted, seed));
                    done.fetch_add(1, Ordering::Relaxed);
                    let admitted = u64::try_from(outcome.calls).unwrap_or(0);
                    calls.fetch_add(admitted, Ordering::Relaxed);
                    let read = u64::try_from(outcome.events).unwrap_or(0);
                    events.fetch_add(read, Ordering::Relaxed);
                    if let Ok(mut longest) = longest.lock() {
                        for (property, ms) in outcome.longest {
                            let most: &mut (u64, u64) = longest.entry(property).or_default();
                            *most = (*most).max((ms, seed));
                        }
                    }
                    if let (Some((property, why)), Ok(mut broken)) = (outcome.broken, broken.lock())
                    {
                        println!("seed {seed} breaks {property}: {why}");
                        broken.push((seed, property));
                        if wanted.first {
                            next.store(end, Ordering::Relaxed);
                        }
                    }
                }
            });
        }
    });
    let spent = began.elapsed().as_secs_f64();
    let done = done.load(Ordering::Relaxed);
    println!(
        "{done} seeds, {} calls, {} events in {spent:.1} s: {:.2} seeds/s",
        calls.load(Ordering::Relaxed),
        events.load(Ordering::Relaxed),
        f64::from(u32::try_from(done).unwrap_or(u32::MAX)) / spent
    );
    if let Ok(longest) = longest.lock() {
        for (property, (ms, seed)) in &*longest {
            println!("longest {property}: {ms} ms (seed {seed})");
        }
    }
    let broken = broken.into_inner().unwrap_or_default();
    for (seed, property) in &broken {
        println!("again: make sim SEED={seed}   ({property})");
    }
    broken.is_empty()
}

fn main() -> ExitCode {
    let wanted = match wanted() {
        Ok(wanted) => wanted,
        Err(why) => {
            eprintln!("strowger-sim: {why}");
            return ExitCode::from(2);
        }
    };
    let fine = match wanted.seed {
        Some(seed) => one(&wanted, seed),
        None if wanted.hours > 0 => one(&wanted, wanted.from),
        None => many(&wanted),
    };
    if fine {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
