//! What call actors ask of signalling and media, and what the legs report back.
//!
//! One entry per leg of this node. Reports travel through one channel to [`run`], which
//! may call the leg it is about; actors call [`NodeLegs`], which never waits. A report
//! for a call whose actor is just being started is kept until it is.

mod outgoing;
mod play;
mod resume;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use strowger_actors::ports::{Answer, LegEvent, Legs};
use strowger_core::call::{CallRow, Cause, LegRole};
use strowger_core::ids::{BlobId, CallId, LegId};
use strowger_core::outstanding::Audio;
use strowger_media::PlayToken;
use strowger_sip::leg::{By, Leg, LegEvent as SipEvent};
use strowger_sip::message::{HeaderName, ReasonValue};
use strowger_sip::token::LegToken;
use tokio::sync::mpsc;
use tracing::{debug, info, warn};

use self::resume::Unresumed;
use super::Shared;
use super::checkpoint::{Checkpoint, KeptInvite};
use super::parting::{self, Parting};
use super::reports::Report;
use super::session::{Offer, Session, SessionError};
use super::sound::key_of;

/// How long our own ending of a leg may take before it counts as done.
const ENDING: Duration = Duration::from_secs(2);
/// The same for a leg that holds a channel of a trunk: without an answer of the far end
/// the channel is in doubt, and it is not given to another call before that.
const ENDING_TRUNK: Duration = Duration::from_secs(5);

/// So long after a service address has come here the ports of its calls may be held by its
/// old holder.
const PORTS_FOLLOW: Duration = Duration::from_millis(500);

/// The legs of this node.
#[derive(Default)]
pub struct LegTable {
    legs: Mutex<HashMap<LegId, Entry>>,
    /// Legs whose far end hung up and has had no answer to that yet.
    parting: Mutex<HashMap<LegId, Leg>>,
    /// Counts what was played here. A leg that is taken up again goes on with it, so that no end
    /// of what it heard before counts.
    plays: AtomicU64,
    /// Reports dropped because too many of their leg were waiting.
    pub reports_dropped: AtomicU64,
}

/// One leg.
pub(super) struct Entry {
    call: CallId,
    address: IpAddr,
    incoming: bool,
    pub(super) sip: Option<Leg>,
    sip_call_id: String,
    /// The caller's INVITE, until the session changes.
    kept: Option<KeptInvite>,
    offer: Offer,
    session: Option<Session>,
    /// Our answer, made and not yet sent.
    answer: Option<String>,
    answered: bool,
    playing: Option<(PlayToken, Audio)>,
    /// True for music until it plays: its file may still have to come to this node.
    missing: bool,
    ended: bool,
    /// Why we could not serve the leg: that is recorded, not how it went away.
    refused: Option<Cause>,
    /// Reports kept until the call's actor runs.
    backlog: Vec<LegEvent>,
    /// When it was taken up where the far end does not know it yet; `None` once it does.
    moved_at: Option<Instant>,
    /// Whether its far end is told that the caller left.
    pub(super) parting: Parting,
}

impl LegTable {
    /// Makes room for the leg of a caller whose call is committed.
    pub fn expect(
        &self,
        leg: LegId,
        call: CallId,
        address: IpAddr,
        offer: Offer,
        kept: Option<KeptInvite>,
    ) {
        let mut entry = Entry::new(call, address, true, offer);
        entry.kept = kept;
        self.legs.lock().insert(leg, entry);
    }

    pub(super) fn with<T>(&self, leg: LegId, act: impl FnOnce(&mut Entry) -> T) -> Option<T> {
        self.legs.lock().get_mut(&leg).map(act)
    }

    /// The call a leg belongs to.
    pub fn call_of(&self, leg: LegId) -> Option<CallId> {
        self.legs.lock().get(&leg).map(|entry| entry.call)
    }

    /// The SIP leg of an entry.
    pub(super) fn sip(&self, leg: LegId) -> Option<Leg> {
        self.legs.lock().get(&leg)?.sip.clone()
    }
}

impl Entry {
    fn new(call: CallId, address: IpAddr, incoming: bool, offer: Offer) -> Self {
        Self {
            call,
            address,
            incoming,
            sip: None,
            sip_call_id: String::new(),
            kept: None,
            offer,
            session: None,
            answer: None,
            answered: false,
            playing: None,
            missing: false,
            ended: false,
            refused: None,
            backlog: Vec::new(),
            moved_at: None,
            parting: Parting::default(),
        }
    }

    /// What a new owner goes on from.
    fn checkpoint(&self) -> Vec<u8> {
        if let Some(kept) = &self.kept {
            let answer = self.answer.clone();
            let kept = KeptInvite {
                answer,
                ..kept.clone()
            };
            return Checkpoint::Invite(kept).bytes();
        }
        let dialog = self.sip.as_ref().and_then(Leg::dialog);
        let Some(mut dialog) = dialog else {
            return Vec::new();
        };
        if let Some(session) = &self.session {
            // What is about to be in force: the commit of this is what it waits for.
            let (ours, theirs) = session.descriptions();
            dialog.local_sdp = ours.or(dialog.local_sdp);
            dialog.remote_sdp = theirs.or(dialog.remote_sdp);
        }
        Checkpoint::Dialog(Box::new(dialog)).bytes()
    }

    /// True once the far end has described its audio.
    pub(super) fn has_agreed(&self) -> bool {
        let session = self.session.as_ref();
        session.is_some_and(|session| session.agreed.is_some())
    }

    /// What a call is told of an answer.
    pub(super) fn facts(&self) -> Answer {
        let dialog = self.sip.as_ref().and_then(Leg::dialog);
        Answer {
            sip_call_id: self.sip_call_id.clone(),
            remote: dialog.map(|dialog| dialog.remote_target.to_string()),
            codec: self
                .session
                .as_ref()
                .map_or(strowger_core::call::Codec::Pcmu, Session::codec),
            checkpoint: self.checkpoint(),
        }
    }
}

/// The caller's INVITE became a leg.
pub fn accepted(shared: &Arc<Shared>, leg: LegId, sip: Leg) {
    let call_id = sip
        .dialog()
        .map(|dialog| dialog.call_id)
        .unwrap_or_default();
    shared.legs.with(leg, |entry| {
        entry.sip_call_id = call_id;
        entry.sip = Some(sip);
    });
}

/// The call's actor runs: it hears what was reported before.
pub fn opened(shared: &Shared, leg: LegId) {
    let mut legs = shared.legs.legs.lock();
    let Some(entry) = legs.get_mut(&leg) else {
        return;
    };
    for event in entry.backlog.drain(..) {
        if let Some(switchboard) = shared.switchboard() {
            switchboard.leg(entry.call, leg, event);
        }
    }
}

/// The caller was gone before the call was his: the call must end.
pub fn lost(shared: &Arc<Shared>, leg: LegId) {
    report(shared, leg, ended(Cause::CANCELLED));
}

fn ended(cause: Cause) -> LegEvent {
    LegEvent::Ended {
        sip_call_id: String::new(),
        cause,
    }
}

/// Passes a report to the call's actor, or keeps it until there is one.
pub(super) fn report(shared: &Shared, leg: LegId, event: LegEvent) {
    let mut legs = shared.legs.legs.lock();
    let Some(entry) = legs.get_mut(&leg) else {
        return;
    };
    let event = match event {
        LegEvent::Ended { cause, .. } if entry.ended => {
            debug!(%leg, ?cause, "a leg ended twice");
            return;
        }
        LegEvent::Ended { cause, .. } => {
            entry.ended = true;
            LegEvent::Ended {
                sip_call_id: entry.sip_call_id.clone(),
                cause: entry.refused.unwrap_or(cause),
            }
        }
        other => other,
    };
    let heard = shared
        .switchboard()
        .is_some_and(|switchboard| switchboard.leg(entry.call, leg, event.clone()));
    if !heard {
        entry.backlog.push(event);
    }
}

/// Takes in the reports of SIP legs, for ever.
pub async fn run(shared: Arc<Shared>, mut reports: mpsc::UnboundedReceiver<Report>) {
    while let Some(report) = reports.recv().await {
        know_sip(&shared, report.leg, report.token);
        take(&shared, report.leg, report.event);
    }
}

/// Gives an entry its SIP leg. A far end that answers at once is heard before who called it
/// has stored that, and an answer without it would leave nothing to go on from.
fn know_sip(shared: &Shared, leg: LegId, token: LegToken) {
    let unknown = |entry: &mut Entry| entry.sip.is_none();
    if shared.legs.with(leg, unknown) == Some(true)
        && let Some(sip) = shared.endpoint().and_then(|endpoint| endpoint.leg(token))
    {
        shared.legs.with(leg, |entry| entry.sip = Some(sip));
    }
}

fn take(shared: &Arc<Shared>, leg: LegId, event: SipEvent) {
    match event {
        SipEvent::Ringing => report(shared, leg, LegEvent::Alerting { early_media: false }),
        SipEvent::Progress {
            status: _,
            sdp: None,
        } => {
            report(shared, leg, LegEvent::Alerting { early_media: false });
        }
        SipEvent::Progress { sdp: Some(sdp), .. } => {
            let early_media = accept(shared, leg, &sdp).is_ok();
            report(shared, leg, LegEvent::Alerting { early_media });
        }
        SipEvent::Answered { sdp, .. } if parting::is_ended(shared, leg) => {
            parting::crossed(shared, leg, sdp.as_deref());
        }
        SipEvent::Answered { sdp, .. } => answered(shared, leg, sdp.as_deref()),
        SipEvent::Crossed { sdp } => parting::crossed(shared, leg, sdp.as_deref()),
        SipEvent::Acked { sdp: Some(sdp) } => {
            if let Err(why) = accept(shared, leg, &sdp) {
                info!(%leg, %why, "the answer in an ACK cannot be taken");
                return end_sip(shared, leg, Some(65));
            }
            renewed(shared, leg);
        }
        SipEvent::Failed { status, q850, .. } => {
            let mut cause = Cause::from_status(status);
            cause.q850 = q850.unwrap_or(cause.q850);
            report(shared, leg, ended(cause));
        }
        SipEvent::Timeout => report(shared, leg, ended(Cause::SILENCE)),
        SipEvent::Cancelled => report(shared, leg, ended(Cause::CANCELLED)),
        // What our own clock made of its silence: nothing, once the call is somebody else's.
        SipEvent::Ended { by: By::Lost, .. } => report(shared, leg, ended(Cause::SILENCE)),
        SipEvent::Ended { by, q850 } => {
            let q850 = q850.unwrap_or(Cause::NORMAL.q850);
            if let Some(sip) = shared.legs.sip(leg).filter(|_| by == By::Peer) {
                shared.legs.parting.lock().insert(leg, sip);
            }
            let cause = Cause {
                q850,
                ..Cause::NORMAL
            };
            report(shared, leg, ended(cause));
        }
        SipEvent::Reinvited { sdp } => reinvited(shared, leg, sdp.as_deref()),
        SipEvent::Info { content_type, body } => {
            super::info::pass(shared, leg, &content_type, body);
        }
        SipEvent::ReinviteAnswered { sdp: Some(sdp) } => {
            if let Err(why) = accept(shared, leg, &sdp) {
                info!(%leg, %why, "an answer to our change cannot be taken");
                return end_sip(shared, leg, Some(65));
            }
            shared.legs.with(leg, |entry| entry.moved_at = None);
            renewed(shared, leg);
        }
        SipEvent::ReinviteFailed { status } => resume::not_told(shared, leg, status),
        SipEvent::AckTimeout => {
            info!(%leg, "no ACK came; the leg is being ended");
            let refuse = |entry: &mut Entry| entry.refused = Some(Cause::SILENCE);
            shared.legs.with(leg, refuse);
        }
        SipEvent::Acked { sdp: None } => {
            if shared.legs.with(leg, |entry| entry.has_agreed()) == Some(false) {
                info!(%leg, "our offer was acknowledged without an answer");
                end_sip(shared, leg, Some(65));
            }
        }
        SipEvent::ReinviteAnswered { .. } | SipEvent::Replied { .. } => {}
        _ => debug!(%leg, "a report of a kind not known here"),
    }
}

/// Says what is agreed with the far end now: from there a next owner goes on. After its answer
/// to our description, and after a change that was refused and may have been committed.
fn renewed(shared: &Shared, leg: LegId) {
    let renewed = shared.legs.with(leg, |entry| {
        entry.kept = None;
        let held = entry.session.as_ref().is_some_and(Session::is_held);
        let checkpoint = entry.checkpoint();
        LegEvent::Renewed { held, checkpoint }
    });
    if let Some(renewed) = renewed {
        report(shared, leg, renewed);
    }
}

/// Takes the far end's description.
pub(super) fn accept(shared: &Shared, leg: LegId, sdp: &str) -> Result<(), SessionError> {
    let result = shared.legs.with(leg, |entry| {
        entry
            .session
            .as_mut()
            .map(|session| session.accept(&shared.engine, sdp))
    });
    result.flatten().unwrap_or(Ok(()))
}

/// The far end of an outgoing leg answered.
fn answered(shared: &Arc<Shared>, leg: LegId, sdp: Option<&str>) {
    let taken = match sdp {
        Some(sdp) => accept(shared, leg, sdp).map_err(|why| why.to_string()),
        None => Err(String::from("the answer carries no description")),
    };
    if let Err(why) = taken {
        info!(%leg, %why, "an answer cannot be taken");
        end_sip(shared, leg, Some(65));
        return report(shared, leg, ended(Cause::NO_CODEC));
    }
    let facts = shared.legs.with(leg, |entry| {
        entry.answered = true;
        entry.facts()
    });
    if let Some(facts) = facts {
        report(shared, leg, LegEvent::Answered(facts));
    }
}

/// The far end wants to change the session.
fn reinvited(shared: &Arc<Shared>, leg: LegId, sdp: Option<&str>) {
    let Some(sip) = shared.legs.sip(leg) else {
        return;
    };
    let Some(sdp) = sdp else {
        // Asked for an offer: what is in force is offered again, the answer is in the ACK.
        let offer = shared
            .legs
            .with(leg, |entry| entry.session.as_mut().map(Session::offer));
        log_refusal(leg, sip.accept_reinvite(offer.flatten()));
        return;
    };
    let considered = shared.legs.with(leg, |entry| {
        let session = entry.session.as_mut()?;
        Some(session.consider(sdp).map(|same| (same, session.is_held())))
    });
    match considered.flatten() {
        Some(Ok((true, _))) => {
            // A refresh changes nothing and waits for nothing.
            let answer = shared
                .legs
                .with(leg, |entry| entry.session.as_mut()?.agree(&shared.engine))
                .flatten();
            log_refusal(leg, sip.accept_reinvite(answer));
        }
        Some(Ok((false, held))) => {
            let checkpoint = shared.legs.with(leg, |entry| {
                entry.kept = None;
                entry.checkpoint()
            });
            let checkpoint = checkpoint.unwrap_or_default();
            report(shared, leg, LegEvent::Changed { held, checkpoint });
        }
        Some(Err(why)) => {
            debug!(%leg, %why, "a change of session is refused");
            log_refusal(leg, sip.reject_reinvite(488));
        }
        None => log_refusal(leg, sip.reject_reinvite(500)),
    }
}

fn end_sip(shared: &Shared, leg: LegId, q850: Option<u16>) {
    if let Some(sip) = shared.legs.sip(leg) {
        log_refusal(leg, sip.bye(q850));
    }
}

pub(super) fn log_refusal(leg: LegId, result: Result<(), strowger_sip::leg::LegError>) {
    if let Err(why) = result {
        // The leg moved on meanwhile; its own report of that is on its way.
        debug!(%leg, %why, "a leg did not take a command");
    }
}

/// Signalling and media of this node, as call actors see them.
pub struct NodeLegs {
    shared: Arc<Shared>,
}

impl NodeLegs {
    /// The legs of this node.
    pub fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Makes the caller's session: our answer, or our offer when he made none.
    fn make_answer(&self, leg: LegId) -> Result<(), SessionError> {
        let engine = &self.shared.engine;
        let made = self.shared.legs.with(leg, |entry| {
            if entry.answer.is_some() {
                return Ok(());
            }
            let codecs = entry.offer.codecs.clone();
            let mut session = Session::open(engine, leg, entry.address, codecs)?;
            let answer = match &entry.offer.sdp {
                Some(offer) => session.answer(engine, offer),
                None => Ok(session.offer()),
            };
            entry.session = Some(session);
            entry.answer = Some(answer?);
            Ok(())
        });
        made.unwrap_or(Ok(()))
    }

    /// Ends a leg that was not over a while after we said so.
    fn end_by_force(&self, leg: LegId) {
        let shared = Arc::clone(&self.shared);
        let call = shared.legs.with(leg, |entry| entry.call);
        let over_trunk = call.is_some_and(|call| {
            let state = shared.state.read();
            let row = state.calls.get(&call);
            row.is_some_and(|row| {
                row.leg(leg).is_some_and(|one| match &one.role {
                    LegRole::Caller => row.from.trunk.is_some(),
                    LegRole::Trunk(..) => true,
                    LegRole::Extension(_) | LegRole::Agent(_) => false,
                })
            })
        });
        let (patience, cause) = if over_trunk {
            (ENDING_TRUNK, Cause::SILENCE)
        } else {
            (ENDING, Cause::NORMAL)
        };
        tokio::spawn(async move {
            tokio::time::sleep(patience).await;
            if let Some(left) = parting::left(&shared, leg) {
                tokio::time::sleep(left + patience).await;
            }
            let still = shared.legs.with(leg, |entry| !entry.ended).unwrap_or(false);
            if still {
                report(&shared, leg, ended(cause));
            }
        });
    }
}

impl Legs for NodeLegs {
    fn resume(&self, call: &CallRow, leg: LegId, patient: bool) -> bool {
        let here = self.shared.legs.with(leg, |entry| !entry.ended);
        if here == Some(true) {
            return true;
        }
        // A process that stood still lets go of address and ports when it wakes, of one a moment
        // after the other.
        let endpoint = self.shared.endpoint();
        let since = endpoint.and_then(|endpoint| endpoint.bound_for(call.address));
        let patient = patient || since.is_some_and(|since| since < PORTS_FOLLOW);
        match self.try_resume(call, leg, patient) {
            Ok(()) => true,
            Err(Unresumed::Occupied) => false,
            Err(Unresumed::Unusable(why)) => {
                warn!(code = "SW0302", %leg, %why, "what a leg has left behind cannot be resumed");
                let entry = Entry::new(call.id, call.address, false, Offer::default());
                self.shared.legs.legs.lock().insert(leg, entry);
                report(&self.shared, leg, ended(Cause::FAILURE));
                true
            }
        }
    }

    fn invite(&self, call: &CallRow, leg: LegId) {
        if self.is_rung_still(call, leg) {
            self.invite_later(call, leg);
        } else {
            self.invite_now(call, leg);
        }
    }

    fn alert(&self, leg: LegId, early: Option<LegId>) {
        let with_audio = early.is_some() && self.make_answer(leg).is_ok();
        let sip = self.shared.legs.with(leg, |entry| {
            let sdp = entry
                .answer
                .clone()
                .filter(|_| with_audio && entry.offer.sdp.is_some());
            (entry.sip.clone(), sdp)
        });
        if let Some((Some(sip), sdp)) = sip {
            let status = if sdp.is_some() { 183 } else { 180 };
            log_refusal(leg, sip.ring(status, sdp));
        }
    }

    fn prepare(&self, call: &CallRow, leg: LegId) {
        let known = self
            .shared
            .legs
            .with(leg, |entry| entry.sip.is_some())
            .unwrap_or(false);
        if !known {
            // The caller's leg did not outlive what interrupted its admission.
            let legs = &self.shared.legs.legs;
            legs.lock()
                .entry(leg)
                .or_insert_with(|| Entry::new(call.id, call.address, true, Offer::default()));
            return report(&self.shared, leg, ended(Cause::FAILURE));
        }
        match self.make_answer(leg) {
            Ok(()) => {
                let facts = self.shared.legs.with(leg, |entry| entry.facts());
                if let Some(facts) = facts {
                    report(&self.shared, leg, LegEvent::Answered(facts));
                }
            }
            Err(why) => {
                let cause = match why {
                    SessionError::Open(_) => Cause::CONGESTION,
                    SessionError::Negotiate(_) => Cause::NO_CODEC,
                };
                warn!(code = "SW0301", %leg, %why, "a caller cannot be answered");
                self.shared
                    .legs
                    .with(leg, |entry| entry.refused = Some(cause));
                self.end(leg, cause);
            }
        }
    }

    fn answer(&self, leg: LegId) {
        let answer = self.shared.legs.with(leg, |entry| {
            entry.answered = true;
            (entry.sip.clone(), entry.answer.clone())
        });
        if let Some((Some(sip), Some(sdp))) = answer {
            log_refusal(leg, sip.answer(sdp));
        }
    }

    fn confirm(&self, leg: LegId) {
        if let Some(sip) = self.shared.legs.sip(leg) {
            log_refusal(leg, sip.ack(None));
        }
    }

    fn agree(&self, leg: LegId, yes: bool) {
        let Some(sip) = self.shared.legs.sip(leg) else {
            return;
        };
        if yes {
            let engine = &self.shared.engine;
            let answer = self
                .shared
                .legs
                .with(leg, |entry| entry.session.as_mut()?.agree(engine));
            log_refusal(leg, sip.accept_reinvite(answer.flatten()));
        } else {
            self.shared
                .legs
                .with(leg, |entry| entry.session.as_mut().map(Session::refuse));
            log_refusal(leg, sip.reject_reinvite(500));
            // What was to be committed may be yet.
            renewed(&self.shared, leg);
        }
    }

    fn end(&self, leg: LegId, cause: Cause) {
        if parting::comes_first(&self.shared, leg, cause) {
            return self.end_by_force(leg);
        }
        let state = self.shared.legs.with(leg, |entry| {
            (entry.sip.clone(), entry.incoming && !entry.answered)
        });
        match state {
            Some((Some(sip), true)) => {
                let status = if (300..700).contains(&cause.status) {
                    cause.status
                } else {
                    480
                };
                let mut headers = vec![(HeaderName::Reason, ReasonValue::q850(cause.q850))];
                if status == 503 {
                    headers.push((HeaderName::RetryAfter, String::from("1")));
                }
                log_refusal(leg, sip.reject(status, "", &headers));
            }
            Some((Some(sip), false)) => log_refusal(leg, sip.bye(Some(cause.q850))),
            Some((None, _)) => report(&self.shared, leg, ended(cause)),
            None => {}
        }
        self.end_by_force(leg);
    }

    fn lasts(&self, sound: BlobId) -> Duration {
        let clip = self.shared.sounds.clip(sound);
        Duration::from_millis(clip.map_or(0, |clip| clip.duration_ms()))
    }

    fn may_signal(&self) -> bool {
        let endpoint = self.shared.endpoint();
        endpoint.is_some_and(|endpoint| !endpoint.is_quiet())
    }

    fn hear(&self, _call: CallId, leg: LegId, audio: Audio) {
        let key = key_of(leg);
        let engine = &self.shared.engine;
        self.shared.legs.with(leg, |entry| entry.playing = None);
        // The engine refuses what does not apply to a leg that has just ended.
        let changed = match audio {
            Audio::Silence => engine.stop_playing(key).and_then(|()| engine.unbridge(key)),
            Audio::Bridge(other) => engine
                .stop_playing(key)
                .and_then(|()| engine.bridge(key, key_of(other))),
            Audio::Prompt(_)
            | Audio::Say(..)
            | Audio::Advert(_)
            | Audio::Whisper(_)
            | Audio::Music(_)
            | Audio::Tone(_)
            | Audio::Ringing => {
                let unbridged = engine.unbridge(key);
                self.play(leg, audio);
                unbridged
            }
        };
        if let Err(why) = changed {
            debug!(%leg, %why, "what a leg hears did not change");
        }
    }

    fn let_go(&self, leg: LegId) {
        let parting = self.shared.legs.parting.lock().remove(&leg);
        if let Some(sip) = parting {
            sip.forget();
        }
        self.forget(leg);
    }

    fn end_is_known(&self, leg: LegId) {
        let parting = self.shared.legs.parting.lock().remove(&leg);
        if let Some(sip) = parting {
            sip.end_is_known();
        }
    }

    fn forget(&self, leg: LegId) {
        let Some(entry) = self.shared.legs.legs.lock().remove(&leg) else {
            return;
        };
        if entry.session.is_some() {
            // Closed already when the engine is stopping.
            let _ = self.shared.engine.close(key_of(leg));
        }
        if let Some(sip) = entry.sip.filter(|_| !entry.ended) {
            // Another node speaks for it now.
            sip.forget();
        }
    }
}
