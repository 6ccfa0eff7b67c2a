//! Transactions (RFC 3261 §17, RFC 6026): retransmission and its absorption, both sides.
//!
//! The machines hold the bytes they repeat, not messages. They act through a wire trait and never
//! call upward: what their user must know is returned. 2xx to INVITE and its ACK are the leg's
//! business; the machines only stay alive long enough to absorb what else arrives.

mod client;
mod server;
mod table;

pub(crate) use client::ClientOwner;
pub(crate) use server::{Acked, Arrival};
pub(crate) use table::{Cancelled, Table, Unsent};

use crate::message::{HeaderName, Method, NameAddr, Request, Response, new_request};
use crate::timer::Due;
use crate::token::BRANCH_COOKIE;
use crate::transport::Flow;
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;

/// Names one transaction.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key(pub(crate) Arc<str>);

/// What the quiet rule has to know of an outgoing message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// A 200 to a BYE: goes out even when this node has gone quiet.
    ByeOk,
    /// A 503 to a request outside dialogs: the caller shall try elsewhere, and no call of
    /// this node is touched.
    Refusal,
    /// Everything else.
    Ordinary,
}

/// What a transaction does to the world.
pub(crate) trait Wire {
    fn send(&self, flow: &Flow, bytes: &Bytes, class: Class);
    /// True when what is sent this way arrives or its failure is told, so that it need not be
    /// repeated.
    fn is_reliable(&self, flow: &Flow) -> bool;
    fn arm(&self, after: Duration, due: Due);
}

impl Key {
    /// The server transaction a request belongs to; an ACK belongs to its INVITE's
    /// (RFC 3261 §17.2.3).
    pub(crate) fn of_request(request: &Request) -> Self {
        Self::server(request, &request.method)
    }

    /// The INVITE server transaction a CANCEL is about.
    pub(crate) fn of_cancelled(request: &Request) -> Self {
        Self::server(request, &Method::Invite)
    }

    fn server(request: &Request, method: &Method) -> Self {
        let method = match method {
            Method::Ack => "INVITE",
            other => other.as_str(),
        };
        let via = request.headers.via();
        let branch = via.as_ref().and_then(|via| via.branch()).unwrap_or("");
        let sent_by = via.as_ref().map_or(String::new(), |via| {
            format!("{}:{}", via.host, via.port.unwrap_or(0))
        });
        let text = if branch.len() > BRANCH_COOKIE.len() && branch.starts_with(BRANCH_COOKIE) {
            format!("{branch}|{sent_by}|{method}")
        } else {
            // RFC 2543 peers: everything that stays the same between INVITE, its retransmission
            // and its ACK.
            let headers = &request.headers;
            format!(
                "|{}|{}|{}|{}|{sent_by}|{branch}|{method}",
                request.uri,
                headers.from_tag().unwrap_or(""),
                headers.call_id(),
                headers.cseq().map_or(0, |cseq| cseq.number),
            )
        };
        Self(text.into())
    }

    /// The client transaction of a request we send.
    pub(crate) fn of_sent(branch: &str, method: &Method) -> Self {
        Self(format!("{branch}|{method}").into())
    }
}

/// The ACK for a non-2xx final response (RFC 3261 §17.1.1.3).
pub(crate) fn ack_of(request: &Request, response: &Response) -> Request {
    let mut ack = derived(request, Method::Ack);
    if let Some(to) = response.headers.get(&HeaderName::To) {
        ack.headers.set(HeaderName::To, to);
    }
    ack
}

/// The CANCEL for an INVITE (RFC 3261 §9.1).
pub(crate) fn cancel_of(request: &Request) -> Request {
    derived(request, Method::Cancel)
}

fn derived(request: &Request, method: Method) -> Request {
    let mut out = new_request(method.clone(), request.uri.clone());
    if let Some(via) = request.headers.get(&HeaderName::Via) {
        out.headers.push_front(HeaderName::Via, via);
    }
    for name in [
        HeaderName::Route,
        HeaderName::From,
        HeaderName::To,
        HeaderName::CallId,
    ] {
        for value in request.headers.get_all(&name) {
            out.headers.push(name.clone(), value);
        }
    }
    let number = request.headers.cseq().map_or(0, |cseq| cseq.number);
    out.headers
        .push(HeaderName::CSeq, format!("{number} {method}"));
    out
}

/// Where the response to a request goes (RFC 3261 §18.2.2, RFC 3581).
///
/// Returns the flow and puts `received` and `rport` into the request's top Via, which the
/// response copies.
pub(crate) fn response_flow(request: &mut Request, flow: Flow) -> Flow {
    let Some(mut via) = request.headers.via() else {
        return flow;
    };
    let symmetric = via.param("rport").is_some();
    let port = via.port.unwrap_or(5060);
    via.mark_source(flow.remote);
    let mut values: Vec<String> = request
        .headers
        .get(&HeaderName::Via)
        .map(|first| {
            crate::message::split_list(first)
                .map(str::to_owned)
                .collect()
        })
        .unwrap_or_default();
    if let Some(first) = values.first_mut() {
        *first = via.to_string();
    }
    request
        .headers
        .replace_first(HeaderName::Via, values.join(", "));
    if flow.protocol.is_reliable() || symmetric {
        return flow;
    }
    let mut remote = flow.remote;
    remote.set_port(port);
    Flow { remote, ..flow }
}

/// The address of the first hop of a request: the top Route, or the Request-URI.
#[must_use]
pub fn next_hop(request: &Request) -> Option<std::net::SocketAddr> {
    let route = request
        .headers
        .get(&HeaderName::Route)
        .and_then(|value| crate::message::split_list(value).next())
        .and_then(NameAddr::parse);
    match route {
        Some(route) => route.uri.socket_address(),
        None => request.uri.socket_address(),
    }
}
