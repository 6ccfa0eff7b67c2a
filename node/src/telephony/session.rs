//! Offers, answers and RTP of one leg.
//!
//! Both legs of a call see only our addresses: each negotiates with us (RFC 3264). The
//! caller's own order of codecs is kept and offered on, so that a bridge rarely needs
//! to transcode.

use std::net::IpAddr;

use strowger_core::call::Codec as RowCodec;
use strowger_core::ids::LegId;
use strowger_media::{Codec as MediaCodec, Engine, LegMedia, OpenError};
use strowger_sip::dialog::Role;
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
        let codecs = shared_codecs(audio);
        if codecs.is_empty() {
            return Err(sdp::Refused::NoCommonCodec.into());
        }
        Ok(Self {
            sdp: Some(text.to_owned()),
            codecs,
        })
    }
}

/// The codecs of a description that we share, in its order.
fn shared_codecs(audio: &sdp::Media) -> Vec<Codec> {
    let ours = |payload: &sdp::Payload| {
        let same = |codec: &Codec| payload.name.eq_ignore_ascii_case(codec.name());
        let codec = CODECS.into_iter().find(same);
        codec.filter(|_| payload.rate == 8_000)
    };
    audio.payloads.iter().filter_map(ours).collect()
}

/// These codecs first, then the others of ours.
fn with_all(mut codecs: Vec<Codec>) -> Vec<Codec> {
    for codec in CODECS {
        if !codecs.contains(&codec) {
            codecs.push(codec);
        }
    }
    codecs
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
    /// The far end's last description.
    theirs: Option<String>,
    /// The same before an offer was considered.
    theirs_before: Option<String>,
}

/// What both sides of a session to be resumed have said.
pub struct Heard<'a> {
    /// Our last description.
    pub ours: &'a str,
    /// Theirs; `None` while it is awaited.
    pub theirs: Option<&'a str>,
    /// Whether we called or were called.
    pub role: Role,
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
        codecs = with_all(codecs);
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
            theirs: None,
            theirs_before: None,
        })
    }

    /// Takes up a session as it was last agreed, at its old ports, or without patience at
    /// others when it cannot have them. At another address it gets any.
    pub fn resume(
        engine: &Engine,
        leg: LegId,
        address: IpAddr,
        heard: &Heard<'_>,
        patient: bool,
    ) -> Result<Self, SessionError> {
        let ours = sdp::parse(heard.ours).map_err(NegotiateError::from)?;
        let audio = ours.audio();
        let audio = audio.ok_or(NegotiateError::from(sdp::Refused::NoAudio))?;
        let stays = audio.address.is_none_or(|old| old == address);
        let open = match stays.then(|| engine.open_at(key_of(leg), address, audio.port)) {
            Some(Ok(open)) => open,
            Some(Err(why)) if patient => return Err(why.into()),
            Some(Err(_)) | None => engine.open(key_of(leg), address)?,
        };
        let mut session = Self {
            leg,
            local: LocalMedia {
                ip: address,
                port: open.rtp_port,
                codecs: with_all(shared_codecs(audio)),
                direction: Direction::SendRecv,
                session: leg.0,
                previous: Some(heard.ours.to_owned()),
            },
            agreed: None,
            pending: None,
            theirs: None,
            theirs_before: None,
        };
        let agreed = heard.theirs.map(|theirs| {
            session.theirs = Some(theirs.to_owned());
            match heard.role {
                Role::Uas => sdp::answer(theirs, &session.local),
                Role::Uac => sdp::accept_answer(theirs, &session.local),
            }
        });
        match agreed {
            Some(Ok(answered)) => session.put_in_force(engine, answered),
            Some(Err(why)) => {
                // Closed already when the engine is stopping.
                let _ = engine.close(key_of(leg));
                return Err(why.into());
            }
            // Their answer comes with the ACK.
            None => {}
        }
        Ok(session)
    }

    /// True when the session is not at the address or port the far end knows.
    pub fn is_moved(&self) -> bool {
        let known = self.local.previous.as_deref().map(sdp::parse);
        let Some(Ok(known)) = known else { return false };
        known.audio().is_some_and(|audio| {
            let elsewhere = audio.address.is_some_and(|old| old != self.local.ip);
            elsewhere || audio.port != self.local.port
        })
    }

    /// Our answer to the first offer once more, from where the session is now; our offer when
    /// there was none.
    pub fn answer_again(&mut self) -> String {
        let answer = self.agreed.as_ref().map(|agreed| agreed.sdp.clone());
        let Some(answer) = answer.filter(|text| !text.is_empty()) else {
            return self.offer();
        };
        self.local.previous = Some(answer.clone());
        answer
    }

    /// Our new offer of a session that has moved. Who holds us holds us on: the offer asks for
    /// no more than flows now (RFC 6337 §5.3).
    pub fn offer_moved(&mut self) -> String {
        let flows = self.agreed.as_ref().map(|agreed| agreed.direction);
        self.local.direction = flows.unwrap_or(Direction::SendRecv);
        let text = self.offer();
        self.local.direction = Direction::SendRecv;
        text
    }

    /// Our description and theirs: those agreed, or about to be.
    pub fn descriptions(&self) -> (Option<String>, Option<String>) {
        let ours = match &self.pending {
            Some(pending) => Some(pending.sdp.clone()),
            None => self.local.previous.clone(),
        };
        (ours, self.theirs.clone())
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
        self.theirs = Some(offer.to_owned());
        self.local.previous = Some(answered.sdp.clone());
        let text = answered.sdp.clone();
        self.put_in_force(engine, answered);
        Ok(text)
    }

    /// Takes the far end's answer to our offer.
    pub fn accept(&mut self, engine: &Engine, answer: &str) -> Result<(), SessionError> {
        let answered = sdp::accept_answer(answer, &self.local)?;
        self.theirs = Some(answer.to_owned());
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
        if self.pending.replace(answered).is_none() {
            self.theirs_before = self.theirs.take();
        }
        self.theirs = Some(offer.to_owned());
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

    /// Drops a considered offer: what was agreed before stays in force.
    pub fn refuse(&mut self) {
        if self.pending.take().is_some() {
            self.theirs = self.theirs_before.take();
        }
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
