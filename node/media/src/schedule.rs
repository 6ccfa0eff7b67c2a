//! The grid on which legs send what is made here: 5 ms ticks, counted from the worker's start.
//!
//! Absolute, so that no delay adds up. A wheel of buckets, so that a tick touches only the legs
//! that are due. Entries may be stale; the leg's own `due` decides.

use std::time::{Duration, Instant};

use crate::limits;

/// Buckets; more than the ticks of the longest frame (60 ms = 12), and than can lie between the
/// next tick and what is entered by a round as late as is caught up with: an entry further ahead
/// would be taken out with a tick that is not its own.
const BUCKETS: u64 = 32;
const _: () = assert!(BUCKETS > limits::TICKS_LATE_MAX + 1);

/// The schedule of one worker.
#[derive(Debug)]
pub(crate) struct Schedule {
    start: Instant,
    /// The next tick to run.
    next: u64,
    buckets: Vec<Vec<usize>>,
    entries: usize,
}

impl Schedule {
    pub(crate) fn new(start: Instant) -> Self {
        let buckets = (0..BUCKETS).map(|_| Vec::new()).collect();
        Self {
            start,
            next: 1,
            buckets,
            entries: 0,
        }
    }

    /// The first tick after now.
    pub(crate) fn soon(&self, now: Instant) -> u64 {
        (self.tick_at(now) + 1).max(self.next)
    }

    /// Enters a leg anew for a tick, which lies less than a turn of the wheel ahead.
    pub(crate) fn enter(&mut self, slot: usize, due: u64, now: Instant) {
        if self.entries == 0 {
            // Nothing was due meanwhile: forget the ticks that passed, but not the one this
            // leg is due at, which lies in the past when the round is late.
            self.next = self.next.max(self.tick_at(now).min(due));
        }
        self.entries += 1;
        self.bucket(due).push(slot);
    }

    /// Enters a leg again out of its own tick. Others of that tick may be due before it, so no
    /// tick is forgotten.
    pub(crate) fn enter_again(&mut self, slot: usize, due: u64) {
        self.entries += 1;
        self.bucket(due).push(slot);
    }

    /// Forgets every entry.
    pub(crate) fn clear(&mut self) {
        self.entries = 0;
        self.buckets.iter_mut().for_each(Vec::clear);
    }

    /// Time until the next tick; `None` while nobody is entered.
    pub(crate) fn wait(&self, now: Instant) -> Option<Duration> {
        (self.entries > 0).then(|| self.time_of(self.next).saturating_duration_since(now))
    }

    /// Takes the next tick that is due and the slots entered for it.
    pub(crate) fn take_due(&mut self, now: Instant) -> Option<(u64, Vec<usize>)> {
        if self.entries == 0 || self.time_of(self.next) > now {
            return None;
        }
        let tick = self.next;
        self.next += 1;
        let slots = std::mem::take(self.bucket(tick));
        self.entries -= slots.len();
        Some((tick, slots))
    }

    /// After a stall too long to catch up with: forgets the ticks missed and gives back all
    /// slots, to be entered anew.
    pub(crate) fn start_anew(&mut self, now: Instant) -> Option<Vec<usize>> {
        let present = self.tick_at(now);
        if self.entries == 0 || present <= self.next + limits::TICKS_LATE_MAX {
            return None;
        }
        self.next = present;
        self.entries = 0;
        Some(self.buckets.iter_mut().flat_map(std::mem::take).collect())
    }

    fn bucket(&mut self, tick: u64) -> &mut Vec<usize> {
        let index = usize::try_from(tick % BUCKETS).unwrap_or(0);
        &mut self.buckets[index]
    }

    fn tick_at(&self, now: Instant) -> u64 {
        let ticks = now.saturating_duration_since(self.start).as_nanos() / limits::TICK.as_nanos();
        u64::try_from(ticks).unwrap_or(u64::MAX)
    }

    fn time_of(&self, tick: u64) -> Instant {
        let nanos = limits::TICK.as_nanos().saturating_mul(u128::from(tick));
        self.start + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX / 4))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(start: Instant, ms: u64) -> Instant {
        start + Duration::from_millis(ms)
    }

    #[test]
    fn frames_stay_on_the_grid_however_late_the_rounds_are() {
        let start = Instant::now();
        let mut schedule = Schedule::new(start);
        let mut due = schedule.soon(ms(start, 7));
        assert_eq!(due, 2);
        schedule.enter(3, due, ms(start, 7));
        let mut sent = Vec::new();
        for round in [9, 10, 31, 38, 52, 77] {
            while let Some((tick, slots)) = schedule.take_due(ms(start, round)) {
                for slot in slots {
                    assert_eq!((slot, tick), (3, due));
                    sent.push((round, tick * 5));
                    due += 4;
                    schedule.enter_again(3, due);
                }
            }
        }
        assert_eq!(sent, [(10, 10), (31, 30), (52, 50), (77, 70)]);
    }

    #[test]
    fn a_leg_alone_stays_entered_when_a_round_is_later_than_its_next_frame() {
        let start = Instant::now();
        let mut schedule = Schedule::new(start);
        let mut due = schedule.soon(start);
        schedule.enter(3, due, start);
        // 60 ms late: three frames are overdue at once.
        let late = ms(start, 65);
        let mut sent = Vec::new();
        while let Some((tick, slots)) = schedule.take_due(late) {
            for slot in slots {
                assert_eq!((slot, tick), (3, due));
                sent.push(tick);
                due += 4;
                schedule.enter_again(3, due);
            }
        }
        assert_eq!(sent, [1, 5, 9, 13]);
        assert_eq!(schedule.wait(late), Some(Duration::from_millis(5)));
    }

    #[test]
    fn a_leg_entered_by_a_late_round_has_its_tick() {
        for lag in 0..=limits::TICKS_LATE_MAX {
            let start = Instant::now();
            let mut schedule = Schedule::new(start);
            schedule.enter(0, schedule.soon(start), start);
            let late = ms(start, 5 * (1 + lag));
            let due = schedule.soon(late);
            schedule.enter(1, due, late);
            assert_eq!(schedule.start_anew(late), None, "{lag} ticks late");
            let after = ms(start, 5 * due);
            let mut taken = std::iter::from_fn(|| schedule.take_due(after));
            let own = taken.find(|(_, slots)| slots.contains(&1));
            assert_eq!(own.map(|(tick, _)| tick), Some(due), "{lag} ticks late");
        }
    }

    #[test]
    fn legs_of_different_frames_keep_their_ticks_however_late_the_rounds_are() {
        for (periods, late) in [([4, 2], 25), ([6, 4], 75), ([12, 4], 75), ([12, 2], 100)] {
            let start = Instant::now();
            let mut schedule = Schedule::new(start);
            let mut due = [1, 1];
            schedule.enter(0, 1, start);
            schedule.enter(1, 1, start);
            let mut sent = [0, 0];
            while let Some((tick, slots)) = schedule.take_due(ms(start, 5 + late)) {
                for slot in slots {
                    assert_eq!(tick, due[slot], "{periods:?}");
                    due[slot] += periods[slot];
                    schedule.enter_again(slot, due[slot]);
                    sent[slot] += 1;
                }
            }
            let ticks = late / 5;
            assert_eq!(
                sent,
                periods.map(|period| ticks / period + 1),
                "{periods:?}"
            );
        }
    }

    #[test]
    fn an_idle_time_and_a_stall_cost_no_ticks() {
        let start = Instant::now();
        let mut schedule = Schedule::new(start);
        assert_eq!(schedule.wait(start), None);
        let late = ms(start, 60_000);
        schedule.enter(1, schedule.soon(late), late);
        assert_eq!(schedule.take_due(late), Some((12_000, vec![])));
        assert_eq!(schedule.wait(late), Some(Duration::from_millis(5)));
        assert_eq!(schedule.start_anew(ms(start, 60_050)), None);
        let after = ms(start, 61_000);
        assert_eq!(schedule.start_anew(after), Some(vec![1]));
        assert_eq!(schedule.soon(after), 12_201);
        assert_eq!(schedule.take_due(after), None);
    }
}
