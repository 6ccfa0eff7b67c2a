//! Rows of the floor: what one entry touched is encoded and written at its end, and
//! everything is read back at start and after a snapshot.
//!
//! Each value starts with a version byte; fields are encoded with postcard. A value
//! that cannot be read is a broken invariant of this program or of its disk, never
//! input from outside.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::event::{EventRow, Value, event_key, event_position};
use super::machine::Wake;
use super::{Deadline, FigureRow, MetaRow, Of, SiteRow, State};
use crate::cdr::CdrRow;
use crate::floor::callback::CallbackIndex;
use crate::floor::explanation::Explanation;
use crate::floor::figure::{Subject, Tally, figure_key, interval_key};
use crate::floor::phone::PhoneName;
use crate::floor::place::{PlaceKey, PlaceRow};
use crate::hours::HoursRow;
use crate::ids::{AgentId, CallId, Extension, HoursName, LegId, NodeId, TenantId, TrunkName};
use crate::limits;
use crate::ports::{Rows, RowsRead, Table};
use crate::time::TimeMs;

/// Version byte of every value.
const VERSION: u8 = 1;
/// Key of the singletons.
pub const META_KEY: &[u8] = b"floor";
/// Key of the comparison of hashes.
const COMPARE_KEY: &[u8] = b"compare";

/// Encodes a row's value.
pub fn encode_row<T: Serialize>(row: &T) -> Vec<u8> {
    let mut bytes = vec![VERSION];
    match postcard::to_extend(row, bytes.clone()) {
        Ok(encoded) => encoded,
        // Rows hold only types postcard can write; an empty value is unreadable and
        // so noticed at once, where a panic in apply would stop every node.
        Err(_) => {
            bytes.clear();
            bytes
        }
    }
}

/// Decodes a row's value; `None` when it is not one of ours.
pub fn decode_row<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let (version, body) = bytes.split_first()?;
    (*version == VERSION)
        .then(|| postcard::from_bytes(body).ok())
        .flatten()
}

/// What one entry touched.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) minted: u16,
    pub(super) nodes: BTreeSet<NodeId>,
    pub(super) addresses: BTreeSet<IpAddr>,
    pub(super) sites: BTreeSet<TenantId>,
    pub(super) registrations: BTreeSet<Of<Extension>>,
    pub(super) agents: BTreeSet<Of<AgentId>>,
    /// Agents the command being applied has touched.
    pub(super) stirred_agents: BTreeSet<Of<AgentId>>,
    /// Agents whose state shown may have changed with it.
    pub(super) noted: BTreeSet<Of<AgentId>>,
    /// Calls the command being applied has touched.
    pub(super) stirred_calls: BTreeSet<CallId>,
    /// Calls the entry has woken, so that each is once among `wakes`.
    pub(super) woken: BTreeSet<CallId>,
    pub(super) calls: BTreeSet<CallId>,
    pub(super) figures: BTreeSet<Of<Subject>>,
    /// What is counted of each quarter; added to its row.
    pub(super) intervals: BTreeMap<(Of<Subject>, TimeMs), Tally>,
    pub(super) trunks: BTreeSet<Of<TrunkName>>,
    pub(super) leftovers: BTreeSet<LegId>,
    pub(super) places: BTreeSet<PlaceKey>,
    pub(super) callbacks: BTreeSet<CallId>,
    pub(super) failing: BTreeSet<Of<PhoneName>>,
    pub(super) hours: BTreeSet<Of<HoursName>>,
    pub(super) deadlines: Vec<(TimeMs, Deadline, bool)>,
    /// Sealed secrets to keep, or to delete.
    pub(super) secrets: Vec<(Of<Extension>, Option<Vec<u8>>)>,
    pub(super) cdrs: Vec<CdrRow>,
    /// Records whose contact is on the customer's timeline.
    pub(super) recorded: usize,
    /// Everything written so far by commands that write rows at once.
    pub(super) written: blake3::Hasher,
    pub(super) explanations: Vec<Explanation>,
    pub(super) events: Vec<EventRow>,
    pub(super) compare: bool,
    pub(super) prune_events: bool,
    pub(super) wakes: Vec<Wake>,
}

/// Whether this program can read a stored row: loading skips what it cannot, so whoever
/// examines rows at rest has to ask.
pub fn is_readable(table: Table, key: &[u8], value: &[u8]) -> bool {
    fn reads<T: DeserializeOwned>(value: &[u8]) -> bool {
        decode_row::<T>(value).is_some()
    }
    match table {
        Table::Meta if key == META_KEY => reads::<MetaRow>(value),
        Table::Meta => reads::<super::compare::CompareRow>(value),
        Table::Node => reads::<super::NodeRow>(value),
        Table::Address => reads::<super::AddressRow>(value),
        Table::Site => reads::<SiteRow>(value),
        Table::Registration => reads::<super::RegistrationRow>(value),
        Table::Call => reads::<super::CallRow>(value),
        Table::Agent => reads::<super::AgentRow>(value),
        Table::Timer => value.is_empty() && timer_of(key).is_some(),
        Table::Event => reads::<EventRow>(value) && event_position(key).is_some(),
        Table::Figure => reads::<FigureRow>(value),
        Table::Trunk => reads::<super::TrunkRow>(value),
        Table::Leftover => reads::<super::LeftoverRow>(value),
        Table::Failing => reads::<super::FailingRow>(value),
        Table::Place => reads::<PlaceRow>(value),
        Table::Callback => reads::<super::CallbackRow>(value),
        Table::Hours => reads::<HoursRow>(value),
        Table::Cdr => reads::<CdrRow>(value),
        Table::CdrByCall => value.len() == 8,
        Table::Customer => reads::<crate::crm::Customer>(value),
        Table::CustomerByNumber | Table::CustomerByName => value.is_empty(),
        Table::Interaction => reads::<crate::crm::Interaction>(value),
        Table::CustomerImport => {
            reads::<crate::crm::ImportRow>(value) || reads::<crate::crm::Reject>(value)
        }
        Table::Interval => reads::<Tally>(value),
        Table::Explanation => reads::<Explanation>(value),
        // Sealed, or bytes whose reader is elsewhere: the checksum is all there is.
        Table::Reply | Table::Secret | Table::Queue | Table::Blob => true,
    }
}

fn named(tenant: &TenantId, name: &str) -> Vec<u8> {
    let mut key = tenant.as_str().as_bytes().to_vec();
    key.push(0);
    key.extend_from_slice(name.as_bytes());
    key
}

/// Key of a tenant's secret for an extension, in [`Table::Secret`].
pub fn secret_key(tenant: &TenantId, extension: &Extension) -> Vec<u8> {
    named(tenant, extension.as_str())
}

/// Key of a tenant's site version, in [`Table::Site`].
pub fn site_key(tenant: &TenantId, version: u64) -> Vec<u8> {
    let mut key = named(tenant, "");
    key.extend_from_slice(&version.to_be_bytes());
    key
}

/// Writes rows and keeps the running hash.
pub(super) struct Writer<'a> {
    pub(super) rows: &'a mut dyn Rows,
    pub(super) hasher: &'a mut blake3::Hasher,
}

impl Writer<'_> {
    pub(super) fn put<T: Serialize>(&mut self, table: Table, key: &[u8], row: &T) {
        self.put_bytes(table, key, encode_row(row));
    }

    pub(super) fn put_bytes(&mut self, table: Table, key: &[u8], value: Vec<u8>) {
        self.note(1, table, key);
        self.hasher.update(&value);
        self.rows.put(table, key, value);
    }

    /// The row at `key`, what this entry wrote included.
    fn read<T: DeserializeOwned>(&self, table: Table, key: &[u8]) -> Option<T> {
        decode_row(&self.rows.get(table, key)?)
    }

    pub(super) fn delete(&mut self, table: Table, key: &[u8]) {
        self.note(0, table, key);
        self.rows.delete(table, key);
    }

    fn set<T: Serialize>(&mut self, table: Table, key: &[u8], row: Option<&T>) {
        match row {
            Some(row) => self.put(table, key, row),
            None => self.delete(table, key),
        }
    }

    fn note(&mut self, what: u8, table: Table, key: &[u8]) {
        let length = u32::try_from(key.len()).unwrap_or(u32::MAX);
        self.hasher.update(&[what, table as u8]);
        self.hasher.update(&length.to_be_bytes());
        self.hasher.update(key);
    }
}

impl State {
    /// Notes an event of the entry being applied.
    pub(super) fn event(
        &mut self,
        kind: &str,
        entity: impl ToString,
        fields: impl IntoIterator<Item = (&'static str, Value)>,
    ) {
        self.batch.events.push(EventRow {
            at: self.meta.now,
            kind: kind.to_owned(),
            entity: entity.to_string(),
            fields: fields
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
        });
    }

    /// Writes what the entry touched and returns the wake-ups.
    pub(super) fn flush(&mut self, rows: &mut dyn Rows) -> Vec<Wake> {
        let old_events = if self.batch.prune_events {
            let keys = old_events(rows, self.meta.now);
            let more = keys.len() == limits::EVENTS_PRUNED_PER_TICK;
            let next = if more {
                limits::EVENTS_PRUNE_AGAIN_MS
            } else {
                limits::EVENTS_PRUNE_EVERY_MS
            };
            self.at(self.meta.now.plus(next), Deadline::Events);
            keys
        } else {
            Vec::new()
        };
        let batch = std::mem::take(&mut self.batch);
        let mut hasher = batch.written;
        hasher.update(&self.meta.hash);
        let mut writer = Writer {
            rows,
            hasher: &mut hasher,
        };
        if batch.compare {
            writer.put(Table::Meta, COMPARE_KEY, &self.compare);
        }
        for id in &batch.nodes {
            writer.set(Table::Node, &id.0.to_be_bytes(), self.nodes.get(id));
        }
        for address in &batch.addresses {
            let key = address.to_string();
            writer.set(Table::Address, key.as_bytes(), self.addresses.get(address));
        }
        for tenant in &batch.sites {
            if let Some(row) = self.sites.get(tenant) {
                writer.put(Table::Site, &site_key(tenant, row.version), &**row);
            }
        }
        for key in &batch.registrations {
            let row = self.registrations.get(key);
            writer.set(Table::Registration, &named(&key.0, key.1.as_str()), row);
        }
        for key in &batch.agents {
            writer.set(
                Table::Agent,
                &named(&key.0, key.1.as_str()),
                self.agents.get(key),
            );
        }
        for id in &batch.calls {
            writer.set(Table::Call, &id.0.to_be_bytes(), self.calls.get(id));
        }
        for key in &batch.figures {
            let row = self.figures.get(key).map(|tally| FigureRow {
                tenant: key.0.clone(),
                subject: key.1.clone(),
                tally: tally.clone(),
                pace: self.paces.get(key).copied(),
            });
            writer.set(Table::Figure, &figure_key(&key.0, &key.1), row.as_ref());
        }
        for ((subject, quarter), counted) in batch.intervals {
            let key = interval_key(&subject.0, &subject.1, quarter);
            let mut tally: Tally = writer.read(Table::Interval, &key).unwrap_or_default();
            tally.add(&counted);
            writer.put(Table::Interval, &key, &tally);
        }
        for key in &batch.trunks {
            writer.set(
                Table::Trunk,
                &named(&key.0, key.1.as_str()),
                self.trunks.get(key),
            );
        }
        for key in &batch.failing {
            let name = named(&key.0, &key.1.to_string());
            writer.set(Table::Failing, &name, self.failing.get(key));
        }
        for key in &batch.hours {
            let name = named(&key.0, key.1.as_str());
            writer.set(Table::Hours, &name, self.hours.get(key));
        }
        for leg in &batch.leftovers {
            writer.set(
                Table::Leftover,
                &leg.0.to_be_bytes(),
                self.leftovers.get(leg),
            );
        }
        for key in &batch.places {
            let mut name = named(&key.0, key.1.as_str());
            name.push(0);
            name.extend_from_slice(key.2.as_bytes());
            writer.set(Table::Place, &name, self.places.get(key));
        }
        for id in &batch.callbacks {
            let row = self.callbacks.get(id);
            writer.set(Table::Callback, &id.0.to_be_bytes(), row);
        }
        for (key, secret) in batch.secrets {
            let key = secret_key(&key.0, &key.1);
            match secret {
                Some(secret) => writer.put_bytes(Table::Secret, &key, secret),
                None => writer.delete(Table::Secret, &key),
            }
        }
        for cdr in &batch.cdrs {
            writer.put(Table::Cdr, &cdr.id.0.to_be_bytes(), cdr);
            let target = cdr.id.0.to_be_bytes().to_vec();
            writer.put_bytes(Table::CdrByCall, &cdr.call.0.to_be_bytes(), target);
        }
        for explanation in &batch.explanations {
            writer.put(Table::Explanation, &explanation.key(), explanation);
        }
        for (due, deadline, stands) in &batch.deadlines {
            let mut key = due.0.to_be_bytes().to_vec();
            key.extend(encode_row(deadline));
            if *stands {
                writer.put_bytes(Table::Timer, &key, Vec::new());
            } else {
                writer.delete(Table::Timer, &key);
            }
        }
        for (n, event) in (0u32..).zip(&batch.events) {
            writer.put(Table::Event, &event_key(self.meta.index, n), event);
        }
        for key in &old_events {
            writer.delete(Table::Event, key);
        }
        self.meta
            .hash
            .copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        rows.put(Table::Meta, META_KEY, encode_row(&self.meta));
        batch.wakes
    }

    /// Forgets everything and reads the floor from `rows`.
    pub(super) fn load(rows: &dyn RowsRead) -> Self {
        let mut state = Self::default();
        if let Some(meta) = rows.get(Table::Meta, META_KEY) {
            // Who cannot read even this is older than who wrote it.
            state.meta = decode_row(&meta).unwrap_or(MetaRow {
                feature_level: u32::MAX,
                ..state.meta
            });
        }
        if let Some(row) = rows.get(Table::Meta, COMPARE_KEY) {
            state.compare = decode_row(&row).unwrap_or_default();
        }
        for_each(rows, Table::Node, |row: super::NodeRow| {
            state.nodes.insert(row.id, row);
        });
        for_each(rows, Table::Address, |row: super::AddressRow| {
            state.addresses.insert(row.address, row);
        });
        for_each(rows, Table::Site, |row: SiteRow| {
            // Versions of one tenant come in rising order, so the last one stays.
            state.sites.insert(row.site.tenant.clone(), Arc::new(row));
        });
        for_each(rows, Table::Registration, |row: super::RegistrationRow| {
            state
                .registrations
                .insert((row.tenant.clone(), row.extension.clone()), row);
        });
        for_each(rows, Table::Agent, |row: super::AgentRow| {
            state
                .agents
                .insert((row.tenant.clone(), row.id.clone()), row);
        });
        for_each(rows, Table::Figure, |row: FigureRow| {
            let key = (row.tenant, row.subject);
            if let Some(pace) = row.pace {
                state.paces.insert(key.clone(), pace);
            }
            state.figures.insert(key, row.tally);
        });
        for_each(rows, Table::Trunk, |row: super::TrunkRow| {
            state
                .trunks
                .insert((row.tenant.clone(), row.name.clone()), row);
        });
        for_each(rows, Table::Failing, |row: super::FailingRow| {
            state
                .failing
                .insert((row.tenant.clone(), row.phone.clone()), row);
        });
        for_each(rows, Table::Hours, |row: HoursRow| {
            let key = (row.tenant.clone(), row.times.name.clone());
            state.hours.insert(key, row);
        });
        for_each(rows, Table::Leftover, |row: super::LeftoverRow| {
            state.leftovers.insert(row.leg, row);
        });
        for_each(rows, Table::Place, |row: PlaceRow| {
            state.places.insert(row.key(), row);
        });
        for_each(rows, Table::Callback, |row: super::CallbackRow| {
            state.callbacks.insert(row.id, row);
        });
        for_each(rows, Table::Call, |row: super::CallRow| {
            state.calls.insert(row.id, row);
        });
        let mut after: Option<Vec<u8>> = None;
        loop {
            let page = rows.scan(Table::Timer, &[], after.as_deref(), PAGE);
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            for (key, _) in page {
                if let Some((due, deadline)) = timer_of(&key) {
                    state.deadlines.insert((due, deadline));
                }
            }
        }
        state.derive();
        state
    }

    /// Rebuilds what is derived from rows.
    fn derive(&mut self) {
        let calls: Vec<CallId> = self.calls.keys().copied().collect();
        for call in calls {
            self.index_call(call);
        }
        self.index_channels();
        self.callback_index = CallbackIndex::of(self.callbacks.values());
        self.index_hours();
        for ((tenant, id), agent) in &self.agents {
            if let Some(extension) = &agent.extension {
                let seat = (tenant.clone(), extension.clone());
                self.seats.entry(seat).or_default().insert(id.clone());
            }
        }
        self.dispatch = self.derived_dispatch();
    }
}

/// Rows read at once.
const PAGE: usize = 1_024;

fn for_each<T: DeserializeOwned>(rows: &dyn RowsRead, table: Table, mut take: impl FnMut(T)) {
    let mut after: Option<Vec<u8>> = None;
    loop {
        let page = rows.scan(table, &[], after.as_deref(), PAGE);
        let Some((last, _)) = page.last() else { break };
        after = Some(last.clone());
        page.iter()
            .filter_map(|(_, value)| decode_row(value))
            .for_each(&mut take);
    }
}

fn timer_of(key: &[u8]) -> Option<(TimeMs, Deadline)> {
    let (due, deadline) = key.split_at_checked(8)?;
    let due = TimeMs(u64::from_be_bytes(due.try_into().ok()?));
    decode_row(deadline).map(|deadline| (due, deadline))
}

/// Keys of the events that may go now, oldest first.
fn old_events(rows: &dyn Rows, now: TimeMs) -> Vec<Vec<u8>> {
    let keep_from = TimeMs(now.0.saturating_sub(limits::EVENTS_KEPT_MS));
    let mut old: Vec<Vec<u8>> = Vec::new();
    while old.len() < limits::EVENTS_PRUNED_PER_TICK {
        let wanted = PAGE.min(limits::EVENTS_PRUNED_PER_TICK - old.len());
        let page = rows.scan(Table::Event, &[], old.last().map(Vec::as_slice), wanted);
        let read = page.len();
        let stale = page.into_iter().take_while(|(key, value)| {
            let past = decode_row::<EventRow>(value).is_none_or(|event| event.at < keep_from);
            past && event_position(key).is_some()
        });
        let before = old.len();
        old.extend(stale.map(|(key, _)| key));
        if read < wanted || old.len() < before + read {
            break;
        }
    }
    old
}
