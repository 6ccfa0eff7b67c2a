//! Opening hours: when they are open, as intervals in UTC that were worked out before they
//! reached the log, and what an operator has said instead for a while.
//!
//! Nothing here knows a time zone. A week has a fixed length, so that hours nobody has
//! worked out any further go on as they were seven days before.

use serde::{Deserialize, Serialize};

use crate::ids::{HoursName, TenantId};
use crate::limits;
use crate::time::TimeMs;

/// Seven days, ms.
pub const WEEK_MS: u64 = 7 * 24 * 3_600_000;

/// Minutes of a day: the end of a span that lasts until midnight.
pub const DAY_MIN: u16 = 24 * 60;

/// A span of a day by the clock on the wall.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Span {
    /// First minute, from midnight.
    pub from: u16,
    /// The minute it ends before; after `from`, at most [`DAY_MIN`].
    pub to: u16,
}

/// A day of the calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Day {
    /// Year.
    pub year: i16,
    /// Month, from 1.
    pub month: i8,
    /// Day of the month, from 1.
    pub day: i8,
}

/// Opening hours as a site gives them. `apply` keeps them and never looks inside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoursSpec {
    /// Time zone of the clock: a name of the IANA database.
    pub timezone: String,
    /// Spans of each day of the week, Monday first, in order and apart.
    pub week: [Vec<Span>; 7],
    /// Days on which other spans hold, none at all on most of them.
    pub holidays: std::collections::BTreeMap<Day, Vec<Span>>,
}

/// When hours are open, worked out so far.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenTimes {
    /// The hours.
    pub name: HoursName,
    /// Known up to this time.
    pub until: TimeMs,
    /// When they open and when they close, in order and apart.
    pub open: Vec<(TimeMs, TimeMs)>,
}

/// What an operator has said instead of the times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Override {
    /// Open or closed.
    pub open: bool,
    /// From then on the times hold again.
    pub until: TimeMs,
}

/// Opening hours as the floor knows them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoursRow {
    /// Whose hours.
    pub tenant: TenantId,
    /// When they are open.
    pub times: OpenTimes,
    /// What was said instead last; without effect once it has passed.
    pub spoken: Option<Override>,
    /// Open as last noted: what goes by these hours without looking at each entry.
    pub noted: bool,
    /// When that is to be noted anew.
    pub look_at: TimeMs,
}

impl HoursRow {
    /// What was said instead and still holds.
    pub fn overridden(&self, now: TimeMs) -> Option<Override> {
        self.spoken.filter(|spoken| now < spoken.until)
    }

    /// True when they are open.
    pub fn is_open(&self, now: TimeMs) -> bool {
        match self.overridden(now) {
            Some(spoken) => spoken.open,
            None => self.times.is_open(now),
        }
    }

    /// When they open or close next; `None` when that is not known.
    pub fn next_change(&self, now: TimeMs) -> Option<TimeMs> {
        let open = self.is_open(now);
        let spoken = self.overridden(now).map(|spoken| spoken.until);
        let ends = self.times.open.iter().flat_map(|(from, to)| [*from, *to]);
        let known = ends.filter(|at| *at < self.times.until);
        let mut times: Vec<TimeMs> = known.chain(spoken).filter(|at| *at > now).collect();
        times.sort_unstable();
        times.into_iter().find(|at| self.is_open(*at) != open)
    }

    /// When to look again whether they are open: at the next change known, and where none
    /// is, when the times known end.
    pub fn next_look(&self, now: TimeMs) -> TimeMs {
        let known = Some(self.times.until).filter(|until| *until > now);
        let next = self.next_change(now).or(known);
        next.unwrap_or_else(|| now.plus(limits::HOURS_LOOK_MS))
    }
}

impl OpenTimes {
    /// True when they are open at this time, by the week before where nothing else is known.
    pub fn is_open(&self, now: TimeMs) -> bool {
        let beyond = now.0.saturating_sub(self.until.0);
        let weeks = if now < self.until {
            0
        } else {
            beyond / WEEK_MS + 1
        };
        let at = TimeMs(now.0.saturating_sub(weeks.saturating_mul(WEEK_MS)));
        // The last one that has begun.
        let begun = self.open.partition_point(|(from, _)| *from <= at);
        let last = begun.checked_sub(1).and_then(|last| self.open.get(last));
        last.is_some_and(|(_, to)| at < *to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(open: &[(u64, u64)], until: u64) -> OpenTimes {
        OpenTimes {
            name: HoursName::from("office"),
            until: TimeMs(until),
            open: open
                .iter()
                .map(|(from, to)| (TimeMs(*from), TimeMs(*to)))
                .collect(),
        }
    }

    #[test]
    fn an_interval_is_open_from_its_first_to_before_its_last_moment() {
        let times = times(&[(100, 200), (300, 400)], 2 * WEEK_MS);
        let table = [
            (0, false),
            (99, false),
            (100, true),
            (199, true),
            (200, false),
            (299, false),
            (300, true),
            (399, true),
            (400, false),
        ];
        for (at, open) in table {
            assert_eq!(times.is_open(TimeMs(at)), open, "at {at}");
        }
    }

    #[test]
    fn what_nobody_has_worked_out_goes_on_as_the_week_before() {
        let until = 2 * WEEK_MS;
        let times = times(&[(WEEK_MS + 100, WEEK_MS + 200)], until);
        for weeks in 0..4 {
            let base = WEEK_MS * (1 + weeks);
            assert!(times.is_open(TimeMs(base + 100)), "after {weeks} weeks");
            assert!(!times.is_open(TimeMs(base + 99)), "after {weeks} weeks");
            assert!(!times.is_open(TimeMs(base + 200)), "after {weeks} weeks");
        }
        assert!(!times.is_open(TimeMs(100)), "what is past stays");
    }

    #[test]
    fn the_next_change_minds_what_was_said_instead() {
        let mut row = HoursRow {
            tenant: TenantId::from("acme"),
            times: times(&[(100, 200), (300, 400)], WEEK_MS),
            spoken: None,
            noted: false,
            look_at: TimeMs(0),
        };
        assert_eq!(row.next_look(TimeMs(0)), TimeMs(100));
        assert_eq!(row.next_look(TimeMs(400)), TimeMs(WEEK_MS));
        let late = TimeMs(WEEK_MS);
        assert_eq!(row.next_look(late), late.plus(limits::HOURS_LOOK_MS));
        assert_eq!(row.next_change(TimeMs(0)), Some(TimeMs(100)));
        assert_eq!(row.next_change(TimeMs(100)), Some(TimeMs(200)));
        assert_eq!(row.next_change(TimeMs(400)), None);
        let said = |open, until| {
            Some(Override {
                open,
                until: TimeMs(until),
            })
        };
        row.spoken = said(false, 150);
        assert!(!row.is_open(TimeMs(120)));
        assert_eq!(row.next_change(TimeMs(0)), Some(TimeMs(150)));
        row.spoken = said(false, 250);
        assert_eq!(row.next_change(TimeMs(0)), Some(TimeMs(300)));
        row.spoken = said(true, 350);
        assert_eq!(row.next_change(TimeMs(0)), Some(TimeMs(400)));
        assert!(row.is_open(TimeMs(250)) && row.is_open(TimeMs(350)));
        assert_eq!(row.next_change(TimeMs(350)), Some(TimeMs(400)));
    }
}
