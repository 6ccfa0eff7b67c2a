//! Members: a newcomer becomes learner, catches up and votes; a removed node is gone.
//!
//! Work is done by whoever leads; other nodes forward or wait.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use openraft::ChangeMembers;
use openraft::errors::{ChangeMembershipError, ClientWriteError, RaftError};
use openraft::type_config::async_runtime::watch::WatchReceiver;
use serde::{Deserialize, Serialize};
use strowger_core::ports::{IncarnationNumber, NodeNumber};

use crate::core::Core;
use crate::error::{CallError, MemberError};
use crate::event::{Liveness, Member, Role, StandAside};
use crate::limits;
use crate::raft::{OwnCommand, Peer};
use crate::transport::wire::Kind;

/// A node says that it is up.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Hello {
    /// Where it is dialled.
    pub address: String,
    /// Its life.
    pub incarnation: IncarnationNumber,
}

/// What it is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum HelloAnswer {
    /// It is a member at that address, or will be in a moment.
    Known,
    /// Ask this node, which leads.
    Leader(NodeNumber, String),
    /// Nobody leads at present.
    NoLeader,
    /// It was removed.
    Removed,
}

const HELLO_TIMEOUT: Duration = Duration::from_secs(2);
const CHANGE_TIMEOUT: Duration = Duration::from_secs(10);
const CHANGE_PAUSE: Duration = Duration::from_millis(20);
const PROMOTION_PAUSE: Duration = Duration::from_millis(200);
const HELLO_PAUSE: Duration = Duration::from_millis(200);

impl Core {
    /// The members as this node knows them.
    pub fn members(&self) -> Vec<Member> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let membership = metrics.membership_config.membership();
        let configs = membership.get_joint_config();
        let votes = |node: &NodeNumber| configs.iter().all(|config| config.contains(node));
        let last = metrics.last_log_index.unwrap_or(0);
        let matched = |node: NodeNumber| {
            let progress = metrics.replication.as_ref()?.get(&node)?;
            Some(last.saturating_sub(progress.as_ref().map_or(0, |id| id.index)))
        };
        let member = |(node, peer): (&NodeNumber, &Peer)| Member {
            node: *node,
            address: peer.address.clone(),
            role: if votes(node) {
                Role::Voter
            } else {
                Role::Learner
            },
            leader: metrics.current_leader == Some(*node),
            liveness: self.liveness(*node),
            lag: matched(*node),
        };
        membership.nodes().map(member).collect()
    }

    /// Addresses of the members, this node first.
    pub fn member_addresses(&self) -> Vec<(NodeNumber, String)> {
        let members = self
            .members()
            .into_iter()
            .map(|member| (member.node, member.address));
        let mut members: Vec<_> = members.filter(|(node, _)| *node != self.node).collect();
        members.insert(0, (self.node, self.config.advertise.to_string()));
        members
    }

    /// Answers a node that came up.
    pub async fn hello(&self, from: NodeNumber, hello: Hello) -> Result<HelloAnswer, String> {
        if self.is_removed_node(from) {
            return Ok(HelloAnswer::Removed);
        }
        self.transport.set_address(from, &hello.address);
        match self.leader() {
            Some(leader) if leader != self.node => {
                let address = self.transport.address(leader).unwrap_or_default();
                return Ok(HelloAnswer::Leader(leader, address));
            }
            None => return Ok(HelloAnswer::NoLeader),
            Some(_) => {}
        }
        let known = self.address_in_membership(from);
        if known.as_deref() == Some(hello.address.as_str()) {
            return Ok(HelloAnswer::Known);
        }
        if known.is_none() && self.members().len() >= limits::MEMBERS_MAX {
            return Err(format!("the cluster has {} members", limits::MEMBERS_MAX));
        }
        let peer = Peer {
            address: hello.address,
        };
        let change = if known.is_some() {
            ChangeMembers::SetNodes(BTreeMap::from([(from, peer)]))
        } else {
            tracing::info!(node = from, "a node joins as learner");
            ChangeMembers::AddNodes(BTreeMap::from([(from, peer)]))
        };
        self.change(change, true)
            .await
            .map_err(|error| error.to_string())?;
        Ok(HelloAnswer::Known)
    }

    fn address_in_membership(&self, node: NodeNumber) -> Option<String> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let mut nodes = metrics.membership_config.membership().nodes();
        nodes
            .find(|(member, _)| **member == node)
            .map(|(_, peer)| peer.address.clone())
    }

    fn config_is_joint(&self) -> bool {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        metrics
            .membership_config
            .membership()
            .get_joint_config()
            .len()
            > 1
    }

    /// True while the newest membership is not applied yet.
    fn change_under_way(&self) -> bool {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let newest = metrics
            .membership_config
            .log_id()
            .as_ref()
            .map(|id| id.index);
        newest > metrics.last_applied.as_ref().map(|id| id.index)
    }

    /// Commits a change; waits while another one is under way.
    async fn change(
        &self,
        change: ChangeMembers<NodeNumber, Peer>,
        retain: bool,
    ) -> Result<(), MemberError> {
        let changing = async {
            let _one_at_a_time = self.changing.lock().await;
            loop {
                if self.change_under_way() {
                    tokio::time::sleep(CHANGE_PAUSE).await;
                    continue;
                }
                let changed = self.raft.change_membership(change.clone(), retain).await;
                match changed {
                    Ok(_) => return Ok(()),
                    Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_))) => {
                        return Err(MemberError::NoQuorum);
                    }
                    Err(RaftError::APIError(ClientWriteError::ChangeMembershipError(
                        ChangeMembershipError::InProgress(_),
                    ))) => tokio::time::sleep(CHANGE_PAUSE).await,
                    Err(error) => return Err(MemberError::Refused(error.to_string())),
                }
            }
        };
        let changed = tokio::time::timeout(CHANGE_TIMEOUT, changing).await;
        changed.unwrap_or(Err(MemberError::NoQuorum))
    }

    /// Removes `node`, here or on the leader.
    pub async fn remove(self: &Arc<Self>, node: NodeNumber) -> Result<(), MemberError> {
        match self.leader() {
            None => Err(MemberError::NoQuorum),
            Some(leader) if leader == self.node => self.remove_here(node).await,
            Some(leader) => self.ask_to_remove(leader, node).await,
        }
    }

    async fn ask_to_remove(&self, leader: NodeNumber, node: NodeNumber) -> Result<(), MemberError> {
        let kind = Kind::Remove;
        let asked = self
            .transport
            .ask::<_, ()>(leader, kind, &node, CHANGE_TIMEOUT);
        asked.await.map_err(|error| match error {
            CallError::Refused { why, .. } => MemberError::Refused(why),
            _ => MemberError::NoQuorum,
        })
    }

    /// Removes `node`, on the leader.
    pub async fn remove_here(&self, node: NodeNumber) -> Result<(), MemberError> {
        let members = self.members();
        let member = members.iter().find(|member| member.node == node);
        let member = member.ok_or(MemberError::Unknown(node))?;
        let voters = members
            .iter()
            .filter(|member| member.role == Role::Voter)
            .count();
        if member.role == Role::Voter && voters == 1 {
            return Err(MemberError::LastVoter(node));
        }
        if node == self.node {
            return self.leave().await;
        }
        let change = match member.role {
            Role::Voter => ChangeMembers::RemoveVoters(BTreeSet::from([node])),
            Role::Learner => ChangeMembers::RemoveNodes(BTreeSet::from([node])),
        };
        self.change(change, false).await?;
        let noted = self.own_here(OwnCommand::Remove { node }).await;
        noted.ok_or(MemberError::NoQuorum)?;
        tracing::info!(node, "a node was removed");
        Ok(())
    }

    /// Removes this leader: it hands over first and has the next one do it. Who leads is part
    /// of the majority that the change needs, and once removed answers nobody.
    async fn leave(&self) -> Result<(), MemberError> {
        let heir = self.heir(|_| true).ok_or(MemberError::NoQuorum)?;
        let handing = self.raft.trigger().transfer_leader(heir).await;
        handing.map_err(|error| MemberError::Refused(error.to_string()))?;
        let follows = async {
            loop {
                match self.leader() {
                    Some(leader) if leader != self.node => return leader,
                    _ => tokio::time::sleep(CHANGE_PAUSE).await,
                }
            }
        };
        let leader = tokio::time::timeout(CHANGE_TIMEOUT, follows).await;
        let leader = leader.map_err(|_| MemberError::NoQuorum)?;
        let asked = self.ask_to_remove(leader, self.node).await;
        // Who is removed is cut off, perhaps before it has the answer.
        let removed = matches!(*self.stood_aside.lock(), Some(StandAside::Removed));
        asked.or_else(|error| if removed { Ok(()) } else { Err(error) })
    }

    /// The most complete other voter that lives and `fits`, for leadership to be handed to.
    pub fn heir(&self, fits: impl Fn(NodeNumber) -> bool) -> Option<NodeNumber> {
        let others = self.members().into_iter().filter(|member| {
            let alive = matches!(member.liveness, Liveness::Alive { .. });
            member.node != self.node && member.role == Role::Voter && alive && fits(member.node)
        });
        let heir = others.min_by_key(|member| member.lag.unwrap_or(u64::MAX));
        heir.map(|member| member.node)
    }

    /// True when `node` was removed from the cluster.
    pub fn is_removed_node(&self, node: NodeNumber) -> bool {
        crate::admission::is_removed(&self.store, self.group, node).unwrap_or_else(|error| {
            self.store.fault().raise(&error);
            true
        })
    }
}

/// On the leader: makes learners that caught up voters.
pub async fn promote(core: Arc<Core>) {
    let mut pause = tokio::time::interval(PROMOTION_PAUSE);
    loop {
        tokio::select! {
            () = core.stop.cancelled() => return,
            _ = pause.tick() => {}
        }
        core.transport
            .close_removed(|node| core.is_removed_node(node));
        if core.leader() != Some(core.node) || !core.config.promote {
            continue;
        }
        if core.config_is_joint() {
            // A change whose leader was lost half way; finishing it changes nobody.
            let finish = ChangeMembers::AddVoterIds(BTreeSet::new());
            if let Err(error) = core.change(finish, true).await {
                tracing::debug!(%error, "an unfinished change of members stays so for now");
            }
            continue;
        }
        let members = core.members();
        let voters = members
            .iter()
            .filter(|member| member.role == Role::Voter)
            .count();
        let ready = members.iter().find(|member| {
            member.role == Role::Learner
                && matches!(member.liveness, Liveness::Alive { .. })
                && member
                    .lag
                    .is_some_and(|lag| lag <= limits::CATCH_UP_LAG_MAX)
        });
        if let Some(ready) = ready
            && voters < limits::VOTERS_MAX
        {
            let change = ChangeMembers::AddVoterIds(BTreeSet::from([ready.node]));
            match core.change(change, true).await {
                Ok(()) => tracing::info!(node = ready.node, "a learner caught up and votes now"),
                Err(error) => {
                    tracing::info!(node = ready.node, %error, "a learner does not vote yet");
                }
            }
        }
    }
}

/// Says hello until the membership names this node at its address, and again whenever it
/// does not.
pub async fn introduce(core: Arc<Core>) {
    let mut hint = None;
    let mut pause = tokio::time::interval(HELLO_PAUSE);
    let mut turn = 0_usize;
    loop {
        tokio::select! {
            () = core.stop.cancelled() => return,
            _ = pause.tick() => {}
        }
        let ours = core.config.advertise.to_string();
        if core.address_in_membership(core.node).as_ref() == Some(&ours) {
            continue;
        }
        let hello = Hello {
            address: ours,
            incarnation: core.incarnation,
        };
        if core.leader() == Some(core.node) {
            if let Err(error) = core.hello(core.node, hello).await {
                tracing::warn!(error, "this leader's new address was not committed");
            }
            continue;
        }
        turn = turn.wrapping_add(1);
        let Some(target) = hint.take().or_else(|| next_seed(&core, turn)) else {
            continue;
        };
        let asked =
            core.transport
                .ask::<_, HelloAnswer>(target, Kind::Hello, &hello, HELLO_TIMEOUT);
        match asked.await {
            Ok(HelloAnswer::Leader(leader, address)) => {
                core.transport.set_address(leader, &address);
                hint = Some(leader);
            }
            Ok(HelloAnswer::Removed) => return core.stand_aside(StandAside::Removed),
            Ok(HelloAnswer::Known | HelloAnswer::NoLeader) => {}
            Err(error) => tracing::debug!(target, %error, "no answer to our greeting"),
        }
    }
}

fn next_seed(core: &Core, turn: usize) -> Option<NodeNumber> {
    let members = core.members().into_iter().map(|member| member.node);
    let seeds = core.identity.seeds.iter().map(|(node, _)| *node);
    let others: BTreeSet<NodeNumber> = members
        .chain(seeds)
        .filter(|node| *node != core.node)
        .collect();
    others.iter().nth(turn % others.len().max(1)).copied()
}
