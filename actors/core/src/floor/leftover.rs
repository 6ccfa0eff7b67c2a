//! Legs that outlived their call: their node died, the call is recorded, and the far end
//! does not know yet.
//!
//! The node that holds the leg's service address now tells it, or another when none can have
//! it, from an address of its own; what a call that goes on has given up is told by its new
//! owner: BYE from the checkpoint where the leg was answered, CANCEL where it was still
//! ringing. The row goes with the far end's final answer, or when its time is over.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::call::LegTarget;
use crate::ids::{CallId, LegId, TenantId, TrunkName};
use crate::time::TimeMs;

/// A leg whose far end is still to be told that the call is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftoverRow {
    /// The leg.
    pub leg: LegId,
    /// Its call, which is over.
    pub call: CallId,
    /// Whose call it was.
    pub tenant: TenantId,
    /// Service address it was anchored on: its INVITE names it.
    pub address: IpAddr,
    /// Epoch of its call then: the leg's token carries it.
    pub epoch: u32,
    /// The trunk whose channel it holds.
    pub trunk: Option<TrunkName>,
    /// Number shown as the caller's, as the INVITE said it.
    pub from: String,
    /// Where the INVITE went; `None` for the caller's leg.
    pub target: Option<LegTarget>,
    /// The exported dialog; `None` when it was never answered.
    pub checkpoint: Option<Vec<u8>>,
    /// When it is given up.
    pub until: TimeMs,
}
