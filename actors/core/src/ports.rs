//! The ports between what decides and what agrees and stores.
//!
//! `cluster` implements [`Proposer`] and [`Rows`] and drives a [`Machine`]; it
//! never learns what a command means. `core::state` implements [`Machine`];
//! `actors` and `node` use [`Proposer`]. Commands, replies, keys and values are
//! bytes here, so that neither side names the other's types.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The number of a node, as written in its certificate and its node file. 1-based.
pub type NodeNumber = u64;

/// One life of a node: rises by one each time its daemon starts on its data.
pub type IncarnationNumber = u64;

/// Where a row lives. The number is part of the key on disk and never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Table {
    /// Singletons of the floor: clock, feature level, mint, nonce key.
    Meta = 1,
    /// Nodes, by number.
    Node = 2,
    /// Service addresses, by IP address.
    Address = 3,
    /// Site versions, by tenant and version.
    Site = 4,
    /// Registrations, by tenant and extension.
    Registration = 5,
    /// Live calls, by call id.
    Call = 6,
    /// Agents, by tenant and agent id.
    Agent = 7,
    /// Queues, by tenant and name.
    Queue = 8,
    /// Deadlines, by due time.
    Timer = 9,
    /// Replies kept per proposer so that a retried request is answered, not repeated.
    Reply = 10,
    /// Events of the last hours, by log index and position.
    Event = 11,
    /// Figures, by tenant, kind and name.
    Figure = 12,
    /// Blob directory, by content hash.
    Blob = 13,
    /// Sealed secrets, by tenant and name.
    Secret = 14,
    /// Trunks, by tenant and name.
    Trunk = 15,
    /// Legs of lost calls, by leg id.
    Leftover = 24,
    /// Phones that fail, by tenant and name.
    Failing = 25,
    /// Places kept for callers who left, by tenant, queue and number.
    Place = 28,
    /// Opening hours, by tenant and name.
    Hours = 30,
    /// Callbacks, by the id of the call that took each.
    Callback = 29,
    /// Call detail records, by end time and call id. Stored apart from the floor.
    Cdr = 64,
    /// Call detail records by call id, pointing to the row in `Cdr`.
    CdrByCall = 65,
    /// Customers, by tenant and id.
    Customer = 66,
    /// Figures by quarters of an hour: tenant, kind, name, beginning of the quarter.
    Interval = 80,
    /// Customers by tenant and number: empty rows, the id ends the key.
    CustomerByNumber = 70,
    /// Customers by tenant and name in small letters: empty rows, the id ends the key.
    CustomerByName = 71,
    /// Contacts of customers, by tenant, customer and time, newest first.
    Interaction = 72,
    /// Imports of customers and the lines they refused, by tenant, import and line.
    CustomerImport = 73,
    /// Why callers were offered to whom, by call and leg.
    Explanation = 90,
}

impl Table {
    /// True for history (large, never held in memory); false for the floor.
    pub fn is_history(self) -> bool {
        self as u8 >= 64
    }

    /// Every table, by number.
    pub const ALL: [Self; 29] = [
        Self::Meta,
        Self::Node,
        Self::Address,
        Self::Site,
        Self::Registration,
        Self::Call,
        Self::Agent,
        Self::Queue,
        Self::Timer,
        Self::Reply,
        Self::Event,
        Self::Figure,
        Self::Blob,
        Self::Secret,
        Self::Trunk,
        Self::Leftover,
        Self::Failing,
        Self::Place,
        Self::Callback,
        Self::Hours,
        Self::Cdr,
        Self::CdrByCall,
        Self::Customer,
        Self::CustomerByNumber,
        Self::CustomerByName,
        Self::Interaction,
        Self::CustomerImport,
        Self::Interval,
        Self::Explanation,
    ];

    /// The table with this number; `None` when this version knows none.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|table| *table as u8 == number)
    }

    /// Its name, as an operator reads it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::Node => "node",
            Self::Address => "address",
            Self::Site => "site",
            Self::Registration => "registration",
            Self::Call => "call",
            Self::Agent => "agent",
            Self::Queue => "queue",
            Self::Timer => "timer",
            Self::Reply => "reply",
            Self::Event => "event",
            Self::Figure => "figure",
            Self::Blob => "blob",
            Self::Secret => "secret",
            Self::Trunk => "trunk",
            Self::Leftover => "leftover",
            Self::Failing => "failing",
            Self::Place => "place",
            Self::Hours => "hours",
            Self::Callback => "callback",
            Self::Cdr => "cdr",
            Self::CdrByCall => "cdr_by_call",
            Self::Customer => "customer",
            Self::Interval => "interval",
            Self::CustomerByNumber => "customer_by_number",
            Self::CustomerByName => "customer_by_name",
            Self::Interaction => "interaction",
            Self::CustomerImport => "customer_import",
            Self::Explanation => "explanation",
        }
    }
}

/// One stored row: key and value.
pub type Row = (Vec<u8>, Vec<u8>);

/// Reading committed rows. Cheap to clone behind an `Arc`, usable from any thread.
pub trait RowsRead {
    /// The value at `key`, or `None`.
    fn get(&self, table: Table, key: &[u8]) -> Option<Vec<u8>>;

    /// Rows whose key starts with `prefix` and is greater than `after` (when given),
    /// in key order, at most `limit`.
    fn scan(&self, table: Table, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Vec<Row>;
}

/// The rows as `apply` sees them: committed rows under the writes of this batch.
pub trait Rows: RowsRead {
    /// Sets the value at `key`.
    fn put(&mut self, table: Table, key: &[u8], value: Vec<u8>);

    /// Removes `key`; nothing happens when it is absent.
    fn delete(&mut self, table: Table, key: &[u8]);
}

/// Position and time of the log entry being applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    /// Raft log index of the entry.
    pub index: u64,
    /// Wall clock of the leader when it appended the entry, ms since 1970 UTC.
    /// May step back between leaders; `apply` uses `max(state.now, stamp)`.
    pub stamp_ms: u64,
}

/// Names one request of one proposer for ever, so that a retry is recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RequestId {
    /// The node that proposed.
    pub node: NodeNumber,
    /// The life of that node.
    pub incarnation: IncarnationNumber,
    /// Rises by one with each request of that life, from 1.
    pub sequence: u64,
}

/// One command as it stands in a log entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposal {
    /// Who asked; the machine answers a repeated id from its reply window.
    pub request: RequestId,
    /// The encoded command.
    pub command: Vec<u8>,
}

/// The deterministic state machine that agreement drives.
///
/// One instance per group, called from one thread. Entries arrive in log order,
/// each exactly once per life of the process.
pub trait Machine: Send + 'static {
    /// The feature level that the rows, or the proposals of the next entry, need, when this
    /// program does not read it: nothing may be applied then. Asked before each entry, and
    /// with no proposals after each [`Machine::restore`].
    fn beyond(&self, batch: &[Proposal]) -> Option<u32> {
        let _ = batch;
        None
    }

    /// Applies the proposals of one entry and returns one encoded reply for each,
    /// in order. Must be a pure function of the machine's state, `rows` and the
    /// arguments.
    fn apply(&mut self, rows: &mut dyn Rows, meta: Meta, batch: &[Proposal]) -> Vec<Vec<u8>>;

    /// Forgets everything held in memory and loads the floor from `rows`. Called
    /// at start and after a snapshot has been installed.
    fn restore(&mut self, rows: &dyn RowsRead);

    /// Called after the rows of the entries up to `index` have been written:
    /// readers of rows now see them, so wake-ups may go out. Never called inside
    /// a batch.
    fn published(&mut self, index: u64);

    /// A hash of the floor, equal on every node that has applied the same log.
    fn state_hash(&self) -> [u8; 16];
}

/// What became of a proposal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Committed and applied; the machine's encoded reply (which may itself say
    /// that the command was refused).
    Committed(Vec<u8>),
    /// No quorum was reachable before the deadline and the command surely was not
    /// appended; it may be proposed anew.
    NoQuorum,
    /// The deadline passed with the command under way. Proposing the same
    /// [`RequestId`] again is safe and tells what happened.
    Unknown(RequestId),
}

/// A future that is boxed so that [`Proposer`] can be a trait object.
pub type ProposeFuture<'a> = Pin<Box<dyn Future<Output = Outcome> + Send + 'a>>;

/// Proposing commands, from any node: forwarded to the leader when necessary.
///
/// An implementation retries inside the deadline over leader changes with one
/// request id, so callers see [`Outcome::Unknown`] only when the deadline is over.
pub trait Proposer: Send + Sync + 'static {
    /// Proposes one encoded command. Resolves when it is applied here or on the
    /// leader, or when `deadline` has passed.
    fn propose(&self, command: Vec<u8>, deadline: Duration) -> ProposeFuture<'_>;

    /// Proposes one encoded command under the id of an earlier [`Outcome::Unknown`]. Of all that
    /// is proposed under one id the first to be committed counts, and every other is answered
    /// with its reply. Never [`Outcome::NoQuorum`]: the earlier one may have been appended.
    fn propose_again(
        &self,
        request: RequestId,
        command: Vec<u8>,
        deadline: Duration,
    ) -> ProposeFuture<'_>;
}

/// A shared proposer.
pub type SharedProposer = Arc<dyn Proposer>;
