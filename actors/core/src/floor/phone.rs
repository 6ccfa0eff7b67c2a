//! Phones that do not answer: registered or fixed, but silent to OPTIONS or INVITE.
//!
//! Only a change is committed. A row stands for a phone that fails; one that answers has
//! none.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::{AgentId, Extension, TenantId};
use crate::time::TimeMs;

/// A phone that is checked, by the entry of the site file it belongs to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum PhoneName {
    /// The phones of an extension.
    Extension(Extension),
    /// An agent's fixed device.
    Agent(AgentId),
}

impl fmt::Display for PhoneName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Extension(extension) => write!(out, "extension {extension}"),
            Self::Agent(agent) => write!(out, "agent {agent}"),
        }
    }
}

/// A phone that fails.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailingRow {
    /// Whose phone.
    pub tenant: TenantId,
    /// The phone.
    pub phone: PhoneName,
    /// What it said last; 408 for nothing.
    pub status: u16,
    /// Since when.
    pub since: TimeMs,
}

impl FailingRow {
    /// Why, in words.
    pub fn why(&self) -> String {
        match self.status {
            408 => String::from("phone does not answer"),
            status => format!("phone answers {status}"),
        }
    }
}
