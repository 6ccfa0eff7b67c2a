//! Signalling and media of a life, reduced to messages: which leg is in which state towards
//! its far end. It stands in for the SIP stack and the RTP engine, whose own tests and phones
//! are elsewhere; what is repeated there until it is answered is repeated here.

use std::time::Duration;

use strowger_actors::ports::{Answer, LegEvent, Legs};
use strowger_core::call::{CallRow, Cause, Codec, LegRole, Seen};
use strowger_core::ids::{BlobId, CallId, LegId};
use strowger_core::outstanding::Audio;

use crate::node::Lived;
use crate::phones::FromPhone;
use crate::world::{Duty, Event, Sender, World};

/// What is sent to a phone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromExchange {
    /// Please ring; under this epoch.
    Invite(u32),
    /// We have your INVITE.
    Trying,
    /// It rings there.
    Ringing,
    /// Our 200 to the caller.
    Ok,
    /// A final refusal of the caller.
    Final(u16),
    /// Our ACK.
    Ack,
    /// CANCEL of the INVITE of this epoch.
    Cancel(u32),
    /// BYE under this epoch.
    Bye(u32),
    /// The change of the session is agreed, or not.
    Agree(bool),
    /// 200 to a refresh.
    Refreshed,
    /// 200 to BYE.
    Done,
    /// 200 to CANCEL.
    TakenBack,
    /// 481: no such leg here.
    Gone,
}

/// How long our own ending of a leg may take, as in the daemon, ms.
const ENDING: u64 = 2_000;
/// The same for a leg that holds a channel of a trunk.
const ENDING_TRUNK: u64 = 5_000;
/// A final answer is repeated, and an INVITE waits for any answer, so long (64 · T1), ms.
const PATIENCE: u64 = 32_000;
/// An answer to BYE waits for its commit so long (T1), ms.
const PARTING: u64 = 500;
/// Between two refreshes of a session, ms.
const REFRESH: u64 = 90_000;
/// How long a sound lasts, ms.
const SOUND: u64 = 3_000;

/// One leg of a life.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its call.
    pub call: CallId,
    /// Its far end.
    pub far: Option<u64>,
    /// Epoch under which it is spoken for.
    pub epoch: u32,
    incoming: bool,
    answered: bool,
    acked: bool,
    heard: bool,
    /// We are ending it; whether its agent is being told why first.
    ending: Option<bool>,
    /// Its end was reported.
    pub ended: bool,
    /// Its far end hung up, and has had no answer to that.
    parting: bool,
    held: bool,
    /// The call's actor has done with it.
    pub gone: bool,
    plays: u64,
    playing: Option<(u64, Audio)>,
    backlog: Vec<LegEvent>,
}

impl Entry {
    /// A leg about which nothing is known yet.
    pub fn new(call: CallId, far: Option<u64>, epoch: u32, incoming: bool) -> Self {
        Self {
            call,
            far,
            epoch,
            incoming,
            answered: false,
            acked: false,
            heard: false,
            ending: None,
            ended: false,
            parting: false,
            held: false,
            gone: false,
            plays: 0,
            playing: None,
            backlog: Vec::new(),
        }
    }

    fn facts(&self) -> Answer {
        Answer {
            sip_call_id: format!("far-{}", self.far.unwrap_or(0)),
            remote: None,
            codec: Codec::Pcmu,
            checkpoint: checkpoint(self.far.unwrap_or(0)),
        }
    }
}

/// What a new owner goes on from: the far end's number.
pub fn checkpoint(far: u64) -> Vec<u8> {
    far.to_be_bytes().to_vec()
}

/// The far end a checkpoint names.
pub fn far_of(checkpoint: &[u8]) -> Option<u64> {
    checkpoint.try_into().ok().map(u64::from_be_bytes)
}

fn ended(cause: Cause) -> LegEvent {
    LegEvent::Ended {
        sip_call_id: String::new(),
        cause,
    }
}

/// Pause before the next repeat of a message, ms; `None` when it is given up (RFC 3261
/// §17.1.2.2, timers E and F).
pub fn repeat_after(attempt: u32) -> Option<u64> {
    let sent_for: u64 = (0..attempt).map(|n| (500u64 << n.min(3)).min(4_000)).sum();
    (sent_for < PATIENCE).then(|| (500u64 << attempt.min(3)).min(4_000))
}

/// Signalling and media of one life, as its call actors see them.
pub struct SimLegs(pub Lived);

impl SimLegs {
    fn act<T>(&self, otherwise: T, act: impl FnOnce(&mut World, u64, u64) -> T) -> T {
        let result = {
            let mut world = self.0.sim.world();
            if world.life(self.0.node, self.0.life).is_none() {
                return otherwise;
            }
            act(&mut world, self.0.node, self.0.life)
        };
        self.0.sim.stirred.notify_one();
        result
    }
}

impl Legs for SimLegs {
    fn resume(&self, call: &CallRow, leg: LegId, patient: bool) -> bool {
        self.act(true, |world, node, life| {
            world.resume(node, life, call, leg, patient)
        })
    }

    fn invite(&self, call: &CallRow, leg: LegId) {
        self.act((), |world, node, life| {
            world.tell_leftovers(node, life);
            world.invite(node, life, call, leg);
        });
    }

    fn alert(&self, leg: LegId, _early: Option<LegId>) {
        self.act((), |world, node, life| {
            world.say(node, life, leg, FromExchange::Ringing);
        });
    }

    fn prepare(&self, call: &CallRow, leg: LegId) {
        self.act((), |world, node, life| {
            let Some(own) = world.life(node, life) else {
                return;
            };
            let known = own.legs.get(&leg).filter(|entry| entry.far.is_some());
            let event = match known {
                Some(entry) => LegEvent::Answered(entry.facts()),
                // The caller's leg did not outlive what interrupted its admission.
                None => {
                    own.legs
                        .entry(leg)
                        .or_insert_with(|| Entry::new(call.id, None, call.epoch, true));
                    ended(Cause::FAILURE)
                }
            };
            world.report(node, life, leg, event);
        });
    }

    fn answer(&self, leg: LegId) {
        self.act((), |world, node, life| world.answer_caller(node, life, leg));
    }

    fn confirm(&self, leg: LegId) {
        self.act((), |world, node, life| {
            world.with_leg(node, life, leg, |entry| entry.acked = true);
            world.say(node, life, leg, FromExchange::Ack);
            world.duty_after(REFRESH, (node, life), leg, Duty::Refresh);
        });
    }

    fn agree(&self, leg: LegId, yes: bool) {
        self.act((), |world, node, life| {
            world.say(node, life, leg, FromExchange::Agree(yes));
        });
    }

    fn end(&self, leg: LegId, cause: Cause) {
        self.act((), |world, node, life| world.end(node, life, leg, cause));
    }

    fn may_signal(&self) -> bool {
        self.act(false, |world, node, _| world.has_lease(node))
    }

    fn hear(&self, _call: CallId, leg: LegId, audio: Audio) {
        self.act((), |world, node, life| {
            let lasts = match audio {
                Audio::Prompt(_) | Audio::Say(..) | Audio::Advert(_) | Audio::Whisper(_) => SOUND,
                Audio::Tone(_) => 600,
                Audio::Silence | Audio::Bridge(_) | Audio::Music(_) | Audio::Ringing => 0,
            };
            let token = world.with_leg(node, life, leg, |entry| {
                entry.plays += 1;
                entry.playing = Some((entry.plays, audio));
                entry.plays
            });
            if let Some(token) = token.filter(|_| lasts > 0) {
                world.duty_after(lasts, (node, life), leg, Duty::Played(token));
            }
        });
    }

    fn lasts(&self, _sound: BlobId) -> Duration {
        Duration::from_millis(SOUND)
    }

    fn let_go(&self, leg: LegId) {
        self.act((), |world, node, life| {
            world.with_leg(node, life, leg, |entry| entry.parting = false);
        });
        self.forget(leg);
    }

    fn end_is_known(&self, leg: LegId) {
        self.act((), |world, node, life| world.parted(node, life, leg));
    }

    fn forget(&self, leg: LegId) {
        self.act((), |world, node, life| {
            let Some(own) = world.life(node, life) else {
                return;
            };
            // What has ended for us is still brought to its end on the wire.
            match own.legs.get_mut(&leg) {
                Some(entry) if entry.ended => entry.gone = true,
                _ => drop(own.legs.remove(&leg)),
            }
            world.duty_after(PATIENCE * 2, (node, life), leg, Duty::Drop);
        });
    }
}

impl World {
    fn with_leg<T>(
        &mut self,
        node: u64,
        life: u64,
        leg: LegId,
        act: impl FnOnce(&mut Entry) -> T,
    ) -> Option<T> {
        self.life(node, life)?.legs.get_mut(&leg).map(act)
    }

    fn sender(&mut self, node: u64, life: u64, leg: LegId) -> Option<Sender> {
        let far = self.with_leg(node, life, leg, |entry| entry.far)??;
        Some(Sender {
            node,
            life,
            leg,
            far,
        })
    }

    /// Sends a message about a leg.
    fn say(&mut self, node: u64, life: u64, leg: LegId, message: FromExchange) {
        if let Some(sender) = self.sender(node, life, leg) {
            self.leave(sender, message, 0);
        }
    }

    fn duty_after(&mut self, ms: u64, (node, life): (u64, u64), leg: LegId, duty: Duty) {
        if let Some(sender) = self.sender(node, life, leg) {
            self.after(ms, Event::Duty(sender, duty));
        }
    }

    /// Passes a report to the call's actor, or keeps it until there is one.
    pub fn report(&mut self, node: u64, life: u64, leg: LegId, event: LegEvent) {
        self.note(&format!("node {node} hears of {leg}: {event:?}"));
        let Some(own) = self.life(node, life) else {
            return;
        };
        let Some(entry) = own.legs.get_mut(&leg) else {
            return;
        };
        if matches!(event, LegEvent::Ended { .. }) && std::mem::replace(&mut entry.ended, true) {
            return;
        }
        let call = entry.call;
        let board = own.switchboard.as_ref();
        let heard = board.is_some_and(|board| board.leg(call, leg, event.clone()));
        if !heard && let Some(entry) = own.legs.get_mut(&leg) {
            entry.backlog.push(event);
        }
    }

    /// The call's actor runs: it hears what was reported before.
    pub fn opened(&mut self, node: u64, life: u64, leg: LegId) {
        let Some(own) = self.life(node, life) else {
            return;
        };
        let Some(entry) = own.legs.get_mut(&leg) else {
            return;
        };
        let (call, backlog) = (entry.call, std::mem::take(&mut entry.backlog));
        for event in backlog {
            if let Some(board) = &own.switchboard {
                board.leg(call, leg, event);
            }
        }
    }

    fn resume(&mut self, node: u64, life: u64, call: &CallRow, leg: LegId, patient: bool) -> bool {
        // The old process may hold the ports a little longer.
        let occupied = patient && self.chance.once_in(100);
        let Some(own) = self.life(node, life) else {
            return true;
        };
        if own.legs.get(&leg).is_some_and(|entry| !entry.ended) {
            return true;
        }
        if occupied || !own.bound.contains(&call.address) {
            return false;
        }
        let Some(row) = call.leg(leg) else {
            return true;
        };
        let incoming = row.role == LegRole::Caller && row.target.is_none();
        let far = row.checkpoint.as_deref().and_then(far_of);
        let answered = row.seen == Seen::Answered;
        // His INVITE came again before this and became another call.
        let taken = !answered
            && own
                .legs
                .values()
                .any(|entry| entry.far == far && !entry.ended);
        let mut entry = Entry::new(call.id, far.filter(|_| !taken), call.epoch, incoming);
        (entry.answered, entry.held) = (answered, row.held);
        entry.acked = answered;
        entry.heard = true;
        let now = own.state.read().meta.now;
        let recent = now.since(row.answered_at.unwrap_or_default()) < PATIENCE;
        own.legs.insert(leg, entry);
        let Some(far) = far.filter(|_| !taken) else {
            self.report(node, life, leg, ended(Cause::FAILURE));
            return true;
        };
        if let Some(far) = self.fars.get_mut(&far) {
            far.leg = Some(leg);
        }
        self.note(&format!("node {node} takes {leg} up, far end {far}"));
        if answered {
            self.duty_after(REFRESH, (node, life), leg, Duty::Refresh);
        }
        if answered && incoming && recent {
            self.answer_caller(node, life, leg);
        }
        true
    }

    fn invite(&mut self, node: u64, life: u64, call: &CallRow, leg: LegId) {
        let Some(row) = call.leg(leg) else { return };
        let Some(target) = row.target.clone() else {
            return;
        };
        let far = self.new_callee(&target.uri, call.address, (leg, call.epoch));
        let failover = {
            let Some(own) = self.life(node, life) else {
                return;
            };
            let entry = Entry::new(call.id, far, call.epoch, false);
            own.legs.insert(leg, entry);
            own.state.read().failover(call, &row.role)
        };
        if far.is_none() {
            return self.report(node, life, leg, ended(Cause::UNKNOWN_NUMBER));
        }
        self.say(node, life, leg, FromExchange::Invite(call.epoch));
        self.duty_after(PATIENCE, (node, life), leg, Duty::Unanswered);
        if let Some(patience) = failover {
            self.duty_after(patience, (node, life), leg, Duty::Silent);
        }
    }

    fn answer_caller(&mut self, node: u64, life: u64, leg: LegId) {
        let fresh = self.with_leg(node, life, leg, |entry| {
            entry.acked = false;
            !std::mem::replace(&mut entry.answered, true)
        });
        if fresh == Some(true) {
            self.duty_after(REFRESH, (node, life), leg, Duty::Refresh);
        }
        self.duty_after(0, (node, life), leg, Duty::Repeat(0));
    }

    fn end(&mut self, node: u64, life: u64, leg: LegId, cause: Cause) {
        let entry = self.with_leg(node, life, leg, |entry| {
            let before = entry.ending.replace(false);
            (entry.clone(), before)
        });
        let Some((entry, _)) = entry else { return };
        if entry.far.is_none() {
            return self.report(node, life, leg, ended(cause));
        }
        let trunk = {
            let own = self.life(node, life);
            own.is_some_and(|own| {
                let state = own.state.read();
                let row = state.calls.get(&entry.call);
                let role = row.and_then(|row| row.leg(leg)).map(|leg| leg.role.clone());
                matches!(role, Some(LegRole::Trunk(..)))
            })
        };
        let patience = if trunk { ENDING_TRUNK } else { ENDING };
        self.duty_after(patience, (node, life), leg, Duty::Force);
        if entry.incoming && !entry.answered {
            let status = if (300..700).contains(&cause.status) {
                cause.status
            } else {
                480
            };
            self.say(node, life, leg, FromExchange::Final(status));
            self.report(node, life, leg, ended(cause));
        } else if entry.answered {
            // An unacknowledged answer of an agent has crossed this: he is told why first.
            let parts = !entry.incoming && !entry.acked && self.is_agent(node, life, leg);
            if parts && self.chance.once_in(700) {
                self.part(node, life, leg);
            } else if !entry.incoming {
                self.say(node, life, leg, FromExchange::Ack);
                self.say(node, life, leg, FromExchange::Bye(entry.epoch));
            } else if entry.acked {
                self.say(node, life, leg, FromExchange::Bye(entry.epoch));
            }
            // A caller who has not acknowledged our 200 gets no BYE before he does
            // (RFC 3261 §15).
        } else {
            self.say(node, life, leg, FromExchange::Cancel(entry.epoch));
        }
    }

    /// An agent who came too late is told so, then his leg is ended.
    fn part(&mut self, node: u64, life: u64, leg: LegId) {
        self.with_leg(node, life, leg, |entry| {
            entry.acked = true;
            entry.ending = Some(true);
        });
        self.say(node, life, leg, FromExchange::Ack);
        let words = self.chance.within(1_500, 5_000);
        self.duty_after(words, (node, life), leg, Duty::Parted);
    }

    fn is_agent(&mut self, node: u64, life: u64, leg: LegId) -> bool {
        let Some(own) = self.life(node, life) else {
            return false;
        };
        let state = own.state.read();
        let mut calls = state.calls.values();
        calls.any(|call| {
            call.leg(leg)
                .is_some_and(|leg| matches!(leg.role, LegRole::Agent(_)))
        })
    }

    /// A message of a life leaves its node: unless it is over, stands still, has no lease, or
    /// the network loses it; what is to be answered is repeated then.
    pub fn leave(&mut self, sender: Sender, message: FromExchange, attempt: u32) {
        let has_lease = self.has_lease(sender.node);
        let frozen = self.is_frozen(sender.node);
        let Some(own) = self.life(sender.node, sender.life) else {
            return;
        };
        let entry = own.legs.get(&sender.leg);
        let gone = entry.is_none_or(|entry| entry.ended);
        let own_leg = matches!(message, FromExchange::Invite(_) | FromExchange::Ringing);
        // A leg that was let go says nothing more.
        if own_leg && gone {
            return;
        }
        // CANCEL waits for the first answer to its INVITE (RFC 3261 §9.1).
        let early = matches!(message, FromExchange::Cancel(_))
            && self.fars.get(&sender.far).is_some_and(|far| !far.is_rung());
        if early {
            if let Some(pause) = repeat_after(attempt) {
                let pause = pause / 10;
                self.after(pause, Event::Leave(sender, message, attempt + 1));
            }
            return;
        }
        if frozen {
            if let Some(node) = self.nodes.get_mut(&sender.node) {
                node.held.push(Event::Leave(sender, message, attempt));
            }
            return;
        }
        let always = matches!(message, FromExchange::Done | FromExchange::TakenBack);
        let quiet = !has_lease && !always;
        let lost = !self.calm && self.chance.once_in(self.plan.lost);
        if !quiet && !lost {
            self.note(&format!(
                "node {} -> far end {} of {}: {message:?}",
                sender.node, sender.far, sender.leg
            ));
            let travel = self.chance.within(1, 20);
            return self.after(travel, Event::ToPhone(sender.far, message));
        }
        let once = matches!(message, FromExchange::Trying | FromExchange::Ringing);
        if let Some(pause) = repeat_after(attempt).filter(|_| !once) {
            self.after(pause, Event::Leave(sender, message, attempt + 1));
        }
    }

    /// A message for a leg that is here.
    pub fn signal(&mut self, node: u64, life: u64, leg: LegId, message: &FromPhone) {
        let Some(entry) = self.with_leg(node, life, leg, |entry| {
            entry.heard = true;
            entry.clone()
        }) else {
            return;
        };
        match message {
            FromPhone::Invite if entry.answered => {
                self.say(node, life, leg, FromExchange::Ok);
            }
            FromPhone::Invite => self.say(node, life, leg, FromExchange::Trying),
            FromPhone::Cancel => {
                self.say(node, life, leg, FromExchange::TakenBack);
                if !entry.answered {
                    self.report(node, life, leg, ended(Cause::CANCELLED));
                }
            }
            FromPhone::AckRefusal => {
                let refused_here = entry.answered || entry.ended || entry.ending.is_some();
                if entry.incoming && !refused_here {
                    self.report(node, life, leg, ended(Cause::CANCELLED));
                }
            }
            FromPhone::Ack => {
                self.with_leg(node, life, leg, |entry| entry.acked = true);
                if entry.incoming && entry.ending.is_some() && !entry.acked {
                    self.say(node, life, leg, FromExchange::Bye(entry.epoch));
                }
            }
            FromPhone::Bye if entry.parting => {}
            FromPhone::Bye => {
                let waits = entry.answered && !entry.ended && self.has_lease(node);
                self.with_leg(node, life, leg, |entry| entry.parting = true);
                if waits {
                    self.duty_after(PARTING, (node, life), leg, Duty::Parting);
                } else {
                    self.parted(node, life, leg);
                }
                self.report(node, life, leg, ended(Cause::NORMAL));
            }
            // Of an old CANCEL the phone has said so too; its INVITE is answered apart.
            FromPhone::Done if !entry.answered => {}
            FromPhone::Done | FromPhone::Gone => {
                if entry.ending.is_some() {
                    self.report(node, life, leg, ended(Cause::NORMAL));
                }
            }
            FromPhone::Ringing if !entry.answered => {
                let event = LegEvent::Alerting { early_media: false };
                self.report(node, life, leg, event);
            }
            FromPhone::Ringing => {}
            FromPhone::Answer => self.far_answered(node, life, leg, &entry),
            // It stopped ringing when it was told to, or by itself.
            FromPhone::Final(status) => {
                self.report(node, life, leg, ended(Cause::from_status(*status)));
            }
            FromPhone::Change(held) if entry.answered && entry.ending.is_none() => {
                self.with_leg(node, life, leg, |entry| entry.held = *held);
                let event = LegEvent::Changed {
                    held: *held,
                    checkpoint: entry.facts().checkpoint,
                };
                self.report(node, life, leg, event);
            }
            // A leg that is over is not refreshed.
            FromPhone::Refresh if entry.ended => self.say(node, life, leg, FromExchange::Gone),
            FromPhone::Refresh => self.say(node, life, leg, FromExchange::Refreshed),
            FromPhone::Change(_) => self.say(node, life, leg, FromExchange::Agree(false)),
            FromPhone::Key(key) => self.report(node, life, leg, LegEvent::Key(*key)),
        }
    }

    /// Answers who hung up, once.
    fn parted(&mut self, node: u64, life: u64, leg: LegId) {
        let waits = |entry: &mut Entry| std::mem::take(&mut entry.parting);
        if self.with_leg(node, life, leg, waits) == Some(true) {
            self.say(node, life, leg, FromExchange::Done);
        }
    }

    fn far_answered(&mut self, node: u64, life: u64, leg: LegId, entry: &Entry) {
        self.with_leg(node, life, leg, |entry| entry.answered = true);
        match entry.ending {
            None if !entry.answered => {
                self.report(node, life, leg, LegEvent::Answered(entry.facts()));
            }
            None if entry.acked => self.say(node, life, leg, FromExchange::Ack),
            // Its commit is under way.
            None => {}
            Some(true) => self.say(node, life, leg, FromExchange::Ack),
            Some(false) => {
                let may = self.has_lease(node) && self.is_agent(node, life, leg);
                if may && !entry.answered && self.chance.once_in(700) {
                    self.part(node, life, leg);
                    self.report(node, life, leg, LegEvent::Answered(entry.facts()));
                } else {
                    self.say(node, life, leg, FromExchange::Ack);
                    self.say(node, life, leg, FromExchange::Bye(entry.epoch));
                }
            }
        }
    }

    /// Something that signalling or media of a life do by the clock.
    pub fn duty(&mut self, sender: Sender, duty: Duty) {
        let (node, life, leg) = (sender.node, sender.life, sender.leg);
        if self.is_frozen(node) {
            if let Some(own) = self.nodes.get_mut(&node) {
                own.held.push(Event::Duty(sender, duty));
            }
            return;
        }
        if let Duty::Seek(message, looks) = &duty {
            return self.take_in_message(node, life, sender.far, message, (false, *looks));
        }
        let Some(entry) = self.with_leg(node, life, leg, |entry| entry.clone()) else {
            return;
        };
        if entry.far != Some(sender.far) {
            return;
        }
        match duty {
            Duty::Drop => {
                if entry.gone
                    && let Some(own) = self.life(node, life)
                {
                    own.legs.remove(&leg);
                }
            }
            Duty::Repeat(attempt) if entry.ended => {
                if entry.acked {
                    return;
                }
                match repeat_after(attempt) {
                    Some(pause) => {
                        self.say(node, life, leg, FromExchange::Ok);
                        self.duty_after(pause, (node, life), leg, Duty::Repeat(attempt + 1));
                    }
                    None => self.say(node, life, leg, FromExchange::Bye(entry.epoch)),
                }
            }
            Duty::Parting => self.parted(node, life, leg),
            _ if entry.ended => {}
            Duty::Played(token) => {
                if let Some((playing, audio)) = entry.playing.filter(|(now, _)| *now == token) {
                    let _ = playing;
                    self.with_leg(node, life, leg, |entry| entry.playing = None);
                    self.report(node, life, leg, LegEvent::Played(audio));
                }
            }
            Duty::Force => {
                if entry.ending == Some(false) {
                    self.report(node, life, leg, ended(Cause::NORMAL));
                }
            }
            Duty::Repeat(attempt) => {
                if entry.acked {
                    return;
                }
                match repeat_after(attempt) {
                    Some(pause) => {
                        self.say(node, life, leg, FromExchange::Ok);
                        self.duty_after(pause, (node, life), leg, Duty::Repeat(attempt + 1));
                    }
                    None => {
                        self.say(node, life, leg, FromExchange::Bye(entry.epoch));
                        self.report(node, life, leg, ended(Cause::SILENCE));
                    }
                }
            }
            Duty::Refresh => {
                let lives = self.fars.get(&sender.far).is_some_and(|far| far.is_live());
                if lives {
                    self.duty_after(REFRESH, (node, life), leg, Duty::Refresh);
                } else if self.has_lease(node) {
                    self.report(node, life, leg, ended(Cause::SILENCE));
                }
            }
            Duty::Parted => {
                self.with_leg(node, life, leg, |entry| entry.ending = Some(false));
                self.say(node, life, leg, FromExchange::Bye(entry.epoch));
                self.duty_after(ENDING, (node, life), leg, Duty::Force);
            }
            Duty::Unanswered if !entry.heard => {
                self.report(node, life, leg, ended(Cause::SILENCE));
            }
            Duty::Silent if !entry.heard => {
                self.report(node, life, leg, LegEvent::Silent);
            }
            Duty::Unanswered | Duty::Silent => {}
            Duty::Seek(..) => {}
        }
    }
}
