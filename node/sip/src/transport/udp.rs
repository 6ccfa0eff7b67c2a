//! UDP sockets: open, and the receiving task.
//!
//! Datagrams are read in batches of a bounded size into one buffer and handed on synchronously;
//! there is no task and no queue per message.

use super::{BindError, Flow, Receiver, SOCKET_BUFFER_BYTES, Transport};
use crate::limits;
use crate::stats::Drop;
use socket2::{Domain, Socket, Type};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;
use tokio::net::UdpSocket;

pub(super) fn open(address: SocketAddr) -> Result<(SocketAddr, Arc<UdpSocket>), BindError> {
    let system = |source| BindError::System {
        protocol: "UDP",
        address,
        source,
    };
    let open = || {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, None)?;
        // A survivor takes an address over while a stopped process may still hold it.
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        // The system caps these silently; a smaller buffer only loses more under overload.
        socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES)?;
        socket.set_send_buffer_size(SOCKET_BUFFER_BYTES)?;
        socket.bind(&address.into())?;
        let socket = UdpSocket::from_std(socket.into())?;
        Ok((socket.local_addr()?, Arc::new(socket)))
    };
    open().map_err(system)
}

pub(super) async fn run(
    transport: Arc<Transport>,
    receiver: Arc<dyn Receiver>,
    socket: Arc<UdpSocket>,
    local: SocketAddr,
) {
    let mut buffer = vec![0_u8; limits::MESSAGE_BYTES_MAX + 1];
    loop {
        if socket.readable().await.is_err() {
            return;
        }
        let now = Instant::now();
        for _ in 0..limits::RECEIVE_BATCH_MAX {
            // An ICMP error of an earlier send shows up here as an error: it ends the batch only.
            let Ok((length, remote)) = socket.try_recv_from(&mut buffer) else {
                break;
            };
            let bytes = buffer.get(..length).unwrap_or_default();
            if !transport.guard.admit(remote.ip(), now, bytes) {
                transport.stats.dropped(Drop::RateLimited);
                continue;
            }
            // Keep-alives of NATed phones: CRLF, or a few zero bytes.
            if bytes.iter().all(|b| matches!(b, b'\r' | b'\n' | 0 | b' ')) {
                continue;
            }
            transport.stats.received();
            receiver.received(bytes, Flow::udp(local, remote));
        }
        tokio::task::yield_now().await;
    }
}
