//! The dispatcher again, written the slow and plain way, from rows and site alone: who
//! may be offered whom, in which order. Each entry's offers are held against it, in the
//! order they were made, and afterwards nobody may be left who could have been served.
//!
//! It knows nothing of pools, turns or precedence as the state keeps them.

#![allow(dead_code, reason = "shared with the bench, which needs less of it")]

use std::cmp::Reverse;
use std::collections::BTreeMap;

use strowger_core::call::{CallRow, LegRole, PassedOver, Stage};
use strowger_core::floor::agent::{Activity, AgentRow, AgentState};
use strowger_core::floor::callback::{CallbackRow, CallbackState};
use strowger_core::hours::WEEK_MS;
use strowger_core::ids::{AgentId, CallId, LegId, QueueName, TenantId};
use strowger_core::site::{AgentSpec, QueueSpec, RungFirst, Site, Strategy};
use strowger_core::state::State;

type Key = (TenantId, AgentId);

/// What is remembered from before an entry.
pub struct Before {
    /// Offers under way, with their agents.
    offers: BTreeMap<CallId, Vec<AgentId>>,
    /// Callbacks, with what they are doing and their attempts.
    callbacks: BTreeMap<CallId, (CallbackState, u32)>,
    last_offer: BTreeMap<Key, u64>,
    /// Agents in wrap-up, with its end, ms.
    wrapping: BTreeMap<Key, u64>,
    /// Agents whose answer came too late: the leg, and what was counted of them.
    late: BTreeMap<Key, (LegId, Counted)>,
}

/// Missed in a row, answered, talked, ms.
type Counted = (u32, u64, u64);

/// A caller, or a callback, who wants an agent.
#[derive(Clone, Copy)]
struct Wants<'s> {
    id: CallId,
    tenant: &'s TenantId,
    queue: &'s QueueName,
    order: u64,
    since: u64,
    priority: i64,
    step: usize,
    passed_over: &'s [PassedOver],
    preferred: Option<&'s AgentId>,
    /// Only the preferred one will do for now.
    waits_for_him: bool,
}

impl<'s> Wants<'s> {
    fn caller(call: &'s CallRow) -> Self {
        let visit = call.visit.as_ref().expect("a waiting call is in a queue");
        Self {
            id: call.id,
            tenant: &call.tenant,
            queue: &visit.queue,
            order: visit.order,
            since: visit.since.0,
            priority: visit.priority,
            step: visit.step,
            passed_over: &visit.passed_over,
            preferred: visit.preferred.as_ref(),
            waits_for_him: visit.meant_until.is_some(),
        }
    }

    fn callback(row: &'s CallbackRow) -> Self {
        Self {
            id: row.id,
            tenant: &row.tenant,
            queue: &row.queue,
            order: row.order,
            since: row.since.0,
            priority: row.priority,
            step: row.step,
            passed_over: &row.passed_over,
            preferred: None,
            waits_for_him: false,
        }
    }

    fn spec<'t>(&self, state: &'t State) -> Option<&'t QueueSpec> {
        site_of(state, self.tenant).queues.get(self.queue)
    }
}

/// An offer the entry made, or a callback it engaged an agent for.
struct Made<'s> {
    /// Ids rise in the order things are made.
    at: u64,
    who: Wants<'s>,
    agent: Key,
}

impl Before {
    pub fn of(state: &State) -> Self {
        let offers = state.calls.values().filter_map(|call| {
            let offers = &call.visit.as_ref()?.offers;
            let agents = offers.iter().map(|offer| offer.agent.clone()).collect();
            (!offers.is_empty()).then_some((call.id, agents))
        });
        let agents = state.agents.iter();
        let wrapping = agents.clone().filter_map(|(key, row)| match row.activity {
            Activity::WrapUp(until) => Some((key.clone(), until.0)),
            _ => None,
        });
        let late = state.calls.values();
        let late = late.flat_map(|call| late_agents(state, call));
        let late = late.map(|(agent, leg)| {
            let counted = counted(&state.agents[&agent]);
            (agent, (leg, counted))
        });
        Self {
            late: late.collect(),
            wrapping: wrapping.collect(),
            offers: offers.collect(),
            callbacks: state
                .callbacks
                .values()
                .map(|row| (row.id, (row.state.clone(), row.attempts)))
                .collect(),
            last_offer: agents
                .map(|(key, row)| (key.clone(), row.last_offer))
                .collect(),
        }
    }

    /// Holds the state after an entry of one command against the rules; how many offers
    /// it made. The command may have ended wrap-up or pause of `freed`.
    pub fn check(&self, state: &State, freed: Option<&AgentId>) -> usize {
        let made = self.made(state);
        let now = state.meta.now.0;
        one_call_each(state);
        places(state);
        self.attempts(state);
        self.late_answers_cost_nothing(state, freed);
        for one in &made {
            let row = &state.agents[&one.agent];
            assert!(
                row.signed_in && row.paused.is_none(),
                "{} was offered a call while paused or signed out",
                row.id
            );
            let wrapping = self
                .wrapping
                .get(&one.agent)
                .is_some_and(|until| *until > now);
            assert!(
                !wrapping || freed == Some(&row.id),
                "{} was offered a call in wrap-up",
                row.id
            );
        }
        let callers = state.calls.values().filter(|call| seeks(call));
        let callbacks = state.callbacks.values().filter(|row| {
            row.state == CallbackState::Waiting && calls_back(state, (&row.tenant, &row.queue))
        });
        let left: Vec<Wants<'_>> = callers
            .map(Wants::caller)
            .chain(callbacks.map(Wants::callback))
            .collect();
        let free: Vec<Key> = state
            .agents
            .iter()
            .filter(|(_, row)| state.agent_state(row) == AgentState::Ready)
            .map(|(key, _)| key.clone())
            .collect();
        for (n, one) in made.iter().enumerate() {
            let rest = &made[n..];
            let spec = one.who.spec(state).expect("who is offered is in a queue");
            let several = spec.strategy == Strategy::RingAll;
            // Offers of ring-all to other agents of the same call are one choice.
            let first = !several || n == 0 || made[n - 1].who.id != one.who.id;
            let then_free: Vec<&Key> = free
                .iter()
                .chain(rest.iter().map(|one| &one.agent))
                .collect();
            assert!(
                may_serve(state, &one.agent, &one.who),
                "{} was offered to {}, who may not serve him",
                one.who.id,
                one.agent.1
            );
            if first {
                let others = left
                    .iter()
                    .copied()
                    .chain(rest[1..].iter().map(|one| one.who));
                for other in others.filter(|other| other.id != one.who.id) {
                    let better = comes_first(state, &other, &one.who, now);
                    let possible = may_serve(state, &one.agent, &other);
                    assert!(
                        !(better && possible),
                        "{} was offered to {} before {}",
                        one.who.id,
                        one.agent.1,
                        other.id
                    );
                }
            }
            if one.who.preferred == Some(&one.agent.1) {
                // Whether he was waited for is not in the row any more.
                continue;
            }
            let mine = self.turn(state, spec.strategy, &one.agent);
            for other in &then_free {
                let Some(mine) = mine.filter(|_| **other != one.agent) else {
                    continue;
                };
                let theirs = self.turn(state, spec.strategy, other);
                assert!(
                    theirs.is_none_or(|theirs| (mine, &one.agent) < (theirs, other))
                        || !may_serve(state, other, &one.who),
                    "{} was offered to {} before {} by {:?}",
                    one.who.id,
                    one.agent.1,
                    other.1,
                    spec.strategy
                );
            }
        }
        for who in left {
            for agent in &free {
                assert!(
                    !may_serve(state, agent, &who),
                    "{} waits while {} is ready",
                    who.id,
                    agent.1
                );
            }
        }
        made.len()
    }

    /// Whoever answered too late is at that call until his leg is over, then free at once,
    /// with nothing counted; the record of the call is there before that.
    fn late_answers_cost_nothing(&self, state: &State, freed: Option<&AgentId>) {
        for (agent, (leg, before)) in &self.late {
            let Some(row) = state.agents.get(agent) else {
                continue;
            };
            let mut legs = state.calls.values().flat_map(|call| &call.legs);
            if !legs.any(|one| one.id == *leg && one.is_live()) {
                assert!(
                    matches!(row.activity, Activity::Idle | Activity::Offered(_)),
                    "{} answered too late and is at {:?}",
                    agent.1,
                    row.activity
                );
            }
            if freed != Some(&agent.1) {
                assert_eq!(counted(row), *before, "{} answered too late", agent.1);
            }
        }
        for call in state.calls.values() {
            let live = call.legs.iter().filter(|leg| leg.is_live()).count();
            let over = matches!(call.stage, Stage::Clearing);
            if over && live > 0 && live == late_agents(state, call).len() {
                assert!(call.recorded, "{} waits with its record", call.id);
            }
        }
    }

    /// Customers are dialled in their hours only, one attempt at a time, and where the agent
    /// is rung first, after his answer.
    fn attempts(&self, state: &State) {
        for row in state.callbacks.values() {
            let calls = state.calls.values();
            let own = calls.filter(|call| {
                call.callback == Some(row.id) && !matches!(call.stage, Stage::Clearing)
            });
            assert!(own.count() <= 1, "{} has two attempts under way", row.id);
            let before = self.callbacks.get(&row.id);
            let attempts = before.map_or(0, |before| before.1);
            assert!(attempts <= row.attempts && row.attempts <= attempts + 1);
            if attempts == row.attempts {
                continue;
            }
            let queue = (&row.tenant, &row.queue);
            assert!(
                calls_back(state, queue),
                "{} was dialled out of hours",
                row.id
            );
            let site = site_of(state, &row.tenant);
            let rule = site.queues[&row.queue].comfort.callback.as_ref();
            if rule.is_some_and(|rule| rule.first == RungFirst::Agent) {
                let asked =
                    before.is_some_and(|(state, _)| matches!(state, CallbackState::Offered { .. }));
                assert!(asked, "{} was dialled before the agent's answer", row.id);
            }
        }
    }

    /// Offers made since, in the order they were made.
    fn made<'s>(&self, state: &'s State) -> Vec<Made<'s>> {
        let mut made = Vec::new();
        for call in state.calls.values() {
            let Some(visit) = &call.visit else { continue };
            let before = self.offers.get(&call.id);
            let known = made.len();
            for offer in &visit.offers {
                let agent = (call.tenant.clone(), offer.agent.clone());
                let at = &state.agents[&agent].activity;
                assert_eq!(*at, Activity::Offered(call.id), "{}", offer.agent);
                if before.is_some_and(|before| before.contains(&offer.agent)) {
                    continue;
                }
                let role = LegRole::Agent(offer.agent.clone());
                let legs = call
                    .legs
                    .iter()
                    .filter(|leg| leg.role == role && leg.is_live());
                let at = legs
                    .map(|leg| leg.id.0)
                    .max()
                    .expect("an offer rings a phone");
                let who = Wants::caller(call);
                made.push(Made { at, who, agent });
            }
            let fresh = made.len() - known;
            let spec = Wants::caller(call).spec(state);
            let several = spec.is_some_and(|queue| queue.strategy == Strategy::RingAll);
            assert!(
                several || fresh == 0 || visit.offers.len() == 1,
                "{} has two offers",
                call.id
            );
        }
        for row in state.callbacks.values() {
            let (Some(call), Some(agent)) = (row.state.call(), row.state.agent()) else {
                continue;
            };
            let before = self.callbacks.get(&row.id);
            if before.is_some_and(|(before, _)| before.call() == Some(call)) {
                continue;
            }
            let who = Wants::callback(row);
            let agent = (row.tenant.clone(), agent.clone());
            assert_eq!(state.agents[&agent].activity, Activity::Offered(call));
            let at = call.0;
            made.push(Made { at, who, agent });
        }
        made.sort_by_key(|one| one.at);
        made
    }

    /// What the strategy orders agents by; `None` when it has no order of its own here.
    fn turn(&self, state: &State, strategy: Strategy, agent: &Key) -> Option<(u64, u64)> {
        let row: &AgentRow = &state.agents[agent];
        let spec = state
            .site(&agent.0)
            .and_then(|site| site.agents.get(&agent.1));
        let place = spec.map_or(0, |spec| spec.place);
        let last = self.last_offer.get(agent).copied().unwrap_or(0);
        match strategy {
            Strategy::LongestIdle | Strategy::RingAll => Some((row.idle_since.0, 0)),
            Strategy::RoundRobin => Some((last, row.idle_since.0)),
            Strategy::FewestCalls => Some((row.calls, row.idle_since.0)),
            Strategy::LeastTalk => Some((row.talk_ms, row.idle_since.0)),
            Strategy::Linear => Some((u64::from(place), 0)),
            Strategy::Random => None,
        }
    }
}

/// Agents of a call who answered when it was somebody else's or over, with a leg of each.
fn late_agents(state: &State, call: &CallRow) -> Vec<(Key, LegId)> {
    let taken = match call.stage {
        Stage::Bridged { far } => Some(far),
        Stage::Clearing => None,
        _ => return Vec::new(),
    };
    let mut late = Vec::new();
    for leg in &call.legs {
        if let LegRole::Agent(agent) = &leg.role
            && leg.is_live()
            && leg.answered_at.is_some()
            && Some(leg.id) != taken
            && call.agent.as_ref() != Some(agent)
        {
            let key = (call.tenant.clone(), agent.clone());
            // Who was rung before the customer of a callback is at the call all the same.
            let row = state.agents.get(&key);
            if row.is_some_and(|row| row.activity == Activity::Offered(call.id)) {
                late.push((key, leg.id));
            }
        }
    }
    late
}

fn counted(row: &AgentRow) -> Counted {
    (row.missed, row.calls, row.talk_ms)
}

/// Nobody has legs of two calls, and whoever has one is at that call.
fn one_call_each(state: &State) {
    for call in state.calls.values() {
        for leg in call.legs.iter().filter(|leg| leg.is_live()) {
            let LegRole::Agent(agent) = &leg.role else {
                continue;
            };
            let row = state.agents.get(&(call.tenant.clone(), agent.clone()));
            let at = row.map(|row| row.activity.clone());
            let here =
                matches!(at, Some(Activity::Offered(at) | Activity::Talking(at)) if at == call.id);
            assert!(here, "{agent} has a leg of {} and is at {at:?}", call.id);
        }
    }
}

/// Callers are told how many callers and callbacks stand before them.
fn places(state: &State) {
    for call in state.calls.values().filter(|call| call.is_waiting()) {
        let visit = call.visit.as_ref().expect("a waiting call is in a queue");
        let before = |other: &&CallRow| {
            let there = other.visit.as_ref();
            other.is_waiting()
                && other.tenant == call.tenant
                && there.is_some_and(|v| v.queue == visit.queue && v.order < visit.order)
        };
        let callers = state.calls.values().filter(before).count();
        let stands = |row: &&CallbackRow| {
            let queue = (&row.tenant, &row.queue);
            calls_back(state, queue)
                && row.tenant == call.tenant
                && row.queue == visit.queue
                && row.order < visit.order
                && !matches!(row.state, CallbackState::Resting { .. })
        };
        let callbacks = state.callbacks.values().filter(stands).count();
        let place = u64::try_from(1 + callers + callbacks).ok();
        assert_eq!(state.position(call), place, "the place of {}", call.id);
    }
}

/// True when customers of a queue may be called back at this time, by the intervals.
fn calls_back(state: &State, (tenant, queue): (&TenantId, &QueueName)) -> bool {
    let Some(spec) = site_of(state, tenant).queues.get(queue) else {
        return false;
    };
    let Some(rule) = &spec.comfort.callback else {
        return false;
    };
    let Some(name) = &rule.hours else { return true };
    let row = &state.hours[&(tenant.clone(), name.clone())];
    let now = state.meta.now.0;
    if let Some(spoken) = row.spoken.filter(|spoken| now < spoken.until.0) {
        return spoken.open;
    }
    let mut at = now;
    while at >= row.times.until.0 && at > WEEK_MS {
        at -= WEEK_MS;
    }
    let mut open = row.times.open.iter();
    open.any(|(from, to)| (from.0..to.0).contains(&at))
}

fn site_of<'s>(state: &'s State, tenant: &TenantId) -> &'s Site {
    state.site(tenant).expect("the site is in force")
}

/// A caller who wants an agent.
fn seeks(call: &CallRow) -> bool {
    let visit = call.visit.as_ref();
    call.is_waiting() && visit.is_some_and(|visit| visit.offers.is_empty())
}

/// Skills, queues, teams and steps: who may serve somebody at all.
fn serves(site: &Site, who: &Wants<'_>, spec: &QueueSpec, agent: &AgentSpec) -> bool {
    // A callback keeps the steps of its caller, also when the site has fewer now.
    let taken = &spec.relax[..who.step.min(spec.relax.len())];
    let mut rule = &spec.skills;
    let mut belongs = agent.queues.contains(who.queue);
    for step in taken {
        rule = step.skills.as_ref().unwrap_or(rule);
        belongs |= agent.queues.iter().any(|queue| step.queues.contains(queue));
        belongs |= agent
            .team
            .as_ref()
            .is_some_and(|team| step.teams.contains(team));
    }
    assert!(site.queues.contains_key(who.queue));
    belongs && rule.fits(&agent.skills)
}

/// Signed in, not paused and with a phone.
fn at_work(state: &State, row: &AgentRow) -> bool {
    row.signed_in && row.paused.is_none() && state.agent_state(row) != AgentState::NoPhone
}

/// True when a free agent may be offered this caller or callback now.
fn may_serve(state: &State, agent: &Key, who: &Wants<'_>) -> bool {
    let site = site_of(state, who.tenant);
    let Some(spec) = who.spec(state) else {
        return false;
    };
    let Some(own) = site.agents.get(&agent.1).filter(|_| agent.0 == *who.tenant) else {
        return false;
    };
    if !serves(site, who, spec, own) {
        return false;
    }
    if who.waits_for_him && who.preferred != Some(&agent.1) {
        return false;
    }
    let Some(missed) = who.passed_over.iter().find(|one| one.agent == agent.1) else {
        return true;
    };
    // Who missed him is asked again only when all others at work have missed him too.
    let all_missed = site.agents.iter().all(|(id, spec_of)| {
        let row = state.agents.get(&(who.tenant.clone(), id.clone()));
        let counts = row.is_some_and(|row| at_work(state, row));
        !counts
            || !serves(site, who, spec, spec_of)
            || who.passed_over.iter().any(|one| one.agent == *id)
    });
    missed.until.is_none() && all_missed
}

/// True when `a` is served before `b`.
fn comes_first(state: &State, a: &Wants<'_>, b: &Wants<'_>, now: u64) -> bool {
    let turn = |who: &Wants<'_>| {
        let spec = who.spec(state).expect("who waits is in a queue");
        let waited = now - who.since;
        let aged = waited >= spec.age_max_ms;
        let score = i128::from(spec.weight + who.priority) * 1_000
            + i128::from(waited) * i128::from(spec.slope);
        (aged, if aged { 0 } else { score }, Reverse(who.order))
    };
    turn(a) > turn(b)
}
