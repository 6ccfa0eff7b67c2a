//! Queues: the service board of the overview, the list, a queue with who waits and who
//! serves. Callers waiting come from the figures everywhere, the longest wait from the
//! queue.

use std::time::Instant;

use strowger_core::api::{Figures, Queue};

use super::{Line, agent_tone, state_word};
use crate::console::grid::{
    Cell, Column, Row, Tone, lasting, left, maybe, maybe_number, number, right, words,
};
use crate::console::model::Model;
use crate::text;

/// Columns of the service board.
pub static SERVICE: [Column; 9] = [
    left("QUEUE", 9),
    right("WAITING", 7),
    right("LONGEST", 7),
    right("OFFERED", 7),
    right("ANSWERED", 8),
    right("ABAND", 5),
    right("LOST", 4),
    right("SERVICE", 10),
    right("ASA", 5),
];

/// Columns of the list.
pub static COLUMNS: [Column; 8] = [
    left("QUEUE", 12),
    right("WAITING", 7),
    right("LONGEST", 7),
    right("READY", 5),
    right("SIGNED IN", 9),
    right("SERVICE", 10),
    right("ASA", 5),
    right("AHT", 5),
];

/// A row per queue of the figures.
pub fn service(model: &Model) -> Vec<Row> {
    model
        .overview
        .figures
        .iter()
        .map(|figures| service_row(model, figures))
        .collect()
}

fn service_row(model: &Model, figures: &Figures) -> Row {
    let queue = find(model, &figures.name);
    Row {
        id: figures.name.clone(),
        cells: vec![
            words(&figures.name),
            waiting(Some(figures.waiting)),
            lasting(queue.map(|queue| queue.longest_wait_ms)),
            number(figures.offered),
            number(figures.answered),
            number(figures.abandoned),
            lost(figures.node_lost),
            level(figures),
            lasting(figures.asa_ms),
        ],
    }
}

/// A row per queue.
pub fn rows(model: &Model) -> Vec<Row> {
    model
        .queues
        .iter()
        .map(|queue| {
            let figures = model.figures(&queue.name);
            Row {
                id: queue.name.clone(),
                cells: vec![
                    words(&queue.name),
                    waiting(figures.map(|figures| figures.waiting)),
                    lasting(Some(queue.longest_wait_ms)),
                    ready(Some(queue)),
                    number(queue.agents_signed_in),
                    maybe(figures.map(level_text).as_deref()),
                    lasting(figures.and_then(|figures| figures.asa_ms)),
                    lasting(figures.and_then(|figures| figures.aht_ms)),
                ],
            }
        })
        .collect()
}

/// A queue with its figures, callers and agents.
pub fn detail(model: &Model, name: &str, now: Instant) -> Vec<Line> {
    let queue = find(model, name);
    let figures = model.figures(name);
    if queue.is_none() && figures.is_none() {
        return Vec::new();
    }
    let mut lines = vec![
        Line::Heading(format!("Queue {}", words(name).text)),
        Line::Field("waiting", waiting(figures.map(|figures| figures.waiting))),
        Line::Field(
            "longest wait",
            lasting(queue.map(|queue| queue.longest_wait_ms)),
        ),
        Line::Field("agents ready", ready(queue)),
        Line::Field(
            "strategy",
            maybe(queue.map(|queue| queue.strategy.as_str())),
        ),
    ];
    if let Some(figures) = figures {
        lines.extend(totals(figures));
        lines.extend(parts(figures));
    }
    lines.push(Line::Heading("Callers".to_owned()));
    let mut callers: Vec<_> = model
        .calls
        .iter()
        .filter(|call| call.queue.as_deref() == Some(name))
        .collect();
    callers.sort_by_key(|call| (call.position.unwrap_or(u64::MAX), call.started_at.clone()));
    for call in callers {
        let place = call
            .position
            .map_or_else(|| "-".to_owned(), |place| place.to_string());
        let wait = call.wait_ms.map_or_else(|| "-".to_owned(), text::duration);
        lines.push(Line::Text(format!(
            "{}  {}  {}  {}  {}",
            text::fit_right(&place, 4),
            text::fit_right(&wait, 7),
            text::fit(&state_word(&call.state), 10),
            text::fit(&words(&call.from).text, 20),
            words(call.agent.as_deref().unwrap_or("")).text,
        )));
    }
    lines.push(Line::Heading("Agents".to_owned()));
    for agent in model
        .agents
        .iter()
        .filter(|agent| agent.queues.iter().any(|q| q == name))
    {
        let since = model.since_ms(&agent.since_at, now).map(text::duration);
        lines.push(Line::Text(format!(
            "{}  {}  {}",
            text::fit(&words(&agent.id).text, 20),
            text::fit(&state_word(&agent.state), 10),
            text::fit_right(&since.unwrap_or_default(), 8),
        )));
    }
    lines
}

/// The totals of a queue, or of all together.
pub fn totals(figures: &Figures) -> Vec<Line> {
    vec![
        Line::Field("offered", number(figures.offered)),
        Line::Field("answered", number(figures.answered)),
        Line::Field("service level", level(figures)),
        Line::Field("abandoned", number(figures.abandoned)),
        Line::Field("overflowed", number(figures.overflowed)),
        Line::Field("callback taken", number(figures.callback_taken)),
        Line::Field("node lost", lost(figures.node_lost)),
        Line::Field("mean wait", lasting(figures.asa_ms)),
        Line::Field("mean handling", lasting(figures.aht_ms)),
    ]
}

/// What the service level and the handling time are made of.
fn parts(figures: &Figures) -> Vec<Line> {
    vec![
        Line::Field("target", lasting(figures.sl_target_ms)),
        Line::Field("in target", number(figures.answered_in_target)),
        Line::Field("short abandon", number(figures.short_abandoned)),
        Line::Field("90 % waited", lasting(figures.wait_p90_ms)),
        Line::Field("talk", lasting(Some(figures.talk_ms))),
        Line::Field("hold", lasting(Some(figures.hold_ms))),
        Line::Field("wrap-up", lasting(Some(figures.wrap_ms))),
        Line::Field("missed offers", number(figures.missed)),
    ]
}

/// The service level with the name of its formula.
fn level(figures: &Figures) -> Cell {
    words(&level_text(figures))
}

fn level_text(figures: &Figures) -> String {
    let share = figures.sl_permille.map(text::share);
    let share = share.unwrap_or_else(|| "-".to_owned());
    format!("{} {share}", figures.sl_formula)
}

/// Agents by state in the order of a day: the word, the count, the tone.
pub fn agents_by_state(model: &Model) -> Vec<(String, u64, Tone)> {
    const STATES: [&str; 8] = [
        "ready",
        "offered",
        "talking",
        "held",
        "wrap_up",
        "paused",
        "no_phone",
        "signed_out",
    ];
    let known = STATES.iter().map(|state| {
        let count = model.agents_in(state);
        let tone = if count == 0 {
            Tone::Dim
        } else {
            agent_tone(state)
        };
        (state_word(state), count, tone)
    });
    let others = model
        .overview
        .agents
        .iter()
        .filter(|(state, _)| !STATES.contains(&state.as_str()))
        .map(|(state, count)| (state_word(state), *count, Tone::Plain));
    known.chain(others).collect()
}

fn find<'a>(model: &'a Model, name: &str) -> Option<&'a Queue> {
    model.queues.iter().find(|queue| queue.name == name)
}

fn waiting(count: Option<u64>) -> Cell {
    let tone = if count.unwrap_or(0) > 0 {
        Tone::Warn
    } else {
        Tone::Plain
    };
    maybe_number(count).tone(tone)
}

fn lost(count: u64) -> Cell {
    number(count).tone(if count > 0 { Tone::Bad } else { Tone::Plain })
}

fn ready(queue: Option<&Queue>) -> Cell {
    let count = queue.map(|queue| queue.agents_ready);
    maybe_number(count).tone(if count.unwrap_or(0) > 0 {
        Tone::Good
    } else {
        Tone::Plain
    })
}
