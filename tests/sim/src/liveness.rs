//! The leases of the cluster crate, on the simulator's clock.

#[path = "../../../cluster/src/liveness/lease.rs"]
pub mod lease;

use std::time::Duration;

/// A moment of simulated time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BootTime(Duration);

impl BootTime {
    /// So many milliseconds after the beginning.
    pub fn at(ms: u64) -> Self {
        // No clock stands near zero, so that spans can be subtracted.
        Self(Duration::from_millis(ms + 1_000_000))
    }

    /// Any moment, for the tests that come with the leases.
    #[cfg(test)]
    pub fn now() -> Self {
        Self::at(0)
    }

    /// This moment minus `span`.
    #[cfg(test)]
    pub fn minus(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(span))
    }

    /// This moment plus `span`.
    pub fn plus(self, span: Duration) -> Self {
        Self(self.0 + span)
    }

    /// Time from `earlier` to this moment; zero when it is later.
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}
