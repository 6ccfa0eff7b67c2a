//! What the endpoint asks of the daemon, and the requests it hands over.

use super::{Core, StartError};
use crate::leg::{Leg, LegCell, LegSink, Machine};
use crate::message::{HeaderName, Request, Response, response_to};
use crate::token::LegToken;
use crate::transaction::Key;
use crate::transport::Flow;
use bytes::Bytes;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// The daemon's side. Every call is made on a receiving task: it must not block. `send_via` is
/// called under locks and must only pass the bytes on.
pub trait Handler: Send + Sync + 'static {
    /// A request outside any dialog that is not INVITE: REGISTER today.
    fn on_request(&self, request: IncomingRequest);

    /// A new call.
    fn on_invite(&self, invite: IncomingInvite);

    /// A message for a leg that is not here. True when it was (or will be) passed to its owner,
    /// who takes it in with `Endpoint::inject`; false answers a request with 481.
    fn on_unrouted(&self, token: LegToken, raw: &[u8], flow: Flow) -> bool {
        let _ = (token, raw, flow);
        false
    }

    /// True for the Call-ID of a caller whom this node is about to take up from another, and
    /// has not yet: his INVITE and his CANCEL are not new, and what he repeats in a moment
    /// finds its transaction.
    fn is_awaited(&self, call_id: &str) -> bool {
        let _ = call_id;
        false
    }

    /// A final answer came to an INVITE of a leg that is not here and that `on_unrouted` did
    /// not pass on. True when its call is surely over everywhere: then the answer is
    /// acknowledged, and what it began is ended.
    fn on_orphan(&self, token: LegToken) -> bool {
        let _ = token;
        false
    }

    /// The far end of such a leg is done with it.
    fn on_orphan_over(&self, token: LegToken) {
        let _ = token;
    }

    /// Bytes to send from an address that is not bound here. True when they were (or will be)
    /// passed to the node that has it, which uses `Endpoint::send_raw`.
    fn send_via(&self, flow: Flow, bytes: Bytes) -> bool {
        let _ = (flow, bytes);
        false
    }
}

/// A request that waits for its answer. Dropped unanswered, it is answered 500: a server
/// transaction without an answer would stay for ever.
pub struct IncomingRequest {
    pub(super) core: Arc<Core>,
    pub(super) key: Key,
    pub(super) request: Arc<Request>,
    pub(super) flow: Flow,
    pub(super) settled: bool,
}

impl std::fmt::Debug for IncomingRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("IncomingRequest")
            .field(&self.request.method)
            .finish()
    }
}

impl IncomingRequest {
    /// The request.
    #[must_use]
    pub fn request(&self) -> &Request {
        &self.request
    }

    /// Where it came from and to which of our addresses.
    #[must_use]
    pub fn flow(&self) -> Flow {
        self.flow
    }

    /// A response with the headers it must have, To tag included.
    #[must_use]
    pub fn response(&self, status: u16) -> Response {
        final_response(&self.core, &self.request, status)
    }

    /// Sends the final response.
    pub fn respond(mut self, response: &Response) {
        self.settled = true;
        self.core.answer(&self.key, response);
    }
}

/// A new INVITE that is not a leg yet. Dropped unanswered, it is answered 500.
pub struct IncomingInvite {
    pub(super) core: Arc<Core>,
    pub(super) key: Key,
    pub(super) request: Arc<Request>,
    pub(super) flow: Flow,
    pub(super) settled: bool,
}

impl std::fmt::Debug for IncomingInvite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("IncomingInvite")
            .field(&self.request.headers.call_id())
            .finish()
    }
}

impl IncomingInvite {
    /// The request.
    #[must_use]
    pub fn request(&self) -> &Request {
        &self.request
    }

    /// Where it came from and to which of our addresses.
    #[must_use]
    pub fn flow(&self) -> Flow {
        self.flow
    }

    /// The offer.
    #[must_use]
    pub fn sdp(&self) -> Option<String> {
        self.request.sdp()
    }

    /// The request as bytes: a checkpoint keeps them, and another owner rebuilds the early
    /// dialog by injecting them.
    #[must_use]
    pub fn raw(&self) -> Bytes {
        self.request.to_bytes()
    }

    /// Sends 100 Trying.
    pub fn trying(&self) {
        self.core
            .answer(&self.key, &response_to(&self.request, 100, "", None));
    }

    /// A response with the headers it must have, To tag included.
    #[must_use]
    pub fn response(&self, status: u16) -> Response {
        final_response(&self.core, &self.request, status)
    }

    /// Refuses the call before it is a leg (challenge, overload). What is returned is set once
    /// the caller has acknowledged that: until then he may still wait for an answer.
    pub fn reject(mut self, response: &Response) -> Arc<AtomicBool> {
        self.settled = true;
        let known = self.core.table.refusal_known(&self.key);
        self.core.answer(&self.key, response);
        known
    }

    /// Makes the call a leg. When the caller has cancelled meanwhile, the leg is made and
    /// reports `Cancelled` at once.
    ///
    /// # Errors
    /// [`StartError`]; the INVITE was answered 503 where it could still be answered.
    pub fn accept(mut self, token: LegToken, sink: LegSink) -> Result<Leg, StartError> {
        self.settled = true;
        let core = &self.core;
        let (key, request) = (self.key.clone(), Arc::clone(&self.request));
        let machine = Machine::incoming(core, token, key, request, self.flow, sink);
        let cell = Arc::new(LegCell {
            machine: Mutex::new(machine),
        });
        if let Err(error) = core.add_leg(token, Arc::clone(&cell)) {
            let busy = self.response(503).with(HeaderName::RetryAfter, "5");
            core.answer(&self.key, &busy);
            return Err(error);
        }
        match core.table.adopt(&self.key, token) {
            None => {
                core.remove_leg(token);
                return Err(StartError::Gone);
            }
            Some(true) => cell.machine.lock().on_cancel(core),
            Some(false) => {}
        }
        Ok(Leg {
            token,
            core: Arc::clone(core),
        })
    }
}

impl Drop for IncomingRequest {
    fn drop(&mut self) {
        if !self.settled {
            self.core.answer(&self.key, &self.response(500));
        }
    }
}

impl Drop for IncomingInvite {
    fn drop(&mut self) {
        if !self.settled {
            self.core.answer(&self.key, &self.response(500));
        }
    }
}

fn final_response(core: &Core, request: &Request, status: u16) -> Response {
    let tag = format!("{:016x}", rand::random::<u64>());
    let mut response = response_to(request, status, "", Some(&tag));
    response
        .headers
        .push(HeaderName::Server, core.product.as_str());
    response
}
