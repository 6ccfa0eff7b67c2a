//! Agents and the choice of who is offered which call.

use super::command::{Action, Refusal, Reply};
use super::event::Value;
use super::{Deadline, Of, State};
use crate::call::{CallRow, Cause, Disposition, LegTarget};
use crate::floor::agent::{Activity, AgentState, MISSED, PhoneState};
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
            Action::Prioritize { call, weight } => self.prioritize(tenant, call, weight),
            Action::Prefer { call, agent } => self.prefer(tenant, call, agent),
            Action::ExtendWrapUp { agent, by_ms } => {
                self.extend_wrap_up(&(tenant.clone(), agent), by_ms)
            }
            Action::Override { hours, open, until } => {
                self.override_hours(tenant, hours, open, until)
            }
            Action::Withdraw { callback } => self.withdraw(tenant, callback),
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
                agent.talk_ms = 0;
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

    /// Pauses an agent; takes effect after a live call. A site that lists reasons wants
    /// one of them.
    pub(super) fn pause(&mut self, key: &Of<AgentId>, reason: String) -> Result<(), Refusal> {
        let listed = self.site(&key.0).map(|site| site.pauses.as_slice());
        let listed = listed.unwrap_or_default();
        let known = listed.is_empty() || listed.iter().any(|pause| pause.reason == reason);
        let now = self.meta.now;
        let words: Vec<&str> = listed.iter().map(|pause| pause.reason.as_str()).collect();
        let words = words.join(", ");
        let agent = self.agents.get_mut(key);
        let agent = agent.ok_or_else(|| Refusal::NotFound(format!("agent {}", key.1)))?;
        if !agent.signed_in {
            return Err(Refusal::Conflict(format!("agent {} is signed out", key.1)));
        }
        if !known {
            let what = format!("\"{reason}\" is no reason for a pause; there are {words}");
            return Err(Refusal::Conflict(what));
        }
        agent.paused = Some(reason.clone());
        if agent.shown == AgentState::Paused {
            // Another reason is another stretch.
            agent.close_stretch(now);
            let fields = [("state", "paused".into()), ("reason", reason.into())];
            self.event("agent.state", &key.1, fields);
            self.begin_pause(key);
        }
        self.touch_agent(key);
        Ok(())
    }

    /// The reason behind the feature code with this place: any word when the site lists
    /// none.
    pub(super) fn pause_reason(&self, tenant: &TenantId, place: usize) -> Option<String> {
        let pauses = &self.site(tenant)?.pauses;
        if pauses.is_empty() {
            return (place == 0).then(|| String::from("phone"));
        }
        pauses.get(place).map(|pause| pause.reason.clone())
    }

    /// The state shown begins: when it is a pause, its limit runs from now.
    fn begin_pause(&mut self, key: &Of<AgentId>) {
        self.count_time(key);
        let now = self.meta.now;
        let Some(agent) = self.agents.get(key) else {
            return;
        };
        let reason = agent
            .paused
            .as_ref()
            .filter(|_| agent.shown == AgentState::Paused);
        let spec = reason.and_then(|reason| self.site(&key.0)?.pause(reason));
        let productive = spec.is_some_and(|pause| pause.productive);
        let until = spec
            .and_then(|pause| pause.limit_ms)
            .map(|limit| now.plus(limit));
        if let Some(until) = until {
            self.at(until, Deadline::Agent(key.0.clone(), key.1.clone()));
        }
        if let Some(agent) = self.agents.get_mut(key) {
            agent.pause_until = until;
            agent.overdue = false;
            agent.productive = productive;
        }
    }

    /// Lengthens wrap-up under way.
    pub(super) fn extend_wrap_up(&mut self, key: &Of<AgentId>, by_ms: u64) -> Result<(), Refusal> {
        let latest = self.meta.now.plus(limits::WRAP_MAX_MS);
        let agent = self.agents.get_mut(key);
        let agent = agent.ok_or_else(|| Refusal::NotFound(format!("agent {}", key.1)))?;
        let Activity::WrapUp(until) = agent.activity else {
            let what = format!("agent {} is not in wrap-up", key.1);
            return Err(Refusal::Conflict(what));
        };
        let until = until.max(until.plus(by_ms).min(latest));
        agent.activity = Activity::WrapUp(until);
        self.at(until, Deadline::Agent(key.0.clone(), key.1.clone()));
        self.touch_agent(key);
        Ok(())
    }

    /// Gives a waiting caller a score of his own.
    fn prioritize(&mut self, tenant: &TenantId, call: CallId, weight: i64) -> Result<(), Refusal> {
        let row = self
            .calls
            .get_mut(&call)
            .filter(|row| row.tenant == *tenant);
        let row = row.ok_or_else(|| Refusal::NotFound(call.to_string()))?;
        let waits = row.is_waiting();
        let Some(visit) = row.visit.as_mut().filter(|_| waits) else {
            return Err(Refusal::Conflict(format!("{call} does not wait")));
        };
        visit.priority = weight.clamp(-limits::PRIORITY_MAX, limits::PRIORITY_MAX);
        let shown = visit.priority.to_string();
        self.touch_call(call);
        self.event("call.prioritized", call, [("weight", shown.into())]);
        Ok(())
    }

    /// Keeps a waiting caller for an agent, for as long as the queue grants.
    fn prefer(&mut self, tenant: &TenantId, call: CallId, agent: AgentId) -> Result<(), Refusal> {
        let row = self
            .calls
            .get_mut(&call)
            .filter(|row| row.tenant == *tenant);
        let row = row.ok_or_else(|| Refusal::NotFound(call.to_string()))?;
        let waits = row.is_waiting();
        let Some(visit) = row.visit.as_mut().filter(|_| waits) else {
            return Err(Refusal::Conflict(format!("{call} does not wait")));
        };
        let before = visit.preferred.replace(agent.clone());
        if !self.keep_for_preferred(call) {
            if let Some(visit) = self.visit_mut(call) {
                visit.preferred = before;
            }
            let what = format!("agent {agent} cannot be waited for in this queue now");
            return Err(Refusal::Conflict(what));
        }
        self.event(
            "call.preferred",
            call,
            [("agent", Value::from(agent.as_str()))],
        );
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
        if !agent.overdue && agent.pause_until.is_some_and(|until| until <= now) {
            agent.overdue = true;
            let reason = Value::from(agent.paused.clone());
            self.event("agent.pause_overdue", &key.1, [("reason", reason)]);
        }
        self.touch_agent(key);
    }

    /// Frees the agent of `call`: to wrap-up after a talk, else to idle.
    pub(super) fn release_agent(&mut self, key: &Of<AgentId>, call: &CallRow) {
        let now = self.meta.now;
        let site = self.site(&key.0);
        let own = site.and_then(|site| site.agents.get(&key.1)?.wrap_ms);
        let wrap_ms = own.unwrap_or_else(|| {
            call.visit
                .as_ref()
                .and_then(|visit| site?.queues.get(&visit.queue))
                .map_or(0, |queue| queue.wrap_ms)
        });
        let Some(agent) = self.agents.get_mut(key) else {
            return;
        };
        if let (Activity::Talking(at), Some(answered)) = (&agent.activity, call.answered_at)
            && *at == call.id
        {
            let talked = call.talk_ended_at.filter(|_| self.meta.feature_level >= 2);
            agent.talk_ms += talked.unwrap_or(now).since(answered);
        }
        match agent.activity {
            // The customer of a callback was never there: nothing to wrap up, and the turn
            // is as it was.
            Activity::Talking(at) if at == call.id && call.answered_at.is_none() => {
                agent.activity = Activity::Idle;
            }
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
            agent.paused = Some(format!("{MISSED}{missed}"));
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
        self.batch.stirred_agents.insert(key.clone());
        self.batch.noted.insert(key.clone());
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
        for key in std::mem::take(&mut self.batch.noted) {
            let Some(agent) = self.agents.get(&key) else {
                continue;
            };
            let state = self.agent_state(agent);
            if state == agent.shown {
                continue;
            }
            let reason = match state {
                AgentState::Paused => agent.paused.clone(),
                AgentState::NoPhone => Some(self.no_phone_reason(agent)),
                _ => None,
            };
            self.turn_agent(&key, state);
            let fields = [
                ("state", state.as_str().into()),
                ("reason", Value::from(reason)),
            ];
            self.event("agent.state", &key.1, fields);
        }
    }

    /// Counts the time of the state shown so far and shows another one.
    fn turn_agent(&mut self, key: &Of<AgentId>, state: AgentState) {
        let now = self.meta.now;
        self.count_time(key);
        let Some(agent) = self.agents.get_mut(key) else {
            return;
        };
        agent.close_stretch(now);
        agent.turn_to(state, now);
        self.begin_pause(key);
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

    /// The phone state of an agent by key; unreachable when there is no such agent.
    pub fn phone_of(&self, key: &Of<AgentId>) -> PhoneState {
        self.agents
            .get(key)
            .map_or(PhoneState::Unreachable, |agent| self.phone_state(agent))
    }
}
