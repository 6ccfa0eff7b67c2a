//! What the SIP endpoint hands over. Called on receiving tasks: everything that may
//! wait is spawned.

use std::sync::Arc;

use bytes::Bytes;
use strowger_sip::endpoint::{Handler, IncomingInvite, IncomingRequest};
use strowger_sip::message::Method;
use strowger_sip::token::LegToken;
use strowger_sip::transport::Flow;

use super::{Shared, admission, forward, leftovers, registrar};

/// The daemon's side of the endpoint.
pub struct SipHandler {
    shared: Arc<Shared>,
}

impl SipHandler {
    /// A handler for this node.
    pub fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }
}

impl Handler for SipHandler {
    fn on_request(&self, request: IncomingRequest) {
        if request.request().method == Method::Register {
            tokio::spawn(registrar::serve(Arc::clone(&self.shared), request));
        } else {
            let response = request.response(405);
            request.respond(&response);
        }
    }

    fn on_invite(&self, invite: IncomingInvite) {
        admission::admit(&self.shared, invite);
    }

    fn on_unrouted(&self, token: LegToken, raw: &[u8], flow: Flow) -> bool {
        forward::to_owner(&self.shared, token, raw, flow)
    }

    fn is_awaited(&self, call_id: &str) -> bool {
        forward::is_awaited(&self.shared, call_id)
    }

    fn on_orphan(&self, token: LegToken) -> bool {
        forward::is_over(&self.shared, token)
    }

    fn on_orphan_over(&self, token: LegToken) {
        leftovers::over(&self.shared, forward::leg_of(token));
    }

    fn send_via(&self, flow: Flow, bytes: Bytes) -> bool {
        forward::to_holder(&self.shared, flow, bytes)
    }
}
