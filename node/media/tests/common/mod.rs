//! A phone that speaks RTP from a plain socket, and short ways to set up an engine.

#![allow(dead_code, reason = "each test file uses its part")]

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use strowger_media::{Codec, Engine, EngineConfig, Event, EventReceiver, LegKey, LegMedia};

/// Longest time any expected thing may take, generous for a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(10);

pub fn local(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(127, 0, 0, last))
}

/// An engine on a port range of its own, so that tests may run beside each other.
pub fn engine(ports: std::ops::RangeInclusive<u16>, workers: usize) -> (Engine, EventReceiver) {
    Engine::start(EngineConfig {
        workers,
        ports,
        ..EngineConfig::default()
    })
    .expect("starts")
}

/// A received RTP packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rtp {
    pub marker: bool,
    pub payload_type: u8,
    pub sequence: u16,
    pub timestamp: u32,
    pub ssrc: u32,
    pub payload: Vec<u8>,
    pub source: SocketAddr,
    pub at: Instant,
}

/// A phone with a socket, connected to a leg.
pub struct Phone {
    pub socket: UdpSocket,
    pub leg: LegKey,
    pub to: SocketAddr,
    pub sequence: u16,
    pub timestamp: u32,
    pub ssrc: u32,
}

impl Phone {
    /// Opens a leg for a new phone and configures it with the phone's address.
    pub fn join(engine: &Engine, key: u128, at: IpAddr, codec: Codec) -> Self {
        let phone = Self::open(engine, key, at);
        engine
            .configure(phone.leg, phone.media(codec))
            .expect("configures");
        phone
    }

    /// Opens a leg for a new phone without configuring it.
    pub fn open(engine: &Engine, key: u128, at: IpAddr) -> Self {
        let leg = LegKey(key);
        let ports = engine.open(leg, at).expect("opens");
        assert_eq!(
            (ports.rtp_port % 2, ports.rtcp_port),
            (0, ports.rtp_port + 1)
        );
        Self::at(leg, SocketAddr::new(at, ports.rtp_port))
    }

    /// A further socket talking to the same port.
    pub fn at(leg: LegKey, to: SocketAddr) -> Self {
        let socket = UdpSocket::bind((local(1), 0)).expect("binds");
        socket.set_read_timeout(Some(PATIENCE)).expect("sets");
        Self {
            socket,
            leg,
            to,
            sequence: 65_530,
            timestamp: 90_000,
            ssrc: 0xabcd,
        }
    }

    pub fn media(&self, codec: Codec) -> LegMedia {
        LegMedia::new(self.socket.local_addr().expect("bound"), codec)
    }

    /// Sends 20 ms of audio: a packet full of one byte.
    pub fn talk(&mut self, codec: Codec, byte: u8) {
        self.sequence = self.sequence.wrapping_add(1);
        self.timestamp = self.timestamp.wrapping_add(160);
        self.raw(codec.static_payload_type(), &[byte; 160]);
    }

    /// Sends a packet with the present sequence and timestamp.
    pub fn raw(&self, payload_type: u8, payload: &[u8]) {
        let mut bytes = vec![0x80, payload_type];
        bytes.extend(self.sequence.to_be_bytes());
        bytes.extend(self.timestamp.to_be_bytes());
        bytes.extend(self.ssrc.to_be_bytes());
        bytes.extend(payload);
        self.bytes(&bytes);
    }

    pub fn bytes(&self, bytes: &[u8]) {
        self.socket.send_to(bytes, self.to).expect("sends");
    }

    /// The next packet.
    pub fn listen(&self) -> Rtp {
        self.listen_for(PATIENCE).expect("a packet in time")
    }

    /// The next packet within so long.
    pub fn listen_for(&self, wait: Duration) -> Option<Rtp> {
        self.socket.set_read_timeout(Some(wait)).expect("sets");
        let mut bytes = [0; 2_000];
        let (length, source) = self.socket.recv_from(&mut bytes).ok()?;
        assert!(length >= 12 && bytes[0] == 0x80, "plain RTP");
        Some(Rtp {
            marker: bytes[1] & 0x80 != 0,
            payload_type: bytes[1] & 0x7f,
            sequence: u16::from_be_bytes([bytes[2], bytes[3]]),
            timestamp: u32::from_be_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
            ssrc: u32::from_be_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]),
            payload: bytes[12..length].to_vec(),
            source,
            at: Instant::now(),
        })
    }

    /// Waits until the engine has handled everything sent and commanded so far: datagrams of
    /// one socket are read in order, so once the counter stands, all before it are done.
    pub fn heard(&self, engine: &Engine, packets: u64) {
        let give_up = Instant::now() + PATIENCE;
        while engine.stats(self.leg).expect("open").packets_received < packets {
            assert!(Instant::now() < give_up, "packets not received");
            std::thread::yield_now();
        }
    }
}

/// The next event that `wanted` takes; others are passed over.
pub fn event<T>(events: &EventReceiver, wanted: impl Fn(&Event) -> Option<T>) -> T {
    let give_up = Instant::now() + PATIENCE;
    loop {
        let left = give_up.saturating_duration_since(Instant::now());
        let event = events
            .recv_timeout(left)
            .expect("an event in time")
            .expect("running");
        if let Some(found) = wanted(&event) {
            return found;
        }
    }
}
