//! What must hold, one check for each property.
//!
//! What rows say alone is checked after every entry ([`State::check`]); what rows and phones
//! say together is looked at each second of simulated time, and counts only while agreement
//! works: without a majority nobody can mend anything.

use std::collections::{BTreeMap, BTreeSet};

use strowger_core::call::{CallRow, LegRole, Seen, Stage};
use strowger_core::cdr::CdrRow;
use strowger_core::floor::agent::Activity;
use strowger_core::ids::{CallId, LegId};
use strowger_core::ports::{RowsRead, Table};
use strowger_core::state::{SharedState, State, decode_row};

use crate::phones::{Far, Progress, RINGS_MAX};
use crate::promises::Talks;
use crate::world::{Event, World};

/// Between two looks, ms.
const LOOK: u64 = 1_000;
/// What a node that can reach the majority knows is committed within this, ms: one attempt
/// of a proposal whose outcome stays uncertain because its leader died (2,000), the election
/// (1,300), two slow syncs (1,800), and the look that finds it.
const COMMIT_MAX: u64 = 6_000;
/// An agent may be at a call that a reachable node knows to have left him so long, ms.
const STUCK_MAX: u64 = COMMIT_MAX;
/// A call may live on when a reachable node knows that nobody is left in it so long, ms: the
/// same, and what we end ourselves is given up after 5 s on trunks.
const GHOST_MAX: u64 = COMMIT_MAX + 5_000;
/// Both where what the phone says has not got through: the time it goes on repeating a BYE
/// that nobody takes (32 s), or the calls of the cut-off node that took it have moved and it
/// tells what it knows when it is back (20 s).
const UNTOLD_MAX: u64 = 32_000 + COMMIT_MAX;
/// Both where whoever took what the phone said died with it: a session is refreshed each
/// 90 s, and what is ended then is cleared.
const UNHEARD_MAX: u64 = 90_000 + COMMIT_MAX + 5_000;
/// A phone may talk for a call that does not know it so long, ms: until it refreshes its
/// session, each 60 s, at whoever has its address by then, and is told.
const STRAY_MAX: u64 = 60_000 + COMMIT_MAX;
/// A phone may ring for a call that has gone for so long, ms: until it stops by itself, when
/// whoever was to take its INVITE back has died as well.
const RINGING_MAX: u64 = RINGS_MAX + 2_000;
/// Two calls may be at one agent's phone at once for so long, ms: the words to one who came
/// too late, and what is repeated until it arrives.
const DOUBLE_MAX: u64 = 15_000;
/// A deadline may be overdue for so long, ms.
const OVERDUE_MAX: u64 = 5_000;

/// What has been seen of one thing that must not last.
#[derive(Clone, Debug, Default)]
struct Lasting {
    since: BTreeMap<String, u64>,
    /// The longest that anything of the kind has lasted, ms.
    longest: u64,
}

/// What was found broken, and how close to its limits anything came.
#[derive(Debug, Default)]
pub struct Checks {
    broken: Option<(&'static str, String)>,
    stuck: Lasting,
    ghosts: Lasting,
    untold: Lasting,
    unheard: Lasting,
    strays: Lasting,
    ringing: Lasting,
    doubles: Lasting,
    overdue: Lasting,
    /// Faults so far.
    pub faults: u64,
    /// Calls in which two parties have talked.
    pub talked: u64,
    /// Calls in which they talk.
    pub talks: Talks,
}

impl Checks {
    /// True once something is broken.
    pub fn is_broken(&self) -> bool {
        self.broken.is_some()
    }

    /// A second passes that does not count.
    fn pause(&mut self) {
        let all = [
            &mut self.stuck,
            &mut self.ghosts,
            &mut self.untold,
            &mut self.unheard,
            &mut self.strays,
            &mut self.ringing,
            &mut self.doubles,
            &mut self.overdue,
        ];
        for since in all.into_iter().flat_map(|kind| kind.since.values_mut()) {
            *since += LOOK;
        }
    }

    /// The property that is broken, and how.
    pub fn broken(&self) -> Option<(&'static str, String)> {
        self.broken.clone()
    }

    /// How long anything lasted that must not last, ms, by property.
    pub fn longest(&self) -> [(&'static str, u64); 8] {
        [
            ("stuck-agent", self.stuck.longest),
            ("ghost-call", self.ghosts.longest),
            ("untold-end", self.untold.longest),
            ("unheard-end", self.unheard.longest),
            ("stray-phone", self.strays.longest),
            ("rings-in-vain", self.ringing.longest),
            ("double-ring", self.doubles.longest),
            ("overdue-timer", self.overdue.longest),
        ]
    }
}

impl World {
    /// Something is broken: the run ends here. The first finding stays.
    pub fn broken(&mut self, property: &'static str, why: String) {
        self.note(&format!("BROKEN {property}: {why}"));
        self.checks.broken.get_or_insert((property, why));
    }

    /// Checks what the rows say after an entry.
    pub fn check_state(&mut self, index: u64, state: &State) {
        if let Some(why) = state.check().into_iter().next() {
            self.broken("rows", format!("entry {index}: {why}"));
        }
        self.check_talks(index, state);
    }

    /// The state of the leader, while agreement works.
    fn agreed_state(&self) -> Option<SharedState> {
        let leader = self.agreement.leader?;
        let node = self.nodes.get(&leader)?;
        let life = node.life.as_ref().filter(|_| !node.frozen)?;
        let state = life.state.clone();
        let led = self.leads(leader) && self.is_electable(leader);
        (led && node.disk.applied == self.agreement.commit).then_some(state)
    }

    /// Looks at rows and phones together.
    pub fn look(&mut self) {
        self.after(LOOK, Event::Look);
        self.forget_fars();
        self.read_events();
        let Some(state) = self.agreed_state() else {
            // Nobody can mend anything now.
            return self.checks.pause();
        };
        let state = state.read();
        let mut found = Found::default();
        for call in state.calls.values() {
            self.look_at_call(call, &mut found);
        }
        for agent in state.agents.values() {
            let (Activity::Offered(call) | Activity::Talking(call)) = &agent.activity else {
                continue;
            };
            let Some(call) = state.calls.get(call) else {
                continue;
            };
            let role = LegRole::Agent(agent.id.clone());
            let legs = || call.legs.iter().filter(|leg| leg.role == role);
            // An agent kept for a customer who is dialled has no leg yet.
            let kept = matches!(call.stage, Stage::Dialling { .. }) && legs().next().is_none();
            if !kept && !legs().any(|leg| self.is_at_phone(leg.id)) {
                let left = legs().filter(|leg| leg.is_live()).map(|leg| leg.id);
                let what = format!("{} at {} of epoch {}", agent.id, call.id, call.epoch);
                found.put(self.knowing(left, "stuck"), what);
            }
        }
        let live: BTreeSet<LegId> = state
            .calls
            .values()
            .flat_map(|call| call.legs.iter().filter(|leg| leg.is_live()))
            .map(|leg| leg.id)
            .collect();
        self.look_at_phones(&live, &mut found);
        if let Some(due) = state.next_deadline()
            && due.0 + 1_000
                < state
                    .meta
                    .now
                    .0
                    .max(self.clock(self.agreement.leader.unwrap_or(0)))
        {
            found.put("overdue", due.to_string());
        }
        self.judge(found);
    }

    fn is_at_phone(&self, leg: LegId) -> bool {
        let mut fars = self.fars.values();
        fars.any(|far| far.leg == Some(leg) && far.is_live())
    }

    /// What it is called that rows count on far ends that have left: `known` where a node
    /// that can reach the leader has been told of each.
    fn knowing(&self, left: impl Iterator<Item = LegId>, known: &'static str) -> &'static str {
        let mut all = true;
        for leg in left {
            let far = self.fars.values().find(|far| far.leg == Some(leg));
            match far {
                Some(far) if far.unheard => return "unheard",
                Some(far) => all &= far.heard_by.is_some_and(|by| self.is_reachable(by)),
                // Nobody was ever rung.
                None => {}
            }
        }
        if all { known } else { "untold" }
    }

    /// True for a life that goes on and reaches the leader.
    fn is_reachable(&self, (node, life): (u64, u64)) -> bool {
        let own = self.nodes.get(&node).filter(|node| !node.frozen);
        let lives = own.and_then(|node| node.life.as_ref());
        let leader = self.agreement.leader.unwrap_or(0);
        lives.is_some_and(|own| own.incarnation == life)
            && (node == leader || self.is_linked(node, leader))
    }

    fn look_at_call(&self, call: &CallRow, found: &mut Found) {
        let live = call.legs.iter().filter(|leg| leg.is_live());
        if !live.clone().any(|leg| self.is_at_phone(leg.id)) {
            let left = live.map(|leg| leg.id);
            let what = format!("{} of epoch {} {:?}", call.id, call.epoch, call.stage);
            found.put(self.knowing(left, "ghost"), what);
        }
        // A caller who left is not to be served further.
        let left = call.caller().is_some_and(|leg| {
            leg.role == LegRole::Caller && leg.seen != Seen::Ended && !self.is_at_phone(leg.id)
        });
        if left && call.is_waiting() {
            let caller = call.caller().map(|leg| leg.id);
            let epoch = call.epoch;
            let what = format!("{} of epoch {epoch} waits without its caller", call.id);
            found.put(self.knowing(caller.into_iter(), "ghost"), what);
        }
    }

    fn look_at_phones(&self, live: &BTreeSet<LegId>, found: &mut Found) {
        let mut at: BTreeMap<&str, BTreeSet<LegId>> = BTreeMap::new();
        for (number, far) in self.fars.iter().filter(|(_, far)| far.is_live()) {
            let known = far.leg.is_some_and(|leg| live.contains(&leg));
            if !known && far.progress >= Progress::Answered {
                found.put("stray", format!("far end {number} of {:?}", far.leg));
            }
            if !known && !far.incoming && far.progress < Progress::Answered {
                found.put("ringing", format!("far end {number} of {:?}", far.leg));
            }
            if far.phone.contains("agent")
                && let Some(leg) = far.leg
            {
                at.entry(&far.phone).or_default().insert(leg);
            }
        }
        for (phone, legs) in at.into_iter().filter(|(_, legs)| legs.len() > 1) {
            found.put("double", format!("{phone}: {legs:?}"));
        }
    }

    /// Far ends that have been over for long are of no interest.
    fn forget_fars(&mut self) {
        let now = self.now();
        let old = |far: &Far| {
            let over = !far.is_live() && far.over_at > 0 && now > far.over_at + 600_000;
            let never = !far.is_live() && far.over_at == 0 && now > far.began + 600_000;
            over || never
        };
        self.fars.retain(|_, far| !old(far));
        if self.far_of.len() > 4_096 {
            let fars = &self.fars;
            self.far_of.retain(|_, far| fars.contains_key(far));
        }
    }

    fn judge(&mut self, mut found: Found) {
        let now = self.now();
        let checks = &mut self.checks;
        let kinds: [(&'static str, &'static str, &mut Lasting, u64); 8] = [
            ("stuck", "stuck-agent", &mut checks.stuck, STUCK_MAX),
            ("ghost", "ghost-call", &mut checks.ghosts, GHOST_MAX),
            ("untold", "untold-end", &mut checks.untold, UNTOLD_MAX),
            ("unheard", "unheard-end", &mut checks.unheard, UNHEARD_MAX),
            ("stray", "stray-phone", &mut checks.strays, STRAY_MAX),
            ("ringing", "rings-in-vain", &mut checks.ringing, RINGING_MAX),
            ("double", "double-ring", &mut checks.doubles, DOUBLE_MAX),
            ("overdue", "overdue-timer", &mut checks.overdue, OVERDUE_MAX),
        ];
        let mut broken = None;
        for (kind, property, lasting, most) in kinds {
            let what = found.0.remove(kind).unwrap_or_default();
            lasting.since.retain(|one, _| what.contains(one));
            for one in what {
                let since = *lasting.since.entry(one.clone()).or_insert(now);
                lasting.longest = lasting.longest.max(now - since);
                if now - since > most {
                    broken = Some((property, format!("{one} for {} ms", now - since)));
                }
            }
        }
        if let Some((property, why)) = broken {
            self.broken(property, why);
        }
    }

    /// True when nothing is left to be done: no call, no callback, no live far end.
    pub fn is_quiet(&self) -> bool {
        let Some(state) = self.agreed_state() else {
            return false;
        };
        let state = state.read();
        let fars = self.fars.values().all(|far| !far.is_live());
        let floor = state.calls.is_empty()
            && state.callbacks.is_empty()
            && state.leftovers.is_empty()
            && state.places.is_empty();
        fars && floor && self.is_level()
    }

    /// True when every node runs and has applied all that is committed.
    pub fn is_level(&self) -> bool {
        let commit = self.agreement.commit;
        let mut nodes = self.nodes.values();
        nodes.all(|node| node.life.is_some() && node.disk.applied == commit)
    }

    /// What is still going on, in words.
    pub fn going_on(&self) -> String {
        let Some(state) = self.agreed_state() else {
            let nodes = self.nodes.iter();
            let nodes: Vec<_> = nodes.map(|(n, node)| (n, node.disk.applied)).collect();
            let (leader, commit) = (self.agreement.leader, self.agreement.commit);
            return format!("leader {leader:?}, committed {commit}, applied {nodes:?}");
        };
        let state = state.read();
        let fars = self.fars.iter().filter(|(_, far)| far.is_live());
        let fars: Vec<_> = fars.map(|(n, far)| (n, &far.phone, far.progress)).collect();
        let calls: Vec<_> = state.calls.values().map(|c| (c.id, &c.stage)).collect();
        let agents: Vec<_> = state
            .agents
            .values()
            .map(|agent| (&agent.id, &agent.activity, &agent.paused))
            .collect();
        format!(
            "calls {calls:?}, callbacks {:?}, leftovers {}, places {}, far ends {fars:?}, agents {agents:?}",
            state
                .callbacks
                .values()
                .map(|row| &row.state)
                .collect::<Vec<_>>(),
            state.leftovers.len(),
            state.places.len()
        )
    }

    /// Checks what must be true when everything is over.
    pub fn check_end(&mut self) {
        let Some(state) = self.agreed_state() else {
            return self.broken("end", String::from("nobody leads"));
        };
        let Some(first) = self.nodes.values().next() else {
            return;
        };
        let disk = first.disk.clone();
        let differs = self
            .nodes
            .iter()
            .find(|(_, node)| !node.disk.has_same_rows(&disk));
        if let Some((number, _)) = differs {
            let why = format!("rows of node {number} differ from those of node 1");
            return self.broken("rows-equal", why);
        }
        self.check_events();
        let mut records: BTreeMap<CallId, u64> = BTreeMap::new();
        for (_, value) in disk.scan(Table::Cdr, &[], None, usize::MAX) {
            if let Some(record) = decode_row::<CdrRow>(&value) {
                *records.entry(record.call).or_default() += 1;
                self.checks.talked += u64::from(record.talk_ms > 0);
            }
        }
        let twice = records.iter().find(|(_, count)| **count > 1);
        if let Some((call, count)) = twice {
            let why = format!("{call} left {count} records");
            return self.broken("one-record", why);
        }
        let without = self.arrived.keys().find(|call| !records.contains_key(call));
        if let Some(call) = without {
            let why = format!("{call} left no record");
            return self.broken("one-record", why);
        }
        let leaked = self.nodes.iter().find_map(|(number, node)| {
            let legs = &node.life.as_ref()?.legs;
            let (leg, _) = legs.iter().find(|(_, entry)| !entry.gone)?;
            Some(format!("node {number} still has {leg}"))
        });
        if let Some(why) = leaked {
            return self.broken("leaked-leg", why);
        }
        // What stays in the table of deadlines: old events, and agents' own.
        let agents = state.read().agents.len();
        let timers = disk.scan(Table::Timer, &[], None, usize::MAX).len();
        if timers > 1 + agents {
            let why = format!("{timers} deadlines stand when nothing is going on");
            self.broken("orphan-timer", why);
        }
    }
}

/// What was found at one look, by kind.
#[derive(Default)]
struct Found(BTreeMap<&'static str, BTreeSet<String>>);

impl Found {
    fn put(&mut self, kind: &'static str, what: String) {
        self.0.entry(kind).or_default().insert(what);
    }
}
