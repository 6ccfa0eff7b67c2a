//! Leases: the right to act, granted by the leader on what a quorum confirmed.
//!
//! A node asks every [`limits::LEASE_RENEWAL`]; the leader answers with what remains of
//! its lease ([`crate::config::Timing::lease`]) since its own last quorum-confirmed heartbeat; the node counts from
//! the moment it *sent* its request. So no lease of a deposed leader outlives its last
//! quorum by more than one lease, and a new leader that waits one lease may believe that
//! a silent node's right has run out.
//!
//! The new leader need not wait from its own election. Every quorum that confirmed an
//! earlier leader shares a voter with every quorum that has turned to the new one, so it
//! asks the voters when they last heard of any other leader ([`Leases::since_other_leader`]):
//! no lease outlives the latest of those moments by more than its length. After a silent
//! leader's end the voters have mostly sat that out already, before they voted.

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
    /// When a quorum confirmed this leader again after longer than its leases run.
    found_again: Option<BootTime>,
    /// When each peer was last heard of as a leader.
    met: HashMap<NodeNumber, BootTime>,
    /// Before this moment this node may have confirmed any leader: it started, its members
    /// changed, or it ceased to lead itself. `None` when not even that is known.
    unsure_until: Option<BootTime>,
    /// On a leader: nobody confirmed an earlier one after this moment.
    last_confirmation: Option<BootTime>,
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
        if !leads {
            state.unsure_until = state.unsure_until.max(Some(now));
            // Whoever leads next waits for what this node granted, itself among the others.
            let own = state.confirmed.map(|at| at.plus(state.length));
            state.own_until = state.own_until.max(own);
        }
        state.leader_since = leads.then_some(now);
        state.last_confirmation = None;
        state.confirmed = None;
        state.found_again = None;
        state.granted.clear();
        state.offsets.clear();
    }

    /// Until `at` this node may have confirmed leaders it knows nothing of.
    pub fn unsure(&self, at: BootTime) {
        let mut state = self.state.lock();
        state.unsure_until = state.unsure_until.max(Some(at));
    }

    /// `leader` was heard of in that part, at `at` or a little later.
    pub fn met(&self, leader: NodeNumber, at: BootTime) {
        let mut state = self.state.lock();
        let met = state.met.entry(leader).or_insert(at);
        *met = (*met).max(at);
    }

    /// For the leader `asker`: how long it is at least since this node confirmed any other
    /// leader, or led itself. `None` while it leads, and while it cannot know.
    pub fn since_other_leader(&self, asker: NodeNumber, now: BootTime) -> Option<Duration> {
        let state = self.state.lock();
        let unsure = state.unsure_until?;
        if state.leader_since.is_some() {
            return None;
        }
        Some(now.since(state.last_met(asker).map_or(unsure, |met| met.max(unsure))))
    }

    /// On a leader: true while the voters' answers could still shorten its wait.
    pub fn asks_voters(&self, now: BootTime) -> bool {
        let state = self.state.lock();
        let waits = |since: BootTime| now < since.plus(state.inherited());
        state.last_confirmation.is_none() && state.leader_since.is_some_and(waits)
    }

    /// On the leader `own`: a quorum of the voters, itself left out, says that none of them
    /// confirmed another leader after `at`.
    pub fn nobody_confirmed_after(&self, own: NodeNumber, at: BootTime) {
        let mut state = self.state.lock();
        if state.leader_since.is_some()
            && let Some(unsure) = state.unsure_until
        {
            let last = state.last_met(own).max(Some(unsure.max(at)));
            state.last_confirmation = last;
        }
    }

    /// A quorum confirmed this leader with requests sent at `at`.
    pub fn confirm(&self, at: BootTime) {
        let mut state = self.state.lock();
        let lapsed = |last: BootTime| last.plus(state.length) < at;
        if state.confirmed.is_some_and(lapsed) {
            state.found_again = Some(at);
        }
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
        // An earlier leader may have granted for as long as a quorum confirmed it: at the
        // latest up to the moment this one took over. Whoever lives asks this one soon.
        let last = state
            .last_confirmation
            .map_or(since, |last| last.min(since));
        let come_forward = since.plus(limits::COME_FORWARD);
        // One that had lost its quorum granted nothing meanwhile: the others find it again.
        let found_again = state.found_again.map(|at| at.plus(state.length));
        let come_forward = come_forward.max(found_again.unwrap_or(since));
        let inherited = last.plus(state.inherited()).max(come_forward);
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
    /// When another leader than `except` was last heard of.
    fn last_met(&self, except: NodeNumber) -> Option<BootTime> {
        let others = self.met.iter().filter(|(leader, _)| **leader != except);
        others.map(|(_, at)| *at).max()
    }

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
    fn who_hands_over_acts_on_until_its_quorum_is_a_lease_ago() {
        let start = at(0);
        let ms = |ms| start.plus(Duration::from_millis(ms));
        let leader = Leases::new(Duration::from_millis(500));
        leader.lead(true, ms(0));
        leader.confirm(ms(100));
        leader.lead(false, ms(200));
        assert!(leader.valid(ms(599)), "nothing was taken from it");
        assert!(!leader.valid(ms(600)));
        assert!(leader.grant(2, 0, ms(300)).is_zero(), "it grants no more");
        let unconfirmed = Leases::new(Duration::from_millis(500));
        unconfirmed.lead(true, ms(0));
        unconfirmed.lead(false, ms(10));
        assert!(!unconfirmed.valid(ms(11)));
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
        leader.confirm(ms(1_000));
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
    fn a_leader_waits_from_when_the_voters_last_confirmed_another() {
        let start = at(0);
        let ms = |ms| start.plus(Duration::from_millis(ms));
        let leads = |known: bool| {
            let leader = Leases::new(Duration::from_millis(500));
            leader.heard(Duration::from_millis(1_000));
            if known {
                leader.unsure(ms(0));
            }
            leader.met(3, ms(1_000));
            leader.met(1, ms(1_900));
            leader.lead(true, ms(2_000));
            leader.confirm(ms(2_400));
            leader
        };
        let leader = leads(true);
        assert!(leader.asks_voters(ms(2_001)));
        assert!(
            !leader.surely_over(3, ms(2_060)),
            "the voters were not asked"
        );
        leader.nobody_confirmed_after(1, ms(900));
        assert!(!leader.asks_voters(ms(2_002)));
        assert!(
            !leader.surely_over(3, ms(2_350)),
            "who lives has not come forward yet"
        );
        assert!(
            leader.surely_over(3, ms(2_351)),
            "it heard of the leader 3 itself, last"
        );
        leader.grant(3, 0, ms(2_400));
        assert!(!leader.surely_over(3, ms(2_451)), "it granted itself");
        let leader = leads(true);
        leader.nobody_confirmed_after(1, ms(1_500));
        assert!(!leader.surely_over(3, ms(2_550)));
        assert!(leader.surely_over(3, ms(2_551)));
        let leader = leads(true);
        leader.nobody_confirmed_after(1, ms(2_300));
        assert!(
            !leader.surely_over(3, ms(2_800)),
            "no longer than from its election"
        );
        leader.confirm(ms(2_800));
        assert!(leader.surely_over(3, ms(3_051)));
        leader.confirm(ms(3_400));
        assert!(
            !leader.surely_over(3, ms(3_850)),
            "its quorum was lost, and the others may not have found it again"
        );
        leader.confirm(ms(3_800));
        assert!(leader.surely_over(3, ms(3_951)));
        let leader = leads(false);
        leader.nobody_confirmed_after(1, ms(900));
        assert!(
            !leader.surely_over(3, ms(2_800)),
            "it does not know its own past"
        );
    }

    #[test]
    fn a_voter_tells_of_every_leader_but_the_one_that_asks() {
        let start = at(0);
        let ms = |ms| start.plus(Duration::from_millis(ms));
        let voter = Leases::new(Duration::from_millis(500));
        voter.met(1, ms(100));
        assert_eq!(
            voter.since_other_leader(2, ms(900)),
            None,
            "its past is unknown"
        );
        voter.unsure(ms(50));
        let since = |asker, now| voter.since_other_leader(asker, ms(now));
        assert_eq!(since(2, 900), Some(Duration::from_millis(800)));
        voter.met(2, ms(890));
        assert_eq!(since(2, 900), Some(Duration::from_millis(800)));
        assert_eq!(since(3, 900), Some(Duration::from_millis(10)));
        voter.lead(true, ms(1_000));
        assert_eq!(since(3, 1_100), None, "it leads");
        voter.lead(false, ms(1_200));
        assert_eq!(since(2, 1_300), Some(Duration::from_millis(100)));
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
