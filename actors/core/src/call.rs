//! Live calls as rows: what is desired of every leg and what was seen of it.
//!
//! A row says what *should* be; the owner's actor makes it so and reports what it
//! saw. Rows never hold what is local to a node (ports, transactions, packets).

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::call_state::CallState;
use crate::ids::{
    AgentId, BlobId, CallId, CustomerId, Extension, LegId, NodeId, QueueName, TenantId, TrunkName,
};
use crate::ivr::speech::{Announcement, Language};
use crate::number::E164;
use crate::time::TimeMs;

/// Why a call is over, as figures and records count it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Disposition {
    /// Two parties talked.
    Answered,
    /// The caller left before an answer.
    Abandoned,
    /// The called party was busy.
    Busy,
    /// Nobody answered in time.
    NoAnswer,
    /// Refused by a rule or by the called party.
    Rejected,
    /// Could not be carried out.
    Failed,
    /// Left the queue for another destination by rule.
    Overflowed,
    /// Left the queue with a callback.
    CallbackTaken,
    /// Ended because its node died.
    NodeLost,
}

impl Disposition {
    /// The word in records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Abandoned => "abandoned",
            Self::Busy => "busy",
            Self::NoAnswer => "no_answer",
            Self::Rejected => "rejected",
            Self::Failed => "failed",
            Self::Overflowed => "overflowed",
            Self::CallbackTaken => "callback_taken",
            Self::NodeLost => "node_lost",
        }
    }
}

/// A SIP status and Q.850 cause that say why a leg is to end or has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// SIP final status a caller is given, or that a called party gave; 200 for a
    /// normal clearing of an answered leg, 487 for a cancelled one.
    pub status: u16,
    /// Q.850 cause value.
    pub q850: u16,
}

impl Cause {
    /// Normal clearing of an answered leg.
    pub const NORMAL: Self = Self {
        status: 200,
        q850: 16,
    };
    /// Cancelled before the answer.
    pub const CANCELLED: Self = Self {
        status: 487,
        q850: 16,
    };
    /// Another phone of the same party answered (RFC 3326: cause 200 of SIP).
    pub const ELSEWHERE: Self = Self {
        status: 487,
        q850: 26,
    };
    /// Busy.
    pub const BUSY: Self = Self {
        status: 486,
        q850: 17,
    };
    /// No answer from the user.
    pub const NO_ANSWER: Self = Self {
        status: 480,
        q850: 19,
    };
    /// The far end has answered nothing: whether it still counts the leg is not known
    /// (Q.850: no user responding).
    pub const SILENCE: Self = Self {
        status: 408,
        q850: 18,
    };
    /// Nobody is registered under the number.
    pub const NOT_REGISTERED: Self = Self {
        status: 480,
        q850: 20,
    };
    /// Unallocated number.
    pub const UNKNOWN_NUMBER: Self = Self {
        status: 404,
        q850: 1,
    };
    /// The caller may not reach this number.
    pub const FORBIDDEN: Self = Self {
        status: 403,
        q850: 21,
    };
    /// What the caller waited for was taken out of service.
    pub const REMOVED: Self = Self {
        status: 480,
        q850: 31,
    };
    /// Nobody is there at this time; the caller was told so (Q.850: call rejected).
    pub const CLOSED: Self = Self {
        status: 480,
        q850: 21,
    };
    /// No codec in common.
    pub const NO_CODEC: Self = Self {
        status: 488,
        q850: 65,
    };
    /// No circuit or port free.
    pub const CONGESTION: Self = Self {
        status: 503,
        q850: 34,
    };
    /// Temporary failure.
    pub const FAILURE: Self = Self {
        status: 503,
        q850: 41,
    };
    /// The node that owned the call died.
    pub const NODE_LOST: Self = Self {
        status: 503,
        q850: 41,
    };

    /// True when one phone answered for every phone of its user (RFC 3261 §21.6).
    pub fn is_global(self) -> bool {
        matches!(self.status, 600..=699)
    }

    /// The cause for a SIP status, by the mapping of RFC 3398 §8.2.
    pub fn from_status(status: u16) -> Self {
        let q850 = match status {
            200 | 487 => 16,
            401 | 402 | 403 | 407 | 603 => 21,
            404 | 485 | 604 => 1,
            405 | 481 | 500 | 503 => 41,
            408 | 504 => 102,
            410 => 22,
            413 | 414 | 416 | 420 | 421 | 423 | 505 | 513 => 127,
            480 => 18,
            482 | 483 => 25,
            484 => 28,
            486 | 600 => 17,
            488 | 606 => 65,
            501 => 79,
            502 => 38,
            _ => 31,
        };
        Self { status, q850 }
    }
}

/// Transport protocol of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Transport {
    /// Datagrams.
    Udp,
    /// A connection.
    Tcp,
}

impl Transport {
    /// The word in URIs and lists.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
        }
    }
}

/// The path a phone was last heard on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FlowRef {
    /// Protocol.
    pub transport: Transport,
    /// Our address: a service address and port.
    pub local: SocketAddr,
    /// The phone's address as seen by us.
    pub remote: SocketAddr,
    /// Number of the connection on the node that accepted it; `None` for datagrams.
    pub connection: Option<u64>,
    /// The node that heard it. Only there does `connection` mean anything.
    pub node: NodeId,
}

/// Where an outgoing leg is sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LegTarget {
    /// Request URI.
    pub uri: String,
    /// Path to a registered phone; `None` when the URI is resolved as it stands.
    pub flow: Option<FlowRef>,
}

/// Who is at the far end of a leg.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LegRole {
    /// The one who called.
    Caller,
    /// A dialled extension.
    Extension(Extension),
    /// An agent to whom the call is offered.
    Agent(AgentId),
    /// A number beyond a trunk.
    Trunk(TrunkName, String),
}

/// What is desired of a leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Want {
    /// In: keep alerting. Out: ring the far end.
    Alert,
    /// Talk: answer the caller; keep the answered party.
    Answer,
    /// End, with this cause.
    End(Cause),
}

/// What was last seen of a leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Seen {
    /// Nothing yet.
    Fresh,
    /// Answered, and the answer is committed.
    Answered,
    /// Over.
    Ended,
}

/// Audio codec of a leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Codec {
    /// G.711 µ-law.
    Pcmu,
    /// G.711 A-law.
    Pcma,
}

impl Codec {
    /// The encoding name of RFC 3551.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pcmu => "PCMU",
            Self::Pcma => "PCMA",
        }
    }
}

/// A leg of a live call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LegRow {
    /// Its id; our tags, Call-IDs and branches are derived from it.
    pub id: LegId,
    /// Who is there.
    pub role: LegRole,
    /// Where it was sent; `None` for the caller's leg.
    pub target: Option<LegTarget>,
    /// What is desired.
    pub want: Want,
    /// What was seen.
    pub seen: Seen,
    /// SIP Call-ID, once known.
    pub sip_call_id: String,
    /// Contact URI of the far end, once known.
    pub remote: Option<String>,
    /// Agreed codec.
    pub codec: Option<Codec>,
    /// True while the far end holds.
    pub held: bool,
    /// When it began.
    pub started_at: TimeMs,
    /// When its answer was committed.
    pub answered_at: Option<TimeMs>,
    /// When it ended.
    pub ended_at: Option<TimeMs>,
    /// Why it ended.
    pub cause: Option<Cause>,
    /// It answered when it was wanted no more.
    pub late: bool,
    /// What a new owner resumes from: the caller's INVITE until it is answered, then the
    /// dialog. `None` while nothing of the leg can be resumed.
    pub checkpoint: Option<Vec<u8>>,
}

impl LegRow {
    /// True until its end was seen.
    pub fn is_live(&self) -> bool {
        self.seen != Seen::Ended
    }

    /// True for an agent whose answer came when the caller was no longer his to take: he may
    /// be told so, and the record of the call does not wait for him.
    pub fn is_parting(&self) -> bool {
        self.late && self.is_live() && matches!(self.role, LegRole::Agent(_))
    }
}

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Caller {
    /// Number or user part shown to the called party.
    pub number: String,
    /// Display name, may be empty.
    pub display: String,
    /// The extension that proved itself; `None` for anonymous and trunk callers.
    pub extension: Option<Extension>,
    /// The trunk the call came over.
    pub trunk: Option<TrunkName>,
    /// The number with its country code, by the tenant's rules; `None` when it is none,
    /// as an extension's is not.
    pub e164: Option<E164>,
}

/// A committed choice: this call rings at this agent until then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// The agent.
    pub agent: AgentId,
    /// When it is missed.
    pub until: TimeMs,
}

/// An agent who missed a caller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PassedOver {
    /// The agent.
    pub agent: AgentId,
    /// Not asked again before then, whoever else is at work; `None` once that is over.
    pub until: Option<TimeMs>,
}

/// A call's stay in a queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Visit {
    /// The queue.
    pub queue: QueueName,
    /// Place: lower came earlier. Log order of the arrival.
    pub order: u64,
    /// When the call entered.
    pub entered_at: TimeMs,
    /// From when on the wait counts for score, turn and steps: `entered_at`, or the entry of
    /// an earlier call whose place was taken up again.
    pub since: TimeMs,
    /// Score of this caller beside the queue's weight and the wait: the weight of the
    /// tier, unless another was given.
    pub priority: i64,
    /// Steps passed of those that widen who may serve.
    pub step: usize,
    /// The agent meant for this caller: who spoke with him last, or looks after him.
    pub preferred: Option<AgentId>,
    /// Until then only the preferred agent may serve; `None` = anybody suitable.
    pub meant_until: Option<TimeMs>,
    /// The offers under way: one, or several by ring-all.
    pub offers: Vec<Offer>,
    /// Agents who missed this caller. They are asked again only when every other
    /// suitable one at work has missed him too.
    pub passed_over: Vec<PassedOver>,
    /// Music while waiting.
    pub music: Option<BlobId>,
    /// The queue's advert.
    pub advert: Option<BlobId>,
    /// How often the caller asked for it.
    pub adverts: u32,
    /// The wait that was to be expected when the call entered, ms; compared with the true
    /// one when an agent answers.
    pub expected_ms: Option<u64>,
}

impl Visit {
    /// The offer to this agent.
    pub fn offer_to(&self, agent: &AgentId) -> Option<&Offer> {
        self.offers.iter().find(|offer| offer.agent == *agent)
    }

    /// How this caller was missed by an agent, if so.
    pub fn missed_by(&self, agent: &AgentId) -> Option<&PassedOver> {
        self.passed_over
            .iter()
            .find(|passed| passed.agent == *agent)
    }
}

/// Why a caller left a queue for another destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ExitCause {
    /// He had waited as long as the queue lets callers wait.
    MaxWait,
    /// As many waited as the queue takes.
    Full,
    /// Nobody who could serve him was at work.
    Unstaffed,
    /// He pressed the key for it.
    Key,
}

impl ExitCause {
    /// The word in records and events.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MaxWait => "max_wait",
            Self::Full => "full",
            Self::Unstaffed => "no_agents",
            Self::Key => "key",
        }
    }
}

/// A queue left for another destination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// The queue.
    pub queue: QueueName,
    /// Why.
    pub cause: ExitCause,
    /// When.
    pub at: TimeMs,
    /// How long he had waited there, ms.
    pub waited_ms: u64,
}

/// What a feature code's confirmation tone says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Confirmation {
    /// Done.
    Done,
    /// Refused.
    Refused,
}

/// What the call is doing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    /// Phones of the dialled party ring.
    Ringing {
        /// When the caller gets 480.
        until: TimeMs,
    },
    /// In a queue with music; `visit.offers` says which agents are being rung.
    Waiting,
    /// Caller and this leg hear each other.
    Bridged {
        /// The far leg.
        far: LegId,
    },
    /// A feature code is being confirmed by tone.
    Confirming(Confirmation),
    /// Over; legs are being cleared.
    Clearing,
    /// The caller is being told something, once; then the call ends.
    Telling {
        /// Language of what is said.
        language: Language,
        /// What is said.
        what: Announcement,
        /// How it ends then.
        ending: (Disposition, Cause),
        /// When it ends at the latest.
        until: TimeMs,
    },
    /// The customer of a callback is dialled; there is no caller's leg yet.
    Dialling {
        /// When the attempt is over.
        until: TimeMs,
        /// The leg of the agent who was rung first and waits for the customer's answer.
        near: Option<LegId>,
    },
    /// A callback rings at an agent; the customer is dialled when the agent has answered.
    Offering {
        /// The agent.
        agent: AgentId,
        /// When the offer is missed.
        until: TimeMs,
    },
}

impl Stage {
    /// True while a callback rings at this agent.
    pub fn asks(&self, agent: &AgentId) -> bool {
        matches!(self, Self::Offering { agent: asked, .. } if asked == agent)
    }
}

/// A live call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallRow {
    /// Its id.
    pub id: CallId,
    /// Whose call it is.
    pub tenant: TenantId,
    /// Service address it is anchored on.
    pub address: IpAddr,
    /// Epoch of that address when the owner got the call.
    pub address_epoch: u32,
    /// Rises with each owner, and never falls when the call goes to another address.
    pub epoch: u32,
    /// The node that owns it: the holder of `address` at `address_epoch`.
    pub owner: NodeId,
    /// It had another owner, or an older life of this one, before.
    pub moved: bool,
    /// Who calls.
    pub from: Caller,
    /// Dialled number.
    pub to: String,
    /// The customer who calls or is called.
    pub customer: Option<CustomerId>,
    /// Weight of the customer's tier when the call arrived.
    pub priority: i64,
    /// The agent the customer would best talk to.
    pub preferred: Option<AgentId>,
    /// The callback it is an attempt of, by the call that took it.
    pub callback: Option<CallId>,
    /// Which attempt of the callback it is; 0 for any other call, and as long as the
    /// customer has not been dialled. Such a call leaves no record.
    pub attempt: u32,
    /// When it arrived.
    pub started_at: TimeMs,
    /// What it is doing.
    pub stage: Stage,
    /// Its legs; the first is the caller's.
    pub legs: Vec<LegRow>,
    /// Its stay in a queue.
    pub visit: Option<Visit>,
    /// Prompt to be played once after the answer.
    pub greeting: Option<BlobId>,
    /// Music for whoever is held.
    pub hold_music: Option<BlobId>,
    /// What the agent who answered hears before he hears the caller.
    pub announcement: Option<BlobId>,
    /// Queues left for another destination by rule, oldest first.
    pub exits: Vec<Exit>,
    /// When two-way talk began.
    pub answered_at: Option<TimeMs>,
    /// When two-way talk ended.
    pub talk_ended_at: Option<TimeMs>,
    /// Who answered, when it was an agent.
    pub agent: Option<AgentId>,
    /// Somebody holds since then.
    pub held_since: Option<TimeMs>,
    /// How long somebody held, without the hold that goes on, ms.
    pub held_ms: u64,
    /// How it will be recorded, once decided.
    pub ending: Option<(Disposition, Cause)>,
    /// The record is written; only agents who answered too late are still being told so.
    pub recorded: bool,
    /// Rises with every change of the row.
    pub seq: u64,
}

impl CallRow {
    /// The leg with this id.
    pub fn leg(&self, id: LegId) -> Option<&LegRow> {
        self.legs.iter().find(|leg| leg.id == id)
    }

    /// The leg with this id, to be changed.
    pub fn leg_mut(&mut self, id: LegId) -> Option<&mut LegRow> {
        self.legs.iter_mut().find(|leg| leg.id == id)
    }

    /// The caller's leg.
    pub fn caller(&self) -> Option<&LegRow> {
        self.legs.first()
    }

    /// The leg of the agent who is told whose call it is, and what he is told.
    pub fn announced(&self) -> Option<(LegId, BlobId)> {
        let agent = match &self.stage {
            Stage::Bridged { far } => *far,
            Stage::Dialling { near, .. } => (*near)?,
            _ => return None,
        };
        let leg = self.leg(agent).filter(|leg| !leg.held)?;
        let announcement = self.announcement?;
        matches!(leg.role, LegRole::Agent(_)).then_some((agent, announcement))
    }

    /// Keeps the time of hold up to date: to be called when a leg or the stage changed.
    pub fn note_hold(&mut self, now: TimeMs) {
        let bridged = matches!(self.stage, Stage::Bridged { .. });
        let held = bridged && self.legs.iter().any(|leg| leg.is_live() && leg.held);
        match self.held_since {
            None if held => self.held_since = Some(now),
            Some(since) if !held => {
                self.held_ms = self.held_ms.saturating_add(now.since(since));
                self.held_since = None;
            }
            _ => {}
        }
    }

    /// True while it holds a place in a queue.
    pub fn is_waiting(&self) -> bool {
        matches!(self.stage, Stage::Waiting)
    }

    /// What it is doing, as lists name it.
    pub fn state(&self) -> CallState {
        match &self.stage {
            Stage::Ringing { .. } => CallState::Ringing,
            Stage::Waiting
                if self
                    .visit
                    .as_ref()
                    .is_some_and(|visit| !visit.offers.is_empty()) =>
            {
                CallState::Offered
            }
            Stage::Waiting => CallState::Queued,
            Stage::Bridged { .. } if self.legs.iter().any(|leg| leg.is_live() && leg.held) => {
                CallState::Held
            }
            Stage::Bridged { .. } => CallState::Bridged,
            Stage::Confirming(_) | Stage::Telling { .. } => CallState::Announcing,
            Stage::Clearing => CallState::Clearing,
            Stage::Dialling { .. } => CallState::Dialling,
            Stage::Offering { .. } => CallState::Offered,
        }
    }
}
