//! Faults of every class, drawn from a seed, under live calls, queued callers, agents who sign
//! in and out, and clients who write and read: no call is lost, each leaves one record, and
//! clients are told nothing that is not so.
//!
//! At most a minority is impaired at once (the loss of the majority is a class of its own),
//! and the next fault comes when the cluster has caught up. Nodes in network namespaces;
//! without the rights for that each test says loudly that it saw nothing.

pub mod checks;
mod clients;
mod faults;
pub mod load;
mod readers;
mod site_changes;
mod soak;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use strowger_tests::apart::site::{Site, Takeover, passwords};
use strowger_tests::apart::{Apart, service};
use strowger_tests::dice::Dice;
use strowger_tests::seats::quantile;

use self::checks::Checks;
use self::clients::Clients;
use self::faults::{Class, Fault};
use self::load::Load;
use self::readers::Readers;

/// How much of it.
struct Extent {
    nodes: u8,
    faults: usize,
    /// Calls that talk all the time.
    calls: usize,
    /// Callers who call the queue one after the other.
    callers: usize,
}

/// Text of the environment as a number.
fn asked<T: std::str::FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok()?.trim().parse().ok()
}

fn site(nodes: u8) -> Site {
    let desk = load::agents_device();
    Site::new(Takeover::Reinvite, (1..=nodes).map(service))
        .device("3001-4999", load::talk_device())
        .number("5008", "main")
        .queue("main", 1, 0)
        .queue("desk", 1, 0)
        .agents("s001-s006", desk, "main", true)
        .agents("k001-k009", desk, "desk", true)
}

/// What a run has to show for itself.
#[derive(Default)]
struct Tally {
    faults: BTreeMap<Class, usize>,
    /// How long ends of talking calls heard nothing, ms, by class.
    gaps: BTreeMap<Class, Vec<f64>>,
    caught_up: Vec<f64>,
}

/// A seed nobody chose.
fn any_seed() -> u64 {
    let now = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
    now.as_secs() % 1_000_000
}

fn run(extent: &Extent, seed: u64) {
    println!(
        "seed {seed}: {} faults against {} nodes",
        extent.faults, extent.nodes
    );
    let site = site(extent.nodes);
    let Some(mut cluster) = Apart::start_many(extent.nodes, site.text(), &passwords()) else {
        return;
    };
    let began = Instant::now();
    let mut dice = Dice::new(seed);
    let mut plan = dice.split();
    let clients = Clients::start(&cluster, &mut dice);
    let servers: Vec<_> = (1..=extent.nodes).map(service).collect();
    let mut load = Load::start(&servers, extent.calls, extent.callers, &mut dice);
    let readers = Readers::start(&cluster, &mut dice);
    let mut checks = Checks::default();
    let mut tally = Tally::default();
    checks.after_fault(&cluster, &mut load, &clients, "before the first fault");
    for number in 1..=extent.faults {
        let fault = Fault::draw(extent.nodes, &mut plan);
        let what = format!("seed {seed}, fault {number}: {fault}");
        load.begin_fault();
        let at = Instant::now();
        fault.befall(&mut cluster, &mut load);
        cluster.wait_caught_up();
        let caught_up = at.elapsed();
        checks.after_fault(&cluster, &mut load, &clients, &what);
        let gaps = load.gaps();
        println!(
            "{number:>4} {fault}: caught up after {:.1} s, nothing heard for p50 {:.0}, at most {:.0} ms",
            caught_up.as_secs_f64(),
            quantile(&gaps, 0.5),
            quantile(&gaps, 1.0)
        );
        *tally.faults.entry(fault.class()).or_default() += 1;
        tally.gaps.entry(fault.class()).or_default().extend(gaps);
        tally.caught_up.push(caught_up.as_secs_f64());
    }
    let sums = load.finish(&cluster);
    let history = clients.finish();
    let read = readers.finish(&cluster);
    checks.wrong.extend(read.wrong.iter().cloned());
    checks.at_the_end(&cluster, &sums);
    println!(
        "seed {seed}: {} faults in {:.0} s",
        extent.faults,
        began.elapsed().as_secs_f64()
    );
    for (class, count) in &tally.faults {
        let gaps = &tally.gaps[class];
        println!(
            "  {:<18} {count:>4}   gaps p50 {:>6.0}  p90 {:>6.0}  p99 {:>6.0}  at most {:>6.0} ms",
            class.name(),
            quantile(gaps, 0.5),
            quantile(gaps, 0.9),
            quantile(gaps, 0.99),
            quantile(gaps, 1.0)
        );
    }
    println!(
        "  caught up after p50 {:.1}, at most {:.1} s",
        quantile(&tally.caught_up, 0.5),
        quantile(&tally.caught_up, 1.0)
    );
    println!("  {sums}");
    println!("  {history}");
    println!("  {read}");
    println!(
        "  calls lost {}, records lost {}, doubled {}",
        checks.lost_calls, checks.records_lost, checks.records_doubled
    );
    for line in &checks.wrong {
        println!("  WRONG {line}");
    }
    assert!(
        checks.wrong.is_empty(),
        "{} things were wrong; replay with SEED={seed}",
        checks.wrong.len()
    );
    assert!(cluster.panics().is_empty(), "{:#?}", cluster.panics());
}

/// What the share that every change has to stand draws.
const SHORT_SEED: u64 = 1;

/// A share of it that every change has to stand.
#[test]
fn a_few_faults_lose_nothing() {
    let extent = Extent {
        nodes: 3,
        faults: 6,
        calls: 10,
        callers: 3,
    };
    run(&extent, asked("SEED").unwrap_or(SHORT_SEED));
}

#[test]
#[ignore = "takes a quarter of an hour; make chaos runs it"]
fn three_nodes_under_many_faults_lose_nothing() {
    let extent = Extent {
        nodes: 3,
        faults: asked("FAULTS").unwrap_or(200),
        calls: asked("STROWGER_CALLS").unwrap_or(100),
        callers: 10,
    };
    run(&extent, asked("SEED").unwrap_or_else(any_seed));
}

#[test]
#[ignore = "takes minutes; make chaos runs it"]
fn five_nodes_under_many_faults_lose_nothing() {
    let extent = Extent {
        nodes: 5,
        faults: asked::<usize>("FAULTS").map_or(50, |faults| faults.div_ceil(4)),
        calls: asked("STROWGER_CALLS").unwrap_or(100),
        callers: 10,
    };
    run(&extent, asked("SEED").unwrap_or_else(any_seed));
}

/// What anything may take on a busy machine before it counts as not happening.
const PATIENCE: Duration = Duration::from_secs(30);
