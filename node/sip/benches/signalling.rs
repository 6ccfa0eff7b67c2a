//! What parsing and whole calls cost. `calls` runs a bare back-to-back user agent between a
//! caller and a callee endpoint on loopback and reports CPU time, kernel included: of all three
//! together. The two legs of the B2BUA are half of the four legs measured.
#![allow(clippy::unwrap_used, missing_docs)]

use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use nix::time::{ClockId, clock_gettime};
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use strowger_sip::endpoint::{Endpoint, EndpointConfig, Handler, IncomingInvite, IncomingRequest};
use strowger_sip::leg::{InviteSpec, Leg, LegEvent, channel_sink};
use strowger_sip::message::{Message, NameAddr, Uri, parse};
use strowger_sip::token::LegToken;
use strowger_sip::transport::Flow;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

const SDP: &str = "v=0\r\no=a 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
    m=audio 4000 RTP/AVP 0 8 101\r\na=rtpmap:101 telephone-event/8000\r\na=sendrecv\r\n";

fn invite() -> Vec<u8> {
    format!(
        "INVITE sip:4008@127.0.0.1:5060 SIP/2.0\r\n\
         Via: SIP/2.0/UDP 127.0.0.9:5070;rport;branch=z9hG4bK-524287-1---6f0f2a\r\n\
         Max-Forwards: 70\r\nContact: <sip:1001@127.0.0.9:5070;transport=udp>\r\n\
         To: <sip:4008@demo.invalid>\r\nFrom: \"Alice\" <sip:1001@demo.invalid>;tag=aa11\r\n\
         Call-ID: 7f3a-22bb-8811\r\nCSeq: 1 INVITE\r\n\
         Allow: INVITE, ACK, CANCEL, OPTIONS, BYE, REFER, NOTIFY, MESSAGE, SUBSCRIBE, INFO\r\n\
         Supported: replaces, norefersub, extended-refer, timer, outbound, path\r\n\
         User-Agent: bench phone 1.0\r\nContent-Type: application/sdp\r\n\
         Content-Length: {}\r\n\r\n{SDP}",
        SDP.len()
    )
    .into_bytes()
}

fn parsing(c: &mut Criterion) {
    let bytes = invite();
    c.bench_function("parse an INVITE", |b| {
        b.iter(|| parse(black_box(&bytes)).unwrap())
    });
    let Ok(Message::Request(request)) = parse(&bytes) else {
        panic!("a request");
    };
    c.bench_function("write an INVITE", |b| {
        b.iter(|| black_box(&request).to_bytes())
    });
    let limits = sipx_sip::Limits::datagram();
    c.bench_function("parse an INVITE with sipx-sip", |b| {
        let bytes = Bytes::from(bytes.clone());
        b.iter(|| sipx_sip::parse_datagram(bytes.clone(), &limits).unwrap());
    });
}

struct Inbox(UnboundedSender<IncomingInvite>);

impl Handler for Inbox {
    fn on_request(&self, _: IncomingRequest) {}

    fn on_invite(&self, invite: IncomingInvite) {
        let _ = self.0.send(invite);
    }
}

struct Side {
    endpoint: Endpoint,
    address: SocketAddr,
}

fn side() -> (Side, UnboundedReceiver<IncomingInvite>) {
    let (sender, receiver) = unbounded_channel();
    let endpoint = Endpoint::start(EndpointConfig::new([1; 32]), Arc::new(Inbox(sender)));
    let address = endpoint
        .bind(IpAddr::V4(Ipv4Addr::LOCALHOST), 0, None)
        .unwrap()
        .udp;
    (Side { endpoint, address }, receiver)
}

fn token() -> LegToken {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    LegToken {
        index: NEXT.fetch_add(1, Ordering::Relaxed),
        n: 0,
        epoch: 1,
    }
}

type Events = UnboundedReceiver<(LegToken, LegEvent)>;

fn call(from: &Side, to: SocketAddr) -> (Leg, Events) {
    let (sender, events) = unbounded_channel();
    let flow = Flow::udp(from.address, to);
    let spec = InviteSpec {
        token: token(),
        target: Uri::of_address(Some("x"), to),
        flow,
        route: Vec::new(),
        from: NameAddr::new(Uri::sip(Some("a"), "demo.invalid", None)),
        to: NameAddr::new(Uri::sip(Some("b"), "demo.invalid", None)),
        sdp: Some(SDP.to_owned()),
        headers: Vec::new(),
        credentials: None,
        keeps_crossed: false,
    };
    (
        from.endpoint.invite(spec, channel_sink(sender)).unwrap(),
        events,
    )
}

fn accept(invite: IncomingInvite) -> (Leg, Events) {
    let (sender, events) = unbounded_channel();
    invite.trying();
    (
        invite.accept(token(), channel_sink(sender)).unwrap(),
        events,
    )
}

async fn until(events: &mut Events, wanted: fn(&LegEvent) -> bool) {
    while let Some((_, event)) = events.recv().await {
        if wanted(&event) {
            return;
        }
    }
}

async fn one_call(caller: &Side, middle: &Side, callee: SocketAddr, inboxes: &mut Inboxes) {
    let (a, mut at_a) = call(caller, middle.address);
    let (in_leg, mut at_in) = accept(inboxes.middle.recv().await.unwrap());
    let (out_leg, mut at_out) = call(middle, callee);
    let (b, mut at_b) = accept(inboxes.callee.recv().await.unwrap());
    b.ring(180, None).unwrap();
    until(&mut at_out, |e| matches!(e, LegEvent::Ringing)).await;
    in_leg.ring(180, None).unwrap();
    b.answer(SDP.to_owned()).unwrap();
    until(&mut at_out, |e| matches!(e, LegEvent::Answered { .. })).await;
    out_leg.ack(None).unwrap();
    in_leg.answer(SDP.to_owned()).unwrap();
    until(&mut at_a, |e| matches!(e, LegEvent::Answered { .. })).await;
    a.ack(None).unwrap();
    until(&mut at_in, |e| matches!(e, LegEvent::Acked { .. })).await;
    until(&mut at_b, |e| matches!(e, LegEvent::Acked { .. })).await;
    a.bye(None).unwrap();
    until(&mut at_in, |e| matches!(e, LegEvent::Ended { .. })).await;
    out_leg.bye(None).unwrap();
    until(&mut at_b, |e| matches!(e, LegEvent::Ended { .. })).await;
    until(&mut at_out, |e| matches!(e, LegEvent::Ended { .. })).await;
}

/// CPU time of this process; unlike elapsed time it bears a busy machine.
fn cpu_time() -> Duration {
    clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID)
        .unwrap()
        .into()
}

struct Inboxes {
    middle: UnboundedReceiver<IncomingInvite>,
    callee: UnboundedReceiver<IncomingInvite>,
}

fn calls(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let (caller, middle, callee, mut inboxes) = runtime.block_on(async {
        let ((caller, _none), (middle, in_middle), (callee, in_callee)) = (side(), side(), side());
        let inboxes = Inboxes {
            middle: in_middle,
            callee: in_callee,
        };
        (caller, middle, callee, inboxes)
    });
    let mut group = c.benchmark_group("calls");
    group.sample_size(20);
    group.bench_function("B2BUA call with its caller and callee", |b| {
        b.iter_custom(|rounds| {
            runtime.block_on(async {
                let start = cpu_time();
                for _ in 0..rounds {
                    one_call(&caller, &middle, callee.address, &mut inboxes).await;
                }
                cpu_time() - start
            })
        });
    });
    group.finish();
}

criterion_group!(benches, parsing, calls);
criterion_main!(benches);
