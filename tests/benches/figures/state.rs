//! What state weighs: the rows that real phones leave, INVITEs and dialogs included, read from
//! the data of a node that was killed under them.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use strowger_tests::cluster::Cluster;
use strowger_tests::poll::eventually;
use strowger_tests::programs;
use strowger_tests::sipp::Sipp;

const CALLERS: u32 = 50;
const SOON: Duration = Duration::from_secs(20);

/// Measures and writes the table.
pub fn measure(text: &mut String) {
    text.push_str(
        "## State\n\nMean and largest value in bytes on one node, as `strowgerd doctor --data` \
         reads them after kill -9 of it; each row stands on three nodes. Callers and agents are \
         SIPp, whose INVITEs have 0.5 KiB; a leg's checkpoint holds the INVITE or the dialog, \
         an INVITE up to 4 KiB.\n\n| row | rows | mean | largest |\n|---|---|---|---|\n",
    );
    let waiting = rows("basic.toml", "waiting");
    let bridged = rows("queue_figures.toml", "talking");
    for (what, tables, name) in [
        ("call, waiting", &waiting, "call"),
        ("call, bridged with an agent", &bridged, "call"),
        ("agent", &bridged, "agent"),
    ] {
        let of = &tables[name];
        let _ = writeln!(
            text,
            "| {what} | {} | {} | {} |",
            of["rows"], of["mean"], of["largest"]
        );
    }
    text.push('\n');
}

/// The tables of a node killed under fifty callers who wait, or talk.
fn rows(site: &str, doing: &str) -> Value {
    let mut cluster = Cluster::start(site);
    let api = cluster.api(1);
    let address = |text: &str| -> SocketAddr { text.parse().expect("an address") };
    let agents = Sipp::new("stay", address("127.0.0.60:6060"))
        .calls(CALLERS, 10)
        .timeout(Duration::from_secs(60))
        .start();
    let callers = Sipp::new("call", address("127.0.0.1:6092"))
        .to(cluster.service(0), "4008")
        .rows((1..=CALLERS).map(|n| format!("c{n:05};60000")))
        .calls(CALLERS, 100)
        .together(CALLERS)
        .timeout(Duration::from_secs(60))
        .start();
    let stand = |calls: &[Value]| {
        let stage = |call: &&Value| {
            let state = call["state"].as_str().unwrap_or_default();
            (doing == "talking") == call["agent"].is_string() && state != "ringing"
        };
        calls.iter().filter(stage).count()
    };
    eventually(SOON, &format!("{CALLERS} are {doing}"), || {
        let calls = api.list("/v1/calls")?;
        (stand(&calls) == CALLERS as usize).then_some(())
    });
    cluster.kill(3);
    let data = cluster.dir().join("n3/data");
    // The killed process lets go of its data a moment later.
    let out = eventually(SOON, "its data is fine", || {
        let mut doctor = programs::strowgerd();
        doctor.args(["doctor", "--output", "json", "--data"]);
        let (code, out, _) = programs::run(doctor.arg(&data));
        (code == 0).then_some(out)
    });
    drop((callers, agents));
    let report: Value = serde_json::from_str(&out).expect("JSON");
    report["tables"].clone()
}
