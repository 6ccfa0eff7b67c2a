//! Every bound of this crate, with its reason and what happens at the limit.

/// Due deadlines expired by one `Tick`; the rest follow with the next one, so that a
/// burst cannot hold up call control.
pub const EXPIRED_PER_TICK: usize = 256;

/// Replies kept per proposer. A retry older than this is refused as stale; a proposer
/// has far fewer requests under way.
pub const REPLIES_PER_PROPOSER: usize = 1_024;

/// Contacts per extension; a REGISTER that would exceed it is refused with 403.
pub const BINDINGS_PER_EXTENSION: usize = 10;

/// Legs rung at once for one extension or agent; further contacts are left out.
pub const FORKS_PER_CALL: usize = BINDINGS_PER_EXTENSION;

/// Adverts one caller hears in one queue; further keys mean nothing.
pub const ADVERTS_PER_VISIT: u32 = 100;

/// Places kept in all queues for callers who left; further ones are not kept, so that a
/// flood of calls that leave at once grows nothing.
pub const PLACES_KEPT: usize = 10_000;

/// Callbacks that stand in all queues; the key means nothing beyond them.
pub const CALLBACKS: usize = 10_000;

/// Queues a call may leave for another destination; then it ends, for it is sent round.
pub const EXITS_PER_CALL: usize = 8;

/// Legs in the row of a call. When it is full, the oldest legs that were rung in vain
/// leave it, so that a caller may wait as long as he likes.
pub const LEGS_PER_CALL: usize = 512;

/// Agents rung at once for one caller by the strategy ring-all; further ones are left
/// out, or a large team would fill the row with its first offer.
pub const RING_ALL_AGENTS: usize = 64;

/// So many calls of a queue at least, and twice as many at most, say how fast it moves: few
/// enough to follow the day, enough that one long call does not show.
pub const PACE_CALLS: u64 = 64;

/// Blocks in which the turns before a caller are summed up.
pub const PACE_BLOCKS: u128 = 16;

/// Of the queues an agent serves, so many are looked at for callers who compete for him: the
/// work to find them grows with the square.
pub const RIVALS_PER_AGENT: usize = 16;

/// How long the phones of a dialled extension ring before the caller gets 480, ms.
pub const EXTENSION_RING_MS: u64 = 60_000;

/// How long an agent who missed a caller is surely not asked for that caller again, ms,
/// even when nobody else is at work: short enough that a caller does not wait beside the
/// only one.
pub const MISSED_SKIP_MS: u64 = 5_000;

/// How long an agent whose phone failed is left in peace, ms.
pub const UNREACHABLE_MS: u64 = 10_000;

/// How long the owner may take to clear the legs of an ended call before the call is
/// closed without them, ms: longer than the longest SIP transaction (32 s).
pub const CLEARING_MS: u64 = 40_000;

/// How long events can be read again, ms.
pub const EVENTS_KEPT_MS: u64 = 24 * 3_600_000;

/// Old events removed at once, every [`EVENTS_PRUNE_EVERY_MS`].
pub const EVENTS_PRUNED_PER_TICK: usize = 8_192;

/// Longest lifetime of a binding, s; a longer wish is shortened.
pub const REGISTRATION_S_MAX: u32 = 7_200;

/// Shortest lifetime of a binding, s; below it REGISTER gets 423.
pub const REGISTRATION_S_MIN: u32 = 10;

/// When the rest of the old events is looked for after a full removal, ms: so that
/// removing keeps up with a busy floor.
pub const EVENTS_PRUNE_AGAIN_MS: u64 = 1_000;

/// Quarters of an hour an agent's unbroken time in one state is spread over when it is
/// counted; what is older counts in the oldest of them. Four days: longer than any shift,
/// and a bound on what one change of state writes.
pub const QUARTERS_PER_SPAN: usize = 4 * 96;

/// Target of the service level of a queue that is no more in the site, ms.
pub const SL_TARGET_MS: u64 = 20_000;

/// Short abandons of a queue that is no more in the site, ms.
pub const SHORT_ABANDON_MS: u64 = 5_000;

/// How often old events are looked for, ms.
pub const EVENTS_PRUNE_EVERY_MS: u64 = 60_000;

/// Bytes of a customer's id; a longer one is refused.
pub const CUSTOMER_ID_BYTES: usize = 64;

/// Bytes of a customer's name, tier, tag or name of a field; a longer one is refused.
pub const CUSTOMER_NAME_BYTES: usize = 256;

/// Bytes of the text of one field; a longer one is refused.
pub const CUSTOMER_FIELD_BYTES: usize = 1_024;

/// Numbers of one customer; more are refused.
pub const CUSTOMER_NUMBERS: usize = 16;

/// Tags of one customer; more are refused.
pub const CUSTOMER_TAGS: usize = 32;

/// Fields of one customer; more are refused.
pub const CUSTOMER_FIELDS: usize = 64;

/// Bytes of all texts of one customer; more are refused, so that a card is read at once.
pub const CUSTOMER_BYTES: usize = 8_192;

/// Customers looked at for one number of a caller; of a number that more have, the first
/// by id are candidates.
pub const CUSTOMERS_PER_NUMBER: usize = 16;

/// Rows of one import command; a larger one is refused. Bounds how long call control
/// waits behind it.
pub const IMPORT_ROWS: usize = 500;

/// Refused lines kept of one import; further ones are only counted.
pub const IMPORT_REJECTS: u64 = 10_000;

/// Bytes of an import's id, and of why a line was refused; longer ones are cut or refused.
pub const IMPORT_TEXT_BYTES: usize = 256;

/// Imports kept per tenant; a new one takes the place of the one unchanged longest.
pub const IMPORTS_KEPT: usize = 32;

/// Contacts removed by one command that removes a customer; the next one goes on.
pub const INTERACTIONS_REMOVED: usize = 1_000;

/// Destinations one call may try beyond the exchange; a longer list is not tried to its
/// end. A caller who has waited for this many is better told so.
pub const TRUNK_ATTEMPTS: usize = 16;

/// How long the channel of a call that was lost with its node stays taken while nobody
/// has heard a final answer of its far end, ms. With the time it takes to notice the death
/// this is below 5 s.
pub const LEFTOVER_MS: u64 = 4_500;

/// Letters of a skill rule; a longer one is refused with its line.
pub const SKILL_RULE_BYTES: usize = 512;

/// Brackets within brackets of a skill rule.
pub const SKILL_RULE_DEPTH: usize = 16;

/// Steps that widen who may serve a queue; more are refused with their line.
pub const RELAX_STEPS: usize = 8;

/// By how much an agent's wrap-up grows with each extension by phone, ms.
pub const WRAP_EXTENSION_MS: u64 = 60_000;

/// How long wrap-up may still last after an extension, ms.
pub const WRAP_MAX_MS: u64 = 3_600_000;

/// Highest and lowest score that can be given to a caller.
pub const PRIORITY_MAX: i64 = 1_000_000;

/// Bytes of an encoded explanation, so that each assignment can have one for ever.
pub const EXPLANATION_BYTES: usize = 2_048;

/// Agents looked at for the exclusions an explanation names; the others are counted.
pub const EXPLAINED_AGENTS: usize = 64;

/// How long a caller is told something before the call ends all the same, ms: longer than
/// anything that is said.
pub const TELLING_MS: u64 = 60_000;

/// How long hours may be opened or closed by hand, ms: a year.
pub const OVERRIDE_MAX_MS: u64 = 366 * 24 * 3_600_000;

/// How often hours that nobody has worked out any further are looked at, ms: they go by the
/// week before, and when they open is not known.
pub const HOURS_LOOK_MS: u64 = 60_000;
