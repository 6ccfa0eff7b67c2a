//! The running side of the exchange: one actor per live call, supervised, each owned
//! by the node that holds the call's service address.
//!
//! Actors are thin. What should be stands in committed rows; what remains to be done
//! is said by [`strowger_core::outstanding`]; an actor carries that out through
//! [`ports::Legs`] and turns what it sees into commands. No telephony decision is made
//! here, and none is kept here: an actor that dies is replaced by a new one that reads
//! the row.
//!
//! | module | what lives there |
//! |---|---|
//! | [`ports`] | what an actor needs from signalling and media |
//! | [`desk`] | proposing typed commands |
//! | [`call`] | the actor of one call |
//! | [`switchboard`] | starting, finding and supervising the actors of this node |
//! | [`wake`] | wake-ups from apply, coalesced |
//! | [`follow`] | wake-ups reach the actors; calls without one get one |
//! | [`steward`] | announcing life, declaring the dead, ticks, comparison of hashes |
//! | [`withdrawal`] | taking back what was refused before its outcome was known |
//! | [`gate`] | admission: how much may be alive at once |
//! | [`limits`] | every bound in one place |

pub mod call;
pub mod desk;
pub mod follow;
pub mod gate;
pub mod limits;
mod outbox;
pub mod ports;
pub mod steward;
pub mod switchboard;
pub mod wake;
pub mod withdrawal;
