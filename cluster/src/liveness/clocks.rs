//! From the clock that acknowledgements are noted by to the one that leases run by.
//!
//! The first stops while the machine is suspended, the second does not. A lease may end early
//! and must not last too long: what is worked out here is never too late a moment.

use openraft::{Instant as _, TokioInstant};

use super::BootTime;
use crate::limits;

/// The same moment on both clocks.
#[derive(Clone, Copy)]
struct Moment {
    runs: BootTime,
    stops: TokioInstant,
}

impl Moment {
    fn now() -> Self {
        // In this order: stopped between the two, the process works out moments too early.
        let runs = BootTime::now();
        let stops = TokioInstant::now();
        Self { runs, stops }
    }
}

/// Two moments on both clocks, at least a lease apart once they are.
pub struct Clocks {
    older: Moment,
    newer: Moment,
}

impl Clocks {
    /// At this moment.
    pub fn new() -> Self {
        let now = Moment::now();
        Self {
            older: now,
            newer: now,
        }
    }

    /// To be called often: a suspension is left out until two calls a lease apart after it.
    pub fn look(&mut self) {
        self.look_at(Moment::now());
    }

    fn look_at(&mut self, now: Moment) {
        if now.stops - self.newer.stops >= limits::LEASE_MAX {
            (self.older, self.newer) = (self.newer, now);
        }
    }

    /// When it was `at`, or earlier; `None` when that is too long ago for any lease.
    pub fn moment_of(&self, at: TokioInstant) -> Option<BootTime> {
        let older = self.older;
        (at >= older.stops).then(|| older.runs.plus(at - older.stops))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn no_moment_is_too_late_when_the_machine_was_suspended() {
        let ms = Duration::from_millis;
        let start = Moment::now();
        let at = |stops: u64, suspended: u64| Moment {
            runs: start.runs.plus(ms(stops + suspended)),
            stops: start.stops + ms(stops),
        };
        let mut clocks = Clocks {
            older: start,
            newer: start,
        };
        let after = |clocks: &Clocks, stops: u64| {
            let found = clocks.moment_of(start.stops + ms(stops))?;
            Some(found.since(start.runs))
        };
        clocks.look_at(at(500, 0));
        assert_eq!(after(&clocks, 400), Some(ms(400)));
        clocks.look_at(at(1_000, 9_000));
        assert_eq!(after(&clocks, 900), Some(ms(900)), "before the suspension");
        assert_eq!(after(&clocks, 1_200), Some(ms(1_200)), "too early by it");
        clocks.look_at(at(2_000, 9_000));
        assert_eq!(after(&clocks, 1_900), Some(ms(10_900)));
        assert_eq!(after(&clocks, 900), None);
    }
}
