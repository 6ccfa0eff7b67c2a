//! Wake-ups reach the actors they are about, and calls of this node that have no actor get
//! one.

use std::collections::BTreeSet;
use std::time::Duration;

use strowger_core::call::Stage;
use strowger_core::ids::{CallId, NodeId};
use strowger_core::ports::IncarnationNumber;
use strowger_core::state::{SharedState, Wake};

use crate::gate::Gate;
use crate::switchboard::Switchboard;
use crate::wake::WakeHub;

/// Between two looks for calls without an actor.
const SWEEP: Duration = Duration::from_secs(2);

/// What follows the calls of one node. Cheap to clone.
#[derive(Clone)]
pub struct Follower {
    /// This node.
    pub node: NodeId,
    /// Its present life.
    pub incarnation: IncarnationNumber,
    /// The replicated state.
    pub state: SharedState,
    /// The actors of this node.
    pub switchboard: Switchboard,
    /// Admission of calls.
    pub gate: Gate,
}

impl Follower {
    /// Passes wake-ups about calls on to their actors, for ever.
    pub async fn dispatch(self, wakes: WakeHub) {
        let mut reader = wakes.calls();
        loop {
            for wake in reader.next().await {
                if let Wake::Call(call) = wake
                    && !self.switchboard.has(call)
                    && self.is_to_open(call)
                {
                    self.switchboard.open(call, self.gate.enter()).await;
                }
                self.switchboard.wake(&wake);
            }
        }
    }

    /// True for a call of this node that nobody admits here: one that the exchange itself
    /// makes, or one that another owner, or life of this node, has left.
    fn is_to_open(&self, call: CallId) -> bool {
        if !self.is_up() {
            return false;
        }
        let state = self.state.read();
        let row = state.calls.get(&call);
        row.is_some_and(|row| {
            let dials = matches!(row.stage, Stage::Dialling { .. } | Stage::Offering { .. });
            row.owner == self.node && (dials || row.moved)
        })
    }

    /// True when the rows know this life of the node. Before that they may be old: what they
    /// say of its calls is what an older life had, or less.
    fn is_up(&self) -> bool {
        let state = self.state.read();
        let own = state.nodes.get(&self.node).filter(|node| node.up);
        own.is_some_and(|node| node.incarnation == self.incarnation)
    }

    /// Looks now and then for calls this node owns that have no actor, because it failed or
    /// because their admission was cut off after the commit. Twice seen, once started: an
    /// admission under way is left alone.
    pub async fn sweep(self) {
        let mut suspects = BTreeSet::new();
        let mut every = tokio::time::interval(SWEEP);
        // What was seen twice within a moment was not left alone.
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            every.tick().await;
            let mut orphans = self.switchboard.orphans();
            if !self.is_up() {
                orphans.clear();
            }
            for call in orphans.intersection(&suspects) {
                self.switchboard.open(*call, self.gate.enter()).await;
                self.switchboard.wake(&Wake::Call(*call));
            }
            suspects = orphans;
        }
    }
}
