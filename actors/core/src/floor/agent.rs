//! Agents: signed in or out, paused, at a call, in wrap-up.
//!
//! The state shown is a function of the row and of the agent's phone; nothing stores
//! it twice.

use serde::{Deserialize, Serialize};

use crate::ids::{AgentId, CallId, Extension, QueueName, TenantId};
use crate::time::TimeMs;

/// What an agent is doing with calls of the queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Activity {
    /// Nothing.
    Idle,
    /// A call rings at the agent's phone.
    Offered(CallId),
    /// Talking with a caller.
    Talking(CallId),
    /// After-call work until then.
    WrapUp(TimeMs),
}

/// An agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentRow {
    /// Whose agent.
    pub tenant: TenantId,
    /// The id in the site file.
    pub id: AgentId,
    /// Extension worked at; the site's unless signed in elsewhere.
    pub extension: Option<Extension>,
    /// True from sign-in to sign-out.
    pub signed_in: bool,
    /// Why paused.
    pub paused: Option<String>,
    /// What the agent is doing.
    pub activity: Activity,
    /// Left in peace until then after the phone failed.
    pub unreachable_until: Option<TimeMs>,
    /// Idle since then, for the strategy's order.
    pub idle_since: TimeMs,
    /// When the state shown last changed.
    pub since: TimeMs,
    /// The state shown last, to notice a change.
    pub shown: AgentState,
    /// Up to here the agent's time is counted in the figures.
    pub counted_to: TimeMs,
    /// The queue of the call offered last: ringing and wrap-up are counted for it too.
    pub serving: Option<QueueName>,
    /// Calls answered since sign-in.
    pub calls: u64,
    /// Offers missed in a row.
    pub missed: u32,
}

/// The state shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum AgentState {
    /// Not at work.
    SignedOut,
    /// Could take a call now.
    Ready,
    /// A call rings.
    Offered,
    /// Talking.
    Talking,
    /// Talking, and the far end or the agent holds.
    Held,
    /// After-call work.
    WrapUp,
    /// Paused.
    Paused,
    /// Signed in, but the phone cannot be reached.
    NoPhone,
}

impl AgentState {
    /// Every state, in the order lists show them.
    pub const ALL: [Self; 8] = [
        Self::Ready,
        Self::Offered,
        Self::Talking,
        Self::Held,
        Self::WrapUp,
        Self::Paused,
        Self::NoPhone,
        Self::SignedOut,
    ];

    /// The word in lists and events.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SignedOut => "signed_out",
            Self::Ready => "ready",
            Self::Offered => "offered",
            Self::Talking => "talking",
            Self::Held => "held",
            Self::WrapUp => "wrap_up",
            Self::Paused => "paused",
            Self::NoPhone => "no_phone",
        }
    }
}

impl AgentRow {
    /// A new agent, signed out.
    pub fn new(tenant: TenantId, id: AgentId, now: TimeMs) -> Self {
        Self {
            tenant,
            id,
            extension: None,
            signed_in: false,
            paused: None,
            activity: Activity::Idle,
            unreachable_until: None,
            idle_since: now,
            since: now,
            shown: AgentState::SignedOut,
            counted_to: now,
            serving: None,
            calls: 0,
            missed: 0,
        }
    }

    /// The state to show, given what the phone and the call are doing.
    pub fn state(&self, phone: PhoneState) -> AgentState {
        match &self.activity {
            Activity::Offered(_) => AgentState::Offered,
            Activity::Talking(_) if phone == PhoneState::Held => AgentState::Held,
            Activity::Talking(_) => AgentState::Talking,
            _ if !self.signed_in => AgentState::SignedOut,
            Activity::WrapUp(_) => AgentState::WrapUp,
            Activity::Idle if self.paused.is_some() => AgentState::Paused,
            Activity::Idle if self.unreachable_until.is_some() => AgentState::NoPhone,
            Activity::Idle => match phone {
                PhoneState::Unreachable => AgentState::NoPhone,
                PhoneState::Busy => AgentState::Talking,
                PhoneState::Free | PhoneState::Held => AgentState::Ready,
            },
        }
    }
}

/// What is known of an agent's phone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PhoneState {
    /// Nothing registered and no fixed contact.
    Unreachable,
    /// In a call of its own.
    Busy,
    /// In the agent's call, and held.
    Held,
    /// Reachable and free.
    Free,
}
