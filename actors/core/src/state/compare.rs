//! Comparing the hash of the state between the nodes, through the log.
//!
//! The leader asks from time to time; every node notes the hash its own copy had just
//! before the entry that asked, and tells it in an entry of its own. What most nodes tell
//! is right. A node that told something else is marked for good: it stands aside, and no
//! later life of it comes up until it has been removed and has joined anew.
//!
//! What is told comes from the log and is judged alike on every node, so that a node whose
//! copy is wrong changes nothing about the others'. Only the hash a node notes of its own
//! copy may differ, and that is the point.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::command::{Refusal, Reply};
use super::event::Value;
use super::{State, Wake};
use crate::ids::NodeId;
use crate::time::TimeMs;

/// The comparison made last, or under way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompareRow {
    /// Index of the entry that asked; 0 before the first.
    pub index: u64,
    /// When it asked.
    pub at: TimeMs,
    /// Hash of this copy before that entry.
    pub hash: [u8; 16],
    /// What the nodes told.
    pub told: BTreeMap<NodeId, [u8; 16]>,
    /// Index of the last entry of the comparison.
    pub last: u64,
    /// Every node told, and no hash was that of most.
    pub undecided: bool,
}

impl State {
    /// Asks every node for its hash.
    pub(super) fn compare(&mut self) -> Reply {
        self.compare = CompareRow {
            index: self.meta.index,
            at: self.meta.now,
            hash: self.meta.hash,
            told: BTreeMap::new(),
            last: self.meta.index,
            undecided: false,
        };
        self.batch.compare = true;
        Reply::Done
    }

    /// Takes in what a node tells of its copy, and judges.
    pub(super) fn hash_told(
        &mut self,
        node: NodeId,
        incarnation: u64,
        index: u64,
        hash: [u8; 16],
    ) -> Reply {
        let known = self.nodes.get(&node);
        let Some(row) = known.filter(|row| row.incarnation == incarnation) else {
            return Reply::Refused(Refusal::Stale);
        };
        if row.diverged.is_some() || index != self.compare.index || index == 0 {
            return Reply::Refused(Refusal::Stale);
        }
        self.compare.told.entry(node).or_insert(hash);
        self.compare.last = self.meta.index;
        self.batch.compare = true;
        self.judge();
        Reply::Done
    }

    /// Marks every node whose hash is not that of most nodes.
    fn judge(&mut self) {
        let sound = self.nodes.values().filter(|row| row.diverged.is_none());
        let all = sound.count();
        let mut counts: BTreeMap<[u8; 16], usize> = BTreeMap::new();
        for hash in self.compare.told.values() {
            *counts.entry(*hash).or_default() += 1;
        }
        let most = counts.iter().find(|(_, count)| **count * 2 > all);
        let Some(right) = most.map(|(hash, _)| *hash) else {
            let told = self.compare.told.len();
            if told >= all && !self.compare.undecided {
                self.compare.undecided = true;
                self.event("state.undecided", self.compare.index, []);
            }
            return;
        };
        let told = self.compare.told.iter();
        let wrong: Vec<NodeId> = told
            .filter(|(_, hash)| **hash != right)
            .map(|(node, _)| *node)
            .collect();
        let index = self.compare.index;
        for node in wrong {
            let Some(row) = self.nodes.get_mut(&node) else {
                continue;
            };
            if row.diverged.is_some() {
                continue;
            }
            row.diverged = Some(index);
            self.batch.nodes.insert(node);
            self.event("node.diverged", node, [("index", Value::from(index))]);
            self.batch.wakes.push(Wake::Cluster);
        }
    }

    /// Where this node's copy was found wrong, if it was.
    pub fn diverged(&self, node: NodeId) -> Option<u64> {
        self.nodes.get(&node).and_then(|row| row.diverged)
    }
}
