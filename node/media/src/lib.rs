//! The RTP engine: relays, plays, transcodes G.711, receives and sends DTMF.
//!
//! Signalling talks to it by commands ([`Engine`]) and hears from it by events
//! ([`EventReceiver`]); between the two stand dedicated worker threads that own sockets and the
//! whole state of their legs. An RTP packet never crosses a lock, queue or thread that
//! signalling touches. The engine knows nothing of SIP, calls or tenants: a leg is a key, two
//! ports and what was agreed for them.
//!
//! | Room | What is in it |
//! |---|---|
//! | [`types`], [`event`], [`error`], [`limits`] | what callers exchange with the engine |
//! | [`engine`] | commands, the directory of legs, starting and stopping |
//! | [`clip`], [`tone`] | what can be played; [`wav`] and `resample` read it |
//! | `ports` | port pools per local address |
//! | `worker`, `schedule` | the loop of a thread, the 5 ms grid of what is sent from here |
//! | `leg` | all state of a leg: `pin`, `receive`, `outgoing`, `dtmf`, `player`, `rtcp` |
//! | `rtp`, `g711` | wire format and codec |
//! | `socket` | system calls; the only unsafe code |
//!
//! RFC 3550 (RTP, RTCP), RFC 3551 (payload types), RFC 4733 (telephone events), RFC 4961
//! (symmetric RTP), ITU-T G.711.

pub mod clip;
mod command;
mod dtmf;
pub mod engine;
pub mod error;
pub mod event;
mod g711;
mod leg;
pub mod limits;
mod outgoing;
mod pin;
mod player;
mod ports;
mod receive;
mod resample;
mod rtcp;
mod rtp;
mod schedule;
mod socket;
pub mod tone;
pub mod types;
pub mod wav;
mod worker;

pub use clip::Clip;
pub use engine::Engine;
pub use error::{MediaError, OpenError, StartError};
pub use event::{Event, EventReceiver, LegStats, TimedOut, Totals};
pub use tone::Tone;
pub use types::{Codec, Digit, EngineConfig, LegKey, LegMedia, OpenLeg, PlayToken, Repeat};
pub use wav::ClipError;
