//! Waiting callers: what they are told, the keys they press, and where they go when the
//! queue's rules end their wait.
//!
//! Invariant: who leaves a queue by rule or key leaves it once, counted as overflowed, with
//! the cause in his call; nobody is sent round in circles.

use super::event::Value;
use super::{Deadline, Of, State};
use crate::call::{CallRow, Cause, Disposition, Exit, ExitCause, LegRole, Stage};
use crate::floor::figure::{Fact, Subject};
use crate::floor::pace::{Ahead, Pace};
use crate::floor::place::ahead as count_ahead;
use crate::ids::{AgentId, BlobId, CallId, QueueName};
use crate::ivr::speech::{Announcement, Key, Language, Standing};
use crate::limits;
use crate::site::{Comfort, QueueSpec, Target};

impl State {
    /// The rules of a queue for those who wait.
    fn comfort(&self, key: &Of<QueueName>) -> Option<&Comfort> {
        let spec = self.site(&key.0)?.queues.get(&key.1)?;
        Some(&spec.comfort)
    }

    fn comfort_of(&self, call: &CallRow) -> Option<&Comfort> {
        let visit = call.visit.as_ref().filter(|_| call.is_waiting())?;
        let spec = self.site(&call.tenant)?.queues.get(&visit.queue)?;
        Some(&spec.comfort)
    }

    /// What agents hear of a queue's callers before they hear them.
    pub(super) fn announcement_of(&self, queue: &Of<QueueName>) -> Option<BlobId> {
        self.queue_spec(queue)?.agent_announcement
    }

    /// Pause between two announcements to this waiting caller, ms; `None` = none are made.
    pub fn announce_every(&self, call: &CallRow) -> Option<u64> {
        let pause = self.comfort_of(call)?.announce_ms;
        (pause > 0).then_some(pause)
    }

    /// What this waiting caller is told now; `None` when there is nothing to tell.
    pub fn standing(&self, call: &CallRow) -> Option<(Language, Announcement)> {
        let comfort = self.comfort_of(call)?;
        let visit = call.visit.as_ref()?;
        let queue = (call.tenant.clone(), visit.queue.clone());
        let place = self.position(call)?;
        let wait_ms = comfort
            .expected_wait
            .then(|| self.expected_ms(&queue, visit.order, place))
            .flatten();
        let minutes = wait_ms.map(|ms| (ms + 30_000) / 60_000);
        let standing = Standing {
            position: comfort
                .position
                .then(|| u16::try_from(place).unwrap_or(u16::MAX)),
            wait_min: minutes.map(|minutes| u16::try_from(minutes).unwrap_or(u16::MAX)),
            callback: self.callback_offered(call),
            advert: comfort.advert.map(|(key, _)| key),
            exit: comfort.exit.as_ref().map(|(key, _)| *key),
        };
        (!standing.is_empty()).then_some((comfort.language, Announcement::Waiting(standing)))
    }

    /// True when a key means something to this waiting caller's queue.
    pub fn key_means(&self, call: &CallRow, key: Key) -> bool {
        self.comfort_of(call).is_some_and(|comfort| {
            comfort.advert.is_some_and(|(own, _)| own == key)
                || comfort.exit.as_ref().is_some_and(|(own, _)| *own == key)
        }) || self.callback_rule(call).is_some_and(|rule| rule.key == key)
    }

    /// The key that takes a callback, once this caller has waited long enough for it.
    fn callback_offered(&self, call: &CallRow) -> Option<Key> {
        let rule = self.callback_rule(call)?;
        let waited_ms = self.meta.now.since(call.visit.as_ref()?.entered_at);
        (waited_ms >= rule.after_ms).then_some(rule.key)
    }

    /// The wait to be expected at a place of a queue by who comes there with this order, ms:
    /// as [`Pace::expected_ms`] says, where callers who came earlier to other queues count so
    /// far as these queues' agents serve this one too. `None` before the first call is over
    /// or while nobody is at work.
    pub fn expected_ms(&self, queue: &Of<QueueName>, order: u64, place: u64) -> Option<u64> {
        let pace = self.pace(queue)?;
        let cycle_ms = pace.cycle_ms()?;
        let first = self.dispatch.pool_of(queue, 0)?;
        let pool = self.dispatch.pool(first)?;
        let mut ahead = Ahead {
            turns_milli: place.saturating_mul(1_000),
            work_ms: place.saturating_mul(cycle_ms),
            agents: u64::try_from(pool.working.len()).ok()?,
            ready: u64::try_from(pool.ready.len()).ok()?,
        };
        for (rival, shared) in self.dispatch.rivals(first) {
            let Some(other) = self.dispatch.pool(rival) else {
                continue;
            };
            let Some(places) = self.waiting.get(&other.queue) else {
                continue;
            };
            let earlier = count_ahead(places.len(), places.range(..order), places.range(order..));
            let earlier = u64::try_from(earlier).unwrap_or(u64::MAX);
            let members = u64::try_from(other.members.len())
                .unwrap_or(u64::MAX)
                .max(1);
            let turns_milli = earlier.saturating_mul(1_000).saturating_mul(shared) / members;
            let cycle_ms = self
                .pace(&other.queue)
                .and_then(Pace::cycle_ms)
                .unwrap_or(cycle_ms);
            ahead.turns_milli = ahead.turns_milli.saturating_add(turns_milli);
            let work_ms = turns_milli.saturating_mul(cycle_ms) / 1_000;
            ahead.work_ms = ahead.work_ms.saturating_add(work_ms);
        }
        pace.expected_ms(ahead)
    }

    fn pace(&self, queue: &Of<QueueName>) -> Option<&Pace> {
        let subject = Subject::Queue(queue.1.clone());
        self.paces.get(&(queue.0.clone(), subject))
    }

    /// Agents at work who may serve a queue, whatever they are doing; `None` without such a
    /// queue.
    fn staff(&self, queue: &Of<QueueName>) -> Option<u64> {
        let pool = self.dispatch.pool(self.dispatch.pool_of(queue, 0)?)?;
        u64::try_from(pool.working.len()).ok()
    }

    /// A call has just entered a queue: notes what he may expect, and sends him on when the
    /// queue takes nobody.
    pub(super) fn settle_in(&mut self, id: CallId) {
        let Some((queue, place)) = self.waiting_at(id) else {
            return;
        };
        let visit = self.calls.get(&id).and_then(|call| call.visit.as_ref());
        let expected_ms = visit.and_then(|visit| self.expected_ms(&queue, visit.order, place));
        let Some(comfort) = self.comfort(&queue).cloned() else {
            return;
        };
        if let Some(visit) = self.calls.get_mut(&id).and_then(|call| call.visit.as_mut()) {
            visit.expected_ms = expected_ms;
            visit.advert = comfort.advert.map(|(_, blob)| blob);
        }
        let waiting = self
            .waiting
            .get(&queue)
            .map_or(0, std::collections::BTreeMap::len);
        let waiting = u64::try_from(waiting).unwrap_or(u64::MAX);
        if let Some((most, target)) = comfort.max_length
            && waiting > u64::from(most)
        {
            return self.divert(id, &target, ExitCause::Full);
        }
        if let Some(target) = comfort.unstaffed
            && self.staff(&queue) == Some(0)
        {
            return self.divert(id, &target, ExitCause::Unstaffed);
        }
        if let Some((most_ms, _)) = comfort.max_wait {
            self.at(self.meta.now.plus(most_ms), Deadline::Wait(id));
        }
    }

    /// Queue and place of a waiting call.
    pub(super) fn waiting_at(&self, id: CallId) -> Option<(Of<QueueName>, u64)> {
        let call = self.calls.get(&id)?;
        let place = self.position(call)?;
        let queue = call.visit.as_ref()?.queue.clone();
        Some(((call.tenant.clone(), queue), place))
    }

    /// A caller may have waited as long as his queue lets him.
    pub(super) fn wait_due(&mut self, id: CallId) {
        let Some((queue, _)) = self.waiting_at(id) else {
            return;
        };
        let Some((most_ms, target)) = self.comfort(&queue).and_then(|c| c.max_wait.clone()) else {
            return;
        };
        let now = self.meta.now;
        let visit = self.calls.get(&id).and_then(|call| call.visit.as_ref());
        let Some(due) = visit.map(|visit| visit.entered_at.plus(most_ms)) else {
            return;
        };
        if due > now {
            // He entered this queue later than the one the deadline was set for.
            return self.at(due, Deadline::Wait(id));
        }
        self.divert(id, &target, ExitCause::MaxWait);
    }

    /// The caller pressed a key. Only a waiting caller's keys mean something.
    pub(super) fn key_pressed(&mut self, id: CallId, key: Key) {
        let Some((queue, _)) = self.waiting_at(id) else {
            return;
        };
        let Some(comfort) = self.comfort(&queue).cloned() else {
            return;
        };
        if comfort.advert.is_some_and(|(own, _)| own == key) {
            let visit = self.calls.get_mut(&id).and_then(|call| call.visit.as_mut());
            let Some(visit) = visit.filter(|visit| visit.adverts < limits::ADVERTS_PER_VISIT)
            else {
                return;
            };
            visit.adverts += 1;
            self.count_queue(&queue.0, &queue.1, Fact::Advert);
            self.touch_call(id);
            self.event(
                "call.advert",
                id,
                [("queue", Value::from(queue.1.as_str()))],
            );
        } else if comfort.callback.is_some_and(|rule| rule.key == key) {
            self.take_callback(id);
        } else if let Some((_, target)) = comfort.exit.filter(|(own, _)| *own == key) {
            self.divert(id, &target, ExitCause::Key);
        }
    }

    /// Takes back the offers of a caller who leaves his queue.
    pub(super) fn take_offers_back(&mut self, id: CallId) {
        let visit = self.calls.get(&id).and_then(|call| call.visit.as_ref());
        let offers = visit.into_iter().flat_map(|visit| &visit.offers);
        let offered: Vec<AgentId> = offers.map(|offer| offer.agent.clone()).collect();
        for agent in &offered {
            self.end_offer(id, agent);
        }
    }

    /// Sends a waiting caller on; he leaves the queue as overflowed.
    fn divert(&mut self, id: CallId, target: &Target, why: ExitCause) {
        let now = self.meta.now;
        let Some((queue, _)) = self.waiting_at(id) else {
            return;
        };
        self.take_offers_back(id);
        self.depart(id, Disposition::Overflowed);
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        let entered_at = call.visit.as_ref().map_or(now, |visit| visit.entered_at);
        call.exits.push(Exit {
            queue: queue.1.clone(),
            cause: why,
            at: now,
            waited_ms: now.since(entered_at),
        });
        let rounds = call.exits.len();
        let to = match target {
            Target::Queue(name) => format!("queue:{name}"),
            Target::Extension(number) => format!("extension:{number}"),
        };
        let fields = [
            ("queue", Value::from(queue.1.as_str())),
            ("cause", why.as_str().into()),
            ("to", to.as_str().into()),
        ];
        self.event("call.overflowed", id, fields);
        self.touch_call(id);
        if rounds > limits::EXITS_PER_CALL {
            return self.clear_call(id, (Disposition::Overflowed, Cause::CONGESTION));
        }
        match target {
            Target::Queue(name) => self.enter_other_queue(id, name.clone()),
            Target::Extension(number) => {
                let key = (queue.0, number.clone());
                let targets = self.extension_targets(&key);
                if let Some(call) = self.calls.get_mut(&id) {
                    // What he does from now on is no stay in the queue.
                    call.visit = None;
                    call.stage = Stage::Ringing {
                        until: now.plus(limits::EXTENSION_RING_MS),
                    };
                }
                let refused = self.ring(id, &LegRole::Extension(key.1), targets);
                if let Some((_, cause)) = refused {
                    self.clear_call(id, (Disposition::Overflowed, cause));
                }
            }
        }
    }

    /// An agent answered: how far off was what he had been told?
    pub(super) fn count_expected(&mut self, id: CallId) {
        let now = self.meta.now;
        let Some(call) = self.calls.get(&id) else {
            return;
        };
        let Some(visit) = &call.visit else { return };
        let Some(expected_ms) = visit.expected_ms else {
            return;
        };
        let waited_ms = now.since(visit.entered_at);
        let (tenant, queue) = (call.tenant.clone(), visit.queue.clone());
        let off_ms = waited_ms.abs_diff(expected_ms);
        self.count_queue(&tenant, &queue, Fact::Expected { waited_ms, off_ms });
    }
}

/// The first queue on a way of overflows that leads back to itself, if any: nobody who can
/// be served nowhere may be sent round for ever.
pub fn overflow_loop(
    queues: &std::collections::BTreeMap<QueueName, QueueSpec>,
) -> Option<Vec<QueueName>> {
    let next = |queue: &QueueName| -> Vec<QueueName> {
        let Some(spec) = queues.get(queue) else {
            return Vec::new();
        };
        let comfort = &spec.comfort;
        let targets = [
            comfort.max_wait.as_ref().map(|(_, target)| target),
            comfort.max_length.as_ref().map(|(_, target)| target),
            comfort.unstaffed.as_ref(),
        ];
        let queue = |target: &Target| match target {
            Target::Queue(queue) => Some(queue.clone()),
            Target::Extension(_) => None,
        };
        targets.into_iter().flatten().filter_map(queue).collect()
    };
    for start in queues.keys() {
        // Depth first; a way is never longer than there are queues.
        let mut ways = vec![vec![start.clone()]];
        let mut seen = std::collections::BTreeSet::new();
        while let Some(way) = ways.pop() {
            let Some(last) = way.last() else { continue };
            for queue in next(last) {
                let mut longer = way.clone();
                longer.push(queue.clone());
                if queue == *start {
                    return Some(longer);
                }
                if seen.insert(queue) {
                    ways.push(longer);
                }
            }
        }
    }
    None
}
