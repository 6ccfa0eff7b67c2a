//! What a new leader learns of the leases that earlier ones granted.
//!
//! It asks the voters how long ago they last heard of another leader. One answers only once
//! it has turned to the asker, so that it confirms no other afterwards; a majority of
//! answers, the asker's own among them, shares a voter with every quorum that confirmed an
//! earlier leader. A voter of a version that does not know the question gives no answer,
//! and the leader waits a whole lease from its election.

use std::time::Duration;

use futures_util::future::join_all;
use openraft::type_config::async_runtime::watch::WatchReceiver;
use serde::{Deserialize, Serialize};
use strowger_core::ports::NodeNumber;

use super::BootTime;
use crate::core::Core;
use crate::limits;
use crate::raft::Vote;
use crate::transport::wire::Kind;

/// How long it is at least since a voter confirmed another leader than the asker, ms; `None`
/// when it cannot say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SinceOtherLeader(pub Option<u64>);

impl Core {
    /// Answers `from`, which leads by `vote`.
    pub fn since_other_leader(&self, from: NodeNumber, vote: &Vote) -> SinceOtherLeader {
        let turned = {
            let metrics = self.raft.metrics();
            let metrics = metrics.borrow_watched();
            vote.leader_id.node_id == from && metrics.vote.leader_id == vote.leader_id
        };
        let since = turned.then(|| self.leases.since_other_leader(from, BootTime::now()));
        let whole = |since: Duration| u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        SinceOtherLeader(since.flatten().map(whole))
    }
}

/// On a new leader: asks the voters, until a majority has answered.
pub async fn ask_voters(core: &Core) {
    if !core.leases.asks_voters(BootTime::now()) {
        return;
    }
    let (vote, voters) = {
        let metrics = core.raft.metrics();
        let metrics = metrics.borrow_watched();
        let membership = metrics.membership_config.membership();
        // While members change there are two majorities; the wait is the simpler answer.
        if membership.get_joint_config().len() != 1 || metrics.current_leader != Some(core.node) {
            return;
        }
        let voters: Vec<NodeNumber> = membership.voter_ids().collect();
        (metrics.vote, voters)
    };
    let others = voters.iter().filter(|voter| **voter != core.node);
    let asked = others.map(|voter| {
        let timeout = limits::POSITION_TIMEOUT;
        let kind = Kind::OtherLeader;
        let asked = core
            .transport
            .ask::<_, SinceOtherLeader>(*voter, kind, &vote, timeout);
        async move {
            let SinceOtherLeader(since) = asked.await.ok()?;
            // Counted from the answer's arrival: later than it was, never earlier.
            Some(BootTime::now().minus(Duration::from_millis(since?)))
        }
    });
    let answers: Vec<BootTime> = join_all(asked).await.into_iter().flatten().collect();
    let majority = voters.contains(&core.node) && 2 * (answers.len() + 1) > voters.len();
    if majority && let Some(last) = answers.into_iter().max() {
        core.leases.nobody_confirmed_after(core.node, last);
        tracing::info!(
            ago = ?BootTime::now().since(last),
            "the voters last confirmed another leader"
        );
    }
}
