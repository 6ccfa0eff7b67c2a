//! One node: a disk that stays, and lives that come and go. A life runs the exchange's own
//! machine, actors, steward and follower; what the daemon does with sockets is done here with
//! the world's messages.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use strowger_actors::call::CallContext;
use strowger_actors::desk::Desk;
use strowger_actors::follow::Follower;
use strowger_actors::gate::Gate;
use strowger_actors::steward::{LOOK, Standing, Steward};
use strowger_actors::switchboard::Switchboard;
use strowger_actors::wake::WakeHub;
use strowger_core::ids::{LegId, NodeId};
use strowger_core::ports::{Machine, Outcome, Proposal, ProposeFuture, Proposer, RequestId};
use strowger_core::state::command::Command;
use strowger_core::state::{ExchangeMachine, SharedState};
use strowger_core::time::TimeMs;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::agreement::{Answer, Message, Origin};
use crate::disk::Disk;
use crate::exchange::{Entry, SimLegs};
use crate::liveness::BootTime;
use crate::liveness::lease::Leases;
use crate::site;
use crate::world::{Event, Sim, World};

/// One attempt may take this long before its outcome counts as uncertain, as in the cluster.
const ATTEMPT_MAX: Duration = Duration::from_secs(2);
/// Between two attempts, as in the cluster.
const RETRY_PAUSE: Duration = Duration::from_millis(20);
/// How soon the others notice that a process is gone, ms.
const NOTICED: u64 = 20;
/// Between two looks at addresses and leftovers without a wake-up.
const SETTLE: Duration = Duration::from_secs(1);
/// Calls a node of the simulator admits at most.
const CALLS_MAX: usize = 500;

/// A node.
pub struct Node {
    /// Rows and how far they have come.
    pub disk: Disk,
    /// Number of its last life.
    pub incarnation: u64,
    /// The present life.
    pub life: Option<Life>,
    /// Its process is stopped.
    pub frozen: bool,
    /// What waits for it to go on.
    pub held: Vec<Event>,
    /// Its clock is so far from the true one, ms.
    pub clock_offset_ms: i64,
    /// Its disk is slow until then.
    pub slow_until: u64,
    died_at: u64,
    /// Its host is silent, too: nobody is told that the process is gone.
    pub silent: bool,
}

impl Node {
    /// A node that has not lived yet.
    pub fn new(_number: u64) -> Self {
        Self {
            disk: Disk::default(),
            incarnation: 0,
            life: None,
            frozen: false,
            held: Vec::new(),
            clock_offset_ms: 0,
            slow_until: 0,
            died_at: 0,
            silent: false,
        }
    }

    /// True once the death of its process has been noticed by whoever watches it.
    pub fn is_noticed(&self, now: u64) -> bool {
        !self.silent && now >= self.died_at + NOTICED
    }
}

/// One life of a node.
pub struct Life {
    /// Its number.
    pub incarnation: u64,
    /// The exchange's state machine.
    pub machine: ExchangeMachine,
    /// The state as its readers share it.
    pub state: SharedState,
    /// Leases, the cluster's own code.
    pub leases: Leases,
    /// Call actors.
    pub switchboard: Option<Switchboard>,
    /// Admission.
    pub gate: Gate,
    /// Where commands go.
    pub desk: Desk,
    /// Service addresses bound.
    pub bound: BTreeSet<IpAddr>,
    /// Legs.
    pub legs: BTreeMap<LegId, Entry>,
    /// Leftovers told.
    pub told: BTreeSet<LegId>,
    /// Leftovers whose far ends have answered.
    pub released: BTreeSet<LegId>,
    /// INVITEs whose calls are being committed, by far end.
    pub admitting: BTreeSet<u64>,
    /// INVITEs that were refused, and how: who repeats one hears the same again.
    pub refused: BTreeMap<u64, Refusal>,
    waits: BTreeMap<u64, oneshot::Sender<Answer>>,
    tokens: u64,
    sequence: u64,
    tasks: Vec<AbortHandle>,
}

/// A life of a node, as its tasks know it.
#[derive(Clone)]
pub struct Lived {
    /// The world.
    pub sim: Sim,
    /// The node.
    pub node: u64,
    /// The life.
    pub life: u64,
}

impl Lived {
    /// Does something with this life, unless it is over.
    pub fn with<T>(&self, act: impl FnOnce(&mut Life) -> T) -> Option<T> {
        self.sim.world().life(self.node, self.life).map(act)
    }
}

impl World {
    /// A life, while it lasts.
    pub fn life(&mut self, node: u64, life: u64) -> Option<&mut Life> {
        let own = self.nodes.get_mut(&node)?.life.as_mut()?;
        (own.incarnation == life).then_some(own)
    }

    /// What became of an attempt to propose.
    pub fn attempt_over(&mut self, origin: Origin, answer: Answer) {
        if let Some(life) = self.life(origin.node, origin.life)
            && let Some(tell) = life.waits.remove(&origin.token)
        {
            // Whoever proposed may have given up.
            let _ = tell.send(answer);
        }
    }

    /// A process ends without a word. `power` also takes rows that were not synced.
    pub fn kill(&mut self, number: u64, power: bool, silent: bool) {
        let now = self.now();
        let unsynced = self
            .nodes
            .get(&number)
            .map_or(0, |node| node.disk.unsynced());
        let lost = if power {
            self.chance.within(0, u64::try_from(unsynced).unwrap_or(0))
        } else {
            0
        };
        let Some(node) = self.nodes.get_mut(&number) else {
            return;
        };
        let Some(life) = node.life.take() else {
            return;
        };
        node.disk.lose(usize::try_from(lost).unwrap_or(0));
        (node.died_at, node.silent, node.frozen) = (now, silent, false);
        node.held.clear();
        for task in &life.tasks {
            task.abort();
        }
        if let Some(switchboard) = &life.switchboard {
            switchboard.abandon();
        }
        // What it was told last may die with it.
        for far in life.legs.values().filter_map(|entry| entry.far) {
            if let Some(far) = self.fars.get_mut(&far).filter(|far| !far.is_live()) {
                far.unheard = true;
            }
        }
        let applied = node.disk.applied;
        self.agreement.leader.take_if(|leader| *leader == number);
        if let Some(member) = self.agreement.members.get_mut(&number) {
            member.leader = None;
            member.commit = applied;
        }
        self.note(&format!("node {number} dies, rows lost of {lost} entries"));
    }

    /// A process stops for a while.
    pub fn freeze(&mut self, number: u64, ms: u64) {
        if let Some(node) = self.nodes.get_mut(&number)
            && node.life.is_some()
            && !node.frozen
        {
            node.frozen = true;
            self.note(&format!("node {number} stands still for {ms} ms"));
            self.after(ms, Event::Thaw(number));
        }
    }

    /// It goes on: everything that waited for it comes at once.
    pub fn thaw(&mut self, number: u64) {
        let Some(node) = self.nodes.get_mut(&number) else {
            return;
        };
        if !std::mem::take(&mut node.frozen) {
            return;
        }
        let held = std::mem::take(&mut node.held);
        self.note(&format!(
            "node {number} goes on with {} waiting",
            held.len()
        ));
        for event in held {
            self.after(0, event);
        }
    }
}

/// How an INVITE was refused.
pub struct Refusal {
    pub status: u16,
    /// Set once the far end has acknowledged it.
    pub known: Arc<AtomicBool>,
}

/// The way of one life's commands to agreement.
struct Door(Lived);

impl Door {
    async fn attempt(&self, proposal: Proposal, until: Instant) -> Option<Answer> {
        let answer = {
            let mut world = self.0.sim.world();
            let (tell, answer) = oneshot::channel();
            let life = world.life(self.0.node, self.0.life)?;
            life.tokens += 1;
            let origin = Origin {
                node: self.0.node,
                life: self.0.life,
                token: life.tokens,
            };
            life.waits.insert(origin.token, tell);
            let message = Message::Propose(origin, proposal);
            world.after(0, Event::Agreement(self.0.node, message));
            answer
        };
        self.0.sim.stirred.notify_one();
        let until = until.min(Instant::now() + ATTEMPT_MAX);
        match tokio::time::timeout_at(until, answer).await {
            Ok(Ok(answer)) => Some(answer),
            _ => None,
        }
    }
}

impl Door {
    async fn propose_as(&self, proposal: Proposal, deadline: Duration) -> Outcome {
        let until = Instant::now() + deadline;
        let request = proposal.request;
        let mut perhaps = false;
        loop {
            match self.attempt(proposal.clone(), until).await {
                Some(Answer::Applied(reply)) => return Outcome::Committed(reply),
                Some(Answer::NotAppended) => {}
                None => perhaps = true,
            }
            if Instant::now() + RETRY_PAUSE >= until {
                return if perhaps {
                    Outcome::Unknown(request)
                } else {
                    Outcome::NoQuorum
                };
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }
}

impl Proposer for Door {
    fn propose(&self, command: Vec<u8>, deadline: Duration) -> ProposeFuture<'_> {
        Box::pin(async move {
            let sequence = self.0.with(|life| {
                life.sequence += 1;
                life.sequence
            });
            let Some(sequence) = sequence else {
                return std::future::pending().await;
            };
            let request = RequestId {
                node: self.0.node,
                incarnation: self.0.life,
                sequence,
            };
            self.propose_as(Proposal { request, command }, deadline)
                .await
        })
    }

    fn propose_again(
        &self,
        request: RequestId,
        command: Vec<u8>,
        deadline: Duration,
    ) -> ProposeFuture<'_> {
        Box::pin(async move {
            match self
                .propose_as(Proposal { request, command }, deadline)
                .await
            {
                Outcome::NoQuorum => Outcome::Unknown(request),
                outcome => outcome,
            }
        })
    }
}

/// The standing of one life in the cluster.
struct Member(Lived);

impl Standing for Member {
    fn incarnation(&self) -> u64 {
        self.0.life
    }

    fn lease_valid(&self) -> bool {
        let world = self.0.sim.world();
        !world.is_frozen(self.0.node) && world.has_lease(self.0.node)
    }

    fn leads(&self) -> bool {
        self.0.sim.world().leads(self.0.node)
    }

    fn leads_up_to_date(&self) -> bool {
        self.0.sim.world().leads_up_to_date(self.0.node)
    }

    fn over(&self, node: NodeId) -> Option<u64> {
        let mut world = self.0.sim.world();
        let over = world.surely_over(self.0.node, node.0);
        if over.is_some() {
            world.check_over(self.0.node, node.0);
        }
        over
    }

    fn now(&self) -> TimeMs {
        TimeMs(self.0.sim.world().clock(self.0.node))
    }

    fn stand_aside(&self, index: u64) {
        let why = format!("node {} was told that it is wrong at {index}", self.0.node);
        self.0.sim.world().broken("state-hash", why);
    }
}

/// Begins a life of a node.
pub async fn start(sim: &Sim, number: u64) {
    let (state, wakes, context, lived) = {
        let mut world = sim.world();
        let lease = Duration::from_millis(500);
        let now = world.now();
        let Some(node) = world.nodes.get_mut(&number) else {
            return;
        };
        if node.life.is_some() {
            return;
        }
        node.incarnation += 1;
        node.died_at = now;
        let lived = Lived {
            sim: sim.clone(),
            node: number,
            life: node.incarnation,
        };
        let (state, wakes) = (SharedState::default(), WakeHub::default());
        let mut machine = ExchangeMachine::new(state.clone(), Box::new(wakes.clone()));
        machine.restore(&node.disk);
        let leases = Leases::new(lease);
        // What an older life has confirmed is not known.
        leases.unsure(BootTime::at(now));
        let desk = Desk::new(Arc::new(Door(lived.clone())));
        let context = CallContext {
            state: state.clone(),
            desk: desk.clone(),
            legs: Arc::new(SimLegs(lived.clone())),
            node: NodeId(number),
        };
        node.life = Some(Life {
            incarnation: node.incarnation,
            machine,
            state: state.clone(),
            leases,
            switchboard: None,
            gate: Gate::new(CALLS_MAX),
            desk,
            bound: BTreeSet::new(),
            legs: BTreeMap::new(),
            told: BTreeSet::new(),
            released: BTreeSet::new(),
            admitting: BTreeSet::new(),
            refused: BTreeMap::new(),
            waits: BTreeMap::new(),
            tokens: 0,
            sequence: 0,
            tasks: Vec::new(),
        });
        let life = node.incarnation;
        world.note(&format!("node {number} begins life {life}"));
        (state, wakes, context, lived)
    };
    let desk = context.desk.clone();
    let Ok(switchboard) = Switchboard::start(NodeId(number), context).await else {
        return;
    };
    let steward = Steward {
        node: NodeId(number),
        address: site::node_address(number),
        version: "simulated",
        state: state.clone(),
        desk,
        standing: Arc::new(Member(lived.clone())),
    };
    let gate = lived.with(|life| life.gate.clone());
    let Some(gate) = gate else { return };
    let follower = Follower {
        node: NodeId(number),
        incarnation: lived.life,
        state,
        switchboard: switchboard.clone(),
        gate,
    };
    let tasks = vec![
        tokio::spawn(keep(steward.clone())).abort_handle(),
        tokio::spawn(steward.clone().tick(wakes.clone())).abort_handle(),
        tokio::spawn(steward.compare()).abort_handle(),
        tokio::spawn(follower.clone().dispatch(wakes.clone())).abort_handle(),
        tokio::spawn(follower.sweep()).abort_handle(),
        tokio::spawn(settle(lived.clone(), wakes)).abort_handle(),
        tokio::spawn(release(lived.clone())).abort_handle(),
    ];
    lived.with(|life| {
        life.switchboard = Some(switchboard);
        life.tasks = tasks;
    });
}

/// The steward's round, as the daemon makes it without events.
async fn keep(steward: Steward) {
    loop {
        steward.announce().await;
        steward.declare().await;
        tokio::time::sleep(LOOK).await;
    }
}

/// Keeps the bound addresses equal to the held ones, and tells far ends of lost calls.
async fn settle(lived: Lived, wakes: WakeHub) {
    let mut changed = wakes.cluster();
    loop {
        {
            let mut world = lived.sim.world();
            if !world.is_frozen(lived.node) {
                world.settle_addresses(lived.node, lived.life);
                world.tell_leftovers(lived.node, lived.life);
            }
        }
        lived.sim.stirred.notify_one();
        tokio::select! {
            biased;
            _ = changed.changed() => {}
            () = tokio::time::sleep(SETTLE) => {}
        }
    }
}

/// Reports far ends of lost calls that have answered.
async fn release(lived: Lived) {
    loop {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let waiting = lived.with(|life| {
            let state = life.state.read();
            life.released
                .retain(|leg| state.leftovers.contains_key(leg));
            (
                life.released.iter().copied().collect::<Vec<_>>(),
                life.desk.clone(),
            )
        });
        let Some((legs, desk)) = waiting else { return };
        if !legs.is_empty() {
            // Tried again until the rows have gone.
            let _ = desk
                .propose(&Command::Released { legs }, Duration::from_secs(1))
                .await;
        }
    }
}

impl World {
    fn settle_addresses(&mut self, number: u64, life: u64) {
        let Some(own) = self.life(number, life) else {
            return;
        };
        let held: BTreeSet<IpAddr> = {
            let state = own.state.read();
            let node = state.nodes.get(&NodeId(number));
            let up = node.is_some_and(|node| node.up && node.incarnation == life);
            let rows = state.addresses.values();
            rows.filter(|row| up && row.holder == Some(NodeId(number)))
                .map(|row| row.address)
                .collect()
        };
        let before = std::mem::replace(&mut own.bound, held.clone());
        for address in before.difference(&held) {
            self.note(&format!("node {number} lets {address} go"));
            if self.route.get(address) == Some(&number) {
                self.route.remove(address);
                // Whoever else has it announces it again.
                let mut others = self.nodes.keys().copied();
                if let Some(other) = others.find(|other| self.has_bound(*other, *address)) {
                    self.route.insert(*address, other);
                }
            }
        }
        for address in &held {
            let fresh = !before.contains(address);
            if fresh {
                self.note(&format!("node {number} takes {address}"));
            }
            let answers = self.route.get(address).copied();
            // Rows may be old: a holder that may act hears of the newcomer and repeats its own
            // announcement, one that may not yields (`telephony::interface` of the daemon).
            let stays = answers.is_some_and(|other| {
                self.has_bound(other, *address) && !self.is_frozen(other) && self.has_lease(other)
            });
            if !stays && (fresh || self.has_lease(number)) {
                self.route.insert(*address, number);
            }
        }
    }

    /// True when a life of a node serves an address.
    pub fn has_bound(&self, node: u64, address: IpAddr) -> bool {
        let life = self.nodes.get(&node).and_then(|node| node.life.as_ref());
        life.is_some_and(|life| life.bound.contains(&address))
    }
}
