//! Every bound of the engine in one place, with its reason and what happens at the bound.

use std::time::Duration;

/// Worker threads. More than this is a configuration mistake; `start` refuses it.
pub const WORKERS_MAX: usize = 64;

/// Legs one worker serves. At the bound `open` answers `TooManyLegs`.
pub const LEGS_PER_WORKER_MAX: usize = 16_384;

/// Commands waiting at one worker. At the bound whoever says how a leg is to be waits for a round
/// of the worker; opening, playing, digits and statistics are refused with `Overloaded`.
pub const COMMAND_QUEUE: usize = 8_192;

/// Commands a worker takes per round, so that a burst of signalling cannot delay audio.
pub const COMMANDS_PER_ROUND: usize = 256;

/// How long ports are kept for legs to be taken over with them; what was not until then is not.
pub const PORTS_KEPT: Duration = Duration::from_secs(60);

/// Events waiting for the receiver. At the bound they go to the worker's backlog.
pub const EVENT_QUEUE: usize = 16_384;

/// Events one worker keeps back while the queue is full. At the bound they are lost and counted.
pub const EVENT_BACKLOG: usize = 4_096;

/// Datagrams read or written by one system call.
pub const BATCH: usize = 16;

/// Batches read from one socket in one round; the rest waits, so that a flood on one port
/// cannot starve the other legs.
pub const BATCHES_PER_ROUND: usize = 4;

/// Largest datagram read. Longer ones are dropped as malformed.
pub const DATAGRAM_MAX: usize = 1_500;

/// Audio that has waited longer than this for its worker is not relayed: whoever stood still
/// for so long does not play out what he missed.
pub const AUDIO_AGE_MAX: Duration = Duration::from_millis(200);

/// While others may have taken this node's calls over: a phone that talked steadily and has
/// sent nothing for so long talks to its new owner, and is sent nothing more from here.
pub const YIELD_AFTER: Duration = Duration::from_millis(200);

/// Packets without such a pause from which on a phone talks steadily: a second of them. Who
/// suppresses silence pauses sooner.
pub const STEADY_PACKETS: u32 = 50;

/// Sockets reported by one poll.
pub const POLL_EVENTS: usize = 512;

/// Local addresses with a port pool of their own. At the bound idle pools are forgotten first,
/// then `open` answers `TooManyAddresses`.
pub const LOCAL_ADDRESSES_MAX: usize = 256;

/// Ports tried by one `open` when other processes hold some of the pool.
pub const BIND_TRIES: usize = 64;

/// Bytes of a WAV file. Half an hour of 48 kHz stereo; larger files are refused.
pub const WAV_BYTES_MAX: usize = 384 << 20;

/// Length of a clip in seconds; longer files are refused. 16 kB of PCM per second are held.
pub const CLIP_SECONDS_MAX: u32 = 1_800;

/// Digits waiting to be sent on one leg. At the bound further ones are dropped and counted.
pub const DIGIT_QUEUE: usize = 64;

/// Longest digit sent. One RFC 4733 segment holds 8.19 s; longer wishes are cut.
pub const DIGIT_MS_MAX: u32 = 8_000;

/// Shortest digit sent; shorter ones are missed by common receivers (ITU-T Q.24: 40 ms).
pub const DIGIT_MS_MIN: u32 = 40;

/// Silence between two digits sent (ITU-T Q.24 asks for 40 ms or more).
pub const DIGIT_PAUSE_MS: u32 = 60;

/// An event whose end packets were all lost counts as ended after this long without a packet.
/// Senders repeat the event every 20 to 50 ms.
pub const DIGIT_TIMEOUT: Duration = Duration::from_millis(200);

/// Resolution of the sending schedule. Frames are multiples of it.
pub const TICK: Duration = Duration::from_millis(5);

/// Ticks a worker catches up with; after a longer stall the schedule starts anew, because a
/// burst of late frames would only overflow the phone's jitter buffer.
pub const TICKS_LATE_MAX: u64 = 20;

/// Period of the slow round: silence, lost ends of digits, RTCP.
pub const SLOW_ROUND: Duration = Duration::from_millis(50);

/// Between two RTCP reports of one leg (RFC 3550 §6.2 minimum).
pub const RTCP_INTERVAL: Duration = Duration::from_secs(5);

/// Longest wait for a worker's answer to a question.
pub const ANSWER_WAIT: Duration = Duration::from_secs(2);
