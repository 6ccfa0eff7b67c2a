//! One timer queue per endpoint: transactions and legs arm entries, one task fires them.
//!
//! Entries are never removed; whoever armed one judges on firing whether it still means anything.
//! That bounds the queue by what is armed, which the tables bound.

use crate::token::LegToken;
use crate::transaction::Key;
use parking_lot::Mutex;
use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// The base intervals of RFC 3261 §17.1.1.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Intervals {
    /// Round-trip estimate.
    pub t1: Duration,
    /// Longest retransmission interval.
    pub t2: Duration,
    /// Longest life of a message in the network.
    pub t4: Duration,
}

impl Default for Intervals {
    fn default() -> Self {
        Self {
            t1: Duration::from_millis(500),
            t2: Duration::from_secs(4),
            t4: Duration::from_secs(5),
        }
    }
}

impl Intervals {
    /// 64·T1: how long one side waits for the other at most.
    #[must_use]
    pub fn patience(&self) -> Duration {
        self.t1 * 64
    }

    /// The next retransmission interval.
    #[must_use]
    pub fn double(&self, interval: Duration) -> Duration {
        (interval * 2).min(self.t2)
    }

    /// A time that RFCs give in seconds, shortened like T1 is.
    #[must_use]
    pub fn scale(&self, time: Duration) -> Duration {
        time.mul_f64(self.t1.as_secs_f64() / 0.5)
    }
}

/// What a transaction armed a timer for, named as in RFC 3261 §17 and RFC 6026.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A, E or G: send again.
    Retransmit,
    /// B, F or H: give up.
    GiveUp,
    /// D, I, J, K, L or M: the transaction is over.
    Forget,
}

/// What a leg armed a timer for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LegTimer {
    /// Send our 2xx again.
    RetransmitOk,
    /// The ACK for our 2xx is overdue.
    AckOverdue,
    /// Repeat the last provisional response (RFC 3261 §13.3.1.1).
    Provisional,
    /// The final response to a cancelled INVITE is overdue.
    CancelOverdue,
    /// Try a refused re-INVITE again.
    Glare,
    /// Send a session refresh.
    Refresh,
    /// The peer's session refresh is overdue.
    Expire,
    /// The owner has not ended a leg whose answer crossed our CANCEL.
    Crossed,
    /// Our re-INVITE is not answered, and a BYE waits for that.
    Unanswered,
    /// The owner has not said that the end told by a BYE is known.
    Parting,
    /// Forget the ended leg.
    Linger,
}

impl LegTimer {
    pub(crate) const COUNT: usize = 11;
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Due {
    Server(Key, Kind),
    Client(Key, Kind),
    Leg(LegToken, LegTimer, u32),
}

struct Entry {
    at: Instant,
    due: Due,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    // Reversed: the heap gives its greatest, we want the earliest.
    fn cmp(&self, other: &Self) -> Ordering {
        other.at.cmp(&self.at)
    }
}

#[derive(Default)]
struct Queue {
    heap: BinaryHeap<Entry>,
    wakes_at: Option<Instant>,
}

/// Firing is grouped to this grain, so that a busy endpoint wakes at most this often.
const GRAIN: Duration = Duration::from_millis(5);

#[derive(Default)]
pub(crate) struct Timers {
    queue: Mutex<Queue>,
    earlier: Notify,
}

impl Timers {
    pub(crate) fn arm(&self, after: Duration, due: Due) {
        let at = Instant::now() + after;
        let mut queue = self.queue.lock();
        queue.heap.push(Entry { at, due });
        if queue.wakes_at.is_none_or(|wakes_at| at + GRAIN < wakes_at) {
            queue.wakes_at = Some(at);
            drop(queue);
            self.earlier.notify_one();
        }
    }

    /// Waits until something is due and takes it all.
    pub(crate) async fn due(&self, out: &mut Vec<Due>) {
        loop {
            let wakes_at = {
                let mut queue = self.queue.lock();
                let now = Instant::now();
                while queue.heap.peek().is_some_and(|entry| entry.at <= now) {
                    if let Some(entry) = queue.heap.pop() {
                        out.push(entry.due);
                    }
                }
                queue.wakes_at = queue.heap.peek().map(|entry| entry.at.max(now + GRAIN));
                queue.wakes_at
            };
            if !out.is_empty() {
                return;
            }
            match wakes_at {
                Some(at) => tokio::select! {
                    () = tokio::time::sleep_until(at.into()) => {}
                    () = self.earlier.notified() => {}
                },
                None => self.earlier.notified().await,
            }
        }
    }
}
