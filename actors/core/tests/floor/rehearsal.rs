//! A day on the floor played by chance: callers come, are offered, talk and are wrapped up
//! after random times. Everything is drawn from one seed.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use strowger_core::call::LegRole;
use strowger_core::ids::{AgentId, CallId, LegId, QueueName};
use strowger_core::site::{NumberSpec, QueueSpec, Site, Strategy, Target};
use strowger_core::state::command::Reply;

use crate::harness::{World, agent_spec, site};

/// Numbers drawn from a seed (splitmix64).
pub struct Chance(u64);

impl Chance {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Above 0, up to 1.
    fn unit(&mut self) -> f64 {
        ((self.next() >> 11) + 1) as f64 / (1u64 << 53) as f64
    }

    /// A time with this spread, ms.
    pub fn time(&mut self, spread: Spread) -> u64 {
        let ms = match spread {
            Spread::Constant(mean) => mean,
            Spread::Exponential(mean) => -mean * self.unit().ln(),
            Spread::Lognormal(mean, variation) => {
                let sigma2 = (1.0 + variation * variation).ln();
                let (a, b) = (self.unit(), self.unit());
                let normal = (-2.0 * a.ln()).sqrt() * (std::f64::consts::TAU * b).cos();
                mean * (sigma2.sqrt() * normal - sigma2 / 2.0).exp()
            }
        };
        ms.round() as u64
    }
}

/// How times scatter about a mean, ms.
#[derive(Clone, Copy, Debug)]
pub enum Spread {
    Constant(f64),
    Exponential(f64),
    /// With the standard deviation as a part of the mean.
    Lognormal(f64, f64),
}

/// What is going to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrival(usize),
    Answer(CallId, LegId),
    /// The caller hangs up: tired of waiting, or after the talk.
    End(CallId),
}

/// A queue of the rehearsal.
#[derive(Clone, Copy, Debug)]
pub struct Line {
    pub strategy: Strategy,
    /// Pause between two callers.
    pub arrivals: Spread,
    pub talk: Spread,
    pub wrap_s: u64,
    /// How long callers wait before they give up; for ever when `None`.
    pub patience: Option<Spread>,
}

/// Who serves what: numbers of queues.
pub type Staff<'s> = &'s [&'s [usize]];

/// A call of the rehearsal.
#[derive(Clone, Debug)]
pub struct Told {
    pub queue: usize,
    pub entered: u64,
    /// Place at the entry.
    pub place: u64,
    /// The wait foretold at the entry, ms.
    pub expected_ms: Option<u64>,
    /// The true wait of who was served, ms.
    pub waited_ms: Option<u64>,
    /// Who answered.
    pub agent: Option<AgentId>,
}

/// The world and its diary.
pub struct Rehearsal {
    pub world: World,
    pub chance: Chance,
    lines: Vec<Line>,
    ring: Spread,
    due: BinaryHeap<Reverse<(u64, u64, Event)>>,
    number: u64,
    scheduled: BTreeSet<LegId>,
    /// Calls that are not over, in the order they came.
    pub live: BTreeSet<CallId>,
    pub calls: BTreeMap<CallId, Told>,
}

fn queue_name(n: usize) -> String {
    format!("q{n}")
}

pub fn agent_name(n: usize) -> String {
    format!("a{n:02}")
}

pub fn rehearsal_site(lines: &[Line], staff: Staff<'_>) -> Site {
    let mut site = site();
    site.queues.clear();
    site.numbers.clear();
    for (n, line) in lines.iter().enumerate() {
        let queue = QueueName::from(queue_name(n));
        let spec = QueueSpec::plain(line.strategy, 60_000, line.wrap_s * 1_000, 0);
        site.queues.insert(queue.clone(), spec);
        let number = NumberSpec {
            target: Target::Queue(queue),
            public: true,
            greeting: None,
            hours: None,
        };
        site.numbers.insert(format!("40{n}"), number);
    }
    site.agents.clear();
    for ((place, own), n) in (0u32..).zip(staff).zip(0..) {
        let queues: Vec<String> = own.iter().map(|n| queue_name(*n)).collect();
        let queues: Vec<&str> = queues.iter().map(String::as_str).collect();
        let name = agent_name(n);
        let mut spec = agent_spec(None, &queues, true);
        spec.contact = Some(format!("sip:{name}@127.0.0.91"));
        // Not the order of the names, so that ties by name show.
        spec.place = staff.len() as u32 - place;
        site.agents.insert(AgentId::from(name), spec);
    }
    site
}

impl Rehearsal {
    /// A floor on which agents let it ring so long before they answer.
    pub fn new(seed: u64, lines: &[Line], staff: Staff<'_>, ring: Spread) -> Self {
        let mut chance = Chance::new(seed);
        let world = World::with_site_unchecked(rehearsal_site(lines, staff));
        let mut due = BinaryHeap::new();
        for (n, line) in lines.iter().enumerate() {
            let at = world.now + chance.time(line.arrivals);
            due.push(Reverse((at, n as u64, Event::Arrival(n))));
        }
        Self {
            world,
            chance,
            lines: lines.to_vec(),
            ring,
            due,
            number: lines.len() as u64,
            scheduled: BTreeSet::new(),
            live: BTreeSet::new(),
            calls: BTreeMap::new(),
        }
    }

    fn at(&mut self, at: u64, event: Event) {
        self.number += 1;
        self.due.push(Reverse((at, self.number, event)));
    }

    /// When the next thing happens that is not the exchange's own.
    pub fn next_at(&self) -> u64 {
        self.due
            .peek()
            .map_or(self.world.now, |Reverse((at, ..))| *at)
    }

    /// Callers come in another rhythm from now on.
    pub fn set_arrivals(&mut self, queue: usize, arrivals: Spread) {
        self.lines[queue].arrivals = arrivals;
    }

    /// The next thing happens.
    pub fn step(&mut self) {
        let Some(Reverse((at, _, event))) = self.due.pop() else {
            return;
        };
        self.pass_to(at);
        match event {
            Event::Arrival(queue) => self.arrive(queue),
            Event::Answer(call, leg) => self.answer(call, leg),
            Event::End(call) => {
                if self.world.is_live(call) {
                    self.world.leaves(call);
                }
            }
        }
        self.look();
        self.world.log.clear();
    }

    /// Time passes; what the exchange does on the way is looked at in time.
    pub fn pass_to(&mut self, at: u64) {
        while let Some(due) = self.world.state(|state| state.next_deadline()) {
            if due.0 > at {
                break;
            }
            let ms = due.0.saturating_sub(self.world.now);
            self.world.advance(ms);
            self.look();
        }
        self.world.advance(at.saturating_sub(self.world.now));
    }

    fn arrive(&mut self, queue: usize) {
        let line = self.lines[queue];
        let next = self.world.now + self.chance.time(line.arrivals);
        self.at(next, Event::Arrival(queue));
        let reply = self.world.invite_at(1, "anonymous", &format!("40{queue}"));
        let Reply::Call { call, .. } = reply else {
            panic!("not admitted: {reply:?}");
        };
        let row = self.world.row(call);
        let told = Told {
            queue,
            entered: self.world.now,
            place: self
                .world
                .state(|state| state.position(&row))
                .unwrap_or_default(),
            expected_ms: row.visit.and_then(|visit| visit.expected_ms),
            waited_ms: None,
            agent: None,
        };
        self.world.run();
        self.calls.insert(call, told);
        self.live.insert(call);
        if let Some(patience) = line.patience {
            let at = self.world.now + self.chance.time(patience);
            self.at(at, Event::End(call));
        }
    }

    fn answer(&mut self, call: CallId, leg: LegId) {
        let live = self.world.is_live(call)
            && self
                .world
                .row(call)
                .leg(leg)
                .is_some_and(|leg| leg.is_live());
        if !live {
            return;
        }
        self.world.answers(call, leg);
        let row = self.world.row(call);
        let now = self.world.now;
        let Some(told) = self.calls.get_mut(&call) else {
            return;
        };
        told.waited_ms = Some(now - told.entered);
        told.agent = row.agent.clone();
        let talk = self.lines[told.queue].talk;
        // Who waits no more hangs up after the talk, not when patience would have ended.
        self.due
            .retain(|Reverse((_, _, event))| *event != Event::End(call));
        let ends = now + self.chance.time(talk);
        self.at(ends, Event::End(call));
    }

    /// New offers ring, and what is over is forgotten.
    fn look(&mut self) {
        let live: Vec<CallId> = self.live.iter().copied().collect();
        for call in live {
            if !self.world.is_live(call) {
                self.live.remove(&call);
                continue;
            }
            let row = self.world.row(call);
            if row.visit.is_none() || row.agent.is_some() {
                continue;
            }
            let ringing: Vec<LegId> = row
                .legs
                .iter()
                .filter(|leg| leg.is_live() && matches!(leg.role, LegRole::Agent(_)))
                .map(|leg| leg.id)
                .collect();
            for leg in ringing {
                if self.scheduled.insert(leg) {
                    let at = self.world.now + self.chance.time(self.ring);
                    self.at(at, Event::Answer(call, leg));
                }
            }
        }
    }
}
