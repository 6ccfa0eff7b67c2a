//! What one run consists of: all of it follows from the seed.

use crate::chance::Chance;

/// One run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The seed everything is drawn from.
    pub seed: u64,
    /// Nodes.
    pub nodes: u64,
    /// How long there are new callers and faults, ms.
    pub busy_ms: u64,
    /// Longest pause between two callers, ms.
    pub call_every_ms: u64,
    /// Longest pause between two faults, ms.
    pub fault_every_ms: u64,
    /// A kill at this very interval, ms, and no other fault.
    pub kill_every_ms: Option<u64>,
    /// Of a thousand messages between phones and exchange, so many are lost once.
    pub lost: u64,
    /// Entries of the log kept behind the last one; who is further behind gets a snapshot.
    pub log_kept: u64,
    /// Agents of the site.
    pub agents: u64,
    /// Keep every line of the trace.
    pub whole_trace: bool,
}

impl Plan {
    /// The short run of a seed: some two minutes under faults, then calm.
    pub fn short(seed: u64) -> Self {
        let mut chance = Chance::new(seed ^ 0xA5A5);
        Self {
            seed,
            nodes: if chance.once_in(150) { 5 } else { 3 },
            busy_ms: chance.within(60_000, 150_000),
            call_every_ms: chance.span(300, 4_000),
            fault_every_ms: chance.span(2_000, 40_000),
            kill_every_ms: None,
            lost: *chance.pick(&[0, 10, 50, 150]).unwrap_or(&0),
            log_kept: chance.span(20, 2_000),
            agents: chance.within(2, 10),
            whole_trace: false,
        }
    }

    /// The long run: so many hours with a kill at every fifth minute.
    pub fn long(seed: u64, hours: u64) -> Self {
        Self {
            busy_ms: hours * 3_600_000,
            call_every_ms: 12_000,
            fault_every_ms: u64::MAX,
            kill_every_ms: Some(300_000),
            nodes: 3,
            agents: 8,
            ..Self::short(seed)
        }
    }
}
