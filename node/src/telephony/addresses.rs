//! Binding the service addresses this node holds, and no others.
//!
//! Level-triggered: after every change and until nothing is left to do, what is bound
//! is made equal to what the state says. An address that another process still holds
//! is tried again: its old holder is about to close it, or is dead. One that this machine
//! does not have is put on the interface of its network (`takeover = "address"`, see
//! `interface`); where nodes cannot have each other's (`takeover = "reinvite"`) the others
//! are told, and one of them gets it.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use strowger_core::state::command::Command;
use strowger_sip::sdp;
use tracing::{debug, info, warn};

use super::Shared;
use super::checkpoint::Checkpoint;
use super::interface::{Interfaces, RENEWAL};
use super::wake::WakeHub;

/// Pause between two attempts to bind an address that is in use.
const RETRY: Duration = Duration::from_millis(50);
/// Without a wake-up, look this often.
const LOOK: Duration = RENEWAL;
/// How long one report may take.
const PROPOSE: Duration = Duration::from_secs(1);
/// Attempts after which an address that cannot be bound is reported.
const REPORT_AFTER: u32 = 20;

/// Keeps the bound addresses equal to the held ones, for ever.
pub async fn keep(shared: Arc<Shared>, wakes: WakeHub) {
    let mut changed = wakes.cluster();
    let mut failures = 0u32;
    let interfaces = shared.interfaces.clone();
    let judging = Arc::clone(&shared);
    tokio::spawn(async move {
        let sure = || judging.cluster.lease_valid();
        judging.interfaces.judge(sure).await;
    });
    let mut renewed = Instant::now();
    let mut done_once = Once::default();
    loop {
        let done = settle(&shared, failures, &mut done_once).await;
        if renewed.elapsed() >= RENEWAL {
            renewed = Instant::now();
            interfaces.renew(shared.cluster.lease_valid()).await;
        }
        failures = if done { 0 } else { failures.saturating_add(1) };
        let pause = if done { LOOK } else { RETRY };
        tokio::select! {
            _ = changed.changed() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// What is done but once.
#[derive(Default)]
struct Once {
    /// What another life left on the interfaces has been removed.
    swept: bool,
    /// Addresses to be bound of which the ports are kept already.
    kept: BTreeSet<IpAddr>,
}

/// True when nothing is left to do.
async fn settle(shared: &Arc<Shared>, failures: u32, once: &mut Once) -> bool {
    let Some(endpoint) = shared.endpoint() else {
        return false;
    };
    if shared.stopped.load(std::sync::atomic::Ordering::SeqCst) {
        return true;
    }
    let (held, all): (BTreeSet<IpAddr>, BTreeSet<IpAddr>) = {
        let state = shared.state.read();
        // Who stands aside learns no more that others have its addresses.
        let up = shared.cluster.stood_aside().is_none()
            && state
                .nodes
                .get(&shared.node)
                .is_some_and(|node| node.up && node.incarnation == shared.cluster.incarnation());
        let rows = state
            .addresses
            .values()
            .filter(|row| up && row.holder == Some(shared.node));
        let held = rows.map(|row| row.address).collect();
        (held, state.addresses.keys().copied().collect())
    };
    if !once.swept && !all.is_empty() {
        once.swept = true;
        shared.interfaces.sweep(&all, &held).await;
    }
    let bound: BTreeSet<IpAddr> = endpoint.bound().into_iter().collect();
    for address in bound.difference(&held) {
        endpoint.unbind(*address).await;
        shared.interfaces.lower(*address).await;
        info!(%address, "service address released");
    }
    for address in shared.interfaces.lifted() {
        // One that was put on an interface and could not be bound since.
        if !held.contains(&address.into()) {
            shared.interfaces.lower(address.into()).await;
        }
    }
    once.kept.retain(|address| held.contains(address));
    let (mut done, mut absent) = (true, Vec::new());
    for address in shared.interfaces.yielded() {
        // It was given up while cut off, and it is this node's after all.
        if shared.cluster.lease_valid() && held.contains(&address.into()) {
            done &= lift(&shared.interfaces, address, failures).await;
        }
    }
    for address in held.difference(&bound) {
        if once.kept.insert(*address) {
            // Beside the binding, which must not wait for it.
            let (shared, address) = (Arc::clone(shared), *address);
            tokio::task::spawn_blocking(move || keep_ports(&shared, address));
        }
        let bind = || endpoint.bind(*address, shared.ports.udp, Some(shared.ports.tcp));
        let mut taken = bind();
        if let (Err(why), IpAddr::V4(v4)) = (&taken, address)
            && why.is_absent()
            && !shared.state.read().may_be_barred(*address)
        {
            if !lift(&shared.interfaces, *v4, failures).await {
                done = false;
                continue;
            }
            taken = bind();
        }
        match taken {
            Ok(_) => {
                info!(%address, "service address taken");
                once.kept.remove(address);
            }
            Err(why) => {
                done = false;
                if why.is_absent() && shared.state.read().may_be_barred(*address) {
                    absent.push(*address);
                    continue;
                }
                if failures % REPORT_AFTER == REPORT_AFTER - 1 {
                    warn!(code = "SW0107", %address, %why, "a service address cannot be bound");
                }
            }
        }
    }
    for address in absent {
        bar(shared, address).await;
    }
    done
}

/// Keeps the ports of an address for the legs that came along with it and are taken up one after
/// the other: a new caller's must not take one of theirs meanwhile.
fn keep_ports(shared: &Shared, address: IpAddr) {
    let checkpoints: Vec<Vec<u8>> = {
        let state = shared.state.read();
        let calls = state.calls.values().filter(|call| call.address == address);
        let legs = calls.flat_map(|call| &call.legs);
        let legs = legs.filter(|leg| leg.is_live());
        legs.filter_map(|leg| leg.checkpoint.clone()).collect()
    };
    let port = |checkpoint: &Vec<u8>| {
        let checkpoint = Checkpoint::read(checkpoint)?;
        let ours = sdp::parse(checkpoint.local_sdp()?).ok()?;
        let audio = ours.audio()?;
        let here = audio.address.is_none_or(|named| named == address);
        here.then_some(audio.port)
    };
    let ports: Vec<u16> = checkpoints.iter().filter_map(port).collect();
    if ports.is_empty() {
        return;
    }
    debug!(%address, ports = ports.len(), "ports are kept for legs to be taken up");
    if let Err(why) = shared.engine.keep_ports(address, ports) {
        debug!(%address, %why, "no port can be kept for legs to be taken up");
    }
}

/// Puts an address on an interface of this machine; false when that must be tried again.
async fn lift(interfaces: &Arc<Interfaces>, address: Ipv4Addr, failures: u32) -> bool {
    let Err(why) = interfaces.lift(address).await else {
        return true;
    };
    if failures % REPORT_AFTER == REPORT_AFTER - 1 {
        warn!(code = "SW0107", %address, %why, "a service address cannot be had");
    }
    false
}

/// Says that this machine does not have an address.
async fn bar(shared: &Shared, address: IpAddr) {
    let command = Command::AddressBarred {
        node: shared.node,
        incarnation: shared.cluster.incarnation(),
        address,
    };
    match shared.desk.propose(&command, PROPOSE).await {
        Ok(_) => {
            info!(%address, "a service address is not one of this machine; another node tries")
        }
        Err(why) => debug!(%address, %why, "nobody hears yet that an address is not here"),
    }
}
