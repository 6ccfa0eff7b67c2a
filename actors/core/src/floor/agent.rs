//! Agents: signed in or out, paused, at a call, in wrap-up.
//!
//! The state shown is a function of the row and of the agent's phone; nothing stores
//! it twice.

use serde::{Deserialize, Serialize};

use crate::ids::{AgentId, CallId, Extension, QueueName, TenantId};
use crate::time::TimeMs;

/// How the reason of a pause for missed offers begins; a number follows.
pub const MISSED: &str = "missed ";

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
    /// Talk time with callers of queues since sign-in, ms.
    pub talk_ms: u64,
    /// Offers missed in a row.
    pub missed: u32,
    /// Number of the last offer; rises over all agents. 0 = none yet.
    pub last_offer: u64,
    /// When the pause under way has lasted too long.
    pub pause_until: Option<TimeMs>,
    /// The pause under way has lasted too long.
    pub overdue: bool,
    /// The pause under way counts as work.
    pub productive: bool,
    /// When the agent came to work: sign-in. `None` while signed out; an agent who signs
    /// out in a call is at work until it ends.
    pub at_work_since: Option<TimeMs>,
    /// Time at work before that, ms.
    pub at_work_ms: u64,
    /// Time in each state before the one shown, ms, by [`AgentState::slot`]. The time
    /// signed out is not counted.
    pub times: [u64; AgentState::ALL.len()],
    /// Of the time paused, ms for reasons that are no work.
    pub unproductive_ms: u64,
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

    /// Place of the state's time in [`AgentRow::times`].
    pub fn slot(self) -> usize {
        Self::ALL.iter().position(|one| *one == self).unwrap_or(0)
    }

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
            talk_ms: 0,
            missed: 0,
            last_offer: 0,
            pause_until: None,
            overdue: false,
            productive: false,
            at_work_since: None,
            at_work_ms: 0,
            times: [0; AgentState::ALL.len()],
            unproductive_ms: 0,
        }
    }

    /// Closes the stretch of the state shown so far: its time is counted and the next
    /// stretch begins.
    pub fn close_stretch(&mut self, now: TimeMs) {
        let length = now.since(self.since);
        self.since = now;
        if self.shown == AgentState::SignedOut {
            return;
        }
        if let Some(time) = self.times.get_mut(self.shown.slot()) {
            *time += length;
        }
        if self.shown == AgentState::Paused && !self.productive {
            self.unproductive_ms += length;
        }
    }

    /// Notes that work begins or ends.
    pub fn turn_to(&mut self, state: AgentState, now: TimeMs) {
        self.shown = state;
        match (state, self.at_work_since) {
            (AgentState::SignedOut, Some(since)) => {
                self.at_work_ms += now.since(since);
                self.at_work_since = None;
            }
            (AgentState::SignedOut, None) | (_, Some(_)) => {}
            (_, None) => self.at_work_since = Some(now),
        }
    }

    /// True while paused for having missed too many offers.
    pub fn paused_by_misses(&self) -> bool {
        let reason = self.paused.as_deref();
        reason.is_some_and(|reason| reason.starts_with(MISSED))
    }

    /// Time in each state up to `now`, ms, by [`AgentState::slot`].
    pub fn times_at(&self, now: TimeMs) -> [u64; AgentState::ALL.len()] {
        let mut times = self.times;
        if self.shown != AgentState::SignedOut
            && let Some(time) = times.get_mut(self.shown.slot())
        {
            *time += now.since(self.since);
        }
        times
    }

    /// Time at work up to `now`, ms: the sum of [`AgentRow::times_at`].
    pub fn at_work_at(&self, now: TimeMs) -> u64 {
        self.at_work_ms + self.at_work_since.map_or(0, |since| now.since(since))
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
