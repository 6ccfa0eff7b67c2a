//! Legs that another owner has left: taken up from their checkpoints.

use strowger_actors::ports::Legs;
use strowger_core::call::{CallRow, LegRole, Seen};
use strowger_core::ids::LegId;
use strowger_sip::dialog::Role;
use tracing::{debug, info};

use super::super::checkpoint::{Checkpoint, KeptInvite};
use super::super::reports;
use super::super::session::{Heard, Offer, Session, SessionError};
use super::{Entry, NodeLegs, log_refusal};

/// So long after its commit our answer to a caller may be without an ACK (64 · T1).
const ANSWER_REPEATED_MS: u64 = 32_000;

/// Why a leg was not taken up.
pub(super) enum Unresumed {
    /// Its ports are still held by its old owner.
    Occupied,
    /// What was left of it is of no use.
    Unreadable,
}

impl NodeLegs {
    /// Takes up a leg from its checkpoint, at its very ports.
    pub(super) fn try_resume(
        &self,
        call: &CallRow,
        leg: LegId,
        patient: bool,
    ) -> Result<(), Unresumed> {
        let shared = &self.shared;
        let row = call.leg(leg).ok_or(Unresumed::Unreadable)?;
        let endpoint = shared.endpoint().ok_or(Unresumed::Occupied)?;
        if !endpoint.bound().contains(&call.address) {
            // What we say must leave from there.
            return Err(Unresumed::Occupied);
        }
        let bytes = row.checkpoint.as_deref().unwrap_or_default();
        let checkpoint = Checkpoint::read(bytes).ok_or(Unresumed::Unreadable)?;
        let incoming = row.role == LegRole::Caller && row.target.is_none();
        let mut entry = Entry::new(call.id, call.address, incoming, Offer::default());
        entry.sip_call_id.clone_from(&row.sip_call_id);
        entry.answered = row.seen == Seen::Answered;
        let (ours, theirs) = match &checkpoint {
            Checkpoint::Invite(kept) => {
                let theirs = endpoint
                    .dialog_of(&kept.raw, kept.flow, kept.token(leg))
                    .ok_or(Unresumed::Unreadable)?
                    .remote_sdp;
                entry.offer = Offer::read(theirs.as_deref()).map_err(|_| Unresumed::Unreadable)?;
                entry.kept = Some(KeptInvite {
                    answer: None,
                    ..kept.clone()
                });
                entry.answer.clone_from(&kept.answer);
                (kept.answer.clone(), theirs)
            }
            Checkpoint::Dialog(dialog) => (dialog.local_sdp.clone(), dialog.remote_sdp.clone()),
        };
        if entry.answered {
            let ours = ours.as_deref().ok_or(Unresumed::Unreadable)?;
            let role = match &checkpoint {
                Checkpoint::Invite(_) => Role::Uas,
                Checkpoint::Dialog(dialog) => dialog.role,
            };
            let heard = Heard {
                ours,
                theirs: theirs.as_deref(),
                role,
            };
            let session = Session::resume(&shared.engine, leg, call.address, &heard, patient);
            entry.session = Some(session.map_err(|why| {
                debug!(%leg, %why, "a leg cannot have its ports");
                match why {
                    SessionError::Open(_) if patient => Unresumed::Occupied,
                    SessionError::Open(_) | SessionError::Negotiate(_) => Unresumed::Unreadable,
                }
            })?);
        }
        let elsewhere = entry.session.as_mut().and_then(Session::offer_if_moved);
        let sink = reports::sink(shared, leg);
        let outgoing = !incoming;
        let (answered, answer) = (entry.answered, entry.answer.clone());
        let recent = shared
            .state
            .read()
            .meta
            .now
            .since(row.answered_at.unwrap_or_default())
            < ANSWER_REPEATED_MS;
        shared.legs.legs.lock().insert(leg, entry);
        let sip = match checkpoint {
            Checkpoint::Invite(kept) => {
                endpoint.revive(&kept.raw, kept.flow, (kept.token(leg), call.epoch), sink)
            }
            Checkpoint::Dialog(dialog) => endpoint.import(*dialog, call.epoch, sink),
        };
        let sip = sip.map_err(|why| {
            debug!(%leg, %why, "a leg cannot be taken up");
            self.forget(leg);
            Unresumed::Unreadable
        })?;
        shared.legs.with(leg, |entry| entry.sip = Some(sip.clone()));
        if answered && outgoing {
            log_refusal(leg, sip.acknowledged_before());
        } else if answered && let Some(answer) = answer {
            let taken = if recent {
                sip.answer(answer)
            } else {
                sip.answered_before(answer)
            };
            log_refusal(leg, taken);
        }
        if elsewhere.is_some() {
            info!(%leg, "a leg did not get its ports back; its far end is told others");
            log_refusal(leg, sip.reinvite(elsewhere));
        }
        Ok(())
    }
}
