//! Clients of the interface: they write and read registers through whatever node they come
//! upon, and remember what they were told.
//!
//! A register is the reason for which an agent without duty is paused: each write has a word
//! of its own. A node answers reads from what it has applied, so a reader writes first, to a
//! register nobody else writes, and counts what he finds beside his own word: that can be no
//! older than his write.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use strowger_tests::apart::Apart;
use strowger_tests::api::Api;
use strowger_tests::dice::Dice;
use strowger_tests::history::{self, Did, Operation};
use strowger_tests::poll::{eventually, within_time};

use super::PATIENCE;

/// The registers everybody writes.
const SHARED: [&str; 2] = ["k001", "k002"];
/// Clients; the register of each is `k01n`.
const CLIENTS: usize = 3;
/// A reader looks for his own word for so long.
const LOOK: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(40);
/// Agents who serve the queue; so many of them sign in and out, the others stay.
const AGENTS: u64 = 6;
const RESTLESS: u64 = 3;
/// Between two agents who come or go.
const DUTY_PAUSE: Duration = Duration::from_millis(300);

#[derive(Default)]
struct Told {
    operations: [Vec<Operation>; SHARED.len()],
    acknowledged: usize,
    unknown: usize,
    refused: usize,
    /// Words that were surely not written.
    refusals: BTreeSet<String>,
    reads: usize,
    rounds: usize,
    /// Writes of unknown outcome that came to light in a later round.
    late: usize,
    /// What agents who come and go were told.
    duty: BTreeMap<String, Vec<Operation>>,
    signings: usize,
}

struct Shared {
    apis: Vec<Api>,
    told: Mutex<Told>,
    rest: AtomicBool,
    resting: Mutex<usize>,
    stop: AtomicBool,
}

pub struct Clients {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    known: Mutex<[String; SHARED.len()]>,
    /// Writes of earlier rounds whose outcome nobody knows and nobody has seen: they may take
    /// effect yet.
    open: Mutex<[Vec<Operation>; SHARED.len()]>,
    /// What agents of the last round were told nothing of, and may take effect yet.
    late_duty: Mutex<BTreeMap<String, Vec<Operation>>>,
    /// Who was signed in at the end of the last round.
    on_duty: Mutex<BTreeMap<String, String>>,
}

/// What became of all that was asked.
pub struct Summary(Told);

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let told = &self.0;
        write!(
            f,
            "{} histories with {} writes acknowledged, {} unknown ({} of them seen late), {} refused, \
             {} reads; agents signed in or out {} times",
            told.rounds,
            told.acknowledged,
            told.unknown,
            told.late,
            told.refused,
            told.reads,
            told.signings
        )
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn own(client: usize) -> String {
    format!("k00{}", 4 + client)
}

impl Clients {
    pub fn start(cluster: &Apart, dice: &mut Dice) -> Self {
        let apis: Vec<Api> = cluster
            .numbers()
            .map(|number| cluster.api(number))
            .collect();
        for agent in SHARED
            .iter()
            .map(|key| (*key).to_owned())
            .chain((0..CLIENTS).map(own))
        {
            eventually(PATIENCE, "a register is ready", || {
                (write(&apis[0], &agent, "w0") == Wrote::Yes).then_some(())
            });
        }
        let shared = Arc::new(Shared {
            apis,
            told: Mutex::default(),
            rest: AtomicBool::new(true),
            resting: Mutex::new(0),
            stop: AtomicBool::new(false),
        });
        let threads = (0..=CLIENTS)
            .map(|client| {
                let (shared, dice) = (Arc::clone(&shared), dice.split());
                std::thread::spawn(move || match client {
                    CLIENTS => sign_in_and_out(&shared, dice),
                    _ => run(client, &shared, dice),
                })
            })
            .collect();
        Self {
            shared,
            threads,
            known: Mutex::new(SHARED.map(|_| "w0".to_owned())),
            open: Mutex::default(),
            late_duty: Mutex::default(),
            on_duty: Mutex::default(),
        }
    }

    /// Ends a round, with the cluster caught up: what was told in it, and what every node says
    /// now, must be what one register could have told. The next round begins.
    pub fn judge(&self, cluster: &Apart) -> Vec<String> {
        self.shared.rest.store(true, Ordering::SeqCst);
        let all_rest = || (*lock(&self.shared.resting) == CLIENTS + 1).then_some(());
        eventually(PATIENCE, "the clients rest", all_rest);
        let mut wrong = Vec::new();
        let began = Instant::now();
        let seen: Vec<[String; SHARED.len()]> = cluster
            .numbers()
            .map(|number| {
                let api = cluster.api(number);
                let sync = own(CLIENTS);
                eventually(PATIENCE, "a node can be read", || {
                    let word = format!("s{number}-{}", began.elapsed().as_nanos());
                    if write(&api, &sync, &word) != Wrote::Yes {
                        return None;
                    }
                    read(&api, &sync, &word)
                })
            })
            .collect();
        let mut told = lock(&self.shared.told);
        let mut known = lock(&self.known);
        let mut open = lock(&self.open);
        for (n, key) in SHARED.iter().enumerate() {
            let mut operations = std::mem::take(&mut told.operations[n]);
            for values in &seen {
                operations.push(Operation {
                    began,
                    ended: Some(Instant::now()),
                    did: Did::Read(values[n].clone()),
                });
            }
            let read: BTreeSet<String> = operations
                .iter()
                .filter_map(|one| match &one.did {
                    Did::Read(word) => Some(word.clone()),
                    Did::Wrote(_) => None,
                })
                .collect();
            for word in read.intersection(&told.refusals) {
                wrong.push(format!("{word} was refused, and is read in {key}"));
            }
            let is_read =
                |one: &Operation| matches!(&one.did, Did::Wrote(word) if read.contains(word));
            let (late, unseen): (Vec<_>, Vec<_>) =
                std::mem::take(&mut open[n]).into_iter().partition(is_read);
            told.late += late.len();
            open[n] = unseen;
            // What nobody read may have happened at any time, or never: it explains nothing.
            operations.retain(|one| {
                let unseen = one.ended.is_none() && !is_read(one);
                if unseen {
                    open[n].push(one.clone());
                }
                !unseen
            });
            operations.extend(late);
            if let Err(why) = history::check(&known[n], &operations) {
                wrong.push(format!("register {key} is no register: {why}"));
            }
            if seen.iter().any(|values| values[n] != seen[0][n]) {
                wrong.push(format!("nodes differ about {key}: {seen:?}"));
            }
            known[n].clone_from(&seen[0][n]);
            told.rounds += 1;
        }
        let duty = std::mem::take(&mut told.duty);
        drop(told);
        let mut late = lock(&self.late_duty);
        for (agent, mut operations) in duty {
            let open = operations.iter().filter(|one| one.ended.is_none());
            let open: Vec<Operation> = open.cloned().collect();
            operations.extend(late.insert(agent.clone(), open).unwrap_or_default());
            wrong.extend(self.judge_duty(cluster, &agent, &operations));
        }
        self.shared.rest.store(false, Ordering::SeqCst);
        wrong
    }

    /// Whoever was told that he is signed in or out is so, at every node. One who talks shows
    /// it only when he has hung up.
    fn judge_duty(&self, cluster: &Apart, agent: &str, told: &[Operation]) -> Option<String> {
        let mut on_duty = lock(&self.on_duty);
        let before = on_duty.get(agent).cloned().unwrap_or(duty_word(true));
        let mut why = None;
        let explained = within_time(PATIENCE, || {
            let began = Instant::now();
            let mut operations = told.to_vec();
            let mut last = String::new();
            for number in cluster.numbers() {
                let agents = cluster.api(number).list("/v1/agents")?;
                let row = agents.iter().find(|row| row["id"] == agent)?;
                last = duty_word(row["state"] != "signed_out");
                operations.push(Operation {
                    began,
                    ended: Some(Instant::now()),
                    did: Did::Read(last.clone()),
                });
            }
            why = history::check(&before, &operations).err();
            why.is_none().then_some(last)
        });
        match explained {
            Some(last) => {
                on_duty.insert(agent.to_owned(), last);
                None
            }
            None => Some(format!("agent {agent} is not where he was told: {why:?}")),
        }
    }

    pub fn finish(self) -> Summary {
        self.shared.stop.store(true, Ordering::SeqCst);
        for thread in self.threads {
            thread.join().expect("clients assert nothing");
        }
        Summary(std::mem::take(&mut *lock(&self.shared.told)))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrote {
    Yes,
    /// Surely not: nothing was sent to the log.
    No,
    /// Nobody knows.
    Perhaps,
}

fn write(api: &Api, agent: &str, word: &str) -> Wrote {
    let body = json!({ "id": word, "type": "agent_pause", "agent": agent, "reason": word });
    match api.post("/v1/commands", &body) {
        Ok(answer) if answer.status == 200 => Wrote::Yes,
        Ok(answer) if answer.status == 503 => Wrote::No,
        Err(why) if why.contains("refused") => Wrote::No,
        Ok(_) | Err(_) => Wrote::Perhaps,
    }
}

/// The shared registers beside the reader's own word, once that is there.
fn read(api: &Api, agent: &str, word: &str) -> Option<[String; SHARED.len()]> {
    within_time(LOOK, || {
        let agents = api.list("/v1/agents")?;
        let of = |id: &str| -> Option<String> {
            let row = agents.iter().find(|row: &&Value| row["id"] == id)?;
            row["reason"].as_str().map(str::to_owned)
        };
        (of(agent)? == word).then_some(())?;
        let mut values = SHARED.map(|_| String::new());
        for (value, key) in values.iter_mut().zip(SHARED) {
            *value = of(key)?;
        }
        Some(values)
    })
}

/// Counts the clients that rest; false once all is over.
fn takes_turn(shared: &Shared, rests: &mut bool) -> bool {
    while !shared.stop.load(Ordering::SeqCst) {
        if !shared.rest.load(Ordering::SeqCst) {
            if std::mem::take(rests) {
                *lock(&shared.resting) -= 1;
            }
            return true;
        }
        if !std::mem::replace(rests, true) {
            *lock(&shared.resting) += 1;
        }
        std::thread::sleep(PAUSE / 4);
    }
    false
}

fn duty_word(signed_in: bool) -> String {
    let word = if signed_in { "in" } else { "out" };
    word.to_owned()
}

/// Agents come and go; some always stay.
fn sign_in_and_out(shared: &Shared, mut dice: Dice) {
    let mut rests = false;
    while takes_turn(shared, &mut rests) {
        std::thread::sleep(DUTY_PAUSE);
        let agent = format!("s{:03}", dice.between(AGENTS - RESTLESS + 1, AGENTS));
        let signs_in = dice.between(0, 1) == 0;
        let kind = if signs_in {
            "agent_sign_in"
        } else {
            "agent_sign_out"
        };
        let body = json!({ "id": "duty", "type": kind, "agent": agent });
        let began = Instant::now();
        let answer = dice.pick(&shared.apis).post("/v1/commands", &body);
        let ended = match answer.map(|answer| answer.status) {
            Ok(200) => Some(Instant::now()),
            // Refused by what is so already, or for want of a majority.
            Ok(409 | 503) => continue,
            Ok(_) | Err(_) => None,
        };
        let mut told = lock(&shared.told);
        told.signings += usize::from(ended.is_some());
        let did = Did::Wrote(duty_word(signs_in));
        let operations = told.duty.entry(agent).or_default();
        operations.push(Operation { began, ended, did });
        drop(told);
    }
}

fn run(client: usize, shared: &Shared, mut dice: Dice) {
    let mut rests = false;
    for n in 1u64.. {
        if !takes_turn(shared, &mut rests) {
            return;
        }
        let (api, word) = (dice.pick(&shared.apis).clone(), format!("c{client}-{n}"));
        let began = Instant::now();
        if dice.between(0, 1) == 0 {
            let key = usize::try_from(dice.between(0, SHARED.len() as u64 - 1)).expect("small");
            let wrote = write(&api, SHARED[key], &word);
            let ended = (wrote == Wrote::Yes).then(Instant::now);
            let mut told = lock(&shared.told);
            match wrote {
                Wrote::Yes => told.acknowledged += 1,
                Wrote::Perhaps => told.unknown += 1,
                Wrote::No => {
                    told.refused += 1;
                    told.refusals.insert(word.clone());
                }
            }
            if wrote != Wrote::No {
                let did = Did::Wrote(word);
                told.operations[key].push(Operation { began, ended, did });
            }
        } else if write(&api, &own(client), &word) == Wrote::Yes
            && let Some(values) = read(&api, &own(client), &word)
        {
            let ended = Some(Instant::now());
            let mut told = lock(&shared.told);
            told.reads += 1;
            for (key, value) in values.into_iter().enumerate() {
                let did = Did::Read(value);
                told.operations[key].push(Operation { began, ended, did });
            }
        }
        std::thread::sleep(PAUSE);
    }
}
