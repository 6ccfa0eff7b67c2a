//! A queue with fifty agents and callers always waiting, as the peers were measured.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use strowger_tests::cluster::Cluster;
use strowger_tests::poll::eventually;
use strowger_tests::seats::{Seats, quantile};
use strowger_tests::sipp::Sipp;

use crate::cpu_ms;

const AGENTS: u32 = 50;
/// Callers at a time, talk in ms, calls measured.
const RUNS: [(u32, u32, u32); 3] = [(60, 2_000, 375), (100, 500, 1_500), (100, 100, 3_000)];

/// Measures and writes the table.
pub fn measure(text: &mut String) {
    text.push_str(
        "## Queue, 50 agents, callers always waiting\n\nThree daemons on this machine with SIPp \
         as callers and agents (all on the same 2 cores), wrap-up 0, every answer and end \
         committed on three nodes with fsync. Free → offer is measured at the agents' SIPp: \
         from an agent's BYE to the next INVITE for the same agent.\n\n\
         | callers / talk ms | answered/s (ideal) | free → offer p50 / p99 ms | CPU ms per \
         queued call, three nodes |\n|---|---|---|---|\n",
    );
    for (callers, talk_ms, calls) in RUNS {
        run(text, callers, talk_ms, calls);
    }
    text.push('\n');
}

fn run(text: &mut String, callers: u32, talk_ms: u32, calls: u32) {
    let cluster = Cluster::start("queue_figures.toml");
    let api = cluster.api(1);
    eventually(Duration::from_secs(20), "fifty agents are ready", || {
        let agents = api.list("/v1/agents")?;
        let ready = agents.iter().filter(|agent| agent["state"] == "ready");
        (ready.count() == AGENTS as usize).then_some(())
    });
    let address = |text: &str| -> SocketAddr { text.parse().expect("an address") };
    let agents = Sipp::new("answer", address("127.0.0.60:6060"))
        .pause(Duration::from_millis(u64::from(talk_ms)))
        .calls(calls + callers, 10)
        .short_messages()
        .timeout(Duration::from_secs(180))
        .start();
    let before = cpu_ms(&cluster);
    let began = Instant::now();
    // The demo trusts this address: one source may send more than a phone would.
    let counts = Sipp::new("call", address("127.0.0.1:6092"))
        .to(cluster.service(0), "4008")
        .rows((1..=calls).map(|n| format!("c{n:05};0")))
        .calls(calls, 500)
        .together(callers)
        .timeout(Duration::from_secs(170))
        .run();
    let took = began.elapsed();
    let per_call = (cpu_ms(&cluster) - before) / f64::from(calls);
    assert_eq!(counts.successful, u64::from(calls), "{counts:?}");
    let gaps = Seats::read(&agents.messages()).gaps;
    let gaps: Vec<f64> = gaps.iter().map(|gap| gap.seconds * 1_000.0).collect();
    let rate = f64::from(calls) / took.as_secs_f64();
    let ideal = f64::from(AGENTS) * 1_000.0 / f64::from(talk_ms);
    let _ = writeln!(
        text,
        "| {callers} / {talk_ms} | {rate:.1} ({ideal:.0}) | {:.1} / {:.1} ({} offers) | \
         {per_call:.2} |",
        quantile(&gaps, 0.5),
        quantile(&gaps, 0.99),
        gaps.len()
    );
}
