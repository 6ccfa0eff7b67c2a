//! `strowgerd doctor --data DIR`: examines the data of a node that does not run.
//!
//! Reads every value with its checksum, the log from end to end, and every sound file with
//! its hash; loads the state from the rows and checks its invariants. Changes nothing.
//! `strowger doctor` is its counterpart for a cluster that runs.

use std::path::Path;

use serde_json::{Value, json};
use strowger_cluster::offline::{self, Survey, TableSize};
use strowger_core::state::store::is_readable;
use strowger_core::state::{ExchangeMachine, FEATURE_LEVEL, SharedState, Wake, WakeSink};

use crate::blobs::BlobStore;
use crate::fault::{Fault, code, printable};

/// What helps against rows and entries that are wrong.
const REJOIN: &str = "keep the folder for analysis, remove the node from the cluster, clear its \
                      data and join it anew: everything comes from its peers";

/// How the verb prints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// Lines of `name value` pairs for people and programs.
    #[default]
    Table,
    /// One JSON object.
    Json,
}

/// Nobody works on the state of a node that does not run.
pub(crate) struct Idle;

impl WakeSink for Idle {
    fn wake(&mut self, _wakes: Vec<Wake>) {}
}

/// Sound files of the node.
#[derive(Debug, Default)]
struct BlobsFound {
    files: u64,
    bytes: u64,
}

/// Examines the data folder `data` and prints what is there and what is wrong.
///
/// # Errors
/// [`code::DATA_UNWELL`] when anything is wrong; other codes when a daemon runs on the
/// folder, or there is nothing to examine.
pub fn run(data: &Path, output: Output) -> Result<(), Fault> {
    let state = SharedState::default();
    let mut machine = ExchangeMachine::new(state.clone(), Box::new(Idle));
    let surveyed = offline::survey(data, &mut machine, is_readable);
    let mut survey = surveyed.map_err(|error| {
        Fault::of(code::DATA_FOLDER, &error, REJOIN).at(data.display().to_string())
    })?;
    let blobs = examine_state(&mut survey, &state, data);
    let text = match output {
        Output::Table => table(&survey, &state, &blobs),
        Output::Json => as_json(&survey, &state, &blobs).to_string() + "\n",
    };
    // A closed standard output does not change what was found.
    let _ = std::io::Write::write_all(&mut std::io::stdout(), text.as_bytes());
    match survey.wrong {
        0 => Ok(()),
        wrong => {
            let what = format!("{wrong} things are wrong with this data");
            Err(Fault::new(code::DATA_UNWELL, what, REJOIN).at(data.display().to_string()))
        }
    }
}

/// Checks the invariants of the state and the sound files its sites name.
fn examine_state(survey: &mut Survey, state: &SharedState, data: &Path) -> BlobsFound {
    let state = state.read();
    if survey.restored {
        for broken in state.check() {
            survey.note("state", broken);
        }
        if state.meta.feature_level > FEATURE_LEVEL {
            let what = format!(
                "feature level {} is in force, this version knows {FEATURE_LEVEL}",
                state.meta.feature_level
            );
            survey.note("state", what);
        }
        if let Some(applied) = survey.applied
            && state.meta.index > applied
        {
            let what = format!("it stands at entry {}, after {applied}", state.meta.index);
            survey.note("state", what);
        }
    }
    let mut found = BlobsFound::default();
    let store = BlobStore::new(data.join("blobs"));
    match store.examine() {
        Err(error) => survey.note("blobs", error.to_string()),
        Ok(files) => {
            for file in files {
                found.files += 1;
                match file.content {
                    Ok(bytes) => found.bytes += bytes,
                    Err(why) => survey.note(file.path.display().to_string(), why),
                }
            }
        }
    }
    let sites = state.sites.values();
    for id in sites.flat_map(|row| row.site.blobs.keys()) {
        if !store.path(*id).exists() {
            let what = "a site names this sound file; the node fetches it when it runs";
            survey.note(format!("blob {id}"), what);
        }
    }
    found
}

fn mean(size: &TableSize) -> u64 {
    size.value_bytes.checked_div(size.rows).unwrap_or(0)
}

fn or_none(index: Option<u64>) -> String {
    index.map_or_else(|| "none".to_owned(), |index| index.to_string())
}

fn table(survey: &Survey, state: &SharedState, blobs: &BlobsFound) -> String {
    let mut lines = vec![
        format!(
            "node {} cluster {} incarnation {}",
            survey.node, survey.cluster, survey.incarnation
        ),
        format!(
            "log {} purged {} committed {} applied {} vote {}",
            survey.log.map_or_else(
                || "empty".to_owned(),
                |(first, last)| format!("{first}-{last}")
            ),
            or_none(survey.purged),
            or_none(survey.committed),
            or_none(survey.applied),
            survey.vote.map_or_else(
                || "none".to_owned(),
                |(term, node)| format!("{term}/{node}")
            ),
        ),
    ];
    if survey.restored {
        let meta = &state.read().meta;
        let (hash, level) = (hex::encode(meta.hash), meta.feature_level);
        let (index, rows) = (meta.index, hex::encode(survey.rows_hash));
        lines.push(format!(
            "state hash {hash} entry {index} level {level} rows {rows}"
        ));
    }
    for (name, size) in &survey.tables {
        lines.push(format!(
            "table {name} rows {} keys {} values {} mean {} largest {}",
            size.rows,
            size.key_bytes,
            size.value_bytes,
            mean(size),
            size.largest
        ));
    }
    lines.push(format!("blobs {} bytes {}", blobs.files, blobs.bytes));
    for finding in &survey.findings {
        let (place, what) = (printable(&finding.place), printable(&finding.what));
        lines.push(format!("wrong {place}: {what}"));
    }
    lines.push(match survey.wrong {
        0 => "fine".to_owned(),
        wrong => format!("found {wrong}"),
    });
    lines.join("\n") + "\n"
}

fn as_json(survey: &Survey, state: &SharedState, blobs: &BlobsFound) -> Value {
    let tables = survey.tables.iter().map(|(name, size)| {
        let of = json!({
            "rows": size.rows, "key_bytes": size.key_bytes, "value_bytes": size.value_bytes,
            "mean": mean(size), "largest": size.largest,
        });
        ((*name).to_owned(), of)
    });
    let state = survey.restored.then(|| {
        let meta = &state.read().meta;
        json!({
            "hash": hex::encode(meta.hash), "index": meta.index,
            "feature_level": meta.feature_level, "rows_hash": hex::encode(survey.rows_hash),
        })
    });
    let findings = survey.findings.iter();
    let findings = findings.map(|one| json!({ "where": one.place, "what": one.what }));
    json!({
        "node": format!("node_{}", survey.node),
        "cluster": survey.cluster.to_string(),
        "incarnation": survey.incarnation,
        "vote": survey.vote.map(|(term, node)| json!({ "term": term, "node": node })),
        "log": survey.log.map(|(first, last)| json!({ "first": first, "last": last })),
        "purged": survey.purged,
        "committed": survey.committed,
        "applied": survey.applied,
        "voters": survey.voters,
        "state": state,
        "tables": serde_json::Map::from_iter(tables),
        "blobs": { "files": blobs.files, "bytes": blobs.bytes },
        "wrong": survey.wrong,
        "findings": findings.collect::<Vec<_>>(),
    })
}
