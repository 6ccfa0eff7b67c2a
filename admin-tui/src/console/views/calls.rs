//! Live calls, and one call with its legs.

use std::time::Instant;

use strowger_core::api::{Call, Leg};

use super::{Line, state_word};
use crate::console::grid::{Column, Row, Tone, lasting, left, maybe, maybe_number, right, words};
use crate::console::model::Model;
use crate::text;

/// Columns of the list.
pub static COLUMNS: [Column; 9] = [
    left("FROM", 12),
    left("TO", 8),
    left("STATE", 8),
    right("FOR", 6),
    left("QUEUE", 6),
    right("PLACE", 5),
    right("WAIT", 5),
    left("AGENT", 6),
    left("NODE", 6),
];

/// A row per call.
pub fn rows(model: &Model, now: Instant) -> Vec<Row> {
    model
        .calls
        .iter()
        .map(|call| Row {
            id: call.id.clone(),
            cells: vec![
                words(&call.from),
                words(&call.to),
                words(&state_word(&call.state)).tone(tone(call)),
                lasting(model.since_ms(&call.started_at, now)),
                maybe(call.queue.as_deref()),
                maybe_number(call.position),
                lasting(call.wait_ms),
                maybe(call.agent.as_deref()),
                maybe(call.node.as_deref()),
            ],
        })
        .collect()
}

fn tone(call: &Call) -> Tone {
    match call.state.as_str() {
        "bridged" => Tone::Good,
        "queued" | "offered" => Tone::Warn,
        "clearing" => Tone::Dim,
        _ => Tone::Plain,
    }
}

/// A call with its legs.
pub fn detail(model: &Model, id: &str, now: Instant) -> Vec<Line> {
    let Some(call) = model.calls.iter().find(|call| call.id == id) else {
        return Vec::new();
    };
    let anchored = format!("{} epoch {}", call.address, call.epoch);
    let mut lines = vec![
        Line::Heading(format!("Call {}", words(&call.id).text)),
        Line::Field("from", words(&call.from)),
        Line::Field("to", words(&call.to)),
        Line::Field("state", words(&state_word(&call.state)).tone(tone(call))),
        Line::Field("for", lasting(model.since_ms(&call.started_at, now))),
        Line::Field("arrived", words(&text::moment(&call.started_at))),
        Line::Field("queue", maybe(call.queue.as_deref())),
        Line::Field("place", maybe_number(call.position)),
        Line::Field("wait", lasting(call.wait_ms)),
        Line::Field("agent", maybe(call.agent.as_deref())),
        Line::Field("node", maybe(call.node.as_deref())),
        Line::Field("address", words(&anchored)),
    ];
    for leg in &call.legs {
        lines.extend(leg_lines(leg));
    }
    lines
}

fn leg_lines(leg: &Leg) -> [Line; 6] {
    let title = format!("Leg {} {} {}", leg.id, leg.direction, leg.party);
    let answered = leg.answered_at.as_deref().map(text::moment);
    [
        Line::Heading(words(&title).text),
        Line::Field("state", words(&state_word(&leg.state))),
        Line::Field("codec", maybe(leg.codec.as_deref())),
        Line::Field("remote", maybe(leg.remote.as_deref())),
        Line::Field("answered", maybe(answered.as_deref())),
        Line::Field("Call-ID", words(&leg.sip_call_id)),
    ]
}
