//! The loop of one media thread: poll, read, relay, obey, tick.
//!
//! It owns its legs outright and never waits for anybody: events go to a bounded queue, with a
//! bounded backlog behind it. A panic ends the round, not the thread.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TrySendError};

use crate::command::Command;
use crate::event::{Event, Totals};
use crate::leg::{Leg, Rules};
use crate::limits;
use crate::player::Player;
use crate::rtcp::NtpClock;
use crate::schedule::Schedule;
use crate::socket::{Poller, ReceiveBatch, SendBatch, Waker};
use crate::types::{EngineConfig, LegKey};

/// The poll token of the waker; legs have `slot * 2`, plus one for RTCP.
const WAKE: u64 = u64::MAX;

/// What a worker is made of.
pub(crate) struct Parts {
    pub(crate) number: usize,
    pub(crate) config: EngineConfig,
    pub(crate) inbox: Receiver<Command>,
    pub(crate) waker: Arc<Waker>,
    pub(crate) events: Sender<Event>,
    pub(crate) totals: Arc<WorkerTotals>,
    pub(crate) in_doubt: Arc<AtomicBool>,
}

/// Figures of a worker that others may read at any time.
#[derive(Debug, Default)]
pub(crate) struct WorkerTotals {
    legs: AtomicU64,
    packets_received: AtomicU64,
    packets_sent: AtomicU64,
    foreign_dropped: AtomicU64,
    malformed_dropped: AtomicU64,
    payload_dropped: AtomicU64,
    stale_dropped: AtomicU64,
    send_failed: AtomicU64,
    digits_dropped: AtomicU64,
    events_dropped: AtomicU64,
    panics: AtomicU64,
}

impl WorkerTotals {
    fn pairs<'a>(&'a self, totals: &'a mut Totals) -> [(&'a AtomicU64, &'a mut u64); 11] {
        [
            (&self.legs, &mut totals.legs),
            (&self.packets_received, &mut totals.packets_received),
            (&self.packets_sent, &mut totals.packets_sent),
            (&self.foreign_dropped, &mut totals.foreign_dropped),
            (&self.malformed_dropped, &mut totals.malformed_dropped),
            (&self.payload_dropped, &mut totals.payload_dropped),
            (&self.stale_dropped, &mut totals.stale_dropped),
            (&self.send_failed, &mut totals.send_failed),
            (&self.digits_dropped, &mut totals.digits_dropped),
            (&self.events_dropped, &mut totals.events_dropped),
            (&self.panics, &mut totals.panics),
        ]
    }

    pub(crate) fn add_to(&self, sum: &mut Totals) {
        for (ours, place) in self.pairs(sum) {
            *place += ours.load(Ordering::Relaxed);
        }
    }

    fn publish(&self, tally: &mut Totals) {
        for (ours, value) in self.pairs(tally) {
            ours.store(*value, Ordering::Relaxed);
        }
    }
}

/// Where a leg's events and counts go.
pub(crate) struct Sink {
    events: Sender<Event>,
    backlog: VecDeque<Event>,
    pub(crate) tally: Totals,
}

impl Sink {
    fn new(events: Sender<Event>) -> Self {
        Self {
            events,
            backlog: VecDeque::new(),
            tally: Totals::default(),
        }
    }

    /// Reports an event without waiting; in order, also over the backlog.
    pub(crate) fn emit(&mut self, event: Event) {
        self.retry();
        let kept = match self.backlog.is_empty() {
            true => match self.events.try_send(event) {
                Err(TrySendError::Full(event)) => event,
                // Without a receiver nobody wants to know.
                Ok(()) | Err(TrySendError::Disconnected(_)) => return,
            },
            false => event,
        };
        if self.backlog.len() < limits::EVENT_BACKLOG {
            self.backlog.push_back(kept);
        } else {
            self.tally.events_dropped += 1;
        }
    }

    fn retry(&mut self) {
        while let Some(event) = self.backlog.pop_front() {
            if let Err(TrySendError::Full(event)) = self.events.try_send(event) {
                self.backlog.push_front(event);
                return;
            }
        }
    }
}

/// Starts a worker's thread.
pub(crate) fn spawn(parts: Parts) -> io::Result<JoinHandle<()>> {
    let poller = Poller::new()?;
    poller.add_waker(&parts.waker, WAKE)?;
    let name = format!("media-{}", parts.number);
    Builder::new()
        .name(name)
        .spawn(move || Worker::new(parts, poller).run())
}

struct Worker {
    rules: Rules,
    gather: Duration,
    inbox: Receiver<Command>,
    waker: Arc<Waker>,
    totals: Arc<WorkerTotals>,
    poller: Poller,
    legs: Vec<Option<Box<Leg>>>,
    free: Vec<usize>,
    slots: HashMap<LegKey, usize>,
    schedule: Schedule,
    /// The leg whose tick runs.
    ticking: Option<usize>,
    clock: NtpClock,
    next_slow: Instant,
    receive: ReceiveBatch,
    send: SendBatch,
    sink: Sink,
}

impl Worker {
    fn new(parts: Parts, poller: Poller) -> Self {
        let Parts {
            config,
            inbox,
            waker,
            events,
            totals,
            in_doubt,
            ..
        } = parts;
        let now = Instant::now();
        let rules = Rules {
            latch_packets: config.latch_packets,
            no_audio_after: config.no_audio_after,
            in_doubt,
        };
        Self {
            rules,
            gather: config.gather,
            inbox,
            waker,
            totals,
            poller,
            legs: Vec::new(),
            free: Vec::new(),
            slots: HashMap::new(),
            schedule: Schedule::new(now),
            ticking: None,
            clock: NtpClock::new(),
            next_slow: now + limits::SLOW_ROUND,
            receive: ReceiveBatch::new(),
            send: SendBatch::new(),
            sink: Sink::new(events),
        }
    }

    fn run(mut self) {
        while !self.waker.stopping() {
            let round = AssertUnwindSafe(|| self.round());
            if catch_unwind(round).is_err() {
                self.sink.tally.panics += 1;
                tracing::error!(event = "panic", "a round of a media worker was abandoned");
                self.enter_all(Instant::now());
            }
            self.totals.publish(&mut self.sink.tally);
        }
        while let Ok(command) = self.inbox.try_recv() {
            self.obey(command, Instant::now());
        }
        for slot in 0..self.legs.len() {
            self.close(slot, Instant::now());
        }
        self.sink.retry();
        self.totals.publish(&mut self.sink.tally);
    }

    fn round(&mut self) {
        let wait = self.wait(Instant::now());
        let ready = self.poller.wait(wait);
        let now = Instant::now();
        // Commands first: what was commanded before a packet came holds for that packet. A slot
        // given to another leg here is merely found empty below.
        for _ in 0..limits::COMMANDS_PER_ROUND {
            let Ok(command) = self.inbox.try_recv() else {
                break;
            };
            self.obey(command, now);
        }
        let mut sockets = 0;
        for n in 0..ready {
            match self.poller.token(n) {
                Some(WAKE) => self.waker.clear(),
                Some(token) => {
                    sockets += 1;
                    self.read(token, now);
                }
                None => {}
            }
        }
        self.run_ticks(now);
        if now >= self.next_slow {
            self.next_slow = now + limits::SLOW_ROUND;
            for leg in self.legs.iter_mut().flatten() {
                leg.slow(now, &self.rules, &self.clock, &mut self.sink);
            }
            self.sink.retry();
        }
        // Packets that follow within the gathering time are handled by one round instead of a
        // wake-up each.
        let spent = now.elapsed();
        if sockets > 0 && spent < self.gather {
            std::thread::sleep(self.gather.saturating_sub(spent));
        }
    }

    fn wait(&self, now: Instant) -> Duration {
        if !self.inbox.is_empty() {
            return Duration::ZERO;
        }
        let slow = self.next_slow.saturating_duration_since(now);
        self.schedule.wait(now).map_or(slow, |tick| tick.min(slow))
    }

    fn read(&mut self, token: u64, now: Instant) {
        let Ok(slot) = usize::try_from(token >> 1) else {
            return;
        };
        if token & 1 == 1 {
            self.read_reports(slot, now);
            return;
        }
        for _ in 0..limits::BATCHES_PER_ROUND {
            let Some(Some(leg)) = self.legs.get(slot) else {
                return;
            };
            let count = self.receive.receive(&leg.sockets.rtp);
            self.relay(slot, count, now);
            if count < limits::BATCH {
                return;
            }
        }
    }

    fn relay(&mut self, slot: usize, count: usize, now: Instant) {
        let Self {
            legs,
            receive,
            send,
            rules,
            clock,
            sink,
            ..
        } = self;
        let peer = legs
            .get(slot)
            .and_then(Option::as_ref)
            .and_then(|leg| leg.peer);
        let datagrams = receive.aged(count);
        if let Some(peer) = peer
            && let Ok([Some(leg), Some(other)]) = legs.get_disjoint_mut([slot, peer])
        {
            for (bytes, source, age) in datagrams {
                let Some(heard) = leg.hear(bytes, source, now, rules, clock, sink) else {
                    continue;
                };
                // Digits of it have been taken; as audio it is worth nothing any more.
                if age > limits::AUDIO_AGE_MAX {
                    sink.tally.stale_dropped += 1;
                } else {
                    other.say(leg.key, &heard, now, rules, send, sink);
                }
            }
            other.flush(send, sink);
        } else if let Some(Some(leg)) = legs.get_mut(slot) {
            for (bytes, source, _) in datagrams {
                leg.hear(bytes, source, now, rules, clock, sink);
            }
        }
    }

    fn read_reports(&mut self, slot: usize, now: Instant) {
        let Some(Some(leg)) = self.legs.get_mut(slot) else {
            return;
        };
        let count = self.receive.receive(&leg.sockets.rtcp);
        for (bytes, source) in self.receive.datagrams(count) {
            leg.hear_report(bytes, source, now, &self.clock, &mut self.sink);
        }
    }

    fn obey(&mut self, command: Command, now: Instant) {
        match command {
            Command::Adopt(leg) => self.adopt(leg, now),
            Command::Release(key, reply) => self.release(key, &reply),
            Command::Configure(key, media) => self.on(key, |leg, _| leg.configure(media, now)),
            Command::Bridge(a, b) => self.bridge(a, b),
            Command::Unbridge(key) => {
                if let Some(slot) = self.slot(key) {
                    self.unbridge(slot);
                }
            }
            Command::Play(key, playback) => {
                self.on(key, |leg, sink| leg.play(Player::new(playback), sink));
                self.schedule_leg(key, now);
            }
            Command::Stop(key) => self.on(key, |leg, sink| leg.stop_playing(false, sink)),
            Command::SendDigit(key, digit, ms) => {
                self.on(key, |leg, sink| leg.send_digit(digit, ms, sink));
                self.schedule_leg(key, now);
            }
            Command::Close(key) => {
                if let Some(slot) = self.slot(key) {
                    self.close(slot, now);
                }
            }
            Command::Stats(key, reply) => self.on(key, |leg, _| {
                // The asker may have given up; then nobody needs the answer.
                let _ = reply.try_send(leg.stats());
            }),
        }
    }

    fn slot(&self, key: LegKey) -> Option<usize> {
        self.slots.get(&key).copied()
    }

    fn on(&mut self, key: LegKey, act: impl FnOnce(&mut Leg, &mut Sink)) {
        if let Some(slot) = self.slot(key)
            && let Some(Some(leg)) = self.legs.get_mut(slot)
        {
            act(leg, &mut self.sink);
        }
    }

    fn adopt(&mut self, leg: Box<Leg>, now: Instant) {
        let key = leg.key;
        let slot = self.free.pop().unwrap_or_else(|| {
            self.legs.push(None);
            self.legs.len() - 1
        });
        let token = u64::try_from(slot).unwrap_or(0) << 1;
        let added = self
            .poller
            .add_socket(&leg.sockets.rtp, token)
            .and_then(|()| self.poller.add_socket(&leg.sockets.rtcp, token | 1));
        if let Some(place) = self.legs.get_mut(slot) {
            *place = Some(leg);
        }
        self.slots.insert(key, slot);
        self.sink.tally.legs += 1;
        if let Err(error) = added {
            tracing::error!(%key, %error, "a media leg cannot be polled; it is closed");
            self.close(slot, now);
            return;
        }
        self.schedule_leg(key, now);
    }

    fn take(&mut self, slot: usize) -> Option<Box<Leg>> {
        self.unbridge(slot);
        let leg = self.legs.get_mut(slot)?.take()?;
        self.slots.remove(&leg.key);
        self.free.push(slot);
        self.sink.tally.legs -= 1;
        self.poller.remove_socket(&leg.sockets.rtp);
        self.poller.remove_socket(&leg.sockets.rtcp);
        Some(leg)
    }

    fn release(&mut self, key: LegKey, reply: &Sender<Box<Leg>>) {
        let Some(mut leg) = self.slot(key).and_then(|slot| self.take(slot)) else {
            return;
        };
        // Ticks of this worker mean nothing at the next one.
        leg.due = None;
        if reply.try_send(leg).is_err() {
            tracing::error!(%key, "a media leg was given away to nobody");
        }
    }

    fn close(&mut self, slot: usize, now: Instant) {
        let Some(mut leg) = self.take(slot) else {
            return;
        };
        leg.report(true, now, &self.clock);
        let (key, stats) = (leg.key, leg.stats());
        // Sockets and ports are free before anybody hears of it.
        drop(leg);
        self.sink.emit(Event::Closed { leg: key, stats });
    }

    fn bridge(&mut self, a: LegKey, b: LegKey) {
        let (Some(first), Some(second)) = (self.slot(a), self.slot(b)) else {
            return;
        };
        self.unbridge(first);
        self.unbridge(second);
        for (slot, peer) in [(first, second), (second, first)] {
            if let Some(Some(leg)) = self.legs.get_mut(slot) {
                leg.peer = Some(peer);
            }
        }
    }

    fn unbridge(&mut self, slot: usize) {
        let Some(Some(leg)) = self.legs.get_mut(slot) else {
            return;
        };
        if let Some(peer) = leg.peer.take()
            && let Some(Some(other)) = self.legs.get_mut(peer)
        {
            other.peer = None;
        }
    }

    /// Enters a leg that has something to send, unless it is entered already.
    fn schedule_leg(&mut self, key: LegKey, now: Instant) {
        let Some(slot) = self.slot(key) else { return };
        if let Some(Some(leg)) = self.legs.get_mut(slot)
            && leg.due.is_none()
            && leg.active()
        {
            let due = self.schedule.soon(now);
            leg.due = Some(due);
            self.schedule.enter(slot, due, now);
        }
    }

    fn run_ticks(&mut self, now: Instant) {
        if let Some(slots) = self.schedule.start_anew(now) {
            let due = self.schedule.soon(now);
            for slot in slots {
                if let Some(Some(leg)) = self.legs.get_mut(slot)
                    && let Some(before) = leg.due
                {
                    if before < due {
                        leg.stalled();
                    }
                    let due = before.max(due);
                    leg.due = Some(due);
                    self.schedule.enter(slot, due, now);
                }
            }
        }
        while let Some((tick, slots)) = self.schedule.take_due(now) {
            for slot in slots {
                self.run_tick(slot, tick, now);
            }
        }
    }

    fn run_tick(&mut self, slot: usize, tick: u64, now: Instant) {
        let Some(Some(leg)) = self.legs.get_mut(slot) else {
            return;
        };
        if leg.due != Some(tick) {
            return;
        }
        self.ticking = Some(slot);
        leg.tick(now, &self.rules, &mut self.send, &mut self.sink);
        leg.flush(&mut self.send, &mut self.sink);
        self.ticking = None;
        leg.due = leg.active().then(|| tick + leg.period());
        if let Some(due) = leg.due {
            self.schedule.enter_again(slot, due);
        }
    }

    /// After an abandoned round, which takes the ticks it had begun with it: enters whoever has
    /// something to send, and ends what the leg was playing in whose tick it was abandoned.
    fn enter_all(&mut self, now: Instant) {
        self.send.clear();
        if let Some(slot) = self.ticking.take()
            && let Some(Some(leg)) = self.legs.get_mut(slot)
        {
            leg.stop_playing(true, &mut self.sink);
        }
        self.schedule.clear();
        let soon = self.schedule.soon(now);
        for (slot, leg) in self.legs.iter_mut().enumerate() {
            let Some(leg) = leg else { continue };
            leg.due = leg
                .active()
                .then(|| leg.due.map_or(soon, |due| due.max(soon)));
            if let Some(due) = leg.due {
                self.schedule.enter(slot, due, now);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossbeam_channel::bounded;

    #[test]
    fn events_wait_in_order_and_the_overflow_is_counted() {
        let (sender, receiver) = bounded(2);
        let mut sink = Sink::new(sender);
        let event = |n: u128| Event::AudioBack { leg: LegKey(n) };
        let room = 2 + u128::try_from(limits::EVENT_BACKLOG).expect("small");
        for n in 0..room + 3 {
            sink.emit(event(n));
        }
        assert_eq!(sink.tally.events_dropped, 3);
        for n in 0..room {
            assert_eq!(receiver.try_recv(), Ok(event(n)));
            sink.retry();
        }
        assert!(receiver.try_recv().is_err());
        sink.emit(event(9));
        assert_eq!(receiver.try_recv(), Ok(event(9)));
    }
}
