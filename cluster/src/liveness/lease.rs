//! Leases: the right to act, granted by the leader on what a quorum confirmed.
//!
//! A node asks every [`limits::LEASE_RENEWAL`]; the leader answers with what remains of
//! its lease ([`crate::config::Timing::lease`]) since its own last quorum-confirmed heartbeat; the node counts from
//! the moment it *sent* its request. So no lease of a deposed leader outlives its last
//! quorum by more than one lease, and a new leader that waits one lease may believe that
//! a silent node's right has run out.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use strowger_core::ports::{IncarnationNumber, NodeNumber};

use super::BootTime;
use crate::limits;

/// Asks for a lease.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LeaseRequest {
    /// Life of the asker.
    pub incarnation: IncarnationNumber,
    /// The asker's estimate of its distance from the leader's clock, ms.
    pub offset_ms: i64,
}

/// Grants or denies it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LeaseAnswer {
    /// How long this leader's leases run, ms.
    pub lease_ms: u64,
    /// What remains, ms, counted from when the request was sent; 0 denies.
    pub remaining_ms: u64,
    /// The leader's wall clock, ms since 1970 UTC.
    pub wall_ms: u64,
}

/// What this node knows about leases, its own and those it granted.
pub struct Leases {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// How long the leases run that this node grants.
    length: Duration,
    /// The longest leases known of other leaders; `None` before the first.
    others: Option<Duration>,
    own_until: Option<BootTime>,
    confirmed: Option<BootTime>,
    leader_since: Option<BootTime>,
    granted: HashMap<NodeNumber, BootTime>,
    offsets: HashMap<NodeNumber, i64>,
    own_offset: i64,
}

impl Leases {
    /// Leases that run for `length` when this node leads.
    pub fn new(length: Duration) -> Self {
        let state = State {
            length: length.min(limits::LEASE_MAX),
            ..State::default()
        };
        Self {
            state: Mutex::new(state),
        }
    }

    /// How long the leases run that this node grants.
    pub fn length(&self) -> Duration {
        self.state.lock().length
    }

    /// Another leader's leases run for `length`.
    pub fn heard(&self, length: Duration) {
        let mut state = self.state.lock();
        state.others = state.others.max(Some(length));
    }

    /// This node became leader, or ceased to be.
    pub fn lead(&self, leads: bool, now: BootTime) {
        let mut state = self.state.lock();
        if leads == state.leader_since.is_some() {
            return;
        }
        state.leader_since = leads.then_some(now);
        state.confirmed = None;
        state.granted.clear();
        state.offsets.clear();
    }

    /// A quorum confirmed this leader with requests sent at `at`.
    pub fn confirm(&self, at: BootTime) {
        let mut state = self.state.lock();
        state.confirmed = state.confirmed.max(Some(at));
    }

    /// What remains of this leader's own right; zero when it does not lead.
    pub fn confirmed_remaining(&self, now: BootTime) -> Duration {
        self.state.lock().remaining(now)
    }

    /// Grants `node` what remains.
    pub fn grant(&self, node: NodeNumber, offset_ms: i64, now: BootTime) -> Duration {
        let mut state = self.state.lock();
        let remaining = state.remaining(now);
        if !remaining.is_zero() {
            let until = now.plus(remaining);
            let granted = state.granted.entry(node).or_insert(until);
            *granted = (*granted).max(until);
            state.offsets.insert(node, offset_ms);
        }
        remaining
    }

    /// A lease was granted to this node: `remaining` from `sent`.
    pub fn granted(&self, sent: BootTime, remaining: Duration, offset_ms: i64) {
        let mut state = self.state.lock();
        if !remaining.is_zero() {
            state.own_until = state.own_until.max(Some(sent.plus(remaining)));
        }
        state.own_offset = offset_ms;
    }

    /// True while this node may act.
    pub fn valid(&self, now: BootTime) -> bool {
        let state = self.state.lock();
        !state.remaining(now).is_zero() || state.own_until.is_some_and(|until| until > now)
    }

    /// On a confirmed leader: true when the right of `node` has surely run out.
    pub fn surely_over(&self, node: NodeNumber, now: BootTime) -> bool {
        let state = self.state.lock();
        let Some(since) = state.leader_since else {
            return false;
        };
        if state.remaining(now).is_zero() {
            return false;
        }
        // An earlier leader may have granted up to the moment this one took over.
        let inherited = since.plus(state.inherited());
        let granted = state.granted.get(&node).copied().unwrap_or(inherited);
        now > inherited.max(granted).plus(limits::LEASE_MARGIN)
    }

    /// This node's distance from the leader's clock, ms.
    pub fn own_offset(&self) -> i64 {
        self.state.lock().own_offset
    }

    /// On the leader: each known clock's distance from the median of all, the leader's
    /// (number `leader`) among them. Empty below three clocks: two cannot say who is off.
    pub fn offsets_from_median(&self, leader: NodeNumber) -> Vec<(NodeNumber, i64)> {
        let state = self.state.lock();
        let mut clocks: Vec<(NodeNumber, i64)> = state
            .offsets
            .iter()
            .map(|(node, offset)| (*node, *offset))
            .collect();
        clocks.push((leader, 0));
        if clocks.len() < 3 {
            return Vec::new();
        }
        clocks.sort_by_key(|(_, offset)| *offset);
        let median = clocks
            .get(clocks.len() / 2)
            .map_or(0, |(_, offset)| *offset);
        clocks
            .into_iter()
            .map(|(node, offset)| (node, offset - median))
            .collect()
    }
}

impl State {
    /// How long a lease granted by an earlier leader may run on.
    fn inherited(&self) -> Duration {
        self.others.unwrap_or(limits::LEASE_MAX).max(self.length)
    }

    fn remaining(&self, now: BootTime) -> Duration {
        match (self.leader_since, self.confirmed) {
            (Some(_), Some(confirmed)) => confirmed.plus(self.length).since(now),
            _ => Duration::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> BootTime {
        BootTime::now()
            .minus(Duration::from_secs(10))
            .plus(Duration::from_millis(ms))
    }

    #[test]
    fn a_lease_counts_from_the_request_and_ends_with_the_leaders_quorum() {
        let start = at(0);
        let ms = |ms| start.plus(Duration::from_millis(ms));
        let leader = Leases::new(Duration::from_millis(500));
        assert!(
            leader.grant(2, 0, ms(0)).is_zero(),
            "no leader grants nothing"
        );
        leader.lead(true, ms(0));
        assert!(
            leader.grant(2, 0, ms(0)).is_zero(),
            "an unconfirmed leader grants nothing"
        );
        leader.confirm(ms(100));
        let remaining = leader.grant(2, 0, ms(300));
        assert_eq!(remaining, Duration::from_millis(300));
        let node = Leases::new(Duration::from_millis(500));
        node.granted(ms(290), remaining, 0);
        assert!(node.valid(ms(589)));
        assert!(!node.valid(ms(590)));
        assert!(
            !leader.valid(ms(600)),
            "the leader's own right ends with its quorum"
        );
    }

    #[test]
    fn a_silent_node_is_over_only_after_every_lease_it_may_hold() {
        let start = at(0);
        let ms = |ms| start.plus(Duration::from_millis(ms));
        let leader = Leases::new(Duration::from_millis(500));
        leader.heard(Duration::from_millis(500));
        leader.lead(true, ms(0));
        leader.confirm(ms(540));
        assert!(
            !leader.surely_over(2, ms(545)),
            "an earlier leader's lease may run"
        );
        assert!(leader.surely_over(2, ms(551)));
        leader.grant(2, 0, ms(560));
        leader.confirm(ms(1_080));
        assert!(!leader.surely_over(2, ms(1_090)));
        assert!(leader.surely_over(2, ms(1_091)));
        assert!(
            !leader.surely_over(2, ms(1_600)),
            "a leader without quorum declares nobody"
        );
    }

    #[test]
    fn a_leader_waits_for_the_longest_lease_an_earlier_one_may_have_granted() {
        let start = at(0);
        let ms = |ms| start.plus(Duration::from_millis(ms));
        let over = |heard: Option<u64>, now: u64| {
            let leader = Leases::new(Duration::from_millis(500));
            if let Some(heard) = heard {
                leader.heard(Duration::from_millis(heard));
            }
            leader.lead(true, ms(0));
            leader.confirm(ms(now));
            leader.surely_over(2, ms(now))
        };
        assert!(!over(Some(1_000), 1_049));
        assert!(over(Some(1_000), 1_051));
        assert!(over(Some(300), 551));
        assert!(!over(None, 1_049), "an unknown lease may be the longest");
        assert!(over(None, 1_051));
    }

    #[test]
    fn the_odd_clock_is_found_even_when_it_is_the_leaders() {
        let leases = Leases::new(Duration::from_millis(500));
        let now = at(0);
        leases.lead(true, now);
        leases.confirm(now);
        leases.grant(2, 900, now);
        assert!(leases.offsets_from_median(1).is_empty());
        leases.grant(3, 880, now);
        assert!(leases.offsets_from_median(1).contains(&(1, -880)));
    }
}
