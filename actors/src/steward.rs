//! The duties every node has towards the cluster: announcing its life, declaring the
//! dead, ticking what is due, and comparing the hash of its state.
//!
//! Only the leader declares and ticks; any node may announce itself again when the
//! state thinks it dead.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use strowger_core::ids::NodeId;
use strowger_core::ports::IncarnationNumber;
use strowger_core::state::command::{Command, Reply};
use strowger_core::state::{FEATURE_LEVEL, SharedState};
use strowger_core::time::TimeMs;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use crate::desk::Desk;
use crate::wake::WakeHub;

/// How often liveness is looked at without an event.
pub const LOOK: Duration = Duration::from_millis(50);
/// How often the comparison of hashes is looked at.
const COMPARE_LOOK: Duration = Duration::from_millis(250);
/// Entries after which the hashes of the nodes are compared again.
const COMPARE_ENTRIES: u64 = 1_024;
/// Time after which they are, when anything was applied.
const COMPARE_AGE: Duration = Duration::from_secs(10);
/// How long one proposal of the steward may take.
pub const PROPOSE: Duration = Duration::from_secs(2);
/// The same for declaring a node down: what a leader that is cut off believes must not reach
/// the next one, which may know better, when they meet again.
pub const DECLARE: Duration = Duration::from_millis(300);
/// Least pause between two ticks, so that a burst of deadlines is expired together.
const TICK_PAUSE: Duration = Duration::from_millis(5);

/// How this node stands in its cluster. The daemon implements it on agreement.
pub trait Standing: Send + Sync + 'static {
    /// The present life of this node.
    fn incarnation(&self) -> IncarnationNumber;

    /// True while this node may act on its own.
    fn lease_valid(&self) -> bool;

    /// True while this node leads, as far as it knows.
    fn leads(&self) -> bool;

    /// True while it leads and its rows hold whatever earlier leaders have committed.
    fn leads_up_to_date(&self) -> bool;

    /// The life of another node that has surely ended, or whose right to act has surely run
    /// out: 0 when that life was never learnt, `None` while it may act.
    fn over(&self, node: NodeId) -> Option<IncarnationNumber>;

    /// `node` must not gain the right to act while its end is proposed, from `begins` to the next
    /// call.
    fn declares(&self, node: NodeId, begins: bool) {
        let _ = (node, begins);
    }

    /// The wall clock of this node.
    fn now(&self) -> TimeMs;

    /// The state of this node was found wrong at this log index: it must stop for good.
    fn stand_aside(&self, index: u64);
}

/// Does the duties of one node. Cheap to clone.
#[derive(Clone)]
pub struct Steward {
    /// This node.
    pub node: NodeId,
    /// Address of its API and cluster ports, as announced.
    pub address: IpAddr,
    /// Its program version.
    pub version: &'static str,
    /// The replicated state.
    pub state: SharedState,
    /// Where commands go.
    pub desk: Desk,
    /// Its standing in the cluster.
    pub standing: Arc<dyn Standing>,
}

impl Steward {
    /// Says that this node is up, when the state does not know it.
    pub async fn announce(&self) {
        if self.is_up() || !self.standing.lease_valid() {
            return;
        }
        let incarnation = self.standing.incarnation();
        let command = Command::NodeUp {
            node: self.node,
            incarnation,
            address: self.address,
            version: self.version.to_owned(),
            level: FEATURE_LEVEL,
        };
        match self.desk.propose(&command, PROPOSE).await {
            Ok(Reply::Done) => info!(node = %self.node, incarnation, "this node is up"),
            Ok(other) => warn!(?other, "this node may not come up"),
            Err(why) => debug!(%why, "this node is not up yet"),
        }
    }

    /// True when the state knows this life of this node to be up.
    fn is_up(&self) -> bool {
        let state = self.state.read();
        let own = state.nodes.get(&self.node).filter(|node| node.up);
        own.is_some_and(|node| node.incarnation == self.standing.incarnation())
    }

    /// As leader, declares down whoever has surely died. Who is not up itself waits until it
    /// is: when every node has died, the calls of the last one declared down would find no
    /// heir. Rows that are behind may not say yet that an earlier leader has declared this very
    /// node down, so a new leader waits for what it has committed. One without a lease is cut
    /// off itself.
    pub async fn declare(&self) {
        if !self.standing.leads_up_to_date() || !self.standing.lease_valid() || !self.is_up() {
            return;
        }
        let up: Vec<(NodeId, IncarnationNumber)> = {
            let state = self.state.read();
            let up = state.nodes.values().filter(|node| node.up);
            up.map(|node| (node.id, node.incarnation)).collect()
        };
        for (node, incarnation) in up.into_iter().filter(|(node, _)| *node != self.node) {
            if self.standing.over(node).is_some() {
                self.standing.declares(node, true);
                self.declare_over(node, incarnation).await;
                self.standing.declares(node, false);
            }
        }
    }

    /// Declares a node down if this life of it is over.
    async fn declare_over(&self, node: NodeId, incarnation: IncarnationNumber) {
        let Some(dead) = self.standing.over(node) else {
            return;
        };
        // The end of an older life says nothing of this one. That of a later one does: it may
        // have come and gone before it was up, and until then the rows knew nothing of it.
        if dead != 0 && dead < incarnation {
            return;
        }
        info!(%node, incarnation, "declaring a node down");
        let command = Command::NodeDown { node, incarnation };
        if let Err(why) = self.desk.propose(&command, DECLARE).await {
            debug!(%node, %why, "the node is not declared down yet");
        }
    }

    /// As leader, puts the highest feature level in force that every node reads.
    pub async fn raise(&self) {
        if !self.standing.leads() {
            return;
        }
        let (level, in_force) = {
            let state = self.state.read();
            (state.level_read(), state.meta.feature_level)
        };
        let level = level.map_or(0, |level| level.min(FEATURE_LEVEL));
        if level <= in_force {
            return;
        }
        match self.desk.propose(&Command::Raise { level }, PROPOSE).await {
            Ok(Reply::Done) => info!(level, "every node reads this feature level: it is in force"),
            Ok(other) => warn!(?other, level, "the feature level is not raised"),
            Err(why) => debug!(%why, level, "the feature level is not raised yet"),
        }
    }

    /// As leader, proposes a tick whenever the first deadline has passed; for ever.
    pub async fn tick(self, wakes: WakeHub) {
        let mut changed = wakes.deadline();
        loop {
            let due = self.state.read().next_deadline();
            let now = self.standing.now();
            let wait = due.map_or(Duration::from_secs(1), |due| {
                Duration::from_millis(due.since(now)).min(Duration::from_secs(1))
            });
            if !wait.is_zero() || !self.standing.leads() {
                tokio::select! {
                    biased;
                    _ = changed.changed() => {}
                    () = tokio::time::sleep(wait.max(TICK_PAUSE)) => {}
                }
                continue;
            }
            if let Err(why) = self.desk.propose(&Command::Tick, PROPOSE).await {
                debug!(%why, "no tick");
            }
            tokio::time::sleep(TICK_PAUSE).await;
        }
    }

    /// Compares the hash of the state between the nodes: asks as leader, tells as any node,
    /// and stands aside when this node's copy was found wrong; until then, for ever.
    pub async fn compare(self) {
        let incarnation = self.standing.incarnation();
        // The comparison last seen and since when; the one last told, and when.
        let mut seen = (0, Instant::now());
        let mut told: Option<(u64, Instant)> = None;
        let mut every = tokio::time::interval(COMPARE_LOOK);
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            every.tick().await;
            let (row, applied, up, diverged) = {
                let state = self.state.read();
                let own = state.nodes.get(&self.node);
                let up = own.is_some_and(|node| node.up && node.incarnation == incarnation);
                let diverged = state.diverged(self.node);
                (state.compare.clone(), state.meta.index, up, diverged)
            };
            if let Some(index) = diverged {
                return self.standing.stand_aside(index);
            }
            if seen.0 != row.index {
                seen = (row.index, Instant::now());
            }
            let now = Instant::now();
            let recently = told.is_some_and(|(index, at)| index == row.index && now - at < PROPOSE);
            if up && row.index > 0 && !row.told.contains_key(&self.node) && !recently {
                told = Some((row.index, now));
                let command = Command::HashTold {
                    node: self.node,
                    incarnation,
                    index: row.index,
                    hash: row.hash,
                };
                if let Err(why) = self.desk.propose(&command, PROPOSE).await {
                    debug!(%why, "the hash is not told yet");
                }
                continue;
            }
            let entries = applied.saturating_sub(row.index);
            let ripe = entries >= COMPARE_ENTRIES || now - seen.1 >= COMPARE_AGE;
            // A floor at rest has nothing to compare anew.
            if self.standing.leads()
                && ripe
                && applied > row.last
                && let Err(why) = self.desk.propose(&Command::Compare, PROPOSE).await
            {
                debug!(%why, "no comparison of hashes");
            }
        }
    }
}
