//! Service addresses have new holders, because a life of a node is over or the node is being
//! drained: their calls go on there. Where nodes cannot have each other's addresses, calls go
//! on at an address that another node has.
//!
//! Invariants: a call that goes on keeps its place, its agent, its times and its legs that
//! stand; what only rang is rung anew, because nobody knows how far it had come; a call
//! whose caller nobody could answer ends with the disposition `node_lost`.

use std::net::IpAddr;

use super::apply_trunk::NoWay;
use super::event::Value;
use super::{Of, State};
use crate::call::{CallRow, Cause, Disposition, LegRole, LegRow, Seen, Stage};
use crate::floor::leftover::LeftoverRow;
use crate::ids::{AgentId, CallId, Extension, NodeId};
use crate::site::TakeoverMode;

/// Feature level from which on the addresses of drained nodes rest where no node is left that is
/// not drained.
const DRAINED_REST_FROM: u32 = 3;

/// Feature level from which on the calls of a dead node go on at a node that is being drained, if
/// no other is left.
const DRAINED_INHERIT_FROM: u32 = 3;

/// True while somebody we called rings.
fn rings(call: &CallRow) -> bool {
    let mut ours = call.legs.iter().filter(|leg| leg.target.is_some());
    ours.any(LegRow::is_live)
}

/// Where a call goes on: a service address, its epoch, and its holder.
type Anchor = (IpAddr, u32, NodeId);

impl State {
    /// Moves the calls of a node whose addresses have new holders, or are held by another
    /// life of it.
    pub(super) fn move_calls(&mut self, owner: NodeId) {
        let stays = |call: &&CallRow| {
            let row = self.addresses.get(&call.address);
            row.is_some_and(|row| row.holder == Some(owner) && row.epoch == call.address_epoch)
        };
        let calls = self.calls_of(owner).filter(|call| !stays(call));
        let calls: Vec<CallId> = calls.map(|call| call.id).collect();
        for id in calls {
            match self.successor(id) {
                Some(anchor) => self.move_call(id, anchor),
                None => {
                    self.leave_over(id);
                    self.close_call(id, (Disposition::NodeLost, Cause::NODE_LOST));
                }
            }
        }
    }

    /// Moves the calls of a node that leave their addresses, to addresses that others hold:
    /// those at one address, or all.
    pub(super) fn move_calls_elsewhere(&mut self, owner: NodeId, from: Option<IpAddr>) {
        let calls = self.calls_of(owner);
        let calls = calls.filter(|call| from.is_none_or(|from| call.address == from));
        let calls = calls.filter(|call| self.leaves_address(call) && self.can_go_on(call));
        let calls: Vec<CallId> = calls.map(|call| call.id).collect();
        for id in calls {
            if let Some(anchor) = self.anchor_elsewhere(id, owner) {
                self.move_call(id, anchor);
            }
        }
    }

    /// True for calls that go on at another address when their node dies or is drained,
    /// because the nodes cannot have each other's.
    fn leaves_address(&self, call: &CallRow) -> bool {
        let site = self.site(&call.tenant);
        site.is_some_and(|site| site.takeover == TakeoverMode::Reinvite)
    }

    /// True when a site says that nodes may be unable to have this address.
    pub fn may_be_barred(&self, address: IpAddr) -> bool {
        let mut sites = self.sites.values().map(|row| &row.site);
        sites.any(|site| {
            site.takeover == TakeoverMode::Reinvite && site.service_addresses.contains(&address)
        })
    }

    /// Moves the calls and addresses of nodes that are being drained. An address with a call
    /// that nobody else could go on with stays until that is over, and one that no other node
    /// can have stays altogether.
    pub(super) fn leave_draining(&mut self) {
        let leaving = self.nodes.values().filter(|node| node.up && node.draining);
        let leaving: Vec<NodeId> = leaving.map(|node| node.id).collect();
        for node in leaving {
            self.move_calls_elsewhere(node, None);
            let held = self.addresses.values();
            let held = held.filter(|row| row.holder == Some(node));
            let held: Vec<IpAddr> = held.map(|row| row.address).collect();
            let mut moved = false;
            for address in held {
                // What is being cleared has its ending, and its far ends are told by whoever has
                // the address.
                let done = |call: &CallRow| call.stage == Stage::Clearing || self.can_go_on(call);
                let free = |call: &CallRow| call.address != address || done(call);
                // Where every node is drained an address would go round for ever.
                let rests = |holder: &NodeId| {
                    let holder = self.nodes.get(holder);
                    holder.is_some_and(|holder| !holder.draining)
                        || self.meta.feature_level < DRAINED_REST_FROM
                };
                let holder = self.next_holder(address).filter(rests);
                if let Some(holder) = holder.filter(|holder| *holder != node)
                    && self.calls_of(node).all(free)
                {
                    self.move_address(address, holder);
                    moved = true;
                }
            }
            if moved {
                self.move_calls(node);
            }
        }
    }

    /// Where a call goes on; `None` when nobody can go on with it.
    fn successor(&self, id: CallId) -> Option<Anchor> {
        let call = self.calls.get(&id).filter(|call| self.can_go_on(call))?;
        let row = self.addresses.get(&call.address);
        let anchor = row.and_then(|row| Some((row.address, row.epoch, row.holder?)));
        anchor.or_else(|| {
            let leaves = self.leaves_address(call);
            leaves.then(|| self.anchor_elsewhere(id, call.owner))?
        })
    }

    /// An address that another node than this one holds, which is up and stays: for each call
    /// always the same, and for many calls each in turn.
    fn anchor_elsewhere(&self, id: CallId, than: NodeId) -> Option<Anchor> {
        let other = |holder: &NodeId| self.nodes.get(holder).filter(|_| *holder != than);
        let held = self.addresses.values();
        let held = held.filter_map(|row| Some((row.address, row.epoch, row.holder?)));
        let up = |(.., holder): &Anchor| other(holder).is_some_and(|node| node.up);
        let mut held: Vec<Anchor> = held.filter(up).collect();
        let stays = |(.., holder): &Anchor| other(holder).is_some_and(|node| !node.draining);
        // Better with a node that is to be left than with nobody, when its own is dead.
        let dead = !self.nodes.get(&than).is_some_and(|node| node.up);
        let last = dead && self.meta.feature_level >= DRAINED_INHERIT_FROM;
        if !last || held.iter().any(stays) {
            held.retain(stays);
        }
        let turn = usize::try_from(id.index() + u64::from(id.n())).unwrap_or(0);
        held.get(turn.checked_rem(held.len())?).copied()
    }

    /// Who tells the far end of a leftover that its call is over, and from which address.
    pub fn teller(&self, row: &LeftoverRow) -> Option<(NodeId, IpAddr)> {
        if let Some(call) = self.calls.get(&row.call) {
            // What rang is rung anew by the owner: it says first that the old ringing is over.
            return Some((call.owner, call.address));
        }
        let holder = self.holder(row.address);
        let holder = holder.map(|holder| (holder, row.address));
        holder.or_else(|| {
            let (address, _, holder) = self.anchor_elsewhere(row.call, NodeId::default())?;
            Some((holder, address))
        })
    }

    /// True when another node, or another life of its own, can go on with a call.
    fn can_go_on(&self, call: &CallRow) -> bool {
        let goes_on = match &call.stage {
            // An attempt is repeated as an attempt, an agent asked anew, and what is being
            // cleared is over.
            Stage::Dialling { .. } | Stage::Offering { .. } | Stage::Clearing => false,
            Stage::Ringing { .. }
            | Stage::Waiting
            | Stage::Bridged { .. }
            | Stage::Confirming(_)
            | Stage::Telling { .. } => true,
        };
        let resumable = |leg: &LegRow| leg.is_live() && leg.checkpoint.is_some();
        let far = match &call.stage {
            Stage::Bridged { far } => call.leg(*far).is_some_and(resumable),
            _ => true,
        };
        goes_on && far && call.caller().is_some_and(resumable)
    }

    fn move_call(&mut self, id: CallId, (address, address_epoch, holder): Anchor) {
        let rung = self.ring_no_more(id);
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        // Above every epoch before, also when the other address has seen fewer holders.
        let epoch = address_epoch.max(call.epoch.saturating_add(1));
        (call.owner, call.epoch, call.moved) = (holder, epoch, true);
        (call.address, call.address_epoch) = (address, address_epoch);
        let (tenant, rings) = (
            call.tenant.clone(),
            matches!(call.stage, Stage::Ringing { .. }),
        );
        self.touch_call(id);
        let fields = [
            ("node", Value::from(holder.to_string())),
            ("address", address.to_string().into()),
            ("epoch", u64::from(epoch).into()),
        ];
        self.event("call.moved", id, fields);
        if rings {
            self.ring_anew(id, tenant, &rung);
        }
    }

    /// Gives up the far ends that ring, and whatever else of ours is unanswered: they are
    /// left over, to be told by the new owner. Offers are taken back and count
    /// for nothing. The roles that rang.
    fn ring_no_more(&mut self, id: CallId) -> Vec<LegRole> {
        let now = self.meta.now;
        let Some(call) = self.calls.get(&id).cloned() else {
            return Vec::new();
        };
        let ours = |leg: &&LegRow| leg.target.is_some() && leg.seen == Seen::Fresh;
        let mut roles = Vec::new();
        for leg in call.legs.iter().filter(ours) {
            self.leave_leg_over(&call, leg);
            if let LegRole::Agent(agent) = &leg.role {
                self.end_offer(id, agent);
            }
            if let Some(row) = self.calls.get_mut(&id).and_then(|row| row.leg_mut(leg.id)) {
                row.seen = Seen::Ended;
                row.ended_at = Some(now);
                row.cause = Some(Cause::NODE_LOST);
            }
            self.vacate_leg(id, &leg.role);
            if !roles.contains(&leg.role) {
                roles.push(leg.role.clone());
            }
        }
        for role in &roles {
            let LegRole::Agent(agent) = role else {
                continue;
            };
            let key: Of<AgentId> = (call.tenant.clone(), agent.clone());
            let talks = self
                .calls
                .get(&id)
                .is_some_and(|row| Self::has_live_agent_leg(row, agent));
            if !talks {
                self.release_agent(&key, &call);
            }
        }
        roles
    }

    /// Rings those again who rang when their node died.
    fn ring_anew(&mut self, id: CallId, tenant: crate::ids::TenantId, rung: &[LegRole]) {
        let mut failed = None;
        for role in rung {
            let refused = match role {
                LegRole::Extension(extension) => {
                    let key: Of<Extension> = (tenant.clone(), extension.clone());
                    let targets = self.extension_targets(&key);
                    self.add_legs(id, role, targets)
                }
                LegRole::Trunk(..) => {
                    self.forget_lost_attempt(id);
                    match self.dial_out(id) {
                        // Its own channel is free once the far end has let go.
                        Ok(()) | Err(NoWay::Full) => return,
                        Err(NoWay::Tried) => Some((Disposition::Failed, Cause::CONGESTION)),
                    }
                }
                LegRole::Caller | LegRole::Agent(_) => None,
            };
            failed = failed.or(refused);
        }
        if !self.calls.get(&id).is_some_and(rings) {
            let lost = (Disposition::Failed, Cause::CONGESTION);
            self.clear_call(id, failed.unwrap_or(lost));
        }
    }

    /// A channel has been let go that a call, gone on elsewhere, may wait for.
    pub(super) fn try_trunk_again(&mut self, id: CallId) {
        let waits = self
            .calls
            .get(&id)
            .is_some_and(|call| matches!(call.stage, Stage::Ringing { .. }) && !rings(call));
        if waits && self.dial_out(id).is_err() {
            self.clear_call(id, (Disposition::Failed, Cause::CONGESTION));
        }
    }

    /// The attempt over a trunk that its node cut short is no attempt that failed: the same
    /// destination may be tried again.
    fn forget_lost_attempt(&mut self, id: CallId) {
        if let Some(call) = self.calls.get_mut(&id) {
            call.legs.retain(|leg| {
                !(matches!(leg.role, LegRole::Trunk(..)) && leg.cause == Some(Cause::NODE_LOST))
            });
        }
    }
}
