//! The handle everything is reached through.
//!
//! [`Cluster`] owns its own threads: a small runtime for agreement and transport, one
//! thread for the log, one for apply. Nothing of it runs on the caller's runtime, so a
//! busy daemon never delays a heartbeat. Futures returned here may be awaited anywhere.

use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use strowger_core::ports::{
    IncarnationNumber, Machine, NodeNumber, Outcome, ProposeFuture, Proposer, RequestId, RowsRead,
};
use tokio::runtime::Runtime;
use tokio::sync::{broadcast, mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::clock::SteadyClock;
use crate::config::ClusterConfig;
use crate::core::{self, Core};
use crate::error::{CallError, MemberError, OpenError, StoreError};
use crate::event::{ClusterEvent, ClusterFigures, Liveness, Member, StandAside};
use crate::identity::{self, ClusterId, Identity, Token};
use crate::limits;
use crate::liveness::lease::Leases;
use crate::liveness::{Peers, death, election};
use crate::raft::log::LogStore;
use crate::raft::machine::{Applier, ApplyOutputs};
use crate::raft::network::Network;
use crate::raft::{self, OwnCommand, OwnReply, Raft};
use crate::store::keys::GroupId;
use crate::store::{Store, StoredRows, Threads};
use crate::transport::wire::Kind;
use crate::transport::{Serving, Transport};
use crate::{membership, propose, vouch};

/// Which traffic a request of the daemon travels with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Small and urgent.
    Control,
    /// Large; yields to everything else.
    Bulk,
}

/// The daemon's side of requests between nodes.
pub trait PeerHandler: Send + Sync + 'static {
    /// Answers a request of `from`; an error is handed to the asker as a refusal. Runs
    /// on the cluster's runtime: it must not block.
    fn call(
        &self,
        from: NodeNumber,
        lane: Lane,
        body: Vec<u8>,
    ) -> Serving<'_, Result<Vec<u8>, String>>;

    /// Takes a one-way message. Must not block.
    fn message(&self, from: NodeNumber, body: Vec<u8>);
}

/// A node of the cluster. Cheap to clone; the node ends with [`Cluster::close`] or when
/// the last clone is dropped.
#[derive(Clone)]
pub struct Cluster {
    core: Arc<Core>,
    owner: Arc<Owner>,
}

/// What ends with the node.
struct Owner {
    runtime: Mutex<Option<Runtime>>,
    handle: tokio::runtime::Handle,
    threads: Option<Arc<Threads>>,
    stop: CancellationToken,
    lock: Mutex<Option<File>>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(runtime) = self.runtime.lock().take() {
            runtime.shutdown_background();
        }
    }
}

pub(crate) const STORE_DIR: &str = "store";
const LOCK_FILE: &str = "lock";

impl Cluster {
    /// Opens the node whose data is at `config.data_dir` and starts it. Blocks while the
    /// store is opened and committed entries are applied again; call it from a thread
    /// that may block.
    ///
    /// # Errors
    /// [`OpenError`]: each reason has its own variant and code.
    pub fn open(config: ClusterConfig, machine: impl Machine) -> Result<Self, OpenError> {
        let identity = Arc::new(Identity::load(&config.data_dir)?);
        let lock = lock(&config.data_dir)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("cluster")
            .enable_all()
            .build()
            .map_err(|error| OpenError::Agreement(error.to_string()))?;
        let stop = CancellationToken::new();
        let handle = runtime.handle().clone();
        // The caller may stand on a runtime of its own, where blocking on ours panics.
        let threads = OnceLock::new();
        let started = std::thread::scope(|scope| {
            let starting = start(config, identity, machine, stop.clone(), &threads);
            scope.spawn(|| handle.block_on(starting)).join()
        });
        let started = started
            .unwrap_or_else(|_| Err(OpenError::Agreement("starting failed badly".to_owned())));
        let core = match started {
            Ok(core) => core,
            Err(error) => {
                stop.cancel();
                end(Some(runtime), threads.into_inner().as_deref());
                return Err(error);
            }
        };
        let owner = Owner {
            runtime: Mutex::new(Some(runtime)),
            handle,
            threads: threads.into_inner(),
            stop,
            lock: Mutex::new(Some(lock)),
        };
        Ok(Self {
            core,
            owner: Arc::new(owner),
        })
    }

    /// Ends the node: stops agreement, closes the port, writes what is under way and
    /// frees the data directory. Blocks at most a few seconds.
    pub fn close(self) {
        self.core.stop.cancel();
        let raft = self.core.raft.clone();
        let ending = self
            .owner
            .handle
            .spawn(async move { raft.shutdown().await });
        let (tell, ended) = std::sync::mpsc::channel();
        self.owner.handle.spawn(async move {
            let _ = ending.await;
            let _ = tell.send(());
        });
        if ended.recv_timeout(Duration::from_secs(3)).is_err() {
            tracing::warn!("agreement did not end in time");
        }
        let Self { core, owner } = self;
        drop(core);
        let runtime = owner.runtime.lock().take();
        end(runtime, owner.threads.as_deref());
        owner.lock.lock().take();
    }

    pub(crate) fn store(&self) -> Arc<Store> {
        self.core.store.clone()
    }

    /// This node's number.
    pub fn node(&self) -> NodeNumber {
        self.core.node
    }

    /// This life of the node.
    pub fn incarnation(&self) -> IncarnationNumber {
        self.core.incarnation
    }

    /// The cluster's id.
    pub fn cluster_id(&self) -> ClusterId {
        self.core.identity.cluster
    }

    /// The cluster's name.
    pub fn name(&self) -> &str {
        &self.core.identity.name
    }

    /// Committed rows, as of the last applied entry.
    pub fn rows(&self) -> Arc<dyn RowsRead + Send + Sync> {
        Arc::new(StoredRows::new(self.core.store.clone(), self.core.group))
    }

    /// Watches the last applied index.
    pub fn applied(&self) -> watch::Receiver<u64> {
        self.core.outputs.applied.subscribe()
    }

    /// Waits until `index` is applied here; false when the node closes first.
    pub async fn wait_applied(&self, index: u64) -> bool {
        self.applied()
            .wait_for(|applied| *applied >= index)
            .await
            .is_ok()
    }

    /// Like [`Proposer::propose`], with the log index of the entry (0 unless committed).
    pub async fn propose_indexed(&self, command: Vec<u8>, deadline: Duration) -> (Outcome, u64) {
        let core = self.core.clone();
        let task = self
            .owner
            .handle
            .spawn(async move { core.propose(command, deadline).await });
        // Only a closing node drops its tasks; nobody can tell then what was appended.
        task.await.unwrap_or_else(|_| {
            let request = RequestId {
                node: self.core.node,
                incarnation: self.core.incarnation,
                sequence: 0,
            };
            (Outcome::Unknown(request), 0)
        })
    }

    /// The clock by which this node would stamp an entry, ms since 1970 UTC: the machine's,
    /// without the first seconds after a leap.
    pub fn clock_ms(&self) -> u64 {
        self.core.clock.now_ms()
    }

    /// Who leads, as this node knows it.
    pub fn leader(&self) -> Option<NodeNumber> {
        self.core.leader()
    }

    /// True while this node leads and its rows hold whatever earlier leaders have committed.
    pub fn leads_up_to_date(&self) -> bool {
        self.core.leads_up_to_date()
    }

    /// True while this node may act on its own; when false it goes quiet.
    pub fn lease_valid(&self) -> bool {
        self.core.lease_valid()
    }

    /// What is known about whether `node` lives.
    pub fn liveness(&self, node: NodeNumber) -> Liveness {
        self.core.liveness(node)
    }

    /// As leader: `node` is granted no lease while its end is proposed, from `begins` to the next
    /// call. Whether it is over has to be looked at in between.
    pub fn declares(&self, node: NodeNumber, begins: bool) {
        self.core.peers.declares(node, begins);
    }

    /// Events from now on.
    pub fn events(&self) -> broadcast::Receiver<ClusterEvent> {
        self.core.events.subscribe()
    }

    /// Stops voting and serving because the state of this node was found to differ from
    /// that of most nodes at `index`.
    pub fn stand_aside(&self, index: u64) {
        let core = self.core.clone();
        self.owner.handle.spawn(async move {
            core.stand_aside(StandAside::StateDiffers { index });
        });
    }

    /// Why this node stands aside, if it does.
    pub fn stood_aside(&self) -> Option<StandAside> {
        self.core.stood_aside.lock().clone()
    }

    /// Members that came back with data older than what they acknowledged, as this node
    /// has seen: they stand aside.
    pub fn forgetful(&self) -> Vec<NodeNumber> {
        self.core.forgetful.lock().iter().copied().collect()
    }

    /// Figures of agreement and storage.
    pub fn figures(&self) -> ClusterFigures {
        self.core.figures()
    }

    /// The members as this node knows them.
    pub fn members(&self) -> Vec<Member> {
        self.core.members()
    }

    /// The machine's hash and the index it stands at; `None` when the node closes.
    pub async fn state_hash(&self) -> Option<(u64, [u8; 16])> {
        self.core.applier.state_hash().await
    }

    /// A one-time token that lets one node join within `ttl`, under number `node` or the
    /// next free one.
    ///
    /// # Errors
    /// [`MemberError::NoQuorum`], or [`MemberError::Refused`] when the number is taken or
    /// too many tokens are open.
    pub async fn invite(
        &self,
        node: Option<NodeNumber>,
        ttl: Duration,
    ) -> Result<Token, MemberError> {
        let core = self.core.clone();
        self.run(async move {
            let ttl = u64::try_from(ttl.min(limits::TOKEN_TTL_MAX).as_millis()).unwrap_or(0);
            let expires_ms = raft::wall_clock_ms().saturating_add(ttl);
            let (token, secret_hash) = core.identity.token(core.member_addresses(), expires_ms);
            let command = OwnCommand::Invite {
                secret_hash,
                node,
                expires_ms,
            };
            match core.own(command, Duration::from_secs(5)).await {
                Some(OwnReply::Done) => Ok(token),
                Some(OwnReply::NodeTaken(node)) => {
                    Err(MemberError::Refused(format!("node number {node} is taken")))
                }
                Some(other) => Err(MemberError::Refused(format!("{other:?}"))),
                None => Err(MemberError::NoQuorum),
            }
        })
        .await
        .unwrap_or(Err(MemberError::NoQuorum))
    }

    /// Removes `node` from the cluster for good.
    ///
    /// # Errors
    /// [`MemberError`].
    pub async fn remove(&self, node: NodeNumber) -> Result<(), MemberError> {
        let core = self.core.clone();
        let removed = self.run(async move { core.remove(node).await }).await;
        removed.unwrap_or(Err(MemberError::NoQuorum))
    }

    /// Hands leadership to `node`; nothing happens when this node does not lead.
    pub async fn transfer_leader(&self, node: NodeNumber) {
        let raft = self.core.raft.clone();
        self.run(async move {
            if let Err(error) = raft.trigger().transfer_leader(node).await {
                tracing::warn!(%error, "leadership could not be handed over");
            }
        })
        .await;
    }

    /// Notes a snapshot now, so that the log before it may go.
    pub async fn trigger_snapshot(&self) {
        let raft = self.core.raft.clone();
        self.run(async move {
            if let Err(error) = raft.trigger().snapshot().await {
                tracing::warn!(%error, "a snapshot could not be noted");
            }
        })
        .await;
    }

    /// Who answers requests of other daemons.
    pub fn set_handler(&self, handler: Arc<dyn PeerHandler>) {
        self.core.handler.store(Some(Arc::new(handler)));
    }

    /// Asks the daemon of `node`. A request to this node itself reaches its own handler.
    ///
    /// # Errors
    /// [`CallError`]; after [`CallError::Timeout`] the peer may have acted.
    pub async fn call(
        &self,
        node: NodeNumber,
        lane: Lane,
        body: Vec<u8>,
        deadline: Duration,
    ) -> Result<Vec<u8>, CallError> {
        let core = self.core.clone();
        let kind = match lane {
            Lane::Control => Kind::Call,
            Lane::Bulk => Kind::CallBulk,
        };
        let asked = self.run(async move {
            if node == core.node {
                let handler = core.handler.load_full().ok_or(CallError::Closed)?;
                let answer = tokio::time::timeout(deadline, handler.call(node, lane, body)).await;
                let answer = answer.map_err(|_| CallError::Timeout(node))?;
                return answer.map_err(|why| CallError::Refused { node, why });
            }
            core.transport.request(node, kind, &body, deadline).await
        });
        asked.await.unwrap_or(Err(CallError::Closed))
    }

    /// Queues a one-way message for the daemon of `node`; it may be lost.
    ///
    /// # Errors
    /// [`CallError::QueueFull`], [`CallError::TooLarge`], [`CallError::Unknown`].
    pub fn send(&self, node: NodeNumber, body: Vec<u8>) -> Result<(), CallError> {
        let _on = self.owner.handle.enter();
        self.core.transport.send(node, body)
    }

    async fn run<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        self.owner.handle.spawn(task).await.ok()
    }
}

impl Proposer for Cluster {
    fn propose(&self, command: Vec<u8>, deadline: Duration) -> ProposeFuture<'_> {
        Box::pin(async move { self.propose_indexed(command, deadline).await.0 })
    }

    fn propose_again(
        &self,
        request: RequestId,
        command: Vec<u8>,
        deadline: Duration,
    ) -> ProposeFuture<'_> {
        let core = self.core.clone();
        Box::pin(async move {
            let again =
                self.run(async move { core.propose_again(request, command, deadline).await });
            again.await.unwrap_or(Outcome::Unknown(request))
        })
    }
}

/// Locks `data_dir` for this process, as long as the file lives.
pub(crate) fn lock(data_dir: &Path) -> Result<File, OpenError> {
    let path = data_dir.join(LOCK_FILE);
    let at = |source| {
        OpenError::Store(StoreError::File {
            path: path.clone(),
            source,
        })
    };
    let file = File::create(&path).map_err(at)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(OpenError::Locked(data_dir.to_owned())),
        Err(std::fs::TryLockError::Error(source)) => Err(at(source)),
    }
}

/// Ends a runtime and then the threads that hold the store: it is closed when this returns.
fn end(runtime: Option<Runtime>, threads: Option<&Threads>) {
    if let Some(runtime) = runtime {
        // On a thread of its own, because the caller may stand on a runtime.
        let ending = std::thread::spawn(move || runtime.shutdown_timeout(Duration::from_secs(3)));
        let _ = ending.join();
    }
    if threads.is_some_and(|threads| !threads.join(Duration::from_secs(3))) {
        tracing::warn!("the store stays open while other handles of this node live");
    }
}

async fn start(
    config: ClusterConfig,
    identity: Arc<Identity>,
    machine: impl Machine,
    stop: CancellationToken,
    threads: &OnceLock<Arc<Threads>>,
) -> Result<Arc<Core>, OpenError> {
    let group = GroupId::FIRST;
    let settings = raft::settings(&config).map_err(OpenError::Agreement)?;
    // Both halves of the port first: a node that cannot be reached must not touch data.
    let listener = death::bind(config.listen)?;
    let transport = Transport::bind(identity.clone(), config.listen, stop.clone())?;
    let store_dir = config.data_dir.join(STORE_DIR);
    let lives = identity::lives(&config.data_dir)?;
    if lives > 0 && !store_dir.join("CURRENT").exists() {
        return Err(OpenError::Outdated { store: 0, lives });
    }
    let store = Store::open(&store_dir)?;
    threads.get_or_init(|| store.threads().clone());
    // Judged before a life is counted: an old store would catch up by being started.
    let seen = store.lives()?;
    if seen < lives {
        return Err(OpenError::Outdated { store: seen, lives });
    }
    if let Some(forgot) = vouch::remembered(&store)? {
        return Err(OpenError::Aside(forgot));
    }
    let incarnation = store.next_incarnation()?;
    identity::note_life(&config.data_dir, incarnation)?;
    let syncs = Arc::new(AtomicU64::new(0));
    let log = LogStore::open(store.clone(), group, syncs.clone())?;
    let outputs = ApplyOutputs::default();
    let applier = Applier::start(
        store.clone(),
        group,
        machine,
        &config.data_dir,
        outputs.clone(),
    );
    let applier = applier.map_err(unrepairable)?;
    for (node, address) in &identity.seeds {
        transport.set_address(*node, address);
    }
    let network = Network {
        node: identity.node,
        transport: transport.clone(),
    };
    let raft = Raft::new(
        identity.node,
        settings,
        network,
        log.clone(),
        applier.clone(),
    )
    .await
    // What was committed before is applied at once.
    .map_err(|error| match outputs.beyond.get() {
        Some(level) => OpenError::Aside(StandAside::TooOld(*level)),
        None => OpenError::Agreement(error.to_string()),
    })?;
    let (events, _) = broadcast::channel(limits::EVENTS_QUEUED_MAX);
    let (pump, queue) = mpsc::channel(limits::PROPOSALS_WAITING_MAX);
    let core = Arc::new(Core {
        node: identity.node,
        incarnation,
        group,
        data_dir: config.data_dir.clone(),
        raft,
        log,
        applier,
        outputs,
        syncs,
        transport,
        peers: Arc::new(Peers::new(events.clone())),
        leases: Leases::new(config.timing.lease),
        clock: SteadyClock::default(),
        events,
        handler: arc_swap::ArcSwapOption::empty(),
        pump,
        sequence: AtomicU64::new(0),
        forced_elections: AtomicU64::new(0),
        stood_aside: Mutex::new(None),
        stalled: AtomicBool::new(false),
        process: rand::random(),
        vouched: AtomicBool::new(false),
        forgot: AtomicBool::new(false),
        vouched_by: Mutex::default(),
        witnessing: Mutex::new(()),
        forgetful: Mutex::default(),
        receiving: tokio::sync::Mutex::new(()),
        changing: tokio::sync::Mutex::new(()),
        stop,
        identity,
        store,
        config,
    });
    found(&core).await?;
    run(&core, listener, queue);
    Ok(core)
}

/// An installation that cannot be resumed has its own error; the rest are the store's.
fn unrepairable(error: StoreError) -> OpenError {
    match error {
        StoreError::File { path, source } if path.ends_with(crate::raft::snapshot::STAGED_FILE) => {
            OpenError::Unrepairable {
                why: format!("{}: {source}", path.display()),
            }
        }
        StoreError::Beyond(level) => OpenError::Aside(StandAside::TooOld(level)),
        error => error.into(),
    }
}

/// The first node writes the first membership, once.
async fn found(core: &Arc<Core>) -> Result<(), OpenError> {
    let failed = |error: &dyn std::fmt::Display| OpenError::Agreement(error.to_string());
    if !core.identity.founder || core.raft.is_initialized().await.map_err(|e| failed(&e))? {
        return Ok(());
    }
    let peer = raft::Peer {
        address: core.config.advertise.to_string(),
    };
    let members = std::collections::BTreeMap::from([(core.node, peer)]);
    core.raft
        .initialize(members)
        .await
        .map_err(|error| failed(&error))
}

fn run(core: &Arc<Core>, listener: std::net::TcpListener, queue: mpsc::Receiver<propose::Waiting>) {
    let (deaths, mut died) = mpsc::channel(limits::MEMBERS_MAX);
    tokio::spawn(death::answer(listener, core.greeting(), core.stop.clone()));
    core.transport.start(core.clone());
    tokio::spawn(core::follow_raft(core.clone(), deaths));
    tokio::spawn(core::renew_leases(core.clone()));
    tokio::spawn(core::judge_silence(core.clone()));
    tokio::spawn(core::mind_store(core.clone()));
    tokio::spawn(core::mind_stalls(core.clone()));
    tokio::spawn(membership::promote(core.clone()));
    tokio::spawn(membership::introduce(core.clone()));
    tokio::spawn(vouch::prove(core.clone()));
    tokio::spawn(vouch::tell(core.clone()));
    tokio::spawn(propose::pump(core.clone(), queue));
    let core = core.clone();
    tokio::spawn(async move {
        loop {
            let dead = tokio::select! {
                () = core.stop.cancelled() => return,
                dead = died.recv() => dead,
            };
            let Some(dead) = dead else { return };
            tokio::spawn(election::after_death(core.clone(), dead));
        }
    });
}
