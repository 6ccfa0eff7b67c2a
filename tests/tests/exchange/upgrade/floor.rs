//! Who waits and who works while the nodes are renewed: callers who keep their places in a
//! queue that nobody serves, agents nobody touches, and agents who come and go.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use strowger_tests::apart::{Apart, phones_at};
use strowger_tests::cluster::MUSIC_HZ;
use strowger_tests::phone::{Call, Phone};
use strowger_tests::poll::{eventually, within_time};

use super::PATIENCE;
use crate::chaos::load::AGENT_HZ;

/// The number of the queue whose callers wait.
pub const WAITED_FOR: &str = "5009";
/// Agents who stay as they are: paused, signed out, ready at a device, ready at a phone.
const STEADY: [&str; 4] = ["k001", "k002", "k003", "a1"];
/// Who signs in and out by command, and who by feature code.
const BY_COMMAND: &str = "k004";
const BY_CODE: &str = "a2";

/// A caller who waits.
struct Waiter {
    from: String,
    call: Call,
    began: Instant,
    _phone: Phone,
}

pub struct Floor {
    servers: Vec<SocketAddr>,
    waiters: Vec<Waiter>,
    /// The rows of [`STEADY`].
    steady: Vec<Value>,
    _at_desk: Phone,
    comes_and_goes: Phone,
    registers: Phone,
    turn: usize,
}

/// The phones of the floor; those of the load are at lower ones.
fn address() -> IpAddr {
    phones_at(15)
}

fn phone(user: &str, server: SocketAddr) -> Phone {
    let phone = Phone::new(address(), user, &format!("secret-{user}"), 500);
    assert_eq!(phone.register(server, 3_600), Some(200), "{user}");
    phone
}

/// Dials a feature code; what is wrong.
fn dial(phone: &Phone, server: SocketAddr, code: &str) -> Option<String> {
    let call = phone.call(server, code);
    let done = call.answered(PATIENCE) && call.ended(PATIENCE).is_some_and(|v| v.ended_by_peer);
    (!done).then(|| format!("{code} by way of {server}: {:?}", call.view()))
}

impl Floor {
    pub fn open(cluster: &Apart, servers: &[SocketAddr], waiting: usize) -> Self {
        let at_desk = phone("1002", servers[0]);
        assert_eq!(dial(&at_desk, servers[0], "*11"), None);
        for words in [
            &["agent", "pause", "k001", "--reason", "lunch"][..],
            &["agent", "sign-out", "k002"],
        ] {
            let (code, _, err) = cluster.command(words);
            assert_eq!(code, 0, "{err}");
        }
        let waiters = (0..waiting).map(|n| {
            let from = format!("77{n:03}");
            let phone = Phone::new(address(), &from, "", 440);
            let call = phone.call(servers[n % servers.len()], WAITED_FOR);
            assert!(call.answered(PATIENCE), "{:?}", call.view());
            Waiter {
                from,
                call,
                began: Instant::now(),
                _phone: phone,
            }
        });
        let waiters = waiters.collect();
        let steady = eventually(PATIENCE, "the agents are where they should be", || {
            let rows = steady(cluster, 1)?;
            let states: Vec<&str> = rows
                .iter()
                .filter_map(|row| row["state"].as_str())
                .collect();
            (states == ["paused", "signed_out", "ready", "ready"]).then_some(rows)
        });
        Self {
            servers: servers.to_vec(),
            waiters,
            steady,
            _at_desk: at_desk,
            comes_and_goes: phone("1003", servers[1]),
            registers: phone("1004", servers[2]),
            turn: 0,
        }
    }

    /// Nobody lost his place, no agent is another than before, and who comes and goes does so
    /// by way of every node; what is wrong.
    pub fn look(&mut self, cluster: &Apart) -> Vec<String> {
        let mut wrong = Vec::new();
        for waiter in &self.waiters {
            waiter.call.audio().forget();
        }
        for waiter in &self.waiters {
            let music = || waiter.call.audio().hears(MUSIC_HZ).then_some(());
            if within_time(PATIENCE, music).is_none() {
                wrong.push(format!("no music: {:?}", waiter.call.view()));
            }
        }
        for node in cluster.numbers() {
            let places: Vec<&str> = self.waiters.iter().map(|one| one.from.as_str()).collect();
            let mut seen = None;
            let kept = within_time(PATIENCE, || {
                seen = Some((places_at(cluster, node)?, steady(cluster, node)?));
                let (places_now, steady_now) = seen.as_ref()?;
                (*places_now == places && *steady_now == self.steady).then_some(())
            });
            if kept.is_none() {
                let (before, now) = (&self.steady, &seen);
                wrong.push(format!("node {node}: {places:?} {before:?}, now {now:?}"));
            }
        }
        for node in cluster.numbers() {
            for (kind, state) in [("agent_sign_out", "signed_out"), ("agent_sign_in", "ready")] {
                wrong.extend(command(cluster, node, kind));
                wrong.extend(is_everywhere(cluster, BY_COMMAND, state));
            }
        }
        let server = self.servers[self.turn % self.servers.len()];
        let (code, state) = [("*11", "ready"), ("*12", "signed_out")][self.turn % 2];
        self.turn += 1;
        wrong.extend(dial(&self.comes_and_goes, server, code));
        wrong.extend(is_everywhere(cluster, BY_CODE, state));
        self.register(cluster);
        wrong
    }

    /// A phone registers by way of every address.
    pub fn register(&self, cluster: &Apart) {
        for server in &self.servers {
            let status = self.registers.register(*server, 600);
            let holders = cluster.any_api().list("/v1/nodes");
            assert_eq!(status, Some(200), "by way of {server}: {holders:#?}");
        }
    }

    /// An agent comes, and serves those who waited in their order; what is wrong.
    pub fn serve(&self, cluster: &Apart) -> Vec<String> {
        for waiter in &self.waiters {
            waiter.call.audio().watch_for(AGENT_HZ);
        }
        let (code, _, err) = cluster.command(&["agent", "sign-in", "w001"]);
        assert_eq!(code, 0, "{err}");
        let mut wrong = Vec::new();
        let mut before = None;
        for waiter in &self.waiters {
            let served = || waiter.call.audio().watched_at();
            let at = within_time(PATIENCE, served);
            if at.is_none() || at < before || waiter.call.ended(PATIENCE).is_none() {
                let view = waiter.call.view();
                wrong.push(format!("{} was not served in turn: {view:?}", waiter.from));
            }
            before = at;
        }
        wrong
    }

    /// Who waited, and for how long.
    pub fn waited(&self) -> impl Iterator<Item = (&str, Duration)> {
        self.waiters.iter().map(|waiter| {
            let served = waiter.call.audio().watched_at();
            let waited = served.map(|at| at - waiter.began);
            (waiter.from.as_str(), waited.unwrap_or_default())
        })
    }
}

/// Who waits, in order, as a node says.
fn places_at(cluster: &Apart, node: u8) -> Option<Vec<String>> {
    let mut calls = cluster.api(node).list("/v1/calls")?;
    calls.retain(|call| call["to"] == WAITED_FOR);
    let placed = |call: &Value| {
        Some((
            call["position"].as_u64()?,
            call["from"].as_str()?.to_owned(),
        ))
    };
    let mut places: Vec<(u64, String)> = calls.iter().map(placed).collect::<Option<_>>()?;
    places.sort();
    let whole = (1..).zip(&places).all(|(place, (at, _))| place == *at);
    whole.then(|| places.into_iter().map(|(_, from)| from).collect())
}

/// The agents who stay as they are, as a node says.
fn steady(cluster: &Apart, node: u8) -> Option<Vec<Value>> {
    let rows = cluster.api(node).list("/v1/agents")?;
    let one = |id: &&str| {
        let row = rows.iter().find(|row| row["id"] == **id)?;
        let kept = ["id", "extension", "state", "reason", "since_at", "queues"];
        Some(
            kept.iter()
                .map(|name| ((*name).to_owned(), row[*name].clone()))
                .collect(),
        )
    };
    STEADY.iter().map(one).collect()
}

/// Gives a node a command about the agent who comes and goes by command; what is wrong.
fn command(cluster: &Apart, node: u8, kind: &str) -> Option<String> {
    let body = json!({ "id": "duty", "type": kind, "agent": BY_COMMAND });
    let answer = cluster.api(node).post("/v1/commands", &body);
    let done = answer.as_ref().is_ok_and(|answer| answer.status == 200);
    (!done).then(|| format!("{kind} at node {node}: {answer:?}"))
}

/// Every node says that this agent is in this state; what is wrong.
fn is_everywhere(cluster: &Apart, agent: &str, state: &str) -> Option<String> {
    let everywhere = within_time(PATIENCE, || {
        let mut nodes = cluster.numbers();
        let said = nodes.all(|node| {
            let rows = cluster.api(node).list("/v1/agents").unwrap_or_default();
            rows.iter()
                .any(|row| row["id"] == agent && row["state"] == state)
        });
        said.then_some(())
    });
    everywhere
        .is_none()
        .then(|| format!("{agent} is not {state} everywhere"))
}
