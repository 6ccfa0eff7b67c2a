//! Everything about one leg, owned by one worker: what is heard, what is said, its figures.
//!
//! The leg decides; the worker moves bytes. Nothing here waits or allocates per packet.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::dtmf::{DigitReceiver, DigitSender, Frame};
use crate::event::{Event, LegStats};
use crate::g711;
use crate::limits;
use crate::outgoing::{Outgoing, Place, Relayed};
use crate::pin::{Pin, Verdict};
use crate::player::Player;
use crate::ports::PortLease;
use crate::receive::Reception;
use crate::rtcp::{NtpClock, Parts, Sent, Told};
use crate::rtp::{Header, Packet};
use crate::socket::{Pair, SendBatch};
use crate::types::{Codec, Digit, LegKey, LegMedia};
use crate::worker::Sink;

/// RTCP packet types, where they would stand in an RTP header (RFC 5761 §4).
const RTCP_TYPES: std::ops::RangeInclusive<u8> = 200..=207;

/// The settings a leg needs of its engine.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    pub(crate) latch_packets: u32,
    pub(crate) no_audio_after: Duration,
    /// Others may have taken the calls of this node over without its knowing.
    pub(crate) in_doubt: Arc<AtomicBool>,
}

/// A leg. The sockets stand before the lease, so that they are closed before the ports are free.
pub(crate) struct Leg {
    pub(crate) key: LegKey,
    pub(crate) sockets: Pair,
    _lease: PortLease,
    /// The slot of the leg it is bridged to, at the same worker.
    pub(crate) peer: Option<usize>,
    /// The tick at which the leg sends next, while it has something of its own to send.
    pub(crate) due: Option<u64>,
    media: Option<LegMedia>,
    pin: Pin,
    reception: Reception,
    outgoing: Outgoing,
    digits_heard: DigitReceiver,
    digits: DigitSender,
    player: Option<Player>,
    told: Told,
    rtcp_source: Option<SocketAddr>,
    next_report: Option<Instant>,
    sent_reported: u64,
    /// When something was heard last, or since when audio is expected.
    heard_at: Option<Instant>,
    silent: bool,
    /// Packets heard without a pause, and when the last of them was.
    steady: u32,
    last_heard: Option<Instant>,
    figures: LegStats,
}

/// A packet to be relayed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Heard<'a> {
    Audio(Codec, Packet<'a>),
    Event(Packet<'a>),
}

impl Leg {
    pub(crate) fn new(key: LegKey, sockets: Pair, lease: PortLease) -> Self {
        let outgoing = Outgoing::new(rand::random(), rand::random(), rand::random());
        Self {
            key,
            sockets,
            _lease: lease,
            peer: None,
            due: None,
            media: None,
            pin: Pin::new(),
            reception: Reception::default(),
            outgoing,
            digits_heard: DigitReceiver::default(),
            digits: DigitSender::default(),
            player: None,
            told: Told::default(),
            rtcp_source: None,
            next_report: None,
            sent_reported: 0,
            heard_at: None,
            silent: false,
            steady: 0,
            last_heard: None,
            figures: LegStats::default(),
        }
    }

    /// Takes over what was agreed.
    pub(crate) fn configure(&mut self, mut media: LegMedia, now: Instant) {
        media.ptime_ms = (media.ptime_ms.clamp(10, 60) / 5) * 5;
        let moved = self.pin.signal(media.remote);
        let expected = self.media.is_some_and(|before| before.receive);
        if moved {
            self.rtcp_source = None;
        }
        if !media.receive {
            self.heard_at = None;
            self.silent = false;
        } else if moved || !expected || self.heard_at.is_none() {
            self.heard_at = Some(now);
        }
        self.next_report.get_or_insert(now + limits::RTCP_INTERVAL);
        self.media = Some(media);
    }

    /// Ticks between two frames of ours.
    pub(crate) fn period(&self) -> u64 {
        u64::from(self.media.map_or(20, |media| media.ptime_ms) / 5)
    }

    /// Begins to play; what was played before ends.
    pub(crate) fn play(&mut self, player: Player, sink: &mut Sink) {
        self.stop_playing(false, sink);
        self.player = Some(player);
    }

    /// Ends playing, if any.
    pub(crate) fn stop_playing(&mut self, complete: bool, sink: &mut Sink) {
        if let Some(player) = self.player.take() {
            sink.emit(Event::PlayEnded {
                leg: self.key,
                token: player.token(),
                complete,
            });
        }
    }

    /// Queues a digit.
    pub(crate) fn send_digit(&mut self, digit: Digit, ms: u32, sink: &mut Sink) {
        if !self.digits.push(digit, ms) {
            sink.tally.digits_dropped += 1;
        }
    }

    /// Has the leg something of its own to send?
    pub(crate) fn active(&self) -> bool {
        self.player.is_some() || self.digits.busy()
    }

    /// Judges a datagram of the RTP port. Returns what the bridged leg is to hear.
    pub(crate) fn hear<'a>(
        &mut self,
        bytes: &'a [u8],
        source: SocketAddr,
        now: Instant,
        rules: &Rules,
        clock: &NtpClock,
        sink: &mut Sink,
    ) -> Option<Heard<'a>> {
        let media = self.media?;
        if bytes.get(1).is_some_and(|kind| RTCP_TYPES.contains(kind)) {
            self.hear_report(bytes, source, now, clock, sink);
            return None;
        }
        let Some(packet) = Packet::parse(bytes) else {
            self.figures.malformed_dropped += 1;
            sink.tally.malformed_dropped += 1;
            return None;
        };
        let event = media.dtmf_payload_type == Some(packet.payload_type);
        let codec = codec_of(&media, packet.payload_type);
        if !event && codec.is_none() {
            self.figures.payload_dropped += 1;
            sink.tally.payload_dropped += 1;
            return None;
        }
        match self.pin.judge(source, rules.latch_packets) {
            Verdict::Accept => {}
            Verdict::Pinned => sink.emit(Event::FirstPacket {
                leg: self.key,
                source,
            }),
            Verdict::Wait => return None,
            Verdict::Foreign => {
                self.figures.foreign_dropped += 1;
                sink.tally.foreign_dropped += 1;
                return None;
            }
        }
        self.count_heard(&packet, !event, now, sink);
        if event {
            let ended = self
                .digits_heard
                .note(packet.ssrc, packet.timestamp, packet.payload, now);
            for (digit, duration_ms) in ended.into_iter().flatten() {
                sink.emit(Event::Digit {
                    leg: self.key,
                    digit,
                    duration_ms,
                });
            }
        }
        if !media.receive {
            return None;
        }
        Some(
            codec
                .filter(|_| !event)
                .map_or(Heard::Event(packet), |c| Heard::Audio(c, packet)),
        )
    }

    fn count_heard(&mut self, packet: &Packet<'_>, audio: bool, now: Instant, sink: &mut Sink) {
        let bytes = u64::try_from(packet.payload.len()).unwrap_or(0);
        self.figures.packets_received += 1;
        self.figures.bytes_received += bytes;
        sink.tally.packets_received += 1;
        self.reception
            .note(packet.ssrc, packet.sequence, packet.timestamp, audio, now);
        if self.heard_at.is_some() {
            self.heard_at = Some(now);
        }
        let pause = self
            .last_heard
            .replace(now)
            .map(|last| now.saturating_duration_since(last));
        let goes_on = pause.is_some_and(|pause| pause < limits::YIELD_AFTER);
        self.steady = if goes_on {
            self.steady.saturating_add(1)
        } else {
            1
        };
        if self.silent {
            self.silent = false;
            sink.emit(Event::AudioBack { leg: self.key });
        }
    }

    /// True for a phone that has probably moved to another node without this one's knowing: it
    /// shall not hear two nodes at once. Its next packet here takes that back.
    fn has_moved(&self, now: Instant, rules: &Rules) -> bool {
        let pause = self
            .last_heard
            .map(|last| now.saturating_duration_since(last));
        rules.in_doubt.load(Ordering::Relaxed)
            && self.steady >= limits::STEADY_PACKETS
            && pause.is_some_and(|pause| pause >= limits::YIELD_AFTER)
    }

    /// Says to this leg's phone what the leg `from` heard. Nothing while the leg has something
    /// of its own to send, is held, or its address is not known.
    pub(crate) fn say(
        &mut self,
        from: LegKey,
        heard: &Heard<'_>,
        now: Instant,
        rules: &Rules,
        batch: &mut SendBatch,
        sink: &mut Sink,
    ) {
        let Some(media) = self.media.filter(|media| media.send) else {
            return;
        };
        let Some(target) = self.pin.target() else {
            return;
        };
        if self.active() || self.has_moved(now, rules) {
            return;
        }
        let (packet, audio, payload_type) = match heard {
            Heard::Audio(_, packet) => (packet, true, Some(media.payload_type)),
            Heard::Event(packet) => (packet, false, media.dtmf_payload_type),
        };
        let Some(payload_type) = payload_type else {
            return;
        };
        let length = packet.payload.len();
        let relayed = Relayed {
            from,
            ssrc: packet.ssrc,
            sequence: packet.sequence,
            timestamp: packet.timestamp,
            samples: if audio {
                u32::try_from(length).unwrap_or(160)
            } else {
                160
            },
            audio,
        };
        let Some(place) = self.outgoing.relay(&relayed, now) else {
            return;
        };
        let header = self.header(place, payload_type, packet.marker);
        let sent = batch.push(target, |buffer| {
            let body = header.write(buffer)?;
            let written = match heard {
                Heard::Audio(codec, packet) => {
                    g711::transcode(*codec, packet.payload, media.codec, body)
                }
                Heard::Event(packet) => {
                    g711::transcode(media.codec, packet.payload, media.codec, body)
                }
            };
            Some(crate::rtp::HEADER + written)
        });
        self.count_sent(sent, length, sink);
    }

    /// Sends the frame that is due: of a digit, else of what is played. What is played goes on
    /// where nobody can be sent to, so that it ends in time.
    pub(crate) fn tick(
        &mut self,
        now: Instant,
        rules: &Rules,
        batch: &mut SendBatch,
        sink: &mut Sink,
    ) {
        let Some(media) = self.media else { return };
        let target = self.pin.target();
        let samples = u32::from(media.ptime_ms) * 8;
        if let Some(target) = target
            && let Some(frame) = self.digits.next(samples)
        {
            self.tick_digit(&media, frame, samples, target, now, batch, sink);
            return;
        }
        let moved = self.has_moved(now, rules);
        let Some(player) = &mut self.player else {
            return;
        };
        let mut frame = [0; 480];
        let length = usize::try_from(samples).unwrap_or(0).min(frame.len());
        let room = frame.get_mut(..length).unwrap_or_default();
        let (filled, more) = player.fill(media.codec, room);
        let sends = filled > 0 && media.send && !moved;
        if let Some(target) = target.filter(|_| sends) {
            let place = self.outgoing.own(samples, now);
            let header = self.header(place, media.payload_type, false);
            let sent = batch.push(target, |buffer| put(&header, room, buffer));
            self.count_sent(sent, length, sink);
        } else {
            self.outgoing.restart();
        }
        if !more {
            self.stop_playing(true, sink);
        }
    }

    #[allow(
        clippy::too_many_arguments,
        reason = "one step of `tick`, cut off for its length"
    )]
    fn tick_digit(
        &mut self,
        media: &LegMedia,
        frame: Frame,
        samples: u32,
        target: SocketAddr,
        now: Instant,
        batch: &mut SendBatch,
        sink: &mut Sink,
    ) {
        let (payload, span, first) = match frame {
            Frame::Event {
                payload,
                span,
                first,
            } => (payload, span, first),
            Frame::Pause => {
                self.outgoing.skip(samples);
                return;
            }
        };
        let (Some(payload_type), true) = (media.dtmf_payload_type, media.send) else {
            return;
        };
        let mut place = match first {
            true => self.outgoing.own(samples, now),
            false => self.outgoing.own_again(span, now),
        };
        // The marker stands on the first packet of each event (RFC 4733 §2.5.1.2).
        place.first = first;
        let header = self.header(place, payload_type, false);
        let sent = batch.push(target, |buffer| put(&header, &payload, buffer));
        self.count_sent(sent, payload.len(), sink);
    }

    /// After a stall of the worker: what is played goes on with the present time.
    pub(crate) fn stalled(&mut self) {
        self.outgoing.restart();
    }

    fn header(&self, place: Place, payload_type: u8, marker: bool) -> Header {
        Header {
            marker: marker || place.first,
            payload_type,
            sequence: place.sequence,
            timestamp: place.timestamp,
            ssrc: self.outgoing.ssrc(),
        }
    }

    fn count_sent(&mut self, sent: bool, bytes: usize, sink: &mut Sink) {
        if sent {
            self.figures.packets_sent += 1;
            self.figures.bytes_sent += u64::try_from(bytes).unwrap_or(0);
            sink.tally.packets_sent += 1;
        } else {
            self.count_failed(1, sink);
        }
    }

    /// Writes what was said; packets the system refuses are counted as failed, not as sent.
    pub(crate) fn flush(&mut self, batch: &mut SendBatch, sink: &mut Sink) {
        let failed = batch.flush(&self.sockets.rtp);
        if failed > 0 {
            let count = u64::try_from(failed).unwrap_or(0);
            self.figures.packets_sent = self.figures.packets_sent.saturating_sub(count);
            sink.tally.packets_sent = sink.tally.packets_sent.saturating_sub(count);
            self.count_failed(count, sink);
        }
    }

    fn count_failed(&mut self, count: u64, sink: &mut Sink) {
        self.figures.send_failed += count;
        sink.tally.send_failed += count;
    }

    /// Reads a report of the phone. It must come from the host that audio comes from.
    pub(crate) fn hear_report(
        &mut self,
        bytes: &[u8],
        source: SocketAddr,
        now: Instant,
        clock: &NtpClock,
        sink: &mut Sink,
    ) {
        let Some(target) = self.pin.target() else {
            return;
        };
        if target.ip() != source.ip() {
            self.figures.foreign_dropped += 1;
            sink.tally.foreign_dropped += 1;
            return;
        }
        if !self.told.read(bytes, self.outgoing.ssrc(), clock, now) {
            self.figures.malformed_dropped += 1;
            sink.tally.malformed_dropped += 1;
            return;
        }
        // A report that came to the RTP port is answered at the ordinary RTCP port.
        if source != target {
            self.rtcp_source = Some(source);
        }
    }

    /// The slow round: lost ends of digits, silence, reports.
    pub(crate) fn slow(&mut self, now: Instant, rules: &Rules, clock: &NtpClock, sink: &mut Sink) {
        if let Some((digit, duration_ms)) = self.digits_heard.expire(now) {
            sink.emit(Event::Digit {
                leg: self.key,
                digit,
                duration_ms,
            });
        }
        if let Some(at) = self.heard_at.filter(|_| !self.silent) {
            let quiet = now.saturating_duration_since(at);
            if quiet >= rules.no_audio_after {
                self.silent = true;
                let for_ms = u64::try_from(quiet.as_millis()).unwrap_or(u64::MAX);
                sink.emit(Event::NoAudio {
                    leg: self.key,
                    for_ms,
                    packets_received: self.figures.packets_received,
                });
            }
        }
        if self.next_report.is_some_and(|at| now >= at) {
            self.next_report = Some(now + limits::RTCP_INTERVAL);
            self.report(false, now, clock);
        }
    }

    /// Sends a report, if there is anything to report and somebody to report to.
    pub(crate) fn report(&mut self, bye: bool, now: Instant, clock: &NtpClock) {
        let Some(target) = self.pin.target() else {
            return;
        };
        let to = self.rtcp_source.or_else(|| {
            target
                .port()
                .checked_add(1)
                .map(|port| SocketAddr::new(target.ip(), port))
        });
        let heard = self.reception.report();
        let packets = self.figures.packets_sent;
        let sent = (packets > self.sent_reported).then(|| Sent {
            timestamp: self.outgoing.timestamp_at(now),
            packets,
            bytes: self.figures.bytes_sent,
        });
        let (Some(to), true) = (to, sent.is_some() || heard.is_some()) else {
            return;
        };
        self.sent_reported = packets;
        let mut buffer = [0; 256];
        let ours = self.outgoing.ssrc();
        let written = self
            .told
            .write(&mut buffer, ours, Parts { sent, heard, bye }, clock, now);
        if let Some(bytes) = written.and_then(|length| buffer.get(..length)) {
            // Reports are statistics: one that the system does not take is not missed.
            let _ = self.sockets.rtcp.send_to(bytes, to);
        }
    }

    /// The figures now.
    pub(crate) fn stats(&self) -> LegStats {
        LegStats {
            packets_lost: self.reception.lost(),
            jitter_us: self.reception.jitter().saturating_mul(125),
            round_trip_us: self.told.round_trip_us,
            remote_lost: self.told.lost,
            remote_jitter_us: self.told.jitter.saturating_mul(125),
            ..self.figures
        }
    }
}

fn put(header: &Header, payload: &[u8], buffer: &mut [u8]) -> Option<usize> {
    header
        .write(buffer)?
        .get_mut(..payload.len())?
        .copy_from_slice(payload);
    Some(crate::rtp::HEADER + payload.len())
}

/// The codec of an incoming packet: as agreed, or by its static payload type, because phones
/// that offered both send either.
fn codec_of(media: &LegMedia, payload_type: u8) -> Option<Codec> {
    if payload_type == media.payload_type {
        return Some(media.codec);
    }
    Codec::from_static_payload_type(payload_type)
}
