//! A leg: one INVITE dialog of ours with one phone or trunk, as its owner sees it.
//!
//! The owner drives a [`Leg`] with commands and hears [`LegEvent`]s through the sink it gave.
//! Everything that SIP needs in between (retransmission, provisional waiting, glare, forks,
//! session timers) stays here; everything that is a decision (answer, ACK, hold) stays there.
//!
//! Invariants: every leg ends with exactly one of `Failed`, `Cancelled`, `Timeout`, `Ended`;
//! events come in order; a 2xx is acknowledged only on command, except for further forks,
//! cancelled calls and re-INVITEs that carried our offer.
//!
//! RFC 3261 §§13–15, RFC 3311 (UPDATE), RFC 4028 (session timers), RFC 6086 (INFO).

mod machine;
mod reinvite;
mod session;
mod uac;
mod uas;

pub(crate) use machine::{LegCell, Machine};
pub use uac::{Credentials, InviteSpec};

use crate::dialog::Dialog;
use crate::endpoint::Core;
use crate::message::{HeaderName, Uri};
use crate::token::LegToken;
use bytes::Bytes;
use std::sync::Arc;

/// Who ended a leg.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// We did, on command.
    Us,
    /// The peer sent BYE, or a 481: it knows the dialog no more.
    Peer,
    /// The dialog was found dead: no ACK, no session refresh, or 408 to a request of ours.
    Lost,
}

/// What a leg reports.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum LegEvent {
    /// UAC: 180 without SDP.
    Ringing,
    /// UAC: any other provisional response above 100 (180 with SDP too).
    Progress {
        /// Its status.
        status: u16,
        /// Early media.
        sdp: Option<String>,
    },
    /// UAC: the first 2xx. The peer repeats it until `ack` is called.
    Answered {
        /// The answer, or the offer when the INVITE had none.
        sdp: Option<String>,
        /// The peer's tag.
        remote_tag: String,
        /// The peer's Contact.
        contact: Uri,
    },
    /// UAC: a 2xx that crossed our CANCEL, acknowledged; only where the INVITE asked for it.
    /// The owner ends the leg; it ends by itself after a few seconds.
    Crossed {
        /// The answer.
        sdp: Option<String>,
    },
    /// The ACK for our 2xx (first INVITE or re-INVITE) arrived.
    Acked {
        /// The answer, when our 2xx carried the offer.
        sdp: Option<String>,
    },
    /// UAC: a final refusal; also 487 after `cancel`. The leg is over.
    Failed {
        /// Status, 300 to 699.
        status: u16,
        /// Reason phrase as sent by the peer.
        reason: String,
        /// Retry-After in seconds.
        retry_after_s: Option<u32>,
        /// Q.850 cause of the Reason header.
        q850: Option<u16>,
    },
    /// The peer asks to change the session. Answer with `accept_reinvite` or `reject_reinvite`.
    Reinvited {
        /// The offer; `None` asks us for one.
        sdp: Option<String>,
    },
    /// Our re-INVITE was answered with 2xx.
    ReinviteAnswered {
        /// The answer, or the offer when ours carried none (then `ack(Some(answer))`).
        sdp: Option<String>,
    },
    /// Our re-INVITE was refused and the session is unchanged.
    ReinviteFailed {
        /// Status; 408 when nobody answered in time.
        status: u16,
    },
    /// An INFO request; it was answered 200.
    Info {
        /// Content-Type.
        content_type: String,
        /// Body.
        body: Bytes,
    },
    /// The final response to an `info` or `options` of ours; 408 when none came.
    Replied {
        /// Status.
        status: u16,
    },
    /// UAS: the peer cancelled before we answered. The leg is over.
    Cancelled,
    /// UAS: no ACK came for our 2xx in 64·T1. BYE is sent; `Ended` follows.
    AckTimeout,
    /// UAC: nobody answered the INVITE in time. The leg is over.
    Timeout,
    /// The leg is over.
    Ended {
        /// Who ended it.
        by: By,
        /// Q.850 cause of the Reason header.
        q850: Option<u16>,
    },
}

/// Receives the events of a leg. It is called with the leg locked: it must only pass the event
/// on (into a channel or mailbox), never block and never call the leg.
pub type LegSink = Arc<dyn Fn(LegToken, LegEvent) + Send + Sync>;

/// A sink that fills a channel.
#[must_use]
pub fn channel_sink(sender: tokio::sync::mpsc::UnboundedSender<(LegToken, LegEvent)>) -> LegSink {
    Arc::new(move |token, event| {
        // The owner is gone: nobody is left to tell.
        let _ = sender.send((token, event));
    })
}

/// Why a command was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LegError {
    /// The leg is not known here (any more).
    #[error("no such leg")]
    Gone,
    /// The command does not fit the leg's state.
    #[error("not possible in this state of the leg")]
    WrongState,
    /// Another exchange of the same kind is under way.
    #[error("another exchange is under way")]
    Busy,
}

/// A handle on one leg; cheap to clone, and useless once the leg is over.
#[derive(Clone)]
pub struct Leg {
    pub(crate) token: LegToken,
    pub(crate) core: Arc<Core>,
}

impl std::fmt::Debug for Leg {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Leg").field(&self.token).finish()
    }
}

impl Leg {
    /// The token of the leg.
    #[must_use]
    pub fn token(&self) -> LegToken {
        self.token
    }

    fn with<T>(
        &self,
        act: impl FnOnce(&mut Machine, &Core) -> Result<T, LegError>,
    ) -> Result<T, LegError> {
        let cell = self.core.leg(self.token).ok_or(LegError::Gone)?;
        let mut machine = cell.machine.lock();
        act(&mut machine, &self.core)
    }

    /// UAS: sends a provisional response, 101 to 199.
    ///
    /// # Errors
    /// [`LegError`] when the INVITE was answered already or the leg is gone.
    pub fn ring(&self, status: u16, sdp: Option<String>) -> Result<(), LegError> {
        self.with(|machine, core| machine.ring(core, status, sdp))
    }

    /// UAS: answers 200; repeated until the ACK comes.
    ///
    /// # Errors
    /// [`LegError`] when the INVITE was answered already or the leg is gone.
    pub fn answer(&self, sdp: String) -> Result<(), LegError> {
        self.with(|machine, core| machine.answer(core, sdp))
    }

    /// UAS, taken over: as [`Leg::answer`], for a caller who may have had an answer before. Sent
    /// once; a re-INVITE may follow at once.
    ///
    /// # Errors
    /// [`LegError`] when the INVITE was answered already or the leg is gone.
    pub fn answer_once(&self, sdp: String) -> Result<(), LegError> {
        self.with(|machine, core| machine.answer_once(core, sdp))
    }

    /// UAS, taken over: the INVITE was answered with this long ago, and acknowledged.
    ///
    /// # Errors
    /// [`LegError`] when the INVITE was answered already or the leg is gone.
    pub fn answered_before(&self, sdp: String) -> Result<(), LegError> {
        self.with(|machine, core| machine.answered_before(core, sdp))
    }

    /// UAS: refuses the INVITE with 300 to 699. `Ended{by: Us}` follows at once.
    ///
    /// # Errors
    /// [`LegError`] when the INVITE was answered already or the leg is gone.
    pub fn reject(
        &self,
        status: u16,
        reason: &str,
        headers: &[(HeaderName, String)],
    ) -> Result<(), LegError> {
        self.with(|machine, core| machine.reject(core, status, reason, headers))
    }

    /// UAC: acknowledges the 2xx, with the answer when the 2xx carried the offer.
    ///
    /// # Errors
    /// [`LegError`] when there is nothing to acknowledge or the leg is gone.
    pub fn ack(&self, sdp: Option<String>) -> Result<(), LegError> {
        self.with(|machine, core| machine.ack(core, sdp))
    }

    /// UAC, taken over: the 2xx may have been acknowledged. Nothing is sent unless the peer
    /// repeats it.
    ///
    /// # Errors
    /// [`LegError`] when there is nothing to acknowledge or the leg is gone.
    pub fn acknowledged_before(&self) -> Result<(), LegError> {
        self.with(|machine, core| machine.acknowledged_before(core))
    }

    /// UAC: cancels the INVITE; waits for a provisional response first if none came.
    ///
    /// `Failed` follows (487, or whatever the peer sent). A 2xx that crosses is acknowledged
    /// and ended, and also reported as `Failed` with 487, unless the INVITE asked for
    /// [`LegEvent::Crossed`].
    ///
    /// # Errors
    /// [`LegError`] when the INVITE was answered or the leg is gone.
    pub fn cancel(&self) -> Result<(), LegError> {
        self.with(|machine, core| machine.cancel(core, None))
    }

    /// Ends the leg in whatever state it is: BYE, CANCEL or 480. `Ended` or `Failed` follows.
    ///
    /// # Errors
    /// [`LegError::Gone`].
    pub fn bye(&self, q850: Option<u16>) -> Result<(), LegError> {
        self.with(|machine, core| machine.bye(core, q850))
    }

    /// What the peer's BYE said is known to whoever has to know it: the BYE is answered now.
    /// Matters with [`EndpointConfig::byes_wait`](crate::endpoint::EndpointConfig::byes_wait).
    pub fn end_is_known(&self) {
        // A leg that is gone has answered.
        let _ = self.with(|machine, core| {
            machine.end_is_known(core);
            Ok(())
        });
    }

    /// Sends a re-INVITE, with an offer or asking for one. 491 and 500 are tried again.
    ///
    /// # Errors
    /// [`LegError::Busy`] when another INVITE is under way in either direction.
    pub fn reinvite(&self, sdp: Option<String>) -> Result<(), LegError> {
        self.with(|machine, core| machine.reinvite(core, sdp))
    }

    /// Asks the peer whether it still knows the dialog, by a session refresh ahead of its time
    /// (RFC 4028 §7.4). One that does not answers 481, and `Ended` follows. Does nothing without
    /// a session timer, which such a peer would not expect, and while another offer is under way.
    ///
    /// # Errors
    /// [`LegError`] outside a confirmed dialog.
    pub fn probe(&self) -> Result<(), LegError> {
        self.with(|machine, core| machine.probe(core))
    }

    /// Answers the peer's re-INVITE or UPDATE with 200.
    ///
    /// # Errors
    /// [`LegError::WrongState`] when none is waiting.
    pub fn accept_reinvite(&self, sdp: Option<String>) -> Result<(), LegError> {
        self.with(|machine, core| machine.accept_reinvite(core, sdp))
    }

    /// Refuses the peer's re-INVITE or UPDATE; the session stays as it was.
    ///
    /// # Errors
    /// [`LegError::WrongState`] when none is waiting.
    pub fn reject_reinvite(&self, status: u16) -> Result<(), LegError> {
        self.with(|machine, core| machine.reject_reinvite(core, status))
    }

    /// Sends an INFO; `Replied` follows.
    ///
    /// # Errors
    /// [`LegError`] outside a confirmed dialog, or with too many requests waiting.
    pub fn info(&self, content_type: &str, body: impl Into<Bytes>) -> Result<(), LegError> {
        let body = body.into();
        self.with(|machine, core| machine.info(core, content_type, body))
    }

    /// Sends an OPTIONS in the dialog; `Replied` follows.
    ///
    /// # Errors
    /// [`LegError`] outside a confirmed dialog, or with too many requests waiting.
    pub fn options(&self) -> Result<(), LegError> {
        self.with(|machine, core| machine.options(core))
    }

    /// UAC: true once anything came back to our INVITE, be it 100 only; also when the leg
    /// is gone.
    #[must_use]
    pub fn is_heard(&self) -> bool {
        self.with(|machine, _| Ok(machine.is_heard()))
            .unwrap_or(true)
    }

    /// The dialog as it is now, for a checkpoint; `None` before one exists.
    #[must_use]
    pub fn dialog(&self) -> Option<Dialog> {
        self.with(|machine, _| Ok(machine.snapshot()))
            .ok()
            .flatten()
    }

    /// Forgets the leg without a word to the peer, as when another node took it over.
    pub fn forget(&self) {
        if let Some(cell) = self.core.leg(self.token) {
            cell.machine.lock().forget(&self.core);
        }
        self.core.remove_leg(self.token);
    }
}
