//! Wire types of the HTTP and WebSocket interface, version 1.
//!
//! The console, the operator commands and integrations see these objects and
//! nothing else. Times are RFC 3339 UTC with milliseconds (`…_at`), durations
//! integer milliseconds (`…_ms`), ids prefixed strings, absent is `null`. Fields
//! may be added; none changes its name or meaning.

mod customers;
mod hours;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::call_state::CallState;

pub use self::customers::{
    Customer, CustomerCard, CustomerImport, CustomerLine, CustomerPatch, CustomerProfile,
    CustomerReject, CustomerUpload, Interaction,
};
pub use self::hours::{Hours, HoursDay, HoursTime};

/// A node of the cluster as the answering node sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Node {
    /// `node_1`.
    pub id: String,
    /// Address of its API and cluster ports.
    pub address: String,
    /// `up`, `suspect`, `down` or `draining`.
    pub state: String,
    /// `leader`, `voter` or `learner`.
    pub role: String,
    /// Raft term; `null` when the node does not answer.
    pub term: Option<u64>,
    /// Index of the last applied entry; `null` when the node does not answer.
    pub applied: Option<u64>,
    /// Entries it is behind the leader; `null` when unknown.
    pub lag: Option<u64>,
    /// Live calls it owns.
    pub calls: u64,
    /// Version of its program; `null` when the node does not answer.
    pub version: Option<String>,
    /// Hash of its state at `applied`, hexadecimal.
    pub state_hash: Option<String>,
    /// Service addresses it holds.
    pub service_addresses: Vec<String>,
}

/// One contact of a registered phone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Registration {
    /// The registered extension.
    pub extension: String,
    /// Contact URI as the phone gave it.
    pub contact: String,
    /// `udp` or `tcp`.
    pub transport: String,
    /// Node that holds the service address the phone registered at.
    pub node: Option<String>,
    /// When the binding ends unless refreshed.
    pub expires_at: String,
}

/// An agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Agent {
    /// The id in the site file.
    pub id: String,
    /// The extension the agent works at; `null` for a fixed device.
    pub extension: Option<String>,
    /// `signed_out`, `ready`, `offered`, `talking`, `held`, `wrap_up`, `paused`, `no_phone`.
    pub state: String,
    /// Why, for `paused` (such as `missed 3`) and `no_phone`.
    pub reason: Option<String>,
    /// When this state began.
    pub since_at: String,
    /// Calls answered since the agent signed in.
    pub calls: u64,
    /// Talk time with callers of queues since the agent signed in, of calls that are over.
    #[serde(default)]
    pub talk_ms: u64,
    /// Time in each state while at work, ever, as `ready_ms` and so on; they add up to
    /// `at_work_ms`.
    #[serde(default)]
    pub times: std::collections::BTreeMap<String, u64>,
    /// Milliseconds at work, ever.
    #[serde(default)]
    pub at_work_ms: u64,
    /// Team.
    #[serde(default)]
    pub team: Option<String>,
    /// Levels of skill.
    #[serde(default)]
    pub skills: std::collections::BTreeMap<String, u8>,
    /// The live call, when offered, talking or held.
    pub call: Option<String>,
    /// Queues the agent serves.
    pub queues: Vec<String>,
}

/// A leg of a live call or of a record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Leg {
    /// `leg_…`.
    pub id: String,
    /// SIP Call-ID of the dialog.
    pub sip_call_id: String,
    /// `in` or `out`, seen from the exchange.
    pub direction: String,
    /// The party: extension, agent or number.
    pub party: String,
    /// Contact URI of the far end.
    pub remote: Option<String>,
    /// `PCMU` or `PCMA`, once agreed.
    pub codec: Option<String>,
    /// `proceeding`, `ringing`, `answered`, `held` or `ended`.
    pub state: String,
    /// When it began.
    pub started_at: String,
    /// When it was answered.
    pub answered_at: Option<String>,
    /// When it ended.
    pub ended_at: Option<String>,
}

/// A live call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Call {
    /// `call_…`.
    pub id: String,
    /// What it is doing.
    #[schema(value_type = CallState)]
    pub state: String,
    /// Caller.
    pub from: String,
    /// Dialled number.
    pub to: String,
    /// When it arrived.
    pub started_at: String,
    /// Queue, while queued or served from one.
    pub queue: Option<String>,
    /// Agent, while offered or served.
    pub agent: Option<String>,
    /// Customer who calls or is called.
    pub customer: Option<String>,
    /// Place in the queue, from 1; `null` when not waiting.
    pub position: Option<u64>,
    /// Score given to this caller beside the queue's weight and the wait.
    #[serde(default)]
    pub priority: Option<i64>,
    /// Steps of the queue's `relax` passed.
    #[serde(default)]
    pub relax_step: Option<u64>,
    /// Milliseconds waited in the queue so far or in all.
    pub wait_ms: Option<u64>,
    /// Node that owns it.
    pub node: Option<String>,
    /// Service address it is anchored on.
    pub address: String,
    /// Epoch of its service address.
    pub epoch: u32,
    /// Its legs.
    pub legs: Vec<Leg>,
}

/// A queue with its live figures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Queue {
    /// Name in the site file.
    pub name: String,
    /// Such as `longest-idle`.
    pub strategy: String,
    /// Callers waiting, those being offered included.
    pub waiting: u64,
    /// Wait of the caller who waits longest.
    pub longest_wait_ms: u64,
    /// Agents who could take a call now.
    pub agents_ready: u64,
    /// Agents signed in.
    pub agents_signed_in: u64,
}

/// Figures of a queue, agent, team or tenant: since the cluster was made, or of an
/// interval. Shares are in thousandths; `null` where there is nothing to divide by.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Figures {
    /// Client company.
    pub tenant: String,
    /// `queue`, `agent`, `team`, `tenant`, or `all` tenants.
    pub of: String,
    /// Its name.
    pub name: String,
    /// Queue, when it is one.
    pub queue: Option<String>,
    /// Beginning of the interval.
    pub from_at: Option<String>,
    /// End of the interval; what happens then is in the next.
    pub to_at: Option<String>,
    /// The sum of answered, abandoned, overflowed, callback taken, node lost and waiting;
    /// of an interval: who entered the queue in it.
    pub offered: u64,
    /// Agent's answer committed.
    pub answered: u64,
    /// Caller left before an answer.
    pub abandoned: u64,
    /// Left for another destination by rule.
    pub overflowed: u64,
    /// Left with a callback.
    pub callback_taken: u64,
    /// Lost while waiting because a node died.
    pub node_lost: u64,
    /// Still waiting; 0 of an interval.
    pub waiting: u64,
    /// Answered within the target of their queue.
    pub answered_in_target: u64,
    /// Abandoned within the target of their queue.
    pub abandoned_in_target: u64,
    /// Abandoned so soon that they do not count in SL-C; counted in `abandoned` too.
    pub short_abandoned: u64,
    /// Formula of `sl_permille`: `SL-A`, `SL-B` or `SL-C`.
    pub sl_formula: String,
    /// Target of the service level; `null` where queues of different targets are added up.
    pub sl_target_ms: Option<u64>,
    /// Service level by `sl_formula`.
    pub sl_permille: Option<u64>,
    /// Answered in target, of those answered.
    pub sl_a_permille: Option<u64>,
    /// Answered or abandoned in target, of those answered or abandoned.
    pub sl_b_permille: Option<u64>,
    /// Answered in target, of those offered without short abandons.
    pub sl_c_permille: Option<u64>,
    /// Mean wait of answered calls.
    pub asa_ms: Option<u64>,
    /// The wait nine of ten answered calls did not exceed.
    pub wait_p90_ms: Option<u64>,
    /// Longest wait of an answered call.
    pub wait_max_ms: u64,
    /// Sum of the waits of answered calls.
    pub answered_wait_ms: u64,
    /// Mean handling time: talk, hold and wrap-up over answered.
    pub aht_ms: Option<u64>,
    /// Sum of talk without hold of calls that are over.
    pub talk_ms: u64,
    /// Sum of hold of calls that are over.
    pub hold_ms: u64,
    /// Sum of wrap-ups that are over.
    pub wrap_ms: u64,
    /// Sum of the ringing of offers that are over.
    pub ring_ms: u64,
    /// Offers to agents.
    pub offers: u64,
    /// Offers not taken.
    pub missed: u64,
    /// Missed of the offers.
    pub missed_permille: Option<u64>,
    /// Adverts played because callers asked for them.
    #[serde(default)]
    pub adverts: u64,
    /// Answered callers whose wait had been foretold when they came.
    #[serde(default)]
    pub foretold: u64,
    /// Sum of their true waits.
    #[serde(default)]
    pub foretold_wait_ms: u64,
    /// Sum of how far off the foretold waits were.
    #[serde(default)]
    pub foretold_off_ms: u64,
    /// Transfers by agents.
    pub transfers: u64,
    /// Agents signed in.
    pub staffed_ms: u64,
    /// Of this, paused unproductively.
    pub paused_ms: u64,
    /// Of this, ringing, talking, holding or in wrap-up.
    pub busy_ms: u64,
    /// Busy of the time signed in and not paused.
    pub occupancy_permille: Option<u64>,
    /// Answered calls by class of their wait, classes without any left out.
    pub waits: Vec<WaitClass>,
}

/// Answered calls whose wait lies in one class.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct WaitClass {
    /// Longest wait of the class; `null` of the last, which has none.
    pub le_ms: Option<u64>,
    /// How many.
    pub count: u64,
}

/// A queue left for another destination by rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Exit {
    /// The queue.
    pub queue: String,
    /// `max_wait`, `full`, `no_agents` or `key`.
    pub cause: String,
    /// When.
    pub at: String,
    /// How long the caller had waited there.
    pub waited_ms: u64,
}

/// A call detail record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Cdr {
    /// `cdr_…`.
    pub id: String,
    /// Position in the list; give it as `after` to read on.
    pub cursor: String,
    /// The call.
    pub call: String,
    /// Caller.
    pub from: String,
    /// Dialled number.
    pub to: String,
    /// When the call arrived.
    pub started_at: String,
    /// When it entered the queue.
    pub queued_at: Option<String>,
    /// When the called party or agent answered.
    pub answered_at: Option<String>,
    /// When it ended.
    pub ended_at: String,
    /// From entering the queue to the answer or the end.
    pub wait_ms: Option<u64>,
    /// From the answer to the end.
    pub talk_ms: u64,
    /// Queue.
    pub queue: Option<String>,
    /// Agent who answered.
    pub agent: Option<String>,
    /// Customer at the other end.
    pub customer: Option<String>,
    /// Node that owned the call.
    pub node: Option<String>,
    /// `answered`, `abandoned`, `busy`, `no_answer`, `rejected`, `failed`, `overflowed`,
    /// `callback_taken` or `node_lost`.
    pub disposition: String,
    /// Final SIP status towards the caller.
    pub sip_status: Option<u16>,
    /// Q.850 cause.
    pub q850: Option<u16>,
    /// The callback it was an attempt of, by the call that took it.
    #[serde(default)]
    pub callback: Option<String>,
    /// Queues left for another destination by rule, oldest first.
    #[serde(default)]
    pub exits: Vec<Exit>,
    /// Every leg the call ever had.
    pub legs: Vec<Leg>,
}

/// Why a call was offered to whom: one for each assignment, kept like the record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Explanation {
    /// The call.
    pub call: String,
    /// Log index of the assignment.
    pub index: u64,
    /// When it was committed.
    pub at: String,
    /// Queue.
    pub queue: String,
    /// Strategy of the queue.
    pub strategy: String,
    /// Steps of the queue's `relax` passed.
    pub relax_step: u64,
    /// Agents the call was offered to; several by ring-all.
    pub winners: Vec<String>,
    /// Waited so far.
    pub waited_ms: u64,
    /// The caller's score in thousandths.
    pub score_milli: i64,
    /// The queue's weight in it.
    pub weight: i64,
    /// The caller's priority in it.
    pub priority: i64,
    /// Past the ageing ceiling: served before all who are not.
    pub aged: bool,
    /// The agent is the one meant for the caller.
    pub meant: bool,
    /// Agents who could have taken the call, in the order of the strategy; the first ones.
    pub candidates: Vec<Considered>,
    /// Agents who could not; the first ones.
    pub excluded: Vec<Excluded>,
    /// Agents who could have taken the call, counted.
    pub candidates_in_all: u64,
    /// Agents who may serve by queue and skills.
    pub members: u64,
    /// Those of them signed in, not paused and with a phone.
    pub working: u64,
    /// Agents of the queue without the skills asked for.
    pub unfit: u64,
}

/// An agent who could have taken a call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Considered {
    /// The agent.
    pub agent: String,
    /// Idle for so long.
    pub idle_ms: u64,
    /// Calls since sign-in.
    pub calls: u64,
    /// Talk time since sign-in.
    pub talk_ms: u64,
    /// Number of the last offer before; rises over all agents, 0 = none.
    pub last_offer: u64,
}

/// An agent who could not take a call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Excluded {
    /// The agent.
    pub agent: String,
    /// `skills`, `missed_this_caller`, `caller_waits_for_another` or the agent's state.
    pub reason: String,
}

/// An extension.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ExtensionInfo {
    /// Number.
    pub extension: String,
    /// True when it was imported and stands in no site file.
    pub imported: bool,
    /// Fixed contact, for a device that does not register.
    pub contact: Option<String>,
    /// Live bindings.
    pub registrations: u64,
    /// Agents who work here.
    pub agents: Vec<String>,
}

/// A customer to be called back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Callback {
    /// The call that took it; attempts name it.
    pub id: String,
    /// Queue.
    pub queue: String,
    /// Whom to call.
    pub number: String,
    /// Number he had dialled, which he is shown.
    pub to: String,
    /// `waiting`, `closed` outside the hours of callbacks, `offered` to an agent who is rung
    /// first, `dialling`, or `resting` between two attempts.
    pub state: String,
    /// When he asked for it.
    pub taken_at: String,
    /// From when on his wait counts.
    pub since: String,
    /// Attempts begun.
    pub attempts: u64,
    /// When it waits again after an attempt that failed, or the hours open next.
    pub next_at: Option<String>,
    /// The attempt under way, or the call that rings at an agent.
    pub call: Option<String>,
    /// The agent kept for it, or rung.
    pub agent: Option<String>,
    /// The customer.
    pub customer: Option<String>,
}

/// A trunk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Trunk {
    /// Name in the site file.
    pub name: String,
    /// Channels it has.
    pub channels: u64,
    /// Channels in use.
    pub in_use: u64,
    /// Highest number in use so far.
    pub peak: u64,
    /// `up` or `down`.
    pub state: String,
    /// When the peak was reached.
    pub peak_at: Option<String>,
    /// Of those in use: held by calls lost with their node until the far end has answered.
    pub releasing: u64,
    /// Calls that may begin within a second; 0 = no limit.
    pub cps: u64,
    /// Channels seized so far.
    pub seized: u64,
    /// Calls so far that found no channel free or came too fast.
    pub refused: u64,
    /// Channels given back so far without a final answer of the far end.
    pub doubtful: u64,
}

/// The cluster at a glance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Cluster {
    /// Cluster name.
    pub name: String,
    /// Cluster id, hexadecimal.
    pub id: String,
    /// Leader, when known.
    pub leader: Option<String>,
    /// Raft term.
    pub term: u64,
    /// Applied index of the answering node.
    pub applied: u64,
    /// Nodes in all.
    pub nodes: u64,
    /// Nodes up.
    pub nodes_up: u64,
    /// Feature level in force.
    pub feature_level: u32,
    /// Service addresses with holder and epoch.
    pub service_addresses: Vec<ServiceAddress>,
}

/// A service address.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ServiceAddress {
    /// IP address.
    pub address: String,
    /// Holder; `null` while nobody is up.
    pub node: Option<String>,
    /// Rises when the holder changes.
    pub epoch: u32,
    /// Live calls anchored on it.
    pub calls: u64,
}

/// An event of the stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// Position in the stream; connect with `from=CURSOR` to read what follows.
    pub cursor: String,
    /// When it was committed.
    pub at: String,
    /// Such as `call.arrived`, `call.bridged`, `agent.state`, `node.down`, `command.outcome`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Id of the thing it is about.
    pub entity: String,
    /// Further fields of this type of event.
    #[serde(flatten)]
    pub fields: serde_json::Map<String, serde_json::Value>,
}

/// A command to the exchange.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Command {
    /// Chosen by the sender; comes back in the outcome and in its event.
    pub id: String,
    /// What to do.
    #[serde(flatten)]
    pub action: Action,
}

/// What a command does. New types may come.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Action {
    /// Signs an agent in, at `extension` when given.
    AgentSignIn {
        /// Agent id.
        agent: String,
        /// Extension to work at.
        extension: Option<String>,
    },
    /// Signs an agent out; a live call goes on.
    AgentSignOut {
        /// Agent id.
        agent: String,
    },
    /// Pauses an agent.
    AgentPause {
        /// Agent id.
        agent: String,
        /// Why.
        reason: String,
    },
    /// Ends pause or wrap-up.
    AgentReady {
        /// Agent id.
        agent: String,
    },
    /// Lengthens the wrap-up an agent is in.
    AgentExtendWrapUp {
        /// Agent id.
        agent: String,
        /// Seconds.
        by_s: u64,
    },
    /// Gives a waiting caller a score beside the queue's weight and the wait.
    CallPrioritize {
        /// Call id.
        call: String,
        /// The score.
        weight: i64,
    },
    /// Lets a waiting caller wait for one agent, for as long as the queue grants.
    CallPrefer {
        /// Call id.
        call: String,
        /// Agent id.
        agent: String,
    },
    /// Ends a call.
    CallHangup {
        /// Call id.
        call: String,
    },
    /// Says which customer a live call is with.
    CallCustomer {
        /// Call id.
        call: String,
        /// Customer id; `null` when it is none after all.
        customer: Option<String>,
    },
    /// Stops new calls at a node and moves its addresses away as they become free.
    NodeDrain {
        /// Node.
        node: String,
    },
    /// Takes a drain back.
    NodeUndrain {
        /// Node.
        node: String,
    },
    /// Takes a node out of the cluster for good.
    NodeRemove {
        /// Node.
        node: String,
    },
    /// Opens or closes hours by hand for a while.
    HoursOverride {
        /// Name of the hours.
        hours: String,
        /// True to open, false to close; `null` to follow the site again.
        open: Option<bool>,
        /// For how long, seconds; needed to open or close.
        for_s: Option<u64>,
    },
    /// Takes a callback back; an attempt under way is cancelled.
    CallbackCancel {
        /// Callback id.
        callback: String,
    },
}

/// What became of a command.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CommandOutcome {
    /// The id of the command.
    pub id: String,
    /// `done` or `refused`.
    pub outcome: String,
    /// Why it was refused.
    pub error: Option<Problem>,
}

/// An error as operators see it; see `docs/errors`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// `SW0123`.
    pub code: String,
    /// What is wrong.
    pub what: String,
    /// Where: file and line, header, field.
    #[serde(rename = "where")]
    pub place: Option<String>,
    /// What to do next.
    pub next: Option<String>,
}

/// The body of every error answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    /// The error.
    pub error: Problem,
}

/// Answer to a request for an invitation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Invitation {
    /// One-time join token for `strowgerd join`.
    pub token: String,
    /// When it stops working.
    pub expires_at: String,
}

/// A site as sent for validation, dry run or application.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SiteUpload {
    /// Name of the file, for messages.
    pub file: String,
    /// Its text, TOML.
    pub text: String,
    /// The WAV and CSV files it names, base64, by the path written in the site file.
    pub attachments: std::collections::BTreeMap<String, String>,
    /// Validate and show the difference only.
    pub dry_run: bool,
}

/// Extensions with known passwords to be added to the site in force.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ExtensionImport {
    /// Name of the file, for messages.
    pub file: String,
    /// Its text: CSV with the header `extension,password`.
    pub text: String,
    /// Take out what earlier imports brought and this file leaves out.
    #[serde(default)]
    pub replace: bool,
    /// Validate and count only.
    #[serde(default)]
    pub dry_run: bool,
}

/// What an import changed or would change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ExtensionsImported {
    /// Version of the site in force afterwards.
    pub version: u64,
    /// True when nothing was imported.
    pub dry_run: bool,
    /// Extensions that are new.
    pub added: u64,
    /// Extensions that were there and have another password now.
    pub updated: u64,
    /// Extensions that had this password already.
    pub unchanged: u64,
    /// Extensions taken out.
    pub removed: u64,
}

/// What applying a site changed or would change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SiteChange {
    /// Version in force afterwards.
    pub version: u64,
    /// True when nothing was applied.
    pub dry_run: bool,
    /// Lines `+ …`, `- …`, `~ …`.
    pub diff: Vec<String>,
    /// Live calls the change touches.
    pub calls_affected: u64,
    /// Agents the change touches.
    pub agents_affected: u64,
    /// Secrets made for new extensions; shown once.
    pub generated: Vec<GeneratedSecret>,
}

/// A password made for an extension.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct GeneratedSecret {
    /// Extension.
    pub extension: String,
    /// Password.
    pub password: String,
}

/// One version of a site.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SiteVersion {
    /// Rises by one with each change.
    pub version: u64,
    /// When it was applied.
    pub applied_at: String,
    /// BLAKE3 of the text.
    pub hash: String,
    /// The text; only in `site show`.
    pub text: Option<String>,
    /// True for the version in force.
    pub current: bool,
}

/// The overview a supervisor looks at all day: one fold, shown everywhere.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Overview {
    /// Time of the answer.
    pub at: String,
    /// Live calls.
    pub calls: u64,
    /// Registered contacts.
    pub registrations: u64,
    /// Callers waiting over all queues.
    pub waiting: u64,
    /// Longest wait over all queues.
    pub longest_wait_ms: u64,
    /// Agents by state.
    pub agents: std::collections::BTreeMap<String, u64>,
    /// Figures of every queue.
    pub figures: Vec<Figures>,
    /// Figures of everything together.
    #[serde(default)]
    pub total: Box<Figures>,
    /// Alarms in force, newest first.
    pub alarms: Vec<Problem>,
}
