//! Places kept for callers who left a queue without an answer, so that calling again soon
//! takes up the same place.

use serde::{Deserialize, Serialize};

use crate::call::Caller;
use crate::ids::{QueueName, TenantId};
use crate::time::TimeMs;

/// Whose place: tenant, queue, and the number he calls from.
pub type PlaceKey = (TenantId, QueueName, String);

/// A place nobody stands in until its owner calls again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlaceRow {
    /// Whose.
    pub tenant: TenantId,
    /// In which queue.
    pub queue: QueueName,
    /// The number that takes it up again.
    pub number: String,
    /// The place.
    pub order: u64,
    /// From when on the wait counted there.
    pub since: TimeMs,
    /// Until when it is kept.
    pub until: TimeMs,
}

impl PlaceRow {
    /// Its key.
    pub fn key(&self) -> PlaceKey {
        (self.tenant.clone(), self.queue.clone(), self.number.clone())
    }
}

/// How many of `len` places in order lie before one. Both ends are counted towards it, so
/// that it costs no more than the shorter way: who comes last is found at once.
pub fn ahead(len: usize, mut before: impl Iterator, mut from: impl Iterator) -> usize {
    let mut counted = 0;
    loop {
        if before.next().is_none() {
            return counted;
        }
        if from.next().is_none() {
            return len - counted;
        }
        counted += 1;
    }
}

/// The number a caller is known by when calling again; `None` for one who shows none, since
/// all of those look alike.
pub fn known_by(from: &Caller) -> Option<String> {
    if let Some(number) = from.e164 {
        return Some(number.to_string());
    }
    let digits = from.number.strip_prefix('+').unwrap_or(&from.number);
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    (is_number || from.extension.is_some()).then(|| from.number.clone())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn places_ahead_are_counted_from_either_end() {
        let places: BTreeSet<u32> = (0..40).map(|n| n * 2).collect();
        for at in 0..81 {
            let counted = ahead(places.len(), places.range(..at), places.range(at..));
            assert_eq!(counted, places.range(..at).count(), "before {at}");
        }
    }
}
