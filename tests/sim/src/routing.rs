//! Messages that find no leg at first: to the node that owns their call, to one that is about
//! to take it up, or nowhere; and what is said to far ends of calls that are gone.

use std::net::IpAddr;
use std::sync::atomic::Ordering;

use strowger_core::call::LegRow;
use strowger_core::ids::{LegId, NodeId};

use crate::exchange::{FromExchange, far_of};
use crate::phones::FromPhone;
use crate::world::{Duty, Event, Sender, World};

/// Looks for a leg that is being taken up, as in the daemon.
const LOOKS: u32 = 20;
/// Between two of them, ms.
const LOOK_AGAIN: u64 = 10;

impl World {
    /// A message of a phone reaches the node that has bound its address.
    pub fn arrive(&mut self, far: u64, message: &FromPhone) {
        let Some(address) = self.fars.get(&far).map(|far| far.address) else {
            return;
        };
        // A life that has not bound it yet has no socket there.
        let node = self.route.get(&address).copied();
        let Some(node) = node.filter(|node| self.has_bound(*node, address)) else {
            return;
        };
        self.arrive_at(node, far, message, false);
    }

    /// A message of a phone reaches this node, perhaps from another one.
    pub fn arrive_at(&mut self, number: u64, far: u64, message: &FromPhone, forwarded: bool) {
        let Some(node) = self.nodes.get_mut(&number) else {
            return;
        };
        let Some(life) = node.life.as_ref().map(|life| life.incarnation) else {
            return;
        };
        if node.frozen {
            let event = Event::AtNode(number, far, message.clone(), forwarded);
            return node.held.push(event);
        }
        self.note(&format!("node {number} <- far end {far}: {message:?}"));
        self.take_in_message(number, life, far, message, (forwarded, 0));
    }

    /// A life takes in that a far end is over.
    fn heard_end(&mut self, far: u64, by: (u64, u64), message: &FromPhone) {
        if let Some(far) = self.fars.get_mut(&far)
            && message.is_end()
            && !far.is_live()
        {
            far.heard_by = Some(by);
        }
    }

    /// A life of a node takes a message of a phone in.
    pub fn take_in_message(
        &mut self,
        node: u64,
        life: u64,
        far: u64,
        message: &FromPhone,
        (forwarded, looks): (bool, u32),
    ) {
        let leg = self.fars.get(&far).and_then(|far| far.leg);
        let Some(own) = self.life(node, life) else {
            return;
        };
        if let Some(leg) = leg
            && own
                .legs
                .get(&leg)
                .is_some_and(|entry| entry.far == Some(far))
        {
            self.heard_end(far, (node, life), message);
            return self.signal(node, life, leg, message);
        }
        let admitting = own.admitting.contains(&far);
        let refused = own.refused.get(&far).map(|refusal| refusal.status);
        if matches!(message, FromPhone::AckRefusal)
            && let Some(refusal) = own.refused.get(&far)
        {
            refusal.known.store(true, Ordering::Release);
        }
        match message {
            FromPhone::Invite if admitting => return,
            FromPhone::Invite => {
                return match refused {
                    Some(status) => self.reply(node, life, far, FromExchange::Final(status)),
                    None => self.admit(node, life, far),
                };
            }
            FromPhone::Cancel if admitting => {
                if let Some(far) = self.fars.get_mut(&far) {
                    far.withdrawn = true;
                }
                return self.reply(node, life, far, FromExchange::TakenBack);
            }
            FromPhone::Cancel => return self.reply(node, life, far, FromExchange::Gone),
            // The node before refused the INVITE too.
            FromPhone::AckRefusal => {
                if let Some(far) = self.fars.get_mut(&far).filter(|_| admitting) {
                    far.withdrawn = true;
                }
                return;
            }
            _ => {}
        }
        let Some(leg) = leg else {
            return self.reply(node, life, far, FromExchange::Gone);
        };
        let (owner, applied) = {
            let Some(own) = self.life(node, life) else {
                return;
            };
            let state = own.state.read();
            let call = state.calls.values().find(|call| call.leg(leg).is_some());
            (call.map(|call| call.owner), state.meta.index)
        };
        match owner {
            Some(NodeId(owner)) if owner != node => {
                if !forwarded && self.is_open(node, owner) {
                    let travel = self.travel();
                    let event = Event::AtNode(owner, far, message.clone(), true);
                    self.after(travel, event);
                }
            }
            None if leg.index() <= applied => self.nowhere(node, life, (leg, far), message),
            // It is being taken up here, or still to be heard of.
            _ if looks < LOOKS => {
                let sender = Sender {
                    node,
                    life,
                    leg,
                    far,
                };
                let seek = Duty::Seek(message.clone(), looks + 1);
                self.after(LOOK_AGAIN, Event::Duty(sender, seek));
            }
            _ => self.nowhere(node, life, (leg, far), message),
        }
    }

    /// A reply outside any leg known here.
    pub fn reply(&mut self, node: u64, life: u64, far: u64, message: FromExchange) {
        let sender = Sender {
            node,
            life,
            leg: LegId::default(),
            far,
        };
        self.leave(sender, message, 0);
    }

    /// A message for a leg that is not here and will not be.
    fn nowhere(&mut self, node: u64, life: u64, (leg, far): (LegId, u64), message: &FromPhone) {
        let has_lease = self.has_lease(node);
        let Some(own) = self.life(node, life) else {
            return;
        };
        let (over, leftover) = {
            let state = own.state.read();
            let mut calls = state.calls.values();
            let live = calls.any(|call| call.leg(leg).is_some_and(LegRow::is_live));
            let over = leg.index() <= state.meta.index && !live && has_lease;
            (over, state.leftovers.contains_key(&leg))
        };
        match message {
            FromPhone::Bye | FromPhone::Change(_) | FromPhone::Refresh => {
                self.reply(node, life, far, FromExchange::Gone);
            }
            FromPhone::Answer if over => {
                self.reply(node, life, far, FromExchange::Ack);
                self.reply(node, life, far, FromExchange::Bye(u32::MAX));
            }
            FromPhone::Final(_) | FromPhone::Done | FromPhone::Gone if leftover => {
                if let Some(own) = self.life(node, life) {
                    own.released.insert(leg);
                }
            }
            _ => {}
        }
    }

    /// Tells the far ends of lost calls that are this node's to tell.
    pub fn tell_leftovers(&mut self, node: u64, life: u64) {
        let Some(own) = self.life(node, life) else {
            return;
        };
        let rows: Vec<(LegId, u32, Option<u64>, IpAddr)> = {
            let state = own.state.read();
            own.told.retain(|leg| state.leftovers.contains_key(leg));
            let mine = state.leftovers.values().filter(|row| {
                state.holder(row.address) == Some(NodeId(node))
                    && own.bound.contains(&row.address)
                    && !own.told.contains(&row.leg)
            });
            let far = |bytes: &Option<Vec<u8>>| bytes.as_deref().and_then(far_of);
            mine.map(|row| (row.leg, row.epoch, far(&row.checkpoint), row.address))
                .collect()
        };
        own.told.extend(rows.iter().map(|row| row.0));
        for (leg, epoch, dialog, _) in rows {
            let message = match dialog {
                Some(_) => FromExchange::Bye(epoch + 1),
                None => FromExchange::Cancel(epoch),
            };
            let far = dialog.or_else(|| self.far_of.get(&leg).copied());
            self.note(&format!(
                "node {node} tells {far:?} that {leg} is left over"
            ));
            if let Some(far) = far {
                self.reply(node, life, far, message);
            }
        }
    }
}
