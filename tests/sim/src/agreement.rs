//! A stand-in for agreement: one log with leaders, terms, quorums, disks and a network
//! between the nodes, deterministic to the last message.
//!
//! What the exchange can tell from real agreement is here: entries reach nodes one after the
//! other and late; a leader may die with entries that its successor has, or has not; a
//! proposer may never learn what became of its proposal, and the same request may stand in
//! the log twice; followers lag, are cut off one way or both, and get snapshots. Leases are
//! the cluster crate's own code. What is not here: elections message by message, conflicting
//! logs (a new leader's end of the log is everybody's at once), changes of membership.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use strowger_core::cdr::CdrRow;
use strowger_core::ports::{Machine, Meta, Proposal, Table};
use strowger_core::state::command::{Command, Reply};
use strowger_core::state::decode_row;
use strowger_core::state::machine::{decode_command, decode_reply};

use crate::liveness::BootTime;
use crate::world::{Event, World};

/// Between two heartbeats, ms.
const HEARTBEAT: u64 = 50;

/// What one attempt to propose came to, as the cluster crate tells it.
#[derive(Clone, Debug)]
pub enum Answer {
    /// Applied, with this reply.
    Applied(Vec<u8>),
    /// Surely not appended.
    NotAppended,
}

/// Who waits for the reply to a proposal.
#[derive(Clone, Copy, Debug)]
pub struct Origin {
    /// The node that proposed.
    pub node: u64,
    /// Its life.
    pub life: u64,
    /// Names the attempt.
    pub token: u64,
}

/// What reaches a node, or is done on it.
#[derive(Clone, Debug)]
pub enum Message {
    /// One of its tasks proposes.
    Propose(Origin, Proposal),
    /// Another node forwards a proposal to it as leader.
    Forwarded(Origin, Proposal),
    /// What became of an attempt of its own.
    Answered(Origin, Answer),
    /// As leader, it appends what has gathered.
    Append(u64),
    /// The leader of a term sends the log up to an index.
    Entries {
        /// The leader.
        from: u64,
        /// Its term.
        term: u64,
        /// Up to here.
        upto: u64,
        /// Up to here committed.
        commit: u64,
    },
    /// Its disk has synced up to an index.
    Synced {
        /// Its life.
        life: u64,
        /// The term the entries came in.
        term: u64,
        /// Up to here.
        upto: u64,
    },
    /// A follower has synced up to an index.
    Acknowledged {
        /// The follower.
        from: u64,
        /// Its term.
        term: u64,
        /// Up to here.
        upto: u64,
    },
    /// A majority confirmed it as leader, with requests sent then.
    Confirmed(u64, u64),
    /// As leader of a term, it hears from a majority how many ms ago the last of them
    /// confirmed another.
    OtherLeader(u64, u64),
    /// It was granted a lease of so many ms, asked for then.
    Granted {
        /// When it asked.
        sent: u64,
        /// What remains of it, ms.
        remaining: u64,
        /// How long the leader's leases run, ms.
        length: u64,
    },
}

/// One entry of the log.
#[derive(Clone)]
pub struct Entry {
    term: u64,
    stamp_ms: u64,
    batch: Vec<Proposal>,
    origins: Vec<Origin>,
}

/// What one node knows of agreement; it outlives the node as far as it is synced.
#[derive(Clone, Default)]
pub struct Member {
    /// Synced up to here.
    pub have: u64,
    /// Highest term heard of.
    pub term: u64,
    /// Who leads, as it knows.
    pub leader: Option<u64>,
    /// Committed up to here, as it knows.
    pub commit: u64,
    /// The first entry of the term in which it led last.
    led_from: u64,
}

/// The log and who leads.
pub struct Agreement {
    /// Who leads in truth.
    pub leader: Option<u64>,
    /// Its term.
    pub term: u64,
    log: VecDeque<Entry>,
    /// Index of the entry before the first one that anybody still has.
    base: u64,
    /// The leader sends nothing up to here any more; who lacks it gets a snapshot.
    cut: u64,
    /// Committed in truth.
    pub commit: u64,
    /// What each node has.
    pub members: BTreeMap<u64, Member>,
    /// What each follower has, as the leader knows.
    matched: BTreeMap<u64, u64>,
    gathered: Vec<(Origin, Proposal)>,
    /// Since when the leader cannot lead.
    sick_since: Option<u64>,
    patience: u64,
    /// The state's hash after each entry, by whoever applied it first.
    hashes: BTreeMap<u64, [u8; 16]>,
    /// Elections held.
    pub elections: u64,
}

impl Agreement {
    /// An empty log of so many nodes.
    pub fn new(nodes: u64) -> Self {
        Self {
            leader: None,
            term: 0,
            log: VecDeque::new(),
            base: 0,
            cut: 0,
            commit: 0,
            members: (1..=nodes).map(|n| (n, Member::default())).collect(),
            matched: BTreeMap::new(),
            gathered: Vec::new(),
            sick_since: None,
            patience: 0,
            hashes: BTreeMap::new(),
            elections: 0,
        }
    }

    /// Index of the last entry.
    pub fn last(&self) -> u64 {
        self.base + u64::try_from(self.log.len()).unwrap_or(0)
    }

    fn entry(&self, index: u64) -> Option<&Entry> {
        let at = index.checked_sub(self.base + 1)?;
        self.log.get(usize::try_from(at).ok()?)
    }

    /// How many nodes are most of them.
    pub fn majority(&self) -> usize {
        self.members.len() / 2 + 1
    }

    /// The end of the log that the new leader does not have is nobody's any more.
    fn truncate(&mut self, last: u64) {
        let keep = last.saturating_sub(self.base);
        self.log
            .truncate(usize::try_from(keep).unwrap_or(usize::MAX));
        for member in self.members.values_mut() {
            member.have = member.have.min(last);
        }
    }
}

impl World {
    /// A node's clock, ms since 1970.
    pub fn clock(&self, node: u64) -> u64 {
        let own = self.nodes.get(&node).map_or(0, |node| node.clock_offset_ms);
        // A Sunday at noon.
        (1_790_510_400_000 + self.now()).saturating_add_signed(own)
    }

    /// True while a node's process runs.
    pub fn is_alive(&self, node: u64) -> bool {
        self.nodes
            .get(&node)
            .is_some_and(|node| node.life.is_some())
    }

    /// True while a node's process is stopped.
    pub fn is_frozen(&self, node: u64) -> bool {
        self.nodes.get(&node).is_some_and(|node| node.frozen)
    }

    fn is_well(&self, node: u64) -> bool {
        self.is_alive(node) && !self.is_frozen(node)
    }

    /// The clock of leases.
    pub fn boot_time(&self) -> BootTime {
        BootTime::at(self.now())
    }

    /// True while a node may act on its own.
    pub fn has_lease(&self, node: u64) -> bool {
        let life = self.nodes.get(&node).and_then(|node| node.life.as_ref());
        life.is_some_and(|life| life.leases.valid(self.boot_time()))
    }

    /// True while a node leads as far as it knows.
    pub fn leads(&self, node: u64) -> bool {
        let member = self.agreement.members.get(&node);
        member.is_some_and(|member| member.leader == Some(node))
    }

    /// True while a node leads as far as it knows and has applied an entry of its own term.
    pub fn leads_up_to_date(&self, node: u64) -> bool {
        let applied = self.nodes.get(&node).map_or(0, |node| node.disk.applied);
        let member = self.agreement.members.get(&node);
        self.leads(node) && member.is_some_and(|member| applied >= member.led_from)
    }

    /// The life of `node` that has surely ended, as `observer` knows.
    pub fn surely_over(&self, observer: u64, node: u64) -> Option<u64> {
        let other = self.nodes.get(&node)?;
        let watched = self.is_linked(observer, node);
        match &other.life {
            None if watched && other.is_noticed(self.now()) => Some(other.incarnation),
            Some(_) if watched && !other.frozen => None,
            // Killed, cut off or frozen: nobody answers, and only the lease tells.
            _ => {
                let own = self.nodes.get(&observer)?.life.as_ref()?;
                own.leases.surely_over(node, self.boot_time()).then_some(0)
            }
        }
    }

    /// Something of agreement reaches a node.
    pub fn agreement_message(&mut self, node: u64, message: Message) {
        let Some(own) = self.nodes.get_mut(&node) else {
            return;
        };
        if own.life.is_none() {
            return;
        }
        if own.frozen {
            own.held.push(Event::Agreement(node, message));
            return;
        }
        match message {
            Message::Propose(origin, proposal) => self.propose(node, origin, proposal),
            Message::Forwarded(origin, proposal) => {
                if self.leads(node) {
                    self.take_in(node, origin, proposal);
                } else {
                    self.answer(node, origin, Answer::NotAppended);
                }
            }
            Message::Answered(origin, answer) => self.attempt_over(origin, answer),
            Message::Append(term) => self.append(node, term),
            Message::Entries {
                from,
                term,
                upto,
                commit,
            } => self.entries(node, from, term, (upto, commit)),
            Message::Synced { life, term, upto } => self.synced(node, life, term, upto),
            Message::Acknowledged { from, term, upto } => {
                self.acknowledged(node, from, term, upto);
            }
            Message::Confirmed(term, sent) => {
                if term == self.agreement.term && self.agreement.leader == Some(node) {
                    self.with_leases(node, |leases| leases.confirm(BootTime::at(sent)));
                }
            }
            Message::OtherLeader(term, ago) => {
                if term == self.agreement.term && self.agreement.leader == Some(node) {
                    // Counted from the answer's arrival: later than it was, never earlier.
                    let at = self.boot_time().minus(Duration::from_millis(ago));
                    self.with_leases(node, |leases| leases.nobody_confirmed_after(node, at));
                }
            }
            Message::Granted {
                sent,
                remaining,
                length,
            } => self.with_leases(node, |leases| {
                let span = Duration::from_millis;
                leases.granted(BootTime::at(sent), span(remaining), 0);
                leases.heard(span(length));
            }),
        }
    }

    fn with_leases(&self, node: u64, act: impl FnOnce(&crate::liveness::lease::Leases)) {
        let life = self.nodes.get(&node).and_then(|node| node.life.as_ref());
        if let Some(life) = life {
            act(&life.leases);
        }
    }

    fn propose(&mut self, node: u64, origin: Origin, proposal: Proposal) {
        let leader = self.agreement.members.get(&node).and_then(|m| m.leader);
        match leader {
            None => self.answer(node, origin, Answer::NotAppended),
            Some(leader) if leader == node => self.take_in(node, origin, proposal),
            // Nobody listens there any more.
            Some(leader) if !self.is_alive(leader) => {
                if self.is_linked(node, leader) {
                    self.answer(node, origin, Answer::NotAppended);
                }
            }
            Some(leader) => {
                if self.is_open(node, leader) {
                    let travel = self.travel();
                    let message = Message::Forwarded(origin, proposal);
                    self.after(travel, Event::Agreement(leader, message));
                }
            }
        }
    }

    /// A leader takes a proposal in. One that was deposed and does not know it takes it too,
    /// and nobody ever hears of it.
    fn take_in(&mut self, node: u64, origin: Origin, proposal: Proposal) {
        let now = self.boot_time();
        let life = self.nodes.get(&node).and_then(|node| node.life.as_ref());
        let may = life.is_some_and(|life| !life.leases.confirmed_remaining(now).is_zero());
        if !may {
            return self.answer(node, origin, Answer::NotAppended);
        }
        if self.agreement.leader != Some(node) {
            return;
        }
        self.agreement.gathered.push((origin, proposal));
        if self.agreement.gathered.len() == 1 {
            let term = self.agreement.term;
            let gather = self.chance.within(0, 1);
            self.after(gather, Event::Agreement(node, Message::Append(term)));
        }
    }

    fn append(&mut self, node: u64, term: u64) {
        if self.agreement.leader != Some(node) || self.agreement.term != term {
            return;
        }
        let gathered = std::mem::take(&mut self.agreement.gathered);
        let (origins, batch) = gathered.into_iter().unzip();
        self.push_entry(node, batch, origins);
    }

    fn push_entry(&mut self, node: u64, batch: Vec<Proposal>, origins: Vec<Origin>) {
        let entry = Entry {
            term: self.agreement.term,
            stamp_ms: self.clock(node),
            batch,
            origins,
        };
        self.agreement.log.push_back(entry);
        let upto = self.agreement.last();
        self.sync(node, self.agreement.term, upto);
        self.replicate(node);
    }

    /// The disk of a node takes its time.
    fn sync(&mut self, node: u64, term: u64, upto: u64) {
        let Some(own) = self.nodes.get(&node) else {
            return;
        };
        let Some(life) = own.life.as_ref().map(|life| life.incarnation) else {
            return;
        };
        let slow = own.slow_until > self.now();
        let took = if slow {
            self.chance.within(50, 900)
        } else {
            self.chance.within(1, 4)
        };
        let message = Message::Synced { life, term, upto };
        self.after(took, Event::Agreement(node, message));
    }

    /// The leader sends everybody what there is.
    fn replicate(&mut self, leader: u64) {
        let others: Vec<u64> = self.agreement.members.keys().copied().collect();
        for node in others.into_iter().filter(|node| *node != leader) {
            if self.is_open(leader, node) {
                let message = Message::Entries {
                    from: leader,
                    term: self.agreement.term,
                    upto: self.agreement.last(),
                    commit: self.agreement.commit,
                };
                let travel = self.travel();
                self.after(travel, Event::Agreement(node, message));
            }
        }
    }

    fn entries(&mut self, node: u64, from: u64, term: u64, (upto, commit): (u64, u64)) {
        let (current, now) = (self.agreement.term, self.boot_time());
        self.with_leases(node, |leases| leases.met(from, now));
        let Some(member) = self.agreement.members.get_mut(&node) else {
            return;
        };
        if term < member.term {
            return;
        }
        member.term = term;
        member.leader = Some(from);
        self.with_leases(node, |leases| leases.lead(false, now));
        if term != current {
            return;
        }
        let Some(member) = self.agreement.members.get_mut(&node) else {
            return;
        };
        member.commit = member.commit.max(commit);
        let behind = member.have < self.agreement.cut;
        let upto = upto.min(self.agreement.last());
        if behind {
            return self.install(node);
        }
        let Some(member) = self.agreement.members.get(&node) else {
            return;
        };
        if upto > member.have {
            self.sync(node, term, upto);
        } else {
            self.acknowledge(node, from, term, upto);
        }
        self.apply(node);
    }

    fn acknowledge(&mut self, node: u64, leader: u64, term: u64, upto: u64) {
        if self.is_open(node, leader) {
            let message = Message::Acknowledged {
                from: node,
                term,
                upto,
            };
            let travel = self.travel();
            self.after(travel, Event::Agreement(leader, message));
        }
    }

    fn synced(&mut self, node: u64, life: u64, term: u64, upto: u64) {
        let lives = self.nodes.get(&node).and_then(|node| node.life.as_ref());
        if lives.is_none_or(|lives| lives.incarnation != life) || term != self.agreement.term {
            return;
        }
        let Some(member) = self.agreement.members.get_mut(&node) else {
            return;
        };
        member.have = member.have.max(upto);
        if self.agreement.leader == Some(node) {
            self.acknowledged(node, node, term, upto);
        } else if let Some(leader) = member.leader {
            self.acknowledge(node, leader, term, upto);
            self.apply(node);
        }
    }

    fn acknowledged(&mut self, leader: u64, from: u64, term: u64, upto: u64) {
        if self.agreement.leader != Some(leader) || term != self.agreement.term {
            return;
        }
        let known = self.agreement.matched.entry(from).or_default();
        *known = (*known).max(upto);
        let mut matched: Vec<u64> = self.agreement.matched.values().copied().collect();
        matched.sort_unstable_by(|a, b| b.cmp(a));
        let safe = matched
            .get(self.agreement.majority() - 1)
            .copied()
            .unwrap_or(0);
        let own_term = self.agreement.entry(safe).map(|entry| entry.term) == Some(term);
        if safe > self.agreement.commit && own_term {
            self.agreement.commit = safe;
            if let Some(member) = self.agreement.members.get_mut(&leader) {
                member.commit = safe;
            }
            self.apply(leader);
            self.replicate(leader);
        }
    }

    /// A node applies what it has and knows to be committed.
    fn apply(&mut self, node: u64) {
        let Some(member) = self.agreement.members.get(&node) else {
            return;
        };
        let upto = member.commit.min(member.have);
        let Some(applied) = self.nodes.get(&node).map(|node| node.disk.applied) else {
            return;
        };
        for index in applied + 1..=upto {
            let Some(entry) = self.agreement.entry(index).cloned() else {
                return;
            };
            self.apply_entry(node, index, &entry);
        }
    }

    fn apply_entry(&mut self, number: u64, index: u64, entry: &Entry) {
        let Some(node) = self.nodes.get_mut(&number) else {
            return;
        };
        let Some(life) = node.life.as_mut() else {
            return;
        };
        let meta = Meta {
            index,
            stamp_ms: entry.stamp_ms,
        };
        let mut overlay = node.disk.overlay();
        let replies = life.machine.apply(&mut overlay, meta, &entry.batch);
        let writes = overlay.writes;
        let records = writes.iter().filter(|((table, _), _)| *table == Table::Cdr);
        let records: Vec<CdrRow> = records
            .filter_map(|(_, value)| decode_row(value.as_ref()?))
            .collect();
        node.disk.write(index, writes);
        life.machine.published(index);
        let hash = life.machine.state_hash();
        let state = life.state.clone();
        let first = !self.agreement.hashes.contains_key(&index);
        let agreed = *self.agreement.hashes.entry(index).or_insert(hash);
        if agreed != hash {
            self.broken(
                "state-hash",
                format!("node {number} differs at entry {index}"),
            );
        }
        if first {
            self.applied_first(index, entry, &replies, &state);
            for record in records {
                let how = record.disposition.as_str();
                self.note(&format!("{} is recorded as {how}", record.call));
            }
        }
        if self.agreement.leader == Some(number) {
            for (origin, reply) in entry.origins.iter().zip(replies) {
                self.answer(number, *origin, Answer::Applied(reply));
            }
        }
    }

    /// An entry has been applied for the first time: what it says is noted and the state it
    /// leaves is checked.
    fn applied_first(
        &mut self,
        index: u64,
        entry: &Entry,
        replies: &[Vec<u8>],
        state: &strowger_core::state::SharedState,
    ) {
        let hash = state.read().meta.hash;
        for (proposal, reply) in entry.batch.iter().zip(replies) {
            let command = decode_command(&proposal.command);
            let reply = decode_reply(reply);
            let from = (proposal.request.node, proposal.request.incarnation);
            let text = match &command {
                // A site is long.
                Some(Command::SiteApply(_)) => String::from("SiteApply"),
                command => format!("{command:?}"),
            };
            self.note(&format!("entry {index} of {from:?}: {text} -> {reply:?}"));
            if let Some(command) = &command {
                self.note_command(command);
            }
            if let Some(Reply::Call { call, .. }) = reply {
                self.arrived.insert(call, index);
            }
        }
        self.note(&format!(
            "entry {index} leaves {:02x}{:02x}",
            hash[0], hash[1]
        ));
        self.check_state(index, &state.read());
        let kept = self.agreement.hashes.len();
        if kept > 20_000 {
            self.agreement.hashes.pop_first();
        }
    }

    /// The reply travels back.
    fn answer(&mut self, from: u64, origin: Origin, answer: Answer) {
        let travel = if from == origin.node {
            0
        } else if self.is_open(from, origin.node) {
            self.travel()
        } else {
            return;
        };
        let message = Message::Answered(origin, answer);
        self.after(travel, Event::Agreement(origin.node, message));
    }

    /// A node too far behind takes the rows of the leader over.
    fn install(&mut self, number: u64) {
        let leader = self.agreement.leader.filter(|leader| *leader != number);
        let Some(leader) = leader.filter(|leader| self.is_linked(*leader, number)) else {
            return;
        };
        let Some(source) = self.nodes.get(&leader).map(|node| node.disk.clone()) else {
            return;
        };
        if source.applied < self.agreement.cut {
            return;
        }
        self.note(&format!(
            "node {number} installs a snapshot at {}",
            source.applied
        ));
        if let Some(node) = self.nodes.get_mut(&number)
            && let Some(life) = node.life.as_mut()
        {
            node.disk.install(&source);
            life.machine.restore(&node.disk);
            life.machine.published(source.applied);
        }
        if let Some(member) = self.agreement.members.get_mut(&number) {
            member.have = member.have.max(source.applied);
        }
    }

    /// Heartbeats, leases, elections; and the log is cut behind.
    pub fn heartbeat(&mut self) {
        self.after(HEARTBEAT, Event::Heartbeat);
        self.elect();
        let now = self.now();
        let Some(leader) = self.agreement.leader.filter(|leader| self.is_well(*leader)) else {
            return;
        };
        self.replicate(leader);
        let term = self.agreement.term;
        let linked = self.reached_by(leader);
        if linked.len() >= self.agreement.majority() {
            // Whoever confirms a leader remembers when.
            for voter in linked.iter().filter(|voter| **voter != leader) {
                self.with_leases(*voter, |leases| leases.met(leader, BootTime::at(now)));
            }
            let message = Message::Confirmed(term, now);
            let travel = self.travel() + self.travel();
            self.after(travel, Event::Agreement(leader, message));
            self.ask_voters(leader, &linked);
        }
        // Everybody asks at every second heartbeat: a lease is renewed each 100 ms.
        if (now / HEARTBEAT).is_multiple_of(2) {
            for node in linked.into_iter().filter(|node| *node != leader) {
                self.renew(leader, node, now);
            }
        }
        let cut = self.agreement.commit.saturating_sub(self.plan.log_kept);
        self.agreement.cut = self.agreement.cut.max(cut);
        self.drop_old_entries();
    }

    /// Drops what is cut off, unless a node still has to apply it from its own log.
    fn drop_old_entries(&mut self) {
        while self.agreement.base < self.agreement.cut {
            let index = self.agreement.base + 1;
            let needed = self.nodes.iter().any(|(number, node)| {
                let have = self.agreement.members.get(number).map_or(0, |m| m.have);
                node.disk.synced() < index && index <= have
            });
            if needed {
                return;
            }
            self.agreement.log.pop_front();
            self.agreement.base = index;
        }
    }

    /// Nodes that run and hear `node` and are heard by it, itself included.
    fn reached_by(&self, node: u64) -> Vec<u64> {
        let members = self.agreement.members.keys().copied();
        members
            .filter(|other| self.is_well(*other))
            .filter(|other| *other == node || self.is_linked(*other, node))
            .collect()
    }

    /// Replaces a leader that cannot lead.
    fn elect(&mut self) {
        let leader = self.agreement.leader;
        let leads = leader.is_some_and(|leader| {
            self.is_well(leader) && self.reached_by(leader).len() >= self.agreement.majority()
        });
        if leads {
            self.agreement.sick_since = None;
            return;
        }
        let now = self.now();
        match self.agreement.sick_since {
            None => {
                self.agreement.sick_since = Some(now);
                let certain = leader.is_none_or(|leader| !self.is_alive(leader));
                self.agreement.patience = if certain {
                    self.chance.within(30, 120)
                } else {
                    self.chance.within(600, 1_300)
                };
            }
            Some(since) if now >= since + self.agreement.patience => {
                let all: Vec<u64> = self.agreement.members.keys().copied().collect();
                let able: Vec<u64> = all
                    .into_iter()
                    .filter(|node| self.is_electable(*node))
                    .collect();
                if let Some(heir) = self.chance.pick(&able).copied() {
                    self.lead(heir);
                }
            }
            Some(_) => {}
        }
    }

    /// True when a majority would vote for a node.
    pub fn is_electable(&self, node: u64) -> bool {
        let has = |node: &u64| self.agreement.members.get(node).map_or(0, |m| m.have);
        let voters = self.reached_by(node);
        self.is_well(node)
            && voters
                .iter()
                .filter(|voter| has(voter) <= has(&node))
                .count()
                >= self.agreement.majority()
    }

    /// A node leads from now on.
    pub fn lead(&mut self, heir: u64) {
        let have = self.agreement.members.get(&heir).map_or(0, |m| m.have);
        self.agreement.truncate(have);
        self.agreement.term += 1;
        self.agreement.elections += 1;
        self.agreement.leader = Some(heir);
        self.agreement.sick_since = None;
        self.agreement.gathered.clear();
        self.agreement.matched.clear();
        let term = self.agreement.term;
        self.note(&format!(
            "node {heir} leads in term {term} from entry {have}"
        ));
        if let Some(member) = self.agreement.members.get_mut(&heir) {
            member.term = term;
            member.leader = Some(heir);
            member.led_from = have + 1;
        }
        let now = self.boot_time();
        self.with_leases(heir, |leases| {
            leases.lead(false, now);
            leases.lead(true, now);
        });
        self.push_entry(heir, Vec::new(), Vec::new());
    }
}
