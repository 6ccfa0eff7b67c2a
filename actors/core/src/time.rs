//! Time as the log knows it: milliseconds since 1970 UTC, stamped by the leader.
//! Nothing here reads a clock.

use std::fmt;

use serde::{Deserialize, Serialize};

/// An instant, ms since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TimeMs(pub u64);

impl TimeMs {
    /// The instant `ms` milliseconds later.
    pub fn plus(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// The instant `ms` milliseconds earlier.
    pub fn before(self, ms: u64) -> Self {
        Self(self.0.saturating_sub(ms))
    }

    /// Milliseconds from `earlier` to here; zero when `earlier` is later.
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// RFC 3339 in UTC with milliseconds, as every `…_at` field shows it.
    pub fn rfc3339(self) -> String {
        let ms = i64::try_from(self.0).unwrap_or(i64::MAX);
        match jiff::Timestamp::from_millisecond(ms) {
            Ok(stamp) => format!("{stamp:.3}"),
            Err(_) => String::from("9999-12-31T23:59:59.999Z"),
        }
    }
}

impl fmt::Display for TimeMs {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.rfc3339())
    }
}

impl fmt::Debug for TimeMs {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}ms", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_utc_with_milliseconds() {
        assert_eq!(TimeMs(0).rfc3339(), "1970-01-01T00:00:00.000Z");
        assert_eq!(
            TimeMs(1_790_000_000_042).rfc3339(),
            "2026-09-21T14:13:20.042Z"
        );
    }
}
