//! Nodes die again and again while callers come and go; every call leaves one record.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use strowger_tests::cluster::Cluster;
use strowger_tests::phone::{Phone, Policy};
use strowger_tests::poll::{eventually, within_time};

/// How long, unless `STROWGER_CHAOS_SECONDS` says otherwise.
const SECONDS: u64 = 300;
/// Time between a node's return and the next kill.
const BREATH: Duration = Duration::from_secs(5);

#[test]
#[ignore = "takes minutes; make chaos runs it"]
fn nodes_die_again_and_again_under_load() {
    let seconds = std::env::var("STROWGER_CHAOS_SECONDS")
        .ok()
        .and_then(|text| text.parse().ok());
    let end = Instant::now() + Duration::from_secs(seconds.unwrap_or(SECONDS));
    let mut cluster = Cluster::start("crowd.toml");
    let agents = Phone::at(
        "127.0.0.60:6060".parse().expect("an address"),
        "agents",
        "",
        620,
    );
    let talk = Some(Duration::from_millis(800));
    agents.set_policy(Policy::Answer {
        after: Duration::from_millis(50),
        talk,
    });
    let servers = cluster.sip().to_vec();
    let callers = std::thread::spawn(move || {
        let phone = Phone::new(
            "127.0.0.79".parse().expect("an address"),
            "5550000",
            "",
            440,
        );
        let mut number = 0usize;
        while Instant::now() < end {
            phone.call(servers[number % servers.len()], "4008");
            number += 1;
            std::thread::sleep(Duration::from_millis(400));
        }
        within_time(Duration::from_secs(40), || {
            phone
                .calls()
                .iter()
                .all(|call| call.view().ended.is_some())
                .then_some(())
        });
        let views: Vec<_> = phone.calls().iter().map(|call| call.view()).collect();
        let answered = views.iter().filter(|view| view.answered.is_some()).count();
        let ended = views.iter().filter(|view| view.ended.is_some()).count();
        (views.len(), answered, ended)
    });
    let mut kills = 0u64;
    while Instant::now() + BREATH < end {
        let victim = if kills.is_multiple_of(2) {
            cluster.leader()
        } else {
            kills % 3 + 1
        };
        cluster.kill(victim);
        kills += 1;
        std::thread::sleep(Duration::from_secs(2));
        cluster.restart(victim);
        std::thread::sleep(BREATH);
    }
    let (made, answered, ended) = callers.join().expect("it asserts nothing");
    println!("{kills} kills; {made} calls made, {answered} answered, {ended} ended");
    let api = cluster.any_api();
    eventually(Duration::from_secs(60), "no call is left", || {
        api.list("/v1/calls")?.is_empty().then_some(())
    });
    let mut by_disposition: BTreeMap<String, usize> = BTreeMap::new();
    let mut by_call: BTreeMap<String, usize> = BTreeMap::new();
    for row in api.cdrs().expect("a node answers") {
        *by_disposition
            .entry(row["disposition"].to_string())
            .or_default() += 1;
        *by_call.entry(row["call"].to_string()).or_default() += 1;
    }
    println!("records by disposition: {by_disposition:?}");
    let twice: Vec<_> = by_call.iter().filter(|(_, count)| **count > 1).collect();
    assert!(
        twice.is_empty(),
        "calls with more than one record: {twice:?}"
    );
    assert!(
        by_call.len() >= answered,
        "{} records for {answered} answered calls",
        by_call.len()
    );
    let hashes = eventually(Duration::from_secs(60), "all nodes agree", || {
        let nodes = cluster.any_api().list("/v1/nodes")?;
        let hashes: Vec<String> = nodes.iter().map(|node| node["state"].to_string()).collect();
        hashes
            .iter()
            .all(|state| state == "\"up\"")
            .then_some(hashes)
    });
    assert_eq!(hashes.len(), 3);
    assert!(cluster.panics().is_empty(), "{:#?}", cluster.panics());
}
