//! Taking back a call that was asked for and refused before anybody knew what came of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use strowger_core::call::Cause;
use strowger_core::ids::CallId;
use strowger_core::ports::RequestId;
use strowger_core::state::SharedState;
use strowger_core::state::command::{Observation, Refusal, Reply};
use tracing::info;

use crate::desk::{Desk, DeskError};
use crate::gate::Pass;
use crate::limits;
use crate::outbox;

/// An arrival whose caller was refused because its outcome was unknown.
pub struct Withdrawal {
    /// Where commands go.
    pub desk: Desk,
    /// The replicated state.
    pub state: SharedState,
    /// The id under which the call was asked for.
    pub request: RequestId,
    /// Set once the caller has acknowledged that he is refused. Until then he may still wait for
    /// an answer, of whoever has his call next.
    pub refusal_known: Arc<AtomicBool>,
    /// Its place at the gate, which it keeps until nothing can come of it.
    pub pass: Pass,
}

impl Withdrawal {
    /// Sees to it that nobody is rung for the caller: the call is never made, or ends as soon as
    /// it is known, whoever has it by then. Only a caller who may not know that he is refused is
    /// left to another owner. Returns the call that ended: where it is this node's, it needs an
    /// actor for what was set going with it.
    pub async fn carry_out(self) -> Option<CallId> {
        let (call, leg) = loop {
            match self.desk.withdraw(self.request, limits::ARRIVAL).await {
                Ok(Reply::Call { call, leg }) => break (call, leg),
                Err(DeskError::NoQuorum | DeskError::Unknown(_)) => {
                    tokio::time::sleep(limits::RETRY).await;
                }
                // It was never made. Or nobody knows any more: where it was made, it is here
                // without an actor, and whoever gives it one finds nobody at its beginning.
                Ok(_) | Err(_) => return None,
            }
        };
        info!(%call, "a caller was refused before his call was known");
        let ended = [outbox::Noted::now(Observation::LegEnded {
            leg,
            sip_call_id: String::new(),
            cause: Cause::FAILURE,
        })];
        loop {
            let (row, made, level) = {
                let state = self.state.read();
                let row = state.calls.get(&call).map(|row| (row.epoch, row.moved));
                (
                    row,
                    call.index() <= state.meta.index,
                    state.meta.feature_level,
                )
            };
            match row {
                Some((_, true)) if !self.refusal_known.load(Ordering::Acquire) => return None,
                // As its present owner would say it: this node knows what the caller was told.
                Some((epoch, _)) => {
                    let command = outbox::command(call, epoch, &ended, level);
                    let said = self.desk.propose(&command, limits::PROPOSE).await;
                    if said.is_ok_and(|reply| reply != Reply::Refused(Refusal::Stale)) {
                        return Some(call);
                    }
                }
                None if made => return None,
                // This node has yet to apply the entry that made it.
                None => {}
            }
            tokio::time::sleep(limits::RETRY).await;
        }
    }
}
