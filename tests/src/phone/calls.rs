//! What a test phone knows of one call.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::message::Message;
use crate::rtp::Audio;

/// How far a call has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Sent, nothing but 100 came back.
    Calling,
    /// It rings (180 or 183 seen, or it rings here).
    Ringing,
    /// Answered.
    Up,
    /// Over.
    Ended,
}

/// A snapshot of a call.
#[derive(Clone, Debug)]
pub struct View {
    /// How far it has come.
    pub phase: Phase,
    /// Whether it came in.
    pub incoming: bool,
    /// The user part of the other end's address.
    pub peer: String,
    /// Statuses of our INVITEs, with the time each came.
    pub history: Vec<(Instant, u16)>,
    /// The final status, for calls that were not answered.
    pub status: Option<u16>,
    /// Whether the other end hung up.
    pub ended_by_peer: bool,
    /// How many BYEs the other end has sent, each with its repeats once.
    pub byes: usize,
    /// Who sent each of them, and when.
    pub byes_from: Vec<(Instant, SocketAddr)>,
    /// When it began, was answered and ended.
    pub began: Instant,
    /// When it was answered.
    pub answered: Option<Instant>,
    /// When it ended.
    pub ended: Option<Instant>,
    /// The direction the other end last stated for itself in SDP.
    pub peer_direction: &'static str,
    /// Where the other end wants its audio.
    pub peer_audio: Option<SocketAddr>,
}

/// The state behind a [`View`].
pub(super) struct Record {
    pub view: View,
    pub audio: Arc<Audio>,
    pub server: SocketAddr,
    /// Request URI of requests within the dialog (the other end's Contact).
    pub target: String,
    /// Our From (or To, when incoming) with tag.
    pub own: String,
    /// The other end's address with its tag once known.
    pub other: String,
    pub cseq: u32,
    /// Our INVITE under way, kept for CANCEL, ACK and the digest's second try.
    pub invite: Option<Message>,
    pub authorized: bool,
    pub cancelled: bool,
    /// Ours, to be stated in SDP.
    pub direction: &'static str,
    /// The same before a change of it that is not answered yet.
    pub direction_before: &'static str,
    pub sdp_version: u32,
    /// The INVITE of ours, and the dialog, that has its answer.
    pub heard: Option<(Option<u32>, Option<String>)>,
    /// The INVITE that came in and our last response to it.
    pub request: Option<Message>,
    pub response: Option<Vec<u8>>,
    /// The message of the other end that set up the call.
    pub peer_message: Message,
    /// The transactions of the BYEs that came in.
    pub byes: BTreeSet<String>,
    /// Repeats of our INVITE, or of our 200 until the ACK.
    pub repeat: Option<Repeat>,
    /// Repeats of our BYE until its answer.
    pub farewell: Option<Repeat>,
    /// When to answer and to hang up by policy.
    pub answer_at: Option<Instant>,
    /// When to take a change of the session.
    pub change_at: Option<Instant>,
    pub hang_up_at: Option<Instant>,
    pub talk: Option<Duration>,
}

/// A message sent again at doubling intervals (RFC 3261 timers A and G).
pub(super) struct Repeat {
    pub bytes: Vec<u8>,
    pub to: SocketAddr,
    pub at: Instant,
    pub interval: Duration,
}

/// T1 of RFC 3261 §17.1.1.1.
const T1: Duration = Duration::from_millis(500);
/// T2, the longest interval.
const T2: Duration = Duration::from_secs(4);

impl Repeat {
    /// The first repeat is due after T1.
    pub fn new(bytes: Vec<u8>, to: SocketAddr) -> Self {
        Self {
            bytes,
            to,
            at: Instant::now() + T1,
            interval: T1,
        }
    }

    /// The bytes to send when due.
    pub fn due(&mut self, now: Instant) -> Option<(Vec<u8>, SocketAddr)> {
        if now < self.at {
            return None;
        }
        self.interval = (self.interval * 2).min(T2);
        self.at = now + self.interval;
        Some((self.bytes.clone(), self.to))
    }
}

impl Record {
    /// A call that begins now.
    pub fn new(audio: Arc<Audio>, server: SocketAddr, peer: String, incoming: bool) -> Self {
        Self {
            view: View {
                phase: if incoming {
                    Phase::Ringing
                } else {
                    Phase::Calling
                },
                incoming,
                peer,
                history: Vec::new(),
                status: None,
                ended_by_peer: false,
                byes: 0,
                byes_from: Vec::new(),
                began: Instant::now(),
                answered: None,
                ended: None,
                peer_direction: "sendrecv",
                peer_audio: None,
            },
            audio,
            server,
            target: String::new(),
            own: String::new(),
            other: String::new(),
            cseq: 1,
            invite: None,
            authorized: false,
            cancelled: false,
            direction: "sendrecv",
            direction_before: "sendrecv",
            sdp_version: 1,
            heard: None,
            request: None,
            response: None,
            peer_message: Message::default(),
            byes: BTreeSet::new(),
            repeat: None,
            farewell: None,
            answer_at: None,
            change_at: None,
            hang_up_at: None,
            talk: None,
        }
    }

    /// Takes over the other end's session description, if the message carries one.
    pub fn hear(&mut self, message: &Message) {
        if let Some((address, direction)) = super::message::audio_of(&message.body) {
            self.view.peer_audio = Some(address);
            self.view.peer_direction = direction;
        }
    }

    /// The same with an answer to our INVITE: the first in a dialog counts, others in it are not
    /// listened to (RFC 3261 §13.2.1).
    pub fn hear_once(&mut self, response: &Message) {
        if response.body.is_empty() {
            return;
        }
        let of = (
            response.cseq().map(|(number, _)| number),
            response.tag("To"),
        );
        if self.heard.as_ref() != Some(&of) {
            self.heard = Some(of);
            self.hear(response);
        }
    }

    /// Sends audio where both ends want it.
    pub fn connect_audio(&self) {
        self.audio.set_remote(self.view.peer_audio);
        let wanted = matches!(self.view.peer_direction, "sendrecv" | "recvonly")
            && self.direction == "sendrecv";
        self.audio.set_sending(wanted);
    }

    /// Marks the call as answered.
    pub fn up(&mut self) {
        let now = Instant::now();
        self.view.phase = Phase::Up;
        // A re-INVITE answers again; the talk time counts from the first answer.
        if self.view.answered.is_none() {
            self.view.answered = Some(now);
            self.hang_up_at = self.talk.map(|talk| now + talk);
        }
        self.connect_audio();
    }

    /// Marks the call as over.
    pub fn end(&mut self, status: Option<u16>, by_peer: bool) {
        if self.view.phase == Phase::Ended {
            return;
        }
        self.view.phase = Phase::Ended;
        self.view.ended = Some(Instant::now());
        self.view.status = status;
        self.view.ended_by_peer = by_peer;
        self.answer_at = None;
        self.hang_up_at = None;
        self.audio.set_remote(None);
    }
}
