//! The small values callers and workers exchange: keys, codecs, what was agreed for a leg.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

/// Names a leg; chosen by the caller, unique among the open legs of an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LegKey(pub u128);

impl fmt::Display for LegKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "media leg {:032x}", self.0)
    }
}

/// Names one `play` or `tone`; comes back in `PlayEnded`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct PlayToken(pub u64);

/// The ports of an opened leg, both on its local address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenLeg {
    /// Even port for RTP; goes into SDP.
    pub rtp_port: u16,
    /// The next port, for RTCP.
    pub rtcp_port: u16,
}

/// The two codecs of G.711 (ITU-T G.711).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Codec {
    /// µ-law, static payload type 0.
    Pcmu,
    /// A-law, static payload type 8.
    Pcma,
}

impl Codec {
    /// The static payload type (RFC 3551 table 4).
    pub const fn static_payload_type(self) -> u8 {
        match self {
            Self::Pcmu => 0,
            Self::Pcma => 8,
        }
    }

    /// The codec of a static payload type.
    pub const fn from_static_payload_type(payload_type: u8) -> Option<Self> {
        match payload_type {
            0 => Some(Self::Pcmu),
            8 => Some(Self::Pcma),
            _ => None,
        }
    }
}

/// What offer and answer agreed for a leg, seen from us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LegMedia {
    /// The address in the phone's SDP; `None` while it is not known (or was 0.0.0.0).
    pub remote: Option<SocketAddr>,
    /// May we send? False while the phone holds us (`a=sendonly` or `inactive` from it).
    pub send: bool,
    /// Do we take audio? False while we hold the phone.
    pub receive: bool,
    /// The codec we send.
    pub codec: Codec,
    /// The payload type we send it with.
    pub payload_type: u8,
    /// The payload type of `telephone-event/8000`, where agreed.
    pub dtmf_payload_type: Option<u8>,
    /// Length of the packets we originate, in milliseconds; rounded to 10…60 in steps of 5.
    pub ptime_ms: u16,
}

impl LegMedia {
    /// Both ways with a static payload type, telephone events on 101, 20 ms.
    pub const fn new(remote: SocketAddr, codec: Codec) -> Self {
        Self {
            remote: Some(remote),
            send: true,
            receive: true,
            codec,
            payload_type: codec.static_payload_type(),
            dtmf_payload_type: Some(101),
            ptime_ms: 20,
        }
    }
}

/// Once or for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeat {
    /// Ends with `PlayEnded { complete: true }`.
    Once,
    /// Until stopped, without a gap between the rounds.
    Loop,
}

/// A telephone key: 0…9, `*`, `#`, A…D (RFC 4733 §3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digit(u8);

/// Keys in the order of their RFC 4733 event codes.
const KEYS: [char; 16] = [
    '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', '*', '#', 'A', 'B', 'C', 'D',
];

impl Digit {
    /// The key of this RFC 4733 event code, if it is a telephone key.
    pub const fn from_event(code: u8) -> Option<Self> {
        if code < 16 { Some(Self(code)) } else { None }
    }

    /// The key written as this character; letters in either case.
    pub fn from_char(key: char) -> Option<Self> {
        let key = key.to_ascii_uppercase();
        let code = KEYS.iter().position(|k| *k == key)?;
        u8::try_from(code).ok().map(Self)
    }

    /// RFC 4733 event code, 0 to 15.
    pub const fn event(self) -> u8 {
        self.0
    }

    /// The key as people write it.
    pub const fn as_char(self) -> char {
        KEYS[self.0 as usize & 15]
    }
}

impl fmt::Display for Digit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.as_char())
    }
}

/// How an engine is set up.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// Worker threads; legs are spread over them.
    pub workers: usize,
    /// Ports of every local address; RTP takes the even ones, RTCP the next.
    pub ports: std::ops::RangeInclusive<u16>,
    /// Consecutive packets from one unexpected source before it is taken for the phone.
    pub latch_packets: u32,
    /// Silence before `NoAudio` is reported.
    pub no_audio_after: Duration,
    /// Packets that arrive within this time are handled together: a little delay for less work.
    /// Zero handles each as it comes.
    pub gather: Duration,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            workers: 1,
            ports: 20_000..=29_999,
            latch_packets: 5,
            no_audio_after: Duration::from_secs(10),
            gather: Duration::from_millis(1),
        }
    }
}
