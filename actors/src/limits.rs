//! Every bound of this crate, with its reason and what happens at the limit.

use std::time::Duration;

/// Live calls a node owns at most; a further INVITE gets 503 with Retry-After. One
/// call costs some tens of kilobytes, so this stays far below the machine's memory.
pub const CALLS_MAX: usize = 20_000;

/// How long one proposal may take before it is looked at again. Longer than any
/// election, so that a leader's death is ridden out inside one proposal.
pub const PROPOSE: Duration = Duration::from_secs(3);

/// How long a new INVITE may wait for the commit of its call: within a second the
/// caller hears either ringing or 503.
pub const ARRIVAL: Duration = Duration::from_millis(900);

/// Between two looks at a row without a wake-up: wake-ups may be lost.
pub const RECONCILE: Duration = Duration::from_secs(5);

/// Pause before observations are proposed again when there was no quorum.
pub const RETRY: Duration = Duration::from_millis(200);

/// Attempts to say what a former owner has still seen of a call: a node that was cut off for
/// a minute says it when it is back.
pub const PASS_ON_TRIES: usize = 20;

/// How long a call that was just committed may be unknown to this node's own state.
pub const UNSEEN_MAX: Duration = Duration::from_secs(10);

/// How long the end of one leg of a bridge waits for the other's, so that one commit
/// covers both. A phone nearby answers BYE within it; an agent is not kept much longer
/// from the next caller by one that does not.
pub const LINGER: Duration = Duration::from_millis(8);

/// Observations of one call waiting for a commit. A call makes a handful; beyond this
/// its legs are ended, for something feeds it events without end.
pub const OUTBOX_MAX: usize = 256;

/// Keys of one call waiting for a commit; more are pressed faster than anybody can mean.
pub const KEYS_WAITING_MAX: usize = 16;

/// Rounds of one look at a row: a leg takes at most a handful of steps at once.
pub const ROUNDS: usize = 8;

/// Pause before a leg whose ports are still held elsewhere is taken up again.
pub const RESUME_AGAIN: Duration = Duration::from_millis(10);

/// How long the ports of a leg are waited for; then it gets others.
pub const RESUME_MAX: Duration = Duration::from_millis(500);

/// A leg that cannot be taken up for so long, because its address cannot be had here, is over.
pub const RESUME_GIVEN_UP: Duration = Duration::from_secs(30);
