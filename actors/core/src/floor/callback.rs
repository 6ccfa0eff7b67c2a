//! Callbacks: callers who have hung up and whose place in a queue stands.
//!
//! A callback takes part in the distribution like a caller, at the place its caller had. When
//! an agent is free for it the customer is dialled; each attempt is a commit of its own.

use serde::{Deserialize, Serialize};

use crate::call::Caller;
use crate::ids::{AgentId, CallId, CustomerId, QueueName, TenantId};
use crate::time::TimeMs;

/// What a callback is doing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CallbackState {
    /// Its turn has not come.
    Waiting,
    /// The customer is dialled, and this agent kept for him.
    Dialling {
        /// The attempt.
        call: CallId,
        /// The agent.
        agent: AgentId,
    },
    /// The customer was not reached; he is left alone until then.
    Resting {
        /// When it waits again.
        until: TimeMs,
    },
}

impl CallbackState {
    /// The word in lists.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Dialling { .. } => "dialling",
            Self::Resting { .. } => "resting",
        }
    }
}

/// A customer to be called back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallbackRow {
    /// The call that took it; names the callback.
    pub id: CallId,
    /// Whose customer.
    pub tenant: TenantId,
    /// The queue.
    pub queue: QueueName,
    /// Whom to dial.
    pub from: Caller,
    /// The number he had dialled, which he is shown.
    pub to: String,
    /// His place.
    pub order: u64,
    /// From when on the wait counts.
    pub since: TimeMs,
    /// His score beside the queue's weight and the wait.
    pub priority: i64,
    /// Steps of the queue's rule passed when he hung up.
    pub step: usize,
    /// Who he is.
    pub customer: Option<CustomerId>,
    /// When he asked for it.
    pub taken_at: TimeMs,
    /// Attempts begun.
    pub attempts: u32,
    /// What it is doing.
    pub state: CallbackState,
}
