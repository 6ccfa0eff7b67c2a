//! The site: the declarative, replicated configuration of a tenant, validated and
//! normalised. Reading TOML, files and line numbers happens before, in the daemon;
//! what stands here can be applied without a further question.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::floor::figure::Formula;
use crate::hours::HoursSpec;
use crate::ids::{
    AgentId, BlobId, Extension, HoursName, QueueName, SkillName, TeamName, TenantId, TrunkName,
};
use crate::ivr::speech::{Key, Language};
use crate::limits;
use crate::skill::SkillRule;

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

/// How a queue picks among the agents who could take a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Strategy {
    /// The agent idle longest.
    LongestIdle,
    /// The agent whose last offer lies back furthest.
    RoundRobin,
    /// The agent with the fewest calls since sign-in.
    FewestCalls,
    /// The agent with the least talk time since sign-in.
    LeastTalk,
    /// The first one in the order of the site file.
    Linear,
    /// Every one at once; the first answer wins.
    RingAll,
    /// Any, drawn from the log.
    Random,
}

impl Strategy {
    /// Every strategy, in the order documents list them.
    pub const ALL: [Self; 7] = [
        Self::LongestIdle,
        Self::RoundRobin,
        Self::FewestCalls,
        Self::LeastTalk,
        Self::Linear,
        Self::RingAll,
        Self::Random,
    ];

    /// The word in the site file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LongestIdle => "longest-idle",
            Self::RoundRobin => "round-robin",
            Self::FewestCalls => "fewest-calls",
            Self::LeastTalk => "least-talk",
            Self::Linear => "linear",
            Self::RingAll => "ring-all",
            Self::Random => "random",
        }
    }

    /// The strategy with this word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.as_str() == word)
    }
}

/// An internal line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtensionSpec {
    /// SIP URI of a fixed device that neither registers nor is challenged.
    pub contact: Option<String>,
    /// Interval of OPTIONS checks, s; 0 = none; `None` = as usual while a signed-in agent
    /// works at its registered phone.
    pub qualify_s: Option<u32>,
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
    /// Hours outside which it leads elsewhere; `None` = always open.
    pub hours: Option<(HoursName, Closed)>,
}

/// What becomes of callers outside the hours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Closed {
    /// They go there instead, without the greeting.
    To(Target),
    /// They are told that nobody is there, in this language, and the call ends.
    Told(Language),
}

/// What waiting callers hear beside music and where they may go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Comfort {
    /// Language of what the exchange says.
    pub language: Language,
    /// Pause before the first announcement and between two, ms; 0 = none.
    pub announce_ms: u64,
    /// Whether callers are told their place.
    pub position: bool,
    /// Whether callers are told the expected wait.
    pub expected_wait: bool,
    /// The key that plays the advert, and the advert.
    pub advert: Option<(Key, BlobId)>,
    /// The key that leaves the queue, and where to.
    pub exit: Option<(Key, Target)>,
    /// How long a caller waits at most, ms, and where he goes then.
    pub max_wait: Option<(u64, Target)>,
    /// How many wait at most, and where further callers go.
    pub max_length: Option<(u32, Target)>,
    /// Where callers go while nobody who could serve them is at work.
    pub unstaffed: Option<Target>,
    /// How long the place of a caller who left without an answer is kept for the same
    /// number, ms; 0 = not at all.
    pub redial_ms: u64,
    /// Whether and how callers may be called back.
    pub callback: Option<Callback>,
}

/// How a queue calls back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Callback {
    /// The key that takes a callback.
    pub key: Key,
    /// How long a caller waits before it is offered and the key means something, ms.
    pub after_ms: u64,
    /// Attempts to reach the customer.
    pub attempts: u32,
    /// Pause between two attempts, ms.
    pub pause_ms: u64,
    /// Put before the number of a customer outside; a route must match what comes out.
    pub prefix: String,
    /// Hours outside which nobody is called back; `None` = at any time.
    pub hours: Option<HoursName>,
    /// Who is rung first.
    pub first: RungFirst,
}

/// Who is rung first for a callback.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RungFirst {
    /// The customer, while an agent is kept for him.
    #[default]
    Customer,
    /// The agent; the customer is dialled when the agent has answered.
    Agent,
}

impl RungFirst {
    /// The word in the site file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Customer => "customer",
            Self::Agent => "agent",
        }
    }

    /// The one with this word.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Customer, Self::Agent]
            .into_iter()
            .find(|one| one.as_str() == word)
    }
}

/// A queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueSpec {
    /// How agents are picked.
    pub strategy: Strategy,
    /// How long one offer rings, ms.
    pub ring_ms: u64,
    /// After-call work, ms, of agents who have no time of their own.
    pub wrap_ms: u64,
    /// Missed offers in a row before the agent is paused; 0 = never.
    pub missed_max: u32,
    /// Music for waiting callers.
    pub music: Option<BlobId>,
    /// What an agent who answers hears before caller and agent hear each other.
    pub agent_announcement: Option<BlobId>,
    /// Target of the service level, ms.
    pub sl_ms: u64,
    /// Who leaves before this does not count against the service level, ms.
    pub short_abandon_ms: u64,
    /// How the service level is computed.
    pub sl_formula: Formula,
    /// What waiting callers hear and where they may go.
    pub comfort: Comfort,
    /// Added to the score of each caller.
    pub weight: i64,
    /// Score a caller gains with each second of waiting.
    pub slope: u32,
    /// A caller who has waited this long, ms, is overtaken by nobody who came later.
    pub age_max_ms: u64,
    /// What an agent must be able to do.
    pub skills: SkillRule,
    /// Widens who may serve as the wait grows, earliest step first.
    pub relax: Vec<RelaxStep>,
    /// How long a caller waits for the agent meant for him before anybody may serve, ms.
    pub sticky_ms: u64,
}

impl QueueSpec {
    /// Callers are served in the order they come, by whoever serves the queue.
    pub fn plain(strategy: Strategy, ring_ms: u64, wrap_ms: u64, missed_max: u32) -> Self {
        Self {
            strategy,
            ring_ms,
            wrap_ms,
            missed_max,
            music: None,
            agent_announcement: None,
            sl_ms: limits::SL_TARGET_MS,
            short_abandon_ms: limits::SHORT_ABANDON_MS,
            sl_formula: Formula::default(),
            comfort: Comfort::default(),
            weight: 0,
            slope: 1,
            age_max_ms: 600_000,
            skills: SkillRule::Anyone,
            relax: Vec::new(),
            sticky_ms: 0,
        }
    }

    /// The rule in force after `step` steps of [`QueueSpec::relax`]: the last one given.
    pub fn skills_at(&self, step: usize) -> &SkillRule {
        let given = self.relax.iter().take(step).rev();
        given
            .filter_map(|step| step.skills.as_ref())
            .next()
            .unwrap_or(&self.skills)
    }

    /// Steps passed after a wait of `waited_ms`.
    pub fn step_at(&self, waited_ms: u64) -> usize {
        self.relax
            .iter()
            .take_while(|step| step.after_ms <= waited_ms)
            .count()
    }

    /// True when an agent may serve after `step` steps: as one who serves this queue, a
    /// queue or a team added by a step so far. Skills are asked apart.
    pub fn invites(&self, own: &QueueName, agent: &AgentSpec, step: usize) -> bool {
        let added = |step: &RelaxStep| {
            step.queues.iter().any(|queue| agent.queues.contains(queue))
                || agent
                    .team
                    .as_ref()
                    .is_some_and(|team| step.teams.contains(team))
        };
        agent.queues.contains(own) || self.relax.iter().take(step).any(added)
    }
}

/// From a given wait on, more agents may serve.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelaxStep {
    /// Wait after which it holds, ms.
    pub after_ms: u64,
    /// Takes the place of the rule so far; `None` leaves it.
    pub skills: Option<SkillRule>,
    /// Queues whose agents may serve too.
    pub queues: BTreeSet<QueueName>,
    /// Teams whose agents may serve too.
    pub teams: BTreeSet<TeamName>,
}

/// A reason for a pause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PauseSpec {
    /// The word.
    pub reason: String,
    /// How long it may last, ms; `None` = as long as it takes.
    pub limit_ms: Option<u64>,
    /// True when the time counts as work, such as training.
    pub productive: bool,
}

/// An agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentSpec {
    /// Extension the agent works at unless signed in elsewhere.
    pub extension: Option<Extension>,
    /// SIP URI of a fixed device.
    pub contact: Option<String>,
    /// Further fixed devices, rung together with the first.
    pub devices: Vec<String>,
    /// Queues served.
    pub queues: BTreeSet<QueueName>,
    /// Levels of skill, 1 to 10.
    pub skills: BTreeMap<SkillName, u8>,
    /// The team.
    pub team: Option<TeamName>,
    /// After-call work, ms, instead of the queue's.
    pub wrap_ms: Option<u64>,
    /// Place in the order of the site file, from 0.
    pub place: u32,
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
    /// Opening hours by name.
    pub hours: BTreeMap<HoursName, HoursSpec>,
    /// Agents by id.
    pub agents: BTreeMap<AgentId, AgentSpec>,
    /// Reasons for a pause in the order written; when there are any, one must be given.
    pub pauses: Vec<PauseSpec>,
    /// Trunks by name.
    pub trunks: BTreeMap<TrunkName, TrunkSpec>,
    /// Routes, longest prefix first.
    pub routes: Vec<RouteSpec>,
    /// Blobs the site needs, with their sizes in bytes.
    pub blobs: BTreeMap<BlobId, u64>,
}

impl Site {
    /// The pause with this reason.
    pub fn pause(&self, reason: &str) -> Option<&PauseSpec> {
        self.pauses.iter().find(|pause| pause.reason == reason)
    }
}
