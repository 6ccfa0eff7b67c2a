//! Telephone events (RFC 4733): one digit per key press heard, digits sent frame by frame.
//!
//! The receiver reports a press once, at its end: with the first end packet, or, where all of
//! those were lost, when the next press begins or nothing more comes. The sender only says what
//! the next frame is; sequence and timestamp are the outgoing stream's.

use std::collections::VecDeque;
use std::time::Instant;

use crate::limits;
use crate::types::Digit;

/// Timestamp units per millisecond of `telephone-event/8000`.
const UNITS_PER_MS: u32 = 8;
/// Power of events we send, in −dBm0 (RFC 4733 §2.3.4); the usual value.
const VOLUME: u8 = 10;
/// A packet whose timestamp is at most this much older than a known event is a late one;
/// beyond that the sender's clock started anew (30 s).
const LATE_MAX: i32 = 240_000;
/// The end of an event is sent three times (RFC 4733 §2.5.1.4).
const ENDS: u8 = 3;

/// Hears the digits of one leg.
#[derive(Debug, Default)]
pub(crate) struct DigitReceiver {
    pressed: Option<Pressed>,
    /// Source and start of the press reported last: its repeated ends are ignored.
    reported: Option<(u32, u32)>,
}

#[derive(Debug, Clone, Copy)]
struct Pressed {
    event: u8,
    ssrc: u32,
    /// Timestamp of the present segment; its length so far; the length of those before.
    segment: u32,
    length: u32,
    before: u32,
    seen: Instant,
}

/// A digit and how long it was held, in milliseconds.
pub(crate) type Heard = (Digit, u32);

impl DigitReceiver {
    /// Takes the payload of an event packet. At most two digits end with it: the one before,
    /// whose ends were lost, and its own.
    pub(crate) fn note(
        &mut self,
        ssrc: u32,
        timestamp: u32,
        payload: &[u8],
        now: Instant,
    ) -> [Option<Heard>; 2] {
        let Some(&[event, flags, high, low]) = payload.first_chunk::<4>() else {
            return [None, None];
        };
        let length = u32::from(u16::from_be_bytes([high, low]));
        let end = flags & 0x80 != 0;
        if self.is_late(ssrc, timestamp) {
            return [None, None];
        }
        let mut before = None;
        match &mut self.pressed {
            Some(pressed) if pressed.ssrc == ssrc && pressed.segment == timestamp => {
                pressed.length = pressed.length.max(length);
                pressed.seen = now;
            }
            // A press longer than 8.19 s goes on in a further segment (RFC 4733 §2.5.1.3).
            Some(pressed) if pressed.continues(event, ssrc, timestamp) => {
                pressed.before = pressed
                    .before
                    .saturating_add(timestamp.wrapping_sub(pressed.segment));
                pressed.segment = timestamp;
                pressed.length = length;
                pressed.seen = now;
            }
            _ => {
                before = self.finish();
                let fresh = Pressed {
                    event,
                    ssrc,
                    segment: timestamp,
                    length,
                    before: 0,
                    seen: now,
                };
                self.pressed = Some(fresh);
            }
        }
        let own = if end { self.finish() } else { None };
        [before, own]
    }

    /// Reports a press whose ends never came.
    pub(crate) fn expire(&mut self, now: Instant) -> Option<Heard> {
        let seen = self.pressed?.seen;
        let quiet = now.saturating_duration_since(seen);
        if quiet < limits::DIGIT_TIMEOUT {
            None
        } else {
            self.finish()
        }
    }

    fn finish(&mut self) -> Option<Heard> {
        let pressed = self.pressed.take()?;
        self.reported = Some((pressed.ssrc, pressed.segment));
        let duration_ms = pressed.before.saturating_add(pressed.length) / UNITS_PER_MS;
        Some((Digit::from_event(pressed.event)?, duration_ms))
    }

    fn is_late(&self, ssrc: u32, timestamp: u32) -> bool {
        let reported = self.reported.is_some_and(|(source, segment)| {
            let age = segment.wrapping_sub(timestamp) as i32;
            source == ssrc && (0..=LATE_MAX).contains(&age)
        });
        let pressed = self.pressed.is_some_and(|pressed| {
            let age = pressed.segment.wrapping_sub(timestamp) as i32;
            pressed.ssrc == ssrc && (1..=LATE_MAX).contains(&age)
        });
        reported || pressed
    }
}

impl Pressed {
    fn continues(&self, event: u8, ssrc: u32, timestamp: u32) -> bool {
        let step = timestamp.wrapping_sub(self.segment);
        // Only a full segment is followed by another one of the same press.
        event == self.event && ssrc == self.ssrc && step == 0xffff && self.length > 0x8000
    }
}

/// Sends the digits of one leg.
#[derive(Debug, Default)]
pub(crate) struct DigitSender {
    waiting: VecDeque<(Digit, u32)>,
    present: Option<Sending>,
    /// Samples of silence still due behind the last digit.
    pause: u32,
}

#[derive(Debug)]
struct Sending {
    digit: Digit,
    total: u32,
    /// Length reported so far, and samples since its start.
    length: u32,
    span: u32,
    ends: u8,
}

/// What the next frame of the leg is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Frame {
    /// An event packet.
    Event {
        payload: [u8; 4],
        /// Samples since the press began, this frame included.
        span: u32,
        /// A new press: takes a new timestamp and the marker.
        first: bool,
    },
    /// Silence between digits.
    Pause,
}

impl DigitSender {
    /// Adds a digit; false when too many are waiting.
    pub(crate) fn push(&mut self, digit: Digit, ms: u32) -> bool {
        if self.waiting.len() >= limits::DIGIT_QUEUE {
            return false;
        }
        let ms = ms.clamp(limits::DIGIT_MS_MIN, limits::DIGIT_MS_MAX);
        self.waiting.push_back((digit, ms * UNITS_PER_MS));
        true
    }

    /// Is there something to send or a pause to keep?
    pub(crate) fn busy(&self) -> bool {
        self.present.is_some() || self.pause > 0 || !self.waiting.is_empty()
    }

    /// The next frame of so many samples; `None` when there is nothing to send.
    pub(crate) fn next(&mut self, samples: u32) -> Option<Frame> {
        if self.present.is_none() {
            if self.pause > 0 {
                self.pause = self.pause.saturating_sub(samples);
                return Some(Frame::Pause);
            }
            let (digit, total) = self.waiting.pop_front()?;
            self.present = Some(Sending {
                digit,
                total,
                length: 0,
                span: 0,
                ends: 0,
            });
        }
        let sending = self.present.as_mut()?;
        let first = sending.span == 0;
        sending.span += samples;
        sending.length = sending.span.min(sending.total);
        let end = sending.length == sending.total;
        let [_, _, high, low] = sending.length.to_be_bytes();
        let flags = VOLUME | if end { 0x80 } else { 0 };
        let payload = [sending.digit.event(), flags, high, low];
        let span = sending.span;
        sending.ends += u8::from(end);
        if sending.ends == ENDS {
            let silent = sending.span.saturating_sub(sending.total);
            self.pause = (limits::DIGIT_PAUSE_MS * UNITS_PER_MS).saturating_sub(silent);
            self.present = None;
        }
        Some(Frame::Event {
            payload,
            span,
            first,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn payload(event: u8, end: bool, length: u16) -> [u8; 4] {
        let [high, low] = length.to_be_bytes();
        [event, if end { 0x8a } else { 0x0a }, high, low]
    }

    fn key(key: char, ms: u32) -> Option<Heard> {
        Digit::from_char(key).map(|digit| (digit, ms))
    }

    #[test]
    fn a_press_is_reported_once_whatever_is_repeated_or_late() {
        let now = Instant::now();
        let mut receiver = DigitReceiver::default();
        for length in [160, 320, 480] {
            assert_eq!(
                receiver.note(1, 500, &payload(5, false, length), now),
                [None, None]
            );
        }
        assert_eq!(
            receiver.note(1, 500, &payload(5, true, 800), now),
            [None, key('5', 100)]
        );
        for _ in 0..2 {
            assert_eq!(
                receiver.note(1, 500, &payload(5, true, 800), now),
                [None, None]
            );
        }
        assert_eq!(
            receiver.note(1, 500, &payload(5, false, 640), now),
            [None, None]
        );
        assert_eq!(
            receiver.note(1, 2_000, &payload(5, true, 800), now),
            [None, key('5', 100)]
        );
    }

    #[test]
    fn lost_ends_and_lost_beginnings_still_give_one_digit() {
        let now = Instant::now();
        let mut receiver = DigitReceiver::default();
        assert_eq!(
            receiver.note(1, 500, &payload(11, false, 400), now),
            [None, None]
        );
        let both = receiver.note(1, 5_000, &payload(3, true, 640), now);
        assert_eq!(both, [key('#', 50), key('3', 80)]);
        assert_eq!(
            receiver.note(1, 9_000, &payload(0, false, 160), now),
            [None, None]
        );
        assert_eq!(receiver.expire(now + Duration::from_millis(199)), None);
        assert_eq!(
            receiver.expire(now + Duration::from_millis(200)),
            key('0', 20)
        );
        assert_eq!(receiver.expire(now + Duration::from_secs(9)), None);
        assert_eq!(
            receiver.note(1, 9_000, &payload(0, true, 800), now),
            [None, None]
        );
    }

    #[test]
    fn long_presses_flashes_and_other_sources() {
        let now = Instant::now();
        let mut receiver = DigitReceiver::default();
        receiver.note(1, 0, &payload(1, false, 0xffff), now);
        receiver.note(1, 0xffff, &payload(1, false, 160), now);
        let ended = receiver.note(1, 0xffff, &payload(1, true, 801), now);
        assert_eq!(ended, [None, key('1', (0xffff + 801) / 8)]);
        assert_eq!(
            receiver.note(1, 100_000, &payload(16, true, 800), now),
            [None, None],
            "flash"
        );
        assert_eq!(
            receiver.note(2, 10, &payload(7, true, 800), now),
            [None, key('7', 100)]
        );
        assert_eq!(
            receiver.note(2, 5_000, &[7, 0x8a, 0], now),
            [None, None],
            "short"
        );
    }

    #[test]
    fn what_is_sent_is_heard_digit_by_digit() {
        let mut sender = DigitSender::default();
        for (digit, ms) in ["1", "1", "#"].iter().zip([10, 100, 99_999]) {
            let digit = digit
                .chars()
                .next()
                .and_then(Digit::from_char)
                .expect("a key");
            assert!(sender.push(digit, ms));
        }
        let now = Instant::now();
        let (mut receiver, mut heard) = (DigitReceiver::default(), Vec::new());
        let (mut clock, mut start, mut ends) = (0u32, 0, 0);
        while let Some(frame) = sender.next(160) {
            if let Frame::Event { payload, first, .. } = frame {
                start = if first { clock } else { start };
                ends += u32::from(payload[1] >> 7);
                heard.extend(receiver.note(9, start, &payload, now).into_iter().flatten());
            }
            clock += 160;
        }
        let wanted: Vec<_> = [key('1', 40), key('1', 100), key('#', 8_000)]
            .into_iter()
            .flatten()
            .collect();
        assert_eq!((heard, ends), (wanted, 9));
        assert!(!sender.busy());
        let one = Digit::from_event(1).expect("a key");
        assert_eq!(
            (0..100).filter(|_| sender.push(one, 50)).count(),
            limits::DIGIT_QUEUE
        );
    }
}
