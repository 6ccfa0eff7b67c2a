//! Callers whose INVITE carries no offer (RFC 3261 §13.2.1): the exchange offers in its answer,
//! and the ACK answers that.

use std::net::IpAddr;
use std::time::Duration;

use strowger_tests::cluster::{Cluster, GREETING_HZ, MUSIC_HZ};
use strowger_tests::phone::{Phone, Policy};

const SOON: Duration = Duration::from_secs(15);

/// So long an answer is repeated until the ACK comes (64 * T1): within it a next owner of the
/// call gets to know the caller's audio from another ACK.
const REPEATED: Duration = Duration::from_secs(33);

#[test]
fn a_caller_without_an_offer_talks_and_waits_and_goes_on_when_his_node_dies() {
    let mut cluster = Cluster::start("basic.toml");
    let victim = cluster.leader();
    let held = cluster.sip().iter();
    let mut held = held.filter(|address| cluster.holder(**address) == victim);
    let dying = *held.next().expect("every node holds an address");
    let at = |host: u8| IpAddr::from([127, 0, 0, host]);
    let phone =
        |host: u8, user: &str, hz: u32| Phone::new(at(host), user, &cluster.password(user), hz);
    let called = phone(87, "1002", 620);
    assert_eq!(called.register(dying, 600), Some(200));
    called.set_policy(Policy::Answer {
        after: Duration::ZERO,
        talk: None,
    });
    let caller = phone(88, "1001", 440);
    caller.offer_late();
    let talk = caller.call(dying, "1002");
    assert!(talk.answered(SOON), "{:?}", talk.view());
    let other = called.incoming(0, SOON).expect("it was answered there");
    let hear = |what: &str| {
        for (end, hz) in [(&talk, 620), (&other, 440)] {
            end.wait(SOON, |_| end.audio().hears(hz))
                .unwrap_or_else(|| panic!("{hz} Hz is heard {what}: {:?}", end.view()));
        }
    };
    hear("from the first");

    let waiting = phone(89, "1003", 500);
    waiting.offer_late();
    let wait = waiting.call(dying, "4008");
    assert!(wait.answered(SOON), "{:?}", wait.view());
    wait.wait(SOON, |_| wait.audio().hears(GREETING_HZ))
        .expect("he is greeted");
    wait.wait(SOON, |_| wait.audio().hears(MUSIC_HZ))
        .expect("then there is music");

    std::thread::sleep(REPEATED);
    for end in [&talk, &other, &wait] {
        end.audio().forget();
    }
    println!("node {victim} is killed");
    cluster.kill(victim);
    hear("after the death of its node");
    wait.wait(SOON, |_| wait.audio().hears(MUSIC_HZ))
        .expect("the music goes on");
    talk.hang_up();
    other.ended(SOON).expect("it is told");
    wait.hang_up();
}
