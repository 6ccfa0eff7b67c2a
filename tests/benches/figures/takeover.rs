//! What the death of a node costs those who are not on it to begin with: how soon a control
//! write is committed again.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::json;
use strowger_tests::cluster::{Cluster, is_gone};
use strowger_tests::poll::eventually;
use strowger_tests::seats::quantile;

/// Leaders killed.
const KILLS: usize = 40;
/// A cluster is whole again within this.
const SOON: Duration = Duration::from_secs(30);

/// Measures and writes the figures.
pub fn measure(text: &mut String) {
    let mut cluster = Cluster::start("basic.toml");
    let mut resumed = Vec::new();
    let mut serial = 0;
    while resumed.len() < KILLS {
        let leader = cluster.leader();
        let survivor = cluster.api(leader % 3 + 1);
        let mut write = || {
            serial += 1;
            let kind = ["agent_sign_in", "agent_sign_out"][serial % 2];
            let body = json!({"id": format!("w{serial}"), "type": kind, "agent": "a1"});
            let answer = survivor.post("/v1/commands", &body).ok();
            answer.is_some_and(|answer| answer.status == 200)
        };
        // Warm, and not at the beginning of anything.
        for _ in 0..20 {
            assert!(write(), "a whole cluster takes a command");
        }
        let pid = cluster.pid(leader);
        let killed = cluster.kill(leader);
        // No word of its last moment counts.
        while !is_gone(pid) {
            std::thread::sleep(Duration::from_micros(200));
        }
        while !write() {
            assert!(killed.elapsed() < SOON, "commands are taken again");
        }
        resumed.push(killed.elapsed().as_secs_f64() * 1_000.0);
        cluster.restart(leader);
        eventually(SOON, "the cluster is whole", || {
            let nodes = cluster.any_api().list("/v1/nodes")?;
            let applied: Vec<_> = nodes
                .iter()
                .filter_map(|node| node["applied"].as_u64())
                .collect();
            let close = applied.iter().max()? - applied.iter().min()? < 50;
            (close && nodes.iter().all(|node| node["state"] == "up")).then_some(())
        });
    }
    let _ = writeln!(
        text,
        "## Control writes after the leader's death\n\nThree daemons on this machine; one client \
         at a survivor signs an agent in and out over HTTP, one command after the other, and \
         {KILLS} leaders are killed with SIGKILL. From the kill to the first command committed: \
         p50 {:.0}, p90 {:.0}, p99 {:.0}, at most {:.0} ms.\n",
        quantile(&resumed, 0.5),
        quantile(&resumed, 0.9),
        quantile(&resumed, 0.99),
        quantile(&resumed, 1.0)
    );
}
