//! SIP messages between nodes: a message for a leg owned elsewhere goes to its owner; a
//! message to be sent from an address held elsewhere goes to its holder.
//!
//! One way and unconfirmed, like a datagram: SIP retransmits what is lost. A message is
//! forwarded once, never on.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use strowger_core::call::LegRow;
use strowger_core::ids::{LegId, NodeId};
use strowger_sip::token::LegToken;
use strowger_sip::transport::{Flow, Protocol};
use tracing::debug;

use super::Shared;

/// First byte of every message of telephony between nodes.
pub const MARK: u8 = b'S';

/// What one node asks another to do.
#[derive(Serialize, Deserialize)]
pub(crate) enum Forward {
    /// Take this message in for one of your legs.
    TakeIn { flow: Flow, raw: Vec<u8> },
    /// Send this from an address you hold.
    Send { flow: Flow, bytes: Vec<u8> },
}

/// The leg a token names.
pub fn leg_of(token: LegToken) -> LegId {
    LegId::from_parts(token.index, token.n)
}

/// How often, and at what interval, a leg is looked for that this node does not know yet.
const LOOKS: u32 = 20;
/// How often one that is being taken up is, for who sends on a connection.
const LOOKS_MAX: u32 = 500;
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Passes a message for a leg that is not here to the node that owns its call.
///
/// The answer of a quick peer may come before this node has applied the call it is about, and
/// a request before this node has taken its leg up from a dead owner; on a connection it would
/// never be sent again, so it waits. Only messages with tokens this cluster made wait.
pub fn to_owner(shared: &Arc<Shared>, token: LegToken, raw: &[u8], flow: Flow) -> bool {
    let leg = leg_of(token);
    let raw = raw.to_vec();
    match owner_of(shared, leg) {
        Some(owner) if owner != shared.node => {
            return send(shared, owner, &Forward::TakeIn { flow, raw });
        }
        None if token.index <= shared.state.read().meta.index => return false,
        // It is being taken up here, or still to be heard of.
        Some(_) | None => {}
    }
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        let Some(endpoint) = shared.endpoint() else {
            return;
        };
        for look in 1..=LOOKS_MAX {
            tokio::time::sleep(LOOK_AGAIN).await;
            match owner_of(&shared, leg) {
                Some(owner) if owner != shared.node => {
                    send(&shared, owner, &Forward::TakeIn { flow, raw });
                    return;
                }
                Some(_) if endpoint.leg(token).is_some() => break,
                Some(_) | None if look < LOOKS => {}
                // Taking up thousands of legs lasts. Nobody may be told meanwhile that his call is
                // unknown; a datagram comes again.
                Some(_) if is_live(&shared, leg) => {
                    if flow.protocol == Protocol::Udp {
                        return;
                    }
                }
                Some(_) | None => break,
            }
        }
        // A request for a leg that is nowhere is told so.
        endpoint.inject(&raw, flow);
    });
    true
}

/// True while the caller with this Call-ID is to be taken up here from another node, and his
/// leg is not here yet.
pub fn is_awaited(shared: &Shared, call_id: &str) -> bool {
    let caller = {
        let state = shared.state.read();
        let mut moved = state.calls.values();
        let call = moved.find(|call| {
            let mut caller = call.caller().into_iter();
            call.moved
                && call.owner == shared.node
                && caller.any(|leg| leg.is_live() && leg.sip_call_id == call_id)
        });
        call.and_then(|call| call.caller()).map(|leg| leg.id)
    };
    let signals = |leg| shared.legs.with(leg, |entry| entry.sip.is_some());
    caller.is_some_and(|leg| signals(leg) != Some(true))
}

/// True when the call of this leg is over, as far as the state here knows for sure.
pub fn is_over(shared: &Shared, token: LegToken) -> bool {
    token.index <= shared.state.read().meta.index
        && !is_live(shared, leg_of(token))
        && shared.cluster.lease_valid()
}

/// True while a call has this leg, and it has not ended: one that only rang when its node died
/// is given up, whatever its phone says of it afterwards.
fn is_live(shared: &Shared, leg: LegId) -> bool {
    let state = shared.state.read();
    let mut calls = state.calls.values();
    calls.any(|call| call.leg(leg).is_some_and(LegRow::is_live))
}

fn owner_of(shared: &Shared, leg: LegId) -> Option<NodeId> {
    let state = shared.state.read();
    let call = state.calls.values().find(|call| call.leg(leg).is_some());
    call.map(|call| call.owner)
}

/// Passes bytes to the node that holds the address they leave from.
pub fn to_holder(shared: &Shared, flow: Flow, bytes: Bytes) -> bool {
    let holder = shared.state.read().holder(flow.local.ip());
    match holder {
        Some(holder) if holder != shared.node => send(
            shared,
            holder,
            &Forward::Send {
                flow,
                bytes: bytes.to_vec(),
            },
        ),
        _ => false,
    }
}

fn send(shared: &Shared, to: NodeId, forward: &Forward) -> bool {
    let Ok(body) = postcard::to_extend(forward, vec![MARK]) else {
        return false;
    };
    match shared.cluster.send(to.0, body) {
        Ok(()) => true,
        Err(why) => {
            debug!(node = %to, %why, "a SIP message cannot be forwarded");
            false
        }
    }
}

/// Takes in a message of another node; false when it is not telephony's.
pub fn take_in(shared: &Arc<Shared>, body: &[u8]) -> bool {
    let Some((&MARK, body)) = body.split_first() else {
        return false;
    };
    let Some(endpoint) = shared.endpoint() else {
        return true;
    };
    match postcard::from_bytes(body) {
        Ok(Forward::TakeIn { flow, raw }) => endpoint.inject(&raw, flow),
        Ok(Forward::Send { flow, bytes }) => {
            if !endpoint.send_raw(&flow, &Bytes::from(bytes)) {
                debug!(local = %flow.local, "asked to send from an address not held here");
            }
        }
        Err(why) => debug!(%why, "a forwarded SIP message cannot be read"),
    }
    true
}
