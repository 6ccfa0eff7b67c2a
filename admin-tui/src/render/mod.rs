//! How answers look on stdout: a table for people, JSON for programs, CSV for sheets.
//!
//! Answers are shown as they came: a field this version does not know stays in the
//! JSON. Tables and CSV take their columns from a [`Shape`].

mod csv;
mod shapes;
mod table;

use std::io::{self, Write};

use serde_json::Value;

pub use shapes::{Shape, shape};
pub use table::Align;

use crate::error::{self, Failure};
use crate::text;

/// The form of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// Aligned columns for people.
    Table,
    /// JSON; a list is one array.
    Json,
    /// CSV with a header line.
    Csv,
}

/// A list as text.
pub fn list(output: Output, shape: &Shape, items: &[Value]) -> String {
    match output {
        Output::Table => table::list(shape, items),
        Output::Json => json(&Value::Array(items.to_vec())),
        Output::Csv => csv::list(shape, items),
    }
}

/// One thing as text.
pub fn one(output: Output, shape: &Shape, item: &Value) -> String {
    match output {
        Output::Table => table::one(shape, item),
        Output::Json => json(item),
        Output::Csv => csv::list(shape, std::slice::from_ref(item)),
    }
}

/// Indented JSON, safe to print.
pub fn json(value: &Value) -> String {
    let mut text = text::clean_json(&format!("{value:#}"));
    text.push('\n');
    text
}

/// JSON on one line, safe to print.
pub fn json_line(value: &Value) -> String {
    let mut text = text::clean_json(&value.to_string());
    text.push('\n');
    text
}

/// A failure as it goes to stderr.
pub fn failure(output: Output, failure: &Failure) -> String {
    let problem = failure.problem();
    match output {
        Output::Json => json_line(&serde_json::json!({ "error": problem })),
        Output::Table | Output::Csv => format!("{}\n", error::line(&problem)),
    }
}

/// Writes to stdout. A reader that went away (`| head`) is no failure.
///
/// # Errors
/// Stdout that takes nothing, such as a full disk.
pub fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests;
