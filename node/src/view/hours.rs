//! Opening hours as the interface shows them.

use jiff::civil::Date;
use strowger_core::api;
use strowger_core::hours::HoursSpec;
use strowger_core::state::State;
use strowger_core::time::TimeMs;

use crate::site::hours::{spans_of, times_of_day, words};

/// Opening hours of every site.
pub fn hours(state: &State, now: TimeMs) -> Vec<api::Hours> {
    let known = state.hours.iter().filter_map(|((tenant, name), row)| {
        let site = state.site(tenant)?;
        let spec = site.hours.get(name)?;
        let follows = site.numbers.iter().filter(|(_, number)| {
            let hours = number.hours.as_ref();
            hours.is_some_and(|(hours, _)| hours == name)
        });
        let word = if row.is_open(now) { "open" } else { "closed" };
        Some(api::Hours {
            name: name.to_string(),
            state: word.to_owned(),
            next_change_at: row.next_change(now).map(TimeMs::rfc3339),
            overridden_until_at: row.overridden(now).map(|one| one.until.rfc3339()),
            timezone: spec.timezone.clone(),
            numbers: follows.map(|(number, _)| number.clone()).collect(),
        })
    });
    known.collect()
}

/// Opening hours on a day of their zone, as the site file has them.
pub fn hours_day(name: &str, spec: &HoursSpec, date: Date) -> api::HoursDay {
    let (spans, holiday) = spans_of(spec, date);
    let times = times_of_day(spec, date).into_iter();
    let times = times.map(|(from, to)| api::HoursTime {
        from_at: from.rfc3339(),
        to_at: to.rfc3339(),
    });
    api::HoursDay {
        name: name.to_owned(),
        date: date.to_string(),
        holiday,
        timezone: spec.timezone.clone(),
        spans: spans.iter().map(|span| words(&[*span])).collect(),
        times: times.collect(),
    }
}
