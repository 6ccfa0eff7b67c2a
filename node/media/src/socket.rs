//! System calls for batches of datagrams, polling and waking. The only unsafe code we have.
//!
//! Each unsafe block is one call whose pointers lead into memory owned by the structure at
//! hand and alive during the call. Nothing here knows RTP.

#![allow(unsafe_code)]

use std::io;
use std::mem::{self, MaybeUninit};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, Socket, Type};

use crate::error::OpenError;
use crate::limits;

/// DSCP EF for voice (RFC 4594 §4.1), as the TOS byte.
const TOS_VOICE: u32 = 0xb8;

/// The two sockets of a leg.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) rtp: UdpSocket,
    pub(crate) rtcp: UdpSocket,
}

/// A socket that could not be bound.
#[derive(Debug)]
pub(crate) struct BindFailure {
    address: SocketAddr,
    source: io::Error,
}

impl BindFailure {
    /// Another process has the port; the next may be free.
    pub(crate) fn occupied(&self) -> bool {
        self.source.kind() == io::ErrorKind::AddrInUse
    }
}

impl From<BindFailure> for OpenError {
    fn from(failure: BindFailure) -> Self {
        Self::Bind {
            address: failure.address,
            source: failure.source,
        }
    }
}

/// Binds an even port and its neighbour, non-blocking and without address sharing, so that two
/// legs can never get the same port.
pub(crate) fn bind_pair(local: IpAddr, port: u16) -> Result<Pair, BindFailure> {
    Ok(Pair {
        rtp: bind(local, port)?,
        rtcp: bind(local, port.saturating_add(1))?,
    })
}

fn bind(local: IpAddr, port: u16) -> Result<UdpSocket, BindFailure> {
    let address = SocketAddr::new(local, port);
    let open = || {
        let socket = Socket::new(
            Domain::for_address(address),
            Type::DGRAM,
            Some(Protocol::UDP),
        )?;
        socket.set_nonblocking(true)?;
        if address.is_ipv4() {
            // A marking only: where it is not permitted, audio works without.
            let _ = socket.set_tos_v4(TOS_VOICE);
        }
        stamp_arrivals(&socket)?;
        socket.bind(&address.into())?;
        Ok(socket.into())
    };
    open().map_err(|source| BindFailure { address, source })
}

/// Has the kernel say of each datagram when it came.
fn stamp_arrivals(socket: &Socket) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: reads one integer that lives during the call, of the length said.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_TIMESTAMPNS,
            ptr::from_ref(&on).cast(),
            mem::size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if set == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// What the kernel says beside a datagram: the time of its arrival.
#[derive(Clone, Copy)]
#[repr(C)]
struct Aside {
    header: libc::cmsghdr,
    stamp: libc::timespec,
}

/// Reads several datagrams with one call.
pub(crate) struct ReceiveBatch {
    buffers: Box<[[u8; limits::DATAGRAM_MAX]; limits::BATCH]>,
    names: Box<[libc::sockaddr_storage; limits::BATCH]>,
    asides: Box<[Aside; limits::BATCH]>,
    lengths: [usize; limits::BATCH],
    sources: [Option<SocketAddr>; limits::BATCH],
    ages: [Duration; limits::BATCH],
}

impl ReceiveBatch {
    pub(crate) fn new() -> Self {
        // SAFETY: sockaddr_storage is plain old data for which all zeroes is a valid value.
        let name: libc::sockaddr_storage = unsafe { mem::zeroed() };
        // SAFETY: so is this, a header and a time of the kernel's.
        let aside: Aside = unsafe { mem::zeroed() };
        Self {
            buffers: Box::new([[0; limits::DATAGRAM_MAX]; limits::BATCH]),
            names: Box::new([name; limits::BATCH]),
            asides: Box::new([aside; limits::BATCH]),
            lengths: [0; limits::BATCH],
            sources: [None; limits::BATCH],
            ages: [Duration::ZERO; limits::BATCH],
        }
    }

    /// Reads what is there; returns the number of datagrams, 0 when there is none. A datagram
    /// longer than the buffer is reported with length 0 and so counts as malformed.
    pub(crate) fn receive(&mut self, socket: &UdpSocket) -> usize {
        let mut vectors: [MaybeUninit<libc::iovec>; limits::BATCH] =
            [const { MaybeUninit::uninit() }; limits::BATCH];
        let mut headers: [MaybeUninit<libc::mmsghdr>; limits::BATCH] =
            [const { MaybeUninit::uninit() }; limits::BATCH];
        for ((((vector, header), buffer), name), aside) in vectors
            .iter_mut()
            .zip(headers.iter_mut())
            .zip(self.buffers.iter_mut())
            .zip(self.names.iter_mut())
            .zip(self.asides.iter_mut())
        {
            let vector = vector.write(libc::iovec {
                iov_base: buffer.as_mut_ptr().cast(),
                iov_len: limits::DATAGRAM_MAX,
            });
            let header = header.write(header_of(
                vector,
                name,
                mem::size_of::<libc::sockaddr_storage>(),
            ));
            header.msg_hdr.msg_control = ptr::from_mut(aside).cast();
            header.msg_hdr.msg_controllen = mem::size_of::<Aside>() as _;
        }
        // SAFETY: `headers` holds BATCH initialised headers; each points at a vector, a buffer,
        // a name and room for what comes beside it that live in this frame or in `self` and are not otherwise borrowed.
        let count = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr().cast(),
                limits::BATCH as libc::c_uint,
                libc::MSG_DONTWAIT as _,
                ptr::null_mut(),
            )
        };
        let count = usize::try_from(count).unwrap_or(0).min(limits::BATCH);
        let now = if count > 0 {
            wall_clock()
        } else {
            Duration::ZERO
        };
        for (index, header) in headers.iter().enumerate().take(count) {
            // SAFETY: every header was initialised above.
            let header = unsafe { header.assume_init_ref() };
            let truncated = header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0;
            let length = usize::try_from(header.msg_len).unwrap_or(0);
            self.lengths[index] = if truncated {
                0
            } else {
                length.min(limits::DATAGRAM_MAX)
            };
            self.sources[index] = address_of(&self.names[index]);
            let stamped = header.msg_hdr.msg_controllen >= mem::size_of::<Aside>();
            let came = stamped.then(|| arrival(&self.asides[index])).flatten();
            self.ages[index] = came.map_or(Duration::ZERO, |came| now.saturating_sub(came));
        }
        count
    }

    /// The datagrams of the last `receive`.
    pub(crate) fn datagrams(&self, count: usize) -> impl Iterator<Item = (&[u8], SocketAddr)> {
        self.aged(count).map(|(bytes, source, _)| (bytes, source))
    }

    /// The same with how long each has waited to be read.
    pub(crate) fn aged(&self, count: usize) -> impl Iterator<Item = (&[u8], SocketAddr, Duration)> {
        let parts = self
            .buffers
            .iter()
            .zip(&self.lengths)
            .zip(&self.sources)
            .zip(&self.ages)
            .take(count);
        parts.filter_map(|(((buffer, length), source), age)| {
            Some((buffer.get(..*length).unwrap_or_default(), (*source)?, *age))
        })
    }
}

/// Datagrams of one socket waiting to be written with one call.
pub(crate) struct SendBatch {
    buffers: Box<[[u8; limits::DATAGRAM_MAX]; limits::BATCH]>,
    names: Box<[SockAddr; limits::BATCH]>,
    lengths: [usize; limits::BATCH],
    count: usize,
}

impl SendBatch {
    pub(crate) fn new() -> Self {
        let nowhere = SockAddr::from(SocketAddr::from(([0, 0, 0, 0], 0)));
        Self {
            buffers: Box::new([[0; limits::DATAGRAM_MAX]; limits::BATCH]),
            names: Box::new(std::array::from_fn(|_| nowhere.clone())),
            lengths: [0; limits::BATCH],
            count: 0,
        }
    }

    /// Adds a datagram that `write` fills; it returns the length. False when the batch is full
    /// or `write` declines with `None`.
    pub(crate) fn push(
        &mut self,
        to: SocketAddr,
        write: impl FnOnce(&mut [u8; limits::DATAGRAM_MAX]) -> Option<usize>,
    ) -> bool {
        let Some(buffer) = self.buffers.get_mut(self.count) else {
            return false;
        };
        let Some(length) = write(buffer) else {
            return false;
        };
        self.names[self.count] = SockAddr::from(to);
        self.lengths[self.count] = length.min(limits::DATAGRAM_MAX);
        self.count += 1;
        true
    }

    /// Empties the batch; nothing is written.
    pub(crate) fn clear(&mut self) {
        self.count = 0;
    }

    /// Writes everything and empties the batch. Returns the number the system did not take;
    /// those are lost, as late audio is worth nothing.
    pub(crate) fn flush(&mut self, socket: &UdpSocket) -> usize {
        let count = mem::take(&mut self.count);
        let mut failed = 0;
        let mut from = 0;
        while from < count {
            match self.send(socket, from, count) {
                // An error is about the first datagram: skip it, the others may pass.
                0 => {
                    failed += 1;
                    from += 1;
                }
                sent => from += sent,
            }
        }
        failed
    }

    fn send(&mut self, socket: &UdpSocket, from: usize, to: usize) -> usize {
        let mut vectors: [MaybeUninit<libc::iovec>; limits::BATCH] =
            [const { MaybeUninit::uninit() }; limits::BATCH];
        let mut headers: [MaybeUninit<libc::mmsghdr>; limits::BATCH] =
            [const { MaybeUninit::uninit() }; limits::BATCH];
        let wanted = to - from;
        for slot in 0..wanted {
            let buffer = &mut self.buffers[from + slot];
            let vector = vectors[slot].write(libc::iovec {
                iov_base: buffer.as_mut_ptr().cast(),
                iov_len: self.lengths[from + slot],
            });
            let name = &self.names[from + slot];
            let length = usize::try_from(name.len()).unwrap_or(0);
            headers[slot].write(header_of(vector, name.as_ptr().cast_mut(), length));
        }
        // SAFETY: the first `wanted` headers are initialised; each points at a vector of this
        // frame and a buffer and name in `self`. The call only reads through them.
        let sent = unsafe {
            libc::sendmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr().cast(),
                wanted as libc::c_uint,
                (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as _,
            )
        };
        usize::try_from(sent).unwrap_or(0)
    }
}

fn header_of<T>(vector: *mut libc::iovec, name: *mut T, name_length: usize) -> libc::mmsghdr {
    // SAFETY: mmsghdr is plain old data for which all zeroes is a valid value; C libraries
    // differ in its padding, so it cannot be written field by field.
    let mut header: libc::mmsghdr = unsafe { mem::zeroed() };
    header.msg_hdr.msg_iov = vector;
    header.msg_hdr.msg_iovlen = 1;
    header.msg_hdr.msg_name = name.cast();
    header.msg_hdr.msg_namelen = name_length as libc::socklen_t;
    header
}

/// The time of arrival since 1970, where the kernel wrote one.
fn arrival(aside: &Aside) -> Option<Duration> {
    let stamps = aside.header.cmsg_level == libc::SOL_SOCKET
        && aside.header.cmsg_type == libc::SCM_TIMESTAMPNS;
    let seconds = u64::try_from(aside.stamp.tv_sec).ok()?;
    let nanoseconds = u32::try_from(aside.stamp.tv_nsec).ok()?;
    stamps.then(|| Duration::new(seconds, nanoseconds))
}

/// Time since 1970, as the kernel stamps arrivals.
fn wall_clock() -> Duration {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.unwrap_or_default()
}

/// The address the kernel wrote, where it is one of the internet families.
fn address_of(name: &libc::sockaddr_storage) -> Option<SocketAddr> {
    match libc::c_int::from(name.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says that the storage begins with a sockaddr_in, and the
            // storage is larger and at least as aligned.
            let v4 = unsafe { &*ptr::from_ref(name).cast::<libc::sockaddr_in>() };
            let ip = u32::from_be(v4.sin_addr.s_addr);
            Some(SocketAddr::from((
                ip.to_be_bytes(),
                u16::from_be(v4.sin_port),
            )))
        }
        libc::AF_INET6 => {
            let mut storage = SockAddrStorage::zeroed();
            // SAFETY: both are the same C type, sockaddr_storage.
            *unsafe { storage.view_as::<libc::sockaddr_storage>() } = *name;
            let length = mem::size_of::<libc::sockaddr_in6>() as libc::socklen_t;
            // SAFETY: the family says that this many bytes of the storage are an address.
            unsafe { SockAddr::new(storage, length) }.as_socket()
        }
        _ => None,
    }
}

/// Wakes a worker out of its poll, or tells it to end.
#[derive(Debug)]
pub(crate) struct Waker {
    descriptor: OwnedFd,
    stopping: AtomicBool,
}

impl Waker {
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: no pointers; the result is checked before use.
        let raw = unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) };
        Ok(Self {
            descriptor: own(raw)?,
            stopping: AtomicBool::new(false),
        })
    }

    /// Ends the present or the next poll. Never blocks; many wakes may become one.
    pub(crate) fn wake(&self) {
        let one = 1u64.to_ne_bytes();
        // SAFETY: writes eight bytes from a live array. A full counter already wakes.
        unsafe { libc::write(self.descriptor.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }

    /// Wakes the worker for the last time.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.wake();
    }

    /// Was `stop` called?
    pub(crate) fn stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Takes the wakes that arrived.
    pub(crate) fn clear(&self) {
        let mut counter = [0u8; 8];
        let length = counter.len();
        // SAFETY: reads at most eight bytes into a live array; the descriptor never blocks.
        unsafe {
            libc::read(
                self.descriptor.as_raw_fd(),
                counter.as_mut_ptr().cast(),
                length,
            )
        };
    }
}

/// Waits for sockets with something to read.
pub(crate) struct Poller {
    descriptor: OwnedFd,
    ready: Vec<libc::epoll_event>,
}

impl Poller {
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: no pointers; the result is checked before use.
        let raw = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        let nothing = libc::epoll_event { events: 0, u64: 0 };
        Ok(Self {
            descriptor: own(raw)?,
            ready: vec![nothing; limits::POLL_EVENTS],
        })
    }

    pub(crate) fn add_waker(&self, waker: &Waker, token: u64) -> io::Result<()> {
        self.add(waker.descriptor.as_raw_fd(), token)
    }

    pub(crate) fn add_socket(&self, socket: &UdpSocket, token: u64) -> io::Result<()> {
        self.add(socket.as_raw_fd(), token)
    }

    fn add(&self, raw: RawFd, token: u64) -> io::Result<()> {
        let mut event = libc::epoll_event {
            events: libc::EPOLLIN as u32,
            u64: token,
        };
        let epoll = self.descriptor.as_raw_fd();
        // SAFETY: `event` lives during the call; both descriptors are open.
        let result = unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, raw, &raw mut event) };
        if result < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    }

    /// Forgets a socket that lives on with another worker.
    pub(crate) fn remove_socket(&self, socket: &UdpSocket) {
        let epoll = self.descriptor.as_raw_fd();
        // SAFETY: the event pointer is ignored for removal; both descriptors are open.
        unsafe {
            libc::epoll_ctl(
                epoll,
                libc::EPOLL_CTL_DEL,
                socket.as_raw_fd(),
                ptr::null_mut(),
            );
        }
    }

    /// Waits up to `wait` (rounded up to a millisecond); returns how many are ready.
    pub(crate) fn wait(&mut self, wait: Duration) -> usize {
        let ms = wait.as_micros().div_ceil(1_000).min(60_000);
        let room = self.ready.len() as libc::c_int;
        // SAFETY: `ready` holds `room` events and is not borrowed elsewhere.
        let count = unsafe {
            libc::epoll_wait(
                self.descriptor.as_raw_fd(),
                self.ready.as_mut_ptr(),
                room,
                ms as libc::c_int,
            )
        };
        // An interrupted wait is a round without work.
        usize::try_from(count).unwrap_or(0)
    }

    /// The token of the n-th ready descriptor.
    pub(crate) fn token(&self, n: usize) -> Option<u64> {
        self.ready.get(n).map(|event| event.u64)
    }
}

fn own(raw: RawFd) -> io::Result<OwnedFd> {
    if raw < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just made by the caller and belongs to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    fn free(local: IpAddr) -> Pair {
        (31_700..32_700)
            .step_by(2)
            .find_map(|port| bind_pair(local, port).ok())
            .expect("a free pair")
    }

    #[test]
    fn batches_carry_bytes_and_sources_of_both_families() {
        for local in [
            IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(Ipv6Addr::LOCALHOST),
        ] {
            let pair = free(local);
            let (rtp, rtcp) = (pair.rtp.local_addr(), pair.rtcp.local_addr());
            let (rtp, rtcp) = (rtp.expect("bound"), rtcp.expect("bound"));
            let mut send = SendBatch::new();
            for n in 0..=limits::BATCH {
                let pushed = send.push(rtcp, |buffer| {
                    buffer[0] = n as u8;
                    Some(n)
                });
                assert_eq!(pushed, n < limits::BATCH, "the batch has its bound");
            }
            assert!(!send.push(rtcp, |_| None));
            assert_eq!(send.flush(&pair.rtp), 0);
            let mut receive = ReceiveBatch::new();
            let count = receive.receive(&pair.rtcp);
            assert_eq!(count, limits::BATCH);
            for (n, (bytes, source)) in receive.datagrams(count).enumerate() {
                assert_eq!((bytes.len(), source), (n, rtp));
                assert!(bytes.first().is_none_or(|byte| usize::from(*byte) == n));
            }
            assert_eq!(receive.receive(&pair.rtcp), 0);
        }
    }

    #[test]
    fn a_datagram_tells_how_long_it_has_waited() {
        let pair = free(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let to = pair.rtcp.local_addr().expect("bound");
        let mut receive = ReceiveBatch::new();
        let mut ages = |waits: Duration| {
            pair.rtp.send_to(b"x", to).expect("sent");
            std::thread::sleep(waits);
            let count = receive.receive(&pair.rtcp);
            let ages: Vec<Duration> = receive.aged(count).map(|(_, _, age)| age).collect();
            assert_eq!(ages.len(), 1);
            ages[0]
        };
        let waits = Duration::from_millis(30);
        // The first socket of a machine that asks for times of arrival has the
        // kernel switch them on in the background; until then a datagram is
        // stamped when it is read.
        let age = (0..100)
            .map(|_| ages(waits))
            .find(|age| *age >= waits)
            .expect("datagrams are stamped when they arrive");
        assert!(age < waits * 100);
        assert!(ages(Duration::ZERO) < waits * 100);
    }

    #[test]
    fn a_refused_datagram_is_counted_and_the_others_go() {
        let pair = free(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let good = pair.rtcp.local_addr().expect("bound");
        let bad = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
        let mut send = SendBatch::new();
        for to in [bad, good, bad, good] {
            assert!(send.push(to, |_| Some(10)));
        }
        assert_eq!(send.flush(&pair.rtp), 2);
        assert_eq!(ReceiveBatch::new().receive(&pair.rtcp), 2);
    }

    #[test]
    fn a_wake_ends_a_wait_and_is_taken_once() {
        let waker = Waker::new().expect("a descriptor");
        let mut poller = Poller::new().expect("a descriptor");
        poller.add_waker(&waker, 7).expect("added");
        waker.wake();
        waker.wake();
        assert_eq!(poller.wait(Duration::from_secs(10)), 1);
        assert_eq!(poller.token(0), Some(7));
        waker.clear();
        assert_eq!(poller.wait(Duration::ZERO), 0);
        assert!(!waker.stopping());
    }
}
