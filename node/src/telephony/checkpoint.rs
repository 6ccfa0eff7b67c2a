//! What a leg leaves in its row so that another node can go on with it.
//!
//! A caller's INVITE is kept as it came, with our answer to it once there is one: whoever
//! goes on answers it again, which a caller who has had the answer merely acknowledges. Any
//! other leg, and a caller's after a change of its session, is kept as its dialog.

use serde::{Deserialize, Serialize};
use strowger_core::ids::LegId;
use strowger_sip::dialog::Dialog;
use strowger_sip::endpoint::{Endpoint, IncomingInvite};
use strowger_sip::token::LegToken;
use strowger_sip::transport::Flow;

/// A longer INVITE is not kept: its call ends with its node unless it has been answered.
const INVITE_MAX: usize = 4_096;

/// The caller's INVITE.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct KeptInvite {
    /// As it came.
    pub raw: Vec<u8>,
    /// The way it came.
    pub flow: Flow,
    /// Epoch in the tag we gave it.
    pub epoch: u32,
    /// Our description, once it was answered.
    pub answer: Option<String>,
}

/// What the row of a leg holds for its next owner.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Checkpoint {
    /// A caller.
    Invite(KeptInvite),
    /// A dialog that stands.
    Dialog(Box<Dialog>),
}

impl KeptInvite {
    /// Keeps an INVITE; `None` when it is too long.
    pub fn of(invite: &IncomingInvite, epoch: u32) -> Option<Self> {
        let raw = invite.raw().to_vec();
        (raw.len() <= INVITE_MAX).then(|| Self {
            raw,
            flow: invite.flow(),
            epoch,
            answer: None,
        })
    }

    /// The token of its leg.
    pub fn token(&self, leg: LegId) -> LegToken {
        LegToken {
            index: leg.index(),
            n: leg.n(),
            epoch: self.epoch,
        }
    }
}

impl Checkpoint {
    /// Reads a row's checkpoint; `None` when it cannot be read.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        postcard::from_bytes(bytes).ok()
    }

    /// As a row holds it.
    pub fn bytes(&self) -> Vec<u8> {
        // Plain values without maps: this cannot fail, and an empty text is read as none.
        postcard::to_stdvec(self).unwrap_or_default()
    }

    /// What we said of our side last.
    pub fn local_sdp(&self) -> Option<&str> {
        match self {
            Self::Invite(kept) => kept.answer.as_deref(),
            Self::Dialog(dialog) => dialog.local_sdp.as_deref(),
        }
    }

    /// The dialog, for who only has to end it; `None` for a caller who was not answered.
    pub fn dialog(self, endpoint: &Endpoint, leg: LegId) -> Option<Dialog> {
        match self {
            Self::Dialog(dialog) => Some(*dialog),
            Self::Invite(kept) => {
                kept.answer.as_ref()?;
                endpoint.dialog_of(&kept.raw, kept.flow, kept.token(leg))
            }
        }
    }
}
