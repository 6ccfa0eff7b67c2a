//! What the console knows: the latest answers, folded once. Views read it and compute
//! nothing themselves, so a figure that stands in two places is one figure.
//!
//! It also keeps the book of requests: which are under way, which are due.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use strowger_core::api::{Agent, Call, Cluster, Figures, Node, Overview, Queue, Registration};

use crate::limits;
use crate::text;

/// Something the console asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Topic {
    /// Figures, agents by state, alarms.
    Overview,
    /// Queues.
    Queues,
    /// Agents.
    Agents,
    /// Live calls.
    Calls,
    /// Registered phones.
    Registrations,
    /// Nodes.
    Nodes,
    /// Name, leader and service addresses.
    Cluster,
}

impl Topic {
    /// Where it is asked.
    pub fn path(self) -> &'static str {
        match self {
            Self::Overview => "/v1/overview",
            Self::Queues => "/v1/queues",
            Self::Agents => "/v1/agents",
            Self::Calls => "/v1/calls",
            Self::Registrations => "/v1/registrations",
            Self::Nodes => "/v1/nodes",
            Self::Cluster => "/v1/cluster",
        }
    }
}

/// An answer to a request.
#[derive(Clone, Debug)]
pub enum Answer {
    /// To [`Topic::Overview`].
    Overview(Overview),
    /// To [`Topic::Queues`].
    Queues(Vec<Queue>),
    /// To [`Topic::Agents`].
    Agents(Vec<Agent>),
    /// To [`Topic::Calls`].
    Calls(Vec<Call>),
    /// To [`Topic::Registrations`].
    Registrations(Vec<Registration>),
    /// To [`Topic::Nodes`].
    Nodes(Vec<Node>),
    /// To [`Topic::Cluster`].
    Cluster(Cluster),
}

impl Answer {
    /// What was asked.
    pub fn topic(&self) -> Topic {
        match self {
            Self::Overview(_) => Topic::Overview,
            Self::Queues(_) => Topic::Queues,
            Self::Agents(_) => Topic::Agents,
            Self::Calls(_) => Topic::Calls,
            Self::Registrations(_) => Topic::Registrations,
            Self::Nodes(_) => Topic::Nodes,
            Self::Cluster(_) => Topic::Cluster,
        }
    }
}

/// One topic's request book.
#[derive(Clone, Copy, Debug, Default)]
struct Book {
    asked: Option<Instant>,
    answered: Option<Instant>,
    /// How long the last answer took.
    took: Duration,
    under_way: bool,
    changed: bool,
}

/// The latest answers.
#[derive(Debug, Default)]
pub struct Model {
    /// Figures, agents by state, alarms.
    pub overview: Overview,
    /// Queues.
    pub queues: Vec<Queue>,
    /// Agents.
    pub agents: Vec<Agent>,
    /// Live calls.
    pub calls: Vec<Call>,
    /// Registered phones.
    pub registrations: Vec<Registration>,
    /// Nodes.
    pub nodes: Vec<Node>,
    /// The cluster, once answered.
    pub cluster: Option<Cluster>,
    books: BTreeMap<Topic, Book>,
    clock: Option<(i64, Instant)>,
}

impl Model {
    /// Takes an answer in.
    pub fn fold(&mut self, answer: Answer, now: Instant) {
        let book = self.books.entry(answer.topic()).or_default();
        book.under_way = false;
        book.answered = Some(now);
        book.took = book
            .asked
            .map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        match answer {
            Answer::Overview(overview) => {
                self.clock = text::instant_ms(&overview.at).map(|at| (at, now));
                self.overview = overview;
            }
            Answer::Queues(queues) => self.queues = queues,
            Answer::Agents(agents) => self.agents = agents,
            Answer::Calls(calls) => self.calls = calls,
            Answer::Registrations(registrations) => self.registrations = registrations,
            Answer::Nodes(nodes) => self.nodes = nodes,
            Answer::Cluster(cluster) => self.cluster = Some(cluster),
        }
    }

    /// A request brought no answer: it is due again soon, at another node perhaps.
    pub fn missed(&mut self, topic: Topic) {
        let book = self.books.entry(topic).or_default();
        book.under_way = false;
        book.changed = true;
    }

    /// Something changed at the exchange: every topic is due again.
    pub fn changed(&mut self) {
        for book in self.books.values_mut() {
            book.changed = true;
        }
    }

    /// The requests to send now for `needed`, each with how old its answer may grow.
    /// A topic whose request is under way is left alone.
    pub fn due(&mut self, needed: &[(Topic, Duration)], now: Instant) -> Vec<Topic> {
        let mut due = Vec::new();
        for (topic, age_max) in needed {
            let book = self.books.entry(*topic).or_default();
            let age = book.asked.map(|asked| now.saturating_duration_since(asked));
            // Long lists are asked for less often, so that watching costs a node at most
            // a part of its time.
            let rest = (book.took * limits::REST_FACTOR).min(limits::REST_MAX);
            let ripe = match age {
                None => true,
                Some(age) if book.changed => age >= limits::COALESCE_INTERVAL.max(rest),
                Some(age) => age >= rest.max(*age_max),
            };
            if ripe && !book.under_way {
                *book = Book {
                    asked: Some(now),
                    under_way: true,
                    changed: false,
                    ..*book
                };
                due.push(*topic);
            }
        }
        due
    }

    /// Age of the answer to `topic`; `None` before the first.
    pub fn age(&self, topic: Topic, now: Instant) -> Option<Duration> {
        let answered = self.books.get(&topic)?.answered?;
        Some(now.saturating_duration_since(answered))
    }

    /// Milliseconds since `time`, on the exchange's clock.
    pub fn since_ms(&self, time: &str, now: Instant) -> Option<u64> {
        let (at, seen) = self.clock?;
        let then = text::instant_ms(time)?;
        let passed = i64::try_from(now.saturating_duration_since(seen).as_millis()).ok()?;
        u64::try_from(at.saturating_add(passed).saturating_sub(then).max(0)).ok()
    }

    /// Totals of a queue; the one place its callers waiting come from.
    pub fn figures(&self, queue: &str) -> Option<&Figures> {
        self.overview
            .figures
            .iter()
            .find(|figures| figures.name == queue)
    }

    /// Agents in `state`.
    pub fn agents_in(&self, state: &str) -> u64 {
        self.overview.agents.get(state).copied().unwrap_or(0)
    }

    /// The node whose API listens on `host`.
    pub fn node_at(&self, host: &str) -> Option<&Node> {
        let host_of = |address: &str| {
            address
                .rsplit_once(':')
                .map_or(address, |(host, _)| host)
                .to_owned()
        };
        self.nodes
            .iter()
            .find(|node| node.address == host || host_of(&node.address) == host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEEDED: [(Topic, Duration); 1] = [(Topic::Agents, limits::POLL_INTERVAL)];

    #[test]
    fn one_request_per_topic_is_under_way() {
        let start = Instant::now();
        let mut model = Model::default();
        assert_eq!(model.due(&NEEDED, start), [Topic::Agents]);
        let later = start + Duration::from_secs(60);
        assert!(model.due(&NEEDED, later).is_empty(), "no answer came yet");
        model.missed(Topic::Agents);
        assert_eq!(model.due(&NEEDED, later), [Topic::Agents]);
    }

    #[test]
    fn a_burst_of_events_causes_one_request() {
        let start = Instant::now();
        let mut model = Model::default();
        model.due(&NEEDED, start);
        model.fold(Answer::Agents(Vec::new()), start);
        for _ in 0..100 {
            model.changed();
        }
        assert!(
            model.due(&NEEDED, start).is_empty(),
            "too close to the last"
        );
        let soon = start + limits::COALESCE_INTERVAL;
        assert_eq!(model.due(&NEEDED, soon), [Topic::Agents]);
        model.fold(Answer::Agents(Vec::new()), soon);
        let quiet = soon + limits::POLL_INTERVAL - Duration::from_millis(1);
        assert!(model.due(&NEEDED, quiet).is_empty());
        assert_eq!(
            model.due(&NEEDED, soon + limits::POLL_INTERVAL),
            [Topic::Agents]
        );
    }

    #[test]
    fn answers_that_take_long_are_asked_for_less_often() {
        let start = Instant::now();
        let mut model = Model::default();
        model.due(&NEEDED, start);
        let took = Duration::from_millis(200);
        model.fold(Answer::Agents(Vec::new()), start + took);
        model.changed();
        let rested = start + took * limits::REST_FACTOR;
        assert!(
            model
                .due(&NEEDED, rested - Duration::from_millis(1))
                .is_empty()
        );
        assert_eq!(model.due(&NEEDED, rested), [Topic::Agents]);
    }

    #[test]
    fn ages_run_on_the_clock_of_the_exchange() {
        let start = Instant::now();
        let mut model = Model::default();
        let at = "2026-11-22T01:00:10.000Z".to_owned();
        model.fold(
            Answer::Overview(Overview {
                at,
                ..Overview::default()
            }),
            start,
        );
        let later = start + Duration::from_millis(1_500);
        assert_eq!(
            model.since_ms("2026-11-22T01:00:00.000Z", later),
            Some(11_500)
        );
        assert_eq!(model.since_ms("2026-11-22T02:00:00.000Z", later), Some(0));
    }
}
