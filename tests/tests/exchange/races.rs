//! The moment an agent answers, at real phones: what he hears before the caller, how soon
//! phones stop ringing, and answers that cross the caller's end or that of their offer.
//!
//! Times are printed; what is asserted of them is loose, for a busy machine is no fault of
//! the exchange.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use serde_json::Value;
use strowger_tests::api::Api;
use strowger_tests::capture::{Capture, Sent};
use strowger_tests::cluster::{Cluster, MUSIC_HZ};
use strowger_tests::phone::{Call, Phase, Phone, Policy};
use strowger_tests::poll::eventually;
use strowger_tests::tone;

const SOON: Duration = Duration::from_secs(10);
/// Rounds of each measurement.
const ROUNDS: usize = 20;
/// What is announced to agents, and how long.
const SALES_HZ: u32 = 1_200;
const SALES_S: u32 = 3;
/// The agents' and the callers' own tones.
const AGENT_HZ: u32 = 700;
const CALLER_HZ: u32 = 440;
/// Callers at a time who race against the end of their offer, and how often.
const RACERS: usize = 10;
const RACES: usize = 5;

fn start() -> Cluster {
    start_with(|_| {})
}

fn start_with(change: impl FnOnce(&mut String)) -> Cluster {
    Cluster::start_with("races.toml", |folder| {
        tone::write_wav(&folder.join("sales.wav"), SALES_HZ, SALES_S);
        let file = folder.join("races.toml");
        let mut text = std::fs::read_to_string(&file).expect("the site is there");
        change(&mut text);
        std::fs::write(&file, text).expect("the folder is ours");
    })
}

fn device(last: u8, port: u16) -> Phone {
    let address = SocketAddr::from(([127, 0, 0, last], port));
    Phone::at(address, "agent", "", AGENT_HZ)
}

fn caller(number: &str) -> Phone {
    Phone::new(IpAddr::from([127, 0, 0, 84]), number, "", CALLER_HZ)
}

/// True while the last moments were sound and none of the test's tones.
fn is_speech(call: &Call) -> bool {
    let samples = call.audio().heard(Duration::from_millis(300));
    let loudest = samples.iter().map(|sample| sample.unsigned_abs()).max();
    let tones = [MUSIC_HZ, SALES_HZ, AGENT_HZ, CALLER_HZ];
    samples.len() >= 2_400
        && loudest.is_some_and(|loudest| loudest > 1_000)
        && tones
            .iter()
            .all(|&hz| tone::share(&samples, 8_000, hz) < 0.3)
}

fn wait_ready(api: &Api, how_many: usize) {
    eventually(SOON, "the agents are ready", || {
        let agents = api.list("/v1/agents")?;
        let ready = agents.iter().filter(|agent| agent["state"] == "ready");
        (ready.count() >= how_many).then_some(())
    });
}

fn agent_state(api: &Api, id: &str) -> Option<String> {
    let agents = api.list("/v1/agents")?;
    let mut agents = agents.iter();
    let agent = agents.find(|agent| agent["id"].as_str().is_some_and(|own| own.ends_with(id)))?;
    agent["state"].as_str().map(str::to_owned)
}

/// A figure of a queue.
fn figure(api: &Api, queue: &str, name: &str) -> Option<u64> {
    let rows = api.list("/v1/figures")?;
    let row = rows.iter().find(|row| row["queue"] == queue)?;
    row[name].as_u64()
}

fn records_of(api: &Api, number: &str) -> Option<Vec<Value>> {
    let rows = api.cdrs()?.into_iter();
    Some(rows.filter(|row| row["from"] == number).collect())
}

/// Prints the middle and the largest of some times.
fn show(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let ms = |time: Option<&Duration>| time.map_or(0.0, |time| time.as_secs_f64() * 1_000.0);
    println!(
        "{what}: p50 {:.1} ms, max {:.1} ms, {} rounds",
        ms(times.get(times.len() / 2)),
        ms(times.last()),
        times.len()
    );
    let slowest = times.last().copied().unwrap_or_default();
    assert!(slowest < Duration::from_secs(1), "{what}: {slowest:?}");
}

/// From each message that fits `first` to the last of the `count` ones after it that fit
/// `then`.
fn between(
    seen: &[Sent],
    first: impl Fn(&Sent) -> bool,
    then: impl Fn(&Sent) -> bool,
    count: usize,
) -> Vec<Duration> {
    let mut times = Vec::new();
    let mut rest = seen;
    while let Some(place) = rest.iter().position(&first) {
        let began = rest[place].at;
        rest = &rest[place + 1..];
        let until = rest.iter().position(&first).unwrap_or(rest.len());
        let followed = rest[..until].iter().filter(|one| then(one)).nth(count - 1);
        if let Some(followed) = followed {
            times.push(Duration::from_secs_f64((followed.at - began).max(0.0)));
        }
    }
    times
}

fn is_request(one: &Sent, method: &str) -> bool {
    one.method.as_deref() == Some(method)
}

#[test]
fn an_agent_is_told_whose_call_it_is_before_he_hears_the_caller() {
    let cluster = start();
    let api = cluster.any_api();
    let agent = device(64, 6_064);
    let caller = caller("5550001");
    wait_ready(&api, 7);

    let call = caller.call(cluster.service(0), "4010");
    assert!(call.answered(SOON), "{:?}", call.view());
    call.wait(SOON, |_| call.audio().hears(MUSIC_HZ))
        .expect("the caller waits with music");
    let offer = agent.incoming(0, SOON).expect("the call is offered");
    offer.answer();
    let answered = Instant::now();
    offer
        .wait(SOON, |_| offer.audio().hears(SALES_HZ))
        .expect("the agent is told whose call it is");
    assert_eq!(agent_state(&api, "b1").as_deref(), Some("talking"));
    call.audio().forget();
    call.wait(SOON, |_| call.audio().hears(MUSIC_HZ))
        .expect("the caller goes on hearing music");
    offer
        .wait(SOON, |_| offer.audio().hears(CALLER_HZ))
        .expect("then the agent hears the caller");
    let bridged = answered.elapsed();
    call.wait(SOON, |_| call.audio().hears(AGENT_HZ))
        .expect("and the caller the agent");
    println!("an announcement of {SALES_S} s: bridged after {bridged:?}");
    assert!(
        bridged >= Duration::from_secs(u64::from(SALES_S)),
        "{bridged:?}"
    );
    call.hang_up();
    offer.ended(SOON).expect("the agent's leg ends too");

    println!("a key cuts it short");
    let call = caller.call(cluster.service(2), "4010");
    let offer = agent.incoming(1, SOON).expect("the call is offered");
    offer.answer();
    let answered = Instant::now();
    offer
        .wait(SOON, |_| offer.audio().hears(SALES_HZ))
        .expect("the agent is told whose call it is");
    offer.audio().dial("1");
    offer
        .wait(SOON, |_| offer.audio().hears(CALLER_HZ))
        .expect("the agent hears the caller");
    println!("by key: bridged after {:?}", answered.elapsed());
    assert!(answered.elapsed() < Duration::from_secs(u64::from(SALES_S)));

    println!("a caller who leaves in the announcement");
    offer.hang_up();
    call.ended(SOON).expect("the caller's leg ends too");
    let call = caller.call(cluster.service(4), "4010");
    let offer = agent.incoming(2, SOON).expect("the call is offered");
    offer.answer();
    offer
        .wait(SOON, |_| offer.audio().hears(SALES_HZ))
        .expect("the agent is told whose call it is");
    call.hang_up();
    let ended = offer.ended(Duration::from_secs(2)).expect("at once");
    assert!(ended.ended_by_peer);
    let records = eventually(SOON, "the records are there", || {
        records_of(&api, "5550001").filter(|rows| rows.len() == 3)
    });
    let answered = |row: &Value| row["disposition"] == "answered" && !row["agent"].is_null();
    assert!(records.iter().all(answered), "{records:#?}");
    let talked = records.iter().filter_map(|row| row["talk_ms"].as_u64());
    let longest = talked.max().unwrap_or(0);
    assert!(
        longest >= 1_000 * u64::from(SALES_S),
        "talk counts from the answer"
    );
    wait_ready(&api, 7);
    assert!(cluster.panics().is_empty(), "{:#?}", cluster.panics());
}

#[test]
fn phones_stop_ringing_when_a_caller_leaves_or_another_agent_answers() {
    let cluster = start();
    let api = cluster.any_api();
    let (one, all) = (device(62, 6_062), device(63, 6_063));
    let caller = caller("5550002");
    wait_ready(&api, 7);
    let capture = Capture::start(cluster.service(0).port());

    let mut times = Vec::new();
    for round in 0..ROUNDS {
        let call = caller.call(cluster.service(round % 6), "4008");
        assert!(call.answered(SOON), "{:?}", call.view());
        let offer = one.incoming(round, SOON).expect("the call is offered");
        let left = Instant::now();
        call.hang_up();
        let ended = offer.ended(SOON).expect("the phone is told").ended;
        times.push(ended.expect("it ended").saturating_duration_since(left));
    }
    show("caller leaves, the agent's phone stops ringing", times);
    assert_eq!(figure(&api, "one", "missed"), Some(0));

    let mut times = Vec::new();
    for round in 0..ROUNDS {
        let call = caller.call(cluster.service(round % 6), "4009");
        assert!(call.answered(SOON), "{:?}", call.view());
        let rung = eventually(SOON, "five phones ring", || {
            let calls: Vec<Call> = all.calls().into_iter().skip(round * 5).collect();
            (calls.len() == 5).then_some(calls)
        });
        let answered = Instant::now();
        rung[round % 5].answer();
        for (place, other) in rung.iter().enumerate() {
            if place != round % 5 {
                let ended = other.ended(SOON).expect("the phone is told").ended;
                times.push(ended.expect("it ended").saturating_duration_since(answered));
            }
        }
        call.hang_up();
        rung[round % 5].ended(SOON).expect("the agent's leg ends");
        wait_ready(&api, 7);
    }
    show("one of five answers, the others stop ringing", times);
    assert_eq!(figure(&api, "all", "missed"), Some(0));

    match capture.and_then(Capture::finish) {
        None => println!("no capture is possible here; these were the phones' own times"),
        Some(seen) => {
            let leaves = IpAddr::from([127, 0, 0, 84]);
            let (first, five) = (one.address().ip(), all.address().ip());
            let times = between(
                &seen,
                |sent| is_request(sent, "BYE") && sent.from == leaves,
                |sent| is_request(sent, "CANCEL") && sent.to == first,
                1,
            );
            assert_eq!(times.len(), ROUNDS);
            show("captured, from the caller's BYE to the CANCEL", times);
            let times = between(
                &seen,
                |sent| sent.status == Some(200) && sent.of == "INVITE" && sent.from == five,
                |sent| is_request(sent, "CANCEL") && sent.to == five,
                4,
            );
            assert_eq!(times.len(), ROUNDS);
            show(
                "captured, from the answer to the last of four CANCELs",
                times,
            );
        }
    }
    assert!(cluster.panics().is_empty(), "{:#?}", cluster.panics());
}

#[test]
fn an_agent_whose_answer_comes_too_late_hears_that_the_caller_has_left() {
    let cluster = start();
    let api = cluster.any_api();
    let (one, all) = (device(62, 6_062), device(63, 6_063));
    one.set_policy(Policy::Cross);
    all.set_policy(Policy::Cross);
    let (first, second) = (caller("5550003"), caller("5550004"));
    wait_ready(&api, 7);

    let call = first.call(cluster.service(1), "4008");
    assert!(call.answered(SOON), "{:?}", call.view());
    let offer = one.incoming(0, SOON).expect("the call is offered");
    call.hang_up();
    // He waits while the agent is still told about the first one.
    let waits = second.call(cluster.service(3), "4008");
    let speaks = offer.wait(SOON, |_| is_speech(&offer));
    assert_eq!(speaks.expect("somebody speaks").phase, Phase::Up);
    let records = eventually(SOON, "the record does not wait for the words", || {
        records_of(&api, "5550003").filter(|rows| !rows.is_empty())
    });
    let view = offer.ended(SOON).expect("then the exchange hangs up");
    assert!(view.ended_by_peer);
    let (answered, ended) = (view.answered.expect("it answered"), view.ended);
    let told = ended.expect("it ended") - answered;
    println!("the agent's leg ended {told:?} after his answer");
    assert!(told < Duration::from_secs(6), "{told:?}");
    assert_eq!(records.len(), 1, "{records:#?}");
    assert_eq!(records[0]["disposition"], "abandoned", "{records:#?}");
    assert!(records[0]["agent"].is_null(), "{records:#?}");

    let next = one.incoming(1, SOON).expect("the next caller is offered");
    let began = next.view().began;
    assert!(
        began >= ended.expect("it ended"),
        "not before that leg is over"
    );
    println!(
        "the next caller rang {:?} later",
        began - ended.expect("it ended")
    );
    next.answer();
    next.wait(SOON, |_| next.audio().hears(CALLER_HZ))
        .expect("the agent hears him");
    waits.hang_up();
    next.ended(SOON).expect("the agent's leg ends too");
    assert_eq!(figure(&api, "one", "missed"), Some(0));
    assert_eq!(figure(&api, "one", "answered"), Some(1));
    assert_eq!(figure(&api, "one", "abandoned"), Some(1));
    let agents = api.list("/v1/figures?of=agent").expect("the node answers");
    let own = |row: &&Value| {
        row["name"]
            .as_str()
            .is_some_and(|name| name.ends_with("r1"))
    };
    let r1 = agents.iter().find(own);
    assert_eq!(
        r1.map(|row| &row["missed"]),
        Some(&Value::from(0)),
        "{r1:?}"
    );

    println!("four of five answer when the call is another's");
    let call = first.call(cluster.service(2), "4009");
    assert!(call.answered(SOON), "{:?}", call.view());
    let rung = eventually(SOON, "five phones ring", || {
        Some(all.calls()).filter(|calls| calls.len() == 5)
    });
    rung[2].answer();
    for (place, other) in rung.iter().enumerate().filter(|(place, _)| *place != 2) {
        other
            .wait(SOON, |_| is_speech(other))
            .unwrap_or_else(|| panic!("agent {place} is told"));
        assert!(other.ended(SOON).expect("and let go").ended_by_peer);
    }
    eventually(SOON, "they are ready and the other talks", || {
        let agents = api.list("/v1/agents")?;
        let all = || agents.iter().filter(|agent| agent["queues"][0] == "all");
        let count = |state: &str| all().filter(|agent| agent["state"] == state).count();
        ((count("ready"), count("talking")) == (4, 1)).then_some(())
    });
    call.wait(SOON, |_| call.audio().hears(AGENT_HZ))
        .expect("the caller hears the one who was first");
    call.hang_up();
    rung[2].ended(SOON).expect("the agent's leg ends too");
    assert_eq!(figure(&api, "all", "missed"), Some(0));
    assert!(cluster.panics().is_empty(), "{:#?}", cluster.panics());
}

#[test]
fn an_answer_in_the_moment_in_which_its_offer_ends_has_one_outcome() {
    let cluster = start_with(|text| {
        for n in 0..RACERS {
            text.push_str(&format!(
                "\n[[queue]]\nname = \"t{n}\"\nring_s = 1\nwrap_s = 0\nmissed_max = 0\n\
                 [[number]]\nnumber = \"42{n:02}\"\ntarget = \"queue:t{n}\"\npublic = true\n\
                 [[agent]]\nid = \"t{n}\"\ncontact = \"sip:t{n}@127.0.0.65:6065\"\n\
                 queues = [\"t{n}\"]\nsigned_in = true\nqualify_s = 0\n"
            ));
        }
    });
    let api = cluster.any_api();
    let agents = device(65, 6_065);
    let callers: Vec<Phone> = (0..RACERS)
        .map(|n| caller(&format!("55510{n:02}")))
        .collect();
    wait_ready(&api, 7 + RACERS);
    for race in 0..RACES {
        let calls: Vec<Call> = callers
            .iter()
            .enumerate()
            .map(|(n, phone)| phone.call(cluster.service((race + n) % 6), &format!("42{n:02}")))
            .collect();
        let offers = eventually(SOON, "every agent is rung", || {
            let offers: Vec<Call> = agents.calls().into_iter().skip(race * RACERS).collect();
            (offers.len() == RACERS).then_some(offers)
        });
        // Around the end of the offer, which began some milliseconds before it rang.
        let mut due: Vec<(Instant, &Call)> = offers
            .iter()
            .enumerate()
            .map(|(n, offer)| {
                let jitter = u64::try_from((race * RACERS + n) * 17 % 41).expect("small");
                (
                    offer.view().began + Duration::from_millis(965 + jitter),
                    offer,
                )
            })
            .collect();
        due.sort_by_key(|(at, _)| *at);
        for (at, offer) in due {
            std::thread::sleep(at.saturating_duration_since(Instant::now()));
            offer.answer();
        }
        std::thread::sleep(Duration::from_millis(300));
        for call in &calls {
            call.hang_up();
        }
        for offer in &offers {
            offer.ended(SOON).expect("every agent's leg ends");
        }
        wait_ready(&api, 7 + RACERS);
    }
    let rows = eventually(SOON, "there is a record of each call", || {
        api.cdrs().filter(|rows| rows.len() >= RACES * RACERS)
    });
    assert_eq!(rows.len(), RACES * RACERS, "and one only");
    let answered = rows.iter().filter(|row| row["disposition"] == "answered");
    let abandoned = rows.iter().filter(|row| row["disposition"] == "abandoned");
    let (answered, abandoned) = (answered.count(), abandoned.count());
    println!("{answered} answers were in time, {abandoned} came too late");
    assert_eq!(answered + abandoned, RACES * RACERS, "{rows:#?}");
    let sum = |name: &str| -> u64 {
        let queues = (0..RACERS).filter_map(|n| figure(&api, &format!("t{n}"), name));
        queues.sum()
    };
    let count = |n: usize| u64::try_from(n).expect("small");
    assert_eq!(sum("answered"), count(answered));
    assert_eq!(
        sum("missed"),
        count(abandoned),
        "an offer is taken or missed"
    );
    assert_eq!(sum("offers"), count(RACES * RACERS), "and made once");
    let talked = |row: &&Value| row["disposition"] != "answered" && !row["agent"].is_null();
    assert_eq!(rows.iter().filter(talked).count(), 0, "{rows:#?}");
    assert!(cluster.panics().is_empty(), "{:#?}", cluster.panics());
}
