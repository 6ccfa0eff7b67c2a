//! The audio of one test phone's call: sends a tone, counts and listens to what arrives.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::{g711, tone};

/// One packet for each 20 ms, the packet time of G.711 telephones.
const PACKET_TIME: Duration = Duration::from_millis(20);
/// Samples in one packet.
const SAMPLES: u64 = 160;
/// Payload type of telephone events (RFC 4733), as offered by the phones.
pub const EVENT_TYPE: u8 = 101;
/// The share of its energy from which on a packet holds one tone and nothing else: 160
/// samples tell tones 100 Hz apart from each other and from speech.
const WHOLE_SHARE: f64 = 0.9;
/// What is kept for listening: three seconds.
const HEARD_MAX: usize = 3 * tone::RATE as usize;

/// What one end of a call has sent and received so far.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Packets sent.
    pub sent: u64,
    /// Audio packets received.
    pub received: u64,
    /// Packets missing by sequence number, within each source.
    pub lost: u64,
    /// How often the source (SSRC) changed.
    pub source_changes: u64,
    /// The longest time between two packets.
    pub gap_max: Duration,
    /// When the last packet came.
    pub last: Option<Instant>,
    /// Digits received as telephone events.
    pub digits: String,
    /// Where the packets come from.
    pub from: Option<SocketAddr>,
    /// Packets received from each machine.
    pub by_machine: BTreeMap<IpAddr, u64>,
}

struct Shared {
    remote: Option<SocketAddr>,
    tone_hz: u32,
    sending: bool,
    stop: bool,
    keys: VecDeque<char>,
    counts: Counts,
    heard: VecDeque<i16>,
    last_source: Option<(u32, u16)>,
    last_event: Option<u32>,
    watched: Option<(u32, Option<Instant>)>,
}

/// The audio end of a call; stops when dropped.
pub struct Audio {
    port: u16,
    shared: Arc<Mutex<Shared>>,
}

impl Audio {
    /// Binds a port on `address`; sends a tone of `tone_hz` once a remote end is set.
    pub fn start(address: IpAddr, tone_hz: u32) -> Self {
        let socket = UdpSocket::bind((address, 0)).expect("loopback has free ports");
        let port = socket.local_addr().expect("bound").port();
        let shared = Arc::new(Mutex::new(Shared {
            remote: None,
            tone_hz,
            sending: true,
            stop: false,
            keys: VecDeque::new(),
            counts: Counts::default(),
            heard: VecDeque::new(),
            last_source: None,
            last_event: None,
            watched: None,
        }));
        let own = Arc::clone(&shared);
        std::thread::spawn(move || run(&socket, &own));
        Self { port, shared }
    }

    /// The local port, for SDP.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where to send; nowhere when `None`.
    pub fn set_remote(&self, remote: Option<SocketAddr>) {
        self.lock().remote = remote;
    }

    /// Sends or stays silent.
    pub fn set_sending(&self, sending: bool) {
        self.lock().sending = sending;
    }

    /// Sends digits as telephone events, 160 ms each.
    pub fn dial(&self, digits: &str) {
        self.lock().keys.extend(digits.chars());
    }

    /// What was counted so far.
    pub fn counts(&self) -> Counts {
        self.lock().counts.clone()
    }

    /// Starts counting losses and gaps afresh.
    pub fn reset(&self) {
        let mut shared = self.lock();
        shared.counts = Counts {
            last: shared.counts.last,
            ..Counts::default()
        };
    }

    /// The samples of the last `length` (at most 3 s).
    pub fn heard(&self, length: Duration) -> Vec<i16> {
        let shared = self.lock();
        let wanted = usize::try_from(length.as_millis()).unwrap_or(usize::MAX) * 8;
        let skip = shared.heard.len().saturating_sub(wanted);
        shared.heard.iter().skip(skip).copied().collect()
    }

    /// Whether the last 200 ms received hold a tone of `hz`.
    pub fn hears(&self, hz: u32) -> bool {
        let samples = self.heard(Duration::from_millis(200));
        samples.len() >= 1_600 && tone::heard(&samples, tone::RATE, &[hz]).is_some()
    }

    /// Forgets what was heard, so that [`Audio::hears`] speaks of what comes now.
    pub fn forget(&self) {
        self.lock().heard.clear();
    }

    /// Looks out, from now on, for the first packet that holds nothing but a tone of `hz`.
    pub fn watch_for(&self, hz: u32) {
        self.lock().watched = Some((hz, None));
    }

    /// When the packet of [`Audio::watch_for`] came, if it did.
    pub fn watched_at(&self) -> Option<Instant> {
        self.lock().watched?.1
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Audio {
    fn drop(&mut self) {
        self.lock().stop = true;
    }
}

struct Sender {
    sequence: u16,
    position: u64,
    ssrc: u32,
    key: Option<(u8, u16, u32)>,
}

fn run(socket: &UdpSocket, shared: &Mutex<Shared>) {
    let port = socket.local_addr().expect("bound").port();
    let mut sender = Sender {
        sequence: port,
        position: 0,
        ssrc: 0x5700_0000 | u32::from(port),
        key: None,
    };
    let mut due = Instant::now();
    let mut buffer = [0u8; 2_048];
    loop {
        let now = Instant::now();
        if now >= due {
            due += PACKET_TIME;
            let mut state = shared.lock().unwrap_or_else(PoisonError::into_inner);
            if state.stop {
                return;
            }
            if let Some(packet) = next_packet(&mut sender, &mut state)
                && let Some(remote) = state.remote
                && socket.send_to(&packet, remote).is_ok()
            {
                state.counts.sent += 1;
            }
            continue;
        }
        // A zero timeout would mean "for ever".
        let wait = (due - now).max(Duration::from_millis(1));
        socket
            .set_read_timeout(Some(wait))
            .expect("a UDP socket takes a timeout");
        if let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let mut state = shared.lock().unwrap_or_else(PoisonError::into_inner);
            receive(&buffer[..length], from, &mut state);
        }
    }
}

/// The packet of this 20 ms: an event while a digit is pressed, else the tone.
fn next_packet(sender: &mut Sender, state: &mut Shared) -> Option<Vec<u8>> {
    sender.position += SAMPLES;
    if sender.key.is_none()
        && let Some(key) = state.keys.pop_front()
    {
        let code = "0123456789*#ABCD"
            .find(key)
            .and_then(|code| u8::try_from(code).ok())?;
        sender.key = Some((code, 0, sender.position as u32));
    }
    if !state.sending && sender.key.is_none() {
        return None;
    }
    let (payload_type, timestamp, marker, payload) = match sender.key {
        Some((code, duration, timestamp)) => {
            let duration = duration + SAMPLES as u16;
            // 160 ms pressed, then the end three times (RFC 4733 §2.5.1.4).
            let end = duration > 8 * SAMPLES as u16;
            sender.key = (duration < 11 * SAMPLES as u16).then_some((code, duration, timestamp));
            let shown = duration.min(8 * SAMPLES as u16).to_be_bytes();
            let flags = if end { 0x80 | 10 } else { 10 };
            let first = duration == SAMPLES as u16;
            (
                EVENT_TYPE,
                timestamp,
                first,
                vec![code, flags, shown[0], shown[1]],
            )
        }
        None => {
            let samples = (0..SAMPLES)
                .map(|n| g711::encode(tone::sample(state.tone_hz, sender.position + n)))
                .collect();
            (0, sender.position as u32, false, samples)
        }
    };
    sender.sequence = sender.sequence.wrapping_add(1);
    let mut packet = vec![0x80, payload_type | if marker { 0x80 } else { 0 }];
    packet.extend(sender.sequence.to_be_bytes());
    packet.extend(timestamp.to_be_bytes());
    packet.extend(sender.ssrc.to_be_bytes());
    packet.extend(payload);
    Some(packet)
}

fn receive(packet: &[u8], from: SocketAddr, state: &mut Shared) {
    let [
        first,
        second,
        s0,
        s1,
        t0,
        t1,
        t2,
        t3,
        r0,
        r1,
        r2,
        r3,
        payload @ ..,
    ] = packet
    else {
        return;
    };
    // RTCP shares no port with these phones; version 2 only, no extensions expected.
    if first >> 6 != 2 {
        return;
    }
    let sequence = u16::from_be_bytes([*s0, *s1]);
    let ssrc = u32::from_be_bytes([*r0, *r1, *r2, *r3]);
    let now = Instant::now();
    if let Some(last) = state.counts.last {
        state.counts.gap_max = state.counts.gap_max.max(now - last);
    }
    state.counts.last = Some(now);
    state.counts.from = Some(from);
    *state.counts.by_machine.entry(from.ip()).or_default() += 1;
    state.counts.received += 1;
    match state.last_source {
        Some((source, last)) if source == ssrc => {
            let step = sequence.wrapping_sub(last);
            // Steps above half the range are late packets, not losses.
            if (2..0x8000).contains(&step) {
                state.counts.lost += u64::from(step) - 1;
            }
        }
        Some(_) => state.counts.source_changes += 1,
        None => {}
    }
    state.last_source = Some((ssrc, sequence));
    match second & 0x7F {
        0 => {
            let samples: Vec<i16> = payload.iter().map(|&byte| g711::decode(byte)).collect();
            if let Some((hz, at @ None)) = &mut state.watched
                && tone::share(&samples, tone::RATE, *hz) >= WHOLE_SHARE
            {
                *at = Some(now);
            }
            state.heard.extend(samples);
            let excess = state.heard.len().saturating_sub(HEARD_MAX);
            state.heard.drain(..excess);
        }
        EVENT_TYPE => {
            let timestamp = u32::from_be_bytes([*t0, *t1, *t2, *t3]);
            if state.last_event != Some(timestamp)
                && let Some(digit) = payload
                    .first()
                    .and_then(|&c| "0123456789*#ABCD".chars().nth(c.into()))
            {
                state.last_event = Some(timestamp);
                state.counts.digits.push(digit);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::poll::eventually;

    #[test]
    fn two_ends_hear_each_other_and_lose_nothing() {
        let address: IpAddr = "127.0.0.1".parse().expect("an address");
        let (a, b) = (Audio::start(address, 440), Audio::start(address, 620));
        a.set_remote(Some((address, b.port()).into()));
        b.set_remote(Some((address, a.port()).into()));
        eventually(Duration::from_secs(3), "both hear the other", || {
            (a.hears(620) && b.hears(440)).then_some(())
        });
        a.dial("42#");
        eventually(
            Duration::from_secs(3),
            "the digits arrive once each",
            || (b.counts().digits == "42#").then_some(()),
        );
        assert_eq!((a.counts().lost, b.counts().lost), (0, 0));
    }

    #[test]
    fn the_first_packet_of_a_tone_is_told_from_those_before_it() {
        let address: IpAddr = "127.0.0.1".parse().expect("an address");
        let audio = Audio::start(address, 440);
        audio.watch_for(1_500);
        let peer = UdpSocket::bind((address, 0)).expect("loopback has free ports");
        let send = |sequence: u16, hz: u32| {
            let mut packet = vec![0x80, 0];
            packet.extend(sequence.to_be_bytes());
            packet.extend([0; 8]);
            packet.extend((0..SAMPLES).map(|n| g711::encode(tone::sample(hz, n))));
            peer.send_to(&packet, (address, audio.port()))
                .expect("loopback takes packets");
        };
        let received = |count: u64| {
            eventually(Duration::from_secs(2), "the packet arrives", || {
                (audio.counts().received == count).then_some(())
            });
        };
        for (count, hz) in [(1, 1_400), (2, 480), (3, 1_600)] {
            send(u16::try_from(count).expect("small"), hz);
            received(count);
            assert_eq!(audio.watched_at(), None, "{hz} Hz is not looked out for");
        }
        send(4, 1_500);
        received(4);
        let first = audio.watched_at().expect("one packet suffices");
        send(5, 1_500);
        received(5);
        assert_eq!(audio.watched_at(), Some(first), "the first one counts");
    }

    #[test]
    fn losses_and_new_sources_are_counted() {
        let address: IpAddr = "127.0.0.1".parse().expect("an address");
        let audio = Audio::start(address, 440);
        let peer = UdpSocket::bind((address, 0)).expect("loopback has free ports");
        for (ssrc, sequence) in [(1u32, 10u16), (1, 11), (1, 15), (2, 900), (2, 901)] {
            let mut packet = vec![0x80, 0];
            packet.extend(sequence.to_be_bytes());
            packet.extend([0; 4]);
            packet.extend(ssrc.to_be_bytes());
            packet.extend([0xFF; 160]);
            peer.send_to(&packet, (address, audio.port()))
                .expect("loopback takes packets");
        }
        let counts = eventually(Duration::from_secs(2), "five packets arrive", || {
            Some(audio.counts()).filter(|counts| counts.received == 5)
        });
        assert_eq!((counts.lost, counts.source_changes), (3, 1));
    }
}
