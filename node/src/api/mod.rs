//! The HTTP and WebSocket interface, version 1, on every node.
//!
//! Reads are folds of the state under a short lock; changes are proposed as commands
//! and answered when committed. Nothing here decides. Bodies, time, connections and
//! event readers are bounded.

mod answer;
mod auth;
mod backup;
mod changes;
mod customers;
mod events;
mod health;
mod imports;
mod listen;
mod openapi;
mod reads;
mod reports;
mod sites;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware;
use axum::routing::{delete, get, post};
use strowger_cluster::{Cluster, ClusterEvent, StandAside};
use strowger_core::api::Problem;
use strowger_core::ids::{BlobId, TenantId};
use strowger_core::state::{SharedState, State};
use strowger_core::time::TimeMs;
use tokio_util::sync::CancellationToken;

pub use self::listen::{ListenError, TlsFiles};
use crate::blobs::Blobs;
use crate::fault::code;
use crate::limits;
use crate::secrets::Vault;

/// What the interface asks the rest of the node.
pub trait Gauges: Send + Sync + 'static {
    /// True once SIP is served on every service address this node holds.
    fn serves_sip(&self) -> bool;
    /// RTP port pairs in use.
    fn rtp_ports_in_use(&self) -> u64;
    /// Actors of calls.
    fn call_actors(&self) -> u64;
    /// SIP messages received and sent since start.
    fn sip_messages(&self) -> (u64, u64);
    /// What was dropped since start, by cause: SIP first, then RTP.
    fn dropped(&self) -> Vec<(&'static str, &'static str, u64)>;
}

/// What every request shares.
pub struct Office {
    /// Agreement and storage.
    pub cluster: Cluster,
    /// The state of the floor.
    pub state: SharedState,
    /// Keys and credentials.
    pub vault: Arc<Vault>,
    /// Sound files.
    pub blobs: Arc<Blobs>,
    /// The rest of the node.
    pub gauges: Arc<dyn Gauges>,
    /// Set while the node ends: it is then not ready any more.
    pub ending: AtomicBool,
    /// Ends event readers and the listener.
    pub stop: CancellationToken,
    /// Backups are taken one at a time.
    pub(crate) backups: Arc<tokio::sync::Semaphore>,
    /// Imports take turns.
    imports: tokio::sync::Semaphore,
    readers: AtomicU64,
    /// Clocks that are off, by node, as last reported.
    clocks: parking_lot::Mutex<BTreeMap<u64, i64>>,
    /// What the last check of the state found broken, in words.
    broken: parking_lot::Mutex<Vec<String>>,
    /// Checks of this life that found something broken.
    breaches: AtomicU64,
}

impl Office {
    /// The interface of a node, not yet listening.
    pub fn new(
        cluster: Cluster,
        state: SharedState,
        vault: Arc<Vault>,
        blobs: Arc<Blobs>,
        gauges: Arc<dyn Gauges>,
    ) -> Arc<Self> {
        Arc::new(Self {
            cluster,
            state,
            vault,
            blobs,
            gauges,
            ending: AtomicBool::new(false),
            stop: CancellationToken::new(),
            backups: Arc::new(tokio::sync::Semaphore::new(1)),
            imports: tokio::sync::Semaphore::new(1),
            readers: AtomicU64::new(0),
            clocks: parking_lot::Mutex::default(),
            broken: parking_lot::Mutex::default(),
            breaches: AtomicU64::new(0),
        })
    }

    /// Serves the interface at `address` until [`Office::stop`] is cancelled: plain HTTP
    /// on loopback, TLS elsewhere.
    ///
    /// # Errors
    /// [`ListenError`] when the address cannot be bound or TLS cannot be set up.
    pub async fn serve(
        self: &Arc<Self>,
        address: SocketAddr,
        tls: TlsFiles<'_>,
    ) -> Result<tokio::task::JoinHandle<()>, ListenError> {
        let listening = listen::Listening::bind(address, tls).await?;
        let serving = listening.serve(router(Arc::clone(self)), self.stop.clone());
        tokio::spawn(watch_clocks(Arc::clone(self)));
        tokio::spawn(watch_state(Arc::clone(self)));
        Ok(tokio::spawn(serving))
    }

    /// The time of an answer: the wall clock, never behind the log.
    pub(crate) fn now(&self) -> TimeMs {
        let wall = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let wall = TimeMs(u64::try_from(wall.as_millis()).unwrap_or(u64::MAX));
        self.state.read().meta.now.max(wall)
    }

    /// The sound files that sites in force name.
    pub(crate) fn named_blobs(&self) -> BTreeSet<BlobId> {
        let state = self.state.read();
        let sites = state.sites.values();
        sites
            .flat_map(|row| row.site.blobs.keys().copied())
            .collect()
    }

    /// Alarms in force.
    fn alarms(&self) -> Vec<Problem> {
        let mut alarms = Vec::new();
        let mut alarm = |code: &str, what: String, next: &str| {
            alarms.push(Problem {
                code: code.to_owned(),
                what,
                place: None,
                next: Some(next.to_owned()),
            });
        };
        if let Some(why) = self.cluster.stood_aside() {
            let code = match &why {
                StandAside::Store(_) => "SW0401",
                StandAside::Agreement(_) => "SW0402",
                StandAside::StateDiffers { .. } => "SW0403",
                StandAside::Removed => "SW0404",
                StandAside::Forgot { .. } => "SW0407",
                StandAside::TooOld(_) => "SW0427",
            };
            let text = why.to_string();
            let what = text
                .split_once(": ")
                .map_or(text.as_str(), |(_, what)| what)
                .to_owned();
            alarm(code, what, "see the page of this code");
        }
        for node in self.cluster.forgetful() {
            alarm(
                "SW0407",
                format!("node_{node} came back with data older than what it acknowledged"),
                "remove the node, clear its data folder and join it anew",
            );
        }
        if self.cluster.leader().is_none() {
            alarm(
                crate::fault::code::NO_QUORUM,
                "no majority of nodes can be reached".to_owned(),
                "start the nodes that are down",
            );
        }
        let (diverged, undecided) = {
            let state = self.state.read();
            let nodes = state.nodes.values();
            let diverged: Vec<_> = nodes
                .filter_map(|node| Some((node.id, node.diverged?)))
                .collect();
            let undecided = state.compare.undecided.then_some(state.compare.index);
            (diverged, undecided)
        };
        for (node, index) in diverged {
            alarm(
                "SW0403",
                format!("the state of {node} differs from that of most nodes at log index {index}"),
                "keep its data folder for analysis, remove the node and join it anew",
            );
        }
        if let Some(index) = undecided {
            alarm(
                code::INVARIANT,
                format!("the nodes' states differ at log index {index}, and none is most nodes'"),
                "see the page of this code",
            );
        }
        for what in self.broken.lock().iter() {
            alarm(code::INVARIANT, what.clone(), "see the page of this code");
        }
        for agent in self.state.read().agents.values() {
            let (id, reason) = (&agent.id, agent.paused.as_deref().unwrap_or_default());
            if agent.signed_in && agent.paused_by_misses() {
                let what = format!("agent {id} is paused: {reason}");
                let next = "ask the agent; `strowger agent ready` ends the pause";
                alarm(crate::fault::code::AGENT_MISSED, what, next);
            } else if agent.overdue {
                let what = format!("agent {id} has paused too long for {reason}");
                let next = "ask the agent; `strowger agent ready` ends the pause";
                alarm(crate::fault::code::PAUSE_OVERDUE, what, next);
            }
        }
        for (node, offset_ms) in self.clocks.lock().iter() {
            alarm(
                crate::fault::code::CLOCK_OFFSET,
                format!("the clock of node_{node} is {offset_ms} ms off the majority"),
                "set up time synchronisation on that node",
            );
        }
        alarms
    }
}

/// Keeps the last reported clock offsets.
async fn watch_clocks(office: Arc<Office>) {
    let mut events = office.cluster.events();
    loop {
        tokio::select! {
            () = office.stop.cancelled() => return,
            event = events.recv() => match event {
                Ok(ClusterEvent::ClockOffset { node, offset_ms }) => {
                    let mut clocks = office.clocks.lock();
                    if offset_ms.abs() > 500 {
                        clocks.insert(node, offset_ms);
                    } else {
                        clocks.remove(&node);
                    }
                }
                Ok(_) | Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => {}
                Err(tokio::sync::broadcast::error::RecvError::Closed) => return,
            },
        }
    }
}

/// Checks the invariants of the committed state every second. A large floor is checked by
/// its counts only, so that `apply` never waits long.
async fn watch_state(office: Arc<Office>) {
    let mut every = tokio::time::interval(limits::CHECK_INTERVAL);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = office.stop.cancelled() => return,
            _ = every.tick() => {}
        }
        let mut found = {
            let state = office.state.read();
            if state.calls.len() + state.agents.len() <= limits::CHECKED_WHOLE_MAX {
                state.check()
            } else {
                state.check_figures()
            }
        };
        found.truncate(limits::BREACHES_SHOWN_MAX);
        if !found.is_empty() {
            office.breaches.fetch_add(1, Ordering::Relaxed);
        }
        let mut broken = office.broken.lock();
        for what in found.iter().filter(|what| !broken.contains(what)) {
            tracing::error!(code = code::INVARIANT, what, "an invariant is broken");
        }
        *broken = found;
    }
}

/// The tenant commands are about: the only one there is, so far.
fn tenant(state: &State) -> Option<TenantId> {
    state.sites.keys().next().cloned()
}

fn router(office: Arc<Office>) -> Router {
    let small = Router::new()
        .route("/v1/cluster", get(reads::cluster))
        .route("/v1/overview", get(reads::overview))
        .route("/v1/nodes", get(reads::nodes))
        .route("/v1/nodes/{id}", get(reads::node))
        .route("/v1/nodes/invite", post(changes::invite))
        .route("/v1/extensions", get(reads::extensions))
        .route("/v1/extensions/{number}", get(reads::extension))
        .route("/v1/registrations", get(reads::registrations))
        .route("/v1/agents", get(reads::agents))
        .route("/v1/agents/{id}", get(reads::agent))
        .route("/v1/queues", get(reads::queues))
        .route("/v1/queues/{name}", get(reads::queue))
        .route("/v1/hours", get(reads::all_hours))
        .route("/v1/hours/{name}", get(reads::hours))
        .route("/v1/hours/{name}/days/{date}", get(reads::hours_day))
        .route("/v1/calls", get(reads::calls))
        .route("/v1/calls/{id}", get(reads::call))
        .route("/v1/calls/{id}/why", get(reads::why))
        .route("/v1/callbacks", get(reads::callbacks))
        .route("/v1/callbacks/{id}", delete(changes::withdraw))
        .route("/v1/trunks", get(reads::trunks))
        .route("/v1/trunks/{name}", get(reads::trunk))
        .route("/v1/cdrs", get(reads::cdrs))
        .route("/v1/figures", get(reports::figures))
        .route("/v1/figures/intervals", get(reports::intervals))
        .route("/v1/site", get(sites::current))
        .route("/v1/site/history", get(sites::history))
        .route("/v1/site/rollback", post(sites::rollback))
        .route("/v1/commands", post(changes::command))
        .route(
            "/v1/customers",
            get(customers::list).post(customers::create),
        )
        .route(
            "/v1/customers/{id}",
            get(customers::card)
                .put(customers::put)
                .patch(customers::patch)
                .delete(customers::remove),
        )
        .route("/v1/imports", get(customers::imports))
        .route("/v1/imports/{id}", get(customers::progress))
        .route("/v1/imports/{id}/rejects", get(customers::rejects))
        .route("/v1/openapi.json", get(openapi::document))
        .route("/metrics", get(health::metrics))
        .layer(DefaultBodyLimit::max(limits::BODY_BYTES_MAX));
    let upload = Router::new()
        .route("/v1/site", post(sites::upload))
        .layer(DefaultBodyLimit::max(limits::UPLOAD_BYTES_MAX));
    let import = Router::new()
        .route("/v1/customers/import", post(customers::import))
        .route("/v1/extensions/import", post(imports::import))
        .layer(DefaultBodyLimit::max(limits::IMPORT_BYTES_MAX));
    let timed = small
        .merge(upload)
        .merge(import)
        .layer(middleware::from_fn(answer::timed));
    let closed = timed
        .route("/v1/events", get(events::connect))
        .route("/v1/backup", get(backup::take))
        .layer(middleware::from_fn_with_state(
            Arc::clone(&office),
            auth::admit,
        ));
    // Health says nothing an attacker could use; load balancers ask it without a token.
    Router::new()
        .route("/health/live", get(health::live))
        .route("/health/ready", get(health::ready))
        .merge(closed)
        .fallback(answer::no_such_path)
        .method_not_allowed_fallback(answer::no_such_method)
        .with_state(office)
}
