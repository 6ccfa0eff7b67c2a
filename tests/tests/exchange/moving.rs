//! Service addresses that move between machines of one network: each node puts what it holds
//! on its interface and tells the neighbours, so that phones notice nothing.
//!
//! Three nodes in network namespaces on one bridge, phones in a fourth. Without the rights
//! for that each test says loudly that it saw nothing.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use serde_json::Value;
use strowger_tests::apart::site::{Site, Takeover, passwords, secret};
use strowger_tests::apart::{Apart, moving, phones};
use strowger_tests::behind::Behind;
use strowger_tests::cluster::{MUSIC_HZ, node_number};
use strowger_tests::phone::{Call, Phase, Phone, Policy};
use strowger_tests::poll::eventually;

const SOON: Duration = Duration::from_secs(15);
/// The carrier's machine.
const CARRIER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 73, 0, 120));
/// Longer than an address stays on the machine of a dead daemon.
const EXPIRED: Duration = Duration::from_secs(8);

fn site() -> Site {
    let carrier = format!(
        r#"[[trunk]]
name = "carrier"
destinations = ["sip:{CARRIER}:5070"]
sources = ["{CARRIER}/32"]
auth = "ip"
channels = 2
qualify_s = 0

[[route]]
prefix = "9"
strip = 1
trunk = "carrier"
"#
    );
    Site::new(Takeover::Address, (1..=3).map(moving))
        .and(&carrier)
        .with_one_agent()
}

/// A phone registered by way of service address `at`.
fn phone(at: u8, user: &str, hz: u32) -> Phone {
    let phone = Phone::new(phones(), user, &secret(user), hz);
    assert_eq!(phone.register(moving(at), 600), Some(200), "{user}");
    phone.set_policy(Policy::Answer {
        after: Duration::ZERO,
        talk: None,
    });
    phone
}

fn hears(call: &Call, hz: u32, what: &str) {
    call.wait(SOON, |_| call.audio().hears(hz))
        .unwrap_or_else(|| panic!("{what}: {:?} {:?}", call.view(), call.audio().counts()));
}

/// The node that holds a service address, by number.
fn holder(cluster: &Apart, address: u8) -> u8 {
    let wanted = moving(address).ip().to_string();
    eventually(SOON, "the address has a holder", || {
        let nodes = cluster.any_api().list("/v1/nodes")?;
        let holds = nodes.iter().find(|node| {
            let held = node["service_addresses"].as_array();
            node["state"] == "up" && held.is_some_and(|held| held.iter().any(|at| *at == *wanted))
        });
        u8::try_from(node_number(&holds?["id"])?).ok()
    })
}

fn one_record(cluster: &Apart, number: &str) {
    let rows = eventually(SOON, &format!("{number} has its record"), || {
        let rows = cluster.any_api().cdrs()?;
        let own = rows.into_iter().filter(|row| row["from"] == number);
        let rows: Vec<Value> = own.collect();
        (!rows.is_empty()).then_some(rows)
    });
    assert_eq!(rows.len(), 1, "{rows:#?}");
    assert_eq!(rows[0]["disposition"], "answered", "{rows:#?}");
}

#[test]
fn an_address_moves_to_another_machine_and_its_phones_notice_nothing() {
    let Some(mut cluster) = Apart::start(site().text(), &passwords()) else {
        return;
    };
    let victim = cluster.leader();
    let at = (1..=3).find(|at| holder(&cluster, *at) == victim);
    let at = at.expect("each node holds an address");

    println!("two talk and one waits, all by way of node {victim}, the leader");
    let (caller, called) = (phone(at, "1007", 440), phone(at, "1008", 620));
    let talking = caller.call(moving(at), "1008");
    assert!(talking.answered(SOON), "{:?}", talking.view());
    let talked_to = called.incoming(0, SOON).expect("it was answered there");
    hears(&talking, 620, "the caller hears");
    hears(&talked_to, 440, "the called hears");
    let first = Phone::new(phones(), "5550001", "", 500);
    let waiting = first.call(moving(at), "4008");
    assert!(waiting.answered(SOON), "{:?}", waiting.view());
    hears(&waiting, MUSIC_HZ, "who waits hears music");

    println!("node {victim} is killed; its machine goes on, with the address");
    let stand = [&talking, &talked_to, &waiting];
    for call in stand {
        call.audio().reset();
    }
    cluster.kill(victim);
    for (call, hz) in [(&talking, 620), (&talked_to, 440), (&waiting, MUSIC_HZ)] {
        call.audio().forget();
        hears(call, hz, "goes on");
        let gap = call.audio().counts().gap_max.as_millis();
        println!("  nothing was heard for {gap} ms");
        let view = call.view();
        let told = view.peer_audio.map(|audio| audio.ip());
        assert_eq!(
            told,
            Some(moving(at).ip()),
            "no phone is told anything: {view:?}"
        );
    }
    let new = holder(&cluster, at);
    assert_ne!(new, victim);

    println!("the machine of the dead daemon loses the address by itself");
    let lost = eventually(EXPIRED, "the address is gone there", || {
        let addresses = cluster.addresses(victim);
        (!addresses.contains(&moving(at).ip())).then_some(addresses)
    });
    assert!(
        cluster.addresses(new).contains(&moving(at).ip()),
        "{lost:?}"
    );
    for call in stand {
        call.audio().forget();
    }
    hears(&talking, 620, "still heard once it is gone there");

    println!("the node comes back, and takes an address again");
    cluster.run(victim);
    cluster.wait_at_home();
    let agent = phone(at, "1001", 700);
    let (code, _, err) = cluster.command(&["agent", "sign-in", "a1"]);
    assert_eq!(code, 0, "{err}");
    let offer = agent.incoming(0, SOON).expect("the call is offered");
    hears(&waiting, 700, "caller and agent talk");
    hears(&offer, 500, "agent and caller talk");
    assert_eq!(talking.hold(), Some(200));
    hears(&talked_to, MUSIC_HZ, "who is held hears music");
    assert_eq!(talking.resume(), Some(200));
    hears(&talked_to, 440, "and then the caller again");
    talked_to.hang_up();
    talking.ended(SOON).expect("the caller is told");
    waiting.hang_up();
    let view = offer.ended(SOON).expect("the agent is told");
    assert_eq!(view.phase, Phase::Ended);
    for number in ["1007", "5550001"] {
        one_record(&cluster, number);
    }
    assert!(cluster.panics().is_empty(), "{:#?}", cluster.panics());
}

#[test]
fn a_phone_behind_a_nat_and_a_carrier_of_one_address_talk_on() {
    let Some(mut cluster) = Apart::start(site().text(), &passwords()) else {
        return;
    };
    let victim = cluster.leader();
    let at = (1..=3).find(|at| holder(&cluster, *at) == victim);
    let at = at.expect("each node holds an address");
    let home = Behind::nat(phones()).expect("a network behind a NAT");
    let carrier = Behind::filter(CARRIER, moving(at).ip()).expect("a machine with a filter");

    println!("a phone behind a NAT talks with one that is not, and by way of a strict carrier");
    let answer = Policy::Answer {
        after: Duration::ZERO,
        talk: None,
    };
    let (inside, far) = (
        home.enter(|| Phone::new(home.address(), "1005", &secret("1005"), 440)),
        carrier.enter(|| Phone::at((CARRIER, 5_070).into(), "carrier", "", 500)),
    );
    far.set_policy(answer);
    inside.set_policy(answer);
    assert_eq!(inside.register(moving(at), 600), Some(200));
    let outside = phone(at, "1006", 620);
    let called = outside.call(moving(at), "1005");
    assert!(called.answered(SOON), "{:?}", called.view());
    let calling_in = inside.incoming(0, SOON).expect("it rang behind the NAT");
    hears(&called, 440, "who is behind the NAT is heard");
    hears(&calling_in, 620, "and hears");
    let calling_out = home.enter(|| inside.call(moving(at), "95551234"));
    assert!(calling_out.answered(SOON), "{:?}", calling_out.view());
    let at_carrier = far.incoming(0, SOON).expect("it rang at the carrier");
    hears(&calling_out, 500, "the far end is heard");
    hears(&at_carrier, 440, "and hears");

    println!("node {victim} is killed");
    let stand = [
        (&called, 440),
        (&calling_in, 620),
        (&calling_out, 500),
        (&at_carrier, 440),
    ];
    for (call, _) in stand {
        call.audio().reset();
    }
    cluster.kill(victim);
    assert_ne!(holder(&cluster, at), victim);
    for (call, hz) in stand {
        call.audio().forget();
        hears(call, hz, "goes on");
        let gap = call.audio().counts().gap_max.as_millis();
        println!("  nothing was heard for {gap} ms");
    }

    println!("hold, resume and the end from each side; then a new call to who is behind the NAT");
    assert_eq!(calling_in.hold(), Some(200));
    hears(&called, MUSIC_HZ, "who is held hears music");
    assert_eq!(calling_in.resume(), Some(200));
    hears(&called, 440, "and then the other again");
    called.hang_up();
    calling_in.ended(SOON).expect("told behind the NAT");
    at_carrier.hang_up();
    calling_out.ended(SOON).expect("told behind the NAT");
    let again = outside.call(moving(at), "1005");
    assert!(again.answered(SOON), "{:?}", again.view());
    hears(
        &again,
        440,
        "the phone behind the NAT is reached where it registered",
    );
    again.hang_up();
    let calls = eventually(SOON, "each call has its record", || {
        let rows = cluster.any_api().cdrs()?;
        (rows.len() == 3).then_some(rows)
    });
    assert!(
        calls.iter().all(|row| row["disposition"] == "answered"),
        "{calls:#?}"
    );
    let trunks = cluster
        .any_api()
        .list("/v1/trunks")
        .expect("a node answers");
    assert_eq!(trunks[0]["in_use"], 0, "{trunks:#?}");
    assert!(cluster.panics().is_empty(), "{:#?}", cluster.panics());
}

#[test]
fn who_is_cut_off_gives_its_address_up_when_another_announces_it() {
    let Some(cluster) = Apart::start(site().text(), &passwords()) else {
        return;
    };
    let alone = cluster.leader() % 3 + 1;
    let at = (1..=3).find(|at| holder(&cluster, *at) == alone);
    let at = at.expect("each node holds an address");
    let (caller, called) = (phone(at, "1007", 440), phone(at, "1008", 620));
    let talking = caller.call(moving(at), "1008");
    assert!(talking.answered(SOON), "{:?}", talking.view());
    let talked_to = called.incoming(0, SOON).expect("it was answered there");
    hears(&talking, 620, "the caller hears");
    hears(&talked_to, 440, "the called hears");

    println!("node {alone} loses the others, and phones reach all of them");
    for call in [&talking, &talked_to] {
        call.audio().reset();
    }
    cluster.isolate(alone);
    eventually(SOON, "it gives its address up", || {
        let said = "another node announces this service address: it is given up";
        let log = cluster.log(alone);
        let said = log.iter().any(|event| event["fields"]["message"] == said);
        (said && !cluster.addresses(alone).contains(&moving(at).ip())).then_some(())
    });
    for (call, hz) in [(&talking, 620), (&talked_to, 440)] {
        call.audio().forget();
        hears(call, hz, "they talk on by way of the new holder");
        let gap = call.audio().counts().gap_max.as_millis();
        println!("  nothing was heard for {gap} ms");
    }

    println!("and when it reaches the others again, the call has one owner and one record");
    cluster.rejoin(alone);
    cluster.wait_at_home();
    talked_to.hang_up();
    talking.ended(SOON).expect("the caller is told");
    one_record(&cluster, "1007");
    assert!(cluster.panics().is_empty(), "{:#?}", cluster.panics());
}
