//! The actor of one call.
//!
//! It holds what its node sees of the call's legs, compares that with the committed
//! row whenever either changes, carries out the difference and proposes what it saw.
//! Observations leave in order, one proposal at a time, and are repeated until they
//! are committed: merging them twice changes nothing.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use strowger_core::call::{CallRow, Cause, LegRole, LegRow, Seen, Stage};
use strowger_core::ids::{CallId, LegId, NodeId};
use strowger_core::ivr::speech::{Announcement, Key};
use strowger_core::outstanding::{Audio, CallObserved, Effect, Phase, outstanding, whispered};
use strowger_core::ports::RequestId;
use strowger_core::state::SharedState;
use strowger_core::state::command::{Command, Observation, Refusal, Reply};
use tokio::time::Instant;
use tracing::warn;

use crate::desk::{Desk, DeskError};
use crate::gate::Pass;
use crate::limits;
use crate::outbox::{self, Noted, Outbox};
use crate::ports::{Answer, LegEvent, Legs};

/// What reaches the actor.
#[derive(Debug)]
pub enum CallMessage {
    /// The row may have changed, or it is time to look.
    Look,
    /// Something happened to a leg.
    Leg(LegId, LegEvent),
    /// The call was admitted here after all, with this leg of the caller.
    Admitted(LegId),
    /// A proposal made in this tenure came back.
    Proposed(u32, Result<Reply, (DeskError, Box<Command>)>),
    /// Observations may be proposed again.
    Retry,
    /// The other leg of a bridge had time enough to go as well.
    Lingered,
    /// A waiting caller is due to be told where he stands.
    Announce,
    /// Ports of a leg to be resumed may be free now.
    Resume,
}

/// What every call actor of a node shares.
#[derive(Clone)]
pub struct CallContext {
    /// The replicated state.
    pub state: SharedState,
    /// Where commands go.
    pub desk: Desk,
    /// Signalling and media.
    pub legs: Arc<dyn Legs>,
    /// This node, which carries out the calls it owns and no others.
    pub node: NodeId,
}

/// What a call actor starts with.
pub struct CallStart {
    /// The call.
    pub call: CallId,
    /// Shared with its siblings.
    pub context: CallContext,
    /// The caller's leg when it was admitted here: it is ended even if the call is over
    /// before anything was done with it.
    pub caller: Option<LegId>,
    /// Its place at the gate.
    pub pass: Option<Pass>,
}

/// The state of a call actor.
pub struct CallState {
    call: CallId,
    context: CallContext,
    observed: CallObserved,
    outbox: Outbox,
    /// The last proposal failed; the next waits a little.
    resting: bool,
    /// Legs whose change of session waits for a commit.
    changes: Vec<LegId>,
    /// Those of them whose commit is under way.
    changing: Vec<LegId>,
    /// What was proposed last, when nobody knows yet what came of it.
    unsure: Option<(RequestId, Box<Command>)>,
    /// The caller's leg, while it is made ready to be committed with the far end's answer.
    preparing: Option<LegId>,
    /// The caller's answer once it is made; of use again when another phone answers.
    ready: Option<Observation>,
    /// A timer for the next announcement runs.
    announcing: bool,
    /// The leg whose end is awaited so that it is committed with the other's.
    lingering: Option<LegId>,
    started: Instant,
    /// Epoch under which this node has the call. What was observed under another one is
    /// somebody else's by now.
    epoch: Option<u32>,
    /// The service address at which this node had it last, at which epoch.
    anchor: Option<(IpAddr, u32)>,
    /// Counts how often the call went away from here and came back.
    tenure: u32,
    /// A leg waits for its ports, and a timer for the next attempt runs.
    resuming: bool,
    /// When the first leg of the present epoch was to be taken up.
    resuming_since: Option<Instant>,
    /// The row has been seen here: from now on its absence means that the call is over.
    seen: bool,
    _pass: Option<Pass>,
}

/// The actor of one call.
pub struct CallActor;

impl Actor for CallActor {
    type Msg = CallMessage;
    type State = CallState;
    type Arguments = CallStart;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        start: CallStart,
    ) -> Result<CallState, ActorProcessingErr> {
        // The first look comes from whoever has put it where what it sets going is reported to.
        myself.send_interval(limits::RECONCILE, || CallMessage::Look);
        let mut observed = CallObserved::default();
        if let Some(caller) = start.caller {
            observed.legs.entry(caller).or_default();
        }
        Ok(CallState {
            call: start.call,
            context: start.context,
            observed,
            outbox: Outbox::default(),
            resting: false,
            changes: Vec::new(),
            changing: Vec::new(),
            unsure: None,
            preparing: None,
            announcing: false,
            ready: None,
            lingering: None,
            started: Instant::now(),
            epoch: None,
            anchor: None,
            tenure: 0,
            resuming: false,
            resuming_since: None,
            seen: false,
            _pass: start.pass,
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        message: CallMessage,
        state: &mut CallState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            CallMessage::Look => {}
            CallMessage::Leg(leg, event) => state.leg_event(leg, event, &myself),
            CallMessage::Admitted(leg) => {
                state.observed.legs.entry(leg).or_default();
            }
            CallMessage::Proposed(tenure, result) if tenure == state.tenure => {
                state.proposed(result, &myself);
            }
            CallMessage::Proposed(..) => {}
            CallMessage::Retry => state.resting = false,
            CallMessage::Lingered => state.lingering = None,
            CallMessage::Announce => state.announce(),
            CallMessage::Resume => state.resuming = false,
        }
        state.flush(&myself);
        let over = state.reconcile(&myself);
        state.flush(&myself);
        if over {
            myself.stop(None);
        }
        Ok(())
    }

    async fn post_stop(
        &self,
        _myself: ActorRef<Self::Msg>,
        state: &mut CallState,
    ) -> Result<(), ActorProcessingErr> {
        for leg in state.observed.legs.keys() {
            state.context.legs.forget(*leg);
        }
        Ok(())
    }
}

impl CallState {
    /// Notes what happened to a leg and what of it has to be committed.
    fn leg_event(&mut self, leg: LegId, event: LegEvent, myself: &ActorRef<CallMessage>) {
        let seen = self.observed.legs.entry(leg).or_default();
        match event {
            LegEvent::Alerting { early_media } => {
                if seen.phase < Phase::Alerting {
                    seen.phase = Phase::Alerting;
                }
                // A leg that has answered sends early media no more.
                let legs = &self.observed.legs;
                let over = |early: LegId| legs.get(&early).is_none_or(|l| l.phase >= Phase::Up);
                if early_media && self.observed.early.is_none_or(over) {
                    self.observed.early = Some(leg);
                }
            }
            LegEvent::Answered(answer) if seen.phase < Phase::Ending => {
                seen.phase = Phase::Proposed;
                let answered = answered(leg, answer);
                if self.preparing == Some(leg) {
                    self.preparing = None;
                    self.ready = Some(answered.clone());
                }
                self.outbox.push(answered);
                self.prepare_with(leg);
            }
            // It crossed our CANCEL: nothing comes of it, but whoever inherits the leg has to
            // know its dialog.
            LegEvent::Answered(answer) if seen.phase == Phase::Ending => {
                self.outbox.push(answered(leg, answer));
            }
            LegEvent::Answered(_) => {}
            LegEvent::Silent if seen.phase == Phase::Calling => {
                self.outbox.push(Observation::LegSilent { leg });
            }
            LegEvent::Silent => {}
            LegEvent::Ended { sip_call_id, cause } => {
                if seen.phase != Phase::Gone {
                    seen.phase = Phase::Gone;
                    seen.audio = Audio::Silence;
                    self.outbox.push(Observation::LegEnded {
                        leg,
                        sip_call_id,
                        cause,
                    });
                    self.context.legs.forget(leg);
                    self.end_with(leg, myself);
                    self.take_back(leg);
                }
                self.preparing.take_if(|preparing| *preparing == leg);
                self.lingering.take_if(|lingering| *lingering == leg);
                if self.observed.early == Some(leg) {
                    self.observed.early = None;
                }
            }
            LegEvent::Key(key) => self.key_pressed(leg, key),
            LegEvent::Changed { held, checkpoint } => {
                self.changes.push(leg);
                self.outbox.push(Observation::LegHeld {
                    leg,
                    held,
                    checkpoint,
                });
            }
            LegEvent::Renewed { held, checkpoint } => {
                self.outbox.push(Observation::LegHeld {
                    leg,
                    held,
                    checkpoint,
                });
            }
            LegEvent::Played(audio) => {
                match audio {
                    Audio::Prompt(_) => self.observed.greeted = true,
                    Audio::Say(_, Announcement::Waiting(_)) => self.observed.say = None,
                    // Asked for twice while it played, it is heard once more.
                    Audio::Advert(_) => self.observed.adverts = self.adverts(),
                    // The leg counts as hearing it, so that it is not played again before
                    // the call is over.
                    Audio::Tone(_) | Audio::Say(..) => {
                        self.outbox.push(Observation::Confirmed { leg });
                    }
                    Audio::Whisper(_) => seen.announced = true,
                    Audio::Silence | Audio::Bridge(_) | Audio::Music(_) | Audio::Ringing => {}
                }
            }
        }
    }

    /// A key counts where the call is in a queue that gives it a meaning. An agent's key
    /// cuts the announcement to him short.
    fn key_pressed(&mut self, leg: LegId, key: Key) {
        let seen = self.observed.legs.get_mut(&leg);
        if let Some(seen) = seen.filter(|seen| matches!(seen.audio, Audio::Whisper(_))) {
            seen.announced = true;
            return;
        }
        if self.outbox.keys() >= limits::KEYS_WAITING_MAX {
            return;
        }
        let means = {
            let state = self.context.state.read();
            let row = state.calls.get(&self.call);
            row.is_some_and(|row| {
                row.caller().is_some_and(|caller| caller.id == leg) && state.key_means(row, key)
            })
        };
        if means {
            self.outbox.push(Observation::KeyPressed { leg, key });
        }
    }

    /// How often the caller asked for the advert.
    fn adverts(&self) -> u32 {
        let state = self.context.state.read();
        let visit = state
            .calls
            .get(&self.call)
            .and_then(|row| row.visit.as_ref());
        visit.map_or(0, |visit| visit.adverts)
    }

    /// Sets the timer of the next announcement, when there is to be one and none runs.
    fn plan_announcement(&mut self, pause_ms: Option<u64>, myself: &ActorRef<CallMessage>) {
        if let Some(pause_ms) = pause_ms
            && !self.announcing
            && self.observed.say.is_none()
        {
            self.announcing = true;
            myself.send_after(Duration::from_millis(pause_ms), || CallMessage::Announce);
        }
    }

    /// Tells the caller where he stands, as the state knows it now.
    fn announce(&mut self) {
        self.announcing = false;
        let state = self.context.state.read();
        let row = state.calls.get(&self.call);
        self.observed.say = row.and_then(|row| state.standing(row));
    }

    /// The far end of a ringing call answered: the caller's leg is made ready at once, so
    /// that one commit covers both answers. Nothing is sent to the caller before it.
    fn prepare_with(&mut self, answered: LegId) {
        let row = self.context.state.read().calls.get(&self.call).cloned();
        let Some(row) = row.filter(|row| matches!(row.stage, Stage::Ringing { .. })) else {
            return;
        };
        let fresh = row.caller().filter(|leg| leg.seen == Seen::Fresh);
        let Some(caller) = fresh.map(|leg| leg.id).filter(|caller| *caller != answered) else {
            return;
        };
        match self.observed.legs.get(&caller).map(|leg| leg.phase) {
            None | Some(Phase::Fresh | Phase::Alerting) => {
                self.phase(caller, Phase::Proposed);
                self.preparing = Some(caller);
                self.context.legs.prepare(&row, caller);
            }
            // Made ready with a phone whose answer came too late.
            Some(Phase::Proposed) => {
                if let Some(ready) = self.ready.clone() {
                    self.outbox.push(ready);
                }
            }
            Some(_) => {}
        }
    }

    /// One leg of a bridge went: the other has nobody left to hear and is ended without
    /// waiting for the commit. Their ends are committed together when it goes soon.
    fn end_with(&mut self, gone: LegId, myself: &ActorRef<CallMessage>) {
        let other = {
            let state = self.context.state.read();
            let row = state.calls.get(&self.call);
            row.and_then(|row| match row.stage {
                Stage::Bridged { far } if far == gone => row.caller().map(|leg| leg.id),
                Stage::Bridged { far } if row.caller().is_some_and(|leg| leg.id == gone) => {
                    Some(far)
                }
                _ => None,
            })
        };
        let up = |leg: &LegId| {
            let phase = self.observed.legs.get(leg).map(|seen| seen.phase);
            phase == Some(Phase::Up)
        };
        // What is sent without a lease is lost: then the commit brings the end.
        let Some(other) = other.filter(up).filter(|_| self.context.legs.may_signal()) else {
            return;
        };
        self.end(other, Cause::NORMAL);
        self.lingering = Some(other);
        let myself = myself.clone();
        tokio::spawn(async move {
            tokio::time::sleep(limits::LINGER).await;
            // Nobody is left to hear it when the call has ended meanwhile.
            let _ = myself.cast(CallMessage::Lingered);
        });
    }

    /// The caller left while phones rang for him: they are told without waiting for the
    /// commit. His end is committed before whatever becomes of them, so that it counts
    /// against nobody.
    fn take_back(&mut self, gone: LegId) {
        let rung: Vec<LegId> = {
            let state = self.context.state.read();
            let row = state.calls.get(&self.call);
            let row = row.filter(|row| matches!(row.stage, Stage::Waiting | Stage::Ringing { .. }));
            let row = row.filter(|row| row.caller().is_some_and(|leg| leg.id == gone));
            let far = row.into_iter().flat_map(|row| row.legs.iter().skip(1));
            far.map(|leg| leg.id).collect()
        };
        // What is sent without a lease is lost: then the commit brings the end.
        if rung.is_empty() || !self.context.legs.may_signal() {
            return;
        }
        for leg in rung {
            let phase = self.observed.legs.get(&leg).map(|seen| seen.phase);
            // An answer that is being committed is judged there.
            if matches!(phase, Some(Phase::Calling | Phase::Alerting)) {
                self.end(leg, Cause::NORMAL);
            }
        }
    }

    /// Proposes what waits, when nothing is under way.
    fn flush(&mut self, myself: &ActorRef<CallMessage>) {
        if self.preparing.is_some() || self.lingering.is_some() {
            return;
        }
        if self.outbox.is_under_way() && self.unsure.is_none() {
            return;
        }
        if self.resting || self.outbox.is_empty() {
            return;
        }
        // Until the row has been seen here nobody knows whose it is.
        let Some(epoch) = self.epoch else { return };
        if self.outbox.len() > limits::OUTBOX_MAX {
            warn!(call = %self.call, "more happens to the call than can be committed");
            self.outbox.truncate(limits::OUTBOX_MAX);
        }
        // Asked again under the same id, what was seen is merged once.
        let (request, command) = match self.unsure.take() {
            Some((request, command)) => (Some(request), command),
            None => {
                self.changing.append(&mut self.changes);
                let level = self.level();
                (None, Box::new(self.outbox.propose(self.call, epoch, level)))
            }
        };
        let (desk, myself) = (self.context.desk.clone(), myself.clone());
        let tenure = self.tenure;
        tokio::spawn(async move {
            let result = match request {
                Some(request) => desk.propose_again(request, &command, limits::PROPOSE).await,
                None => desk.propose(&command, limits::PROPOSE).await,
            };
            let result = result.map_err(|why| (why, command));
            // Nobody is left to hear it when the call has ended meanwhile.
            let _ = myself.cast(CallMessage::Proposed(tenure, result));
        });
    }

    /// The feature level in force.
    fn level(&self) -> u32 {
        self.context.state.read().meta.feature_level
    }

    /// Takes in what became of a proposal.
    fn proposed(
        &mut self,
        result: Result<Reply, (DeskError, Box<Command>)>,
        myself: &ActorRef<CallMessage>,
    ) {
        let (merged, agreed) = match result {
            Ok(Reply::Refused(Refusal::NotFound(_))) => {
                // The call is over in the log: what is left here goes.
                self.seen = true;
                (true, true)
            }
            // Somebody else has the call, as the row will say here soon. Ends and keys were
            // taken in; the session is the new owner's.
            Ok(Reply::Refused(Refusal::Stale)) => (true, false),
            Ok(_) => (true, true),
            Err((DeskError::Unknown(request), command)) => {
                self.unsure = Some((request, command));
                (false, false)
            }
            Err(_) => (false, false),
        };
        // The phone that changes its session may not wait longer than this. One that is refused
        // has its session as before, which is said after what may be committed yet.
        for leg in self.changing.drain(..) {
            self.context.legs.agree(leg, agreed);
        }
        if self.unsure.is_none() {
            for leg in self.outbox.returned(merged) {
                self.context.legs.end_is_known(leg);
            }
        }
        if !merged {
            self.resting = true;
            let retry = myself.clone();
            tokio::spawn(async move {
                tokio::time::sleep(limits::RETRY).await;
                let _ = retry.cast(CallMessage::Retry);
            });
        }
    }

    /// Carries out what remains to be done; true when nothing ever will.
    fn reconcile(&mut self, myself: &ActorRef<CallMessage>) -> bool {
        let (row, pause_ms, made) = {
            let state = self.context.state.read();
            let row = state.calls.get(&self.call);
            let pause_ms = row.and_then(|row| state.announce_every(row));
            let made = self.call.index() <= state.meta.index;
            (row.cloned(), pause_ms, made)
        };
        if let Some(row) = &row
            && !self.is_ours(row)
        {
            return true;
        }
        self.plan_announcement(pause_ms, myself);
        let waits = |row: &CallRow| row.is_waiting() || whispered(row, &self.observed).is_some();
        if !row.as_ref().is_some_and(waits) {
            self.observed.say = None;
        }
        if row.is_none() && self.was_taken_over() {
            return true;
        }
        match &row {
            Some(_) => self.seen = true,
            // This node has yet to apply the entry that made the call.
            None if !self.seen && !made && self.started.elapsed() < limits::UNSEEN_MAX => {
                return false;
            }
            None => self.seen = true,
        }
        // What is done may make something else due: an answered leg can hear a prompt.
        for _ in 0..limits::ROUNDS {
            let effects = outstanding(row.as_ref(), &self.observed);
            let done = effects
                .into_iter()
                .filter(|effect| self.carry_out(row.as_ref(), effect, myself));
            if done.count() == 0 {
                break;
            }
        }
        let all_gone = self
            .observed
            .legs
            .values()
            .all(|leg| leg.phase == Phase::Gone);
        row.is_none() && all_gone
    }

    /// True when this node has the call. One that went to another node, or came back under
    /// another epoch, is let go here without a word: its new owner speaks for it.
    fn is_ours(&mut self, row: &CallRow) -> bool {
        let here = row.owner == self.context.node;
        if here {
            self.anchor = Some((row.address, row.address_epoch));
        }
        let before = self.epoch.replace(row.epoch);
        if here && before == Some(row.epoch) {
            return true;
        }
        if here && before.is_none() {
            self.observed.greeted = self.has_been_greeted(row);
            self.miss_caller(row);
            return true;
        }
        let observed = std::mem::take(&mut self.observed);
        let known = row.legs.iter().map(|leg| leg.id);
        let known: BTreeSet<LegId> = known.chain(observed.legs.into_keys()).collect();
        for leg in known {
            self.context.legs.let_go(leg);
        }
        self.pass_on(before.unwrap_or(row.epoch));
        self.tenure += 1;
        self.resuming_since = None;
        self.changes.clear();
        self.changing.clear();
        self.unsure = None;
        (self.preparing, self.ready, self.lingering) = (None, None, None);
        self.observed.greeted = here && self.has_been_greeted(row);
        here
    }

    /// True for a call that is over, and that another node ended: its address went there first,
    /// while this one heard of neither. Its legs are let go here without a word.
    fn was_taken_over(&self) -> bool {
        let state = self.context.state.read();
        self.anchor.is_some_and(|(address, epoch)| {
            let row = state.addresses.get(&address);
            row.is_none_or(|row| row.epoch != epoch || row.holder != Some(self.context.node))
        })
    }

    /// A call that was committed and never admitted has nobody at its beginning: its caller
    /// was refused while nobody knew what became of the commit. No phone rings for him.
    fn miss_caller(&mut self, row: &CallRow) {
        let incoming = |leg: &&LegRow| leg.role == LegRole::Caller && leg.target.is_none();
        let fresh = row.caller().filter(incoming);
        let fresh = fresh.filter(|leg| leg.seen == Seen::Fresh && !row.moved);
        let Some(caller) = fresh.map(|leg| leg.id) else {
            return;
        };
        if !self.observed.legs.contains_key(&caller) {
            // An actor that failed may have left the leg.
            self.end(caller, Cause::FAILURE);
            self.never_began(caller, Cause::FAILURE);
        }
    }

    /// Nobody will report the end of what never began.
    fn never_began(&mut self, leg: LegId, cause: Cause) {
        self.phase(leg, Phase::Gone);
        self.outbox.push(Observation::LegEnded {
            leg,
            sip_call_id: String::new(),
            cause,
        });
    }

    /// What was observed here and stays true whoever has the call is said once more, and
    /// merged by whoever applies it. All else is out of date.
    fn pass_on(&mut self, epoch: u32) {
        let mut noted = self.outbox.pass_on();
        if noted.is_empty() {
            return;
        }
        let (desk, call) = (self.context.desk.clone(), self.call);
        let state = self.context.state.clone();
        tokio::spawn(async move {
            for _ in 0..limits::PASS_ON_TRIES {
                let level = state.read().meta.feature_level;
                let command = outbox::command(call, epoch, &noted, level);
                match desk.propose(&command, limits::PROPOSE).await {
                    Ok(_) => return,
                    Err(DeskError::NoQuorum) => {}
                    Err(_) => {
                        noted.retain(Noted::is_end);
                    }
                }
                if noted.is_empty() {
                    return;
                }
                tokio::time::sleep(limits::RETRY).await;
            }
            // The next owner finds out by itself, only later.
        });
    }

    /// True when a caller whom another owner has answered has heard the greeting to its end.
    fn has_been_greeted(&self, row: &CallRow) -> bool {
        let answered_at = row.caller().and_then(|caller| caller.answered_at);
        let (Some(greeting), Some(at)) = (row.greeting.filter(|_| row.moved), answered_at) else {
            return false;
        };
        let heard_ms = self.context.state.read().meta.now.since(at);
        self.context.legs.lasts(greeting) <= Duration::from_millis(heard_ms)
    }

    /// Carries out one effect; false when it has to wait.
    fn carry_out(
        &mut self,
        row: Option<&CallRow>,
        effect: &Effect,
        myself: &ActorRef<CallMessage>,
    ) -> bool {
        let legs = Arc::clone(&self.context.legs);
        match *effect {
            Effect::Resume(leg) => {
                let Some(row) = row else { return false };
                let since = *self.resuming_since.get_or_insert_with(Instant::now);
                let patient = since.elapsed() < limits::RESUME_MAX;
                if since.elapsed() > limits::RESUME_GIVEN_UP {
                    warn!(call = %self.call, %leg, "a leg cannot be taken up here");
                    self.never_began(leg, Cause::FAILURE);
                    return true;
                }
                if self.resuming || !legs.resume(row, leg, patient) {
                    if !std::mem::replace(&mut self.resuming, true) {
                        myself.send_after(limits::RESUME_AGAIN, || CallMessage::Resume);
                    }
                    return false;
                }
                let seen = self.observed.legs.entry(leg).or_default();
                seen.known = true;
                let stands = row.leg(leg).is_some_and(|leg| leg.seen == Seen::Answered);
                if stands && seen.phase == Phase::Fresh {
                    seen.phase = Phase::Up;
                    // Who may be talking already is not interrupted for an announcement.
                    seen.announced = true;
                }
            }
            Effect::Invite(leg) => {
                self.phase(leg, Phase::Calling);
                if let Some(row) = row {
                    legs.invite(row, leg);
                }
            }
            Effect::Alert(leg) => {
                self.phase(leg, Phase::Alerting);
                legs.alert(leg, self.observed.early);
            }
            Effect::Prepare(leg) => {
                self.phase(leg, Phase::Proposed);
                if let Some(row) = row {
                    legs.prepare(row, leg);
                }
            }
            Effect::Answer(leg) => {
                self.phase(leg, Phase::Up);
                legs.answer(leg);
            }
            Effect::Confirm(leg) => {
                self.phase(leg, Phase::Up);
                legs.confirm(leg);
            }
            Effect::End(leg, cause) => {
                let unsent = self.is_unsent(row, leg);
                self.end(leg, cause);
                if unsent {
                    self.never_began(leg, cause);
                }
            }
            Effect::Hear(leg, audio) => {
                self.observed.legs.entry(leg).or_default().audio = audio;
                legs.hear(self.call, leg, audio);
            }
            Effect::Drop(leg) => {
                self.observed.legs.remove(&leg);
                // The row says so before the reply to what was proposed.
                legs.end_is_known(leg);
                legs.forget(leg);
            }
        }
        true
    }

    /// True for a leg to be rung that was taken back before this was done.
    fn is_unsent(&self, row: Option<&CallRow>, leg: LegId) -> bool {
        let own = row.and_then(|row| row.leg(leg));
        let fresh = own.is_some_and(|leg| leg.target.is_some() && leg.seen == Seen::Fresh);
        fresh && !self.observed.legs.contains_key(&leg)
    }

    fn end(&mut self, leg: LegId, cause: Cause) {
        self.phase(leg, Phase::Ending);
        self.context.legs.end(leg, cause);
    }

    fn phase(&mut self, leg: LegId, phase: Phase) {
        self.observed.legs.entry(leg).or_default().phase = phase;
    }
}

fn answered(leg: LegId, answer: Answer) -> Observation {
    Observation::LegAnswered {
        leg,
        sip_call_id: answer.sip_call_id,
        remote: answer.remote,
        codec: answer.codec,
        checkpoint: answer.checkpoint,
    }
}
