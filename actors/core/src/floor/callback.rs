//! Callbacks: callers who have hung up and whose place in a queue stands.
//!
//! A callback takes part in the distribution like a caller, at the place its caller had. When
//! an agent is free for it the customer is dialled; each attempt is a commit of its own.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::place::{ahead, known_by};
use crate::call::{Caller, PassedOver};
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
    /// This agent is rung, before the customer is dialled.
    Offered {
        /// The call that rings there.
        call: CallId,
        /// The agent.
        agent: AgentId,
    },
}

impl CallbackState {
    /// The word in lists.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Dialling { .. } => "dialling",
            Self::Resting { .. } => "resting",
            Self::Offered { .. } => "offered",
        }
    }

    /// The attempt under way, or the call that rings at an agent.
    pub fn call(&self) -> Option<CallId> {
        match self {
            Self::Dialling { call, .. } | Self::Offered { call, .. } => Some(*call),
            Self::Waiting | Self::Resting { .. } => None,
        }
    }

    /// The agent who is kept for it, or asked.
    pub fn agent(&self) -> Option<&AgentId> {
        match self {
            Self::Dialling { agent, .. } | Self::Offered { agent, .. } => Some(agent),
            Self::Waiting | Self::Resting { .. } => None,
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
    /// Agents who did not take it when they were rung first; anew with each attempt.
    pub passed_over: Vec<PassedOver>,
    /// What it is doing.
    pub state: CallbackState,
}

/// Whose callback it is: tenant, queue, whether he has proved an extension, and the number
/// he calls from.
pub type OwnerKey = (TenantId, QueueName, bool, String);

/// The owner a caller of a queue would be; `None` for one who can have no callback, since
/// anybody may claim any number.
pub fn owner_of(tenant: &TenantId, queue: &QueueName, from: &Caller) -> Option<OwnerKey> {
    let proved = from.extension.is_some();
    let number = known_by(from).filter(|_| proved || from.trunk.is_some())?;
    Some((tenant.clone(), queue.clone(), proved, number))
}

impl CallbackRow {
    fn owner(&self) -> Option<OwnerKey> {
        owner_of(&self.tenant, &self.queue, &self.from)
    }
}

/// Callbacks by queue and by owner. Derived from their rows.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct CallbackIndex {
    /// Those whose turn may come or has come, by place: all that do not rest.
    turns: BTreeMap<(TenantId, QueueName), BTreeSet<(u64, CallId)>>,
    owners: BTreeMap<OwnerKey, CallId>,
}

impl CallbackIndex {
    /// The index of these rows.
    pub fn of<'r>(rows: impl Iterator<Item = &'r CallbackRow>) -> Self {
        let mut index = Self::default();
        rows.for_each(|row| index.note(row));
        index
    }

    /// Takes in a row that is new or does something else now.
    pub fn note(&mut self, row: &CallbackRow) {
        if let Some(owner) = row.owner() {
            self.owners.insert(owner, row.id);
        }
        if matches!(row.state, CallbackState::Resting { .. }) {
            return self.drop_turn(row);
        }
        let queue = (row.tenant.clone(), row.queue.clone());
        let turns = self.turns.entry(queue).or_default();
        turns.insert((row.order, row.id));
    }

    /// Forgets a row.
    pub fn forget(&mut self, row: &CallbackRow) {
        if let Some(owner) = row.owner() {
            self.owners.remove(&owner);
        }
        self.drop_turn(row);
    }

    fn drop_turn(&mut self, row: &CallbackRow) {
        let queue = (row.tenant.clone(), row.queue.clone());
        if let Some(turns) = self.turns.get_mut(&queue) {
            turns.remove(&(row.order, row.id));
            if turns.is_empty() {
                self.turns.remove(&queue);
            }
        }
    }

    /// The callback of this owner.
    pub fn owned(&self, owner: &OwnerKey) -> Option<CallId> {
        self.owners.get(owner).copied()
    }

    /// Callbacks of a queue that do not rest, by place.
    pub fn in_turn(&self, queue: &(TenantId, QueueName)) -> impl Iterator<Item = CallId> {
        let turns = self.turns.get(queue).into_iter().flatten();
        turns.map(|(_, id)| *id)
    }

    /// How many of these stand before a place.
    pub fn ahead(&self, queue: &(TenantId, QueueName), order: u64) -> usize {
        let Some(turns) = self.turns.get(queue) else {
            return 0;
        };
        let at = (order, CallId(0));
        ahead(turns.len(), turns.range(..at), turns.range(at..))
    }
}
