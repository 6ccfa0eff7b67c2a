//! Callbacks at real phones: taken by key, dialled when an agent is free or has answered,
//! taken back.

use std::time::Duration;

use serde_json::Value;
use strowger_tests::cluster::{Cluster, MUSIC_HZ};
use strowger_tests::phone::Phone;
use strowger_tests::poll::eventually;

const SOON: Duration = Duration::from_secs(10);
/// The ringing tone of the exchange.
const RINGING_HZ: u32 = 425;

/// A cluster whose queue calls back by key 1, by these further words.
fn cluster(words: &str) -> Cluster {
    Cluster::start_with("basic.toml", |folder| {
        let file = folder.join("basic.toml");
        let text = std::fs::read_to_string(&file).expect("the site is there");
        let more = format!("music = \"hold.wav\"\ncallback_key = \"1\"\n{words}");
        let text = text.replacen("music = \"hold.wav\"\n", &more, 1);
        std::fs::write(&file, text).expect("the folder is ours");
    })
}

/// A phone calls the queue and takes a callback by key; what then stands.
fn take(cluster: &Cluster, caller: &Phone) -> Value {
    let call = caller.call(cluster.service(0), "4008");
    assert!(call.answered(SOON), "{:?}", call.view());
    let audio = call.audio();
    call.wait(SOON, |_| audio.hears(MUSIC_HZ))
        .expect("music after the greeting");
    audio.dial("1");
    let parted = call.ended(SOON).expect("the exchange hangs up");
    assert!(parted.ended_by_peer);
    eventually(SOON, "the callback stands", || {
        cluster.any_api().list("/v1/callbacks")?.first().cloned()
    })
}

/// An agent signs in by code.
fn sign_in(cluster: &Cluster, agent: &Phone) {
    let code = agent.call(cluster.service(1), "*11");
    assert!(code.answered(SOON), "{:?}", code.view());
    code.ended(SOON).expect("the exchange hangs up");
}

#[test]
fn a_caller_takes_a_callback_and_is_connected_when_an_agent_is_free() {
    let cluster = cluster("");
    let api = cluster.any_api();
    let address = "127.0.0.86".parse().expect("an address");
    let agent = Phone::new(address, "1002", &cluster.password("1002"), 700);
    let caller = Phone::new(address, "1003", &cluster.password("1003"), 440);
    assert_eq!(agent.register(cluster.service(1), 120), Some(200));
    assert_eq!(caller.register(cluster.service(0), 120), Some(200));

    let stands = take(&cluster, &caller);
    assert_eq!(stands["state"], "waiting", "{stands:#}");
    assert_eq!(stands["number"], "1003", "{stands:#}");

    sign_in(&cluster, &agent);
    let back = caller.incoming(1, SOON).expect("the customer is dialled");
    back.answer();
    let offer = agent.incoming(1, SOON).expect("the agent is offered him");
    offer.answer();
    offer
        .wait(SOON, |_| offer.audio().hears(440))
        .expect("the agent hears the customer");
    back.wait(SOON, |_| back.audio().hears(700))
        .expect("the customer hears the agent");
    back.hang_up();
    offer.ended(SOON).expect("the agent's leg ends too");
    let record = eventually(SOON, "the record is there", || {
        let rows = api.cdrs()?;
        let of = |row: &serde_json::Value| row["callback"] == stands["id"];
        rows.into_iter().find(of)
    });
    assert_eq!(record["disposition"], "answered", "{record:#}");
    assert_eq!(api.list("/v1/callbacks").map(|rows| rows.len()), Some(0));
    assert!(cluster.panics().is_empty(), "{:#?}", cluster.panics());
}

#[test]
fn a_callback_is_taken_back_by_command_and_by_calling_again() {
    let cluster = cluster("");
    let api = cluster.any_api();
    let address = "127.0.0.87".parse().expect("an address");
    let agent = Phone::new(address, "1002", &cluster.password("1002"), 700);
    let caller = Phone::new(address, "1003", &cluster.password("1003"), 440);
    assert_eq!(agent.register(cluster.service(1), 120), Some(200));
    assert_eq!(caller.register(cluster.service(0), 120), Some(200));

    let stands = take(&cluster, &caller);
    let id = stands["id"].as_str().expect("an id").to_owned();
    sign_in(&cluster, &agent);
    let back = caller.incoming(1, SOON).expect("the customer is dialled");
    let (exit, ..) = cluster.command(&["callback", "cancel", &id]);
    assert_eq!(exit, 0);
    back.ended(SOON).expect("his phone stops ringing");
    let agent_is = |wanted: &str| {
        eventually(SOON, "the agent is so", || {
            let agents = api.list("/v1/agents")?;
            let own = agents.into_iter().find(|agent| agent["id"] == "a2")?;
            (own["state"] == wanted).then_some(own)
        })
    };
    agent_is("ready");
    assert_eq!(api.list("/v1/callbacks").map(|rows| rows.len()), Some(0));
    let again = api.delete(&format!("/v1/callbacks/{id}"));
    assert_eq!(again.map(|answer| answer.status), Ok(404));

    // Nobody is at work while he asks again and then comes himself.
    let (exit, ..) = cluster.command(&["agent", "pause", "a2"]);
    assert_eq!(exit, 0);
    take(&cluster, &caller);
    let call = caller.call(cluster.service(0), "4008");
    assert!(call.answered(SOON), "{:?}", call.view());
    eventually(SOON, "he is not called back", || {
        let rows = api.list("/v1/callbacks")?;
        rows.is_empty().then_some(())
    });
    let (exit, ..) = cluster.command(&["agent", "ready", "a2"]);
    assert_eq!(exit, 0);
    let offer = agent.incoming(1, SOON).expect("the agent is offered him");
    offer.answer();
    offer
        .wait(SOON, |_| offer.audio().hears(440))
        .expect("the agent hears the customer");
    call.hang_up();
    offer.ended(SOON).expect("the agent's leg ends too");
    take(&cluster, &caller);
    let stands = eventually(SOON, "the last callback stands", || {
        api.list("/v1/callbacks")?.first().cloned()
    });
    let id = stands["id"].as_str().expect("an id");
    let gone = api.delete(&format!("/v1/callbacks/{id}"));
    assert_eq!(gone.map(|answer| answer.status), Ok(200));
    assert!(cluster.panics().is_empty(), "{:#?}", cluster.panics());
}

#[test]
fn an_agent_is_rung_first_hears_it_ring_and_then_the_customer() {
    let words = "callback_first = \"agent\"\ncallback_attempts = 2\ncallback_pause_s = 10\n";
    let cluster = cluster(words);
    let api = cluster.any_api();
    let address = "127.0.0.88".parse().expect("an address");
    let agent = Phone::new(address, "1002", &cluster.password("1002"), 700);
    let caller = Phone::new(address, "1003", &cluster.password("1003"), 440);
    assert_eq!(agent.register(cluster.service(1), 120), Some(200));
    assert_eq!(caller.register(cluster.service(0), 120), Some(200));
    let stands = take(&cluster, &caller);
    sign_in(&cluster, &agent);

    // The first attempt: the agent hangs up before the customer answers.
    let offer = agent.incoming(1, SOON).expect("the agent is asked first");
    assert_eq!(caller.calls().len(), 1, "the customer is not dialled yet");
    offer.answer();
    let back = caller
        .incoming(1, SOON)
        .expect("then the customer is dialled");
    offer
        .wait(SOON, |_| offer.audio().hears(RINGING_HZ))
        .expect("the agent hears it ring");
    offer.hang_up();
    back.ended(SOON)
        .expect("the customer's phone stops ringing");
    let rests = eventually(SOON, "the callback rests", || {
        let rows = api.list("/v1/callbacks")?;
        rows.into_iter().find(|row| row["state"] == "resting")
    });
    assert_eq!(rests["attempts"], 1, "{rests:#}");

    // The second: both talk.
    let offer = agent
        .incoming(2, SOON * 2)
        .expect("the agent is asked again");
    offer.answer();
    let back = caller
        .incoming(2, SOON)
        .expect("the customer is dialled again");
    back.answer();
    offer
        .wait(SOON, |_| offer.audio().hears(440))
        .expect("the agent hears the customer");
    back.wait(SOON, |_| back.audio().hears(700))
        .expect("the customer hears the agent");
    back.hang_up();
    offer.ended(SOON).expect("the agent's leg ends too");
    let records = eventually(SOON, "both attempts are recorded", || {
        let rows = api.cdrs()?.into_iter();
        let own: Vec<Value> = rows.filter(|row| row["callback"] == stands["id"]).collect();
        (own.len() == 2).then_some(own)
    });
    assert_eq!(records[0]["disposition"], "abandoned", "{:#}", records[0]);
    assert_eq!(records[1]["disposition"], "answered", "{:#}", records[1]);
    assert_eq!(records[1]["agent"], "a2", "{:#}", records[1]);
    assert_eq!(api.list("/v1/callbacks").map(|rows| rows.len()), Some(0));
    let queues = api.list("/v1/figures").expect("the node answers");
    let figures = queues.first().expect("there is one queue");
    for (name, count) in [("offered", 2), ("answered", 1), ("callback_taken", 1)] {
        assert_eq!(figures[name], count, "{figures:#}");
    }
    assert!(cluster.panics().is_empty(), "{:#?}", cluster.panics());
}
