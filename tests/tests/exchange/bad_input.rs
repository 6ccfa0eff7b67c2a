//! Bad input gets a clear answer and harms nobody.

use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::time::Duration;

use strowger_tests::cluster::Cluster;
use strowger_tests::phone::Phone;
use strowger_tests::poll::{eventually, within_time};
use strowger_tests::programs::{run, strowgerd};
use strowger_tests::torture;

const SOON: Duration = Duration::from_secs(10);
/// The messages of RFC 4475 §3.1.1, odd but valid.
const VALID: &[&str] = &[
    "wsinv",
    "intmeth",
    "esc01",
    "escnull",
    "esc02",
    "lwsdisp",
    "longreq",
    "dblreq",
    "semiuri",
    "transports",
    "mpart01",
    "unreason",
    "noreason",
];

/// The program refused: a code, and an error line with an error code of ours.
fn assert_refused(what: &str, seen: &(i32, String, String), code: i32) {
    let (got, out, err) = seen;
    assert_eq!(
        *got, code,
        "{what}: exit code; stdout {out:?}, stderr {err:?}"
    );
    let line = err
        .lines()
        .find(|line| line.contains("SW"))
        .unwrap_or_default();
    let digits = line
        .split("SW")
        .nth(1)
        .and_then(|rest| rest.get(..4))
        .unwrap_or_default();
    assert!(
        digits.parse::<u16>().is_ok(),
        "{what}: no error code in {err:?}"
    );
    assert!(!err.contains("panicked"), "{what}: {err}");
    println!("{what}: {line}");
}

#[test]
fn the_torture_messages_of_rfc_4475() {
    let cluster = Cluster::start("basic.toml");
    let server = cluster.service(0);
    let messages = torture::messages();
    assert_eq!(messages.len(), 49, "the RFC has 49 messages");
    // Their Via names hosts that are not there; the answers come to the source address, at
    // the port Via names or implies.
    let socket = UdpSocket::bind("127.0.0.62:5060").expect("the address is free");
    socket
        .set_read_timeout(Some(Duration::from_millis(150)))
        .expect("a UDP socket");
    let watcher = Phone::new("127.0.0.63".parse().expect("an address"), "watch", "", 440);
    let mut answers = Vec::new();
    for (name, bytes) in &messages {
        socket
            .send_to(bytes, server)
            .expect("loopback takes a datagram");
        let mut statuses = Vec::new();
        let mut buffer = [0u8; 65_535];
        while let Ok((length, _)) = socket.recv_from(&mut buffer) {
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            let status = text
                .strip_prefix("SIP/2.0 ")
                .and_then(|rest| rest.get(..3)?.parse().ok());
            statuses.extend(status.filter(|status: &u16| *status >= 200));
            if statuses.len() == 1 {
                break;
            }
        }
        if VALID.contains(&name.as_str()) {
            assert!(!statuses.contains(&400), "{name} is valid but got 400");
        }
        assert_eq!(
            watcher.options(server),
            Some(200),
            "the node answers after {name}"
        );
        answers.push(format!(
            "{name}: {}",
            statuses.first().map_or("-".into(), u16::to_string)
        ));
    }
    println!("{}", answers.join(", "));
    let text = cluster
        .api(1)
        .get("/metrics")
        .expect("the node answers")
        .text;
    let drops: Vec<&str> = text
        .lines()
        .filter(|line| line.contains("drop") && !line.starts_with('#') && !line.ends_with(" 0"))
        .collect();
    assert!(!drops.is_empty(), "drops are counted with their cause");
    println!("{}", drops.join("\n"));
    assert!(cluster.panics().is_empty(), "{:#?}", cluster.panics());
    let health = cluster
        .api(1)
        .get("/health/live")
        .expect("the node answers");
    assert_eq!(health.status, 200);
}

#[test]
fn a_site_file_that_cannot_be_applied() {
    let cluster = Cluster::start("basic.toml");
    let folder = cluster.site_folder();
    let good = std::fs::read_to_string(folder.join("basic.toml")).expect("copied at the start");
    let apply = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, text).expect("a temporary folder");
        cluster.command(&["site", "apply", path.to_str().expect("plain ASCII")])
    };

    let unknown = format!("{good}\n[[queue]]\nname = \"second\"\ncolour = \"red\"\n");
    let line = unknown
        .lines()
        .position(|line| line.starts_with("colour"))
        .expect("there")
        + 1;
    let seen = apply("unknown-key.toml", &unknown);
    assert_refused("an unknown key in a site file", &seen, 5);
    assert!(
        seen.2.contains("unknown-key.toml"),
        "names the file: {}",
        seen.2
    );
    assert!(
        seen.2.contains(&format!("{line}")),
        "names line {line}: {}",
        seen.2
    );
    assert!(seen.2.contains("colour"), "names the key: {}", seen.2);

    let seen = apply(
        "dangling.toml",
        &good.replace("queue:main", "queue:nowhere"),
    );
    assert_refused("a number that leads to no queue", &seen, 5);

    std::fs::write(folder.join("hold.wav"), b"RIFF\xff\xff\xff\xffWAVEjunk").expect("a file");
    assert_refused("a corrupt WAV", &apply("corrupt-wav.toml", &good), 5);
    std::fs::remove_file(folder.join("hold.wav")).expect("written above");
    assert_refused("a missing WAV", &apply("missing-wav.toml", &good), 5);

    let (code, _, err) = cluster.command(&["site", "apply", "nowhere.toml"]);
    assert!(code == 3 || code == 5, "a missing site file: {code} {err}");
    let (code, _, _) = cluster.command(&["queue", "show", "nowhere"]);
    assert_eq!(code, 3, "what is not there is not found");
    let (code, _, _) = cluster.command(&["conquer"]);
    assert_eq!(code, 2, "an unknown verb is a usage error");
    let stranger = cluster.api(1).with_token("not the token");
    assert_eq!(
        stranger.get("/v1/calls").expect("the node answers").status,
        401
    );
}

#[test]
fn a_node_file_or_token_that_is_wrong() {
    let cluster = Cluster::start("basic.toml");
    let file = cluster.dir().join("n1/node.toml");
    let run_with = |path: &Path| {
        let mut command = strowgerd();
        command.arg("run").arg("--config").arg(path);
        run(&mut command)
    };
    assert_refused("a second daemon on the same data", &run_with(&file), 1);

    let text = std::fs::read_to_string(&file).expect("the demo wrote it");
    let odd = cluster.dir().join("n1/odd.toml");
    std::fs::write(
        &odd,
        text.replacen("[listen]", "[listen]\ncolour = \"red\"", 1),
    )
    .expect("a temporary folder");
    let seen = run_with(&odd);
    assert_refused("an unknown key in a node file", &seen, 5);
    assert!(
        seen.2.contains("odd.toml") && seen.2.contains("colour"),
        "{}",
        seen.2
    );

    let seen = run_with(&cluster.dir().join("n1/nowhere.toml"));
    assert!(matches!(seen.0, 3 | 5), "a missing node file: {seen:?}");

    let answers = within_time(SOON, || {
        cluster
            .api(1)
            .get("/health/ready")
            .ok()
            .filter(|answer| answer.status == 200)
    });
    assert!(answers.is_some(), "the first daemon serves on");
}

#[test]
fn a_full_port_pool_is_refused_and_recovers() {
    let mut cluster = Cluster::start("basic.toml");
    let number = 2;
    cluster.end(number);
    let path = cluster.dir().join("n2/node.toml");
    let text = std::fs::read_to_string(&path).expect("the demo wrote it");
    let small: String = text
        .lines()
        .map(|line| match line.trim_start().starts_with("rtp") {
            true => "rtp = \"20000-20007\"\n".to_owned(),
            false => format!("{line}\n"),
        })
        .collect();
    std::fs::write(&path, small).expect("a temporary folder");
    cluster.restart(number);
    let server: SocketAddr = eventually(SOON, "node 2 holds an address again", || {
        cluster
            .sip()
            .iter()
            .copied()
            .find(|&address| cluster.holder(address) == number)
    });
    let phone = Phone::new(
        "127.0.0.64".parse().expect("an address"),
        "5550002",
        "",
        440,
    );
    let mut calls = Vec::new();
    let refused = (0..12).find_map(|_| {
        let call = phone.call(server, "4008");
        if call.answered(SOON) {
            calls.push(call);
            return None;
        }
        call.view().status
    });
    assert_eq!(refused, Some(503), "after {} calls", calls.len());
    println!("{} calls fit, the next got 503", calls.len());
    for call in &calls {
        call.hang_up();
    }
    eventually(SOON, "the ports come back", || {
        let call = phone.call(server, "4008");
        let answered = call.answered(SOON);
        call.hang_up();
        answered.then_some(())
    });
    assert!(cluster.panics().is_empty(), "{:#?}", cluster.panics());
}
