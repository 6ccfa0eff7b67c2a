//! What a call's owner has seen and not committed yet, in order.

use std::time::Duration;

use strowger_core::ids::{CallId, LegId};
use strowger_core::state::command::{Command, Late, Observation};
use tokio::time::Instant;

/// The feature level from which on a proposal may say how long ago something was seen.
const AGES_FROM: u32 = 2;

/// From this age on it is said. Below, the time of the commit is the time of what was seen.
const AGE_MIN: Duration = Duration::from_millis(500);

/// Something seen.
#[derive(Clone, Debug)]
pub struct Noted {
    at: Instant,
    observation: Observation,
}

/// Observations not yet committed; the first of them may be under way.
#[derive(Default)]
pub struct Outbox {
    noted: Vec<Noted>,
    in_flight: usize,
}

impl Outbox {
    /// Notes what was seen now.
    pub fn push(&mut self, observation: Observation) {
        self.noted.push(Noted::now(observation));
    }

    /// True while a proposal is under way.
    pub fn is_under_way(&self) -> bool {
        self.in_flight > 0
    }

    /// True when nothing waits and nothing is under way.
    pub fn is_empty(&self) -> bool {
        self.noted.is_empty()
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.noted.len()
    }

    /// Forgets all after the first `len` but ends of legs.
    pub fn truncate(&mut self, len: usize) {
        let mut place = 0;
        self.noted.retain(|one| {
            place += 1;
            place <= len || one.is_end()
        });
    }

    /// Keys that wait.
    pub fn keys(&self) -> usize {
        let key = |one: &&Noted| matches!(one.observation, Observation::KeyPressed { .. });
        self.noted.iter().filter(key).count()
    }

    /// The proposal of all that waits, which is under way from now on.
    pub fn propose(&mut self, call: CallId, epoch: u32, level: u32) -> Command {
        self.in_flight = self.noted.len();
        command(call, epoch, &self.noted, level)
    }

    /// The proposal has come back; what it held is gone when it was merged. The legs whose end
    /// it held and that are known to have ended now.
    pub fn returned(&mut self, merged: bool) -> Vec<LegId> {
        let sent = std::mem::take(&mut self.in_flight);
        let sent = if merged { sent } else { 0 };
        let merged = self.noted.drain(..sent.min(self.noted.len()));
        merged.filter_map(|one| one.ended()).collect()
    }

    /// Empties it, and knows of no proposal any more: what stays true whoever has the call,
    /// and may be said once more.
    pub fn pass_on(&mut self) -> Vec<Noted> {
        let under_way = std::mem::take(&mut self.in_flight);
        let left = self.noted.drain(..).enumerate();
        // An end is merged twice without harm; a key under way would be pressed twice.
        let once_more = |at: usize, one: &Noted| one.is_end() || at >= under_way;
        left.filter(|(at, one)| one.observation.outlives_owner() && once_more(*at, one))
            .map(|(_, one)| one)
            .collect()
    }
}

impl Noted {
    /// What was seen now.
    pub fn now(observation: Observation) -> Self {
        let at = Instant::now();
        Self { at, observation }
    }

    /// True for the end of a leg.
    pub fn is_end(&self) -> bool {
        self.ended().is_some()
    }

    fn ended(&self) -> Option<LegId> {
        match self.observation {
            Observation::LegEnded { leg, .. } => Some(leg),
            _ => None,
        }
    }
}

/// Observations of a call as they are proposed while this feature level is in force.
pub fn command(call: CallId, epoch: u32, noted: &[Noted], level: u32) -> Command {
    let late = level >= AGES_FROM && noted.iter().any(|one| one.at.elapsed() >= AGE_MIN);
    let seen = noted.iter().cloned();
    if late {
        let observations = seen.map(|one| Late {
            age_ms: u64::try_from(one.at.elapsed().as_millis()).unwrap_or(u64::MAX),
            observation: one.observation,
        });
        Command::CallObservedLate {
            call,
            epoch,
            observations: observations.collect(),
        }
    } else {
        Command::CallObserved {
            call,
            epoch,
            observations: seen.map(|one| one.observation).collect(),
        }
    }
}
