//! Opening hours in the file and in UTC, over the changes of the clock.

use std::collections::BTreeMap;

use jiff::civil::Date;
use strowger_core::hours::{HoursSpec, OpenTimes};
use strowger_core::ids::HoursName;
use strowger_core::site::{Closed, Site, Target};
use strowger_core::time::TimeMs;

use super::hours::{times, times_of_day};
use super::read;
use crate::fault::Fault;

const HEAD: &str = "[cluster]\nservice_addresses = [\"127.0.0.1\"]\n\
    [tenant]\nname = \"demo\"\ndomain = \"demo.invalid\"\ntimezone = \"Europe/Berlin\"\n\
    [[extension]]\nrange = \"1001-1002\"\n[[queue]]\nname = \"main\"\n";
const WEEK: &str = "[[hours]]\nname = \"office\"\nmon = \"09:00-12:00 13:00-18:00\"\n\
    sun = \"01:00-05:00\"\n";

fn site(text: &str) -> Result<Site, Fault> {
    read("site.toml", &format!("{HEAD}{text}"), &BTreeMap::new()).map(|read| read.site)
}

fn office(text: &str) -> HoursSpec {
    let site = site(text).expect("valid");
    let spec = site.hours.get(&HoursName::from("office"));
    spec.expect("they are there").clone()
}

/// The times of a day, as they are written in UTC.
fn of_day(spec: &HoursSpec, date: &str) -> String {
    let date = date.parse::<Date>().expect("a date");
    let times = times_of_day(spec, date).into_iter();
    let times = times.map(|(from, to)| {
        let text = |at: TimeMs| at.rfc3339().replace(":00.000Z", "");
        format!("{}-{}", text(from), &text(to)[11..])
    });
    times.collect::<Vec<_>>().join(" ")
}

#[test]
fn a_day_is_worked_out_in_the_zone_of_the_hours() {
    let text = format!(
        "{WEEK}[[holiday]]\nhours = \"office\"\ndate = \"2027-01-04\"\nopen = \"\"\n\
         [[holiday]]\nhours = \"office\"\ndate = \"2027-01-05\"\nopen = \"10:00-24:00\"\n"
    );
    let spec = office(&text);
    let table = [
        (
            "2027-01-11",
            "2027-01-11T08:00-11:00 2027-01-11T12:00-17:00",
        ),
        (
            "2027-07-12",
            "2027-07-12T07:00-10:00 2027-07-12T11:00-16:00",
        ),
        ("2027-01-12", ""),
        // Holidays, one closed and one open until midnight.
        ("2027-01-04", ""),
        ("2027-01-05", "2027-01-05T09:00-23:00"),
        // Sundays: a usual one, the one without 02:00 to 03:00, and the one that has it twice.
        ("2027-03-21", "2027-03-21T00:00-04:00"),
        ("2027-03-28", "2027-03-28T00:00-03:00"),
        ("2027-10-31", "2027-10-30T23:00-04:00"),
    ];
    for (date, times) in table {
        assert_eq!(of_day(&spec, date), times, "{date}");
    }
}

#[test]
fn a_span_opens_whenever_the_clock_shows_it() {
    let sunday = |spans: &str| {
        office(&format!(
            "[[hours]]\nname = \"office\"\nsun = \"{spans}\"\n"
        ))
    };
    let table = [
        ("02:15-02:45", "2027-03-28", ""),
        ("02:30-03:30", "2027-03-28", "2027-03-28T01:00-01:30"),
        ("01:30-02:30", "2027-03-28", "2027-03-28T00:30-01:00"),
        (
            "02:15-02:45",
            "2027-10-31",
            "2027-10-31T00:15-00:45 2027-10-31T01:15-01:45",
        ),
        (
            "01:00-02:30 02:30-04:00",
            "2027-10-31",
            "2027-10-30T23:00-03:00",
        ),
        ("00:00-24:00", "2027-03-28", "2027-03-27T23:00-22:00"),
        ("00:00-24:00", "2027-10-31", "2027-10-30T22:00-23:00"),
    ];
    for (spans, date, times) in table {
        assert_eq!(of_day(&sunday(spans), date), times, "{spans} on {date}");
    }
}

#[test]
fn the_days_to_come_are_the_days_one_by_one() {
    // Over both changes of the clock, and a zone whose day begins with a skipped hour.
    let zones = ["Europe/Berlin", "America/Santiago", "Asia/Kathmandu", "UTC"];
    let spans = "00:00-00:30 01:45-02:30 02:30-03:15 22:00-24:00";
    for zone in zones {
        let days = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
        let week = days.map(|day| format!("{day} = \"{spans}\"\n")).concat();
        let text = format!("[[hours]]\nname = \"office\"\ntimezone = \"{zone}\"\n{week}");
        let site = site(&text).expect("valid");
        let spec = site.hours.values().next().expect("they are there");
        for begin in ["2027-03-20", "2027-10-25", "2027-04-01", "2026-09-01"] {
            let first = begin.parse::<Date>().expect("a date");
            let noon = first.at(12, 0, 0, 0).in_tz("UTC").expect("a time");
            let now = TimeMs(u64::try_from(noon.timestamp().as_millisecond()).expect("late"));
            let found = times(&site, now);
            let [found] = found.as_slice() else {
                panic!("{found:?}");
            };
            assert!(found.until.since(now) >= 15 * 86_400_000);
            let mut date = first;
            for _ in 0..14 {
                let day = OpenTimes {
                    name: found.name.clone(),
                    until: found.until,
                    open: times_of_day(spec, date),
                };
                assert!(!day.open.is_empty());
                for (from, to) in &day.open {
                    for at in [from.0, to.0 - 1] {
                        assert!(found.is_open(TimeMs(at)), "{zone} {date} {at}");
                    }
                    // After midnight it is the next day that counts.
                    if date_of(to.0, zone) == date {
                        let (own, all) = (day.is_open(*to), found.is_open(*to));
                        assert_eq!((own, all), (false, false), "{zone} {date} {to}");
                    }
                }
                date = date.tomorrow().expect("a day");
            }
        }
    }
}

fn date_of(ms: u64, zone: &str) -> Date {
    let at = jiff::Timestamp::from_millisecond(i64::try_from(ms).expect("soon")).expect("a time");
    at.in_tz(zone).expect("a zone").date()
}

#[test]
fn numbers_follow_hours() {
    let number = |rest: &str| {
        let text = format!(
            "{WEEK}[[number]]\nnumber = \"4008\"\ntarget = \"queue:main\"\nhours = \"office\"\n{rest}"
        );
        let site = site(&text).expect("valid");
        let number = site.numbers.get("4008").expect("it is there");
        number.hours.clone().expect("it follows them").1
    };
    let told = |closed| match closed {
        Closed::Told(language) => Some(language.as_str()),
        Closed::To(_) => None,
    };
    assert_eq!(told(number("")), Some("en"));
    assert_eq!(told(number("closed = \"announcement\"\n")), Some("en"));
    assert_eq!(
        told(number("closed = \"announcement\"\nlanguage = \"zh\"\n")),
        Some("zh")
    );
    let extension = Closed::To(Target::Extension("1001".into()));
    assert_eq!(number("closed = \"extension:1001\"\n"), extension);
}

#[test]
fn hours_that_make_no_sense_are_refused_with_their_line() {
    let number = "[[number]]\nnumber = \"4008\"\ntarget = \"queue:main\"\n";
    let holiday = "[[holiday]]\nhours = \"office\"\ndate = \"2027-01-01\"\nopen = \"\"\n";
    let table = [
        ("mon = \"18:00-09:00\"", "site.toml:13", "SW0203", "24:00"),
        ("mon = \"09:00-09:00\"", "site.toml:13", "SW0203", "24:00"),
        (
            "mon = \"09:00-12:00 11:00-13:00\"",
            "site.toml:13",
            "SW0203",
            "apart",
        ),
        (
            "mon = \"13:00-18:00 09:00-12:00\"",
            "site.toml:13",
            "SW0203",
            "apart",
        ),
        ("mon = \"9-12\"", "site.toml:13", "SW0203", "09:00-12:00"),
        (
            "mon = \"09:60-12:00\"",
            "site.toml:13",
            "SW0203",
            "09:00-12:00",
        ),
        (
            "mon = \"09:00-24:01\"",
            "site.toml:13",
            "SW0203",
            "09:00-12:00",
        ),
        (
            "mon = \"99:00-99:01\"",
            "site.toml:13",
            "SW0203",
            "09:00-12:00",
        ),
        ("mon = \"always\"", "site.toml:13", "SW0203", "09:00-12:00"),
        ("mon = \"\"", "site.toml:12", "SW0203", "mon ="),
        (
            "monday = \"09:00-10:00\"",
            "site.toml:13",
            "SW0202",
            "`mon`",
        ),
        (
            "mon = \"09:00-10:00\"\ntimezone = \"Mars\"",
            "site.toml:14",
            "SW0203",
            "IANA",
        ),
    ];
    for (line, place, code, next) in table {
        let text = format!("[[hours]]\nname = \"office\"\n{line}\n");
        let fault = site(&text).expect_err(line).to_string();
        let right = fault.contains(place) && fault.contains(code) && fault.contains(next);
        assert!(right, "{line}: {fault}");
    }
    let table = [
        (format!("{number}hours = \"ofice\"\n"), "SW0205", "`office`"),
        (
            format!("{number}closed = \"queue:main\"\n"),
            "SW0203",
            "hours =",
        ),
        (
            format!("{number}hours = \"office\"\nclosed = \"queue:night\"\n"),
            "SW0205",
            "[[queue]]",
        ),
        (
            format!("{number}hours = \"office\"\nclosed = \"bye\"\n"),
            "SW0203",
            "queue:NAME",
        ),
        (
            format!("{number}hours = \"office\"\nlanguage = \"fr\"\n"),
            "SW0203",
            "\"zh\"",
        ),
        (holiday.replace("office", "night"), "SW0205", "[[hours]]"),
        (holiday.replace("01-01", "02-30"), "SW0203", "2027-01-01"),
        (
            holiday.replace("open = \"\"", "open = \"12:00-10:00\""),
            "SW0203",
            "24:00",
        ),
        (holiday.repeat(2), "SW0204", "remove"),
        (WEEK.to_owned(), "SW0204", "remove"),
    ];
    for (text, code, next) in table {
        let fault = site(&format!("{WEEK}{text}")).expect_err(&text).to_string();
        let right = fault.contains(code) && fault.contains(next) && fault.contains("site.toml:");
        assert!(right, "{text}: {fault}");
    }
}

#[test]
fn a_change_of_hours_is_shown() {
    let old = site(WEEK).expect("valid");
    let text = WEEK.replace("13:00-18:00", "13:00-17:00");
    let text = format!(
        "{text}[[holiday]]\nhours = \"office\"\ndate = \"2027-01-01\"\nopen = \"\"\n\
         [[hours]]\nname = \"night\"\ntue = \"20:00-24:00\"\n"
    );
    let new = site(&text).expect("valid");
    let lines = super::diff::difference(Some(&old), &new).lines;
    let expected = [
        "~ hours office: mon 09:00-12:00 13:00-18:00 → 09:00-12:00 13:00-17:00, \
         holidays none → 2027-01-01 closed",
        "+ hours night",
    ];
    assert_eq!(lines, expected);
}
