//! From a command to a committed reply, from any node.
//!
//! A pump gathers what waits into entries (on the leader) or into one request to the
//! leader (elsewhere); a few are under way at once, and what arrives meanwhile gathers.
//! A proposal is retried with the same request id until its deadline; `NoQuorum` is
//! answered only when no attempt can have been appended.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use openraft::errors::{ClientWriteError, RaftError};
use serde::{Deserialize, Serialize};
use strowger_core::ports::{Outcome, Proposal, RequestId};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::Instant;

use crate::core::Core;
use crate::error::CallError;
use crate::limits;
use crate::raft::{Data, OwnCommand, OwnReply, Payload, Replies};
use crate::transport::wire::Kind;

/// What became of one attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// Applied at this index with this reply.
    Applied(u64, Vec<u8>),
    /// Surely not appended.
    NotAppended,
    /// Perhaps appended.
    Uncertain,
}

/// A proposal waiting for its turn.
pub struct Waiting {
    proposal: Proposal,
    /// Came from another node, so it is never forwarded again.
    forwarded: bool,
    state: Arc<AtomicU8>,
    tell: oneshot::Sender<Answer>,
}

const QUEUED: u8 = 0;
const SENT: u8 = 1;
const GIVEN_UP: u8 = 2;

/// One attempt on the leader may take this long before it counts as uncertain.
const ATTEMPT_MAX: Duration = Duration::from_secs(2);

/// Between two attempts while nobody leads; a change of leader ends it early.
const RETRY_PAUSE: Duration = Duration::from_millis(20);

impl Core {
    /// Proposes until applied or until `deadline` has passed. The index is that of the
    /// entry, 0 unless committed.
    pub async fn propose(&self, command: Vec<u8>, deadline: Duration) -> (Outcome, u64) {
        let until = Instant::now() + deadline;
        let sequence = self.sequence.fetch_add(1, Ordering::Relaxed) + 1;
        let request = RequestId {
            node: self.node,
            incarnation: self.incarnation,
            sequence,
        };
        if command.len() > limits::COMMAND_BYTES_MAX {
            tracing::error!(bytes = command.len(), "a command exceeds the limit");
            return (Outcome::NoQuorum, 0);
        }
        self.propose_as(Proposal { request, command }, until).await
    }

    /// Proposes `command` under the id of an earlier proposal.
    pub async fn propose_again(
        &self,
        request: RequestId,
        command: Vec<u8>,
        deadline: Duration,
    ) -> Outcome {
        let until = Instant::now() + deadline;
        match self
            .propose_as(Proposal { request, command }, until)
            .await
            .0
        {
            // This round appended nothing, but an earlier one may have.
            Outcome::NoQuorum => Outcome::Unknown(request),
            outcome => outcome,
        }
    }

    async fn propose_as(&self, proposal: Proposal, until: Instant) -> (Outcome, u64) {
        let request = proposal.request;
        let mut perhaps = false;
        loop {
            match self.attempt(proposal.clone(), false, until).await {
                Answer::Applied(index, reply) => return (Outcome::Committed(reply), index),
                Answer::NotAppended => {}
                Answer::Uncertain => perhaps = true,
            }
            if Instant::now() + RETRY_PAUSE >= until || self.stop.is_cancelled() {
                let outcome = if perhaps {
                    Outcome::Unknown(request)
                } else {
                    Outcome::NoQuorum
                };
                return (outcome, 0);
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    /// One pass through the pump.
    async fn attempt(&self, proposal: Proposal, forwarded: bool, until: Instant) -> Answer {
        let (tell, answer) = oneshot::channel();
        let state = Arc::new(AtomicU8::new(QUEUED));
        let waiting = Waiting {
            proposal,
            forwarded,
            state: state.clone(),
            tell,
        };
        if self.pump.try_send(waiting).is_err() {
            return Answer::NotAppended;
        }
        match tokio::time::timeout_at(until, answer).await {
            Ok(Ok(answer)) => answer,
            // The pump or the deadline ended; what counts is whether it was sent.
            _ => {
                match state.compare_exchange(QUEUED, GIVEN_UP, Ordering::AcqRel, Ordering::Acquire)
                {
                    Ok(_) => Answer::NotAppended,
                    Err(_) => Answer::Uncertain,
                }
            }
        }
    }

    /// Answers proposals another node forwarded to us as leader.
    pub async fn propose_forwarded(&self, proposals: Vec<Proposal>) -> Vec<Answer> {
        let until = Instant::now() + ATTEMPT_MAX;
        let attempts = proposals
            .into_iter()
            .map(|proposal| self.attempt(proposal, true, until));
        futures_util::future::join_all(attempts).await
    }

    /// A command of the cluster itself, here or on the leader.
    pub async fn own(
        self: &Arc<Self>,
        command: OwnCommand,
        deadline: Duration,
    ) -> Option<OwnReply> {
        let until = Instant::now() + deadline;
        while Instant::now() < until {
            let reply = match self.leader() {
                Some(leader) if leader == self.node => self.own_here(command.clone()).await,
                Some(leader) => {
                    let asked = self.transport.ask::<_, Option<OwnReply>>(
                        leader,
                        Kind::Own,
                        &command,
                        ATTEMPT_MAX,
                    );
                    asked.await.ok().flatten()
                }
                None => None,
            };
            if reply.is_some() {
                return reply;
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
        None
    }

    /// A command of the cluster itself, on the leader.
    pub async fn own_here(&self, command: OwnCommand) -> Option<OwnReply> {
        let payload = Payload::Own {
            stamp_ms: self.clock.now_ms(),
            command,
        };
        let write = self.raft.client_write(Data(Arc::new(payload)));
        match tokio::time::timeout(ATTEMPT_MAX, write).await {
            Ok(Ok(written)) => written.data.own,
            _ => None,
        }
    }
}

/// Gathers what waits and sends it on, until the node closes.
pub async fn pump(core: Arc<Core>, mut queue: mpsc::Receiver<Waiting>) {
    let slots = Arc::new(Semaphore::new(limits::ENTRIES_IN_FLIGHT_MAX));
    loop {
        let first = tokio::select! {
            () = core.stop.cancelled() => return,
            first = queue.recv() => first,
        };
        let Some(first) = first else { return };
        let Ok(slot) = slots.clone().acquire_owned().await else {
            return;
        };
        let batch = gather(first, &mut queue, core.config.linger).await;
        tokio::spawn(dispatch(core.clone(), batch, slot));
    }
}

async fn gather(
    first: Waiting,
    queue: &mut mpsc::Receiver<Waiting>,
    linger: Duration,
) -> Vec<Waiting> {
    let mut bytes = first.proposal.command.len();
    let mut batch = vec![first];
    let until = Instant::now() + linger;
    while batch.len() < limits::PROPOSALS_PER_ENTRY_MAX && bytes < limits::ENTRY_BYTES_MAX {
        let next = match queue.try_recv() {
            Ok(next) => next,
            Err(_) if linger.is_zero() => break,
            Err(_) => match tokio::time::timeout_at(until, queue.recv()).await {
                Ok(Some(next)) => next,
                _ => break,
            },
        };
        bytes += next.proposal.command.len();
        batch.push(next);
    }
    batch
}

async fn dispatch(core: Arc<Core>, batch: Vec<Waiting>, slot: OwnedSemaphorePermit) {
    let leader = core.leader();
    let here = leader == Some(core.node);
    let mut sent = Vec::with_capacity(batch.len());
    for waiting in batch {
        let claimed =
            waiting
                .state
                .compare_exchange(QUEUED, SENT, Ordering::AcqRel, Ordering::Acquire);
        if claimed.is_err() {
            continue;
        }
        if waiting.forwarded && !here {
            drop(waiting.tell.send(Answer::NotAppended));
        } else {
            sent.push(waiting);
        }
    }
    let (proposals, tells): (Vec<Proposal>, Vec<_>) = sent
        .into_iter()
        .map(|waiting| (waiting.proposal, waiting.tell))
        .unzip();
    if proposals.is_empty() {
        return;
    }
    let count = proposals.len();
    let answers = match leader {
        Some(_) if here => append(&core, proposals).await,
        Some(leader) => forward(&core, leader, proposals).await,
        None => Err(Answer::NotAppended),
    };
    drop(slot);
    let answers = answers.unwrap_or_else(|all| vec![all; count]);
    for (tell, answer) in tells.into_iter().zip(answers) {
        // Whoever proposed may have given up.
        drop(tell.send(answer));
    }
}

/// Appends one entry on the leader and waits until it is applied.
async fn append(core: &Core, proposals: Vec<Proposal>) -> Result<Vec<Answer>, Answer> {
    if !core.may_lead() {
        return Err(Answer::NotAppended);
    }
    let count = proposals.len();
    let payload = Payload::Batch {
        stamp_ms: core.clock.now_ms(),
        proposals,
    };
    let write = core.raft.client_write(Data(Arc::new(payload)));
    match tokio::time::timeout(ATTEMPT_MAX, write).await {
        Ok(Ok(written)) => {
            let index = written.log_id.index;
            let Replies { replies, .. } = written.data;
            if replies.len() != count {
                tracing::error!(index, count, "the machine answered not every proposal");
                return Err(Answer::Uncertain);
            }
            Ok(replies
                .into_iter()
                .map(|reply| Answer::Applied(index, reply))
                .collect())
        }
        // The library promises that this error precedes the append.
        Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_)))) => {
            Err(Answer::NotAppended)
        }
        Ok(Err(_)) | Err(_) => Err(Answer::Uncertain),
    }
}

async fn forward(
    core: &Arc<Core>,
    leader: u64,
    proposals: Vec<Proposal>,
) -> Result<Vec<Answer>, Answer> {
    let count = proposals.len();
    let asked =
        core.transport
            .ask::<_, Vec<Answer>>(leader, Kind::Propose, &proposals, ATTEMPT_MAX);
    match asked.await {
        Ok(answers) if answers.len() == count => Ok(answers),
        Ok(_) | Err(CallError::Timeout(_)) => Err(Answer::Uncertain),
        Err(_) => Err(Answer::NotAppended),
    }
}
