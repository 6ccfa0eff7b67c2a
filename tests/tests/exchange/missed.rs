//! An agent who lets offers ring out: paused with the number missed, an alarm for supervisors
//! wherever they look, back with one key or command; callers keep their places.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde_json::Value;
use strowger_tests::cluster::{Cluster, MUSIC_HZ};
use strowger_tests::phone::{Call, Phone};
use strowger_tests::poll::eventually;
use strowger_tests::terminal::Terminal;

const SOON: Duration = Duration::from_secs(15);
const CODE: &str = "SW0612";
/// How long a caller is not offered again to who missed him, and one offer: after that
/// nobody rings a paused agent any more.
const QUIET: Duration = Duration::from_secs(8);

/// Offers ring two seconds; two missed in a row are enough.
fn start() -> Cluster {
    Cluster::start_with("basic.toml", |folder| {
        let file = folder.join("basic.toml");
        let text = std::fs::read_to_string(&file).expect("the site is there");
        let text = text
            .replacen("ring_s = 3", "ring_s = 2", 1)
            .replacen("missed_max = 3", "missed_max = 2", 1)
            .replacen("wrap_s = 2", "wrap_s = 0", 1);
        std::fs::write(&file, text).expect("the folder is ours");
    })
}

fn phone(cluster: &Cluster, last: u8, user: &str, hz: u32) -> Phone {
    let address = IpAddr::from([127, 0, 0, last]);
    let phone = Phone::new(address, user, &cluster.password(user), hz);
    assert_eq!(phone.register(cluster.service(last.into()), 600), Some(200));
    phone
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

/// Dials a feature code and waits for its confirmation and the exchange's BYE.
fn feature_code(phone: &Phone, server: SocketAddr, code: &str) {
    let call = phone.call(server, code);
    assert!(call.answered(SOON), "{code}: {:?}", call.view());
    call.ended(SOON).expect("the exchange hangs up");
}

/// A caller who waits with music.
fn wait_in_queue(cluster: &Cluster, phone: &Phone, at: usize) -> Call {
    let call = phone.call(cluster.service(at), "4008");
    assert!(call.answered(SOON), "{:?}", call.view());
    call.wait(SOON, |_| call.audio().hears(MUSIC_HZ))
        .expect("the caller hears music");
    call
}

fn places(cluster: &Cluster) -> Vec<(String, u64)> {
    let calls = cluster.any_api().list("/v1/calls").unwrap_or_default();
    let mut places: Vec<(String, u64)> = calls
        .iter()
        .filter_map(|call| {
            Some((
                call["from"].as_str()?.to_owned(),
                call["position"].as_u64()?,
            ))
        })
        .collect();
    places.sort_by_key(|(_, place)| *place);
    places
}

/// The alarms as the interface tells them.
fn alarms(cluster: &Cluster) -> Option<Vec<Value>> {
    let overview = cluster.any_api().get("/v1/overview").ok()?.json;
    let alarms = overview["alarms"].as_array()?;
    Some(
        alarms
            .iter()
            .filter(|alarm| alarm["code"] == CODE)
            .cloned()
            .collect(),
    )
}

/// The alarm is nowhere any more, and the cluster in good health.
fn is_quiet(cluster: &Cluster) {
    eventually(SOON, "the alarm is over", || {
        alarms(cluster)?.is_empty().then_some(())
    });
    eventually(SOON, "the cluster is in good health", || {
        let (code, out, _) = cluster.command(&["doctor"]);
        assert!(!out.contains(CODE), "{out}");
        (code == 0).then_some(())
    });
}

/// The alarm names the agent, over HTTP and in what the command line checks.
fn is_alarmed(cluster: &Cluster) {
    let all = eventually(SOON, "there is an alarm", || {
        alarms(cluster).filter(|all| !all.is_empty())
    });
    assert_eq!(all.len(), 1, "{all:#?}");
    let what = all[0]["what"].as_str().unwrap_or_default();
    assert!(what.contains("a1") && what.contains("missed 2"), "{what}");
    let (code, out, _) = cluster.command(&["doctor"]);
    assert_ne!(code, 0, "an alarm is no good health");
    assert!(out.contains(CODE) && out.contains("missed 2"), "{out}");
}

/// Two callers of whom the first is X; the agent lets both ring out.
fn miss_two(agent_phone: &Phone, from: usize) -> Vec<String> {
    (from..from + 2)
        .map(|n| {
            let offer = agent_phone.incoming(n, SOON).expect("a call is offered");
            let view = offer.ended(SOON).expect("it rings out");
            assert!(view.ended_by_peer, "{view:?}");
            view.peer
        })
        .collect()
}

#[test]
fn an_agent_who_misses_offers_is_paused_with_an_alarm_and_comes_back_by_one_key() {
    let mut cluster = start();
    let first = phone(&cluster, 2, "1001", 620);
    let second = phone(&cluster, 3, "1002", 700);
    let x = Phone::new(IpAddr::from([127, 0, 0, 84]), "5550010", "", 440);
    let y = Phone::new(IpAddr::from([127, 0, 0, 85]), "5550020", "", 520);
    let mut events = cluster.any_api().events("").expect("the stream opens");
    let console = {
        let mut command = cluster.client();
        command.arg("console");
        Terminal::start(&command, 24, 80)
    };

    println!("both callers ring out at the only agent, who is paused then");
    let x_call = wait_in_queue(&cluster, &x, 1);
    let y_call = wait_in_queue(&cluster, &y, 4);
    let standing = [("5550010".to_owned(), 1), ("5550020".to_owned(), 2)];
    command(&cluster, &["agent", "sign-in", "a1"]);
    let missed = miss_two(&first, 0);
    assert_eq!(
        missed,
        ["5550010", "5550020"],
        "who was missed is passed over for the other"
    );
    let shown = wait_state(&cluster, "a1", "paused");
    assert_eq!(shown["reason"], "missed 2", "{shown:#}");
    assert_eq!(places(&cluster), standing, "the callers keep their places");
    for call in [&x_call, &y_call] {
        call.audio().forget();
        call.wait(SOON, |_| call.audio().hears(MUSIC_HZ))
            .expect("the caller hears music still");
    }

    println!("supervisors are told: over HTTP, on the console, by the command line, by event");
    is_alarmed(&cluster);
    let text = console.wait(SOON, |text| {
        text.contains(CODE) && text.contains("missed 2")
    });
    println!(
        "{}",
        text.unwrap_or_else(|| panic!("the console:\n{}", console.text()))
    );
    let event = eventually(SOON, "there is an event", || {
        while let Ok(Some(event)) = events.poll() {
            if event["type"] == "agent.missed" {
                return Some(event);
            }
        }
        None
    });
    assert_eq!(
        (&event["entity"], &event["missed"]),
        (&"a1".into(), &2.into()),
        "{event:#}"
    );

    println!("the leader dies: pause, alarm and places stand");
    let leader = cluster.leader();
    cluster.kill(leader);
    let shown = wait_state(&cluster, "a1", "paused");
    assert_eq!(shown["reason"], "missed 2", "{shown:#}");
    eventually(SOON, "there is the alarm of the agent", || {
        (alarms(&cluster)?.len() == 1).then_some(())
    });
    assert_eq!(places(&cluster), standing, "the callers keep their places");
    let rung = first.calls().len();
    std::thread::sleep(QUIET);
    assert_eq!(first.calls().len(), rung, "nobody rings a paused agent");
    cluster.restart(leader);

    println!("one key at the phone, and the agent is offered the first caller again");
    feature_code(&first, cluster.service(2), "*14");
    let offer = first.incoming(rung + 1, SOON).expect("offered again");
    assert_eq!(offer.view().peer, "5550010", "at his old place");
    is_quiet(&cluster);

    println!("missed once more: he is offered to another, and not to the first again");
    command(&cluster, &["agent", "sign-in", "a2"]);
    let to_second = second
        .incoming(0, SOON)
        .expect("offered to the other agent");
    // The second agent came free for the one who stood next; the first caller follows.
    offer.ended(SOON).expect("it rings out");
    to_second.answer();
    to_second
        .wait(SOON, |_| to_second.audio().hears(520))
        .expect("the second agent talks with the second caller");
    to_second.hang_up();
    y_call.ended(SOON).expect("that call is over");
    let to_second = second
        .incoming(1, SOON)
        .expect("the first caller comes to the second agent");
    assert_eq!(to_second.view().peer, "5550010");
    assert_eq!(
        first.calls().len(),
        rung + 2,
        "who missed him is passed over"
    );
    to_second.answer();
    x_call
        .wait(SOON, |_| x_call.audio().hears(700))
        .expect("the first caller talks with the second agent");
    to_second.hang_up();
    x_call.ended(SOON).expect("that call is over");
    command(&cluster, &["agent", "sign-out", "a2"]);

    println!("missed again until paused, and back by command");
    let before = first.calls().len();
    let again = [&x, &y].map(|phone| wait_in_queue(&cluster, phone, 3));
    // One offer was missed in a row already.
    let offer = first.incoming(before, SOON).expect("a call is offered");
    offer.ended(SOON).expect("it rings out");
    wait_state(&cluster, "a1", "paused");
    is_alarmed(&cluster);
    command(&cluster, &["agent", "ready", "a1"]);
    let offer = first.incoming(before + 1, SOON).expect("offered again");
    is_quiet(&cluster);
    offer.answer();
    let served = again.iter().find(|call| {
        call.wait(Duration::from_secs(3), |_| call.audio().hears(620))
            .is_some()
    });
    assert!(served.is_some(), "a caller talks with the agent");
    again.iter().for_each(Call::hang_up);
    let figures = cluster
        .any_api()
        .list("/v1/figures")
        .expect("a node answers");
    assert_eq!(figures[0]["missed"], 4, "{:#}", figures[0]);
    assert!(cluster.panics().is_empty(), "{:#?}", cluster.panics());
}
