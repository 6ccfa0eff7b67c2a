//! Callbacks: taken by key, dialled when their turn comes, tried again, given up.
//!
//! Invariants: an attempt begins with a commit and a callback has at most one under way, so
//! nobody is dialled twice; the agent of an attempt is kept until the customer answers or
//! the attempt is over; a callback ends when the customer answers, after the last attempt,
//! when it is taken back, or with its queue.

use super::event::Value;
use super::{Deadline, Of, State};
use crate::call::{CallRow, Caller, Cause, Disposition, LegRole, Seen, Stage, Want};
use crate::floor::agent::Activity;
use crate::floor::assignment::Claim;
use crate::floor::callback::{CallbackIndex, CallbackRow, CallbackState, owner_of};
use crate::floor::dispatch::{Dispatch, Search, Seeker};
use crate::floor::place::known_by;
use crate::ids::{AgentId, CallId, HoursName, LegId, QueueName, TenantId};
use crate::ivr::speech::Announcement;
use crate::limits;
use crate::route::beyond;
use crate::site::{Callback, QueueSpec, RungFirst, Site};
use crate::time::TimeMs;

impl State {
    /// The number dialled for a call that goes out: what was dialled, or the customer's.
    pub(super) fn dialled(&self, site: &Site, call: &CallRow) -> String {
        let row = call.callback.and_then(|origin| self.callbacks.get(&origin));
        let Some(row) = row else {
            return call.to.clone();
        };
        let rule = site.queues.get(&row.queue);
        let rule = rule.and_then(|spec| spec.comfort.callback.as_ref());
        let prefix = rule.map_or("", |rule| rule.prefix.as_str());
        format!("{prefix}{}", call.from.number)
    }

    /// True when a caller can be called back: one who has proved who he is, or came over a
    /// trunk, and whose number leads somewhere. Anybody may claim any number, and ours is
    /// the bill.
    fn can_be_dialled(&self, call: &CallRow, rule: &Callback) -> bool {
        if call.from.extension.is_some() {
            return true;
        }
        let to = format!("{}{}", rule.prefix, call.from.number);
        let site = self.site(&call.tenant);
        call.from.trunk.is_some()
            && known_by(&call.from).is_some()
            && site.is_some_and(|site| beyond(site, &to).is_some())
    }

    /// The rule of a waiting caller's queue, where he may take a callback.
    pub(super) fn callback_rule(&self, call: &CallRow) -> Option<&Callback> {
        let visit = call.visit.as_ref().filter(|_| call.is_waiting())?;
        let spec = self.site(&call.tenant)?.queues.get(&visit.queue)?;
        let rule = spec.comfort.callback.as_ref()?;
        self.can_be_dialled(call, rule).then_some(rule)
    }

    /// A waiting caller takes a callback; false when he has to wait for that, or may not.
    pub(super) fn take_callback(&mut self, id: CallId) -> bool {
        let now = self.meta.now;
        let Some(call) = self.calls.get(&id) else {
            return false;
        };
        let (Some(rule), Some(visit)) = (self.callback_rule(call), call.visit.as_ref()) else {
            return false;
        };
        if now.since(visit.entered_at) < rule.after_ms {
            return false;
        }
        let row = CallbackRow {
            id,
            tenant: call.tenant.clone(),
            queue: visit.queue.clone(),
            from: call.from.clone(),
            to: call.to.clone(),
            order: visit.order,
            since: visit.since,
            priority: visit.priority,
            step: visit.step,
            customer: call.customer.clone(),
            taken_at: now,
            attempts: 0,
            passed_over: Vec::new(),
            state: CallbackState::Waiting,
        };
        // Who asks twice is called once, at the place he asked for first.
        let stands = self.own_callback(&row.tenant, &row.queue, &row.from);
        let stands = stands.is_some();
        if !stands && self.callbacks.len() >= limits::CALLBACKS {
            return false;
        }
        let language = self
            .queue_spec(&(row.tenant.clone(), row.queue.clone()))
            .map(|spec| spec.comfort.language)
            .unwrap_or_default();
        self.take_offers_back(id);
        self.depart(id, Disposition::CallbackTaken);
        let until = now.plus(limits::TELLING_MS);
        self.at(until, Deadline::Call(id));
        if let Some(call) = self.calls.get_mut(&id) {
            call.stage = Stage::Telling {
                language,
                what: Announcement::CallbackKept,
                ending: (Disposition::CallbackTaken, Cause::NORMAL),
                until,
            };
        }
        self.touch_call(id);
        let fields = [
            ("queue", Value::from(row.queue.as_str())),
            ("number", row.from.number.as_str().into()),
        ];
        self.event("callback.taken", id, fields);
        if !stands {
            self.callbacks.insert(id, row);
            self.touch_callback(id);
        }
        true
    }

    /// The callback of a customer that stands in a queue.
    pub(super) fn own_callback(
        &self,
        tenant: &TenantId,
        queue: &QueueName,
        from: &Caller,
    ) -> Option<CallId> {
        let owner = owner_of(tenant, queue, from)?;
        self.callback_index.owned(&owner)
    }

    /// Notes that a callback changed.
    pub(super) fn touch_callback(&mut self, id: CallId) {
        if let Some(row) = self.callbacks.get(&id) {
            self.callback_index.note(row);
        }
        self.batch.callbacks.insert(id);
        self.batch.stirred_calls.insert(id);
    }

    /// Removes a callback.
    pub(super) fn drop_callback(&mut self, id: CallId) -> Option<CallbackRow> {
        let row = self.callbacks.remove(&id)?;
        self.callback_index.forget(&row);
        // Whoever takes its place in the same entry must not find it taken.
        self.dispatch.place_call(id, None);
        self.touch_callback(id);
        Some(row)
    }

    /// True when customers of a queue may be called back now, as far as that was noted.
    pub fn calls_back_now(&self, queue: &Of<QueueName>) -> bool {
        let rule = self.queue_spec(queue);
        let rule = rule.and_then(|spec| spec.comfort.callback.as_ref());
        rule.is_some_and(|rule| match &rule.hours {
            None => true,
            Some(hours) => {
                let row = self.hours.get(&(queue.0.clone(), hours.clone()));
                row.is_some_and(|row| row.noted)
            }
        })
    }

    /// When callbacks of a queue that may not be dialled now can be again, as far as that
    /// is known.
    pub fn calls_back_at(&self, queue: &Of<QueueName>) -> Option<TimeMs> {
        let rule = self.queue_spec(queue)?.comfort.callback.as_ref()?;
        let key = (queue.0.clone(), rule.hours.clone()?);
        let row = self.hours.get(&key).filter(|row| !row.noted)?;
        row.next_change(self.meta.now)
    }

    /// Hours have opened or closed: callbacks that go by them take part again, or no more.
    pub(super) fn turn_callbacks(&mut self, hours: &Of<HoursName>) {
        let Some(site) = self.site(&hours.0).cloned() else {
            return;
        };
        for (name, spec) in &site.queues {
            let rule = spec.comfort.callback.as_ref();
            if rule.and_then(|rule| rule.hours.as_ref()) == Some(&hours.1) {
                let queue = (hours.0.clone(), name.clone());
                let turns = self.callback_index.in_turn(&queue);
                self.batch.stirred_calls.extend(turns);
                self.stop_asking(&queue);
            }
        }
    }

    /// Where a callback seeks an agent, if it does.
    pub(super) fn callback_seeker(&self, row: &CallbackRow, dispatch: &Dispatch) -> Option<Seeker> {
        let queue = (row.tenant.clone(), row.queue.clone());
        let waits = row.state == CallbackState::Waiting;
        let spec = self.queue_spec(&queue).filter(|_| waits)?;
        self.calls_back_now(&queue).then_some(())?;
        Some(Seeker {
            search: Search::Pool(dispatch.pool_of(&queue, row.step)?),
            claim: callback_claim(row, spec),
        })
    }

    /// An agent is free for a callback: the customer is dialled, the agent kept for him; or
    /// the agent is rung first.
    pub(super) fn call_back(&mut self, origin: CallId, search: &Search, agent: &AgentId) {
        let row = self.callbacks.get(&origin);
        let queue = row.map(|row| (row.tenant.clone(), row.queue.clone()));
        let spec = queue.and_then(|queue| self.queue_spec(&queue));
        let rule = spec.and_then(|spec| spec.comfort.callback.as_ref());
        match rule.map(|rule| rule.first) {
            Some(RungFirst::Agent) => self.offer_callback(origin, search, agent),
            Some(RungFirst::Customer) | None => self.begin_attempt(origin, agent),
        }
    }

    /// Where a call of our own begins: one of the service addresses held, in turn; `None`
    /// when no node can dial now.
    pub(super) fn anchor(&self) -> Option<Anchor> {
        let held = self.addresses.values();
        let held = held.filter_map(|row| Some((row.address, row.epoch, row.holder?)));
        let mut held: Vec<Anchor> = held.collect();
        let drains = |(.., node): &Anchor| self.nodes.get(node).is_some_and(|node| node.draining);
        if !held.iter().all(drains) {
            // A node that is to be left by its calls begins none.
            held.retain(|anchor| !drains(anchor));
        }
        let turn = usize::try_from(self.meta.index).unwrap_or(0);
        held.get(turn.checked_rem(held.len())?).copied()
    }

    /// Nothing can be done for a callback now: it is looked at again soon.
    pub(super) fn rest_callback(&mut self, origin: CallId) {
        let until = self.meta.now.plus(limits::UNREACHABLE_MS);
        if let Some(row) = self.callbacks.get_mut(&origin) {
            row.state = CallbackState::Resting { until };
            self.at(until, Deadline::Callback(origin));
            self.touch_callback(origin);
        }
    }

    /// Dials the customer and keeps the agent for him.
    fn begin_attempt(&mut self, origin: CallId, agent: &AgentId) {
        let now = self.meta.now;
        let Some(anchor) = self.anchor() else {
            return self.rest_callback(origin);
        };
        let id = CallId(self.mint());
        let Some(row) = self.callbacks.get_mut(&origin) else {
            return;
        };
        row.attempts += 1;
        row.state = CallbackState::Dialling {
            call: id,
            agent: agent.clone(),
        };
        let row = row.clone();
        let until = now.plus(limits::EXTENSION_RING_MS);
        let stage = Stage::Dialling { until, near: None };
        let mut call = CallRow::attempt(&row, id, anchor, now, stage);
        call.attempt = row.attempts;
        let spec = self.queue_spec(&(row.tenant.clone(), row.queue.clone()));
        call.hold_music = spec.and_then(|spec| spec.music);
        let key = (row.tenant.clone(), agent.clone());
        self.calls.insert(id, call);
        self.count_time(&key);
        if let Some(agent) = self.agents.get_mut(&key) {
            agent.activity = Activity::Offered(id);
            agent.serving = Some(row.queue.clone());
        }
        self.touch_agent(&key);
        self.touch_callback(origin);
        self.touch_call(id);
        self.tell_dialled(&row, id, agent);
        self.at(until, Deadline::Call(id));
        if let Err(cause) = self.dial_customer(id, &row) {
            self.close_call(id, (Disposition::Failed, cause));
        }
    }

    /// Says that an attempt begins.
    pub(super) fn tell_dialled(&mut self, row: &CallbackRow, call: CallId, agent: &AgentId) {
        let fields = [
            ("call", Value::from(call.to_string())),
            ("agent", agent.as_str().into()),
            ("attempt", u64::from(row.attempts).into()),
        ];
        self.event("callback.dialled", row.id, fields);
    }

    /// Rings the customer of a callback.
    pub(super) fn dial_customer(&mut self, id: CallId, row: &CallbackRow) -> Result<(), Cause> {
        let Some(extension) = row.from.extension.clone() else {
            return self.dial_out(id).map_err(|_| Cause::CONGESTION);
        };
        let key = (row.tenant.clone(), extension);
        let targets = self.extension_targets(&key);
        if targets.is_empty() {
            return Err(Cause::NOT_REGISTERED);
        }
        for target in targets {
            self.add_leg(id, LegRole::Extension(key.1.clone()), target);
        }
        self.touch_call(id);
        Ok(())
    }

    /// The customer has answered. He talks with the agent who was rung before him; else he
    /// is a caller again, at his place, and the agent kept for him is free, and serves him
    /// unless somebody with an earlier turn waits.
    pub(super) fn customer_answered(&mut self, id: CallId, leg: LegId) {
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        let (Some(origin), Some(place)) = (
            call.callback,
            call.legs.iter().position(|one| one.id == leg),
        ) else {
            return;
        };
        let mut own = call.legs.remove(place);
        if let LegRole::Trunk(name, _) = &own.role {
            // His channel is held by the caller's leg from now on.
            call.from.trunk = Some(name.clone());
        }
        own.role = LegRole::Caller;
        let near = match call.stage {
            Stage::Dialling { near, .. } => near,
            _ => None,
        };
        let others = call.legs.iter_mut().filter(|one| Some(one.id) != near);
        for other in others.filter(|one| one.seen != Seen::Ended) {
            other.want = Want::End(Cause::ELSEWHERE);
        }
        call.legs.insert(0, own);
        let tenant = call.tenant.clone();
        let Some(row) = self.drop_callback(origin) else {
            return self.clear_call(id, (Disposition::Failed, Cause::FAILURE));
        };
        self.event(
            "callback.reached",
            origin,
            [("call", Value::from(id.to_string()))],
        );
        if let Some(near) = near {
            return self.join(id, near, &row);
        }
        self.let_go(&row, id);
        let queue = (tenant, row.queue);
        let Some(music) = self.queue_spec(&queue).map(|spec| spec.music) else {
            return self.clear_call(id, (Disposition::Failed, Cause::REMOVED));
        };
        self.enter_queue_at(id, queue.1, music, (row.order, row.since));
    }

    /// Frees the agent kept for an attempt. One who was rung is free when his leg has ended.
    pub(super) fn let_go(&mut self, row: &CallbackRow, call: CallId) {
        let Some(agent) = row.state.agent() else {
            return;
        };
        let attempt = self.calls.get(&call);
        if attempt.is_some_and(|attempt| Self::has_live_agent_leg(attempt, agent)) {
            return;
        }
        let key: Of<AgentId> = (row.tenant.clone(), agent.clone());
        self.count_time(&key);
        if let Some(agent) = self.agents.get_mut(&key)
            && agent.activity == Activity::Offered(call)
        {
            agent.activity = Activity::Idle;
        }
        self.touch_agent(&key);
    }

    /// A call for a callback is over: an attempt without an answer, which another one
    /// follows unless it was the last, or an offer to an agent that was broken off.
    pub(super) fn attempt_over(&mut self, id: CallId, origin: Option<CallId>, how: Disposition) {
        let Some(row) = origin
            .and_then(|origin| self.callbacks.get(&origin))
            .filter(|row| row.state.call() == Some(id))
            .cloned()
        else {
            return;
        };
        if let CallbackState::Offered { agent, .. } = &row.state {
            if let Some(kept) = self.callbacks.get_mut(&row.id) {
                kept.state = CallbackState::Waiting;
            }
            if how != Disposition::NodeLost {
                // Hung up by hand: not to ring there again at once.
                self.pass_over(row.id, agent);
            }
            return self.touch_callback(row.id);
        }
        self.let_go(&row, id);
        let spec = self.queue_spec(&(row.tenant.clone(), row.queue.clone()));
        let rule = spec.and_then(|spec| spec.comfort.callback.as_ref());
        let next = rule.filter(|rule| row.attempts < rule.attempts);
        let next = next.map(|rule| self.meta.now.plus(rule.pause_ms));
        let fields = [
            ("call", Value::from(id.to_string())),
            ("attempt", u64::from(row.attempts).into()),
        ];
        match next {
            Some(until) => {
                self.event("callback.missed", row.id, fields);
                if let Some(kept) = self.callbacks.get_mut(&row.id) {
                    kept.state = CallbackState::Resting { until };
                }
                self.at(until, Deadline::Callback(row.id));
                self.touch_callback(row.id);
            }
            None => {
                self.event("callback.given_up", row.id, fields);
                self.drop_callback(row.id);
            }
        }
    }

    /// A callback may have rested long enough, or an agent have been passed over for it.
    pub(super) fn callback_due(&mut self, id: CallId) {
        let now = self.meta.now;
        let Some(row) = self.callbacks.get_mut(&id) else {
            return;
        };
        if matches!(row.state, CallbackState::Resting { until } if until <= now) {
            row.state = CallbackState::Waiting;
        }
        for passed in &mut row.passed_over {
            passed.until = passed.until.filter(|until| *until > now);
        }
        self.touch_callback(id);
    }

    /// A site has been put in force: callbacks of queues that offer none any more are given
    /// up, those being dialled when their attempt is over.
    pub(super) fn site_callbacks(&mut self, site: &Site) {
        let stands = |row: &CallbackRow| {
            let spec = site.queues.get(&row.queue);
            row.tenant != site.tenant
                || spec.is_some_and(|spec| spec.comfort.callback.is_some())
                || matches!(row.state, CallbackState::Dialling { .. })
        };
        let rows = self.callbacks.values();
        let gone: Vec<CallId> = rows.filter(|row| !stands(row)).map(|row| row.id).collect();
        for id in gone {
            let offer = self.drop_callback(id).and_then(|row| row.state.call());
            self.event("callback.given_up", id, []);
            if let Some(offer) = offer {
                self.clear_call(offer, (Disposition::Rejected, Cause::REMOVED));
            }
        }
        for name in site.queues.keys() {
            self.stop_asking(&(site.tenant.clone(), name.clone()));
        }
    }

    /// Takes back the offers of callbacks of a queue that may not be dialled now.
    fn stop_asking(&mut self, queue: &Of<QueueName>) {
        if self.calls_back_now(queue) {
            return;
        }
        let turns = self.callback_index.in_turn(queue);
        let rows = turns.filter_map(|id| self.callbacks.get(&id));
        let asked = rows.filter(|row| matches!(row.state, CallbackState::Offered { .. }));
        let asked: Vec<CallId> = asked.filter_map(|row| row.state.call()).collect();
        for call in asked {
            self.offer_callback_anew(call);
        }
    }

    /// Says what is broken about callbacks.
    pub(super) fn check_callbacks(&self, broken: &mut Vec<String>) {
        for row in self.callbacks.values() {
            let (Some(id), Some(agent)) = (row.state.call(), row.state.agent()) else {
                continue;
            };
            let key = (row.tenant.clone(), agent.clone());
            let agent = self.agents.get(&key).map(|agent| &agent.activity);
            let (offered, talks) = (Activity::Offered(id), Activity::Talking(id));
            let stage = self.calls.get(&id).map(|call| &call.stage);
            let kept = match (&row.state, stage) {
                (CallbackState::Offered { .. }, Some(Stage::Offering { agent: asked, .. })) => {
                    *asked == key.1 && agent == Some(&offered)
                }
                (CallbackState::Dialling { .. }, Some(Stage::Dialling { near, .. })) => {
                    agent == Some(if near.is_some() { &talks } else { &offered })
                }
                _ => false,
            };
            if !kept {
                broken.push(format!("callback {} has no call of its own", row.id));
            }
        }
        if self.callback_index != CallbackIndex::of(self.callbacks.values()) {
            broken.push(String::from("the callbacks of queues differ from the rows"));
        }
        for call in self.calls.values() {
            let origin = call.callback.and_then(|origin| self.callbacks.get(&origin));
            let own = origin.is_some_and(|row| row.state.call() == Some(call.id));
            let (begun, offering) = match &call.stage {
                Stage::Dialling { near, .. } => {
                    let live = near.is_none_or(|near| {
                        let leg = call.leg(near);
                        leg.is_some_and(|leg| leg.is_live() && leg.want == Want::Answer)
                    });
                    (live, false)
                }
                Stage::Offering { .. } => (false, true),
                _ => (false, false),
            };
            if (begun || offering) != own || begun && call.attempt == 0 {
                broken.push(format!("{} dials for no callback", call.id));
            }
            let customers = call
                .legs
                .iter()
                .filter(|leg| matches!(leg.role, LegRole::Extension(_) | LegRole::Trunk(..)));
            if offering && (call.attempt > 0 || customers.count() > 0) {
                broken.push(format!("{} dials before the agent has answered", call.id));
            }
        }
    }
}

/// What a callback's turn in a queue depends on.
pub(super) fn callback_claim(row: &CallbackRow, spec: &QueueSpec) -> Claim {
    Claim {
        order: row.order,
        entered_at: row.since,
        weight: spec.weight.saturating_add(row.priority),
        slope: spec.slope,
        age_max_ms: spec.age_max_ms,
    }
}

/// A service address with its epoch, and the node that holds it.
type Anchor = (std::net::IpAddr, u32, crate::ids::NodeId);

impl CallRow {
    /// A call to reach the customer of a callback, without legs yet.
    pub(super) fn attempt(
        row: &CallbackRow,
        id: CallId,
        (address, epoch, owner): Anchor,
        now: TimeMs,
        stage: Stage,
    ) -> Self {
        Self {
            id,
            tenant: row.tenant.clone(),
            address,
            address_epoch: epoch,
            epoch,
            owner,
            moved: false,
            from: row.from.clone(),
            to: row.to.clone(),
            customer: row.customer.clone(),
            priority: row.priority,
            preferred: None,
            callback: Some(row.id),
            attempt: 0,
            started_at: now,
            stage,
            legs: Vec::new(),
            visit: None,
            greeting: None,
            hold_music: None,
            announcement: None,
            exits: Vec::new(),
            answered_at: None,
            talk_ended_at: None,
            agent: None,
            held_since: None,
            held_ms: 0,
            ending: None,
            recorded: false,
            seq: 1,
        }
    }
}
