//! Figures: what became of callers and how long everything took, per queue and agent.
//!
//! One [`Tally`] holds everything that is counted, in integers. Facts are noted in it by
//! [`Tally::note`] and nowhere else, at once in the live tally and in that of the quarter
//! of an hour in which the fact happened, so that history and live figures agree to the
//! digit. Tallies add up: a team, a tenant, an hour, a month are sums.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::pace::Pace;
use crate::ids::{AgentId, QueueName, TenantId};
use crate::time::TimeMs;

/// Length of an interval, ms. Every time zone in use is a whole number of quarters from
/// UTC, so that hours, days and months of any of them are sums of quarters.
pub const QUARTER_MS: u64 = 900_000;

/// Shortest wait told apart from none by [`wait_bound_ms`], ms.
const FIRST_BOUND_MS: u64 = 100;
/// Thousandths of a bound within its octave.
const STEPS: [u64; 4] = [1_000, 1_189, 1_414, 1_682];
/// Classes of waits; the last one holds everything above 93 minutes.
pub const WAIT_CLASSES: u8 = 64;

/// Beginning of the quarter of an hour `at` lies in.
pub fn quarter_of(at: TimeMs) -> TimeMs {
    TimeMs(at.0 - at.0 % QUARTER_MS)
}

/// Longest wait of a class, ms: four classes for each doubling. The last class has none.
pub fn wait_bound_ms(class: u8) -> Option<u64> {
    let step = STEPS.get(usize::from(class % 4)).copied().unwrap_or(1_000);
    (class < WAIT_CLASSES - 1).then(|| ((FIRST_BOUND_MS * step) << (class / 4)) / 1_000)
}

/// The class of a wait.
pub fn wait_class(wait_ms: u64) -> u8 {
    (0..WAIT_CLASSES - 1)
        .find(|class| wait_bound_ms(*class).is_some_and(|bound| wait_ms <= bound))
        .unwrap_or(WAIT_CLASSES - 1)
}

/// How the service level is computed. T is the queue's target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Formula {
    /// Answered within T, of those answered.
    A,
    /// Answered or abandoned within T, of those answered or abandoned.
    B,
    /// Answered within T, of those offered without short abandons.
    #[default]
    C,
}

impl Formula {
    /// Every formula.
    pub const ALL: [Self; 3] = [Self::A, Self::B, Self::C];

    /// The name printed beside the number.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::A => "SL-A",
            Self::B => "SL-B",
            Self::C => "SL-C",
        }
    }

    /// The formula of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.as_str() == name)
    }
}

/// Whose figures these are.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Subject {
    /// A queue.
    Queue(QueueName),
    /// An agent.
    Agent(AgentId),
}

impl Subject {
    /// `queue` or `agent`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Queue(_) => "queue",
            Self::Agent(_) => "agent",
        }
    }

    /// Its name in the site file.
    pub fn name(&self) -> &str {
        match self {
            Self::Queue(queue) => queue.as_str(),
            Self::Agent(agent) => agent.as_str(),
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} {}", self.kind(), self.name())
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

/// Something that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fact {
    /// A caller entered the queue.
    Entered,
    /// The agent's answer is committed.
    Answered {
        /// Wait from entering the queue.
        wait_ms: u64,
        /// Within the queue's target.
        in_target: bool,
    },
    /// The caller left before an answer.
    Abandoned {
        /// Within the queue's target.
        in_target: bool,
        /// So soon that it does not count against the service level.
        short: bool,
    },
    /// The caller left for another destination by rule.
    Overflowed,
    /// The caller left with a callback.
    CallbackTaken,
    /// The caller was lost while waiting because a node died.
    NodeLost,
    /// A call was offered to an agent.
    Offered,
    /// An offer was not taken.
    Missed,
    /// A call was transferred by its agent.
    Transferred,
    /// A call that had been answered is over.
    Talked {
        /// Talk without hold.
        talk_ms: u64,
        /// Hold.
        hold_ms: u64,
    },
    /// A waiting caller asked for the advert.
    Advert,
    /// An agent answered a caller whose wait had been foretold.
    Expected {
        /// The true wait.
        waited_ms: u64,
        /// How far off the foretold one was.
        off_ms: u64,
    },
    /// An agent's phone rang for so long.
    Rang(u64),
    /// An agent was in wrap-up for so long.
    Wrapped(u64),
    /// An agent was signed in for so long.
    Staffed {
        /// For how long.
        ms: u64,
        /// Paused, unproductively, all the while.
        paused: bool,
        /// At a call or in wrap-up all the while.
        busy: bool,
    },
}

/// Everything counted of one subject over some time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Callers who entered the queue.
    pub entered: u64,
    /// Agent's answer committed.
    pub answered: u64,
    /// Of these, within the queue's target.
    pub answered_in_target: u64,
    /// Caller left before an answer.
    pub abandoned: u64,
    /// Of these, within the queue's target.
    pub abandoned_in_target: u64,
    /// Of these, so soon that they do not count against the service level.
    pub short_abandoned: u64,
    /// Left for another destination by rule.
    pub overflowed: u64,
    /// Left with a callback.
    pub callback_taken: u64,
    /// Lost while waiting because a node died.
    pub node_lost: u64,
    /// Offers to agents.
    pub offers: u64,
    /// Of these, not taken.
    pub missed: u64,
    /// Transfers by the agent.
    pub transfers: u64,
    /// Sum of the waits of answered calls, ms.
    pub answered_wait_ms: u64,
    /// Longest wait of an answered call, ms.
    pub wait_max_ms: u64,
    /// Answered calls by class of their wait; classes without any are left out.
    pub waits: BTreeMap<u8, u64>,
    /// Sum of talk without hold of calls that are over, ms.
    pub talk_ms: u64,
    /// Sum of hold of calls that are over, ms.
    pub hold_ms: u64,
    /// Sum of wrap-ups that are over, ms.
    pub wrap_ms: u64,
    /// Sum of the ringing of offers that are over, ms.
    pub ring_ms: u64,
    /// Adverts played on request.
    pub adverts: u64,
    /// Answered callers whose wait had been foretold.
    pub foretold: u64,
    /// Sum of their true waits, ms.
    pub foretold_wait_ms: u64,
    /// Sum of how far off the foretold waits were, ms.
    pub foretold_off_ms: u64,
    /// Agent signed in, ms.
    pub staffed_ms: u64,
    /// Of this, paused unproductively, ms.
    pub paused_ms: u64,
    /// Of this, ringing, talking, holding or in wrap-up, ms.
    pub busy_ms: u64,
}

impl Tally {
    /// Counts a fact.
    pub fn note(&mut self, fact: Fact) {
        match fact {
            Fact::Entered => self.entered += 1,
            Fact::Answered { wait_ms, in_target } => {
                self.answered += 1;
                self.answered_in_target += u64::from(in_target);
                self.answered_wait_ms = self.answered_wait_ms.saturating_add(wait_ms);
                self.wait_max_ms = self.wait_max_ms.max(wait_ms);
                *self.waits.entry(wait_class(wait_ms)).or_default() += 1;
            }
            Fact::Abandoned { in_target, short } => {
                self.abandoned += 1;
                self.abandoned_in_target += u64::from(in_target);
                self.short_abandoned += u64::from(short);
            }
            Fact::Overflowed => self.overflowed += 1,
            Fact::CallbackTaken => self.callback_taken += 1,
            Fact::NodeLost => self.node_lost += 1,
            Fact::Offered => self.offers += 1,
            Fact::Missed => self.missed += 1,
            Fact::Transferred => self.transfers += 1,
            Fact::Talked { talk_ms, hold_ms } => {
                self.talk_ms = self.talk_ms.saturating_add(talk_ms);
                self.hold_ms = self.hold_ms.saturating_add(hold_ms);
            }
            Fact::Advert => self.adverts += 1,
            Fact::Expected { waited_ms, off_ms } => {
                self.foretold += 1;
                self.foretold_wait_ms = self.foretold_wait_ms.saturating_add(waited_ms);
                self.foretold_off_ms = self.foretold_off_ms.saturating_add(off_ms);
            }
            Fact::Rang(ms) => self.ring_ms = self.ring_ms.saturating_add(ms),
            Fact::Wrapped(ms) => self.wrap_ms = self.wrap_ms.saturating_add(ms),
            Fact::Staffed { ms, paused, busy } => {
                self.staffed_ms = self.staffed_ms.saturating_add(ms);
                self.paused_ms = self.paused_ms.saturating_add(if paused { ms } else { 0 });
                self.busy_ms = self.busy_ms.saturating_add(if busy { ms } else { 0 });
            }
        }
    }

    /// Adds another tally to this one.
    pub fn add(&mut self, other: &Self) {
        let Self {
            entered,
            answered,
            answered_in_target,
            abandoned,
            abandoned_in_target,
            short_abandoned,
            overflowed,
            callback_taken,
            node_lost,
            offers,
            missed,
            transfers,
            answered_wait_ms,
            wait_max_ms,
            waits,
            talk_ms,
            hold_ms,
            wrap_ms,
            ring_ms,
            adverts,
            foretold,
            foretold_wait_ms,
            foretold_off_ms,
            staffed_ms,
            paused_ms,
            busy_ms,
        } = other;
        let sums = [
            (&mut self.entered, entered),
            (&mut self.answered, answered),
            (&mut self.answered_in_target, answered_in_target),
            (&mut self.abandoned, abandoned),
            (&mut self.abandoned_in_target, abandoned_in_target),
            (&mut self.short_abandoned, short_abandoned),
            (&mut self.overflowed, overflowed),
            (&mut self.callback_taken, callback_taken),
            (&mut self.node_lost, node_lost),
            (&mut self.offers, offers),
            (&mut self.missed, missed),
            (&mut self.transfers, transfers),
            (&mut self.answered_wait_ms, answered_wait_ms),
            (&mut self.talk_ms, talk_ms),
            (&mut self.hold_ms, hold_ms),
            (&mut self.wrap_ms, wrap_ms),
            (&mut self.ring_ms, ring_ms),
            (&mut self.adverts, adverts),
            (&mut self.foretold, foretold),
            (&mut self.foretold_wait_ms, foretold_wait_ms),
            (&mut self.foretold_off_ms, foretold_off_ms),
            (&mut self.staffed_ms, staffed_ms),
            (&mut self.paused_ms, paused_ms),
            (&mut self.busy_ms, busy_ms),
        ];
        for (sum, part) in sums {
            *sum = sum.saturating_add(*part);
        }
        self.wait_max_ms = self.wait_max_ms.max(*wait_max_ms);
        for (class, count) in waits {
            let sum = self.waits.entry(*class).or_default();
            *sum = sum.saturating_add(*count);
        }
    }

    /// This tally with only what is counted of an agent's time: beside the calls of the
    /// queues it completes the figures of a tenant without counting a call twice.
    pub fn time_only(&self) -> Self {
        Self {
            staffed_ms: self.staffed_ms,
            paused_ms: self.paused_ms,
            busy_ms: self.busy_ms,
            ..Self::default()
        }
    }

    /// Callers who entered and left in one of the counted ways.
    pub fn left(&self) -> u64 {
        self.answered + self.abandoned + self.overflowed + self.callback_taken + self.node_lost
    }

    /// The service level in thousandths; `None` of nothing. `offered` counts those who
    /// still wait too. An interval may answer callers who entered in an earlier one; its
    /// level is never above 1,000 for that.
    pub fn service_level(&self, formula: Formula, offered: u64) -> Option<u64> {
        let (part, whole) = match formula {
            Formula::A => (self.answered_in_target, self.answered),
            Formula::B => (
                self.answered_in_target + self.abandoned_in_target,
                self.answered + self.abandoned,
            ),
            Formula::C => (
                self.answered_in_target,
                offered.saturating_sub(self.short_abandoned),
            ),
        };
        permille(part, whole)
    }

    /// Mean wait of answered calls (ASA), ms.
    pub fn mean_wait_ms(&self) -> Option<u64> {
        self.answered_wait_ms.checked_div(self.answered)
    }

    /// The wait nine of ten answered calls did not exceed, ms: the bound of its class,
    /// never more than the longest wait.
    pub fn wait_p90_ms(&self) -> Option<u64> {
        let all: u64 = self.waits.values().sum();
        let wanted = all.saturating_mul(9).div_ceil(10);
        let mut so_far = 0;
        for (class, count) in &self.waits {
            so_far += count;
            if so_far >= wanted {
                let bound = wait_bound_ms(*class).unwrap_or(u64::MAX);
                return Some(bound.min(self.wait_max_ms));
            }
        }
        None
    }

    /// Mean handling time (AHT) of answered calls, ms: talk, hold and wrap-up.
    pub fn mean_handling_ms(&self) -> Option<u64> {
        let all = self.talk_ms.saturating_add(self.hold_ms);
        all.saturating_add(self.wrap_ms).checked_div(self.answered)
    }

    /// Thousandths of the time signed in and not paused that went to calls.
    pub fn occupancy(&self) -> Option<u64> {
        permille(self.busy_ms, self.staffed_ms.saturating_sub(self.paused_ms))
    }

    /// Thousandths of the offers that were missed.
    pub fn missed_share(&self) -> Option<u64> {
        permille(self.missed, self.offers)
    }
}

/// Thousandths of `part` in `whole`, rounded to the nearest, at most 1,000; `None` of
/// nothing.
pub fn permille(part: u64, whole: u64) -> Option<u64> {
    let doubled = part.saturating_mul(2_000).saturating_add(whole);
    let share = doubled.checked_div(whole.saturating_mul(2))?;
    Some(share.min(1_000))
}

/// Live figures of a subject, as stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FigureRow {
    /// Whose subject.
    pub tenant: TenantId,
    /// Queue or agent.
    pub subject: Subject,
    /// What was counted since the cluster was made.
    pub tally: Tally,
    /// How fast the queue moves; `None` for agents.
    pub pace: Option<Pace>,
}

/// Key of a subject's rows.
pub fn figure_key(tenant: &TenantId, subject: &Subject) -> Vec<u8> {
    let mut key = tenant.as_str().as_bytes().to_vec();
    key.push(0);
    key.extend_from_slice(subject.kind().as_bytes());
    key.push(0);
    key.extend_from_slice(subject.name().as_bytes());
    key.push(0);
    key
}

/// Key of a subject's tally of the quarter that begins at `quarter`.
pub fn interval_key(tenant: &TenantId, subject: &Subject, quarter: TimeMs) -> Vec<u8> {
    let mut key = figure_key(tenant, subject);
    key.extend_from_slice(&quarter.0.to_be_bytes());
    key
}

/// The quarter of an interval's key.
pub fn interval_quarter(key: &[u8]) -> Option<TimeMs> {
    let (_, quarter) = key.split_last_chunk::<8>()?;
    Some(TimeMs(u64::from_be_bytes(*quarter)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tally of these facts.
    fn tally(facts: &[Fact]) -> Tally {
        let mut tally = Tally::default();
        facts.iter().for_each(|fact| tally.note(*fact));
        tally
    }

    fn answered(wait_ms: u64) -> [Fact; 2] {
        let in_target = wait_ms <= 20_000;
        [Fact::Entered, Fact::Answered { wait_ms, in_target }]
    }

    fn abandoned(wait_ms: u64) -> [Fact; 2] {
        let (in_target, short) = (wait_ms <= 20_000, wait_ms < 5_000);
        [Fact::Entered, Fact::Abandoned { in_target, short }]
    }

    #[test]
    fn each_formula_by_hand() {
        // Waits of answered calls, waits of abandoned ones, still waiting; A, B, C.
        type Row = (&'static [u64], &'static [u64], u64, [Option<u64>; 3]);
        let table: [Row; 7] = [
            (&[], &[], 0, [None, None, None]),
            (&[], &[], 3, [None, None, Some(0)]),
            (&[20_000], &[], 0, [Some(1_000); 3]),
            (&[20_001], &[], 0, [Some(0); 3]),
            // A short abandon leaves C alone, helps B, is nothing to A.
            (
                &[1_000, 30_000],
                &[4_999],
                0,
                [Some(500), Some(667), Some(500)],
            ),
            (
                &[1_000, 30_000],
                &[5_000],
                0,
                [Some(500), Some(667), Some(333)],
            ),
            // Those who wait count in C only.
            (&[1_000], &[25_000], 2, [Some(1_000), Some(500), Some(250)]),
        ];
        for (served, gone, waiting, expected) in table {
            let facts = served.iter().flat_map(|wait| answered(*wait));
            let gone_facts = gone.iter().flat_map(|wait| abandoned(*wait));
            let facts: Vec<Fact> = facts.chain(gone_facts).collect();
            let tally = tally(&facts);
            let offered = tally.left() + waiting;
            let levels = Formula::ALL.map(|formula| tally.service_level(formula, offered));
            assert_eq!(levels, expected, "{served:?} {gone:?} {waiting}");
        }
    }

    #[test]
    fn means_and_shares_by_hand() {
        let mut facts: Vec<Fact> = [2_000, 4_000, 9_000]
            .iter()
            .flat_map(|w| answered(*w))
            .collect();
        facts.extend([
            Fact::Offered,
            Fact::Offered,
            Fact::Offered,
            Fact::Offered,
            Fact::Missed,
            Fact::Talked {
                talk_ms: 100_000,
                hold_ms: 20_000,
            },
            Fact::Wrapped(30_000),
            Fact::Rang(7_000),
            Fact::Staffed {
                ms: 300_000,
                paused: false,
                busy: true,
            },
            Fact::Staffed {
                ms: 300_000,
                paused: false,
                busy: false,
            },
            Fact::Staffed {
                ms: 400_000,
                paused: true,
                busy: false,
            },
        ]);
        let tally = tally(&facts);
        assert_eq!(tally.mean_wait_ms(), Some(5_000));
        assert_eq!(tally.mean_handling_ms(), Some(50_000));
        assert_eq!(tally.occupancy(), Some(500));
        assert_eq!(tally.missed_share(), Some(250));
        assert_eq!(tally.wait_p90_ms(), Some(9_000));
        let empty = Tally::default();
        assert_eq!(
            [
                empty.mean_wait_ms(),
                empty.mean_handling_ms(),
                empty.occupancy(),
                empty.missed_share(),
                empty.wait_p90_ms(),
            ],
            [None; 5]
        );
    }

    #[test]
    fn classes_of_waits_rise_and_hold_what_they_say() {
        let bounds: Vec<u64> = (0..WAIT_CLASSES).filter_map(wait_bound_ms).collect();
        assert_eq!(bounds.len(), usize::from(WAIT_CLASSES) - 1);
        assert!(
            bounds.windows(2).all(|pair| pair[0] < pair[1]),
            "{bounds:?}"
        );
        for (class, bound) in (0u8..).zip(&bounds) {
            assert_eq!(wait_class(*bound), class);
            assert_eq!(wait_class(bound + 1), class + 1);
        }
        assert_eq!(wait_class(0), 0);
        assert_eq!(wait_class(u64::MAX), WAIT_CLASSES - 1);
    }

    #[test]
    fn nine_of_ten_do_not_exceed_the_ninetieth() {
        let waits: Vec<u64> = (1..=1_000).map(|n| n * 37).collect();
        let facts: Vec<Fact> = waits.iter().flat_map(|wait| answered(*wait)).collect();
        let (first, second) = facts.split_at(777);
        let mut sum = tally(first);
        sum.add(&tally(second));
        assert_eq!(sum, tally(&facts), "a sum of tallies is the tally of all");
        let p90 = sum.wait_p90_ms().unwrap_or(0);
        let exact = 900 * 37;
        assert!(p90 >= exact && p90 <= exact * 12 / 10, "{p90} for {exact}");
    }

    #[test]
    fn an_interval_key_begins_as_its_subject_and_ends_in_its_quarter() {
        let tenant = TenantId::from("t");
        let queue = Subject::Queue(QueueName::from("main"));
        let quarter = quarter_of(TimeMs(1_790_000_123_456));
        assert_eq!(quarter.0 % QUARTER_MS, 0);
        let key = interval_key(&tenant, &queue, quarter);
        assert!(key.starts_with(&figure_key(&tenant, &queue)));
        assert_eq!(interval_quarter(&key), Some(quarter));
        let longer = Subject::Queue(QueueName::from("mainly"));
        assert!(!figure_key(&tenant, &longer).starts_with(&figure_key(&tenant, &queue)));
    }
}
