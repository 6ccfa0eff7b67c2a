//! In which order callers are served and agents are asked: pure orders over those who
//! wait and those who are free.
//!
//! Invariants: both orders are total; a caller past the ageing ceiling goes before all
//! who are not, and among such callers whoever came first.

use std::cmp::Reverse;

use crate::ids::AgentId;
use crate::site::Strategy;
use crate::time::TimeMs;

/// What a caller's turn depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Place by arrival: lower came earlier.
    pub order: u64,
    /// When the wait began.
    pub entered_at: TimeMs,
    /// Weight of the queue and of the caller together.
    pub weight: i64,
    /// Score gained with each second.
    pub slope: u32,
    /// Wait after which nobody later goes first, ms.
    pub age_max_ms: u64,
}

/// A caller's turn at one time: the greatest is served first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Precedence {
    /// Past the ageing ceiling.
    pub aged: bool,
    /// Thousandths of score; zero once aged.
    pub score: i64,
    earlier: Reverse<u64>,
}

impl Claim {
    /// Thousandths of score at `now`.
    pub fn score(&self, now: TimeMs) -> i64 {
        let waited = i64::try_from(now.since(self.entered_at)).unwrap_or(i64::MAX);
        self.weight
            .saturating_mul(1_000)
            .saturating_add(waited.saturating_mul(i64::from(self.slope)))
    }

    /// True when nobody who came later may go first any more.
    pub fn is_aged(&self, now: TimeMs) -> bool {
        now.since(self.entered_at) >= self.age_max_ms
    }

    /// The turn at `now`.
    pub fn precedence(&self, now: TimeMs) -> Precedence {
        let aged = self.is_aged(now);
        Precedence {
            aged,
            score: if aged { 0 } else { self.score(now) },
            earlier: Reverse(self.order),
        }
    }

    /// Orders callers of one slope who are not aged, lowest first: the same at any time.
    pub fn rank(&self) -> Reverse<i64> {
        // The score at the beginning of time, as if waiting had begun at `entered_at`.
        let entered = i64::try_from(self.entered_at.0).unwrap_or(i64::MAX);
        let begun = entered.saturating_mul(i64::from(self.slope));
        Reverse(self.weight.saturating_mul(1_000).saturating_sub(begun))
    }
}

/// What an agent's turn depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Idle since then.
    pub idle_since: TimeMs,
    /// Number of the last offer; 0 = none yet.
    pub last_offer: u64,
    /// Calls since sign-in.
    pub calls: u64,
    /// Talk time since sign-in, ms.
    pub talk_ms: u64,
    /// Place in the site file.
    pub place: u32,
}

/// An agent's turn in a queue: the lowest is asked first; equal ones by id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Turn(pub u64, pub u64);

/// The turn of an agent by a strategy.
pub fn turn(strategy: Strategy, agent: &AgentId, standing: &Standing) -> Turn {
    let idle = standing.idle_since.0;
    match strategy {
        Strategy::LongestIdle | Strategy::RingAll => Turn(idle, 0),
        Strategy::RoundRobin => Turn(standing.last_offer, idle),
        Strategy::FewestCalls => Turn(standing.calls, idle),
        Strategy::LeastTalk => Turn(standing.talk_ms, idle),
        Strategy::Linear => Turn(u64::from(standing.place), 0),
        Strategy::Random => Turn(draw(idle, agent.as_str().as_bytes()), 0),
    }
}

/// Where the strategy random begins for a call: the first agent at or after this place,
/// going round. Agents' places are drawn anew with each stretch of idleness.
pub fn beginning(index: u64, call: u64) -> Turn {
    Turn(draw(index, &call.to_be_bytes()), 0)
}

/// A number that anybody with the same log draws too.
fn draw(seed: u64, about: &[u8]) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_be_bytes());
    hasher.update(about);
    let mut bytes = [0u8; 8];
    bytes.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    u64::from_be_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(order: u64, entered_at: u64, weight: i64) -> Claim {
        Claim {
            order,
            entered_at: TimeMs(entered_at),
            weight,
            slope: 2,
            age_max_ms: 600_000,
        }
    }

    #[test]
    fn the_higher_score_goes_first_until_somebody_is_aged() {
        let (early, late) = (claim(1, 0, 0), claim(2, 100_000, 1_000));
        let before = TimeMs(599_999);
        assert_eq!(early.score(before), 1_199_998);
        assert_eq!(late.score(before), 1_000_000 + 999_998);
        assert!(late.precedence(before) > early.precedence(before));
        let after = TimeMs(600_000);
        assert!(early.precedence(after) > late.precedence(after));
        // Both aged: by arrival, whatever their weight.
        assert!(early.precedence(TimeMs(800_000)) > late.precedence(TimeMs(800_000)));
    }

    #[test]
    fn the_rank_within_a_queue_is_the_order_of_scores() {
        let all = [
            claim(1, 0, 0),
            claim(2, 1, 0),
            claim(3, 5_000, 10),
            claim(4, 5_000, 11),
        ];
        for a in &all {
            for b in &all {
                let now = TimeMs(20_000);
                let by_rank = (b.rank(), b.order).cmp(&(a.rank(), a.order));
                assert_eq!(a.precedence(now).cmp(&b.precedence(now)), by_rank);
            }
        }
    }

    #[test]
    fn each_strategy_has_its_own_order() {
        let standing = |idle_since, last_offer, calls, talk_ms, place| Standing {
            idle_since: TimeMs(idle_since),
            last_offer,
            calls,
            talk_ms,
            place,
        };
        // In turn the best by idleness, offers, calls, talk and place.
        let agents = [
            ("a", standing(1, 5, 5, 5, 5)),
            ("b", standing(2, 1, 5, 5, 5)),
            ("c", standing(3, 5, 1, 5, 5)),
            ("d", standing(4, 5, 5, 1, 5)),
            ("e", standing(5, 5, 5, 5, 1)),
        ];
        let table = [
            (Strategy::LongestIdle, "a"),
            (Strategy::RingAll, "a"),
            (Strategy::RoundRobin, "b"),
            (Strategy::FewestCalls, "c"),
            (Strategy::LeastTalk, "d"),
            (Strategy::Linear, "e"),
        ];
        for (strategy, wanted) in table {
            let first = agents
                .iter()
                .min_by_key(|(id, standing)| (turn(strategy, &AgentId::from(*id), standing), *id));
            assert_eq!(first.map(|(id, _)| *id), Some(wanted), "{strategy:?}");
        }
    }

    #[test]
    fn random_places_are_drawn_from_what_is_in_the_log() {
        let standing = |idle_since| Standing {
            idle_since: TimeMs(idle_since),
            last_offer: 0,
            calls: 0,
            talk_ms: 0,
            place: 0,
        };
        let place = |idle_since| turn(Strategy::Random, &AgentId::from("a"), &standing(idle_since));
        assert_eq!(place(7), place(7));
        assert_ne!(place(7), place(8));
        assert_ne!(beginning(1, 2), beginning(2, 2));
    }
}
