//! Service addresses on the machine's own interfaces (`takeover = "address"`).
//!
//! A service address belongs to no machine. Whoever holds it puts it on the interface of its
//! network, with a lifetime that only a living holder renews, so that the machine of a dead
//! daemon loses it by itself; and tells the neighbours at once by gratuitous ARP (RFC 5227
//! §3), so that phones and routers send there what they sent to the last holder.
//!
//! A holder that was cut off from the majority does not know that another got its address.
//! It hears the other's announcement, and yields (RFC 5227 §2.4); one with a valid lease
//! repeats its own. Without an announcement it keeps the address: nobody else may be there,
//! and the audio of its calls shall go on.
//!
//! IPv4 only. The loopback interface has all of 127.0.0.0/8, so nothing is done there.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt;
use ipnet::Ipv4Net;
use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use nix::sys::socket::{LinkAddr, MsgFlags, SockaddrStorage, sendto};
use parking_lot::Mutex;
use rtnetlink::Handle;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage, CacheInfo};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::mpsc;
use tracing::{debug, info, warn};

/// How long the kernel keeps an address that its holder does not renew, seconds. Renewed
/// every [`RENEWAL`]; the difference is what a busy machine may dawdle.
const LIFETIME_S: u32 = 5;
/// Between two renewals.
pub const RENEWAL: Duration = Duration::from_secs(1);
/// When an address just taken is announced. The later ones reach neighbours that were told
/// otherwise meanwhile by the kernel of the last holder's machine, while it still has it.
const ANNOUNCED: [Duration; 5] = [
    Duration::ZERO,
    Duration::from_millis(100),
    Duration::from_secs(1),
    Duration::from_secs(3),
    Duration::from_secs(LIFETIME_S as u64 + 1),
];
/// EtherType of ARP.
const ARP: u16 = 0x0806;
/// An Ethernet header and an ARP packet for IPv4 (RFC 826).
const FRAME: usize = 14 + 28;

/// Why an address cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum LiftError {
    /// No interface that is up reaches its network.
    #[error(
        "{0} lies in the network of no interface of this machine; service addresses are in \
         that of the nodes, or the site says takeover = \"reinvite\""
    )]
    NoNetwork(Ipv4Addr),
    /// The interfaces cannot be read or changed.
    #[error(
        "{what}: {why}; the daemon needs the capabilities CAP_NET_ADMIN and CAP_NET_RAW to \
         move addresses"
    )]
    Refused {
        /// What was asked for.
        what: &'static str,
        /// What the kernel said.
        why: String,
    },
}

/// Where an address lies.
#[derive(Clone, Copy, Debug)]
struct Nic {
    index: u32,
    mac: [u8; 6],
    link: LinkAddr,
}

/// An address somebody on the network says is his, and the machine.
type Claim = ([u8; 6], Ipv4Addr);

/// Claims heard and not judged yet; more are not taken in, for each is repeated.
const CLAIMS_MAX: usize = 64;

/// The service addresses this process put on interfaces.
pub struct Interfaces {
    lifted: Mutex<BTreeMap<Ipv4Addr, Nic>>,
    /// Given up because another announced them.
    yielded: Mutex<BTreeSet<Ipv4Addr>>,
    kernel: tokio::sync::OnceCell<Kernel>,
    heard: mpsc::Sender<Claim>,
    claims: tokio::sync::Mutex<mpsc::Receiver<Claim>>,
}

struct Kernel {
    handle: Handle,
    arp: Socket,
}

impl Default for Interfaces {
    fn default() -> Self {
        let (heard, claims) = mpsc::channel(CLAIMS_MAX);
        Self {
            lifted: Mutex::default(),
            yielded: Mutex::default(),
            kernel: tokio::sync::OnceCell::new(),
            heard,
            claims: tokio::sync::Mutex::new(claims),
        }
    }
}

impl Interfaces {
    /// Puts `address` on the interface of its network and announces it.
    ///
    /// # Errors
    /// [`LiftError`].
    pub async fn lift(self: &Arc<Self>, address: Ipv4Addr) -> Result<(), LiftError> {
        let nic = nic_of(address)?;
        let kernel = self.kernel().await?;
        put(&kernel.handle, address, nic).await?;
        self.yielded.lock().remove(&address);
        if self.lifted.lock().insert(address, nic).is_none() {
            info!(%address, interface = nic.index, "a service address is put on an interface");
        }
        tokio::spawn(self.clone().announce(address));
        Ok(())
    }

    /// Takes `address` from its interface, when this process put it there.
    pub async fn lower(&self, address: IpAddr) {
        let IpAddr::V4(address) = address else { return };
        self.yielded.lock().remove(&address);
        let Some(nic) = self.lifted.lock().remove(&address) else {
            return;
        };
        self.remove(address, nic).await;
    }

    /// Takes every address back.
    pub async fn lower_all(&self) {
        let all = std::mem::take(&mut *self.lifted.lock());
        for (address, nic) in all {
            self.remove(address, nic).await;
        }
    }

    /// Addresses that are here.
    pub fn lifted(&self) -> Vec<Ipv4Addr> {
        self.lifted.lock().keys().copied().collect()
    }

    /// Addresses that were given up to another claimant.
    pub fn yielded(&self) -> Vec<Ipv4Addr> {
        self.yielded.lock().iter().copied().collect()
    }

    /// Begins the lifetimes of the addresses anew. One that is gone, as after a long pause of
    /// the process, is put back only by a holder whose right is `sure`.
    pub async fn renew(&self, sure: bool) {
        let Some(kernel) = self.kernel.get() else {
            return;
        };
        let lifted: Vec<(Ipv4Addr, Nic)> = {
            let lifted = self.lifted.lock();
            lifted.iter().map(|(at, nic)| (*at, *nic)).collect()
        };
        for (address, nic) in lifted {
            if !sure && !matches!(find(&kernel.handle, address, nic).await, Ok(Some(_))) {
                continue;
            }
            if let Err(why) = put(&kernel.handle, address, nic).await {
                warn!(code = "SW0107", %address, %why, "a service address cannot be kept");
            }
        }
    }

    /// Removes what an earlier process of this node put on interfaces and this one does not
    /// hold: of `ours`, the addresses with a lifetime.
    pub async fn sweep(&self, ours: &BTreeSet<IpAddr>, held: &BTreeSet<IpAddr>) {
        let stale: Vec<(Ipv4Addr, Nic)> = ours
            .difference(held)
            .filter_map(|address| match address {
                IpAddr::V4(address) => Some((*address, nic_of(*address).ok()?)),
                IpAddr::V6(_) => None,
            })
            .collect();
        if stale.is_empty() {
            return;
        }
        let Ok(kernel) = self.kernel().await else {
            return;
        };
        for (address, nic) in stale {
            if let Ok(Some(message)) = find(&kernel.handle, address, nic).await
                && has_lifetime(&message)
            {
                info!(%address, "a service address left by an earlier process is removed");
                self.remove(address, nic).await;
            }
        }
    }

    async fn remove(&self, address: Ipv4Addr, nic: Nic) {
        let Ok(kernel) = self.kernel().await else {
            return;
        };
        let found = find(&kernel.handle, address, nic).await;
        let removed = match found {
            Ok(Some(message)) => kernel.handle.address().del(message).execute().await,
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        match removed {
            Ok(()) => info!(%address, "a service address is off its interface"),
            // It goes by itself when its lifetime ends.
            Err(error) => debug!(%address, %error, "a service address stays for a moment"),
        }
    }

    /// Tells the neighbours, several times, as long as the address is here.
    async fn announce(self: Arc<Self>, address: Ipv4Addr) {
        let began = tokio::time::Instant::now();
        for after in ANNOUNCED {
            tokio::time::sleep_until(began + after).await;
            let Some(nic) = self.lifted.lock().get(&address).copied() else {
                return;
            };
            self.say(address, nic);
        }
    }

    fn say(&self, address: Ipv4Addr, nic: Nic) {
        let Some(kernel) = self.kernel.get() else {
            return;
        };
        let socket = kernel.arp.as_raw_fd();
        for frame in [
            announcement(address, nic.mac, 1),
            announcement(address, nic.mac, 2),
        ] {
            if let Err(error) = sendto(socket, &frame, &nic.link, MsgFlags::MSG_DONTWAIT) {
                warn!(code = "SW0107", %address, %error, "a service address is not announced");
            }
        }
    }

    async fn kernel(&self) -> Result<&Kernel, LiftError> {
        let open = async || {
            let refused = |what| {
                move |error: io::Error| LiftError::Refused {
                    what,
                    why: error.to_string(),
                }
            };
            let (connection, handle, _) =
                rtnetlink::new_connection().map_err(refused("netlink"))?;
            tokio::spawn(connection);
            let protocol = Protocol::from(i32::from(ARP.to_be()));
            let socket = Socket::new(Domain::PACKET, Type::RAW, Some(protocol))
                .map_err(refused("a socket for ARP"))?;
            let ear = socket.try_clone().map_err(refused("ARP"))?;
            let heard = self.heard.clone();
            // Its own thread: tokio waits for no sockets of this kind.
            std::thread::Builder::new()
                .name("arp".to_owned())
                .spawn(move || listen_on(&ear, &heard))
                .map_err(refused("a thread for ARP"))?;
            Ok(Kernel {
                handle,
                arp: socket,
            })
        };
        self.kernel.get_or_try_init(open).await
    }

    /// Judges those who announce an address that is here, for ever. `sure` says whether this
    /// node's lease is valid.
    pub async fn judge(&self, sure: impl Fn() -> bool) {
        let mut claims = self.claims.lock().await;
        while let Some((mac, address)) = claims.recv().await {
            let Some(nic) = self.lifted.lock().get(&address).copied() else {
                continue;
            };
            if nic.mac == mac {
                continue;
            }
            if sure() {
                debug!(%address, "another machine announces a service address held here");
                self.say(address, nic);
                // Two that both feel sure shall not fill the network.
                tokio::time::sleep(Duration::from_millis(100)).await;
            } else if self.lifted.lock().remove(&address).is_some() {
                warn!(%address, "another node announces this service address: it is given up");
                self.yielded.lock().insert(address);
                self.remove(address, nic).await;
            }
        }
    }
}

/// Hears ARP on all interfaces until nobody judges any more.
fn listen_on(mut socket: &Socket, heard: &mpsc::Sender<Claim>) {
    let mut frame = [0; FRAME];
    while !heard.is_closed() {
        match socket.read(&mut frame) {
            Ok(length) => {
                if let Some(claim) = sender(&frame[..length]) {
                    // A full channel loses a claim that will be repeated.
                    let _ = heard.try_send(claim);
                }
            }
            // An interface went down, say; what follows is read when it is back.
            Err(_) => std::thread::sleep(RENEWAL),
        }
    }
}

/// The interface that reaches the network of `address`.
fn nic_of(address: Ipv4Addr) -> Result<Nic, LiftError> {
    let all: Vec<_> = getifaddrs()
        .map_err(|error| LiftError::Refused {
            what: "the list of interfaces",
            why: error.to_string(),
        })?
        .collect();
    let v4 = |storage: &SockaddrStorage| storage.as_sockaddr_in().map(|at| at.ip());
    let reaches = all.iter().find(|interface| {
        let flags = interface.flags;
        let network = || {
            let own = interface.address.as_ref().and_then(v4)?;
            let mask = interface.netmask.as_ref().and_then(v4)?;
            Ipv4Net::with_netmask(own, mask).ok()
        };
        flags.contains(InterfaceFlags::IFF_UP)
            && !flags.contains(InterfaceFlags::IFF_LOOPBACK)
            && network()
                .is_some_and(|network| network.prefix_len() < 32 && network.contains(&address))
    });
    let name = &reaches.ok_or(LiftError::NoNetwork(address))?.interface_name;
    let link = all
        .iter()
        .filter(|interface| interface.interface_name == *name)
        .find_map(|interface| interface.address.as_ref()?.as_link_addr().copied());
    let link = link.ok_or(LiftError::NoNetwork(address))?;
    let mac = link.addr().ok_or(LiftError::NoNetwork(address))?;
    let index = u32::try_from(link.ifindex()).map_err(|_| LiftError::NoNetwork(address))?;
    Ok(Nic { index, mac, link })
}

async fn put(handle: &Handle, address: Ipv4Addr, nic: Nic) -> Result<(), LiftError> {
    let mut request = handle
        .address()
        .add(nic.index, address.into(), 32)
        .replace();
    let mut lifetime = CacheInfo::default();
    lifetime.ifa_preferred = LIFETIME_S;
    lifetime.ifa_valid = LIFETIME_S;
    let attributes = &mut request.message_mut().attributes;
    attributes.push(AddressAttribute::CacheInfo(lifetime));
    request.execute().await.map_err(|error| LiftError::Refused {
        what: "putting an address on an interface",
        why: error.to_string(),
    })
}

async fn find(
    handle: &Handle,
    address: Ipv4Addr,
    nic: Nic,
) -> Result<Option<AddressMessage>, rtnetlink::Error> {
    let request = handle.address().get();
    request
        .set_link_index_filter(nic.index)
        .set_address_filter(address.into())
        .set_prefix_length_filter(32)
        .execute()
        .try_next()
        .await
}

fn has_lifetime(message: &AddressMessage) -> bool {
    let mut attributes = message.attributes.iter();
    attributes.any(|attribute| {
        matches!(attribute, AddressAttribute::CacheInfo(info) if info.ifa_valid != u32::MAX)
    })
}

/// A gratuitous ARP frame: a request (1) or a reply (2) whose sender and target are `address`.
fn announcement(address: Ipv4Addr, mac: [u8; 6], operation: u8) -> [u8; FRAME] {
    const EVERYBODY: [u8; 6] = [0xff; 6];
    let mut frame = [0; FRAME];
    frame[..6].copy_from_slice(&EVERYBODY);
    frame[6..12].copy_from_slice(&mac);
    frame[12..14].copy_from_slice(&ARP.to_be_bytes());
    // Ethernet, IPv4, the lengths of their addresses.
    frame[14..20].copy_from_slice(&[0, 1, 8, 0, 6, 4]);
    frame[21] = operation;
    frame[22..28].copy_from_slice(&mac);
    frame[28..32].copy_from_slice(&address.octets());
    if operation == 2 {
        frame[32..38].copy_from_slice(&EVERYBODY);
    }
    frame[38..42].copy_from_slice(&address.octets());
    frame
}

/// Who an ARP frame says it comes from.
fn sender(frame: &[u8]) -> Option<Claim> {
    let kind = frame.get(12..20)?;
    if kind != [8, 6, 0, 1, 8, 0, 6, 4] {
        return None;
    }
    let mac = frame.get(22..28)?.try_into().ok()?;
    let address: [u8; 4] = frame.get(28..32)?.try_into().ok()?;
    Some((mac, address.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 7];

    #[test]
    fn an_announcement_names_the_address_as_sender_and_target() {
        let address = Ipv4Addr::new(192, 0, 2, 10);
        for operation in [1, 2] {
            let frame = announcement(address, MAC, operation);
            assert_eq!(sender(&frame), Some((MAC, address)));
            assert_eq!(frame[38..42], address.octets());
            assert_eq!(frame[20..22], [0, operation]);
        }
    }

    #[test]
    fn other_frames_have_no_sender() {
        let mut frame = announcement(Ipv4Addr::new(192, 0, 2, 10), MAC, 1);
        assert_eq!(sender(&frame[..30]), None, "cut short");
        frame[17] = 6;
        assert_eq!(sender(&frame), None, "not of IPv4");
    }

    #[test]
    fn an_address_of_no_network_here_is_told_so() {
        let documentation = Ipv4Addr::new(203, 0, 113, 77);
        let why = nic_of(documentation).map(|nic| nic.index);
        assert!(matches!(why, Err(LiftError::NoNetwork(at)) if at == documentation));
    }
}
