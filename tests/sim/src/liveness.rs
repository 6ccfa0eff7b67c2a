//! The leases of the cluster crate, on the simulator's clock, and what nodes ask each other
//! about them.

#[path = "../../../cluster/src/liveness/lease.rs"]
pub mod lease;

use std::time::Duration;

use crate::agreement::Message;
use crate::world::{Event, World};

/// A moment of simulated time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BootTime(Duration);

impl BootTime {
    /// So many milliseconds after the beginning.
    pub fn at(ms: u64) -> Self {
        // No clock stands near zero, so that spans can be subtracted.
        Self(Duration::from_millis(ms + 1_000_000))
    }

    /// Any moment, for the tests that come with the leases.
    #[cfg(test)]
    pub fn now() -> Self {
        Self::at(0)
    }

    /// This moment minus `span`.
    pub fn minus(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(span))
    }

    /// This moment plus `span`.
    pub fn plus(self, span: Duration) -> Self {
        Self(self.0 + span)
    }

    /// Time from `earlier` to this moment; zero when it is later.
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl World {
    /// A node asks the leader for a lease.
    pub fn renew(&mut self, leader: u64, node: u64, sent: u64) {
        let follows = self.agreement.members.get(&node);
        if follows.is_none_or(|member| member.leader != Some(leader)) {
            return;
        }
        let now = self.boot_time();
        let life = self.nodes.get(&leader).and_then(|node| node.life.as_ref());
        let Some(life) = life else { return };
        let remaining = life.leases.grant(node, 0, now);
        let message = Message::Granted {
            sent,
            remaining: u64::try_from(remaining.as_millis()).unwrap_or(0),
            length: u64::try_from(life.leases.length().as_millis()).unwrap_or(0),
        };
        let travel = self.travel() + self.travel();
        self.after(travel, Event::Agreement(node, message));
    }

    /// A new leader asks the voters that have turned to it when they last confirmed another,
    /// until a majority has answered (`liveness::succession` of the cluster).
    pub fn ask_voters(&mut self, leader: u64, linked: &[u64]) {
        let (now, term) = (self.boot_time(), self.agreement.term);
        let life = self.nodes.get(&leader).and_then(|node| node.life.as_ref());
        if !life.is_some_and(|life| life.leases.asks_voters(now)) {
            return;
        }
        let turned = linked.iter().filter(|voter| **voter != leader);
        let turned = turned.filter(|voter| {
            let member = self.agreement.members.get(voter);
            member.is_some_and(|member| member.term == term)
        });
        let answers: Vec<Duration> = turned
            .filter_map(|voter| self.nodes.get(voter)?.life.as_ref())
            .filter_map(|life| life.leases.since_other_leader(leader, now))
            .collect();
        if answers.len() + 1 < self.agreement.majority() {
            return;
        }
        let Some(shortest) = answers.into_iter().min() else {
            return;
        };
        let ago = u64::try_from(shortest.as_millis()).unwrap_or(0);
        let travel = self.travel() + self.travel();
        let message = Message::OtherLeader(term, ago);
        self.after(travel, Event::Agreement(leader, message));
    }
}
