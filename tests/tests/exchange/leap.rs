//! The clock of a node leaps ahead by an hour while it leads.

use std::net::IpAddr;
use std::time::Duration;

use strowger_tests::clock::{Clock, Moment};
use strowger_tests::cluster::Cluster;
use strowger_tests::phone::Phone;
use strowger_tests::poll::eventually;

const SOON: Duration = Duration::from_secs(15);

/// A leap of the clock is half an hour at least, for whoever reads what it left.
const HALF_HOUR_S: u64 = 1_800;

#[test]
fn a_leader_whose_clock_leaps_hands_over_and_nothing_expires() {
    let mut clock = None;
    let cluster = Cluster::start_in("basic.toml", |folder| {
        let own = Clock::real(folder);
        let environment = own.environment().to_vec();
        clock = Some(own);
        environment
    });
    let clock = clock.expect("made while starting");
    let at = |host: u8| IpAddr::from([127, 0, 0, host]);
    let called = Phone::new(at(85), "1002", &cluster.password("1002"), 620);
    assert_eq!(called.register(cluster.service(1), 120), Some(200));
    let caller = Phone::new(at(86), "1001", &cluster.password("1001"), 440);
    let talk = caller.call(cluster.service(0), "1002");
    let ring = called.incoming(0, SOON).expect("it rings");
    ring.answer();
    assert!(talk.answered(SOON), "{:?}", talk.view());

    let leader = cluster.leader();
    println!("the clock of node {leader}, which leads, leaps ahead by an hour");
    clock.leap(cluster.pid(leader));
    let heir = eventually(SOON, "another node leads", || {
        let heir = cluster.leader();
        (heir != leader).then_some(heir)
    });
    let told = cluster.log(leader);
    let alarm = told.iter().any(|line| line.to_string().contains("SW0405"));
    assert!(alarm, "an alarm tells of the clock");
    let api = cluster.api(heir);
    let registered = api.list("/v1/registrations").expect("a node answers");
    assert_eq!(
        registered.len(),
        1,
        "it has an hour less two minutes: {registered:?}"
    );
    assert!(talk.view().ended.is_none(), "{:?}", talk.view());
    talk.hang_up();
    ring.ended(SOON).expect("it is told");
    let record = eventually(SOON, "the record is there", || api.cdrs()?.pop());
    let ended = record["ended_at"].as_str().expect("a moment");
    let late = Moment::real().plus(HALF_HOUR_S).text();
    assert!(ended < late.as_str(), "{record}");

    let again = caller.call(cluster.service(0), "1002");
    let ring = called.incoming(1, SOON);
    let ring = ring.unwrap_or_else(|| panic!("it rings again: {:?}", again.view()));
    ring.answer();
    assert!(again.answered(SOON), "{:?}", again.view());
    again.hang_up();
    ring.ended(SOON).expect("it is told");
}
