//! The client side: repeats requests until answered, acknowledges refusals, gives up in time.
//!
//! INVITE: Calling → Proceeding → Completed (non-2xx) or Accepted (2xx, RFC 6026).
//! Others: Calling → Proceeding → Completed.

use super::{Class, Key, Wire, ack_of};
use crate::message::{Method, Request, Response};
use crate::timer::{Due, Intervals, Kind};
use crate::token::LegToken;
use crate::transport::Flow;
use bytes::Bytes;
use std::time::Duration;

/// An INVITE that was answered provisionally is given up after this, as Timer C of a proxy
/// would (RFC 3261 §16.6 step 11): without it, a callee that dies ringing is never missed.
const RINGING_MAX: Duration = Duration::from_secs(300);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Calling,
    Proceeding,
    Completed,
    Accepted,
}

/// Who waits for the response.
pub(crate) enum ClientOwner {
    /// A leg.
    Leg(LegToken),
    /// Whoever sent a request outside any leg; called once, with `None` on timeout.
    Once(Box<dyn FnOnce(Option<Response>) + Send>),
    /// Nobody (CANCEL, the BYE of a fork).
    Nobody,
}

/// What a response or a timer means to the owner.
pub(crate) enum Heard {
    /// Nothing, and the transaction goes on.
    Nothing,
    /// Deliver the response.
    Deliver,
    /// Nobody answered.
    Timeout,
    /// The transaction is over.
    Over,
}

pub(crate) struct ClientTx {
    request: Request,
    bytes: Bytes,
    ack: Option<Bytes>,
    flow: Flow,
    state: State,
    interval: Duration,
    pub(super) owner: ClientOwner,
}

impl ClientTx {
    pub(super) fn new(request: Request, flow: Flow, owner: ClientOwner) -> Self {
        let bytes = request.to_bytes();
        Self {
            request,
            bytes,
            ack: None,
            flow,
            state: State::Calling,
            interval: Duration::ZERO,
            owner,
        }
    }

    fn is_invite(&self) -> bool {
        self.request.method == Method::Invite
    }

    pub(super) fn start(&mut self, wire: &dyn Wire, times: &Intervals, key: &Key) {
        wire.send(&self.flow, &self.bytes, Class::Ordinary);
        if !wire.is_reliable(&self.flow) {
            self.interval = times.t1;
            wire.arm(self.interval, Due::Client(key.clone(), Kind::Retransmit));
        }
        wire.arm(times.patience(), Due::Client(key.clone(), Kind::GiveUp));
    }

    pub(super) fn response(
        &mut self,
        wire: &dyn Wire,
        times: &Intervals,
        key: &Key,
        response: &Response,
    ) -> Heard {
        let waiting = matches!(self.state, State::Calling | State::Proceeding);
        if response.is_provisional() {
            if !waiting {
                return Heard::Nothing;
            }
            if self.is_invite() && self.state == State::Calling {
                wire.arm(RINGING_MAX, Due::Client(key.clone(), Kind::GiveUp));
            }
            self.state = State::Proceeding;
            return Heard::Deliver;
        }
        let forget = |after| wire.arm(after, Due::Client(key.clone(), Kind::Forget));
        if !self.is_invite() {
            if !waiting {
                return Heard::Nothing;
            }
            self.state = State::Completed;
            forget(times.t4);
            return Heard::Deliver;
        }
        if response.is_success() {
            match self.state {
                State::Completed => return Heard::Nothing,
                State::Accepted => {}
                State::Calling | State::Proceeding => {
                    self.state = State::Accepted;
                    self.bytes = Bytes::new();
                    forget(times.patience());
                }
            }
            return Heard::Deliver;
        }
        match (self.state, &self.ack) {
            (State::Completed, Some(ack)) => {
                wire.send(&self.flow, ack, Class::Ordinary);
                Heard::Nothing
            }
            (State::Completed | State::Accepted, _) => Heard::Nothing,
            (State::Calling | State::Proceeding, _) => {
                let ack = ack_of(&self.request, response).to_bytes();
                wire.send(&self.flow, &ack, Class::Ordinary);
                self.ack = Some(ack);
                self.state = State::Completed;
                forget(times.patience());
                Heard::Deliver
            }
        }
    }

    pub(super) fn timer(
        &mut self,
        wire: &dyn Wire,
        times: &Intervals,
        key: &Key,
        kind: Kind,
    ) -> Heard {
        let repeats = match self.state {
            State::Calling => true,
            State::Proceeding => !self.is_invite(),
            State::Completed | State::Accepted => false,
        };
        match kind {
            Kind::Retransmit => {
                if repeats {
                    wire.send(&self.flow, &self.bytes, Class::Ordinary);
                    // Timer A doubles without end, Timer E up to T2 (RFC 3261 §17.1.1.2, .2.2).
                    self.interval = match (self.is_invite(), self.state) {
                        (true, _) => self.interval * 2,
                        (false, State::Proceeding) => times.t2,
                        (false, _) => times.double(self.interval),
                    };
                    wire.arm(self.interval, Due::Client(key.clone(), Kind::Retransmit));
                }
                Heard::Nothing
            }
            // Timer B of an INVITE that was answered provisionally is void; the later one that
            // was armed then is not, and finds `interval` marked.
            Kind::GiveUp if repeats => Heard::Timeout,
            Kind::GiveUp if self.state == State::Proceeding => {
                if self.interval == Duration::MAX {
                    return Heard::Timeout;
                }
                self.interval = Duration::MAX;
                Heard::Nothing
            }
            Kind::GiveUp => Heard::Nothing,
            Kind::Forget => Heard::Over,
        }
    }
}
