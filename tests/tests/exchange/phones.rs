//! Phones that stop answering while they are registered, and what is told of a choice among
//! agents with skills.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use serde_json::Value;
use strowger_tests::cluster::{Cluster, MUSIC_HZ};
use strowger_tests::phone::{Phone, Policy};
use strowger_tests::poll::eventually;

const SOON: Duration = Duration::from_secs(10);

/// Three agents of whom two know enough of the language that the queue asks for.
fn start() -> Cluster {
    Cluster::start_with("basic.toml", |folder| {
        let file = folder.join("basic.toml");
        let text = std::fs::read_to_string(&file).expect("the site is there");
        let rule = "music = \"hold.wav\"\nskills = \"lang>=2\"\n";
        let mut text = text.replacen("music = \"hold.wav\"\n", rule, 1);
        for (id, level) in [("a1", 3), ("a2", 2)] {
            let agent = format!("id = \"{id}\"\n");
            text = text.replacen(&agent, &format!("{agent}skills = {{lang = {level}}}\n"), 1);
        }
        text.push_str(
            "\n[[agent]]\nid = \"a3\"\nextension = \"1003\"\nqueues = [\"main\"]\n\
             skills = {lang = 1}\n",
        );
        std::fs::write(&file, text).expect("the folder is ours");
    })
}

fn agent(cluster: &Cluster, id: &str) -> Option<Value> {
    let agents = cluster.any_api().list("/v1/agents")?;
    let own = |agent: &&Value| agent["id"].as_str().is_some_and(|own| own.ends_with(id));
    agents.iter().find(own).cloned()
}

fn wait_state(cluster: &Cluster, id: &str, state: &str) -> Value {
    eventually(SOON, &format!("{id} is {state}"), || {
        agent(cluster, id).filter(|agent| agent["state"] == state)
    })
}

fn command(cluster: &Cluster, arguments: &[&str]) {
    let (code, _, err) = cluster.command(arguments);
    assert_eq!(code, 0, "{arguments:?}: {err}");
}

fn names<'v>(rows: &'v Value, key: &str) -> Vec<&'v str> {
    let rows = rows.as_array().into_iter().flatten();
    rows.filter_map(|row| row[key].as_str()).collect()
}

#[test]
fn an_agent_whose_registered_phone_falls_silent_is_offered_nothing_until_it_answers_again() {
    let cluster = start();
    let address = IpAddr::from([127, 0, 0, 75]);
    let phones: Vec<Phone> = ["1001", "1002", "1003"]
        .into_iter()
        .zip(0..)
        .map(|(name, at)| {
            let phone = Phone::new(address, name, &cluster.password(name), 620);
            assert_eq!(phone.register(cluster.service(at), 600), Some(200));
            phone
        })
        .collect();
    for id in ["a1", "a3"] {
        command(&cluster, &["agent", "sign-in", id]);
        wait_state(&cluster, id, "ready");
    }

    // As a phone whose process is stopped: its registration stands for ten minutes more.
    phones[0].set_policy(Policy::Silent);
    let silent = Instant::now();
    let shown = wait_state(&cluster, "a1", "no_phone");
    println!("a silent phone: no_phone after {:?}", silent.elapsed());
    println!("the reason shown: {}", shown["reason"]);
    let caller = Phone::new(address, "5550005", "", 440);
    let call = caller.call(cluster.service(4), "4008");
    assert!(call.answered(SOON), "{:?}", call.view());
    call.wait(SOON, |_| call.audio().hears(MUSIC_HZ))
        .expect("the caller waits");
    std::thread::sleep(Duration::from_secs(1));
    let offers = || {
        let rows = cluster.any_api().list("/v1/figures")?;
        let row = rows.iter().find(|row| row["queue"] == "main")?;
        row["offers"].as_u64()
    };
    assert_eq!(offers(), Some(0), "nobody is offered to a silent phone");
    assert_eq!(phones[2].calls().len(), 0, "nor to who lacks the skill");

    // The second one comes to work and is paused: known as fit, and not to be had.
    command(&cluster, &["agent", "sign-in", "a2"]);
    let rung = phones[1].incoming(0, SOON).expect("the next is offered");
    wait_state(&cluster, "a2", "offered");
    rung.hang_up();
    command(&cluster, &["agent", "pause", "a2"]);
    wait_state(&cluster, "a2", "paused");

    phones[0].set_policy(Policy::Ring);
    let speaks = Instant::now();
    let offer = phones[0].incoming(0, SOON).expect("offered to him at once");
    println!("it answers again: offered after {:?}", speaks.elapsed());
    offer.answer();
    offer
        .wait(SOON, |_| offer.audio().hears(440))
        .expect("the agent hears the caller");
    wait_state(&cluster, "a1", "talking");

    let calls = cluster.any_api().list("/v1/calls").expect("a list");
    let own = calls.iter().find(|row| row["from"] == "5550005");
    let id = own.and_then(|row| row["id"].as_str()).expect("it is live");
    let told = cluster.command_list(&["why", id]);
    assert_eq!(told.len(), 2, "one for each assignment: {told:#?}");
    for (one, winner) in told.iter().zip(["a2", "a1"]) {
        let won = one["winners"][0].as_str();
        assert!(won.is_some_and(|won| won.ends_with(winner)), "{one:#}");
        assert_eq!(names(&one["candidates"], "agent"), [won.unwrap_or("")]);
        let index = one["index"].as_u64();
        assert!(index.is_some_and(|index| index > 0), "{one:#}");
        assert_eq!(one["unfit"], 1, "{one:#}");
        let excluded = names(&one["excluded"], "agent");
        assert!(
            excluded.iter().any(|agent| agent.ends_with("a3")),
            "{one:#}"
        );
    }
    assert!(told[0]["index"].as_u64() < told[1]["index"].as_u64());
    let (code, text, err) = cluster.command(&["why", id]);
    assert_eq!(code, 0, "{err}");
    println!("{text}");
    for word in ["a1", "a2", "a3", "skills", "no_phone", "missed_this_caller"] {
        assert!(text.contains(word), "{word}: {text}");
    }
    call.hang_up();
    offer.ended(SOON).expect("the agent's leg ends too");
    let after = cluster.command_list(&["why", id]);
    assert_eq!(after, told, "also after the call's end");
    assert!(cluster.panics().is_empty(), "{:#?}", cluster.panics());
}
