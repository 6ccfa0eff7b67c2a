//! Environment variables that win over the node file: `STROWGER__SECTION__KEY`.
//!
//! The value is read as TOML where it is TOML (`9090`, `["127.0.0.1/32"]`) and as
//! plain text otherwise, so that no quotes are needed in a unit file.

use std::cell::Cell;

use toml::Spanned;
use toml::de::DeValue;

use crate::document::Override;
use crate::fault::{Fault, code};

const PREFIX: &str = "STROWGER__";

/// The variables that mean the node file.
pub(super) fn relevant(variables: impl Iterator<Item = (String, String)>) -> Vec<(String, String)> {
    let mut relevant: Vec<_> = variables
        .filter(|(name, _)| name.starts_with(PREFIX))
        .collect();
    relevant.sort();
    relevant
}

/// The same, split into section and key.
///
/// # Errors
/// When a name is not `STROWGER__SECTION__KEY`.
pub(super) fn overrides(variables: &[(String, String)]) -> Result<Vec<Override<'_>>, Fault> {
    variables
        .iter()
        .map(|(variable, text)| {
            let name = variable
                .strip_prefix(PREFIX)
                .and_then(|rest| rest.split_once("__"));
            let (section, key) = name.ok_or_else(|| {
                let what = "the variable names no section and key";
                let next = "write STROWGER__SECTION__KEY, such as STROWGER__LISTEN__API";
                Fault::new(code::NODE_FILE_UNKNOWN_KEY, what, next).at(variable.clone())
            })?;
            let value = DeValue::parse(text)
                .unwrap_or_else(|_| Spanned::new(0..text.len(), DeValue::String(text.into())));
            Ok(Override {
                variable,
                name: format!("{section}.{key}").to_lowercase(),
                value,
                used: Cell::new(false),
            })
        })
        .collect()
}
