//! Phones of the demonstration's own, so that the board lives: some work as agents, the
//! others call the queue and each other.
//!
//! They are ordinary phones on addresses of their own and know nothing of the exchange
//! but its service addresses. At most ten, each with one call at a time, with pauses: a
//! small part of one core.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::line::{Line, LineSpec, Outcome};
use super::screen;
use super::site::DemoSite;

/// Extensions played, as far as the site has them.
const PLAYED: Range<u16> = 1011..1021;
/// Agents among them at most; with more nobody would ever wait.
const AGENTS_MAX: usize = 3;
/// Last part of the first line's address, 127.0.0.111.
const FIRST_HOST: u8 = 111;
/// Tones of the lines in hertz, a pentatonic scale.
const TONES: [u16; 10] = [262, 294, 330, 392, 440, 523, 587, 659, 784, 880];
/// Time between the starts of two lines, so that they do not all register at once.
const STAGGER: Duration = Duration::from_millis(250);
/// Interval of registrations, well within their life.
const REGISTER_EVERY: Duration = Duration::from_secs(45);
/// Interval at which a failed registration is tried again.
const REGISTER_AGAIN: Duration = Duration::from_secs(2);
/// An agent without a call for this long signs in again: somebody may have paused it.
const IDLE_MAX: Duration = Duration::from_secs(90);
/// Longest wait for the tone and end of a feature code.
const CODE_MAX: Duration = Duration::from_secs(5);
/// Ranges in milliseconds from which times are drawn.
const RINGING: Range<u64> = 800..2_500;
const TALK: Range<u64> = 5_000..14_000;
const PATIENCE: Range<u64> = 25_000..60_000;
const PAUSE: Range<u64> = 3_000..12_000;

/// The running lines; they stop when this is dropped.
#[derive(Debug)]
pub(super) struct Traffic {
    extensions: BTreeSet<String>,
    _lines: JoinSet<()>,
}

/// What a line does all day.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Role {
    Agent,
    /// Calls these queue numbers and these colleagues.
    Caller(Vec<String>, Vec<String>),
}

impl Traffic {
    /// Starts the lines that the site has extensions for.
    pub(super) fn start(
        site: &DemoSite,
        phones: &BTreeMap<String, String>,
        servers: &[SocketAddr],
    ) -> Self {
        let cast = cast(site, phones);
        if cast.is_empty() || servers.is_empty() {
            screen::note("no traffic: the site has no extensions 1011 to 1020");
        }
        let mut lines = JoinSet::new();
        let mut extensions = BTreeSet::new();
        for (at, (extension, role)) in cast.into_iter().enumerate() {
            let Some(spec) = spec(at, &extension, site, phones, servers) else {
                continue;
            };
            extensions.insert(extension);
            let wait = STAGGER * u32::try_from(at).unwrap_or_default();
            lines.spawn(async move {
                tokio::time::sleep(wait).await;
                live(spec, role).await;
            });
        }
        Self {
            extensions,
            _lines: lines,
        }
    }

    /// The extensions that are played.
    pub(super) fn extensions(&self) -> BTreeSet<String> {
        self.extensions.clone()
    }
}

/// Who plays what.
fn cast(site: &DemoSite, phones: &BTreeMap<String, String>) -> Vec<(String, Role)> {
    let staffed: BTreeSet<String> = site
        .read
        .site
        .agents
        .values()
        .filter_map(|agent| Some(agent.extension.as_ref()?.to_string()))
        .collect();
    let played: Vec<String> = PLAYED
        .map(|number| number.to_string())
        .filter(|extension| phones.contains_key(extension))
        .collect();
    let agents: Vec<String> = played
        .iter()
        .filter(|extension| staffed.contains(*extension))
        .take(AGENTS_MAX)
        .cloned()
        .collect();
    let callers: Vec<String> = played
        .into_iter()
        .filter(|extension| !staffed.contains(extension))
        .collect();
    let numbers = site.queue_numbers();
    let agents = agents.into_iter().map(|extension| (extension, Role::Agent));
    let callers_cast = callers.iter().map(|extension| {
        let others = callers.iter().filter(|other| *other != extension);
        let role = Role::Caller(numbers.clone(), others.cloned().collect());
        (extension.clone(), role)
    });
    agents.chain(callers_cast).collect()
}

fn spec(
    at: usize,
    extension: &str,
    site: &DemoSite,
    phones: &BTreeMap<String, String>,
    servers: &[SocketAddr],
) -> Option<LineSpec> {
    let host = FIRST_HOST.checked_add(u8::try_from(at).ok()?)?;
    let mut servers = servers.to_vec();
    let preferred = at.checked_rem(servers.len())?;
    servers.rotate_left(preferred);
    Some(LineSpec {
        ip: IpAddr::V4(Ipv4Addr::new(127, 0, 0, host)),
        hz: *TONES.get(at)?,
        extension: extension.to_owned(),
        password: phones.get(extension)?.clone(),
        domain: site.read.site.domain.clone(),
        servers,
    })
}

async fn live(spec: LineSpec, role: Role) {
    let extension = spec.extension.clone();
    match Line::open(spec).await {
        Ok(line) => match role {
            Role::Agent => work(line).await,
            Role::Caller(numbers, colleagues) => call(line, &numbers, &colleagues).await,
        },
        Err(error) => screen::note(&format!("extension {extension} stays silent: {error}")),
    }
}

/// An agent's day: stays registered and signed in, answers what is offered.
async fn work(mut line: Line) {
    let mut clock = Clock::new();
    let mut sign_in_at = Instant::now();
    loop {
        clock.keep_registered(&mut line).await;
        if clock.registered && Instant::now() >= sign_in_at {
            line.dial("*11", CODE_MAX).await;
            line.dial("*14", CODE_MAX).await;
            sign_in_at = Instant::now() + IDLE_MAX;
        }
        let until = clock.register_at.min(sign_in_at.max(clock.soon()));
        if let Some(invite) = line.called(until).await {
            line.answer(invite, some(RINGING), some(TALK)).await;
            sign_in_at = Instant::now() + IDLE_MAX;
        }
    }
}

/// A caller's day: calls the queue or a colleague, answers colleagues, rests.
async fn call(mut line: Line, numbers: &[String], colleagues: &[String]) {
    let mut clock = Clock::new();
    let mut call_at = Instant::now() + some(PAUSE);
    loop {
        clock.keep_registered(&mut line).await;
        if clock.registered && Instant::now() >= call_at {
            let queue = rand::random_range(0..10) < 6 || colleagues.is_empty();
            let outcome = match (queue, one_of(numbers), one_of(colleagues)) {
                (true, Some(number), _) => line.dial(number, some(PATIENCE)).await,
                (_, _, Some(colleague)) => line.dial(colleague, some(TALK)).await,
                (_, _, None) => Outcome::Unanswered(None),
            };
            tracing::trace!(?outcome, "call over");
            call_at = Instant::now() + some(PAUSE);
        }
        let until = clock.register_at.min(call_at.max(clock.soon()));
        if let Some(invite) = line.called(until).await {
            line.answer(invite, some(RINGING), some(PATIENCE)).await;
            call_at = Instant::now() + some(PAUSE);
        }
    }
}

/// When a line registers again.
struct Clock {
    registered: bool,
    register_at: Instant,
}

impl Clock {
    fn new() -> Self {
        Self {
            registered: false,
            register_at: Instant::now(),
        }
    }

    async fn keep_registered(&mut self, line: &mut Line) {
        if Instant::now() < self.register_at {
            return;
        }
        self.registered = line.register().await;
        let pause = if self.registered {
            REGISTER_EVERY
        } else {
            REGISTER_AGAIN
        };
        self.register_at = Instant::now() + pause;
    }

    /// The earliest moment for a call: at once, or with the next registration.
    fn soon(&self) -> Instant {
        if self.registered {
            Instant::now()
        } else {
            self.register_at
        }
    }
}

fn some(range: Range<u64>) -> Duration {
    Duration::from_millis(rand::random_range(range))
}

fn one_of(texts: &[String]) -> Option<&String> {
    let at = rand::random_range(0..texts.len().max(1));
    texts.get(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn phones(range: Range<u16>) -> BTreeMap<String, String> {
        range.map(|n| (n.to_string(), format!("p{n}"))).collect()
    }

    #[test]
    fn three_play_agents_and_seven_call_the_queue_and_each_other() {
        let site = DemoSite::sample().expect("valid");
        let cast = cast(&site, &phones(1001..1021));
        let agents: Vec<_> = cast
            .iter()
            .filter(|(_, role)| *role == Role::Agent)
            .collect();
        assert_eq!((cast.len(), agents.len()), (10, 3));
        let Some((extension, Role::Caller(numbers, colleagues))) = cast.last() else {
            panic!("the last is a caller");
        };
        assert_eq!(numbers, &["4008"]);
        assert_eq!(colleagues.len(), 6);
        assert!(!colleagues.contains(extension));
        assert!(
            cast.iter()
                .all(|(extension, _)| extension.as_str() > "1010")
        );
    }

    #[test]
    fn lines_spread_over_the_service_addresses_and_have_addresses_of_their_own() {
        let site = DemoSite::sample().expect("valid");
        let servers: Vec<SocketAddr> = (1..=6)
            .map(|n| SocketAddr::from(([127, 0, 0, n], 5060)))
            .collect();
        let phones = phones(1011..1021);
        let specs: Vec<LineSpec> = phones
            .keys()
            .enumerate()
            .filter_map(|(at, extension)| spec(at, extension, &site, &phones, &servers))
            .collect();
        assert_eq!(specs.len(), 10);
        let own: BTreeSet<IpAddr> = specs.iter().map(|spec| spec.ip).collect();
        assert_eq!(own.len(), 10);
        assert_eq!(specs[1].servers[0], servers[1]);
        assert_eq!(specs[6].servers[0], servers[0]);
        assert!(specs.iter().all(|spec| spec.servers.len() == 6));
        assert!(spec(0, "1011", &site, &phones, &[]).is_none());
    }

    #[test]
    fn without_extensions_nobody_plays() {
        let site = DemoSite::sample().expect("valid");
        assert!(cast(&site, &phones(1001..1011)).is_empty());
    }
}
