//! Phones over TCP: their connections die with their node, their calls do not.

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use serde_json::Value;
use strowger_tests::baresip::{Account, Baresip};
use strowger_tests::cluster::Cluster;
use strowger_tests::phone::Phone;
use strowger_tests::poll::eventually;
use strowger_tests::sipp::Sipp;

/// What is done soon on a busy machine.
const SOON: Duration = Duration::from_secs(20);

fn address_of(cluster: &Cluster, node: u64) -> SocketAddr {
    // One that was started again gets some back in a while.
    eventually(SOON, "the node holds an address", || {
        let mut held = cluster.sip().iter();
        held.find(|address| cluster.holder(**address) == node)
            .copied()
    })
}

/// Calls, by how many of their legs are held.
fn held_legs(cluster: &Cluster, node: u64) -> Option<usize> {
    let calls = cluster.api(node).list("/v1/calls")?;
    let legs = calls.first()?["legs"].as_array()?.clone();
    Some(legs.iter().filter(|leg| leg["state"] == "held").count())
}

fn records(cluster: &Cluster, node: u64) -> Vec<Value> {
    cluster.api(node).cdrs().unwrap_or_default()
}

/// Two phones over TCP talk by way of a node that is killed. They go on hearing each other,
/// hold, resume and hang up over connections they make anew.
fn outlives_its_node(cluster: &mut Cluster, [from, to]: [&str; 2], caller_leaves: bool) {
    let victim = cluster.leader();
    let survivor = victim % 3 + 1;
    let server = address_of(cluster, victim);
    let (secret_a, secret_b) = (cluster.password(from), cluster.password(to));
    let before = records(cluster, survivor).len();
    let account = Account {
        address: "127.0.0.71".parse().expect("an address"),
        port: 0,
        server: Some(server),
        user: from,
        password: &secret_a,
        transport: "tcp",
        tone_hz: 440,
        answers: false,
    };
    let mut a = Baresip::start(&account);
    let mut b = Baresip::start(&Account {
        address: "127.0.0.72".parse().expect("an address"),
        user: to,
        password: &secret_b,
        tone_hz: 620,
        answers: true,
        ..account
    });
    eventually(SOON, "both are registered over TCP", || {
        let rows = cluster.api(survivor).list("/v1/registrations")?;
        let over_tcp = |user: &str| {
            let mut rows = rows.iter().map(Value::to_string);
            rows.any(|row| row.contains(&format!("sip:{user}")) && row.contains("transport=tcp"))
        };
        (over_tcp(from) && over_tcp(to)).then_some(())
    });
    a.dial(&format!("sip:{to}@{}", server.ip()));
    assert!(a.wait_for("CALL_ESTABLISHED", SOON), "{:?}", a.events());
    assert!(b.wait_for("CALL_ESTABLISHED", SOON), "{:?}", b.events());
    let hear_on = |a: &Baresip, b: &Baresip, what: &str| {
        let (heard_a, heard_b) = (a.tenths_of(620), b.tenths_of(440));
        eventually(SOON, what, || {
            (a.tenths_of(620) >= heard_a + 10 && b.tenths_of(440) >= heard_b + 10).then_some(())
        });
    };
    hear_on(&a, &b, "both hear each other");

    cluster.kill(victim);
    let killed_at = Instant::now();
    hear_on(&a, &b, "both hear each other after the node's death");
    eventually(SOON, "the call has a living owner", || {
        let calls = cluster.api(survivor).list("/v1/calls")?;
        let node = calls.first()?["node"].clone();
        (strowger_tests::cluster::node_number(&node) != Some(victim)).then_some(())
    });
    b.hold();
    eventually(SOON, "a leg is held", || {
        (held_legs(cluster, survivor)? == 1).then_some(())
    });
    println!(
        "  node {victim} died; a hold over a new connection was taken {} ms later",
        killed_at.elapsed().as_millis()
    );
    b.resume();
    eventually(SOON, "no leg is held", || {
        (held_legs(cluster, survivor)? == 0).then_some(())
    });
    let (leaver, other) = if caller_leaves {
        (&mut a, &mut b)
    } else {
        (&mut b, &mut a)
    };
    leaver.hang_up();
    assert!(other.wait_for("CALL_CLOSED", SOON), "{:?}", other.events());
    let rows = eventually(SOON, "there is a record", || {
        let rows = records(cluster, survivor);
        (rows.len() > before).then_some(rows)
    });
    assert_eq!(rows.len(), before + 1, "one call, one record: {rows:#?}");
    let record = rows.last().expect("there is one");
    assert_eq!(record["disposition"], "answered", "{record:#}");
    let told = record["talk_ms"].as_u64().unwrap_or(0);
    assert!(told >= 2_000, "the talk on both nodes counts: {record:#}");
    cluster.restart(victim);
}

#[test]
fn calls_of_phones_over_tcp_outlive_their_node() {
    let mut cluster = Cluster::start("basic.toml");
    outlives_its_node(&mut cluster, ["1003", "1004"], true);
    outlives_its_node(&mut cluster, ["1005", "1006"], false);
    assert!(cluster.panics().is_empty(), "{:#?}", cluster.panics());
}

/// A phone over TCP has registered at one node and is in a call anchored at another. Its node
/// dies, and where its connection came from nobody listens; it is told where its contact says
/// that the call is over, whether the end comes before the address has moved or afterwards.
fn is_told_of_the_end(cluster: &mut Cluster, user: &str, at_once: bool) {
    let victim = 3;
    let (calls_at, server) = (address_of(cluster, 1), address_of(cluster, victim));
    let secret = cluster.password(user);
    let host = IpAddr::from([127, 0, 0, 73]);
    let port = if at_once { 6_400 } else { 6_300 };
    let contact = SocketAddr::new(host, port);
    // The connection it registers over is gone before it is called.
    let registration = Sipp::new("register", SocketAddr::new(host, port + 1))
        .tcp()
        .to(server, "0")
        .rows([format!(
            "{user};[authentication username={user} password={secret}]"
        )])
        .key("contact", &contact.to_string())
        .timeout(SOON);
    // A node that was started again may not have bound the address yet.
    eventually(SOON, "it registers", || {
        (registration.run().successful == 1).then_some(())
    });
    let called = Sipp::new("stay", contact).tcp().short_messages();
    let called = called.timeout(SOON * 3).start();
    eventually(SOON, "it listens", || {
        TcpListener::bind(contact).is_err().then_some(())
    });
    let own = IpAddr::from([127, 0, 0, 74]);
    let caller = Phone::new(own, "1001", &cluster.password("1001"), 440);
    let talk = caller.call(calls_at, user);
    assert!(talk.answered(SOON), "{:?}", talk.view());
    cluster.kill(victim);
    if !at_once {
        eventually(SOON, "the address has moved", || {
            (cluster.holder(server) != victim).then_some(())
        });
    }
    talk.hang_up();
    let hung_up = Instant::now();
    // SIPp would answer on the connection that died.
    eventually(SOON, "it is told", || {
        called.messages().contains("BYE sip:").then_some(())
    });
    println!("  told {} ms after the end", hung_up.elapsed().as_millis());
    cluster.restart(victim);
}

#[test]
fn a_phone_whose_connection_died_is_told_of_the_end_of_its_call() {
    let mut cluster = Cluster::start("basic.toml");
    is_told_of_the_end(&mut cluster, "1003", false);
    is_told_of_the_end(&mut cluster, "1005", true);
    assert!(cluster.panics().is_empty(), "{:#?}", cluster.panics());
}
