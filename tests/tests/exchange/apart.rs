//! A node dies whose addresses nobody else can have: its calls go on at the addresses of the
//! survivors, and every phone is told so with a re-INVITE.
//!
//! Three nodes in network namespaces, phones in a fourth. Without the rights for that each
//! test says loudly that it saw nothing.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::Value;
use strowger_tests::apart::site::{Site, Takeover, passwords, secret};
use strowger_tests::apart::{Apart, phones, service};
use strowger_tests::api::Api;
use strowger_tests::cluster::{MUSIC_HZ, node_number};
use strowger_tests::phone::{Call, Phase, Phone, Policy};
use strowger_tests::poll::eventually;
use strowger_tests::seats::quantile;
use strowger_tests::talks::Talks;

pub(super) const SOON: Duration = Duration::from_secs(15);
/// The port of the device that takes every call to extensions 3001 and on.
const DEVICE_PORT: u16 = 6_060;

pub(super) fn site() -> Site {
    Site::new(Takeover::Reinvite, (1..=3).map(service))
        .device("3001-3200", (phones(), DEVICE_PORT).into())
        .with_one_agent()
}

/// A registered phone.
pub(super) fn phone(at: SocketAddr, user: &str, hz: u32) -> Phone {
    let phone = Phone::new(phones(), user, &secret(user), hz);
    assert_eq!(phone.register(at, 600), Some(200), "{user}");
    phone
}

pub(super) fn answers(phone: &Phone) {
    phone.set_policy(Policy::Answer {
        after: Duration::ZERO,
        talk: None,
    });
}

pub(super) fn hears(call: &Call, hz: u32, what: &str) {
    call.wait(SOON, |_| call.audio().hears(hz))
        .unwrap_or_else(|| panic!("{what}: {:?} {:?}", call.view(), call.audio().counts()));
}

fn one_record(api: &Api, number: &str) {
    let own = |row: &Value| row["from"] == number;
    let rows = eventually(SOON, &format!("{number} has its record"), || {
        let rows: Vec<Value> = api.cdrs()?.into_iter().filter(own).collect();
        (!rows.is_empty()).then_some(rows)
    });
    assert_eq!(rows.len(), 1, "{rows:#?}");
    assert_eq!(rows[0]["disposition"], "answered", "{rows:#?}");
}

/// The phone has been told another address than that of the dead node.
fn is_told(call: &Call, dead: SocketAddr) {
    let told = call.view().peer_audio.map(|audio| audio.ip());
    assert!(told.is_some_and(|ip| ip != dead.ip()), "{:?}", call.view());
}

#[test]
fn calls_in_every_state_go_on_at_the_addresses_of_the_survivors() {
    let Some(mut cluster) = Apart::start(site().text(), &passwords()) else {
        return;
    };
    let victim = cluster.leader();
    let survivor = victim % 3 + 1;
    let (dying, living) = (service(victim), service(survivor));
    let api = cluster.api(survivor);

    println!("two talk, and of two others one holds");
    let (caller, called) = (phone(living, "1007", 440), phone(living, "1008", 620));
    answers(&called);
    let talking = caller.call(dying, "1008");
    assert!(talking.answered(SOON), "{:?}", talking.view());
    let talked_to = called.incoming(0, SOON).expect("it was answered there");
    hears(&talking, 620, "the caller hears");
    hears(&talked_to, 440, "the called hears");
    let (holder, held) = (phone(living, "1005", 440), phone(living, "1006", 620));
    answers(&held);
    let holding = holder.call(dying, "1006");
    assert!(holding.answered(SOON), "{:?}", holding.view());
    let held_call = held.incoming(0, SOON).expect("it was answered there");
    assert_eq!(holding.hold(), Some(200));
    hears(&held_call, MUSIC_HZ, "who is held hears music");

    println!("an extension rings; one caller is offered to an agent, another waits");
    let (ringing, rung) = (phone(living, "1003", 440), phone(living, "1004", 620));
    let unanswered = ringing.call(dying, "1004");
    let first_ring = rung.incoming(0, SOON).expect("it rings");
    unanswered
        .wait(SOON, |view| view.phase == Phase::Ringing)
        .expect("the caller hears it ring");
    let agent = phone(living, "1001", 700);
    let (code, _, err) = cluster.command(&["agent", "sign-in", "a1"]);
    assert_eq!(code, 0, "{err}");
    let first = Phone::new(phones(), "5550001", "", 500);
    let queued = first.call(dying, "4008");
    assert!(queued.answered(SOON), "{:?}", queued.view());
    let second = Phone::new(phones(), "5550002", "", 540);
    let waiting = second.call(dying, "4008");
    assert!(waiting.answered(SOON), "{:?}", waiting.view());
    hears(&waiting, MUSIC_HZ, "who waits hears music");
    let offer = agent.incoming(0, SOON).expect("the call is offered");

    println!("node {victim}, the leader, is killed");
    let stand = [
        &talking, &talked_to, &holding, &held_call, &queued, &waiting,
    ];
    for call in stand {
        call.audio().reset();
    }
    let killed_at = cluster.kill(victim);

    let again = agent.incoming(1, SOON).expect("offered again");
    let rings_ms = killed_at.elapsed().as_millis();
    println!("  the agent's phone rings again {rings_ms} ms after the kill");
    offer.ended(SOON).expect("the first ringing was cancelled");
    again.answer();
    hears(&queued, 700, "caller and agent talk");
    hears(&again, 500, "agent and caller talk");
    hears(&waiting, MUSIC_HZ, "who waits hears music still");

    let second_ring = rung.incoming(1, SOON).expect("the extension rings again");
    first_ring
        .ended(SOON)
        .expect("the first ringing was cancelled");
    second_ring.answer();
    assert!(unanswered.answered(SOON), "{:?}", unanswered.view());
    hears(&unanswered, 620, "the extension is heard");
    hears(&second_ring, 440, "the caller is heard");

    for (call, hz) in [(&talking, 620), (&talked_to, 440)] {
        call.audio().forget();
        hears(call, hz, "they talk on");
        let gap = call.audio().counts().gap_max.as_millis();
        println!("  who talked heard nothing for {gap} ms");
    }
    held_call.audio().forget();
    hears(&held_call, MUSIC_HZ, "who is held hears music still");
    for call in stand.into_iter().chain([&unanswered]) {
        is_told(call, dying);
    }
    assert_eq!(holding.resume(), Some(200));
    hears(&held_call, 440, "and then the caller again");
    assert_eq!(talked_to.hold(), Some(200), "the called holds in turn");
    hears(&talking, MUSIC_HZ, "the caller hears music");
    assert_eq!(talked_to.resume(), Some(200));
    hears(&talking, 620, "and then the called again");

    println!("each call is ended by another side, and leaves one record");
    second_ring.hang_up();
    unanswered.ended(SOON).expect("the caller is told");
    holding.hang_up();
    held_call.ended(SOON).expect("the other side is told");
    talked_to.hang_up();
    talking.ended(SOON).expect("the caller is told");
    again.hang_up();
    queued.ended(SOON).expect("the caller is told");
    let next = agent.incoming(2, SOON).expect("the second caller's turn");
    next.answer();
    hears(&waiting, 700, "the second caller is served");
    waiting.hang_up();
    next.ended(SOON).expect("the agent is told");
    for number in ["1003", "1005", "1007", "5550001", "5550002"] {
        one_record(&api, number);
    }
    let figures = api.list("/v1/figures").expect("a node answers");
    let row = figures.first().expect("the queue has figures");
    let counted = (
        &row["offered"],
        &row["answered"],
        &row["node_lost"],
        &row["missed"],
    );
    let wanted = (&2.into(), &2.into(), &0.into(), &0.into());
    assert_eq!(counted, wanted, "{row:#}");

    println!("the node comes back to its own address, and serves there");
    cluster.run(victim);
    cluster.wait_at_home();
    let later = caller.call(dying, "1008");
    assert!(later.answered(SOON), "{:?}", later.view());
    hears(&later, 620, "heard by way of the node that came back");
    later.hang_up();
    assert!(cluster.panics().is_empty(), "{:#?}", cluster.panics());
}

/// Calls that talk by way of a node.
fn talk(node: u8, calls: usize) -> Talks {
    let caller = Phone::new(phones(), "1001", &secret("1001"), 440);
    let device = Phone::at((phones(), DEVICE_PORT).into(), "all", "", 620);
    Talks::begin(service(node), caller, device, 3_001, calls)
}

fn calls_of(cluster: &Apart, node: u8) -> Option<u64> {
    let nodes = cluster.any_api().list("/v1/nodes")?;
    let mut nodes = nodes.iter();
    let own = nodes.find(|row| node_number(&row["id"]) == Some(u64::from(node)))?;
    own["calls"].as_u64()
}

#[test]
fn a_drained_node_keeps_its_address_and_gives_its_calls_away() {
    const CALLS: usize = 20;
    let Some(cluster) = Apart::start(site().text(), &passwords()) else {
        return;
    };
    let node = cluster.leader();
    let talks = talk(node, CALLS);
    assert_eq!(calls_of(&cluster, node), Some(CALLS as u64));
    let (code, _, err) = cluster.command(&["node", "drain", &node.to_string()]);
    assert_eq!(code, 0, "{err}");
    eventually(SOON, "the node has no calls any more", || {
        (calls_of(&cluster, node)? == 0).then_some(())
    });
    eventually(SOON, "every phone has been told another address", || {
        let elsewhere = |end: &Call| {
            let audio = end.view().peer_audio;
            audio.is_some_and(|audio| audio.ip() != service(node).ip())
        };
        talks.ends.iter().all(elsewhere).then_some(())
    });
    std::thread::sleep(Duration::from_secs(1));
    println!(
        "drained: {CALLS} calls heard nothing for at most {:.0} ms",
        quantile(&talks.gaps(), 1.0)
    );
    cluster.wait_at_home();
    talks.end();
    let records = eventually(SOON, "each call has its record", || {
        let records = cluster.any_api().cdrs();
        records.filter(|rows| rows.len() >= CALLS)
    });
    assert_eq!(records.len(), CALLS);
    for record in &records {
        assert_eq!(record["disposition"], "answered", "{record:#}");
    }
    assert!(cluster.panics().is_empty(), "{:#?}", cluster.panics());
}

/// Calls up at once when their node dies, unless `STROWGER_CALLS` says otherwise.
const CALLS: usize = 100;
/// What is heard of a kill is heard within this time.
const WATCH: Duration = Duration::from_secs(5);

#[test]
#[ignore = "measures on an otherwise idle machine; make test-long runs it"]
fn how_long_a_hundred_calls_hear_nothing_until_their_phones_are_told() {
    let asked = std::env::var("STROWGER_CALLS").ok();
    let calls = asked.and_then(|text| text.parse().ok()).unwrap_or(CALLS);
    let Some(mut cluster) = Apart::start(site().text(), &passwords()) else {
        return;
    };
    let leader = cluster.leader();
    let follower = leader % 3 + 1;
    for (victim, who) in [(follower, "a follower"), (leader, "the leader")] {
        let talks = talk(victim, calls);
        std::thread::sleep(Duration::from_secs(1));
        let before = quantile(&talks.gaps(), 1.0);
        println!("{calls} calls, before the kill: longest gap {before:.0} ms");
        talks.ends.iter().for_each(|end| end.audio().reset());
        let killed_at: Instant = cluster.kill(victim);
        std::thread::sleep(WATCH.saturating_sub(killed_at.elapsed()));
        let gaps = talks.gaps();
        println!(
            "{who} killed: {} ends heard nothing for p50 {:.0}, p90 {:.0}, p99 {:.0}, at most {:.0} ms",
            gaps.len(),
            quantile(&gaps, 0.5),
            quantile(&gaps, 0.9),
            quantile(&gaps, 0.99),
            quantile(&gaps, 1.0)
        );
        talks.end();
        // The next calls need the device's port.
        drop(talks);
        cluster.run(victim);
        cluster.wait_at_home();
    }
    let records = cluster.any_api().cdrs().expect("a node answers");
    let answered = records
        .iter()
        .filter(|row| row["disposition"] == "answered");
    assert_eq!((records.len(), answered.count()), (2 * calls, 2 * calls));
    assert!(cluster.panics().is_empty(), "{:#?}", cluster.panics());
}
