//! The dialog of one leg (RFC 3261 §12): what it takes to send and judge in-dialog requests.
//!
//! A [`Dialog`] is plain values and serializes whole; it is the SIP part of a checkpoint. It owns
//! copies, never parts of a datagram. It does not know transactions or timers: those are rebuilt
//! by the node that imports it.

use crate::limits;
use crate::message::{
    HeaderName, Headers, Method, NameAddr, Request, Response, Uri, host_of, new_request, split_list,
};
use crate::token::LegToken;
use crate::transport::{Flow, Protocol};
use serde::{Deserialize, Serialize};

/// How far the local CSeq jumps when another node takes a dialog over, so that requests the old
/// owner may still have sent are never outnumbered by ours.
pub const IMPORT_CSEQ_JUMP: u32 = 100;

/// What each epoch adds at least: a checkpoint is not renewed with each of our requests, and a
/// dialog may be taken over again from the same one.
const EPOCH_CSEQ_STEP: u32 = 100_000;
/// Epochs after which the steps begin anew, so that numbers stay below 2^31 (RFC 3261 §8.1.1.5).
const EPOCHS: u32 = 20_000;

/// Which side started the dialog.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// We sent the INVITE.
    Uac,
    /// The peer sent the INVITE.
    Uas,
}

/// A negotiated session timer (RFC 4028).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionTimer {
    /// Session interval in seconds.
    pub interval_s: u32,
    /// True when we send the refreshes.
    pub we_refresh: bool,
}

/// The state of one dialog.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dialog {
    /// The leg this dialog is.
    pub token: LegToken,
    /// Which side started it.
    pub role: Role,
    /// Call-ID.
    pub call_id: String,
    /// Our tag.
    pub local_tag: String,
    /// The peer's tag; empty for a peer older than RFC 3261.
    pub remote_tag: String,
    /// Our address, without tag.
    pub local: NameAddr,
    /// The peer's address, without tag.
    pub remote: NameAddr,
    /// Where in-dialog requests are addressed: the peer's Contact.
    pub remote_target: Uri,
    /// Routes in the order we write them.
    pub route_set: Vec<String>,
    /// Last sequence number we used.
    pub local_cseq: u32,
    /// Last sequence number the peer used.
    pub remote_cseq: Option<u32>,
    /// Sequence number of the last INVITE we sent; its ACK carries it again.
    pub invite_cseq: u32,
    /// True when the last INVITE we sent has been acknowledged (or none is outstanding).
    pub acked: bool,
    /// Where to send.
    pub flow: Flow,
    /// The session timer, when one was agreed.
    pub session: Option<SessionTimer>,
    /// Least session interval the peer has named in a 422, s; 0 = none (RFC 4028 §7.4).
    pub min_se_s: u32,
    /// Version in the `o=` line of our last SDP.
    pub sdp_version: u64,
    /// Our last SDP.
    pub local_sdp: Option<String>,
    /// The peer's last SDP.
    pub remote_sdp: Option<String>,
    /// True when the peer's Allow names UPDATE.
    pub peer_updates: bool,
}

/// How an in-dialog request stands to the sequence (RFC 3261 §12.2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// New; the number was taken over.
    Next,
    /// At or below the last number: answer 500.
    Old,
}

impl Dialog {
    /// The dialog an INVITE of a peer begins.
    #[must_use]
    pub fn of_invite(request: &Request, token: LegToken, local_tag: String, flow: Flow) -> Self {
        let headers = &request.headers;
        let unknown = || NameAddr::new(Uri::sip(None, "anonymous.invalid", None));
        let mut local = headers.to().unwrap_or_else(unknown);
        let mut remote = headers.from().unwrap_or_else(unknown);
        local.params.clear();
        let remote_tag = remote.tag().unwrap_or("").to_owned();
        remote.params.clear();
        let remote_target = headers.contact_uri().unwrap_or_else(|| remote.uri.clone());
        Self {
            token,
            role: Role::Uas,
            call_id: headers.call_id().to_owned(),
            local_tag,
            remote_tag,
            local,
            remote,
            remote_target,
            route_set: record_routes(headers),
            local_cseq: 0,
            remote_cseq: headers.cseq().map(|cseq| cseq.number),
            invite_cseq: 0,
            acked: true,
            flow,
            session: None,
            min_se_s: 0,
            sdp_version: 0,
            local_sdp: None,
            remote_sdp: request.sdp(),
            peer_updates: headers.has_token(&HeaderName::Allow, "UPDATE"),
        }
    }

    /// Takes over what a response that makes or confirms the dialog says: tag, target, routes.
    pub fn establish(&mut self, response: &Response) {
        let headers = &response.headers;
        headers
            .to_tag()
            .unwrap_or("")
            .clone_into(&mut self.remote_tag);
        if let Some(target) = headers.contact_uri() {
            self.remote_target = target;
        }
        let mut routes = record_routes(headers);
        routes.reverse();
        self.route_set = routes;
        self.peer_updates = headers.has_token(&HeaderName::Allow, "UPDATE");
    }

    /// Checks and takes over the sequence number of an in-dialog request.
    pub fn order(&mut self, number: u32) -> Order {
        if self.remote_cseq.is_some_and(|last| number <= last) {
            return Order::Old;
        }
        self.remote_cseq = Some(number);
        Order::Next
    }

    /// A target refresh: the Contact of a re-INVITE or UPDATE, or of its 2xx.
    pub fn refresh_target(&mut self, headers: &Headers) {
        if let Some(target) = headers.contact_uri() {
            self.remote_target = target;
        }
    }

    /// A new in-dialog request with the next sequence number; the caller adds Via, Contact, body.
    pub fn request(&mut self, method: Method) -> Request {
        self.local_cseq += 1;
        if method == Method::Invite {
            self.invite_cseq = self.local_cseq;
        }
        self.build(method, self.local_cseq)
    }

    /// The ACK for the 2xx to our last INVITE.
    #[must_use]
    pub fn ack(&self) -> Request {
        self.ack_of(self.invite_cseq)
    }

    /// The ACK for the 2xx to an INVITE of this number.
    pub(crate) fn ack_of(&self, number: u32) -> Request {
        self.build(Method::Ack, number)
    }

    /// The dialog as another node continues it, under an epoch above those before: a connection died with its owner, so that the
    /// peer is reached where its Contact says.
    #[must_use]
    pub fn imported(mut self, epoch: u32) -> Self {
        let least = (epoch % EPOCHS) * EPOCH_CSEQ_STEP;
        self.local_cseq = least.max(self.local_cseq.saturating_add(IMPORT_CSEQ_JUMP));
        self.flow.connection = None;
        if self.flow.protocol == Protocol::Tcp
            && let Some(listens) = self.remote_target.socket_address()
        {
            self.flow.remote = listens;
        }
        self
    }

    /// True while we, who were called, have sent nothing of our own in it.
    pub(crate) fn is_unused(&self) -> bool {
        self.role == Role::Uas && self.local_cseq.is_multiple_of(IMPORT_CSEQ_JUMP)
    }

    /// Our Contact on this dialog.
    #[must_use]
    pub fn contact(&self) -> String {
        contact_of(&self.flow)
    }

    fn build(&self, method: Method, cseq: u32) -> Request {
        let (uri, routes) = self.routing();
        let name = method.as_str().to_owned();
        let mut request = new_request(method, uri);
        let headers = &mut request.headers;
        for route in routes {
            headers.push(HeaderName::Route, route);
        }
        headers.push(HeaderName::From, tagged(&self.local, &self.local_tag));
        headers.push(HeaderName::To, tagged(&self.remote, &self.remote_tag));
        headers.push(HeaderName::CallId, self.call_id.as_str());
        headers.push(HeaderName::CSeq, format!("{cseq} {name}"));
        request
    }

    /// Request-URI and Route values: loose routing, or the rotation strict routers need
    /// (RFC 3261 §12.2.1.1).
    fn routing(&self) -> (Uri, Vec<String>) {
        let first = self
            .route_set
            .first()
            .and_then(|route| NameAddr::parse(route));
        match first {
            Some(first) if first.uri.param("lr").is_none() => {
                let mut routes: Vec<String> = self.route_set.iter().skip(1).cloned().collect();
                routes.push(format!("<{}>", self.remote_target));
                (first.uri, routes)
            }
            _ => (self.remote_target.clone(), self.route_set.clone()),
        }
    }
}

/// The Contact value that names a local service address.
#[must_use]
pub fn contact_of(flow: &Flow) -> String {
    let host = host_of(flow.local.ip());
    let port = flow.local.port();
    match flow.protocol {
        Protocol::Udp => format!("<sip:{host}:{port}>"),
        Protocol::Tcp => format!("<sip:{host}:{port};transport=tcp>"),
    }
}

fn record_routes(headers: &Headers) -> Vec<String> {
    headers
        .get_all(&HeaderName::RecordRoute)
        .flat_map(split_list)
        .take(limits::ROUTES_MAX)
        .map(str::to_owned)
        .collect()
}

fn tagged(address: &NameAddr, tag: &str) -> String {
    if tag.is_empty() {
        return address.to_string();
    }
    format!("{address};tag={tag}")
}
