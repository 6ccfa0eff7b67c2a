//! Dialogs and INVITEs whose owner is gone: their far ends are told from what was
//! committed, or from what they themselves send, by whoever has the address now.

use super::{Core, Endpoint, RequestError};
use crate::dialog::{Dialog, Role};
use crate::message::{
    HeaderName, Method, NameAddr, ReasonValue, Request, Response, Uri, new_request,
};
use crate::token::LegToken;
use crate::transaction::{ClientOwner, Key};
use crate::transport::Flow;
use std::net::SocketAddr;
use std::sync::Arc;

/// Makes the branch of the INVITE that begins a leg: always the same, so that another
/// node can cancel it.
pub(crate) const FIRST_INVITE: u64 = 0;

/// An INVITE whose sender is gone.
#[derive(Debug, Clone)]
pub struct LostInvite {
    /// The leg it was to become.
    pub token: LegToken,
    /// Its Request-URI.
    pub target: Uri,
    /// The way its CANCEL goes.
    pub flow: Flow,
    /// Our address in its Via, which CANCEL repeats (RFC 3261 §9.1).
    pub sent_by: SocketAddr,
    /// Caller, without tag.
    pub from: NameAddr,
    /// Callee.
    pub to: NameAddr,
}

impl Endpoint {
    /// Tells the far end of a dialog whose owner is gone that it is over: the ACK it may
    /// still wait for, then BYE. Returns the status of its final answer.
    ///
    /// # Errors
    /// [`RequestError`] without a final answer.
    pub async fn end_dialog(
        &self,
        dialog: Dialog,
        epoch: u32,
        q850: u16,
    ) -> Result<u16, RequestError> {
        let mut dialog = dialog.imported(epoch);
        self.core.acknowledge_orphan(&dialog);
        let bye = bye_of(&mut dialog, q850);
        self.request(bye, dialog.flow)
            .await
            .map(|response| response.status)
    }

    /// Cancels an INVITE whose owner is gone. Its own final answer is the one that counts:
    /// the handler hears of it in `on_orphan_over`. That goes to the address the INVITE came
    /// from; when CANCEL goes from another, its own answer has to do.
    pub fn cancel_lost(&self, lost: &LostInvite) {
        let core = &self.core;
        let tokens = core.tokens();
        let mut request = new_request(Method::Cancel, lost.target.clone());
        let headers = &mut request.headers;
        let tag = tokens.tag(lost.token);
        headers.push(HeaderName::From, format!("{};tag={tag}", lost.from));
        headers.push(HeaderName::To, lost.to.to_string());
        headers.push(HeaderName::CallId, tokens.call_id(lost.token));
        headers.push(HeaderName::CSeq, "1 CANCEL");
        let branch = tokens.branch(lost.token, FIRST_INVITE);
        let named = Flow {
            local: lost.sent_by,
            ..lost.flow
        };
        core.put_via(&mut request, &branch, &named);
        let key = Key::of_sent(&branch, &Method::Cancel);
        let owner = if named == lost.flow {
            ClientOwner::Nobody
        } else {
            let (handler, token) = (Arc::clone(&core.handler), lost.token);
            ClientOwner::Once(Box::new(move |answer| {
                if answer.is_some() {
                    handler.on_orphan_over(token);
                }
            }))
        };
        // With a full table the far end rings until its own patience is over.
        let _ = core.send_request(&key, request, lost.flow, owner);
    }
}

impl Core {
    /// The ACK for a 2xx that its owner may not have sent. One too many harms nobody.
    fn acknowledge_orphan(&self, dialog: &Dialog) {
        if dialog.role == Role::Uac && !dialog.acked {
            let mut ack = dialog.ack();
            self.stamp(&mut ack, dialog.token, &dialog.flow);
            self.transmit(&dialog.flow, &ack.to_bytes());
        }
    }

    /// Ends what a final answer to an INVITE of a leg that nobody has (any more) says that
    /// there is: a 2xx is acknowledged and ended, a refusal acknowledged. True when that
    /// was such an answer.
    pub(super) fn end_orphan(&self, token: LegToken, response: &Response, flow: Flow) -> bool {
        let headers = &response.headers;
        let cseq = headers.cseq().filter(|cseq| cseq.method == Method::Invite);
        let (Some(cseq), false) = (cseq, response.is_provisional()) else {
            return false;
        };
        if !self.handler.on_orphan(token) {
            return false;
        }
        let (Some(mut local), Some(mut remote)) = (headers.from(), headers.to()) else {
            return false;
        };
        let local_tag = local.tag().unwrap_or("").to_owned();
        local.params.clear();
        remote.params.clear();
        let mut dialog = Dialog {
            token,
            role: Role::Uac,
            call_id: headers.call_id().to_owned(),
            local_tag,
            remote_tag: String::new(),
            local,
            remote_target: remote.uri.clone(),
            remote,
            route_set: Vec::new(),
            local_cseq: cseq.number,
            remote_cseq: None,
            invite_cseq: cseq.number,
            acked: false,
            flow,
            session: None,
            min_se_s: 0,
            sdp_version: 0,
            local_sdp: None,
            remote_sdp: None,
            peer_updates: false,
        };
        if !response.is_success() {
            // The ACK for a refusal belongs to the INVITE's transaction.
            dialog.remote_tag = headers.to_tag().unwrap_or("").to_owned();
            let mut ack = dialog.ack();
            if let Some(via) = headers.get(&HeaderName::Via) {
                ack.headers.push_front(HeaderName::Via, via);
            }
            self.transmit(&flow, &ack.to_bytes());
            self.handler.on_orphan_over(token);
            return true;
        }
        dialog.establish(response);
        self.acknowledge_orphan(&dialog);
        let mut dialog = dialog.imported(0);
        let mut bye = bye_of(&mut dialog, NOBODY_THERE);
        let branch = self.stamp_plain(&mut bye, &flow);
        let key = Key::of_sent(&branch, &Method::Bye);
        let handler = Arc::clone(&self.handler);
        let owner = ClientOwner::Once(Box::new(move |answer| {
            if answer.is_some() {
                handler.on_orphan_over(token);
            }
        }));
        // With a full table the far end repeats its answer, and this is tried again.
        let _ = self.send_request(&key, bye, flow, owner);
        true
    }
}

/// Q.850: temporary failure.
const NOBODY_THERE: u16 = 41;

fn bye_of(dialog: &mut Dialog, q850: u16) -> Request {
    let mut bye = dialog.request(Method::Bye);
    bye.headers
        .push(HeaderName::Reason, ReasonValue::q850(q850));
    bye
}
