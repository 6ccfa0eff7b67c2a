//! One contact of a customer, in any channel, on the customer's timeline.

use serde::{Deserialize, Serialize};

use crate::call::Disposition;
use crate::cdr::CdrRow;
use crate::ids::{AgentId, CallId, CustomerId, InteractionId, QueueName, TenantId};
use crate::time::TimeMs;

/// How the customer and the client company spoke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Channel {
    /// By telephone.
    Call,
}

impl Channel {
    /// The word in lists.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Call => "call",
        }
    }
}

/// Who began it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Direction {
    /// The customer.
    In,
    /// The client company.
    Out,
}

impl Direction {
    /// The word in lists.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::In => "in",
            Self::Out => "out",
        }
    }
}

/// A contact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interaction {
    /// Its id.
    pub id: InteractionId,
    /// Whose customer.
    pub tenant: TenantId,
    /// The customer.
    pub customer: CustomerId,
    /// When it began.
    pub at: TimeMs,
    /// How.
    pub channel: Channel,
    /// Who began it.
    pub direction: Direction,
    /// The call, when it was one.
    pub call: Option<CallId>,
    /// The queue it came through.
    pub queue: Option<QueueName>,
    /// The agent who talked.
    pub agent: Option<AgentId>,
    /// How it ended.
    pub disposition: Disposition,
    /// Time waited in the queue, ms.
    pub wait_ms: u64,
    /// Time talked, ms.
    pub talk_ms: u64,
}

impl Interaction {
    /// The contact a call's record stands for; `None` when it was with no customer.
    pub fn of_call(id: InteractionId, cdr: &CdrRow) -> Option<Self> {
        let customer = cdr.customer.clone()?;
        Some(Self {
            id,
            tenant: cdr.tenant.clone(),
            customer,
            at: cdr.started_at,
            channel: Channel::Call,
            direction: cdr.direction,
            call: Some(cdr.call),
            queue: cdr.queue.clone(),
            agent: cdr.agent.clone(),
            disposition: cdr.disposition,
            wait_ms: cdr.wait_ms().unwrap_or(0),
            talk_ms: cdr.talk_ms,
        })
    }
}
