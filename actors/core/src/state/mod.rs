//! The replicated state: everything the floor knows, held in memory and written
//! through to rows; commands change it in `State::apply` and nowhere else.
//!
//! Invariants, also checked by [`State::check`]: an agent is offered or talking to
//! exactly the call that offers or talks to him; figures add up; every waiting call
//! is in a queue; every live call belongs to a node that is up.

mod agent_first;
mod apply_agent;
mod apply_call;
mod apply_cluster;
pub mod apply_crm;
mod apply_hours;
mod apply_phone;
mod apply_registration;
mod apply_trunk;
mod assign;
mod callback;
mod check;
pub mod comfort;
pub mod command;
pub mod compare;
pub mod count;
mod deadline;
mod end_call;
pub mod event;
pub mod machine;
mod offer;
mod redial;
mod seat;
pub mod store;
mod take_over;
mod withdraw;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use self::deadline::Deadline;
pub use self::machine::{ExchangeMachine, SharedState, Wake, WakeSink};
pub use self::store::{decode_row, encode_row};
use crate::call::CallRow;
use crate::floor::address::{AddressRow, NodeRow};
use crate::floor::agent::{AgentRow, AgentState, PhoneState};
use crate::floor::callback::{CallbackIndex, CallbackRow};
use crate::floor::dispatch::Dispatch;
use crate::floor::figure::{FigureRow, Subject, Tally};
use crate::floor::leftover::LeftoverRow;
use crate::floor::pace::Pace;
use crate::floor::phone::{FailingRow, PhoneName};
use crate::floor::place::{PlaceKey, PlaceRow, ahead};
use crate::floor::registration::RegistrationRow;
use crate::floor::trunk::TrunkRow;
use crate::hours::HoursRow;
use crate::ids::{
    AgentId, CallId, Extension, HoursName, LegId, NodeId, QueueName, TenantId, TrunkName, mint,
};
use crate::site::Site;
use crate::time::TimeMs;

/// The feature level this program reads. Raised when `apply` changes its results, or when a
/// command, a row or what nodes say to each other gets a form that older programs do not read.
/// Nothing of a level is written or applied before [`Command::Raise`] has put it in force.
///
/// [`Command::Raise`]: command::Command::Raise
pub const FEATURE_LEVEL: u32 = 3;

/// The feature level every log begins with.
pub const FEATURE_LEVEL_FIRST: u32 = 1;

/// A key inside one tenant.
pub type Of<K> = (TenantId, K);

/// The singletons of the floor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetaRow {
    /// Log time.
    pub now: TimeMs,
    /// Index of the last applied entry.
    pub index: u64,
    /// Feature level in force.
    pub feature_level: u32,
    /// Running hash over everything `apply` has written: equal on every node that has
    /// applied the same log.
    pub hash: [u8; 16],
}

/// A tenant's site in force.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SiteRow {
    /// Rises by one with each change.
    pub version: u64,
    /// When it was applied.
    pub applied_at: TimeMs,
    /// The validated site.
    pub site: Arc<Site>,
    /// Its text.
    pub text: String,
}

/// The replicated state. Fields are read freely; only `apply` changes them.
#[derive(Debug)]
pub struct State {
    /// Singletons.
    pub meta: MetaRow,
    /// Nodes by number.
    pub nodes: BTreeMap<NodeId, NodeRow>,
    /// Service addresses.
    pub addresses: BTreeMap<IpAddr, AddressRow>,
    /// Sites in force by tenant.
    pub sites: BTreeMap<TenantId, Arc<SiteRow>>,
    /// Registrations that have bindings.
    pub registrations: BTreeMap<Of<Extension>, RegistrationRow>,
    /// Agents.
    pub agents: BTreeMap<Of<AgentId>, AgentRow>,
    /// Live calls.
    pub calls: BTreeMap<CallId, CallRow>,
    /// Live figures of queues and agents.
    pub figures: BTreeMap<Of<Subject>, Tally>,
    /// How fast queues move, for those that had calls; kept in the rows of the figures.
    pub paces: BTreeMap<Of<Subject>, Pace>,
    /// Trunks.
    pub trunks: BTreeMap<Of<TrunkName>, TrunkRow>,
    /// Phones that do not answer.
    pub failing: BTreeMap<Of<PhoneName>, FailingRow>,
    /// Legs of lost calls whose far ends are still to be told.
    pub leftovers: BTreeMap<LegId, LeftoverRow>,
    /// Places kept for callers who left.
    pub places: BTreeMap<PlaceKey, PlaceRow>,
    /// Opening hours.
    pub hours: BTreeMap<Of<HoursName>, HoursRow>,
    /// The comparison of hashes made last.
    pub compare: compare::CompareRow,
    /// Callbacks that stand, by the call that took each.
    pub callbacks: BTreeMap<CallId, CallbackRow>,
    /// Deadlines in order.
    deadlines: BTreeSet<(TimeMs, Deadline)>,
    /// Calls each extension's phone is in. Derived from `calls`.
    occupied: BTreeMap<Of<Extension>, BTreeSet<CallId>>,
    /// Derived from `callbacks`.
    callback_index: CallbackIndex,
    /// When the first of the hours are to be looked at. Derived from `hours`.
    hours_due: Option<TimeMs>,
    /// Waiting calls by place. Derived from `calls`.
    waiting: BTreeMap<Of<QueueName>, BTreeMap<u64, CallId>>,
    /// Legs that hold a channel of each trunk. Derived from `calls` and `leftovers`.
    channels: BTreeMap<Of<TrunkName>, BTreeSet<LegId>>,
    /// Agents by the extension they work at. Derived from `agents`.
    seats: BTreeMap<Of<Extension>, BTreeSet<AgentId>>,
    /// Who could serve whom. Derived from `sites`, `agents`, `calls`, `registrations`.
    dispatch: Dispatch,
    /// What the entry being applied has touched.
    batch: store::Batch,
}

impl Default for State {
    fn default() -> Self {
        Self {
            meta: MetaRow {
                now: TimeMs(0),
                index: 0,
                feature_level: FEATURE_LEVEL_FIRST,
                hash: [0; 16],
            },
            nodes: BTreeMap::new(),
            addresses: BTreeMap::new(),
            sites: BTreeMap::new(),
            registrations: BTreeMap::new(),
            agents: BTreeMap::new(),
            calls: BTreeMap::new(),
            figures: BTreeMap::new(),
            paces: BTreeMap::new(),
            trunks: BTreeMap::new(),
            failing: BTreeMap::new(),
            leftovers: BTreeMap::new(),
            places: BTreeMap::new(),
            hours: BTreeMap::new(),
            callbacks: BTreeMap::new(),
            compare: compare::CompareRow::default(),
            deadlines: BTreeSet::new(),
            occupied: BTreeMap::new(),
            callback_index: CallbackIndex::default(),
            hours_due: None,
            waiting: BTreeMap::new(),
            channels: BTreeMap::new(),
            seats: BTreeMap::new(),
            dispatch: Dispatch::default(),
            batch: store::Batch::default(),
        }
    }
}

impl State {
    /// The tenant a SIP domain or a service address as domain belongs to.
    pub fn tenant_of(&self, domain: &str) -> Option<&Arc<SiteRow>> {
        let named = self
            .sites
            .values()
            .find(|row| row.site.domain.eq_ignore_ascii_case(domain));
        named.or_else(|| {
            let address = domain.trim_matches(['[', ']']).parse::<IpAddr>().ok()?;
            self.addresses
                .get(&address)
                .and_then(|_| self.sites.values().next())
        })
    }

    /// The site of a tenant.
    pub fn site(&self, tenant: &TenantId) -> Option<&Arc<Site>> {
        self.sites.get(tenant).map(|row| &row.site)
    }

    /// The node that holds a service address.
    pub fn holder(&self, address: IpAddr) -> Option<NodeId> {
        self.addresses.get(&address).and_then(|row| row.holder)
    }

    /// When the next deadline is due.
    pub fn next_deadline(&self) -> Option<TimeMs> {
        self.deadlines.first().map(|(due, _)| *due)
    }

    /// Calls that wait in a queue, in the order they will be served.
    pub fn waiting(&self, queue: &Of<QueueName>) -> impl Iterator<Item = &CallRow> {
        let places = self
            .waiting
            .get(queue)
            .into_iter()
            .flat_map(BTreeMap::values);
        places.filter_map(|call| self.calls.get(call))
    }

    /// Number of calls that wait in a queue.
    pub fn waiting_count(&self, queue: &Of<QueueName>) -> u64 {
        let count = self.waiting.get(queue).map_or(0, BTreeMap::len);
        u64::try_from(count).unwrap_or(u64::MAX)
    }

    /// Place of a waiting call in its queue, from 1: behind the callers and the callbacks
    /// that stand before it.
    pub fn position(&self, call: &CallRow) -> Option<u64> {
        let visit = call.visit.as_ref().filter(|_| call.is_waiting())?;
        let queue = (call.tenant.clone(), visit.queue.clone());
        let (places, order) = (self.waiting.get(&queue)?, visit.order);
        let callers = ahead(places.len(), places.range(..order), places.range(order..));
        // Outside their hours callbacks take no turn.
        let callbacks = if self.calls_back_now(&queue) {
            self.callback_index.ahead(&queue, order)
        } else {
            0
        };
        u64::try_from(callers + callbacks)
            .ok()
            .map(|before| before + 1)
    }

    /// Calls a node owns.
    pub fn calls_of(&self, node: NodeId) -> impl Iterator<Item = &CallRow> {
        self.calls.values().filter(move |call| call.owner == node)
    }

    /// What an agent's phone is doing.
    pub fn phone_state(&self, agent: &AgentRow) -> PhoneState {
        self.phone_state_where(agent, |extension| self.is_reachable(extension))
    }

    /// What an agent's phone is doing as far as rows say, whatever the time is.
    fn phone_state_by_rows(&self, agent: &AgentRow) -> PhoneState {
        self.phone_state_where(agent, |extension| {
            self.registrations.contains_key(extension) || self.is_fixed(extension)
        })
    }

    fn phone_state_where(
        &self,
        agent: &AgentRow,
        is_reachable: impl Fn(&Of<Extension>) -> bool,
    ) -> PhoneState {
        let spec = self
            .site(&agent.tenant)
            .and_then(|site| site.agents.get(&agent.id));
        let fixed = spec.is_some_and(|spec| spec.contact.is_some() || !spec.devices.is_empty());
        let key = agent
            .extension
            .clone()
            .map(|number| (agent.tenant.clone(), number));
        let own_call = match &agent.activity {
            crate::floor::agent::Activity::Talking(call)
            | crate::floor::agent::Activity::Offered(call) => Some(*call),
            _ => None,
        };
        if let Some(call) = own_call.and_then(|call| self.calls.get(&call)) {
            return if call.legs.iter().any(|leg| leg.is_live() && leg.held) {
                PhoneState::Held
            } else {
                PhoneState::Free
            };
        }
        let own = (agent.tenant.clone(), PhoneName::Agent(agent.id.clone()));
        match key {
            Some(key) if self.occupied.contains_key(&key) => PhoneState::Busy,
            Some(key) if is_reachable(&key) && !self.is_seat_failing(&key) => PhoneState::Free,
            _ if fixed && !self.is_failing(&own) => PhoneState::Free,
            _ => PhoneState::Unreachable,
        }
    }

    /// The state of an agent to show.
    pub fn agent_state(&self, agent: &AgentRow) -> AgentState {
        agent.state(self.phone_state(agent))
    }

    /// True when a leg to this extension has somewhere to go.
    pub fn is_reachable(&self, extension: &Of<Extension>) -> bool {
        let now = self.meta.now;
        let registered = self.registrations.get(extension);
        registered.is_some_and(|row| row.bindings.iter().any(|one| one.expires_at > now))
            || self.is_fixed(extension)
    }

    /// True when this extension is a device that does not register.
    fn is_fixed(&self, extension: &Of<Extension>) -> bool {
        self.site(&extension.0)
            .and_then(|site| site.extensions.get(&extension.1))
            .is_some_and(|spec| spec.contact.is_some())
    }

    /// A fresh id of the entry being applied.
    fn mint(&mut self) -> u64 {
        let n = self.batch.minted;
        self.batch.minted = n.saturating_add(1);
        mint(self.meta.index, n)
    }
}
