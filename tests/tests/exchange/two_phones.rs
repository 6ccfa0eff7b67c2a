//! Two phones at different nodes: audio both ways, hold and resume, one record of the call.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use strowger_tests::baresip::{Account, Baresip};
use strowger_tests::cluster::Cluster;
use strowger_tests::phone::{Phase, Phone, Policy};
use strowger_tests::poll::eventually;

const SOON: Duration = Duration::from_secs(10);
/// A record is visible at every node this long after the call (a promise).
const RECORD_MAX: Duration = Duration::from_secs(1);

/// A service address held by node `number`.
fn address_of_node(cluster: &Cluster, number: u64) -> SocketAddr {
    cluster
        .sip()
        .iter()
        .copied()
        .find(|&address| cluster.holder(address) == number)
        .unwrap_or_else(|| panic!("node {number} holds no service address"))
}

/// Waits for exactly one record from `from`, and the same one at every node.
fn the_record(cluster: &Cluster, from: &str) -> Value {
    let fitting = |rows: Vec<Value>| -> Vec<Value> {
        rows.into_iter()
            .filter(|row| row["from"].as_str().is_some_and(|f| f.contains(from)))
            .collect()
    };
    let mut found = Vec::new();
    for api in cluster.apis() {
        let rows = eventually(
            RECORD_MAX,
            &format!("the record is at {}", api.base()),
            || api.cdrs().map(fitting).filter(|rows| !rows.is_empty()),
        );
        assert_eq!(rows.len(), 1, "one call, one record: {rows:#?}");
        found.extend(rows);
    }
    assert!(
        found.windows(2).all(|pair| pair[0] == pair[1]),
        "nodes disagree: {found:#?}"
    );
    found.remove(0)
}

#[test]
fn two_baresip_phones_at_different_nodes() {
    let cluster = Cluster::start("basic.toml");
    let (at_one, at_three) = (address_of_node(&cluster, 1), address_of_node(&cluster, 3));
    let (secret_a, secret_b) = (cluster.password("1003"), cluster.password("1004"));
    let account = Account {
        address: "127.0.0.71".parse().expect("an address"),
        port: 0,
        server: Some(at_one),
        user: "1003",
        password: &secret_a,
        transport: "udp",
        tone_hz: 440,
        answers: false,
    };
    let mut a = Baresip::start(&account);
    let mut b = Baresip::start(&Account {
        address: "127.0.0.72".parse().expect("an address"),
        server: Some(at_three),
        user: "1004",
        password: &secret_b,
        tone_hz: 620,
        answers: true,
        ..account
    });
    eventually(SOON, "both are registered, as every node sees it", || {
        let both = cluster.apis().iter().all(|api| {
            api.list("/v1/registrations")
                .is_some_and(|rows| rows.len() == 2)
        });
        both.then_some(())
    });
    println!("1003 is registered at {at_one} (node 1), 1004 at {at_three} (node 3)");

    a.dial(&format!("sip:1004@{}", at_one.ip()));
    assert!(a.wait_for("CALL_ESTABLISHED", SOON), "{:?}", a.events());
    assert!(b.wait_for("CALL_ESTABLISHED", SOON), "{:?}", b.events());
    eventually(SOON, "both record the other's tone", || {
        (a.tenths_of(620) >= 10 && b.tenths_of(440) >= 10).then_some(())
    });
    println!("1003 hears 620 Hz, 1004 hears 440 Hz");

    a.hold();
    let held = || {
        let calls = cluster.api(2).list("/v1/calls")?;
        let legs = calls.first()?["legs"].as_array()?.clone();
        legs.iter()
            .any(|leg| leg["state"].as_str() == Some("held"))
            .then_some(())
    };
    eventually(SOON, "a leg is shown as held", held);
    let before = b.tenths_of(440);
    a.resume();
    eventually(SOON, "no leg is held any more", || {
        held().is_none().then_some(())
    });
    eventually(SOON, "1004 hears the tone again", || {
        (b.tenths_of(440) >= before + 20).then_some(())
    });
    // Without a sound card baresip stops recording at its own hold; it goes on counting.
    eventually(SOON, "1003 receives again", || {
        a.bit_rates().filter(|&(_, received)| received > 60_000)
    });
    println!("held, shown as held, resumed, and the audio came back");

    a.hang_up();
    assert!(b.wait_for("CALL_CLOSED", SOON), "{:?}", b.events());
    let record = the_record(&cluster, "1003");
    assert_eq!(record["disposition"], "answered", "{record:#}");
    assert!(
        record["talk_ms"].as_u64().is_some_and(|ms| ms >= 1_000),
        "{record:#}"
    );
    println!("one record, the same at every node:\n{record:#}");
    assert!(cluster.panics().is_empty(), "{:#?}", cluster.panics());
}

#[test]
fn every_way_a_call_between_phones_can_go() {
    let cluster = Cluster::start("basic.toml");
    let address = "127.0.0.73".parse().expect("an address");
    let phone = |user: &str, hz| Phone::new(address, user, &cluster.password(user), hz);
    let (a, b) = (phone("1005", 440), phone("1006", 620));
    let (first, last) = (cluster.service(0), cluster.service(5));

    let stranger = Phone::new(address, "1005", "a wrong secret", 440);
    assert!(
        matches!(stranger.register(first, 60), Some(401 | 403)),
        "a wrong secret is refused"
    );
    assert_eq!(a.register(first, 120), Some(200));
    assert_eq!(b.register(last, 120), Some(200));

    println!("busy");
    b.set_policy(Policy::Refuse(486));
    let call = a.call(first, "1006");
    assert_eq!(call.ended(SOON).and_then(|view| view.status), Some(486));

    println!("cancelled while ringing");
    b.set_policy(Policy::Ring);
    let call = a.call(first, "1006");
    call.wait(SOON, |view| view.phase == Phase::Ringing)
        .expect("it rings");
    let other = b.incoming(1, SOON).expect("it rings there");
    call.hang_up();
    assert_eq!(call.ended(SOON).and_then(|view| view.status), Some(487));
    assert!(other.ended(SOON).expect("ringing stops").ended_by_peer);

    println!("unknown number, not registered, not allowed");
    let status = |call: strowger_tests::phone::Call| call.ended(SOON).and_then(|view| view.status);
    assert_eq!(status(a.call(first, "7777")), Some(404));
    assert_eq!(status(a.call(first, "1020")), Some(480));
    let nobody = Phone::new(address, "anonymous", "", 440);
    assert!(matches!(
        status(nobody.call(first, "1006")),
        Some(401 | 403)
    ));

    println!("answered, held, resumed, hung up by the called side");
    b.set_policy(Policy::Answer {
        after: Duration::from_millis(100),
        talk: None,
    });
    let call = a.call(first, "1006");
    assert!(call.answered(SOON), "{:?}", call.view());
    let other = b.calls().pop().expect("it was answered there");
    call.wait(SOON, |_| call.audio().hears(620))
        .expect("a hears b");
    other
        .wait(SOON, |_| other.audio().hears(440))
        .expect("b hears a");
    assert_ne!(call.view().peer_audio, other.view().peer_audio);
    assert_ne!(
        other.view().peer_audio.map(|peer| peer.port()),
        Some(call.audio().port()),
        "the other end's audio address is hidden"
    );
    assert_eq!(call.hold(), Some(200));
    other.audio().forget();
    assert_eq!(call.resume(), Some(200));
    other
        .wait(SOON, |_| other.audio().hears(440))
        .expect("b hears a again");
    call.audio().dial("12#");
    other
        .wait(SOON, |_| other.audio().counts().digits == "12#")
        .expect("digits pass");
    assert_eq!(
        call.info("application/dtmf-relay", "Signal=5\r\nDuration=160\r\n"),
        Some(200)
    );
    other.hang_up();
    assert!(call.ended(SOON).expect("the BYE passes").ended_by_peer);

    println!("one record for each call");
    let wanted = ["busy", "abandoned", "answered"];
    eventually(RECORD_MAX, "each call has its record", || {
        let rows = cluster.api(1).cdrs()?;
        let to_b: Vec<&Value> = rows
            .iter()
            .filter(|r| r["to"].as_str().is_some_and(|t| t.contains("1006")))
            .collect();
        let all = wanted
            .iter()
            .all(|want| to_b.iter().filter(|r| r["disposition"] == *want).count() == 1);
        all.then_some(())
    });
    assert_eq!(a.options(first), Some(200));
    assert!(cluster.panics().is_empty(), "{:#?}", cluster.panics());
}

#[test]
fn a_phone_that_unregisters_or_moves_is_found_where_it_is() {
    let cluster = Cluster::start("basic.toml");
    let address = "127.0.0.74".parse().expect("an address");
    let secret = cluster.password("1007");
    let caller = Phone::new(address, "1008", &cluster.password("1008"), 440);
    let (old, new) = (
        Phone::new(address, "1007", &secret, 620),
        Phone::new(address, "1007", &secret, 700),
    );
    assert_eq!(old.register(cluster.service(1), 120), Some(200));
    assert_eq!(new.register(cluster.service(4), 120), Some(200));
    let call = caller.call(cluster.service(2), "1007");
    new.incoming(0, SOON).expect("every contact rings").answer();
    assert!(call.answered(SOON));
    let missed = old.incoming(0, SOON).expect("every contact rings");
    missed
        .ended(SOON)
        .expect("the contact that did not answer stops ringing");
    call.hang_up();

    assert_eq!(old.register(cluster.service(1), 0), Some(200));
    assert_eq!(new.register(cluster.service(4), 0), Some(200));
    let call = caller.call(cluster.service(2), "1007");
    assert_eq!(call.ended(SOON).and_then(|view| view.status), Some(480));
    eventually(SOON, "nobody is registered", || {
        cluster
            .api(3)
            .list("/v1/registrations")?
            .is_empty()
            .then_some(())
    });
}
