//! The site every test starts from.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use strowger_core::ids::{AgentId, BlobId, Extension, QueueName, TenantId};
use strowger_core::ivr::speech::Key;
use strowger_core::site::{
    AgentSpec, Callback, CallerId, Choice, Comfort, DigestAlgorithm, ExtensionSpec, NumberSpec,
    Numbering, QueueSpec, RouteSpec, RungFirst, Site, Strategy, TakeoverMode, Target, TrunkSpec,
};

pub fn tenant() -> TenantId {
    TenantId::from("acme")
}

pub fn queue_key(name: &str) -> (TenantId, QueueName) {
    (tenant(), QueueName::from(name))
}

pub fn agent_key(name: &str) -> (TenantId, AgentId) {
    (tenant(), AgentId::from(name))
}

pub fn address(n: u8) -> IpAddr {
    IpAddr::from([127, 0, 1, n])
}

pub fn agent_spec(extension: Option<&str>, queues: &[&str], signed_in: bool) -> AgentSpec {
    AgentSpec {
        extension: extension.map(Extension::from),
        contact: None,
        devices: Vec::new(),
        skills: BTreeMap::new(),
        team: None,
        wrap_ms: None,
        place: 0,
        queues: queues.iter().map(|name| QueueName::from(*name)).collect(),
        signed_in,
        qualify_s: 0,
    }
}

fn queue_spec(ring_ms: u64, wrap_ms: u64, missed_max: u32) -> QueueSpec {
    QueueSpec {
        music: Some(BlobId([2; 32])),
        comfort: Comfort {
            redial_ms: 60_000,
            callback: Key::parse('1').map(|key| Callback {
                key,
                after_ms: 0,
                attempts: 2,
                pause_ms: 30_000,
                prefix: "0".to_string(),
                hours: None,
                first: RungFirst::default(),
            }),
            ..Comfort::default()
        },
        ..QueueSpec::plain(Strategy::LongestIdle, ring_ms, wrap_ms, missed_max)
    }
}

fn number(target: Target, public: bool, greeting: Option<u8>) -> NumberSpec {
    NumberSpec {
        target,
        public,
        greeting: greeting.map(|byte| BlobId([byte; 32])),
        hours: None,
    }
}

/// Eight extensions and a fixed device, two queues, five agents of whom `amy`, `bob`,
/// `cat` and `dan` work at 1001 to 1004 and `eve` at a fixed device; a trunk.
pub fn site() -> Site {
    let lines = (1001..=1008).map(|n: u32| (n.to_string(), None));
    let fixed = ("1090".to_string(), Some("sip:door@127.0.0.90".to_string()));
    let extensions = lines.chain([fixed]).map(|(number, contact)| {
        (
            Extension::from(number),
            ExtensionSpec {
                contact,
                qualify_s: Some(0),
            },
        )
    });
    let queue = |name: &str| Target::Queue(QueueName::from(name));
    let mut eve = agent_spec(None, &["support"], false);
    eve.contact = Some("sip:eve@127.0.0.91".to_string());
    Site {
        tenant: tenant(),
        domain: "acme.example".to_string(),
        timezone: "UTC".to_string(),
        digest: vec![DigestAlgorithm::Sha256, DigestAlgorithm::Md5],
        numbering: Numbering::default(),
        tiers: BTreeMap::from([("gold".to_string(), 50), ("vip".to_string(), 100)]),
        service_addresses: (1..=6).map(address).collect(),
        takeover: TakeoverMode::Address,
        extensions: extensions.collect(),
        imported: BTreeSet::new(),
        numbers: BTreeMap::from([
            ("4008".into(), number(queue("support"), true, Some(1))),
            ("4009".into(), number(queue("sales"), false, None)),
            (
                "4010".into(),
                number(Target::Extension(Extension::from("1008")), true, None),
            ),
        ]),
        queues: BTreeMap::from([
            (QueueName::from("support"), queue_spec(15_000, 10_000, 2)),
            (QueueName::from("sales"), queue_spec(10_000, 0, 0)),
        ]),
        agents: BTreeMap::from([
            (
                AgentId::from("amy"),
                agent_spec(Some("1001"), &["support", "sales"], false),
            ),
            (
                AgentId::from("bob"),
                agent_spec(Some("1002"), &["support"], false),
            ),
            (
                AgentId::from("cat"),
                agent_spec(Some("1003"), &["support", "sales"], false),
            ),
            (
                AgentId::from("dan"),
                agent_spec(Some("1004"), &["sales"], false),
            ),
            (AgentId::from("eve"), eve),
        ]),
        pauses: Vec::new(),
        hours: BTreeMap::new(),
        trunks: BTreeMap::from([(
            "out".into(),
            TrunkSpec {
                destinations: vec![Choice::plain("sip:127.0.0.80:5080".to_string())],
                sources: Vec::new(),
                channels: 10,
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
