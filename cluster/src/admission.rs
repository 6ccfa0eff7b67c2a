//! Who may enter the cluster: join tokens and removed nodes, in the cluster's own table.
//!
//! Applied from the log like everything else, so a token is one-time on every node and
//! over restarts. Deliberately not here: certificates ([`crate::identity`]) and the
//! membership of the Raft group ([`crate::membership`]).

use std::collections::BTreeSet;

use rocksdb::WriteBatch;
use serde::{Deserialize, Serialize};
use strowger_core::ports::NodeNumber;

use crate::error::StoreError;
use crate::limits;
use crate::raft::{OwnCommand, OwnReply};
use crate::store::keys::{self, GroupId};
use crate::store::{Family, Store, decode, encode, unseal};

/// A join token as the cluster knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Token {
    /// The number it is for, if that was settled when it was made.
    node: Option<NodeNumber>,
    expires_ms: u64,
    /// Who used it: hash of the key and the number given.
    used: Option<([u8; 32], NodeNumber)>,
}

/// Applies `command`, adding its writes to `batch`.
///
/// # Errors
/// [`StoreError`] when a row cannot be read.
pub fn apply(
    store: &Store,
    group: GroupId,
    batch: &mut WriteBatch,
    stamp_ms: u64,
    command: &OwnCommand,
    members: &BTreeSet<NodeNumber>,
) -> Result<OwnReply, StoreError> {
    let mut desk = Desk {
        store,
        group,
        batch,
        members,
    };
    match command {
        OwnCommand::Invite {
            secret_hash,
            node,
            expires_ms,
        } => {
            let token = Token {
                node: *node,
                expires_ms: *expires_ms,
                used: None,
            };
            desk.invite(stamp_ms, secret_hash, token)
        }
        OwnCommand::Admit {
            secret_hash,
            key_hash,
        } => desk.admit(stamp_ms, secret_hash, key_hash),
        OwnCommand::Remove { node } => {
            desk.put(&removed_key(group, *node), &encode(&stamp_ms));
            Ok(OwnReply::Done)
        }
    }
}

/// True when a join token of this hash is known here, used or not.
///
/// # Errors
/// [`StoreError`] when the row cannot be read.
pub fn is_token(store: &Store, group: GroupId, hash: &[u8; 32]) -> Result<bool, StoreError> {
    Ok(store
        .read(Family::State, &token_key(group, hash))?
        .is_some())
}

/// True when `node` was removed from the cluster.
///
/// # Errors
/// [`StoreError`] when the row cannot be read.
pub fn is_removed(store: &Store, group: GroupId, node: NodeNumber) -> Result<bool, StoreError> {
    Ok(store
        .read(Family::State, &removed_key(group, node))?
        .is_some())
}

struct Desk<'a> {
    store: &'a Store,
    group: GroupId,
    batch: &'a mut WriteBatch,
    members: &'a BTreeSet<NodeNumber>,
}

impl Desk<'_> {
    fn invite(
        &mut self,
        stamp_ms: u64,
        hash: &[u8; 32],
        token: Token,
    ) -> Result<OwnReply, StoreError> {
        if let Some(node) = token.node
            && self.is_taken(node)?
        {
            return Ok(OwnReply::NodeTaken(node));
        }
        if self.count_after_sweep(stamp_ms)? >= limits::TOKENS_MAX {
            return Ok(OwnReply::TooMany);
        }
        let key = token_key(self.group, hash);
        if self.store.read(Family::State, &key)?.is_none() {
            self.put(&key, &encode(&token));
        }
        Ok(OwnReply::Done)
    }

    fn admit(
        &mut self,
        stamp_ms: u64,
        hash: &[u8; 32],
        key_hash: &[u8; 32],
    ) -> Result<OwnReply, StoreError> {
        let key = token_key(self.group, hash);
        let Some(value) = self.store.read(Family::State, &key)? else {
            return Ok(OwnReply::Wrong);
        };
        let mut token: Token = decode("join token", &value)?;
        if let Some((used_by, node)) = token.used {
            // The same newcomer asking again lost our answer, not its right.
            let same = used_by == *key_hash;
            return Ok(if same {
                OwnReply::Admitted(node)
            } else {
                OwnReply::Used
            });
        }
        if stamp_ms >= token.expires_ms {
            return Ok(OwnReply::Expired);
        }
        let node = match token.node {
            Some(node) if self.is_taken(node)? => return Ok(OwnReply::NodeTaken(node)),
            Some(node) => node,
            None => self.free_number()?,
        };
        token.used = Some((*key_hash, node));
        self.put(&key, &encode(&token));
        self.put(&number_key(self.group, node), &[]);
        Ok(OwnReply::Admitted(node))
    }

    /// A number is given once, also when its holder never came or was removed.
    fn is_taken(&self, node: NodeNumber) -> Result<bool, StoreError> {
        let given = self
            .store
            .read(Family::State, &number_key(self.group, node))?
            .is_some();
        Ok(given || self.members.contains(&node) || is_removed(self.store, self.group, node)?)
    }

    fn free_number(&self) -> Result<NodeNumber, StoreError> {
        let mut node = 1;
        while self.is_taken(node)? {
            node += 1;
        }
        Ok(node)
    }

    /// Drops expired tokens that nobody used and counts what remains.
    fn count_after_sweep(&mut self, stamp_ms: u64) -> Result<usize, StoreError> {
        let prefix = keys::own(self.group, b"token/");
        let family = self.store.family(Family::State);
        let mut options = rocksdb::ReadOptions::default();
        if let Some(end) = keys::after_prefix(&prefix) {
            options.set_iterate_upper_bound(end);
        }
        let mode = rocksdb::IteratorMode::From(&prefix, rocksdb::Direction::Forward);
        let mut count = 0;
        for item in self.store.db().iterator_cf_opt(family, options, mode) {
            let (key, sealed) = item?;
            let value = unseal(Family::State, &key, sealed.into_vec())?;
            let token: Token = decode("join token", &value)?;
            // Kept a day longer, so that a late newcomer is told why it is refused.
            if token.expires_ms.saturating_add(24 * 3_600_000) < stamp_ms {
                self.batch.delete_cf(family, &key);
            } else if token.used.is_none() {
                count += 1;
            }
        }
        Ok(count)
    }

    fn put(&mut self, key: &[u8], value: &[u8]) {
        self.store.put(self.batch, Family::State, key, value);
    }
}

fn token_key(group: GroupId, hash: &[u8; 32]) -> Vec<u8> {
    keys::own(group, &[b"token/".as_slice(), hash].concat())
}

fn removed_key(group: GroupId, node: NodeNumber) -> Vec<u8> {
    keys::own(
        group,
        &[b"removed/".as_slice(), &node.to_be_bytes()].concat(),
    )
}

fn number_key(group: GroupId, node: NodeNumber) -> Vec<u8> {
    keys::own(
        group,
        &[b"number/".as_slice(), &node.to_be_bytes()].concat(),
    )
}
