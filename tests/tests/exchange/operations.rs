//! What operators do to an exchange that runs: digest algorithms, imports, settings from the
//! environment, a node that is taken out.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use strowger_tests::baresip::{Account, Baresip};
use strowger_tests::cluster::{Cluster, GREETING_HZ};
use strowger_tests::phone::Phone;
use strowger_tests::poll::eventually;

const SOON: Duration = Duration::from_secs(15);
/// How long 10,000 extensions may take (a promise).
const IMPORT_MAX: Duration = Duration::from_secs(10);

fn local(last: u8) -> IpAddr {
    IpAddr::from([127, 0, 0, last])
}

/// Puts the site in force with these algorithms.
fn offer(cluster: &Cluster, algorithms: &str) {
    let folder = cluster.site_folder();
    let text = std::fs::read_to_string(folder.join("basic.toml")).expect("copied at the start");
    let text = text.replace("digest = [\"MD5\"]", &format!("digest = [{algorithms}]"));
    let file = folder.join("digest.toml");
    std::fs::write(&file, text).expect("a temporary folder");
    let file = file.to_str().expect("plain ASCII");
    let (code, _, err) = cluster.command(&["site", "apply", file]);
    assert_eq!(code, 0, "{err}");
}

/// Calls 4008 and hears its greeting.
fn is_greeted(cluster: &Cluster, phone: &Phone) {
    let call = phone.call(cluster.service(4), "4008");
    assert!(call.answered(SOON), "{:?}", call.view());
    call.wait(SOON, |_| call.audio().hears(GREETING_HZ))
        .expect("the greeting is heard");
    call.hang_up();
}

#[test]
fn phones_authenticate_with_the_algorithms_of_the_site() {
    let cluster = Cluster::start("basic.toml");
    let secret = cluster.password("1003");
    let mut baresip = Baresip::start(&Account {
        address: local(81),
        port: 0,
        server: Some(cluster.service(0)),
        user: "1003",
        password: &secret,
        transport: "udp",
        tone_hz: 440,
        answers: false,
    });
    baresip.dial(&format!("sip:4008@{}", cluster.service(0).ip()));
    assert!(
        baresip.wait_for("CALL_ESTABLISHED", SOON),
        "{:?}",
        baresip.events()
    );
    eventually(SOON, "baresip hears the greeting", || {
        (baresip.tenths_of(GREETING_HZ) >= 5).then_some(())
    });
    baresip.hang_up();
    println!("MD5: baresip registered, called 4008 and was greeted");

    let phone = |user: &str| Phone::new(local(82), user, &cluster.password(user), 440);
    let (new, old) = (phone("1005"), phone("1006"));
    old.speak_md5_only();
    let registers = |phone: &Phone| phone.register(cluster.service(2), 120);
    offer(&cluster, "\"SHA-256\", \"MD5\"");
    eventually(SOON, "the phone answers SHA-256, the first offered", || {
        (registers(&new) == Some(200)).then_some(())
    });
    assert_eq!(registers(&old), Some(200), "MD5, the second offered");
    is_greeted(&cluster, &new);
    is_greeted(&cluster, &old);
    println!("SHA-256, MD5: phones that speak either register and call");

    offer(&cluster, "\"SHA-256\"");
    eventually(SOON, "MD5 is offered no more", || {
        // Without a challenge it could answer, the phone gives up: no final status.
        registers(&old).is_none().then_some(())
    });
    assert_eq!(registers(&new), Some(200));
    is_greeted(&cluster, &new);
    let stranger = Phone::new(local(82), "1005", "a wrong secret", 440);
    assert_eq!(registers(&stranger), Some(401));
    println!("SHA-256: the phone registers, calls 4008 and is greeted; a wrong secret is not");
    assert!(cluster.panics().is_empty(), "{:#?}", cluster.panics());
}

#[test]
fn imports_settings_and_removal_of_a_node() {
    let mut cluster = Cluster::start("basic.toml");
    let mut csv = String::from("extension,password\n");
    for n in 0..10_000 {
        writeln!(csv, "{},secret-{n}", 20_000 + n).expect("a string");
    }
    let file = cluster.site_folder().join("users.csv");
    std::fs::write(&file, csv).expect("a temporary folder");
    let file = file.to_str().expect("plain ASCII").to_owned();
    let begun = Instant::now();
    let (code, out, err) = cluster.command(&["extension", "import", &file]);
    let took = begun.elapsed();
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("10000 added"), "{out}");
    assert!(took <= IMPORT_MAX, "took {took:?}");
    println!("10,000 extensions imported in {took:?}: {}", out.trim());
    std::fs::write(&file, "extension,password\n20000,a\n4008,b\n").expect("a temporary folder");
    let (code, _, err) = cluster.command(&["extension", "import", &file]);
    assert_eq!(code, 5, "{err}");
    assert!(
        err.contains("SW0209") && err.contains("users.csv:3"),
        "{err}"
    );

    cluster.end(2);
    cluster.restart(2);
    offer(&cluster, "\"MD5\", \"SHA-256\"");
    let held = |node: u64| {
        let held = cluster.sip().iter().copied();
        held.into_iter().find(|one| cluster.holder(*one) == node)
    };
    let at_two = eventually(SOON, "node 2 holds an address again", || held(2));
    let phone = Phone::new(local(83), "29999", "secret-9999", 440);
    assert_eq!(
        phone.register(at_two, 120),
        Some(200),
        "after restart and site apply"
    );
    println!("29999 registers at the restarted node, with another site in force");

    let watcher = Phone::new(local(84), "watch", "", 440);
    let at_three = eventually(SOON, "node 3 holds an address", || held(3));
    let limited = |cluster: &Cluster| {
        let labels = [("protocol", "sip"), ("cause", "rate_limited")];
        let api = cluster.api(3);
        api.metric("strowger_dropped_total", &labels).unwrap_or(0.0) > 0.5
    };
    for _ in 0..60 {
        assert_eq!(watcher.options(at_three), Some(200));
    }
    assert!(
        !limited(&cluster),
        "60 requests are within the node file's limit"
    );
    cluster.end(3);
    let wrong = [("STROWGER__LIMITS__PER_SOURCE_RSP", "1")];
    let (code, _, err) = cluster.run_to_its_end(3, &wrong);
    assert!(code != 0 && code != 124, "{code}: {err}");
    assert!(err.contains("SW0103") && err.contains(wrong[0].0), "{err}");
    println!("{}", err.trim());
    cluster.restart_with(3, &[("STROWGER__LIMITS__PER_SOURCE_RPS", "1")]);
    let at_three = eventually(SOON, "node 3 holds an address again", || {
        let mut held = cluster.sip().iter().copied();
        held.find(|one| cluster.holder(*one) == 3)
    });
    let socket = std::net::UdpSocket::bind("127.0.0.84:0").expect("a free port");
    eventually(SOON, "the running daemon keeps to the variable", || {
        // Who holds an address by the log may be about to bind it.
        for _ in 0..20 {
            socket
                .send_to(b"OPTIONS sip:x SIP/2.0\r\n\r\n", at_three)
                .expect("loopback");
        }
        limited(&cluster).then_some(())
    });

    cluster.end(3);
    eventually(SOON, "node 3 is known to be down", || {
        let nodes = cluster.api(1).list("/v1/nodes")?;
        let down = |node: &serde_json::Value| node["id"] == "node_3" && node["state"] == "down";
        nodes.iter().any(down).then_some(())
    });
    let (code, _, err) = cluster.command(&["node", "remove", "3"]);
    assert_eq!(code, 0, "{err}");
    let (code, _, err) = cluster.run_to_its_end(3, &[]);
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("SW0404"), "{err}");
    println!("the removed node ends by itself: {}", err.trim());
    assert_eq!(phone.register(at_two, 120), Some(200), "the others go on");
    assert!(cluster.panics().is_empty(), "{:#?}", cluster.panics());
}
