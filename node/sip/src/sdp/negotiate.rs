//! Offer and answer for one audio stream (RFC 3264), G.711 and telephone-event (RFC 4733).
//!
//! Pure: our side is a [`LocalMedia`], the peer's a parsed [`Sdp`]. Further media of an offer are
//! answered with port 0. The version in `o=` rises only when what we write changes.

use super::{Direction, Media, Origin, Payload, Sdp};
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr};

/// An audio codec we relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Codec {
    /// G.711 µ-law, payload type 0.
    Pcmu,
    /// G.711 A-law, payload type 8.
    Pcma,
}

impl Codec {
    /// Encoding name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Pcmu => "PCMU",
            Self::Pcma => "PCMA",
        }
    }

    /// Static payload type (RFC 3551).
    #[must_use]
    pub fn payload_type(self) -> u8 {
        match self {
            Self::Pcmu => 0,
            Self::Pcma => 8,
        }
    }

    fn of(payload: &Payload) -> Option<Self> {
        [Self::Pcmu, Self::Pcma]
            .into_iter()
            .find(|codec| payload.name.eq_ignore_ascii_case(codec.name()) && payload.rate == 8_000)
    }
}

/// Payload type we offer for telephone-event.
const EVENT_TYPE: u8 = 101;
/// Packet time we write.
const PTIME_MS: u32 = 20;

/// Our side of one audio stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalMedia {
    /// Where we receive RTP.
    pub ip: IpAddr,
    /// Port of it.
    pub port: u16,
    /// What we take, best first.
    pub codecs: Vec<Codec>,
    /// Which way we want audio to flow.
    pub direction: Direction,
    /// Session id in `o=`; constant for a leg.
    pub session: u64,
    /// Our last description: its version is kept when nothing changes, and its section order.
    pub previous: Option<String>,
}

/// What offer and answer agreed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// What to send; empty from [`accept_answer`], which sends nothing.
    pub sdp: String,
    /// The codec both sides send.
    pub codec: Codec,
    /// Payload type the peer wants for it.
    pub payload_type: u8,
    /// Payload type the peer wants for telephone-event.
    pub telephone_event: Option<u8>,
    /// Where the peer receives RTP; `None` when it wrote a host name, 0.0.0.0 or port 0.
    pub remote: Option<SocketAddr>,
    /// Direction from our side.
    pub direction: Direction,
    /// Packet time the peer asks for.
    pub ptime_ms: Option<u32>,
}

/// An offer that cannot be met: answer 488.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// No audio over plain RTP.
    #[error("no audio over RTP/AVP in the offer")]
    NoAudio,
    /// No codec of ours.
    #[error("no common codec")]
    NoCommonCodec,
}

/// Why a description from the peer cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NegotiateError {
    /// It is malformed: answer 400 (an offer) or end the leg (an answer).
    #[error(transparent)]
    Malformed(#[from] super::SdpError),
    /// It is well formed and does not fit: answer 488.
    #[error(transparent)]
    Refused(#[from] Refused),
}

/// Our offer.
#[must_use]
pub fn offer(local: &LocalMedia) -> String {
    let mut payloads: Vec<Payload> = local
        .codecs
        .iter()
        .map(|codec| payload(codec.payload_type(), *codec))
        .collect();
    payloads.push(event(EVENT_TYPE));
    let ours = audio(local, payloads, local.direction);
    // RFC 3264 §8: sections of an earlier description stay, refused ones as they were.
    let mut media = vec![ours];
    if let Some(Ok(previous)) = local.previous.as_deref().map(super::parse) {
        let at = previous.media.iter().position(Media::is_audio).unwrap_or(0);
        for (index, section) in previous.media.into_iter().enumerate() {
            if index < at {
                media.insert(index, refused(&section));
            } else if index > at {
                media.push(refused(&section));
            }
        }
    }
    write(local, media)
}

/// Our answer to an offer.
///
/// # Errors
/// [`NegotiateError`]; the offer is then refused and nothing changes.
pub fn answer(offer: &str, local: &LocalMedia) -> Result<Answered, NegotiateError> {
    let offer = super::parse(offer)?;
    let at = offer
        .media
        .iter()
        .position(|media| media.is_audio() && media.port != 0);
    let theirs = at
        .and_then(|at| offer.media.get(at))
        .ok_or(Refused::NoAudio)?;
    // Our preference decides among what they offer.
    let codec = local
        .codecs
        .iter()
        .find_map(|codec| {
            let found = theirs
                .payloads
                .iter()
                .find(|p| Codec::of(p) == Some(*codec));
            found.map(|payload| (*codec, payload.number))
        })
        .ok_or(Refused::NoCommonCodec)?;
    let (codec, payload_type) = codec;
    let telephone_event = event_type(theirs);
    let direction = Direction::of(
        local.direction.sends() && theirs.direction.receives(),
        local.direction.receives() && theirs.direction.sends(),
    );
    let mut payloads = vec![payload(payload_type, codec)];
    payloads.extend(telephone_event.map(event));
    let media = offer
        .media
        .iter()
        .enumerate()
        .map(|(index, section)| {
            if Some(index) == at {
                audio(local, payloads.clone(), direction)
            } else {
                refused(section)
            }
        })
        .collect();
    Ok(Answered {
        sdp: write(local, media),
        codec,
        payload_type,
        telephone_event,
        remote: remote_of(theirs),
        direction,
        ptime_ms: theirs.ptime_ms,
    })
}

/// What the peer's answer to our offer means.
///
/// # Errors
/// [`NegotiateError`] when it is malformed, refuses audio or names no codec of ours.
pub fn accept_answer(answer: &str, local: &LocalMedia) -> Result<Answered, NegotiateError> {
    let answer = super::parse(answer)?;
    let theirs = answer.audio().ok_or(Refused::NoAudio)?;
    let (codec, payload_type) = theirs
        .payloads
        .iter()
        .find_map(|payload| Some((Codec::of(payload)?, payload.number)))
        .filter(|(codec, _)| local.codecs.contains(codec))
        .ok_or(Refused::NoCommonCodec)?;
    Ok(Answered {
        sdp: String::new(),
        codec,
        payload_type,
        telephone_event: event_type(theirs),
        remote: remote_of(theirs),
        direction: Direction::of(
            local.direction.sends() && theirs.direction.receives(),
            local.direction.receives() && theirs.direction.sends(),
        ),
        ptime_ms: theirs.ptime_ms,
    })
}

fn event_type(media: &Media) -> Option<u8> {
    media
        .payloads
        .iter()
        .find(|p| p.name.eq_ignore_ascii_case("telephone-event") && p.rate == 8_000)
        .map(|p| p.number)
}

fn remote_of(media: &Media) -> Option<SocketAddr> {
    let ip = media.address.filter(|ip| !ip.is_unspecified())?;
    (media.port != 0).then(|| SocketAddr::new(ip, media.port))
}

fn payload(number: u8, codec: Codec) -> Payload {
    Payload {
        number,
        name: codec.name().to_owned(),
        rate: 8_000,
        fmtp: None,
    }
}

fn event(number: u8) -> Payload {
    Payload {
        number,
        name: "telephone-event".to_owned(),
        rate: 8_000,
        fmtp: Some("0-16".to_owned()),
    }
}

fn audio(local: &LocalMedia, payloads: Vec<Payload>, direction: Direction) -> Media {
    Media {
        kind: "audio".to_owned(),
        port: local.port,
        protocol: "RTP/AVP".to_owned(),
        formats: payloads.iter().map(|p| p.number.to_string()).collect(),
        payloads,
        address: Some(local.ip),
        direction,
        ptime_ms: Some(PTIME_MS),
    }
}

/// A refused section: port 0, at least one format (RFC 3264 §6).
fn refused(section: &Media) -> Media {
    Media {
        port: 0,
        payloads: Vec::new(),
        ..section.clone()
    }
}

/// Writes our description; the version of the previous one rises only on a change.
fn write(local: &LocalMedia, media: Vec<Media>) -> String {
    let previous = local
        .previous
        .as_deref()
        .and_then(|text| super::parse(text).ok());
    let (version, address) = match previous {
        // RFC 3264 §8: of the origin only the version changes, wherever the media go.
        Some(sdp) => (sdp.origin.version, sdp.origin.address),
        None => (1, local.ip.to_string()),
    };
    let mut sdp = Sdp {
        origin: Origin {
            user: "strowger".to_owned(),
            session: local.session,
            version,
            address,
        },
        media,
    };
    let text = sdp.to_string();
    match &local.previous {
        Some(previous) if *previous != text => {
            sdp.origin.version = version.saturating_add(1);
            sdp.to_string()
        }
        _ => text,
    }
}
