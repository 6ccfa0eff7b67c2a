//! Opening hours of a site file, and the intervals in UTC that are worked out from them:
//! the log knows no time zones.
//!
//! Hours are open whenever the clock on the wall of their zone shows a time within a span
//! of that day. A time that the clock skips opens nothing; one that it shows twice opens
//! twice.

use std::collections::BTreeMap;

use jiff::civil::Date;
use jiff::tz::{Offset, TimeZone};
use jiff::{SignedDuration, Timestamp};
use strowger_core::hours::{DAY_MIN, Day, HoursSpec, OpenTimes, Span};
use strowger_core::ids::HoursName;
use strowger_core::ivr::speech::Language;
use strowger_core::site::{Closed, Site};
use strowger_core::time::TimeMs;

use super::read::{Part, Rest, duplicate, named, referred, wrong};
use crate::document::At;
use crate::fault::{Fault, code};
use crate::limits;

/// Days of the week as keys, Monday first.
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

impl Rest<'_> {
    /// Reads `[[hours]]`.
    pub(super) fn hours(&mut self, mut part: Part<'_, '_>) -> Result<(), Fault> {
        let name = named(&mut part, "name")?;
        let timezone = match part.text("timezone")? {
            None => self.read.site.timezone.clone(),
            Some(text) => zone_named(text)?,
        };
        let mut week: [Vec<Span>; 7] = Default::default();
        for (key, day) in DAYS.into_iter().zip(&mut week) {
            if let Some(text) = part.text(key)? {
                *day = spans(&text)?;
            }
        }
        part.finish()?;
        let spec = HoursSpec {
            timezone,
            week,
            holidays: BTreeMap::new(),
        };
        let hours = &mut self.read.site.hours;
        let known = hours.insert(HoursName::from(name.value.as_str()), spec);
        if known.is_some() {
            return Err(duplicate("hours", &name));
        }
        self.hours_at.push(name);
        Ok(())
    }

    /// Reads `[[holiday]]`.
    pub(super) fn holiday(&mut self, mut part: Part<'_, '_>) -> Result<(), Fault> {
        let name = part.required("hours")?;
        let date = part.required("date")?;
        let open = part.required("open")?;
        part.finish()?;
        let hours = self.hours_named(&name)?;
        let day = date_of(&date)?;
        let spans = spans(&open)?;
        let Some(spec) = self.read.site.hours.get_mut(&hours) else {
            return Ok(());
        };
        if spec.holidays.insert(day, spans).is_some() {
            return Err(duplicate("holiday", &date));
        }
        if spec.holidays.len() > limits::HOLIDAYS_MAX {
            let what = format!("the hours {} have too many holidays", name.value);
            let next = format!("use at most {}", limits::HOLIDAYS_MAX);
            return Err(Fault::new(code::SITE_VALUE, what, next).at(date.place));
        }
        Ok(())
    }

    /// Refuses hours that never open, once the holidays are known.
    pub(super) fn hours_open(&self) -> Result<(), Fault> {
        for name in &self.hours_at {
            let spec = self.read.site.hours.get(&HoursName::from(&*name.value));
            let opens = |spec: &HoursSpec| {
                let days = spec.week.iter().chain(spec.holidays.values());
                days.into_iter().any(|day| !day.is_empty())
            };
            if !spec.is_some_and(opens) {
                let what = format!("the hours {} never open", name.value);
                let next = "write such as mon = \"09:00-18:00\"";
                return Err(Fault::new(code::SITE_VALUE, what, next).at(name.place.clone()));
            }
        }
        Ok(())
    }

    /// Reads `hours`, `closed` and `language` of `[[number]]`.
    pub(super) fn number_hours(
        &mut self,
        part: &mut Part<'_, '_>,
    ) -> Result<Option<(HoursName, Closed)>, Fault> {
        let hours = part.text("hours")?;
        let closed = part.text("closed")?;
        let language = part.text("language")?;
        let Some(hours) = hours else {
            return match closed.or(language) {
                None => Ok(None),
                Some(text) => {
                    let what = "`closed` and `language` of a number need `hours`";
                    let next = "write hours = \"NAME\"";
                    Err(Fault::new(code::SITE_VALUE, what, next).at(text.place))
                }
            };
        };
        let name = self.hours_named(&hours)?;
        let told = language.as_ref().map(|text| {
            Language::parse(&text.value)
                .ok_or_else(|| wrong(text, "a language", "use \"en\" or \"zh\""))
        });
        let told = told.transpose()?.unwrap_or_default();
        let closed = match closed {
            None => Closed::Told(told),
            Some(text) if text.value == "announcement" => Closed::Told(told),
            Some(text) => Closed::To(self.target(&text)?),
        };
        Ok(Some((name, closed)))
    }

    pub(super) fn hours_named(&self, name: &At<String>) -> Result<HoursName, Fault> {
        let known = self.read.site.hours.keys().map(HoursName::as_str);
        referred("hours", &name.value, &name.place, known)?;
        Ok(HoursName::from(name.value.as_str()))
    }
}

/// Checks that a text names a time zone.
pub(super) fn zone_named(text: At<String>) -> Result<String, Fault> {
    match TimeZone::get(&text.value) {
        Ok(_) => Ok(text.value),
        Err(_) => {
            let next = "use a name of the IANA database, such as \"Asia/Shanghai\"";
            Err(wrong(&text, "a time zone", next))
        }
    }
}

fn date_of(text: &At<String>) -> Result<Day, Fault> {
    let date = text.value.parse::<Date>().ok().filter(|date| {
        // Only the plain form, which people compare with a calendar.
        date.to_string() == text.value
    });
    date.map(day)
        .ok_or_else(|| wrong(text, "a date", "write such as \"2027-01-01\""))
}

fn day(date: Date) -> Day {
    Day {
        year: date.year(),
        month: date.month(),
        day: date.day(),
    }
}

/// Reads spans such as `09:00-12:00 13:00-18:00`, in order and apart.
fn spans(text: &At<String>) -> Result<Vec<Span>, Fault> {
    let mut spans: Vec<Span> = Vec::new();
    for word in text.value.split_whitespace() {
        let times = word.split_once('-');
        let times = times.and_then(|(from, to)| Some((minute(from)?, minute(to)?)));
        let Some((from, to)) = times else {
            let next = "write such as \"09:00-12:00 13:00-18:00\", or \"\" for closed";
            return Err(wrong(text, "spans of a day", next));
        };
        let fault = |what: String, next: &str| {
            Err(Fault::new(code::SITE_VALUE, what, next).at(text.place.clone()))
        };
        if to <= from {
            let what = format!("the span {word} ends before it begins");
            let next = "write 22:00-24:00, and 00:00-06:00 at the next day";
            return fault(what, next);
        }
        if spans.last().is_some_and(|last| from < last.to) {
            let what = format!("the span {word} begins before the one before has ended");
            return fault(what, "write the spans in order and apart");
        }
        if spans.len() >= limits::SPANS_PER_DAY_MAX {
            let next = format!("use at most {}", limits::SPANS_PER_DAY_MAX);
            return fault("a day has too many spans".to_owned(), &next);
        }
        spans.push(Span { from, to });
    }
    Ok(spans)
}

/// The minute of a day written as `09:30`; `24:00` is its end.
fn minute(text: &str) -> Option<u16> {
    let (hour, minute) = text.split_once(':')?;
    let two = |text: &str| {
        let plain = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        plain.then(|| text.parse::<u16>().ok()).flatten()
    };
    let (hour, minute) = (two(hour)?, two(minute)?);
    let at = hour * 60 + minute;
    (minute < 60 && at <= DAY_MIN).then_some(at)
}

/// The spans of a day as the site file has them.
pub fn words(spans: &[Span]) -> String {
    let time = |at: u16| format!("{:02}:{:02}", at / 60, at % 60);
    let words = spans
        .iter()
        .map(|span| format!("{}-{}", time(span.from), time(span.to)));
    words.collect::<Vec<_>>().join(" ")
}

/// The spans that hold on a day, and whether they are those of a holiday.
pub fn spans_of(spec: &HoursSpec, date: Date) -> (&[Span], bool) {
    if let Some(spans) = spec.holidays.get(&day(date)) {
        return (spans, true);
    }
    let weekday = usize::try_from(date.weekday().to_monday_zero_offset()).unwrap_or(0);
    let spans = spec.week.get(weekday).map_or(&[][..], Vec::as_slice);
    (spans, false)
}

/// When the hours of a site are open in the days around `now`.
pub fn times(site: &Site, now: TimeMs) -> Vec<OpenTimes> {
    let ms = i64::try_from(now.0).unwrap_or(i64::MAX);
    let now = Timestamp::from_millisecond(ms).unwrap_or(Timestamp::MAX);
    let day = SignedDuration::from_hours(24);
    // From the day before, so that a span that has begun is known from its beginning.
    let begin = now.checked_sub(day).unwrap_or(Timestamp::MIN);
    let end = now.checked_add(day * limits::HOURS_AHEAD_DAYS);
    let end = end.unwrap_or(Timestamp::MAX);
    let of = |(name, spec): (&HoursName, &HoursSpec)| OpenTimes {
        name: name.clone(),
        until: time(end),
        open: between(spec, begin, end),
    };
    site.hours.iter().map(of).collect()
}

/// When hours are open on a day of their zone.
pub fn times_of_day(spec: &HoursSpec, date: Date) -> Vec<(TimeMs, TimeMs)> {
    let zone = zone(spec);
    let midnight = |date: Date| {
        let begin = zone.to_ambiguous_timestamp(date.at(0, 0, 0, 0));
        begin.compatible().ok()
    };
    match (midnight(date), date.tomorrow().ok().and_then(midnight)) {
        (Some(begin), Some(end)) => between(spec, begin, end),
        _ => Vec::new(),
    }
}

fn zone(spec: &HoursSpec) -> TimeZone {
    // The name was checked when the site was read.
    TimeZone::get(&spec.timezone).unwrap_or(TimeZone::UTC)
}

fn time(at: Timestamp) -> TimeMs {
    TimeMs(u64::try_from(at.as_millisecond()).unwrap_or(0))
}

/// When hours are open between two instants: worked out for each stretch of time in which
/// the zone's clock goes evenly, then joined.
fn between(spec: &HoursSpec, begin: Timestamp, end: Timestamp) -> Vec<(TimeMs, TimeMs)> {
    let zone = zone(spec);
    let changes = zone.following(begin).map(|change| change.timestamp());
    let changes = changes.take_while(|at| *at < end);
    let marks: Vec<Timestamp> = [begin].into_iter().chain(changes).chain([end]).collect();
    let mut open: Vec<(Timestamp, Timestamp)> = Vec::new();
    for pair in marks.windows(2) {
        let &[from, to] = pair else { continue };
        let offset = zone.to_offset(from);
        let last = offset.to_datetime(to).date();
        let mut date = offset.to_datetime(from).date();
        loop {
            for span in spans_of(spec, date).0 {
                let (Some(opens), Some(closes)) = (
                    instant(offset, date, span.from),
                    instant(offset, date, span.to),
                ) else {
                    continue;
                };
                let (opens, closes) = (opens.max(from), closes.min(to));
                match open.last_mut() {
                    _ if closes <= opens => {}
                    Some(before) if before.1 == opens => before.1 = closes,
                    _ => open.push((opens, closes)),
                }
            }
            match date.tomorrow() {
                Ok(next) if date < last => date = next,
                _ => break,
            }
        }
    }
    let open = open.into_iter();
    open.map(|(from, to)| (time(from), time(to))).collect()
}

/// The instant of a minute of a day while the clock is `offset` from UTC.
fn instant(offset: Offset, date: Date, minute: u16) -> Option<Timestamp> {
    let midnight = offset.to_timestamp(date.at(0, 0, 0, 0)).ok()?;
    let minutes = SignedDuration::from_mins(i64::from(minute));
    midnight.checked_add(minutes).ok()
}
