//! Mutually authenticated QUIC between the nodes (RFC 9000, 9001).
//!
//! One connection per pair carries every lane, each request on its own stream with a
//! priority, so that a snapshot never delays a heartbeat. Either side may dial; both use
//! what is there. Deliberately not here: what requests mean ([`Serve`] knows).
//!
//! Invariant: a stream is served only after the peer's certificate was found to name a
//! node of our cluster that was not removed.

pub mod tls;
pub mod told;
pub mod wire;

use std::collections::HashMap;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use quinn::{Connection, ConnectionError, Endpoint, RecvStream, SendStream};
use rustls_pki_types::CertificateDer;
use serde::Serialize;
use serde::de::DeserializeOwned;
use strowger_core::ports::NodeNumber;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::error::{CallError, OpenError};
use crate::identity::{Identity, name_of, subject_of};
use crate::limits;
use wire::{Kind, WireError};

/// A boxed future of this crate's servers.
pub type Serving<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Serves what peers ask.
pub trait Serve: Send + Sync + 'static {
    /// Answers one request.
    fn serve(
        self: Arc<Self>,
        from: NodeNumber,
        kind: Kind,
        body: Vec<u8>,
    ) -> Serving<'static, Result<Vec<u8>, String>>;

    /// Receives a snapshot from `stream`.
    fn snapshot(
        self: Arc<Self>,
        from: NodeNumber,
        stream: RecvStream,
    ) -> Serving<'static, Result<Vec<u8>, String>>;

    /// Takes one one-way message.
    fn message(&self, from: NodeNumber, body: Vec<u8>);

    /// Answers a newcomer without a certificate.
    fn bootstrap(self: Arc<Self>, body: Vec<u8>) -> Serving<'static, Vec<u8>>;

    /// A member told this node that it was removed.
    fn removed(self: Arc<Self>);

    /// True when `node` may not be here any more.
    fn is_removed(&self, node: NodeNumber) -> bool;
}

/// The cluster port of this node.
pub struct Transport {
    endpoint: Endpoint,
    identity: Arc<Identity>,
    client: quinn::ClientConfig,
    peers: Mutex<HashMap<NodeNumber, Arc<Peer>>>,
    /// Weak, because whoever serves also holds the transport.
    server: std::sync::OnceLock<Weak<dyn Serve>>,
    /// Refused peers the log knows of.
    told: told::Told,
    /// Newcomers that are served at once.
    newcomers: tokio::sync::Semaphore,
    stop: CancellationToken,
}

#[derive(Default)]
struct Peer {
    state: Mutex<PeerState>,
    dialling: tokio::sync::Mutex<()>,
    /// Its process ended; a dial under way has nobody to reach.
    ended: tokio::sync::Notify,
}

#[derive(Default)]
struct PeerState {
    address: Option<String>,
    connection: Option<Connection>,
    failed: Option<Failed>,
    /// When its process was seen to be gone. Nobody answers a datagram to it, so a dial would
    /// hold up whoever asks for [`limits::DIAL_TIMEOUT`].
    gone: Option<Instant>,
    /// Times in a row that it would not have us.
    refusals: u32,
    messages: Option<mpsc::Sender<Vec<u8>>>,
}

/// Close reason for a node that was removed.
const REMOVED: &[u8] = b"removed";

/// A dial that failed.
struct Failed {
    at: Instant,
    why: String,
    /// It is not repeated for this long.
    pause: Duration,
}

/// A dial that nobody answered is not repeated this soon: the peer may just be starting.
const REDIAL_PAUSE: Duration = Duration::from_millis(100);

/// The longest pause before a peer that would not have us is dialled again.
const REFUSED_PAUSE_MAX: Duration = Duration::from_secs(5);

/// The pause after so many refusals in a row: doubled each time, and shortened at random by
/// up to a fifth, so that nodes refused together do not come back together.
pub fn refused_pause(refusals: u32) -> Duration {
    let doubled = REDIAL_PAUSE.saturating_mul(1_u32.checked_shl(refusals).unwrap_or(u32::MAX));
    let whole = doubled.min(REFUSED_PAUSE_MAX);
    whole.mul_f64(1.0 - 0.2 * rand::random::<f64>())
}

/// True when the peer was there and would not have us, or we would not have it.
fn is_refusal(error: &ConnectionError) -> bool {
    // Codes 0x100 to 0x1ff carry the TLS alert (RFC 9001 §4.8).
    let alert = |code: u64| (0x100..0x200).contains(&code);
    match error {
        ConnectionError::TransportError(error) => alert(error.code.into()),
        ConnectionError::ConnectionClosed(close) => alert(close.error_code.into()),
        ConnectionError::ApplicationClosed(close) => close.error_code == wire::CLOSE_REFUSED,
        _ => false,
    }
}

/// Our side of a request under way. It is taken back when nobody waits for its answer any more:
/// otherwise the transport would go on delivering it, after a cut for as long as the connection
/// lasts, and an old proposal would come after newer ones.
struct Asking {
    send: SendStream,
    answered: bool,
}

impl Drop for Asking {
    fn drop(&mut self) {
        if !self.answered {
            // A stream that has ended by itself needs no end.
            let _ = self.send.reset(wire::WITHDRAWN);
        }
    }
}

impl Transport {
    /// Binds the port; serves nothing before [`Transport::start`].
    ///
    /// # Errors
    /// [`OpenError::Bind`] or [`OpenError::Tls`].
    pub fn bind(
        identity: Arc<Identity>,
        listen: SocketAddr,
        stop: CancellationToken,
    ) -> Result<Arc<Self>, OpenError> {
        let tls =
            |error: Box<dyn std::error::Error + Send + Sync>| OpenError::Tls(error.to_string());
        let server = tls::server(&identity).map_err(tls)?;
        let client = tls::client(&identity).map_err(tls)?;
        let endpoint = Endpoint::server(server, listen).map_err(|source| OpenError::Bind {
            address: listen,
            source,
        })?;
        let peers = Mutex::default();
        let server = std::sync::OnceLock::new();
        Ok(Arc::new(Self {
            endpoint,
            identity,
            client,
            peers,
            server,
            told: told::Told::default(),
            newcomers: tokio::sync::Semaphore::new(limits::NEWCOMERS_MAX),
            stop,
        }))
    }

    /// Starts accepting; `server` answers.
    pub fn start(self: &Arc<Self>, server: Arc<dyn Serve>) {
        if self.server.set(Arc::downgrade(&server)).is_err() {
            return;
        }
        let transport = self.clone();
        tokio::spawn(async move {
            let stop = transport.stop.clone();
            loop {
                let incoming = tokio::select! {
                    () = stop.cancelled() => break,
                    incoming = transport.endpoint.accept() => incoming,
                };
                let Some(incoming) = incoming else { break };
                tokio::spawn(transport.clone().accept(incoming));
            }
            transport.endpoint.close(wire::CLOSE_GONE, b"closing");
        });
    }

    /// Notes where `node` is dialled.
    pub fn set_address(&self, node: NodeNumber, address: &str) {
        let peer = self.peer(node);
        let mut state = peer.state.lock();
        if state.address.as_deref() != Some(address) {
            state.address = Some(address.to_owned());
            state.failed = None;
            state.gone = None;
            state.refusals = 0;
        }
    }

    /// Where `node` is dialled.
    pub fn address(&self, node: NodeNumber) -> Option<String> {
        self.peers.lock().get(&node)?.state.lock().address.clone()
    }

    /// Closes the connection to `node`, because its process is gone. It is not dialled until
    /// it is [`Transport::found`] or dials itself, at most for [`limits::GONE_MAX`].
    pub fn drop_connection(&self, node: NodeNumber) {
        let peer = self.peer(node);
        let connection = {
            let mut state = peer.state.lock();
            state.gone = Some(Instant::now());
            state.connection.take()
        };
        peer.ended.notify_waiters();
        if let Some(connection) = connection {
            connection.close(wire::CLOSE_GONE, b"peer is gone");
        }
    }

    /// A process of `node` was met, so that it can be dialled.
    pub fn found(&self, node: NodeNumber) {
        self.peer(node).state.lock().gone = None;
    }

    /// Closes the connections to nodes that were removed, telling them why.
    pub fn close_removed(&self, removed: impl Fn(NodeNumber) -> bool) {
        let live: Vec<(NodeNumber, Connection)> = self
            .peers
            .lock()
            .iter()
            .filter_map(|(node, peer)| Some((*node, peer.live()?)))
            .collect();
        for (node, connection) in live {
            if removed(node) {
                connection.close(wire::CLOSE_REFUSED, REMOVED);
            }
        }
    }

    fn server(&self) -> Option<Arc<dyn Serve>> {
        self.server.get()?.upgrade()
    }

    fn peer(&self, node: NodeNumber) -> Arc<Peer> {
        self.peers.lock().entry(node).or_default().clone()
    }

    /// Asks `node` and waits for its answer at most `deadline`. A request that has not arrived
    /// when nobody waits any more does not arrive later.
    ///
    /// # Errors
    /// [`CallError`]; after [`CallError::Timeout`] the peer may have acted.
    pub async fn request(
        self: &Arc<Self>,
        node: NodeNumber,
        kind: Kind,
        body: &[u8],
        deadline: Duration,
    ) -> Result<Vec<u8>, CallError> {
        if body.len() > limits::RPC_BYTES_MAX {
            return Err(CallError::TooLarge(limits::RPC_BYTES_MAX));
        }
        let mut sent = false;
        let exchange = async {
            let connection = self.connect(node).await?;
            let unreachable = |error: WireError| CallError::Unreachable {
                node,
                why: error.to_string(),
            };
            let (send, mut receive) = connection
                .open_bi()
                .await
                .map_err(|error| unreachable(WireError::stream(error)))?;
            sent = true;
            let mut asking = Asking {
                send,
                answered: false,
            };
            wire::send_request(&mut asking.send, kind, body)
                .await
                .map_err(|_| CallError::Timeout(node))?;
            let answer = wire::read_answer(&mut receive).await;
            asking.answered = true;
            match answer {
                Ok(answer) => Ok(answer),
                Err(WireError::Refused(why)) => Err(CallError::Refused { node, why }),
                // The request may have arrived before the connection broke.
                Err(WireError::Stream(_)) => Err(CallError::Timeout(node)),
            }
        };
        match tokio::time::timeout(deadline, exchange).await {
            Ok(result) => result,
            Err(_) if sent => Err(CallError::Timeout(node)),
            Err(_) => Err(CallError::Unreachable {
                node,
                why: "no connection in time".into(),
            }),
        }
    }

    /// [`Transport::request`] with encoded request and answer.
    ///
    /// # Errors
    /// [`CallError`]; an answer that cannot be read counts as refused.
    pub async fn ask<Q: Serialize, A: DeserializeOwned>(
        self: &Arc<Self>,
        node: NodeNumber,
        kind: Kind,
        question: &Q,
        deadline: Duration,
    ) -> Result<A, CallError> {
        let answer = self
            .request(node, kind, &crate::store::encode(question), deadline)
            .await?;
        postcard::from_bytes(&answer).map_err(|error| CallError::Refused {
            node,
            why: error.to_string(),
        })
    }

    /// Opens a stream of frames to `node`.
    ///
    /// # Errors
    /// [`CallError`] when it cannot be reached.
    pub async fn stream(
        self: &Arc<Self>,
        node: NodeNumber,
        kind: Kind,
    ) -> Result<(SendStream, RecvStream), CallError> {
        let unreachable = |why: String| CallError::Unreachable { node, why };
        let connection = self.connect(node).await?;
        let (mut send, receive) = connection
            .open_bi()
            .await
            .map_err(|error| unreachable(error.to_string()))?;
        send.set_priority(kind.priority())
            .map_err(|error| unreachable(error.to_string()))?;
        send.write_all(&[kind as u8])
            .await
            .map_err(|error| unreachable(error.to_string()))?;
        Ok((send, receive))
    }

    /// Queues a one-way message for `node`.
    ///
    /// # Errors
    /// [`CallError::QueueFull`], [`CallError::TooLarge`], [`CallError::Unknown`].
    pub fn send(self: &Arc<Self>, node: NodeNumber, body: Vec<u8>) -> Result<(), CallError> {
        if body.len() > limits::MESSAGE_BYTES_MAX {
            return Err(CallError::TooLarge(limits::MESSAGE_BYTES_MAX));
        }
        let peer = self.peer(node);
        let mut state = peer.state.lock();
        if state.address.is_none() && state.connection.is_none() {
            return Err(CallError::Unknown(node));
        }
        let queue = state.messages.get_or_insert_with(|| {
            let (queue, messages) = mpsc::channel(limits::MESSAGES_QUEUED_MAX);
            tokio::spawn(self.clone().deliver(node, messages));
            queue
        });
        queue.try_send(body).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => CallError::QueueFull(node),
            mpsc::error::TrySendError::Closed(_) => CallError::Closed,
        })
    }

    /// Writes queued messages on one long stream; a message whose write fails is lost,
    /// which is what one-way means.
    async fn deliver(self: Arc<Self>, node: NodeNumber, mut messages: mpsc::Receiver<Vec<u8>>) {
        let mut stream: Option<SendStream> = None;
        loop {
            let body = tokio::select! {
                () = self.stop.cancelled() => return,
                body = messages.recv() => body,
            };
            let Some(body) = body else { return };
            if stream.is_none()
                && let Ok(connection) = self.connect(node).await
            {
                stream = connection.open_uni().await.ok();
            }
            if let Some(open) = &mut stream
                && wire::send_frame(open, &body).await.is_err()
            {
                stream = None;
            }
        }
    }

    /// The live connection to `node`, dialling when there is none.
    async fn connect(self: &Arc<Self>, node: NodeNumber) -> Result<Connection, CallError> {
        let peer = self.peer(node);
        if let Some(connection) = peer.live() {
            return Ok(connection);
        }
        let _turn = peer.dialling.lock().await;
        if let Some(connection) = peer.live() {
            return Ok(connection);
        }
        // Listened to before the look at the state, so that no end falls between.
        let ended = peer.ended.notified();
        tokio::pin!(ended);
        ended.as_mut().enable();
        let gone = || CallError::Unreachable {
            node,
            why: "its process is gone".to_owned(),
        };
        let address = {
            let state = peer.state.lock();
            if state.gone.is_some_and(|at| at.elapsed() < limits::GONE_MAX) {
                return Err(gone());
            }
            if let Some(failed) = &state.failed
                && failed.at.elapsed() < failed.pause
            {
                let why = failed.why.clone();
                return Err(CallError::Unreachable { node, why });
            }
            state.address.clone().ok_or(CallError::Unknown(node))?
        };
        let dialled = tokio::select! {
            dialled = self.dial(node, &address) => dialled,
            () = ended => return Err(gone()),
        };
        match dialled {
            Ok(connection) => {
                // Whether it will have us shows a moment later: `serve` says so.
                peer.state.lock().failed = None;
                self.adopt(node, &peer, connection.clone());
                Ok(connection)
            }
            Err((why, refused)) => {
                tracing::debug!(node, address, why, "a peer cannot be dialled");
                peer.state.lock().note_failure(why.clone(), refused);
                Err(CallError::Unreachable { node, why })
            }
        }
    }

    /// Dials; an error says also whether it was a refusal.
    async fn dial(&self, node: NodeNumber, address: &str) -> Result<Connection, (String, bool)> {
        let socket = resolve(address).await.map_err(|why| (why, false))?;
        let name = name_of(node, self.identity.cluster);
        let connecting = self
            .endpoint
            .connect_with(self.client.clone(), socket, &name)
            .map_err(|error| (error.to_string(), false))?;
        match tokio::time::timeout(limits::DIAL_TIMEOUT, connecting).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => Err((error.to_string(), is_refusal(&error))),
            Err(_) => Err(("no answer".to_owned(), false)),
        }
    }

    /// Uses `connection` for `node` from now on and serves what comes over it. An older
    /// one is left to end by itself: both sides may have dialled at once.
    fn adopt(self: &Arc<Self>, node: NodeNumber, peer: &Arc<Peer>, connection: Connection) {
        connection.set_max_concurrent_bi_streams(limits::STREAMS_PER_PEER_MAX.into());
        connection.set_max_concurrent_uni_streams(limits::MESSAGE_STREAMS_MAX.into());
        {
            let mut state = peer.state.lock();
            state.gone = None;
            state.connection = Some(connection.clone());
        }
        tokio::spawn(self.clone().serve(node, peer.clone(), connection));
    }

    async fn accept(self: Arc<Self>, incoming: quinn::Incoming) {
        let remote = incoming.remote_address();
        let connection = match incoming.await {
            Ok(connection) => connection,
            // A certificate that does not fit was named already, by the side that judged
            // it; the rest is a peer that gave up while either was busy.
            Err(error) => {
                tracing::debug!(%remote, %error, "a connection to the cluster port failed");
                return;
            }
        };
        let protocol = connection
            .handshake_data()
            .and_then(|shaken| {
                shaken
                    .downcast::<quinn::crypto::rustls::HandshakeData>()
                    .ok()
            })
            .and_then(|shaken| shaken.protocol);
        if protocol.as_deref() == Some(tls::ALPN_JOIN) {
            self.bootstrap(connection).await;
            return;
        }
        let Some(server) = self.server() else {
            return;
        };
        let subject = connection
            .peer_identity()
            .and_then(|chain| chain.downcast::<Vec<CertificateDer<'static>>>().ok())
            .and_then(|chain| subject_of(chain.first()?));
        match subject {
            Some((node, cluster)) if cluster == self.identity.cluster => {
                let name = format!("{node}");
                if server.is_removed(node) {
                    if self.told.is_news(&name, "removed") {
                        tracing::warn!(node, %remote, "refused a node that was removed");
                    }
                    connection.close(wire::CLOSE_REFUSED, REMOVED);
                } else {
                    self.told.forget(&name);
                    self.adopt(node, &self.peer(node), connection);
                }
            }
            _ => {
                if self
                    .told
                    .is_news(&remote.ip().to_string(), "no certificate")
                {
                    tracing::error!(
                        %remote,
                        "SW0442: refused a peer without a certificate of ours"
                    );
                }
                connection.close(wire::CLOSE_REFUSED, b"no certificate of this cluster");
            }
        }
    }

    /// One question of a newcomer, then the connection ends.
    async fn bootstrap(&self, connection: Connection) {
        let Some(server) = self.server() else {
            return;
        };
        let exchange = async {
            let (mut send, mut receive) = connection.accept_bi().await.ok()?;
            let body = receive.read_to_end(limits::JOIN_BYTES_MAX).await.ok()?;
            let answer = server.clone().bootstrap(body).await;
            send.write_all(&answer).await.ok()?;
            send.finish().ok()?;
            send.stopped().await.ok()
        };
        let Ok(_turn) = self.newcomers.try_acquire() else {
            return connection.close(wire::CLOSE_REFUSED, b"others are joining; try again");
        };
        if tokio::time::timeout(Duration::from_secs(15), exchange)
            .await
            .is_err()
        {
            connection.close(wire::CLOSE_REFUSED, b"too slow");
        }
    }

    async fn serve(self: Arc<Self>, node: NodeNumber, peer: Arc<Peer>, connection: Connection) {
        let Some(server) = self.server() else {
            return;
        };
        loop {
            tokio::select! {
                () = self.stop.cancelled() => break,
                stream = connection.accept_bi() => match stream {
                    Ok((send, receive)) => {
                        peer.state.lock().refusals = 0;
                        tokio::spawn(serve_stream(server.clone(), node, send, receive));
                    }
                    Err(_) => break,
                },
                stream = connection.accept_uni() => match stream {
                    Ok(receive) => {
                        tokio::spawn(serve_messages(server.clone(), node, receive));
                    }
                    Err(_) => break,
                },
            }
        }
        if let Some(ConnectionError::ApplicationClosed(closed)) = connection.close_reason()
            && closed.error_code == wire::CLOSE_REFUSED
            && closed.reason == REMOVED
        {
            server.removed();
        }
        let mut state = peer.state.lock();
        if let Some(error) = connection.close_reason()
            && is_refusal(&error)
        {
            state.note_failure(error.to_string(), true);
        }
        let current = state.connection.as_ref().map(Connection::stable_id);
        if current == Some(connection.stable_id()) {
            state.connection = None;
        }
    }
}

impl PeerState {
    fn note_failure(&mut self, why: String, refused: bool) {
        let pause = if refused {
            self.refusals = self.refusals.saturating_add(1);
            refused_pause(self.refusals)
        } else {
            self.refusals = 0;
            REDIAL_PAUSE
        };
        let at = Instant::now();
        self.failed = Some(Failed { at, why, pause });
    }
}

impl Peer {
    fn live(&self) -> Option<Connection> {
        let state = self.state.lock();
        state
            .connection
            .as_ref()
            .filter(|live| live.close_reason().is_none())
            .cloned()
    }
}

/// The socket address of `address`, which may be a host name.
pub async fn resolve(address: &str) -> Result<SocketAddr, String> {
    if let Ok(socket) = address.parse() {
        return Ok(socket);
    }
    let mut found = tokio::net::lookup_host(address)
        .await
        .map_err(|error| error.to_string())?;
    found
        .next()
        .ok_or_else(|| format!("{address} has no address"))
}

async fn serve_stream(
    server: Arc<dyn Serve>,
    node: NodeNumber,
    mut send: SendStream,
    mut receive: RecvStream,
) {
    let Some(kind) = wire::read_kind(&mut receive).await else {
        return;
    };
    let _ = send.set_priority(kind.priority());
    if kind == Kind::Snapshot {
        let answer = server.snapshot(node, receive).await;
        return wire::send_answer(&mut send, answer).await;
    }
    let Ok(body) = receive.read_to_end(limits::RPC_BYTES_MAX).await else {
        return;
    };
    let answer = server.serve(node, kind, body).await;
    wire::send_answer(&mut send, answer).await;
}

async fn serve_messages(server: Arc<dyn Serve>, node: NodeNumber, mut receive: RecvStream) {
    while let Ok(body) = wire::read_frame(&mut receive, limits::MESSAGE_BYTES_MAX).await {
        server.message(node, body);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_that_refuses_is_dialled_ever_more_rarely_and_one_that_is_away_is_not() {
        let mut state = PeerState::default();
        let mut pause = |refused| {
            state.note_failure(String::new(), refused);
            state.failed.as_ref().map(|failed| failed.pause)
        };
        let mut longest = Duration::ZERO;
        for at in 1..40_u32 {
            let pause = pause(true).expect("noted");
            let whole = Duration::from_millis(100 * (1 << at.min(6))).min(REFUSED_PAUSE_MAX);
            assert!(
                pause <= whole && pause >= whole.mul_f64(0.79),
                "{at}: {pause:?}"
            );
            longest = longest.max(pause);
        }
        assert!(longest > Duration::from_secs(4));
        assert_eq!(pause(false), Some(REDIAL_PAUSE));
        assert!(
            pause(true) < Some(Duration::from_millis(201)),
            "from the start"
        );
    }
}
