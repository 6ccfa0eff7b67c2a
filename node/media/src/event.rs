//! What the engine reports: events in a bounded queue, statistics of a leg, totals.
//!
//! Workers never wait for the receiver. Events that find the queue full are kept back in a
//! bounded backlog and, beyond that, lost and counted in [`Totals::events_dropped`].

use std::net::SocketAddr;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};

use crate::{Digit, LegKey, PlayToken};

/// Something that happened to a leg's audio.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// The first RTP packet was accepted since the leg was opened or its remote changed.
    FirstPacket {
        /// The leg.
        leg: LegKey,
        /// The source now pinned.
        source: SocketAddr,
    },
    /// A key was pressed; reported once, at its end (RFC 4733).
    Digit {
        /// The leg.
        leg: LegKey,
        /// The key.
        digit: Digit,
        /// How long it was held, in milliseconds.
        duration_ms: u32,
    },
    /// A `play` or `tone` is over. Sent exactly once for each, except when the leg is closed.
    PlayEnded {
        /// The leg.
        leg: LegKey,
        /// The token given to `play` or `tone`.
        token: PlayToken,
        /// True when it ran to its end, false when it was stopped or replaced.
        complete: bool,
    },
    /// Nothing was received for the configured time though audio is expected.
    NoAudio {
        /// The leg.
        leg: LegKey,
        /// Silence so far, in milliseconds.
        for_ms: u64,
        /// What was received before it, as in [`LegStats::packets_received`].
        packets_received: u64,
    },
    /// Audio is received again after `NoAudio`.
    AudioBack {
        /// The leg.
        leg: LegKey,
    },
    /// The leg is closed and its ports are free.
    Closed {
        /// The leg.
        leg: LegKey,
        /// Its final statistics.
        stats: LegStats,
    },
}

/// Counters of one leg since it was opened. Bytes are RTP payload bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LegStats {
    /// RTP packets sent to the phone.
    pub packets_sent: u64,
    /// Payload bytes sent to the phone.
    pub bytes_sent: u64,
    /// RTP packets accepted from the phone.
    pub packets_received: u64,
    /// Payload bytes accepted from the phone.
    pub bytes_received: u64,
    /// Packets the phone sent that did not arrive (RFC 3550 A.3), never below zero.
    pub packets_lost: u64,
    /// Interarrival jitter (RFC 3550 A.8) in microseconds.
    pub jitter_us: u32,
    /// Packets from other sources than the pinned one.
    pub foreign_dropped: u64,
    /// Packets that are not RTP (short, wrong version, lying about their length).
    pub malformed_dropped: u64,
    /// Packets with a payload type that was not agreed.
    pub payload_dropped: u64,
    /// Packets the operating system did not take.
    pub send_failed: u64,
    /// Round trip to the phone by RTCP, in microseconds, once known.
    pub round_trip_us: Option<u32>,
    /// Loss of our packets as the phone reports it.
    pub remote_lost: u32,
    /// Jitter of our packets as the phone reports it, in microseconds.
    pub remote_jitter_us: u32,
}

/// Sums over all legs since the engine started, for metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Legs open now.
    pub legs: u64,
    /// RTP packets accepted.
    pub packets_received: u64,
    /// RTP packets sent.
    pub packets_sent: u64,
    /// Packets from foreign sources dropped.
    pub foreign_dropped: u64,
    /// Malformed packets dropped.
    pub malformed_dropped: u64,
    /// Packets of a payload type that was not agreed, dropped.
    pub payload_dropped: u64,
    /// Packets that had waited too long to be worth relaying, because the process or its
    /// machine stood still.
    pub stale_dropped: u64,
    /// Packets the operating system did not take.
    pub send_failed: u64,
    /// Digits not sent because too many were waiting on a leg.
    pub digits_dropped: u64,
    /// Events lost because nobody took them.
    pub events_dropped: u64,
    /// Rounds of a worker that ended in a panic and were abandoned.
    pub panics: u64,
}

/// The receiving end of the engine's events. Blocking; give it a thread of its own.
#[derive(Debug)]
pub struct EventReceiver {
    pub(crate) queue: Receiver<Event>,
}

impl EventReceiver {
    /// The next event; waits for it. `None` once the engine has stopped and all is read.
    pub fn recv(&self) -> Option<Event> {
        self.queue.recv().ok()
    }

    /// The next event if one is waiting.
    pub fn try_recv(&self) -> Option<Event> {
        self.queue.try_recv().ok()
    }

    /// The next event within `wait`. `Ok(None)` means the engine has stopped.
    ///
    /// # Errors
    /// [`TimedOut`] when nothing happened in time.
    pub fn recv_timeout(&self, wait: Duration) -> Result<Option<Event>, TimedOut> {
        match self.queue.recv_timeout(wait) {
            Ok(event) => Ok(Some(event)),
            Err(RecvTimeoutError::Disconnected) => Ok(None),
            Err(RecvTimeoutError::Timeout) => Err(TimedOut),
        }
    }
}

/// No event arrived in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no media event in time")]
pub struct TimedOut;
