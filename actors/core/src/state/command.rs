//! Commands and replies as they stand in the log. Variants are only ever appended.

use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::call::{Caller, Cause, Codec};
use crate::crm::{ImportRow, Profile, Reject};
use crate::floor::phone::PhoneName;
use crate::floor::registration::{Binding, Register};
use crate::hours::OpenTimes;
use crate::ids::{AgentId, CallId, CustomerId, Extension, HoursName, LegId, NodeId, TenantId};
use crate::ivr::speech::Key;
use crate::number::E164;
use crate::site::Site;
use crate::time::TimeMs;

/// What may be committed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Command {
    /// Expires what is due. Proposed by the leader when a deadline has passed.
    Tick,
    /// A life of a node begins.
    NodeUp {
        /// The node.
        node: NodeId,
        /// Its life.
        incarnation: u64,
        /// Its API and cluster address.
        address: IpAddr,
        /// Its program version.
        version: String,
        /// The feature level its program reads.
        level: u32,
    },
    /// A life of a node is over.
    NodeDown {
        /// The node.
        node: NodeId,
        /// The life that ended; another life is not touched.
        incarnation: u64,
    },
    /// A site is put in force.
    SiteApply(SiteApply),
    /// A phone registers, refreshes, asks or leaves. Observation.
    Register(Register),
    /// A new INVITE was admitted. Decision of the address holder.
    CallArrived(CallArrived),
    /// What the owner saw of a call's legs. Observation, merged by leg.
    CallObserved {
        /// The call.
        call: CallId,
        /// Epoch under which it was seen. Of what a former owner saw only that counts which
        /// [`Observation::outlives_owner`] names.
        epoch: u32,
        /// What was seen, in order.
        observations: Vec<Observation>,
    },
    /// An operator's or agent's action.
    Act {
        /// Id chosen by the sender, repeated in the outcome event; empty = no event.
        id: String,
        /// Whose floor.
        tenant: TenantId,
        /// What to do.
        action: Action,
    },
    /// Customers change.
    Crm {
        /// Id chosen by the sender, repeated in the outcome event; empty = no event.
        id: String,
        /// Whose customers.
        tenant: TenantId,
        /// What to do.
        change: CrmChange,
    },
    /// The far ends of legs of lost calls have answered finally. Observation.
    Released {
        /// The legs.
        legs: Vec<LegId>,
    },
    /// Every node is to tell the hash of its state. Proposed by the leader.
    Compare,
    /// The hash of a node's state when it was asked. Observation.
    HashTold {
        /// The node.
        node: NodeId,
        /// Its life.
        incarnation: u64,
        /// Index of the entry that asked.
        index: u64,
        /// Its hash before that entry.
        hash: [u8; 16],
    },
    /// A phone answers again, or no more. Observation, committed on a change only.
    PhoneSeen(PhoneSeen),
    /// Opening hours were worked out further. Proposed by the leader; refused when another
    /// site is in force than the one they were worked out from.
    HoursSet {
        /// Whose hours.
        tenant: TenantId,
        /// Version of the site they were worked out from.
        site_version: u64,
        /// The times; hours that are not named stay.
        times: Vec<OpenTimes>,
    },
    /// The state begins anew in a cluster founded from a backup. Written once, by whoever
    /// restores it, before any node of the new cluster is up.
    Refounded,
    /// A service address is not one of the machine of the node that was to hold it.
    /// Observation.
    AddressBarred {
        /// The node.
        node: NodeId,
        /// Its life.
        incarnation: u64,
        /// The address.
        address: IpAddr,
    },
    /// A feature level is put in force. Proposed by the leader; refused while a node reads
    /// less. A program that does not read it stops before this entry.
    Raise {
        /// The level.
        level: u32,
    },
    /// What the owner saw of a call's legs while it could commit nothing: as
    /// [`Command::CallObserved`], with the times at which it was. From level 2 on.
    CallObservedLate {
        /// The call.
        call: CallId,
        /// As in [`Command::CallObserved`].
        epoch: u32,
        /// What was seen, in order.
        observations: Vec<Late>,
    },
}

impl Command {
    /// The feature level from which on it may be proposed. Before, it is refused as unreadable
    /// everywhere, since nodes may be up that cannot read it.
    ///
    /// What a command holds counts as well: whoever adds a variant to [`Action`] or
    /// [`Observation`] takes the match apart here.
    pub fn level(&self) -> u32 {
        match self {
            Self::Tick
            | Self::NodeUp { .. }
            | Self::NodeDown { .. }
            | Self::SiteApply(_)
            | Self::Register(_)
            | Self::CallArrived(_)
            | Self::CallObserved { .. }
            | Self::Act { .. }
            | Self::Crm { .. }
            | Self::Released { .. }
            | Self::Compare
            | Self::HashTold { .. }
            | Self::PhoneSeen(_)
            | Self::HoursSet { .. }
            | Self::Refounded
            | Self::AddressBarred { .. }
            | Self::Raise { .. } => 1,
            Self::CallObservedLate { .. } => 2,
        }
    }
}

/// What was seen a while before it was proposed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Late {
    /// How long before, in milliseconds of the clock of who saw it.
    pub age_ms: u64,
    /// What.
    pub observation: Observation,
}

/// What may become of customers. Decisions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CrmChange {
    /// Makes a customer or replaces the profile of one.
    Put {
        /// The profile; one without id is given one.
        profile: Profile,
        /// Version it was made from, 0 for a new customer; `None` replaces any.
        expected: Option<u64>,
    },
    /// Removes a customer with the timeline.
    Delete {
        /// The customer.
        customer: CustomerId,
    },
    /// Takes in the next rows of a file.
    Import(ImportBatch),
    /// Says which customer a live call is with.
    Attach {
        /// The call.
        call: CallId,
        /// The customer; `None` when it is none after all.
        customer: Option<CustomerId>,
    },
}

/// Some rows of a file of customers, all of them valid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportBatch {
    /// The import, by an id that the same file has again.
    pub import: String,
    /// Rows of the file before this batch.
    pub offset: u64,
    /// Rows of the file in this batch, refused ones included.
    pub count: u64,
    /// Begins the import anew; only with `offset` 0.
    pub restart: bool,
    /// No rows follow.
    pub last: bool,
    /// The customers. One that exists is changed, one that is equal left alone.
    pub rows: Vec<Profile>,
    /// Lines refused before they were proposed.
    pub rejects: Vec<Reject>,
}

/// What was seen of a phone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhoneSeen {
    /// Whose phone.
    pub tenant: TenantId,
    /// The phone.
    pub phone: PhoneName,
    /// The status it failed with, 408 for silence; `None` when it answers.
    pub failed: Option<u16>,
}

/// A site put in force.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SiteApply {
    /// The validated site.
    pub site: Arc<Site>,
    /// Its text, kept for `site show`, `history` and `rollback`.
    pub text: String,
    /// Version it was compared with; refused when another is in force by now.
    pub base: u64,
    /// Sealed secrets of extensions that are new or changed. Others stay.
    pub secrets: Vec<(Extension, Vec<u8>)>,
    /// When its hours are open, worked out for the days to come.
    pub times: Vec<OpenTimes>,
}

/// A new call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallArrived {
    /// Whose call.
    pub tenant: TenantId,
    /// Service address the INVITE came to.
    pub address: IpAddr,
    /// The node that admitted it; refused unless it holds `address`.
    pub node: NodeId,
    /// Epoch of the address as that node knows it.
    pub epoch: u32,
    /// Who calls.
    pub from: Caller,
    /// Dialled number.
    pub to: String,
    /// SIP Call-ID of the caller's leg.
    pub sip_call_id: String,
    /// Contact URI of the caller.
    pub remote: Option<String>,
    /// The called number with its country code, when it leads out of the exchange.
    pub called: Option<E164>,
    /// The INVITE as a new owner of the call takes it up again; `None` when it is too large
    /// to be kept.
    pub checkpoint: Option<Vec<u8>>,
}

/// What was seen of a leg.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Observation {
    /// The far end answered (out), or everything is ready for our 200 (in).
    LegAnswered {
        /// The leg.
        leg: LegId,
        /// SIP Call-ID.
        sip_call_id: String,
        /// Contact URI of the far end.
        remote: Option<String>,
        /// Agreed codec.
        codec: Codec,
        /// The exported dialog.
        checkpoint: Vec<u8>,
    },
    /// The leg is over.
    LegEnded {
        /// The leg.
        leg: LegId,
        /// SIP Call-ID.
        sip_call_id: String,
        /// Why.
        cause: Cause,
    },
    /// The far end put us on hold or took us back; the dialog changed.
    LegHeld {
        /// The leg.
        leg: LegId,
        /// Whether it is held now.
        held: bool,
        /// The exported dialog.
        checkpoint: Vec<u8>,
    },
    /// The confirmation tone of a feature code, or what ends a call, has been played.
    Confirmed {
        /// The leg.
        leg: LegId,
    },
    /// The far end pressed a key that means something where the call is.
    KeyPressed {
        /// The leg.
        leg: LegId,
        /// The key.
        key: Key,
    },
    /// The far end of an outgoing leg has said nothing at all for as long as its trunk
    /// allows.
    LegSilent {
        /// The leg.
        leg: LegId,
    },
}

impl Observation {
    /// True for what stays true whoever has the call by now: far ends that left and keys that
    /// were pressed. Sessions are those of the new owner, and what a former owner timed or
    /// gave up says nothing about legs that have been taken up elsewhere.
    pub fn outlives_owner(&self) -> bool {
        match self {
            Self::LegEnded { cause, .. } => ![Cause::SILENCE, Cause::FAILURE].contains(cause),
            Self::KeyPressed { .. } => true,
            Self::LegAnswered { .. }
            | Self::LegHeld { .. }
            | Self::Confirmed { .. }
            | Self::LegSilent { .. } => false,
        }
    }
}

/// What an operator or agent may do. Decisions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// Signs an agent in.
    SignIn {
        /// The agent.
        agent: AgentId,
        /// Works here instead of at the site's extension.
        extension: Option<Extension>,
    },
    /// Signs an agent out; a live call goes on.
    SignOut {
        /// The agent.
        agent: AgentId,
    },
    /// Pauses an agent.
    Pause {
        /// The agent.
        agent: AgentId,
        /// Why.
        reason: String,
    },
    /// Ends pause, wrap-up and a phone's rest.
    Ready {
        /// The agent.
        agent: AgentId,
    },
    /// Ends a call.
    Hangup {
        /// The call.
        call: CallId,
    },
    /// Starts or stops draining a node.
    Drain {
        /// The node.
        node: NodeId,
        /// True to start.
        on: bool,
    },
    /// Forgets a node that is down, after it has left the group.
    Forget {
        /// The node.
        node: NodeId,
    },
    /// Gives a waiting caller a score beside the queue's weight and the wait.
    Prioritize {
        /// The call.
        call: CallId,
        /// The score; the highest possible when it is higher.
        weight: i64,
    },
    /// Lets a waiting caller wait for one agent, for as long as the queue grants.
    Prefer {
        /// The call.
        call: CallId,
        /// The agent.
        agent: AgentId,
    },
    /// Lengthens the wrap-up an agent is in.
    ExtendWrapUp {
        /// The agent.
        agent: AgentId,
        /// By this, ms.
        by_ms: u64,
    },
    /// Opens or closes hours for a while, whatever the times say.
    Override {
        /// The hours.
        hours: HoursName,
        /// Open or closed; `None` lets the times hold again.
        open: Option<bool>,
        /// From then on the times hold again.
        until: TimeMs,
    },
    /// Takes a callback back.
    Withdraw {
        /// The callback, by the call that took it.
        callback: CallId,
    },
}

/// The machine's answer to a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// Done; nothing more to say.
    Done,
    /// The call exists; its row says what to do.
    Call {
        /// The call.
        call: CallId,
        /// The caller's leg.
        leg: LegId,
    },
    /// The call was refused at once and is recorded.
    CallRefused(Cause),
    /// The bindings of the extension now, with their ends.
    Registered {
        /// Time of the commit, to tell remaining lifetimes.
        now: TimeMs,
        /// Live bindings.
        bindings: Vec<Binding>,
    },
    /// The site version in force.
    Site {
        /// Rises by one with each change.
        version: u64,
    },
    /// Refused; nothing changed.
    Refused(Refusal),
    /// The customer as written.
    Customer {
        /// The id, which may have been minted.
        id: CustomerId,
        /// The version in force.
        version: u64,
    },
    /// How far the import has come.
    Import(ImportRow),
    /// Done as far as one command goes; propose it again for the rest.
    More,
}

/// Why a command was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// The bytes are not a command this version knows.
    #[error("the command cannot be read")]
    Unreadable,
    /// The sender's epoch or incarnation is over.
    #[error("the sender's view is out of date")]
    Stale,
    /// The same request was answered too long ago to repeat the answer.
    #[error("the request is too old")]
    Forgotten,
    /// No such thing.
    #[error("no such {0}")]
    NotFound(String),
    /// A REGISTER older than one already carried out.
    #[error("an older REGISTER came late")]
    OutOfOrder,
    /// More contacts than an extension may have.
    #[error("too many contacts")]
    TooManyContacts,
    /// Makes no sense in the present state.
    #[error("{0}")]
    Conflict(String),
}
