//! A cluster is upgraded under calls, one node after the other: drained, stopped, started with
//! the new program on the same data, and taken into service again. No call is lost, nobody's
//! place in a queue and no agent's state changes, and while two builds stand side by side new
//! calls, sign-ins and the queue work.
//!
//! Nodes in network namespaces; without the rights for that each test says loudly that it
//! saw nothing.

mod floor;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;
use strowger_tests::apart::site::{Site, Takeover, passwords};
use strowger_tests::apart::{Apart, moving};
use strowger_tests::cluster::node_number;
use strowger_tests::dice::Dice;
use strowger_tests::poll::{eventually, within_time};
use strowger_tests::programs;
use strowger_tests::seats::quantile;

use self::floor::Floor;
use crate::chaos::checks::Checks;
use crate::chaos::load::{self, Load};

/// What anything may take on a busy machine before it counts as not happening.
const PATIENCE: Duration = Duration::from_secs(30);
const NODES: u8 = 3;
/// Two for each node.
const ADDRESSES: u8 = 6;
/// A record says what the phones saw, but for the time the two take to hear of it.
const TRUE: Duration = Duration::from_secs(2);
/// Nobody's silence should be longer.
const LONG_MS: f64 = 1_000.0;

/// How much of it.
struct Extent {
    /// Calls that talk from before the first node is drained until after the last is back.
    calls: usize,
    /// Callers who call the queue one after the other.
    callers: usize,
    /// Callers who wait for an agent all the time.
    waiting: usize,
    /// Callers the queue has to serve between two nodes.
    served: usize,
    /// Whichever node leads is the next, so that new programs lead old ones; or it comes last.
    leader_first: bool,
}

fn site() -> Site {
    let desk = load::agents_device();
    let later = format!(
        "[[number]]\nnumber = \"{}\"\ntarget = \"queue:later\"\npublic = true\n",
        floor::WAITED_FOR
    );
    Site::new(Takeover::Address, (1..=ADDRESSES).map(moving))
        .device("3001-4999", load::talk_device())
        .number("5008", "main")
        .and(&later)
        .queue("main", 1, 0)
        .queue("later", 0, 0)
        .queue("desk", 1, 0)
        .agents("s001-s006", desk, "main", true)
        .agents("w001-w001", desk, "later", false)
        .agents("k001-k004", desk, "desk", true)
        .agent("a1", "1002", "desk")
        .agent("a2", "1003", "desk")
}

/// What of a step ends may hear nothing of, in order.
const STAGES: [&str; 4] = ["drained", "stopped", "started", "taken back in"];

/// An upgrade under way.
struct Upgrade {
    cluster: Apart,
    load: Load,
    floor: Floor,
    checks: Checks,
    served: usize,
    /// How long each end heard nothing, ms, by stage.
    silence: BTreeMap<&'static str, Vec<f64>>,
}

/// Upgrades a cluster of the programs in `old` to those under test.
fn upgrade(extent: &Extent, old: &Path) {
    let new = programs::folder();
    let Some(cluster) = Apart::start_programs(old, NODES, site().text(), &passwords()) else {
        return;
    };
    // Earlier programs never play music that comes to a node after the caller.
    eventually(PATIENCE, "every node has greeting and music", || {
        let mut nodes = cluster.numbers();
        nodes.all(|node| cluster.sounds(node) == 2).then_some(())
    });
    let servers: Vec<_> = (1..=ADDRESSES).map(moving).collect();
    let floor = Floor::open(&cluster, &servers, extent.waiting);
    let load = Load::start(&servers, extent.calls, extent.callers, &mut Dice::new(1));
    let mut run = Upgrade {
        cluster,
        load,
        floor,
        checks: Checks::default(),
        served: extent.served,
        silence: BTreeMap::new(),
    };
    for node in run.cluster.numbers() {
        assert_eq!(run.cluster.program(node), program_in(old));
    }
    let before = level(&run.cluster);
    run.look("before the first node");
    let mut left: Vec<u8> = run.cluster.numbers().collect();
    while !left.is_empty() {
        let leader = run.cluster.leader();
        let fits = |node: &u8| (*node == leader) == extent.leader_first;
        let node = left.iter().copied().find(fits).unwrap_or(left[0]);
        left.retain(|other| *other != node);
        println!(
            "node {node}{}",
            if node == leader { ", the leader" } else { "" }
        );
        run.renew(node, &new);
        if !left.is_empty() {
            assert_eq!(level(&run.cluster), before, "{left:?} are not new yet");
        }
        run.look(&format!("after node {node}"));
    }
    let after = level_of_sources();
    eventually(PATIENCE, "the level every node reads is in force", || {
        (level(&run.cluster) == after).then_some(())
    });
    println!("feature level {before} before, {after} after");
    let mut cluster = run.finish();
    if after > before {
        refuses(&mut cluster, 1, old);
    }
}

impl Upgrade {
    /// Takes one node through it.
    fn renew(&mut self, node: u8, new: &Path) {
        let name = self.cluster.id(node).to_string();
        self.load.begin_fault();
        self.command(&["node", "drain", &name]);
        assert_eq!(calls_of(&self.cluster, node), Some(0), "none is left");
        self.listen(STAGES[0]);
        self.cluster.end(node);
        self.listen(STAGES[1]);
        self.cluster.install(node, new);
        self.cluster.run(node);
        assert_eq!(self.cluster.program(node), program_in(new));
        let api = self.cluster.api(node);
        eventually(PATIENCE, "the node has caught up", || {
            let rows = api.list("/v1/nodes")?;
            let own = rows
                .iter()
                .find(|row| node_number(&row["id"]) == Some(self.cluster.id(node)))?;
            (own["state"] == "draining" && own["lag"] == 0).then_some(())
        });
        self.listen(STAGES[2]);
        self.command(&["node", "undrain", &name]);
        eventually(PATIENCE, "every node is up", || {
            let rows = self.cluster.any_api().list("/v1/nodes")?;
            rows.iter().all(|row| row["state"] == "up").then_some(())
        });
        self.listen(STAGES[3]);
    }

    /// Runs an operators' command that has to succeed.
    fn command(&self, words: &[&str]) {
        let began = Instant::now();
        let (code, _, err) = self.cluster.command(words);
        println!(
            "  strowger {}: {} ms{}{}",
            words.join(" "),
            began.elapsed().as_millis(),
            if err.is_empty() { "" } else { ", " },
            err.trim().replace('\n', ", ")
        );
        assert_eq!(code, 0, "{err}");
    }

    /// Everybody hears the other; how long they did not.
    fn listen(&mut self, stage: &'static str) {
        let wrong = self.load.misses();
        for miss in &wrong {
            println!("  WRONG {stage}: {miss}");
        }
        self.checks.wrong.extend(wrong);
        let gaps = self.load.gaps();
        println!("  {stage}: {}", in_words(&gaps));
        self.load.count_anew();
        self.silence.entry(stage).or_default().extend(gaps);
    }

    /// Whether all is well between two nodes.
    fn look(&mut self, what: &str) {
        let calls: Vec<String> = self
            .cluster
            .numbers()
            .map(|node| format!("{node}: {:?}", calls_of(&self.cluster, node).unwrap_or(0)))
            .collect();
        println!("{what}: calls by node {}", calls.join(", "));
        let before = self.load.served().len();
        let mut wrong = self.load.come_and_go();
        wrong.extend(self.floor.look(&self.cluster));
        let served = || (self.load.served().len() >= before + self.served).then_some(());
        if within_time(PATIENCE, served).is_none() {
            wrong.push("the queue serves nobody".to_owned());
        }
        let find = || wrong;
        self.checks.after(&self.cluster, &mut self.load, find, what);
    }

    /// Who waited is served, everybody hangs up, and what is written down is true.
    fn finish(self) -> Apart {
        let Self {
            cluster,
            load,
            floor,
            mut checks,
            silence,
            ..
        } = self;
        checks.wrong.extend(floor.serve(&cluster));
        let sums = load.finish(&cluster);
        checks.at_the_end(&cluster, &sums);
        let rows = cluster.any_api().cdrs().expect("a node answers");
        let talked = sums.lasted.iter();
        let mut wanted: Vec<_> = talked
            .map(|(number, lasted)| ("to", number.as_str(), "talk_ms", *lasted))
            .collect();
        let waited = floor.waited();
        wanted.extend(waited.map(|(from, waited)| ("from", from, "wait_ms", waited)));
        let mut off = Duration::ZERO;
        for (of, number, what, seen) in wanted {
            let own: Vec<&Value> = rows.iter().filter(|row| row[of] == number).collect();
            let [row] = own.as_slice() else {
                checks.wrong.push(format!("records of {number}: {own:?}"));
                continue;
            };
            let written = row[what].as_u64().map(Duration::from_millis);
            match written.map(|written| written.abs_diff(seen)) {
                Some(differs) if differs <= TRUE => off = off.max(differs),
                _ => checks.wrong.push(format!("{what} was {seen:?}: {row}")),
            }
        }
        even(&cluster, &floor);
        let waited = floor.waited().count();
        println!("  {sums}; {waited} waited all the time");
        println!(
            "  calls lost {}, records lost {}, doubled {}; times in records differ from the \
             phones' by at most {} ms",
            checks.lost_calls,
            checks.records_lost,
            checks.records_doubled,
            off.as_millis()
        );
        for stage in STAGES {
            println!("  {stage:<14} {}", in_words(&silence[stage]));
        }
        assert!(checks.wrong.is_empty(), "{:#?}", checks.wrong);
        assert_eq!(
            sums.refused, 0,
            "callers of the queue were refused, or gave up"
        );
        assert!(cluster.panics().is_empty(), "{:#?}", cluster.panics());
        cluster
    }
}

/// Every node carries its share again, and has the same state.
fn even(cluster: &Apart, floor: &Floor) {
    eventually(
        PATIENCE,
        "every node has its share of the addresses",
        || {
            let rows = cluster.any_api().list("/v1/nodes")?;
            let share = usize::from(ADDRESSES / NODES);
            let held = |row: &Value| row["service_addresses"].as_array().map(Vec::len);
            let fair = rows.iter().all(|row| held(row) == Some(share));
            fair.then_some(())
        },
    );
    floor.register(cluster);
    eventually(PATIENCE, "every node has the same state", || {
        let rows = cluster.any_api().list("/v1/nodes")?;
        let first = rows.first()?;
        let same = |name: &str| rows.iter().all(|row| row[name] == first[name]);
        let comparable = first["state_hash"].is_string() && same("applied");
        if comparable {
            assert!(same("state_hash"), "at one entry: {rows:#?}");
        }
        comparable.then_some(())
    });
}

/// Where the level has been raised, the program before is not started any more.
fn refuses(cluster: &mut Apart, node: u8, old: &Path) {
    cluster.end(node);
    cluster.install(node, old);
    let (code, out, err) = cluster.run_to_its_end(node);
    assert!(code != 0 && code != 124, "{code}: {out}{err}");
    assert!(err.contains("SW0427"), "{err}");
    println!("  the program before: {}", err.trim());
    cluster.install(node, &programs::folder());
    cluster.run(node);
}

/// The daemon of a folder, as the kernel names it.
fn program_in(folder: &Path) -> PathBuf {
    let path = programs::path_in(folder, "strowgerd").canonicalize();
    path.expect("it is there")
}

fn in_words(gaps: &[f64]) -> String {
    let long = gaps.iter().filter(|gap| **gap >= LONG_MS).count();
    format!(
        "{} ends heard nothing for p50 {:.0}, p99 {:.0}, at most {:.0} ms; {long} for a second",
        gaps.len(),
        quantile(gaps, 0.5),
        quantile(gaps, 0.99),
        quantile(gaps, 1.0)
    )
}

fn calls_of(cluster: &Apart, node: u8) -> Option<u64> {
    let rows = cluster.any_api().list("/v1/nodes")?;
    let mut rows = rows.iter();
    let own = rows.find(|row| node_number(&row["id"]) == Some(cluster.id(node)))?;
    own["calls"].as_u64()
}

/// The feature level in force.
fn level(cluster: &Apart) -> u64 {
    eventually(PATIENCE, "a node tells the level", || {
        let answer = cluster.any_api().get("/v1/cluster").ok()?;
        answer.json["feature_level"].as_u64()
    })
}

/// The feature level that the programs under test read, as their sources say.
fn level_of_sources() -> u64 {
    let file = programs::repository().join("actors/core/src/state/mod.rs");
    let text = std::fs::read_to_string(file).expect("the sources are there");
    let line = text.lines().find_map(|line| {
        let rest = line.strip_prefix("pub const FEATURE_LEVEL: u32 = ")?;
        rest.strip_suffix(';')?.parse().ok()
    });
    line.expect("the level is a number there")
}

/// The path an upgrade takes, with one build.
#[test]
fn every_node_is_drained_stopped_and_started_in_turn_under_calls() {
    let extent = Extent {
        calls: 12,
        callers: 2,
        waiting: 2,
        served: 2,
        leader_first: false,
    };
    upgrade(&extent, &programs::folder());
}

/// Upgrades a cluster of the programs that `make upgrade` has built.
fn upgrade_of_another_build(leader_first: bool) {
    let old = std::env::var_os("STROWGER_FROM_DIR");
    let old = old.expect("STROWGER_FROM_DIR names the folder of the programs to start with");
    let asked = std::env::var("STROWGER_CALLS").ok();
    let extent = Extent {
        calls: asked.and_then(|text| text.parse().ok()).unwrap_or(200),
        callers: 10,
        waiting: 10,
        served: 20,
        leader_first,
    };
    upgrade(&extent, Path::new(&old));
}

#[test]
#[ignore = "needs the programs of another commit; make upgrade FROM=COMMIT runs it"]
fn a_cluster_of_another_build_is_upgraded_under_two_hundred_calls() {
    upgrade_of_another_build(false);
}

#[test]
#[ignore = "needs the programs of another commit; make upgrade FROM=COMMIT runs it"]
fn a_cluster_of_another_build_is_upgraded_from_its_leader_on() {
    upgrade_of_another_build(true);
}
