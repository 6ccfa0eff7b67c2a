//! Agents and the choice of who is offered which call.

use std::collections::BTreeSet;

use super::command::{Action, Refusal, Reply};
use super::event::Value;
use super::{Deadline, Of, State};
use crate::call::{CallRow, Cause, Disposition, LegRole, LegTarget, Offer, Seen, Stage};
use crate::floor::agent::{Activity, AgentState, PhoneState};
use crate::floor::assignment::{Candidate, Seeker, pairs};
use crate::floor::figure::Fact;
use crate::ids::{AgentId, CallId, Extension, TenantId};
use crate::limits;

impl State {
    /// Carries out an operator's or agent's action and reports its outcome.
    pub(super) fn act(&mut self, id: String, tenant: &TenantId, action: Action) -> Reply {
        let result = self.act_inner(tenant, action);
        if !id.is_empty() {
            let (word, error) = match &result {
                Ok(()) => ("done", None),
                Err(refusal) => ("refused", Some(refusal.to_string())),
            };
            let fields = [("outcome", word.into()), ("error", Value::from(error))];
            self.event("command.outcome", id, fields);
        }
        match result {
            Ok(()) => Reply::Done,
            Err(refusal) => Reply::Refused(refusal),
        }
    }

    fn act_inner(&mut self, tenant: &TenantId, action: Action) -> Result<(), Refusal> {
        match action {
            Action::SignIn { agent, extension } => {
                self.sign_in(&(tenant.clone(), agent), extension)
            }
            Action::SignOut { agent } => self.sign_out(&(tenant.clone(), agent)),
            Action::Pause { agent, reason } => self.pause(&(tenant.clone(), agent), reason),
            Action::Ready { agent } => self.ready(&(tenant.clone(), agent)),
            Action::Hangup { call } => self.hang_up(tenant, call),
            Action::Drain { node, on } => self.drain(node, on),
            Action::Forget { node } => self.forget(node),
        }
    }

    /// Signs an agent in at the given extension, else at the site's.
    pub(super) fn sign_in(
        &mut self,
        key: &Of<AgentId>,
        extension: Option<Extension>,
    ) -> Result<(), Refusal> {
        let site = self.site(&key.0).cloned();
        let spec = site.as_ref().and_then(|site| site.agents.get(&key.1));
        let spec = spec.ok_or_else(|| Refusal::NotFound(format!("agent {}", key.1)))?;
        let seat = extension.or_else(|| spec.extension.clone());
        if let (Some(wanted), Some(site)) = (&seat, &site) {
            if !site.extensions.contains_key(wanted) {
                return Err(Refusal::NotFound(format!("extension {wanted}")));
            }
            if let Some(other) = self.other_at(&(key.0.clone(), wanted.clone()), &key.1) {
                return Err(Refusal::Conflict(format!(
                    "agent {other} is signed in at extension {wanted}"
                )));
            }
        }
        let now = self.meta.now;
        self.unseat(key);
        if let Some(agent) = self.agents.get_mut(key) {
            if !agent.signed_in {
                agent.signed_in = true;
                agent.calls = 0;
                agent.missed = 0;
                agent.idle_since = now;
            }
            agent.paused = None;
            agent.unreachable_until = None;
            agent.extension = seat;
        }
        self.seat(key);
        self.touch_agent(key);
        Ok(())
    }

    /// Who else is signed in at this extension.
    fn other_at(&self, seat: &Of<Extension>, agent: &AgentId) -> Option<&AgentId> {
        self.seats.get(seat).into_iter().flatten().find(|other| {
            *other != agent
                && self
                    .agents
                    .get(&(seat.0.clone(), (*other).clone()))
                    .is_some_and(|row| row.signed_in)
        })
    }

    /// Signs an agent out and back to the site's extension, where the next sign-in by
    /// feature code is expected; a live call goes on.
    pub(super) fn sign_out(&mut self, key: &Of<AgentId>) -> Result<(), Refusal> {
        let site = self.site(&key.0);
        let home = site
            .and_then(|site| site.agents.get(&key.1))
            .and_then(|spec| spec.extension.clone());
        self.unseat(key);
        let agent = self.agents.get_mut(key);
        let agent = agent.ok_or_else(|| Refusal::NotFound(format!("agent {}", key.1)))?;
        agent.extension = home.or_else(|| agent.extension.take());
        agent.signed_in = false;
        agent.paused = None;
        agent.missed = 0;
        if matches!(agent.activity, Activity::WrapUp(_)) {
            agent.activity = Activity::Idle;
        }
        self.seat(key);
        self.touch_agent(key);
        Ok(())
    }

    /// Pauses an agent; takes effect after a live call.
    pub(super) fn pause(&mut self, key: &Of<AgentId>, reason: String) -> Result<(), Refusal> {
        let agent = self.agents.get_mut(key);
        let agent = agent.ok_or_else(|| Refusal::NotFound(format!("agent {}", key.1)))?;
        if !agent.signed_in {
            return Err(Refusal::Conflict(format!("agent {} is signed out", key.1)));
        }
        agent.paused = Some(reason);
        self.touch_agent(key);
        Ok(())
    }

    /// Ends pause, wrap-up and a phone's rest.
    pub(super) fn ready(&mut self, key: &Of<AgentId>) -> Result<(), Refusal> {
        let agent = self.agents.get_mut(key);
        let agent = agent.ok_or_else(|| Refusal::NotFound(format!("agent {}", key.1)))?;
        if !agent.signed_in {
            return Err(Refusal::Conflict(format!("agent {} is signed out", key.1)));
        }
        agent.paused = None;
        agent.unreachable_until = None;
        agent.missed = 0;
        if matches!(agent.activity, Activity::WrapUp(_)) {
            agent.activity = Activity::Idle;
            agent.idle_since = self.meta.now;
        }
        self.touch_agent(key);
        Ok(())
    }

    /// Wrap-up or a phone's rest may be over.
    pub(super) fn agent_due(&mut self, key: &Of<AgentId>) {
        let now = self.meta.now;
        let Some(agent) = self.agents.get_mut(key) else {
            return;
        };
        if agent.activity == Activity::Idle || matches!(agent.activity, Activity::WrapUp(_)) {
            if matches!(agent.activity, Activity::WrapUp(until) if until <= now) {
                agent.activity = Activity::Idle;
                agent.idle_since = now;
            }
            if agent.unreachable_until.is_some_and(|until| until <= now) {
                agent.unreachable_until = None;
            }
        }
        self.touch_agent(key);
    }

    /// Frees the agent of `call`: to wrap-up after a talk, else to idle.
    pub(super) fn release_agent(&mut self, key: &Of<AgentId>, call: &CallRow) {
        let now = self.meta.now;
        let site = self.site(&key.0);
        let wrap_ms = call
            .visit
            .as_ref()
            .and_then(|visit| site?.queues.get(&visit.queue))
            .map_or(0, |queue| queue.wrap_ms);
        let Some(agent) = self.agents.get_mut(key) else {
            return;
        };
        match agent.activity {
            Activity::Talking(at) if at == call.id && wrap_ms > 0 && agent.signed_in => {
                let until = now.plus(wrap_ms);
                agent.activity = Activity::WrapUp(until);
                self.at(until, Deadline::Agent(key.0.clone(), key.1.clone()));
            }
            Activity::Talking(at) if at == call.id => {
                agent.activity = Activity::Idle;
                agent.idle_since = now;
            }
            Activity::Offered(at) if at == call.id => agent.activity = Activity::Idle,
            _ => {}
        }
        self.touch_agent(key);
    }

    /// An offer was not taken: count it and pause the agent when that is too often.
    pub(super) fn count_missed(&mut self, key: &Of<AgentId>, max: u32) {
        let Some(agent) = self.agents.get_mut(key) else {
            return;
        };
        agent.missed += 1;
        if max > 0 && agent.missed >= max {
            let missed = agent.missed;
            agent.paused = Some(format!("missed {missed}"));
            agent.missed = 0;
            self.event(
                "agent.missed",
                &key.1,
                [("missed", Value::from(u64::from(missed)))],
            );
        }
        self.touch_agent(key);
    }

    /// The agent's phone failed: leave it in peace for a while.
    pub(super) fn rest_phone(&mut self, key: &Of<AgentId>) {
        let until = self.meta.now.plus(limits::UNREACHABLE_MS);
        let Some(agent) = self.agents.get_mut(key) else {
            return;
        };
        agent.unreachable_until = Some(until);
        self.at(until, Deadline::Agent(key.0.clone(), key.1.clone()));
        self.touch_agent(key);
    }

    /// Notes that an agent's row or phone changed.
    pub(super) fn touch_agent(&mut self, key: &Of<AgentId>) {
        self.batch.agents.insert(key.clone());
        self.batch.assign = true;
    }

    /// Notes that an extension's phone changed: whoever works there is affected.
    pub(super) fn touch_seat(&mut self, seat: &Of<Extension>) {
        let agents: Vec<AgentId> = self
            .seats
            .get(seat)
            .into_iter()
            .flatten()
            .cloned()
            .collect();
        for agent in agents {
            self.touch_agent(&(seat.0.clone(), agent));
        }
    }

    pub(super) fn seat(&mut self, key: &Of<AgentId>) {
        let Some(extension) = self
            .agents
            .get(key)
            .and_then(|agent| agent.extension.clone())
        else {
            return;
        };
        self.seats
            .entry((key.0.clone(), extension))
            .or_default()
            .insert(key.1.clone());
    }

    pub(super) fn unseat(&mut self, key: &Of<AgentId>) {
        let Some(extension) = self
            .agents
            .get(key)
            .and_then(|agent| agent.extension.clone())
        else {
            return;
        };
        let seat = (key.0.clone(), extension);
        if let Some(agents) = self.seats.get_mut(&seat) {
            agents.remove(&key.1);
            if agents.is_empty() {
                self.seats.remove(&seat);
            }
        }
    }

    /// Says in an event, once, when the state shown of a touched agent has changed.
    pub(super) fn note_agents(&mut self) {
        let touched: Vec<Of<AgentId>> = self.batch.agents.iter().cloned().collect();
        for key in touched {
            let Some(agent) = self.agents.get(&key) else {
                continue;
            };
            let state = self.agent_state(agent);
            if state == agent.shown {
                continue;
            }
            let reason = agent.paused.clone().filter(|_| state == AgentState::Paused);
            let now = self.meta.now;
            self.count_time(&key);
            if let Some(agent) = self.agents.get_mut(&key) {
                agent.shown = state;
                agent.since = now;
            }
            let fields = [
                ("state", state.as_str().into()),
                ("reason", Value::from(reason)),
            ];
            self.event("agent.state", &key.1, fields);
        }
    }

    /// Offers waiting calls to ready agents: everybody who can be served is served at
    /// once, the longest idle agent first, callers in the order they came.
    pub(super) fn assign(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        let candidates = self.candidates();
        if candidates.is_empty() {
            return;
        }
        for (call, agent) in pairs(self.seekers(), candidates) {
            self.offer(call, &agent);
        }
    }

    /// Waiting calls that want an agent now.
    fn seekers(&self) -> Vec<Seeker> {
        let now = self.meta.now;
        let mut seekers: Vec<Seeker> = Vec::new();
        for ((tenant, queue), places) in &self.waiting {
            for (order, call) in places {
                let Some(row) = self.calls.get(call) else {
                    continue;
                };
                let Some(visit) = &row.visit else { continue };
                if visit.offer.is_some() || !row.caller().is_some_and(|leg| leg.is_live()) {
                    continue;
                }
                let passed_over: BTreeSet<AgentId> = visit
                    .passed_over
                    .iter()
                    .filter(|(_, until)| *until > now)
                    .map(|(agent, _)| agent.clone())
                    .collect();
                let queue = (tenant.clone(), queue.clone());
                seekers.push(Seeker {
                    call: *call,
                    order: *order,
                    queue,
                    passed_over,
                });
            }
        }
        seekers
    }

    /// Agents who could take a call now.
    fn candidates(&self) -> Vec<Candidate> {
        let mut candidates: Vec<Candidate> = Vec::new();
        for (key, agent) in &self.agents {
            if self.agent_state(agent) != AgentState::Ready {
                continue;
            }
            let Some(spec) = self.site(&key.0).and_then(|site| site.agents.get(&key.1)) else {
                continue;
            };
            candidates.push(Candidate {
                agent: key.clone(),
                idle_since: agent.idle_since,
                queues: spec.queues.clone(),
            });
        }
        candidates
    }

    /// Commits the choice of `agent` for `call`: rings every phone of the agent.
    fn offer(&mut self, call: CallId, key: &Of<AgentId>) {
        let targets = self.agent_targets(key);
        let now = self.meta.now;
        let Some(row) = self.calls.get(&call) else {
            return;
        };
        if row.legs.len() + targets.len() > limits::LEGS_PER_CALL {
            self.clear_call(call, (Disposition::Failed, Cause::CONGESTION));
            return;
        }
        let queue = row.visit.as_ref().map(|visit| visit.queue.clone());
        let ring_ms = queue
            .as_ref()
            .and_then(|queue| self.site(&key.0)?.queues.get(queue))
            .map_or(limits::EXTENSION_RING_MS, |queue| queue.ring_ms);
        let until = now.plus(ring_ms);
        self.count_time(key);
        if let Some(queue) = &queue {
            self.count_queue(&key.0, queue, Fact::Offered);
        }
        self.count_agent(key, Fact::Offered);
        if let Some(agent) = self.agents.get_mut(key) {
            agent.activity = Activity::Offered(call);
            agent.serving = queue;
        }
        self.touch_agent(key);
        for target in targets {
            self.add_leg(call, LegRole::Agent(key.1.clone()), target);
        }
        if let Some(row) = self.calls.get_mut(&call) {
            if let Some(visit) = &mut row.visit {
                visit.offer = Some(Offer {
                    agent: key.1.clone(),
                    until,
                });
            }
            row.seq += 1;
        }
        self.at(until, Deadline::Call(call));
        self.touch_call(call);
        self.event(
            "call.offered",
            call,
            [("agent", Value::from(key.1.as_str()))],
        );
    }

    /// Where an agent is rung.
    fn agent_targets(&self, key: &Of<AgentId>) -> Vec<LegTarget> {
        let site = self.site(&key.0);
        let fixed = site
            .and_then(|site| site.agents.get(&key.1))
            .and_then(|spec| spec.contact.clone());
        let seat = self
            .agents
            .get(key)
            .and_then(|agent| agent.extension.clone());
        let seated = seat.map(|extension| self.extension_targets(&(key.0.clone(), extension)));
        let seated = seated.unwrap_or_default();
        if !seated.is_empty() {
            return seated;
        }
        let fixed = fixed.map(|uri| LegTarget { uri, flow: None });
        fixed.into_iter().collect()
    }

    /// Where an extension is rung: its bindings, best first, or its fixed contact.
    pub(super) fn extension_targets(&self, key: &Of<Extension>) -> Vec<LegTarget> {
        let fixed = self
            .site(&key.0)
            .and_then(|site| site.extensions.get(&key.1))
            .and_then(|spec| spec.contact.clone());
        if let Some(uri) = fixed {
            return vec![LegTarget { uri, flow: None }];
        }
        let now = self.meta.now;
        let row = self.registrations.get(key);
        let mut bindings: Vec<_> = row
            .into_iter()
            .flat_map(|row| &row.bindings)
            .filter(|binding| binding.expires_at > now)
            .collect();
        bindings.sort_by_key(|binding| std::cmp::Reverse(binding.q));
        let targets = bindings.into_iter().map(|binding| binding.target());
        targets.take(limits::FORKS_PER_CALL).collect()
    }

    /// The agent at an extension, for feature codes.
    pub(super) fn agent_at(&self, seat: &Of<Extension>) -> Option<Of<AgentId>> {
        let site = self.site(&seat.0)?;
        let agents = self.seats.get(seat)?;
        let mut all = agents
            .iter()
            .filter(|agent| site.agents.contains_key(agent));
        let signed_in = agents.iter().find(|agent| {
            self.agents
                .get(&(seat.0.clone(), (*agent).clone()))
                .is_some_and(|row| row.signed_in)
        });
        signed_in
            .or_else(|| all.next())
            .map(|agent| (seat.0.clone(), agent.clone()))
    }

    fn hang_up(&mut self, tenant: &TenantId, call: CallId) -> Result<(), Refusal> {
        // Another tenant's call is as unknown as one that never was.
        let Some(row) = self.calls.get(&call).filter(|row| row.tenant == *tenant) else {
            return Err(Refusal::NotFound(call.to_string()));
        };
        let ending = match (&row.ending, row.answered_at) {
            (Some(ending), _) => *ending,
            (None, Some(_)) => (Disposition::Answered, Cause::NORMAL),
            (None, None) => (
                Disposition::Rejected,
                Cause {
                    status: 480,
                    q850: 31,
                },
            ),
        };
        self.clear_call(call, ending);
        Ok(())
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
        matches!(row.stage, Stage::Waiting)
            && row
                .visit
                .as_ref()
                .and_then(|visit| visit.offer.as_ref())
                .is_some_and(|offer| offer.agent == *agent)
    }

    /// The phone state of an agent by key; unreachable when there is no such agent.
    pub fn phone_of(&self, key: &Of<AgentId>) -> PhoneState {
        self.agents
            .get(key)
            .map_or(PhoneState::Unreachable, |agent| self.phone_state(agent))
    }
}
