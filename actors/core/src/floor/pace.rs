//! How fast a queue moves: what its last calls have cost its agents, and how many of those
//! who waited gave up. The wait of a caller is foretold from it.
//!
//! Older calls count ever less: whenever enough are counted, all of it is halved. Everything
//! is an integer, so that each node foretells the same.

use serde::{Deserialize, Serialize};

use super::figure::Fact;
use crate::limits;

/// What was counted of a queue lately.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pace {
    /// Calls that were answered and are over.
    handled: u64,
    /// Time of agents spent on calls: ringing, talk, hold and wrap-up, ms.
    spent_ms: u64,
    /// Offers that are over.
    rung: u64,
    /// Sum of their ringing, ms.
    rung_ms: u64,
    /// Callers who wait no more.
    departed: u64,
    /// Of these, those whom nobody served.
    gave_up: u64,
    /// Sum of the waits of all of them, ms.
    waited_ms: u64,
}

/// Who stands between a caller and an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ahead {
    /// Callers to be served up to this one, himself among them, in thousandths: who can be
    /// served by others too counts in part.
    pub turns_milli: u64,
    /// What serving all of them costs agents, ms.
    pub work_ms: u64,
    /// Agents at work who may serve him.
    pub agents: u64,
    /// Of these, how many are free at this moment.
    pub ready: u64,
}

impl Pace {
    /// Counts a fact of the queue.
    pub fn note(&mut self, fact: Fact) {
        match fact {
            Fact::Rang(ms) => {
                self.spent_ms = self.spent_ms.saturating_add(ms);
                self.rung_ms = self.rung_ms.saturating_add(ms);
                self.rung += 1;
                if self.rung >= 2 * limits::PACE_CALLS {
                    (self.rung, self.rung_ms) = (self.rung / 2, self.rung_ms / 2);
                }
            }
            Fact::Wrapped(ms) => self.spent_ms = self.spent_ms.saturating_add(ms),
            Fact::Talked { talk_ms, hold_ms } => {
                self.spent_ms = self
                    .spent_ms
                    .saturating_add(talk_ms.saturating_add(hold_ms));
                self.handled += 1;
                if self.handled >= 2 * limits::PACE_CALLS {
                    (self.handled, self.spent_ms) = (self.handled / 2, self.spent_ms / 2);
                }
            }
            Fact::Answered { wait_ms, .. } => self.depart(wait_ms, false),
            _ => {}
        }
    }

    /// Counts a caller whom nobody served.
    pub fn give_up(&mut self, waited_ms: u64) {
        self.depart(waited_ms, true);
    }

    fn depart(&mut self, waited_ms: u64, gave_up: bool) {
        self.departed += 1;
        self.gave_up += u64::from(gave_up);
        self.waited_ms = self.waited_ms.saturating_add(waited_ms);
        if self.departed >= 4 * limits::PACE_CALLS {
            self.departed /= 2;
            (self.gave_up, self.waited_ms) = (self.gave_up / 2, self.waited_ms / 2);
        }
    }

    /// Time of an agent that a call costs, ms; `None` before the first one is over.
    pub fn cycle_ms(&self) -> Option<u64> {
        self.spent_ms.checked_div(self.handled)
    }

    /// The wait to be expected, ms; `None` before the first call is over or without an agent.
    ///
    /// A turn passes when an agent becomes free, or when somebody who waits before him gives
    /// up, and at his own he has to ring: the sum over the turns of 1 / (agents / cycle +
    /// callers before him × how often one gives up), and the ringing of an offer. This is
    /// the mean for times without memory; real ones differ little over a few turns.
    pub fn expected_ms(&self, ahead: Ahead) -> Option<u64> {
        self.cycle_ms()?;
        let ringing_ms = self.rung_ms.checked_div(self.rung).unwrap_or(0);
        let agents = u128::from(ahead.agents);
        if agents == 0 {
            return None;
        }
        let all = u128::from(ahead.turns_milli);
        let turns = all.saturating_sub(u128::from(ahead.ready) * 1_000);
        if turns == 0 {
            return Some(ringing_ms);
        }
        let cycle_ms = u128::from(ahead.work_ms) * 1_000 / all.max(1);
        let (gave_up, waited_ms) = (u128::from(self.gave_up), u128::from(self.waited_ms.max(1)));
        // Many turns are summed up in blocks, so that a long queue costs no more.
        let blocks = turns.div_ceil(1_000).min(limits::PACE_BLOCKS);
        // Of one turn in each block, in thousandths of a millisecond.
        let sum = (0..blocks).fold(0u128, |sum, block| {
            // In the middle of the block; nobody waits before the turn next to his.
            let waiting_milli = (turns * (2 * block + 1) / (2 * blocks)).saturating_sub(500);
            let leaving = waiting_milli
                .saturating_mul(gave_up)
                .saturating_mul(cycle_ms)
                / 1_000;
            let pace = (agents * waited_ms).saturating_add(leaving);
            let turn = cycle_ms.saturating_mul(1_000).saturating_mul(waited_ms) / pace;
            sum.saturating_add(turn)
        });
        let turns_ms = turns.saturating_mul(sum) / (1_000_000 * blocks);
        u64::try_from(turns_ms).ok()?.checked_add(ringing_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(pace: &mut Pace, talk_ms: u64) {
        pace.note(Fact::Rang(5_000));
        pace.note(Fact::Answered {
            wait_ms: 60_000,
            in_target: true,
        });
        pace.note(Fact::Talked {
            talk_ms,
            hold_ms: 0,
        });
        pace.note(Fact::Wrapped(10_000));
    }

    /// `turns` callers of this queue alone, with so many agents at work and none free.
    fn ahead(pace: &Pace, turns: u64, agents: u64) -> Ahead {
        Ahead {
            turns_milli: turns * 1_000,
            work_ms: turns * pace.cycle_ms().unwrap_or(0),
            agents,
            ready: 0,
        }
    }

    #[test]
    fn nothing_is_foretold_before_a_call_is_over_or_without_agents() {
        let mut pace = Pace::default();
        assert_eq!(pace.expected_ms(ahead(&pace, 1, 1)), None);
        call(&mut pace, 85_000);
        assert_eq!(pace.cycle_ms(), Some(100_000));
        assert_eq!(pace.expected_ms(ahead(&pace, 1, 0)), None);
    }

    #[test]
    fn agents_share_the_turns_and_the_last_one_has_to_ring() {
        let mut pace = Pace::default();
        call(&mut pace, 85_000);
        for (turns, agents, expected) in [
            (1, 1, 105_000),
            (1, 10, 15_000),
            (6, 1, 605_000),
            (6, 10, 65_000),
            (10_000, 100, 10_005_000),
        ] {
            let told = pace.expected_ms(ahead(&pace, turns, agents));
            assert_eq!(told, Some(expected), "{turns} turns, {agents} agents");
        }
    }

    #[test]
    fn a_free_agent_only_has_to_be_rung() {
        let mut pace = Pace::default();
        call(&mut pace, 85_000);
        let mut all = ahead(&pace, 3, 10);
        all.ready = 2;
        assert_eq!(pace.expected_ms(all), Some(15_000));
        all.ready = 3;
        assert_eq!(pace.expected_ms(all), Some(5_000));
    }

    #[test]
    fn who_gives_up_makes_room() {
        let mut pace = Pace::default();
        for _ in 0..20 {
            call(&mut pace, 85_000);
            pace.give_up(60_000);
        }
        // One of 120 s of waiting ends by giving up; two agents serve one each 50 s. Of
        // places 3, 2 and 1: 1 / (2/100 + k/120), for k = 2, 1, 0.
        let exact = 1.0 / (0.02 + 2.0 / 120.0) + 1.0 / (0.02 + 1.0 / 120.0) + 50.0 + 5.0;
        let told = pace.expected_ms(ahead(&pace, 3, 2)).expect("known");
        assert!(
            (told as f64 / 1_000.0 - exact).abs() < exact * 0.02,
            "{told} {exact}"
        );
        let without = ahead(&pace, 3, 2).work_ms / 2;
        assert!(told < without);
    }

    #[test]
    fn what_is_long_past_counts_no_more() {
        let mut pace = Pace::default();
        (0..1_000).for_each(|_| call(&mut pace, 85_000));
        (0..400).for_each(|_| call(&mut pace, 285_000));
        let cycle_ms = pace.cycle_ms().expect("known");
        assert!((290_000..=300_000).contains(&cycle_ms), "{cycle_ms}");
    }

    #[test]
    fn the_largest_numbers_are_no_fault() {
        let mut pace = Pace::default();
        for _ in 0..3 {
            pace.note(Fact::Talked {
                talk_ms: u64::MAX,
                hold_ms: u64::MAX,
            });
            pace.note(Fact::Rang(u64::MAX));
            pace.give_up(u64::MAX);
        }
        for turns_milli in [1, 1_000, u64::MAX] {
            let most = Ahead {
                turns_milli,
                work_ms: u64::MAX,
                agents: 1,
                ready: 0,
            };
            // Whatever comes of it, no node stops.
            let _ = pace.expected_ms(most);
        }
    }
}
