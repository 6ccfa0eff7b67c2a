//! The far ends: callers, agents, lines and the customers behind the trunk. They belong to
//! no node and outlive them all; what they do follows from chance alone.

use std::net::IpAddr;

use strowger_core::ids::LegId;
use strowger_core::ivr::speech::Key;

use crate::exchange::{FromExchange, repeat_after};
use crate::site;
use crate::world::{Event, World};

/// What a phone sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromPhone {
    /// A call.
    Invite,
    /// The caller takes it back.
    Cancel,
    /// ACK of our 200.
    Ack,
    /// ACK of a final refusal.
    AckRefusal,
    /// It rings here.
    Ringing,
    /// Answered.
    Answer,
    /// Refused, or taken back.
    Final(u16),
    /// Hung up.
    Bye,
    /// The session is to change: held, or not.
    Change(bool),
    /// A key.
    Key(Key),
    /// The session is refreshed.
    Refresh,
    /// 200 to BYE.
    Done,
    /// 481 to BYE or CANCEL.
    Gone,
}

impl FromPhone {
    /// True for what says that this end is over.
    pub fn is_end(&self) -> bool {
        matches!(
            self,
            Self::Cancel | Self::AckRefusal | Self::Final(_) | Self::Bye | Self::Done | Self::Gone
        )
    }

    fn is_repeated(&self) -> bool {
        matches!(
            self,
            Self::Invite
                | Self::Cancel
                | Self::Answer
                | Self::Bye
                | Self::Change(_)
                | Self::Refresh
        )
    }
}

/// What a phone means to do.
#[derive(Clone, Debug)]
pub enum Habit {
    /// Its bell begins.
    Ring,
    /// Somebody takes it.
    Answer,
    /// It refuses.
    Refuse(u16),
    /// It has rung long enough.
    StopRinging,
    /// Somebody hangs up.
    HangUp,
    /// Somebody presses hold.
    Hold(bool),
    /// Somebody presses a key.
    Key(char),
    /// The phone refreshes its session.
    Refresh,
}

/// How far a far end has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Progress {
    /// A caller has sent his INVITE, a called phone has got one.
    Calling,
    /// It rings.
    Ringing,
    /// It has answered, and nobody has acknowledged that yet.
    Answered,
    /// Up.
    Up,
    /// Over.
    Over,
}

/// One far end of one leg.
#[derive(Clone, Debug)]
pub struct Far {
    /// Whose phone.
    pub phone: String,
    /// True for a caller.
    pub incoming: bool,
    /// The service address it talks to.
    pub address: IpAddr,
    /// Its leg, once the exchange has named it.
    pub leg: Option<LegId>,
    /// Highest epoch it has been spoken to under; requests of older ones are refused.
    pub epoch: u32,
    /// Epoch of the INVITE it got.
    invited_under: u32,
    /// How far it has come.
    pub progress: Progress,
    /// When it began, ms.
    pub began: u64,
    /// When it was over, ms.
    pub over_at: u64,
    /// Its end has not reached the exchange, as far as it knows.
    pub unheard: bool,
    /// The life of a node that has taken in that it is over.
    pub heard_by: Option<(u64, u64)>,
    /// It went back on its INVITE before there was a leg.
    pub withdrawn: bool,
    /// Number dialled.
    pub to: String,
    /// Nothing is there.
    silent: bool,
    tried: bool,
    /// He went before he heard anything: CANCEL waits for the first answer.
    leaving: bool,
    taken_back: bool,
    parted: bool,
    agreed: bool,
    refreshed: bool,
}

/// Between two refreshes of a session by a phone, ms.
const REFRESH: u64 = 60_000;
/// Phones stop ringing by themselves after this, ms.
pub const RINGS_MAX: u64 = 60_000;

impl Far {
    /// True once its INVITE has reached it, or for a caller.
    pub fn is_rung(&self) -> bool {
        self.incoming || self.is_live() || self.over_at > 0
    }

    /// True until it is over.
    pub fn is_live(&self) -> bool {
        self.progress != Progress::Over
    }
}

/// A phone that can be called.
#[derive(Clone, Debug, Default)]
pub struct Phone {
    /// Its last far ends that may be live.
    pub fars: Vec<u64>,
}

impl World {
    fn add_far(&mut self, phone: &str, incoming: bool, address: IpAddr, to: &str) -> u64 {
        self.last_far += 1;
        let far = Far {
            phone: phone.to_owned(),
            incoming,
            address,
            leg: None,
            epoch: 0,
            invited_under: 0,
            progress: Progress::Calling,
            began: self.now(),
            over_at: 0,
            unheard: false,
            heard_by: None,
            withdrawn: false,
            to: to.to_owned(),
            silent: false,
            tried: false,
            leaving: false,
            taken_back: false,
            parted: false,
            agreed: true,
            refreshed: true,
        };
        self.fars.insert(self.last_far, far);
        self.last_far
    }

    /// Somebody calls, and somebody else will.
    pub fn somebody_calls(&mut self) {
        if self.calm {
            return;
        }
        let pause = self.chance.within(1, self.plan.call_every_ms);
        self.after(pause, Event::Call);
        let line = self.chance.once_in(150);
        let from = if line {
            format!("10{:02}", self.chance.within(1, site::EXTENSIONS))
        } else {
            format!("5{:03}", self.chance.within(0, 60))
        };
        let to = match self.chance.within(0, 99) {
            0..=39 => "4001",
            40..=64 => "4002",
            65..=79 => "4003",
            80..=89 => "4004",
            90..=96 if line => "1002",
            97..=98 if line => "0777",
            99 => "4999",
            _ => "4001",
        };
        let addresses = site::service_addresses();
        let Some(address) = self.chance.pick(&addresses).copied() else {
            return;
        };
        let far = self.add_far(&from, true, address, to);
        self.note(&format!("far end {far}: {from} calls {to} at {address}"));
        self.send(far, FromPhone::Invite, 0);
        let patience = self.chance.span(5, 120_000);
        self.after(patience, Event::Habit(far, Habit::HangUp));
        if self.chance.once_in(100) {
            let at = self.chance.span(100, 20_000);
            self.after(at, Event::Habit(far, Habit::Key('1')));
        }
        if self.chance.once_in(100) {
            let at = self.chance.span(100, 20_000);
            self.after(at, Event::Habit(far, Habit::Key('2')));
        }
        self.may_hold(far);
    }

    fn may_hold(&mut self, far: u64) {
        if self.chance.once_in(100) {
            let at = self.chance.span(500, 30_000);
            self.after(at, Event::Habit(far, Habit::Hold(true)));
            let back = at + self.chance.span(50, 10_000);
            self.after(back, Event::Habit(far, Habit::Hold(false)));
        }
    }

    /// The far end that a leg is to ring; `None` where nobody has that address.
    pub fn new_callee(
        &mut self,
        uri: &str,
        address: IpAddr,
        (leg, epoch): (LegId, u32),
    ) -> Option<u64> {
        // Behind the trunk there is a phone for each number.
        let (name, host) = uri
            .strip_prefix("sip:")?
            .rsplit_once('@')
            .unwrap_or(("", ""));
        let phone = if host.starts_with("127.0.4.") {
            format!("beyond {name}")
        } else {
            uri.to_owned()
        };
        let far = self.add_far(&phone, false, address, "");
        if let Some(far) = self.fars.get_mut(&far) {
            (far.leg, far.invited_under, far.epoch) = (Some(leg), epoch, epoch);
            // It exists for the phone when the INVITE arrives.
            far.progress = Progress::Over;
        }
        self.far_of.insert(leg, far);
        Some(far)
    }

    /// A phone sends something for the `attempt`th time after the first, and again until it
    /// is answered.
    pub fn send(&mut self, number: u64, message: FromPhone, attempt: u32) {
        let Some(far) = self.fars.get(&number) else {
            return;
        };
        let answered = match &message {
            FromPhone::Invite => far.tried,
            FromPhone::Cancel => far.taken_back,
            FromPhone::Bye => far.parted,
            FromPhone::Answer => far.progress != Progress::Answered,
            FromPhone::Change(_) => far.agreed || !far.is_live(),
            FromPhone::Refresh => far.refreshed || !far.is_live(),
            _ => false,
        };
        if answered && attempt > 0 {
            return;
        }
        if message.is_repeated() {
            match repeat_after(attempt) {
                Some(pause) => {
                    let again = Event::ToExchange(number, message.clone(), attempt + 1);
                    self.after(pause, again);
                }
                None => return self.given_up(number, &message),
            }
        }
        let lost = !self.calm && self.chance.once_in(self.plan.lost);
        if !lost {
            let travel = self.chance.within(1, 20);
            self.after(travel, Event::Arrive(number, message));
        }
    }

    /// Nobody has answered for 32 s.
    fn given_up(&mut self, number: u64, message: &FromPhone) {
        self.note(&format!("far end {number} gives {message:?} up"));
        if let Some(far) = self.fars.get_mut(&number) {
            // Whoever goes on after a refresh that nobody heard asks again in time.
            far.unheard |= !matches!(message, FromPhone::Refresh);
        }
        if matches!(message, FromPhone::Answer | FromPhone::Invite) {
            self.over(number);
        }
    }

    fn over(&mut self, number: u64) {
        let now = self.now();
        if let Some(far) = self.fars.get_mut(&number)
            && far.is_live()
        {
            far.progress = Progress::Over;
            far.over_at = now;
            self.note(&format!("far end {number} is over"));
        }
    }

    /// Something reaches a phone.
    pub fn reach_phone(&mut self, number: u64, message: FromExchange) {
        let Some(far) = self.fars.get_mut(&number) else {
            return;
        };
        if far.silent {
            return;
        }
        match message {
            FromExchange::Invite(epoch) => {
                let known = far.over_at > 0 || far.is_live();
                far.epoch = far.epoch.max(epoch);
                if !known {
                    self.rung(number);
                }
            }
            FromExchange::Trying => self.may_take_back(number),
            FromExchange::Ringing => {
                self.may_take_back(number);
                let Some(far) = self.fars.get_mut(&number) else {
                    return;
                };
                if far.progress == Progress::Calling {
                    far.progress = Progress::Ringing;
                }
            }
            FromExchange::Ok => {
                far.tried = true;
                match far.progress {
                    Progress::Calling | Progress::Ringing => {
                        far.progress = Progress::Up;
                        self.after(REFRESH, Event::Habit(number, Habit::Refresh));
                    }
                    Progress::Answered | Progress::Up => {}
                    Progress::Over => {
                        // He has gone: what was answered is ended.
                        self.send(number, FromPhone::Ack, 0);
                        return self.send(number, FromPhone::Bye, 0);
                    }
                }
                self.send(number, FromPhone::Ack, 0);
            }
            FromExchange::Final(_) => {
                far.tried = true;
                if far.progress < Progress::Up {
                    far.unheard = false;
                    self.over(number);
                }
                if let Some(far) = self.fars.get_mut(&number) {
                    far.taken_back = true;
                }
                self.send(number, FromPhone::AckRefusal, 0);
            }
            FromExchange::Ack => {
                if far.progress == Progress::Answered {
                    far.progress = Progress::Up;
                    self.picked_up(number);
                }
            }
            FromExchange::Cancel(epoch) if epoch != far.invited_under => {
                self.send(number, FromPhone::Gone, 0);
            }
            FromExchange::Cancel(_) => match far.progress {
                Progress::Calling | Progress::Ringing if !far.incoming => {
                    self.over(number);
                    self.send(number, FromPhone::Final(487), 0);
                }
                Progress::Over => {
                    // A CANCEL that overtook its INVITE finds nothing to take back.
                    self.send(number, FromPhone::Gone, 0);
                }
                _ => {}
            },
            FromExchange::Bye(epoch) => {
                if epoch < far.epoch {
                    // An older CSeq: 500, and nothing changes.
                    return;
                }
                if epoch != u32::MAX {
                    far.epoch = epoch;
                }
                let unanswered = far.progress < Progress::Answered;
                if !unanswered {
                    far.unheard = false;
                    self.over(number);
                }
                self.send(number, FromPhone::Done, 0);
            }
            FromExchange::Agree(_) => far.agreed = true,
            FromExchange::Refreshed => far.refreshed = true,
            FromExchange::Done => {
                far.parted = true;
                // Whoever says so may have died since, and what it was told with it.
                let taken_in_by = far.heard_by;
                let lives = taken_in_by.is_none_or(|(node, life)| self.life(node, life).is_some());
                if let Some(far) = self.fars.get_mut(&number) {
                    far.unheard = !lives;
                }
            }
            FromExchange::TakenBack => far.taken_back = true,
            FromExchange::Gone => {
                (far.taken_back, far.parted, far.refreshed) = (true, true, true);
                if far.progress == Progress::Up {
                    // A change or refresh of the session found no leg: the call is over.
                    far.agreed = true;
                    self.over(number);
                }
                if let Some(far) = self.fars.get_mut(&number) {
                    far.unheard = true;
                }
            }
        }
    }

    /// The exchange has the INVITE; who has left meanwhile takes it back.
    fn may_take_back(&mut self, number: u64) {
        if let Some(far) = self.fars.get_mut(&number) {
            far.tried = true;
            if std::mem::take(&mut far.leaving) {
                self.send(number, FromPhone::Cancel, 0);
            }
        }
    }

    /// An INVITE has come to a phone.
    fn rung(&mut self, number: u64) {
        let now = self.now();
        let Some(far) = self.fars.get_mut(&number) else {
            return;
        };
        (far.progress, far.began) = (Progress::Calling, now);
        let name = far.phone.clone();
        let others = self.phones.entry(name.clone()).or_default();
        let before = std::mem::take(&mut others.fars);
        let fars = &self.fars;
        let live = |far: &u64| fars.get(far).is_some_and(Far::is_live);
        let before: Vec<u64> = before.into_iter().filter(live).collect();
        let busy = !before.is_empty();
        if let Some(phone) = self.phones.get_mut(&name) {
            phone.fars = before;
            phone.fars.push(number);
        }
        self.note(&format!("far end {number} at {name} is rung, busy: {busy}"));
        let agent = name.contains("agent");
        let draw = if self.calm {
            0
        } else {
            self.chance.within(0, 99)
        };
        if draw >= 97 {
            // Nobody is there, and nothing answers.
            if let Some(far) = self.fars.get_mut(&number) {
                (far.silent, far.progress, far.over_at) = (true, Progress::Over, now.max(1));
            }
            return;
        }
        let ring = self.chance.within(5, 150);
        self.after(ring, Event::Habit(number, Habit::Ring));
        self.after(RINGS_MAX, Event::Habit(number, Habit::StopRinging));
        let (at, habit) = match draw {
            _ if busy => (10, Habit::Refuse(486)),
            0..=77 if agent => (self.chance.span(20, 9_000), Habit::Answer),
            0..=69 => (self.chance.span(50, 15_000), Habit::Answer),
            70..=85 => return,
            86..=91 => (self.chance.span(20, 5_000), Habit::Refuse(486)),
            92..=93 => (self.chance.span(20, 5_000), Habit::Refuse(603)),
            _ => (5, Habit::Refuse(503)),
        };
        self.after(at, Event::Habit(number, habit));
    }

    /// A called phone talks.
    fn picked_up(&mut self, number: u64) {
        self.after(REFRESH, Event::Habit(number, Habit::Refresh));
        let talk = if self.calm {
            self.chance.within(500, 3_000)
        } else {
            self.chance.span(20, 40_000)
        };
        self.after(talk, Event::Habit(number, Habit::HangUp));
        self.may_hold(number);
    }

    /// What a phone meant to do is due.
    pub fn habit(&mut self, number: u64, habit: Habit) {
        let calm = self.calm;
        let Some(far) = self.fars.get_mut(&number) else {
            return;
        };
        match (habit, far.progress) {
            (_, Progress::Over) => {}
            (Habit::Ring, Progress::Calling) => {
                far.progress = Progress::Ringing;
                self.send(number, FromPhone::Ringing, 0);
            }
            (Habit::Answer, Progress::Calling | Progress::Ringing) => {
                far.progress = Progress::Answered;
                self.send(number, FromPhone::Answer, 0);
            }
            (Habit::Refuse(status), Progress::Calling | Progress::Ringing) => {
                self.over(number);
                self.send(number, FromPhone::Final(status), 0);
            }
            // Who still waits when the faults have ended waits to be served.
            (Habit::HangUp, Progress::Up) if calm && far.incoming => {}
            (Habit::HangUp, Progress::Up) => {
                self.over(number);
                self.send(number, FromPhone::Bye, 0);
            }
            (Habit::HangUp, Progress::Calling | Progress::Ringing) if far.incoming => {
                let tried = far.tried;
                far.leaving = !tried;
                self.over(number);
                if tried {
                    self.send(number, FromPhone::Cancel, 0);
                }
            }
            (Habit::StopRinging, Progress::Calling | Progress::Ringing) => {
                self.over(number);
                self.send(number, FromPhone::Final(480), 0);
            }
            (Habit::Refresh, Progress::Up) => {
                far.refreshed = false;
                self.after(REFRESH, Event::Habit(number, Habit::Refresh));
                self.send(number, FromPhone::Refresh, 0);
            }
            (Habit::Hold(held), Progress::Up) => {
                far.agreed = false;
                self.send(number, FromPhone::Change(held), 0);
            }
            (Habit::Key(key), Progress::Up) => {
                if let Some(key) = Key::parse(key) {
                    self.send(number, FromPhone::Key(key), 0);
                }
            }
            _ => {}
        }
    }
}
