//! Readers of the event stream, who go from node to node with the cursor of what they saw last:
//! nothing is ever missing for them, nothing comes twice, and every node tells the same.

use std::collections::hash_map::DefaultHasher;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;
use strowger_tests::apart::Apart;
use strowger_tests::api::Api;
use strowger_tests::dice::Dice;

use super::PATIENCE;

const READERS: usize = 3;
/// Before the oldest event.
const OLDEST: &str = "0";
/// A reader stays at a node for at most this long, ms.
const STAY_MS: u64 = 4_000;

/// What a reader saw.
#[derive(Default)]
struct Seen {
    /// Position of each event and a hash of all that it says.
    events: Vec<((u64, u32), u64)>,
    last: Option<String>,
    attached: usize,
    wrong: Vec<String>,
}

impl Seen {
    fn take(&mut self, event: &Value) {
        let text = event["cursor"].as_str();
        let position = text.and_then(|text| {
            let (index, n) = text.split_once('.')?;
            Some((index.parse().ok()?, n.parse().ok()?))
        });
        let Some((text, position)) = text.zip(position) else {
            return self.wrong.push(format!("no event: {event}"));
        };
        if self.events.last().is_some_and(|last| last.0 >= position) {
            let last = self.last.as_deref().unwrap_or(OLDEST);
            self.wrong.push(format!("{text} came after {last}"));
        }
        let mut hash = DefaultHasher::new();
        event.to_string().hash(&mut hash);
        self.events.push((position, hash.finish()));
        self.last = Some(text.to_owned());
    }

    /// Reads at one node until `enough` or the stream ends.
    fn read(&mut self, api: &Api, mut enough: impl FnMut(&Self, Option<&Value>) -> bool) {
        let from = self.last.clone().unwrap_or_else(|| OLDEST.to_owned());
        let Ok(mut stream) = api.events(&from) else {
            return;
        };
        self.attached += 1;
        while let Ok(event) = stream.poll() {
            if let Some(event) = &event {
                self.take(event);
            }
            if enough(self, event.as_ref()) {
                return;
            }
        }
    }
}

pub struct Readers {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Seen>>,
}

/// What all of them saw.
pub struct Summary {
    events: usize,
    attached: usize,
    pub wrong: Vec<String>,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} events read by each of {READERS} readers, who attached {} times",
            self.events, self.attached
        )
    }
}

impl Readers {
    pub fn start(cluster: &Apart, dice: &mut Dice) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let threads = (0..READERS)
            .map(|_| {
                let apis: Vec<Api> = cluster
                    .numbers()
                    .map(|number| cluster.api(number))
                    .collect();
                let (stop, mut dice) = (Arc::clone(&stop), dice.split());
                std::thread::spawn(move || {
                    let mut seen = Seen::default();
                    while !stop.load(Ordering::Relaxed) {
                        let until =
                            Instant::now() + Duration::from_millis(dice.between(0, STAY_MS));
                        let over = || Instant::now() > until || stop.load(Ordering::Relaxed);
                        seen.read(dice.pick(&apis), |_, _| over());
                    }
                    seen
                })
            })
            .collect();
        Self { stop, threads }
    }

    /// Compares what they saw with what every node tells from the first event on.
    pub fn finish(self, cluster: &Apart) -> Summary {
        self.stop.store(true, Ordering::Relaxed);
        let readers = self.threads.into_iter();
        let readers: Vec<Seen> = readers
            .map(|thread| thread.join().expect("readers assert nothing"))
            .collect();
        let furthest = readers.iter().filter_map(|seen| seen.events.last());
        let furthest = furthest.map(|last| last.0).max();
        let mut wrong: Vec<String> = readers.iter().flat_map(|seen| seen.wrong.clone()).collect();
        let mut events = 0;
        for number in cluster.numbers() {
            let mut told = Seen::default();
            let began = Instant::now();
            let all = |seen: &Seen| seen.events.last().map(|last| last.0) >= furthest;
            while !all(&told) && began.elapsed() < PATIENCE {
                told.read(&cluster.api(number), |seen, event| {
                    all(seen) || event.is_none() && began.elapsed() > PATIENCE
                });
            }
            wrong.append(&mut told.wrong);
            events = told.events.len();
            for (reader, seen) in readers.iter().enumerate() {
                let differs = told
                    .events
                    .iter()
                    .zip(&seen.events)
                    .position(|(a, b)| a != b);
                if let Some(at) = differs {
                    let (told, seen) = (told.events[at].0, seen.events[at].0);
                    wrong.push(format!(
                        "reader {reader} saw {seen:?} where node {number} tells {told:?}"
                    ));
                } else if told.events.len() < seen.events.len() {
                    wrong.push(format!("node {number} tells less than reader {reader} saw"));
                }
            }
        }
        Summary {
            events,
            attached: readers.iter().map(|seen| seen.attached).sum(),
            wrong,
        }
    }
}
