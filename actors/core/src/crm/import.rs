//! How far an import of customers has come, kept as a row so that it can go on after
//! anything: another command line, another node, a restart.

use serde::{Deserialize, Serialize};

use crate::ids::TenantId;
use crate::time::TimeMs;

/// An import.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportRow {
    /// Whose customers.
    pub tenant: TenantId,
    /// Chosen by whoever imports; the same file has the same id.
    pub id: String,
    /// Rows dealt with: the offset the next batch begins at.
    pub next: u64,
    /// Customers made.
    pub created: u64,
    /// Customers changed.
    pub updated: u64,
    /// Customers who were like this already.
    pub unchanged: u64,
    /// Rows refused.
    pub rejected: u64,
    /// When it began.
    pub began_at: TimeMs,
    /// When the last batch was committed.
    pub updated_at: TimeMs,
    /// When the last row was dealt with.
    pub ended_at: Option<TimeMs>,
}

impl ImportRow {
    /// An import that has not begun.
    pub fn new(tenant: TenantId, id: String, now: TimeMs) -> Self {
        Self {
            tenant,
            id,
            next: 0,
            created: 0,
            updated: 0,
            unchanged: 0,
            rejected: 0,
            began_at: now,
            updated_at: now,
            ended_at: None,
        }
    }
}

/// A line that was not taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reject {
    /// Line of the file, from 1.
    pub line: u64,
    /// Why.
    pub reason: String,
}
