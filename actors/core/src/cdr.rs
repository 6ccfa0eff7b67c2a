//! What is left of a call when it has ended: one record, with every leg.

use serde::{Deserialize, Serialize};

use crate::call::{CallRow, Cause, Disposition, Exit, LegRow};
use crate::crm::Direction;
use crate::ids::{AgentId, CallId, CdrId, CustomerId, NodeId, QueueName, TenantId};
use crate::time::TimeMs;

/// A call detail record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CdrRow {
    /// Its id; also its place in the list, since ids rise with the log.
    pub id: CdrId,
    /// The call.
    pub call: CallId,
    /// Whose call it was.
    pub tenant: TenantId,
    /// Caller's number.
    pub from: String,
    /// Dialled number.
    pub to: String,
    /// Whether a phone of ours called.
    pub direction: Direction,
    /// The callback it was an attempt of, by the call that took it.
    pub callback: Option<CallId>,
    /// The customer at the other end.
    pub customer: Option<CustomerId>,
    /// When it arrived.
    pub started_at: TimeMs,
    /// When it entered the queue.
    pub queued_at: Option<TimeMs>,
    /// When two-way talk began.
    pub answered_at: Option<TimeMs>,
    /// When it ended.
    pub ended_at: TimeMs,
    /// Length of two-way talk.
    pub talk_ms: u64,
    /// Queue.
    pub queue: Option<QueueName>,
    /// Agent who answered.
    pub agent: Option<AgentId>,
    /// Node that owned the call.
    pub node: NodeId,
    /// How it ended.
    pub disposition: Disposition,
    /// Final SIP status towards the caller and Q.850 cause.
    pub cause: Cause,
    /// Queues left for another destination by rule, oldest first.
    pub exits: Vec<Exit>,
    /// Every leg it had, without checkpoints.
    pub legs: Vec<LegRow>,
}

impl CdrRow {
    /// The record of `call`, ended now with `ending`.
    pub fn of(id: CdrId, call: &CallRow, now: TimeMs, ending: (Disposition, Cause)) -> Self {
        let talk_end = call.talk_ended_at.unwrap_or(now);
        let legs = call.legs.iter().cloned().map(|mut leg| {
            leg.checkpoint = None;
            leg.ended_at = leg.ended_at.or(Some(now));
            leg
        });
        Self {
            id,
            call: call.id,
            tenant: call.tenant.clone(),
            from: call.from.number.clone(),
            to: call.to.clone(),
            direction: match call.from.extension {
                _ if call.callback.is_some() => Direction::Out,
                Some(_) => Direction::Out,
                None => Direction::In,
            },
            callback: call.callback,
            customer: call.customer.clone(),
            started_at: call.started_at,
            queued_at: call.visit.as_ref().map(|visit| visit.entered_at),
            answered_at: call.answered_at,
            ended_at: now,
            talk_ms: call
                .answered_at
                .map_or(0, |answered| talk_end.since(answered)),
            queue: call.visit.as_ref().map(|visit| visit.queue.clone()),
            agent: call.agent.clone(),
            node: call.owner,
            exits: call.exits.clone(),
            disposition: ending.0,
            cause: ending.1,
            legs: legs.collect(),
        }
    }

    /// Milliseconds waited in the queue, to the answer or to the end.
    pub fn wait_ms(&self) -> Option<u64> {
        self.queued_at
            .map(|queued| self.answered_at.unwrap_or(self.ended_at).since(queued))
    }
}
