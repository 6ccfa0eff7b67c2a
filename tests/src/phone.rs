//! A telephone for tests: registers, calls, answers, holds, and knows what happened when.
//!
//! One UDP socket and one thread for each phone. It follows RFC 3261 where a test depends
//! on it (transactions, retransmission, digest, CANCEL, re-INVITE) and is written apart
//! from the product's own signalling, so that the two cannot share a fault.

pub mod message;

mod calls;
mod core;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use calls::{Phase, View};
use core::Core;
pub use core::{Changes, Policy};
use message::Message;

use crate::poll::within_time;
use crate::rtp::Audio;

/// A request without an answer is given up after this long (RFC 3261 timer F is 32 s;
/// tests fail sooner).
const ANSWER_MAX: Duration = Duration::from_secs(8);

/// A phone.
pub struct Phone {
    core: Arc<Core>,
}

/// One call of a phone, made or received.
#[derive(Clone)]
pub struct Call {
    core: Arc<Core>,
    call_id: String,
}

impl Phone {
    /// A phone at `address` (a free port of it) that sends a tone of `tone_hz`.
    pub fn new(address: IpAddr, user: &str, password: &str, tone_hz: u32) -> Self {
        Self::at((address, 0).into(), user, password, tone_hz)
    }

    /// The same at a fixed port, for devices the site names by contact.
    pub fn at(address: SocketAddr, user: &str, password: &str, tone_hz: u32) -> Self {
        Self {
            core: Core::start(address, user, password, tone_hz),
        }
    }

    /// Where the phone listens.
    pub fn address(&self) -> SocketAddr {
        self.core.local
    }

    /// The phone's user name.
    pub fn user(&self) -> &str {
        &self.core.user
    }

    /// Answers no challenge but MD5 from now on, as older phones do; at first it answers the
    /// first one offered that is MD5 or SHA-256.
    pub fn speak_md5_only(&self) {
        self.core.speak_md5_only();
    }

    /// What to do with calls that come in from now on (at first: ring).
    pub fn set_policy(&self, policy: Policy) {
        self.core.lock().policy = policy;
    }

    /// Acknowledges no answer while withheld, as when the ACK is lost again and again.
    pub fn withhold_acks(&self, withheld: bool) {
        self.core.withhold_acks(withheld);
    }

    /// From now on calls begin without an offer, and the ACK answers that of the exchange.
    pub fn offer_late(&self) {
        self.core.offer_late();
    }

    /// What to do with re-INVITEs from now on (at first: take them).
    pub fn set_changes(&self, changes: Changes) {
        self.core.lock().changes = changes;
    }

    /// How many re-INVITEs came, each with its repeats once.
    pub fn changes_seen(&self) -> usize {
        self.core.lock().changes_seen
    }

    /// Registers at `server`; the final status, `None` without an answer.
    pub fn register(&self, server: SocketAddr, expires_s: u32) -> Option<u16> {
        self.core.register(server, expires_s, ANSWER_MAX)?.status()
    }

    /// Sends OPTIONS; the status.
    pub fn options(&self, server: SocketAddr) -> Option<u16> {
        let request = self
            .core
            .request("OPTIONS", &format!("sip:{server}"), server);
        self.core.exchange(request, server, ANSWER_MAX)?.status()
    }

    /// Calls `number` by way of `server`.
    pub fn call(&self, server: SocketAddr, number: &str) -> Call {
        let call_id = self.core.invite(server, number);
        Call {
            core: Arc::clone(&self.core),
            call_id,
        }
    }

    /// Every call so far, oldest first.
    pub fn calls(&self) -> Vec<Call> {
        let ids = self.core.lock().order.clone();
        ids.into_iter()
            .map(|call_id| Call {
                core: Arc::clone(&self.core),
                call_id,
            })
            .collect()
    }

    /// Forgets calls that ended so long ago, with their audio: for phones with many calls.
    /// A [`Call`] of one of them must not be asked any more.
    pub fn forget_ended(&self, ago: Duration) {
        self.core.forget_ended(ago);
    }

    /// Waits for the next incoming call after the first `after` calls.
    pub fn incoming(&self, after: usize, within: Duration) -> Option<Call> {
        within_time(within, || self.calls().into_iter().nth(after))
    }
}

impl Drop for Phone {
    fn drop(&mut self) {
        self.core.lock().closed = true;
    }
}

impl Call {
    /// What is known now.
    pub fn view(&self) -> View {
        self.core.view(&self.call_id)
    }

    /// The Call-ID of the dialog.
    pub fn id(&self) -> &str {
        &self.call_id
    }

    /// The phone's audio end.
    pub fn audio(&self) -> Arc<Audio> {
        self.core.audio(&self.call_id)
    }

    /// Waits until the view satisfies `fits`.
    pub fn wait(&self, within: Duration, fits: impl Fn(&View) -> bool) -> Option<View> {
        within_time(within, || Some(self.view()).filter(&fits))
    }

    /// Waits for the answer; false when the call ended or nothing came.
    pub fn answered(&self, within: Duration) -> bool {
        self.wait(within, |view| {
            matches!(view.phase, Phase::Up | Phase::Ended)
        })
        .is_some_and(|view| view.phase == Phase::Up)
    }

    /// Waits for the end; the view then.
    pub fn ended(&self, within: Duration) -> Option<View> {
        self.wait(within, |view| view.phase == Phase::Ended)
    }

    /// Hangs up: CANCEL while ringing out, BYE when up, 603 to a call that rings here.
    pub fn hang_up(&self) {
        self.core.hang_up(&self.call_id);
    }

    /// Answers a call that rings here.
    pub fn answer(&self) {
        self.core.answer(&self.call_id);
    }

    /// Puts the other end on hold; the status of the re-INVITE.
    pub fn hold(&self) -> Option<u16> {
        self.reinvite("sendonly")
    }

    /// Takes the other end back; the status of the re-INVITE.
    pub fn resume(&self) -> Option<u16> {
        self.reinvite("sendrecv")
    }

    fn reinvite(&self, direction: &'static str) -> Option<u16> {
        let before = self.view().history.len();
        self.core.reinvite(&self.call_id, direction);
        let view = self.wait(ANSWER_MAX, |view| {
            view.history
                .iter()
                .skip(before)
                .any(|&(_, status)| status >= 200)
        })?;
        view.history
            .iter()
            .skip(before)
            .find(|&&(_, status)| status >= 200)
            .map(|h| h.1)
    }

    /// Sends an INFO with a body; the status.
    pub fn info(&self, content_type: &str, body: &str) -> Option<u16> {
        let (request, server) = self.core.in_dialog(&self.call_id, "INFO")?;
        let mut request = request.with("Content-Type", content_type);
        request.body = body.to_owned();
        self.core.exchange(request, server, ANSWER_MAX)?.status()
    }

    /// When a status first came, if it did.
    pub fn status_at(&self, status: u16) -> Option<Instant> {
        self.view()
            .history
            .iter()
            .find(|&&(_, seen)| seen == status)
            .map(|&(at, _)| at)
    }

    /// The last request or response of the other end that set up the call.
    pub fn peer_message(&self) -> Message {
        self.core.peer_message(&self.call_id)
    }
}

#[cfg(test)]
mod tests;
