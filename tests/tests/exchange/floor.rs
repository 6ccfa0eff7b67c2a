//! Four queues that share fifty agents under callers who always wait, while nodes die: no
//! agent has two callers, no caller two agents, and every call is in one record.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use strowger_tests::cluster::Cluster;
use strowger_tests::poll::{eventually, within_time};
use strowger_tests::seats::{Gap, Seats, quantile};
use strowger_tests::sipp::{Running, Sipp};

const AGENTS: usize = 50;
const QUEUES: [&str; 4] = ["orders", "support", "billing", "gold"];
const SOON: Duration = Duration::from_secs(30);
/// What happens this long after a kill is told apart.
const AFTERMATH_S: f64 = 2.0;
/// Beyond this nobody waits for SIPp: a call that was answered nowhere is never over there.
const PATIENCE: Duration = Duration::from_secs(20);

/// How much is made to happen.
struct Load {
    /// Callers in each queue at a time.
    together: u32,
    /// Calls to each queue.
    calls: u32,
    talk: Duration,
    /// From the first call to the first kill, and between a return and the next kill.
    pause: Duration,
    kills: u32,
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

fn seconds_now() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("after 1970").as_secs_f64()
}

fn agents_in(cluster: &Cluster, state: &str) -> Option<usize> {
    let agents = cluster.any_api().list("/v1/agents")?;
    let fits = agents.iter().filter(|agent| agent["state"] == state);
    Some(fits.count())
}

/// Callers of all queues, each queue by another service address.
fn callers(cluster: &Cluster, load: &Load) -> Vec<Running> {
    (0..4u16)
        .map(|queue| {
            // The demo trusts this address: one source may send more than a phone would.
            let from = SocketAddr::new(address("127.0.0.1:1").ip(), 6_092 + queue);
            Sipp::new("call", from)
                .to(
                    cluster.service(usize::from(queue)),
                    &format!("400{}", queue + 1),
                )
                .rows((1..=load.calls).map(|n| format!("c{queue}{n:05};0")))
                .calls(load.calls, 50)
                .together(load.together)
                .timeout(Duration::from_secs(600))
                .start()
        })
        .collect()
}

/// Kills the leader and another node in turn while callers come; when each kill was.
fn kill_in_turn(cluster: &mut Cluster, load: &Load) -> Vec<f64> {
    let mut kills = Vec::new();
    for turn in 0..load.kills {
        std::thread::sleep(load.pause);
        let leader = cluster.leader();
        let victim = if turn % 2 == 0 {
            leader
        } else {
            leader % 3 + 1
        };
        cluster.kill(victim);
        kills.push(seconds_now());
        println!(
            "killed node {victim}{}",
            if victim == leader { ", the leader" } else { "" }
        );
        std::thread::sleep(Duration::from_secs(3));
        cluster.restart(victim);
    }
    kills
}

/// The answered legs to one agent may not overlap in the records.
fn overlaps(records: &[Value]) -> Vec<String> {
    let mut talks: BTreeMap<&str, Vec<(&str, &str, &str)>> = BTreeMap::new();
    for record in records {
        let call = record["call"].as_str().unwrap_or_default();
        for leg in answered_out(record) {
            if let (Some(agent), Some(from), Some(to)) = (
                leg["party"].as_str(),
                leg["answered_at"].as_str(),
                leg["ended_at"].as_str(),
            ) {
                talks.entry(agent).or_default().push((from, to, call));
            }
        }
    }
    let mut found = Vec::new();
    for (agent, talks) in &mut talks {
        talks.sort_unstable();
        for pair in talks.windows(2) {
            if let [(_, ended, one), (began, _, other)] = pair
                && began < ended
            {
                found.push(format!(
                    "{agent}: {one} ends {ended}, {other} begins {began}"
                ));
            }
        }
    }
    found
}

/// The legs of a record that an agent answered.
fn answered_out(record: &Value) -> impl Iterator<Item = &Value> {
    let legs = record["legs"].as_array().into_iter().flatten();
    legs.filter(|leg| leg["direction"] == "out" && !leg["answered_at"].is_null())
}

/// Calls answered by more than one agent.
fn shared(records: &[Value]) -> Vec<&Value> {
    let twice = records
        .iter()
        .filter(|record| answered_out(record).count() > 1);
    twice.map(|record| &record["call"]).collect()
}

fn figures_add_up(cluster: &Cluster, records: &[Value]) {
    let figures = cluster.any_api().list("/v1/figures");
    let figures = figures.expect("a node answers");
    for queue in QUEUES {
        let row = figures.iter().find(|row| row["name"] == queue);
        let row = row.unwrap_or_else(|| panic!("{queue} has figures"));
        let value = |name: &str| row[name].as_u64().expect("a number");
        let parts = [
            "answered",
            "abandoned",
            "overflowed",
            "callback_taken",
            "node_lost",
            "waiting",
        ];
        println!(
            "{queue}: offered {}, answered {}, abandoned {}, node_lost {}, waited p90 {} ms",
            value("offered"),
            value("answered"),
            value("abandoned"),
            value("node_lost"),
            row["wait_p90_ms"]
        );
        let sum: u64 = parts.iter().map(|name| value(name)).sum();
        assert_eq!(value("offered"), sum, "{row:#}");
        let answered = records
            .iter()
            .filter(|record| record["queue"] == queue && !record["answered_at"].is_null());
        assert_eq!(
            value("answered"),
            answered.count() as u64,
            "{queue}: the records tell the same"
        );
    }
}

/// Prints the waits of free agents for the next caller, those after a kill apart.
fn print_gaps(seats: &Seats, kills: &[f64]) {
    let disturbed = |at: f64| {
        kills
            .iter()
            .any(|kill| (0.0..AFTERMATH_S).contains(&(at - kill)))
    };
    let (after, quiet): (Vec<Gap>, Vec<Gap>) = seats
        .gaps
        .iter()
        .copied()
        .partition(|gap| disturbed(gap.at));
    for (what, gaps) in [("otherwise", quiet), ("within 2 s of a kill", after)] {
        let ms: Vec<f64> = gaps.iter().map(|gap| gap.seconds * 1_000.0).collect();
        println!(
            "agent free to INVITE, {what}: p50 {:.1} ms, p99 {:.1} ms, longest {:.1} ms ({} offers)",
            quantile(&ms, 0.5),
            quantile(&ms, 0.99),
            quantile(&ms, 1.0),
            ms.len()
        );
    }
}

fn floor(load: &Load) {
    let mut cluster = Cluster::start("floor.toml");
    eventually(SOON, "fifty agents are ready", || {
        (agents_in(&cluster, "ready")? == AGENTS).then_some(())
    });
    let agents = Sipp::new("answer", address("127.0.0.60:6060"))
        .pause(load.talk)
        .calls(1_000_000, 10)
        .short_messages()
        .timeout(Duration::from_secs(700))
        .start();
    let running = callers(&cluster, load);
    let kills = kill_in_turn(&mut cluster, load);

    let total = u64::from(load.calls) * 4;
    let made = || {
        let counts = running.iter().map(Running::counts);
        counts.fold((0, 0), |(created, over), one| {
            (created + one.created, over + one.successful + one.failed)
        })
    };
    let all_made = within_time(Duration::from_secs(500), || {
        (made().0 >= total).then_some(())
    });
    assert!(all_made.is_some(), "callers: {:?}", made());
    let left = || cluster.any_api().list("/v1/calls");
    let over = within_time(Duration::from_secs(60), || left()?.is_empty().then_some(()));
    assert!(over.is_some(), "who waits or talks still: {:#?}", left());
    let _ = within_time(PATIENCE, || (made().1 >= total).then_some(()));
    for (queue, callers) in QUEUES.iter().zip(&running) {
        let counts = callers.counts();
        println!(
            "callers of {queue}: {} called, {} served or told the end, {} not",
            counts.created,
            counts.successful,
            counts.created - counts.successful
        );
    }
    drop(running);

    eventually(SOON, "every agent is ready again", || {
        (agents_in(&cluster, "ready")? == AGENTS).then_some(())
    });
    let records = cluster.any_api().cdrs().expect("a node answers");
    let mut by_call: BTreeMap<&str, usize> = BTreeMap::new();
    let mut by_disposition: BTreeMap<&str, usize> = BTreeMap::new();
    for record in &records {
        let text = |name: &str| record[name].as_str().unwrap_or_default();
        *by_call.entry(text("call")).or_default() += 1;
        *by_disposition.entry(text("disposition")).or_default() += 1;
    }
    println!("{} records: {by_disposition:?}", records.len());
    let twice: Vec<_> = by_call.iter().filter(|(_, count)| **count > 1).collect();
    assert!(twice.is_empty(), "more than one record: {twice:?}");
    let overlaps = overlaps(&records);
    assert!(overlaps.is_empty(), "agents in two calls: {overlaps:#?}");
    let shared = shared(&records);
    assert!(shared.is_empty(), "calls answered twice: {shared:?}");
    figures_add_up(&cluster, &records);

    let seats = Seats::read(&agents.messages());
    print_gaps(&seats, &kills);
    // The phone of an agent whose node died learns of the end when a survivor tells it.
    let (told, double): (Vec<_>, Vec<_>) = seats.doubles.iter().partition(|one| {
        kills
            .iter()
            .any(|at| (0.0..AFTERMATH_S).contains(&(one.at - at)))
    });
    println!(
        "{} offers; second calls at an agent's phone: {}, and {} while the end of a call lost \
         with its node was under way",
        seats.offers,
        double.len(),
        told.len()
    );
    assert!(double.is_empty(), "{double:#?}");
    let (code, out, err) = cluster.command(&["doctor"]);
    println!("{out}");
    assert_eq!(code, 0, "{err}");
    assert!(cluster.panics().is_empty(), "{:#?}", cluster.panics());
}

#[test]
fn four_queues_share_their_agents_while_nodes_die() {
    floor(&Load {
        together: 30,
        calls: 200,
        talk: Duration::from_millis(1_000),
        pause: Duration::from_secs(5),
        kills: 2,
    });
}

#[test]
#[ignore = "minutes at full load; make test-long runs it"]
fn five_hundred_callers_and_fifty_agents_while_nodes_die() {
    floor(&Load {
        together: 125,
        calls: 750,
        talk: Duration::from_millis(1_500),
        pause: Duration::from_secs(12),
        kills: 4,
    });
}
