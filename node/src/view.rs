//! Folds of the state into the objects of the interface: each figure is computed here
//! and nowhere else, so that console, commands and metrics cannot differ.
//!
//! Pure: no clock, no IO. `now` is the time of the answer; waits run up to it.

use std::collections::{BTreeMap, BTreeSet};

use strowger_cluster::{Liveness, Member, Role};
use strowger_core::api;
use strowger_core::call::{CallRow, Exit, LegRole, LegRow, Seen, Want};
use strowger_core::cdr::CdrRow;
use strowger_core::floor::agent::{AgentRow, AgentState};
use strowger_core::floor::callback::CallbackState;
use strowger_core::floor::explanation::Explanation;
use strowger_core::floor::trunk::TrunkRow;
use strowger_core::ids::{AgentId, NodeId, SkillName};
use strowger_core::ports::NodeNumber;
use strowger_core::state::State;
use strowger_core::state::event::{EventRow, Value, event_position};
use strowger_core::time::TimeMs;

mod customers;
mod hours;

pub use self::customers::{customer, import, interaction};
pub use self::hours::{hours, hours_day};
use crate::figures::{self, Of};
use crate::peer::PeerStatus;

fn count(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

/// The overview; `alarms` come from the cluster.
pub fn overview(state: &State, now: TimeMs, alarms: Vec<api::Problem>) -> api::Overview {
    let queues = queues(state, now);
    let mut agents: BTreeMap<String, u64> = AgentState::ALL
        .iter()
        .map(|state| (state.as_str().to_owned(), 0))
        .collect();
    for agent in state.agents.values() {
        *agents
            .entry(state.agent_state(agent).as_str().to_owned())
            .or_default() += 1;
    }
    api::Overview {
        at: now.rfc3339(),
        calls: count(state.calls.len()),
        registrations: registrations_count(state),
        waiting: queues.iter().map(|queue| queue.waiting).sum(),
        longest_wait_ms: queues
            .iter()
            .map(|queue| queue.longest_wait_ms)
            .max()
            .unwrap_or(0),
        agents,
        figures: figures::live(state, Of::Queue, now),
        total: Box::new(figures::total(state, now)),
        alarms,
    }
}

/// Registered contacts.
pub fn registrations_count(state: &State) -> u64 {
    count(
        state
            .registrations
            .values()
            .map(|row| row.bindings.len())
            .sum(),
    )
}

/// Nodes known to agreement or to the floor. `answers` are what the nodes say about
/// themselves; `last_log` is the end of the leader's log as known here.
pub fn nodes(
    state: &State,
    members: &[Member],
    answers: &BTreeMap<NodeNumber, PeerStatus>,
    last_log: u64,
) -> Vec<api::Node> {
    let numbers: BTreeSet<NodeNumber> = members
        .iter()
        .map(|member| member.node)
        .chain(state.nodes.keys().map(|node| node.0))
        .collect();
    let end = answers
        .values()
        .map(|status| status.applied)
        .max()
        .unwrap_or(0)
        .max(last_log);
    numbers
        .into_iter()
        .map(|number| {
            let id = NodeId(number);
            let member = members.iter().find(|member| member.node == number);
            let answer = answers.get(&number);
            let row = state.nodes.get(&id);
            let address = row.map(|row| row.address.to_string());
            api::Node {
                id: id.to_string(),
                address: address
                    .or_else(|| member.map(|member| host(&member.address)))
                    .unwrap_or_default(),
                state: node_state(state, id, member, answer.is_some()).to_owned(),
                role: match member {
                    Some(member) if member.leader => "leader",
                    Some(member) if member.role == Role::Voter => "voter",
                    _ => "learner",
                }
                .to_owned(),
                term: answer.map(|status| status.term),
                applied: answer.map(|status| status.applied),
                lag: answer.map(|status| end.saturating_sub(status.applied)),
                calls: count(state.calls_of(id).count()),
                version: answer.map(|status| status.version.clone()),
                state_hash: answer.and_then(|status| status.state_hash).map(hex::encode),
                service_addresses: state
                    .addresses
                    .values()
                    .filter(|row| row.holder == Some(id))
                    .map(|row| row.address.to_string())
                    .collect(),
            }
        })
        .collect()
}

fn host(address: &str) -> String {
    address
        .rsplit_once(':')
        .map_or(address, |(host, _)| host)
        .to_owned()
}

fn node_state(state: &State, id: NodeId, member: Option<&Member>, answers: bool) -> &'static str {
    let up = state.nodes.get(&id).is_some_and(|row| row.up);
    let draining = state.nodes.get(&id).is_some_and(|row| row.draining);
    match member.map(|member| member.liveness) {
        _ if !up => "down",
        Some(Liveness::Dead { .. }) => "down",
        Some(Liveness::Suspect { .. }) => "suspect",
        // Its process may hang: its kernel still holds the connections.
        _ if !answers => "suspect",
        _ if draining => "draining",
        _ => "up",
    }
}

/// The cluster at a glance.
pub fn cluster(
    state: &State,
    name: &str,
    id: &str,
    figures: &strowger_cluster::ClusterFigures,
) -> api::Cluster {
    api::Cluster {
        name: name.to_owned(),
        id: id.to_owned(),
        leader: figures.leader.map(|leader| NodeId(leader).to_string()),
        term: figures.term,
        applied: figures.applied,
        nodes: count(state.nodes.len()),
        nodes_up: count(state.nodes.values().filter(|node| node.up).count()),
        feature_level: state.meta.feature_level,
        service_addresses: service_addresses(state),
    }
}

/// Service addresses in the order of the site.
pub fn service_addresses(state: &State) -> Vec<api::ServiceAddress> {
    let mut rows: Vec<_> = state.addresses.values().collect();
    rows.sort_by_key(|row| (row.place, row.address));
    rows.into_iter()
        .map(|row| api::ServiceAddress {
            address: row.address.to_string(),
            node: row.holder.map(|node| node.to_string()),
            epoch: row.epoch,
            calls: count(
                state
                    .calls
                    .values()
                    .filter(|call| call.address == row.address)
                    .count(),
            ),
        })
        .collect()
}

/// Extensions of all sites.
pub fn extensions(state: &State) -> Vec<api::ExtensionInfo> {
    let mut agents: BTreeMap<(&str, &str), Vec<String>> = BTreeMap::new();
    for agent in state.agents.values() {
        if let Some(extension) = &agent.extension {
            let seat = (agent.tenant.as_str(), extension.as_str());
            agents.entry(seat).or_default().push(agent.id.to_string());
        }
    }
    let sites = state.sites.iter();
    sites
        .flat_map(|(tenant, row)| {
            let all = row.site.extensions.iter();
            all.map(move |one| (tenant, row, one))
        })
        .map(|(tenant, row, (extension, spec))| {
            let key = (tenant.clone(), extension.clone());
            api::ExtensionInfo {
                extension: extension.to_string(),
                imported: row.site.imported.contains(extension),
                contact: spec.contact.clone(),
                registrations: state
                    .registrations
                    .get(&key)
                    .map_or(0, |row| count(row.bindings.len())),
                agents: agents
                    .remove(&(tenant.as_str(), extension.as_str()))
                    .unwrap_or_default(),
            }
        })
        .collect()
}

/// Registered contacts.
pub fn registrations(state: &State) -> Vec<api::Registration> {
    let rows = state.registrations.values();
    rows.flat_map(|row| row.bindings.iter().map(move |binding| (row, binding)))
        .map(|(row, binding)| api::Registration {
            extension: row.extension.to_string(),
            contact: binding.contact.clone(),
            transport: binding.flow.transport.as_str().to_owned(),
            node: state
                .holder(binding.flow.local.ip())
                .map(|node| node.to_string()),
            expires_at: binding.expires_at.rfc3339(),
        })
        .collect()
}

fn times(row: &AgentRow, now: TimeMs) -> BTreeMap<String, u64> {
    let times = row.times_at(now);
    let states = AgentState::ALL.into_iter();
    states
        .filter(|state| *state != AgentState::SignedOut)
        .map(|state| {
            (
                format!("{}_ms", state.as_str()),
                times.get(state.slot()).copied(),
            )
        })
        .filter_map(|(word, time)| Some((word, time?)))
        .collect()
}

fn levels(skills: &BTreeMap<SkillName, u8>) -> BTreeMap<String, u8> {
    let skills = skills.iter();
    skills
        .map(|(skill, level)| (skill.to_string(), *level))
        .collect()
}

/// Agents.
pub fn agents(state: &State) -> Vec<api::Agent> {
    // Times run on with the log, so that every node shows the same.
    let now = state.meta.now;
    state
        .agents
        .values()
        .map(|row| {
            let shown = state.agent_state(row);
            let spec = state
                .site(&row.tenant)
                .and_then(|site| site.agents.get(&row.id));
            use strowger_core::floor::agent::Activity;
            let call = match &row.activity {
                Activity::Offered(call) | Activity::Talking(call) => Some(call.to_string()),
                Activity::Idle | Activity::WrapUp(_) => None,
            };
            let reason = match shown {
                AgentState::Paused => row.paused.clone(),
                AgentState::NoPhone => Some(state.no_phone_reason(row)),
                _ => None,
            };
            api::Agent {
                id: row.id.to_string(),
                extension: row.extension.as_ref().map(ToString::to_string),
                state: shown.as_str().to_owned(),
                reason,
                since_at: row.since.rfc3339(),
                calls: row.calls,
                talk_ms: row.talk_ms,
                times: times(row, now),
                at_work_ms: row.at_work_at(now),
                team: spec.and_then(|spec| Some(spec.team.as_ref()?.to_string())),
                skills: spec.map(|spec| levels(&spec.skills)).unwrap_or_default(),
                call,
                queues: spec
                    .map(|spec| spec.queues.iter().map(ToString::to_string).collect())
                    .unwrap_or_default(),
            }
        })
        .collect()
}

/// Queues with their live figures.
pub fn queues(state: &State, now: TimeMs) -> Vec<api::Queue> {
    let sites = state.sites.iter();
    sites
        .flat_map(|(tenant, row)| {
            row.site
                .queues
                .iter()
                .map(move |queue| (tenant, row, queue))
        })
        .map(|(tenant, row, (name, spec))| {
            let key = (tenant.clone(), name.clone());
            let entered = |call: &CallRow| call.visit.as_ref().map(|visit| visit.entered_at);
            let oldest = state.waiting(&key).filter_map(entered).min();
            let serving = || {
                state.agents.values().filter(|agent| {
                    agent.tenant == *tenant
                        && row
                            .site
                            .agents
                            .get(&agent.id)
                            .is_some_and(|a| a.queues.contains(name))
                })
            };
            let is_ready = |agent: &&_| state.agent_state(agent) == AgentState::Ready;
            api::Queue {
                name: name.to_string(),
                strategy: spec.strategy.as_str().to_owned(),
                waiting: count(state.waiting(&key).count()),
                longest_wait_ms: oldest.map_or(0, |entered| now.since(entered)),
                agents_ready: count(serving().filter(is_ready).count()),
                agents_signed_in: count(serving().filter(|agent| agent.signed_in).count()),
            }
        })
        .collect()
}

/// Live calls, oldest first.
pub fn calls(state: &State, now: TimeMs) -> Vec<api::Call> {
    state
        .calls
        .values()
        .map(|row| call(state, row, now))
        .collect()
}

/// One live call.
pub fn call(state: &State, row: &CallRow, now: TimeMs) -> api::Call {
    let visit = row.visit.as_ref();
    let offered = visit
        .and_then(|visit| visit.offers.first())
        .map(|offer| &offer.agent);
    let origin = row.callback.and_then(|origin| state.callbacks.get(&origin));
    let own = origin.filter(|origin| origin.state.call() == Some(row.id));
    let kept = own.and_then(|origin| origin.state.agent());
    let left = row
        .answered_at
        .or_else(|| row.ending.is_some().then_some(now));
    api::Call {
        id: row.id.to_string(),
        state: row.state().word().to_owned(),
        from: row.from.number.clone(),
        to: row.to.clone(),
        started_at: row.started_at.rfc3339(),
        queue: visit.map(|visit| visit.queue.to_string()),
        agent: row
            .agent
            .as_ref()
            .or(offered)
            .or(kept)
            .map(ToString::to_string),
        customer: row.customer.as_ref().map(ToString::to_string),
        position: state.position(row),
        priority: visit.map(|visit| visit.priority),
        relax_step: visit.map(|visit| count(visit.step)),
        wait_ms: visit.map(|visit| left.unwrap_or(now).since(visit.entered_at)),
        node: Some(row.owner.to_string()),
        address: row.address.to_string(),
        epoch: row.epoch,
        legs: row
            .legs
            .iter()
            .map(|one| leg(row.from.number.as_str(), one))
            .collect(),
    }
}

fn leg(caller: &str, row: &LegRow) -> api::Leg {
    let (direction, party) = match &row.role {
        LegRole::Caller => ("in", caller.to_owned()),
        LegRole::Extension(extension) => ("out", extension.to_string()),
        LegRole::Agent(agent) => ("out", agent.to_string()),
        LegRole::Trunk(_, number) => ("out", number.clone()),
    };
    let state = match (row.seen, row.want) {
        (Seen::Ended, _) => "ended",
        (Seen::Answered, _) if row.held => "held",
        (Seen::Answered, _) => "answered",
        (Seen::Fresh, Want::Alert) if row.role != LegRole::Caller => "ringing",
        (Seen::Fresh, _) => "proceeding",
    };
    api::Leg {
        id: row.id.to_string(),
        sip_call_id: row.sip_call_id.clone(),
        direction: direction.to_owned(),
        party,
        remote: row.remote.clone(),
        codec: row.codec.map(|codec| codec.as_str().to_owned()),
        state: state.to_owned(),
        started_at: row.started_at.rfc3339(),
        answered_at: row.answered_at.map(TimeMs::rfc3339),
        ended_at: row.ended_at.map(TimeMs::rfc3339),
    }
}

/// Why a call was offered to whom, one entry for each assignment.
pub fn explanation(row: &Explanation) -> api::Explanation {
    let names = |agents: &[AgentId]| agents.iter().map(ToString::to_string).collect();
    api::Explanation {
        call: row.call.to_string(),
        index: row.index,
        at: row.at.rfc3339(),
        queue: row.queue.to_string(),
        strategy: row.strategy.as_str().to_owned(),
        relax_step: u64::from(row.step),
        winners: names(&row.winners),
        waited_ms: row.waited_ms,
        score_milli: row.score,
        weight: row.weight,
        priority: row.priority,
        aged: row.aged,
        meant: row.meant,
        candidates: row
            .candidates
            .iter()
            .map(|one| api::Considered {
                agent: one.agent.to_string(),
                idle_ms: one.idle_ms,
                calls: one.calls,
                talk_ms: one.talk_ms,
                last_offer: one.last_offer,
            })
            .collect(),
        excluded: row
            .excluded
            .iter()
            .map(|(agent, why)| api::Excluded {
                agent: agent.to_string(),
                reason: why.as_str().to_owned(),
            })
            .collect(),
        candidates_in_all: u64::from(row.counts.candidates),
        members: u64::from(row.counts.members),
        working: u64::from(row.counts.working),
        unfit: u64::from(row.counts.unfit),
    }
}

/// Callbacks that stand, in the order they were taken.
pub fn callbacks(state: &State) -> Vec<api::Callback> {
    let rows = state.callbacks.values();
    rows.map(|row| {
        let queue = (row.tenant.clone(), row.queue.clone());
        let closed = row.state == CallbackState::Waiting && !state.calls_back_now(&queue);
        let next_at = match &row.state {
            CallbackState::Resting { until } => Some(*until),
            _ if closed => state.calls_back_at(&queue),
            _ => None,
        };
        api::Callback {
            id: row.id.to_string(),
            queue: row.queue.to_string(),
            number: row.from.number.clone(),
            to: row.to.clone(),
            state: if closed { "closed" } else { row.state.as_str() }.to_owned(),
            taken_at: row.taken_at.rfc3339(),
            since: row.since.rfc3339(),
            attempts: u64::from(row.attempts),
            next_at: next_at.map(TimeMs::rfc3339),
            call: row.state.call().map(|call| call.to_string()),
            agent: row.state.agent().map(ToString::to_string),
            customer: row.customer.as_ref().map(ToString::to_string),
        }
    })
    .collect()
}

/// Trunks, with the channels that live calls and leftovers of lost ones hold.
pub fn trunks(state: &State) -> Vec<api::Trunk> {
    let sites = state.sites.iter();
    sites
        .flat_map(|(tenant, row)| row.site.trunks.iter().map(move |trunk| (tenant, trunk)))
        .map(|(tenant, (name, spec))| {
            let key = (tenant.clone(), name.clone());
            let row = state.trunks.get(&key);
            let total = |count: fn(&TrunkRow) -> u64| row.map_or(0, count);
            api::Trunk {
                name: name.to_string(),
                channels: u64::from(spec.channels),
                in_use: count(state.channels_in_use(&key)),
                peak: total(|row| u64::from(row.peak)),
                state: "up".to_owned(),
                peak_at: row.and_then(|row| row.peak_at).map(TimeMs::rfc3339),
                releasing: count(state.channels_releasing(&key)),
                cps: u64::from(spec.cps),
                seized: total(|row| row.seized),
                refused: total(|row| row.refused),
                doubtful: total(|row| row.doubtful),
            }
        })
        .collect()
}

fn exit(exit: &Exit) -> api::Exit {
    api::Exit {
        queue: exit.queue.to_string(),
        cause: exit.cause.as_str().to_owned(),
        at: exit.at.rfc3339(),
        waited_ms: exit.waited_ms,
    }
}

/// A record, found under `key`.
pub fn cdr(key: &[u8], row: &CdrRow) -> api::Cdr {
    api::Cdr {
        id: row.id.to_string(),
        cursor: hex::encode(key),
        call: row.call.to_string(),
        from: row.from.clone(),
        to: row.to.clone(),
        started_at: row.started_at.rfc3339(),
        queued_at: row.queued_at.map(TimeMs::rfc3339),
        answered_at: row.answered_at.map(TimeMs::rfc3339),
        ended_at: row.ended_at.rfc3339(),
        wait_ms: row.wait_ms(),
        talk_ms: row.talk_ms,
        queue: row.queue.as_ref().map(ToString::to_string),
        agent: row.agent.as_ref().map(ToString::to_string),
        customer: row.customer.as_ref().map(ToString::to_string),
        callback: row.callback.map(|call| call.to_string()),
        node: Some(row.node.to_string()),
        disposition: row.disposition.as_str().to_owned(),
        sip_status: Some(row.cause.status),
        q850: Some(row.cause.q850),
        exits: row.exits.iter().map(exit).collect(),
        legs: row.legs.iter().map(|one| leg(&row.from, one)).collect(),
    }
}

/// An event, found under `key`; `None` when the key is none of an event.
pub fn event(key: &[u8], row: EventRow) -> Option<api::Event> {
    let (index, n) = event_position(key)?;
    let fields = row.fields.into_iter().map(|(name, value)| {
        let value = match value {
            Value::Text(text) => serde_json::Value::from(text),
            Value::Number(number) => serde_json::Value::from(number),
            Value::Absent => serde_json::Value::Null,
        };
        (name, value)
    });
    Some(api::Event {
        cursor: format!("{index}.{n}"),
        at: row.at.rfc3339(),
        kind: row.kind,
        entity: row.entity,
        fields: fields.collect(),
    })
}
