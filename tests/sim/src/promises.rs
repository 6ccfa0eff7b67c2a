//! What may not be done to those who talk: a talk that nobody ended goes on, with the same
//! agent, and nobody's calls are taken while he may still act.
//!
//! Talks are looked at when an entry is applied for the first time, on any node.

use std::collections::{BTreeMap, BTreeSet};

use strowger_core::call::Stage;
use strowger_core::ids::{CallId, LegId};
use strowger_core::state::State;
use strowger_core::state::command::{Action, Command};

use crate::phones::Progress;
use crate::world::World;

/// Calls in which two parties talk, and what was done to them.
#[derive(Debug, Default)]
pub struct Talks {
    /// Caller's leg and far leg of each.
    bridged: BTreeMap<CallId, (LegId, LegId)>,
    /// Calls that an operator has ended.
    hung_up: BTreeSet<CallId>,
}

impl World {
    /// A command of an entry has been applied.
    pub fn note_command(&mut self, command: &Command) {
        if let Command::Act {
            action: Action::Hangup { call },
            ..
        } = command
        {
            self.checks.talks.hung_up.insert(*call);
        }
    }

    /// A leader takes the right of `node` to act for over: then it must be. One that was
    /// deposed may think what it likes: nothing of it is committed.
    pub fn check_over(&mut self, leader: u64, node: u64) {
        if self.agreement.leader == Some(leader) && self.has_lease(node) {
            let why = format!("node {leader} takes node {node} for dead while it may act");
            self.broken("one-owner", why);
        }
    }

    /// Checks the talks that an entry has changed.
    pub fn check_talks(&mut self, index: u64, state: &State) {
        let before = std::mem::take(&mut self.checks.talks.bridged);
        let mut after = BTreeMap::new();
        for call in state.calls.values() {
            if let (Stage::Bridged { far }, Some(caller)) = (&call.stage, call.caller()) {
                after.insert(call.id, (caller.id, *far));
            }
        }
        for (call, legs) in before {
            match after.get(&call) {
                Some(now) if *now == legs => {}
                Some((_, far)) => {
                    let why = format!("entry {index}: {call} talks to {far} after {}", legs.1);
                    self.broken("one-agent", why);
                }
                None => {
                    let asked = self.checks.talks.hung_up.remove(&call);
                    let both = [legs.0, legs.1].iter().all(|leg| self.is_talking(*leg));
                    if both && !asked {
                        let why = format!("entry {index}: nobody ended {call}");
                        self.broken("kept-talk", why);
                    }
                }
            }
        }
        let talks = &mut self.checks.talks;
        talks.bridged = after;
        talks.hung_up.retain(|call| state.calls.contains_key(call));
    }

    /// True while the far end of a leg talks and has not hung up.
    fn is_talking(&self, leg: LegId) -> bool {
        let mut fars = self.fars.values();
        fars.any(|far| far.leg == Some(leg) && far.progress == Progress::Up)
    }
}
