//! What arrived and what did not: loss (RFC 3550 A.1, A.3) and jitter (A.8) of one source.
//!
//! Sums survive a change of source; the report block is about the present one.

use std::time::Instant;

/// Jumps of the sequence number up to this are loss or reordering, larger ones a new start.
const JUMP_MAX: i32 = 3_000;

/// Reception of one leg.
#[derive(Debug, Default)]
pub(crate) struct Reception {
    source: Option<Source>,
    lost_before: u64,
    jitter_before: u32,
}

#[derive(Debug)]
struct Source {
    ssrc: u32,
    first: i64,
    highest: i64,
    received: i64,
    /// Jitter in timestamp units times 16, as in RFC 3550 A.8.
    jitter: u32,
    last: Option<(Instant, u32)>,
    reported: (i64, i64),
}

/// The figures of a reception report block (RFC 3550 §6.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) ssrc: u32,
    pub(crate) fraction_lost: u8,
    pub(crate) lost: i32,
    pub(crate) highest: u32,
    pub(crate) jitter: u32,
}

impl Reception {
    /// Notes a packet. `audio` packets count for the jitter; telephone events repeat their
    /// timestamp and do not.
    pub(crate) fn note(&mut self, ssrc: u32, seq: u16, timestamp: u32, audio: bool, now: Instant) {
        let step = match &self.source {
            Some(source) if source.ssrc == ssrc => {
                let low = (source.highest & 0xffff) as u16;
                let step = i32::from(seq.wrapping_sub(low) as i16);
                (step.abs() <= JUMP_MAX).then_some(step)
            }
            _ => None,
        };
        match (step, &mut self.source) {
            (Some(step), Some(source)) => source.advance(step, timestamp, audio, now),
            _ => {
                self.lost_before = self.lost();
                self.jitter_before = self.jitter();
                let first = i64::from(seq);
                self.source = Some(Source {
                    ssrc,
                    first,
                    highest: first,
                    received: 1,
                    jitter: self.jitter_before << 4,
                    last: audio.then_some((now, timestamp)),
                    reported: (0, 0),
                });
            }
        }
    }

    /// Packets lost over all sources.
    pub(crate) fn lost(&self) -> u64 {
        let now = self.source.as_ref().map_or(0, Source::lost);
        self.lost_before
            .saturating_add(u64::try_from(now).unwrap_or(0))
    }

    /// Jitter in timestamp units (1/8000 s).
    pub(crate) fn jitter(&self) -> u32 {
        self.source
            .as_ref()
            .map_or(self.jitter_before, |source| source.jitter >> 4)
    }

    /// The report about the present source; begins a new reporting interval.
    pub(crate) fn report(&mut self) -> Option<Report> {
        let source = self.source.as_mut()?;
        let expected = source.expected();
        let (expected_before, received_before) = source.reported;
        source.reported = (expected, source.received);
        let expected_now = expected - expected_before;
        let lost_now = expected_now - (source.received - received_before);
        let fraction = if expected_now <= 0 || lost_now <= 0 {
            0
        } else {
            u8::try_from((lost_now << 8) / expected_now).unwrap_or(u8::MAX)
        };
        Some(Report {
            ssrc: source.ssrc,
            fraction_lost: fraction,
            // Twenty-four bits, signed (RFC 3550 §6.4.1).
            lost: i32::try_from(source.lost().clamp(-0x80_0000, 0x7f_ffff)).unwrap_or(0),
            highest: (source.highest & 0xffff_ffff) as u32,
            jitter: source.jitter >> 4,
        })
    }
}

impl Source {
    fn advance(&mut self, step: i32, timestamp: u32, audio: bool, now: Instant) {
        self.highest += i64::from(step.max(0));
        self.received += 1;
        if !audio {
            return;
        }
        if let Some((then, timestamp_then)) = self.last {
            let arrival = now.saturating_duration_since(then).as_micros() * 8 / 1_000;
            let arrival = i64::try_from(arrival).unwrap_or(i64::MAX);
            let sent = i64::from(timestamp.wrapping_sub(timestamp_then) as i32);
            // A pause or a jump of the sender's clock is no jitter of the network.
            let difference = arrival.saturating_sub(sent).unsigned_abs().min(8_000) as u32;
            let jitter = self.jitter;
            self.jitter = jitter.saturating_add(difference) - ((jitter + 8) >> 4);
        }
        self.last = Some((now, timestamp));
    }

    fn expected(&self) -> i64 {
        self.highest - self.first + 1
    }

    fn lost(&self) -> i64 {
        self.expected() - self.received
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn loss_is_counted_over_the_wrap_and_reported_per_interval() {
        let mut reception = Reception::default();
        let now = Instant::now();
        for seq in [65_534, 65_535, 0, 3, 2] {
            reception.note(1, seq, 0, false, now);
        }
        assert_eq!(reception.lost(), 1);
        let report = reception.report().expect("a source");
        assert_eq!((report.lost, report.highest), (1, 65_536 + 3));
        assert_eq!(report.fraction_lost, 42);
        reception.note(1, 4, 0, false, now);
        assert_eq!(reception.report().map(|r| r.fraction_lost), Some(0));
    }

    #[test]
    fn a_new_source_keeps_the_sum() {
        let mut reception = Reception::default();
        let now = Instant::now();
        reception.note(1, 10, 0, true, now);
        reception.note(1, 12, 320, true, now);
        reception.note(2, 40_000, 0, true, now);
        reception.note(2, 40_003, 0, true, now);
        assert_eq!(reception.lost(), 3);
        reception.note(2, 10, 0, true, now);
        assert_eq!(
            reception.lost(),
            3,
            "a jump is a new start, not thirty thousand lost"
        );
    }

    #[test]
    fn even_arrival_has_no_jitter_and_uneven_has() {
        let start = Instant::now();
        let (mut even, mut uneven) = (Reception::default(), Reception::default());
        for n in 0..200u16 {
            let at = start + Duration::from_millis(20 * u64::from(n));
            even.note(1, n, 160 * u32::from(n), true, at);
            let shift = Duration::from_millis(if n % 2 == 0 { 0 } else { 10 });
            uneven.note(1, n, 160 * u32::from(n), true, at + shift);
        }
        assert_eq!(even.jitter(), 0);
        // Ten milliseconds to and fro: |D| = 80 units each time.
        assert!((75..=80).contains(&uneven.jitter()), "{}", uneven.jitter());
    }
}
