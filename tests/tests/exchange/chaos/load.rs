//! Whom the faults find: calls that talk, callers who wait for an agent, agents who serve them.
//!
//! Counted at the phones: a call is lost when an end is told that it is over and nobody had
//! hung up, or hears nothing any more.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use strowger_tests::apart::{Apart, phones_at};
use strowger_tests::dice::Dice;
use strowger_tests::phone::{Call, Phase, Phone, Policy};
use strowger_tests::poll::{eventually, within_time};

use super::PATIENCE;

const CALLER_HZ: u32 = 440;
const TALK_HZ: u32 = 620;
pub const AGENT_HZ: u32 = 700;
/// Who is heard was heard within this time.
const HEARD: Duration = Duration::from_millis(500);
/// Calls that ended so long ago have been counted, and are forgotten.
const KEPT: Duration = Duration::from_secs(60);
/// How long a caller waits to be answered before he tries another node.
const ANSWER: Duration = Duration::from_secs(3);
/// An agent has served a caller after so many packets of his, and gives one up whom he does
/// not hear.
const SERVED_PACKETS: u64 = 75;
const SILENT: Duration = Duration::from_secs(20);

/// The device at the extensions that talk.
pub fn talk_device() -> SocketAddr {
    (phones_at(0), 6_060).into()
}

/// The device of all agents.
pub fn agents_device() -> SocketAddr {
    (phones_at(1), 6_060).into()
}

/// A call that talks until it is hung up here.
pub struct Talk {
    pub number: String,
    pub ends: [Call; 2],
}

/// A caller of the queue who was answered.
#[derive(Clone)]
pub struct Served {
    pub from: String,
    /// Whether he heard an agent, and was not left by himself.
    pub well: bool,
    pub what: String,
}

/// The sums of a run.
#[derive(Default)]
pub struct Sums {
    pub talked: Vec<String>,
    /// How long calls talked, as their callers saw it.
    pub lasted: BTreeMap<String, Duration>,
    pub served: Vec<Served>,
    pub refused: usize,
}

impl fmt::Display for Sums {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} calls talked, {} callers were answered by the queue, {} were refused or gave up",
            self.talked.len(),
            self.served.len(),
            self.refused
        )
    }
}

pub struct Load {
    servers: Vec<SocketAddr>,
    wanted: usize,
    dice: Dice,
    caller: Phone,
    device: Phone,
    /// Locked while its calls are looked through: none is forgotten meanwhile.
    agents: Arc<Mutex<Phone>>,
    next: usize,
    pub talks: Vec<Talk>,
    /// Calls hung up during this fault; their other ends are to be told.
    pub leaving: Vec<Talk>,
    pub sums: Sums,
    /// Callers of the queue wait before they call again.
    resting: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    queue: Arc<Mutex<Sums>>,
    callers: Vec<JoinHandle<()>>,
    /// Nobody calls any more.
    done: Arc<AtomicBool>,
    server: JoinHandle<()>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Load {
    /// So many calls talk, and so many callers call the queue one after the other, by way of
    /// any of these addresses.
    pub fn start(servers: &[SocketAddr], calls: usize, callers: usize, dice: &mut Dice) -> Self {
        let answer = |after: u64| Policy::Answer {
            after: Duration::from_millis(after),
            talk: None,
        };
        let device = Phone::at(talk_device(), "all", "", TALK_HZ);
        device.set_policy(answer(0));
        let agents = Phone::at(agents_device(), "agents", "", AGENT_HZ);
        agents.set_policy(answer(150));
        let agents = Arc::new(Mutex::new(agents));
        let [resting, stop] = [(); 2].map(|()| Arc::new(AtomicBool::new(false)));
        let done = Arc::new(AtomicBool::new(false));
        let (serving, over) = (Arc::clone(&agents), Arc::clone(&done));
        let server = std::thread::spawn(move || serve(&serving, &over));
        let queue = Arc::new(Mutex::new(Sums::default()));
        let callers: Vec<JoinHandle<()>> = (0..callers)
            .map(|lane| {
                let when = [&resting, &stop].map(Arc::clone);
                let (queue, dice) = (Arc::clone(&queue), dice.split());
                let servers = servers.to_vec();
                std::thread::spawn(move || call_the_queue(lane, &servers, dice, &when, &queue))
            })
            .collect();
        let mut load = Self {
            servers: servers.to_vec(),
            wanted: calls,
            dice: dice.split(),
            caller: Phone::new(phones_at(2), "1001", "secret-1001", CALLER_HZ),
            device,
            agents,
            next: 3_001,
            talks: Vec::new(),
            leaving: Vec::new(),
            sums: Sums::default(),
            resting,
            stop,
            queue,
            callers,
            done,
            server,
        };
        load.fill();
        load
    }

    /// Makes calls until as many talk as are wanted.
    pub fn fill(&mut self) {
        while self.talks.len() < self.wanted {
            let talk = eventually(PATIENCE, "a new call is answered", || self.call());
            self.sums.talked.push(talk.number.clone());
            self.talks.push(talk);
        }
        for talk in &self.talks {
            let heard = || talk.is_heard().then_some(());
            eventually(PATIENCE, "both ends of a new call are heard", heard);
        }
        // Who is leaving is looked at once more.
        if self.leaving.is_empty() {
            for phone in [&self.caller, &self.device, &*lock(&self.agents)] {
                phone.forget_ended(KEPT);
            }
        }
    }

    fn call(&mut self) -> Option<Talk> {
        let server = *self.dice.pick(&self.servers);
        self.call_by_way_of(server)
    }

    fn call_by_way_of(&mut self, server: SocketAddr) -> Option<Talk> {
        let number = self.next.to_string();
        self.next += 1;
        let call = self.caller.call(server, &number);
        let other = call.answered(ANSWER).then(|| {
            within_time(ANSWER, || {
                let mut ends = self.device.calls().into_iter().rev();
                ends.find(|end| called(end) == number)
            })
        });
        if other.is_none() {
            call.hang_up();
        }
        let ends = [call, other??];
        Some(Talk { number, ends })
    }

    /// From now on gaps are those of the next fault.
    pub fn begin_fault(&mut self) {
        self.fill();
        self.count_anew();
    }

    /// From now on gaps are counted anew.
    pub fn count_anew(&self) {
        for talk in &self.talks {
            talk.ends.iter().for_each(|end| end.audio().reset());
        }
    }

    /// Somebody calls by way of each address, is answered, talks and hangs up; what is wrong.
    pub fn come_and_go(&mut self) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut came = Vec::new();
        for server in self.servers.clone() {
            match self.call_by_way_of(server) {
                Some(talk) => came.push(talk),
                None => wrong.push(format!("a new call by way of {server} was not answered")),
            }
        }
        came.iter().for_each(Talk::forget);
        wrong.extend(came.iter().flat_map(Talk::misses));
        for (n, talk) in came.into_iter().enumerate() {
            self.sums.talked.push(talk.number.clone());
            talk.ends[n % 2].hang_up();
            self.leaving.push(talk);
        }
        wrong
    }

    /// Who of those who talk does not hear the other.
    pub fn misses(&self) -> Vec<String> {
        self.talks.iter().for_each(Talk::forget);
        self.talks.iter().flat_map(Talk::misses).collect()
    }

    /// Lets a while pass in which some hang up.
    pub fn goes_on(&mut self, lasts: Duration) {
        let until = Instant::now() + lasts;
        while Instant::now() < until {
            let pause = Duration::from_millis(self.dice.between(100, 900));
            std::thread::sleep(pause.min(until.saturating_duration_since(Instant::now())));
            if self.leaving.len() < 3 && self.talks.len() > 2 {
                let last = self.talks.len() as u64 - 1;
                let index = usize::try_from(self.dice.between(0, last)).expect("an index");
                let talk = self.talks.swap_remove(index);
                let side = usize::try_from(self.dice.between(0, 1)).expect("0 or 1");
                talk.ends[side].hang_up();
                self.leaving.push(talk);
            }
        }
    }

    /// How long each end of a talking call heard nothing since the fault began, ms.
    pub fn gaps(&self) -> Vec<f64> {
        let ends = self.talks.iter().flat_map(|talk| &talk.ends);
        ends.map(|end| end.audio().counts().gap_max.as_secs_f64() * 1_000.0)
            .collect()
    }

    /// Agents who had two callers in the ear at once, so far as is remembered.
    pub fn doubles(&self) -> Vec<String> {
        let mut of_agent: BTreeMap<String, Vec<(Instant, Instant)>> = BTreeMap::new();
        let now = Instant::now();
        for end in lock(&self.agents).calls() {
            let view = end.view();
            // Audio came only to those whose answer was taken.
            if let Some(answered) = view.answered
                && end.audio().counts().received > 10
            {
                let talks = of_agent.entry(called(&end)).or_default();
                talks.push((answered, view.ended.unwrap_or(now)));
            }
        }
        let mut doubles = Vec::new();
        for (agent, mut talks) in of_agent {
            talks.sort();
            for pair in talks.windows(2) {
                if pair[1].0 < pair[0].1 {
                    doubles.push(format!("agent {agent} had two callers at once"));
                }
            }
        }
        doubles
    }

    /// Everybody hangs up, and calls again after [`Load::go_on`]; waits for all to be told.
    pub fn rest(&mut self, cluster: &Apart) {
        self.resting.store(true, Ordering::Relaxed);
        let talks = std::mem::take(&mut self.talks);
        for (n, talk) in talks.iter().enumerate() {
            talk.ends[n % 2].hang_up();
        }
        for end in talks.iter().flat_map(|talk| &talk.ends) {
            if end.ended(PATIENCE).is_none() {
                println!("  an end was never told: {:?}", end.view());
            }
        }
        talks.iter().for_each(|talk| self.sums.note(talk));
        // A caller who is in the queue now is served first.
        eventually(3 * PATIENCE, "no call is left", || {
            let calls = cluster.any_api().list("/v1/calls")?;
            calls.is_empty().then_some(())
        });
    }

    /// Everybody calls again after a rest.
    pub fn go_on(&mut self) {
        self.resting.store(false, Ordering::Relaxed);
        self.fill();
    }

    /// Everybody hangs up for good.
    pub fn finish(mut self, cluster: &Apart) -> Sums {
        self.stop.store(true, Ordering::Relaxed);
        self.rest(cluster);
        for lane in std::mem::take(&mut self.callers) {
            lane.join().expect("callers assert nothing");
        }
        self.done.store(true, Ordering::Relaxed);
        self.server.join().expect("agents assert nothing");
        let mut sums = std::mem::take(&mut self.sums);
        let queue = lock(&self.queue);
        sums.served.clone_from(&queue.served);
        sums.refused = queue.refused;
        sums
    }

    /// Callers of the queue so far.
    pub fn served(&self) -> Vec<Served> {
        let queue = lock(&self.queue);
        queue.served.clone()
    }
}

impl Sums {
    /// Remembers how long a call talked that is over.
    pub fn note(&mut self, talk: &Talk) {
        let view = talk.ends[0].view();
        if let (Some(answered), Some(ended)) = (view.answered, view.ended) {
            self.lasted.insert(talk.number.clone(), ended - answered);
        }
    }
}

impl Talk {
    /// What was heard so far counts no more.
    fn forget(&self) {
        self.ends.iter().for_each(|end| end.audio().forget());
    }

    /// Says so when an end does not hear the other's tone.
    fn misses(&self) -> Option<String> {
        let hears = |(end, hz): (&Call, u32)| {
            let heard = || end.audio().hears(hz).then_some(());
            within_time(PATIENCE, heard).is_some()
        };
        let all = self.ends.iter().zip([TALK_HZ, CALLER_HZ]).all(hears);
        (!all).then(|| {
            let views = self.ends.each_ref().map(Call::view);
            format!(
                "the ends of the call to {} do not hear each other: {views:?}",
                self.number
            )
        })
    }

    pub fn is_heard(&self) -> bool {
        self.ends.iter().all(|end| {
            let last = end.audio().counts().last;
            end.view().ended.is_none() && last.is_some_and(|last| last.elapsed() < HEARD)
        })
    }
}

/// The user part of the number an incoming call came for.
fn called(end: &Call) -> String {
    let start = end.peer_message().start;
    let user = start.split("sip:").nth(1);
    let user = user.and_then(|rest| rest.split('@').next());
    user.unwrap_or_default().to_owned()
}

/// Agents hang up on whom they have served.
fn serve(agents: &Mutex<Phone>, done: &AtomicBool) {
    while !done.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(50));
        let agents = lock(agents);
        let calls = agents.calls().into_iter().map(|end| (end.view(), end));
        for (view, end) in calls.filter(|(view, _)| view.phase == Phase::Up) {
            let silent = view.answered.is_some_and(|at| at.elapsed() > SILENT);
            if silent || end.audio().counts().received >= SERVED_PACKETS {
                end.hang_up();
            }
        }
    }
}

/// One caller after the other, each with a number of his own.
fn call_the_queue(
    lane: usize,
    servers: &[SocketAddr],
    mut dice: Dice,
    [resting, stop]: &[Arc<AtomicBool>; 2],
    sums: &Mutex<Sums>,
) {
    let at = phones_at(3 + u8::try_from(lane).expect("few lanes"));
    for n in 0.. {
        while resting.load(Ordering::Relaxed) && !stop.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(50));
        }
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let from = format!("55{lane:02}{n:05}");
        let phone = Phone::new(at, &from, "", 440);
        let call = phone.call(*dice.pick(servers), "5008");
        if !call.answered(ANSWER) {
            call.hang_up();
            call.ended(ANSWER);
            let mut sums = lock(sums);
            sums.refused += 1;
            drop(sums);
            std::thread::sleep(Duration::from_millis(dice.between(100, 500)));
            continue;
        }
        call.audio().watch_for(AGENT_HZ);
        let ended = call.ended(2 * PATIENCE);
        let heard = call.audio().watched_at().is_some();
        let well = heard
            && ended
                .as_ref()
                .is_some_and(|view| view.phase == Phase::Ended);
        let what = match &ended {
            None => "nobody took him, or let him go".to_owned(),
            Some(_) if !heard => format!("was left without an agent: {:?}", call.view()),
            Some(_) => String::new(),
        };
        call.hang_up();
        let mut sums = lock(sums);
        sums.served.push(Served { from, well, what });
        drop(sums);
        std::thread::sleep(Duration::from_millis(dice.between(100, 800)));
    }
}
