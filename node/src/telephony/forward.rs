//! SIP messages between nodes: a message for a leg owned elsewhere goes to its owner; a
//! message to be sent from an address held elsewhere goes to its holder.
//!
//! One way and unconfirmed, like a datagram: SIP retransmits what is lost. A message is
//! forwarded once, never on.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use strowger_core::ids::{LegId, NodeId};
use strowger_sip::token::LegToken;
use strowger_sip::transport::Flow;
use tracing::debug;

use super::Shared;

/// First byte of every message of telephony between nodes.
pub const MARK: u8 = b'S';

/// What one node asks another to do.
#[derive(Serialize, Deserialize)]
enum Forward {
    /// Take this message in for one of your legs.
    TakeIn { flow: Flow, raw: Vec<u8> },
    /// Send this from an address you hold.
    Send { flow: Flow, bytes: Vec<u8> },
}

/// The leg a token names.
pub fn leg_of(token: LegToken) -> LegId {
    LegId::from_parts(token.index, token.n)
}

/// Passes a message for a leg that is not here to the node that owns its call.
pub fn to_owner(shared: &Shared, token: LegToken, raw: &[u8], flow: Flow) -> bool {
    let leg = leg_of(token);
    let owner = {
        let state = shared.state.read();
        state
            .calls
            .values()
            .find(|call| call.leg(leg).is_some())
            .map(|call| call.owner)
    };
    match owner {
        Some(owner) if owner != shared.node => send(
            shared,
            owner,
            &Forward::TakeIn {
                flow,
                raw: raw.to_vec(),
            },
        ),
        _ => false,
    }
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
