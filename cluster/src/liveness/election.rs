//! A new leader at once when the old one has surely died.
//!
//! Followers refuse their votes while the lease of their leader runs, which is right for
//! silence and wasteful for certain death. The library's way past the lease is the
//! transfer of leadership: a survivor hands itself the request that the dead leader would
//! have sent (the dead leader's vote, the survivor's own last entry). The log check of
//! the voters stays in force. The most complete log goes first, the others follow at
//! [`limits::ELECTION_STAGGER`] only if the vote has not moved by then.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::future::join_all;
use openraft::raft::TransferLeaderRequest;
use openraft::type_config::async_runtime::watch::WatchReceiver;
use serde::{Deserialize, Serialize};
use strowger_core::ports::NodeNumber;

use crate::core::Core;
use crate::event::Liveness;
use crate::limits;
use crate::raft::LogId;
use crate::transport::wire::Kind;

/// Where a node's log ends.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Position(pub Option<LogId>);

/// Stands for election when `dead` was the leader and this node votes.
pub async fn after_death(core: Arc<Core>, dead: NodeNumber) {
    let (vote, voters) = {
        let metrics = core.raft.metrics();
        let metrics = metrics.borrow_watched();
        let voters: Vec<NodeNumber> = metrics.membership_config.membership().voter_ids().collect();
        (metrics.vote, voters)
    };
    let led = vote.committed && vote.leader_id.node_id == dead;
    if !led || !voters.contains(&core.node) || !core.is_vouched() {
        return;
    }
    let mine = core.log.last();
    let count = voters.len();
    let others = voters
        .into_iter()
        .filter(|voter| *voter != dead && *voter != core.node);
    let ahead = join_all(others.map(|voter| {
        let transport = core.transport.clone();
        async move {
            let asked =
                transport.ask::<_, Position>(voter, Kind::Position, &(), limits::POSITION_TIMEOUT);
            (voter, asked.await)
        }
    }))
    .await
    .into_iter()
    .filter(|(voter, position)| match position {
        Ok(Position(theirs)) => (*theirs, core.node) > (mine, *voter),
        // A living survivor that is only slow to answer goes by its number, so that
        // two slow ones do not both think themselves first.
        Err(_) => *voter < core.node && matches!(core.liveness(*voter), Liveness::Alive { .. }),
    })
    .count();
    // Whose clock was off the last leader's lets the others go first.
    let off = core.leases.own_offset().abs() > limits::CLOCK_OFFSET_MAX_MS;
    let turn = u32::try_from(ahead + if off { count } else { 0 }).unwrap_or(u32::MAX);
    tokio::time::sleep(limits::ELECTION_STAGGER.saturating_mul(turn)).await;
    if core.raft.metrics().borrow_watched().vote != vote {
        return;
    }
    tracing::info!(
        dead,
        turn,
        "standing for election after the leader's certain death"
    );
    core.forced_elections.fetch_add(1, Ordering::Relaxed);
    let request = TransferLeaderRequest::new(vote, core.node, mine);
    match core.raft.handle_transfer_leader(request).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::info!(%error, "the forced election was not needed"),
        Err(error) => tracing::warn!(%error, "the forced election could not start"),
    }
}
