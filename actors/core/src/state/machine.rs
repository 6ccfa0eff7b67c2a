//! The machine that agreement drives: decodes entries, answers repeated requests from
//! the reply window, and shares the state with readers on the same node.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use super::command::{Command, Late, Refusal, Reply};
use super::{FEATURE_LEVEL, State, decode_row, encode_row};
use crate::ids::{CallId, TenantId};
use crate::limits;
use crate::ports::{IncarnationNumber, Machine, Meta, NodeNumber, Proposal, Rows, RowsRead, Table};
use crate::time::TimeMs;

/// The state as readers of one node share it.
#[derive(Clone, Default)]
pub struct SharedState(Arc<RwLock<State>>);

impl SharedState {
    /// Reads the state. Hold it briefly: `apply` waits for it.
    pub fn read(&self) -> RwLockReadGuard<'_, State> {
        // A reader's panic cannot leave the state half changed.
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Something on this node may have work to do. A wake-up may be lost or repeated
/// without harm: rows say what is desired.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wake {
    /// The row of this call changed or went.
    Call(CallId),
    /// Nodes or service addresses changed.
    Cluster,
    /// A site was put in force.
    Site(TenantId),
    /// Events were written.
    Events,
    /// The first deadline may have changed.
    Deadline,
    /// Everything may have changed: a snapshot was installed.
    All,
}

/// Where wake-ups go. Called from the apply thread; must not block.
pub trait WakeSink: Send + 'static {
    /// Passes wake-ups on, after their rows can be read.
    fn wake(&mut self, wakes: Vec<Wake>);
}

/// Replies of one life of one proposer.
#[derive(Default)]
struct Window {
    incarnation: IncarnationNumber,
    replies: BTreeMap<u64, Vec<u8>>,
}

/// The replicated state machine of the exchange.
pub struct ExchangeMachine {
    state: SharedState,
    windows: BTreeMap<NodeNumber, Window>,
    sink: Box<dyn WakeSink>,
    wakes: Vec<Wake>,
    level: u32,
}

impl ExchangeMachine {
    /// A machine without history, sharing `state` with readers.
    pub fn new(state: SharedState, sink: Box<dyn WakeSink>) -> Self {
        Self {
            state,
            windows: BTreeMap::new(),
            sink,
            wakes: Vec::new(),
            level: FEATURE_LEVEL,
        }
    }

    /// The same as a program would have it that reads another feature level.
    #[must_use]
    pub fn reading(mut self, level: u32) -> Self {
        self.level = level;
        self
    }

    /// The kept reply of a repeated request, or a refusal when it is out of the window.
    fn repeated(&self, proposal: &Proposal) -> Option<Vec<u8>> {
        let window = self.windows.get(&proposal.request.node)?;
        if proposal.request.incarnation < window.incarnation {
            return Some(encode_reply(&Reply::Refused(Refusal::Stale)));
        }
        if proposal.request.incarnation > window.incarnation {
            return None;
        }
        if let Some(reply) = window.replies.get(&proposal.request.sequence) {
            return Some(reply.clone());
        }
        let full = window.replies.len() >= limits::REPLIES_PER_PROPOSER;
        let oldest = window.replies.keys().next().copied().unwrap_or(0);
        (full && proposal.request.sequence < oldest)
            .then(|| encode_reply(&Reply::Refused(Refusal::Forgotten)))
    }

    /// Keeps a reply, in memory and as a row.
    fn keep(&mut self, rows: &mut dyn Rows, proposal: &Proposal, reply: &[u8]) {
        let request = proposal.request;
        let window = self.windows.entry(request.node).or_default();
        if request.incarnation > window.incarnation {
            for sequence in window.replies.keys() {
                rows.delete(
                    Table::Reply,
                    &reply_key(request.node, window.incarnation, *sequence),
                );
            }
            *window = Window {
                incarnation: request.incarnation,
                replies: BTreeMap::new(),
            };
        }
        let key = reply_key(request.node, request.incarnation, request.sequence);
        rows.put(Table::Reply, &key, reply.to_vec());
        window.replies.insert(request.sequence, reply.to_vec());
        if window.replies.len() > limits::REPLIES_PER_PROPOSER
            && let Some((sequence, _)) = window.replies.pop_first()
        {
            rows.delete(
                Table::Reply,
                &reply_key(request.node, request.incarnation, sequence),
            );
        }
    }
}

impl Machine for ExchangeMachine {
    fn beyond(&self, batch: &[Proposal]) -> Option<u32> {
        let raised = batch.iter().filter_map(|one| raised_to(&one.command));
        let level = self.state.read().meta.feature_level;
        raised
            .chain([level])
            .max()
            .filter(|level| *level > self.level)
    }

    fn apply(&mut self, rows: &mut dyn Rows, meta: Meta, batch: &[Proposal]) -> Vec<Vec<u8>> {
        let shared = self.state.clone();
        let mut state = shared.0.write().unwrap_or_else(PoisonError::into_inner);
        state.begin(meta);
        let mut replies = Vec::with_capacity(batch.len());
        for proposal in batch {
            if let Some(reply) = self.repeated(proposal) {
                replies.push(reply);
                continue;
            }
            let reply = match decode_command(&proposal.command) {
                Some(command) if command.level() <= state.meta.feature_level => {
                    state.apply(rows, command)
                }
                Some(_) | None => Reply::Refused(Refusal::Unreadable),
            };
            let reply = encode_reply(&reply);
            self.keep(rows, proposal, &reply);
            replies.push(reply);
        }
        let wakes = state.finish(rows);
        self.wakes.extend(wakes);
        replies
    }

    fn restore(&mut self, rows: &dyn RowsRead) {
        let loaded = State::load(rows);
        *self.state.0.write().unwrap_or_else(PoisonError::into_inner) = loaded;
        self.windows.clear();
        let mut after: Option<Vec<u8>> = None;
        loop {
            let page = rows.scan(Table::Reply, &[], after.as_deref(), 1_024);
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            for (key, reply) in page {
                let Some((node, incarnation, sequence)) = read_reply_key(&key) else {
                    continue;
                };
                let window = self.windows.entry(node).or_default();
                if incarnation > window.incarnation {
                    *window = Window {
                        incarnation,
                        replies: BTreeMap::new(),
                    };
                }
                window.replies.insert(sequence, reply);
            }
        }
        self.wakes.clear();
        self.sink.wake(vec![Wake::All]);
    }

    fn published(&mut self, _index: u64) {
        if !self.wakes.is_empty() {
            self.sink.wake(std::mem::take(&mut self.wakes));
        }
    }

    fn state_hash(&self) -> [u8; 16] {
        self.state.read().meta.hash
    }
}

impl State {
    /// Opens an entry.
    fn begin(&mut self, meta: Meta) {
        self.meta.index = meta.index;
        self.meta.now = self.meta.now.max(TimeMs(meta.stamp_ms));
    }

    /// Closes an entry: notes changed agent states, writes rows, returns wake-ups.
    fn finish(&mut self, rows: &mut dyn Rows) -> Vec<Wake> {
        if !self.batch.events.is_empty() {
            self.batch.wakes.push(Wake::Events);
        }
        if !self.batch.deadlines.is_empty() {
            self.batch.wakes.push(Wake::Deadline);
        }
        self.flush(rows)
    }

    /// Applies one command and whatever follows from it.
    fn apply(&mut self, rows: &mut dyn Rows, command: Command) -> Reply {
        self.note_hours();
        let reply = match command {
            Command::Tick => {
                self.expire();
                Reply::Done
            }
            Command::NodeUp {
                node,
                incarnation,
                address,
                version,
                level,
            } => self.node_up(node, incarnation, address, (version, level)),
            Command::NodeDown { node, incarnation } => self.node_down(node, incarnation),
            Command::SiteApply(site) => self.site_apply(site),
            Command::Register(register) => self.register(&register),
            Command::CallArrived(arrived) => self.call_arrived(rows, arrived),
            Command::CallObserved {
                call,
                epoch,
                observations,
            } => {
                let late = |observation| Late {
                    age_ms: 0,
                    observation,
                };
                self.call_observed(call, epoch, observations.into_iter().map(late).collect())
            }
            Command::CallObservedLate {
                call,
                epoch,
                observations,
            } => self.call_observed(call, epoch, observations),
            Command::Act { id, tenant, action } => self.act(id, &tenant, action),
            Command::Crm { id, tenant, change } => self.crm(rows, id, &tenant, change),
            Command::Released { legs } => self.released(&legs),
            Command::Compare => self.compare(),
            Command::HashTold {
                node,
                incarnation,
                index,
                hash,
            } => self.hash_told(node, incarnation, index, hash),
            Command::PhoneSeen(seen) => self.phone_seen(seen),
            Command::HoursSet {
                tenant,
                site_version,
                times,
            } => self.hours_set(&tenant, site_version, times),
            Command::Refounded => self.refounded(),
            Command::AddressBarred {
                node,
                incarnation,
                address,
            } => self.address_barred(node, incarnation, address),
            Command::Raise { level } => self.raise(level),
        };
        self.record_contacts(rows);
        self.rebalance();
        self.assign();
        self.note_agents();
        reply
    }
}

fn reply_key(node: NodeNumber, incarnation: IncarnationNumber, sequence: u64) -> Vec<u8> {
    [node, incarnation, sequence]
        .iter()
        .flat_map(|part| part.to_be_bytes())
        .collect()
}

fn read_reply_key(key: &[u8]) -> Option<(NodeNumber, IncarnationNumber, u64)> {
    let mut parts = key
        .chunks_exact(8)
        .map(|part| part.try_into().map(u64::from_be_bytes));
    let mut next = || parts.next()?.ok();
    Some((next()?, next()?, next()?))
}

/// Encodes a command for a proposal.
pub fn encode_command(command: &Command) -> Vec<u8> {
    encode_row(command)
}

/// Decodes a command; `None` when this version does not know it.
pub fn decode_command(bytes: &[u8]) -> Option<Command> {
    decode_row(bytes)
}

/// Version and number of [`Command::Raise`], with which its bytes begin: other commands are not
/// decoded twice.
const RAISE: [u8; 2] = [1, 16];

/// The feature level a command would put in force.
fn raised_to(command: &[u8]) -> Option<u32> {
    if !command.starts_with(&RAISE) {
        return None;
    }
    let Some(Command::Raise { level }) = decode_command(command) else {
        return None;
    };
    Some(level)
}

fn encode_reply(reply: &Reply) -> Vec<u8> {
    encode_row(reply)
}

/// Decodes a reply.
pub fn decode_reply(bytes: &[u8]) -> Option<Reply> {
    decode_row(bytes)
}
