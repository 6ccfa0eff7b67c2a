//! A backup of a running cluster, and the cluster that is made of it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use strowger_tests::cluster::Cluster;
use strowger_tests::daemon::{Daemon, node_file, verb};
use strowger_tests::phone::{Phone, Policy};
use strowger_tests::poll::eventually;

const SOON: Duration = Duration::from_secs(15);

fn phone(last: u8, user: &str, password: &str) -> Phone {
    let address = format!("127.0.0.{last}").parse().expect("an address");
    Phone::new(address, user, password, 440)
}

fn text(path: &Path) -> &str {
    path.to_str().expect("plain ASCII")
}

fn flip(path: &Path) {
    let mut bytes = std::fs::read(path).expect("a file of the backup");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(path, bytes).expect("written");
}

#[test]
fn a_backup_of_a_running_cluster_becomes_another_one() {
    let mut cluster = Cluster::start("basic.toml");
    let csv = cluster.site_folder().join("more.csv");
    std::fs::write(&csv, "extension,password\n2001,precious\n").expect("written");
    let (code, _, err) = cluster.command(&["extension", "import", text(&csv)]);
    assert_eq!(code, 0, "{err}");
    let service = cluster.service(0);
    let caller = phone(86, "5550001", "");
    let heard = caller.call(service, "4008");
    assert!(heard.answered(SOON), "{:?}", heard.view());
    heard.hang_up();
    heard.ended(SOON).expect("the call ends");
    let one = phone(87, "2001", "precious");
    assert_eq!(one.register(service, 600), Some(200));
    let other = phone(88, "1002", &cluster.password("1002"));
    assert_eq!(other.register(service, 600), Some(200));
    other.set_policy(Policy::Answer {
        after: Duration::ZERO,
        talk: None,
    });
    let talking = one.call(service, "1002");
    assert!(talking.answered(SOON), "{:?}", talking.view());
    let waiting = caller.call(service, "4008");
    assert!(waiting.answered(SOON), "{:?}", waiting.view());
    eventually(SOON, "two calls live and one is recorded", || {
        let (calls, cdrs) = (cluster.api(1).list("/v1/calls")?, cluster.api(1).cdrs()?);
        (calls.len() == 2 && cdrs.len() == 1).then_some(())
    });

    let folder = tempfile::tempdir().expect("a temporary folder");
    let (to, key) = (folder.path().join("backup"), folder.path().join("key"));
    let own = cluster.dir().join("n1/node.toml");
    let taken = verb("backup", &own, &["--to", text(&to), "--key-to", text(&key)]);
    println!("{}", taken.1.trim());
    assert_eq!(taken.0, 0, "{}", taken.2);
    let mut names: Vec<PathBuf> = std::fs::read_dir(folder.path())
        .expect("a folder")
        .map(|entry| entry.expect("listed").path())
        .collect();
    names.sort();
    assert_eq!(names, [to.clone(), key.clone()], "no draft stays behind");
    let again = verb("backup", &own, &["--to", text(&to)]);
    assert_eq!(again.0, 1, "{}", again.2);
    assert!(again.2.contains("SW0112"), "{}", again.2);
    let manifest = std::fs::read_to_string(to.join("manifest.json")).expect("a manifest");
    let manifest: Value = serde_json::from_str(&manifest).expect("JSON");
    assert_eq!(
        manifest["manifest"]["files"].as_array().map(Vec::len),
        Some(3)
    );
    // Taking it has disturbed nobody.
    assert!(talking.view().ended.is_none() && waiting.view().ended.is_none());
    talking.hang_up();
    talking.ended(SOON).expect("the call ends");
    cluster.stop();

    // What is not whole is refused, and the file named.
    let blob = std::fs::read_dir(to.join("blobs"))
        .expect("sound files")
        .next();
    let blob = blob.expect("one").expect("listed").path();
    for victim in [to.join("rows"), to.join("manifest.json"), blob] {
        flip(&victim);
        let target = folder.path().join("refused");
        let file = node_file(&target, 1);
        let refused = verb(
            "restore",
            &file,
            &["--from", text(&to), "--key", text(&key)],
        );
        assert_eq!(refused.0, 5, "{}", refused.2);
        assert!(refused.2.contains("SW0113"), "{}", refused.2);
        assert!(refused.2.contains(text(&victim)), "{}", refused.2);
        assert!(!target.join("data").exists(), "nothing was begun");
        flip(&victim);
    }

    let home = folder.path().join("n1");
    let file = node_file(&home, 1);
    let keyless = verb("restore", &file, &["--from", text(&to)]);
    assert_eq!(keyless.0, 1, "{}", keyless.2);
    assert!(keyless.2.contains("SW0116"), "{}", keyless.2);
    let restored = verb(
        "restore",
        &file,
        &["--from", text(&to), "--key", text(&key)],
    );
    println!("{}", restored.1.trim());
    assert_eq!(restored.0, 0, "{}", restored.2);
    assert!(restored.1.contains("secrets=21"), "{}", restored.1);
    let twice = verb(
        "restore",
        &file,
        &["--from", text(&to), "--key", text(&key)],
    );
    assert_eq!(twice.0, 1, "{}", twice.2);
    assert!(twice.2.contains("SW0115"), "{}", twice.2);

    let first = Daemon::run(&file, 1);
    let api = first.api();
    assert_ne!(
        api.get("/v1/cluster").expect("answers").json["id"],
        manifest["manifest"]["cluster"],
        "it is another cluster"
    );
    let records = api.cdrs().expect("records");
    let mut ends: Vec<&str> = records
        .iter()
        .filter_map(|row| row["disposition"].as_str())
        .collect();
    ends.sort_unstable();
    assert_eq!(
        ends,
        ["abandoned", "node_lost", "node_lost"],
        "{records:#?}"
    );
    assert_eq!(api.list("/v1/calls").expect("calls").len(), 0);
    let figures = api.list("/v1/figures").expect("figures");
    let main = figures
        .iter()
        .find(|row| row["name"] == "main")
        .expect("main");
    assert_eq!(main["offered"], 2, "{main}");
    assert_eq!(
        (&main["abandoned"], &main["node_lost"]),
        (&1.into(), &1.into())
    );

    // An empty node joins it; one of the old cluster is not heard.
    let (token, _) = invite(&api);
    let second = node_file(&folder.path().join("n2"), 2);
    let joined = verb("join", &second, &["--token", &token]);
    assert_eq!(joined.0, 0, "{}", joined.2);
    let second = Daemon::run(&second, 2);
    eventually(SOON, "both vote", || {
        let nodes = second.api().list("/v1/nodes")?;
        let up = nodes.iter().filter(|node| node["state"] == "up").count();
        let learners = nodes.iter().any(|node| node["role"] == "learner");
        (nodes.len() == 2 && up == 2 && !learners).then_some(())
    });
    // Passwords of before hold at both: one imported, one generated.
    for service in cluster.sip() {
        eventually(SOON, "the address is served", || {
            (one.register(*service, 600) == Some(200)).then_some(())
        });
        assert_eq!(other.register(*service, 600), Some(200), "{service}");
    }
    let call = one.call(cluster.service(1), "1002");
    assert!(call.answered(SOON), "{:?}", call.view());
    call.hang_up();
    call.ended(SOON).expect("the call ends");
    let greeted = caller.call(cluster.service(1), "4008");
    assert!(greeted.answered(SOON), "{:?}", greeted.view());
    greeted
        .wait(SOON, |_| {
            greeted.audio().hears(strowger_tests::cluster::GREETING_HZ)
        })
        .expect("the sound files came along");
    greeted.hang_up();

    // A node of the old cluster at its old address reaches nobody.
    let old = Daemon::try_run(&cluster.dir().join("n3/node.toml"));
    eventually(
        SOON,
        "it finds strangers at the addresses of its peers",
        || {
            let log = cluster.log(3);
            let refused = |event: &Value| event.to_string().contains("SW0440");
            log.iter().any(refused).then_some(())
        },
    );
    let nodes = api.list("/v1/nodes").expect("nodes");
    assert_eq!(nodes.len(), 2, "{nodes:#?}");
    drop(old);
    assert_eq!(second.end(), Some(0));
    assert_eq!(first.end(), Some(0));
}

fn invite(api: &strowger_tests::api::Api) -> (String, Value) {
    let wish = serde_json::json!({ "ttl_s": 600 });
    eventually(SOON, "an invitation", || {
        let answer = api.post("/v1/nodes/invite", &wish).ok()?;
        let token = answer.json["token"].as_str()?.to_owned();
        Some((token, answer.json))
    })
}
