//! The listening socket: plain on loopback, TLS elsewhere, handshakes beside each other
//! and bounded in time, connections bounded in number.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

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

impl Connected<IncomingStream<'_, Listening>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Listening>) -> Self {
        Self(*stream.remote_addr())
    }
}

/// Connections ready to be served.
#[derive(Debug)]
pub struct Listening {
    local: SocketAddr,
    ready: mpsc::Receiver<(Stream, SocketAddr)>,
}

impl Listening {
    /// Binds `address` and begins to accept, until `stop`.
    ///
    /// # Errors
    /// [`ListenError`].
    pub async fn bind(
        address: SocketAddr,
        tls: TlsFiles<'_>,
        stop: CancellationToken,
    ) -> Result<Self, ListenError> {
        let acceptor = if address.ip().is_loopback() {
            None
        } else {
            Some(acceptor(tls)?)
        };
        let bound = TcpListener::bind(address).await;
        let listener = bound.map_err(|source| ListenError::Bind { address, source })?;
        let local = listener
            .local_addr()
            .map_err(|source| ListenError::Bind { address, source })?;
        let (give, ready) = mpsc::channel(64);
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = accept(listener, acceptor, give) => {}
            }
        });
        Ok(Self { local, ready })
    }
}

impl Listener for Listening {
    type Io = Stream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Stream, SocketAddr) {
        match self.ready.recv().await {
            Some(connection) => connection,
            // The node ends; the server is told by its own signal.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.local)
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

async fn accept(
    listener: TcpListener,
    acceptor: Option<TlsAcceptor>,
    give: mpsc::Sender<(Stream, SocketAddr)>,
) {
    let places = Arc::new(Semaphore::new(limits::CONNECTIONS_MAX));
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, most likely: give others time to close some.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                continue;
            }
        };
        let _ = stream.set_nodelay(true);
        let (acceptor, give) = (acceptor.clone(), give.clone());
        tokio::spawn(async move {
            let kind = match acceptor {
                None => Kind::Plain(stream),
                Some(acceptor) => {
                    let shaking = acceptor.accept(stream);
                    match tokio::time::timeout(limits::HANDSHAKE_TIMEOUT, shaking).await {
                        Ok(Ok(stream)) => Kind::Tls(Box::new(stream)),
                        Ok(Err(_)) | Err(_) => return,
                    }
                }
            };
            let _ = give
                .send((
                    Stream {
                        kind,
                        _place: place,
                    },
                    peer,
                ))
                .await;
        });
    }
}

/// A connection and its place among those allowed.
#[derive(Debug)]
pub struct Stream {
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
