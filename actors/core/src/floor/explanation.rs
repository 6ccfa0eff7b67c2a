//! Why a caller was offered to an agent: written with the assignment, kept for as long
//! as the record of the call.
//!
//! Invariant: an encoded explanation has at most [`limits::EXPLANATION_BYTES`] bytes;
//! agents beyond that are counted, not named.

use serde::{Deserialize, Serialize};

use super::agent::AgentState;
use crate::ids::{AgentId, CallId, LegId, QueueName, TenantId};
use crate::limits;
use crate::site::Strategy;
use crate::time::TimeMs;

/// Why an agent was not chosen from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exclusion {
    /// Serves the queue, but the skills do not suffice.
    Skills,
    /// Missed this caller.
    Missed,
    /// In this state, which is not ready.
    State(AgentState),
    /// The caller waits for another agent for a while.
    Meant,
}

impl Exclusion {
    /// The word in lists.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Skills => "skills",
            Self::Missed => "missed_this_caller",
            Self::State(state) => state.as_str(),
            Self::Meant => "caller_waits_for_another",
        }
    }
}

/// An agent who could have taken the caller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Considered {
    /// The agent.
    pub agent: AgentId,
    /// Idle for so long, ms.
    pub idle_ms: u64,
    /// Calls since sign-in.
    pub calls: u64,
    /// Talk time since sign-in, ms.
    pub talk_ms: u64,
    /// Number of the last offer before; 0 = none.
    pub last_offer: u64,
}

/// Agents beyond those named, and all of the queue, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Could have taken the caller.
    pub candidates: u32,
    /// May serve by queue and skills.
    pub members: u32,
    /// Members signed in, not paused and with a phone.
    pub working: u32,
    /// Serve the queue without the skills asked for.
    pub unfit: u32,
}

/// Why a caller was offered to whom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// Log index of the assignment.
    pub index: u64,
    /// When it was committed.
    pub at: TimeMs,
    /// The call.
    pub call: CallId,
    /// The first leg rung for it.
    pub leg: LegId,
    /// Whose floor.
    pub tenant: TenantId,
    /// The queue.
    pub queue: QueueName,
    /// Steps passed of those that widen who may serve.
    pub step: u32,
    /// How agents are picked.
    pub strategy: Strategy,
    /// Thousandths of the caller's score.
    pub score: i64,
    /// Weight of the queue within it.
    pub weight: i64,
    /// Priority of the caller within it.
    pub priority: i64,
    /// Waited for so long, ms.
    pub waited_ms: u64,
    /// Past the ageing ceiling: served before all who are not.
    pub aged: bool,
    /// The agent is the one meant for the caller.
    pub meant: bool,
    /// Who was offered the caller; several by ring-all.
    pub winners: Vec<AgentId>,
    /// Who could have been, in the order of the strategy, the winners first.
    pub candidates: Vec<Considered>,
    /// Who could not, and why.
    pub excluded: Vec<(AgentId, Exclusion)>,
    /// Everybody, counted.
    pub counts: Counts,
}

/// Bytes of everything but names: numbers at their widest, lengths, the version byte.
const FIXED_BYTES: usize = 200;
/// Bytes of a candidate beside the name.
const CONSIDERED_BYTES: usize = 44;
/// Bytes of an exclusion, or of a winner, beside the name.
const NAMED_BYTES: usize = 6;

impl Explanation {
    /// Keeps as many names as fit, in this order: winners, candidates, exclusions.
    /// Candidates may take half of what the winners leave.
    pub fn bound(&mut self) {
        let fixed = FIXED_BYTES + self.tenant.as_str().len() + self.queue.as_str().len();
        let mut left = limits::EXPLANATION_BYTES.saturating_sub(fixed);
        keep(&mut self.winners, &mut left, |agent| {
            agent.as_str().len() + NAMED_BYTES
        });
        let mut half = left / 2;
        let given = half;
        keep(&mut self.candidates, &mut half, |one| {
            one.agent.as_str().len() + CONSIDERED_BYTES
        });
        left -= given - half;
        keep(&mut self.excluded, &mut left, |(agent, _)| {
            agent.as_str().len() + NAMED_BYTES
        });
    }

    /// Key of the row: by call, then by log index and leg.
    pub fn key(&self) -> Vec<u8> {
        let mut key = self.call.0.to_be_bytes().to_vec();
        key.extend(self.leg.0.to_be_bytes());
        key
    }
}

/// Shortens a list to what fits into `left` bytes.
fn keep<T>(list: &mut Vec<T>, left: &mut usize, bytes: impl Fn(&T) -> usize) {
    let fits = list
        .iter()
        .take_while(|one| match left.checked_sub(bytes(one)) {
            Some(rest) => {
                *left = rest;
                true
            }
            None => false,
        });
    let count = fits.count();
    list.truncate(count);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::encode_row;

    #[test]
    fn the_longest_names_still_fit_into_its_bound() {
        let long = |n: usize| AgentId::from(format!("{n:0>256}"));
        let short = |n: usize| AgentId::from(format!("a{n}"));
        let names: [&dyn Fn(usize) -> AgentId; 2] = [&long, &short];
        for name in names {
            let mut one = Explanation {
                index: u64::MAX,
                at: TimeMs(u64::MAX),
                call: CallId(u64::MAX),
                leg: LegId(u64::MAX),
                tenant: TenantId::from("t".repeat(256)),
                queue: QueueName::from("q".repeat(256)),
                step: u32::MAX,
                strategy: Strategy::RingAll,
                score: i64::MIN,
                weight: i64::MIN,
                priority: i64::MIN,
                waited_ms: u64::MAX,
                aged: true,
                meant: true,
                winners: (0..64).map(name).collect(),
                candidates: (0..64)
                    .map(|n| Considered {
                        agent: name(n),
                        idle_ms: u64::MAX,
                        calls: u64::MAX,
                        talk_ms: u64::MAX,
                        last_offer: u64::MAX,
                    })
                    .collect(),
                excluded: (0..64)
                    .map(|n| (name(n), Exclusion::State(AgentState::NoPhone)))
                    .collect(),
                counts: Counts {
                    candidates: u32::MAX,
                    members: u32::MAX,
                    working: u32::MAX,
                    unfit: u32::MAX,
                },
            };
            one.bound();
            assert!(!one.winners.is_empty());
            let bytes = encode_row(&one).len();
            assert!(bytes <= limits::EXPLANATION_BYTES, "{bytes}");
        }
    }
}
