//! Registered phones.

use strowger_core::api::Registration;

use super::Line;
use crate::console::grid::{Column, Row, left, maybe, words};
use crate::console::model::Model;
use crate::text;

/// Columns of the list.
pub static COLUMNS: [Column; 5] = [
    left("EXTENSION", 9),
    left("NODE", 8),
    left("VIA", 4),
    left("EXPIRES", 9),
    left("CONTACT", 20),
];

/// A row per binding.
pub fn rows(model: &Model) -> Vec<Row> {
    model
        .registrations
        .iter()
        .map(|binding| Row {
            id: key(binding),
            cells: vec![
                words(&binding.extension),
                maybe(binding.node.as_deref()),
                words(&binding.transport),
                words(&text::time_of_day(&binding.expires_at)),
                words(&binding.contact),
            ],
        })
        .collect()
}

/// A binding.
pub fn detail(model: &Model, id: &str) -> Vec<Line> {
    let Some(binding) = model
        .registrations
        .iter()
        .find(|binding| key(binding) == id)
    else {
        return Vec::new();
    };
    vec![
        Line::Heading(format!(
            "Registration of {}",
            words(&binding.extension).text
        )),
        Line::Field("contact", words(&binding.contact)),
        Line::Field("transport", words(&binding.transport)),
        Line::Field("node", maybe(binding.node.as_deref())),
        Line::Field("expires", words(&text::moment(&binding.expires_at))),
    ]
}

fn key(binding: &Registration) -> String {
    format!("{} {}", binding.extension, binding.contact)
}
