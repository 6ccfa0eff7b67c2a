//! Deadlines of the floor. They live in an ordered table of the state; the leader
//! proposes a tick when the first is due, and apply expires it. Firing late or twice
//! is harmless: each checks the row it is about.

use serde::{Deserialize, Serialize};

use super::State;
use crate::ids::{AgentId, CallId, Extension, HoursName, LegId, QueueName, TenantId};
use crate::limits;
use crate::time::TimeMs;

/// What is due.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Deadline {
    /// An offer is missed, a passed-over agent may be asked again, more agents may serve,
    /// the wait for one agent is over, or the phones of an extension have rung long enough.
    Call(CallId),
    /// Wrap-up or a phone's rest is over, or a pause has lasted too long.
    Agent(TenantId, AgentId),
    /// A binding ends.
    Registration(TenantId, Extension),
    /// The legs of an ended call should be gone by now.
    Clearing(CallId),
    /// Old events go.
    Events,
    /// A caller has waited as long as his queue lets him.
    Wait(CallId),
    /// A leg of a lost call is given up.
    Leftover(LegId),
    /// A place is no longer kept.
    Place(TenantId, QueueName, String),
    /// A callback waits again.
    Callback(CallId),
    /// Hours may open or close.
    Hours(TenantId, HoursName),
}

impl State {
    /// Sets a deadline. The same one may stand several times at different times.
    pub(super) fn at(&mut self, due: TimeMs, deadline: Deadline) {
        if self.deadlines.insert((due, deadline.clone())) {
            self.batch.deadlines.push((due, deadline, true));
        }
    }

    /// Expires what is due, at most [`limits::EXPIRED_PER_TICK`].
    pub(super) fn expire(&mut self) {
        for _ in 0..limits::EXPIRED_PER_TICK {
            match self.deadlines.first() {
                Some((due, _)) if *due <= self.meta.now => {}
                _ => break,
            }
            let Some((due, deadline)) = self.deadlines.pop_first() else {
                break;
            };
            self.batch.deadlines.push((due, deadline.clone(), false));
            match deadline {
                Deadline::Call(call) => self.call_due(call),
                Deadline::Agent(tenant, agent) => self.agent_due(&(tenant, agent)),
                Deadline::Registration(tenant, extension) => {
                    self.registration_due(&(tenant, extension));
                }
                Deadline::Wait(call) => self.wait_due(call),
                Deadline::Clearing(call) => self.clearing_due(call),
                // The flush that removes them knows when to look again.
                Deadline::Events => self.batch.prune_events = true,
                Deadline::Leftover(leg) => self.leftover_due(leg),
                Deadline::Place(tenant, queue, number) => {
                    self.place_due((tenant, queue, number));
                }
                Deadline::Callback(id) => self.callback_due(id),
                // Noted already: every command begins with that.
                Deadline::Hours(..) => {}
            }
        }
    }
}
