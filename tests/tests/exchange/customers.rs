//! Customers: imported from files, interrupted or not, found by whoever calls, and every
//! call on the timeline.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use strowger_tests::cluster::Cluster;
use strowger_tests::phone::Phone;
use strowger_tests::poll::eventually;

const SOON: Duration = Duration::from_secs(10);

/// Writes a file of `rows` customers with two numbers each; every `bad`th has a number
/// that is none.
fn customers(path: &Path, rows: u64, bad: u64) {
    let file = std::fs::File::create(path).expect("a file can be made");
    let mut file = std::io::BufWriter::new(file);
    writeln!(file, "id,name,tier,number,phone2,city").expect("written");
    for n in 1..=rows {
        let tier = if n % 10 == 0 { "vip" } else { "" };
        let second = if n % bad == 0 {
            "no number".to_owned()
        } else {
            format!("138{n:08}")
        };
        writeln!(
            file,
            "C{n:07},Customer {n},{tier},{},{second},Beijing",
            20_000_000 + n
        )
        .expect("written");
    }
}

fn file(cluster: &Cluster, rows: u64, bad: u64) -> PathBuf {
    let path = cluster.site_folder().join("customers.csv");
    customers(&path, rows, bad);
    path
}

fn import(cluster: &Cluster, path: &Path, more: &[&str]) -> Value {
    let path = path.display().to_string();
    let verb = [&["--output", "json", "customer", "import", &path], more].concat();
    let (code, out, err) = cluster.command(&verb);
    assert_eq!(code, 0, "{err}");
    println!("{}", err.trim().replace('\n', "; "));
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"))
}

fn counts(progress: &Value) -> [u64; 5] {
    ["rows", "created", "updated", "unchanged", "rejected"].map(|name| {
        progress[name]
            .as_u64()
            .unwrap_or_else(|| panic!("{name}: {progress}"))
    })
}

fn hashes(cluster: &Cluster) -> Option<Vec<Value>> {
    let rows = cluster.api(1).list("/v1/nodes")?;
    let same = rows.windows(2).all(|pair| {
        pair[0]["applied"] == pair[1]["applied"] && pair[0]["state_hash"] == pair[1]["state_hash"]
    });
    same.then_some(rows)
}

fn alike(cluster: &Cluster) {
    eventually(SOON, "every node has the same state", || hashes(cluster));
}

/// Begins an import and kills it as soon as it has taken rows in.
fn killed_import(cluster: &Cluster, path: &Path) {
    let path = path.display().to_string();
    let mut running = cluster
        .client()
        .args(["customer", "import", &path])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program starts");
    let taken = || {
        let imports = cluster.api(1).list("/v1/imports")?;
        imports.first()?["rows"].as_u64().filter(|rows| *rows > 0)
    };
    eventually(SOON, "rows are taken in", taken);
    let pid = Pid::from_raw(i32::try_from(running.id()).expect("a pid"));
    kill(pid, Signal::SIGKILL).expect("it was running");
    running.wait().expect("it ends");
}

#[test]
fn twenty_thousand_customers_are_imported_and_the_caller_is_one_of_them() {
    let cluster = Cluster::start("customers.toml");
    let path = file(&cluster, 20_000, 1_000);
    let done = import(&cluster, &path, &[]);
    assert_eq!(counts(&done), [20_000, 19_980, 0, 0, 20]);
    let report = std::fs::read_to_string(path.with_extension("csv.rejected.csv"));
    let report = report.expect("refused lines are written down");
    assert_eq!(report.lines().count(), 21, "{report}");
    assert!(
        report.contains("1001,\"\"\"no number\"\" is no number"),
        "{report}"
    );
    let again = import(&cluster, &path, &[]);
    assert_eq!(
        counts(&again),
        [20_000, 0, 0, 19_980, 20],
        "nothing changes"
    );
    alike(&cluster);

    for number in ["20000010", "01020000010", "+86 10 2000 0010", "13800000010"] {
        let found = cluster.command_list(&["customer", "list", "--number", number]);
        assert_eq!(found.len(), 1, "{number}: {found:?}");
        assert_eq!(found[0]["id"], "C0000010");
    }
    let named = cluster.command_list(&["customer", "list", "--name", "customer 1999"]);
    let ids: Vec<&str> = named.iter().filter_map(|one| one["id"].as_str()).collect();
    assert!(
        ids.contains(&"C0001999") && ids.contains(&"C0019990"),
        "{ids:?}"
    );
    let mut listed = 0;
    let mut after = String::new();
    loop {
        let page = cluster
            .api(2)
            .list(&format!("/v1/customers?limit=1000&after={after}"));
        let page = page.expect("a list");
        let Some(last) = page.last() else { break };
        after = last["id"].as_str().expect("an id").to_owned();
        listed += page.len();
    }
    assert_eq!(listed, 19_980);

    // The caller's phone gives the number as it is dialled in the country.
    let phone = Phone::new(
        "127.0.0.71".parse().expect("an address"),
        "01020000010",
        "",
        440,
    );
    let call = phone.call(cluster.service(0), "4008");
    assert!(call.answered(SOON), "the queue answers");
    let calls = cluster.api(3).list("/v1/calls").expect("a list");
    assert_eq!(calls[0]["customer"], "C0000010", "{calls:?}");
    call.hang_up();
    let card = eventually(SOON, "the call is on the timeline", || {
        let card = cluster.api(3).get("/v1/customers/C0000010").ok()?.json;
        let contacts = card["interactions"].as_array()?.len();
        (contacts == 1).then_some(card)
    });
    let contact = &card["interactions"][0];
    assert_eq!(
        (&contact["channel"], &contact["direction"]),
        (&json!("call"), &json!("in"))
    );
    assert_eq!(contact["disposition"], "abandoned");
    assert_eq!(card["tier"], "vip");
    let cdrs = cluster.api(3).cdrs().expect("records");
    assert_eq!(cdrs[0]["customer"], "C0000010");
    assert_eq!(cdrs[0]["call"], contact["call"]);
    let (code, out, _) = cluster.command(&["customer", "show", "C0000010"]);
    assert!(code == 0 && out.contains("abandoned"), "{out}");
    assert_eq!(cluster.panics(), Vec::<Value>::new());
}

#[test]
fn customers_are_edited_with_versions_and_removed() {
    let cluster = Cluster::start("customers.toml");
    let edit = |words: &[&str]| {
        let (code, out, err) =
            cluster.command(&[&["-o", "json", "customer", "edit"], words].concat());
        let json: Value = serde_json::from_str(&out).unwrap_or_default();
        (code, json, err)
    };
    let (code, made, err) = edit(&["C1", "--new", "name=Lee", "number=62345678", "city=Beijing"]);
    assert_eq!(code, 0, "{err}");
    assert_eq!(made["numbers"], json!(["+861062345678"]));
    assert_eq!(edit(&["C1", "--new", "name=Other"]).0, 1, "it exists");
    let (_, changed, _) = edit(&["C1", "tier=vip", "city=", "tags=a,b"]);
    assert_eq!(
        (&changed["version"], &changed["tier"]),
        (&json!(2), &json!("vip"))
    );
    assert_eq!(
        (&changed["fields"], &changed["tags"]),
        (&json!({}), &json!(["a", "b"]))
    );
    let (code, _, err) = edit(&["C1", "--version", "1", "name=Late"]);
    assert!(code == 1 && err.contains("is at version 2"), "{err}");
    assert_eq!(edit(&["C9", "name=Nobody"]).0, 3);
    assert_eq!(edit(&["C1", "nothing"]).0, 2);
    assert_eq!(edit(&["C1", "number=12"]).0, 1, "no number");
    let body = json!({"name": "Wang", "numbers": ["13800138000"]});
    let made = cluster
        .api(2)
        .post("/v1/customers", &body)
        .expect("an answer");
    let id = made.json["id"].as_str().expect("an id").to_owned();
    assert!(id.starts_with("cust_"), "{}", made.text);
    assert_eq!(cluster.command(&["customer", "remove", &id]).0, 0);
    assert_eq!(cluster.command(&["customer", "show", &id]).0, 3);

    // Which of two is meant can be said while the call lives.
    assert_eq!(
        edit(&["C2", "--new", "name=Lee too", "number=62345678"]).0,
        0
    );
    let phone = Phone::new(
        "127.0.0.71".parse().expect("an address"),
        "62345678",
        "",
        440,
    );
    let call = phone.call(cluster.service(0), "4008");
    assert!(call.answered(SOON), "the queue answers");
    let calls = cluster.api(1).list("/v1/calls").expect("a list");
    assert_eq!(calls[0]["customer"], "C1");
    let pick =
        json!({"id": "pick", "type": "call_customer", "call": calls[0]["id"], "customer": "C2"});
    let answer = cluster
        .api(1)
        .post("/v1/commands", &pick)
        .expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.text);
    call.hang_up();
    eventually(SOON, "the call is on the timeline of the other", || {
        let card = cluster.api(1).get("/v1/customers/C2").ok()?.json;
        (card["interactions"].as_array()?.len() == 1).then_some(())
    });
    let card = cluster
        .api(1)
        .get("/v1/customers/C1")
        .expect("an answer")
        .json;
    assert_eq!(card["interactions"], json!([]));
}

#[test]
fn an_import_killed_in_the_middle_goes_on_where_it_was() {
    let mut cluster = Cluster::start("customers.toml");
    let rows = 20_000;
    let path = file(&cluster, rows, 7_000);
    killed_import(&cluster, &path);
    let imports = cluster.api(1).list("/v1/imports").expect("a list");
    let (id, taken) = (
        &imports[0]["id"],
        imports[0]["rows"].as_u64().expect("a number"),
    );
    assert!(
        taken > 0 && taken < rows,
        "killed in the middle: {imports:?}"
    );
    // The node that took the rows dies too.
    let leader = cluster.leader();
    cluster.kill(leader);
    let done = import(&cluster, &path, &["--resume"]);
    assert_eq!(&done["id"], id);
    assert_eq!(
        counts(&done),
        [rows, rows - 2, 0, 0, 2],
        "{taken} rows had been taken"
    );
    let report = std::fs::read_to_string(path.with_extension("csv.rejected.csv"));
    assert_eq!(report.expect("written").lines().count(), 3);
    let once_more = import(&cluster, &path, &["--resume"]);
    assert_eq!(
        counts(&once_more),
        counts(&done),
        "an ended import has nothing to do"
    );
    cluster.restart(leader);
    eventually(
        Duration::from_secs(60),
        "the node that was dead has it all",
        || {
            let found = cluster
                .api(leader)
                .get(&format!("/v1/customers/C{rows:07}"))
                .ok()?;
            (found.status == 200).then_some(())
        },
    );
    alike(&cluster);
}

/// Calls the queue again and again until `stop`; how long each waited for the answer.
fn call_on(cluster: &Cluster, stop: &AtomicBool) -> Vec<Duration> {
    let address = "127.0.0.71".parse().expect("an address");
    let phone = Phone::new(address, "62345678", "", 440);
    let mut answers: Vec<Duration> = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let asked = Instant::now();
        let call = phone.call(cluster.service(answers.len() % 6), "4008");
        assert!(call.answered(SOON), "the queue answers");
        answers.push(asked.elapsed());
        call.hang_up();
        std::thread::sleep(Duration::from_millis(200));
    }
    answers
}

/// Runs `work` while somebody calls again and again; its result and what he waited.
fn while_called<T>(cluster: &Cluster, what: &str, work: impl FnOnce() -> T) -> T {
    let stop = AtomicBool::new(false);
    let (done, mut answers) = std::thread::scope(|scope| {
        let caller = scope.spawn(|| call_on(cluster, &stop));
        let done = work();
        stop.store(true, Ordering::Relaxed);
        (done, caller.join().expect("the caller's thread"))
    });
    println!(
        "{} calls answered {what}: {}",
        answers.len(),
        spread(&mut answers)
    );
    done
}

fn spread(times: &mut [Duration]) -> String {
    times.sort();
    let at = |share: usize| times[(times.len() - 1) * share / 100];
    format!("p50 {:?} p99 {:?} max {:?}", at(50), at(99), at(100))
}

/// A million rows: at least 3,334 a second over three nodes, and calls do not wait.
#[test]
#[ignore = "minutes"]
fn a_million_customers_in_five_minutes() {
    let cluster = Cluster::start("customers.toml");
    let rows = std::env::var("STROWGER_IMPORT_ROWS").ok();
    let rows: u64 = rows.and_then(|rows| rows.parse().ok()).unwrap_or(1_000_000);
    let path = file(&cluster, rows, 100_000);
    while_called(&cluster, "before", || {
        std::thread::sleep(Duration::from_secs(15))
    });
    let begun = Instant::now();
    let done = while_called(&cluster, "meanwhile", || import(&cluster, &path, &[]));
    let elapsed = begun.elapsed();
    let rate = u128::from(rows) * 1_000 / elapsed.as_millis().max(1);
    println!("{rows} rows in {elapsed:?}, {rate} rows/s");
    assert_eq!(done["rows"], rows);
    let look = |n: u64| {
        let asked = Instant::now();
        let number = 20_000_000 + n * (rows / 500) - 1;
        let found = cluster
            .api(1)
            .list(&format!("/v1/customers?number={number}"));
        assert_eq!(found.expect("a list").len(), 1, "{number}");
        asked.elapsed()
    };
    let mut looked: Vec<Duration> = (1..=500).map(look).collect();
    println!("found by number over HTTP: {}", spread(&mut looked));
    alike(&cluster);
    assert!(elapsed < Duration::from_secs(300), "too slow: {elapsed:?}");
}
