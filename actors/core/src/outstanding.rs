//! What remains to be done so that the world matches a row.
//!
//! [`outstanding`] is the one place that says so. It compares a call's row with what
//! its owner sees of the legs and returns effects. It runs on every wake-up, after
//! every event of a leg, and at intervals; running it twice without a change in
//! between returns nothing new, because whoever carries an effect out notes it in the
//! observed side at once.

use std::collections::BTreeMap;

use crate::call::{CallRow, Cause, Confirmation, LegRole, LegRow, Seen, Stage, Visit, Want};
use crate::ids::{BlobId, LegId};
use crate::ivr::speech::{Announcement, Language};

/// How far a leg has come on its owner.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Nothing done yet. An incoming leg: its INVITE is held, 100 sent.
    #[default]
    Fresh,
    /// Out: INVITE sent.
    Calling,
    /// Out: it rings there. In: we sent 180 or 183.
    Alerting,
    /// In: ready to answer, proposed. Out: it answered, proposed.
    Proposed,
    /// Our 200 or ACK is out; audio may flow.
    Up,
    /// We sent CANCEL, BYE or a final answer and wait for its completion.
    Ending,
    /// Over.
    Gone,
}

/// What a leg hears.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Audio {
    /// Nothing.
    #[default]
    Silence,
    /// The other leg.
    Bridge(LegId),
    /// A prompt, once.
    Prompt(BlobId),
    /// Words of the exchange itself, once.
    Say(Language, Announcement),
    /// An advert the caller asked for, once.
    Advert(BlobId),
    /// What only the agent hears before he hears the caller, once.
    Whisper(BlobId),
    /// Music, without end.
    Music(BlobId),
    /// A confirmation tone, once.
    Tone(Confirmation),
    /// The ringing tone, until something else is heard.
    Ringing,
}

/// A leg as its owner sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LegObserved {
    /// It was taken up from its checkpoint.
    pub known: bool,
    /// How far it has come.
    pub phase: Phase,
    /// What it hears.
    pub audio: Audio,
    /// The announcement before the bridge has been played to it, was cut short by key, or may
    /// have been when the leg was taken up.
    pub announced: bool,
}

/// A call as its owner sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallObserved {
    /// Its legs.
    pub legs: BTreeMap<LegId, LegObserved>,
    /// The greeting has been played to its end.
    pub greeted: bool,
    /// The outgoing leg that sends early media, if any.
    pub early: Option<LegId>,
    /// What a waiting caller is to be told now; local, because a new owner tells him anew.
    pub say: Option<(Language, Announcement)>,
    /// Adverts played of those the caller asked for.
    pub adverts: u32,
}

/// Something to be done now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Take up a leg that another owner has left: an unanswered caller, or a dialog that
    /// stands.
    Resume(LegId),
    /// Send an INVITE for an outgoing leg.
    Invite(LegId),
    /// Tell the caller that it rings.
    Alert(LegId),
    /// Make the caller's leg ready and propose its answer.
    Prepare(LegId),
    /// The caller's answer is committed: send 200.
    Answer(LegId),
    /// The far end's answer is committed: send ACK.
    Confirm(LegId),
    /// End a leg: reject, CANCEL or BYE, whichever its phase asks for.
    End(LegId, Cause),
    /// Change what a leg hears.
    Hear(LegId, Audio),
    /// Forget a leg that is over and of no interest any more.
    Drop(LegId),
}

/// What has to be done for `row`; `None` when the call is over, so that whatever is
/// left of it here has to go.
pub fn outstanding(row: Option<&CallRow>, observed: &CallObserved) -> Vec<Effect> {
    let mut effects = Vec::new();
    let Some(row) = row else {
        for (id, leg) in &observed.legs {
            match leg.phase {
                Phase::Gone => effects.push(Effect::Drop(*id)),
                Phase::Ending => {}
                _ => effects.push(Effect::End(*id, Cause::NORMAL)),
            }
        }
        return effects;
    };
    let rings = observed.early.is_some()
        || row.legs.iter().any(|leg| {
            leg.role != LegRole::Caller
                && observed
                    .legs
                    .get(&leg.id)
                    .is_some_and(|seen| seen.phase == Phase::Alerting)
        });
    // Whoever has taken up the caller can send from the call's address.
    let taken_up = !row.moved
        || row.caller().is_none_or(|caller| {
            let seen = observed.legs.get(&caller.id);
            seen.is_some_and(|seen| seen.known)
        });
    // His end is being committed: nobody is rung for him any more.
    let caller = row.caller().filter(|leg| leg.role == LegRole::Caller);
    let left = caller
        .and_then(|caller| observed.legs.get(&caller.id))
        .is_some_and(|seen| seen.phase == Phase::Gone);
    for leg in &row.legs {
        let seen = observed.legs.get(&leg.id).cloned().unwrap_or_default();
        let step = leg_step(row, leg, &seen, rings);
        let early = matches!(step, Some(Effect::Invite(_))) && (left || !taken_up);
        effects.extend(step.filter(|_| !early));
        let audio = desired_audio(row, leg, observed);
        if seen.phase < Phase::Ending && audio != seen.audio && hears(&seen, audio) {
            effects.push(Effect::Hear(leg.id, audio));
        }
    }
    effects
}

fn leg_step(row: &CallRow, leg: &LegRow, seen: &LegObserved, rings: bool) -> Option<Effect> {
    // A customer called back is a caller whom we have dialled.
    let incoming = leg.role == LegRole::Caller && leg.target.is_none();
    match (leg.want, seen.phase) {
        (_, Phase::Gone | Phase::Ending) => None,
        (_, Phase::Fresh)
            if row.moved
                && !seen.known
                && leg.is_live()
                && (incoming || leg.seen == Seen::Answered) =>
        {
            Some(Effect::Resume(leg.id))
        }
        // Never sent, and no longer wanted: nothing to end on the wire.
        (Want::End(cause), _) if leg.is_live() => Some(Effect::End(leg.id, cause)),
        (Want::Alert | Want::Answer, Phase::Fresh) if !incoming && leg.seen == Seen::Fresh => {
            Some(Effect::Invite(leg.id))
        }
        (Want::Alert, Phase::Fresh)
            if incoming && rings && matches!(row.stage, Stage::Ringing { .. }) =>
        {
            Some(Effect::Alert(leg.id))
        }
        (Want::Answer, Phase::Fresh | Phase::Alerting) if incoming && leg.seen == Seen::Fresh => {
            Some(Effect::Prepare(leg.id))
        }
        (Want::Answer, Phase::Proposed) if leg.seen == Seen::Answered => Some(if incoming {
            Effect::Answer(leg.id)
        } else {
            Effect::Confirm(leg.id)
        }),
        _ => None,
    }
}

/// What a leg should hear.
fn desired_audio(row: &CallRow, leg: &LegRow, observed: &CallObserved) -> Audio {
    let caller = row.caller().map(|leg| leg.id);
    let incoming = Some(leg.id) == caller;
    match &row.stage {
        Stage::Waiting if incoming => waiting_audio(row, observed),
        // Diverted out of a queue: he waits on for somebody's answer.
        Stage::Ringing { .. } if incoming && leg.seen == Seen::Answered => {
            row.hold_music.map_or(Audio::Silence, Audio::Music)
        }
        // The caller goes on hearing what he heard.
        Stage::Bridged { .. } if incoming && whispered(row, observed).is_some() => {
            waiting_audio(row, observed)
        }
        Stage::Bridged { far } if incoming => bridged_audio(row, leg, Some(*far)),
        Stage::Bridged { far } if *far == leg.id => match whispered(row, observed) {
            Some(announcement) => Audio::Whisper(announcement),
            None => bridged_audio(row, leg, caller),
        },
        Stage::Ringing { .. } if incoming => observed.early.map_or(Audio::Silence, Audio::Bridge),
        Stage::Ringing { .. } if observed.early == Some(leg.id) => {
            caller.map_or(Audio::Silence, Audio::Bridge)
        }
        // Early media of the agent's own phone is none of the customer's.
        Stage::Dialling { near, .. } if *near == Some(leg.id) => {
            let early = observed.early.filter(|early| *early != leg.id);
            let dials = early.map_or(Audio::Ringing, Audio::Bridge);
            whispered(row, observed).map_or(dials, Audio::Whisper)
        }
        Stage::Dialling { near, .. } if observed.early == Some(leg.id) => {
            near.map_or(Audio::Silence, Audio::Bridge)
        }
        Stage::Confirming(confirmation) if incoming => Audio::Tone(*confirmation),
        Stage::Telling { language, what, .. } if incoming => Audio::Say(*language, *what),
        _ => Audio::Silence,
    }
}

/// What an agent is to hear before he hears the caller, or the customer being dialled; `None`
/// when that is over.
pub fn whispered(row: &CallRow, observed: &CallObserved) -> Option<BlobId> {
    let (agent, announcement) = row.announced()?;
    let seen = observed.legs.get(&agent);
    (!seen.is_some_and(|leg| leg.announced)).then_some(announcement)
}

/// What a waiting caller hears: the greeting, then what the queue has for him.
fn waiting_audio(row: &CallRow, observed: &CallObserved) -> Audio {
    match (row.greeting, &row.visit) {
        (Some(greeting), _) if !observed.greeted => Audio::Prompt(greeting),
        (_, Some(visit)) => queue_audio(visit, observed),
        (_, None) => Audio::Silence,
    }
}

/// What a queue has for a caller: an advert he asked for, what he is told, or music.
fn queue_audio(visit: &Visit, observed: &CallObserved) -> Audio {
    match (visit.advert, observed.say) {
        (Some(advert), _) if observed.adverts < visit.adverts => Audio::Advert(advert),
        (_, Some((language, announcement))) => Audio::Say(language, announcement),
        _ => visit.music.map_or(Audio::Silence, Audio::Music),
    }
}

/// What a leg of a bridge hears: the other one, unless either of them holds.
fn bridged_audio(row: &CallRow, leg: &LegRow, other: Option<LegId>) -> Audio {
    let Some(other) = other else {
        return Audio::Silence;
    };
    match row.leg(other) {
        _ if leg.held => Audio::Silence,
        Some(far) if far.held => row.hold_music.map_or(Audio::Silence, Audio::Music),
        Some(_) => Audio::Bridge(other),
        None => Audio::Silence,
    }
}

/// True when a leg that has come this far can be made to hear this.
fn hears(seen: &LegObserved, audio: Audio) -> bool {
    match audio {
        // Prompts and tones start when the far end can hear their first word.
        Audio::Prompt(_)
        | Audio::Say(..)
        | Audio::Advert(_)
        | Audio::Whisper(_)
        | Audio::Music(_)
        | Audio::Tone(_)
        | Audio::Ringing => seen.phase == Phase::Up,
        Audio::Silence | Audio::Bridge(_) => seen.phase >= Phase::Alerting,
    }
}
