//! Who is offered which call: a pure choice over those who wait and those who are
//! free.
//!
//! Invariant: callers are looked at in the order they came, over all queues; each
//! gets the longest idle agent who serves his queue and has not just missed him; a
//! caller nobody can serve holds up nobody behind him.

use std::collections::BTreeSet;

use crate::ids::{AgentId, CallId, QueueName, TenantId};
use crate::time::TimeMs;

/// A call that wants an agent.
#[derive(Clone, Debug)]
pub struct Seeker {
    /// The call.
    pub call: CallId,
    /// Its place: lower is served earlier.
    pub order: u64,
    /// Its queue.
    pub queue: (TenantId, QueueName),
    /// Agents not to be asked now.
    pub passed_over: BTreeSet<AgentId>,
}

/// An agent who could take a call.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The agent.
    pub agent: (TenantId, AgentId),
    /// Idle since then.
    pub idle_since: TimeMs,
    /// Queues served.
    pub queues: BTreeSet<QueueName>,
}

/// Pairs calls with agents.
pub fn pairs(
    mut seekers: Vec<Seeker>,
    mut candidates: Vec<Candidate>,
) -> Vec<(CallId, (TenantId, AgentId))> {
    seekers.sort_by_key(|seeker| seeker.order);
    candidates.sort_by(|a, b| (a.idle_since, &a.agent).cmp(&(b.idle_since, &b.agent)));
    let mut chosen = Vec::new();
    for seeker in seekers {
        if candidates.is_empty() {
            break;
        }
        let fits = |candidate: &Candidate| {
            candidate.agent.0 == seeker.queue.0
                && candidate.queues.contains(&seeker.queue.1)
                && !seeker.passed_over.contains(&candidate.agent.1)
        };
        if let Some(place) = candidates.iter().position(fits) {
            chosen.push((seeker.call, candidates.remove(place).agent));
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seeker(order: u64, queue: &str, passed_over: &[&str]) -> Seeker {
        Seeker {
            call: CallId(order),
            order,
            queue: (TenantId::from("t"), QueueName::from(queue)),
            passed_over: passed_over
                .iter()
                .map(|agent| AgentId::from(*agent))
                .collect(),
        }
    }

    fn candidate(agent: &str, idle_since: u64, queues: &[&str]) -> Candidate {
        Candidate {
            agent: (TenantId::from("t"), AgentId::from(agent)),
            idle_since: TimeMs(idle_since),
            queues: queues.iter().map(|queue| QueueName::from(*queue)).collect(),
        }
    }

    fn names(pairs: Vec<(CallId, (TenantId, AgentId))>) -> Vec<(u64, String)> {
        pairs
            .into_iter()
            .map(|(call, (_, agent))| (call.0, agent.to_string()))
            .collect()
    }

    #[test]
    fn the_first_caller_gets_the_longest_idle_agent() {
        let seekers = vec![seeker(2, "q", &[]), seeker(1, "q", &[])];
        let agents = vec![candidate("b", 5, &["q"]), candidate("a", 9, &["q"])];
        let expected = vec![(1, String::from("b")), (2, String::from("a"))];
        assert_eq!(names(pairs(seekers, agents)), expected);
    }

    #[test]
    fn a_caller_nobody_serves_holds_up_nobody() {
        let seekers = vec![
            seeker(1, "other", &[]),
            seeker(2, "q", &["a"]),
            seeker(3, "q", &[]),
        ];
        let agents = vec![candidate("a", 1, &["q"])];
        assert_eq!(names(pairs(seekers, agents)), vec![(3, String::from("a"))]);
    }
}
