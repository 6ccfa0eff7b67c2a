//! How long talking phones hear nothing when the node between them dies or falls silent, from
//! a capture at the phones.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use strowger_tests::apart::site::{Site, Takeover, passwords, secret};
use strowger_tests::apart::{Apart, moving, phones, phones_at, service};
use strowger_tests::baresip::{Account, Baresip};
use strowger_tests::cluster::node_number;
use strowger_tests::phone::Phone;
use strowger_tests::poll::eventually;
use strowger_tests::seats::quantile;
use strowger_tests::talks::Talks;

/// Calls between phones of our own, two ends each.
const CALLS: usize = 195;
/// Pairs of baresip.
const PAIRS: u8 = 5;
/// The port of the device that is called.
const DEVICE_PORT: u16 = 6_060;
const SOON: Duration = Duration::from_secs(30);
/// Watched before the node dies, and after.
const BEFORE: Duration = Duration::from_secs(1);
const AFTER: Duration = Duration::from_secs(6);
/// Upper ends of the columns of the histogram, ms.
const COLUMNS: [u32; 9] = [60, 80, 100, 150, 200, 300, 500, 1_000, 2_500];

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Address,
    Reinvite,
}

/// Measures and writes the tables.
pub fn measure(text: &mut String) {
    let _ = write!(
        text,
        "## Silence when a node dies\n\nThree daemons and the phones in four network namespaces \
         on one bridge of this machine, all on the same 2 cores; {} calls talk by way of one \
         node, {} ends of them at baresip. The longest pause between two RTP packets of each \
         stream that reaches a phone, captured there by dumpcap. Packets are 20 ms apart.\n\n\
         | mode | what happens | streams | p50 ms | p90 | p99 | max | detected | declared dead | \
         half of the streams flow |\n|---|---|---|---|---|---|---|---|---|---|\n",
        CALLS + usize::from(PAIRS),
        2 * PAIRS,
    );
    let mut histogram = String::new();
    for mode in [Mode::Address, Mode::Reinvite] {
        let Some(mut cluster) = Apart::start(site(mode).text(), &passwords()) else {
            text.push_str("| – | not measured: no network namespaces here | | | | | | | | |\n");
            return;
        };
        for (what, leads, stop) in [
            ("follower killed", false, false),
            ("leader killed", true, false),
            ("leader's host silent", true, true),
        ] {
            round(text, &mut histogram, &mut cluster, mode, what, leads, stop);
        }
    }
    let columns: Vec<String> = COLUMNS.iter().map(|end| format!("< {end} ms")).collect();
    let _ = write!(
        text,
        "\nDetected, declared dead (as the log of the node that did it says) and the moment from \
         which half of the streams flow again are ms after the kill. Streams by their longest \
         pause:\n\n| mode | what happens | {} | more |\n|---|---|{}---|\n{histogram}\n",
        columns.join(" | "),
        "---|".repeat(COLUMNS.len()),
    );
}

fn name_of(mode: Mode) -> &'static str {
    match mode {
        Mode::Address => "address",
        Mode::Reinvite => "reinvite",
    }
}

fn site(mode: Mode) -> Site {
    let (takeover, at): (_, fn(u8) -> SocketAddr) = match mode {
        Mode::Address => (Takeover::Address, moving),
        Mode::Reinvite => (Takeover::Reinvite, service),
    };
    Site::new(takeover, (1..=3).map(at)).device("3001-3200", (phones(), DEVICE_PORT).into())
}

fn round(
    text: &mut String,
    histogram: &mut String,
    cluster: &mut Apart,
    mode: Mode,
    what: &str,
    leads: bool,
    stop: bool,
) {
    let leader = cluster.leader();
    let victim = if leads { leader } else { leader % 3 + 1 };
    let server = match mode {
        Mode::Reinvite => service(victim),
        Mode::Address => (1..=3)
            .map(moving)
            .find(|at| holder(cluster, &at.ip().to_string()) == Some(victim))
            .expect("each node holds an address"),
    };
    let records = cluster.any_api().cdrs().map_or(0, |rows| rows.len());
    let caller = Phone::new(phones(), "1001", &secret("1001"), 440);
    let device = Phone::at((phones(), DEVICE_PORT).into(), "all", "", 620);
    let talks = Talks::begin(server, caller, device, 3_001, CALLS);
    let mut pairs: Vec<(Baresip, Baresip)> = Vec::new();
    for pair in 0..PAIRS {
        pairs.push(talk(cluster, server, pair));
    }
    let capture = Capture::start();
    std::thread::sleep(BEFORE);
    let (killed, wall) = if stop {
        cluster.freeze(victim);
        (std::time::Instant::now(), SystemTime::now())
    } else {
        (cluster.kill(victim), SystemTime::now())
    };
    std::thread::sleep(AFTER.saturating_sub(killed.elapsed()));
    let wall = wall.duration_since(SystemTime::UNIX_EPOCH);
    let wall = wall.expect("after 1970").as_secs_f64();
    let streams = capture.finish(wall);
    let declared = moments(cluster, victim, wall);
    for (one, other) in &mut pairs {
        one.hang_up();
        assert!(
            other.wait_for("CALL_CLOSED", SOON),
            "the other baresip is told"
        );
    }
    talks.gaps();
    talks.end();
    if stop {
        cluster.thaw(victim);
    } else {
        cluster.run(victim);
    }
    cluster.wait_at_home();
    let made = CALLS + usize::from(PAIRS);
    let rows = eventually(SOON, "each call has its record", || {
        let rows = cluster.any_api().cdrs();
        rows.filter(|rows| rows.len() >= records + made)
    });
    assert_eq!(rows.len(), records + made, "one record for each call");
    assert!(rows.iter().all(|row| row["disposition"] == "answered"));

    let pauses: Vec<f64> = streams.values().map(|stream| stream.pause_ms).collect();
    let back: Vec<f64> = streams.values().map(|stream| stream.back_ms).collect();
    let _ = writeln!(
        text,
        "| {} | {what} | {} | {:.0} | {:.0} | {:.0} | {:.0} | {} | {} | {:.0} |",
        name_of(mode),
        pauses.len(),
        quantile(&pauses, 0.5),
        quantile(&pauses, 0.9),
        quantile(&pauses, 0.99),
        quantile(&pauses, 1.0),
        declared.0,
        declared.1,
        quantile(&back, 0.5),
    );
    let mut counts = [0_usize; COLUMNS.len() + 1];
    for pause in pauses {
        let column = COLUMNS.iter().position(|end| pause < f64::from(*end));
        counts[column.unwrap_or(COLUMNS.len())] += 1;
    }
    let counts: Vec<String> = counts.iter().map(usize::to_string).collect();
    let _ = writeln!(
        histogram,
        "| {} | {what} | {} |",
        name_of(mode),
        counts.join(" | ")
    );
}

/// Two baresip phones that talk by way of `server`.
fn talk(cluster: &Apart, server: std::net::SocketAddr, pair: u8) -> (Baresip, Baresip) {
    let users = [0, 1].map(|end| (1_011 + 2 * u32::from(pair) + end).to_string());
    let account = |end: u8| Account {
        address: phones_at(1 + 2 * pair + end),
        port: 0,
        server: Some(server),
        user: &users[usize::from(end)],
        password: "",
        transport: "udp",
        tone_hz: 440,
        answers: end == 1,
    };
    let secrets = users.clone().map(|user| secret(&user));
    let mut ends = [0_u8, 1].map(|end| {
        let password = secrets[usize::from(end)].as_str();
        let phone = Baresip::start(&Account {
            password,
            ..account(end)
        });
        eventually(SOON, "baresip is registered", || {
            let rows = cluster.any_api().list("/v1/registrations")?;
            let user = users[usize::from(end)].as_str();
            rows.iter()
                .any(|row| row["extension"] == user)
                .then_some(())
        });
        phone
    });
    ends[0].dial(&format!("sip:{}@{}", users[1], server.ip()));
    for end in &mut ends {
        assert!(
            end.wait_for("CALL_ESTABLISHED", SOON),
            "two baresip phones talk"
        );
    }
    let [one, other] = ends;
    (one, other)
}

fn holder(cluster: &Apart, address: &str) -> Option<u8> {
    let nodes = cluster.any_api().list("/v1/nodes")?;
    let holds = nodes.iter().find(|node| {
        let held = node["service_addresses"].as_array();
        held.is_some_and(|held| held.iter().any(|at| at == address))
    });
    u8::try_from(node_number(&holds?["id"])?).ok()
}

/// When the death was first noticed and when it was proposed, ms after `killed`, as the logs of
/// the others say; a dash where they do not.
fn moments(cluster: &Apart, victim: u8, killed: f64) -> (String, String) {
    let first = |message: &str| {
        let others = cluster.numbers().filter(|number| *number != victim);
        let events = others.flat_map(|number| cluster.log(number));
        let said = events.filter(|event| event["fields"]["message"] == message);
        let times = said.filter_map(|event| after_1970(&event["timestamp"]));
        let after = times
            .map(|at| (at - killed) * 1_000.0)
            .filter(|ms| *ms > -5.0);
        let first = after.min_by(f64::total_cmp);
        first.map_or("–".to_owned(), |ms| format!("{ms:.0}"))
    };
    (
        first("a node has surely died"),
        first("declaring a node down"),
    )
}

/// Seconds since 1970 of an RFC 3339 time.
fn after_1970(text: &Value) -> Option<f64> {
    let (code, out, _) = strowger_tests::programs::run(
        Command::new("date")
            .args(["-u", "+%s.%N", "-d"])
            .arg(text.as_str()?),
    );
    (code == 0).then(|| out.trim().parse().ok())?
}

/// What reached a phone on one port.
struct Stream {
    /// The longest time between two packets, ms.
    pause_ms: f64,
    /// When that pause ended, ms after the kill.
    back_ms: f64,
}

/// All UDP that reaches the phones.
struct Capture {
    dumpcap: Child,
    folder: tempfile::TempDir,
}

impl Capture {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("rtp.pcapng");
        // The phones' network, of which every packet is larger than any SIP acknowledgement.
        let filter = "udp and dst net 127.73.0.96/27 and len = 214";
        let dumpcap = Command::new("dumpcap")
            .args([
                "-q", "-i", "bridge", "-s", "64", "-B", "64", "-f", filter, "-w",
            ])
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("dumpcap (Debian package wireshark-common) is installed");
        eventually(SOON, "the capture begins", || {
            let written = file.metadata().is_ok_and(|file| file.len() > 0);
            written.then_some(())
        });
        Self { dumpcap, folder }
    }

    fn finish(mut self, killed: f64) -> BTreeMap<String, Stream> {
        let pid = i32::try_from(self.dumpcap.id()).expect("a pid fits");
        kill(Pid::from_raw(pid), Signal::SIGINT).expect("it runs");
        self.dumpcap.wait().expect("our own child");
        read(&self.folder.path().join("rtp.pcapng"), killed)
    }
}

fn read(file: &Path, killed: f64) -> BTreeMap<String, Stream> {
    let (code, out, err) =
        strowger_tests::programs::run(Command::new("tshark").arg("-n").arg("-r").arg(file).args([
            "-T",
            "fields",
            "-E",
            "separator=|",
            "-e",
            "frame.time_epoch",
            "-e",
            "ip.dst",
            "-e",
            "udp.dstport",
        ]));
    assert_eq!(code, 0, "tshark: {err}");
    let mut times: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for line in out.lines() {
        if let Some((time, to)) = line.split_once('|')
            && let Ok(time) = time.parse()
        {
            times.entry(to.to_owned()).or_default().push(time);
        }
    }
    let streams = times.into_iter().filter_map(|(to, times)| {
        let pauses = times.windows(2).map(|pair| (pair[1] - pair[0], pair[1]));
        let (pause, back) = pauses.max_by(|one, other| one.0.total_cmp(&other.0))?;
        // What is short, or was not there before, is something else than a talk.
        let stream = Stream {
            pause_ms: pause * 1_000.0,
            back_ms: (back - killed) * 1_000.0,
        };
        let talk = times.len() > 50 && times.first()? < &killed && times.last()? > &killed;
        talk.then_some((to, stream))
    });
    streams.collect()
}
