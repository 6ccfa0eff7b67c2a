//! Reads every value of a store at rest and says what is there and what is wrong.
//!
//! Nothing on disk changes. Invariant: a value counts as sound only after its checksum was
//! compared, and the machine sees rows only when all of them are.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use openraft::entry::RaftEntry;
use rocksdb::IteratorMode;
use strowger_core::ports::{IncarnationNumber, Machine, NodeNumber, Table};

use crate::cluster::{STORE_DIR, lock};
use crate::error::OpenError;
use crate::identity::{ClusterId, Identity};
use crate::raft::log::{COMMITTED, PURGED, VOTE};
use crate::raft::machine::{APPLIED, Applied, Installing};
use crate::raft::snapshot::Staged;
use crate::raft::{Entry, LogId, Vote};
use crate::store::keys::{self, GroupId};
use crate::store::{Family, Store, StoredRows, decode, unseal};

/// Findings that are kept; further ones are only counted.
const FINDINGS_MAX: usize = 100;

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Where: a table and key, or a part of the log.
    pub place: String,
    /// What is wrong there.
    pub what: String,
}

/// What one table holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableSize {
    /// Rows.
    pub rows: u64,
    /// Bytes of their keys, without group and table.
    pub key_bytes: u64,
    /// Bytes of their values, without checksums.
    pub value_bytes: u64,
    /// Bytes of the largest value.
    pub largest: u64,
}

impl TableSize {
    fn count(&mut self, key: usize, value: usize) {
        let bytes = |length: usize| u64::try_from(length).unwrap_or(u64::MAX);
        self.rows += 1;
        self.key_bytes += bytes(key);
        self.value_bytes += bytes(value);
        self.largest = self.largest.max(bytes(value));
    }
}

/// What a data directory holds.
#[derive(Clone, Debug)]
pub struct Survey {
    /// The cluster.
    pub cluster: ClusterId,
    /// The node.
    pub node: NodeNumber,
    /// Its last life.
    pub incarnation: IncarnationNumber,
    /// Term of its vote, and for whom.
    pub vote: Option<(u64, NodeNumber)>,
    /// First and last index of the log; `None` when it is empty.
    pub log: Option<(u64, u64)>,
    /// Entries up to here have been dropped from the log.
    pub purged: Option<u64>,
    /// Entries up to here are known to be committed. Written unsynced: may trail.
    pub committed: Option<u64>,
    /// Entries up to here are in the rows.
    pub applied: Option<u64>,
    /// Voters as of the applied entry.
    pub voters: Vec<NodeNumber>,
    /// BLAKE3 over every replicated row: equal on nodes that stand at the same entry.
    pub rows_hash: [u8; 32],
    /// What each table holds, by name; `log` are the entries.
    pub tables: BTreeMap<&'static str, TableSize>,
    /// What is wrong, the first hundred.
    pub findings: Vec<Finding>,
    /// How much is wrong.
    pub wrong: usize,
    /// True when every row is sound and the machine was restored from them.
    pub restored: bool,
}

impl Survey {
    /// Notes something that is wrong.
    pub fn note(&mut self, place: impl Into<String>, what: impl Into<String>) {
        self.wrong += 1;
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(Finding {
                place: place.into(),
                what: what.into(),
            });
        }
    }
}

/// Examines the data of a stopped node. Rows are shown to `is_readable` one by one; when
/// all are sound, `machine` is restored from them.
///
/// # Errors
/// [`OpenError`] when there is no identity, a daemon runs on the data, or the store cannot
/// be opened at all. Anything else that is wrong is a [`Finding`].
pub fn survey(
    data_dir: &Path,
    machine: &mut dyn Machine,
    is_readable: impl Fn(Table, &[u8], &[u8]) -> bool,
) -> Result<Survey, OpenError> {
    let identity = Identity::load(data_dir)?;
    let _lock = lock(data_dir)?;
    let store = Store::open_to_read(&data_dir.join(STORE_DIR))?;
    let mut surveyor = Surveyor {
        data_dir,
        store: store.clone(),
        group: GroupId::FIRST,
        hasher: blake3::Hasher::new(),
        survey: Survey {
            cluster: identity.cluster,
            node: identity.node,
            incarnation: 0,
            vote: None,
            log: None,
            purged: None,
            committed: None,
            applied: None,
            voters: Vec::new(),
            rows_hash: [0; 32],
            tables: BTreeMap::new(),
            findings: Vec::new(),
            wrong: 0,
            restored: false,
        },
    };
    surveyor.local();
    surveyor.log();
    let before = surveyor.survey.wrong;
    for family in Family::REPLICATED {
        surveyor.rows(family, &is_readable);
    }
    let rows_are_sound = surveyor.survey.wrong == before;
    surveyor.positions();
    let mut survey = surveyor.survey;
    survey.rows_hash = *surveyor.hasher.finalize().as_bytes();
    if rows_are_sound {
        machine.restore(&StoredRows::new(store.clone(), GroupId::FIRST));
        match store.fault().raised() {
            Some(why) => survey.note("rows", why),
            None => survey.restored = true,
        }
    }
    Ok(survey)
}

struct Surveyor<'a> {
    data_dir: &'a Path,
    store: Arc<Store>,
    group: GroupId,
    hasher: blake3::Hasher,
    survey: Survey,
}

type RawRow = (Box<[u8]>, Box<[u8]>);

impl Surveyor<'_> {
    /// The rows of a family. A block the engine itself cannot read ends the walk and is a
    /// finding.
    fn walk(&mut self, family: Family, mut each: impl FnMut(&mut Self, RawRow)) {
        let store = self.store.clone();
        for item in store
            .db()
            .iterator_cf(store.family(family), IteratorMode::Start)
        {
            match item {
                Ok(row) => each(self, row),
                Err(error) => {
                    let what = format!("the rest cannot be read: {error}");
                    return self.survey.note(family.name(), what);
                }
            }
        }
    }

    /// The checked value at `key`, decoded; a damaged one is a finding.
    fn single<T: serde::de::DeserializeOwned>(
        &mut self,
        family: Family,
        key: &[u8],
        what: &'static str,
    ) -> Option<T> {
        let value = self.store.read(family, key);
        let value = value.and_then(|value| match value {
            Some(value) => decode(what, &value).map(Some),
            None => Ok(None),
        });
        value.unwrap_or_else(|error| {
            self.survey.note(what, error.to_string());
            None
        })
    }

    /// What is local to the node: its lives, an installation that was cut off.
    fn local(&mut self) {
        let lives = self.single(Family::Local, keys::INCARNATION, "incarnation");
        self.survey.incarnation = lives.unwrap_or(0);
        let installing = self.single::<Installing>(
            Family::Local,
            keys::INSTALLING,
            "marker of a snapshot being installed",
        );
        if let Some(marker) = installing {
            let path = self.data_dir.join(&marker.file);
            if let Err(error) = Staged::verify(&path) {
                let what = format!(
                    "a snapshot was being installed and cannot be finished: {error}; the rows \
                     are incomplete"
                );
                self.survey.note(path.display().to_string(), what);
            }
        }
    }

    /// The log: every checksum, no gap, terms that never fall.
    fn log(&mut self) {
        let single = |which| keys::log_single(self.group, which);
        let (vote, purged, committed) = (single(VOTE), single(PURGED), single(COMMITTED));
        let vote: Option<Vote> = self.single(Family::Raft, &vote, "vote");
        let purged: Option<LogId> = self.single(Family::Raft, &purged, "purged position");
        let committed: Option<Option<LogId>> =
            self.single(Family::Raft, &committed, "committed position");
        self.survey.vote = vote.map(|vote| (vote.leader_id.term, vote.leader_id.node_id));
        self.survey.purged = purged.map(|id| id.index);
        self.survey.committed = committed.flatten().map(|id| id.index);
        let prefix = keys::log(self.group, 0);
        let prefix = prefix.get(..5).unwrap_or_default().to_vec();
        let mut last = purged;
        self.walk(Family::Raft, |own, (key, sealed)| {
            if !key.starts_with(&prefix) {
                return;
            }
            let index = key.get(5..).and_then(|index| index.try_into().ok());
            let index = index.map_or(0, u64::from_be_bytes);
            let place = format!("log entry {index}");
            let first = own.survey.log.map_or(index, |(first, _)| first);
            let expected = match (own.survey.log, last) {
                (None, None) => index,
                (None, Some(purged)) => purged.index + 1,
                (Some((_, before)), _) => before + 1,
            };
            if index != expected {
                let what = format!(
                    "entries {expected} to {} are missing",
                    index.wrapping_sub(1)
                );
                own.survey.note(place.clone(), what);
            }
            own.survey.log = Some((first, index));
            let size = sealed.len().saturating_sub(8);
            own.survey
                .tables
                .entry("log")
                .or_default()
                .count(key.len() - prefix.len(), size);
            let entry = unseal(Family::Raft, &key, sealed.into_vec())
                .and_then(|bytes| decode::<Entry>("log entry", &bytes));
            match entry {
                Err(error) => own.survey.note(place, error.to_string()),
                Ok(entry) => {
                    let id = entry.log_id();
                    if id.index != index {
                        own.survey
                            .note(place.clone(), format!("it says it is entry {}", id.index));
                    }
                    if last.is_some_and(|last| last.leader_id > id.leader_id) {
                        own.survey
                            .note(place, "its term is older than the one before");
                    }
                    last = Some(id);
                    if let Some(membership) = entry.get_membership() {
                        own.survey.voters = membership.voter_ids().collect();
                    }
                }
            }
        });
        if let (Some(vote), Some(last)) = (vote, last)
            && vote.leader_id.term < last.leader_id.term
        {
            let what = format!(
                "the vote is of term {}, the last entry of term {}",
                vote.leader_id.term, last.leader_id.term
            );
            self.survey.note("vote", what);
        }
    }

    /// The rows of one family: checksums, known tables, values this program can read.
    fn rows(&mut self, family: Family, is_readable: &impl Fn(Table, &[u8], &[u8]) -> bool) {
        let group = self.group.0.to_be_bytes();
        self.walk(family, |own, (key, sealed)| {
            let place = || format!("{} key {}", family.name(), hex::encode(&key));
            let parts = key.strip_prefix(&group).and_then(<[u8]>::split_first);
            let Some((&number, row)) = parts else {
                return own.survey.note(place(), "it belongs to no group");
            };
            let value = match unseal(family, &key, sealed.into_vec()) {
                Ok(value) => value,
                Err(error) => return own.survey.note(place(), error.to_string()),
            };
            for part in [&*key, &value] {
                let length = u64::try_from(part.len()).unwrap_or(u64::MAX);
                own.hasher.update(&length.to_be_bytes());
                own.hasher.update(part);
            }
            let name = match Table::from_number(number) {
                Some(table) if keys::family_of(table) != family => {
                    return own.survey.note(place(), "its table lives elsewhere");
                }
                Some(table) => {
                    if !is_readable(table, row, &value) {
                        let what = format!("a row of {} cannot be read", table.name());
                        own.survey.note(place(), what);
                    }
                    table.name()
                }
                None if number == keys::OWN_TABLE => "cluster",
                None => {
                    let what = format!("table {number} is not known to this version");
                    return own.survey.note(place(), what);
                }
            };
            let size = own.survey.tables.entry(name).or_default();
            size.count(row.len(), value.len());
        });
    }

    /// Where log and rows stand to each other.
    fn positions(&mut self) {
        let key = keys::own(self.group, APPLIED);
        let applied: Option<Applied> = self.single(Family::State, &key, "applied position");
        let Some(applied) = applied else { return };
        self.survey.applied = applied.log_id.map(|id| id.index);
        self.survey.voters = applied.membership.voter_ids().collect();
        let at = self.survey.applied.unwrap_or(0);
        let (purged, last) = (
            self.survey.purged.unwrap_or(0),
            self.survey.log.map(|(_, last)| last),
        );
        let last = last.unwrap_or(purged);
        if at > last {
            let what = format!("entries up to {at} are applied, the log ends at {last}");
            self.survey.note("applied position", what);
        }
        if at < purged {
            let what = format!("entries up to {purged} were dropped, only {at} are applied");
            self.survey.note("applied position", what);
        }
        if let Some(committed) = self.survey.committed
            && committed > last
        {
            let what = format!("entries up to {committed} are committed, the log ends at {last}");
            self.survey.note("committed position", what);
        }
    }
}
