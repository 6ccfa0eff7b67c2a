//! Proposing typed commands and reading typed replies.

use std::time::Duration;

use strowger_core::ports::{Outcome, SharedProposer};
use strowger_core::state::command::{Command, Refusal, Reply};
use strowger_core::state::machine::{decode_reply, encode_command};

/// Why a command has no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeskError {
    /// No majority could be reached; the command was not taken.
    #[error("no majority of the nodes can be reached")]
    NoQuorum,
    /// The deadline passed; the command may or may not have been taken.
    #[error("the outcome is not known yet")]
    Unknown,
    /// The reply is of a newer version.
    #[error("the reply cannot be read")]
    Unreadable,
}

/// Where commands are handed in. Cheap to clone.
#[derive(Clone)]
pub struct Desk {
    proposer: SharedProposer,
}

impl Desk {
    /// A desk in front of `proposer`.
    pub fn new(proposer: SharedProposer) -> Self {
        Self { proposer }
    }

    /// Proposes `command` and waits for its reply, at most `deadline`.
    pub async fn propose(&self, command: &Command, deadline: Duration) -> Result<Reply, DeskError> {
        match self
            .proposer
            .propose(encode_command(command), deadline)
            .await
        {
            // Asked again too late for anybody to know what came of it.
            Outcome::Committed(reply) => match decode_reply(&reply) {
                Some(Reply::Refused(Refusal::Forgotten)) => Err(DeskError::Unknown),
                reply => reply.ok_or(DeskError::Unreadable),
            },
            Outcome::NoQuorum => Err(DeskError::NoQuorum),
            Outcome::Unknown(_) => Err(DeskError::Unknown),
        }
    }
}
