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
