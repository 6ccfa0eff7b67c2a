//! CSV (RFC 4180) with the field names of the interface as header.
//!
//! Absent is empty, a list of words is joined by blanks, parts are JSON. Times and
//! durations stay as they came, so that a sheet can compute with them.

use serde_json::Value;

use super::shapes::Shape;
use crate::text;

/// A header line and a line per item.
pub fn list(shape: &Shape, items: &[Value]) -> String {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let header = writer.write_record(shape.csv);
    let rows = items.iter().try_for_each(|item| {
        let cells = shape
            .csv
            .iter()
            .map(|field| cell(item.get(field).unwrap_or(&Value::Null)));
        writer.write_record(cells)
    });
    header
        .and(rows)
        .expect("records of equal length into memory");
    let bytes = writer.into_inner().expect("flushing into memory");
    String::from_utf8(bytes).expect("CSV of strings is a string")
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::String(words) => text::clean(words).into_owned(),
        Value::Array(items) if items.iter().all(Value::is_string) => {
            items.iter().map(cell).collect::<Vec<_>>().join(" ")
        }
        Value::Array(_) | Value::Object(_) => text::clean_json(&value.to_string()),
    }
}
