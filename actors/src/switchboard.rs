//! Starting, finding and supervising the call actors of this node.
//!
//! Invariant: a live call owned by this node has one actor here. One that dies of a
//! defect is replaced while its call lives, so a broken call costs its own legs and
//! never the node.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::RwLock;
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SupervisionEvent};
use strowger_core::ids::{CallId, LegId, NodeId};
use strowger_core::state::Wake;
use tracing::error;

use crate::call::{CallActor, CallContext, CallMessage, CallStart};
use crate::gate::Pass;
use crate::ports::LegEvent;

type Calls = Arc<RwLock<BTreeMap<CallId, ActorRef<CallMessage>>>>;

/// The actors of this node. Cheap to clone.
#[derive(Clone)]
pub struct Switchboard {
    calls: Calls,
    supervisor: ActorCell,
    context: CallContext,
    node: NodeId,
}

/// The supervisor of all call actors.
struct Supervisor;

/// What the supervisor knows.
struct Supervised {
    calls: Calls,
}

impl Actor for Supervisor {
    type Msg = ();
    type State = Supervised;
    type Arguments = Calls;

    async fn pre_start(
        &self,
        _myself: ActorRef<()>,
        calls: Calls,
    ) -> Result<Supervised, ActorProcessingErr> {
        Ok(Supervised { calls })
    }

    async fn handle_supervisor_evt(
        &self,
        _myself: ActorRef<()>,
        event: SupervisionEvent,
        state: &mut Supervised,
    ) -> Result<(), ActorProcessingErr> {
        let cell = match event {
            SupervisionEvent::ActorTerminated(cell, ..) => cell,
            SupervisionEvent::ActorFailed(cell, why) => {
                error!(name: "panic", actor = %cell.get_id(), %why, "a call actor failed");
                cell
            }
            SupervisionEvent::ActorStarted(_) | SupervisionEvent::ProcessGroupChanged(_) => {
                return Ok(());
            }
            #[allow(unreachable_patterns)]
            _ => return Ok(()),
        };
        state
            .calls
            .write()
            .retain(|_, actor| actor.get_id() != cell.get_id());
        Ok(())
    }
}

impl Switchboard {
    /// A switchboard without calls.
    ///
    /// # Errors
    /// When the supervisor cannot be started.
    pub async fn start(node: NodeId, context: CallContext) -> Result<Self, ractor::SpawnErr> {
        let calls = Calls::default();
        let (supervisor, _running) = Actor::spawn(None, Supervisor, Arc::clone(&calls)).await?;
        Ok(Self {
            calls,
            supervisor: supervisor.get_cell(),
            context,
            node,
        })
    }

    /// Starts the actor of a call that this node owns; the present one when it has one.
    pub async fn open(&self, call: CallId, pass: Option<Pass>) -> Option<ActorRef<CallMessage>> {
        self.start_actor(call, None, pass).await
    }

    /// The same for a call that was admitted here, with the caller's leg.
    pub async fn admit(
        &self,
        call: CallId,
        caller: LegId,
        pass: Pass,
    ) -> Option<ActorRef<CallMessage>> {
        self.start_actor(call, Some(caller), Some(pass)).await
    }

    async fn start_actor(
        &self,
        call: CallId,
        caller: Option<LegId>,
        pass: Option<Pass>,
    ) -> Option<ActorRef<CallMessage>> {
        let running = self.calls.read().get(&call).cloned();
        if let Some(actor) = running {
            if let Some(caller) = caller {
                // It may be stopping just now; then its caller's leg goes with it.
                let _ = actor.cast(CallMessage::Admitted(caller));
            }
            return Some(actor);
        }
        let start = CallStart {
            call,
            context: self.context.clone(),
            caller,
            pass,
        };
        match Actor::spawn_linked(None, CallActor, start, self.supervisor.clone()).await {
            Ok((actor, _running)) => {
                let mut calls = self.calls.write();
                let standing = calls.entry(call).or_insert_with(|| actor.clone()).clone();
                if standing.get_id() == actor.get_id() {
                    // It has done nothing yet: now its legs' reports reach it.
                    let _ = actor.cast(CallMessage::Look);
                } else {
                    // Two were started at once. This one has nothing to tidy up.
                    actor.kill();
                    if let Some(caller) = caller {
                        let _ = standing.cast(CallMessage::Admitted(caller));
                    }
                }
                Some(standing)
            }
            Err(why) => {
                error!(%call, %why, "the actor of a call cannot be started");
                None
            }
        }
    }

    /// Passes an event of a leg to its call. False when the call has no actor here.
    pub fn leg(&self, call: CallId, leg: LegId, event: LegEvent) -> bool {
        let actor = self.calls.read().get(&call).cloned();
        actor.is_some_and(|actor| actor.cast(CallMessage::Leg(leg, event)).is_ok())
    }

    /// Passes a wake-up on to the actors it is about.
    pub fn wake(&self, wake: &Wake) {
        match wake {
            Wake::Call(call) => self.wake_call(*call),
            Wake::All => {
                let running: Vec<CallId> = self.calls.read().keys().copied().collect();
                for call in running {
                    self.wake_call(call);
                }
            }
            Wake::Cluster | Wake::Site(_) | Wake::Events | Wake::Deadline => {}
        }
    }

    fn wake_call(&self, call: CallId) {
        let actor = self.calls.read().get(&call).cloned();
        // A call being admitted gets its actor from there, one that lost it from the
        // sweep over orphans.
        if let Some(actor) = actor {
            // It may be stopping just now; then there is nothing to wake.
            let _ = actor.cast(CallMessage::Look);
        }
    }

    /// True when a call has its actor here.
    pub fn has(&self, call: CallId) -> bool {
        self.calls.read().contains_key(&call)
    }

    /// Calls this node owns that have no actor.
    pub fn orphans(&self) -> BTreeSet<CallId> {
        let running = self.calls.read();
        let state = self.context.state.read();
        let owned = state.calls_of(self.node).map(|call| call.id);
        owned.filter(|call| !running.contains_key(call)).collect()
    }

    /// Ends every actor at once, without a word to anybody: the node is no more.
    pub fn abandon(&self) {
        self.supervisor.kill();
    }

    /// Number of call actors.
    pub fn alive(&self) -> usize {
        self.calls.read().len()
    }
}
