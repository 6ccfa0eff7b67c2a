//! The site changes again and again, and is taken back now and then, under calls that talk,
//! waiting callers and agents at work: nobody is cut off, and no figure begins anew.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;
use strowger_tests::apart::site::{Site, passwords};
use strowger_tests::apart::{Apart, service};
use strowger_tests::dice::Dice;
use strowger_tests::poll::within_time;

use super::checks::Checks;
use super::load::Load;
use super::{PATIENCE, any_seed, asked, site};

/// Changes between two looks.
const ROUND: usize = 25;
/// Of a hundred changes so many take the site back to how it was.
const TAKEN_BACK: u64 = 10;
/// A version so far back is still kept.
const BACK_MAX: u64 = 20;

/// The site with what this draw adds and alters; no two numbers give the same.
fn drawn(number: usize, dice: &mut Dice) -> Site {
    let [ring, wrap, wait] = [(5, 15), (0, 2), (0, 60)].map(|(low, high)| dice.between(low, high));
    let mut drawn = site(3).text().to_owned();
    // The queue that callers wait in, and that agents work for.
    let main = drawn.find("name = \"main\"").expect("the queue");
    let (before, own) = drawn.split_at(main);
    let own = own
        .replacen("ring_s = 10", &format!("ring_s = {ring}"), 1)
        .replacen("wrap_s = 1", &format!("wrap_s = {wrap}"), 1);
    drawn = format!("{before}{own}");
    let mut drawn = Site::of(drawn).and(&format!(
        "[[queue]]\nname = \"numbered-{number}\"\nstrategy = \"ring-all\"\nring_s = {ring}\n\
         music = \"hold.wav\"\n"
    ));
    if dice.between(0, 1) == 1 {
        drawn = drawn.number("5009", &format!("numbered-{number}")).agents(
            "x001-x003",
            super::load::agents_device(),
            "desk",
            false,
        );
    }
    if dice.between(0, 1) == 1 {
        let close = 10 + wait / 10;
        drawn = drawn.and(&format!(
            "[[hours]]\nname = \"office\"\ntimezone = \"Europe/Oslo\"\nmon = \"08:00-{close}:00\"\n"
        ));
    }
    drawn
}

/// What the changes have come to.
struct Changed {
    versions: usize,
    /// How long each took, ms.
    took: Vec<f64>,
}

fn version(cluster: &Apart) -> Option<u64> {
    cluster.any_api().get("/v1/site").ok()?.json["version"].as_u64()
}

/// Changes the site so many times.
fn change(cluster: &Apart, file: &Path, dice: &mut Dice, changed: &mut Changed) {
    for _ in 0..ROUND {
        let text = drawn(changed.versions, dice);
        std::fs::write(file, text.text()).expect("a temporary folder is writable");
        let before = version(cluster).expect("a node answers");
        let back = before.saturating_sub(dice.between(2, BACK_MAX)).max(2);
        let back = (dice.between(1, 100) <= TAKEN_BACK && back < before).then(|| back.to_string());
        let file = file.to_str().expect("plain ASCII");
        let began = Instant::now();
        let (code, _, err) = match &back {
            Some(version) => cluster.command(&["site", "rollback", version]),
            None => cluster.command(&["site", "apply", file]),
        };
        changed.took.push(began.elapsed().as_secs_f64() * 1_000.0);
        assert_eq!(code, 0, "change {}: {err}", changed.versions);
        let now = version(cluster).expect("a node answers");
        assert_eq!(now, before + 1, "each change is a version");
        changed.versions += 1;
    }
}

fn run(changes: usize, calls: usize, seed: u64) {
    println!("seed {seed}: {changes} changes of the site");
    let Some(cluster) = Apart::start(site(3).text(), &passwords()) else {
        return;
    };
    let mut dice = Dice::new(seed);
    let servers: Vec<_> = (1..=3).map(service).collect();
    let mut load = Load::start(&servers, calls, 6, &mut dice);
    let mut checks = Checks::default();
    checks.after(&cluster, &mut load, Vec::new, "before the first change");
    let file = cluster.file("changed.toml");
    let mut changed = Changed {
        versions: 0,
        took: Vec::new(),
    };
    let mut silences = Vec::new();
    while changed.versions < changes {
        load.begin_fault();
        std::thread::scope(|scope| {
            let round = scope.spawn(|| change(&cluster, &file, &mut dice, &mut changed));
            while !round.is_finished() {
                load.goes_on(Duration::from_millis(200));
            }
            round.join().expect("each change is taken");
        });
        silences.extend(load.gaps());
        let what = format!("seed {seed}, {} changes", changed.versions);
        checks.after(&cluster, &mut load, Vec::new, &what);
    }
    let sums = load.finish(&cluster);
    checks.at_the_end(&cluster, &sums);
    counted(&cluster, &mut checks);
    println!(
        "{} changes, p50 {:.0} ms, p99 {:.0} ms; nothing heard for p99 {:.0}, at most {:.0} ms\n  {sums}\n  \
         calls lost {}, records lost {}, doubled {}",
        changed.versions,
        super::quantile(&changed.took, 0.5),
        super::quantile(&changed.took, 0.99),
        super::quantile(&silences, 0.99),
        super::quantile(&silences, 1.0),
        checks.lost_calls,
        checks.records_lost,
        checks.records_doubled
    );
    assert!(checks.wrong.is_empty(), "SEED={seed}: {:#?}", checks.wrong);
    assert!(cluster.panics().is_empty(), "{:#?}", cluster.panics());
}

/// The queue's figures count every caller since the first version, as the records do.
fn counted(cluster: &Apart, checks: &mut Checks) {
    let api = cluster.any_api();
    let mut seen = (0, 0);
    let same = || {
        let figures = api.list("/v1/figures")?;
        let main = |row: &&Value| row["name"] == "main" && row["queue"].is_string();
        let offered = figures.iter().find(main)?["offered"].as_u64()?;
        let rows = api.cdrs()?;
        let callers = rows.iter().filter(|row| row["to"] == "5008").count();
        seen = (offered, callers);
        (offered == callers as u64).then_some(())
    };
    if within_time(PATIENCE, same).is_none() {
        let (offered, callers) = seen;
        let wrong = format!("{offered} callers are counted, {callers} have records");
        checks.wrong.push(wrong);
    }
}

/// A share of it that every change has to stand.
#[test]
fn fifty_changes_of_the_site_disturb_nobody() {
    run(2 * ROUND, 10, asked("SEED").unwrap_or(1));
}

#[test]
#[ignore = "takes minutes"]
fn a_thousand_changes_of_the_site_disturb_nobody() {
    let calls = asked("STROWGER_CALLS").unwrap_or(100);
    run(1_000, calls, asked("SEED").unwrap_or_else(any_seed));
}
