//! Most nodes die: what is left decides nothing any more, and goes on relaying audio.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use strowger_tests::cluster::Cluster;
use strowger_tests::phone::{Call, Phone, Policy};
use strowger_tests::poll::eventually;

const SOON: Duration = Duration::from_secs(15);
/// How long audio is watched without a majority.
const WATCH: Duration = Duration::from_secs(4);
/// New work is refused within this (a promise), and some time for the machine.
const REFUSAL_MAX: Duration = Duration::from_secs(1);
const MACHINE: Duration = Duration::from_millis(500);

fn local(last: u8) -> IpAddr {
    IpAddr::from([127, 0, 0, last])
}

fn service_of(cluster: &Cluster, node: u64) -> SocketAddr {
    let mut services = cluster.sip().iter().copied();
    services
        .find(|&service| cluster.holder(service) == node)
        .expect("every node holds an address")
}

fn check_audio(ends: [(&str, &Call, &Call); 2]) {
    for (end, call, far) in ends {
        let sent = far.audio().counts().sent;
        let counts = call.audio().counts();
        println!(
            "the {end} received {} of {sent} packets, lost {}, longest gap {} ms",
            counts.received,
            counts.lost,
            counts.gap_max.as_millis()
        );
        assert_eq!(counts.lost, 0, "{counts:?}");
        assert!(
            counts.received + 10 >= sent && sent >= 150,
            "the {end} received {} of {sent}",
            counts.received
        );
    }
}

#[test]
fn audio_goes_on_without_a_majority_and_new_work_is_refused() {
    let mut cluster = Cluster::start("basic.toml");
    let service = service_of(&cluster, 1);
    let phone = |user: &str, hz| {
        let phone = Phone::new(local(82), user, &cluster.password(user), hz);
        assert_eq!(phone.register(service, 600), Some(200), "{user}");
        phone
    };
    let (a, b) = (phone("1001", 440), phone("1002", 620));
    b.set_policy(Policy::Answer {
        after: Duration::ZERO,
        talk: None,
    });
    let call = a.call(service, "1002");
    assert!(call.answered(SOON), "{:?}", call.view());
    let other = b.incoming(0, SOON).expect("it was answered there");
    call.wait(SOON, |_| call.audio().hears(620))
        .expect("the caller hears the called");
    other
        .wait(SOON, |_| other.audio().hears(440))
        .expect("the called hears the caller");
    let waiting = a.call(service, "4008");
    assert!(waiting.answered(SOON), "{:?}", waiting.view());

    cluster.kill(2);
    cluster.kill(3);
    call.audio().reset();
    other.audio().reset();
    waiting.audio().reset();
    let began = Instant::now();

    let stranger = Phone::new(local(83), "5550001", "", 700);
    let refused = stranger.call(service, "4008");
    let view = refused.ended(SOON).expect("a caller is told something");
    let after = view
        .ended
        .expect("it ended")
        .saturating_duration_since(view.began);
    println!("a new call was refused after {} ms", after.as_millis());
    assert_eq!(view.status, Some(503), "{view:?}");
    assert!(after <= REFUSAL_MAX + MACHINE, "after {after:?}");
    let retry = refused
        .peer_message()
        .header("Retry-After")
        .map(str::to_owned);
    assert!(retry.is_some(), "{:?}", refused.peer_message());

    let body = json!({ "id": "q1", "type": "agent_sign_in", "agent": "a1" });
    let answer = cluster.api(1).post("/v1/commands", &body);
    let answer = answer.expect("the node that is left answers");
    // 504 where the node led: what it wrote may yet be committed, and it says so.
    assert!(matches!(answer.status, 503 | 504), "{:?}", answer.json);

    std::thread::sleep(WATCH.saturating_sub(began.elapsed()));
    check_audio([("caller", &call, &other), ("called", &other, &call)]);
    let music = waiting.audio().counts();
    println!("the waiting caller received {} packets", music.received);
    assert!(
        music.received >= 150 && waiting.view().ended.is_none(),
        "a waiting caller hears music still: {music:?}"
    );

    // A phone that leaves now is answered; its record follows with the majority.
    call.hang_up();
    call.ended(SOON)
        .expect("BYE is answered without a majority");
    cluster.restart(2);
    let records: Vec<Value> = eventually(Duration::from_secs(30), "the record is there", || {
        let rows = cluster.api(1).cdrs()?;
        let own: Vec<Value> = rows
            .into_iter()
            .filter(|row| row["from"] == "1001" && row["to"] == "1002")
            .collect();
        (!own.is_empty()).then_some(own)
    });
    assert_eq!(records.len(), 1, "{records:#?}");
    assert_eq!(records[0]["disposition"], "answered", "{records:#?}");
    let talk_ms = records[0]["talk_ms"].as_u64().expect("it has a talk time");
    assert!(talk_ms >= 4_000, "{talk_ms} ms of talk");
    other
        .ended(SOON)
        .expect("the other end is told as soon as anything may be sent");
    let still = waiting.view();
    assert!(
        still.ended.is_none(),
        "the waiting caller waits on: {still:?}"
    );
    waiting.hang_up();
    cluster.restart(3);
    assert!(cluster.panics().is_empty(), "{:#?}", cluster.panics());
}
