//! Agents: who is doing what since when.

use std::time::Instant;

use strowger_core::api::Agent;

use super::{Line, agent_tone, calls, state_word};
use crate::console::grid::{Column, Row, lasting, left, maybe, number, right, words};
use crate::console::model::Model;
use crate::text;

/// Columns of the list.
pub static COLUMNS: [Column; 7] = [
    left("AGENT", 10),
    left("EXT", 6),
    left("STATE", 10),
    right("FOR", 7),
    right("CALLS", 5),
    left("QUEUES", 10),
    left("REASON / CALLER", 16),
];

/// A row per agent.
pub fn rows(model: &Model, now: Instant) -> Vec<Row> {
    model
        .agents
        .iter()
        .map(|agent| Row {
            id: agent.id.clone(),
            cells: vec![
                words(&agent.id),
                maybe(agent.extension.as_deref()),
                words(&state_word(&agent.state)).tone(agent_tone(&agent.state)),
                lasting(model.since_ms(&agent.since_at, now)),
                number(agent.calls),
                maybe(Some(agent.queues.join(" ").as_str()).filter(|queues| !queues.is_empty())),
                maybe(why(model, agent).as_deref()),
            ],
        })
        .collect()
}

/// The reason of a pause, else who is on the line.
fn why(model: &Model, agent: &Agent) -> Option<String> {
    let caller = || {
        let id = agent.call.as_ref()?;
        Some(model.calls.iter().find(|call| call.id == *id)?.from.clone())
    };
    agent.reason.clone().or_else(caller)
}

/// An agent with the live call.
pub fn detail(model: &Model, id: &str, now: Instant) -> Vec<Line> {
    let Some(agent) = model.agents.iter().find(|agent| agent.id == id) else {
        return Vec::new();
    };
    let mut lines = vec![
        Line::Heading(format!("Agent {}", words(&agent.id).text)),
        Line::Field(
            "state",
            words(&state_word(&agent.state)).tone(agent_tone(&agent.state)),
        ),
        Line::Field("reason", maybe(agent.reason.as_deref())),
        Line::Field("for", lasting(model.since_ms(&agent.since_at, now))),
        Line::Field("since", words(&text::moment(&agent.since_at))),
        Line::Field("extension", maybe(agent.extension.as_deref())),
        Line::Field("calls answered", number(agent.calls)),
        Line::Field("queues", words(&agent.queues.join(" "))),
        Line::Field("call", maybe(agent.call.as_deref())),
    ];
    if let Some(call) = &agent.call {
        lines.extend(calls::detail(model, call, now));
    }
    lines
}
