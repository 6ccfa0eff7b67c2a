//! The death watch: a plain TCP connection between every pair on the cluster port.
//!
//! The kernel of a dead process's host closes its connections and refuses new ones; no
//! other fault does both. So: end of stream or reset, and then an immediate reconnect
//! that is refused or greeted by another life, is certain death. Anything else (silence,
//! a reconnect that hangs) is suspicion. The greeting is not secret and proves nothing
//! about identity; it only tells lives apart.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use strowger_core::ports::{IncarnationNumber, NodeNumber};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::Peers;
use crate::error::OpenError;
use crate::identity::ClusterId;
use crate::limits;
use crate::transport::{Transport, refused_pause, resolve};

const MAGIC: [u8; 8] = *b"SWdeath1";
const GREETING: usize = 40;

/// Between two tries of one probe.
const PROBE_PAUSE: Duration = Duration::from_millis(1);

/// Says who speaks: magic, cluster, node, life; big endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Greeting {
    /// The cluster.
    pub cluster: ClusterId,
    /// The node.
    pub node: NodeNumber,
    /// Its life.
    pub incarnation: IncarnationNumber,
}

impl Greeting {
    fn encode(self) -> [u8; GREETING] {
        let mut bytes = [0; GREETING];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..24].copy_from_slice(&self.cluster.0);
        bytes[24..32].copy_from_slice(&self.node.to_be_bytes());
        bytes[32..].copy_from_slice(&self.incarnation.to_be_bytes());
        bytes
    }

    fn decode(bytes: &[u8; GREETING]) -> Option<Self> {
        let (magic, rest) = bytes.split_first_chunk::<8>()?;
        let (cluster, rest) = rest.split_first_chunk::<16>()?;
        let (node, rest) = rest.split_first_chunk::<8>()?;
        let (incarnation, _) = rest.split_first_chunk::<8>()?;
        (*magic == MAGIC).then(|| Self {
            cluster: ClusterId(*cluster),
            node: u64::from_be_bytes(*node),
            incarnation: u64::from_be_bytes(*incarnation),
        })
    }
}

/// Binds the TCP side of the cluster port. The standard library sets `SO_REUSEADDR` and
/// close-on-exec, so a child process never keeps a dead node's port open.
///
/// # Errors
/// [`OpenError::Bind`].
pub fn bind(address: SocketAddr) -> Result<std::net::TcpListener, OpenError> {
    let bound = std::net::TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    bound.map_err(|source| OpenError::Bind { address, source })
}

/// Answers watchers for as long as the process lives.
pub async fn answer(listener: std::net::TcpListener, ours: Greeting, stop: CancellationToken) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "the death watch cannot listen"),
    };
    // Also bounds what strangers can hold open.
    let places = Arc::new(tokio::sync::Semaphore::new(2 * limits::MEMBERS_MAX));
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else {
            // Out of descriptors, most likely; the next moment may have one.
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            continue;
        };
        let stop = stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                _ = hold(stream, ours) => {}
            }
            drop(place);
        });
    }
}

/// Greets and then holds the connection until the watcher ends it.
async fn hold(mut stream: TcpStream, ours: Greeting) -> io::Result<()> {
    prepare(&stream)?;
    let _theirs = tokio::time::timeout(Duration::from_secs(2), read(&mut stream)).await??;
    stream.write_all(&ours.encode()).await?;
    let mut byte = [0];
    while stream.read(&mut byte).await? > 0 {}
    Ok(())
}

/// Neither end says anything after the greetings: a host that was cut off or has lost its power
/// would be waited for for ever, and what runs there afterwards would not be watched.
fn prepare(stream: &TcpStream) -> io::Result<()> {
    let keepalive = TcpKeepalive::new()
        .with_time(limits::WATCH_IDLE)
        .with_interval(limits::WATCH_INTERVAL)
        .with_retries(limits::WATCH_RETRIES);
    SockRef::from(stream).set_tcp_keepalive(&keepalive)?;
    stream.set_nodelay(true)
}

async fn read(stream: &mut TcpStream) -> io::Result<Greeting> {
    let mut bytes = [0; GREETING];
    stream.read_exact(&mut bytes).await?;
    Greeting::decode(&bytes).ok_or_else(|| io::Error::other("not a greeting of the death watch"))
}

async fn greet(address: SocketAddr, ours: Greeting) -> io::Result<(TcpStream, Greeting)> {
    let mut stream = TcpStream::connect(address).await?;
    prepare(&stream)?;
    stream.write_all(&ours.encode()).await?;
    let theirs = read(&mut stream).await?;
    Ok((stream, theirs))
}

/// What a watcher needs.
#[derive(Clone)]
pub struct Watcher {
    /// Who we are.
    pub ours: Greeting,
    /// Where peers are.
    pub transport: Arc<Transport>,
    /// Where findings go.
    pub peers: Arc<Peers>,
    /// Told of certain deaths.
    pub deaths: tokio::sync::mpsc::Sender<NodeNumber>,
}

/// What a dial found.
enum Found {
    /// The node, in this life.
    Node(SocketAddr, TcpStream, IncarnationNumber),
    /// Somebody of another cluster or number.
    Stranger,
    /// Nobody, or no answer.
    Nobody,
}

enum Probe {
    /// The same life answers.
    Same(TcpStream),
    /// Nobody listens there, or another life does.
    Gone,
    /// Cannot tell.
    Unclear,
}

impl Watcher {
    /// Watches `node` until `stop`.
    pub async fn watch(self, node: NodeNumber, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.run(node) => {}
        }
    }

    async fn run(&self, node: NodeNumber) {
        let mut strangers = 0_u32;
        loop {
            let (address, stream, life) = match self.find(node).await {
                Found::Node(address, stream, life) => (address, stream, life),
                Found::Nobody => {
                    strangers = 0;
                    self.peers.suspect(node);
                    tokio::time::sleep(limits::DEATH_REDIAL).await;
                    continue;
                }
                Found::Stranger => {
                    strangers = strangers.saturating_add(1);
                    self.peers.suspect(node);
                    tokio::time::sleep(refused_pause(strangers)).await;
                    continue;
                }
            };
            strangers = 0;
            self.transport.found(node);
            self.peers.alive(node, life);
            self.peers.watching(node, true);
            self.follow(node, address, stream, life).await;
            self.peers.watching(node, false);
        }
    }

    /// Dials `node` wherever it is now.
    async fn find(&self, node: NodeNumber) -> Found {
        let dial = async {
            let address = resolve(&self.transport.address(node)?).await.ok()?;
            let dial = tokio::time::timeout(limits::DIAL_TIMEOUT, greet(address, self.ours));
            let (stream, theirs) = dial.await.ok()?.ok()?;
            Some((address, stream, theirs))
        };
        match dial.await {
            Some((address, stream, theirs))
                if (theirs.cluster, theirs.node) == (self.ours.cluster, node) =>
            {
                Found::Node(address, stream, theirs.incarnation)
            }
            Some(_) => Found::Stranger,
            None => Found::Nobody,
        }
    }

    /// Holds the connection to one life of `node` until it is dead or out of reach.
    async fn follow(&self, node: NodeNumber, address: SocketAddr, stream: TcpStream, life: u64) {
        let mut stream = stream;
        loop {
            let mut byte = [0];
            // The peer never sends more; what ends this wait is the end of the stream.
            while matches!(stream.read(&mut byte).await, Ok(1..)) {}
            match self.probe(node, address, life).await {
                Probe::Same(again) => stream = again,
                Probe::Gone => {
                    tracing::warn!(node, life, "a node has surely died");
                    self.transport.drop_connection(node);
                    self.peers.certainly_dead(node, life);
                    // A full queue holds deaths nobody has handled yet; one more adds nothing.
                    let _ = self.deaths.try_send(node);
                    return;
                }
                Probe::Unclear => {
                    self.peers.suspect(node);
                    return;
                }
            }
        }
    }

    /// Reconnects until the answer is clear. A dying process closes its connections
    /// before its listener, so a reset proves nothing: the next try will.
    async fn probe(&self, node: NodeNumber, address: SocketAddr, life: u64) -> Probe {
        let ask = async {
            loop {
                match greet(address, self.ours).await {
                    Ok((stream, theirs))
                        if (theirs.cluster, theirs.node) == (self.ours.cluster, node) =>
                    {
                        let same = theirs.incarnation == life;
                        return if same {
                            Probe::Same(stream)
                        } else {
                            Probe::Gone
                        };
                    }
                    Ok(_) => return Probe::Unclear,
                    Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                        return Probe::Gone;
                    }
                    Err(_) => tokio::time::sleep(PROBE_PAUSE).await,
                }
            }
        };
        let asked = tokio::time::timeout(limits::DEATH_PROBE_TIMEOUT, ask).await;
        asked.unwrap_or(Probe::Unclear)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_greeting_is_read_back_and_noise_is_not() {
        let greeting = Greeting {
            cluster: ClusterId([9; 16]),
            node: 3,
            incarnation: 7,
        };
        let mut bytes = greeting.encode();
        assert_eq!(Greeting::decode(&bytes), Some(greeting));
        bytes[0] ^= 1;
        assert_eq!(Greeting::decode(&bytes), None);
    }
}
