//! Every bound of the signalling library, with what happens when it is reached.
//!
//! Nothing from the network may grow a table, queue or message past one of these.

use std::time::Duration;

/// Largest message accepted, start line to end of body. A larger datagram cannot exist; a
/// larger stream frame closes its connection.
pub const MESSAGE_BYTES_MAX: usize = 65_535;
/// Most header fields of one message; more is answered 400.
pub const HEADERS_MAX: usize = 128;
/// Longest single header value; more is answered 400.
pub const HEADER_BYTES_MAX: usize = 8_192;
/// Most Via entries looked at; more is answered 400 (a loop would have died by Max-Forwards).
pub const VIAS_MAX: usize = 70;
/// Most Route or Record-Route entries kept in a dialog; more is answered 400.
pub const ROUTES_MAX: usize = 20;
/// Most Contact entries of one REGISTER; more is answered 400.
pub const CONTACTS_MAX: usize = 32;
/// Most media descriptions of one SDP; more is refused with 488.
pub const SDP_MEDIA_MAX: usize = 16;
/// Most lines of one SDP; more is refused with 488.
pub const SDP_LINES_MAX: usize = 512;
/// Live transactions of one endpoint. Past it new requests get a stateless 503.
pub const TRANSACTIONS_MAX: usize = 262_144;
/// Live legs of one endpoint. Past it new calls are refused with 503.
pub const LEGS_MAX: usize = 65_536;
/// Shards of the transaction and leg tables; a power of two.
pub const SHARDS: usize = 16;
/// TCP connections of one endpoint. Past it the newest is closed at once.
pub const CONNECTIONS_MAX: usize = 16_384;
/// TCP connections from one remote address, unless trusted.
pub const CONNECTIONS_PER_SOURCE_MAX: usize = 256;
/// Messages waiting to be written to one TCP connection; the next one is dropped and counted.
pub const WRITE_QUEUE_MAX: usize = 256;
/// Silence after which a TCP connection is closed.
pub const CONNECTION_IDLE_MAX: Duration = Duration::from_secs(3_600);
/// A connection must complete its first message, or any message once begun, within this time.
pub const FRAME_TIME_MAX: Duration = Duration::from_secs(32);
/// Time allowed for an outgoing TCP connection.
pub const CONNECT_TIME_MAX: Duration = Duration::from_secs(4);
/// Source addresses remembered by the rate limiter. When full, idle ones are forgotten; if none
/// is idle, unknown sources share one bucket.
pub const RATE_SOURCES_MAX: usize = 65_536;
/// Datagrams read from one socket before other tasks get a turn.
pub const RECEIVE_BATCH_MAX: usize = 64;
/// How long a leg whose 2xx crossed our CANCEL waits for its owner to end it. An owner who has
/// something to say first takes 5 s at most.
pub const CROSSED_MAX: Duration = Duration::from_secs(6);
/// How often a re-INVITE refused with 491 or 500 is tried again.
pub const GLARE_RETRIES_MAX: u32 = 4;
/// How often an INVITE refused with 422 is tried again with a longer session interval.
pub const SESSION_RETRIES_MAX: u32 = 4;
/// Further 2xx answers (forks) of one INVITE that are acknowledged and ended.
pub const FORKS_MAX: usize = 8;
/// Shortest session interval accepted (RFC 4028 §4).
pub const SESSION_INTERVAL_MIN_S: u32 = 90;
/// Longest session interval. A longer one that a peer asks for is shortened; one that its 422
/// names makes that a refusal like any other.
pub const SESSION_INTERVAL_MAX_S: u32 = 86_400;
/// Age after which a digest nonce is stale.
pub const NONCE_AGE_MAX: Duration = Duration::from_secs(300);
/// Nonces remembered for the replay check, none longer than [`NONCE_AGE_MAX`]; past it the oldest
/// are forgotten first.
pub const NONCES_MAX: usize = 65_536;
/// Requests that wait in one leg for their turn (INFO, OPTIONS); the next is refused.
pub const LEG_REQUESTS_MAX: usize = 32;
/// Requests and provisional responses one leg takes from its peer at once, BYE and ACK apart.
/// The next request is answered 503, the next provisional response dropped; both are counted.
pub const LEG_BURST_MAX: u32 = 64;
/// As many more of them each second. Digits dialled by INFO come at ten a second at most.
pub const LEG_RATE_MAX: u32 = 20;
/// How long the answers to what came before may still leave on a TCP connection whose stream
/// broke.
pub const BROKEN_LINGER: Duration = Duration::from_millis(250);
/// Time allowed to write what is queued on a TCP connection that is being closed.
pub const FLUSH_TIME_MAX: Duration = Duration::from_secs(1);
