//! Opening hours at a real phone: a number closed by hand tells its callers so and hangs up,
//! and opens again; and by the week and the holidays of a site, without anybody's doing.

use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use strowger_tests::api::Api;
use strowger_tests::clock::{Clock, Moment};
use strowger_tests::cluster::{Cluster, MUSIC_HZ};
use strowger_tests::phone::Phone;
use strowger_tests::poll::eventually;
use strowger_tests::tone;

const SOON: Duration = Duration::from_secs(15);

#[test]
fn a_closed_number_says_so_and_hangs_up_until_it_opens_again() {
    let cluster = Cluster::start_with("basic.toml", |folder| {
        let file = folder.join("basic.toml");
        let text = std::fs::read_to_string(&file).expect("the site is there");
        let number = "number = \"4008\"\n";
        let text = text.replacen(number, &format!("{number}hours = \"office\"\n"), 1);
        let days = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
        let week = days
            .map(|day| format!("{day} = \"00:00-24:00\"\n"))
            .concat();
        let hours = format!("\n[[hours]]\nname = \"office\"\ntimezone = \"Asia/Shanghai\"\n{week}");
        std::fs::write(&file, text + &hours).expect("the folder is ours");
    });
    let api = cluster.any_api();
    let state = |wanted: &str| {
        eventually(SOON, "the hours are so", || {
            let hours = cluster.command_list(&["hours", "list"]);
            hours.iter().find(|one| one["state"] == wanted).cloned()
        })
    };
    state("open");
    let closing = cluster.command(&["hours", "close", "office", "--for", "1h"]);
    assert_eq!(closing.0, 0, "{closing:?}");
    let shown = state("closed");
    assert_eq!(shown["overridden_until_at"], shown["next_change_at"]);

    let caller = Phone::new(IpAddr::from([127, 0, 0, 84]), "5550002", "", 440);
    let call = caller.call(cluster.service(0), "4008");
    assert!(call.answered(SOON), "{:?}", call.view());
    let audio = call.audio();
    call.wait(SOON, |_| {
        let heard = audio.heard(Duration::from_millis(300));
        let loudest = heard.iter().map(|sample| sample.unsigned_abs()).max();
        loudest.is_some_and(|loudest| loudest > 1_000) && tone::share(&heard, 8_000, MUSIC_HZ) < 0.3
    })
    .expect("somebody speaks");
    call.wait(SOON, |view| view.ended.is_some())
        .expect("then the call ends");
    assert!(call.view().ended_by_peer, "{:?}", call.view());
    let record = eventually(SOON, "the record is there", || {
        let rows = api.cdrs()?;
        rows.into_iter().find(|row| row["from"] == "5550002")
    });
    assert_eq!(record["disposition"], "rejected", "{record:#}");
    assert_eq!(record["sip_status"], 480, "{record:#}");
    assert_eq!(record["q850"], 21, "{record:#}");

    let following = cluster.command(&["hours", "follow", "office"]);
    assert_eq!(following.0, 0, "{following:?}");
    state("open");
    let call = caller.call(cluster.service(0), "4008");
    assert!(call.answered(SOON), "{:?}", call.view());
    let audio = call.audio();
    call.wait(SOON, |_| audio.hears(MUSIC_HZ))
        .expect("he waits in the queue");
    call.hang_up();
    assert!(cluster.panics().is_empty(), "{:#?}", cluster.panics());
}

/// UTC is eight hours behind the site's zone, which knows no summer time.
const ZONE_S: u64 = 8 * 3_600;
const DAY_S: u64 = 86_400;
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// A Thursday to come, 09:00:00 in Shanghai: when most of this happens.
fn thursday() -> Moment {
    let tomorrow = Moment::real().s / DAY_S + 1;
    // The first of January 1970 was a Thursday.
    let days = tomorrow.div_ceil(7) * 7;
    Moment {
        s: days * DAY_S + 3_600,
    }
}

/// The moment as the clock on the wall of the site shows it.
fn local(moment: Moment) -> Moment {
    moment.plus(ZONE_S)
}

/// Writes the basic site, its number with hours, and returns the path.
fn site(folder: &Path, name: &str, more_numbers: &str, hours: &str) -> String {
    let text = std::fs::read_to_string(folder.join("basic.toml")).expect("the site is there");
    let number = "number = \"4008\"\n";
    let text = text.replacen(number, &format!("{number}hours = \"office\"\n"), 1);
    let path = folder.join(name);
    std::fs::write(&path, format!("{text}\n{more_numbers}\n{hours}")).expect("ours");
    path.to_str().expect("plain ASCII").to_owned()
}

/// `[[hours]]` in the site's zone with these spans on each day of the week.
fn week(name: &str, spans: impl Fn(&str) -> String) -> String {
    let days = DAYS.map(|day| format!("{day} = \"{}\"\n", spans(day)));
    let days = days.concat();
    format!("[[hours]]\nname = \"{name}\"\ntimezone = \"Asia/Shanghai\"\n{days}\n")
}

fn apply(cluster: &Cluster, path: &str) {
    let (code, _, err) = cluster.command(&["site", "apply", path]);
    assert_eq!(code, 0, "{err}");
}

fn shown(cluster: &Cluster, name: &str) -> Option<Value> {
    let hours = cluster.command_list(&["hours", "list"]);
    hours.into_iter().find(|one| one["name"] == name)
}

/// What holds on a day, before it comes.
fn day(cluster: &Cluster, date: &str) -> Value {
    let arguments = [
        "--output", "json", "hours", "show", "office", "--date", date,
    ];
    let (code, out, err) = cluster.command(&arguments);
    assert_eq!(code, 0, "{err}");
    serde_json::from_str(&out).expect("valid JSON")
}

/// The caller, in his first call, is told that nobody is there and hung up on; so says the
/// record.
fn is_refused(cluster: &Cluster, phone: &Phone, at: usize, number: &str) {
    let call = phone.call(cluster.service(at), number);
    assert!(call.answered(SOON), "{:?}", call.view());
    let view = call.ended(SOON).expect("the exchange hangs up");
    assert!(view.ended_by_peer, "{view:?}");
    let record = eventually(SOON, "the record is there", || {
        records(&cluster.any_api(), phone.user()).pop()
    });
    let said = (
        &record["disposition"],
        &record["sip_status"],
        &record["q850"],
    );
    assert_eq!(
        said,
        (&"rejected".into(), &480.into(), &21.into()),
        "{record:#}"
    );
    assert!(record["queue"].is_null(), "no queue counts him: {record:#}");
}

fn records(api: &Api, from: &str) -> Vec<Value> {
    let rows = api.cdrs().unwrap_or_default().into_iter();
    rows.filter(|row| row["from"] == from).collect()
}

/// The caller waits in the queue, with music.
fn waits(cluster: &Cluster, phone: &Phone, at: usize, number: &str) -> strowger_tests::phone::Call {
    let call = phone.call(cluster.service(at), number);
    assert!(call.answered(SOON), "{:?}", call.view());
    call.wait(SOON, |_| call.audio().hears(MUSIC_HZ))
        .expect("he waits in the queue");
    call
}

#[test]
fn hours_of_a_site_begin_and_end_by_themselves_though_the_leader_dies() {
    let mut clock = None;
    let mut cluster = Cluster::start_in("basic.toml", |folder| {
        // Some seconds for the nodes to come up, some for what comes before the minute.
        let own = Clock::showing(
            folder,
            Moment {
                s: thursday().s - 30,
            },
        );
        let environment = own.environment().to_vec();
        clock = Some(own);
        environment
    });
    let clock = clock.expect("made while starting");
    let change = clock.now().plus(15).next_minute();
    let minute = local(change).minute();
    println!(
        "it is {} UTC; hours change at {}",
        clock.now().text(),
        change.text()
    );
    let more = "[[number]]\nnumber = \"4009\"\ntarget = \"queue:main\"\npublic = true\n\
                hours = \"early\"\n";
    let whole = "00:00-24:00".to_owned();
    let of = |today: String| {
        move |day: &str| {
            if day == "thu" {
                today.clone()
            } else {
                whole.clone()
            }
        }
    };
    let hours = week("office", of.clone()(format!("{minute}-24:00")))
        + &week("early", of(format!("00:00-{minute}")));
    apply(
        &cluster,
        &site(&cluster.site_folder(), "timed.toml", more, &hours),
    );

    for (name, state) in [("office", "closed"), ("early", "open")] {
        let row = shown(&cluster, name).expect("in the site");
        assert_eq!(row["state"], state, "{row:#}");
        let next = row["next_change_at"].as_str().unwrap_or_default();
        assert!(next.starts_with(&change.text()), "{row:#}");
    }
    let today = day(&cluster, &local(change).date());
    assert_eq!(
        today["spans"],
        serde_json::json!([format!("{minute}-24:00")])
    );
    let caller = Phone::new(IpAddr::from([127, 0, 0, 84]), "5550003", "", 440);
    let other = Phone::new(IpAddr::from([127, 0, 0, 85]), "5550004", "", 440);
    is_refused(&cluster, &caller, 2, "4008");
    let stays = waits(&cluster, &other, 3, "4009");

    let left = clock.until(change);
    assert!(!left.is_zero(), "the machine is too slow for this");
    std::thread::sleep(left.saturating_sub(Duration::from_millis(1_500)));
    let leader = cluster.leader();
    cluster.kill(leader);
    println!(
        "the leader is killed {} ms before",
        clock.until(change).as_millis()
    );
    std::thread::sleep(clock.until(change));
    let begun = Instant::now();
    eventually(SOON, "the hours have changed", || {
        let office = shown(&cluster, "office")?["state"] == "open";
        (office && shown(&cluster, "early")?["state"] == "closed").then_some(())
    });
    println!("shown {} ms after the minute", begun.elapsed().as_millis());
    let call = waits(&cluster, &caller, 2, "4008");
    let late = Phone::new(IpAddr::from([127, 0, 0, 86]), "5550005", "", 440);
    is_refused(&cluster, &late, 3, "4009");
    stays.audio().forget();
    stays
        .wait(SOON, |_| stays.audio().hears(MUSIC_HZ))
        .expect("who was in the queue stays there");
    for call in [call, stays] {
        call.hang_up();
    }
    assert!(cluster.panics().is_empty(), "{:#?}", cluster.panics());
}

#[test]
fn a_holiday_beyond_what_was_worked_out_is_kept_by_a_cluster_that_slept_until_then() {
    let (thursday, mut clock) = (thursday(), None);
    let mut cluster = Cluster::start_in("basic.toml", |folder| {
        let own = Clock::showing(folder, thursday);
        let environment = own.environment().to_vec();
        clock = Some(own);
        environment
    });
    let clock = clock.expect("made while starting");
    // Hours are worked out 15 days ahead; the week before would say "open".
    let far = thursday.plus(20 * DAY_S);
    let date = local(far).date();
    let holiday = format!("[[holiday]]\nhours = \"office\"\ndate = \"{date}\"\nopen = \"\"\n");
    let hours = week("office", |_| "00:00-24:00".to_owned()) + &holiday;
    apply(
        &cluster,
        &site(&cluster.site_folder(), "holiday.toml", "", &hours),
    );
    assert_eq!(
        shown(&cluster, "office").expect("in the site")["state"],
        "open"
    );
    let told = day(&cluster, &date);
    assert_eq!(told["holiday"], true, "{told:#}");
    assert_eq!(told["times"], serde_json::json!([]), "{told:#}");
    let eve = day(&cluster, &local(far.plus(DAY_S)).date());
    assert_eq!(eve["holiday"], false, "{eve:#}");
    assert_eq!(eve["spans"], serde_json::json!(["00:00-24:00"]), "{eve:#}");
    let caller = Phone::new(IpAddr::from([127, 0, 0, 84]), "5550006", "", 440);
    waits(&cluster, &caller, 1, "4008").hang_up();

    println!("all nodes are killed, and come back twenty days later");
    for node in 1..=3 {
        cluster.kill(node);
    }
    let clock = clock.moved_to(far.plus(3_600));
    let environment = clock.environment();
    let environment = environment
        .each_ref()
        .map(|(name, value)| (name.as_str(), value.as_str()));
    cluster.restart_all_with(&environment);
    let begun = Instant::now();
    let row = eventually(SOON, "it is a holiday", || {
        shown(&cluster, "office").filter(|row| row["state"] == "closed")
    });
    println!(
        "known {} ms after the last node was ready",
        begun.elapsed().as_millis()
    );
    let next = row["next_change_at"].as_str().unwrap_or_default();
    let midnight = far.plus(15 * 3_600);
    assert!(next.starts_with(&midnight.text()), "{row:#}");
    let other = Phone::new(IpAddr::from([127, 0, 0, 85]), "5550007", "", 440);
    is_refused(&cluster, &other, 1, "4008");
    assert!(cluster.panics().is_empty(), "{:#?}", cluster.panics());
}
