//! Every bound of the daemon's edges in one place, with its reason and what happens
//! at the bound.

use std::time::Duration;

/// Bytes of a node file; larger ones are refused unread.
pub const NODE_FILE_BYTES_MAX: u64 = 1 << 20;

/// Bytes of a site file's text; larger ones are refused.
pub const SITE_TEXT_BYTES_MAX: usize = 4 << 20;

/// Files a site may name; more are refused.
pub const SITE_ATTACHMENTS_MAX: usize = 256;

/// Bytes of one file a site names; larger ones are refused.
pub const SITE_ATTACHMENT_BYTES_MAX: usize = 64 << 20;

/// Extensions of one site; more are refused.
pub const EXTENSIONS_MAX: usize = 100_000;

/// Extensions in one import; more are refused. Their secrets travel in one log entry.
pub const EXTENSION_IMPORT_ROWS_MAX: usize = 20_000;

/// Entries of one range such as `1001-1020`; more are refused.
pub const RANGE_MAX: usize = 20_000;

/// Queues, agents, numbers, trunks and routes of one site, each.
pub const ENTRIES_MAX: usize = 20_000;

/// Entries of a list that is tried in order (destinations of a trunk, trunks of a route):
/// as many as one call tries.
pub const CHOICES_MAX: usize = strowger_core::limits::TRUNK_ATTEMPTS;

/// Largest weight of such an entry.
pub const WEIGHT_MAX: u32 = 1_000;

/// Largest limit of calls per second of a trunk: the state keeps the beginnings of the
/// last second.
pub const TRUNK_CPS_MAX: u64 = 1_000;

/// Letters of a name, number or password in a site file.
pub const NAME_LETTERS_MAX: usize = 64;

/// Letters of a generated password: 20 of 32 possible letters each, 100 bits.
pub const PASSWORD_LETTERS: usize = 20;

/// Length of what an agent hears before he hears the caller, ms; a longer one is refused. The
/// caller waits that long after the answer.
pub const AGENT_ANNOUNCEMENT_MS_MAX: u64 = 10_000;

/// Bytes of a request body, other than a site upload.
pub const BODY_BYTES_MAX: usize = 64 << 10;

/// Bytes of a site upload: its text and attachments in base64.
pub const UPLOAD_BYTES_MAX: usize = 160 << 20;

/// Longest time for reading a request and answering it.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Longest time for a TLS handshake; a slower client is cut off.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest time from a connection, or its handshake, to the head of its first request; a
/// client that asks for nothing is cut off.
pub const FIRST_REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest time from an answer to the head of the next request; the connection is closed
/// then. Longer than the 60 s at which monitoring usually asks at most, so that a connection
/// is seldom closed under its next request.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(75);

/// Silence after which the system asks whether a client of the HTTP interface is still there …
pub const PROBE_AFTER: Duration = Duration::from_secs(30);

/// … at this interval …
pub const PROBE_INTERVAL: Duration = Duration::from_secs(10);

/// … this many times. Then the connection is broken.
pub const PROBES: u32 = 3;

/// A client that takes nothing of what was sent to it for this long is cut off. Linux ends
/// its probes by this time instead of by their number, so it is as long as all of them.
pub const UNTAKEN_MAX: Duration = Duration::from_secs(60);

/// Stored quarters of an hour one answer may read; a wider range is refused.
pub const QUARTERS_READ_MAX: usize = 200_000;

/// Stored quarters read at a time.
pub const QUARTERS_PER_READ: usize = 1_024;

/// How often the invariants of the state are checked.
pub const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Calls and agents up to which the whole state is checked; a larger floor is checked by
/// its counts.
pub const CHECKED_WHOLE_MAX: usize = 2_000;

/// Broken invariants shown at most.
pub const BREACHES_SHOWN_MAX: usize = 16;

/// Connections to the HTTP interface at once; further ones are closed at once.
pub const CONNECTIONS_MAX: usize = 1_024;

/// Connections beyond those, for clients on the node's own machine only: its health checks
/// are answered when strangers hold all others.
pub const CONNECTIONS_KEPT: usize = 16;

/// A full interface says so in the log, but not more often than this.
pub const FULL_NOTE_INTERVAL: Duration = Duration::from_secs(10);

/// Event readers at once; further ones are refused.
pub const EVENT_READERS_MAX: usize = 256;

/// Events read from the rows at a time for one reader.
pub const EVENTS_PER_READ: usize = 256;

/// Longest time one write to an event reader may take; a slower reader is cut off.
pub const EVENT_WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// Interval of pings to event readers, so that a vanished one is noticed, and a node that
/// stands still by its readers.
pub const EVENT_PING: Duration = Duration::from_secs(5);

/// Final answers of far ends of lost calls waiting to be reported: more than a node has
/// legs. Further ones are repeated by the far end, or their rows go by their deadline.
pub const RELEASES_WAITING_MAX: usize = 65_536;

/// Records in one answer of a list that is read in pages.
pub const PAGE_MAX: usize = 1_000;

/// Records in one answer when the reader names no limit.
pub const PAGE_DEFAULT: usize = 100;

/// A change asked for over HTTP is answered `SW0605` when no majority was reached for
/// this long: within a second, and longer than an election takes on an idle machine.
pub const MAJORITY_WAIT: Duration = Duration::from_millis(900);

/// Between two looks whether a majority is reached.
pub const MAJORITY_LOOK: Duration = Duration::from_millis(20);

/// Longest wait for the commit of a change asked for over HTTP.
pub const COMMIT_DEADLINE: Duration = Duration::from_secs(5);

/// Longest wait for the commit of a site, which carries all its secrets.
pub const SITE_COMMIT_DEADLINE: Duration = Duration::from_secs(20);

/// Longest wait for another node's answer about itself.
pub const PEER_STATUS_DEADLINE: Duration = Duration::from_millis(300);

/// Bytes of a blob sent between nodes in one piece.
pub const BLOB_PIECE_BYTES: usize = 256 << 10;

/// Longest wait for one piece of a blob.
pub const BLOB_PIECE_DEADLINE: Duration = Duration::from_secs(5);

/// Interval at which a node looks for blobs it lacks.
pub const BLOB_REPAIR_INTERVAL: Duration = Duration::from_secs(2);

/// Entries a node may be behind the leader and still call itself ready.
pub const READY_LAG_MAX: u64 = 1_000;

/// Longest time for a graceful end before the daemon ends anyway.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest wait for a node of the demonstration to serve.
pub const DEMO_START_TIMEOUT: Duration = Duration::from_secs(60);

/// Longest wait for the demonstration's nodes to end before they are killed.
pub const DEMO_STOP_TIMEOUT: Duration = Duration::from_secs(8);

/// Rows of one upload of customers; more are refused.
pub const IMPORT_UPLOAD_ROWS: usize = 1_000;

/// Rows of one command of an import: what a call waits behind while it is applied.
pub const IMPORT_COMMAND_ROWS: usize = 200;

/// After each command an import rests for this part of the time its commit took …
pub const IMPORT_REST_SHARE: u32 = 2;

/// … but not longer than this.
pub const IMPORT_REST_MAX: Duration = Duration::from_millis(200);

/// Bytes of one upload of customers.
pub const IMPORT_BYTES_MAX: usize = 16 << 20;

/// Longest wait for the commit of imported rows.
pub const IMPORT_COMMIT_DEADLINE: Duration = Duration::from_secs(10);

/// Longest wait until this node has applied what the leader answered, before what was
/// written is read here.
pub const APPLY_WAIT: Duration = Duration::from_secs(2);

/// A backup whose reader or sender does nothing for this long is broken off.
pub const BACKUP_STALL_MAX: Duration = Duration::from_secs(60);

/// Bytes of one frame of a backup; a longer one is refused. Rows travel in pieces of about
/// 1 MiB, of which a single row may be larger: a site with its secrets.
pub const BACKUP_FRAME_BYTES_MAX: usize = 64 << 20;

/// Skills of one agent in a site file.
pub const SKILLS_PER_AGENT_MAX: usize = 64;

/// Spans of opening hours on one day; more are refused with their line.
pub const SPANS_PER_DAY_MAX: usize = 8;

/// Holidays of one of the hours; more are refused with their line.
pub const HOLIDAYS_MAX: usize = 1_000;

/// Days for which opening hours are worked out ahead.
pub const HOURS_AHEAD_DAYS: i32 = 15;

/// Opening hours are worked out anew when less than this is left, ms: eight days, so that
/// the week before is known for as long as nobody could do it.
pub const HOURS_LEFT_MIN_MS: u64 = 8 * 24 * 3_600_000;

/// How often the leader looks whether opening hours are to be worked out. It costs next to
/// nothing, and a cluster that was off for weeks has to know them soon after it has a leader.
pub const HOURS_LOOK: Duration = Duration::from_secs(2);
