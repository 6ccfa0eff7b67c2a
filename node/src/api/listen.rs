//! The listening socket: plain on loopback, TLS elsewhere, handshakes beside each other.
//!
//! Nobody keeps a place by saying nothing. Handshake, first request and the pause between
//! requests are bounded in time. Who vanished is found by the system's probes, which hold for
//! the event stream too; it has no other bound here. Connections are bounded in number, and
//! one too many is closed at once: its client learns of it, and accepting never waits.

use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::limits;

/// Certificates and key for TLS, DER.
#[derive(Clone, Copy, Debug)]
pub struct TlsFiles<'a> {
    /// The node's certificate.
    pub certificate: &'a [u8],
    /// The authority's certificate.
    pub authority: &'a [u8],
    /// The node's private key, PKCS #8.
    pub key: &'a [u8],
}

/// The interface cannot listen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// The address cannot be bound.
    #[error("SW0107: the interface cannot listen at {address}: {source}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// TLS refused the node's certificate.
    #[error("SW0109: the node's certificate cannot serve TLS: {0}")]
    Tls(#[from] rustls::Error),
}

/// Address of a client.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

/// The bound socket, which does not accept yet.
pub struct Listening {
    listener: TcpListener,
    acceptor: Option<TlsAcceptor>,
    bounds: Bounds,
}

impl Listening {
    /// Binds `address`.
    ///
    /// # Errors
    /// [`ListenError`].
    pub async fn bind(address: SocketAddr, tls: TlsFiles<'_>) -> Result<Self, ListenError> {
        let acceptor = if address.ip().is_loopback() {
            None
        } else {
            Some(acceptor(tls)?)
        };
        let bound = TcpListener::bind(address).await;
        let listener = bound.map_err(|source| ListenError::Bind { address, source })?;
        let bounds = Bounds::default();
        Ok(Self {
            listener,
            acceptor,
            bounds,
        })
    }

    /// Serves `app` until `stop`. Then the socket is closed, and every connection once the
    /// request it is at is answered. Upgraded ones end by themselves.
    pub async fn serve(self, app: Router, stop: CancellationToken) {
        let Self {
            listener,
            acceptor,
            bounds,
        } = self;
        let host = Host {
            acceptor,
            app,
            bounds,
            stop: stop.clone(),
        };
        let open = TaskTracker::new();
        tokio::select! {
            () = stop.cancelled() => {}
            () = accept(&listener, &host, &open) => {}
        }
        drop(listener);
        open.close();
        open.wait().await;
    }
}

fn acceptor(tls: TlsFiles<'_>) -> Result<TlsAcceptor, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let chain = [tls.certificate, tls.authority].map(|der| CertificateDer::from(der.to_vec()));
    let key = PrivatePkcs8KeyDer::from(tls.key.to_vec());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain.to_vec(), key.into())?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// How many connections there may be, and how long one may ask for nothing.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    connections: usize,
    kept: usize,
    first_request: Duration,
    idle: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            connections: limits::CONNECTIONS_MAX,
            kept: limits::CONNECTIONS_KEPT,
            first_request: limits::FIRST_REQUEST_TIMEOUT,
            idle: limits::IDLE_TIMEOUT,
        }
    }
}

/// Accepts for ever.
async fn accept(listener: &TcpListener, host: &Host, open: &TaskTracker) {
    let places = Places::new(host.bounds);
    let mut noted: Option<Instant> = None;
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, most likely: give others time to close some.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Some(place) = places.take(&stream, peer) else {
            if noted.is_none_or(|at| at.elapsed() >= limits::FULL_NOTE_INTERVAL) {
                noted = Some(Instant::now());
                tracing::warn!(%peer, "the interface is full: a connection was closed");
            }
            continue;
        };
        match watch(&stream) {
            Ok(()) => {
                open.spawn(host.clone().attend(stream, place, Peer(peer)));
            }
            // Who cannot be watched could keep his place for ever.
            Err(error) => tracing::debug!(%peer, %error, "a connection could not be set up"),
        }
    }
}

/// Has small answers sent at once, and has the system find out when the client vanished.
fn watch(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    let probes = TcpKeepalive::new()
        .with_time(limits::PROBE_AFTER)
        .with_interval(limits::PROBE_INTERVAL)
        .with_retries(limits::PROBES);
    socket.set_tcp_keepalive(&probes)?;
    socket.set_tcp_user_timeout(Some(limits::UNTAKEN_MAX))
}

/// The places for connections.
struct Places {
    /// For everybody.
    common: Arc<Semaphore>,
    /// For clients on this machine, when the others are taken.
    kept: Arc<Semaphore>,
}

impl Places {
    fn new(bounds: Bounds) -> Self {
        Self {
            common: Arc::new(Semaphore::new(bounds.connections)),
            kept: Arc::new(Semaphore::new(bounds.kept)),
        }
    }

    fn take(&self, stream: &TcpStream, peer: SocketAddr) -> Option<OwnedSemaphorePermit> {
        if let Ok(place) = Arc::clone(&self.common).try_acquire_owned() {
            return Some(place);
        }
        // Who connects to an address of his own machine comes from that same address.
        let own = stream.local_addr().is_ok_and(|own| own.ip() == peer.ip());
        let is_here = own || peer.ip().to_canonical().is_loopback();
        let kept = is_here.then(|| Arc::clone(&self.kept).try_acquire_owned());
        kept?.ok()
    }
}

/// What every connection is served with.
#[derive(Clone)]
struct Host {
    acceptor: Option<TlsAcceptor>,
    app: Router,
    bounds: Bounds,
    stop: CancellationToken,
}

impl Host {
    /// Serves one connection until it ends, asks for nothing, or the node ends.
    async fn attend(self, stream: TcpStream, place: OwnedSemaphorePermit, peer: Peer) {
        let Some(kind) = self.shake_hands(stream).await else {
            return;
        };
        let stream = Stream {
            kind,
            _place: place,
        };
        let Self {
            app, bounds, stop, ..
        } = self;
        let asked = CancellationToken::new();
        let asks = asked.clone();
        let router = TowerToHyperService::new(app);
        let service = service_fn(move |mut request: Request<Incoming>| {
            asks.cancel();
            request.extensions_mut().insert(ConnectInfo(peer));
            router.call(request)
        });
        let mut http = http1::Builder::new();
        // hyper runs this clock from the end of an answer, not only from the first byte after it.
        http.timer(TokioTimer::new())
            .header_read_timeout(bounds.idle);
        let connection = http.serve_connection(TokioIo::new(stream), service);
        let mut connection = pin!(connection.with_upgrades());
        let silence = async {
            if timeout(bounds.first_request, asked.cancelled())
                .await
                .is_ok()
            {
                pending::<()>().await;
            }
        };
        let ended = tokio::select! {
            // A request that has just arrived comes before the end of the wait for it.
            biased;
            ended = connection.as_mut() => ended,
            () = silence => return,
            () = stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(peer = %peer.0, %error, "a connection broke off");
        }
    }

    /// The TLS handshake, where there is one; nothing when it fails.
    async fn shake_hands(&self, stream: TcpStream) -> Option<Kind> {
        let Some(acceptor) = &self.acceptor else {
            return Some(Kind::Plain(stream));
        };
        let shaking = timeout(limits::HANDSHAKE_TIMEOUT, acceptor.accept(stream));
        let shaken = tokio::select! {
            () = self.stop.cancelled() => return None,
            shaken = shaking => shaken,
        };
        let stream = shaken.ok()?.ok()?;
        Some(Kind::Tls(Box::new(stream)))
    }
}

/// A connection and its place among those allowed.
#[derive(Debug)]
struct Stream {
    kind: Kind,
    _place: OwnedSemaphorePermit,
}

#[derive(Debug)]
enum Kind {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.get_mut().kind {
            Kind::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Kind::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().kind {
            Kind::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Kind::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().kind {
            Kind::Plain(stream) => Pin::new(stream).poll_flush(context),
            Kind::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().kind {
            Kind::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Kind::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::extract::ws::{Message, WebSocketUpgrade};
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::Notify;
    use tokio::task::JoinHandle;
    use tokio::time::sleep;

    use super::*;

    /// Long enough on the busiest machine.
    const PATIENCE: Duration = Duration::from_secs(20);
    /// A bound under test.
    const SHORT: Duration = Duration::from_millis(200);
    /// A bound not under test.
    const LONG: Duration = Duration::from_secs(600);
    /// Longer than [`SHORT`] by far.
    const LATE: Duration = Duration::from_secs(1);
    const ROOMY: Bounds = Bounds {
        connections: 8,
        kept: 0,
        first_request: LONG,
        idle: LONG,
    };
    const ANSWERED: &str = "HTTP/1.1 200 OK\r\n";

    /// An interface on a port of its own.
    struct Open {
        address: SocketAddr,
        stop: CancellationToken,
        serving: JoinHandle<()>,
    }

    impl Open {
        async fn new(bounds: Bounds, app: Router) -> Self {
            let none = TlsFiles {
                certificate: &[],
                authority: &[],
                key: &[],
            };
            let free = SocketAddr::from(([127, 0, 0, 1], 0));
            let mut listening = Listening::bind(free, none).await.expect("a free port");
            listening.bounds = bounds;
            let address = listening.listener.local_addr().expect("bound");
            let stop = CancellationToken::new();
            let serving = tokio::spawn(listening.serve(app, stop.clone()));
            Self {
                address,
                stop,
                serving,
            }
        }

        async fn client(&self) -> TcpStream {
            TcpStream::connect(self.address).await.expect("accepted")
        }
    }

    /// Says who asks.
    fn app() -> Router {
        let who = |ConnectInfo(peer): ConnectInfo<Peer>| async move { peer.0.to_string() };
        Router::new().route("/", get(who))
    }

    /// Asks and reads the beginning of the answer; empty where the connection is closed.
    async fn ask(stream: &mut TcpStream) -> String {
        let _ = stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
        let mut answer = [0; 1_024];
        let read = timeout(PATIENCE, stream.read(&mut answer)).await;
        let length = read.expect("answered or closed").unwrap_or(0);
        String::from_utf8_lossy(&answer[..length]).into_owned()
    }

    /// What comes until the other side closes, in good order or not.
    async fn rest(stream: &mut TcpStream) -> String {
        let mut heard = Vec::new();
        let read = timeout(PATIENCE, stream.read_to_end(&mut heard)).await;
        let _ = read.expect("closed in time");
        String::from_utf8_lossy(&heard).into_owned()
    }

    #[tokio::test]
    async fn who_asks_for_nothing_is_cut_off() {
        let bounds = Bounds {
            first_request: SHORT,
            ..ROOMY
        };
        let open = Open::new(bounds, app()).await;
        for begun in ["", "GET / HTTP/1.1\r\nHost:"] {
            let mut client = open.client().await;
            client.write_all(begun.as_bytes()).await.expect("sent");
            assert_eq!(rest(&mut client).await, "", "after {begun:?}");
        }
    }

    #[tokio::test]
    async fn who_asked_once_is_cut_off_when_idle_but_not_before() {
        let bounds = Bounds {
            first_request: SHORT,
            idle: LATE,
            ..ROOMY
        };
        let open = Open::new(bounds, app()).await;
        let mut client = open.client().await;
        let own = client.local_addr().expect("connected").to_string();
        let answer = ask(&mut client).await;
        assert!(answer.starts_with(ANSWERED), "{answer}");
        let answered = Instant::now();
        let whole = answer + &rest(&mut client).await;
        assert!(whole.ends_with(&own), "{whole}");
        assert!(answered.elapsed() > SHORT * 2, "by the bound of the first");
    }

    #[tokio::test]
    async fn a_websocket_outlives_the_bounds_of_requests_and_keeps_its_place() {
        let bounds = Bounds {
            connections: 1,
            first_request: SHORT,
            idle: SHORT,
            ..ROOMY
        };
        let go = Arc::new(Notify::new());
        let wait = Arc::clone(&go);
        let late = move |upgrade: WebSocketUpgrade| async move {
            upgrade.on_upgrade(move |mut socket| async move {
                wait.notified().await;
                let _ = socket.send(Message::text("late")).await;
            })
        };
        let open = Open::new(bounds, app().route("/late", get(late))).await;
        let mut reader = open.client().await;
        let upgrade = "GET /late HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        reader.write_all(upgrade.as_bytes()).await.expect("sent");
        let mut switched = [0; 12];
        let reading = reader.read_exact(&mut switched);
        let read = timeout(PATIENCE, reading).await.expect("answered");
        read.expect("read");
        assert_eq!(&switched, b"HTTP/1.1 101");
        assert_eq!(rest(&mut open.client().await).await, "", "no place is free");
        sleep(LATE).await;
        go.notify_one();
        let heard = rest(&mut reader).await;
        assert!(heard.ends_with("late"), "{heard}");
    }

    #[tokio::test]
    async fn a_full_house_closes_the_next_and_serves_again_when_one_leaves() {
        let bounds = Bounds {
            connections: 1,
            ..ROOMY
        };
        let open = Open::new(bounds, app()).await;
        let mut first = open.client().await;
        assert!(ask(&mut first).await.starts_with(ANSWERED));
        for _ in 0..3 {
            assert_eq!(rest(&mut open.client().await).await, "");
        }
        assert!(ask(&mut first).await.starts_with(ANSWERED));
        drop(first);
        let again = async {
            while !ask(&mut open.client().await).await.starts_with(ANSWERED) {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(PATIENCE, again).await.expect("served again");
    }

    #[tokio::test]
    async fn places_are_kept_for_clients_on_this_machine() {
        let bounds = Bounds {
            connections: 0,
            kept: 1,
            ..ROOMY
        };
        let open = Open::new(bounds, app()).await;
        let mut first = open.client().await;
        assert!(ask(&mut first).await.starts_with(ANSWERED));
        assert_eq!(rest(&mut open.client().await).await, "");
    }

    #[tokio::test]
    async fn the_end_waits_for_the_answer_and_not_for_the_idle() {
        let (begun, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (tell, wait) = (Arc::clone(&begun), Arc::clone(&go));
        let slow = move || async move {
            tell.notify_one();
            wait.notified().await;
            "done"
        };
        let open = Open::new(ROOMY, app().route("/slow", get(slow))).await;
        let (mut silent, mut idle, mut busy) = (
            open.client().await,
            open.client().await,
            open.client().await,
        );
        assert!(ask(&mut idle).await.starts_with(ANSWERED));
        let slowly = b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n";
        busy.write_all(slowly).await.expect("sent");
        timeout(PATIENCE, begun.notified()).await.expect("begun");
        open.stop.cancel();
        rest(&mut silent).await;
        rest(&mut idle).await;
        assert!(!open.serving.is_finished(), "a request is not answered yet");
        go.notify_one();
        let answer = rest(&mut busy).await;
        assert!(answer.starts_with(ANSWERED), "{answer}");
        assert!(answer.ends_with("done"), "{answer}");
        let ended = timeout(PATIENCE, open.serving).await.expect("ended");
        ended.expect("in good order");
    }

    #[tokio::test]
    async fn the_system_watches_accepted_sockets() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let _client = TcpStream::connect(address).await.expect("connected");
        let (stream, _) = listener.accept().await.expect("accepted");
        watch(&stream).expect("set");
        let socket = SockRef::from(&stream);
        assert!(socket.keepalive().expect("read"));
        let after = socket.tcp_keepalive_time().expect("read");
        let interval = socket.tcp_keepalive_interval().expect("read");
        let probes = socket.tcp_keepalive_retries().expect("read");
        assert_eq!(after, limits::PROBE_AFTER);
        assert_eq!(interval, limits::PROBE_INTERVAL);
        assert_eq!(probes, limits::PROBES);
        let untaken = socket.tcp_user_timeout().expect("read");
        assert_eq!(untaken, Some(after + interval * probes));
    }
}
