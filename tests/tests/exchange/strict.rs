//! Phones that do not follow their call to another address at once, or not at all: each row of
//! the table of promises of `takeover = "reinvite"` in docs/operating.md.

use std::time::{Duration, Instant};

use serde_json::Value;
use strowger_tests::apart::site::passwords;
use strowger_tests::apart::{Apart, service};
use strowger_tests::cluster::node_number;
use strowger_tests::phone::{Call, Changes, Phone};
use strowger_tests::poll::eventually;

use super::apart::{SOON, answers, hears, phone, site};

/// Who hears nothing at all is given up 64 * T1 after he was told.
const UNHEARD_MAX: Duration = Duration::from_secs(40);

/// How long a phone takes over an offer: longer than a dead node is missed.
const SLOW: Duration = Duration::from_secs(4);

/// A call to one of them.
struct Talk {
    number: String,
    phone: Phone,
    /// Caller and called.
    ends: [Call; 2],
}

/// The call leaves one record.
fn one_record(cluster: &Apart, number: &str) {
    let own = |row: &Value| row["to"] == number;
    let rows = eventually(SOON, &format!("{number} has its record"), || {
        let rows: Vec<Value> = cluster.any_api().cdrs()?.into_iter().filter(own).collect();
        (!rows.is_empty()).then_some(rows)
    });
    assert_eq!(rows.len(), 1, "{rows:#?}");
    assert_eq!(rows[0]["disposition"], "answered", "{rows:#?}");
}

#[test]
fn phones_that_do_not_follow_are_asked_again_or_their_calls_end_with_a_reason() {
    let Some(mut cluster) = Apart::start(site().text(), &passwords()) else {
        return;
    };
    let victim = cluster.leader();
    let (dying, living) = (service(victim), service(victim % 3 + 1));
    let caller = phone(living, "1001", 440);
    let kinds = [
        ("1002", Changes::Refused(491, 3)),
        ("1003", Changes::Refused(500, 2)),
        ("1004", Changes::Refused(403, 1)),
        ("1005", Changes::Refused(488, 1)),
        ("1006", Changes::Refused(481, 1)),
        ("1007", Changes::Unheard),
    ];
    let talks = kinds.map(|(number, changes)| {
        let called = phone(living, number, 620);
        answers(&called);
        called.set_changes(changes);
        let call = caller.call(dying, number);
        assert!(call.answered(SOON), "{number}: {:?}", call.view());
        let other = called.incoming(0, SOON).expect("it was answered there");
        hears(&call, 620, number);
        hears(&other, 440, number);
        Talk {
            number: number.to_owned(),
            phone: called,
            ends: [call, other],
        }
    });

    println!("node {victim} is killed; none of the others can have its address");
    for end in talks.iter().flat_map(|talk| &talk.ends) {
        end.audio().forget();
    }
    let killed_at: Instant = cluster.kill(victim);
    let [changing, failing, forbidding, unable, forgetful, behind] = &talks;

    for (talk, status) in [(forbidding, 403), (unable, 488)] {
        for end in &talk.ends {
            let view = end.ended(SOON).expect("the call ends at both ends");
            assert!(view.ended_by_peer, "{view:?}");
        }
        one_record(&cluster, &talk.number);
        let logged = cluster.numbers().any(|number| {
            let mut lines = cluster.log(number).into_iter();
            lines.any(|line| {
                line["fields"]["code"] == "SW0303" && line["fields"]["status"] == status
            })
        });
        assert!(logged, "SW0303 names {status}");
        println!(
            "{} refused with {status}: ended, and the log says so",
            talk.number
        );
    }
    let told = forgetful.ends[0].ended(SOON).expect("the caller is told");
    assert!(told.ended_by_peer, "{told:?}");
    one_record(&cluster, &forgetful.number);
    println!("{} knew its call no more: ended", forgetful.number);

    for (talk, refusals) in [(changing, 3), (failing, 2)] {
        for (end, hz) in talk.ends.iter().zip([620, 440]) {
            hears(end, hz, &talk.number);
        }
        let seen = talk.phone.changes_seen();
        assert!(seen > refusals, "{}: {seen} changes", talk.number);
        println!(
            "{} was told {seen} times and talks on after {} ms",
            talk.number,
            killed_at.elapsed().as_millis()
        );
    }
    assert_eq!(changing.ends[1].hold(), Some(200), "hold works");
    assert_eq!(changing.ends[1].resume(), Some(200), "and resume");
    for talk in [changing, failing] {
        talk.ends[1].hang_up();
        talk.ends[0].ended(SOON).expect("the caller is told");
        one_record(&cluster, &talk.number);
    }

    let told = behind.ends[0]
        .ended(UNHEARD_MAX)
        .expect("the caller of who cannot be reached is told");
    assert!(told.ended_by_peer, "{told:?}");
    one_record(&cluster, &behind.number);
    println!(
        "{} was never reached: ended {} s after the kill",
        behind.number,
        killed_at.elapsed().as_secs()
    );
    assert!(cluster.panics().is_empty(), "{:#?}", cluster.panics());
}

#[test]
fn a_phone_still_busy_with_the_offer_of_a_dead_node_is_asked_again() {
    let Some(mut cluster) = Apart::start(site().text(), &passwords()) else {
        return;
    };
    let caller = phone(service(1), "1001", 440);
    let called = phone(service(1), "1002", 620);
    answers(&called);
    called.set_changes(Changes::Slow(SLOW));
    let call = caller.call(service(1), "1002");
    assert!(call.answered(SOON), "{:?}", call.view());
    let other = called.incoming(0, SOON).expect("it was answered there");
    let ends = [(&call, 620), (&other, 440)];
    for (end, hz) in ends {
        hears(end, hz, "before");
    }

    let drained = cluster.id(1).to_string();
    let (code, _, err) = cluster.command(&["node", "drain", &drained, "--within-s", "0"]);
    assert!(code == 0 || err.contains("SW0913"), "{err}");
    let holder = eventually(SOON, "another node has the call, and says so", || {
        let calls = cluster.any_api().list("/v1/calls")?;
        let holder = node_number(&calls.first()?["node"])?;
        (holder != cluster.id(1) && called.changes_seen() == 1).then_some(holder)
    });
    let victim = cluster.machine(holder).expect("one of them");
    println!("node {victim} is killed while its offer waits for an answer");
    let killed_at = cluster.kill(victim);
    eventually(SOON, "the next offer comes too early", || {
        (called.changes_seen() > 1 && killed_at.elapsed() < SLOW).then_some(())
    });
    for (end, _) in ends {
        end.audio().forget();
    }
    for (end, hz) in ends {
        hears(end, hz, "after");
    }
    println!(
        "both hear each other after {} ms and {} offers",
        killed_at.elapsed().as_millis(),
        called.changes_seen()
    );
    called.set_changes(Changes::Taken);
    for (end, _) in ends {
        assert_eq!(end.hold(), Some(200), "hold works");
        assert_eq!(end.resume(), Some(200), "and resume");
    }
    other.hang_up();
    call.ended(SOON).expect("the caller is told");
    one_record(&cluster, "1002");
    assert!(cluster.panics().is_empty(), "{:#?}", cluster.panics());
}
