//! The site of a simulated exchange: queues of several strategies, agents at fixed phones,
//! extensions, a trunk with a customer behind each number.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use strowger_core::ids::{AgentId, BlobId, Extension, QueueName, TenantId};
use strowger_core::ivr::speech::Key;
use strowger_core::site::{
    AgentSpec, Callback, CallerId, Choice, Comfort, DigestAlgorithm, ExtensionSpec, NumberSpec,
    Numbering, QueueSpec, RouteSpec, RungFirst, Site, Strategy, TakeoverMode, Target, TrunkSpec,
};

use crate::plan::Plan;

/// The tenant.
pub fn tenant() -> TenantId {
    TenantId::from("acme")
}

/// Address of a node's own ports.
pub fn node_address(node: u64) -> IpAddr {
    IpAddr::from([127, 0, 0, u8::try_from(node).unwrap_or(255)])
}

/// Service addresses.
pub fn service_addresses() -> Vec<IpAddr> {
    (1..=6).map(|n| IpAddr::from([127, 0, 1, n])).collect()
}

/// The URI of an agent's phone.
pub fn agent_uri(n: u64) -> String {
    format!("sip:agent{n}@127.0.2.{n}")
}

/// The URI of a fixed extension's phone.
pub fn extension_uri(n: u64) -> String {
    format!("sip:line{n}@127.0.3.{n}")
}

/// The trunk's destinations.
pub const TRUNK: [&str; 2] = ["sip:127.0.4.1:5080", "sip:127.0.4.2:5080"];

/// Agents by number.
pub fn agent_id(n: u64) -> AgentId {
    AgentId::from(format!("agent{n}"))
}

/// Extensions that are called directly.
pub const EXTENSIONS: u64 = 4;

fn queue(strategy: Strategy, ring_ms: u64, wrap_ms: u64, first: RungFirst) -> QueueSpec {
    QueueSpec {
        music: Some(BlobId([2; 32])),
        comfort: Comfort {
            announce_ms: 15_000,
            position: true,
            redial_ms: 60_000,
            advert: Key::parse('2').map(|key| (key, BlobId([4; 32]))),
            max_wait: None,
            callback: Key::parse('1').map(|key| Callback {
                key,
                after_ms: 0,
                attempts: 2,
                pause_ms: 10_000,
                prefix: "0".to_string(),
                hours: None,
                first,
            }),
            ..Comfort::default()
        },
        ..QueueSpec::plain(strategy, ring_ms, wrap_ms, 3)
    }
}

/// The site of a run. `version` changes what may change under calls.
pub fn site(plan: &Plan, version: u64) -> Site {
    let extensions = (1..=EXTENSIONS).map(|n| {
        let spec = ExtensionSpec {
            contact: Some(extension_uri(n)),
            qualify_s: Some(0),
        };
        (Extension::from(format!("10{n:02}")), spec)
    });
    let to = |name: &str, greeting: Option<u8>| NumberSpec {
        target: Target::Queue(QueueName::from(name)),
        public: true,
        greeting: greeting.map(|byte| BlobId([byte; 32])),
        hours: None,
    };
    let agents = (1..=plan.agents).map(|n| {
        let queues: &[&str] = match n % 3 {
            0 => &["sales"],
            1 => &["support", "sales"],
            _ => &["support", "all"],
        };
        let spec = AgentSpec {
            extension: None,
            contact: Some(agent_uri(n)),
            devices: Vec::new(),
            skills: BTreeMap::new(),
            team: None,
            wrap_ms: None,
            place: u32::try_from(n).unwrap_or(0),
            queues: queues.iter().map(|name| QueueName::from(*name)).collect(),
            signed_in: true,
            qualify_s: 0,
        };
        (agent_id(n), spec)
    });
    let mut sales = queue(
        Strategy::RoundRobin,
        12_000 + version * 1_000,
        0,
        RungFirst::Agent,
    );
    sales.agent_announcement = Some(BlobId([3; 32]));
    let strategy = if version.is_multiple_of(2) {
        Strategy::LongestIdle
    } else {
        Strategy::FewestCalls
    };
    Site {
        tenant: tenant(),
        domain: "acme.example".to_string(),
        timezone: "UTC".to_string(),
        digest: vec![DigestAlgorithm::Sha256],
        numbering: Numbering::default(),
        tiers: BTreeMap::new(),
        service_addresses: service_addresses(),
        takeover: TakeoverMode::Address,
        extensions: extensions.collect(),
        imported: BTreeSet::new(),
        numbers: BTreeMap::from([
            ("4001".into(), to("support", Some(1))),
            ("4002".into(), to("sales", None)),
            ("4003".into(), to("all", None)),
            (
                "4004".into(),
                NumberSpec {
                    target: Target::Extension(Extension::from("1001")),
                    public: true,
                    greeting: None,
                    hours: None,
                },
            ),
        ]),
        queues: BTreeMap::from([
            (
                QueueName::from("support"),
                queue(strategy, 15_000, 3_000, RungFirst::Customer),
            ),
            (QueueName::from("sales"), sales),
            (
                QueueName::from("all"),
                queue(Strategy::RingAll, 10_000, 1_000, RungFirst::Customer),
            ),
        ]),
        agents: agents.collect(),
        pauses: Vec::new(),
        hours: BTreeMap::new(),
        trunks: BTreeMap::from([(
            "out".into(),
            TrunkSpec {
                destinations: TRUNK.map(|uri| Choice::plain(uri.to_string())).to_vec(),
                sources: Vec::new(),
                channels: 5,
                cps: 0,
                failover_ms: 3_000,
                caller_id: CallerId::default(),
                qualify_s: 0,
            },
        )]),
        routes: vec![RouteSpec {
            prefix: "0".to_string(),
            strip: 1,
            trunks: vec![Choice::plain("out".into())],
        }],
        blobs: BTreeMap::new(),
    }
}
