//! RTCP of one leg (RFC 3550 §6): our reports every five seconds, the phone's reports read.
//!
//! Only what statistics need: sender and receiver reports, CNAME, BYE. Anything else in a
//! compound packet is skipped.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::receive::Report;

const SENDER_REPORT: u8 = 200;
const RECEIVER_REPORT: u8 = 201;
const DESCRIPTION: u8 = 202;
const GOODBYE: u8 = 203;
/// Seconds from 1900 to 1970.
const NTP_UNIX: u64 = 2_208_988_800;
/// Round trips above this are a wrong clock of the phone, in 1/65536 s (10 s).
const ROUND_TRIP_MAX: u32 = 10 << 16;

/// Turns the monotonic clock into NTP timestamps, steadily even when the wall clock is set.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NtpClock {
    start: Instant,
    since_1970: Duration,
}

impl NtpClock {
    pub(crate) fn new() -> Self {
        let since_1970 = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Self {
            start: Instant::now(),
            since_1970,
        }
    }

    /// Seconds in the upper, fraction in the lower half (RFC 5905 §6).
    fn at(&self, now: Instant) -> u64 {
        let time = self.since_1970 + now.saturating_duration_since(self.start);
        let fraction = (u64::from(time.subsec_nanos()) << 32) / 1_000_000_000;
        (time.as_secs().wrapping_add(NTP_UNIX) << 32) | fraction
    }

    fn middle(&self, now: Instant) -> u32 {
        ((self.at(now) >> 16) & 0xffff_ffff) as u32
    }
}

/// What the phone told about itself and about what it hears.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// Middle bits of the phone's last sender report, and when it came.
    sender: Option<(u32, Instant)>,
    /// Round trip in microseconds.
    pub(crate) round_trip_us: Option<u32>,
    pub(crate) lost: u32,
    /// In timestamp units.
    pub(crate) jitter: u32,
}

/// What our report says about what we send.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sent {
    pub(crate) timestamp: u32,
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
}

/// What goes into a report of ours.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Parts {
    /// What we sent, if anything since the last report.
    pub(crate) sent: Option<Sent>,
    pub(crate) heard: Option<Report>,
    /// The leg ends.
    pub(crate) bye: bool,
}

impl Told {
    /// Reads a compound packet; `false` when it is malformed. What came before the bad part
    /// counts.
    pub(crate) fn read(&mut self, bytes: &[u8], ours: u32, clock: &NtpClock, now: Instant) -> bool {
        let mut rest = bytes;
        while !rest.is_empty() {
            let Some((&[flags, kind, high, low], after)) = rest.split_first_chunk::<4>() else {
                return false;
            };
            let length = usize::from(u16::from_be_bytes([high, low])) * 4;
            let (Some(body), true) = (after.get(..length), flags >> 6 == 2) else {
                return false;
            };
            let read = match kind {
                SENDER_REPORT => self.sender_report(body, flags & 0x1f, ours, clock, now),
                RECEIVER_REPORT => body
                    .get(4..)
                    .is_some_and(|blocks| self.blocks(blocks, flags & 0x1f, ours, clock, now)),
                _ => true,
            };
            if !read {
                return false;
            }
            rest = after.get(length..).unwrap_or_default();
        }
        !bytes.is_empty()
    }

    fn sender_report(
        &mut self,
        body: &[u8],
        count: u8,
        ours: u32,
        clock: &NtpClock,
        now: Instant,
    ) -> bool {
        let (Some(seconds), Some(fraction)) = (word(body, 1), word(body, 2)) else {
            return false;
        };
        let Some(blocks) = body.get(24..) else {
            return false;
        };
        self.sender = Some(((seconds << 16) | (fraction >> 16), now));
        self.blocks(blocks, count, ours, clock, now)
    }

    fn blocks(
        &mut self,
        bytes: &[u8],
        count: u8,
        ours: u32,
        clock: &NtpClock,
        now: Instant,
    ) -> bool {
        let count = usize::from(count);
        if bytes.len() < count * 24 {
            return false;
        }
        for block in bytes.chunks_exact(24).take(count) {
            let fields = [0, 1, 3, 4, 5].map(|n| word(block, n).unwrap_or_default());
            let [about, lost, jitter, report, delay] = fields;
            if about != ours {
                continue;
            }
            // Twenty-four bits, signed; less than nothing (duplicates) counts as none.
            let lost = lost & 0x00ff_ffff;
            self.lost = if lost & 0x80_0000 != 0 { 0 } else { lost };
            self.jitter = jitter;
            let trip = clock.middle(now).wrapping_sub(report).wrapping_sub(delay);
            if report != 0 && trip <= ROUND_TRIP_MAX {
                let micros = (u64::from(trip) * 1_000_000) >> 16;
                self.round_trip_us = u32::try_from(micros).ok();
            }
        }
        true
    }

    /// Writes our report: a sender report if we sent, else a receiver report; a CNAME; a BYE
    /// when the leg ends. Returns the length, `None` when the buffer is too small.
    pub(crate) fn write(
        &self,
        buffer: &mut [u8],
        ours: u32,
        parts: Parts,
        clock: &NtpClock,
        now: Instant,
    ) -> Option<usize> {
        let Parts { sent, heard, bye } = parts;
        let mut words = Vec::with_capacity(24);
        let blocks = u32::from(heard.is_some());
        match sent {
            Some(sent) => {
                words.push(head(blocks, SENDER_REPORT, 6 + 6 * blocks));
                words.push(ours);
                let ntp = clock.at(now);
                words.extend([
                    (ntp >> 32) as u32,
                    (ntp & 0xffff_ffff) as u32,
                    sent.timestamp,
                ]);
                // Both counters wrap by definition.
                words.extend([sent.packets as u32, sent.bytes as u32]);
            }
            None => words.extend([head(blocks, RECEIVER_REPORT, 1 + 6 * blocks), ours]),
        }
        if let Some(heard) = heard {
            let lost = (heard.lost as u32) & 0x00ff_ffff;
            let (report, delay) = self.sender.map_or((0, 0), |(middle, at)| {
                let since = now.saturating_duration_since(at).as_micros();
                (
                    middle,
                    u32::try_from((since << 16) / 1_000_000).unwrap_or(u32::MAX),
                )
            });
            words.extend([heard.ssrc, (u32::from(heard.fraction_lost) << 24) | lost]);
            words.extend([heard.highest, heard.jitter, report, delay]);
        }
        // One chunk: SSRC, CNAME (1) of eight characters, end; 4 + 2 + 8 + 2 bytes.
        words.extend([head(1, DESCRIPTION, 4), ours]);
        let mut name = [0u8; 12];
        name[0] = 1;
        name[1] = 8;
        for (place, shift) in name[2..10].iter_mut().zip((0..8).rev()) {
            let nibble = (ours >> (shift * 4)) & 0xf;
            *place = b"0123456789abcdef"[nibble as usize];
        }
        words.extend((0..3).filter_map(|n| word(&name, n)));
        if bye {
            words.extend([head(1, GOODBYE, 1), ours]);
        }
        let length = words.len() * 4;
        let out = buffer.get_mut(..length)?;
        for (place, value) in out.chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&value.to_be_bytes());
        }
        Some(length)
    }
}

/// The first word of a packet: version 2, count, kind, length in words without this one.
fn head(count: u32, kind: u8, length: u32) -> u32 {
    (2 << 30) | (count << 24) | (u32::from(kind) << 16) | length
}

fn word(bytes: &[u8], n: usize) -> Option<u32> {
    bytes
        .get(n * 4..)?
        .first_chunk::<4>()
        .map(|four| u32::from_be_bytes(*four))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEARD: Report = Report {
        ssrc: 22,
        fraction_lost: 64,
        lost: 5,
        highest: 70_000,
        jitter: 16,
    };

    #[test]
    fn two_sides_learn_loss_jitter_and_round_trip() {
        let clock = NtpClock::new();
        let start = Instant::now();
        let (mut a, mut b) = (Told::default(), Told::default());
        let mut buffer = [0; 256];
        let sent = Some(Sent {
            timestamp: 1,
            packets: 2,
            bytes: 3,
        });
        let first = Parts {
            sent,
            ..Parts::default()
        };
        let length = a
            .write(&mut buffer, 22, first, &clock, start)
            .expect("room");
        let arrived = start + Duration::from_millis(30);
        assert!(b.read(&buffer[..length], 11, &clock, arrived));
        let answered = arrived + Duration::from_millis(500);
        let answer = Parts {
            sent: None,
            heard: Some(HEARD),
            bye: true,
        };
        let length = b
            .write(&mut buffer, 11, answer, &clock, answered)
            .expect("room");
        assert!(a.read(
            &buffer[..length],
            22,
            &clock,
            answered + Duration::from_millis(20)
        ));
        assert_eq!((a.lost, a.jitter), (5, 16));
        let trip = a.round_trip_us.expect("known");
        assert!((49_900..=50_100).contains(&trip), "{trip}");
    }

    #[test]
    fn lengths_that_lie_are_refused() {
        let clock = NtpClock::new();
        let now = Instant::now();
        let mut told = Told::default();
        let mut buffer = [0; 256];
        let heard = Parts {
            heard: Some(HEARD),
            ..Parts::default()
        };
        let length = told.write(&mut buffer, 1, heard, &clock, now);
        let length = length.expect("room");
        assert!(told.read(&buffer[..length], 1, &clock, now));
        assert!(!told.read(&buffer[..length - 1], 1, &clock, now));
        assert!(!told.read(&[], 1, &clock, now));
        assert!(!told.read(&[0x82, 201, 0, 7], 1, &clock, now));
        buffer[0] = 0x82;
        assert!(
            !told.read(&buffer[..length], 1, &clock, now),
            "two blocks do not fit"
        );
        assert!(
            told.write(&mut [0; 20], 1, Parts::default(), &clock, now)
                .is_none()
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_harm(
            bytes in proptest::collection::vec(any::<u8>(), 0..120),
        ) {
            let clock = NtpClock::new();
            Told::default().read(&bytes, 1, &clock, Instant::now());
        }
    }
}
