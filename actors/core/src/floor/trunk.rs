//! Trunks: how many channels they have taken, and in which order they and their
//! destinations are tried.
//!
//! Which legs hold a channel is derived from the legs themselves and stored nowhere; a
//! row keeps only what cannot be derived: the highest number so far, the beginnings of
//! the last second and counters.

use serde::{Deserialize, Serialize};

use crate::ids::{TenantId, TrunkName};
use crate::site::{CallerId, Choice};
use crate::time::TimeMs;

/// What is kept of a trunk beside its live legs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrunkRow {
    /// Whose trunk.
    pub tenant: TenantId,
    /// Its name in the site file.
    pub name: TrunkName,
    /// Highest number of channels in use at a time so far.
    pub peak: u32,
    /// When that was reached first.
    pub peak_at: Option<TimeMs>,
    /// Calls begun within the last second and how many at each instant, oldest first.
    /// Kept only for a trunk with a limit of calls per second, which also bounds it.
    pub begun: Vec<(TimeMs, u32)>,
    /// Channels seized so far.
    pub seized: u64,
    /// Calls that found no channel free or came too fast.
    pub refused: u64,
    /// Channels given back without a final answer of the far end.
    pub doubtful: u64,
}

impl TrunkRow {
    /// A trunk nobody has used.
    pub fn new(tenant: TenantId, name: TrunkName) -> Self {
        Self {
            tenant,
            name,
            peak: 0,
            peak_at: None,
            begun: Vec::new(),
            seized: 0,
            refused: 0,
            doubtful: 0,
        }
    }

    /// True when a call may begin now: fewer than `cps` began within the last second.
    /// A sliding window and not a bucket, so that no second whatever holds `cps` + 1.
    pub fn may_begin(&self, cps: u32, now: TimeMs) -> bool {
        let recent = self.begun.iter().filter(|(at, _)| now.since(*at) < 1_000);
        cps == 0 || recent.map(|(_, count)| *count).sum::<u32>() < cps
    }

    /// Notes that a call begins now.
    pub fn begin(&mut self, cps: u32, now: TimeMs) {
        self.seized += 1;
        self.begun.retain(|(at, _)| now.since(*at) < 1_000);
        if cps == 0 {
            self.begun.clear();
            return;
        }
        match self.begun.last_mut() {
            Some((at, count)) if *at == now => *count += 1,
            _ => self.begun.push((now, 1)),
        }
    }
}

/// The entries of a list in the order they are tried for the call with this `seed`:
/// entries without weight in their written place, neighbours with weights drawn by them.
pub fn in_order<T>(choices: &[Choice<T>], seed: u64) -> Vec<&T> {
    let mut ordered = Vec::with_capacity(choices.len());
    let mut draw = seed;
    for group in choices.chunk_by(|a, b| a.weight > 0 && b.weight > 0) {
        let mut left: Vec<&Choice<T>> = group.iter().collect();
        while !left.is_empty() {
            let total: u64 = left.iter().map(|choice| u64::from(choice.weight)).sum();
            draw = mix(draw);
            let mut ticket = if total == 0 { 0 } else { draw % total };
            let drawn = left.iter().position(|choice| {
                let weight = u64::from(choice.weight);
                let hit = ticket < weight || total == 0;
                ticket = ticket.saturating_sub(weight);
                hit
            });
            ordered.push(&left.remove(drawn.unwrap_or(0)).what);
        }
    }
    ordered
}

/// A step of SplitMix64: spreads neighbouring call ids evenly.
fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

impl CallerId {
    /// The number shown beyond the trunk for a caller with this one.
    pub fn shown(&self, number: &str) -> String {
        match self {
            Self::Fixed(fixed) => fixed.clone(),
            Self::Own { strip, prepend } => {
                let rest = number.chars().skip(*strip);
                prepend.chars().chain(rest).collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choices(list: &[(&'static str, u32)]) -> Vec<Choice<&'static str>> {
        let choice = |(what, weight): &(&'static str, u32)| Choice {
            what: *what,
            weight: *weight,
        };
        list.iter().map(choice).collect()
    }

    #[test]
    fn entries_without_weight_are_tried_as_written() {
        let list = choices(&[("a", 0), ("b", 0), ("c", 0)]);
        for seed in 0..100 {
            assert_eq!(in_order(&list, seed), [&"a", &"b", &"c"]);
        }
    }

    #[test]
    fn weighted_neighbours_share_by_weight_and_stay_in_their_turn() {
        let list = choices(&[("first", 0), ("a", 3), ("b", 1), ("last", 0)]);
        let mut led = 0;
        for seed in 0..4_000u64 {
            let order = in_order(&list, seed << 16);
            assert_eq!((order[0], order[3]), (&"first", &"last"));
            led += u32::from(*order[1] == "a");
        }
        assert!((2_850..3_150).contains(&led), "a led {led} of 4000");
    }

    #[test]
    fn no_second_holds_more_beginnings_than_allowed() {
        let mut row = TrunkRow::new("t".into(), "x".into());
        let mut begun = Vec::new();
        for ms in (0..10_000u64).step_by(7) {
            let now = TimeMs(1_000_000 + ms);
            if row.may_begin(5, now) {
                row.begin(5, now);
                begun.push(now);
            }
        }
        for pair in begun.windows(6) {
            assert!(pair[5].since(pair[0]) >= 1_000, "{pair:?}");
        }
        assert_eq!(begun.len(), 50, "and no fewer");
        assert!(row.begun.len() <= 5);
    }

    #[test]
    fn the_number_shown_follows_the_rule() {
        let own = |strip, prepend: &str| CallerId::Own {
            strip,
            prepend: prepend.into(),
        };
        let table = [
            (CallerId::default(), "1001", "1001"),
            (CallerId::Fixed("4008".into()), "1001", "4008"),
            (own(1, ""), "1001", "001"),
            (own(0, "+49"), "1001", "+491001"),
            (own(9, "7"), "1001", "7"),
        ];
        for (rule, number, shown) in table {
            assert_eq!(rule.shown(number), shown, "{rule:?}");
        }
    }
}
