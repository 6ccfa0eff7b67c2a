//! The invariants of the state, written once: tests ask after every entry, the running
//! daemon at intervals.

use super::State;
use crate::call::{CallRow, LegRow, Stage};
use crate::floor::agent::{Activity, AgentState};

impl State {
    /// Checks the invariants; returns what is broken, in words.
    pub fn check(&self) -> Vec<String> {
        let mut broken = Vec::new();
        for agent in self.agents.values() {
            let (call, offered) = match &agent.activity {
                Activity::Offered(call) => (call, true),
                Activity::Talking(call) => (call, false),
                Activity::Idle | Activity::WrapUp(_) => continue,
            };
            let Some(row) = self.calls.get(call) else {
                broken.push(format!("agent {} is at {call}, which is over", agent.id));
                continue;
            };
            let at_him = row.legs.iter().any(|leg| {
                leg.is_live() && leg.role == crate::call::LegRole::Agent(agent.id.clone())
            });
            let dials = matches!(row.stage, Stage::Dialling { .. });
            if !at_him && !dials {
                broken.push(format!("agent {} is at {call} without a leg", agent.id));
            }
            if !offered && row.is_waiting() {
                broken.push(format!("agent {} talks to {call}, which waits", agent.id));
            }
        }
        broken.extend(self.check_figures());
        for call in self.calls.values() {
            if !self.nodes.get(&call.owner).is_some_and(|node| node.up) {
                broken.push(format!(
                    "{} belongs to {}, which is down",
                    call.id, call.owner
                ));
            }
            let row = self.addresses.get(&call.address);
            let anchored = row.is_some_and(|row| {
                row.holder == Some(call.owner) && row.epoch == call.address_epoch
            });
            if !anchored {
                broken.push(format!(
                    "{} is at an address its owner does not hold",
                    call.id
                ));
            }
            if call.legs.iter().all(|leg| !leg.is_live()) {
                broken.push(format!("{} has no live leg", call.id));
            }
            if let Some(who) = missing_party(call) {
                broken.push(format!("{} goes on without its {who}", call.id));
            }
            let parting = |leg: &crate::call::LegRow| !leg.is_live() || leg.is_parting();
            if call.recorded && !(call.stage == Stage::Clearing && call.legs.iter().all(parting)) {
                broken.push(format!("{} is recorded and goes on", call.id));
            }
            if matches!(call.stage, Stage::Waiting) != self.position(call).is_some() {
                broken.push(format!("{} waits without a place", call.id));
            }
        }
        for row in self.addresses.values() {
            if row
                .holder
                .is_some_and(|holder| row.barred.contains(&holder))
            {
                broken.push(format!("{} is held by a node that cannot", row.address));
            }
        }
        self.check_channels(&mut broken);
        self.check_places(&mut broken);
        self.check_callbacks(&mut broken);
        self.check_offers(&mut broken);
        self.check_times(&mut broken);
        if self.dispatch != self.derived_dispatch() {
            broken.push(String::from("the pools differ from the rows"));
        }
        broken
    }

    /// An offer and the agent it is made to name each other; several are one choice.
    fn check_offers(&self, broken: &mut Vec<String>) {
        for call in self.calls.values() {
            let Some(visit) = &call.visit else { continue };
            // Offers of ring-all are one choice and end together; the strategy of the queue
            // may have changed since.
            let until = visit.offers.first().map(|offer| offer.until);
            if visit.offers.iter().any(|offer| Some(offer.until) != until) {
                broken.push(format!("{} is offered to several agents", call.id));
            }
            if !visit.offers.is_empty() && !call.is_waiting() {
                broken.push(format!("{} is offered and does not wait", call.id));
            }
            for offer in &visit.offers {
                let key = (call.tenant.clone(), offer.agent.clone());
                let agent = self.agents.get(&key);
                if !agent.is_some_and(|agent| agent.activity == Activity::Offered(call.id)) {
                    broken.push(format!("{} is not at {}", offer.agent, call.id));
                }
            }
        }
        // Whoever seeks has nobody to serve him.
        for (call, seeker) in self.dispatch.seekers() {
            let pool = match &seeker.search {
                crate::floor::dispatch::Search::Pool(pool) => self.dispatch.pool(*pool),
                crate::floor::dispatch::Search::Agent(_) => None,
            };
            if let Some(pool) = pool
                && let Some(agent) = self.suitable(pool, call).next()
            {
                broken.push(format!("{call} waits while {agent} is ready"));
            }
        }
    }

    /// The times of an agent's states add up to the time at work.
    fn check_times(&self, broken: &mut Vec<String>) {
        let now = self.meta.now;
        for agent in self.agents.values() {
            let sum: u64 = agent.times_at(now).iter().sum();
            if sum != agent.at_work_at(now) {
                broken.push(format!("the times of agent {} do not add up", agent.id));
            }
            let out = agent.shown == AgentState::SignedOut;
            if out == agent.at_work_since.is_some() {
                broken.push(format!("agent {} is at work and signed out", agent.id));
            }
        }
    }
}

/// Who has left a call that goes on as if he were there.
fn missing_party(call: &CallRow) -> Option<&'static str> {
    let far = match &call.stage {
        Stage::Bridged { far } => Some(*far),
        Stage::Waiting | Stage::Ringing { .. } | Stage::Confirming(_) | Stage::Telling { .. } => {
            None
        }
        // Nobody is at the other end yet, or any more.
        Stage::Dialling { .. } | Stage::Offering { .. } | Stage::Clearing => return None,
    };
    let here = |leg: Option<&LegRow>| leg.is_some_and(LegRow::is_live);
    match far {
        _ if !here(call.caller()) => Some("caller"),
        Some(far) if !here(call.leg(far)) => Some("far end"),
        _ => None,
    }
}
