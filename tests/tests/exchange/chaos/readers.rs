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
/// Before another node is asked.
const DEAD: Duration = Duration::from_millis(20);
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
            // A dead node.
            return std::thread::sleep(DEAD);
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

impl Seen {
    /// Reads on until this event.
    fn read_to(&mut self, api: &Api, last: (u64, u32)) {
        let began = Instant::now();
        let is_there = |seen: &Self| seen.events.last().is_some_and(|seen| seen.0 >= last);
        while !is_there(self) && began.elapsed() < PATIENCE {
            self.read(api, |seen, event| {
                is_there(seen) || event.is_none() && began.elapsed() > PATIENCE
            });
        }
        if !is_there(self) {
            self.wrong.push(format!("{last:?} never came"));
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

    /// Compares what they saw, read to the end, with what every node tells from the first event
    /// on.
    pub fn finish(self, cluster: &Apart) -> Summary {
        self.stop.store(true, Ordering::Relaxed);
        let readers = self.threads.into_iter();
        let mut readers: Vec<Seen> = readers
            .map(|thread| thread.join().expect("readers assert nothing"))
            .collect();
        let furthest = readers.iter().filter_map(|seen| seen.events.last());
        let Some(furthest) = furthest.map(|last| last.0).max() else {
            return Summary {
                events: 0,
                attached: 0,
                wrong: vec!["nobody read any event".to_owned()],
            };
        };
        for seen in &mut readers {
            seen.read_to(&cluster.any_api(), furthest);
        }
        let mut wrong: Vec<String> = readers.iter().flat_map(|seen| seen.wrong.clone()).collect();
        for number in cluster.numbers() {
            let mut told = Seen::default();
            told.read_to(&cluster.api(number), furthest);
            wrong.append(&mut told.wrong);
            for (reader, seen) in readers.iter().enumerate() {
                let mut pairs = told.events.iter().zip(&seen.events);
                if let Some((told, seen)) = pairs.find(|(told, seen)| told != seen) {
                    let (told, seen) = (told.0, seen.0);
                    wrong.push(format!(
                        "reader {reader} saw {seen:?} where node {number} tells {told:?}"
                    ));
                }
                let (here, there) = (told.events.len(), seen.events.len());
                if here != there {
                    wrong.push(format!(
                        "node {number} tells {here} events, reader {reader} saw {there}"
                    ));
                }
            }
        }
        Summary {
            events: readers
                .iter()
                .map(|seen| seen.events.len())
                .min()
                .unwrap_or(0),
            attached: readers.iter().map(|seen| seen.attached).sum(),
            wrong,
        }
    }
}
