//! Assignment: whenever an agent or a caller has changed, everybody who can be served
//! now is offered to somebody, in the order of the callers' turns.
//!
//! Invariants: after each command no caller seeks while an agent is ready who may serve
//! him; only queues an event concerns are looked at.

use std::collections::BTreeMap;

use super::event::Value;
use super::{Deadline, Of, State};
use crate::call::{CallRow, PassedOver, Visit};
use crate::floor::agent::{AgentRow, AgentState};
use crate::floor::assignment::{Claim, Precedence, Standing, Turn, beginning};
use crate::floor::dispatch::{Cursor, Dispatch, Pool, Presence, Search, Seeker};
use crate::ids::{AgentId, CallId, QueueName};
use crate::limits;
use crate::site::{QueueSpec, Strategy};

impl State {
    /// Offers waiting calls to ready agents as far as either has changed.
    pub(super) fn assign(&mut self) {
        loop {
            self.place_stirred();
            let searches = self.dispatch.take_stirred();
            if searches.is_empty() {
                return;
            }
            self.pair(searches);
        }
    }

    /// Brings the pools up to date with what the command has touched.
    fn place_stirred(&mut self) {
        // An agent's change may open callers meant for him to others, so agents first.
        for key in std::mem::take(&mut self.batch.stirred_agents) {
            self.place_agent(&key);
        }
        for call in std::mem::take(&mut self.batch.stirred_calls) {
            self.place_call(call);
        }
    }

    fn place_agent(&mut self, key: &Of<AgentId>) {
        let presence = self.presence_of(key);
        let working = presence.as_ref().is_some_and(|one| one.working);
        self.dispatch.place_agent(key, presence);
        if working {
            return;
        }
        // Whoever waits for him waits in vain: anybody suitable may serve now.
        let meant: Vec<CallId> = self.dispatch.meant_for(key).collect();
        for call in meant {
            if let Some(visit) = self.visit_mut(call) {
                visit.meant_until = None;
            }
            self.touch_call(call);
        }
    }

    fn place_call(&mut self, call: CallId) {
        let callback = self.callbacks.get(&call);
        let seeker = callback.and_then(|row| self.callback_seeker(row, &self.dispatch));
        let caller = || self.calls.get(&call).and_then(|row| self.seeker_of(row));
        // The call that took a callback has left its queue.
        let seeker = seeker.or_else(caller);
        self.dispatch.place_call(call, seeker);
    }

    /// The pools as rows say they are.
    pub(super) fn derived_dispatch(&self) -> Dispatch {
        let mut dispatch = Dispatch::new(self.sites.values().map(|row| &*row.site));
        // Pools are searched by number, so calls must be placed in the new ones.
        for key in self.agents.keys() {
            dispatch.place_agent(key, self.presence_of(key));
        }
        for (queue, places) in &self.waiting {
            for call in places.values() {
                let row = self.calls.get(call);
                let seeker = row.and_then(|row| self.seeker_in(row, queue, &dispatch));
                dispatch.place_call(*call, seeker);
            }
        }
        for row in self.callbacks.values() {
            let seeker = self.callback_seeker(row, &dispatch);
            if seeker.is_some() {
                dispatch.place_call(row.id, seeker);
            }
        }
        dispatch.take_stirred();
        dispatch
    }

    /// A site has been put in force: pools are made anew, and everybody is looked at.
    pub(super) fn site_dispatch(&mut self) {
        let waiting: Vec<CallId> = self
            .waiting
            .values()
            .flat_map(BTreeMap::values)
            .copied()
            .collect();
        for call in &waiting {
            self.take_steps(*call);
        }
        self.dispatch = self.derived_dispatch();
        for call in waiting {
            self.keep_only_for_who_may_serve(call);
        }
        self.dispatch.stir_all();
    }

    /// What an agent is to the pools; `None` when the site does not know him.
    fn presence_of(&self, key: &Of<AgentId>) -> Option<Presence> {
        let agent = self.agents.get(key)?;
        let spec = self.site(&key.0)?.agents.get(&key.1)?;
        let state = agent.state(self.phone_state_by_rows(agent));
        let at_work = agent.signed_in && agent.paused.is_none();
        Some(Presence {
            working: at_work && state != AgentState::NoPhone,
            ready: (state == AgentState::Ready).then(|| standing(agent, spec.place)),
        })
    }

    fn seeker_of(&self, row: &CallRow) -> Option<Seeker> {
        let visit = row.visit.as_ref()?;
        let queue = (row.tenant.clone(), visit.queue.clone());
        self.seeker_in(row, &queue, &self.dispatch)
    }

    /// Where a call seeks an agent, if it does.
    fn seeker_in(
        &self,
        row: &CallRow,
        queue: &Of<QueueName>,
        dispatch: &Dispatch,
    ) -> Option<Seeker> {
        let visit = row.visit.as_ref()?;
        let seeks = row.is_waiting()
            && visit.offers.is_empty()
            && row.caller().is_some_and(|leg| leg.is_live());
        let spec = self.queue_spec(queue).filter(|_| seeks)?;
        let search = match (&visit.preferred, visit.meant_until) {
            (Some(agent), Some(_)) => Search::Agent((row.tenant.clone(), agent.clone())),
            _ => Search::Pool(dispatch.pool_of(queue, visit.step)?),
        };
        Some(Seeker {
            search,
            claim: claim(visit, spec),
        })
    }

    /// A queue's part of the site.
    pub(super) fn queue_spec(&self, queue: &Of<QueueName>) -> Option<&QueueSpec> {
        self.site(&queue.0)?.queues.get(&queue.1)
    }

    pub(super) fn visit_mut(&mut self, call: CallId) -> Option<&mut Visit> {
        self.calls.get_mut(&call)?.visit.as_mut()
    }

    /// Serves callers in the order of their turns over all these searches.
    fn pair(&mut self, searches: Vec<Search>) {
        let mut heads: BTreeMap<(Precedence, CallId), (Search, Cursor)> = BTreeMap::new();
        for search in searches {
            self.push_head(&mut heads, search, Cursor::Start);
        }
        while let Some(((_, call), (search, cursor))) = heads.pop_last() {
            let agents = self.choose(&search, call);
            if let Some(first) = agents.first() {
                let callback = self.callbacks.get(&call).map(|row| row.tenant.clone());
                let tenant = callback.clone().or_else(|| {
                    let row = self.calls.get(&call);
                    row.map(|row| row.tenant.clone())
                });
                if callback.is_some() {
                    self.call_back(call, &search, first);
                } else {
                    self.offer(call, &search, &agents);
                }
                for agent in agents {
                    if let Some(tenant) = tenant.clone() {
                        self.place_agent(&(tenant, agent));
                    }
                }
                self.place_call(call);
            }
            let more = match &search {
                Search::Pool(id) => self
                    .dispatch
                    .pool(*id)
                    .is_some_and(|pool| !pool.ready.is_empty()),
                // Busy now, or not to be reached: the others who wait for him go on waiting.
                Search::Agent(_) => false,
            };
            if more {
                self.push_head(&mut heads, search, cursor);
            }
        }
    }

    fn push_head(
        &self,
        heads: &mut BTreeMap<(Precedence, CallId), (Search, Cursor)>,
        search: Search,
        cursor: Cursor,
    ) {
        let next = self.dispatch.next_caller(&search, cursor, self.meta.now);
        if let Some((precedence, call, cursor)) = next {
            heads.insert((precedence, call), (search, cursor));
        }
    }

    /// Who is offered this caller: nobody, one, or several by ring-all.
    fn choose(&self, search: &Search, call: CallId) -> Vec<AgentId> {
        let callback = self.callbacks.contains_key(&call);
        if !callback && !self.calls.contains_key(&call) {
            return Vec::new();
        }
        match search {
            Search::Agent(key) => {
                let ready = self
                    .dispatch
                    .presence(key)
                    .is_some_and(|one| one.ready.is_some());
                let fits = ready && self.is_ready_now(key);
                fits.then(|| key.1.clone()).into_iter().collect()
            }
            Search::Pool(id) => {
                let Some(pool) = self.dispatch.pool(*id) else {
                    return Vec::new();
                };
                let most = match pool.strategy {
                    Strategy::RingAll if !callback => limits::RING_ALL_AGENTS,
                    _ => 1,
                };
                self.suitable(pool, call).take(most).cloned().collect()
            }
        }
    }

    /// Agents who missed a caller, or did not take a callback.
    pub(super) fn passed_over(&self, seeker: CallId) -> &[PassedOver] {
        if let Some(row) = self.callbacks.get(&seeker) {
            return &row.passed_over;
        }
        let visit = self.calls.get(&seeker).and_then(|row| row.visit.as_ref());
        visit.map_or(&[], |visit| &visit.passed_over)
    }

    /// Ready members of a pool who may be offered this caller or callback, in the order of
    /// asking.
    pub(super) fn suitable<'s>(
        &'s self,
        pool: &'s Pool,
        seeker: CallId,
    ) -> impl Iterator<Item = &'s AgentId> {
        let begin = match pool.strategy {
            Strategy::Random => beginning(self.meta.index, seeker.0),
            _ => Turn(0, 0),
        };
        let from = (begin, AgentId::from(""));
        let passed_over = self.passed_over(seeker);
        let missed_by = move |agent: &AgentId| passed_over.iter().find(|one| one.agent == *agent);
        // Only those asked before may be asked again once they are all there is.
        let again =
            !passed_over.is_empty() && pool.working.iter().all(|agent| missed_by(agent).is_some());
        let turns = pool
            .ready
            .range(from.clone()..)
            .chain(pool.ready.range(..from));
        turns.map(|(_, agent)| agent).filter(move |agent| {
            missed_by(agent).is_none_or(|passed| again && passed.until.is_none())
                && self.is_ready_now(&(pool.queue.0.clone(), (*agent).clone()))
        })
    }

    /// True when an agent is ready at this very time: bindings may have ended since.
    fn is_ready_now(&self, key: &Of<AgentId>) -> bool {
        self.agents
            .get(key)
            .is_some_and(|agent| self.agent_state(agent) == AgentState::Ready)
    }

    /// Keeps a caller for the agent meant for him for a while, when the queue grants that
    /// and the agent is at work and may serve; false when not.
    pub(super) fn keep_for_preferred(&mut self, call: CallId) -> bool {
        let now = self.meta.now;
        let Some(row) = self.calls.get(&call) else {
            return false;
        };
        let Some(visit) = &row.visit else {
            return false;
        };
        let Some(agent) = &visit.preferred else {
            return false;
        };
        let queue = (row.tenant.clone(), visit.queue.clone());
        let sticky_ms = self.queue_spec(&queue).map_or(0, |spec| spec.sticky_ms);
        let pool = self.dispatch.pool_of(&queue, visit.step);
        let serves = pool
            .and_then(|pool| self.dispatch.pool(pool))
            .is_some_and(|pool| pool.working.contains(agent));
        if sticky_ms == 0 || !serves || visit.missed_by(agent).is_some() {
            return false;
        }
        let until = now.plus(sticky_ms);
        if let Some(visit) = self.visit_mut(call) {
            visit.meant_until = Some(until);
        }
        self.at(until, Deadline::Call(call));
        self.touch_call(call);
        true
    }

    /// Who is meant for a caller and may not serve him any more is not waited for: a step or
    /// a site may ask for more than the one before.
    fn keep_only_for_who_may_serve(&mut self, call: CallId) {
        let Some(row) = self.calls.get(&call) else {
            return;
        };
        let Some(visit) = row
            .visit
            .as_ref()
            .filter(|visit| visit.meant_until.is_some())
        else {
            return;
        };
        let queue = (row.tenant.clone(), visit.queue.clone());
        let pool = self.dispatch.pool_of(&queue, visit.step);
        let pool = pool.and_then(|pool| self.dispatch.pool(pool));
        let serves = visit
            .preferred
            .as_ref()
            .is_some_and(|agent| pool.is_some_and(|pool| pool.working.contains(agent)));
        if serves {
            return;
        }
        if let Some(visit) = self.visit_mut(call) {
            visit.meant_until = None;
        }
        self.touch_call(call);
    }

    /// Takes the steps of the queue's rule that the wait has reached, and sets the
    /// deadline of the next one.
    pub(super) fn take_steps(&mut self, call: CallId) {
        let now = self.meta.now;
        let Some(row) = self.calls.get(&call).filter(|row| row.is_waiting()) else {
            return;
        };
        let Some(visit) = &row.visit else { return };
        let Some(spec) = self.queue_spec(&(row.tenant.clone(), visit.queue.clone())) else {
            return;
        };
        let step = spec.step_at(now.since(visit.since));
        let next = spec
            .relax
            .get(step)
            .map(|step| visit.since.plus(step.after_ms));
        let rule = spec.skills_at(step).to_string();
        let changed = step != visit.step;
        if let Some(due) = next {
            self.at(due, Deadline::Call(call));
        }
        if !changed {
            return;
        }
        if let Some(visit) = self.visit_mut(call) {
            visit.step = step;
        }
        self.touch_call(call);
        self.keep_only_for_who_may_serve(call);
        let step = u64::try_from(step).unwrap_or(u64::MAX);
        let fields = [("step", Value::from(step)), ("skills", rule.into())];
        self.event("call.relaxed", call, fields);
    }
}

fn standing(agent: &AgentRow, place: u32) -> Standing {
    Standing {
        idle_since: agent.idle_since,
        last_offer: agent.last_offer,
        calls: agent.calls,
        talk_ms: agent.talk_ms,
        place,
    }
}

/// What a caller's turn in a queue depends on.
pub(super) fn claim(visit: &Visit, spec: &QueueSpec) -> Claim {
    Claim {
        order: visit.order,
        entered_at: visit.since,
        weight: spec.weight.saturating_add(visit.priority),
        slope: spec.slope,
        age_max_ms: spec.age_max_ms,
    }
}
