//! Events: what happened, in log order, for whoever watches.

use serde::{Deserialize, Serialize};

use crate::time::TimeMs;

/// A value in an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Value {
    /// A text.
    Text(String),
    /// A number.
    Number(u64),
    /// Nothing.
    Absent,
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

impl<T: Into<Self>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Absent, Into::into)
    }
}

/// An event as stored, under the key (log index, position) big-endian.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventRow {
    /// Time of the commit.
    pub at: TimeMs,
    /// Such as `call.arrived`.
    pub kind: String,
    /// Id of the thing it is about.
    pub entity: String,
    /// Further fields.
    pub fields: Vec<(String, Value)>,
}

/// Key of the `n`th event of the entry at `index`.
pub fn event_key(index: u64, n: u32) -> [u8; 12] {
    let mut key = [0u8; 12];
    let (high, low) = key.split_at_mut(8);
    high.copy_from_slice(&index.to_be_bytes());
    low.copy_from_slice(&n.to_be_bytes());
    key
}

/// The (index, n) of an event key.
pub fn event_position(key: &[u8]) -> Option<(u64, u32)> {
    let (index, n) = key.split_at_checked(8)?;
    Some((
        u64::from_be_bytes(index.try_into().ok()?),
        u32::from_be_bytes(n.try_into().ok()?),
    ))
}
