//! Who has been further than it remembers: peers vouch for a node before it takes part.
//!
//! An old copy of a data directory that is put back, or a disk that lost synced writes, has
//! forgotten votes it gave and entries it acknowledged. Such a node could give a majority to
//! a leader that lacks what was acknowledged. So every node tells its peers where it stands
//! (its life, its vote, what it knows to be committed and has on disk), they keep the
//! furthest of that, and a node that starts asks them first: until enough of them have found
//! nothing they know missing, it neither votes nor takes entries.
//!
//! Enough is as many as make a majority together with the node itself: without them nothing
//! can be decided anyway. All who can be reached are heard first, since what only one of them
//! saw nobody else remembers. Once a node has been found forgetful it writes that down and
//! stays so: lives rise with each start, and would hide it.
//!
//! Invariant: what is compared never falls on a disk that keeps its promises. Committed
//! entries are never cut off, votes and lives only rise.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use openraft::type_config::async_runtime::watch::WatchReceiver;
use rocksdb::WriteBatch;
use serde::{Deserialize, Serialize};
use strowger_core::ports::{IncarnationNumber, NodeNumber};

use crate::core::Core;
use crate::error::StoreError;
use crate::event::StandAside;
use crate::limits;
use crate::raft::{LogId, Vote};
use crate::store::{Family, Store, decode, encode, keys};
use crate::transport::wire::Kind;

/// The furthest a node was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Its life.
    incarnation: IncarnationNumber,
    /// Made at random by each process, so that a life that begins twice is noticed.
    process: u64,
    /// Its vote.
    vote: Option<Vote>,
    /// The last entry it knew to be committed and had on disk.
    committed: Option<LogId>,
}

/// A node says where it stands.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Standing {
    seen: Seen,
    /// Where its log ends.
    last: Option<LogId>,
    /// It asks before it takes part.
    starts: bool,
    /// The furthest the asker has seen of whom it asks.
    of_you: Option<Seen>,
}

/// What it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Vouch {
    /// Nothing it was seen to have is missing; and so far is whoever answers.
    Fine(Seen),
    /// It has been further.
    Forgot {
        /// The life it was seen in.
        incarnation: IncarnationNumber,
        /// Index of the entry it acknowledged.
        index: u64,
    },
}

impl Seen {
    /// Whether a node that stands here, its log ending at `last`, lacks what was seen.
    fn missing(&self, now: &Self, last: Option<LogId>) -> bool {
        // A process does not forget; an older word of it may arrive after a newer one.
        if (self.incarnation, self.process) == (now.incarnation, now.process) {
            return false;
        }
        self.incarnation >= now.incarnation || self.vote > now.vote || self.committed > last
    }

    fn forgot(&self) -> Vouch {
        Vouch::Forgot {
            incarnation: self.incarnation,
            index: self.committed.map_or(0, |id| id.index),
        }
    }
}

/// The furthest `node` was seen by this node.
fn witnessed(store: &Store, node: NodeNumber) -> Result<Option<Seen>, StoreError> {
    match store.read(Family::Local, &keys::witness(node))? {
        Some(value) => decode("what was seen of a node", &value).map(Some),
        None => Ok(None),
    }
}

/// Why this node takes no part any more, when peers found that out in an earlier life.
///
/// # Errors
/// [`StoreError`] when the store cannot be read.
pub fn remembered(store: &Store) -> Result<Option<StandAside>, StoreError> {
    let Some(value) = store.read(Family::Local, keys::FORGOT)? else {
        return Ok(None);
    };
    let (incarnation, index) = decode("what was forgotten", &value)?;
    Ok(Some(StandAside::Forgot { incarnation, index }))
}

impl Core {
    fn standing(&self, starts: bool, of: NodeNumber) -> Standing {
        let (vote, committed, last) = self.log.standing();
        Standing {
            seen: Seen {
                incarnation: self.incarnation,
                process: self.process,
                vote,
                committed,
            },
            last,
            starts,
            of_you: witnessed(&self.store, of).unwrap_or_default(),
        }
    }

    /// Answers a node that says where it stands, and keeps the furthest of it. Waits for the
    /// disk.
    ///
    /// # Errors
    /// A sentence when what was seen of it cannot be read or kept: no word then.
    pub fn vouch(self: &Arc<Self>, from: NodeNumber, standing: &Standing) -> Result<Vouch, String> {
        self.heed(from, standing.of_you.as_ref());
        let said = |error: StoreError| error.to_string();
        // On a disk that hangs, those who ask give up as well.
        let turn = self.witnessing.try_lock_for(limits::VOUCH_TIMEOUT);
        let _turn = turn.ok_or("the disk takes too long")?;
        let known = witnessed(&self.store, from).map_err(said)?;
        let now = standing.seen;
        if let Some(known) = known
            && known.missing(&now, standing.last)
        {
            if self.forgetful.lock().insert(from) {
                tracing::error!(
                    node = from,
                    ?known,
                    ?standing,
                    "SW0407: a node has forgotten"
                );
            }
            return Ok(known.forgot());
        }
        self.forgetful.lock().remove(&from);
        self.keep(from, known, now, standing.starts).map_err(said)?;
        Ok(Vouch::Fine(self.standing(false, from).seen))
    }

    /// Keeps the furthest of what was seen of `node` before and what is seen now.
    fn keep(
        &self,
        node: NodeNumber,
        known: Option<Seen>,
        now: Seen,
        sync: bool,
    ) -> Result<(), StoreError> {
        let furthest = Seen {
            vote: known
                .and_then(|known| known.vote)
                .filter(|vote| Some(*vote) > now.vote)
                .or(now.vote),
            committed: now.committed.max(known.and_then(|known| known.committed)),
            ..now
        };
        if known == Some(furthest) {
            return Ok(());
        }
        let mut batch = WriteBatch::default();
        let key = keys::witness(node);
        self.store
            .put(&mut batch, Family::Local, &key, &encode(&furthest));
        self.store.write(batch, sync)
    }

    /// Takes in where a peer that vouched stands itself: a newcomer has no other word of it.
    fn meet(&self, node: NodeNumber, seen: Seen) {
        let _turn = self.witnessing.lock();
        let kept = witnessed(&self.store, node).and_then(|known| {
            let older = known.is_some_and(|known| known.missing(&seen, seen.committed));
            if older {
                // An answer that was overtaken; whether it is more is judged when it asks.
                return Ok(());
            }
            self.keep(node, known, seen, false)
        });
        if let Err(error) = kept {
            self.store.fault().raise(&error);
        }
    }

    /// Compares what `peer` has seen of this node with where it stands. Who misses nothing
    /// vouches: all this node knows as voters may be gone since, and these know it.
    fn heed(self: &Arc<Self>, peer: NodeNumber, of_us: Option<&Seen>) {
        let now = self.standing(false, self.node);
        match of_us.filter(|of_us| of_us.missing(&now.seen, now.last)) {
            Some(of_us) => self.forgotten(of_us.forgot()),
            None => {
                self.vouched_by.lock().insert(peer);
            }
        }
    }

    fn forgotten(self: &Arc<Self>, vouch: Vouch) {
        let Vouch::Forgot { incarnation, index } = vouch else {
            return;
        };
        if self.forgot.swap(true, Ordering::AcqRel) {
            return;
        }
        let core = self.clone();
        tokio::spawn(async move {
            let store = core.store.clone();
            // First of all: once it stands aside, the daemon ends.
            let kept = tokio::task::spawn_blocking(move || {
                let value = encode(&(incarnation, index));
                let mut batch = WriteBatch::default();
                store.put(&mut batch, Family::Local, keys::FORGOT, &value);
                store.write(batch, true)
            });
            if let Ok(Ok(Err(error))) = tokio::time::timeout(limits::VOUCH_TIMEOUT, kept).await {
                tracing::error!(%error, "what peers found is not written down");
            }
            core.stand_aside(StandAside::Forgot { incarnation, index });
            core.confess().await;
        });
    }

    /// Says to every peer where this node stands, so that all of them raise the alarm, and
    /// not only the one that found it out.
    async fn confess(self: Arc<Self>) {
        let (mut peers, _) = self.sponsors();
        peers.extend(self.identity.seeds.iter().map(|(node, _)| *node));
        peers.remove(&self.node);
        let told = peers.into_iter().map(|node| {
            let core = self.clone();
            async move {
                let standing = core.standing(false, node);
                let timeout = limits::VOUCH_TIMEOUT;
                let asked = core
                    .transport
                    .ask::<_, Vouch>(node, Kind::Vouch, &standing, timeout);
                // Nothing hangs on who cannot be reached: this node takes no part anyway.
                drop(asked.await);
            }
        });
        futures_util::future::join_all(told).await;
    }

    /// Whether this node answers `from` as a voter.
    ///
    /// # Errors
    /// A sentence that says why not.
    pub fn takes_part(self: &Arc<Self>, from: NodeNumber) -> Result<(), String> {
        if !self.is_vouched() {
            return Err("nobody has vouched for this life yet".to_owned());
        }
        if self.votes_alone() {
            // Nobody else can lead the only voter: it is asked as one of several it has
            // forgotten, and what it wrote since must not meet their log.
            tokio::spawn(self.clone().doubt(from));
            return Err("this node knows of no other voter".to_owned());
        }
        Ok(())
    }

    /// True while this node knows of no other voter.
    fn votes_alone(&self) -> bool {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let membership = metrics.membership_config.membership();
        membership.voter_ids().eq([self.node])
    }

    /// Asks a peer that should not be there whether this node has forgotten it.
    async fn doubt(self: Arc<Self>, peer: NodeNumber) {
        let standing = self.standing(false, peer);
        let timeout = limits::VOUCH_TIMEOUT;
        let asked = self.transport.ask(peer, Kind::Vouch, &standing, timeout);
        if let Ok(answer) = asked.await {
            self.forgotten(answer);
        }
    }

    /// True once enough peers have vouched for this life, and none has found it forgetful.
    pub fn is_vouched(&self) -> bool {
        self.vouched.load(Ordering::Acquire) && !self.forgot.load(Ordering::Acquire)
    }

    /// Voters and, for a node that knows of none, whoever admitted it; without itself. And
    /// how many of them have to vouch.
    fn sponsors(&self) -> (BTreeSet<NodeNumber>, usize) {
        let metrics = self.raft.metrics();
        let voters: BTreeSet<NodeNumber> = {
            let metrics = metrics.borrow_watched();
            metrics.membership_config.membership().voter_ids().collect()
        };
        let count = voters.len();
        let mut sponsors = voters;
        if sponsors.is_empty() {
            sponsors.extend(self.identity.seeds.iter().map(|(node, _)| *node));
        }
        sponsors.remove(&self.node);
        let needed = (count / 2).max(1).min(sponsors.len());
        (sponsors, needed)
    }
}

/// Asks peers to vouch until enough have, then lets this node take part.
pub async fn prove(core: Arc<Core>) {
    let began = Instant::now();
    let mut told = false;
    let mut pause = tokio::time::interval(limits::VOUCH_PAUSE);
    loop {
        tokio::select! {
            () = core.stop.cancelled() => return,
            _ = pause.tick() => {}
        }
        if core.stood_aside.lock().is_some() {
            return;
        }
        let (sponsors, needed) = core.sponsors();
        let answers = sponsors.iter().map(|node| {
            let (core, node) = (core.clone(), *node);
            async move {
                let standing = core.standing(true, node);
                let asked = core.transport.ask::<_, Vouch>(
                    node,
                    Kind::Vouch,
                    &standing,
                    limits::VOUCH_TIMEOUT,
                );
                (node, asked.await)
            }
        });
        for (node, answer) in futures_util::future::join_all(answers).await {
            match answer {
                Ok(Vouch::Fine(seen)) => {
                    tokio::task::block_in_place(|| core.meet(node, seen));
                    core.vouched_by.lock().insert(node);
                }
                Ok(forgot) => {
                    core.forgotten(forgot);
                    return;
                }
                Err(error) => tracing::debug!(node, %error, "no word from a peer yet"),
            }
        }
        let vouched_by = core.vouched_by.lock().clone();
        if vouched_by.len() >= needed {
            core.vouched.store(true, Ordering::Release);
            core.raft.runtime_config().elect(true);
            tracing::info!(?vouched_by, took = ?began.elapsed(), "this node takes part");
            return;
        }
        if !told && began.elapsed() > Duration::from_secs(5) {
            told = true;
            tracing::warn!(
                needed,
                "this node takes no part before its peers vouch for it"
            );
        }
    }
}

/// Tells the other members where this node stands, and hears whether it has forgotten.
pub async fn tell(core: Arc<Core>) {
    let mut pause = tokio::time::interval(limits::VOUCH_TELL);
    pause.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = core.stop.cancelled() => return,
            _ = pause.tick() => {}
        }
        if core.stood_aside.lock().is_some() {
            return;
        }
        let members: BTreeSet<NodeNumber> =
            core.members().iter().map(|member| member.node).collect();
        core.forgetful.lock().retain(|node| members.contains(node));
        let others = members.into_iter().filter(|node| *node != core.node);
        let answers = others.map(|node| {
            let core = core.clone();
            async move {
                let standing = core.standing(false, node);
                let timeout = limits::VOUCH_TIMEOUT;
                let asked = core
                    .transport
                    .ask::<_, Vouch>(node, Kind::Vouch, &standing, timeout);
                asked.await
            }
        });
        let answers = futures_util::future::join_all(answers).await;
        for answer in answers.into_iter().flatten() {
            core.forgotten(answer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::LeaderId;

    fn id(term: u64, index: u64) -> Option<LogId> {
        Some(LogId::new(LeaderId { term, node_id: 1 }, index))
    }

    #[test]
    fn whoever_lacks_a_life_a_vote_or_an_entry_has_forgotten() {
        let seen = Seen {
            incarnation: 3,
            process: 7,
            vote: Some(Vote::new(4, 1)),
            committed: id(4, 100),
        };
        let now = |incarnation, process, term| Seen {
            incarnation,
            process,
            vote: Some(Vote::new(term, 1)),
            committed: None,
        };
        let table = [
            (now(3, 7, 4), id(4, 100), false, "the same process"),
            (now(3, 7, 3), id(4, 90), false, "an older word of it"),
            (now(4, 9, 4), id(4, 100), false, "its next life"),
            (
                now(4, 9, 4),
                id(5, 90),
                false,
                "a newer term may have cut off the rest",
            ),
            (now(2, 7, 4), id(4, 100), true, "an older life"),
            (now(3, 8, 4), id(4, 100), true, "the same life begun again"),
            (now(4, 9, 3), id(4, 100), true, "an older vote"),
            (now(4, 9, 4), id(4, 99), true, "an entry is missing"),
            (now(4, 9, 4), None, true, "an empty log"),
        ];
        for (now, last, missing, what) in table {
            assert_eq!(seen.missing(&now, last), missing, "{what}");
        }
    }
}
