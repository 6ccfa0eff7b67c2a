//! Tables in columns, measured in terminal columns rather than characters.

use serde_json::Value;

use super::shapes::{Shape, shape};
use crate::text;

/// Which edge of its column a cell keeps to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// A list with a heading line; an empty list says so.
pub fn list(shape: &Shape, items: &[Value]) -> String {
    if items.is_empty() {
        return "none\n".to_owned();
    }
    let heads: Vec<String> = shape
        .table
        .iter()
        .map(|(head, _)| (*head).to_owned())
        .collect();
    let mut aligns = vec![Align::Left; heads.len()];
    let mut rows = vec![heads];
    for item in items {
        let cells = shape
            .table
            .iter()
            .zip(&mut aligns)
            .map(|((_, field), align)| {
                let value = item.get(field).unwrap_or(&Value::Null);
                if value.is_number() {
                    *align = Align::Right;
                }
                cell(field, value)
            });
        rows.push(cells.collect());
    }
    layout(&rows, &aligns)
}

/// One thing: a line per field, then a table per list of parts.
pub fn one(shape: &Shape, item: &Value) -> String {
    let Some(fields) = item.as_object() else {
        return format!("{}\n", cell("", item));
    };
    let known = shape
        .csv
        .iter()
        .filter_map(|field| fields.get_key_value(*field));
    let further = fields
        .iter()
        .filter(|(field, _)| !shape.csv.contains(&field.as_str()));
    let mut lines = Vec::new();
    let mut parts = String::new();
    for (field, value) in known.chain(further) {
        match (parts_shape(field), value) {
            // A node's service addresses are plain text and stay on their line.
            (Some(shape), Value::Array(items)) if items.iter().all(Value::is_object) => {
                let title = field.replace('_', " ");
                parts.push_str(&format!("\n{title}\n{}", list(shape, items)));
            }
            _ => lines.push(vec![label(field), cell(field, value)]),
        }
    }
    layout(&lines, &[Align::Left, Align::Left]) + &parts
}

/// The shape of the parts in `field`, for fields that hold objects.
fn parts_shape(field: &str) -> Option<&'static Shape> {
    match field {
        "legs" => Some(&shape::LEG),
        "service_addresses" => Some(&shape::SERVICE_ADDRESS),
        "generated" => Some(&shape::SECRET),
        "candidates" => Some(&shape::CONSIDERED),
        "excluded" => Some(&shape::EXCLUDED),
        _ => None,
    }
}

/// A field's name as people read it; durations are shown as a clock and shares as per
/// cent, without the unit of the field.
fn label(field: &str) -> String {
    let bare = ["_ms", "_permille"]
        .iter()
        .find_map(|unit| field.strip_suffix(unit));
    bare.unwrap_or(field).replace('_', " ")
}

/// A value as people read it.
fn cell(field: &str, value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::Number(number) => match number.as_u64() {
            Some(ms) if field.ends_with("_ms") => text::duration(ms),
            Some(share) if field.ends_with("_permille") => text::share(share),
            _ => number.to_string(),
        },
        Value::String(time) if field == "at" || field.ends_with("_at") => text::moment(time),
        Value::String(words) => text::clean(words).into_owned(),
        Value::Array(items) if items.is_empty() => "-".to_owned(),
        Value::Array(items) => items
            .iter()
            .map(|item| cell("", item))
            .collect::<Vec<_>>()
            .join(" "),
        // Times by state, levels by skill.
        Value::Object(items) if items.values().all(Value::is_number) => items
            .iter()
            .map(|(name, item)| format!("{} {}", text::clean(name), cell(field, item)))
            .collect::<Vec<_>>()
            .join(", "),
        Value::Object(_) => text::clean(&value.to_string()).into_owned(),
    }
}

/// Rows in columns two blanks apart; the last column is not padded.
fn layout(rows: &[Vec<String>], aligns: &[Align]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| text::width(cell))
            .max()
    };
    let widths: Vec<usize> = (0..columns)
        .map(|column| width(column).unwrap_or(0))
        .collect();
    let mut out = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            if column > 0 {
                line.push_str("  ");
            }
            match aligns.get(column) {
                Some(Align::Right) => line.push_str(&text::fit_right(cell, *width)),
                Some(Align::Left) | None => line.push_str(&text::fit(cell, *width)),
            }
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}
