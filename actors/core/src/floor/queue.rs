//! Queues: their totals. Who waits is read from the calls; it is stored once.

use serde::{Deserialize, Serialize};

use crate::ids::{QueueName, TenantId};

/// Totals of one queue since the cluster was made. `offered` is not stored: it is
/// the sum of these and of those still waiting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FigureRow {
    /// Whose queue.
    pub tenant: TenantId,
    /// The queue.
    pub queue: QueueName,
    /// Callers who entered; equals `offered` and is kept to check the sum.
    pub entered: u64,
    /// Agent's answer committed.
    pub answered: u64,
    /// Caller left before an answer.
    pub abandoned: u64,
    /// Left for another destination by rule.
    pub overflowed: u64,
    /// Left with a callback.
    pub callback_taken: u64,
    /// Lost while waiting because a node died.
    pub node_lost: u64,
    /// Sum of the waits of answered calls, ms.
    pub answered_wait_ms: u64,
    /// Sum of talk times of ended calls, ms.
    pub talk_ms: u64,
}

impl FigureRow {
    /// Totals of a queue nobody has entered.
    pub fn new(tenant: TenantId, queue: QueueName) -> Self {
        Self {
            tenant,
            queue,
            entered: 0,
            answered: 0,
            abandoned: 0,
            overflowed: 0,
            callback_taken: 0,
            node_lost: 0,
            answered_wait_ms: 0,
            talk_ms: 0,
        }
    }

    /// Callers who entered and left in one of the counted ways.
    pub fn left(&self) -> u64 {
        self.answered + self.abandoned + self.overflowed + self.callback_taken + self.node_lost
    }
}
