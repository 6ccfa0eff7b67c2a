//! Places a phone or a carrier may be in that see less of the world: behind a NAT, or behind a
//! filter that lets one address in.
//!
//! Each is a network namespace joined to that of the calling thread, which is the router or
//! has the bridge of [`crate::apart`].

use std::fs::File;
use std::net::IpAddr;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sched::{CloneFlags, setns};

use crate::programs::{self, ip};

/// A network namespace of its own, deleted when dropped.
pub struct Behind {
    name: String,
    address: IpAddr,
    inside: File,
}

static SERIAL: AtomicU32 = AtomicU32::new(0);

impl Behind {
    /// A home whose router, the calling thread's network, shows itself as `outside` to everybody
    /// beyond: each flow from inside has a port there, where only whom it was sent to is let in.
    ///
    /// # Errors
    /// What `ip` or `nft` said.
    pub fn nat(outside: IpAddr) -> Result<Self, String> {
        let (name, link, serial) = make()?;
        let (router, own) = ([10, 7, serial, 1], [10, 7, serial, 2]);
        let (router, own) = (IpAddr::from(router), IpAddr::from(own));
        ip(&format!("address add {router}/24 dev {link}"))?;
        ip(&format!("link set {link} up"))?;
        ip(&format!("-n {name} address add {own}/24 dev wan"))?;
        ip(&format!("-n {name} link set wan up"))?;
        ip(&format!("-n {name} route add default via {router}"))?;
        switch("net/ipv4/ip_forward")?;
        let rules = format!(
            "add table ip home{serial}; add chain ip home{serial} out \
             {{ type nat hook postrouting priority 100; }}; \
             add rule ip home{serial} out ip saddr {own} snat to {outside}"
        );
        nft(&mut Command::new("nft"), &rules)?;
        Self::open(name, own)
    }

    /// A machine at `address` on the bridge of the calling thread's network, which takes in
    /// nothing but what comes from `only`.
    ///
    /// # Errors
    /// What `ip` or `nft` said.
    pub fn filter(address: IpAddr, only: IpAddr) -> Result<Self, String> {
        let (name, link, _) = make()?;
        ip(&format!("link set {link} master bridge up"))?;
        ip(&format!("-n {name} address add {address}/24 dev wan"))?;
        ip(&format!("-n {name} link set wan up"))?;
        let rules = format!(
            "add table ip strict; add chain ip strict in \
             {{ type filter hook input priority 0; }}; \
             add rule ip strict in iifname wan ip saddr != {only} drop"
        );
        let mut command = Command::new("ip");
        nft(command.args(["netns", "exec", &name, "nft"]), &rules)?;
        Self::open(name, address)
    }

    fn open(name: String, address: IpAddr) -> Result<Self, String> {
        let path = format!("/run/netns/{name}");
        let inside = File::open(&path).map_err(|error| format!("{path}: {error}"))?;
        Ok(Self {
            name,
            address,
            inside,
        })
    }

    /// The address in there.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// Does something in there: sockets, threads and programs it starts are and stay inside.
    pub fn enter<T>(&self, act: impl FnOnce() -> T) -> T {
        let outside = File::open("/proc/thread-self/ns/net").expect("a thread has a network");
        setns(&self.inside, CloneFlags::CLONE_NEWNET).expect("who made it may enter");
        let result = act();
        setns(&outside, CloneFlags::CLONE_NEWNET).expect("a thread may return to where it was");
        result
    }
}

impl Drop for Behind {
    fn drop(&mut self) {
        let _ = ip(&format!("netns delete {}", self.name));
    }
}

/// A namespace, with `wan` inside and a link of the name given outside.
fn make() -> Result<(String, String, u8), String> {
    let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
    let serial = u8::try_from(serial).map_err(|_| "too many networks".to_owned())?;
    let name = format!("strowger-behind-{}-{serial}", std::process::id());
    let link = format!("behind{serial}");
    ip(&format!("netns add {name}"))?;
    ip(&format!("-n {name} link set lo up"))?;
    // The addresses of 127.0.0.0/8 are those of machines on a wire here.
    ip(&format!("-n {name} address delete 127.0.0.1/8 dev lo"))?;
    ip(&format!(
        "netns exec {name} sysctl -q -w net.ipv4.conf.all.route_localnet=1"
    ))?;
    ip(&format!(
        "link add {link} type veth peer name wan netns {name}"
    ))?;
    Ok((name, link, serial))
}

/// Sets a switch of the calling thread's network.
fn switch(name: &str) -> Result<(), String> {
    let path = format!("/proc/sys/{name}");
    std::fs::write(&path, "1").map_err(|error| format!("{path}: {error}"))
}

fn nft(command: &mut Command, rules: &str) -> Result<(), String> {
    let (code, _, err) = programs::run(command.arg(rules));
    if code == 0 {
        Ok(())
    } else {
        Err(format!("nft: {err}"))
    }
}
