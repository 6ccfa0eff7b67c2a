//! `strowger extension …`: the list, and imports from a CSV file.

use std::path::Path;

use strowger_core::api::{ExtensionImport, ExtensionsImported};

use super::Session;
use super::args::ExtensionVerb;
use super::site::{invalid, read_limited};
use crate::error::{Exit, Failure};
use crate::limits;
use crate::render::{Output, shape};

/// Runs a verb of extensions.
pub fn run(session: &Session, verb: ExtensionVerb) -> Result<Exit, Failure> {
    match verb {
        ExtensionVerb::List => session.list("/v1/extensions", &shape::EXTENSION),
        ExtensionVerb::Show { name } => session.show("/v1/extensions", &name, &shape::EXTENSION),
        ExtensionVerb::Import {
            file,
            replace,
            dry_run,
        } => import(session, read(&file, replace, dry_run)?),
    }
}

fn read(path: &Path, replace: bool, dry_run: bool) -> Result<ExtensionImport, Failure> {
    let file = path.display().to_string();
    let text = read_limited(path, limits::EXTENSIONS_BYTES_MAX)
        .and_then(|bytes| String::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned()))
        .map_err(|why| Failure::Site {
            what: format!("cannot read the file: {why}"),
            place: file.clone(),
        })?;
    Ok(ExtensionImport {
        file,
        text,
        replace,
        dry_run,
    })
}

fn import(session: &Session, wanted: ExtensionImport) -> Result<Exit, Failure> {
    let answer: serde_json::Value = session
        .client
        .post("/v1/extensions/import", &wanted)
        .map_err(invalid)?;
    if session.output != Output::Table {
        return session.one(&shape::EXTENSIONS_IMPORTED, &answer);
    }
    let result: ExtensionsImported = serde_json::from_value(answer).map_err(|error| {
        let client = &session.client;
        Failure::Garbled {
            url: client.endpoint(client.attached()).to_string(),
            why: error.to_string(),
        }
    })?;
    session.print(&text(&result))
}

fn text(result: &ExtensionsImported) -> String {
    let what = if result.dry_run {
        "dry run, nothing changed; in force:"
    } else {
        "in force:"
    };
    format!(
        "{what} version {}; {} added, {} updated, {} unchanged, {} removed\n",
        result.version, result.added, result.updated, result.unchanged, result.removed
    )
}
