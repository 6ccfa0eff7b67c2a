//! A node dies every minute under calls, callers of a queue and clients; what the node that lives
//! through all of it holds afterwards is what it held before: ports, descriptors, actors,
//! tasks and memory.
//!
//! Compared are two moments of rest: after the first deaths, when caches are filled and every
//! path has been taken, and at the end.

use std::fmt;
use std::time::{Duration, Instant};

use strowger_tests::apart::site::passwords;
use strowger_tests::apart::{Apart, service};
use strowger_tests::dice::Dice;
use strowger_tests::poll::within_time;

use super::checks::Checks;
use super::clients::Clients;
use super::load::Load;
use super::{any_seed, asked, site};

/// The node that lives through everything.
const SURVIVOR: u8 = 3;
/// Deaths before the first moment of rest.
const WARM_UP: usize = 5;
const EVERY: Duration = Duration::from_secs(60);
/// How long a dead node stays dead at most, ms.
const DEAD_MS: u64 = 10_000;
/// What was used last is let go within this time: legs linger for 64 * T1, connections for
/// less.
const SETTLES: Duration = Duration::from_secs(90);
/// More than this part of what was held before is a leak.
const GROWTH: f64 = 1.05;
/// More than this part of what is in use is memory wasted on the rests of pages.
const WASTE: f64 = 1.05;

/// What a node holds.
struct Held {
    ports: f64,
    actors: f64,
    tasks: f64,
    /// Sockets, pipes and the like; files are the store's, as many as it has data for.
    descriptors: f64,
    /// In use by the allocator's count, without the buffers and caches of the store, which have
    /// bounds and take hours to fill. Both count what was asked for, be it written to yet or not.
    memory_kib: f64,
    store_kib: f64,
    /// Held of the system for both.
    resident_kib: f64,
}

impl Held {
    fn by(cluster: &Apart, number: u8) -> Option<Self> {
        let api = cluster.api(number);
        let process = cluster.process(number);
        let open = std::fs::read_dir(format!("/proc/{process}/fd")).ok()?;
        let targets = open
            .flatten()
            .filter_map(|entry| entry.path().read_link().ok());
        let descriptors = targets.filter(|target| !target.starts_with("/"));
        let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
        let resident = status
            .lines()
            .find_map(|line| line.strip_prefix("RssAnon:"))?;
        let resident = resident.trim().trim_end_matches(" kB");
        let kib = |name: &str| Some(api.metric(name, &[])? / 1_024.0);
        let store_kib = kib("strowger_store_memory_bytes")?;
        Some(Self {
            ports: api.metric("strowger_rtp_ports_in_use", &[])?,
            actors: api.metric("strowger_call_actors", &[])?,
            tasks: api.metric("strowger_tasks", &[])?,
            descriptors: descriptors.count() as f64,
            memory_kib: kib("strowger_memory_allocated_bytes")? - store_kib,
            store_kib,
            resident_kib: resident.parse().ok()?,
        })
    }

    fn parts(&self) -> [(&'static str, f64); 5] {
        [
            ("ports", self.ports),
            ("actors", self.actors),
            ("tasks", self.tasks),
            ("descriptors", self.descriptors),
            ("memory", self.memory_kib),
        ]
    }

    /// What of this is more than `before`, beyond what is allowed.
    fn more_than(&self, before: &Self) -> Vec<String> {
        let pairs = self.parts().into_iter().zip(before.parts());
        let mut more: Vec<String> = pairs
            .filter(|((_, now), (_, before))| *now > before * GROWTH)
            .map(|((name, now), (_, before))| format!("{name}: {before} before, {now} now"))
            .collect();
        let in_use = self.memory_kib + self.store_kib;
        if self.resident_kib > in_use * WASTE {
            let resident = self.resident_kib;
            more.push(format!(
                "held of the system: {resident} KiB for {in_use} in use"
            ));
        }
        more
    }
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} ports, {} call actors, {} tasks, {} descriptors, {:.1} MiB of memory and {:.1} MiB \
             of the store's in use, {:.1} MiB held",
            self.ports,
            self.actors,
            self.tasks,
            self.descriptors,
            self.memory_kib / 1_024.0,
            self.store_kib / 1_024.0,
            self.resident_kib / 1_024.0
        )
    }
}

#[test]
#[ignore = "takes an hour; make soak runs it"]
fn an_hour_of_kills_leaves_nothing_behind() {
    let seed = asked("SEED").unwrap_or_else(any_seed);
    let minutes = asked("MINUTES").unwrap_or(60);
    println!("seed {seed}: a node dies every {EVERY:?}, {minutes} times");
    let Some(mut cluster) = Apart::start(site(3).text(), &passwords()) else {
        return;
    };
    let mut dice = Dice::new(seed);
    let mut plan = dice.split();
    let clients = Clients::start(&cluster, &mut dice);
    let calls = asked("STROWGER_CALLS").unwrap_or(40);
    let mut load = Load::start(&[1, 2, 3].map(service), calls, 6, &mut dice);
    let mut checks = Checks::default();
    let life = cluster.process(SURVIVOR);
    for death in 1..=WARM_UP {
        one_death(&mut cluster, &mut load, &mut plan);
        checks.after_fault(
            &cluster,
            &mut load,
            &clients,
            &format!("first deaths, {death}"),
        );
    }
    load.rest(&cluster);
    let before = settled(&cluster, None);
    println!("before: {before}");
    load.go_on();
    for death in 1..=minutes {
        let until = Instant::now() + EVERY;
        let node = one_death(&mut cluster, &mut load, &mut plan);
        checks.after_fault(&cluster, &mut load, &clients, &format!("death {death}"));
        load.fill();
        load.goes_on(until.saturating_duration_since(Instant::now()));
        if let Some(held) = Held::by(&cluster, SURVIVOR) {
            println!("{death:>4} node {node} died; {held}");
        }
    }
    load.rest(&cluster);
    let after = settled(&cluster, Some(&before));
    println!("before: {before}");
    println!("after:  {after}");
    let sums = load.finish(&cluster);
    let history = clients.finish();
    checks.at_the_end(&cluster, &sums);
    println!("  {sums}\n  {history}");
    for line in &checks.wrong {
        println!("  WRONG {line}");
    }
    assert_eq!(
        cluster.process(SURVIVOR),
        life,
        "it lived through all of it"
    );
    let more = after.more_than(&before);
    assert!(more.is_empty(), "{more:#?}");
    assert!(
        checks.wrong.is_empty(),
        "{} things were wrong; SEED={seed}",
        checks.wrong.len()
    );
    assert!(cluster.panics().is_empty(), "{:#?}", cluster.panics());
}

/// One of the others dies and comes back; which.
fn one_death(cluster: &mut Apart, load: &mut Load, plan: &mut Dice) -> u8 {
    let others: Vec<u8> = cluster
        .numbers()
        .filter(|number| *number != SURVIVOR)
        .collect();
    let node = *plan.pick(&others);
    let dead = Duration::from_millis(plan.between(200, DEAD_MS));
    load.begin_fault();
    cluster.kill(node);
    load.goes_on(dead);
    cluster.run(node);
    cluster.wait_caught_up();
    node
}

/// What the survivor holds at rest: the first that is no more than `before`, or what is left
/// after a while.
fn settled(cluster: &Apart, before: Option<&Held>) -> Held {
    let mut held = None;
    let wait = || {
        held = Held::by(cluster, SURVIVOR);
        let fits = |now: &Held| before.is_some_and(|before| now.more_than(before).is_empty());
        held.as_ref().is_some_and(fits).then_some(())
    };
    // Without anything to compare with the whole time is waited out.
    let _ = within_time(SETTLES, wait);
    held.expect("it serves")
}
