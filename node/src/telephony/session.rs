//! Offers, answers and RTP of one leg.
//!
//! Both legs of a call see only our addresses: each negotiates with us (RFC 3264). The
//! caller's own order of codecs is kept and offered on, so that a bridge rarely needs
//! to transcode.

use std::net::IpAddr;

use strowger_core::call::Codec as RowCodec;
use strowger_core::ids::LegId;
use strowger_media::{Codec as MediaCodec, Engine, LegMedia, OpenError};
use strowger_sip::sdp::{self, Answered, Codec, Direction, LocalMedia, NegotiateError};

use super::sound::key_of;

/// Every codec we take, in our own order.
const CODECS: [Codec; 2] = [Codec::Pcmu, Codec::Pcma];

/// What a caller offers.
#[derive(Clone, Debug, Default)]
pub struct Offer {
    /// The description; `None` when we are asked to offer.
    pub sdp: Option<String>,
    /// Codecs we share, in the caller's order; all of ours without an offer.
    pub codecs: Vec<Codec>,
}

impl Offer {
    /// Reads an offer, and refuses what could never be answered.
    ///
    /// # Errors
    /// [`NegotiateError`] when it is malformed or has no audio or codec of ours.
    pub fn read(text: Option<&str>) -> Result<Self, NegotiateError> {
        let Some(text) = text else {
            return Ok(Self {
                sdp: None,
                codecs: CODECS.to_vec(),
            });
        };
        let parsed = sdp::parse(text)?;
        let audio = parsed.audio().ok_or(sdp::Refused::NoAudio)?;
        let codecs: Vec<Codec> = audio
            .payloads
            .iter()
            .filter_map(|payload| {
                let same = |codec: &Codec| payload.name.eq_ignore_ascii_case(codec.name());
                CODECS
                    .into_iter()
                    .find(same)
                    .filter(|_| payload.rate == 8_000)
            })
            .collect();
        if codecs.is_empty() {
            return Err(sdp::Refused::NoCommonCodec.into());
        }
        Ok(Self {
            sdp: Some(text.to_owned()),
            codecs,
        })
    }
}

/// Our side of a leg's audio.
#[derive(Debug)]
pub struct Session {
    leg: LegId,
    local: LocalMedia,
    /// What is in force.
    pub agreed: Option<Answered>,
    /// What will be in force once the change is committed.
    pending: Option<Answered>,
}

/// Why a leg has no audio.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// No port or socket.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The descriptions do not fit.
    #[error(transparent)]
    Negotiate(#[from] NegotiateError),
}

impl Session {
    /// Opens ports on `address` for a leg that takes `codecs`.
    pub fn open(
        engine: &Engine,
        leg: LegId,
        address: IpAddr,
        mut codecs: Vec<Codec>,
    ) -> Result<Self, SessionError> {
        let open = engine.open(key_of(leg), address)?;
        codecs.extend(
            CODECS
                .iter()
                .filter(|codec| !codecs.contains(codec))
                .copied()
                .collect::<Vec<_>>(),
        );
        let local = LocalMedia {
            ip: address,
            port: open.rtp_port,
            codecs,
            direction: Direction::SendRecv,
            session: leg.0,
            previous: None,
        };
        Ok(Self {
            leg,
            local,
            agreed: None,
            pending: None,
        })
    }

    /// Our offer.
    pub fn offer(&mut self) -> String {
        let text = sdp::offer(&self.local);
        self.local.previous = Some(text.clone());
        text
    }

    /// Our answer to the first offer; audio may flow from now on.
    pub fn answer(&mut self, engine: &Engine, offer: &str) -> Result<String, SessionError> {
        let answered = sdp::answer(offer, &self.local)?;
        self.local.previous = Some(answered.sdp.clone());
        let text = answered.sdp.clone();
        self.put_in_force(engine, answered);
        Ok(text)
    }

    /// Takes the far end's answer to our offer.
    pub fn accept(&mut self, engine: &Engine, answer: &str) -> Result<(), SessionError> {
        let answered = sdp::accept_answer(answer, &self.local)?;
        self.put_in_force(engine, answered);
        Ok(())
    }

    /// Reads a new offer without putting it in force. True when it changes nothing.
    pub fn consider(&mut self, offer: &str) -> Result<bool, SessionError> {
        let answered = sdp::answer(offer, &self.local)?;
        let same = self.agreed.as_ref().is_some_and(|agreed| {
            agreed.codec == answered.codec
                && agreed.remote == answered.remote
                && agreed.direction == answered.direction
                && agreed.payload_type == answered.payload_type
        });
        self.pending = Some(answered);
        Ok(same)
    }

    /// Whether the far end holds us, as agreed or about to be.
    pub fn is_held(&self) -> bool {
        let latest = self.pending.as_ref().or(self.agreed.as_ref());
        latest.is_some_and(|answered| !answered.direction.sends())
    }

    /// Puts a considered offer in force; our answer to it.
    pub fn agree(&mut self, engine: &Engine) -> Option<String> {
        let answered = self.pending.take()?;
        let text = answered.sdp.clone();
        self.local.previous = Some(text.clone());
        self.put_in_force(engine, answered);
        Some(text)
    }

    /// Drops a considered offer.
    pub fn refuse(&mut self) {
        self.pending = None;
    }

    /// The agreed codec as rows name it.
    pub fn codec(&self) -> RowCodec {
        match self.agreed.as_ref().map(|agreed| agreed.codec) {
            Some(Codec::Pcma) => RowCodec::Pcma,
            Some(Codec::Pcmu) => RowCodec::Pcmu,
            None => match self.local.codecs.first() {
                Some(Codec::Pcma) => RowCodec::Pcma,
                Some(Codec::Pcmu) | None => RowCodec::Pcmu,
            },
        }
    }

    /// The codecs of this leg, the agreed one first, to be offered to the other side.
    pub fn codecs(&self) -> Vec<Codec> {
        let mut codecs = self.local.codecs.clone();
        if let Some(agreed) = &self.agreed {
            codecs.sort_by_key(|codec| *codec != agreed.codec);
        }
        codecs
    }

    fn put_in_force(&mut self, engine: &Engine, answered: Answered) {
        let media = LegMedia {
            remote: answered.remote,
            send: answered.direction.sends(),
            receive: answered.direction.receives(),
            codec: match answered.codec {
                Codec::Pcmu => MediaCodec::Pcmu,
                Codec::Pcma => MediaCodec::Pcma,
            },
            payload_type: answered.payload_type,
            dtmf_payload_type: answered.telephone_event,
            ptime_ms: answered
                .ptime_ms
                .and_then(|ms| u16::try_from(ms).ok())
                .unwrap_or(20),
        };
        // The leg is open for as long as this value lives; an engine that is stopping
        // takes nothing any more, and neither does the call.
        let _ = engine.configure(key_of(self.leg), media);
        self.agreed = Some(answered);
    }
}
