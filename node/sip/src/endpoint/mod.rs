//! The endpoint: sockets, transactions and legs of one node, tied together.
//!
//! [`Endpoint::start`] makes one; service addresses are bound and unbound while it runs. What
//! arrives goes, in one breath and on the receiving task: transport → transaction → leg or
//! [`Handler`]. The endpoint answers by itself what needs no decision (OPTIONS, malformed,
//! unknown method or extension, loops, unknown dialogs).

mod handler;
mod orphan;
mod receive;

pub use handler::{Handler, IncomingInvite, IncomingRequest};
pub use orphan::LostInvite;

use crate::dialog::{Dialog, contact_of};
use crate::leg::{InviteSpec, Leg, LegCell, LegSink, Machine};
use crate::limits;
use crate::message::{self, HeaderName, Message, Method, Request, Response, host_of, response_to};
use crate::stats::{Drop, Stats};
use crate::timer::{Due, Intervals, LegTimer, Timers};
use crate::token::{BRANCH_COOKIE, LegToken, TokenKey};
use crate::transaction::{Arrival, Class, ClientOwner, Key, Table, Unsent, Wire, response_flow};
use crate::transport::{BindError, Bound, Flow, RateLimits, Receiver, Sent, Transport};
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::oneshot;

/// What an endpoint is told at its start.
#[derive(Debug, Clone)]
pub struct EndpointConfig {
    /// Shared by the cluster; signs tags, Call-IDs and branches.
    pub token_key: [u8; 32],
    /// What one source may send.
    pub rate: RateLimits,
    /// T1, T2 and T4; shortened in tests.
    pub intervals: Intervals,
    /// Server and User-Agent header.
    pub product: String,
    /// The 200 to a peer's BYE waits for [`Leg::end_is_known`], at most T1: who gets none
    /// says it again, to whoever has the leg by then.
    pub byes_wait: bool,
}

impl EndpointConfig {
    /// The usual settings under this key, without rate limit.
    #[must_use]
    pub fn new(token_key: [u8; 32]) -> Self {
        Self {
            token_key,
            rate: RateLimits {
                per_source_rps: 0,
                trusted: Vec::new(),
            },
            intervals: Intervals::default(),
            product: "Strowger".to_owned(),
            byes_wait: false,
        }
    }
}

/// Why a leg could not be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The leg table is full.
    #[error("too many legs")]
    TooManyLegs,
    /// The token names a leg that is here already.
    #[error("the leg exists already")]
    Exists,
    /// The INVITE was answered or has timed out.
    #[error("the INVITE is gone")]
    Gone,
}

/// Why a request outside any leg got no response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// No final response in 64·T1.
    #[error("no response in time")]
    Timeout,
    /// The transaction table is full.
    #[error("too many transactions")]
    TooManyTransactions,
}

/// The signalling of one node; cheap to clone.
#[derive(Clone)]
pub struct Endpoint {
    core: Arc<Core>,
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Endpoint")
            .field("bound", &self.bound())
            .finish()
    }
}

/// What endpoint, legs and transactions share.
pub(crate) struct Core {
    me: Weak<Core>,
    transport: Arc<Transport>,
    table: Table,
    timers: Timers,
    legs: Vec<Mutex<HashMap<LegToken, Arc<LegCell>>>>,
    leg_count: AtomicUsize,
    tokens: TokenKey,
    handler: Arc<dyn Handler>,
    intervals: Intervals,
    product: String,
    byes_wait: bool,
    stats: Arc<Stats>,
    clock: Mutex<Option<tokio::task::JoinHandle<()>>>,
}

impl Endpoint {
    /// Starts an endpoint without addresses. Must be called within a tokio runtime.
    #[must_use]
    pub fn start(config: EndpointConfig, handler: Arc<dyn Handler>) -> Self {
        let stats = Arc::new(Stats::default());
        let core = Arc::new_cyclic(|me| Core {
            me: me.clone(),
            transport: Arc::new(Transport::new(config.rate, Arc::clone(&stats))),
            table: Table::new(config.intervals),
            timers: Timers::default(),
            legs: (0..limits::SHARDS).map(|_| Mutex::default()).collect(),
            leg_count: AtomicUsize::new(0),
            tokens: TokenKey::new(&config.token_key),
            handler,
            intervals: config.intervals,
            product: config.product,
            byes_wait: config.byes_wait,
            stats,
            clock: Mutex::new(None),
        });
        let clock = tokio::spawn(run_timers(Arc::clone(&core)));
        *core.clock.lock() = Some(clock);
        Self { core }
    }

    /// Serves a service address: UDP, and TCP when a port is given. Port 0 takes any.
    ///
    /// # Errors
    /// [`BindError`] names the socket and the system's reason.
    pub fn bind(
        &self,
        ip: IpAddr,
        udp_port: u16,
        tcp_port: Option<u16>,
    ) -> Result<Bound, BindError> {
        let receiver: Arc<dyn Receiver> = Arc::clone(&self.core) as Arc<dyn Receiver>;
        self.core.transport.bind(&receiver, ip, udp_port, tcp_port)
    }

    /// Stops serving an address; its sockets are closed when this returns. False when it was
    /// not bound.
    pub async fn unbind(&self, ip: IpAddr) -> bool {
        self.core.transport.unbind(ip).await
    }

    /// The addresses bound here.
    #[must_use]
    pub fn bound(&self) -> Vec<IpAddr> {
        self.core.transport.bound()
    }

    /// How long an address has been bound here; `None` when it is not.
    #[must_use]
    pub fn bound_for(&self, ip: IpAddr) -> Option<Duration> {
        self.core.transport.bound_for(ip)
    }

    /// While quiet, nothing is sent but answers to BYE and 503 to what would start
    /// something new: this node lost its lease.
    pub fn set_quiet(&self, quiet: bool) {
        self.core.transport.set_quiet(quiet);
    }

    /// True while quiet.
    pub fn is_quiet(&self) -> bool {
        self.core.transport.is_quiet()
    }

    /// Calls somebody; events begin to flow to the sink.
    ///
    /// # Errors
    /// [`StartError`] when the leg cannot be kept.
    pub fn invite(&self, spec: InviteSpec, sink: LegSink) -> Result<Leg, StartError> {
        let token = spec.token;
        let cell = Arc::new(LegCell {
            machine: Mutex::new(Machine::outgoing(&self.core, &spec, sink)),
        });
        self.core.add_leg(token, Arc::clone(&cell))?;
        cell.machine.lock().call(&self.core, spec);
        Ok(self.leg_handle(token))
    }

    /// Takes over a leg from its checkpoint under an epoch above those before; our CSeq jumps.
    ///
    /// # Errors
    /// [`StartError`] when the leg cannot be kept.
    pub fn import(&self, dialog: Dialog, epoch: u32, sink: LegSink) -> Result<Leg, StartError> {
        let token = dialog.token;
        let cell = Arc::new(LegCell {
            machine: Mutex::new(Machine::imported(dialog, epoch, sink, &self.core)),
        });
        self.core.add_leg(token, cell)?;
        Ok(self.leg_handle(token))
    }

    /// Takes over, under an epoch above those before, a caller's INVITE as [`IncomingInvite::raw`] kept it: the leg is as it was
    /// before any answer, whatever its old owner sent. Answering again is harmless: a peer
    /// that has had the answer acknowledges it once more.
    ///
    /// # Errors
    /// [`StartError`]: `Gone` when the bytes are no INVITE or there is no room for it.
    pub fn revive(
        &self,
        raw: &[u8],
        flow: Flow,
        (token, epoch): (LegToken, u32),
        sink: LegSink,
    ) -> Result<Leg, StartError> {
        let core = &self.core;
        let (request, flow, reply) = kept_invite(raw, flow).ok_or(StartError::Gone)?;
        let key = Key::of_request(&request);
        let request = Arc::new(request);
        if matches!(
            core.table.arrive(&**core, &key, &request, reply),
            Arrival::Full
        ) {
            return Err(StartError::Gone);
        }
        let machine = Machine::revived(core, (token, epoch), key.clone(), request, flow, sink);
        let cell = Arc::new(LegCell {
            machine: Mutex::new(machine),
        });
        core.add_leg(token, Arc::clone(&cell))?;
        if core.table.adopt(&key, token) == Some(true) {
            cell.machine.lock().on_cancel(core);
        }
        Ok(self.leg_handle(token))
    }

    /// The dialog that a kept INVITE began, for who only has to end it.
    #[must_use]
    pub fn dialog_of(&self, raw: &[u8], flow: Flow, token: LegToken) -> Option<Dialog> {
        let (request, flow, _) = kept_invite(raw, flow)?;
        let tag = self.core.tokens.tag(token);
        Some(Dialog::of_invite(&request, token, tag, flow))
    }

    /// The leg of this token, when it is here.
    #[must_use]
    pub fn leg(&self, token: LegToken) -> Option<Leg> {
        self.core.leg(token).map(|_| self.leg_handle(token))
    }

    fn leg_handle(&self, token: LegToken) -> Leg {
        Leg {
            token,
            core: Arc::clone(&self.core),
        }
    }

    /// Takes in a message that another node received for a leg of ours.
    pub fn inject(&self, raw: &[u8], flow: Flow) {
        self.core.take_in(raw, flow, true);
    }

    /// Sends bytes that another node wrote, on an address bound here. False when it is not.
    #[must_use]
    pub fn send_raw(&self, flow: &Flow, bytes: &Bytes) -> bool {
        let receiver: Arc<dyn Receiver> = Arc::clone(&self.core) as Arc<dyn Receiver>;
        self.core.transport.send(&receiver, flow, bytes) != Sent::Elsewhere
    }

    /// Sends a request outside any leg (REGISTER, OPTIONS …) and waits for its final response.
    ///
    /// Via, Call-ID, CSeq and From tag are added where they are missing.
    ///
    /// # Errors
    /// [`RequestError`] without a final response.
    pub async fn request(
        &self,
        mut request: Request,
        flow: Flow,
    ) -> Result<Response, RequestError> {
        let (sender, receiver) = oneshot::channel();
        let branch = self.core.stamp_plain(&mut request, &flow);
        let key = Key::of_sent(&branch, &request.method);
        let owner = ClientOwner::Once(Box::new(move |response| {
            // Nobody waits any more: then nobody needs the response.
            let _ = sender.send(response);
        }));
        if self.core.send_request(&key, request, flow, owner).is_err() {
            return Err(RequestError::TooManyTransactions);
        }
        match receiver.await {
            Ok(Some(response)) => Ok(response),
            Ok(None) | Err(_) => Err(RequestError::Timeout),
        }
    }

    /// Reads and makes the tokens in tags, Call-IDs and branches.
    #[must_use]
    pub fn tokens(&self) -> &TokenKey {
        &self.core.tokens
    }

    /// Counters.
    #[must_use]
    pub fn stats(&self) -> &Stats {
        &self.core.stats
    }

    /// Live transactions.
    #[must_use]
    pub fn transaction_count(&self) -> usize {
        self.core.table.len()
    }

    /// Legs held here, including those that ended within the last 64·T1.
    #[must_use]
    pub fn leg_count(&self) -> usize {
        self.core.leg_count.load(Ordering::Relaxed)
    }

    /// Closes every socket and stops the timers. Legs are dropped without a word.
    pub async fn shutdown(&self) {
        for ip in self.bound() {
            self.unbind(ip).await;
        }
        if let Some(clock) = self.core.clock.lock().take() {
            clock.abort();
        }
        for shard in &self.core.legs {
            shard.lock().clear();
        }
    }
}

/// A kept INVITE with its flow and the way of its responses, without the connection that died
/// with its owner.
fn kept_invite(raw: &[u8], mut flow: Flow) -> Option<(Request, Flow, Flow)> {
    let Ok(Message::Request(mut request)) = message::parse(raw) else {
        return None;
    };
    flow.connection = None;
    let reply = response_flow(&mut request, flow);
    (request.method == Method::Invite).then_some((request, flow, reply))
}

async fn run_timers(core: Arc<Core>) {
    let mut due = Vec::new();
    loop {
        core.timers.due(&mut due).await;
        for one in due.drain(..) {
            core.fire(one);
        }
    }
}

impl Wire for Core {
    fn send(&self, flow: &Flow, bytes: &Bytes, class: Class) {
        if self.transport.is_quiet() && class == Class::Ordinary {
            return self.stats.dropped(Drop::Quiet);
        }
        let Some(me) = self.me.upgrade() else {
            return;
        };
        let receiver: Arc<dyn Receiver> = me;
        let elsewhere = self.transport.send(&receiver, flow, bytes) == Sent::Elsewhere;
        if elsewhere && !self.handler.send_via(*flow, bytes.clone()) {
            self.stats.dropped(Drop::NotBound);
        }
    }

    fn is_reliable(&self, flow: &Flow) -> bool {
        // Whoever holds the address otherwise is told one way, and may just have died.
        flow.protocol.is_reliable() && self.transport.bound_for(flow.local.ip()).is_some()
    }

    fn arm(&self, after: Duration, due: Due) {
        self.timers.arm(after, due);
    }
}

impl Core {
    fn fire(&self, due: Due) {
        match due {
            Due::Server(key, kind) => self.table.server_timer(self, &key, kind),
            Due::Client(key, kind) => {
                let stands = |token| self.leg(token).is_some();
                match self.table.client_timer(self, &key, kind, stands) {
                    Some(ClientOwner::Leg(token)) => {
                        let method = key.0.rsplit('|').next().map(Method::from_name);
                        if let (Some(cell), Some(method)) = (self.leg(token), method) {
                            cell.machine.lock().on_no_response(self, &method);
                        }
                    }
                    Some(ClientOwner::Once(tell)) => tell(None),
                    Some(ClientOwner::Nobody) | None => {}
                }
            }
            Due::Leg(token, timer, generation) => {
                if let Some(cell) = self.leg(token) {
                    cell.machine.lock().on_timer(self, timer, generation);
                }
            }
        }
    }

    fn legs_of(&self, token: LegToken) -> &Mutex<HashMap<LegToken, Arc<LegCell>>> {
        let mixed = token.index ^ u64::from(token.n).rotate_left(17);
        let at = usize::try_from(mixed % limits::SHARDS as u64).unwrap_or(0);
        self.legs
            .get(at)
            .unwrap_or_else(|| unreachable!("a remainder by SHARDS indexes SHARDS shards"))
    }

    pub(crate) fn leg(&self, token: LegToken) -> Option<Arc<LegCell>> {
        self.legs_of(token).lock().get(&token).map(Arc::clone)
    }

    fn add_leg(&self, token: LegToken, cell: Arc<LegCell>) -> Result<(), StartError> {
        let mut legs = self.legs_of(token).lock();
        if legs.contains_key(&token) {
            return Err(StartError::Exists);
        }
        if self.leg_count.fetch_add(1, Ordering::Relaxed) >= limits::LEGS_MAX {
            self.leg_count.fetch_sub(1, Ordering::Relaxed);
            return Err(StartError::TooManyLegs);
        }
        legs.insert(token, cell);
        Ok(())
    }

    pub(crate) fn remove_leg(&self, token: LegToken) {
        if self.legs_of(token).lock().remove(&token).is_some() {
            self.leg_count.fetch_sub(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn tokens(&self) -> &TokenKey {
        &self.tokens
    }

    pub(crate) fn times(&self) -> &Intervals {
        &self.intervals
    }

    pub(crate) fn arm_leg(
        &self,
        token: LegToken,
        timer: LegTimer,
        generation: u32,
        after: Duration,
    ) {
        self.timers.arm(after, Due::Leg(token, timer, generation));
    }

    /// Answers a request through its server transaction.
    pub(crate) fn answer(&self, key: &Key, response: &Response) {
        self.table
            .respond(self, key, response.status, response.to_bytes());
    }

    /// True when the 200 to a BYE may wait until its owner knows the end. A quiet node commits
    /// nothing.
    pub(crate) fn byes_wait(&self) -> bool {
        self.byes_wait && !self.transport.is_quiet()
    }

    /// Drops a server transaction that will never be answered here.
    pub(crate) fn abandon(&self, key: &Key) {
        self.table.abandon(key);
    }

    /// Counts what a leg does not take.
    pub(crate) fn count_drop(&self, cause: Drop) {
        self.stats.dropped(cause);
    }

    /// Sends outside any transaction: ACK for a 2xx, and the 2xx again.
    pub(crate) fn transmit(&self, flow: &Flow, bytes: &Bytes) {
        self.send(flow, bytes, Class::Ordinary);
    }

    pub(crate) fn send_request(
        &self,
        key: &Key,
        request: Request,
        flow: Flow,
        owner: ClientOwner,
    ) -> Result<(), Unsent> {
        self.table.send(self, key, request, flow, owner)
    }

    /// Puts Via, and Contact where the request sets our target, on a request of a leg.
    pub(crate) fn stamp(&self, request: &mut Request, token: LegToken, flow: &Flow) -> String {
        let branch = self.tokens.branch(token, rand::random());
        self.put_via(request, &branch, flow);
        branch
    }

    /// The same for the INVITE that begins a leg, with a branch another node can name.
    pub(crate) fn stamp_first(
        &self,
        request: &mut Request,
        token: LegToken,
        flow: &Flow,
    ) -> String {
        let branch = self.tokens.branch(token, orphan::FIRST_INVITE);
        self.put_via(request, &branch, flow);
        branch
    }

    fn put_via(&self, request: &mut Request, branch: &str, flow: &Flow) {
        let protocol = flow.protocol.as_str();
        let (host, port) = (host_of(flow.local.ip()), flow.local.port());
        let via = format!("SIP/2.0/{protocol} {host}:{port};rport;branch={branch}");
        let headers = &mut request.headers;
        headers.push_front(HeaderName::Via, via);
        let sets_target = matches!(request.method, Method::Invite | Method::Update);
        if sets_target && headers.get(&HeaderName::Contact).is_none() {
            headers.push(HeaderName::Contact, contact_of(flow));
        }
        if headers.get(&HeaderName::UserAgent).is_none() && request.method != Method::Ack {
            headers.push(HeaderName::UserAgent, self.product.as_str());
        }
    }

    fn stamp_plain(&self, request: &mut Request, flow: &Flow) -> String {
        let branch = format!("{BRANCH_COOKIE}{:032x}", rand::random::<u128>());
        let headers = &mut request.headers;
        if headers.get(&HeaderName::CallId).is_none() {
            headers.push(
                HeaderName::CallId,
                format!("{:032x}", rand::random::<u128>()),
            );
        }
        if headers.get(&HeaderName::CSeq).is_none() {
            headers.push(HeaderName::CSeq, format!("1 {}", request.method));
        }
        if headers.from_tag().is_none()
            && let Some(from) = headers.get(&HeaderName::From).map(str::to_owned)
        {
            let tag = rand::random::<u64>();
            headers.replace_first(HeaderName::From, format!("{from};tag={tag:016x}"));
        }
        self.put_via(request, &branch, flow);
        branch
    }

    /// The methods we take.
    pub(crate) fn allow(&self) -> &'static str {
        "INVITE, ACK, BYE, CANCEL, OPTIONS, INFO, UPDATE, REGISTER"
    }

    pub(crate) fn options_response(&self, request: &Request) -> Response {
        let tag = format!("{:016x}", rand::random::<u64>());
        response_to(request, 200, "", Some(&tag))
            .with(HeaderName::Allow, self.allow())
            .with(HeaderName::Accept, "application/sdp")
            .with(HeaderName::Supported, "timer")
    }
}
