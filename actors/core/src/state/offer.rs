//! Offers: a choice made is carried out, answered, missed or taken back, and explained.
//!
//! Invariants: an offer and the agent who is offered it name each other; a caller has
//! several offers only by ring-all; the explanation is written with the offer.

use super::assign::claim;
use super::callback::callback_claim;
use super::event::Value;
use super::{Deadline, Of, State};
use crate::call::{
    CallRow, Cause, Disposition, LegRole, LegRow, LegTarget, Offer, PassedOver, Seen, Stage, Want,
};
use crate::floor::agent::Activity;
use crate::floor::assignment::Claim;
use crate::floor::callback::CallbackRow;
use crate::floor::dispatch::{Pool, Search};
use crate::floor::explanation::{Considered, Counts, Exclusion, Explanation};
use crate::floor::figure::Fact;
use crate::ids::{AgentId, CallId, LegId, QueueName};
use crate::limits;

/// Candidates an explanation begins with; it keeps those that fit.
const CANDIDATES: usize = 32;

/// Somebody who seeks an agent, for the explanation of what came of it.
struct Wish {
    /// The call, or the callback.
    seeker: CallId,
    queue: Of<QueueName>,
    claim: Claim,
    /// Steps of the queue's rule passed.
    step: usize,
    priority: i64,
}

impl State {
    /// Commits the choice of `agents` for `call`: rings every phone of each.
    pub(super) fn offer(&mut self, call: CallId, search: &Search, agents: &[AgentId]) {
        let Some(mut explanation) = self.explain_call(call, search, agents) else {
            return;
        };
        let tenant = explanation.tenant.clone();
        let queue = (tenant.clone(), explanation.queue.clone());
        let ring_ms = self
            .queue_spec(&queue)
            .map_or(limits::EXTENSION_RING_MS, |queue| queue.ring_ms);
        let until = self.meta.now.plus(ring_ms);
        let mut first: Option<LegId> = None;
        for agent in agents {
            let key = (tenant.clone(), agent.clone());
            let Some(leg) = self.ring_agent(call, &key) else {
                break;
            };
            first.get_or_insert(leg);
            if let Some(visit) = self.visit_mut(call) {
                let agent = agent.clone();
                visit.offers.push(Offer { agent, until });
            }
            let fields = [("agent", Value::from(agent.as_str()))];
            self.event("call.offered", call, fields);
        }
        let Some(first) = first else {
            // The row is full of legs that are still to end.
            self.clear_call(call, (Disposition::Failed, Cause::CONGESTION));
            return;
        };
        if let Some(visit) = self.visit_mut(call) {
            visit.meant_until = None;
        }
        self.at(until, Deadline::Call(call));
        self.touch_call(call);
        explanation.leg = first;
        self.batch.explanations.push(explanation);
    }

    /// Adds a leg for each phone of an agent; the first one's id, or `None` when the row
    /// has no room for them.
    fn ring_agent(&mut self, call: CallId, key: &Of<AgentId>) -> Option<LegId> {
        let targets = self.agent_targets(key);
        if targets.is_empty() || !self.make_leg_room(call, targets.len()) {
            return None;
        }
        let mut first = None;
        for target in targets {
            self.add_leg(call, LegRole::Agent(key.1.clone()), target);
            let added = self.calls.get(&call).and_then(|row| row.legs.last());
            first = first.or(added.map(|leg| leg.id));
        }
        let first = first?;
        let queue = self.calls.get(&call)?.visit.as_ref()?.queue.clone();
        self.engage(call, key, &queue, first);
        Some(first)
    }

    /// Notes and counts that a call rings at an agent, by this leg first.
    pub(super) fn engage(
        &mut self,
        call: CallId,
        key: &Of<AgentId>,
        queue: &QueueName,
        first: LegId,
    ) {
        self.count_time(key);
        self.count_queue(&key.0, queue, Fact::Offered);
        self.count_agent(key, Fact::Offered);
        if let Some(agent) = self.agents.get_mut(key) {
            agent.activity = Activity::Offered(call);
            agent.serving = Some(queue.clone());
            agent.last_offer = first.0;
        }
        self.touch_agent(key);
    }

    /// Lets the oldest legs that were rung in vain go when the row would grow beyond its
    /// bound; false when that is not enough.
    fn make_leg_room(&mut self, call: CallId, wanted: usize) -> bool {
        let Some(row) = self.calls.get_mut(&call) else {
            return false;
        };
        let mut excess = (row.legs.len() + wanted).saturating_sub(limits::LEGS_PER_CALL);
        row.legs.retain(|leg| {
            let in_vain = excess > 0
                && matches!(leg.role, LegRole::Agent(_))
                && leg.seen == Seen::Ended
                && leg.answered_at.is_none();
            excess -= usize::from(in_vain);
            !in_vain
        });
        excess == 0
    }

    /// Where an agent is rung: the phones of the seat or else the fixed device, and the
    /// further devices.
    pub(super) fn agent_targets(&self, key: &Of<AgentId>) -> Vec<LegTarget> {
        let seat = self
            .agents
            .get(key)
            .and_then(|agent| agent.extension.clone());
        let seat = seat.map(|extension| (key.0.clone(), extension));
        let seat = seat.filter(|seat| !self.is_seat_failing(seat));
        let seated = seat.map(|seat| self.extension_targets(&seat));
        let mut targets = seated.unwrap_or_default();
        let spec = self.site(&key.0).and_then(|site| site.agents.get(&key.1));
        let fixed = spec.and_then(|spec| spec.contact.as_ref());
        let fixed = fixed.filter(|_| targets.is_empty()).into_iter();
        let further = spec.into_iter().flat_map(|spec| &spec.devices);
        targets.extend(fixed.chain(further).map(|uri| LegTarget {
            uri: uri.clone(),
            flow: None,
        }));
        targets.truncate(limits::FORKS_PER_CALL);
        targets
    }

    /// Says why this caller is offered to these agents. Taken before the offer is made.
    fn explain_call(
        &self,
        call: CallId,
        search: &Search,
        agents: &[AgentId],
    ) -> Option<Explanation> {
        let row = self.calls.get(&call)?;
        let visit = row.visit.as_ref()?;
        let queue = (row.tenant.clone(), visit.queue.clone());
        let wish = Wish {
            seeker: call,
            claim: claim(visit, self.queue_spec(&queue)?),
            queue,
            step: visit.step,
            priority: visit.priority,
        };
        self.explain(call, &wish, search, agents)
    }

    /// Says why `call` rings for a callback at this agent. Taken before it does.
    pub(super) fn explain_callback(
        &self,
        row: &CallbackRow,
        call: CallId,
        search: &Search,
        agent: &AgentId,
    ) -> Option<Explanation> {
        let queue = (row.tenant.clone(), row.queue.clone());
        let wish = Wish {
            seeker: row.id,
            claim: callback_claim(row, self.queue_spec(&queue)?),
            queue,
            step: row.step,
            priority: row.priority,
        };
        self.explain(call, &wish, search, std::slice::from_ref(agent))
    }

    fn explain(
        &self,
        call: CallId,
        wish: &Wish,
        search: &Search,
        agents: &[AgentId],
    ) -> Option<Explanation> {
        let spec = self.queue_spec(&wish.queue)?;
        let pool = self.dispatch.pool_of(&wish.queue, wish.step);
        let pool = pool.and_then(|pool| self.dispatch.pool(pool))?;
        let now = self.meta.now;
        let claim = &wish.claim;
        let meant = matches!(search, Search::Agent(_));
        let suitable: Vec<&AgentId> = if meant {
            agents.iter().collect()
        } else {
            self.suitable(pool, wish.seeker).take(CANDIDATES).collect()
        };
        let considered = suitable.iter().filter_map(|id| {
            let agent = self.agents.get(&(wish.queue.0.clone(), (*id).clone()))?;
            Some(Considered {
                agent: (*id).clone(),
                idle_ms: now.since(agent.idle_since),
                calls: agent.calls,
                talk_ms: agent.talk_ms,
                last_offer: agent.last_offer,
            })
        });
        let passed_over = self.passed_over(wish.seeker);
        let missed = |agent: &AgentId| passed_over.iter().any(|one| one.agent == *agent);
        let ready = pool.ready.iter().map(|(_, agent)| agent);
        let passed = ready.filter(|agent| missed(agent)).count();
        let passed = if suitable.iter().any(|agent| missed(agent)) {
            0
        } else {
            passed
        };
        let candidates = if meant { 1 } else { pool.ready.len() - passed };
        let mut explanation = Explanation {
            index: self.meta.index,
            at: now,
            call,
            leg: LegId::default(),
            tenant: wish.queue.0.clone(),
            queue: wish.queue.1.clone(),
            step: u32::try_from(wish.step).unwrap_or(u32::MAX),
            strategy: pool.strategy,
            score: claim.score(now),
            weight: spec.weight,
            priority: wish.priority,
            waited_ms: now.since(claim.entered_at),
            aged: claim.is_aged(now),
            meant,
            winners: agents.to_vec(),
            candidates: considered.collect(),
            excluded: self.excluded(passed_over, pool, &suitable, meant),
            counts: Counts {
                candidates: count(candidates),
                members: count(pool.members.len()),
                working: count(pool.working.len()),
                unfit: count(pool.unfit.len()),
            },
        };
        explanation.bound();
        Some(explanation)
    }

    /// Agents who were not to be had, and why: those who missed the caller, then the
    /// others of the queue as far as it is looked at.
    fn excluded(
        &self,
        passed_over: &[PassedOver],
        pool: &Pool,
        suitable: &[&AgentId],
        meant: bool,
    ) -> Vec<(AgentId, Exclusion)> {
        let missed = passed_over
            .iter()
            .map(|passed| &passed.agent)
            .filter(|agent| !suitable.contains(agent))
            .map(|agent| (agent.clone(), Exclusion::Missed));
        let members = pool.members.iter().take(limits::EXPLAINED_AGENTS);
        let others = members.filter_map(|id| {
            let is_missed = passed_over.iter().any(|passed| passed.agent == *id);
            if suitable.contains(&id) || is_missed {
                return None;
            }
            let key = (pool.queue.0.clone(), id.clone());
            let state = self.agent_state(self.agents.get(&key)?);
            match state {
                crate::floor::agent::AgentState::Ready => {
                    meant.then(|| (id.clone(), Exclusion::Meant))
                }
                state => Some((id.clone(), Exclusion::State(state))),
            }
        });
        let unfit = pool.unfit.iter().take(limits::EXPLAINED_AGENTS);
        let unfit = unfit.map(|id| (id.clone(), Exclusion::Skills));
        missed.chain(others).chain(unfit).collect()
    }

    /// The last leg to an agent's phones has ended.
    pub(super) fn agent_leg_ended(
        &mut self,
        id: CallId,
        agent: &AgentId,
        want: Want,
        cause: Cause,
    ) {
        let Some(call) = self.calls.get(&id).cloned() else {
            return;
        };
        let was_offered = Self::awaits_agent(&call, agent);
        let key = (call.tenant.clone(), agent.clone());
        if call.stage.asks(agent) {
            return self.asked_leg_ended(&call, &key, cause);
        }
        if Self::has_live_agent_leg(&call, agent) {
            // One of the agent's phones has refused for all of them.
            if was_offered && cause.is_global() {
                self.end_offer(id, agent);
                self.miss(&call, &key);
            }
            return;
        }
        self.release_agent(&key, &call);
        if was_offered && !matches!(want, Want::End(_)) {
            self.end_offer(id, agent);
            if matches!(cause.status, 404 | 408 | 410 | 500..=599) {
                self.phone_failed(&key, cause);
            } else {
                self.miss(&call, &key);
            }
        }
    }

    /// Offers that have rung long enough are missed.
    pub(super) fn offers_due(&mut self, id: CallId) {
        let now = self.meta.now;
        let Some(call) = self.calls.get(&id).cloned() else {
            return;
        };
        let offers = call.visit.iter().flat_map(|visit| &visit.offers);
        for offer in offers.filter(|offer| offer.until <= now) {
            let key = (call.tenant.clone(), offer.agent.clone());
            self.end_offer(id, &offer.agent);
            self.miss(&call, &key);
        }
    }

    /// Takes the offer to an agent back; the caller keeps his place.
    pub(super) fn end_offer(&mut self, id: CallId, agent: &AgentId) {
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        let Some(visit) = call.visit.as_mut() else {
            return;
        };
        visit.offers.retain(|offer| offer.agent != *agent);
        let role = LegRole::Agent(agent.clone());
        let rung = |leg: &&mut LegRow| leg.role == role && leg.is_live();
        for leg in call.legs.iter_mut().filter(rung) {
            leg.want = Want::End(Cause::NO_ANSWER);
        }
        self.touch_call(id);
    }

    /// Counts a missed offer and passes the agent over for this caller.
    fn miss(&mut self, call: &CallRow, key: &Of<AgentId>) {
        let until = self.meta.now.plus(limits::MISSED_SKIP_MS);
        if let Some(visit) = self.visit_mut(call.id) {
            visit.passed_over.retain(|passed| passed.agent != key.1);
            visit.passed_over.push(PassedOver {
                agent: key.1.clone(),
                until: Some(until),
            });
        }
        self.at(until, Deadline::Call(call.id));
        self.touch_call(call.id);
        let queue = call
            .visit
            .as_ref()
            .map(|visit| (key.0.clone(), visit.queue.clone()));
        let max = queue
            .and_then(|queue| self.queue_spec(&queue))
            .map_or(0, |queue| queue.missed_max);
        if let Some(visit) = &call.visit {
            self.count_queue(&key.0, &visit.queue, Fact::Missed);
        }
        self.count_agent(key, Fact::Missed);
        let fields = [("agent", Value::from(key.1.as_str()))];
        self.event("call.missed", call.id, fields);
        self.count_missed(key, max);
    }

    /// True while a leg to the agent's phone is up or being made for `call`.
    pub(super) fn has_live_agent_leg(row: &CallRow, agent: &AgentId) -> bool {
        let role = LegRole::Agent(agent.clone());
        row.legs
            .iter()
            .any(|leg| leg.role == role && leg.seen != Seen::Ended)
    }

    /// True when the stage lets an offer be answered.
    pub(super) fn awaits_agent(row: &CallRow, agent: &AgentId) -> bool {
        let visit = row.visit.as_ref();
        matches!(row.stage, Stage::Waiting)
            && visit.is_some_and(|visit| visit.offer_to(agent).is_some())
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
