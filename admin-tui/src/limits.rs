//! The bounds of this program, with what happens when one is reached.

use std::time::Duration;

/// A node that does not take the connection within this time is passed over.
pub const CONNECT_TIMEOUT: Duration = Duration::from_millis(300);

/// An operator command gives up on an answer after this time (exit code 4).
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Applying a site waits longer: 10,000 rows and their prompts may be replicated.
pub const APPLY_TIMEOUT: Duration = Duration::from_secs(60);

/// The console gives up on an answer after this time and turns to the next node, so
/// that it is attached again within a second of a node falling silent.
pub const CONSOLE_TIMEOUT: Duration = Duration::from_millis(700);

/// The console asks again for what it shows at least this often.
pub const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// Events that arrive closer together than this cause one request.
pub const COALESCE_INTERVAL: Duration = Duration::from_millis(150);

/// The console asks for a topic again no sooner than this many times its answer took.
pub const REST_FACTOR: u32 = 3;

/// It asks again after this time however long an answer took, so that one slow answer
/// does not make the board look dead.
pub const REST_MAX: Duration = Duration::from_secs(1);

/// The console redraws and looks at its timers this often.
pub const TICK_INTERVAL: Duration = Duration::from_millis(50);

/// Figures older than this are marked stale on the status line.
pub const STALE_AFTER: Duration = Duration::from_millis(1_500);

/// After every node refused the event stream, the next round starts this much later.
pub const STREAM_RETRY: Duration = Duration::from_millis(250);

/// A node from which a stream brings nothing for this time, not even a ping, stands still: the
/// next one is asked. Pings come every 5 s, and came every 15 s from earlier programs, which may
/// serve beside this one during an upgrade.
pub const STREAM_SILENCE: Duration = Duration::from_secs(31);

/// A notice (outcome of an action) stays this long on the status line.
pub const NOTICE_TIME: Duration = Duration::from_secs(6);

/// Longest answer that is read; a longer one is an error.
pub const ANSWER_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Longest event that is read; a longer one ends the stream.
pub const EVENT_BYTES_MAX: usize = 1024 * 1024;

/// Largest site file.
pub const SITE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Largest file of extensions to import; larger ones are refused unread.
pub const EXTENSIONS_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Largest file a site file names.
pub const ATTACHMENT_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// Largest sum of the files a site file names.
pub const ATTACHMENTS_BYTES_MAX: u64 = 128 * 1024 * 1024;

/// Largest token or CA file.
pub const SECRET_BYTES_MAX: u64 = 64 * 1024;

/// Nodes tried; further URLs are refused.
pub const ENDPOINTS_MAX: usize = 32;

/// Longest filter; further letters are not taken.
pub const FILTER_CHARS_MAX: usize = 64;

/// Messages waiting for the console's loop; senders wait beyond it.
pub const MESSAGES_MAX: usize = 256;

/// A node further behind the leader than this is reported by `doctor`.
pub const LAG_MAX: u64 = 1_000;

/// How often `doctor` asks again while nodes stand at different entries, because
/// hashes compare only at the same entry.
pub const HASH_ROUNDS: u32 = 5;

/// Pause between those rounds.
pub const HASH_PAUSE: Duration = Duration::from_millis(120);

/// How often `node drain` looks how many calls the node has.
pub const DRAIN_LOOK: Duration = Duration::from_millis(100);

/// Smallest terminal the console draws on.
pub const TERMINAL_MIN: (u16, u16) = (60, 12);

/// Customers sent at once; the exchange takes no more.
pub const IMPORT_ROWS: usize = 1_000;

/// An import tries this long to find a node that takes its rows before it gives up.
pub const IMPORT_PATIENCE: Duration = Duration::from_secs(60);

/// Between two attempts of an import.
pub const IMPORT_RETRY: Duration = Duration::from_millis(500);
