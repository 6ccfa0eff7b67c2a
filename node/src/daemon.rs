//! A running node: the order in which its parts start and end.
//!
//! Identity and keys, then agreement (which binds its ports before it touches data),
//! then telephony (which binds nothing before the committed state says so), then the
//! interface. It ends in the opposite order, leadership handed over first.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use strowger_cluster::identity::Identity;
use strowger_cluster::{Cluster, ClusterConfig, Liveness, Role, StandAside, Timing};
use strowger_core::ids::{BlobId, NodeId};
use strowger_core::ports::Machine;
use strowger_core::state::{ExchangeMachine, SharedState};
use strowger_media::EngineConfig;
use strowger_sip::endpoint::{Endpoint, EndpointConfig};
use strowger_sip::transport::{Network, RateLimits};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;

use crate::api::{Gauges, Office, TlsFiles};
use crate::blobs::Blobs;
use crate::config::NodeConfig;
use crate::fault::{Fault, code};
use crate::peer::PeerService;
use crate::secrets::Vault;
use crate::telephony::sound::{BlobSource, Sounds};
use crate::telephony::wake::WakeHub;
use crate::telephony::{Parts, SipPorts, Telephony};
use crate::{founding, limits};

/// Longest wait for agreement to stop.
const CLOSING: Duration = Duration::from_millis(1_500);

impl BlobSource for Blobs {
    fn blob(&self, id: BlobId) -> Option<Vec<u8>> {
        self.store().read(id)
    }

    fn came(&self) -> Arc<Notify> {
        Arc::clone(self.came())
    }
}

impl Gauges for Telephony {
    fn serves_sip(&self) -> bool {
        self.serves()
    }

    fn rtp_ports_in_use(&self) -> u64 {
        u64::try_from(self.shared().engine.ports_in_use()).unwrap_or(u64::MAX)
    }

    fn call_actors(&self) -> u64 {
        let switchboard = self.shared().switchboard();
        let alive = switchboard.map_or(0, strowger_actors::switchboard::Switchboard::alive);
        u64::try_from(alive).unwrap_or(u64::MAX)
    }

    fn sip_messages(&self) -> (u64, u64) {
        let stats = self.shared().endpoint().map(Endpoint::stats);
        stats.map_or((0, 0), |stats| (stats.received_total(), stats.sent_total()))
    }

    fn dropped(&self) -> Vec<(&'static str, &'static str, u64)> {
        let mut dropped = Vec::new();
        if let Some(stats) = self.shared().endpoint().map(Endpoint::stats) {
            let causes = strowger_sip::stats::Drop::ALL.iter();
            dropped
                .extend(causes.map(|cause| ("sip", cause.as_str(), stats.dropped_total(*cause))));
        }
        let late = &self.shared().legs.reports_dropped;
        dropped.push(("sip", "report_backlog", late.load(Ordering::Relaxed)));
        let rtp = self.shared().engine.totals();
        dropped.extend([
            ("rtp", "foreign_source", rtp.foreign_dropped),
            ("rtp", "malformed", rtp.malformed_dropped),
            ("rtp", "payload_type", rtp.payload_dropped),
            ("rtp", "stale", rtp.stale_dropped),
            ("rtp", "send_failed", rtp.send_failed),
        ]);
        dropped
    }
}

/// A node that runs.
struct Node {
    cluster: Cluster,
    telephony: Telephony,
    office: Arc<Office>,
    api: tokio::task::JoinHandle<()>,
}

/// Runs a node until SIGTERM or SIGINT; says `ready node=…` on standard output once it
/// serves. A second signal ends the process at once.
///
/// # Errors
/// A [`Fault`] when a part does not start, or the node stands aside.
pub async fn run(config: NodeConfig) -> Result<(), Fault> {
    let mut signals = Signals::listen()?;
    let node = tokio::select! {
        started = Node::start(&config) => started?,
        () = signals.told() => return Ok(()),
    };
    let serving = async {
        node.announce(&config).await;
        std::future::pending::<()>().await;
    };
    let removed = tokio::select! {
        () = serving => None,
        () = signals.told() => None,
        why = node.removed() => Some(why),
    };
    tracing::info!("ending");
    tokio::select! {
        () = node.end() => tracing::info!("ended"),
        () = signals.told() => tracing::warn!("ended at once"),
        () = tokio::time::sleep(limits::DRAIN_TIMEOUT) => tracing::warn!("ended late"),
    }
    match removed {
        None => Ok(()),
        Some(why) => Err(Fault::of(code::START, &why, "look into the log")),
    }
}

impl Node {
    async fn start(config: &NodeConfig) -> Result<Self, Fault> {
        let (identity, vault) = founding::load(config)?;
        let vault = Arc::new(vault);
        let state = SharedState::default();
        let wakes = WakeHub::default();
        let machine = ExchangeMachine::new(state.clone(), Box::new(wakes.clone()));
        let cluster = open(config, machine).await?;
        let parts = (identity, vault, state, wakes);
        let started = Self::serve(config, cluster.clone(), parts).await;
        if started.is_err() {
            // The store must not be in use when the process ends.
            close(cluster).await;
        }
        started
    }

    /// Puts the parts of a node together, on agreement and storage that run.
    async fn serve(
        config: &NodeConfig,
        cluster: Cluster,
        (identity, vault, state, wakes): (Identity, Arc<Vault>, SharedState, WakeHub),
    ) -> Result<Self, Fault> {
        if let Some(index) = state.read().diverged(NodeId(config.id)) {
            let why = StandAside::StateDiffers { index };
            return Err(Fault::of(code::START, &why, "look into the log"));
        }
        crate::demo::note_pid(&config.file);
        let blobs = Blobs::new(&config.data);
        let peers = PeerService::new(&cluster, Arc::clone(&blobs));
        cluster.set_handler(Arc::clone(&peers) as Arc<dyn strowger_cluster::PeerHandler>);
        let telephony = Telephony::start(Parts {
            node: NodeId(config.id),
            address: config.listen.address,
            cluster: cluster.clone(),
            state: state.clone(),
            wakes,
            vault: Arc::clone(&vault),
            sounds: Arc::new(Sounds::new(Arc::clone(&blobs) as Arc<dyn BlobSource>)),
            sip: sip(config, vault.sip_key()),
            media: EngineConfig {
                ports: config.listen.rtp.clone(),
                ..EngineConfig::default()
            },
            ports: SipPorts {
                udp: config.listen.sip_udp,
                tcp: config.listen.sip_tcp,
            },
        })
        .await
        .map_err(|error| Fault::of(code::START, &error, "look into the log"))?;
        let taker = telephony.clone();
        peers.set_messages(Box::new(move |body| taker.take_in(body)));
        let gauges = Arc::new(telephony.clone());
        let office = Office::new(
            cluster.clone(),
            state.clone(),
            vault,
            Arc::clone(&blobs),
            gauges,
        );
        tokio::spawn(blobs.repair(cluster.clone(), state, office.stop.clone()));
        let (certificate, key) = identity.tls_identity();
        let tls = TlsFiles {
            certificate,
            key,
            authority: identity.authority_certificate(),
        };
        let api = office
            .serve(api_address(config), tls)
            .await
            .map_err(|error| {
                Fault::of(code::BIND, &error, "free the port, or correct [listen] api")
            })?;
        Ok(Self {
            cluster,
            telephony,
            office,
            api,
        })
    }

    /// Waits until the node serves and says so.
    async fn announce(&self, config: &NodeConfig) {
        while !self.office.unready().is_empty() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let sip: Vec<String> = {
            let state = self.office.state.read();
            let held = state.addresses.values();
            held.filter(|row| row.holder == Some(NodeId(config.id)))
                .map(|row| SocketAddr::new(row.address, config.listen.sip_udp).to_string())
                .collect()
        };
        let scheme = if config.listen.address.is_loopback() {
            "http"
        } else {
            "https"
        };
        let (id, api) = (config.id, api_address(config));
        let incarnation = self.cluster.incarnation();
        tracing::info!(node = id, incarnation, version = crate::VERSION, "ready");
        // Nobody may be reading, as under a service manager: the log has said it.
        let line = format!(
            "ready node={id} api={scheme}://{api} sip={}\n",
            sip.join(",")
        );
        let _ = std::io::Write::write_all(&mut std::io::stdout(), line.as_bytes());
        let _ = std::io::Write::flush(&mut std::io::stdout());
    }

    /// Waits until this node learns that it was removed from the cluster, or that its copy
    /// of the state is wrong: it will never serve again, who started it should hear so,
    /// and the end of its process lets the others take over at once.
    async fn removed(&self) -> StandAside {
        loop {
            match self.cluster.stood_aside() {
                Some(
                    why @ (StandAside::Removed
                    | StandAside::StateDiffers { .. }
                    | StandAside::Forgot { .. }
                    | StandAside::TooOld(_)),
                ) => return why,
                _ => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }

    /// Ends the node in good order.
    async fn end(self) {
        self.office.ending.store(true, Ordering::Relaxed);
        let own = self.cluster.node();
        if self.cluster.leader() == Some(own) {
            let heir = self.cluster.members().into_iter().find(|member| {
                let alive = matches!(member.liveness, Liveness::Alive { .. });
                member.node != own && member.role == Role::Voter && alive
            });
            if let Some(heir) = heir {
                let handing = self.cluster.transfer_leader(heir.node);
                let _ = tokio::time::timeout(Duration::from_secs(1), handing).await;
            }
        }
        self.telephony.stop().await;
        self.office.stop.cancel();
        let _ = tokio::time::timeout(Duration::from_secs(1), self.api).await;
        drop((self.telephony, self.office));
        close(self.cluster).await;
    }
}

/// Closes agreement and storage, off the runtime because that blocks. The log is synced when
/// agreement has stopped; what still holds the store after that ends with the process.
async fn close(cluster: Cluster) {
    let closing = tokio::task::spawn_blocking(move || cluster.close());
    let _ = tokio::time::timeout(CLOSING, closing).await;
}

/// Opens agreement and storage, off the runtime because that blocks.
async fn open(config: &NodeConfig, machine: impl Machine) -> Result<Cluster, Fault> {
    let mut settings = ClusterConfig::new(&config.data, founding::cluster_address(config));
    // Several nodes on few processors, as in a demonstration, starve each other's timers.
    if std::thread::available_parallelism().is_ok_and(|processors| processors.get() < 4) {
        settings.timing = Timing::STARVED;
    }
    let opening = tokio::task::spawn_blocking(move || Cluster::open(settings, machine));
    let opened = opening.await;
    let opened = opened.map_err(|error| Fault::of(code::START, &error, "look into the log"))?;
    opened.map_err(|error| {
        let next = "see the page of this code";
        Fault::of(code::START, &error, next).at(config.file.display().to_string())
    })
}

fn sip(config: &NodeConfig, token_key: [u8; 32]) -> EndpointConfig {
    let networks = config.limits.trusted_sources.iter();
    EndpointConfig {
        rate: RateLimits {
            per_source_rps: config.limits.per_source_rps,
            trusted: networks
                .map(|net| Network::new(net.addr(), net.prefix_len()))
                .collect(),
        },
        product: format!("Strowger/{}", crate::VERSION),
        byes_wait: true,
        ..EndpointConfig::new(token_key)
    }
}

fn api_address(config: &NodeConfig) -> SocketAddr {
    SocketAddr::new(config.listen.address, config.listen.api)
}

/// The signals that end a daemon.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> Result<Self, Fault> {
        let listen = |kind| {
            signal(kind).map_err(|error| Fault::of(code::START, &error, "look into the log"))
        };
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    /// Waits for the next of them.
    async fn told(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
