//! Proposing typed commands and reading typed replies.

use std::time::Duration;

use strowger_core::ports::{Outcome, RequestId, SharedProposer};
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
    Unknown(RequestId),
    /// It was asked again too late for anybody to know what came of it.
    #[error("the outcome is not known any more")]
    Forgotten,
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
        let outcome = self.proposer.propose(encode_command(command), deadline);
        read(outcome.await)
    }

    /// Proposes `command` again, of which [`DeskError::Unknown`] was said: it is taken once.
    pub async fn propose_again(
        &self,
        request: RequestId,
        command: &Command,
        deadline: Duration,
    ) -> Result<Reply, DeskError> {
        let command = encode_command(command);
        let outcome = self.proposer.propose_again(request, command, deadline);
        read(outcome.await)
    }

    /// Sees to it that nothing comes of `request` later than this: whatever else arrives under
    /// its id is a repetition. Its reply, or [`Reply::Done`] when it was never committed.
    pub async fn withdraw(
        &self,
        request: RequestId,
        deadline: Duration,
    ) -> Result<Reply, DeskError> {
        // A tick does nothing that would not be done anyway.
        let nothing = encode_command(&Command::Tick);
        let outcome = self.proposer.propose_again(request, nothing, deadline);
        read(outcome.await)
    }
}

fn read(outcome: Outcome) -> Result<Reply, DeskError> {
    match outcome {
        Outcome::Committed(reply) => match decode_reply(&reply) {
            Some(Reply::Refused(Refusal::Forgotten)) => Err(DeskError::Forgotten),
            reply => reply.ok_or(DeskError::Unreadable),
        },
        Outcome::NoQuorum => Err(DeskError::NoQuorum),
        Outcome::Unknown(request) => Err(DeskError::Unknown(request)),
    }
}
