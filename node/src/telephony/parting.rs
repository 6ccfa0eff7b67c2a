//! An agent whose answer comes when the caller is no longer his to take is told so before his
//! leg is ended: the caller left, or another agent of a ring-all was faster.
//!
//! Invariants: nothing waits for these words but the end of that leg; they take no longer
//! than their recording and never longer than 5 s; who cannot be told is let go at
//! once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use strowger_actors::ports::LegEvent;
use strowger_core::call::{CallRow, Cause, LegRole};
use strowger_core::ids::LegId;
use strowger_core::ivr::speech::{Announcement, Language};
use strowger_core::outstanding::Audio;
use strowger_core::state::State;
use strowger_media::Repeat;
use strowger_sip::leg::Leg;
use tokio::sync::Notify;
use tracing::debug;

use super::Shared;
use super::legs::{accept, report};
use super::sound::key_of;

/// Words are cut off after this.
const LONGEST: Duration = Duration::from_secs(5);
/// When the end of the words has not been reported this long after it, it never will be.
const SLACK: Duration = Duration::from_millis(200);

/// What a leg has to do with parting words.
#[derive(Default)]
pub(super) struct Parting {
    /// Their language; `None` where nothing is said.
    pub language: Option<Language>,
    /// Why we ended the leg, once we did.
    pub ending: Option<Cause>,
    /// They are being said, at most until then.
    until: Option<Instant>,
    /// Wakes whoever waits for their end.
    said: Arc<Notify>,
}

/// The language in which the far end of a leg may be told that the caller left: agents are,
/// in that of their queue.
pub fn language(state: &State, call: &CallRow, role: &LegRole) -> Option<Language> {
    let visit = call.visit.as_ref();
    let visit = visit.filter(|_| matches!(role, LegRole::Agent(_)))?;
    let spec = state.site(&call.tenant)?.queues.get(&visit.queue)?;
    Some(spec.comfort.language)
}

/// We are to end a leg. True when its far end has just answered and is told why first; then
/// the leg ends by itself.
pub fn comes_first(shared: &Arc<Shared>, leg: LegId, cause: Cause) -> bool {
    let known = shared.legs.with(leg, |entry| {
        let again = entry.parting.ending.replace(cause).is_some();
        let heard = entry.has_agreed();
        let sip = entry.sip.clone().filter(|_| !again);
        sip.filter(|_| entry.parting.language.is_some())
            .map(|sip| (sip, heard))
    });
    let Some((sip, heard)) = known.flatten() else {
        return false;
    };
    // Only an answer that nobody has acknowledged yet has crossed this.
    if !may_be_told(shared, leg, cause) || sip.ack(None).is_err() {
        return false;
    }
    // Without a description the report of the answer is still on its way to `crossed`.
    !heard || tell(shared, leg, sip)
}

/// A far end answered a leg that we have ended.
pub fn crossed(shared: &Arc<Shared>, leg: LegId, sdp: Option<&str>) {
    let known = shared.legs.with(leg, |entry| {
        let ending = entry.parting.ending.unwrap_or(Cause::NORMAL);
        let told = entry.parting.until.is_some();
        entry.sip.clone().map(|sip| (sip, ending, told))
    });
    // A leg that is over for us is ended by its own clock.
    let Some((sip, ending, told)) = known.flatten() else {
        return;
    };
    let taken = sdp.is_some_and(|sdp| accept(shared, leg, sdp).is_ok());
    let told = told || taken && may_be_told(shared, leg, ending) && tell(shared, leg, sip.clone());
    if !told {
        return end(leg, &sip, ending);
    }
    if let Some(facts) = shared.legs.with(leg, |entry| entry.facts()) {
        report(shared, leg, LegEvent::Answered(facts));
    }
}

/// True once we have ended this leg.
pub fn is_ended(shared: &Shared, leg: LegId) -> bool {
    let ended = |entry: &mut super::legs::Entry| {
        entry.parting.ending.is_some() && entry.parting.language.is_some()
    };
    shared.legs.with(leg, ended).unwrap_or(false)
}

/// The words have been played.
pub fn said(shared: &Shared, leg: LegId) {
    let said = shared.legs.with(leg, |entry| entry.parting.said.clone());
    if let Some(said) = said {
        said.notify_one();
    }
}

/// For how long something may still be said on this leg.
pub fn left(shared: &Shared, leg: LegId) -> Option<Duration> {
    let until = shared.legs.with(leg, |entry| entry.parting.until);
    let until = until.flatten()?;
    Some(until.saturating_duration_since(Instant::now()))
}

/// The words are true, and this node may still speak for the call. An agent who answered at
/// another of his phones needs no explanation.
fn may_be_told(shared: &Shared, leg: LegId, cause: Cause) -> bool {
    let quiet = shared.endpoint().is_none_or(|endpoint| endpoint.is_quiet());
    if quiet || !matches!(cause, Cause::NORMAL | Cause::ELSEWHERE) {
        return false;
    }
    let Some(call) = shared.legs.call_of(leg) else {
        return false;
    };
    let state = shared.state.read();
    let row = state.calls.get(&call);
    let own = row.and_then(|row| Some((row, &row.leg(leg)?.role)));
    own.is_some_and(|(row, role)| match role {
        LegRole::Agent(agent) => row.agent.as_ref() != Some(agent),
        LegRole::Caller | LegRole::Extension(_) | LegRole::Trunk(..) => false,
    })
}

/// Says it and ends the leg then; false when it cannot be said.
fn tell(shared: &Arc<Shared>, leg: LegId, sip: Leg) -> bool {
    let language = shared.legs.with(leg, |entry| entry.parting.language);
    let Some(language) = language.flatten() else {
        return false;
    };
    let words = shared.speech.say(language, &Announcement::CallerLeft);
    let length = Duration::from_millis(words.duration_ms());
    if length.is_zero() {
        return false;
    }
    let longest = (length + SLACK).min(LONGEST);
    let audio = Audio::Say(language, Announcement::CallerLeft);
    let said = shared.legs.with(leg, |entry| {
        entry.parting.until = Some(Instant::now() + longest);
        entry.parting.said.clone()
    });
    let Some((token, said)) = shared.legs.next_play(leg, audio).zip(said) else {
        return false;
    };
    let key = key_of(leg);
    // It may still hear what came before an answer.
    let _ = shared.engine.unbridge(key);
    if let Err(why) = shared.engine.play(key, words, Repeat::Once, token) {
        debug!(%leg, %why, "an agent who answered too late cannot be told so");
        shared.legs.with(leg, |entry| entry.parting.until = None);
        return false;
    }
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        // Cut off when it lasts.
        let _ = tokio::time::timeout(longest, said.notified()).await;
        let ending = shared.legs.with(leg, |entry| {
            entry.parting.until = None;
            entry.parting.ending
        });
        end(leg, &sip, ending.flatten().unwrap_or(Cause::NORMAL));
    });
    true
}

fn end(leg: LegId, sip: &Leg, cause: Cause) {
    if let Err(why) = sip.bye(Some(cause.q850)) {
        // The far end was faster.
        debug!(%leg, %why, "a leg did not take a BYE");
    }
}
