//! A backup of a running cluster, and the cluster that is made of it.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use strowger_tests::cluster::Cluster;
use strowger_tests::daemon::{Daemon, node_file, verb};
use strowger_tests::dice::Dice;
use strowger_tests::phone::{Phone, Policy};
use strowger_tests::poll::eventually;
use strowger_tests::programs;

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

/// Customers of one file, and the text of each, bytes.
const FILE_ROWS: u64 = 100_000;
const FIELDS: usize = 7;
const FIELD_BYTES: usize = 1_000;
const ROW_BYTES: u64 = (FIELDS * FIELD_BYTES) as u64;

/// Customers whose fields no compression makes much smaller.
fn large_customers(path: &Path, from: u64, dice: &mut Dice) {
    let file = std::fs::File::create(path).expect("a temporary folder is writable");
    let mut file = std::io::BufWriter::new(file);
    let fields: String = (1..=FIELDS).map(|n| format!(",field{n}")).collect();
    writeln!(file, "id,name,number{fields}").expect("written");
    let mut line = String::new();
    for n in from..from + FILE_ROWS {
        line.clear();
        write!(line, "C{n:09},Customer {n},+47{}", 20_000_000 + n).expect("text");
        for _ in 0..FIELDS {
            line.push(',');
            let end = line.len() + FIELD_BYTES;
            while line.len() < end {
                write!(line, "{:016x}", dice.roll()).expect("text");
            }
            line.truncate(end);
        }
        writeln!(file, "{line}").expect("written");
    }
    file.flush().expect("written");
}

/// Runs a command to its end, however long it takes; how long it took.
fn timed(command: &mut Command) -> (String, Duration) {
    let began = Instant::now();
    let (code, out, err) = programs::run(command);
    assert_eq!(code, 0, "{command:?}: {out}{err}");
    (out.trim().to_owned(), began.elapsed())
}

#[test]
#[ignore = "wants 50 GB of disk and a quarter of an hour; GIGABYTES=N makes it smaller"]
fn gigabytes_are_backed_up_and_restored() {
    let wanted = std::env::var("GIGABYTES").ok();
    let wanted: u64 = wanted.and_then(|text| text.parse().ok()).unwrap_or(10);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let home = folder.path().join("n1");
    let file = node_file(&home, 1);
    let daemon = |words: &[&str], file: &Path| {
        let mut command = programs::strowgerd();
        command.args(words).arg("--config").arg(file);
        command
    };
    timed(&mut daemon(&["init", "--name", "large"], &file));
    let first = Daemon::run(&file, 1);
    let client = |words: &[&str]| {
        let mut command = programs::strowger();
        command
            .env("STROWGER_API", "http://127.0.0.1:8080")
            .env("STROWGER_TOKEN_FILE", home.join("data/admin.token"))
            .args(words);
        command
    };
    let site = folder.path().join("site.toml");
    let tenant = "[cluster]\nservice_addresses = [\"127.0.0.1\"]\n\n\
                  [tenant]\nname = \"large\"\ndomain = \"large.invalid\"\n";
    std::fs::write(&site, tenant).expect("written");
    timed(&mut client(&["site", "apply", text(&site)]));

    let files = (wanted << 30).div_ceil(FILE_ROWS * ROW_BYTES);
    let mut dice = Dice::new(1);
    let began = Instant::now();
    for number in 0..files {
        let list = folder.path().join("customers.csv");
        large_customers(&list, number * FILE_ROWS, &mut dice);
        timed(&mut client(&["customer", "import", text(&list)]));
        println!(
            "{} customers after {} s",
            (number + 1) * FILE_ROWS,
            began.elapsed().as_secs()
        );
    }
    let last = format!("C{:09}", files * FILE_ROWS - 1);
    let shown = |url: &Daemon| {
        let customer = url.api().get(&format!("/v1/customers/{last}"));
        customer.expect("a node answers").json["fields"].to_string()
    };
    let before = shown(&first);

    let (to, key) = (folder.path().join("backup"), folder.path().join("key"));
    let words = ["backup", "--to", text(&to), "--key-to", text(&key)];
    let (said, took) = timed(&mut daemon(&words, &file));
    println!("{said}\nbacked up in {} s", took.as_secs());
    assert_eq!(first.end(), Some(0));
    std::fs::remove_dir_all(&home).expect("removed");

    let file = node_file(&folder.path().join("n2"), 1);
    let words = ["restore", "--from", text(&to), "--key", text(&key)];
    let (said, took) = timed(&mut daemon(&words, &file));
    println!("{said}\nrestored in {} s", took.as_secs());
    let began = Instant::now();
    let restored = Daemon::run(&file, 1);
    println!("and serves {} ms later", began.elapsed().as_millis());
    assert_eq!(shown(&restored), before);
    assert!(before.len() as u64 > ROW_BYTES, "{before}");
    assert_eq!(restored.end(), Some(0));
}
