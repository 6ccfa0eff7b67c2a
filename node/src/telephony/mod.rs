//! Telephony on this node: phones and trunks on one side, committed rows on the other.
//!
//! | module | what lives there |
//! |---|---|
//! | [`handler`] | requests and foreign messages from the SIP endpoint |
//! | [`auth`] | who a request comes from: digest, source address, nobody |
//! | [`registrar`] | REGISTER |
//! | [`admission`] | a new INVITE becomes a call, or is refused |
//! | [`legs`] | what call actors ask of signalling and media |
//! | [`mod@info`] | INFO requests: keys, and what one end tells the other |
//! | [`parting`] | agents who answered too late are told that the caller left |
//! | [`reports`] | what SIP legs report, bounded for each leg |
//! | [`session`] | offers, answers and RTP of one leg |
//! | [`checkpoint`] | what a leg leaves in its row for its next owner |
//! | [`leftovers`] | far ends of calls lost with their node are told |
//! | [`qualify`] | phones are asked whether they are there |
//! | [`sound`] | prompts and music, and what the RTP engine reports |
//! | [`addresses`] | binding the service addresses this node holds |
//! | [`steward`] | node up and down, ticks, going quiet |
//! | [`forward`] | SIP messages between nodes |
//!
//! Nothing here decides what becomes of a call.

pub mod addresses;
pub mod admission;
pub mod auth;
pub mod checkpoint;
pub mod forward;
pub mod handler;
pub mod info;
pub mod interface;
pub mod leftovers;
pub mod legs;
pub mod parting;
pub mod qualify;
pub mod registrar;
pub mod reports;
pub mod session;
pub mod silence;
pub mod sound;
pub mod speech;
pub mod steward;

use std::net::IpAddr;
use std::sync::Arc;

use strowger_actors::call::CallContext;
use strowger_actors::desk::Desk;
use strowger_actors::follow::Follower;
use strowger_actors::gate::Gate;
use strowger_actors::switchboard::Switchboard;
pub use strowger_actors::wake;
use strowger_cluster::Cluster;
use strowger_core::ids::{LegId, NodeId};
use strowger_core::state::SharedState;
use strowger_media::{Engine, EngineConfig};
use strowger_sip::digest::Verifier;
use strowger_sip::endpoint::{Endpoint, EndpointConfig};
use tokio::sync::mpsc;
use tracing::info;

use self::handler::SipHandler;
use self::legs::LegTable;
use self::sound::Sounds;
use self::speech::Speech;
use self::wake::WakeHub;
use crate::limits;
use crate::secrets::Vault;

/// What telephony is given at boot.
pub struct Parts {
    /// This node.
    pub node: NodeId,
    /// Address of its API and cluster ports, as announced.
    pub address: IpAddr,
    /// Agreement and storage.
    pub cluster: Cluster,
    /// The replicated state.
    pub state: SharedState,
    /// Wake-ups of the state.
    pub wakes: WakeHub,
    /// Keys and credentials.
    pub vault: Arc<Vault>,
    /// Prompts and music.
    pub sounds: Arc<Sounds>,
    /// SIP endpoint settings.
    pub sip: EndpointConfig,
    /// RTP engine settings.
    pub media: EngineConfig,
    /// SIP ports bound on every service address.
    pub ports: SipPorts,
}

/// The SIP ports of the node file.
#[derive(Clone, Copy, Debug)]
pub struct SipPorts {
    /// UDP port.
    pub udp: u16,
    /// TCP port.
    pub tcp: u16,
}

/// What every part of telephony on this node shares.
pub struct Shared {
    /// This node.
    pub node: NodeId,
    /// Address of its API and cluster ports, as announced.
    pub address: IpAddr,
    /// Agreement and storage.
    pub cluster: Cluster,
    /// The replicated state.
    pub state: SharedState,
    /// Where commands go.
    pub desk: Desk,
    /// Keys and credentials.
    pub vault: Arc<Vault>,
    /// Prompts and music.
    pub sounds: Arc<Sounds>,
    /// The recordings every node carries.
    pub speech: Speech,
    /// RTP.
    pub engine: Engine,
    /// Admission of new calls.
    pub gate: Gate,
    /// Replay protection of digest answers.
    pub verifier: Verifier,
    /// SIP ports.
    pub ports: SipPorts,
    /// The legs of this node.
    pub legs: LegTable,
    /// Those of them whose far ends are not heard any more.
    pub silent: silence::Silent,
    /// Where SIP legs leave their reports. The sink may not wait, so the channel has no
    /// bound of its own: each leg has, and how many legs there are is bounded at the gate.
    pub reports: mpsc::UnboundedSender<reports::Report>,
    /// Leftovers whose far ends have answered. Rows bound how many there are.
    pub released: mpsc::Sender<LegId>,
    /// Leftovers told so far, of those that stand.
    pub told: parking_lot::Mutex<std::collections::BTreeSet<LegId>>,
    /// Service addresses this process put on the machine's interfaces.
    pub interfaces: Arc<interface::Interfaces>,
    /// Set when telephony stops, so that no address is bound again.
    pub stopped: std::sync::atomic::AtomicBool,
    /// Signalling; set right after it has started, before any address is bound.
    endpoint: std::sync::OnceLock<Endpoint>,
    /// Call actors; set before any address is bound.
    switchboard: std::sync::OnceLock<Switchboard>,
}

impl Shared {
    /// Signalling.
    pub fn endpoint(&self) -> Option<&Endpoint> {
        self.endpoint.get()
    }

    /// Call actors.
    pub fn switchboard(&self) -> Option<&Switchboard> {
        self.switchboard.get()
    }

    /// Whether this node holds a service address now, and at which epoch.
    pub fn held_epoch(&self, address: IpAddr) -> Option<u32> {
        let state = self.state.read();
        let row = state.addresses.get(&address)?;
        (row.holder == Some(self.node)).then_some(row.epoch)
    }
}

/// Telephony of this node, running. Cheap to clone.
#[derive(Clone)]
pub struct Telephony {
    shared: Arc<Shared>,
}

/// Why telephony did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The RTP engine refused.
    #[error("the RTP engine cannot start: {0}")]
    Media(#[from] strowger_media::StartError),
    /// The actor system refused.
    #[error("the call actors cannot start: {0}")]
    Actors(#[from] Box<ractor::SpawnErr>),
}

impl Telephony {
    /// Starts telephony: no address is bound before the state says that this node holds
    /// it, and this node is up in the log.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(parts: Parts) -> Result<Self, StartError> {
        let (engine, media_events) = Engine::start(parts.media)?;
        let (reports, reported) = mpsc::unbounded_channel();
        let (released, answers) = mpsc::channel(limits::RELEASES_WAITING_MAX);
        let shared = Arc::new(Shared {
            node: parts.node,
            address: parts.address,
            desk: Desk::new(Arc::new(parts.cluster.clone())),
            cluster: parts.cluster,
            state: parts.state,
            vault: parts.vault,
            sounds: parts.sounds,
            speech: Speech::load(),
            engine,
            gate: Gate::new(strowger_actors::limits::CALLS_MAX),
            verifier: Verifier::new(),
            ports: parts.ports,
            legs: LegTable::default(),
            silent: silence::Silent::default(),
            reports,
            released,
            told: parking_lot::Mutex::default(),
            interfaces: Arc::default(),
            stopped: std::sync::atomic::AtomicBool::new(false),
            endpoint: std::sync::OnceLock::new(),
            switchboard: std::sync::OnceLock::new(),
        });
        let endpoint = Endpoint::start(parts.sip, Arc::new(SipHandler::new(Arc::clone(&shared))));
        let _ = shared.endpoint.set(endpoint);
        let context = CallContext {
            state: shared.state.clone(),
            desk: shared.desk.clone(),
            legs: Arc::new(legs::NodeLegs::new(Arc::clone(&shared))),
            node: shared.node,
        };
        let switchboard = Switchboard::start(shared.node, context)
            .await
            .map_err(Box::new)?;
        let follower = Follower {
            node: shared.node,
            incarnation: shared.cluster.incarnation(),
            state: shared.state.clone(),
            switchboard: switchboard.clone(),
            gate: shared.gate.clone(),
        };
        let _ = shared.switchboard.set(switchboard);
        tokio::spawn(legs::run(Arc::clone(&shared), reported));
        sound::pump(Arc::clone(&shared), media_events);
        tokio::spawn(sound::keep(Arc::clone(&shared)));
        tokio::spawn(addresses::keep(Arc::clone(&shared), parts.wakes.clone()));
        tokio::spawn(steward::keep(Arc::clone(&shared), parts.wakes.clone()));
        tokio::spawn(leftovers::keep(Arc::clone(&shared), parts.wakes.clone()));
        tokio::spawn(leftovers::report(Arc::clone(&shared), answers));
        tokio::spawn(qualify::keep(Arc::clone(&shared)));
        tokio::spawn(silence::keep(Arc::clone(&shared)));
        tokio::spawn(follower.clone().dispatch(parts.wakes));
        tokio::spawn(follower.sweep());
        Ok(Self { shared })
    }

    /// What its parts share; for metrics and status.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// True once every service address the state gives this node is bound.
    pub fn serves(&self) -> bool {
        let Some(endpoint) = self.shared.endpoint() else {
            return false;
        };
        let bound = endpoint.bound();
        let state = self.shared.state.read();
        state
            .addresses
            .values()
            .filter(|row| row.holder == Some(self.shared.node))
            .all(|row| bound.contains(&row.address))
    }

    /// Takes in a message of another node; false when it is not telephony's.
    pub fn take_in(&self, body: &[u8]) -> bool {
        forward::take_in(&self.shared, body)
    }

    /// Closes every socket.
    pub async fn stop(&self) {
        self.shared
            .stopped
            .store(true, std::sync::atomic::Ordering::SeqCst);
        if let Some(endpoint) = self.shared.endpoint() {
            endpoint.shutdown().await;
        }
        self.shared.engine.stop();
        self.shared.interfaces.lower_all().await;
        info!("telephony has stopped");
    }
}
