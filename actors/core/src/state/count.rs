//! Counting: each fact once, in the live tally of its subject and in that of the quarter
//! of an hour in which it happened.
//!
//! Invariant: the sum of all quarters of a subject is its live tally.

use super::{Of, State};
use crate::call::{CallRow, Disposition};
use crate::floor::agent::{AgentRow, AgentState};
use crate::floor::figure::{Fact, Subject, Tally, quarter_of};
use crate::ids::{AgentId, QueueName, TenantId};
use crate::limits;
use crate::time::TimeMs;

impl State {
    /// Counts a fact of `subject` that happened at `at`.
    pub(super) fn count(&mut self, subject: Of<Subject>, at: TimeMs, fact: Fact) {
        let live = self.figures.entry(subject.clone()).or_default();
        live.note(fact);
        self.batch.figures.insert(subject.clone());
        let quarter = self.batch.intervals.entry((subject, quarter_of(at)));
        quarter.or_default().note(fact);
    }

    /// Counts a fact of a queue that happens now.
    pub(super) fn count_queue(&mut self, tenant: &TenantId, queue: &QueueName, fact: Fact) {
        let subject = (tenant.clone(), Subject::Queue(queue.clone()));
        self.paces.entry(subject.clone()).or_default().note(fact);
        self.count(subject, self.meta.now, fact);
    }

    /// Counts a fact of an agent that happens now.
    pub(super) fn count_agent(&mut self, agent: &Of<AgentId>, fact: Fact) {
        let subject = (agent.0.clone(), Subject::Agent(agent.1.clone()));
        self.count(subject, self.meta.now, fact);
    }

    /// Counts how a caller who waited since `entered_at` left the queue; returns the
    /// fact, which is the agent's too when he answered.
    pub(super) fn count_departure(
        &mut self,
        key: &Of<QueueName>,
        entered_at: TimeMs,
        how: Disposition,
    ) -> Fact {
        let wait_ms = self.meta.now.since(entered_at);
        let spec = self.site(&key.0).and_then(|site| site.queues.get(&key.1));
        let target_ms = spec.map_or(limits::SL_TARGET_MS, |spec| spec.sl_ms);
        let short_ms = spec.map_or(limits::SHORT_ABANDON_MS, |spec| spec.short_abandon_ms);
        let in_target = wait_ms <= target_ms;
        let fact = match how {
            Disposition::Answered => Fact::Answered { wait_ms, in_target },
            Disposition::Overflowed => Fact::Overflowed,
            Disposition::CallbackTaken => Fact::CallbackTaken,
            Disposition::NodeLost => Fact::NodeLost,
            Disposition::Abandoned
            | Disposition::Busy
            | Disposition::NoAnswer
            | Disposition::Rejected
            | Disposition::Failed => Fact::Abandoned {
                in_target,
                short: wait_ms < short_ms,
            },
        };
        if matches!(fact, Fact::Abandoned { .. } | Fact::Overflowed) {
            let subject = (key.0.clone(), Subject::Queue(key.1.clone()));
            self.paces.entry(subject).or_default().give_up(wait_ms);
        }
        self.count_queue(&key.0, &key.1, fact);
        fact
    }

    /// Counts the talk of a call of a queue that is over.
    pub(super) fn count_talk(&mut self, call: &CallRow, talk_ms: u64) {
        let Some(visit) = call.visit.as_ref().filter(|_| call.answered_at.is_some()) else {
            return;
        };
        let hold_ms = call.held_ms.min(talk_ms);
        let fact = Fact::Talked {
            talk_ms: talk_ms - hold_ms,
            hold_ms,
        };
        self.count_queue(&call.tenant, &visit.queue, fact);
        if let Some(agent) = &call.agent {
            self.count_agent(&(call.tenant.clone(), agent.clone()), fact);
        }
    }

    /// Counts an agent's time up to now, as spent in the state shown so far. To be called
    /// before that state, or the queue served, changes.
    pub(super) fn count_time(&mut self, key: &Of<AgentId>) {
        let now = self.meta.now;
        let Some(agent) = self.agents.get_mut(key) else {
            return;
        };
        let (from, shown, productive) = (agent.counted_to, agent.shown, agent.productive);
        agent.counted_to = now;
        let queue = agent.serving.clone();
        let ms = now.since(from);
        if ms == 0 || shown == AgentState::SignedOut {
            return;
        }
        self.batch.agents.insert(key.clone());
        let whole = match shown {
            AgentState::Offered => Some(Fact::Rang(ms)),
            AgentState::WrapUp => Some(Fact::Wrapped(ms)),
            _ => None,
        };
        if let Some(fact) = whole {
            self.count_agent(key, fact);
            if let Some(queue) = queue {
                self.count_queue(&key.0, &queue, fact);
            }
        }
        let subject = (key.0.clone(), Subject::Agent(key.1.clone()));
        for (at, ms) in spans(from, now) {
            self.count(subject.clone(), at, staffed(shown, productive, ms));
        }
    }

    /// Breaks between what entered the queues and what left them, in words. Cheap: looks
    /// at counts only.
    pub fn check_figures(&self) -> Vec<String> {
        let queues = self
            .figures
            .iter()
            .filter_map(|((tenant, subject), tally)| {
                let Subject::Queue(queue) = subject else {
                    return None;
                };
                let waiting = self.waiting_count(&(tenant.clone(), queue.clone()));
                (tally.entered != tally.left() + waiting)
                    .then(|| format!("queue {queue}: callers entered and left differ"))
            });
        queues.collect()
    }
}

/// The time of an agent in a state, as counted. A productive pause is work.
fn staffed(shown: AgentState, productive: bool, ms: u64) -> Fact {
    let busy = matches!(
        shown,
        AgentState::Offered | AgentState::Talking | AgentState::Held | AgentState::WrapUp
    );
    let paused = shown == AgentState::Paused && !productive;
    Fact::Staffed { ms, paused, busy }
}

/// What an agent's row says beyond what is counted: the time from the last count until
/// `now`, by quarters.
pub fn uncounted(agent: &AgentRow, now: TimeMs) -> Vec<(TimeMs, Tally)> {
    if agent.shown == AgentState::SignedOut {
        return Vec::new();
    }
    let spans = spans(agent.counted_to, now).into_iter();
    spans
        .map(|(at, ms)| {
            let mut tally = Tally::default();
            tally.note(staffed(agent.shown, agent.productive, ms));
            (at, tally)
        })
        .collect()
}

/// The time from `from` to `to` by quarters, latest first, as (a moment in the quarter,
/// ms). At most [`limits::QUARTERS_PER_SPAN`]; what is older counts in the oldest.
fn spans(from: TimeMs, to: TimeMs) -> Vec<(TimeMs, u64)> {
    let mut spans = Vec::new();
    let mut end = to;
    while end > from {
        let quarter = quarter_of(TimeMs(end.0 - 1));
        let last = spans.len() + 1 == limits::QUARTERS_PER_SPAN;
        let begin = if last { from } else { quarter.max(from) };
        spans.push((quarter, end.since(begin)));
        end = begin;
    }
    spans
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::floor::figure::QUARTER_MS;

    #[test]
    fn a_span_is_spread_over_its_quarters_and_loses_nothing() {
        let q = QUARTER_MS;
        let moment = |ms| TimeMs(1_000 * q + ms);
        assert_eq!(spans(moment(5), moment(5)), []);
        assert_eq!(spans(moment(0), moment(q)), [(moment(0), q)]);
        assert_eq!(
            spans(moment(q - 10), moment(2 * q + 7)),
            [(moment(2 * q), 7), (moment(q), q), (moment(0), 10)]
        );
        let long = spans(TimeMs(3), moment(0));
        assert_eq!(long.len(), limits::QUARTERS_PER_SPAN);
        let sum: u64 = long.iter().map(|(_, ms)| ms).sum();
        assert_eq!(sum, 1_000 * q - 3);
    }
}
