//! Phones that do not follow their call to another address at once, or not at all: each row of
//! the table of promises of `takeover = "reinvite"` in docs/operating.md.

use std::time::{Duration, Instant};

use serde_json::Value;
use strowger_tests::apart::site::passwords;
use strowger_tests::apart::{Apart, service};
use strowger_tests::phone::{Call, Changes, Phone};
use strowger_tests::poll::eventually;

use super::apart::{SOON, answers, hears, phone, site};

/// Who hears nothing at all is given up 64 * T1 after he was told.
const UNHEARD_MAX: Duration = Duration::from_secs(40);

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
