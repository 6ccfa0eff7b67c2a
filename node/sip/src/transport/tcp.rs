//! TCP listeners and connections, accepted and made by us.
//!
//! A connection is one task that reads, parses and hands on, and one that writes from a bounded
//! queue. A peer that reads too slowly loses messages, not our memory.

use super::framer::{Frame, Framer};
use super::{BindError, Flow, Protocol, Receiver, Sent, Transport};
use crate::limits;
use crate::message::{self, Message, Method};
use crate::stats::Drop;
use crate::transaction::next_hop;
use bytes::Bytes;
use parking_lot::Mutex;
use socket2::{Domain, Socket, Type};
use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

struct Connection {
    local: SocketAddr,
    remote: SocketAddr,
    writer: mpsc::Sender<Bytes>,
    task: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Table {
    locals: HashSet<SocketAddr>,
    by_id: HashMap<u64, Connection>,
    by_peer: HashMap<(SocketAddr, SocketAddr), u64>,
    per_source: HashMap<IpAddr, usize>,
    next_id: u64,
}

/// The TCP connections of one endpoint.
pub(super) struct Connections {
    table: Mutex<Table>,
}

impl Connections {
    pub(super) fn new() -> Self {
        // Ids start anywhere, so that a flow another process wrote down never names one of ours.
        let table = Table {
            next_id: rand::random::<u64>() >> 1,
            ..Table::default()
        };
        Self {
            table: Mutex::new(table),
        }
    }

    pub(super) fn add_local(&self, address: SocketAddr) {
        self.table.lock().locals.insert(address);
    }

    /// Forgets an address; returns the tasks of its connections.
    pub(super) fn remove_local(&self, ip: IpAddr) -> Vec<JoinHandle<()>> {
        let mut table = self.table.lock();
        table.locals.retain(|address| address.ip() != ip);
        let ids: Vec<u64> = table
            .by_id
            .iter()
            .filter(|(_, connection)| connection.local.ip() == ip)
            .map(|(id, _)| *id)
            .collect();
        ids.into_iter()
            .filter_map(|id| table.remove(id).and_then(|connection| connection.task))
            .collect()
    }
}

impl Table {
    /// Room for one more connection of this peer?
    fn has_room(&self, source: IpAddr, trusted: bool) -> bool {
        let of_source = self.per_source.get(&source).copied().unwrap_or(0);
        self.by_id.len() < limits::CONNECTIONS_MAX
            && (trusted || of_source < limits::CONNECTIONS_PER_SOURCE_MAX)
    }

    fn insert(
        &mut self,
        local: SocketAddr,
        remote: SocketAddr,
        writer: mpsc::Sender<Bytes>,
    ) -> u64 {
        self.next_id += 1;
        let id = self.next_id;
        *self.per_source.entry(remote.ip()).or_default() += 1;
        self.by_peer.insert((local, remote), id);
        let connection = Connection {
            local,
            remote,
            writer,
            task: None,
        };
        self.by_id.insert(id, connection);
        id
    }

    fn remove(&mut self, id: u64) -> Option<Connection> {
        let connection = self.by_id.remove(&id)?;
        let peer = (connection.local, connection.remote);
        if self.by_peer.get(&peer) == Some(&id) {
            self.by_peer.remove(&peer);
        }
        if let Some(count) = self.per_source.get_mut(&connection.remote.ip()) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.per_source.remove(&connection.remote.ip());
            }
        }
        Some(connection)
    }
}

pub(super) fn listen(address: SocketAddr) -> Result<(SocketAddr, TcpListener), BindError> {
    let system = |source| BindError::System {
        protocol: "TCP",
        address,
        source,
    };
    let open = || {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(1024)?;
        let listener = TcpListener::from_std(socket.into())?;
        Ok((listener.local_addr()?, listener))
    };
    open().map_err(system)
}

pub(super) async fn accept(
    transport: Arc<Transport>,
    receiver: Arc<dyn Receiver>,
    listener: TcpListener,
    local: SocketAddr,
) {
    loop {
        let Ok((stream, remote)) = listener.accept().await else {
            // Out of descriptors, mostly: give the system a moment instead of spinning.
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            continue;
        };
        let trusted = transport.guard.trusts(remote.ip());
        let mut table = transport.tcp.table.lock();
        if !table.has_room(remote.ip(), trusted) || !table.locals.contains(&local) {
            transport.stats.dropped(Drop::ConnectionLimit);
            continue;
        }
        let (writer, queue) = mpsc::channel(limits::WRITE_QUEUE_MAX);
        let id = table.insert(local, remote, writer);
        let flow = flow_of(local, remote, id);
        let task = serve(
            Arc::clone(&transport),
            Arc::clone(&receiver),
            flow,
            stream,
            queue,
        );
        let task = tokio::spawn(task);
        if let Some(connection) = table.by_id.get_mut(&id) {
            connection.task = Some(task);
        }
    }
}

fn flow_of(local: SocketAddr, remote: SocketAddr, id: u64) -> Flow {
    Flow {
        protocol: Protocol::Tcp,
        local,
        remote,
        connection: Some(id),
    }
}

/// Queues bytes on the flow's connection, or on one to the same peer, or on a new one.
pub(super) fn send(
    transport: &Arc<Transport>,
    receiver: &Arc<dyn Receiver>,
    flow: &Flow,
    bytes: &Bytes,
) -> Sent {
    let mut table = transport.tcp.table.lock();
    if !table.locals.contains(&flow.local) {
        return Sent::Elsewhere;
    }
    let known = flow
        .connection
        .filter(|id| table.by_id.contains_key(id))
        .or_else(|| table.by_peer.get(&(flow.local, flow.remote)).copied());
    let id = match known {
        Some(id) => id,
        None => {
            let trusted = transport.guard.trusts(flow.remote.ip());
            if !table.has_room(flow.remote.ip(), trusted) {
                transport.stats.dropped(Drop::ConnectionLimit);
                return Sent::Dropped;
            }
            let (writer, queue) = mpsc::channel(limits::WRITE_QUEUE_MAX);
            let id = table.insert(flow.local, flow.remote, writer);
            let flow = flow_of(flow.local, flow.remote, id);
            let task = connect(Arc::clone(transport), Arc::clone(receiver), flow, queue);
            let task = tokio::spawn(task);
            if let Some(connection) = table.by_id.get_mut(&id) {
                connection.task = Some(task);
            }
            id
        }
    };
    let Some(connection) = table.by_id.get(&id) else {
        return Sent::Dropped;
    };
    if connection.writer.try_send(bytes.clone()).is_err() {
        transport.stats.dropped(Drop::WriteQueueFull);
        return Sent::Dropped;
    }
    transport.stats.sent();
    Sent::Yes
}

async fn connect(
    transport: Arc<Transport>,
    receiver: Arc<dyn Receiver>,
    flow: Flow,
    queue: mpsc::Receiver<Bytes>,
) {
    let open = async {
        let socket = if flow.local.is_ipv4() {
            TcpSocket::new_v4()?
        } else {
            TcpSocket::new_v6()?
        };
        // The peer must see the service address; the port is any.
        socket.bind(SocketAddr::new(flow.local.ip(), 0))?;
        socket.connect(flow.remote).await
    };
    match tokio::time::timeout(limits::CONNECT_TIME_MAX, open).await {
        Ok(Ok(stream)) => serve(transport, receiver, flow, stream, queue).await,
        _ => {
            transport.stats.dropped(Drop::ConnectionFailed);
            // Nothing more is queued once the connection is forgotten.
            forget(&transport, &flow);
            undelivered(&transport, &receiver, flow, queue);
        }
    }
}

/// What cannot reach its peer at the port a connection once came from, which is gone, is sent to
/// the port the request itself says: never to another host, which the peer could name at will.
/// Requests that cannot get there either are answered with 503 in the peer's place (RFC 3261
/// §8.1.3.1), so that nobody waits 64·T1 for what is known already. The sender may be on another
/// node; the answer takes the way a peer's would.
fn undelivered(
    transport: &Arc<Transport>,
    receiver: &Arc<dyn Receiver>,
    flow: Flow,
    mut queue: mpsc::Receiver<Bytes>,
) {
    queue.close();
    while let Ok(bytes) = queue.try_recv() {
        if transport.is_quiet() {
            // Whoever has the call by now says what is to be said.
            transport.stats.dropped(Drop::Quiet);
            continue;
        }
        let Ok(Message::Request(request)) = message::parse(&bytes) else {
            continue;
        };
        let listens = |hop: &SocketAddr| hop.ip() == flow.remote.ip() && *hop != flow.remote;
        let said = next_hop(&request).filter(listens);
        let sent = said.map(|hop| send(transport, receiver, &Flow::tcp(flow.local, hop), &bytes));
        if sent != Some(Sent::Yes) && request.method != Method::Ack {
            let response = message::response_to(&request, 503, "Service Unavailable", None);
            receiver.received(&response.to_bytes(), flow);
        }
    }
}

fn forget(transport: &Transport, flow: &Flow) {
    if let Some(id) = flow.connection {
        transport.tcp.table.lock().remove(id);
    }
}

async fn serve(
    transport: Arc<Transport>,
    receiver: Arc<dyn Receiver>,
    flow: Flow,
    stream: TcpStream,
    queue: mpsc::Receiver<Bytes>,
) {
    // Small messages must not wait for each other; failing to say so only costs latency.
    let _ = stream.set_nodelay(true);
    let (reader, writer) = stream.into_split();
    let mut writing = std::pin::pin!(write(writer, queue));
    let reading = async {
        let broken = read(&transport, &receiver, flow, reader).await;
        if broken {
            // What came before the break is being answered still.
            tokio::time::sleep(limits::BROKEN_LINGER).await;
        }
    };
    tokio::select! {
        () = reading => {
            // With the connection forgotten nothing more is queued; what is, still leaves.
            forget(&transport, &flow);
            let _ = tokio::time::timeout(limits::FLUSH_TIME_MAX, writing).await;
        }
        () = &mut writing => forget(&transport, &flow),
    }
}

async fn write(mut writer: OwnedWriteHalf, mut queue: mpsc::Receiver<Bytes>) {
    while let Some(bytes) = queue.recv().await {
        if writer.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

/// Reads until the peer closes; true when the stream cannot be framed any more.
async fn read(
    transport: &Arc<Transport>,
    receiver: &Arc<dyn Receiver>,
    flow: Flow,
    mut reader: OwnedReadHalf,
) -> bool {
    let mut framer = Framer::new();
    let mut chunk = vec![0_u8; 8_192];
    let mut first = true;
    let mut started = Instant::now();
    loop {
        let patience = if first || framer.is_partial() {
            limits::FRAME_TIME_MAX.saturating_sub(started.elapsed())
        } else {
            limits::CONNECTION_IDLE_MAX
        };
        let length = match tokio::time::timeout(patience, reader.read(&mut chunk)).await {
            Ok(Ok(length)) if length > 0 => length,
            _ => return false,
        };
        if !framer.is_partial() {
            started = Instant::now();
        }
        framer.push(chunk.get(..length).unwrap_or_default());
        loop {
            match framer.next_frame() {
                Ok(Some(Frame::Message(bytes))) => {
                    first = false;
                    started = Instant::now();
                    if transport.guard.admit(flow.remote.ip(), started, &bytes) {
                        transport.stats.received();
                        receiver.received(&bytes, flow);
                    } else {
                        transport.stats.dropped(Drop::RateLimited);
                    }
                }
                Ok(Some(Frame::Ping)) => {
                    first = false;
                    send(transport, receiver, &flow, &Bytes::from_static(b"\r\n"));
                }
                Ok(None) => break,
                Err(_) => {
                    transport.stats.dropped(Drop::BadFrame);
                    return true;
                }
            }
        }
        tokio::task::yield_now().await;
    }
}
