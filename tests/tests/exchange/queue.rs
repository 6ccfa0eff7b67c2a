//! The queue behind 4008: one caller and two agents through everything, then a crowd.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use strowger_tests::api::Api;
use strowger_tests::cluster::{Cluster, GREETING_HZ, MUSIC_HZ};
use strowger_tests::phone::{Phase, Phone, Policy};
use strowger_tests::poll::eventually;
use strowger_tests::sipp::Sipp;
use strowger_tests::terminal::Terminal;

const SOON: Duration = Duration::from_secs(10);
/// The callers and agents of the crowd.
const CALLERS: usize = 50;

fn agent_state(api: &Api, id: &str) -> Option<String> {
    let agents = api.list("/v1/agents")?;
    let agent = agents
        .iter()
        .find(|agent| agent["id"].as_str().is_some_and(|own| own.ends_with(id)))?;
    agent["state"].as_str().map(str::to_owned)
}

fn wait_state(api: &Api, id: &str, state: &str) {
    eventually(SOON, &format!("{id} is {state}"), || {
        (agent_state(api, id).as_deref() == Some(state)).then_some(())
    });
}

/// Dials a feature code and waits for its confirmation and the exchange's BYE.
fn feature_code(phone: &Phone, server: SocketAddr, code: &str) {
    let call = phone.call(server, code);
    assert!(call.answered(SOON), "{code}: {:?}", call.view());
    assert!(
        call.ended(SOON)
            .expect("the exchange hangs up")
            .ended_by_peer,
        "{code}"
    );
    assert!(
        call.audio().counts().received > 0,
        "{code} is confirmed by a tone"
    );
}

#[test]
fn one_caller_and_two_agents_through_everything() {
    let cluster = Cluster::start("basic.toml");
    let api = cluster.api(2);
    let address = "127.0.0.75".parse().expect("an address");
    let agent = Phone::new(address, "1001", &cluster.password("1001"), 620);
    let second = Phone::new(address, "1002", &cluster.password("1002"), 700);
    let caller = Phone::new(address, "5550001", "", 440);
    assert_eq!(second.register(cluster.service(1), 120), Some(200));
    assert_eq!(agent.register(cluster.service(0), 120), Some(200));

    println!("the caller is greeted and waits with music");
    let call = caller.call(cluster.service(3), "4008");
    assert!(call.answered(SOON), "{:?}", call.view());
    call.wait(SOON, |_| call.audio().hears(GREETING_HZ))
        .expect("the greeting is heard");
    call.wait(SOON, |_| call.audio().hears(MUSIC_HZ))
        .expect("the music is heard");
    eventually(SOON, "the caller is counted as waiting", || {
        let queues = api.list("/v1/queues")?;
        (queues.first()?["waiting"] == 1).then_some(())
    });

    println!("the agent signs in and misses the offer: the caller keeps its place");
    feature_code(&agent, cluster.service(0), "*11");
    let offer = agent.incoming(1, SOON).expect("the call is offered");
    wait_state(&api, "a1", "offered");
    offer.ended(SOON).expect("the offer ends after ring_s");
    assert_eq!(call.view().phase, Phase::Up, "the caller is still there");
    call.wait(SOON, |_| call.audio().hears(MUSIC_HZ))
        .expect("with music");

    println!("the next agent gets the caller and answers: bridged at once");
    feature_code(&second, cluster.service(1), "*11");
    let offer = second
        .incoming(1, SOON)
        .expect("offered to the other agent");
    offer.answer();
    offer
        .wait(SOON, |_| offer.audio().hears(440))
        .expect("the agent hears the caller");
    call.wait(SOON, |_| call.audio().hears(700))
        .expect("the caller hears the agent");
    wait_state(&api, "a2", "talking");
    call.hang_up();
    offer.ended(SOON).expect("the agent's leg ends too");
    wait_state(&api, "a2", "wrap_up");
    wait_state(&api, "a2", "ready");
    feature_code(&second, cluster.service(1), "*12");
    wait_state(&api, "a2", "signed_out");

    println!("pause, ready, sign out, by code and by command");
    feature_code(&agent, cluster.service(0), "*13");
    wait_state(&api, "a1", "paused");
    feature_code(&agent, cluster.service(0), "*14");
    wait_state(&api, "a1", "ready");
    for (verb, state) in [
        ("pause", "paused"),
        ("ready", "ready"),
        ("sign-out", "signed_out"),
        ("sign-in", "ready"),
    ] {
        let (code, _, err) = cluster.command(&["agent", verb, "a1"]);
        assert_eq!(code, 0, "agent {verb}: {err}");
        wait_state(&api, "a1", state);
    }
    feature_code(&agent, cluster.service(0), "*12");
    wait_state(&api, "a1", "signed_out");

    println!("a caller who gives up leaves cleanly");
    let call = caller.call(cluster.service(5), "4008");
    assert!(call.answered(SOON));
    call.wait(SOON, |_| call.audio().hears(MUSIC_HZ))
        .expect("the music is heard");
    call.hang_up();
    eventually(SOON, "the figures add up", || {
        let figures = api.get("/v1/figures").ok()?.json;
        let row = figures_of(&figures, "main")?;
        let value = |name: &str| row[name].as_u64().unwrap_or(u64::MAX);
        (value("offered") == 2
            && value("answered") == 1
            && value("abandoned") == 1
            && value("waiting") == 0)
            .then_some(())
    });
    let rows = api.cdrs().expect("the node answers");
    let queued: Vec<&Value> = rows.iter().filter(|row| !row["queue"].is_null()).collect();
    assert_eq!(queued.len(), 2, "{queued:#?}");
    assert!(cluster.panics().is_empty(), "{:#?}", cluster.panics());
}

/// The figures of one queue, from a list of rows or an object that holds one.
fn figures_of(figures: &Value, queue: &str) -> Option<Value> {
    let rows = figures
        .as_array()
        .or_else(|| figures["queues"].as_array())?;
    let fits = |row: &&Value| ["queue", "name"].iter().any(|key| row[*key] == queue);
    rows.iter().find(fits).cloned()
}

#[test]
fn a_crowd_is_served_in_order_and_counted_once() {
    let cluster = Cluster::start("crowd.toml");
    let api = cluster.api(1);
    let agents = Phone::at(
        "127.0.0.60:6060".parse().expect("an address"),
        "agents",
        "",
        620,
    );
    let talk = Some(Duration::from_millis(400));
    agents.set_policy(Policy::Answer {
        after: Duration::from_millis(50),
        talk,
    });
    eventually(SOON, "five agents are ready", || {
        let ready = api
            .list("/v1/agents")?
            .iter()
            .filter(|a| a["state"] == "ready")
            .count();
        (ready == 5).then_some(())
    });
    let counts = Sipp::new("call", "127.0.0.61:6061".parse().expect("an address"))
        .to(cluster.service(1), "4008")
        .rows((1..=CALLERS).map(|n| format!("c{n:04};0")))
        .calls(u32::try_from(CALLERS).expect("small"), 20)
        .timeout(Duration::from_secs(90))
        .run();
    assert_eq!(
        (counts.code, counts.successful, counts.failed),
        (0, 50, 0),
        "{counts:?}"
    );
    println!(
        "50 callers, 5 agents: every caller was served; {} retransmissions",
        counts.retransmissions
    );

    let served: Vec<String> = agents.calls().iter().map(|call| call.view().peer).collect();
    assert_eq!(
        served.iter().collect::<BTreeSet<_>>().len(),
        CALLERS,
        "each once: {served:?}"
    );
    assert_eq!(served.len(), CALLERS, "none twice: {served:?}");

    let mut rows = eventually(SOON, "there are 50 records", || {
        api.cdrs().filter(|rows| rows.len() >= CALLERS)
    });
    assert_eq!(rows.len(), CALLERS, "as many records as calls");
    assert!(
        rows.iter().all(|row| row["disposition"] == "answered"),
        "{rows:#?}"
    );
    let time = |row: &Value, name: &str| row[name].as_str().unwrap_or_default().to_owned();
    rows.sort_by_key(|row| time(row, "queued_at"));
    // Callers enter the queue 50 ms apart; the answer follows its offer by 50 ms and the
    // reaction of two processes, so neighbours may swap within that, but no more.
    let order: Vec<usize> = {
        let mut by_answer: Vec<(String, usize)> = rows
            .iter()
            .enumerate()
            .map(|(place, row)| (time(row, "answered_at"), place))
            .collect();
        by_answer.sort();
        by_answer.into_iter().map(|(_, place)| place).collect()
    };
    for (answered, &queued) in order.iter().enumerate() {
        assert!(
            answered.abs_diff(queued) < 5,
            "served out of order: {order:?}"
        );
    }
    println!("served in the order of arrival: {order:?}");

    eventually(SOON, "the last wrap-up is over and counted", || {
        let agents = api.list("/v1/agents")?;
        agents.iter().all(|a| a["state"] == "ready").then_some(())
    });
    let figures = figures_of(
        &api.get("/v1/figures").expect("the node answers").json,
        "main",
    )
    .expect("the queue has figures");
    let (code, out, err) = cluster.command(&["--output", "json", "figures"]);
    assert_eq!(code, 0, "{err}");
    let printed: Value = serde_json::from_str(&out).expect("valid JSON");
    let printed = figures_of(&printed, "main").expect("the queue has figures");
    for name in [
        "offered",
        "answered",
        "abandoned",
        "overflowed",
        "callback_taken",
        "node_lost",
    ] {
        let metric = format!("strowger_queue_{name}_total");
        let metric = api.metric(&metric, &[("queue", "main")]).unwrap_or(0.0);
        let wanted: u64 = if matches!(name, "offered" | "answered") {
            50
        } else {
            0
        };
        assert_eq!(
            figures[name].as_u64(),
            Some(wanted),
            "{name} by HTTP: {figures:#}"
        );
        assert_eq!(
            printed[name].as_u64(),
            Some(wanted),
            "{name} by command: {printed:#}"
        );
        assert!(
            (metric - wanted as f64).abs() < 0.5,
            "{name} in metrics: {metric}"
        );
    }
    println!("service level, waits and history are the same wherever they are read");
    let intervals = api
        .get("/v1/figures/intervals?by=quarter")
        .expect("the node answers")
        .json;
    let quarters = intervals.as_array().cloned().unwrap_or_default();
    for name in [
        "offered",
        "answered",
        "answered_in_target",
        "answered_wait_ms",
        "talk_ms",
        "wrap_ms",
        "offers",
        "missed",
    ] {
        let live = figures[name].as_u64();
        assert_eq!(printed[name].as_u64(), live, "{name} by command");
        let history: u64 = quarters.iter().filter_map(|row| row[name].as_u64()).sum();
        assert_eq!(Some(history), live, "{name} by quarters: {intervals:#}");
    }
    for name in [
        "sl_formula",
        "sl_permille",
        "asa_ms",
        "aht_ms",
        "wait_p90_ms",
    ] {
        assert!(!figures[name].is_null(), "{name}: {figures:#}");
        assert_eq!(printed[name], figures[name], "{name} by command");
    }
    let metric = |name: &str| api.metric(name, &[("queue", "main")]).unwrap_or(-1.0);
    let in_target = figures["answered_in_target"].as_u64().unwrap_or(0) as f64;
    assert!((metric("strowger_queue_answered_in_target_total") - in_target).abs() < 0.5);
    assert!((metric("strowger_queue_wait_seconds_count") - 50.0).abs() < 0.5);
    let waited = figures["answered_wait_ms"].as_u64().unwrap_or(0) as f64 / 1_000.0;
    assert!((metric("strowger_queue_wait_seconds_sum") - waited).abs() < 0.000_5);
    let agents = api.list("/v1/figures?of=agent").expect("the node answers");
    let by_agents: u64 = agents
        .iter()
        .filter_map(|row| row["answered"].as_u64())
        .sum();
    assert_eq!(by_agents, 50, "each answer is one agent's: {agents:#?}");
    let permille = figures["sl_permille"].as_u64().unwrap_or(0);
    let level = if permille == 1_000 {
        "SL-C 100%".to_owned()
    } else {
        format!("SL-C {}.{}%", permille / 10, permille % 10)
    };

    let mut command = cluster.client();
    command.arg("console");
    let mut console = Terminal::start(&command, 24, 80);
    let text = console.wait(SOON, |text| text.contains("50") && text.contains(&level));
    println!(
        "{}",
        text.unwrap_or_else(|| panic!("the console shows 50:\n{}", console.text()))
    );
    console.send("q");
    assert_eq!(console.ended(SOON), Some(0), "q ends the console");
    assert!(cluster.panics().is_empty(), "{:#?}", cluster.panics());
}
