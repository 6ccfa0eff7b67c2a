//! What the tasks of one node share, and the tasks that keep it up to date.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use openraft::type_config::async_runtime::watch::WatchReceiver;
use parking_lot::Mutex;
use strowger_core::ports::{IncarnationNumber, NodeNumber};
use tokio::sync::{broadcast, mpsc};
use tokio_util::sync::CancellationToken;

use crate::clock::SteadyClock;
use crate::cluster::PeerHandler;
use crate::config::ClusterConfig;
use crate::event::{ClusterEvent, ClusterFigures, Liveness, StandAside};
use crate::identity::Identity;
use crate::limits;
use crate::liveness::clocks::Clocks;
use crate::liveness::death::Watcher;
use crate::liveness::election::Position;
use crate::liveness::lease::{LeaseAnswer, LeaseRequest, Leases};
use crate::liveness::{BootTime, Peers, succession};
use crate::propose::Waiting;
use crate::raft::log::LogStore;
use crate::raft::machine::{Applier, ApplyOutputs};
use crate::raft::{Raft, wall_clock_ms};
use crate::store::Store;
use crate::store::keys::GroupId;
use crate::transport::Transport;
use crate::transport::wire::Kind;

/// Shared by the tasks of one node.
pub struct Core {
    pub config: ClusterConfig,
    pub identity: Arc<Identity>,
    pub node: NodeNumber,
    pub incarnation: IncarnationNumber,
    pub group: GroupId,
    pub store: Arc<Store>,
    pub data_dir: PathBuf,
    pub raft: Raft,
    pub log: LogStore,
    pub applier: Applier,
    pub outputs: ApplyOutputs,
    pub syncs: Arc<AtomicU64>,
    pub transport: Arc<Transport>,
    pub peers: Arc<Peers>,
    pub leases: Leases,
    pub clock: SteadyClock,
    pub events: broadcast::Sender<ClusterEvent>,
    pub handler: ArcSwapOption<Arc<dyn PeerHandler>>,
    pub pump: mpsc::Sender<Waiting>,
    pub sequence: AtomicU64,
    pub forced_elections: AtomicU64,
    pub stood_aside: Mutex<Option<StandAside>>,
    /// The disk has not answered for long: nothing that this node knows is new.
    pub stalled: AtomicBool,
    /// Tells this process from any other of the same life.
    pub process: u64,
    pub vouched: AtomicBool,
    /// A peer has found that this node lacks what it acknowledged.
    pub forgot: AtomicBool,
    /// Peers that found nothing missing.
    pub vouched_by: Mutex<BTreeSet<NodeNumber>>,
    /// Held while what was seen of a peer is compared and kept.
    pub witnessing: Mutex<()>,
    /// Peers that came back with less than they had.
    pub forgetful: Mutex<BTreeSet<NodeNumber>>,
    pub receiving: tokio::sync::Mutex<()>,
    pub changing: tokio::sync::Mutex<()>,
    pub stop: CancellationToken,
}

impl Core {
    /// Who leads, as this node knows it.
    pub fn leader(&self) -> Option<NodeNumber> {
        self.raft.metrics().borrow_watched().current_leader
    }

    /// True while this node leads and has applied an entry of its own term: so every entry that
    /// earlier leaders have committed, too.
    pub fn leads_up_to_date(&self) -> bool {
        let applied_of = *self.outputs.applied_of.lock();
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        metrics.current_leader == Some(self.node) && applied_of == Some(metrics.vote.leader_id)
    }

    /// What is known about whether `node` lives.
    pub fn liveness(&self, node: NodeNumber) -> Liveness {
        if node == self.node {
            return Liveness::Alive {
                incarnation: self.incarnation,
            };
        }
        self.peers
            .liveness(node)
            .unwrap_or_else(|| Liveness::Suspect {
                since: Instant::now(),
            })
    }

    /// True while this node may act on its own.
    pub fn lease_valid(&self) -> bool {
        self.stood_aside.lock().is_none()
            && !self.stalled.load(Ordering::Relaxed)
            && (self.leads_alone() || self.leases.valid(BootTime::now()))
    }

    /// True while this leader was confirmed recently enough to accept new work.
    pub fn may_lead(&self) -> bool {
        !self.stalled.load(Ordering::Relaxed)
            && (self.leads_alone() || !self.leases.confirmed_remaining(BootTime::now()).is_zero())
    }

    /// True on the leader of a cluster with one voter: its own word is a quorum.
    fn leads_alone(&self) -> bool {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        metrics.current_leader == Some(self.node)
            && metrics
                .membership_config
                .membership()
                .voter_ids()
                .eq([self.node])
    }

    /// A leader that is the only voter confirms itself; no acknowledgement would come.
    fn confirm_alone(&self, now: BootTime) {
        if self.leads_alone() {
            self.leases.confirm(now);
        }
    }

    /// Stops voting and serving, for good in this life.
    pub fn stand_aside(self: &Arc<Self>, why: StandAside) {
        {
            let mut stood = self.stood_aside.lock();
            if stood.is_some() {
                return;
            }
            *stood = Some(why.clone());
        }
        tracing::error!(%why, "this node stands aside");
        let _ = self.events.send(ClusterEvent::StandAside(why));
        let core = self.clone();
        tokio::spawn(async move {
            if let Err(error) = core.raft.shutdown().await {
                tracing::warn!(%error, "agreement ended badly");
            }
        });
    }

    /// Figures for the daemon.
    pub fn figures(&self) -> ClusterFigures {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let last = metrics.last_log_index.unwrap_or(0);
        let replication = metrics.replication.iter().flatten();
        let lag = replication
            .filter(|(node, _)| **node != self.node)
            .map(|(node, at)| {
                (
                    *node,
                    last.saturating_sub(at.as_ref().map_or(0, |id| id.index)),
                )
            })
            .collect();
        ClusterFigures {
            term: metrics.current_term,
            leader: metrics.current_leader,
            applied: *self.outputs.applied.borrow(),
            last_log: last,
            lag,
            entries: self.outputs.figures.entries.load(Ordering::Relaxed),
            proposals: self.outputs.figures.proposals.load(Ordering::Relaxed),
            watched: self.peers.watched(),
            syncs: self.syncs.load(Ordering::Relaxed),
            store_memory: self.store.memory(),
            forced_elections: self.forced_elections.load(Ordering::Relaxed),
            snapshots_installed: self.outputs.figures.installed.load(Ordering::Relaxed),
            clock_offset_ms: self.leases.own_offset(),
        }
    }

    /// Answers a request for a lease.
    pub fn grant(&self, from: NodeNumber, request: &LeaseRequest) -> LeaseAnswer {
        let heard = self.peers.unless_declared(from, request.incarnation, || {
            if self.stood_aside.lock().is_some() || self.stalled.load(Ordering::Relaxed) {
                return Duration::ZERO;
            }
            let now = BootTime::now();
            self.confirm_alone(now);
            self.leases.grant(from, request.offset_ms, now)
        });
        let remaining = heard.unwrap_or_default();
        LeaseAnswer {
            remaining_ms: u64::try_from(remaining.as_millis()).unwrap_or(0),
            lease_ms: u64::try_from(self.leases.length().as_millis()).unwrap_or(0),
            wall_ms: wall_clock_ms(),
        }
    }

    /// Ends the alarm about a clock.
    fn clock_is_right(&self, node: NodeNumber, offset_ms: i64) {
        // Nobody may be listening.
        let _ = self
            .events
            .send(ClusterEvent::ClockOffset { node, offset_ms });
    }

    /// Waits until this node hears that `leader` leads no more.
    async fn led_by_another(&self, leader: NodeNumber) {
        let mut metrics = self.raft.metrics();
        while metrics.borrow_and_update().current_leader == Some(leader) {
            if metrics.changed().await.is_err() {
                // Agreement has ended; nobody else will lead it.
                return std::future::pending().await;
            }
        }
    }

    /// Waits until all is applied that the leader had in its log when it granted the first lease
    /// after the gap; false when that takes too long, and the wait goes on with the next grant.
    async fn catches_up(&self, gap: &mut Option<Gap>, granted: Granted) -> bool {
        let patience = self.leases.length() / 2;
        // What was answered before the last grant ended was granted before: the leader has found
        // no lease of this node over since the first.
        let unbroken = |gap: &Gap| gap.leader == granted.leader && granted.answered <= gap.until;
        let end = match gap.take_if(|gap| unbroken(gap)) {
            Some(gap) => gap.end,
            None => {
                let (leader, kind) = (granted.leader, Kind::Position);
                let asked = self
                    .transport
                    .ask::<_, Position>(leader, kind, &(), patience);
                let Ok(Position(end)) = asked.await else {
                    return false;
                };
                end.map_or(0, |id| id.index)
            }
        };
        let mut applied = self.outputs.applied.subscribe();
        let reached = tokio::time::timeout(patience, applied.wait_for(|applied| *applied >= end));
        let reached = matches!(reached.await, Ok(Ok(_)));
        *gap = (!reached).then(|| Gap {
            leader: granted.leader,
            end,
            until: granted.sent.plus(granted.remaining),
        });
        reached
    }
}

/// A lease that was granted.
struct Granted {
    leader: NodeNumber,
    sent: BootTime,
    answered: BootTime,
    remaining: Duration,
}

/// A time without a lease that is over for the leader, and not yet for this node.
struct Gap {
    /// Who has granted since.
    leader: NodeNumber,
    /// What has to be applied before this node acts again.
    end: u64,
    /// When the last grant ends.
    until: BootTime,
}

/// Asks the leader for leases and compares clocks with it. A node that stands aside asks
/// no more: its lease runs out, and it can be declared down. One that had lost its lease acts
/// again when it knows all that was decided meanwhile, perhaps that it is down.
pub async fn renew_leases(core: Arc<Core>) {
    let mut gap = None;
    let mut pause = tokio::time::interval(limits::LEASE_RENEWAL);
    pause.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = core.stop.cancelled() => return,
            _ = pause.tick() => {}
        }
        if core.stood_aside.lock().is_some() {
            return;
        }
        // Whoever leads next has to have seen what its clock did before.
        core.clock.now_ms();
        if core.stalled.load(Ordering::Relaxed) {
            continue;
        }
        let Some(leader) = core.leader().filter(|leader| *leader != core.node) else {
            continue;
        };
        let offset_ms = core.leases.own_offset();
        let request = LeaseRequest {
            incarnation: core.incarnation,
            offset_ms,
        };
        let sent = BootTime::now();
        let sent_wall = wall_clock_ms();
        let asked = core.transport.ask::<_, LeaseAnswer>(
            leader,
            Kind::Lease,
            &request,
            core.leases.length() / 2,
        );
        let answer = tokio::select! {
            answer = asked => answer,
            // Who leads next wants to hear from us soon.
            () = core.led_by_another(leader) => continue,
        };
        let Ok(answer) = answer else { continue };
        let answered = BootTime::now();
        let travel = answered.since(sent);
        // The leader read its clock about half way.
        let ours = sent_wall.saturating_add(u64::try_from(travel.as_millis() / 2).unwrap_or(0));
        let offset = i64::try_from(ours).unwrap_or(0) - i64::try_from(answer.wall_ms).unwrap_or(0);
        let remaining = Duration::from_millis(answer.remaining_ms);
        let regains = !remaining.is_zero() && !core.leases.valid(answered);
        let granted = Granted {
            leader,
            sent,
            answered,
            remaining,
        };
        if !regains || core.catches_up(&mut gap, granted).await {
            core.leases.granted(sent, remaining, offset);
        }
        core.leases.heard(Duration::from_millis(answer.lease_ms));
    }
}

/// Follows the library's figures: leadership, quorum confirmations, members.
pub async fn follow_raft(core: Arc<Core>, deaths: mpsc::Sender<NodeNumber>) {
    let mut metrics = core.raft.metrics();
    let mut led = (None, 0);
    let mut members: Vec<(NodeNumber, String, bool)> = Vec::new();
    let mut watches: HashMap<NodeNumber, CancellationToken> = HashMap::new();
    let mut clocks = Clocks::new();
    loop {
        clocks.look();
        let (leader, acked, running, nodes) = {
            let now = metrics.borrow_and_update();
            let membership = now.membership_config.membership();
            let nodes: Vec<(NodeNumber, String, bool)> = membership
                .nodes()
                .map(|(node, peer)| {
                    let votes = membership.voter_ids().any(|voter| voter == *node);
                    (*node, peer.address.clone(), votes)
                })
                .collect();
            let acked = now.last_quorum_acked.map(|at| *at);
            let leader = (now.current_leader, now.current_term);
            (leader, acked, now.running_state.clone(), nodes)
        };
        if leader != led {
            // Also between two terms of its own: another may have led meanwhile.
            core.leases.lead(false, BootTime::now());
        }
        core.leases
            .lead(leader.0 == Some(core.node), BootTime::now());
        if let Some(at) = acked.and_then(|at| clocks.moment_of(at)) {
            core.leases.confirm(at);
        }
        if leader != led {
            led = leader;
            let _ = core.events.send(ClusterEvent::Leader {
                node: leader.0,
                term: leader.1,
            });
        }
        if nodes != members {
            // Quorums of other members do not always share a voter with those of these.
            core.leases.unsure(BootTime::now());
            watch_members(&core, &nodes, &mut watches, &deaths);
            members = nodes;
            let _ = core.events.send(ClusterEvent::Membership);
        }
        if let Err(error) = running
            && !core.stop.is_cancelled()
        {
            // Agreement ends because of what it applies to: that is what an operator has to know.
            let fault = core.store.fault().raised().map(StandAside::Store);
            let beyond = core.outputs.beyond.get().copied().map(StandAside::TooOld);
            let why = fault.or(beyond);
            core.stand_aside(why.unwrap_or_else(|| StandAside::Agreement(error.to_string())));
        }
        tokio::select! {
            () = core.stop.cancelled() => return,
            changed = metrics.changed() => if changed.is_err() { return },
        }
    }
}

/// One death watch per other member.
fn watch_members(
    core: &Arc<Core>,
    nodes: &[(NodeNumber, String, bool)],
    watches: &mut HashMap<NodeNumber, CancellationToken>,
    deaths: &mpsc::Sender<NodeNumber>,
) {
    let present: BTreeSet<NodeNumber> = nodes.iter().map(|(node, ..)| *node).collect();
    watches.retain(|node, watch| {
        let stays = present.contains(node);
        if !stays {
            watch.cancel();
            core.peers.forget(*node);
        }
        stays
    });
    for (node, address, _) in nodes.iter().filter(|(node, ..)| *node != core.node) {
        core.transport.set_address(*node, address);
        watches.entry(*node).or_insert_with(|| {
            let stop = core.stop.child_token();
            let watcher = Watcher {
                ours: core.greeting(),
                transport: core.transport.clone(),
                peers: core.peers.clone(),
                deaths: deaths.clone(),
            };
            tokio::spawn(watcher.watch(*node, stop.clone()));
            stop
        });
    }
}

/// On the leader: finds members whose lease surely ran out and clocks that are off.
pub async fn judge_silence(core: Arc<Core>) {
    let mut pause = tokio::time::interval(limits::LEASE_MARGIN);
    let mut alarmed = BTreeSet::new();
    let mut handed_over: Option<Instant> = None;
    loop {
        tokio::select! {
            () = core.stop.cancelled() => return,
            _ = pause.tick() => {}
        }
        if core.leader() != Some(core.node) {
            core.peers.withdraw();
            // Whoever leads now has an eye on the clocks.
            for node in std::mem::take(&mut alarmed) {
                core.clock_is_right(node, 0);
            }
            continue;
        }
        let now = BootTime::now();
        core.confirm_alone(now);
        succession::ask_voters(&core).await;
        let now = BootTime::now();
        for member in core.members() {
            if member.node != core.node && core.leases.surely_over(member.node, now) {
                core.peers.lease_over(member.node);
            }
        }
        for (node, offset_ms) in core.leases.offsets_from_median(core.node) {
            if offset_ms.abs() <= limits::CLOCK_OFFSET_MAX_MS {
                if alarmed.remove(&node) {
                    tracing::info!(node, offset_ms, "a clock is right again");
                    core.clock_is_right(node, offset_ms);
                }
            } else if alarmed.insert(node) {
                tracing::error!(node, offset_ms, "SW0405: a clock is off the majority");
                let _ = core
                    .events
                    .send(ClusterEvent::ClockOffset { node, offset_ms });
            }
            let off = offset_ms.abs() > limits::CLOCK_OFFSET_MAX_MS;
            let tried = |at: Instant| at.elapsed() < limits::HAND_OVER_AGAIN;
            if off && node == core.node && !handed_over.is_some_and(tried) {
                handed_over = Some(Instant::now());
                step_down(&core).await;
            }
        }
    }
}

/// Hands leadership to the most complete voter whose clock is right.
async fn step_down(core: &Core) {
    let off: BTreeSet<NodeNumber> = core
        .leases
        .offsets_from_median(core.node)
        .into_iter()
        .filter(|(_, offset)| offset.abs() > limits::CLOCK_OFFSET_MAX_MS)
        .map(|(node, _)| node)
        .collect();
    let heir = core.heir(|node| !off.contains(&node));
    if let Some(heir) = heir
        && let Err(error) = core.raft.trigger().transfer_leader(heir).await
    {
        tracing::warn!(%error, "leadership could not be handed over");
    }
}

/// Lets go of every right while the disk does not answer: a node whose writes hang applies nothing,
/// and a leader's heartbeats need no disk.
pub async fn mind_stalls(core: Arc<Core>) {
    let mut pause = tokio::time::interval(limits::DISK_LOOK);
    pause.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = core.stop.cancelled() => return,
            _ = pause.tick() => {}
        }
        let stalled = core.store.writing_for() > limits::DISK_STALL_MAX;
        if core.stalled.swap(stalled, Ordering::Relaxed) == stalled {
            continue;
        }
        if stalled {
            tracing::error!("SW0408: the disk does not answer; others act for this node");
        } else {
            tracing::info!("the disk answers again");
        }
        core.raft.runtime_config().heartbeat(!stalled);
    }
}

/// Stands aside when the store raises a fault.
pub async fn mind_store(core: Arc<Core>) {
    let mut fault = core.store.fault().watch();
    loop {
        if let Some(why) = core.store.fault().raised() {
            return core.stand_aside(StandAside::Store(why));
        }
        tokio::select! {
            () = core.stop.cancelled() => return,
            changed = fault.changed() => if changed.is_err() { return },
        }
    }
}
