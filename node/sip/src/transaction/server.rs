//! The server side: answers retransmitted requests, repeats what must be repeated.
//!
//! INVITE: Proceeding → Completed (non-2xx) → Confirmed, or Accepted (2xx, RFC 6026).
//! Others: Trying → Proceeding → Completed.

use super::{Class, Key, Wire};
use crate::message::Request;
use crate::timer::{Due, Intervals, Kind};
use crate::token::LegToken;
use crate::transport::Flow;
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// No final response yet.
    Proceeding,
    /// Final response sent; INVITE: non-2xx, waiting for the ACK.
    Completed,
    /// INVITE: the ACK came; absorbs further ones.
    Confirmed,
    /// INVITE: 2xx sent; absorbs retransmitted INVITEs.
    Accepted,
}

/// What a request met in the table.
#[derive(Debug)]
pub(crate) enum Arrival {
    /// A transaction was made for it.
    New,
    /// A retransmission; it was dealt with.
    Absorbed,
    /// No room for another transaction.
    Full,
}

/// What an ACK belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Acked {
    /// To no transaction here, or to a 2xx: it is the leg's.
    Success,
    /// To our refusal.
    Refusal,
    /// To our refusal, after which nothing can come any more.
    Over,
    /// To a refusal we never sent: the node that had the address before us refused the INVITE
    /// too, and nobody waits for what became of it here.
    RefusedElsewhere(Option<LegToken>),
}

#[derive(Debug)]
pub(crate) struct ServerTx {
    invite: bool,
    bye: bool,
    /// Outside dialogs, so that refusing it touches no call.
    new: bool,
    /// Answered 503.
    refused: bool,
    flow: Flow,
    state: State,
    last: Option<Bytes>,
    interval: Duration,
    /// The INVITE, until it is answered finally: a CANCEL needs it.
    pub(super) request: Option<Arc<Request>>,
    /// The leg the INVITE became.
    pub(super) leg: Option<LegToken>,
    /// A CANCEL, or the ACK of another node's refusal, came before there was a leg.
    pub(super) cancelled: bool,
    /// Call-ID, From tag and CSeq, for finding merged requests.
    pub(super) identity: Option<u64>,
    /// Set once our refusal of the INVITE is acknowledged.
    pub(super) refusal_known: Arc<AtomicBool>,
}

impl ServerTx {
    pub(super) fn new(request: &Arc<Request>, flow: Flow, identity: Option<u64>) -> Self {
        let invite = request.method == crate::message::Method::Invite;
        Self {
            invite,
            bye: request.method == crate::message::Method::Bye,
            new: request.headers.to_tag().is_none(),
            refused: false,
            flow,
            state: State::Proceeding,
            last: None,
            interval: Duration::ZERO,
            request: invite.then(|| Arc::clone(request)),
            leg: None,
            cancelled: false,
            identity,
            refusal_known: Arc::default(),
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.state == State::Proceeding
    }

    /// A retransmission of the request.
    pub(super) fn again(&self, wire: &dyn Wire) {
        // In Accepted the leg repeats the 2xx on its own clock; answering here as well would
        // double the traffic of a lost 200.
        if matches!(self.state, State::Proceeding | State::Completed)
            && let Some(last) = &self.last
        {
            wire.send(&self.flow, last, self.class());
        }
    }

    /// A response of the user. True when the transaction is over at once.
    pub(super) fn respond(
        &mut self,
        wire: &dyn Wire,
        times: &Intervals,
        key: &Key,
        status: u16,
        bytes: Bytes,
    ) -> bool {
        if self.state != State::Proceeding {
            return false;
        }
        self.refused = status == 503;
        wire.send(&self.flow, &bytes, self.class());
        if status < 200 {
            self.last = Some(bytes);
            return false;
        }
        self.request = None;
        let reliable = self.flow.protocol.is_reliable();
        let arm = |after, kind| wire.arm(after, Due::Server(key.clone(), kind));
        if !self.invite {
            self.state = State::Completed;
            self.last = Some(bytes);
            if !reliable {
                arm(times.patience(), Kind::Forget);
            }
            return reliable;
        }
        if status < 300 {
            self.state = State::Accepted;
            self.last = None;
            arm(times.patience(), Kind::Forget);
            return false;
        }
        self.state = State::Completed;
        self.last = Some(bytes);
        if !reliable {
            self.interval = times.t1;
            arm(self.interval, Kind::Retransmit);
        }
        arm(times.patience(), Kind::GiveUp);
        false
    }

    /// An ACK; `answered` is the leg whose tag it carries.
    pub(super) fn ack(
        &mut self,
        wire: &dyn Wire,
        times: &Intervals,
        key: &Key,
        answered: Option<LegToken>,
    ) -> Acked {
        let same =
            |(ours, theirs): (LegToken, LegToken)| (ours.index, ours.n) == (theirs.index, theirs.n);
        match self.state {
            State::Accepted => Acked::Success,
            State::Completed => {
                self.state = State::Confirmed;
                self.refusal_known.store(true, Ordering::Release);
                self.last = None;
                if self.flow.protocol.is_reliable() {
                    return Acked::Over;
                }
                wire.arm(times.t4, Due::Server(key.clone(), Kind::Forget));
                Acked::Refusal
            }
            // Of an answer that an owner before us sent with our tag.
            State::Proceeding if self.leg.zip(answered).is_some_and(same) => Acked::Success,
            State::Proceeding if self.invite => {
                self.cancelled = true;
                Acked::RefusedElsewhere(self.leg)
            }
            State::Proceeding | State::Confirmed => Acked::Refusal,
        }
    }

    /// A timer. True when the transaction is over.
    pub(super) fn timer(
        &mut self,
        wire: &dyn Wire,
        times: &Intervals,
        key: &Key,
        kind: Kind,
    ) -> bool {
        match kind {
            Kind::Retransmit => {
                if self.state == State::Completed
                    && let Some(last) = &self.last
                {
                    wire.send(&self.flow, last, self.class());
                    self.interval = times.double(self.interval);
                    wire.arm(self.interval, Due::Server(key.clone(), Kind::Retransmit));
                }
                false
            }
            Kind::GiveUp => self.state == State::Completed,
            Kind::Forget => true,
        }
    }

    fn class(&self) -> Class {
        if self.bye {
            Class::ByeOk
        } else if self.new && self.refused {
            Class::Refusal
        } else {
            Class::Ordinary
        }
    }
}
