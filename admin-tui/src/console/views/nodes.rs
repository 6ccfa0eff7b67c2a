//! Nodes: what each is doing and how far it has come.

use super::{Line, node_tone};
use crate::console::grid::{
    Cell, Column, Row, Tone, left, maybe, maybe_number, number, right, words,
};
use crate::console::model::Model;
use crate::limits;

/// Columns of the list.
pub static COLUMNS: [Column; 9] = [
    left("NODE", 7),
    left("STATE", 8),
    left("ROLE", 7),
    right("TERM", 4),
    right("APPLIED", 7),
    right("LAG", 4),
    right("CALLS", 5),
    left("VERSION", 7),
    left("ADDRESSES", 9),
];

/// A row per node.
pub fn rows(model: &Model) -> Vec<Row> {
    model
        .nodes
        .iter()
        .map(|node| Row {
            id: node.id.clone(),
            cells: vec![
                words(&node.id),
                words(&node.state).tone(node_tone(&node.state)),
                words(&node.role),
                maybe_number(node.term),
                maybe_number(node.applied),
                lag(node.lag),
                number(node.calls),
                maybe(node.version.as_deref()),
                words(&node.service_addresses.join(" ")),
            ],
        })
        .collect()
}

fn lag(entries: Option<u64>) -> Cell {
    let far = entries.is_some_and(|entries| entries > limits::LAG_MAX);
    maybe_number(entries).tone(if far { Tone::Warn } else { Tone::Plain })
}

/// A node with the service addresses it holds.
pub fn detail(model: &Model, id: &str) -> Vec<Line> {
    let Some(node) = model.nodes.iter().find(|node| node.id == id) else {
        return Vec::new();
    };
    let mut lines = vec![
        Line::Heading(format!("Node {}", words(&node.id).text)),
        Line::Field("state", words(&node.state).tone(node_tone(&node.state))),
        Line::Field("role", words(&node.role)),
        Line::Field("address", words(&node.address)),
        Line::Field("term", maybe_number(node.term)),
        Line::Field("applied", maybe_number(node.applied)),
        Line::Field("lag", lag(node.lag)),
        Line::Field("calls", number(node.calls)),
        Line::Field("version", maybe(node.version.as_deref())),
        Line::Field("state hash", maybe(node.state_hash.as_deref())),
        Line::Heading("Service addresses".to_owned()),
    ];
    let held = model
        .cluster
        .iter()
        .flat_map(|cluster| &cluster.service_addresses);
    for address in held.filter(|address| address.node.as_deref() == Some(id)) {
        let line = format!(
            "{}  epoch {}  {} calls",
            address.address, address.epoch, address.calls
        );
        lines.push(Line::Text(words(&line).text));
    }
    lines
}
