//! What happens to a message that arrived, in the order of RFC 3261 §8.2, §12.2.2, §17 and §18.

use super::Core;
use super::handler::{IncomingInvite, IncomingRequest};
use crate::limits;
use crate::message::{self, HeaderName, Message, Method, Request, Response, Scheme, response_to};
use crate::stats::Drop;
use crate::token::LegToken;
use crate::transaction::{Acked, Arrival, Cancelled, Class, ClientOwner, Key, Wire, response_flow};
use crate::transport::{Flow, Receiver};
use std::sync::Arc;

impl Receiver for Core {
    fn received(&self, bytes: &[u8], flow: Flow) {
        self.take_in(bytes, flow, false);
    }
}

/// What was received, and whether another node passed it on.
struct Arrived<'a> {
    raw: &'a [u8],
    flow: Flow,
    injected: bool,
}

impl Core {
    pub(super) fn take_in(&self, raw: &[u8], flow: Flow, injected: bool) {
        let arrived = Arrived {
            raw,
            flow,
            injected,
        };
        match message::parse(raw) {
            Ok(Message::Request(request)) => self.on_request(request, &arrived),
            Ok(Message::Response(response)) => self.on_response(&response, &arrived),
            Err(rejected) => {
                self.stats.dropped(Drop::Malformed);
                tracing::debug!(source = %flow.remote, error = %rejected.error, "malformed");
                if let Some(response) = rejected.response {
                    self.send(&flow, &response.to_bytes(), Class::Ordinary);
                }
            }
        }
    }

    /// Passes a message to the owner of its leg; false when nobody takes it.
    fn pass_on(&self, token: LegToken, arrived: &Arrived<'_>) -> bool {
        !arrived.injected && self.handler.on_unrouted(token, arrived.raw, arrived.flow)
    }

    fn on_response(&self, response: &Response, arrived: &Arrived<'_>) {
        let (Some(via), Some(cseq)) = (response.headers.via(), response.headers.cseq()) else {
            return self.stats.dropped(Drop::MisroutedResponse);
        };
        // RFC 3261 §18.1.2: a response whose top Via is not ours is dropped.
        let host = via.host.trim_start_matches('[').trim_end_matches(']');
        let ours = host
            .parse()
            .is_ok_and(|ip: std::net::IpAddr| ip == arrived.flow.local.ip());
        let branch = via.branch().unwrap_or("");
        if !ours {
            return self.stats.dropped(Drop::MisroutedResponse);
        }
        let key = Key::of_sent(branch, &cseq.method);
        match self.table.response(self, &key, response) {
            Some(ClientOwner::Leg(token)) => match self.leg(token) {
                Some(cell) => cell.machine.lock().on_response(self, response),
                // Let go meanwhile; its transaction still takes what the far end repeats.
                None => self.on_stray_response(branch, response, arrived),
            },
            Some(ClientOwner::Once(tell)) => tell(Some(response.clone())),
            Some(ClientOwner::Nobody) => {}
            None => self.on_stray_response(branch, response, arrived),
        }
    }

    /// No transaction: a 2xx to an INVITE still concerns its leg, which acknowledges it again;
    /// anything may concern a leg that lives on another node; a final answer for a leg that
    /// nobody has any more must not leave the far end in a call alone.
    fn on_stray_response(&self, branch: &str, response: &Response, arrived: &Arrived<'_>) {
        let Some(token) = self.tokens.from_branch(branch) else {
            return self.stats.dropped(Drop::UnmatchedResponse);
        };
        match self.leg(token) {
            Some(cell) => {
                let invite = response
                    .headers
                    .cseq()
                    .is_some_and(|c| c.method == Method::Invite);
                if invite && response.is_success() {
                    cell.machine.lock().on_response(self, response);
                } else {
                    self.stats.dropped(Drop::UnmatchedResponse);
                }
            }
            None => {
                if !self.pass_on(token, arrived) && !self.end_orphan(token, response, arrived.flow)
                {
                    self.stats.dropped(Drop::UnmatchedResponse);
                }
            }
        }
    }

    fn on_request(&self, mut request: Request, arrived: &Arrived<'_>) {
        let key = Key::of_request(&request);
        if request.method == Method::Ack {
            return self.on_ack(&key, &request, arrived);
        }
        let token = request
            .headers
            .to_tag()
            .map(|tag| self.tokens.from_tag(tag));
        // Before a transaction is made here: the owner's node makes it.
        if let Some(Some(token)) = token
            && self.leg(token).is_none()
            && request.method != Method::Cancel
            && self.pass_on(token, arrived)
        {
            return;
        }
        if token.is_none()
            && matches!(request.method, Method::Invite | Method::Cancel)
            && self.handler.is_awaited(request.headers.call_id())
        {
            return self.stats.dropped(Drop::TooEarly);
        }
        let reply = response_flow(&mut request, arrived.flow);
        let request = Arc::new(request);
        match self.table.arrive(self, &key, &request, reply) {
            Arrival::Absorbed => return,
            Arrival::Full => {
                self.stats.dropped(Drop::TableFull);
                let busy = response_to(&request, 503, "", None).with(HeaderName::RetryAfter, "5");
                return self.send(&reply, &busy.to_bytes(), Class::Ordinary);
            }
            Arrival::New => {}
        }
        if request.method == Method::Cancel {
            return self.on_cancel(&key, &request);
        }
        match token {
            Some(token) => self.on_dialog_request(token, &key, &request, arrived),
            None => self.on_new_request(key, request, arrived.flow),
        }
    }

    fn on_ack(&self, key: &Key, request: &Request, arrived: &Arrived<'_>) {
        let token = request
            .headers
            .to_tag()
            .and_then(|tag| self.tokens.from_tag(tag));
        match self.table.ack(self, key, token) {
            Acked::Refusal | Acked::Over => return,
            Acked::RefusedElsewhere(leg) => {
                if let Some(cell) = leg.and_then(|leg| self.leg(leg)) {
                    cell.machine.lock().on_cancel(self);
                }
                return;
            }
            Acked::Success => {}
        }
        let Some(token) = token else {
            return self.stats.dropped(Drop::UnmatchedAck);
        };
        match self.leg(token) {
            Some(cell) => cell.machine.lock().on_ack(self, request),
            None => {
                if !self.pass_on(token, arrived) {
                    self.stats.dropped(Drop::UnmatchedAck);
                }
            }
        }
    }

    fn on_cancel(&self, key: &Key, request: &Request) {
        let invite = Key::of_cancelled(request);
        match self.table.cancel(&invite) {
            Cancelled::Unknown => self.refuse(key, request, 481),
            Cancelled::TooLate => self.answer(key, &response_to(request, 200, "", None)),
            Cancelled::Leg(token) => {
                self.answer(key, &response_to(request, 200, "", None));
                if let Some(cell) = self.leg(token) {
                    cell.machine.lock().on_cancel(self);
                }
            }
            Cancelled::Pending(pending) => {
                self.answer(key, &response_to(request, 200, "", None));
                // The mark stays: a leg made later learns of it. Until then the INVITE waits,
                // since its tag must be the leg's.
                tracing::trace!(call_id = pending.headers.call_id(), "cancelled early");
            }
        }
    }

    fn on_dialog_request(
        &self,
        token: Option<LegToken>,
        key: &Key,
        request: &Arc<Request>,
        arrived: &Arrived<'_>,
    ) {
        if let Some((status, name, value)) = self.refusal(request) {
            let mut response = response_to(request, status, "", None);
            if let Some(name) = name {
                response.headers.push(name, value);
            }
            return self.answer(key, &response);
        }
        let known = token.and_then(|token| Some((token, self.leg(token)?)));
        let Some((token, cell)) = known else {
            return self.refuse(key, request, 481);
        };
        if request.method == Method::Invite {
            self.table.adopt(key, token);
        }
        let mut machine = cell.machine.lock();
        if !arrived.injected {
            machine.reached_over(arrived.flow, request);
        }
        machine.on_request(self, key, request);
    }

    fn on_new_request(&self, key: Key, request: Arc<Request>, flow: Flow) {
        if let Some((status, name, value)) = self.refusal(&request) {
            let mut response = self.tagged(&request, status);
            if let Some(name) = name {
                response.headers.push(name, value);
            }
            return self.answer(&key, &response);
        }
        if self.table.is_merged(&key, &request) {
            return self.refuse(&key, &request, 482);
        }
        let Some(core) = self.me.upgrade() else {
            return;
        };
        match request.method {
            Method::Options => self.answer(&key, &self.options_response(&request)),
            Method::Invite => self.handler.on_invite(IncomingInvite {
                core,
                key,
                request,
                flow,
                settled: false,
            }),
            Method::Register => self.handler.on_request(IncomingRequest {
                core,
                key,
                request,
                flow,
                settled: false,
            }),
            // A dialog request without a To tag names no dialog.
            _ => self.refuse(&key, &request, 481),
        }
    }

    fn tagged(&self, request: &Request, status: u16) -> Response {
        let tag = format!("{:016x}", rand::random::<u64>());
        response_to(request, status, "", Some(&tag))
    }

    fn refuse(&self, key: &Key, request: &Request, status: u16) {
        self.answer(key, &self.tagged(request, status));
    }

    /// What every request is refused for before anybody looks at it (RFC 3261 §8.2.1 to §8.2.3).
    fn refusal(&self, request: &Request) -> Option<(u16, Option<HeaderName>, String)> {
        let headers = &request.headers;
        if matches!(request.method, Method::Other(_)) {
            return Some((405, Some(HeaderName::Allow), self.allow().to_owned()));
        }
        if !matches!(request.uri.scheme, Scheme::Sip | Scheme::Sips | Scheme::Tel) {
            return Some((416, None, String::new()));
        }
        if headers.max_forwards() == Some(0) && request.method != Method::Options {
            return Some((483, None, String::new()));
        }
        let unknown: Vec<&str> = headers
            .list(&HeaderName::Require)
            .into_iter()
            .filter(|tag| !tag.is_empty() && !tag.eq_ignore_ascii_case("timer"))
            .collect();
        if !unknown.is_empty() {
            return Some((420, Some(HeaderName::Unsupported), unknown.join(", ")));
        }
        if matches!(request.method, Method::Invite | Method::Update) && too_short_session(headers) {
            let least = limits::SESSION_INTERVAL_MIN_S.to_string();
            return Some((422, Some(HeaderName::MinSe), least));
        }
        if matches!(request.method, Method::Invite | Method::Update) {
            let content_type = headers.get(&HeaderName::ContentType);
            if !request.body.is_empty() && !message::is_sdp(content_type) {
                return Some((415, Some(HeaderName::Accept), "application/sdp".to_owned()));
            }
            let accept = headers.list(&HeaderName::Accept);
            let takes_sdp = accept.is_empty()
                || accept.iter().any(|range| {
                    let range = range.split(';').next().unwrap_or("").trim();
                    ["application/sdp", "application/*", "*/*"]
                        .iter()
                        .any(|fits| range.eq_ignore_ascii_case(fits))
                });
            if !takes_sdp {
                return Some((406, None, String::new()));
            }
        }
        None
    }
}

/// True when the sender, who understands 422, asks for a session interval below our least
/// (RFC 4028 §9).
fn too_short_session(headers: &message::Headers) -> bool {
    headers.has_token(&HeaderName::Supported, "timer")
        && headers
            .session_expires()
            .is_some_and(|asked| asked.seconds < limits::SESSION_INTERVAL_MIN_S)
}
