//! Counters of one endpoint: received, sent, and dropped by cause.
//!
//! Nothing received or to be sent disappears without one of these going up.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! causes {
    ($($variant:ident $name:literal $why:literal),* $(,)?) => {
        /// Why a message or connection was dropped.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Drop {
            $(#[doc = $why] $variant,)*
        }

        impl Drop {
            /// Every cause.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The cause as a metric label.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }
        }
    };
}

causes! {
    RateLimited "rate_limited" "The source sends faster than its limit.",
    Malformed "malformed" "Not parseable; answered 400 where that was possible.",
    MisroutedResponse "misrouted_response" "A response whose top Via is not ours.",
    UnmatchedResponse "unmatched_response" "A response that belongs to nothing here.",
    TooEarly "too_early" "A request of a caller who is just being taken up from another node.",
    UnmatchedAck "unmatched_ack" "An ACK that belongs to nothing here.",
    TableFull "table_full" "The transaction or leg table is full.",
    Quiet "quiet" "Held back because this node lost its lease.",
    SendFailed "send_failed" "The socket did not take it.",
    NotBound "not_bound" "The local address is not bound here and nobody forwarded it.",
    WriteQueueFull "write_queue_full" "The peer reads its TCP connection too slowly.",
    ConnectionLimit "connection_limit" "Too many TCP connections.",
    ConnectionFailed "connection_failed" "An outgoing TCP connection could not be made.",
    LegFlooded "leg_flooded" "More within one dialog than its leg takes; requests got 503.",
    BadFrame "bad_frame" "A TCP stream that cannot be framed; its connection is closed.",
}

/// Counters of one endpoint.
#[derive(Debug, Default)]
pub struct Stats {
    received: AtomicU64,
    sent: AtomicU64,
    dropped: [AtomicU64; Drop::ALL.len()],
}

impl Stats {
    pub(crate) fn received(&self) {
        self.received.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn sent(&self) {
        self.sent.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn dropped(&self, cause: Drop) {
        if let Some(counter) = self.dropped.get(cause as usize) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Messages received.
    #[must_use]
    pub fn received_total(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Messages sent.
    #[must_use]
    pub fn sent_total(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Drops of one cause.
    #[must_use]
    pub fn dropped_total(&self, cause: Drop) -> u64 {
        self.dropped
            .get(cause as usize)
            .map_or(0, |counter| counter.load(Ordering::Relaxed))
    }
}
