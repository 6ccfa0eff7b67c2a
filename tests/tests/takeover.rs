//! A node dies while its calls are in every other state than a plain bridge: what rings
//! rings on, who waits is served, who holds is held, and a digit pressed before still counts.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use serde_json::Value;
use strowger_tests::api::Api;
use strowger_tests::cluster::{Cluster, MUSIC_HZ};
use strowger_tests::phone::{Phase, Phone, Policy};
use strowger_tests::poll::eventually;

const SOON: Duration = Duration::from_secs(15);

fn local(last: u8) -> IpAddr {
    IpAddr::from([127, 0, 0, last])
}

fn address_of(cluster: &Cluster, node: u64) -> SocketAddr {
    let held = cluster.sip().iter();
    let mut held = held.filter(|address| cluster.holder(**address) == node);
    *held.next().expect("every node holds an address")
}

fn records_from(api: &Api, number: &str) -> Vec<Value> {
    let rows = api.cdrs().unwrap_or_default();
    let own = rows
        .into_iter()
        .filter(|row| row["from"].as_str().is_some_and(|from| from == number));
    own.collect()
}

fn one_record(api: &Api, number: &str, disposition: &str) {
    let rows = eventually(SOON, &format!("{number} has its record"), || {
        let rows = records_from(api, number);
        (!rows.is_empty()).then_some(rows)
    });
    assert_eq!(rows.len(), 1, "{rows:#?}");
    assert_eq!(rows[0]["disposition"], disposition, "{rows:#?}");
}

#[test]
fn calls_in_every_state_outlive_their_node() {
    let mut cluster = Cluster::start("basic.toml");
    let victim = cluster.leader();
    let survivor = victim % 3 + 1;
    let (dying, living) = (address_of(&cluster, victim), address_of(&cluster, survivor));
    let phone = |user: &str, hz: u32| {
        let phone = Phone::new(local(81), user, &cluster.password(user), hz);
        assert_eq!(phone.register(living, 600), Some(200), "{user}");
        phone
    };
    let api = cluster.api(survivor);

    println!("an extension rings, and its caller waits for the answer");
    let (ringing, rung) = (phone("1003", 440), phone("1004", 620));
    let unanswered = ringing.call(dying, "1004");
    let first_ring = rung.incoming(0, SOON).expect("it rings");
    unanswered
        .wait(SOON, |view| view.phase == Phase::Ringing)
        .expect("the caller hears it ring");

    println!("a caller holds, another is held");
    let (holder, held) = (phone("1005", 440), phone("1006", 620));
    held.set_policy(Policy::Answer {
        after: Duration::ZERO,
        talk: None,
    });
    let holding = holder.call(dying, "1006");
    assert!(holding.answered(SOON), "{:?}", holding.view());
    let held_call = held.incoming(0, SOON).expect("it was answered there");
    assert_eq!(holding.hold(), Some(200));
    held_call
        .wait(SOON, |_| held_call.audio().hears(MUSIC_HZ))
        .expect("who is held hears music");

    println!("a caller of the queue is being offered to an agent");
    let agent = phone("1001", 700);
    let (code, _, err) = cluster.command(&["agent", "sign-in", "a1"]);
    assert_eq!(code, 0, "{err}");
    let waiter = Phone::new(local(82), "5550001", "", 500);
    let queued = waiter.call(dying, "4008");
    assert!(queued.answered(SOON), "{:?}", queued.view());
    let offer = agent.incoming(0, SOON).expect("the call is offered");

    println!("node {victim}, the leader, is killed");
    for call in [&holding, &held_call, &queued] {
        call.audio().reset();
    }
    let killed_at = cluster.kill(victim);

    let again = agent.incoming(1, SOON).expect("offered again");
    println!(
        "  the agent's phone rings again {} ms after the kill",
        killed_at.elapsed().as_millis()
    );
    offer.ended(SOON).expect("the first ringing was cancelled");
    again.answer();
    queued
        .wait(SOON, |_| queued.audio().hears(700))
        .expect("caller and agent talk");
    again
        .wait(SOON, |_| again.audio().hears(500))
        .expect("agent and caller talk");

    let second_ring = rung.incoming(1, SOON).expect("the extension rings again");
    first_ring
        .ended(SOON)
        .expect("the first ringing was cancelled");
    second_ring.answer();
    assert!(unanswered.answered(SOON), "{:?}", unanswered.view());
    let talk_began = Instant::now();
    unanswered
        .wait(SOON, |_| unanswered.audio().hears(620))
        .expect("the extension is heard");
    second_ring
        .wait(SOON, |_| second_ring.audio().hears(440))
        .expect("the caller is heard");

    held_call.audio().forget();
    held_call
        .wait(SOON, |_| held_call.audio().hears(MUSIC_HZ))
        .expect("who is held hears music still");
    assert_eq!(holding.resume(), Some(200));
    held_call
        .wait(SOON, |_| held_call.audio().hears(440))
        .expect("and then the caller again");
    println!(
        "  the held party heard nothing for {} ms",
        held_call.audio().counts().gap_max.as_millis()
    );

    println!("each call is ended by another side, and leaves one record");
    second_ring.hang_up();
    unanswered.ended(SOON).expect("the caller is told");
    assert!(talk_began.elapsed() < SOON);
    holding.hang_up();
    held_call.ended(SOON).expect("the other side is told");
    again.hang_up();
    queued.ended(SOON).expect("the caller is told");
    for number in ["1003", "1005", "5550001"] {
        one_record(&api, number, "answered");
    }
    let figures = api.list("/v1/figures").expect("a node answers");
    let row = figures.first().expect("the queue has figures");
    assert_eq!(
        (
            &row["offered"],
            &row["answered"],
            &row["node_lost"],
            &row["missed"]
        ),
        (&1.into(), &1.into(), &0.into(), &0.into()),
        "{row:#}"
    );

    println!("the node comes back, and takes its share again");
    cluster.restart(victim);
    eventually(SOON, "every node holds addresses", || {
        let nodes = api.list("/v1/nodes")?;
        let fair = nodes.iter().all(|node| {
            let held = node["service_addresses"].as_array();
            node["state"] == "up" && held.is_some_and(|held| held.len() == 2)
        });
        fair.then_some(())
    });
    assert!(cluster.panics().is_empty(), "{:#?}", cluster.panics());
}
