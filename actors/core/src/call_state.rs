//! What a call is doing, in one word.

use serde::{Deserialize, Serialize};

/// What a call is doing, as lists name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "api", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum CallState {
    /// Phones of the dialled party ring.
    Ringing,
    /// It waits in a queue.
    Queued,
    /// It rings at an agent.
    Offered,
    /// Two parties talk.
    Bridged,
    /// One of two parties holds the other.
    Held,
    /// The caller is being told something.
    Announcing,
    /// The customer of a callback is dialled.
    Dialling,
    /// It is over; far ends are being told.
    Clearing,
}

impl CallState {
    /// The word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ringing => "ringing",
            Self::Queued => "queued",
            Self::Offered => "offered",
            Self::Bridged => "bridged",
            Self::Held => "held",
            Self::Announcing => "announcing",
            Self::Dialling => "dialling",
            Self::Clearing => "clearing",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_the_description() {
        let all = [
            CallState::Ringing,
            CallState::Queued,
            CallState::Offered,
            CallState::Bridged,
            CallState::Held,
            CallState::Announcing,
            CallState::Dialling,
            CallState::Clearing,
        ];
        for state in all {
            let described = serde_json::to_value(state).expect("a word");
            assert_eq!(described, state.word());
        }
    }
}
