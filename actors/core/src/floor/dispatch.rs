//! Who could serve whom, kept ready so that one event touches only the queues it
//! concerns: for each queue and each step of its rule the agents who may serve, those of
//! them who are at work and who are ready, and the callers who seek one.
//!
//! Everything here is derived from rows; a restart makes the same again. Nothing decides
//! here: the orders are in [`super::assignment`].

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use super::assignment::{Claim, Precedence, Standing, Turn, turn};
use crate::ids::{AgentId, CallId, QueueName, TenantId};
use crate::limits;
use crate::site::{Site, Strategy};
use crate::time::TimeMs;

/// A key inside one tenant.
type Of<K> = (TenantId, K);

/// Number of a pool.
pub type PoolId = usize;

/// The callers of one queue who have passed the same steps of its rule, and the agents
/// who may serve them.
#[derive(Debug, PartialEq, Eq)]
pub struct Pool {
    /// The queue.
    pub queue: Of<QueueName>,
    /// Steps of the queue's rule passed.
    pub step: usize,
    /// How agents are picked.
    pub strategy: Strategy,
    /// Agents who may serve, whatever they are doing.
    pub members: BTreeSet<AgentId>,
    /// Agents of the queues and teams concerned whose skills do not suffice.
    pub unfit: BTreeSet<AgentId>,
    /// Members signed in and not paused.
    pub working: BTreeSet<AgentId>,
    /// Members who could take a call now, in the order they are asked.
    pub ready: BTreeSet<(Turn, AgentId)>,
    /// Callers by arrival.
    arrivals: BTreeMap<u64, CallId>,
    /// Callers by score.
    ranked: BTreeSet<(Reverse<i64>, u64)>,
}

/// What makes a member of the pools stand where he stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Presence {
    /// Signed in and not paused.
    pub working: bool,
    /// Could take a call now; what his turn depends on.
    pub ready: Option<Standing>,
}

/// Where a caller seeks an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Search {
    /// Among the agents of a pool.
    Pool(PoolId),
    /// For one agent only, for a while.
    Agent(Of<AgentId>),
}

/// A caller who seeks an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seeker {
    /// Where.
    pub search: Search,
    /// What the turn depends on.
    pub claim: Claim,
}

/// How far the callers of a pool have been looked at.
#[derive(Clone, Copy, Debug)]
pub enum Cursor {
    /// Nobody yet.
    Start,
    /// The aged callers up to this one.
    Aged(u64),
    /// All aged callers, and the others up to this one.
    Ranked(Reverse<i64>, u64),
}

/// All pools.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Dispatch {
    pools: Vec<Pool>,
    /// The pool of a queue's first step; the others follow it.
    of_queue: BTreeMap<Of<QueueName>, PoolId>,
    /// Of each queue, by the pool of its first step, the other queues whose agents serve it
    /// too, and how many of those do.
    rivals: BTreeMap<PoolId, BTreeMap<PoolId, u64>>,
    /// Pools an agent is a member of.
    of_agent: BTreeMap<Of<AgentId>, Vec<PoolId>>,
    agents: BTreeMap<Of<AgentId>, Presence>,
    calls: BTreeMap<CallId, Seeker>,
    /// Callers who wait for one agent, by arrival.
    meant: BTreeMap<Of<AgentId>, BTreeMap<u64, CallId>>,
    /// Pools in which a pair may have become possible.
    stirred: BTreeSet<PoolId>,
    /// Agents meant for callers for whom a pair may have become possible.
    stirred_agents: BTreeSet<Of<AgentId>>,
}

impl Dispatch {
    /// Empty pools for these sites.
    pub fn new<'a>(sites: impl Iterator<Item = &'a Site>) -> Self {
        let mut all = Self::default();
        for site in sites {
            all.add_site(site);
        }
        all.find_rivals();
        all
    }

    fn add_site(&mut self, site: &Site) {
        for (name, spec) in &site.queues {
            let queue = (site.tenant.clone(), name.clone());
            self.of_queue.insert(queue.clone(), self.pools.len());
            for step in 0..=spec.relax.len() {
                let rule = spec.skills_at(step);
                let mut pool = Pool {
                    queue: queue.clone(),
                    step,
                    strategy: spec.strategy,
                    members: BTreeSet::new(),
                    unfit: BTreeSet::new(),
                    working: BTreeSet::new(),
                    ready: BTreeSet::new(),
                    arrivals: BTreeMap::new(),
                    ranked: BTreeSet::new(),
                };
                for (id, agent) in &site.agents {
                    if !spec.invites(name, agent, step) {
                        continue;
                    }
                    if !rule.fits(&agent.skills) {
                        pool.unfit.insert(id.clone());
                        continue;
                    }
                    pool.members.insert(id.clone());
                    let key = (site.tenant.clone(), id.clone());
                    self.of_agent.entry(key).or_default().push(self.pools.len());
                }
                self.pools.push(pool);
            }
        }
    }

    fn find_rivals(&mut self) {
        for pools in self.of_agent.values() {
            let first = |id: &&PoolId| self.pools.get(**id).is_some_and(|pool| pool.step == 0);
            let own: Vec<PoolId> = pools
                .iter()
                .filter(first)
                .take(limits::RIVALS_PER_AGENT)
                .copied()
                .collect();
            for one in &own {
                for other in own.iter().filter(|other| *other != one) {
                    let shared = self.rivals.entry(*one).or_default();
                    *shared.entry(*other).or_default() += 1;
                }
            }
        }
    }

    /// The other queues whose agents serve this one too, by the pools of their first steps,
    /// with the number of those agents.
    pub fn rivals(&self, first: PoolId) -> impl Iterator<Item = (PoolId, u64)> {
        let rivals = self.rivals.get(&first).into_iter().flatten();
        rivals.map(|(other, shared)| (*other, *shared))
    }

    /// The pool with this number.
    pub fn pool(&self, id: PoolId) -> Option<&Pool> {
        self.pools.get(id)
    }

    /// The pool of a queue's callers after `step` steps; the last one when there are
    /// fewer.
    pub fn pool_of(&self, queue: &Of<QueueName>, step: usize) -> Option<PoolId> {
        let first = *self.of_queue.get(queue)?;
        (first..=first.saturating_add(step))
            .rev()
            .find(|id| self.pools.get(*id).is_some_and(|pool| pool.queue == *queue))
    }

    /// Callers who seek an agent.
    pub fn seekers(&self) -> impl Iterator<Item = (CallId, &Seeker)> {
        self.calls.iter().map(|(call, seeker)| (*call, seeker))
    }

    /// What an agent was last noted to be.
    pub fn presence(&self, key: &Of<AgentId>) -> Option<&Presence> {
        self.agents.get(key)
    }

    /// Callers who wait for one agent.
    pub fn meant_for(&self, key: &Of<AgentId>) -> impl Iterator<Item = CallId> {
        self.meant
            .get(key)
            .into_iter()
            .flat_map(|calls| calls.values().copied())
    }

    /// Notes what an agent is now; `None` = of no concern. True when it has changed.
    pub fn place_agent(&mut self, key: &Of<AgentId>, presence: Option<Presence>) -> bool {
        let presence = presence.filter(|presence| presence.working || presence.ready.is_some());
        if self.agents.get(key) == presence.as_ref() {
            return false;
        }
        let before = self.agents.remove(key);
        for id in self.of_agent.get(key).into_iter().flatten() {
            let Some(pool) = self.pools.get_mut(*id) else {
                continue;
            };
            if let Some(standing) = before.as_ref().and_then(|one| one.ready.as_ref()) {
                let turn = turn(pool.strategy, &key.1, standing);
                pool.ready.remove(&(turn, key.1.clone()));
            }
            if let Some(standing) = presence.as_ref().and_then(|one| one.ready.as_ref()) {
                let turn = turn(pool.strategy, &key.1, standing);
                pool.ready.insert((turn, key.1.clone()));
            }
            let working = presence.as_ref().is_some_and(|one| one.working);
            if working {
                pool.working.insert(key.1.clone());
            } else {
                // Who missed a caller may be asked again when the last other one leaves.
                pool.working.remove(&key.1);
            }
            if !pool.arrivals.is_empty() {
                self.stirred.insert(*id);
            }
        }
        if self.meant.contains_key(key) {
            self.stirred_agents.insert(key.clone());
        }
        if let Some(presence) = presence {
            self.agents.insert(key.clone(), presence);
        }
        true
    }

    /// Notes what a caller seeks now; `None` = nothing.
    pub fn place_call(&mut self, call: CallId, seeker: Option<Seeker>) {
        if self.calls.get(&call) != seeker.as_ref() {
            if let Some(before) = self.calls.remove(&call) {
                self.remove(&before);
            }
            if let Some(seeker) = &seeker {
                self.insert(call, seeker);
            }
        }
        match seeker.map(|seeker| seeker.search) {
            Some(Search::Pool(pool)) => drop(self.stirred.insert(pool)),
            Some(Search::Agent(agent)) => drop(self.stirred_agents.insert(agent)),
            None => {}
        }
    }

    fn insert(&mut self, call: CallId, seeker: &Seeker) {
        let claim = &seeker.claim;
        match &seeker.search {
            Search::Pool(id) => {
                if let Some(pool) = self.pools.get_mut(*id) {
                    pool.arrivals.insert(claim.order, call);
                    pool.ranked.insert((claim.rank(), claim.order));
                }
            }
            Search::Agent(agent) => {
                let calls = self.meant.entry(agent.clone()).or_default();
                calls.insert(claim.order, call);
            }
        }
        self.calls.insert(call, seeker.clone());
    }

    fn remove(&mut self, seeker: &Seeker) {
        let claim = &seeker.claim;
        match &seeker.search {
            Search::Pool(id) => {
                if let Some(pool) = self.pools.get_mut(*id) {
                    pool.arrivals.remove(&claim.order);
                    pool.ranked.remove(&(claim.rank(), claim.order));
                }
            }
            Search::Agent(agent) => {
                if let Some(calls) = self.meant.get_mut(agent) {
                    calls.remove(&claim.order);
                    if calls.is_empty() {
                        self.meant.remove(agent);
                    }
                }
            }
        }
    }

    /// Looks at every pool and every caller again.
    pub fn stir_all(&mut self) {
        self.stirred = (0..self.pools.len()).collect();
        self.stirred_agents = self.meant.keys().cloned().collect();
    }

    /// Where pairs may have become possible since the last look, in which there are both
    /// a ready agent and a caller.
    pub fn take_stirred(&mut self) -> Vec<Search> {
        let pools = std::mem::take(&mut self.stirred).into_iter();
        let both = |id: &PoolId| {
            let pool = self.pools.get(*id);
            pool.is_some_and(|pool| !pool.ready.is_empty() && !pool.arrivals.is_empty())
        };
        let mut found: Vec<Search> = pools.filter(both).map(Search::Pool).collect();
        let agents = std::mem::take(&mut self.stirred_agents).into_iter();
        let ready = |key: &Of<AgentId>| {
            let presence = self.agents.get(key);
            presence.is_some_and(|one| one.ready.is_some()) && self.meant.contains_key(key)
        };
        found.extend(agents.filter(ready).map(Search::Agent));
        found
    }

    /// The next caller of a search after `cursor`, in the order callers are served.
    pub fn next_caller(
        &self,
        search: &Search,
        cursor: Cursor,
        now: TimeMs,
    ) -> Option<(Precedence, CallId, Cursor)> {
        match search {
            Search::Agent(agent) => {
                // Few wait for one agent: the best of them is looked for.
                let calls = self.meant.get(agent)?.values();
                let all = calls.filter_map(|call| {
                    let claim = &self.calls.get(call)?.claim;
                    Some((claim.precedence(now), *call, Cursor::Start))
                });
                all.max_by_key(|(precedence, ..)| *precedence)
            }
            Search::Pool(id) => self.next_in_pool(self.pools.get(*id)?, cursor, now),
        }
    }

    fn next_in_pool(
        &self,
        pool: &Pool,
        cursor: Cursor,
        now: TimeMs,
    ) -> Option<(Precedence, CallId, Cursor)> {
        let claim = |order: u64| {
            let call = pool.arrivals.get(&order)?;
            Some((*call, &self.calls.get(call)?.claim))
        };
        let after = match cursor {
            Cursor::Start => Some(Bound::Unbounded),
            Cursor::Aged(order) => Some(Bound::Excluded(order)),
            Cursor::Ranked(..) => None,
        };
        // Callers come in rising time: the aged ones are the first by arrival.
        if let Some(from) = after
            && let Some((order, _)) = pool.arrivals.range((from, Bound::Unbounded)).next()
            && let Some((call, claim)) = claim(*order).filter(|(_, claim)| claim.is_aged(now))
        {
            return Some((claim.precedence(now), call, Cursor::Aged(*order)));
        }
        let from = match cursor {
            Cursor::Ranked(rank, order) => Bound::Excluded((rank, order)),
            Cursor::Start | Cursor::Aged(_) => Bound::Unbounded,
        };
        let mut rest = pool.ranked.range((from, Bound::Unbounded));
        rest.find_map(|(rank, order)| {
            let (call, claim) = claim(*order).filter(|(_, claim)| !claim.is_aged(now))?;
            Some((claim.precedence(now), call, Cursor::Ranked(*rank, *order)))
        })
    }
}
