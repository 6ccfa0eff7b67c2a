//! A caller takes a callback by key, is dialled when an agent is free, and both talk.

use std::time::Duration;

use strowger_tests::cluster::{Cluster, MUSIC_HZ};
use strowger_tests::phone::Phone;
use strowger_tests::poll::eventually;

const SOON: Duration = Duration::from_secs(10);

#[test]
fn a_caller_takes_a_callback_and_is_connected_when_an_agent_is_free() {
    let cluster = Cluster::start_with("basic.toml", |folder| {
        let file = folder.join("basic.toml");
        let text = std::fs::read_to_string(&file).expect("the site is there");
        let more = "music = \"hold.wav\"\ncallback_key = \"1\"\n";
        let text = text.replacen("music = \"hold.wav\"\n", more, 1);
        std::fs::write(&file, text).expect("the folder is ours");
    });
    let api = cluster.any_api();
    let address = "127.0.0.86".parse().expect("an address");
    let agent = Phone::new(address, "1002", &cluster.password("1002"), 700);
    let caller = Phone::new(address, "1003", &cluster.password("1003"), 440);
    assert_eq!(agent.register(cluster.service(1), 120), Some(200));
    assert_eq!(caller.register(cluster.service(0), 120), Some(200));

    let call = caller.call(cluster.service(0), "4008");
    assert!(call.answered(SOON), "{:?}", call.view());
    let audio = call.audio();
    call.wait(SOON, |_| audio.hears(MUSIC_HZ))
        .expect("music after the greeting");
    audio.dial("1");
    let parted = call.ended(SOON).expect("the exchange hangs up");
    assert!(parted.ended_by_peer);
    let stands = eventually(SOON, "the callback stands", || {
        let rows = api.list("/v1/callbacks")?;
        rows.first().cloned()
    });
    assert_eq!(stands["state"], "waiting", "{stands:#}");
    assert_eq!(stands["number"], "1003", "{stands:#}");

    let code = agent.call(cluster.service(1), "*11");
    assert!(code.answered(SOON), "{:?}", code.view());
    code.ended(SOON).expect("the exchange hangs up");
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
