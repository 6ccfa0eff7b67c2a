//! The duties every node has towards the cluster: announcing its life, declaring the
//! dead, ticking what is due, and going quiet without a lease.
//!
//! Only the leader declares and ticks; any node may announce itself again when the
//! state thinks it dead.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use strowger_cluster::Liveness;
use strowger_core::ids::{NodeId, TenantId};
use strowger_core::state::command::{Command, Reply};
use strowger_core::time::TimeMs;
use tracing::{debug, info, warn};

use super::Shared;
use super::wake::WakeHub;
use crate::{limits, site};

/// How often liveness is looked at without an event.
const LOOK: Duration = Duration::from_millis(50);
/// How often the comparison of hashes is looked at.
const COMPARE_LOOK: Duration = Duration::from_millis(250);
/// Entries after which the hashes of the nodes are compared again.
const COMPARE_ENTRIES: u64 = 1_024;
/// Time after which they are, when anything was applied.
const COMPARE_AGE: Duration = Duration::from_secs(10);
/// How long one proposal of the steward may take.
const PROPOSE: Duration = Duration::from_secs(2);
/// Least pause between two ticks, so that a burst of deadlines is expired together.
const TICK_PAUSE: Duration = Duration::from_millis(5);

/// Keeps the duties, for ever.
pub async fn keep(shared: Arc<Shared>, wakes: WakeHub) {
    tokio::spawn(tick(Arc::clone(&shared), wakes));
    tokio::spawn(lease(Arc::clone(&shared)));
    tokio::spawn(compare(Arc::clone(&shared)));
    tokio::spawn(hours(Arc::clone(&shared)));
    let mut events = shared.cluster.events();
    loop {
        announce(&shared).await;
        declare(&shared).await;
        tokio::select! {
            // A lagging reader loses events, not state: it looks again at once.
            _ = events.recv() => {}
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

/// Says that this node is up, when the state does not know it.
async fn announce(shared: &Shared) {
    let incarnation = shared.cluster.incarnation();
    let known = shared
        .state
        .read()
        .nodes
        .get(&shared.node)
        .is_some_and(|node| node.up && node.incarnation == incarnation);
    if known || !shared.cluster.lease_valid() {
        return;
    }
    let command = Command::NodeUp {
        node: shared.node,
        incarnation,
        address: shared.address,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    match shared.desk.propose(&command, PROPOSE).await {
        Ok(Reply::Done) => info!(node = %shared.node, incarnation, "this node is up"),
        Ok(other) => warn!(?other, "this node may not come up"),
        Err(why) => debug!(%why, "this node is not up yet"),
    }
}

/// As leader, declares down whoever has surely died.
async fn declare(shared: &Shared) {
    if shared.cluster.leader() != Some(shared.node.0) {
        return;
    }
    let up: Vec<(NodeId, u64)> = {
        let state = shared.state.read();
        state
            .nodes
            .values()
            .filter(|node| node.up)
            .map(|node| (node.id, node.incarnation))
            .collect()
    };
    for (node, incarnation) in up.into_iter().filter(|(node, _)| *node != shared.node) {
        let Liveness::Dead {
            incarnation: dead,
            certain,
        } = shared.cluster.liveness(node.0)
        else {
            continue;
        };
        if dead != 0 && dead != incarnation {
            continue;
        }
        info!(%node, incarnation, certain, "declaring a node down");
        let command = Command::NodeDown { node, incarnation };
        if let Err(why) = shared.desk.propose(&command, PROPOSE).await {
            debug!(%node, %why, "the node is not declared down yet");
        }
    }
}

/// As leader, proposes a tick whenever the first deadline has passed.
async fn tick(shared: Arc<Shared>, wakes: WakeHub) {
    let mut changed = wakes.deadline();
    loop {
        let due = shared.state.read().next_deadline();
        let wait = due.map_or(Duration::from_secs(1), |due| {
            Duration::from_millis(due.since(wall_clock())).min(Duration::from_secs(1))
        });
        if !wait.is_zero() || shared.cluster.leader() != Some(shared.node.0) {
            tokio::select! {
                _ = changed.changed() => {}
                () = tokio::time::sleep(wait.max(TICK_PAUSE)) => {}
            }
            continue;
        }
        if let Err(why) = shared.desk.propose(&Command::Tick, PROPOSE).await {
            debug!(%why, "no tick");
        }
        tokio::time::sleep(TICK_PAUSE).await;
    }
}

/// Compares the hash of the state between the nodes: asks as leader, tells as any node,
/// and stands aside when this node's copy was found wrong.
async fn compare(shared: Arc<Shared>) {
    let incarnation = shared.cluster.incarnation();
    // The comparison last seen and since when; the one last told, and when.
    let mut seen = (0, Instant::now());
    let mut told: Option<(u64, Instant)> = None;
    let mut every = tokio::time::interval(COMPARE_LOOK);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        let (row, applied, up, diverged) = {
            let state = shared.state.read();
            let own = state.nodes.get(&shared.node);
            let up = own.is_some_and(|node| node.up && node.incarnation == incarnation);
            let diverged = state.diverged(shared.node);
            (state.compare.clone(), state.meta.index, up, diverged)
        };
        if let Some(index) = diverged {
            shared.cluster.stand_aside(index);
            return;
        }
        if seen.0 != row.index {
            seen = (row.index, Instant::now());
        }
        let now = Instant::now();
        let recently = told.is_some_and(|(index, at)| index == row.index && now - at < PROPOSE);
        if up && row.index > 0 && !row.told.contains_key(&shared.node) && !recently {
            told = Some((row.index, now));
            let command = Command::HashTold {
                node: shared.node,
                incarnation,
                index: row.index,
                hash: row.hash,
            };
            if let Err(why) = shared.desk.propose(&command, PROPOSE).await {
                debug!(%why, "the hash is not told yet");
            }
            continue;
        }
        let entries = applied.saturating_sub(row.index);
        let ripe = entries >= COMPARE_ENTRIES || now - seen.1 >= COMPARE_AGE;
        // A floor at rest has nothing to compare anew.
        let leads = shared.cluster.leader() == Some(shared.node.0);
        if leads
            && ripe
            && applied > row.last
            && let Err(why) = shared.desk.propose(&Command::Compare, PROPOSE).await
        {
            debug!(%why, "no comparison of hashes");
        }
    }
}

/// As leader, works opening hours out further before they are known no more.
async fn hours(shared: Arc<Shared>) {
    let mut every = tokio::time::interval(limits::HOURS_LOOK);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        if shared.cluster.leader() != Some(shared.node.0) {
            continue;
        }
        let (now, sites) = {
            let state = shared.state.read();
            let now = state.meta.now.max(wall_clock());
            let ripe = |tenant: &TenantId| {
                let mut own = state.hours.values().filter(|row| row.tenant == *tenant);
                own.any(|row| row.times.until.since(now) < limits::HOURS_LEFT_MIN_MS)
            };
            let sites = state.sites.iter().filter(|(tenant, _)| ripe(tenant));
            let sites: Vec<_> = sites.map(|(_, row)| Arc::clone(row)).collect();
            (now, sites)
        };
        for row in sites {
            let command = Command::HoursSet {
                tenant: row.site.tenant.clone(),
                site_version: row.version,
                times: site::hours::times(&row.site, now),
            };
            if let Err(why) = shared.desk.propose(&command, PROPOSE).await {
                debug!(%why, "opening hours are not worked out further yet");
            }
        }
    }
}

/// Goes quiet without a lease and speaks again with one.
async fn lease(shared: Arc<Shared>) {
    let mut quiet = false;
    // A node that just started has had no lease to lose.
    let mut held = false;
    let mut every = tokio::time::interval(Duration::from_millis(20));
    loop {
        every.tick().await;
        let valid = shared.cluster.lease_valid();
        let lost = held && !valid;
        held |= valid;
        if let Some(endpoint) = shared.endpoint()
            && quiet == valid
        {
            quiet = !valid;
            endpoint.set_quiet(quiet);
            if lost {
                warn!("without a lease: this node sends no SIP, audio goes on");
            } else if quiet {
                info!("no lease yet: this node sends no SIP");
            } else {
                info!("lease held: this node sends SIP");
            }
        }
    }
}

fn wall_clock() -> TimeMs {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    TimeMs(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
