//! Binding the service addresses this node holds, and no others.
//!
//! Level-triggered: after every change and until nothing is left to do, what is bound
//! is made equal to what the state says. An address that another process still holds
//! is tried again: its old holder is about to close it, or is dead. One that this machine
//! does not have is tried again too, where something outside brings it here (`takeover =
//! "address"`); else the others are told, and one of them gets it.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use strowger_core::state::command::Command;
use tracing::{debug, info, warn};

use super::Shared;
use super::wake::WakeHub;

/// Pause between two attempts to bind an address that is in use.
const RETRY: Duration = Duration::from_millis(50);
/// Without a wake-up, look this often.
const LOOK: Duration = Duration::from_secs(1);
/// How long one report may take.
const PROPOSE: Duration = Duration::from_secs(1);
/// Attempts after which an address that cannot be bound is reported.
const REPORT_AFTER: u32 = 20;

/// Keeps the bound addresses equal to the held ones, for ever.
pub async fn keep(shared: Arc<Shared>, wakes: WakeHub) {
    let mut changed = wakes.cluster();
    let mut failures = 0u32;
    loop {
        let done = settle(&shared, failures).await;
        failures = if done { 0 } else { failures.saturating_add(1) };
        let pause = if done { LOOK } else { RETRY };
        tokio::select! {
            _ = changed.changed() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// True when nothing is left to do.
async fn settle(shared: &Shared, failures: u32) -> bool {
    let Some(endpoint) = shared.endpoint() else {
        return false;
    };
    if shared.stopped.load(std::sync::atomic::Ordering::SeqCst) {
        return true;
    }
    let held: BTreeSet<IpAddr> = {
        let state = shared.state.read();
        let up = state
            .nodes
            .get(&shared.node)
            .is_some_and(|node| node.up && node.incarnation == shared.cluster.incarnation());
        let rows = state
            .addresses
            .values()
            .filter(|row| up && row.holder == Some(shared.node));
        rows.map(|row| row.address).collect()
    };
    let bound: BTreeSet<IpAddr> = endpoint.bound().into_iter().collect();
    for address in bound.difference(&held) {
        endpoint.unbind(*address).await;
        info!(%address, "service address released");
    }
    let (mut done, mut absent) = (true, Vec::new());
    for address in held.difference(&bound) {
        match endpoint.bind(*address, shared.ports.udp, Some(shared.ports.tcp)) {
            Ok(_) => info!(%address, "service address taken"),
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
