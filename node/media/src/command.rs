//! What the engine asks of a worker. Commands for one leg are carried out in order.

use std::sync::Arc;

use crossbeam_channel::Sender;

use crate::clip::Clip;
use crate::event::LegStats;
use crate::leg::Leg;
use crate::types::{Digit, LegKey, LegMedia, PlayToken, Repeat};

/// One order to a worker.
pub(crate) enum Command {
    /// Take over a new leg, or one that another worker gave away.
    Adopt(Box<Leg>),
    /// Give the leg away, so that it can sit beside the one it is bridged to.
    Release(LegKey, Sender<Box<Leg>>),
    Configure(LegKey, LegMedia),
    /// Both legs are with this worker.
    Bridge(LegKey, LegKey),
    Unbridge(LegKey),
    Play(LegKey, Playback),
    Stop(LegKey),
    SendDigit(LegKey, Digit, u32),
    Close(LegKey),
    Stats(LegKey, Sender<LegStats>),
}

/// Something to play on a leg.
pub(crate) struct Playback {
    pub(crate) clip: Arc<Clip>,
    pub(crate) repeat: Repeat,
    /// End after this many samples, even in the middle of a round.
    pub(crate) samples_max: Option<u64>,
    pub(crate) token: PlayToken,
}
