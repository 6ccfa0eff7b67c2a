//! The wall clock as the log is to know it.
//!
//! The log's time never falls, so a clock that leaps ahead on a leader would expire what is not
//! due and then hold the log's time still for as long as the leap was. A leap is not followed at
//! once: a node whose clock alone leapt has handed over by the time it would be, and stands last
//! for election.

use std::time::Duration;

use parking_lot::Mutex;

use crate::limits;
use crate::liveness::BootTime;
use crate::raft::wall_clock_ms;

/// A wall clock whose leaps are followed late.
#[derive(Default)]
pub struct SteadyClock(Mutex<Option<Anchor>>);

/// What the wall clock said when it was last believed.
#[derive(Clone, Copy)]
struct Anchor {
    wall_ms: u64,
    at: BootTime,
    /// Since when it says something else.
    leapt: Option<BootTime>,
}

impl SteadyClock {
    /// Milliseconds since 1970 UTC. To be read often: between two readings no leap is seen that
    /// the drift of the machine's two clocks could not be.
    pub fn now_ms(&self) -> u64 {
        self.read(wall_clock_ms(), BootTime::now())
    }

    fn read(&self, wall_ms: u64, now: BootTime) -> u64 {
        let mut anchor = self.0.lock();
        let believed = Anchor {
            wall_ms,
            at: now,
            leapt: None,
        };
        let before = anchor.get_or_insert(believed);
        let expected = before.wall_ms.saturating_add(millis(now.since(before.at)));
        if wall_ms.abs_diff(expected) <= limits::CLOCK_OFFSET_MAX_MS.unsigned_abs() {
            *before = believed;
            return wall_ms;
        }
        let leapt = *before.leapt.get_or_insert_with(|| {
            tracing::warn!(
                from_ms = expected,
                to_ms = wall_ms,
                "the clock of this machine leaps"
            );
            now
        });
        if now.since(leapt) >= limits::CLOCK_LEAP_BELIEVED {
            *before = believed;
            return wall_ms;
        }
        expected
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: u64 = 1_000_000_000;

    fn at(ms: u64) -> BootTime {
        BootTime::default().plus(Duration::from_millis(ms))
    }

    #[test]
    fn a_clock_that_runs_is_followed_and_one_that_leaps_only_when_it_stays_there() {
        for leap in [3_600_000_i64, -3_600_000] {
            let clock = SteadyClock::default();
            let leapt = |ms: u64| (START + ms).saturating_add_signed(leap);
            assert_eq!(clock.read(START, at(0)), START);
            assert_eq!(clock.read(START + 1_400, at(1_000)), START + 1_400, "drift");
            assert_eq!(clock.read(leapt(2_000), at(2_000)), START + 2_400);
            assert_eq!(clock.read(leapt(3_000), at(3_000)), START + 3_400);
            assert_eq!(clock.read(START + 3_500, at(3_500)), START + 3_500, "back");
            assert_eq!(clock.read(leapt(4_000), at(4_000)), START + 4_000);
            let later = 4_000 + millis(limits::CLOCK_LEAP_BELIEVED);
            assert_eq!(
                clock.read(leapt(later), at(later)),
                leapt(later),
                "it stays"
            );
            assert_eq!(
                clock.read(leapt(later + 9), at(later + 9)),
                leapt(later + 9)
            );
        }
    }
}
