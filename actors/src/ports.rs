//! What the actor of a call needs from signalling and media.
//!
//! The daemon implements [`Legs`]; nothing here names SIP or RTP types, so an actor
//! can be driven by a test without sockets.

use std::time::Duration;

use strowger_core::call::{CallRow, Cause, Codec};
use strowger_core::ids::{BlobId, CallId, LegId};
use strowger_core::ivr::speech::Key;
use strowger_core::outstanding::Audio;

/// What happened to a leg. Sent to the actor of its call in the order it happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LegEvent {
    /// Out: the far end rings; `early_media` when it also sends audio before the
    /// answer. In: our own alerting has been sent.
    Alerting {
        /// Whether audio comes before the answer.
        early_media: bool,
    },
    /// Out: the far end answered and waits for our ACK. In: everything is ready for
    /// our 200. Either way its commit is what the far end waits for.
    Answered(Answer),
    /// Out: the far end has said nothing at all for as long as its trunk allows.
    Silent,
    /// The leg is over: ended by the far end, failed, or our own ending is complete.
    Ended {
        /// SIP Call-ID.
        sip_call_id: String,
        /// Why.
        cause: Cause,
    },
    /// The far end changes the session and waits for our answer, which
    /// [`Legs::agree`] sends after the commit.
    Changed {
        /// Whether it holds us from now on.
        held: bool,
        /// The exported dialog.
        checkpoint: Vec<u8>,
    },
    /// The session has changed on our own wish; what a new owner goes on from is another.
    Renewed {
        /// Whether the far end holds us.
        held: bool,
        /// As in [`Answer::checkpoint`].
        checkpoint: Vec<u8>,
    },
    /// A prompt or tone has been played to its end.
    Played(Audio),
    /// The far end pressed a key, in whichever way its phone says so.
    Key(Key),
}

/// The facts of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// SIP Call-ID.
    pub sip_call_id: String,
    /// Contact URI of the far end.
    pub remote: Option<String>,
    /// Agreed codec.
    pub codec: Codec,
    /// What a new owner goes on from: the caller's INVITE with our answer, or the dialog.
    pub checkpoint: Vec<u8>,
}

/// Signalling and media of legs, by leg id. Every method returns at once; what comes
/// of it arrives as a [`LegEvent`]. A method about a leg that is gone does nothing.
pub trait Legs: Send + Sync + 'static {
    /// Takes up a leg from its checkpoint, unless it is here already. False when that has to
    /// wait: the leg's ports are still held by its old owner. Without patience it gets other
    /// ports, which its far end is told by a re-INVITE. What cannot be resumed at all ends
    /// with [`LegEvent::Ended`].
    fn resume(&self, call: &CallRow, leg: LegId, patient: bool) -> bool;

    /// Sends an INVITE for an outgoing leg of `call`.
    fn invite(&self, call: &CallRow, leg: LegId);

    /// Tells the caller that it rings: 180, or 183 with audio from `early`.
    fn alert(&self, leg: LegId, early: Option<LegId>);

    /// Makes the caller's leg ready to be answered; answers with
    /// [`LegEvent::Answered`] or [`LegEvent::Ended`].
    fn prepare(&self, call: &CallRow, leg: LegId);

    /// Sends our 200 to the caller.
    fn answer(&self, leg: LegId);

    /// Sends our ACK to the far end's 200.
    fn confirm(&self, leg: LegId);

    /// Answers the far end's change of the session: yes, or 500 with Retry-After.
    fn agree(&self, leg: LegId, yes: bool);

    /// Ends a leg as its state asks for; [`LegEvent::Ended`] follows within 2 s. An agent
    /// whose answer crosses this may first be told that the caller left: then
    /// [`LegEvent::Answered`] may come, and the end follows within 7 s.
    fn end(&self, leg: LegId, cause: Cause);

    /// The end of a leg that [`LegEvent::Ended`] told is committed: its far end, who hung up,
    /// is told so. Before, it would say so once more to whoever has the leg by then.
    fn end_is_known(&self, leg: LegId);

    /// False while this node has lost its lease and may send nothing for its calls.
    fn may_signal(&self) -> bool;

    /// Changes what a leg hears. `call` gives the tenant's blobs their context.
    fn hear(&self, call: CallId, leg: LegId, audio: Audio);

    /// How long a sound lasts; nothing when it is not here.
    fn lasts(&self, sound: BlobId) -> Duration;

    /// Forgets a leg without a word: its ports are free, nothing is sent for it any more.
    fn forget(&self, leg: LegId);

    /// The same for a leg that another node speaks for by now. A far end that hung up and has
    /// had no answer yet gets none from here: it says so once more to that node.
    fn let_go(&self, leg: LegId);
}
