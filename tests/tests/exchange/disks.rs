//! Disks that fail under a running cluster: full, EIO, a torn write, rot in the log, lost
//! and old data. The node stands aside or repairs itself; what was acknowledged stays.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::damage::{data, entries, flip, open};
use serde_json::{Value, json};
use strowger_tests::cluster::Cluster;
use strowger_tests::daemon::{Daemon, node_file, verb};
use strowger_tests::poll::{eventually, within_time};
use strowger_tests::programs;

const SOON: Duration = Duration::from_secs(20);

/// What a client was told is done: extensions it imported, one at a time.
struct History<'a> {
    cluster: &'a Cluster,
    acknowledged: Vec<String>,
    next: u32,
}

impl<'a> History<'a> {
    fn new(cluster: &'a Cluster, next: u32) -> Self {
        Self {
            cluster,
            acknowledged: Vec::new(),
            next,
        }
    }

    /// Imports one extension through the first node that takes it.
    fn write(&mut self) {
        let name = self.next.to_string();
        self.next += 1;
        let body = json!({ "file": "f.csv", "text": format!("extension,password\n{name},p\n") });
        let taken = within_time(SOON, || {
            let mut apis = self.cluster.apis().into_iter();
            apis.find_map(|api| {
                let answer = api.post("/v1/extensions/import", &body).ok()?;
                (answer.status == 200).then_some(())
            })
        });
        taken.expect("a majority acknowledges");
        self.acknowledged.push(name);
    }

    fn write_many(&mut self, count: usize) {
        (0..count).for_each(|_| self.write());
    }

    /// Everything acknowledged is there, on each of these nodes.
    fn check(&self, nodes: &[u64]) {
        for node in nodes {
            eventually(SOON, "everything acknowledged is there", || {
                let rows = self.cluster.api(*node).list("/v1/extensions")?;
                let has = |name: &String| rows.iter().any(|row| row["extension"] == name.as_str());
                self.acknowledged.iter().all(has).then_some(())
            });
        }
    }
}

/// An alarm with this code, as node `asked` tells it.
fn alarm(cluster: &Cluster, asked: u64, code: &str) -> Value {
    eventually(SOON, code, || {
        let overview = cluster.api(asked).get("/v1/overview").ok()?.json;
        let alarms = overview["alarms"].as_array()?.clone();
        alarms.into_iter().find(|alarm| alarm["code"] == code)
    })
}

/// Waits until the others have taken the addresses of `node`.
fn declared_down(cluster: &Cluster, node: u64) {
    let other = cluster.api(node % 3 + 1);
    eventually(SOON, "its addresses have moved", || {
        let nodes = other.list("/v1/nodes")?;
        let id = format!("node_{node}");
        let node = nodes.iter().find(|node| node["id"] == id.as_str())?;
        let held = node["service_addresses"].as_array().map_or(0, Vec::len);
        (node["state"] == "down" && held == 0).then_some(())
    });
}

/// A follower: its trouble is not the leader's.
fn follower(cluster: &Cluster) -> u64 {
    cluster.leader() % 3 + 1
}

fn others(node: u64) -> [u64; 2] {
    [node % 3 + 1, (node + 1) % 3 + 1]
}

/// The shim, compiled; `None` without a C compiler.
fn shim(folder: &Path) -> Option<PathBuf> {
    let library = folder.join("shim.so");
    let mut compile = Command::new("cc");
    compile
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .arg(&library);
    compile
        .arg(programs::fixture("tests/exchange/disks/shim.c"))
        .arg("-ldl");
    match compile.status() {
        Ok(status) if status.success() => Some(library),
        other => {
            println!("skipped: no C compiler makes the shim ({other:?})");
            None
        }
    }
}

/// Starts the leader, or a node that does not lead, with a disk that fails when told to.
fn faulty(cluster: &mut Cluster, of_leader: bool, environment: &[(&str, &str)]) -> u64 {
    let node = if of_leader { 1 } else { follower(cluster) };
    cluster.end(node);
    cluster.restart_with(node, environment);
    let leader = cluster.leader();
    if of_leader && leader != node {
        // A leader that ends hands over to the first of the others.
        cluster.end(leader);
        cluster.restart(leader);
    }
    assert_eq!(cluster.leader() == node, of_leader, "node {node}");
    node
}

#[test]
fn writes_that_fail_or_are_torn_cost_nothing_that_was_acknowledged() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let Some(library) = shim(folder.path()) else {
        return;
    };
    let word = folder.path().join("fault");
    let environment = [
        ("LD_PRELOAD", library.to_str().expect("plain ASCII")),
        ("STROWGER_FAULT", word.to_str().expect("plain ASCII")),
    ];
    let mut cluster = Cluster::start("basic.toml");
    let mut next = 30_000;
    for fault in ["eio", "torn"] {
        for of_leader in [false, true] {
            let node = faulty(&mut cluster, of_leader, &environment);
            let mut history = History::new(&cluster, next);
            history.write_many(3);
            std::fs::write(&word, fault).expect("written");
            history.write_many(5);
            if fault == "eio" {
                alarm(&cluster, node, "SW0401");
            }
            declared_down(&cluster, node);
            history.write_many(3);
            history.check(&others(node));
            std::fs::remove_file(&word).expect("removed");
            next = history.next;
            let acknowledged = history.acknowledged;
            if fault == "eio" {
                cluster.end(node);
            }
            // A write cut off at the end was told to nobody: the node comes back with it gone.
            cluster.restart(node);
            let history = History {
                cluster: &cluster,
                acknowledged,
                next,
            };
            history.check(&[1, 2, 3]);
            println!("{fault}, leader: {of_leader}: everything acknowledged is on every node");
        }
    }
    assert!(cluster.panics().is_empty(), "{:#?}", cluster.panics());
}

#[test]
fn a_disk_that_hangs_costs_its_node_the_lead_until_it_answers() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let Some(library) = shim(folder.path()) else {
        return;
    };
    let word = folder.path().join("fault");
    let environment = [
        ("LD_PRELOAD", library.to_str().expect("plain ASCII")),
        ("STROWGER_FAULT", word.to_str().expect("plain ASCII")),
    ];
    let mut cluster = Cluster::start("basic.toml");
    let mut next = 31_000;
    for of_leader in [false, true] {
        let node = faulty(&mut cluster, of_leader, &environment);
        let mut history = History::new(&cluster, next);
        history.write_many(3);
        std::fs::write(&word, "hang").expect("written");
        history.write_many(3);
        declared_down(&cluster, node);
        history.write_many(3);
        history.check(&others(node));
        std::fs::remove_file(&word).expect("removed");
        history.check(&[1, 2, 3]);
        next = history.next;
        eventually(SOON, "the node is up again", || {
            let nodes = cluster.any_api().list("/v1/nodes")?;
            nodes.iter().all(|node| node["state"] == "up").then_some(())
        });
        let told = cluster.log(node);
        let alarm = told.iter().any(|line| line.to_string().contains("SW0408"));
        assert!(alarm, "the log says why");
        println!("leader: {of_leader}: everything acknowledged is on every node");
    }
    assert!(cluster.panics().is_empty(), "{:#?}", cluster.panics());
}

#[test]
fn a_full_disk_takes_a_node_out_until_there_is_room() {
    let mut cluster = Cluster::start("basic.toml");
    let node = follower(&cluster);
    cluster.end(node);
    let home = data(&cluster, node);
    let aside = home.with_file_name("aside");
    std::fs::rename(&home, &aside).expect("moved");
    std::fs::create_dir(&home).expect("a mount point");
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=24m", "tmpfs"])
        .arg(&home)
        .status();
    if !mounted.is_ok_and(|status| status.success()) {
        println!("skipped: a tmpfs cannot be mounted here");
        return;
    }
    let _mount = Mount(home.clone());
    let copied = Command::new("cp")
        .arg("-a")
        .arg(aside.join("."))
        .arg(&home)
        .status();
    assert!(copied.is_ok_and(|status| status.success()), "copied");
    cluster.restart(node);
    let mut history = History::new(&cluster, 40_000);
    history.write_many(3);
    history.check(&[node]);
    let ballast = home.join("ballast");
    let full = std::fs::write(&ballast, vec![0; 32 << 20]);
    println!("filled: {full:?}");
    assert!(full.is_err(), "the disk is full");
    for _ in 0..40 {
        history.write();
        let seen = cluster.api(node).get("/v1/overview").ok();
        if seen.is_some_and(|answer| answer.text.contains("SW0401")) {
            break;
        }
    }
    println!("{}", alarm(&cluster, node, "SW0401"));
    declared_down(&cluster, node);
    history.write_many(3);
    history.check(&others(node));
    let (acknowledged, next) = (history.acknowledged, history.next);
    cluster.end(node);
    std::fs::remove_file(&ballast).expect("room again");
    cluster.restart(node);
    let history = History {
        cluster: &cluster,
        acknowledged,
        next,
    };
    history.check(&[1, 2, 3]);
    println!("with room it is back, and has everything");
    cluster.end(node);
    assert!(cluster.panics().is_empty(), "{:#?}", cluster.panics());
}

/// A mounted file system, taken away at the end.
struct Mount(PathBuf);

impl Drop for Mount {
    fn drop(&mut self) {
        // Lazily: a daemon that outlives a failed test may still hold it.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn rotten_old_and_lost_data_are_never_used_and_the_node_is_repaired_by_joining_anew() {
    let mut cluster = Cluster::start("basic.toml");
    let node = follower(&cluster);
    let home = data(&cluster, node);
    let mut history = History::new(&cluster, 50_000);
    history.write_many(5);
    history.check(&[1, 2, 3]);
    let (mut acknowledged, next) = (history.acknowledged, history.next);

    // An old copy put back.
    cluster.end(node);
    let old = home.with_file_name("old");
    let copied = Command::new("cp").arg("-a").arg(&home).arg(&old).status();
    assert!(copied.is_ok_and(|status| status.success()), "copied");
    cluster.restart(node);
    let mut history = History {
        cluster: &cluster,
        acknowledged,
        next,
    };
    history.write_many(5);
    history.check(&[1, 2, 3]);
    acknowledged = history.acknowledged;
    cluster.end(node);
    let kept = home.with_file_name("kept");
    std::fs::rename(&home, &kept).expect("moved");
    std::fs::rename(&old, &home).expect("put back");
    let (code, _, err) = cluster.run_to_its_end(node, &[]);
    println!("old data: {}", err.trim());
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("SW0407"), "{err}");
    println!("{}", alarm(&cluster, others(node)[0], "SW0407"));

    // A lost store beside a kept identity.
    std::fs::remove_dir_all(home.join("store")).expect("removed");
    let (code, _, err) = cluster.run_to_its_end(node, &[]);
    println!("lost store: {}", err.trim());
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("SW0426"), "{err}");

    // Everything lost.
    std::fs::remove_dir_all(&home).expect("removed");
    let (code, _, err) = cluster.run_to_its_end(node, &[]);
    println!("lost folder: {}", err.trim());
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("SW0410"), "{err}");

    // A flipped bit in the log: the last entry is read at start, and named.
    std::fs::rename(&kept, &home).expect("put back");
    let db = open(&home);
    let last = entries(&db).pop().expect("a log");
    flip(&db, "raft", &last);
    drop(db);
    let (code, _, err) = cluster.run_to_its_end(node, &[]);
    println!("rot: {}", err.trim());
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("SW0421") && err.contains("checksum"), "{err}");

    // Removed, emptied and joined anew: everything comes from the peers.
    let api = cluster.api(others(node)[0]);
    declared_down(&cluster, node);
    let (code, _, err) = cluster.command(&["node", "remove", &node.to_string()]);
    assert_eq!(code, 0, "{err}");
    let file = node_file(&cluster.dir().join("n4"), 4);
    let wish = json!({ "ttl_s": 600, "node": 4 });
    let token = api.post("/v1/nodes/invite", &wish).expect("answers").json;
    let token = token["token"].as_str().expect("a token").to_owned();
    let (code, _, err) = verb("join", &file, &["--token", &token]);
    assert_eq!(code, 0, "{err}");
    let fresh = Daemon::run(&file, 4);
    eventually(SOON, "it votes and has everything", || {
        let nodes = fresh.api().list("/v1/nodes")?;
        let up = nodes.iter().filter(|row| row["state"] == "up").count();
        let learns = nodes.iter().any(|row| row["role"] == "learner");
        let rows = fresh.api().list("/v1/extensions")?;
        let has = |name: &String| rows.iter().any(|row| row["extension"] == name.as_str());
        (up == 3 && !learns && acknowledged.iter().all(has)).then_some(())
    });
    assert_eq!(fresh.end(), Some(0));
    assert!(cluster.panics().is_empty(), "{:#?}", cluster.panics());
}
