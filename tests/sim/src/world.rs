//! The world of one run: everything outside the exchange's own code, moved by one queue of
//! events on virtual time.
//!
//! One thread, one lock, one source of chance. The exchange's code runs as tasks on a paused
//! clock between the events; it reaches the world through its ports only. Events that concern
//! a frozen node wait for it, as a stopped process finds its sockets full when it goes on.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use strowger_core::ids::{CallId, LegId};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::agreement::{Agreement, Message};
use crate::chance::Chance;
use crate::checks::Checks;
use crate::exchange::FromExchange;
use crate::faults::Fault;
use crate::node::Node;
use crate::phones::{Far, FromPhone, Habit, Phone};
use crate::plan::Plan;
use crate::readers::Readers;
use crate::trace::Trace;

/// What happens next.
#[derive(Clone, Debug)]
pub enum Event {
    /// A message of agreement reaches a node, or a step of its own is done.
    Agreement(u64, Message),
    /// The cluster looks after itself: heartbeats, leases, elections.
    Heartbeat,
    /// A node's process begins.
    Start(u64),
    /// A frozen node goes on.
    Thaw(u64),
    /// A fault happens.
    Fault(Fault),
    /// Somebody calls.
    Call,
    /// An operator or agent does something.
    Operate,
    /// A phone's message reaches the exchange, or is repeated.
    ToExchange(u64, FromPhone, u32),
    /// It reaches whoever answers at the far end's service address.
    Arrive(u64, FromPhone),
    /// It reaches this node, forwarded by another one or not.
    AtNode(u64, u64, FromPhone, bool),
    /// A message of one life of a node leaves, or is repeated.
    Leave(Sender, FromExchange, u32),
    /// It reaches the phone.
    ToPhone(u64, FromExchange),
    /// Something a phone meant to do is due.
    Habit(u64, Habit),
    /// A duty of a life's signalling is due.
    Duty(Sender, Duty),
    /// Everything is looked at.
    Look,
}

/// A life of a node and one of its legs.
#[derive(Clone, Copy, Debug)]
pub struct Sender {
    /// The node.
    pub node: u64,
    /// Its life.
    pub life: u64,
    /// The leg.
    pub leg: LegId,
    /// The far end.
    pub far: u64,
}

/// What signalling and media of a node do by the clock.
#[derive(Clone, Debug)]
pub enum Duty {
    /// A sound has come to its end.
    Played(u64),
    /// A leg that was to end has had time enough.
    Force,
    /// Our 200 is repeated.
    Repeat(u32),
    /// The session is refreshed.
    Refresh,
    /// The words to an agent who came too late are over.
    Parted,
    /// An unrouted message looks for its leg again.
    Seek(FromPhone, u32),
    /// An outgoing leg has heard nothing at all for as long as its trunk allows.
    Silent,
    /// An INVITE has not been answered in any way.
    Unanswered,
    /// Who hung up is answered, whether that is committed or not.
    Parting,
    /// Nothing of a leg that is over is of interest any more.
    Drop,
}

/// Everything outside the exchange's code.
pub struct World {
    /// What is to happen in this run.
    pub plan: Plan,
    /// The beginning of time.
    pub began: Instant,
    /// Chance.
    pub chance: Chance,
    /// What happened.
    pub trace: Trace,
    /// Agreement.
    pub agreement: Agreement,
    /// Nodes by number.
    pub nodes: BTreeMap<u64, Node>,
    /// Directions in which nothing gets through.
    pub cuts: BTreeMap<(u64, u64), u64>,
    /// Who answers at a service address.
    pub route: BTreeMap<IpAddr, u64>,
    /// Phones of agents, extensions and trunks.
    pub phones: BTreeMap<String, Phone>,
    /// Far ends by number.
    pub fars: BTreeMap<u64, Far>,
    /// The far end of each leg that was ever rung.
    pub far_of: BTreeMap<LegId, u64>,
    /// Actors waiting for what becomes of the admission of a caller.
    pub admissions: VecDeque<(u64, u64, u64)>,
    /// What has been found broken.
    pub checks: Checks,
    /// Who follows the events.
    pub readers: Readers,
    /// Faults and new callers have come to an end.
    pub calm: bool,
    /// Calls that were admitted.
    pub arrived: BTreeMap<CallId, u64>,
    /// Last number given to a far end.
    pub last_far: u64,
    queue: BTreeMap<(u64, u64), Event>,
    sequence: u64,
}

/// The world, shared by the tasks of every node.
#[derive(Clone)]
pub struct Sim {
    world: Arc<Mutex<World>>,
    /// Something earlier than before is to happen.
    pub stirred: Arc<Notify>,
}

impl Sim {
    /// The beginning of the run that `plan` describes.
    pub fn new(plan: Plan) -> Self {
        let world = World {
            began: Instant::now(),
            chance: Chance::new(plan.seed),
            trace: Trace::new(plan.whole_trace),
            agreement: Agreement::new(plan.nodes),
            nodes: (1..=plan.nodes).map(|n| (n, Node::new(n))).collect(),
            cuts: BTreeMap::new(),
            route: BTreeMap::new(),
            phones: BTreeMap::new(),
            fars: BTreeMap::new(),
            far_of: BTreeMap::new(),
            admissions: VecDeque::new(),
            checks: Checks::default(),
            readers: Readers::new(plan.seed),
            calm: false,
            arrived: BTreeMap::new(),
            last_far: 0,
            queue: BTreeMap::new(),
            sequence: 0,
            plan,
        };
        Self {
            world: Arc::new(Mutex::new(world)),
            stirred: Arc::new(Notify::new()),
        }
    }

    /// The world. Never held while anything waits.
    pub fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock()
    }

    /// Plays events until `until`, or until something is found broken.
    pub async fn play(&self, until: u64) {
        loop {
            let (now, next, broken) = {
                let world = self.world();
                (world.now(), world.next_at(), world.checks.is_broken())
            };
            if now >= until || broken {
                return;
            }
            let at = next.unwrap_or(until).min(until);
            if at > now {
                let began = self.world().began;
                tokio::select! {
                    biased;
                    () = self.stirred.notified() => {}
                    () = tokio::time::sleep_until(began + Duration::from_millis(at)) => {}
                }
                continue;
            }
            let event = self.world().pop();
            if let Some(event) = event {
                self.handle(event).await;
            }
        }
    }

    async fn handle(&self, event: Event) {
        match event {
            Event::Start(node) => crate::node::start(self, node).await,
            Event::Agreement(node, message) => self.world().agreement_message(node, message),
            Event::Heartbeat => self.world().heartbeat(),
            Event::Thaw(node) => self.world().thaw(node),
            Event::Fault(fault) => self.world().fault(fault),
            Event::Call => self.world().somebody_calls(),
            Event::Operate => crate::operators::operate(self),
            Event::ToExchange(far, message, attempt) => {
                self.world().send(far, message, attempt);
            }
            Event::Arrive(far, message) => self.world().arrive(far, &message),
            Event::AtNode(node, far, message, forwarded) => {
                self.world().arrive_at(node, far, &message, forwarded);
            }
            Event::Leave(sender, message, attempt) => self.world().leave(sender, message, attempt),
            Event::ToPhone(far, message) => self.world().reach_phone(far, message),
            Event::Habit(far, habit) => self.world().habit(far, habit),
            Event::Duty(sender, duty) => self.world().duty(sender, duty),
            Event::Look => self.world().look(),
        }
        crate::admission::begin(self);
    }
}

impl World {
    /// Virtual time, ms since the beginning.
    pub fn now(&self) -> u64 {
        let since = Instant::now().duration_since(self.began);
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    /// Something happens in `ms` milliseconds.
    pub fn after(&mut self, ms: u64, event: Event) {
        let at = self.now() + ms;
        self.sequence += 1;
        self.queue.insert((at, self.sequence), event);
    }

    /// When the next thing happens.
    fn next_at(&self) -> Option<u64> {
        self.queue.keys().next().map(|(at, _)| *at)
    }

    fn pop(&mut self) -> Option<Event> {
        self.queue.pop_first().map(|(_, event)| event)
    }

    /// Adds a line to the trace.
    pub fn note(&mut self, text: &str) {
        let now = self.now();
        self.trace.line(now, text);
    }

    /// True when what `from` sends reaches `to`.
    pub fn is_open(&self, from: u64, to: u64) -> bool {
        let until = self.cuts.get(&(from, to));
        until.is_none_or(|until| *until <= self.now())
    }

    /// True when both hear each other.
    pub fn is_linked(&self, a: u64, b: u64) -> bool {
        self.is_open(a, b) && self.is_open(b, a)
    }

    /// How long a message between nodes travels, ms.
    pub fn travel(&mut self) -> u64 {
        self.chance.within(1, 3)
    }
}
