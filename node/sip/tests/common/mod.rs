//! What the tests share: a handler that queues what it gets, short timers, a scripted peer.
#![allow(dead_code, clippy::unwrap_used, missing_docs)]

use bytes::Bytes;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use strowger_sip::endpoint::{Endpoint, EndpointConfig, Handler, IncomingInvite, IncomingRequest};
use strowger_sip::leg::{Leg, LegEvent, LegSink, channel_sink};
use strowger_sip::message::{Message, NameAddr, Request, Response, Uri, parse};
use strowger_sip::timer::Intervals;
use strowger_sip::token::LegToken;
use strowger_sip::transport::Flow;
use tokio::net::UdpSocket;
use tokio::sync::Mutex;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::timeout;

pub const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
pub const PATIENCE: Duration = Duration::from_secs(8);
pub const KEY: [u8; 32] = [3; 32];
pub const SDP: &str = "v=0\r\no=a 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
    m=audio 4000 RTP/AVP 0\r\n";

pub fn sdp(version: u32) -> String {
    SDP.replace("o=a 1 1", &format!("o=a 1 {version}"))
}

/// T1 of 20 ms: 64·T1 is 1.28 s.
pub fn intervals() -> Intervals {
    Intervals {
        t1: Duration::from_millis(20),
        t2: Duration::from_millis(80),
        t4: Duration::from_millis(100),
    }
}

pub fn next_token() -> LegToken {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    LegToken {
        index: NEXT.fetch_add(1, Ordering::Relaxed),
        n: 0,
        epoch: 1,
    }
}

pub enum Seen {
    Invite(IncomingInvite),
    Request(IncomingRequest),
    Unrouted(LegToken, Vec<u8>, Flow),
    Via(Flow, Bytes),
    Over(LegToken),
}

pub struct Queue(pub UnboundedSender<Seen>, pub bool);

/// Callers about to be taken up, by Call-ID.
pub static AWAITED: std::sync::Mutex<Vec<String>> = std::sync::Mutex::new(Vec::new());

impl Handler for Queue {
    fn on_request(&self, request: IncomingRequest) {
        let _ = self.0.send(Seen::Request(request));
    }

    fn on_invite(&self, invite: IncomingInvite) {
        let _ = self.0.send(Seen::Invite(invite));
    }

    fn on_unrouted(&self, token: LegToken, raw: &[u8], flow: Flow) -> bool {
        let _ = self.0.send(Seen::Unrouted(token, raw.to_vec(), flow));
        self.1
    }

    fn is_awaited(&self, call_id: &str) -> bool {
        AWAITED.lock().unwrap().iter().any(|one| one == call_id)
    }

    fn on_orphan(&self, _token: LegToken) -> bool {
        !self.1
    }

    fn on_orphan_over(&self, token: LegToken) {
        let _ = self.0.send(Seen::Over(token));
    }

    fn send_via(&self, flow: Flow, bytes: Bytes) -> bool {
        let _ = self.0.send(Seen::Via(flow, bytes));
        true
    }
}

pub struct Side {
    pub endpoint: Endpoint,
    pub address: SocketAddr,
    pub tcp: SocketAddr,
    pub seen: Mutex<UnboundedReceiver<Seen>>,
}

pub fn side_with(passes_on: bool, adjust: impl FnOnce(&mut EndpointConfig)) -> Side {
    let (sender, receiver) = unbounded_channel();
    let mut config = EndpointConfig::new(KEY);
    config.intervals = intervals();
    adjust(&mut config);
    let endpoint = Endpoint::start(config, Arc::new(Queue(sender, passes_on)));
    let bound = endpoint.bind(LOOPBACK, 0, Some(0)).unwrap();
    Side {
        endpoint,
        address: bound.udp,
        tcp: bound.tcp.unwrap(),
        seen: Mutex::new(receiver),
    }
}

pub fn side() -> Side {
    side_with(false, |_| {})
}

impl Side {
    pub async fn seen(&self) -> Seen {
        timeout(PATIENCE, self.seen.lock().await.recv())
            .await
            .unwrap()
            .unwrap()
    }

    pub async fn invite(&self) -> IncomingInvite {
        match self.seen().await {
            Seen::Invite(invite) => invite,
            _ => panic!("not an INVITE"),
        }
    }

    /// The next INVITE as a leg.
    pub async fn incoming(&self) -> (Leg, Events) {
        let invite = self.invite().await;
        let (sink, events) = events();
        (invite.accept(next_token(), sink).unwrap(), events)
    }

    pub fn call(&self, to: SocketAddr, sdp: Option<String>) -> (Leg, Events) {
        let (sink, events) = events();
        let leg = self
            .endpoint
            .invite(spec(Flow::udp(self.address, to), sdp), sink)
            .unwrap();
        (leg, events)
    }
}

pub fn spec(flow: Flow, sdp: Option<String>) -> strowger_sip::leg::InviteSpec {
    strowger_sip::leg::InviteSpec {
        token: next_token(),
        target: Uri::of_address(Some("callee"), flow.remote),
        flow,
        route: Vec::new(),
        from: NameAddr::new(Uri::sip(Some("caller"), "demo.invalid", None)),
        to: NameAddr::new(Uri::sip(Some("callee"), "demo.invalid", None)),
        sdp,
        headers: Vec::new(),
        credentials: None,
        keeps_crossed: false,
    }
}

pub struct Events(UnboundedReceiver<(LegToken, LegEvent)>);

pub fn events() -> (LegSink, Events) {
    let (sender, receiver) = unbounded_channel();
    (channel_sink(sender), Events(receiver))
}

impl Events {
    pub async fn next(&mut self) -> LegEvent {
        timeout(PATIENCE, self.0.recv())
            .await
            .expect("an event in time")
            .unwrap()
            .1
    }

    pub fn try_next(&mut self) -> Option<LegEvent> {
        self.0.try_recv().ok().map(|(_, event)| event)
    }
}

/// A peer whose every message the test writes by hand.
pub struct Script {
    pub socket: UdpSocket,
}

impl Script {
    pub async fn new() -> Self {
        Self {
            socket: UdpSocket::bind("127.0.0.1:0").await.unwrap(),
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.socket.local_addr().unwrap()
    }

    pub async fn next(&self) -> (Message, SocketAddr) {
        let mut buffer = vec![0; 65_535];
        let (length, from) = timeout(PATIENCE, self.socket.recv_from(&mut buffer))
            .await
            .expect("a message")
            .unwrap();
        (parse(&buffer[..length]).expect("a valid message"), from)
    }

    /// The next request of this method; others and responses are passed over.
    pub async fn request(&self, method: &str) -> (Request, SocketAddr) {
        loop {
            if let (Message::Request(request), from) = self.next().await
                && request.method.as_str() == method
            {
                return (request, from);
            }
        }
    }

    /// The next response to this method with this status.
    pub async fn response(&self, method: &str, status: u16) -> Response {
        loop {
            if let (Message::Response(response), _) = self.next().await {
                let cseq = response.headers.cseq().unwrap();
                if cseq.method.as_str() == method && response.status == status {
                    return response;
                }
            }
        }
    }

    pub async fn send(&self, bytes: impl AsRef<[u8]>, to: SocketAddr) {
        self.socket.send_to(bytes.as_ref(), to).await.unwrap();
    }

    /// A request text from this peer.
    pub fn text(&self, method: &str, cseq: u32, branch: &str, to_tag: &str, extra: &str) -> String {
        let me = self.address();
        let tag = if to_tag.is_empty() {
            String::new()
        } else {
            format!(";tag={to_tag}")
        };
        format!(
            "{method} sip:x@127.0.0.1 SIP/2.0\r\n\
             Via: SIP/2.0/UDP {me};rport;branch=z9hG4bK{branch}\r\n\
             Max-Forwards: 70\r\nFrom: <sip:script@demo.invalid>;tag=script\r\n\
             To: <sip:x@demo.invalid>{tag}\r\nCall-ID: script-{}\r\nCSeq: {cseq} {method}\r\n\
             Contact: <sip:script@{me}>\r\n{extra}",
            me.port()
        )
    }

    /// A request with an SDP body.
    pub fn with_sdp(&self, method: &str, cseq: u32, branch: &str, to_tag: &str) -> String {
        let text = sdp(cseq);
        let body = format!(
            "Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{text}",
            text.len()
        );
        self.text(method, cseq, branch, to_tag, &body)
    }
}

pub const END: &str = "Content-Length: 0\r\n\r\n";
