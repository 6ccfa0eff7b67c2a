//! What each view shows: a list made from the model, and the details of a row.
//! Nothing here draws, and nothing here asks.

mod agents;
mod calls;
mod nodes;
mod queues;
mod registrations;

use std::time::Instant;

use strowger_core::api::Action;

use super::app::{View, describe};
use super::grid::{Cell, Grid, Tone, words};
use super::model::Model;

/// A line of details: a heading, a field, or text.
#[derive(Clone, Debug)]
pub enum Line {
    /// Begins a part.
    Heading(String),
    /// A field and its value.
    Field(&'static str, Cell),
    /// Text as it stands.
    Text(String),
}

/// The list of `view`.
pub fn grid(view: View, model: &Model, filter: &str, now: Instant) -> Grid {
    match view {
        View::Overview => Grid::new(&queues::SERVICE, queues::service(model), filter),
        View::Queues => Grid::new(&queues::COLUMNS, queues::rows(model), filter),
        View::Agents => Grid::new(&agents::COLUMNS, agents::rows(model, now), filter),
        View::Calls => Grid::new(&calls::COLUMNS, calls::rows(model, now), filter),
        View::Registrations => {
            Grid::new(&registrations::COLUMNS, registrations::rows(model), filter)
        }
        View::Nodes => Grid::new(&nodes::COLUMNS, nodes::rows(model), filter),
    }
}

/// The details of row `id` of `view`.
pub fn detail(view: View, model: &Model, id: &str, now: Instant) -> Vec<Line> {
    let lines = match view {
        View::Overview | View::Queues => queues::detail(model, id, now),
        View::Agents => agents::detail(model, id, now),
        View::Calls => calls::detail(model, id, now),
        View::Registrations => registrations::detail(model, id),
        View::Nodes => nodes::detail(model, id),
    };
    if lines.is_empty() {
        return vec![Line::Text(format!("{} is no longer there", words(id).text))];
    }
    lines
}

/// The question before `action`, with what the user should know to answer it.
pub fn question(model: &Model, action: &Action) -> String {
    let what = describe(action);
    let known = match action {
        Action::CallHangup { call } => model
            .calls
            .iter()
            .find(|one| one.id == *call)
            .map(|call| format!("{} to {}, {}", call.from, call.to, call.state)),
        Action::AgentPause { agent, .. } | Action::AgentSignOut { agent } => model
            .agents
            .iter()
            .find(|one| one.id == *agent)
            .map(|agent| format!("now {}", agent.state.replace('_', "-"))),
        Action::NodeDrain { node } => model
            .nodes
            .iter()
            .find(|one| one.id == *node)
            .map(|node| format!("{} calls", node.calls)),
        Action::AgentSignIn { .. }
        | Action::AgentExtendWrapUp { .. }
        | Action::CallPrioritize { .. }
        | Action::CallPrefer { .. }
        | Action::AgentReady { .. }
        | Action::CallCustomer { .. }
        | Action::NodeUndrain { .. }
        | Action::NodeRemove { .. }
        | Action::CallbackCancel { .. }
        | Action::HoursOverride { .. } => None,
    };
    let mut question = what;
    if let Some(known) = known {
        question.push_str(&format!(" ({})", crate::text::clean(&known)));
    }
    question.push('?');
    question
}

/// The tone of an agent's state.
fn agent_tone(state: &str) -> Tone {
    match state {
        "ready" => Tone::Good,
        "paused" | "no_phone" => Tone::Warn,
        "signed_out" => Tone::Dim,
        _ => Tone::Plain,
    }
}

/// The tone of a node's state.
fn node_tone(state: &str) -> Tone {
    match state {
        "up" => Tone::Good,
        "suspect" | "draining" => Tone::Warn,
        "down" => Tone::Bad,
        _ => Tone::Plain,
    }
}

/// A state as words: `wrap_up` reads wrap-up.
pub fn state_word(state: &str) -> String {
    words(&state.replace('_', "-")).text
}

pub use queues::{agents_by_state as states, totals as service_totals};
