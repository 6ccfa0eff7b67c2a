//! The stream we send: one SSRC, sequence and timestamp going on whatever feeds it.
//!
//! Phones hear one source for the whole call. A feed (relayed source, player, digits) is mapped
//! by offsets that are chosen anew when it changes; the first packet of a new feed carries the
//! marker. Loss and reordering of a relayed source stay visible behind the offset, so that the
//! phone can conceal them (RFC 3550 §5.1).

use std::time::{Duration, Instant};

use crate::types::LegKey;

/// Sequence jumps of a relayed source beyond this are a new start of it.
const SEQUENCE_JUMP_MAX: i16 = 3_000;
/// A relayed timestamp may differ from the time that passed by this much (2 s); beyond it the
/// sender started anew and the mapping does too.
const TIMESTAMP_JUMP_MAX: i64 = 16_000;

/// Sequence and timestamp of everything sent on a leg.
#[derive(Debug)]
pub(crate) struct Outgoing {
    ssrc: u32,
    /// Highest sequence and timestamp sent so far, and when.
    sequence: u16,
    timestamp: u32,
    at: Option<Instant>,
    /// Samples of the packet sent last.
    frame: u32,
    feed: Feed,
}

#[derive(Debug)]
enum Feed {
    Nothing,
    /// We originate; packets follow each other.
    Own,
    Relay(Relay),
}

#[derive(Debug)]
struct Relay {
    from: LegKey,
    ssrc: u32,
    sequence_offset: u16,
    timestamp_offset: u32,
    /// Highest sequence of the source, and packets it advanced since the feed began.
    highest: u16,
    advanced: u32,
    /// Timestamp and time of the latest audio packet.
    audio: Option<(u32, Instant)>,
}

/// Where a packet stands in the outgoing stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) sequence: u16,
    pub(crate) timestamp: u32,
    /// First packet of its feed.
    pub(crate) first: bool,
}

/// What the mapping needs of a relayed packet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Relayed {
    pub(crate) from: LegKey,
    pub(crate) ssrc: u32,
    pub(crate) sequence: u16,
    pub(crate) timestamp: u32,
    pub(crate) samples: u32,
    pub(crate) audio: bool,
}

impl Outgoing {
    pub(crate) fn new(ssrc: u32, sequence: u16, timestamp: u32) -> Self {
        Self {
            ssrc,
            sequence,
            timestamp,
            at: None,
            frame: 160,
            feed: Feed::Nothing,
        }
    }

    pub(crate) fn ssrc(&self) -> u32 {
        self.ssrc
    }

    /// The timestamp that belongs to `now`, for RTCP sender reports.
    pub(crate) fn timestamp_at(&self, now: Instant) -> u32 {
        let since = self
            .at
            .map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        self.timestamp.wrapping_add(samples(since))
    }

    /// The next packet of a feed that begins anew, whoever it is.
    pub(crate) fn restart(&mut self) {
        self.feed = Feed::Nothing;
    }

    /// Places the next frame that we originate; `samples` long.
    pub(crate) fn own(&mut self, samples: u32, now: Instant) -> Place {
        let first = !matches!(self.feed, Feed::Own);
        let timestamp = if first {
            self.fresh(now)
        } else {
            self.timestamp.wrapping_add(self.frame)
        };
        self.feed = Feed::Own;
        self.frame = samples;
        self.timestamp = timestamp;
        self.at = Some(now);
        self.sequence = self.sequence.wrapping_add(1);
        Place {
            sequence: self.sequence,
            timestamp,
            first,
        }
    }

    /// Places a further packet of the telephone event begun with [`Outgoing::own`]: the
    /// timestamp stays (RFC 4733 §2.5.1.2). The event's length becomes the frame, so that audio
    /// goes on behind it.
    pub(crate) fn own_again(&mut self, samples: u32, now: Instant) -> Place {
        self.sequence = self.sequence.wrapping_add(1);
        self.frame = samples;
        self.at = Some(now);
        Place {
            sequence: self.sequence,
            timestamp: self.timestamp,
            first: false,
        }
    }

    /// Lets our own timestamp advance over frames that are not sent.
    pub(crate) fn skip(&mut self, samples: u32) {
        self.frame = self.frame.wrapping_add(samples);
    }

    /// Places a relayed packet. `None` for one that is older than its feed.
    pub(crate) fn relay(&mut self, packet: &Relayed, now: Instant) -> Option<Place> {
        if let Feed::Relay(relay) = &mut self.feed
            && relay.continues(packet, now)
        {
            let step = packet.sequence.wrapping_sub(relay.highest) as i16;
            if step > 0 {
                relay.highest = packet.sequence;
                relay.advanced = relay
                    .advanced
                    .saturating_add(u32::from(step.unsigned_abs()));
            } else if u32::from(step.unsigned_abs()) > relay.advanced {
                return None;
            }
            let sequence = packet.sequence.wrapping_add(relay.sequence_offset);
            let timestamp = packet.timestamp.wrapping_add(relay.timestamp_offset);
            if packet.audio && step > 0 {
                relay.audio = Some((packet.timestamp, now));
            }
            self.note(sequence, timestamp, packet.samples, now);
            return Some(Place {
                sequence,
                timestamp,
                first: false,
            });
        }
        let sequence = self.sequence.wrapping_add(1);
        let timestamp = self.fresh(now);
        self.feed = Feed::Relay(Relay {
            from: packet.from,
            ssrc: packet.ssrc,
            sequence_offset: sequence.wrapping_sub(packet.sequence),
            timestamp_offset: timestamp.wrapping_sub(packet.timestamp),
            highest: packet.sequence,
            advanced: 0,
            audio: packet.audio.then_some((packet.timestamp, now)),
        });
        self.note(sequence, timestamp, packet.samples, now);
        Some(Place {
            sequence,
            timestamp,
            first: true,
        })
    }

    fn note(&mut self, sequence: u16, timestamp: u32, samples: u32, now: Instant) {
        if (sequence.wrapping_sub(self.sequence) as i16) > 0 {
            self.sequence = sequence;
        }
        if (timestamp.wrapping_sub(self.timestamp) as i32) >= 0 {
            self.timestamp = timestamp;
            self.frame = samples;
            self.at = Some(now);
        }
    }

    /// The timestamp of a feed that begins now: behind what was sent, and as far as time went.
    fn fresh(&self, now: Instant) -> u32 {
        let since = self
            .at
            .map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        self.timestamp.wrapping_add(samples(since).max(self.frame))
    }
}

impl Relay {
    fn continues(&self, packet: &Relayed, now: Instant) -> bool {
        if self.from != packet.from || self.ssrc != packet.ssrc {
            return false;
        }
        let step = packet.sequence.wrapping_sub(self.highest) as i16;
        if step.unsigned_abs() > SEQUENCE_JUMP_MAX.unsigned_abs() {
            return false;
        }
        match self.audio {
            Some((timestamp, at)) if packet.audio && step > 0 => {
                let sent = i64::from(packet.timestamp.wrapping_sub(timestamp) as i32);
                let passed = i64::from(samples(now.saturating_duration_since(at)));
                (sent - passed).abs() <= TIMESTAMP_JUMP_MAX
            }
            _ => true,
        }
    }
}

/// Samples at 8 kHz in this time; wraps as timestamps do.
fn samples(time: Duration) -> u32 {
    (time.as_micros() * 8 / 1_000) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: LegKey = LegKey(1);
    const B: LegKey = LegKey(2);

    fn packet(from: LegKey, sequence: u16, timestamp: u32) -> Relayed {
        Relayed {
            from,
            ssrc: 7,
            sequence,
            timestamp,
            samples: 160,
            audio: true,
        }
    }

    fn ms(start: Instant, ms: u64) -> Instant {
        start + Duration::from_millis(ms)
    }

    #[test]
    fn a_relayed_source_keeps_its_gaps_and_order() {
        let now = Instant::now();
        let mut out = Outgoing::new(1, 65_530, 1_000);
        let first = out.relay(&packet(A, 100, 50_000), now).expect("first");
        assert!(first.first);
        let gap = out
            .relay(&packet(A, 103, 50_480), ms(now, 60))
            .expect("after a gap");
        assert_eq!(gap.sequence, first.sequence.wrapping_add(3));
        assert_eq!(gap.timestamp, first.timestamp.wrapping_add(480));
        let late = out
            .relay(&packet(A, 101, 50_160), ms(now, 61))
            .expect("reordered");
        assert_eq!(late.sequence, first.sequence.wrapping_add(1));
        assert!(!gap.first && !late.first);
        assert_eq!(
            out.relay(&packet(A, 99, 49_840), ms(now, 62)),
            None,
            "older than the feed"
        );
    }

    #[test]
    fn switching_feeds_goes_on_behind_what_was_sent() {
        let now = Instant::now();
        let mut out = Outgoing::new(1, 10, 0);
        let a = out.relay(&packet(A, 9_000, 77), now).expect("a");
        let own = out.own(160, ms(now, 20));
        assert_eq!((own.sequence, own.first), (a.sequence + 1, true));
        assert_eq!(own.timestamp, a.timestamp + 160);
        let next = out.own(160, ms(now, 41));
        assert_eq!((next.timestamp, next.first), (own.timestamp + 160, false));
        let b = out
            .relay(&packet(B, 5, 999_999), ms(now, 1_041))
            .expect("b");
        assert_eq!((b.sequence, b.first), (next.sequence + 1, true));
        assert_eq!(b.timestamp, next.timestamp + 8_000);
    }

    #[test]
    fn a_sender_that_starts_anew_is_a_new_feed() {
        let now = Instant::now();
        let mut out = Outgoing::new(1, 10, 0);
        let a = out.relay(&packet(A, 100, 0), now).expect("a");
        let jumped = out
            .relay(&packet(A, 101, 900_000), ms(now, 20))
            .expect("timestamp jumped");
        assert!(jumped.first);
        assert_eq!(jumped.timestamp, a.timestamp + 160);
        let sequence = out
            .relay(&packet(A, 30_000, 900_160), ms(now, 40))
            .expect("jumped");
        assert_eq!((sequence.first, sequence.sequence), (true, a.sequence + 2));
        // Silence suppression: the timestamp advances with the time, which is no new start.
        let pause = packet(A, 30_001, 900_160 + 80_000);
        assert!(
            !out.relay(&pause, ms(now, 10_040))
                .expect("after a pause")
                .first
        );
    }

    #[test]
    fn an_event_keeps_its_timestamp_and_audio_follows_behind_it() {
        let now = Instant::now();
        let mut out = Outgoing::new(1, 10, 0);
        let start = out.own(160, now);
        let update = out.own_again(320, ms(now, 20));
        assert_eq!(
            (update.sequence, update.timestamp),
            (start.sequence + 1, start.timestamp)
        );
        out.skip(160);
        assert_eq!(out.own(160, ms(now, 60)).timestamp, start.timestamp + 480);
    }
}
