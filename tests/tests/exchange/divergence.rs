//! A node whose copy of the state is wrong is found out and stands aside; the others go on.

use std::path::Path;
use std::time::Duration;

use rocksdb::{DB, IteratorMode, Options};
use strowger_tests::cluster::Cluster;
use strowger_tests::phone::Phone;
use strowger_tests::poll::eventually;
use strowger_tests::programs;

const SOON: Duration = Duration::from_secs(10);
/// Hashes are compared every ten seconds.
const FOUND_OUT: Duration = Duration::from_secs(40);
/// Key of the figures of the queue, without group and table: tenant, kind, name.
const FIGURES: &[u8] = b"demo\0queue\0main\0";

/// Counts one caller too many in the stored figures of the queue, checksum and all, as
/// memory that flips a bit before the row is sealed would.
fn tamper(store: &Path) {
    let families = ["default", "raft", "state", "crm", "crm_idx", "local"];
    let db = DB::open_cf(&Options::default(), store, families).expect("the node is gone");
    let state = db.cf_handle("state").expect("family");
    let rows = db.iterator_cf(state, IteratorMode::Start);
    let (key, sealed) = rows
        .map(|row| row.expect("readable"))
        .find(|(key, _)| key.ends_with(FIGURES))
        .expect("the queue has figures");
    let mut value = sealed[..sealed.len() - 8].to_vec();
    // Version, tenant, kind, name, then the callers who entered.
    let entered = 1 + (1 + "demo".len()) + 1 + (1 + "main".len());
    assert_eq!(value[entered], 1, "one caller so far");
    value[entered] += 1;
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"state");
    hasher.update(&u64::try_from(key.len()).expect("short").to_be_bytes());
    hasher.update(&key);
    hasher.update(&value);
    let mut sum = [0; 8];
    hasher.finalize_xof().fill(&mut sum);
    value.extend_from_slice(&sum);
    db.put_cf(state, key, value).expect("put");
}

fn call_4008(cluster: &Cluster, caller: &Phone, service: usize) {
    let call = caller.call(cluster.service(service), "4008");
    assert!(call.answered(SOON), "{:?}", call.view());
    call.hang_up();
    call.ended(SOON).expect("the call ends");
}

#[test]
fn a_node_whose_state_differs_stands_aside_and_the_others_go_on() {
    let mut cluster = Cluster::start("basic.toml");
    let caller = Phone::new(
        "127.0.0.76".parse().expect("an address"),
        "5550001",
        "",
        440,
    );
    call_4008(&cluster, &caller, 0);
    let wrong = cluster.leader() % 3 + 1;
    eventually(SOON, "the caller is counted everywhere", || {
        let figures = cluster.api(wrong).list("/v1/figures")?;
        (figures.first()?["abandoned"] == 1).then_some(())
    });
    cluster.end(wrong);
    tamper(&cluster.dir().join(format!("n{wrong}/data/store")));
    cluster.restart(wrong);
    let broken = eventually(SOON, "the check of every second notices", || {
        cluster
            .api(wrong)
            .metric("strowger_invariant_breaches_total", &[])
            .filter(|breaches| *breaches > 0.5)
    });
    println!("node {wrong}: {broken} checks found a broken invariant");

    // The row is written again, so that the hash tells.
    call_4008(&cluster, &caller, 0);
    let other = cluster.api(wrong % 3 + 1);
    let alarm = eventually(FOUND_OUT, "the others raise the alarm", || {
        let overview = other.get("/v1/overview").ok()?.json;
        let alarms = overview["alarms"].as_array()?.clone();
        alarms.into_iter().find(|alarm| alarm["code"] == "SW0403")
    });
    println!("{alarm}");
    assert!(
        alarm["what"]
            .as_str()
            .is_some_and(|what| what.contains(&format!("node_{wrong}"))),
        "{alarm}"
    );
    eventually(
        SOON,
        "its process has ended and its addresses have moved",
        || {
            let nodes = other.list("/v1/nodes")?;
            let id = format!("node_{wrong}");
            let node = nodes.iter().find(|node| node["id"] == id.as_str())?;
            let held = node["service_addresses"].as_array().map_or(0, Vec::len);
            (node["state"] == "down" && held == 0).then_some(())
        },
    );
    for service in 0..cluster.sip().len() {
        call_4008(&cluster, &caller, service);
    }
    println!("calls at all six addresses go on");

    let file = cluster.dir().join(format!("n{wrong}/node.toml"));
    let (code, said) = eventually(SOON, "its data has been let go", || {
        let mut command = programs::strowgerd();
        let again = command.arg("run").arg("--config").arg(&file).output();
        let again = again.expect("the program can be started");
        let said = String::from_utf8_lossy(&again.stderr).into_owned();
        // Its connections close before its process has ended.
        (!said.contains("SW0420")).then_some((again.status.code(), said))
    });
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("SW0403"), "{said}");
    println!("started again: {said}");
    assert!(cluster.panics().is_empty(), "{:#?}", cluster.panics());
}
