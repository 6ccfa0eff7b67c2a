//! The exchange in memory: a machine over rows in a map, a site, and an owner that
//! does what `outstanding` says and reports what phones did.
//!
//! Every proposal passes the encoded form, every entry is kept so that it can be
//! replayed, and the invariants of the state are checked after each.

#![allow(dead_code, reason = "shared with the bench, which needs less of it")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use strowger_core::call::{
    CallRow, Caller, Cause, Codec, FlowRef, LegRole, LegRow, Seen, Transport,
};
use strowger_core::cdr::CdrRow;
use strowger_core::floor::agent::AgentState;
use strowger_core::floor::figure::{Subject, Tally, figure_key, interval_quarter};
use strowger_core::floor::registration::{ContactWish, Register};
use strowger_core::ids::{AgentId, CallId, Extension, LegId, NodeId, TrunkName};
use strowger_core::ivr::speech::Announcement;
use strowger_core::outstanding::{Audio, CallObserved, Effect, Phase, outstanding};
use strowger_core::ports::{Meta, Proposal, RequestId, RowsRead, Table};
use strowger_core::site::Site;
use strowger_core::state::command::{
    Action, CallArrived, Command, Observation, Refusal, Reply, SiteApply,
};
use strowger_core::state::event::EventRow;
use strowger_core::state::machine::{decode_command, decode_reply, encode_command};
use strowger_core::state::{State, Wake, decode_row};

use crate::reference::Before;
use crate::rows::Copy;
pub use crate::site::*;

/// When every test begins, ms since 1970.
pub const BEGIN: u64 = 1_790_000_000_000;

/// What a phone does with an INVITE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phone {
    /// Rings until somebody acts.
    Rings,
    /// Answers at once.
    Answers,
    /// Refuses with this status.
    Refuses(u16),
    /// Says nothing at all.
    Silent,
    /// Rings, and answers in the moment in which it is told to stop. Its leg lasts until
    /// somebody ends it.
    Crosses,
}

pub fn flow(node: u64, port: u16) -> FlowRef {
    FlowRef {
        transport: Transport::Udp,
        local: ([127, 0, 1, 1], 5060).into(),
        remote: ([127, 0, 0, 9], port).into(),
        connection: None,
        node: NodeId(node),
    }
}

/// A caller with a proven extension, one over a trunk (`via-NAME`), or an anonymous one; a
/// number with `+` is known.
pub fn caller(from: &str) -> Caller {
    let known = site().extensions.contains_key(&Extension::from(from));
    Caller {
        number: from.to_string(),
        display: String::new(),
        extension: known.then(|| Extension::from(from)),
        trunk: from.strip_prefix("via-").map(TrunkName::from),
        e164: from.parse().ok(),
    }
}

/// The whole test exchange.
pub struct World {
    pub copy: Copy,
    pub now: u64,
    pub index: u64,
    sequence: u64,
    /// Every entry, to replay.
    pub log: Vec<(Meta, Vec<Proposal>)>,
    /// What each owner sees of its calls.
    pub seen: BTreeMap<CallId, CallObserved>,
    /// What phones do, by contact URI; those not named ring.
    pub phones: BTreeMap<String, Phone>,
    /// Calls that arrived, in order.
    pub arrived: Vec<CallId>,
    /// Calls refused at once.
    pub refused: usize,
    /// The state checks itself after every so many entries; 0 = neither it nor the
    /// reference looks.
    pub check_every: u64,
    /// Offers made, each held against the reference.
    pub assigned: usize,
    /// Unanswered callers leave what another node can go on from.
    pub keeps_invites: bool,
}

impl World {
    /// Nothing yet.
    pub fn empty() -> Self {
        Self {
            copy: Copy::new(),
            now: BEGIN,
            index: 0,
            sequence: 0,
            log: Vec::new(),
            seen: BTreeMap::new(),
            phones: BTreeMap::new(),
            arrived: Vec::new(),
            refused: 0,
            check_every: 1,
            assigned: 0,
            keeps_invites: true,
        }
    }

    /// Three nodes up and the site in force, nobody registered or signed in.
    pub fn new() -> Self {
        Self::with_site(site())
    }

    pub fn with_site(site: Site) -> Self {
        Self::with(site, 1)
    }

    /// As [`World::with_site`], for a floor too large to be held against the reference.
    pub fn with_site_unchecked(site: Site) -> Self {
        Self::with(site, 0)
    }

    fn with(site: Site, check_every: u64) -> Self {
        let mut world = Self::empty();
        world.check_every = check_every;
        for node in 1..=3 {
            world.node_up(node, 1);
        }
        assert_eq!(world.apply_site(site, 0), Reply::Site { version: 1 });
        world
    }

    /// As [`World::new`], phones registered at 1001 to 1004 and these agents signed in,
    /// the first one idle longest.
    pub fn at_work(agents: &[&str]) -> Self {
        let mut world = Self::new();
        for extension in ["1001", "1002", "1003", "1004"] {
            world.register(extension, "desk", 3_600);
        }
        for agent in agents {
            world.sign_in(agent);
            world.advance(10);
        }
        world
    }

    pub fn state<R>(&self, look: impl FnOnce(&State) -> R) -> R {
        look(&self.copy.state.read())
    }

    /// Commits these commands as one entry; their replies.
    pub fn propose_all(&mut self, commands: &[Command]) -> Vec<Reply> {
        let batch: Vec<Proposal> = commands
            .iter()
            .map(|command| {
                self.sequence += 1;
                Proposal {
                    request: RequestId {
                        node: 1,
                        incarnation: 1,
                        sequence: self.sequence,
                    },
                    command: encode_command(command),
                }
            })
            .collect();
        self.commit(batch)
    }

    /// Commits these proposals as one entry.
    pub fn commit(&mut self, batch: Vec<Proposal>) -> Vec<Reply> {
        self.index += 1;
        let meta = Meta {
            index: self.index,
            stamp_ms: self.now,
        };
        let before = (self.check_every > 0).then(|| self.state(Before::of));
        let replies = self.copy.apply(meta, &batch);
        if let ([only], Some(before)) = (batch.as_slice(), before) {
            let freed = decode_command(&only.command).and_then(|command| freed_by(&command));
            self.assigned += self.state(|state| before.check(state, freed.as_ref()));
        }
        assert_eq!(replies.len(), batch.len(), "one reply for each proposal");
        self.log.push((meta, batch));
        if self.check_every > 0 && self.index.is_multiple_of(self.check_every) {
            let broken = self.state(State::check);
            assert_eq!(broken, Vec::<String>::new(), "after entry {}", self.index);
        }
        let replies = replies.iter().map(|reply| decode_reply(reply));
        replies
            .map(|reply| reply.expect("a reply of this version"))
            .collect()
    }

    pub fn propose(&mut self, command: Command) -> Reply {
        self.propose_all(&[command])
            .pop()
            .expect("one reply for each proposal")
    }

    pub fn node_up(&mut self, node: u64, incarnation: u64) -> Reply {
        let known = self.state(|state| state.nodes.get(&NodeId(node)).cloned());
        if known.is_some_and(|known| known.incarnation < incarnation) {
            self.forget_what_it_saw(node);
        }
        self.propose(Command::NodeUp {
            node: NodeId(node),
            incarnation,
            address: IpAddr::from([127, 0, 2, u8::try_from(node).unwrap_or(0)]),
            version: "0.1.0".to_string(),
            level: strowger_core::state::FEATURE_LEVEL,
        })
    }

    pub fn node_down(&mut self, node: u64, incarnation: u64) -> Reply {
        self.forget_what_it_saw(node);
        self.propose(Command::NodeDown {
            node: NodeId(node),
            incarnation,
        })
    }

    /// An address turns out not to be one of these nodes' machines.
    pub fn bar(&mut self, address: IpAddr, nodes: &[u64]) {
        for node in nodes {
            let node = NodeId(*node);
            let incarnation = self.state(|state| state.nodes[&node].incarnation);
            self.propose(Command::AddressBarred {
                node,
                incarnation,
                address,
            });
        }
    }

    /// A node takes with it what it has seen of its calls.
    fn forget_what_it_saw(&mut self, node: u64) {
        let own: Vec<CallId> = self.state(|state| {
            let own = state.calls_of(NodeId(node));
            own.map(|call| call.id).collect()
        });
        for call in own {
            self.seen.remove(&call);
        }
    }

    pub fn apply_site(&mut self, site: Site, base: u64) -> Reply {
        self.propose(Command::SiteApply(SiteApply {
            site: Arc::new(site),
            text: "text".to_string(),
            base,
            secrets: vec![(Extension::from("1001"), vec![7])],
            times: Vec::new(),
        }))
    }

    /// Registers `sip:{extension}@{name}`.
    pub fn register(&mut self, extension: &str, name: &str, expires_s: u32) -> Reply {
        self.sequence += 1;
        let cseq = u32::try_from(self.sequence).unwrap_or(u32::MAX);
        self.propose(Command::Register(Register {
            tenant: tenant(),
            extension: Extension::from(extension),
            flow: flow(1, 5062),
            call_id: format!("reg-{extension}-{name}"),
            cseq,
            contacts: vec![ContactWish {
                contact: format!("sip:{extension}@{name}"),
                expires_s,
                q: 1_000,
                instance: None,
            }],
            remove_all: false,
        }))
    }

    pub fn act(&mut self, action: Action) -> Reply {
        self.propose(Command::Act {
            id: String::new(),
            tenant: tenant(),
            action,
        })
    }

    pub fn sign_in(&mut self, agent: &str) -> Reply {
        self.act(Action::SignIn {
            agent: AgentId::from(agent),
            extension: None,
        })
    }

    /// An INVITE from `from` to `to` at a service address; the machine's answer.
    pub fn invite_at(&mut self, at: u8, from: &str, to: &str) -> Reply {
        let row = self.state(|state| state.addresses.get(&address(at)).cloned());
        let row = row.expect("the address is in the site");
        let reply = self.propose(Command::CallArrived(CallArrived {
            tenant: tenant(),
            address: address(at),
            node: row.holder.unwrap_or_default(),
            epoch: row.epoch,
            from: caller(from),
            to: to.to_string(),
            sip_call_id: format!("in-{}", self.index),
            remote: Some(format!("sip:{from}@127.0.0.9")),
            called: to.strip_prefix('0').and_then(|to| to.parse().ok()),
            checkpoint: self.keeps_invites.then(|| b"invite".to_vec()),
        }));
        match &reply {
            Reply::Call { call, .. } => self.arrived.push(*call),
            Reply::CallRefused(_) => self.refused += 1,
            _ => {}
        }
        reply
    }

    /// As [`World::invite_at`] the first address, admitted, and carried out so far.
    pub fn call(&mut self, from: &str, to: &str) -> CallId {
        let reply = self.invite_at(1, from, to);
        let Reply::Call { call, .. } = reply else {
            panic!("{from} to {to} was not admitted: {reply:?}");
        };
        self.run();
        call
    }

    /// Time passes; the leader ticks whenever something is due, the owners keep up.
    pub fn advance(&mut self, ms: u64) {
        let end = self.now + ms;
        while let Some(due) = self.state(State::next_deadline).filter(|due| due.0 <= end) {
            self.now = self.now.max(due.0);
            self.propose(Command::Tick);
            self.run();
        }
        self.now = end;
    }

    pub fn row(&self, call: CallId) -> CallRow {
        let row = self.state(|state| state.calls.get(&call).cloned());
        row.expect("the call is live")
    }

    pub fn is_live(&self, call: CallId) -> bool {
        self.state(|state| state.calls.contains_key(&call))
    }

    pub fn word(&self, call: CallId) -> String {
        self.state(|state| {
            let row = state.calls.get(&call);
            row.map_or("over", |row| row.state().word()).to_string()
        })
    }

    pub fn agent(&self, name: &str) -> AgentState {
        self.state(|state| {
            let agent = state.agents.get(&agent_key(name));
            state.agent_state(agent.expect("the agent is in the site"))
        })
    }

    /// The first agent a call is offered to.
    pub fn offered_to(&self, call: CallId) -> Option<String> {
        self.offered_to_all(call).into_iter().next()
    }

    /// The agents a call is offered to, in the order they were asked.
    pub fn offered_to_all(&self, call: CallId) -> Vec<String> {
        let offers = self.row(call).visit.map(|visit| visit.offers);
        let offers = offers.into_iter().flatten();
        offers.map(|offer| offer.agent.to_string()).collect()
    }

    pub fn figure(&self, queue: &str) -> Tally {
        let key = (tenant(), Subject::Queue(queue_key(queue).1));
        let tally = self.state(|state| state.figures.get(&key).cloned());
        tally.expect("the queue is in the site")
    }

    pub fn agent_figure(&self, agent: &str) -> Tally {
        let key = (tenant(), Subject::Agent(agent_key(agent).1));
        let tally = self.state(|state| state.figures.get(&key).cloned());
        tally.unwrap_or_default()
    }

    /// Tallies of a subject by the beginning of their quarters.
    pub fn quarters(&self, subject: &Subject) -> Vec<(u64, Tally)> {
        let prefix = figure_key(&tenant(), subject);
        let rows = self
            .copy
            .rows
            .scan(Table::Interval, &prefix, None, usize::MAX);
        let read = |(key, value): (Vec<u8>, Vec<u8>)| {
            Some((interval_quarter(&key)?.0, decode_row(&value)?))
        };
        let read = rows.into_iter().map(read);
        read.map(|row| row.expect("a tally of this version"))
            .collect()
    }

    pub fn cdrs(&self) -> Vec<CdrRow> {
        let rows = self.copy.rows.scan(Table::Cdr, &[], None, usize::MAX);
        let rows = rows.iter().map(|(_, value)| decode_row(value));
        rows.map(|row| row.expect("a record of this version"))
            .collect()
    }

    /// The only record of a call.
    pub fn cdr(&self, call: CallId) -> CdrRow {
        let mut all = self.cdrs().into_iter().filter(|cdr| cdr.call == call);
        let cdr = all.next().expect("the call has ended and left a record");
        assert!(all.next().is_none(), "one record per call");
        cdr
    }

    pub fn events(&self) -> Vec<EventRow> {
        let rows = self.copy.rows.scan(Table::Event, &[], None, usize::MAX);
        let rows = rows.iter().map(|(_, value)| decode_row(value));
        rows.map(|row| row.expect("an event of this version"))
            .collect()
    }

    /// The leg with this role that was made last.
    pub fn leg(&self, call: CallId, wanted: impl Fn(&LegRole) -> bool) -> LegRow {
        let row = self.row(call);
        let found = row.legs.into_iter().rev().find(|leg| wanted(&leg.role));
        found.expect("the call has such a leg")
    }

    pub fn caller_leg(&self, call: CallId) -> LegId {
        self.leg(call, |role| *role == LegRole::Caller).id
    }

    pub fn far_leg(&self, call: CallId) -> LegId {
        self.leg(call, |role| *role != LegRole::Caller).id
    }

    /// The live leg rung at this contact.
    pub fn leg_at(&self, call: CallId, contact: &str) -> LegId {
        let row = self.row(call);
        let found =
            row.legs.iter().rev().find(|leg| {
                leg.is_live() && leg.target.as_ref().is_some_and(|to| to.uri == contact)
            });
        found.expect("the contact is rung").id
    }

    /// Reports what was seen of a call.
    pub fn observe(&mut self, call: CallId, observations: Vec<Observation>) -> Reply {
        let epoch = self.state(|state| state.calls.get(&call).map_or(0, |row| row.epoch));
        self.observe_under(call, epoch, observations)
    }

    /// As [`World::observe`], under an epoch of the past.
    pub fn observe_under(
        &mut self,
        call: CallId,
        epoch: u32,
        observations: Vec<Observation>,
    ) -> Reply {
        self.propose(Command::CallObserved {
            call,
            epoch,
            observations,
        })
    }

    /// A rung phone answers, and the owner carries on.
    pub fn answers(&mut self, call: CallId, leg: LegId) {
        self.set_phase(call, leg, Phase::Proposed);
        self.observe(call, vec![answered(leg)]);
        self.run();
    }

    /// A far end ends its leg, and the owner carries on.
    pub fn ends(&mut self, call: CallId, leg: LegId, cause: Cause) {
        self.set_phase(call, leg, Phase::Gone);
        self.observe(call, vec![ended(leg, cause)]);
        self.run();
    }

    /// The caller leaves: CANCEL or BYE.
    pub fn leaves(&mut self, call: CallId) {
        let leg = self.leg(call, |role| *role == LegRole::Caller);
        let cause = if leg.answered_at.is_some() {
            Cause::NORMAL
        } else {
            Cause::CANCELLED
        };
        self.ends(call, leg.id, cause);
    }

    /// The agent of the offer under way answers.
    pub fn agent_answers(&mut self, call: CallId) {
        let leg = self.far_leg(call);
        self.answers(call, leg);
    }

    pub fn set_phase(&mut self, call: CallId, leg: LegId, phase: Phase) {
        let seen = self.seen.entry(call).or_default();
        seen.legs.entry(leg).or_default().phase = phase;
    }

    /// Wakes the owners of everything that was woken, until nothing is left to do.
    pub fn run(&mut self) {
        for _ in 0..10_000 {
            let woken: BTreeSet<CallId> = self
                .copy
                .wakes
                .take()
                .into_iter()
                .filter_map(|wake| match wake {
                    Wake::Call(call) => Some(call),
                    _ => None,
                })
                .collect();
            if woken.is_empty() {
                return;
            }
            for call in woken {
                self.step(call);
            }
        }
        panic!("the owners never come to rest");
    }

    /// Looks at every call, woken or not, until nothing is left to do.
    pub fn reconcile(&mut self) {
        for _ in 0..10_000 {
            self.copy.wakes.take();
            let known: BTreeSet<CallId> = self.seen.keys().copied().collect();
            let all = self.state(|state| state.calls.keys().copied().collect::<BTreeSet<_>>());
            let mut busy = false;
            for call in known.union(&all) {
                busy |= self.step(*call);
            }
            if !busy {
                return;
            }
        }
        panic!("the owners never come to rest");
    }

    /// Carries out what is outstanding of one call, and what becomes outstanding by
    /// that; true when that was something.
    pub fn step(&mut self, call: CallId) -> bool {
        for round in 0..1_000 {
            let row = self.state(|state| state.calls.get(&call).cloned());
            let seen = self.seen.entry(call).or_default();
            let effects = outstanding(row.as_ref(), seen);
            if effects.is_empty() {
                if row.is_none() {
                    self.seen.remove(&call);
                }
                return round > 0;
            }
            let mut reports = Vec::new();
            for effect in &effects {
                self.carry_out(call, row.as_ref(), effect, &mut reports);
            }
            let seen = self.seen.entry(call).or_default();
            let again = outstanding(row.as_ref(), seen);
            let repeated: Vec<&Effect> = again.iter().filter(|one| effects.contains(one)).collect();
            assert!(repeated.is_empty(), "asked for twice: {repeated:?}");
            if !reports.is_empty() && row.is_some() {
                self.observe(call, reports);
            }
        }
        panic!("{call} never comes to rest");
    }

    fn carry_out(
        &mut self,
        call: CallId,
        row: Option<&CallRow>,
        effect: &Effect,
        reports: &mut Vec<Observation>,
    ) {
        let phones = &self.phones;
        let seen = self.seen.entry(call).or_default();
        let mut phase = |leg: LegId, phase: Phase| {
            seen.legs.entry(leg).or_default().phase = phase;
        };
        match *effect {
            Effect::Invite(leg) => {
                let target = row.and_then(|row| row.leg(leg)?.target.clone());
                let uri = target.expect("an outgoing leg has a target").uri;
                match phones.get(&uri).copied().unwrap_or(Phone::Rings) {
                    Phone::Rings | Phone::Crosses => phase(leg, Phase::Alerting),
                    Phone::Silent => phase(leg, Phase::Calling),
                    Phone::Answers => {
                        phase(leg, Phase::Proposed);
                        reports.push(answered(leg));
                    }
                    Phone::Refuses(status) => {
                        phase(leg, Phase::Gone);
                        reports.push(ended(leg, Cause::from_status(status)));
                    }
                }
            }
            Effect::Resume(leg) => {
                let row = row.and_then(|row| row.leg(leg));
                let stands = row.is_some_and(|leg| leg.seen == Seen::Answered);
                let seen = seen.legs.entry(leg).or_default();
                seen.known = true;
                if stands {
                    seen.phase = Phase::Up;
                    seen.announced = true;
                }
            }
            Effect::Alert(leg) => phase(leg, Phase::Alerting),
            Effect::Prepare(leg) => {
                phase(leg, Phase::Proposed);
                reports.push(answered(leg));
            }
            Effect::Answer(leg) | Effect::Confirm(leg) => phase(leg, Phase::Up),
            Effect::End(leg, cause) => {
                let own = row.and_then(|row| row.leg(leg));
                let uri = own.and_then(|own| own.target.as_ref().map(|target| &target.uri));
                let crosses = own.is_some_and(|own| {
                    matches!(own.role, LegRole::Agent(_)) && own.seen == Seen::Fresh
                }) && uri.and_then(|uri| phones.get(uri)) == Some(&Phone::Crosses);
                if crosses && matches!(cause, Cause::NORMAL | Cause::ELSEWHERE) {
                    phase(leg, Phase::Ending);
                    reports.push(answered(leg));
                } else {
                    phase(leg, Phase::Gone);
                    reports.push(ended(leg, cause));
                }
            }
            Effect::Hear(leg, audio) => {
                seen.legs.entry(leg).or_default().audio = audio;
                match audio {
                    Audio::Prompt(_) => seen.greeted = true,
                    Audio::Say(_, Announcement::Waiting(_)) => seen.say = None,
                    Audio::Advert(_) => seen.adverts += 1,
                    Audio::Whisper(_) => seen.legs.entry(leg).or_default().announced = true,
                    Audio::Tone(_) | Audio::Say(..) => {
                        reports.push(Observation::Confirmed { leg });
                    }
                    Audio::Silence | Audio::Bridge(_) | Audio::Music(_) | Audio::Ringing => {}
                }
            }
            Effect::Drop(leg) => {
                seen.legs.remove(&leg);
            }
        }
    }
}

/// The agent whose wrap-up or pause a command may end.
fn freed_by(command: &Command) -> Option<AgentId> {
    let Command::Act { action, .. } = command else {
        return None;
    };
    match action {
        Action::Ready { agent } | Action::SignIn { agent, .. } | Action::SignOut { agent } => {
            Some(agent.clone())
        }
        _ => None,
    }
}

pub fn answered(leg: LegId) -> Observation {
    Observation::LegAnswered {
        leg,
        sip_call_id: format!("id-{leg}"),
        remote: None,
        codec: Codec::Pcma,
        checkpoint: vec![1, 2, 3],
    }
}

pub fn ended(leg: LegId, cause: Cause) -> Observation {
    Observation::LegEnded {
        leg,
        sip_call_id: format!("id-{leg}"),
        cause,
    }
}

pub fn held(leg: LegId, held: bool) -> Observation {
    Observation::LegHeld {
        leg,
        held,
        checkpoint: vec![4, 5],
    }
}

pub fn refusal(reply: &Reply) -> &Refusal {
    match reply {
        Reply::Refused(refusal) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}
