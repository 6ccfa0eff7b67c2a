//! The duties this node has towards the cluster, on agreement and the wall clock: those of
//! [`strowger_actors::steward`], opening hours worked out further, and going quiet without a
//! lease.

use std::sync::Arc;
use std::time::Duration;

use strowger_actors::steward::{LOOK, PROPOSE, Standing, Steward};
use strowger_cluster::{Cluster, Liveness};
use strowger_core::ids::{NodeId, TenantId};
use strowger_core::state::command::Command;
use strowger_core::time::TimeMs;
use tracing::{debug, info, warn};

use super::Shared;
use super::wake::WakeHub;
use crate::{limits, site};

/// This node's standing in its cluster.
struct Member(Cluster);

impl Standing for Member {
    fn incarnation(&self) -> u64 {
        self.0.incarnation()
    }

    fn lease_valid(&self) -> bool {
        self.0.lease_valid()
    }

    fn leads(&self) -> bool {
        self.0.leader() == Some(self.0.node())
    }

    fn leads_up_to_date(&self) -> bool {
        self.0.leads_up_to_date()
    }

    fn over(&self, node: NodeId) -> Option<u64> {
        match self.0.liveness(node.0) {
            Liveness::Dead {
                incarnation,
                certain: true,
            } => Some(incarnation),
            // A lease is the node's, whichever life has it: a later one than was ever seen from
            // here has none either.
            Liveness::Dead { certain: false, .. } => Some(0),
            Liveness::Alive { .. } | Liveness::Suspect { .. } => None,
        }
    }

    fn declares(&self, node: NodeId, begins: bool) {
        self.0.declares(node.0, begins);
    }

    fn now(&self) -> TimeMs {
        TimeMs(self.0.clock_ms())
    }

    fn stand_aside(&self, index: u64) {
        self.0.stand_aside(index);
    }
}

/// Keeps the duties, for ever.
pub async fn keep(shared: Arc<Shared>, wakes: WakeHub) {
    let steward = Steward {
        node: shared.node,
        address: shared.address,
        version: env!("CARGO_PKG_VERSION"),
        state: shared.state.clone(),
        desk: shared.desk.clone(),
        standing: Arc::new(Member(shared.cluster.clone())),
    };
    tokio::spawn(steward.clone().tick(wakes));
    tokio::spawn(steward.clone().compare());
    tokio::spawn(lease(Arc::clone(&shared)));
    tokio::spawn(hours(Arc::clone(&shared)));
    let mut events = shared.cluster.events();
    let mut applied = shared.cluster.applied();
    loop {
        applied.mark_unchanged();
        // A new leader declares as soon as it has applied what earlier ones have left.
        let catches_up = shared.cluster.leader() == Some(shared.cluster.node())
            && !shared.cluster.leads_up_to_date();
        steward.announce().await;
        steward.declare().await;
        steward.raise().await;
        tokio::select! {
            _ = applied.changed(), if catches_up => {}
            // A lagging reader loses events, not state: it looks again at once.
            _ = events.recv() => {}
            () = tokio::time::sleep(LOOK) => {}
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
            let now = state.meta.now.max(TimeMs(shared.cluster.clock_ms()));
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

/// Goes quiet without a lease and speaks again with one. Audio goes on, but not to phones that
/// have gone over to somebody else.
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
            shared.engine.set_in_doubt(quiet);
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
