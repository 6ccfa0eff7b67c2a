//! `strowgerd doctor --data`: what it says of sound data, and that it finds every damage.

use std::path::Path;
use std::time::Duration;

use crate::damage::{data, entries, flip, keys, open};
use serde_json::Value;
use strowger_tests::cluster::Cluster;
use strowger_tests::phone::Phone;
use strowger_tests::poll::eventually;
use strowger_tests::programs;

const SOON: Duration = Duration::from_secs(10);

/// Exit code, what it found, standard error.
fn doctor(folder: &Path) -> (i32, Value, String) {
    let mut command = programs::strowgerd();
    command.args(["doctor", "--output", "json", "--data"]);
    let (code, out, err) = programs::run(command.arg(folder));
    let report = serde_json::from_str(&out).unwrap_or(Value::Null);
    (code, report, err)
}

/// The one thing that is wrong.
fn only_finding(folder: &Path) -> String {
    let (code, report, err) = doctor(folder);
    assert_eq!(code, 1, "{report:#} {err}");
    assert!(err.contains("SW0111"), "{err}");
    assert_eq!(report["wrong"], 1, "{report:#}");
    let finding = &report["findings"][0];
    let text = |field: &str| finding[field].as_str().expect("a text").to_owned();
    format!("{}: {}", text("where"), text("what"))
}

#[test]
fn sound_data_is_fine_and_every_damage_is_found_and_named() {
    let mut cluster = Cluster::start("basic.toml");
    let caller = Phone::new(
        "127.0.0.77".parse().expect("an address"),
        "5550002",
        "",
        440,
    );
    let call = caller.call(cluster.service(0), "4008");
    assert!(call.answered(SOON), "{:?}", call.view());
    call.hang_up();
    call.ended(SOON).expect("the call ends");
    eventually(SOON, "the record is everywhere", || {
        (1..=3)
            .all(|node| cluster.api(node).cdrs().is_some_and(|rows| rows.len() == 1))
            .then_some(())
    });
    let node = 2;
    let folder = data(&cluster, node);

    let (code, _, err) = doctor(&folder);
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("SW0420"), "a daemon runs: {err}");

    cluster.end(node);
    let (code, report, err) = doctor(&folder);
    println!("{report:#}");
    assert_eq!((code, err.as_str()), (0, ""), "{report:#}");
    assert_eq!(report["node"], "node_2");
    assert_eq!(report["wrong"], 0);
    assert_eq!(report["tables"]["cdr"]["rows"], 1);
    assert_eq!(report["tables"]["agent"]["rows"], 2);
    assert!(report["tables"]["cdr"]["largest"].as_u64() > Some(50));
    assert_eq!(report["blobs"]["files"], 2, "greeting and music");
    assert_eq!(report["state"]["index"], report["applied"]);
    let (_, again, _) = doctor(&folder);
    assert_eq!(report, again, "examining changes nothing");
    let plain = programs::run(
        programs::strowgerd()
            .args(["doctor", "--data"])
            .arg(&folder),
    );
    assert!(plain.1.contains("table cdr rows 1 keys "), "{}", plain.1);
    assert!(plain.1.ends_with("fine\n"), "{}", plain.1);

    let db = open(&folder);
    let log = entries(&db);
    let entry = log[log.len() / 2].clone();
    let index = u64::from_be_bytes(entry[5..].try_into().expect("eight bytes"));
    flip(&db, "raft", &entry);
    drop(db);
    let found = only_finding(&folder);
    println!("{found}");
    assert!(
        found.starts_with(&format!("log entry {index}: ")),
        "{found}"
    );
    assert!(found.contains("checksum"), "{found}");

    let db = open(&folder);
    flip(&db, "raft", &entry);
    let raft = db.cf_handle("raft").expect("family");
    let whole = db.get_cf(raft, &entry).expect("readable").expect("there");
    db.delete_cf(raft, &entry).expect("deleted");
    drop(db);
    let found = only_finding(&folder);
    println!("{found}");
    assert!(
        found.contains(&format!("entries {index} to {index} are missing")),
        "{found}"
    );

    let db = open(&folder);
    db.put_cf(db.cf_handle("raft").expect("family"), &entry, whole)
        .expect("put back");
    let record = keys(&db, "crm").into_iter().find(|key| key[4] == 64);
    let record = record.expect("a call detail record");
    flip(&db, "crm", &record);
    drop(db);
    let found = only_finding(&folder);
    println!("{found}");
    assert!(found.starts_with("crm key 0000000140"), "{found}");

    let db = open(&folder);
    flip(&db, "crm", &record);
    drop(db);
    let (code, _, err) = doctor(&folder);
    assert_eq!(code, 0, "whole again: {err}");
    let sounds = walk(&folder.join("blobs"));
    let mut bytes = std::fs::read(&sounds[0]).expect("a sound file");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&sounds[0], bytes).expect("written");
    let found = only_finding(&folder);
    println!("{found}");
    assert!(
        found.contains("its content does not fit its name"),
        "{found}"
    );

    // The node runs with a damaged sound file, and fetches a whole one.
    cluster.restart(node);
    eventually(Duration::from_secs(40), "the sound file is whole", || {
        let whole = std::fs::read(&sounds[0]).ok()?;
        let name = hex::encode(blake3::hash(&whole).as_bytes());
        sounds[0].ends_with(name).then_some(())
    });

    let (code, _, err) = doctor(&cluster.dir().join("nowhere"));
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("SW0410"), "{err}");
    assert!(cluster.panics().is_empty(), "{:#?}", cluster.panics());
}

fn walk(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        match entry.path() {
            path if path.is_dir() => found.extend(walk(&path)),
            path => found.push(path),
        }
    }
    found.sort();
    found
}
