//! The site: the declarative, replicated configuration of a tenant, validated and
//! normalised. Reading TOML, files and line numbers happens before, in the daemon;
//! what stands here can be applied without a further question.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::floor::figure::Formula;
use crate::ids::{AgentId, BlobId, Extension, QueueName, TenantId, TrunkName};

/// How a holder change reaches phones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TakeoverMode {
    /// The service address itself moves.
    Address,
    /// The new owner sends re-INVITE from its own address.
    Reinvite,
}

/// A digest algorithm offered in challenges (RFC 8760).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum DigestAlgorithm {
    /// MD5, for phones that know nothing better.
    Md5,
    /// SHA-256.
    Sha256,
}

/// How a queue picks among ready agents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Strategy {
    /// The agent idle longest.
    LongestIdle,
}

impl Strategy {
    /// The word in the site file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LongestIdle => "longest-idle",
        }
    }
}

/// An internal line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtensionSpec {
    /// SIP URI of a fixed device that neither registers nor is challenged.
    pub contact: Option<String>,
}

/// What a number leads to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Target {
    /// A queue.
    Queue(QueueName),
    /// An extension.
    Extension(Extension),
}

/// A number that can be dialled beside the extensions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NumberSpec {
    /// Where it leads.
    pub target: Target,
    /// True when anonymous callers may reach it.
    pub public: bool,
    /// Prompt played once before the target, after the answer.
    pub greeting: Option<BlobId>,
}

/// A queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueSpec {
    /// How agents are picked.
    pub strategy: Strategy,
    /// How long one offer rings, ms.
    pub ring_ms: u64,
    /// After-call work, ms.
    pub wrap_ms: u64,
    /// Missed offers in a row before the agent is paused; 0 = never.
    pub missed_max: u32,
    /// Music for waiting callers.
    pub music: Option<BlobId>,
    /// Target of the service level, ms.
    pub sl_ms: u64,
    /// Who leaves before this does not count against the service level, ms.
    pub short_abandon_ms: u64,
    /// How the service level is computed.
    pub sl_formula: Formula,
}

/// An agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentSpec {
    /// Extension the agent works at unless signed in elsewhere.
    pub extension: Option<Extension>,
    /// SIP URI of a fixed device.
    pub contact: Option<String>,
    /// Queues served.
    pub queues: BTreeSet<QueueName>,
    /// Signed in as soon as the site is applied.
    pub signed_in: bool,
    /// Interval of OPTIONS checks, s; 0 = none.
    pub qualify_s: u32,
}

/// One entry of a list that is tried in order. Neighbours that carry a weight share one
/// turn: the first of them is drawn by weight, the rest follow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choice<T> {
    /// The entry.
    pub what: T,
    /// Its share among its weighted neighbours; 0 = has a turn of its own.
    pub weight: u32,
}

impl<T> Choice<T> {
    /// An entry with a turn of its own.
    pub fn plain(what: T) -> Self {
        Self { what, weight: 0 }
    }
}

/// Which number a trunk's far end is shown as the caller's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CallerId {
    /// Always this one, without a name.
    Fixed(String),
    /// The caller's own: so many leading digits removed, these put before. None and
    /// nothing passes it on as it is.
    Own {
        /// Leading characters removed.
        strip: usize,
        /// Put before the rest.
        prepend: String,
    },
}

impl Default for CallerId {
    fn default() -> Self {
        Self::Own {
            strip: 0,
            prepend: String::new(),
        }
    }
}

/// A trunk to another exchange.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrunkSpec {
    /// SIP URIs (without user) calls are sent to, in order.
    pub destinations: Vec<Choice<String>>,
    /// Source networks calls are accepted from, in CIDR notation.
    pub sources: Vec<ipnet::IpNet>,
    /// Channels, counted over the whole cluster and both directions.
    pub channels: u32,
    /// Calls that may begin within any second, in both directions; 0 = no limit.
    pub cps: u32,
    /// How long a destination may say nothing at all before the next one is tried, ms.
    pub failover_ms: u64,
    /// Number shown as the caller's.
    pub caller_id: CallerId,
    /// Interval of OPTIONS checks, s; 0 = none.
    pub qualify_s: u32,
}

/// A rule that sends numbers out over a trunk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteSpec {
    /// Leading digits it matches.
    pub prefix: String,
    /// Leading digits removed before dialling.
    pub strip: usize,
    /// Trunks used, in order.
    pub trunks: Vec<Choice<TrunkName>>,
}

/// How numbers are written in the tenant's country.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Numbering {
    /// Country code, such as `86`; empty when only numbers with `+` are understood.
    pub country: String,
    /// Area code without the trunk prefix, such as `10`; put before local numbers.
    pub area: String,
    /// What is dialled before the area code inside the country, such as `0`.
    pub trunk_prefix: String,
    /// What is dialled before a country code, such as `00`.
    pub international_prefix: String,
}

/// A validated site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Site {
    /// The client company.
    pub tenant: TenantId,
    /// SIP domain, also the digest realm.
    pub domain: String,
    /// Algorithms offered, in order.
    pub digest: Vec<DigestAlgorithm>,
    /// Time zone of its hours, days and months in reports: a name of the IANA database.
    pub timezone: String,
    /// How numbers are written.
    pub numbering: Numbering,
    /// Weights of the tiers of customers, by name.
    pub tiers: BTreeMap<String, i64>,
    /// Service addresses of the cluster, in the order written.
    pub service_addresses: Vec<IpAddr>,
    /// How calls follow a holder change.
    pub takeover: TakeoverMode,
    /// Extensions by number.
    pub extensions: BTreeMap<Extension, ExtensionSpec>,
    /// Those of the extensions that were imported, not written in the site's text. They
    /// stay when another text is applied, until an import takes them out.
    pub imported: BTreeSet<Extension>,
    /// Numbers beside the extensions.
    pub numbers: BTreeMap<String, NumberSpec>,
    /// Queues by name.
    pub queues: BTreeMap<QueueName, QueueSpec>,
    /// Agents by id.
    pub agents: BTreeMap<AgentId, AgentSpec>,
    /// Trunks by name.
    pub trunks: BTreeMap<TrunkName, TrunkSpec>,
    /// Routes, longest prefix first.
    pub routes: Vec<RouteSpec>,
    /// Blobs the site needs, with their sizes in bytes.
    pub blobs: BTreeMap<BlobId, u64>,
}
