//! What a call, a packet, a commit and idle state cost; written to `docs/FIGURES.md`.
//!
//! Signalling and memory are measured on three daemons with SIPp as phones, from outside, by
//! the kernel's account of the processes. Commits and packets come from the benches of the
//! crates that make them, whose output is copied as it is.

mod gap;
mod queue;
mod state;
mod takeover;

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use strowger_tests::cluster::Cluster;
use strowger_tests::poll::eventually;
use strowger_tests::programs::{repository, run};
use strowger_tests::sipp::{Counts, Sipp};

/// Extensions registered for the memory and REGISTER figures.
const REGISTRATIONS: u32 = 2_000;
/// Calls for the CPU figure, and how many begin each second.
const CALLS: u32 = 1_500;
const CALL_RATE: u32 = 50;
/// Calls up at once for the memory figure.
const IDLE_CALLS: u32 = 300;
/// The kernel's clock tick in /proc/PID/stat (USER_HZ, 100 on every Linux).
const TICK_MS: f64 = 10.0;

fn main() {
    // `cargo test --benches` only tries whether this program starts.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let mut text =
        String::from("# Figures\n\nMeasured by `make bench`; rewritten by each run.\n\n");
    machine(&mut text);
    // `cargo bench … -- queue` measures one part and only prints it.
    let only: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with('-'))
        .collect();
    for name in &only {
        match name.as_str() {
            "signalling" => signalling(&mut text),
            "queue" => queue::measure(&mut text),
            "state" => state::measure(&mut text),
            "takeover" => takeover::measure(&mut text),
            "gap" => gap::measure(&mut text),
            name => panic!(
                "no part is called {name}; there are signalling, queue, state, takeover and gap"
            ),
        }
    }
    if !only.is_empty() {
        return println!("{text}");
    }
    signalling(&mut text);
    queue::measure(&mut text);
    state::measure(&mut text);
    takeover::measure(&mut text);
    let mut alone = String::new();
    part(&mut alone, "Relayed packets", "strowger-media", "relay");
    part(
        &mut alone,
        "Replicated commits",
        "strowger-cluster",
        "commits",
    );
    part(&mut alone, "The floor alone", "strowger-core", "apply");
    part(&mut alone, "Customers", "strowger-node", "customers");
    // Last: from then on this thread, and what it starts, is in the network of the phones.
    gap::measure(&mut text);
    text.push_str(&alone);
    text.push_str(include_str!("peers.md"));
    let path = repository().join("docs/FIGURES.md");
    std::fs::write(&path, &text).expect("the repository is writable");
    println!("{text}\nwritten to docs/FIGURES.md");
}

fn machine(text: &mut String) {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let model = read("/proc/cpuinfo")
        .lines()
        .find_map(|line| {
            line.strip_prefix("model name")?
                .split(": ")
                .nth(1)
                .map(str::to_owned)
        })
        .unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let load = read("/proc/loadavg")
        .split(' ')
        .next()
        .unwrap_or_default()
        .to_owned();
    let (_, commit, _) = run(Command::new("git")
        .args(["rev-parse", "--short", "HEAD"])
        .current_dir(repository()));
    let (_, version, _) = run(Command::new("rustc").arg("--version"));
    let _ = writeln!(
        text,
        "Commit {}, {}, {cores} cores of {model}, load {load} at the start.\n",
        commit.trim(),
        version.trim()
    );
}

/// Processor milliseconds of the three nodes so far.
fn cpu_ms(cluster: &Cluster) -> f64 {
    (1..=3)
        .map(|number| {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", cluster.pid(number)));
            let stat = stat.expect("the node runs");
            let after = stat.rsplit_once(')').expect("the name is in parentheses").1;
            let ticks = after.split_whitespace().skip(11).take(2);
            ticks
                .map(|field| field.parse::<f64>().expect("a number"))
                .sum::<f64>()
                * TICK_MS
        })
        .sum()
}

/// Resident kilobytes of the three nodes.
fn resident_kib(cluster: &Cluster) -> f64 {
    (1..=3)
        .map(|number| {
            let status = std::fs::read_to_string(format!("/proc/{}/status", cluster.pid(number)));
            let status = status.expect("the node runs");
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
            line.and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok())
                .expect("the kernel tells")
        })
        .sum()
}

/// Extension `n` of the file written for the site.
fn extension(n: u32) -> String {
    format!("{}", 20_000 + n)
}

fn digest(extension: &str) -> String {
    format!("[authentication username={extension} password=p{extension}]")
}

fn checked(what: &str, counts: &Counts, wanted: u32) {
    assert_eq!(counts.successful, u64::from(wanted), "{what}: {counts:?}");
}

fn signalling(text: &mut String) {
    let cluster = Cluster::start_with("figures.toml", |folder: &Path| {
        let rows: String = (0..REGISTRATIONS)
            .map(|n| format!("{0},p{0}\n", extension(n)))
            .collect();
        std::fs::write(
            folder.join("users.csv"),
            format!("extension,password\n{rows}"),
        )
        .expect("a temporary folder");
    });
    let server = cluster.service(0);
    // The demo trusts this address: one source may send more than a phone would.
    let phones: SocketAddr = "127.0.0.1:6090".parse().expect("an address");
    let idle = resident_kib(&cluster);
    let before = cpu_ms(&cluster);
    let counts = Sipp::new("register", phones)
        .to(server, "0")
        .rows((0..REGISTRATIONS).map(|n| format!("{0};{1}", extension(n), digest(&extension(n)))))
        .calls(REGISTRATIONS, 150)
        .timeout(Duration::from_secs(120))
        .run();
    checked("registrations", &counts, REGISTRATIONS);
    let per_register = (cpu_ms(&cluster) - before) / f64::from(REGISTRATIONS);
    let per_registration = (resident_kib(&cluster) - idle) / f64::from(REGISTRATIONS);

    let callers = |calls: u32, rate: u32, talk_ms: &str| {
        let caller = "127.0.0.1:6091".parse().expect("an address");
        let rows = (0..REGISTRATIONS / 2).map(|n| {
            let (from, to) = (extension(n), extension(n + REGISTRATIONS / 2));
            format!("{from};{};{to}", digest(&from))
        });
        Sipp::new("call_auth", caller)
            .to(server, "0")
            .rows(rows)
            .key("talk_ms", talk_ms)
            .calls(calls, rate)
            .timeout(Duration::from_secs(180))
            .start()
    };
    let answering = Sipp::new("stay", phones)
        .calls(CALLS + IDLE_CALLS, 10)
        .timeout(Duration::from_secs(300))
        .start();
    let before = cpu_ms(&cluster);
    let counts = callers(CALLS, CALL_RATE, "500").wait();
    checked("calls", &counts, CALLS);
    let per_call = (cpu_ms(&cluster) - before) / f64::from(CALLS);

    let api = cluster.api(1);
    let up = || api.metric("strowger_calls", &[]).unwrap_or_default();
    eventually(Duration::from_secs(20), "all calls are over", || {
        (up() < 0.5).then_some(())
    });
    let before = resident_kib(&cluster);
    let standing = callers(IDLE_CALLS, CALL_RATE, "20000");
    eventually(Duration::from_secs(30), "all calls are up", || {
        (up() >= f64::from(IDLE_CALLS)).then_some(())
    });
    let per_idle_call = (resident_kib(&cluster) - before) / f64::from(IDLE_CALLS);
    checked("standing calls", &standing.wait(), IDLE_CALLS);
    drop(answering);
    let _ = write!(
        text,
        "## Signalling and memory\n\nThree daemons on this machine, SIPp as phones, all at one \
         service address; every figure is the sum over the three nodes, replication with fsync \
         and mutual TLS included. A call is INVITE challenged and repeated, ringing, answer, \
         BYE, and its record.\n\n\
         | Work | Cost |\n|---|---|\n\
         | CPU ms per REGISTER with digest (challenge and binding) | {per_register:.3} |\n\
         | CPU ms per call, set up and cleared, no RTP, at {CALL_RATE} calls/s | {per_call:.3} |\n\
         | KiB per registration, three replicas | {per_registration:.1} |\n\
         | KiB per idle call, three replicas | {per_idle_call:.1} |\n\n"
    );
}

/// Runs the bench of a crate and copies what it prints.
fn part(text: &mut String, title: &str, package: &str, bench: &str) {
    // The cargo that runs this bench, so that the crates are built by the same compiler.
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .current_dir(repository())
        .args(["bench", "--locked", "-p", package, "--bench", bench]);
    let (code, out, err) = run(&mut command);
    assert_eq!(code, 0, "cargo bench -p {package} --bench {bench}:\n{err}");
    // Log lines (coloured, hence the escape) are no figures.
    let lines: Vec<&str> = out
        .lines()
        .filter(|line| !line.starts_with('\u{1b}'))
        .collect();
    let out = lines.join("\n");
    let table = out.lines().any(|line| line.starts_with('|'));
    // The log of the nodes under measurement is not a figure.
    let body: Vec<&str> = out
        .lines()
        .filter(|line| !line.contains('\u{1b}'))
        .collect();
    let body = body.join("\n");
    let body = body.trim();
    let fence = if table { "" } else { "```\n" };
    let _ = write!(
        text,
        "## {title}\n\n`cargo bench -p {package} --bench {bench}`\n\n{fence}{body}\n{fence}\n"
    );
}
