//! Machines that cannot reach each other, or fall silent: whoever has no majority keeps what
//! it has and starts nothing, what it saw is merged when the machines meet again, and a call
//! moves once.
//!
//! Nodes in network namespaces; without the rights for that each test says loudly that it
//! saw nothing.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use strowger_tests::apart::site::{Site, Takeover, passwords, secret};
use strowger_tests::apart::{Apart, phones, phones_at, service};
use strowger_tests::cluster::MUSIC_HZ;
use strowger_tests::phone::{Call, Phase, Phone};
use strowger_tests::poll::{eventually, within_time};
use strowger_tests::seats::quantile;
use strowger_tests::talks::Talks;

const SOON: Duration = Duration::from_secs(15);
/// New work is refused within this (a promise), and some time for the machine.
const REFUSAL_MAX: Duration = Duration::from_secs(1);
const MACHINE: Duration = Duration::from_millis(500);
/// So much may the talk of a record be off: the answer is counted from its commit, and its
/// end may have been under way to a commit for as long as one proposal takes.
const RECORD_MAX: Duration = Duration::from_millis(3_500);
/// The port of the devices that take every call to extensions 3001 and on (at the phones'
/// first address) and 3101 and on (at their second).
const DEVICE_PORT: u16 = 6_060;

fn site() -> Site {
    Site::new(Takeover::Reinvite, (1..=3).map(service))
        .device("3001-3099", (phones_at(0), DEVICE_PORT).into())
        .device("3101-3199", (phones_at(1), DEVICE_PORT).into())
        .with_one_agent()
}

/// A phone that registers.
fn phone(own: IpAddr, server: SocketAddr, user: &str, hz: u32) -> Phone {
    let phone = Phone::new(own, user, &secret(user), hz);
    assert_eq!(phone.register(server, 600), Some(200), "{user}");
    phone
}

/// Calls that talk by way of a node, at the phones' address of this number.
fn talk(node: u8, at: u8, calls: usize) -> Talks {
    let user = ["1007", "1008"][usize::from(at)];
    let caller = Phone::new(phones_at(at), user, &secret(user), 440);
    let device = Phone::at((phones_at(at), DEVICE_PORT).into(), "all", "", 620);
    Talks::begin(
        service(node),
        caller,
        device,
        3_001 + 100 * usize::from(at),
        calls,
    )
}

fn hears(call: &Call, hz: u32, what: &str) {
    call.audio().forget();
    call.wait(SOON, |_| call.audio().hears(hz))
        .unwrap_or_else(|| panic!("{what}: {:?} {:?}", call.view(), call.audio().counts()));
}

/// A new caller is refused with 503 and told when to try again.
fn is_refused(service: SocketAddr) {
    let stranger = Phone::new(phones(), "5550009", "", 700);
    let call = stranger.call(service, "4008");
    let view = call.ended(SOON).expect("a caller is told something");
    let after = view.ended.expect("it ended") - view.began;
    println!("  a new call was refused after {} ms", after.as_millis());
    assert_eq!(view.status, Some(503), "{view:?}");
    assert!(after <= REFUSAL_MAX + MACHINE, "after {after:?}");
    let message = call.peer_message();
    assert!(message.header("Retry-After").is_some(), "{message:?}");
}

/// The phone's audio goes to another machine than this one.
fn is_told(call: &Call, not: SocketAddr) {
    call.wait(SOON, |view| {
        view.peer_audio.is_some_and(|audio| audio.ip() != not.ip())
    })
    .unwrap_or_else(|| panic!("nobody told it: {:?}", call.view()));
}

/// Waits until all nodes are up at their own addresses and no call is left, then every
/// answered caller has one record and nobody was told twice.
fn settle(cluster: &Apart, answered: &[&Call], others: &[&Call]) -> Vec<Value> {
    cluster.wait_at_home();
    eventually(SOON, "no call is left", || {
        cluster
            .any_api()
            .list("/v1/calls")?
            .is_empty()
            .then_some(())
    });
    let records = cluster.any_api().cdrs().expect("a node answers");
    let mut of_call: BTreeMap<String, usize> = BTreeMap::new();
    for record in &records {
        *of_call.entry(record["call"].to_string()).or_default() += 1;
    }
    assert!(of_call.values().all(|count| *count == 1), "{of_call:?}");
    let recorded = |disposition: &str| {
        let rows = records
            .iter()
            .filter(|row| row["disposition"] == disposition);
        rows.count()
    };
    assert_eq!(recorded("answered"), answered.len(), "{records:#?}");
    for call in answered.iter().chain(others) {
        let view = call.view();
        assert!(view.byes <= 1, "{} BYEs: {view:?}", view.byes);
    }
    for number in cluster.numbers() {
        let rows = cluster.api(number).cdrs();
        let same = within_time(SOON, || (rows.as_ref()? == &records).then_some(()));
        assert!(same.is_some(), "node {number} has other records");
    }
    assert!(cluster.panics().is_empty(), "{:#?}", cluster.panics());
    records
}

/// The record of a caller who hung up while nothing could be committed has the time that he
/// talked, not until it could be.
fn is_recorded_as_it_was(records: &[Value], caller: &Call) {
    let his = |row: &&Value| {
        let mut legs = row["legs"].as_array().into_iter().flatten();
        legs.any(|leg| leg["sip_call_id"] == caller.id())
    };
    let record = records.iter().find(his).expect("he has a record");
    let view = caller.view();
    let talked = view.ended.expect("he hung up") - view.answered.expect("he talked");
    let talk_ms = record["talk_ms"].as_u64().expect("it says for how long");
    println!(
        "  who hung up had talked {} ms; the record says {talk_ms} ms",
        talked.as_millis()
    );
    let apart = Duration::from_millis(talk_ms).abs_diff(talked);
    assert!(apart <= RECORD_MAX, "{record:#?}");
}

/// How often a node was declared down so far, as those say who led.
fn declared_down(cluster: &Apart) -> usize {
    let events = cluster.numbers().flat_map(|number| cluster.log(number));
    events
        .filter(|event| event.to_string().contains("declaring a node down"))
        .count()
}

#[test]
fn who_is_cut_off_keeps_its_calls_and_starts_nothing() {
    let Some(cluster) = Apart::start(site().text(), &passwords()) else {
        return;
    };
    let lone = cluster.leader();
    let others = [lone % 3 + 1, (lone + 1) % 3 + 1];
    let (here, there) = (service(lone), service(others[0]));

    println!("four calls talk at phones all nodes reach, two at phones only node {lone} will");
    let near = talk(lone, 0, 4);
    let far = talk(lone, 1, 2);
    println!("an extension rings there, a caller waits for an agent");
    let rung = phone(phones_at(1), there, "1004", 620);
    let ringing = Phone::new(phones(), "1003", &secret("1003"), 440);
    let unanswered = ringing.call(here, "1004");
    let first_ring = rung.incoming(0, SOON).expect("it rings");
    let agent = phone(phones(), there, "1001", 700);
    let stranger = Phone::new(phones(), "5550001", "", 500);
    let waiting = stranger.call(here, "4008");
    assert!(waiting.answered(SOON), "{:?}", waiting.view());
    hears(&waiting, MUSIC_HZ, "who waits hears music");

    println!("node {lone}, the leader, is cut off");
    for end in near.ends.iter().chain(&far.ends) {
        end.audio().reset();
    }
    cluster.isolate(lone);
    for other in others {
        cluster.lose(other, phones_at(1));
    }
    let cut_at = Instant::now();
    is_refused(here);
    let body = json!({ "id": "q1", "type": "agent_sign_in", "agent": "a1" });
    let answer = cluster.api(lone).post("/v1/commands", &body);
    let status = answer.expect("the node answers").status;
    // 504 where it led: what it wrote may yet be committed, and it says so.
    assert!(matches!(status, 503 | 504), "{status}");
    first_ring.answer();

    println!("the others take its calls where they reach the phones, each once");
    near.ends.iter().for_each(|end| is_told(end, here));
    println!(
        "  all told {} ms after the cut",
        cut_at.elapsed().as_millis()
    );
    let body = json!({ "id": "q2", "type": "agent_sign_in", "agent": "a1" });
    eventually(SOON, "the agent signs in with the others", || {
        let answer = cluster.api(others[0]).post("/v1/commands", &body);
        answer.ok().filter(|answer| answer.status < 300).map(drop)
    });
    let offer = agent.incoming(0, SOON).expect("the call is offered");
    offer.answer();
    hears(&waiting, 700, "caller and agent talk");
    println!(
        "  who talked heard nothing for at most {:.0} ms",
        quantile(&near.gaps(), 1.0)
    );

    println!("the others keep talking by way of the node that is cut off");
    far.ends[0].hang_up();
    std::thread::sleep(Duration::from_secs(5).saturating_sub(cut_at.elapsed()));
    let (talks, talked_to) = (&far.ends[1], far.ends[2..].iter());
    let talked_to = talked_to
        .clone()
        .find(|end| {
            end.view().ended.is_none()
                && end
                    .audio()
                    .counts()
                    .last
                    .is_some_and(|at| at.elapsed() < MACHINE)
        })
        .expect("the other call talks on");
    for (end, other) in [(talks, talked_to), (talked_to, talks)] {
        let (counts, sent) = (end.audio().counts(), other.audio().counts().sent);
        println!(
            "  received {} of {sent}, lost {}",
            counts.received, counts.lost
        );
        assert_eq!(counts.lost, 0, "{counts:?}");
        assert!(counts.received + 10 >= sent && sent >= 150, "{counts:?}");
        assert_eq!(counts.by_machine.keys().collect::<Vec<_>>(), [&here.ip()]);
    }
    is_refused(here);

    println!("they meet again");
    for other in others {
        cluster.carry(other, phones_at(1));
    }
    talks.audio().reset();
    cluster.rejoin(lone);
    let met_at = Instant::now();
    for end in far.ends[2..]
        .iter()
        .filter(|end| end.id() != talked_to.id())
    {
        end.ended(SOON).expect("the far end of who hung up is told");
    }
    hears(talks, 620, "the other call talks on");
    hears(talked_to, 440, "both ways");
    is_told(talks, here);
    println!(
        "  all settled after {} ms, a gap of {} ms at the end that stayed",
        met_at.elapsed().as_millis(),
        talks.audio().counts().gap_max.as_millis()
    );
    let lost = first_ring.ended(SOON);
    assert!(
        lost.is_some(),
        "who answered there is let go: {:?}",
        first_ring.view()
    );
    cluster.wait_at_home();
    assert_eq!(agent.calls().len(), 1, "one offer reached the agent");
    let second_ring = rung.incoming(1, SOON).expect("the extension rings again");
    second_ring.answer();
    assert!(unanswered.answered(SOON), "{:?}", unanswered.view());
    hears(&unanswered, 620, "and is heard");

    near.end();
    talks.hang_up();
    talked_to.ended(SOON).expect("it is told");
    offer.hang_up();
    waiting.ended(SOON).expect("it is told");
    second_ring.hang_up();
    unanswered.ended(SOON).expect("it is told");
    let answered: Vec<&Call> = near.ends[..4]
        .iter()
        .chain(&far.ends[..2])
        .chain([&waiting, &unanswered])
        .collect();
    let heard: Vec<&Call> = near.ends[4..].iter().chain(&far.ends[2..]).collect();
    let records = settle(&cluster, &answered, &heard);
    is_recorded_as_it_was(&records, &far.ends[0]);
    let later = ringing.call(here, "3001");
    later.wait(SOON, |view| view.phase != Phase::Calling);
    later.hang_up();
}

#[test]
fn a_hold_that_nobody_could_commit_is_as_if_it_had_not_been() {
    let Some(cluster) = Apart::start(site().text(), &passwords()) else {
        return;
    };
    let node = cluster.leader();
    let talks = talk(node, 0, 1);
    let (one, other) = talks.other_call();
    cluster.numbers().for_each(|number| cluster.isolate(number));
    std::thread::sleep(Duration::from_millis(1_500));
    println!("somebody holds while no node reaches another");
    // Nodes that are cut off send no SIP: the answer comes when the phone repeats its INVITE.
    assert_ne!(one.hold(), Some(200));
    cluster.numbers().for_each(|number| cluster.rejoin(number));
    cluster.wait_at_home();
    println!("they meet again: nobody is held, and somebody can be");
    hears(one, 620, "the caller after the split");
    hears(other, 440, "the called after the split");
    std::thread::sleep(Duration::from_secs(1));
    hears(one, 620, "the caller a second later");
    hears(other, 440, "the called a second later");
    assert_eq!(one.hold(), Some(200));
    other
        .wait(SOON, |_| other.audio().hears(MUSIC_HZ))
        .expect("who is held hears music");
    assert_eq!(one.resume(), Some(200));
    hears(other, 440, "the called when he is held no more");
    one.hang_up();
    other.ended(SOON).expect("it is told");
}

#[test]
fn what_nodes_saw_while_none_reached_another_is_merged() {
    let Some(cluster) = Apart::start(site().text(), &passwords()) else {
        return;
    };
    let node = cluster.leader() % 3 + 1;
    let here = service(node);
    println!("two calls talk by way of node {node}, an extension rings there");
    let talks = talk(node, 0, 2);
    let rung = phone(phones(), here, "1004", 620);
    let ringing = Phone::new(phones(), "1003", &secret("1003"), 440);
    let unanswered = ringing.call(here, "1004");
    let ring = rung.incoming(0, SOON).expect("it rings");

    println!("no node reaches another");
    // One that leads may still say so before it knows that it is alone.
    let down = declared_down(&cluster);
    talks.ends.iter().for_each(|end| end.audio().reset());
    cluster.numbers().for_each(|number| cluster.isolate(number));
    std::thread::sleep(Duration::from_millis(1_500));
    ring.answer();
    talks.ends[0].hang_up();
    cluster
        .numbers()
        .for_each(|number| is_refused(service(number)));
    std::thread::sleep(Duration::from_millis(1_000));
    let (one, other) = talks.other_call();
    for (end, far) in [(one, other), (other, one)] {
        let (counts, sent) = (end.audio().counts(), far.audio().counts().sent);
        assert_eq!(counts.lost, 0, "{counts:?}");
        assert!(counts.received + 10 >= sent && sent >= 100, "{counts:?}");
    }
    assert_eq!(unanswered.view().answered, None, "nothing is decided alone");

    println!("they meet again: who answered talks, who hung up has left");
    cluster.numbers().for_each(|number| cluster.rejoin(number));
    let again = eventually(SOON, "who answered is connected, or rung anew", || {
        let answered = unanswered.view().phase == Phase::Up;
        let again = rung.calls().into_iter().nth(1);
        (answered || again.is_some()).then_some(again)
    });
    // Whoever led first may have thought the node dead before it was heard of again: then its
    // call has gone on elsewhere, and an answer there counts no more.
    match &again {
        Some(again) => {
            assert!(declared_down(&cluster) > down, "it rang twice");
            again.answer();
            ring.ended(SOON).expect("the first ringing was taken back");
        }
        None => assert_eq!(rung.calls().len(), 1, "it rang once"),
    }
    let ring = again.unwrap_or(ring);
    assert!(unanswered.answered(SOON), "{:?}", unanswered.view());
    hears(&unanswered, 620, "who answered is heard");
    hears(&ring, 440, "and hears");
    let left = talks.ends[2..].iter().find(|end| end.id() != other.id());
    let left = left.expect("each call has two ends");
    left.ended(SOON)
        .expect("the far end of who hung up is told");
    for end in [one, other] {
        assert!(end.view().ended.is_none(), "{:?}", end.view());
    }

    println!("links are lost one way, links come and go");
    let leader = cluster.leader();
    let others = [leader % 3 + 1, (leader + 1) % 3 + 1];
    for (from, to) in [
        (leader, others[0]),
        (others[1], leader),
        (others[0], others[1]),
    ] {
        cluster.lose(from, service(to).ip());
        works(&cluster, 2, &format!("what {from} sends {to} is lost"));
        cluster.carry(from, service(to).ip());
        cluster.wait_at_home();
    }
    for _ in 0..6 {
        cluster.isolate(others[0]);
        std::thread::sleep(Duration::from_millis(250));
        cluster.rejoin(others[0]);
        std::thread::sleep(Duration::from_millis(250));
    }
    works(&cluster, 3, "the link of a node came and went");
    cluster.wait_at_home();

    println!("connections of living nodes are reset");
    let (down, leader) = (declared_down(&cluster), cluster.leader());
    let node_of = |call: &Call| call.view().peer_audio.map(|audio| audio.ip());
    let before: Vec<_> = [one, other].map(node_of).to_vec();
    for number in cluster.numbers().chain(cluster.numbers()) {
        let reset = cluster.reset_connections(number);
        assert!(reset > 0, "there was nothing to reset");
    }
    works(&cluster, 3, "connections were reset");
    assert_eq!(declared_down(&cluster), down, "a reset is no death");
    assert_eq!(cluster.leader(), leader, "nor a reason to elect");
    assert_eq!(
        [one, other].map(node_of).to_vec(),
        before,
        "nor to move a call"
    );

    one.hang_up();
    other.ended(SOON).expect("it is told");
    ring.hang_up();
    unanswered.ended(SOON).expect("it is told");
    let records = settle(
        &cluster,
        &[&talks.ends[0], &talks.ends[1], &unanswered],
        &talks.ends.iter().chain([&ring]).collect::<Vec<_>>(),
    );
    is_recorded_as_it_was(&records, &talks.ends[0]);
}

/// New calls are served by at least so many nodes before long; others refuse them in time.
fn works(cluster: &Apart, least: usize, what: &str) {
    let began = Instant::now();
    let serves = |number: &u8| {
        let stranger = Phone::new(phones(), "5550008", "", 700);
        let call = stranger.call(service(*number), "4008");
        let answered = call.answered(Duration::from_secs(2));
        call.hang_up();
        let view = call.ended(SOON).expect("a caller is told something");
        assert!(
            answered || view.status == Some(503) || view.status == Some(487),
            "{view:?}"
        );
        answered
    };
    let serving = eventually(SOON, &format!("{what}: {least} nodes serve"), || {
        let serving: Vec<u8> = cluster.numbers().filter(serves).collect();
        (serving.len() >= least).then_some(serving)
    });
    println!(
        "  {what}: {serving:?} serve after {} ms",
        began.elapsed().as_millis()
    );
}

/// The number an end of a call was reached at or called.
fn number_of(end: &Call) -> String {
    let start = end.peer_message().start;
    let called = start
        .split("sip:")
        .nth(1)
        .and_then(|rest| rest.split('@').next());
    match end.view().incoming {
        true => called.unwrap_or_default().to_owned(),
        false => end.view().peer,
    }
}

/// Packets of 20 ms a woken node relays for a phone that has stayed with it: those of the last
/// 200 ms, and until it has heard that the call has gone on elsewhere, on a busy machine.
/// Five seconds of them waited.
const RELAYED_MAX: u64 = 10 + 50;

/// A host stands still for so long under calls that talk by way of it, and goes on. How long
/// each end heard nothing, ms.
fn falls_silent(cluster: &Apart, node: u8, still: Duration) -> Vec<f64> {
    const CALLS: usize = 12;
    let here = service(node);
    let before = cluster.any_api().cdrs().expect("a node answers").len();
    let talks = talk(node, 0, CALLS);
    let (leaving, unmoved) = (&talks.ends[0], &talks.ends[1]);
    let old = unmoved.view().peer_audio;
    cluster.freeze(node);
    let frozen_at = Instant::now();
    talks.ends.iter().for_each(|end| is_told(end, here));
    println!(
        "  node {node}: all told {} ms after it fell silent",
        frozen_at.elapsed().as_millis()
    );
    // A phone that goes on talking to the old owner: whoever hears it was relayed to by two.
    unmoved.audio().set_remote(old);
    leaving.hang_up();
    let far = |one: &Call| {
        let mut ends = talks.ends[CALLS..].iter();
        let number = number_of(one);
        ends.find(|end| number_of(end) == number)
            .expect("each call has two ends")
    };
    far(leaving)
        .ended(SOON)
        .expect("the new owner ends the call");
    let talking: Vec<&Call> = talks
        .ends
        .iter()
        .filter(|end| end.view().ended.is_none())
        .collect();
    assert_eq!(talking.len(), 2 * CALLS - 2, "nobody else was ended");
    std::thread::sleep(still.saturating_sub(frozen_at.elapsed()));
    let gap_of = |end: &&Call| end.audio().counts().gap_max.as_secs_f64() * 1_000.0;
    let gaps: Vec<f64> = talking
        .iter()
        .filter(|end| end.id() != far(unmoved).id())
        .map(gap_of)
        .collect();
    let from_old = |end: &Call| {
        let counts = end.audio().counts();
        counts.by_machine.get(&here.ip()).copied().unwrap_or(0)
    };
    let sum = || talking.iter().map(|end| from_old(end)).sum::<u64>();
    let (at_waking, unmoved_at) = (sum(), from_old(far(unmoved)));
    cluster.thaw(node);
    let woken = Instant::now();
    cluster.wait_at_home();
    let back = woken.elapsed();
    let (mut relayed, quiet) = (from_old(far(unmoved)), Duration::from_millis(500));
    eventually(SOON, "a call of others is relayed no more", || {
        std::thread::sleep(quiet);
        let before = std::mem::replace(&mut relayed, from_old(far(unmoved)));
        (before == relayed).then_some(())
    });
    let relayed = relayed - unmoved_at;
    let played = sum() - at_waking - relayed;
    println!(
        "  back after {} ms; of the old owner came {played} packets, and {relayed} of the phone \
         that had stayed with it",
        back.as_millis()
    );
    // What was inside a send call; what is younger than 200 ms, and comes until it has heard.
    assert!(played <= 2, "{played} packets were played out late");
    assert!(
        relayed <= RELAYED_MAX,
        "{relayed} packets of what was missed"
    );
    unmoved.audio().set_remote(unmoved.view().peer_audio);
    for end in &talking {
        end.audio().forget();
    }
    for end in &talking {
        hears(
            end,
            if end.view().incoming { 440 } else { 620 },
            "they talk on",
        );
    }
    for end in talking.iter().filter(|end| !end.view().incoming) {
        end.hang_up();
    }
    for end in &talks.ends {
        end.ended(SOON).expect("every end is told");
        let view = end.view();
        assert!(view.byes <= 1, "{} BYEs: {view:?}", view.byes);
    }
    let records = eventually(SOON, "each call has its record", || {
        let rows = cluster.any_api().cdrs();
        rows.filter(|rows| rows.len() >= before + CALLS)
    });
    assert_eq!(records.len(), before + CALLS);
    let answered = records
        .iter()
        .filter(|row| row["disposition"] == "answered");
    assert_eq!(answered.count(), before + CALLS);
    gaps
}

#[test]
fn a_host_that_falls_silent_is_taken_over_and_steps_back_in() {
    let Some(cluster) = Apart::start(site().text(), &passwords()) else {
        return;
    };
    let leader = cluster.leader();
    for (node, who) in [(leader % 3 + 1, "a follower"), (leader, "the leader")] {
        println!("{who} falls silent under talking calls");
        let gaps = falls_silent(&cluster, node, Duration::from_secs(5));
        println!(
            "  {} ends heard nothing for p50 {:.0}, p99 {:.0} ms",
            gaps.len(),
            quantile(&gaps, 0.5),
            quantile(&gaps, 0.99)
        );
    }
    assert!(cluster.panics().is_empty(), "{:#?}", cluster.panics());
}
