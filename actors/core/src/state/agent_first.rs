//! Callbacks by which the agent is rung first: an offer without a caller, then the customer
//! is dialled while the agent listens, and his answer joins both at once.
//!
//! Invariants: the customer is dialled only after the agent's answer, in the commit of that
//! answer; an offer that is not taken is no attempt and leaves no record; whatever becomes of
//! an attempt before the customer's answer is not counted against the agent.

use super::event::Value;
use super::{Deadline, Of, State};
use crate::call::{CallRow, Cause, Disposition, LegRole, PassedOver, Seen, Stage, Visit, Want};
use crate::floor::agent::Activity;
use crate::floor::callback::{CallbackRow, CallbackState};
use crate::floor::dispatch::Search;
use crate::floor::figure::Fact;
use crate::ids::{AgentId, CallId, LegId};
use crate::limits;

impl State {
    /// An agent is free for a callback whose customer is dialled after the agent: rings
    /// every phone of the agent.
    pub(super) fn offer_callback(&mut self, origin: CallId, search: &Search, agent: &AgentId) {
        let now = self.meta.now;
        let Some(row) = self.callbacks.get(&origin).cloned() else {
            return;
        };
        let key = (row.tenant.clone(), agent.clone());
        let queue = (row.tenant.clone(), row.queue.clone());
        let targets = self.agent_targets(&key);
        let Some(anchor) = self.anchor().filter(|_| !targets.is_empty()) else {
            return self.rest_callback(origin);
        };
        let id = CallId(self.mint());
        let explanation = self.explain_callback(&row, id, search, agent);
        let spec = self.queue_spec(&queue);
        let ring_ms = spec.map_or(limits::EXTENSION_RING_MS, |spec| spec.ring_ms);
        let music = spec.and_then(|spec| spec.music);
        let until = now.plus(ring_ms);
        let stage = Stage::Offering {
            agent: agent.clone(),
            until,
        };
        let mut call = CallRow::attempt(&row, id, anchor, now, stage);
        call.hold_music = music;
        self.calls.insert(id, call);
        let mut first = None;
        for target in targets {
            let leg = self.add_leg(id, LegRole::Agent(agent.clone()), target);
            first.get_or_insert(leg);
        }
        if let Some(row) = self.callbacks.get_mut(&origin) {
            row.state = CallbackState::Offered {
                call: id,
                agent: agent.clone(),
            };
        }
        let first = first.unwrap_or_default();
        self.engage(id, &key, &queue.1, first);
        self.touch_callback(origin);
        self.touch_call(id);
        self.at(until, Deadline::Call(id));
        let fields = [
            ("agent", Value::from(agent.as_str())),
            ("callback", origin.to_string().into()),
        ];
        self.event("call.offered", id, fields);
        if let Some(mut explanation) = explanation {
            explanation.leg = first;
            self.batch.explanations.push(explanation);
        }
    }

    /// The agent has answered: the customer is dialled.
    pub(super) fn agent_before_customer(&mut self, id: CallId, leg: LegId, agent: &AgentId) {
        let now = self.meta.now;
        let until = now.plus(limits::EXTENSION_RING_MS);
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        let (Some(origin), Some(place)) = (
            call.callback,
            call.legs.iter().position(|one| one.id == leg),
        ) else {
            return;
        };
        // Until the customer answers nobody else is there; then he takes this place.
        let near = call.legs.remove(place);
        call.legs.insert(0, near);
        for one in &mut call.legs {
            one.want = match one.seen {
                _ if one.id == leg => Want::Answer,
                Seen::Ended => one.want,
                _ => Want::End(Cause::ELSEWHERE),
            };
        }
        let Some(row) = self.callbacks.get_mut(&origin) else {
            return self.clear_call(id, (Disposition::Failed, Cause::FAILURE));
        };
        row.attempts += 1;
        row.passed_over.clear();
        row.state = CallbackState::Dialling {
            call: id,
            agent: agent.clone(),
        };
        call.attempt = row.attempts;
        call.stage = Stage::Dialling {
            until,
            near: Some(leg),
        };
        let row = row.clone();
        let announcement = self.announcement_of(&(row.tenant.clone(), row.queue.clone()));
        if let Some(call) = self.calls.get_mut(&id) {
            call.announcement = announcement;
        }
        let key = (row.tenant.clone(), agent.clone());
        self.count_time(&key);
        if let Some(agent) = self.agents.get_mut(&key) {
            agent.activity = Activity::Talking(id);
            agent.missed = 0;
        }
        self.touch_agent(&key);
        self.touch_callback(origin);
        self.at(until, Deadline::Call(id));
        self.tell_dialled(&row, id, agent);
        if let Err(cause) = self.dial_customer(id, &row) {
            self.clear_call(id, (Disposition::Failed, cause));
        }
    }

    /// The customer has answered, and the agent is there: they talk.
    pub(super) fn join(&mut self, id: CallId, near: LegId, row: &CallbackRow) {
        let now = self.meta.now;
        let queue = (row.tenant.clone(), row.queue.clone());
        let Some(agent) = row.state.agent().cloned() else {
            return;
        };
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        call.agent = Some(agent.clone());
        // The customer waits for nothing: the agent was told while he was dialled.
        call.announcement = None;
        call.visit = Some(Visit {
            queue: queue.1.clone(),
            order: row.order,
            entered_at: now,
            since: row.since,
            priority: row.priority,
            step: row.step,
            preferred: None,
            meant_until: None,
            offers: Vec::new(),
            passed_over: Vec::new(),
            music: None,
            advert: None,
            adverts: 0,
            expected_ms: None,
        });
        self.count_queue(&queue.0, &queue.1, Fact::Entered);
        let fact = self.count_departure(&queue, now, Disposition::Answered);
        let key = (queue.0, agent);
        self.count_agent(&key, fact);
        if let Some(agent) = self.agents.get_mut(&key) {
            agent.calls += 1;
        }
        self.touch_agent(&key);
        self.bridge(id, near);
    }

    /// The last leg to the phones of an agent who is asked to take a callback has ended.
    pub(super) fn asked_leg_ended(&mut self, call: &CallRow, key: &Of<AgentId>, cause: Cause) {
        if Self::has_live_agent_leg(call, &key.1) {
            // One of the agent's phones has refused for all of them.
            if cause.is_global() {
                self.callback_refused(call.id, key);
            }
            return;
        }
        self.release_agent(key, call);
        if matches!(cause.status, 404 | 408 | 410 | 500..=599) {
            self.phone_failed(key, cause);
            self.offer_callback_anew(call.id);
        } else {
            self.callback_refused(call.id, key);
        }
    }

    /// The phones of an agent who is asked to take a callback have rung long enough.
    pub(super) fn asked_too_long(&mut self, id: CallId, agent: &AgentId) {
        let call = self.calls.get(&id);
        if let Some(key) = call.map(|call| (call.tenant.clone(), agent.clone())) {
            self.callback_refused(id, &key);
        }
    }

    /// An offer of a callback is missed as any other: the agent is passed over for it, and
    /// it is offered to the next one at its place.
    fn callback_refused(&mut self, id: CallId, key: &Of<AgentId>) {
        let origin = self.calls.get(&id).and_then(|call| call.callback);
        let Some(row) = origin.and_then(|origin| self.callbacks.get(&origin)) else {
            return;
        };
        let queue = (row.tenant.clone(), row.queue.clone());
        let max = self.queue_spec(&queue).map_or(0, |spec| spec.missed_max);
        self.pass_over(row.id, &key.1);
        self.count_queue(&queue.0, &queue.1, Fact::Missed);
        self.count_agent(key, Fact::Missed);
        let fields = [
            ("agent", Value::from(key.1.as_str())),
            ("callback", origin.map(|origin| origin.to_string()).into()),
        ];
        self.event("call.missed", id, fields);
        self.count_missed(key, max);
        self.offer_callback_anew(id);
    }

    /// An agent is not asked to take a callback again for a while, and then only when
    /// everybody else has been.
    pub(super) fn pass_over(&mut self, origin: CallId, agent: &AgentId) {
        let until = self.meta.now.plus(limits::MISSED_SKIP_MS);
        let Some(row) = self.callbacks.get_mut(&origin) else {
            return;
        };
        row.passed_over.retain(|passed| passed.agent != *agent);
        row.passed_over.push(PassedOver {
            agent: agent.clone(),
            until: Some(until),
        });
        self.at(until, Deadline::Callback(origin));
        self.touch_callback(origin);
    }

    /// Takes the offer of a callback back; the callback waits on at its place.
    pub(super) fn offer_callback_anew(&mut self, id: CallId) {
        let origin = self.calls.get(&id).and_then(|call| call.callback);
        let row = origin.and_then(|origin| self.callbacks.get_mut(&origin));
        if let Some(row) = row
            && matches!(&row.state, CallbackState::Offered { call, .. } if *call == id)
        {
            row.state = CallbackState::Waiting;
            let origin = row.id;
            self.touch_callback(origin);
        }
        self.clear_call(id, (Disposition::NoAnswer, Cause::NO_ANSWER));
        let call = self.calls.get_mut(&id);
        let legs = call.into_iter().flat_map(|call| &mut call.legs);
        for leg in legs.filter(|leg| leg.is_live()) {
            leg.want = Want::End(Cause::NO_ANSWER);
        }
    }
}
