//! Every bound of this crate, with its reason and what happens at the bound.

use std::time::Duration;

/// Proposals in one log entry. More wait for the next entry.
pub const PROPOSALS_PER_ENTRY_MAX: usize = 256;

/// Bytes of commands in one log entry; reached before the count by large commands only.
pub const ENTRY_BYTES_MAX: usize = 1 << 20;

/// Entries the leader has under way at once; further proposals gather meanwhile.
pub const ENTRIES_IN_FLIGHT_MAX: usize = 4;

/// Proposals waiting on one node. More are answered `NoQuorum` at once.
pub const PROPOSALS_WAITING_MAX: usize = 16_384;

/// Bytes of one command: a site with the sealed secrets of tens of thousands of extensions.
/// Larger ones are answered `NoQuorum` at once.
pub const COMMAND_BYTES_MAX: usize = 8 << 20;

/// Bytes of one request or response between nodes. Larger ones are refused.
pub const RPC_BYTES_MAX: usize = 64 << 20;

/// Requests served at once for one peer (QUIC streams); more wait in flow control.
pub const STREAMS_PER_PEER_MAX: u32 = 1_024;

/// One-way messages queued for one peer; more are refused to the sender.
pub const MESSAGES_QUEUED_MAX: usize = 4_096;

/// Bytes of one one-way message.
pub const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// Entries of the log kept in memory for replication and apply, besides those that are not on
/// disk yet. Older ones are read from there.
pub const LOG_CACHE_ENTRIES_MAX: usize = 4_096;

/// Bytes of such entries, as they are on disk: rows of an import come by the hundred kilobytes.
pub const LOG_CACHE_BYTES_MAX: usize = 8 << 20;

/// Operations on the log gathered into one synced write.
pub const LOG_GATHER_MAX: usize = 1_024;

/// Operations waiting for the log thread; appends wait when it is full.
pub const LOG_QUEUE_MAX: usize = 4_096;

/// Entries applied in one write batch.
pub const APPLY_ENTRIES_MAX: usize = 256;

/// Bytes of rows in one chunk of a snapshot.
pub const SNAPSHOT_CHUNK_BYTES: usize = 1 << 20;

/// A snapshot transfer that makes no progress for this long is given up and started anew.
pub const SNAPSHOT_IDLE_MAX: Duration = Duration::from_secs(10);

/// Voters of a cluster. Further nodes stay learners.
pub const VOTERS_MAX: usize = 5;

/// A learner at most this many entries behind becomes a voter.
pub const CATCH_UP_LAG_MAX: u64 = 1_000;

/// Members of a cluster, voters and learners.
pub const MEMBERS_MAX: usize = 64;

/// Dialling a peer, handshake included.
pub const DIAL_TIMEOUT: Duration = Duration::from_millis(1_000);

/// A peer whose process is gone is not dialled for so long, unless it is met again before: the
/// death watch looks for it every [`DEATH_REDIAL`]. A bound, should only its watch be barred.
pub const GONE_MAX: Duration = Duration::from_secs(5);

/// A QUIC connection that hears nothing for this long is closed.
pub const IDLE_TIMEOUT: Duration = Duration::from_millis(3_000);

/// How often an idle QUIC connection is kept alive.
pub const KEEP_ALIVE: Duration = Duration::from_millis(500);

/// The longest lease a leader may grant. A new leader that has heard of no lease waits
/// this long before it believes a silent node's right to have run out.
pub const LEASE_MAX: Duration = Duration::from_millis(1_000);

/// One-way streams a member may have open: messages that need no answer.
pub const MESSAGE_STREAMS_MAX: u32 = 8;

/// Newcomers that are served at once; further ones are told to try again.
pub const NEWCOMERS_MAX: usize = 4;

/// How long a node waits to hear of the token that a newcomer shows.
pub const TOKEN_WAIT: Duration = Duration::from_secs(1);

/// Bytes of entries in one request to a follower; one entry goes whatever its size.
pub const APPEND_BYTES_MAX: usize = 2 << 20;

/// What the slowest network carries that a follower is served over, bytes per second: large
/// entries have as much more time.
pub const APPEND_RATE_MIN: usize = 1 << 20;

/// A disk that takes longer for one write does not answer: its node lets go of its lease and of
/// the lead until it does. Longer than any sync of a disk that is only busy.
pub const DISK_STALL_MAX: Duration = Duration::from_secs(5);

/// How often that is looked at.
pub const DISK_LOOK: Duration = Duration::from_millis(250);

/// How often a node asks the leader to renew its lease.
pub const LEASE_RENEWAL: Duration = Duration::from_millis(100);

/// A new leader gives the others so long to ask it for a lease before it takes one that has not
/// for silent: three renewals.
pub const COME_FORWARD: Duration = Duration::from_millis(300);

/// A node whose lease was found to have run out is granted none for so long: it is being
/// declared down, and must find that in the log before it acts again.
pub const DECLARING: Duration = Duration::from_millis(250);

/// Added to a lease before its end is believed, for clocks that run at different speeds.
pub const LEASE_MARGIN: Duration = Duration::from_millis(50);

/// The reconnect that tells certain death from suspicion must end within this.
pub const DEATH_PROBE_TIMEOUT: Duration = Duration::from_millis(200);

/// How often the death watch dials a peer it has no connection to.
pub const DEATH_REDIAL: Duration = Duration::from_millis(50);

/// Survivors of a dead leader stand for election this far apart, most complete log first.
pub const ELECTION_STAGGER: Duration = Duration::from_millis(30);

/// How long a survivor waits for the log positions of the others.
pub const POSITION_TIMEOUT: Duration = Duration::from_millis(25);

/// A clock further than this from the majority raises an alarm and may not lead.
pub const CLOCK_OFFSET_MAX_MS: i64 = 500;

/// A leader whose clock is off tries so often to hand over.
pub const HAND_OVER_AGAIN: Duration = Duration::from_millis(500);

/// A clock that leapt by more than that is believed after so long. A leader whose clock alone
/// leapt has been found out by then and has handed over, if there is anybody to hand over to;
/// where most clocks leap, or there are too few to compare, the leap stands.
pub const CLOCK_LEAP_BELIEVED: Duration = Duration::from_secs(2);

/// How often a node that starts asks its peers to vouch for it.
pub const VOUCH_PAUSE: Duration = Duration::from_millis(50);

/// How long one of them may take to answer: it syncs what it is told.
pub const VOUCH_TIMEOUT: Duration = Duration::from_millis(1_000);

/// How often a node tells its peers where it stands. What was acknowledged since is not
/// missed from an older copy of its data.
pub const VOUCH_TELL: Duration = Duration::from_millis(1_000);

/// Events kept for a slow listener; a slower one misses the oldest.
pub const EVENTS_QUEUED_MAX: usize = 256;

/// Bytes of a bootstrap request or response.
pub const JOIN_BYTES_MAX: usize = 64 << 10;

/// Longest life of a join token.
pub const TOKEN_TTL_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

/// Join tokens kept; the oldest expired ones go first, then new ones are refused.
pub const TOKENS_MAX: usize = 256;

/// Silence on a connection of the death watch before the other host is asked whether it is there.
pub const WATCH_IDLE: Duration = Duration::from_secs(5);

/// Between two such questions.
pub const WATCH_INTERVAL: Duration = Duration::from_secs(2);

/// Questions without an answer that end the connection.
pub const WATCH_RETRIES: u32 = 3;
