//! A node dies: its calls go on at the new holders of its addresses, with their audio, places
//! and records; everything else does not even notice.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use strowger_tests::api::Api;
use strowger_tests::cluster::{Cluster, GREETING_HZ, MUSIC_HZ, node_number};
use strowger_tests::phone::{Call, Phone, Policy};
use strowger_tests::poll::{eventually, within_time};
use strowger_tests::sipp::Sipp;

const SOON: Duration = Duration::from_secs(15);
/// New calls to every service address succeed this long after a kill on an idle machine.
const OUTAGE_MAX: Duration = Duration::from_secs(1);
/// The same where other programs use the processors as well.
const OUTAGE_BUSY_MAX: Duration = Duration::from_secs(4);
/// How long audio is watched across a kill.
const WATCH: Duration = Duration::from_secs(4);

/// A pair of phones in a call by way of one node.
struct Pair {
    node: u64,
    number: String,
    call: Call,
    other: Call,
    phones: (Phone, Phone),
}

/// A caller who waits in the queue, by way of one node.
struct Waiting {
    number: String,
    call: Call,
    _phone: Phone,
}

fn local(last: u8) -> IpAddr {
    IpAddr::from([127, 0, 0, last])
}

/// The service addresses, with the node that holds each.
fn holders(cluster: &Cluster) -> BTreeMap<SocketAddr, u64> {
    cluster
        .sip()
        .iter()
        .map(|&address| (address, cluster.holder(address)))
        .collect()
}

fn addresses_of(holders: &BTreeMap<SocketAddr, u64>, node: u64) -> Vec<SocketAddr> {
    holders
        .iter()
        .filter(|(_, holder)| **holder == node)
        .map(|(address, _)| *address)
        .collect()
}

/// Phones for extensions 1010 + 2n and 1011 + 2n, in a call by way of `node`.
fn pair(cluster: &Cluster, holders: &BTreeMap<SocketAddr, u64>, node: u64, n: u32) -> Pair {
    let server = *addresses_of(holders, node)
        .first()
        .expect("every node holds an address");
    let users = [1_008 + 2 * n, 1_009 + 2 * n].map(|user| user.to_string());
    let phone = |user: &str, hz| {
        let phone = Phone::new(local(76), user, &cluster.password(user), hz);
        assert_eq!(phone.register(server, 600), Some(200), "{user} at {server}");
        phone
    };
    let (a, b) = (phone(&users[0], 440), phone(&users[1], 620));
    b.set_policy(Policy::Answer {
        after: Duration::ZERO,
        talk: None,
    });
    let call = a.call(server, &users[1]);
    assert!(
        call.answered(SOON),
        "{} calls {}: {:?}",
        users[0],
        users[1],
        call.view()
    );
    let other = b.incoming(0, SOON).expect("it was answered there");
    call.wait(SOON, |_| call.audio().hears(620))
        .expect("the caller hears the called");
    other
        .wait(SOON, |_| other.audio().hears(440))
        .expect("the called hears the caller");
    Pair {
        node,
        number: users[0].clone(),
        call,
        other,
        phones: (a, b),
    }
}

/// A caller in the queue by way of `node`.
fn waiting(holders: &BTreeMap<SocketAddr, u64>, node: u64, n: u32) -> Waiting {
    let server = *addresses_of(holders, node)
        .last()
        .expect("every node holds an address");
    let number = format!("555{node}{n:03}");
    let phone = Phone::new(local(77), &number, "", 440);
    let call = phone.call(server, "4008");
    assert!(
        call.answered(SOON),
        "{number} at {server}: {:?}",
        call.view()
    );
    Waiting {
        number,
        call,
        _phone: phone,
    }
}

/// The numbers of the waiting callers, in the order of their positions.
fn queue_order(api: &Api) -> Option<Vec<String>> {
    let calls = api.list("/v1/calls")?;
    let mut queued: Vec<(u64, String)> = calls
        .iter()
        .filter_map(|call| {
            Some((
                call["position"].as_u64()?,
                call["from"].as_str()?.to_owned(),
            ))
        })
        .collect();
    queued.sort();
    Some(queued.into_iter().map(|(_, from)| from).collect())
}

fn order_of(order: &[String], wanted: &[String]) -> Vec<String> {
    order
        .iter()
        .filter_map(|from| wanted.iter().find(|number| from.contains(number.as_str())))
        .cloned()
        .collect()
}

/// How long after the kill each service address took a new call.
fn outages(cluster: &Cluster, killed_at: Instant) -> Vec<(SocketAddr, Duration)> {
    let mut threads = Vec::new();
    for (index, &address) in cluster.sip().iter().enumerate() {
        threads.push(std::thread::spawn(move || {
            let number = format!("556{index:04}");
            let phone = Phone::new(local(78), &number, "", 440);
            // An impatient caller: dials anew every 200 ms until one call is answered.
            let mut calls: Vec<Call> = Vec::new();
            let answered = within_time(SOON, || {
                if calls
                    .last()
                    .is_none_or(|c| c.view().began.elapsed() >= Duration::from_millis(200))
                {
                    calls.push(phone.call(address, "4008"));
                }
                calls.iter().filter_map(|call| call.view().answered).min()
            });
            for call in &calls {
                call.hang_up();
            }
            // Late answers to the other attempts are hung up as well.
            within_time(Duration::from_secs(3), || {
                calls.iter().for_each(Call::hang_up);
                calls
                    .iter()
                    .all(|call| call.view().ended.is_some())
                    .then_some(())
            });
            (
                address,
                answered.map_or(SOON, |at| at.saturating_duration_since(killed_at)),
            )
        }));
    }
    threads
        .into_iter()
        .map(|thread| thread.join().expect("it asserts nothing"))
        .collect()
}

fn outage_limit() -> Duration {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: f64 = load
        .split(' ')
        .next()
        .and_then(|text| text.parse().ok())
        .unwrap_or(9.0);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    if load < cores as f64 / 2.0 {
        OUTAGE_MAX
    } else {
        OUTAGE_BUSY_MAX
    }
}

/// Kills one node under load, checks every promise, and starts it again.
fn kill_and_check(cluster: &mut Cluster, victim: u64, round: usize) {
    let limit = outage_limit();
    let held = holders(cluster);
    let leads = cluster.leader() == victim;
    println!(
        "killing node {victim}{}",
        if leads { ", the leader" } else { "" }
    );
    for address in addresses_of(&held, victim) {
        register_over_tcp(cluster, address);
    }
    let pairs: Vec<Pair> = (1..=3)
        .map(|n| pair(cluster, &held, u64::from(n), n))
        .collect();
    // One after the other, so that their order in the queue is the order of this list.
    let callers: Vec<Waiting> = (0..2)
        .flat_map(|n| (1..=3).map(move |node| (node, n)))
        .map(|(node, n)| waiting(&held, node, n))
        .collect();
    let all: Vec<String> = callers.iter().map(|caller| caller.number.clone()).collect();
    let survivor_api = cluster.api(if victim == 1 { 2 } else { 1 });
    eventually(SOON, "all callers wait in order", || {
        (order_of(&queue_order(&survivor_api)?, &all) == all).then_some(())
    });
    for pair in &pairs {
        pair.call.audio().reset();
        pair.other.audio().reset();
    }

    let killed_at = cluster.kill(victim);
    let outages = outages(cluster, killed_at);
    for (address, outage) in &outages {
        println!(
            "  {address} took a new call {} ms after the kill",
            outage.as_millis()
        );
    }
    let worst = outages
        .iter()
        .map(|(_, outage)| *outage)
        .max()
        .expect("six addresses");
    assert!(
        worst <= limit,
        "an address was out for {worst:?}, allowed {limit:?}"
    );

    check_audio(&pairs, victim, killed_at);
    check_taken_over(&pairs, victim);
    let order = order_of(
        &queue_order(&survivor_api).expect("a survivor answers"),
        &all,
    );
    assert_eq!(order, all, "waiting callers keep their order");
    for caller in &callers {
        let ended = caller.call.view().ended.is_some();
        assert!(!ended, "{} was cut off", caller.number);
        // They had heard the greeting before the kill, and do not hear it again.
        assert!(!caller.call.audio().hears(GREETING_HZ));
        caller.call.audio().forget();
        caller
            .call
            .wait(SOON, |_| caller.call.audio().hears(MUSIC_HZ))
            .unwrap_or_else(|| panic!("{} hears no music", caller.number));
    }
    println!(
        "  all {} waiting callers kept their order and hear music",
        callers.len()
    );
    check_registrations(cluster, &survivor_api, &pairs);
    let lost = addresses_of(&held, victim);
    for address in &lost {
        register_over_tcp(cluster, *address);
    }
    println!("  phones over TCP reconnect and register at {lost:?}");

    for pair in &pairs {
        pair.call.hang_up();
        for phone in [&pair.phones.0, &pair.phones.1] {
            assert_eq!(
                phone.register(cluster.service(0), 0),
                Some(200),
                "unregisters"
            );
        }
    }
    for caller in &callers {
        caller.call.hang_up();
    }
    eventually(SOON, "the queue is empty again", || {
        queue_order(&survivor_api)?.is_empty().then_some(())
    });
    check_records(&survivor_api, &pairs, &callers, round);
    cluster.restart(victim);
    rejoin(cluster, victim);
}

/// Calls by way of the survivors lost no packet.
fn check_audio(pairs: &[Pair], victim: u64, killed_at: Instant) {
    // Watching takes its time: losses shortly after the kill must be seen.
    std::thread::sleep(WATCH.saturating_sub(killed_at.elapsed()));
    for pair in pairs.iter().filter(|pair| pair.node != victim) {
        let both = [
            ("caller", &pair.call, &pair.other),
            ("called", &pair.other, &pair.call),
        ];
        for (end, call, far) in both {
            let sent = far.audio().counts().sent;
            let counts = call.audio().counts();
            println!(
                "  node {}: the {end} received {} of {sent} packets, lost {}, longest gap {} ms",
                pair.node,
                counts.received,
                counts.lost,
                counts.gap_max.as_millis()
            );
            assert_eq!(counts.lost, 0, "{} lost packets: {counts:?}", pair.number);
            assert_eq!(counts.source_changes, 0, "{}: {counts:?}", pair.number);
            // Both ends were not reset in the same instant, and packets are under way.
            assert!(
                counts.received + 10 >= sent,
                "{} of {sent}",
                counts.received
            );
        }
    }
}

/// Calls that were anchored on the dead node go on: both ends hear each other, and can hold
/// and resume.
fn check_taken_over(pairs: &[Pair], victim: u64) {
    for pair in pairs.iter().filter(|pair| pair.node == victim) {
        let ends = [("caller", &pair.call, 620), ("called", &pair.other, 440)];
        for (end, call, hz) in ends {
            let counts = call.audio().counts();
            println!(
                "  node {victim}, dead: the {end} heard nothing for {} ms",
                counts.gap_max.as_millis()
            );
            call.audio().forget();
            call.wait(SOON, |_| call.audio().hears(hz))
                .unwrap_or_else(|| panic!("the {end} of {} hears nothing", pair.number));
            assert!(call.view().ended.is_none(), "{}", pair.number);
        }
        assert_eq!(pair.call.hold(), Some(200), "the caller holds");
        assert_eq!(pair.call.resume(), Some(200), "the caller resumes");
        assert_eq!(pair.other.hold(), Some(200), "the called holds");
        assert_eq!(pair.other.resume(), Some(200), "the called resumes");
        for (end, call, hz) in ends {
            call.audio().forget();
            call.wait(SOON, |_| call.audio().hears(hz))
                .unwrap_or_else(|| panic!("the {end} hears nothing after the hold"));
        }
    }
}

/// Every call of this round and those before has one record, wherever it ended.
fn check_records(api: &Api, pairs: &[Pair], callers: &[Waiting], round: usize) {
    let talked = pairs.iter().map(|pair| (&pair.number, "answered"));
    let waited = callers.iter().map(|caller| (&caller.number, "abandoned"));
    for (number, disposition) in talked.chain(waited) {
        let rows: Vec<Value> = eventually(SOON, &format!("{number} has its record"), || {
            let rows = api.cdrs()?;
            let own: Vec<Value> = rows
                .into_iter()
                .filter(|row| {
                    row["from"]
                        .as_str()
                        .is_some_and(|from| from.contains(number.as_str()))
                })
                .filter(|row| row["disposition"] == disposition)
                .collect();
            (own.len() >= round).then_some(own)
        });
        assert_eq!(rows.len(), round, "{number}: {rows:#?}");
    }
    println!("  one record for each call");
}

/// Every phone registered before is registered still, and can be called.
fn check_registrations(cluster: &Cluster, api: &Api, pairs: &[Pair]) {
    let rows = api.list("/v1/registrations").expect("a survivor answers");
    for pair in pairs {
        let found = rows.iter().any(|row| {
            row["extension"]
                .as_str()
                .is_some_and(|extension| extension.contains(&pair.number))
        });
        assert!(found, "{} is registered no more: {rows:#?}", pair.number);
    }
    let caller = Phone::new(local(79), "1020", &cluster.password("1020"), 700);
    for pair in pairs {
        let phone = &pair.phones.0;
        let before = phone.calls().len();
        phone.set_policy(Policy::Answer {
            after: Duration::ZERO,
            talk: None,
        });
        let call = caller.call(cluster.service(0), &pair.number);
        assert!(
            call.answered(SOON),
            "{} cannot be called: {:?}",
            pair.number,
            call.view()
        );
        phone.incoming(before, SOON).expect("it was answered there");
        call.hang_up();
    }
    println!(
        "  all {} registrations survive and can be called",
        pairs.len()
    );
}

/// A phone connects over TCP and registers, as one does whose connection broke.
fn register_over_tcp(cluster: &Cluster, address: SocketAddr) {
    // A new connection comes from a new port; the old one's pair of ports may rest for long.
    static PORT: AtomicU16 = AtomicU16::new(6_200);
    let port = PORT.fetch_add(1, Ordering::Relaxed);
    // An extension has so many contacts at most; the registrations here take turns.
    let user = (1_001 + port % 7).to_string();
    let secret = cluster.password(&user);
    let counts = Sipp::new("register", (local(80), port).into())
        .tcp()
        .to(address, "0")
        .rows([format!(
            "{user};[authentication username={user} password={secret}]"
        )])
        .timeout(Duration::from_secs(10))
        .run();
    assert_eq!(
        (counts.code, counts.successful),
        (0, 1),
        "{address}: {counts:?}"
    );
}

/// The node serves again with the same state as the others.
fn rejoin(cluster: &Cluster, number: u64) {
    let began = Instant::now();
    eventually(
        Duration::from_secs(30),
        "the killed node catches up",
        || {
            let nodes = cluster.api(number).list("/v1/nodes")?;
            let own = nodes
                .iter()
                .find(|node| node_number(&node["id"]) == Some(number))?;
            let role = own["role"].as_str()?;
            let caught_up = own["state"] == "up" && role != "learner" && own["lag"].as_u64()? <= 2;
            caught_up.then_some(())
        },
    );
    eventually(
        Duration::from_secs(30),
        "every node holds an address again",
        || {
            let held = holders(cluster);
            (1..=3)
                .all(|node| held.values().any(|holder| *holder == node))
                .then_some(())
        },
    );
    println!(
        "  node {number} rejoined and caught up in {} ms",
        began.elapsed().as_millis()
    );
}

#[test]
fn each_node_in_turn_dies_under_load() {
    let mut cluster = Cluster::start("basic.toml");
    let leader = cluster.leader();
    let others = (1..=3).filter(|&node| node != leader);
    for (victim, round) in std::iter::once(leader).chain(others).zip(1..) {
        kill_and_check(&mut cluster, victim, round);
    }
    assert!(cluster.panics().is_empty(), "{:#?}", cluster.panics());
}

#[test]
fn the_demo_ends_in_time_and_resumes_where_it_was() {
    let mut cluster = Cluster::start("basic.toml");
    let phone = Phone::new(local(79), "1003", &cluster.password("1003"), 440);
    assert_eq!(phone.register(cluster.service(0), 600), Some(200));
    let (code, took) = cluster.stop();
    assert_eq!(code, Some(0), "SIGTERM ends the demo with 0");
    assert!(took <= Duration::from_secs(10), "it took {took:?}");
    for api in cluster.apis() {
        assert!(
            api.get("/health/live").is_err(),
            "{} still answers",
            api.base()
        );
    }
}
