//! Legs that another owner has left: taken up from their checkpoints.
//!
//! At the very address and ports, where the address has come along: the far end notices
//! nothing. At another address the far end is told with a re-INVITE, at once and in any case.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use strowger_actors::ports::Legs;
use strowger_core::call::{CallRow, Cause, LegRole, LegRow, Seen};
use strowger_core::ids::LegId;
use strowger_sip::dialog::Role;
use strowger_sip::endpoint::Endpoint;
use strowger_sip::leg::Leg;
use strowger_sip::sdp;
use strowger_sip::transport::{Flow, Protocol};
use tracing::{debug, info, warn};

use super::super::Shared;
use super::super::checkpoint::{Checkpoint, KeptInvite};
use super::super::session::{Heard, Offer, Session, SessionError};
use super::super::sound::key_of;
use super::super::{reports, silence};
use super::{Entry, NodeLegs, log_refusal};

/// So long after its commit our answer to a caller may be without an ACK (64 · T1).
const ANSWER_REPEATED_MS: u64 = 32_000;
/// So long a far end may say that it is busy with a change of its own, which it sent to the
/// address that is no more: its INVITE lives 64 · T1.
const BUSY_MAX: Duration = Duration::from_secs(40);
/// Pause before it is told again. The signalling below has tried several times already.
const TELL_AGAIN: Duration = Duration::from_secs(1);

/// A far end taken over without a word that sends no audio for so long is asked whether it is
/// still there: its BYE may have died with the old owner.
const UNHEARD_MAX: Duration = Duration::from_secs(3);

/// Why a leg was not taken up.
pub(super) enum Unresumed {
    /// Its ports are still held by its old owner.
    Occupied,
    /// What was left of it is of no use: why.
    Unusable(String),
}

fn unusable(why: impl std::fmt::Display) -> Unresumed {
    Unresumed::Unusable(why.to_string())
}

/// What both sides have said last.
type Descriptions = (Option<String>, Option<String>);

impl NodeLegs {
    /// Takes up a leg from its checkpoint.
    pub(super) fn try_resume(
        &self,
        call: &CallRow,
        leg: LegId,
        patient: bool,
    ) -> Result<(), Unresumed> {
        let shared = &self.shared;
        let row = call
            .leg(leg)
            .ok_or_else(|| unusable("its call has no such leg"))?;
        let endpoint = shared.endpoint().ok_or(Unresumed::Occupied)?;
        if !endpoint.bound().contains(&call.address) {
            // What we say must leave from there.
            return Err(Unresumed::Occupied);
        }
        let bytes = row.checkpoint.as_deref().unwrap_or_default();
        let mut checkpoint =
            Checkpoint::read(bytes).ok_or_else(|| unusable("no checkpoint that can be read"))?;
        self.relocate(&mut checkpoint, call.address);
        if let Checkpoint::Invite(kept) = &mut checkpoint
            && row.seen != Seen::Answered
        {
            // Another early dialog: a caller who was given early media does not listen to a
            // second description in the first (RFC 3261 §13.2.1).
            kept.epoch = call.epoch;
        }
        let incoming = row.role == LegRole::Caller && row.target.is_none();
        let mut entry = Entry::new(call.id, call.address, incoming, Offer::default());
        entry.sip_call_id.clone_from(&row.sip_call_id);
        entry.answered = row.seen == Seen::Answered;
        let said = described(&mut entry, &checkpoint, leg, endpoint)?;
        if entry.answered {
            let session = self.session_of(call.address, leg, &checkpoint, &said, patient)?;
            entry.moved_at = session.is_moved().then(Instant::now);
            entry.session = Some(session);
        }
        let answered = entry.answered;
        shared.legs.legs.lock().insert(leg, entry);
        let sink = reports::sink(shared, leg);
        let sip = match checkpoint {
            Checkpoint::Invite(kept) => {
                endpoint.revive(&kept.raw, kept.flow, (kept.token(leg), call.epoch), sink)
            }
            Checkpoint::Dialog(dialog) => endpoint.import(*dialog, call.epoch, sink),
        };
        let sip = sip.map_err(|why| {
            self.forget(leg);
            unusable(why)
        })?;
        shared.legs.with(leg, |entry| entry.sip = Some(sip.clone()));
        if answered {
            self.stand_again(row, &sip);
        }
        Ok(())
    }

    /// The session of a leg that stands, as it was agreed.
    fn session_of(
        &self,
        address: IpAddr,
        leg: LegId,
        checkpoint: &Checkpoint,
        (ours, theirs): &Descriptions,
        patient: bool,
    ) -> Result<Session, Unresumed> {
        let ours = ours
            .as_deref()
            .ok_or_else(|| unusable("no description of ours"))?;
        let role = match checkpoint {
            Checkpoint::Invite(_) => Role::Uas,
            Checkpoint::Dialog(dialog) => dialog.role,
        };
        let heard = Heard {
            ours,
            theirs: theirs.as_deref(),
            role,
        };
        let session = Session::resume(&self.shared.engine, leg, address, &heard, patient);
        session.map_err(|why| match why {
            SessionError::Open(_) if patient => {
                debug!(%leg, %why, "a leg cannot have its ports yet");
                Unresumed::Occupied
            }
            SessionError::Open(_) | SessionError::Negotiate(_) => unusable(why),
        })
    }

    /// Brings a dialog that stands to where it was: answered, acknowledged, and at what the far
    /// end knows, or is told now.
    fn stand_again(&self, row: &LegRow, sip: &Leg) {
        let (shared, leg) = (&self.shared, row.id);
        let recent = {
            let now = shared.state.read().meta.now;
            now.since(row.answered_at.unwrap_or_default()) < ANSWER_REPEATED_MS
        };
        let prepared = shared.legs.with(leg, |entry| {
            let moved = entry.moved_at.is_some();
            let session = entry.session.as_mut().filter(|_| moved);
            let moved = session.map(|session| (session.answer_again(), session.offer_moved()));
            let kept = entry.kept.as_ref();
            let over_tcp = kept.is_some_and(|kept| kept.flow.protocol == Protocol::Tcp);
            (entry.incoming, entry.answer.clone(), moved, over_tcp)
        });
        let Some((incoming, answer, moved, over_tcp)) = prepared else {
            return;
        };
        let stood = match (incoming, answer, &moved) {
            (false, _, None) => sip.acknowledged_before(),
            // He would repeat his answer to an address that is no more.
            (false, _, Some(_)) => sip.ack(None),
            (true, None, _) => Ok(()),
            // The connection died with its node. Where the caller listens is not known, so that no
            // ACK says nothing of him.
            (true, Some(answer), None) if recent && over_tcp => sip.answer_once(answer),
            (true, Some(answer), None) if recent => sip.answer(answer),
            // A caller who has had the answer takes no notice of this one; the re-INVITE that
            // follows finds a dialog either way.
            (true, Some(_), Some((again, _))) if recent => sip.answer_once(again.clone()),
            (true, Some(answer), _) => sip.answered_before(answer),
        };
        log_refusal(leg, stood);
        if let Some((_, offer)) = moved {
            info!(%leg, "a leg is not where it was; its far end is told");
            log_refusal(leg, sip.reinvite(Some(offer)));
        } else {
            ask_when_unheard(shared, leg);
        }
    }

    /// Lets a leg go on from another address of ours, when its own has not come along. Over
    /// TCP the far end is then dialled anew, where its Contact says.
    fn relocate(&self, checkpoint: &mut Checkpoint, address: IpAddr) {
        match checkpoint {
            Checkpoint::Invite(kept) => {
                let old = kept.flow.local.ip();
                kept.flow = self.way_on(kept.flow, old, address);
            }
            Checkpoint::Dialog(dialog) => {
                let ours = dialog.local_sdp.as_deref().map(sdp::parse);
                let old = ours.and_then(|ours| ours.ok()?.audio()?.address);
                dialog.flow = self.way_on(dialog.flow, old.unwrap_or(address), address);
            }
        }
    }

    /// The way to a far end after its leg went from one address to another. A way by a third
    /// address (that a phone behind a NAT registered at) stays while somebody has that.
    pub(in crate::telephony) fn way_on(&self, flow: Flow, old: IpAddr, new: IpAddr) -> Flow {
        let local = flow.local.ip();
        let held = || self.shared.state.read().holder(local).is_some();
        if old == new || (local != old && held()) {
            return flow;
        }
        let mut flow = flow;
        flow.local.set_ip(new);
        flow.local.set_port(match flow.protocol {
            Protocol::Udp => self.shared.ports.udp,
            Protocol::Tcp => self.shared.ports.tcp,
        });
        flow.connection = None;
        flow
    }
}

/// Asks a far end that was taken over and is not heard whether it knows the call.
fn ask_when_unheard(shared: &Arc<Shared>, leg: LegId) {
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        tokio::time::sleep(UNHEARD_MAX).await;
        // Closed means ended, or gone to yet another owner.
        let Ok(heard) = shared.engine.stats(key_of(leg)) else {
            return;
        };
        let Some(sip) = shared.legs.sip(leg).filter(|_| heard.packets_received == 0) else {
            return;
        };
        debug!(%leg, "a far end is not heard after its node died; it is asked");
        log_refusal(leg, sip.probe());
        silence::begins(&shared, leg);
    });
}

/// What both sides of a leg have said, and what a caller offered.
fn described(
    entry: &mut Entry,
    checkpoint: &Checkpoint,
    leg: LegId,
    endpoint: &Endpoint,
) -> Result<Descriptions, Unresumed> {
    Ok(match checkpoint {
        Checkpoint::Invite(kept) => {
            let theirs = endpoint
                .dialog_of(&kept.raw, kept.flow, kept.token(leg))
                .ok_or_else(|| unusable("what was kept is no INVITE"))?
                .remote_sdp;
            entry.offer = Offer::read(theirs.as_deref()).map_err(unusable)?;
            entry.kept = Some(KeptInvite {
                answer: None,
                ..kept.clone()
            });
            entry.answer.clone_from(&kept.answer);
            (kept.answer.clone(), theirs)
        }
        Checkpoint::Dialog(dialog) => (dialog.local_sdp.clone(), dialog.remote_sdp.clone()),
    })
}

/// A far end did not take our change. One that only had to be told where its leg is now must
/// know: the leg ends unless it may still listen.
pub(super) fn not_told(shared: &Arc<Shared>, leg: LegId, status: u16) {
    let moved_at = shared.legs.with(leg, |entry| entry.moved_at).flatten();
    let Some(moved_at) = moved_at else { return };
    match status {
        // The dialog is gone, and the signalling has ended it.
        408 | 481 => {}
        491 | 500 if moved_at.elapsed() < BUSY_MAX => {
            let shared = Arc::clone(shared);
            tokio::spawn(async move {
                tokio::time::sleep(TELL_AGAIN).await;
                let told = shared.legs.with(leg, |entry| {
                    let sip = entry.sip.clone().filter(|_| entry.moved_at.is_some());
                    let offer = entry.session.as_mut().map(Session::offer_moved);
                    sip.zip(offer)
                });
                if let Some((sip, offer)) = told.flatten() {
                    log_refusal(leg, sip.reinvite(Some(offer)));
                }
            });
        }
        _ => {
            warn!(code = "SW0303", %leg, status, "a far end does not follow its leg to another address");
            let cause = Cause::from_status(status);
            let refuse = |entry: &mut Entry| entry.refused = Some(cause);
            shared.legs.with(leg, refuse);
            NodeLegs::new(Arc::clone(shared)).end(leg, cause);
        }
    }
}
