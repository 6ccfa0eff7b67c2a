//! Founding a cluster from copied rows, and making one survivor the whole of its cluster.
//!
//! Both write a store that no running node has touched, so that the next start finds a log
//! whose only voter is this node. Raft's own rules are kept: terms rise, and what the rows
//! hold is never older than what the log has dropped.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use openraft::entry::RaftEntry;
use openraft::{EntryPayload, Membership};
use rocksdb::{Direction, IteratorMode, WriteBatch};
use strowger_core::ports::{NodeNumber, Proposal, RequestId, RowsRead, Table};

use crate::cluster::{STORE_DIR, lock};
use crate::copy::Taken;
use crate::error::{OpenError, StoreError};
use crate::identity::Identity;
use crate::raft::log::{COMMITTED, PURGED, VOTE, last_entry};
use crate::raft::machine::{APPLIED, Applied};
use crate::raft::snapshot::Staged;
use crate::raft::{
    Data, Entry, LeaderId, LogId, OwnCommand, Payload, Peer, StoredMembership, Vote, wall_clock_ms,
};
use crate::store::keys::{self, GroupId};
use crate::store::{Family, Store, StoredRows, decode, encode, unseal};

/// Bytes of rows after which a founding store is written out, so that memory stays small.
const FLUSH_BYTES: usize = 256 << 20;

/// What a cluster is founded from.
pub struct Founding<'a> {
    /// The new identity; it is written last, and a folder without one never runs.
    pub identity: &'a Identity,
    /// A file of [`crate::copy::RowsFile`].
    pub rows: &'a Path,
    /// Where in the log of the other cluster it was taken.
    pub taken: Taken,
    /// The first command of the new cluster.
    pub first: Vec<u8>,
}

/// Fills the empty folder `data_dir` with the rows of `founding`; each goes through `edit`,
/// which may change or drop it, and `check` judges what was written. Returns how many rows
/// were kept.
///
/// # Errors
/// [`OpenError`]: the folder stays without identity and is to be cleared.
pub fn found_from(
    data_dir: &Path,
    founding: &Founding<'_>,
    mut edit: impl FnMut(Table, &[u8], Vec<u8>) -> Option<Vec<u8>>,
    check: impl FnOnce(&dyn RowsRead) -> Result<(), String>,
) -> Result<u64, OpenError> {
    let _lock = lock(data_dir)?;
    let group = GroupId::FIRST;
    let store = Store::open(&data_dir.join(STORE_DIR))?;
    let at = |source| StoreError::File {
        path: founding.rows.to_owned(),
        source,
    };
    let mut staged = Staged::open(founding.rows).map_err(at)?;
    let (mut kept, mut bytes) = (0, 0);
    while let Some(chunk) = staged.next().map_err(at)? {
        let mut batch = WriteBatch::default();
        for (key, value) in chunk.rows {
            // Tokens, numbers and removed nodes are the other cluster's own, and so are
            // rows of groups this version does not know.
            let parts = key.strip_prefix(&group.0.to_be_bytes());
            let Some((&number, row)) = parts.and_then(<[u8]>::split_first) else {
                continue;
            };
            let Some(table) = Table::from_number(number) else {
                continue;
            };
            if let Some(value) = edit(table, row, value) {
                bytes += key.len() + value.len();
                kept += 1;
                store.put(&mut batch, chunk.family, &key, &value);
            }
        }
        store.write_unlogged(batch)?;
        if bytes >= FLUSH_BYTES {
            bytes = 0;
            store.flush()?;
        }
    }
    let own = founding.identity.node;
    let leader_id = LeaderId {
        term: founding.taken.term,
        node_id: founding.taken.leader,
    };
    let last = LogId::new(leader_id, founding.taken.index);
    let seeds = founding.identity.seeds.iter();
    let peers = seeds.map(|(node, address)| (*node, address.clone()));
    let membership = membership_of(peers.collect())?;
    let applied = Applied {
        log_id: Some(last),
        membership: StoredMembership::new(Some(last), membership),
    };
    let mut batch = WriteBatch::default();
    let single = |which| keys::log_single(group, which);
    let key = keys::own(group, APPLIED);
    store.put(&mut batch, Family::State, &key, &encode(&applied));
    store.put(&mut batch, Family::Raft, &single(PURGED), &encode(&last));
    let committed = encode(&Some(last));
    store.put(&mut batch, Family::Raft, &single(COMMITTED), &committed);
    let mut tail = Tail::after(&store, group, last, own, founding.taken.term);
    tail.commands(&mut batch, vec![founding.first.clone()]);
    tail.vote(&mut batch);
    store.write_unlogged(batch)?;
    store.flush()?;
    check(&StoredRows::new(store.clone(), group)).map_err(OpenError::Agreement)?;
    if let Some(why) = store.fault().raised() {
        return Err(OpenError::Agreement(why));
    }
    drop(store);
    founding.identity.store(data_dir)?;
    Ok(kept)
}

/// What a survivor of a lost majority would become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// This node.
    pub node: NodeNumber,
    /// The members that are given up.
    pub lost: Vec<NodeNumber>,
    /// Last entry of the log here: everything up to it is kept.
    pub last: u64,
    /// Last entry known to be committed here.
    pub committed: u64,
    /// Term of the last entry.
    pub term: u64,
}

/// What [`recover`] would do to the data of a stopped node; changes nothing.
///
/// # Errors
/// [`OpenError`] as for a start; [`OpenError::Agreement`] when this node is the only voter
/// already, or none.
pub fn recovery(data_dir: &Path) -> Result<Recovery, OpenError> {
    let identity = Identity::load(data_dir)?;
    let _lock = lock(data_dir)?;
    let store = Store::open_to_read(&data_dir.join(STORE_DIR))?;
    Ok(Standing::read(&store, &identity)?.recovery)
}

/// Makes the stopped node at `data_dir` the only voter of its cluster: the other members
/// are removed, as by `remove`, and may come back only with empty data. `commands` are
/// committed with that.
///
/// # Errors
/// As for [`recovery`]; nothing is changed then.
pub fn recover(
    data_dir: &Path,
    commands: impl FnOnce(&Recovery) -> Vec<Vec<u8>>,
) -> Result<Recovery, OpenError> {
    let identity = Identity::load(data_dir)?;
    let _lock = lock(data_dir)?;
    let group = GroupId::FIRST;
    let store = Store::open(&data_dir.join(STORE_DIR))?;
    let standing = Standing::read(&store, &identity)?;
    let recovery = standing.recovery;
    let mut batch = WriteBatch::default();
    let logged = last_entry(&store, group)?.map(|entry| entry.log_id());
    if logged < Some(standing.last) {
        // Rows of an entry whose own copy the crash took: no log may begin in front of a gap.
        let family = store.family(Family::Raft);
        let end = keys::log(group, standing.last.index + 1);
        batch.delete_range_cf(family, keys::log(group, 0), end);
        let purged = keys::log_single(group, PURGED);
        store.put(&mut batch, Family::Raft, &purged, &encode(&standing.last));
    }
    let mut tail = Tail::after(&store, group, standing.last, identity.node, standing.term);
    // Removed before they stop being members, so that at no entry they could greet.
    for node in &recovery.lost {
        let stamp_ms = wall_clock_ms();
        let command = OwnCommand::Remove { node: *node };
        let payload = Payload::Own { stamp_ms, command };
        tail.entry(&mut batch, EntryPayload::Normal(Data(Arc::new(payload))));
    }
    let own = BTreeMap::from([(identity.node, standing.address)]);
    tail.entry(&mut batch, EntryPayload::Membership(membership_of(own)?));
    tail.commands(&mut batch, commands(&recovery));
    tail.vote(&mut batch);
    // Whoever recovers a node that has forgotten something knows what is lost.
    batch.delete_cf(store.family(Family::Local), keys::FORGOT);
    store.write(batch, true)?;
    Ok(recovery)
}

/// Where a stopped node stands.
struct Standing {
    recovery: Recovery,
    last: LogId,
    term: u64,
    address: String,
}

impl Standing {
    fn read(store: &Store, identity: &Identity) -> Result<Self, OpenError> {
        let group = GroupId::FIRST;
        let refused = |why: &str| OpenError::Agreement(why.to_owned());
        if store.read(Family::Local, keys::INSTALLING)?.is_some() {
            return Err(refused(
                "a snapshot was being installed: the rows are incomplete",
            ));
        }
        let single = |which| store.read(Family::Raft, &keys::log_single(group, which));
        let vote: Option<Vote> = match single(VOTE)? {
            Some(value) => Some(decode("vote", &value)?),
            None => None,
        };
        let committed: Option<LogId> = match single(COMMITTED)? {
            Some(value) => decode("committed position", &value)?,
            None => None,
        };
        let applied: Applied = match store.read(Family::State, &keys::own(group, APPLIED))? {
            Some(value) => decode("applied position", &value)?,
            None => Applied::default(),
        };
        let mut last = match single(PURGED)? {
            Some(value) => Some(decode("purged position", &value)?),
            None => None,
        };
        last = last.max(applied.log_id);
        let mut membership = applied.membership.membership().clone();
        let from = keys::log(group, applied.log_id.map_or(0, |id| id.index + 1));
        let mode = IteratorMode::From(&from, Direction::Forward);
        for item in store.db().iterator_cf(store.family(Family::Raft), mode) {
            let (key, sealed) = item.map_err(StoreError::from)?;
            if !key.starts_with(&keys::log(group, 0)[..5]) {
                break;
            }
            let bytes = unseal(Family::Raft, &key, sealed.into_vec())?;
            let entry: Entry = decode("log entry", &bytes)?;
            let id = entry.log_id();
            let expected = last.map_or(0, |last: LogId| last.index + 1);
            if id.index != expected {
                let why = format!("the log has a gap before entry {}", id.index);
                return Err(refused(&why));
            }
            last = Some(id);
            if let EntryPayload::Membership(newer) = entry.payload {
                membership = newer;
            }
        }
        let last = last.ok_or_else(|| refused("this node never was part of the cluster"))?;
        let own = identity.node;
        let address = membership.get_node(&own).map(|peer| peer.address.clone());
        let address = address.ok_or_else(|| refused("this node is no member of the cluster"))?;
        let nodes = membership.nodes().map(|(node, _)| *node);
        let lost: Vec<NodeNumber> = nodes.filter(|node| *node != own).collect();
        if lost.is_empty() {
            return Err(refused(
                "this node is the only member: nothing is to recover",
            ));
        }
        let term = vote.map_or(0, |vote| vote.leader_id.term);
        Ok(Self {
            recovery: Recovery {
                node: own,
                lost,
                last: last.index,
                committed: committed.max(applied.log_id).map_or(0, |id| id.index),
                term: last.leader_id.term,
            },
            last,
            term: term.max(last.leader_id.term),
            address,
        })
    }
}

fn membership_of(
    peers: BTreeMap<NodeNumber, String>,
) -> Result<Membership<NodeNumber, Peer>, OpenError> {
    let voters: BTreeSet<NodeNumber> = peers.keys().copied().collect();
    let peers: BTreeMap<NodeNumber, Peer> = peers
        .into_iter()
        .map(|(node, address)| (node, Peer { address }))
        .collect();
    Membership::new(vec![voters], peers).map_err(|error| OpenError::Agreement(error.to_string()))
}

/// Entries added behind a log, in a term of their own.
struct Tail<'a> {
    store: &'a Store,
    group: GroupId,
    leader: LeaderId,
    next: u64,
}

impl<'a> Tail<'a> {
    fn after(store: &'a Store, group: GroupId, last: LogId, node: NodeNumber, term: u64) -> Self {
        Self {
            store,
            group,
            leader: LeaderId {
                term: term + 1,
                node_id: node,
            },
            next: last.index + 1,
        }
    }

    fn entry(&mut self, batch: &mut WriteBatch, payload: EntryPayload<Data, NodeNumber, Peer>) {
        let entry = Entry::new(LogId::new(self.leader, self.next), payload);
        let key = keys::log(self.group, self.next);
        self.store.put(batch, Family::Raft, &key, &encode(&entry));
        self.next += 1;
    }

    /// One entry with commands of the machine, asked for by no life of this node.
    fn commands(&mut self, batch: &mut WriteBatch, commands: Vec<Vec<u8>>) {
        if commands.is_empty() {
            return;
        }
        let proposals = (1..).zip(commands).map(|(sequence, command)| Proposal {
            request: RequestId {
                node: NO_NODE,
                incarnation: self.next,
                sequence,
            },
            command,
        });
        let payload = Payload::Batch {
            stamp_ms: wall_clock_ms(),
            proposals: proposals.collect(),
        };
        self.entry(batch, EntryPayload::Normal(Data(Arc::new(payload))));
    }

    /// The vote under which the entries were written; a new election raises the term.
    fn vote(&self, batch: &mut WriteBatch) {
        let vote = Vote::new(self.leader.term, self.leader.node_id);
        let key = keys::log_single(self.group, VOTE);
        self.store.put(batch, Family::Raft, &key, &encode(&vote));
    }
}

/// Numbers of nodes start at 1: what is committed under this one is nobody's request.
const NO_NODE: NodeNumber = 0;
