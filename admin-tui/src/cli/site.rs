//! `strowger site …`: sends a site file with the files it names, shows what changed.
//!
//! The file is judged by the exchange. Here it is read only far enough to find the
//! values of `greeting`, `music` and `file`, so that what they name travels along.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use base64::Engine;
use serde_json::Value;
use strowger_core::api::{SiteChange, SiteUpload};
use toml::de::{DeTable, DeValue};

use super::Session;
use super::args::SiteVerb;
use crate::error::{Exit, Failure};
use crate::render::{self, Output, shape};
use crate::{limits, text};

/// Keys whose value is the path of a file to send along.
const FILE_KEYS: [&str; 5] = ["greeting", "music", "advert", "agent_announcement", "file"];

/// Runs a verb of the site.
pub fn run(session: &Session, verb: SiteVerb) -> Result<Exit, Failure> {
    match verb {
        SiteVerb::Apply { file, dry_run } => {
            let upload = read(&file, dry_run)?;
            let change = session.client.post("/v1/site", &upload).map_err(invalid)?;
            print_change(session, &change)
        }
        SiteVerb::Rollback { version } => {
            let body = serde_json::json!({ "version": version });
            let change = session.client.post("/v1/site/rollback", &body)?;
            print_change(session, &change)
        }
        SiteVerb::History => session.list("/v1/site/history", &shape::SITE_VERSION),
        SiteVerb::Show => {
            let version: Value = session.client.get("/v1/site")?;
            if session.output != Output::Table {
                return session.one(&shape::SITE_VERSION, &version);
            }
            // The text as it was applied, so that it can be edited and applied again.
            let site = version
                .get("text")
                .and_then(Value::as_str)
                .unwrap_or_default();
            let lines = site.lines().map(|line| format!("{}\n", clean_line(line)));
            session.print(&lines.collect::<String>())
        }
    }
}

/// A site the exchange finds wrong is an invalid file, with its own exit code.
pub(super) fn invalid(failure: Failure) -> Failure {
    match failure {
        Failure::Answered {
            status: status @ Some(400 | 413 | 422),
            problem,
            ..
        } => Failure::Answered {
            exit: Exit::InvalidFile,
            status,
            problem,
        },
        other => other,
    }
}

fn clean_line(line: &str) -> String {
    line.split('\t')
        .map(text::clean)
        .collect::<Vec<_>>()
        .join("\t")
}

/// Reads a site file and the files it names.
fn read(path: &Path, dry_run: bool) -> Result<SiteUpload, Failure> {
    let file = path.display().to_string();
    let text = read_limited(path, limits::SITE_BYTES_MAX)
        .and_then(|bytes| String::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned()))
        .map_err(|why| Failure::Site {
            what: format!("cannot read the site file: {why}"),
            place: file.clone(),
        })?;
    let named = named_files(&file, &text)?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut attachments = BTreeMap::new();
    let mut total = 0_u64;
    for (name, line) in named {
        let refuse = |why: String| Failure::Attachment {
            what: format!("cannot read {name}: {why}"),
            place: format!("{file}:{line}"),
        };
        let left = limits::ATTACHMENTS_BYTES_MAX.saturating_sub(total);
        let bytes = read_limited(&folder.join(&name), left.min(limits::ATTACHMENT_BYTES_MAX))
            .map_err(refuse)?;
        total += bytes.len() as u64;
        let encoded = base64::engine::general_purpose::STANDARD.encode(bytes);
        attachments.insert(name, encoded);
    }
    Ok(SiteUpload {
        file,
        text,
        attachments,
        dry_run,
    })
}

/// The files named in a site file, with the line of each.
fn named_files(file: &str, text: &str) -> Result<BTreeMap<String, usize>, Failure> {
    let line_at = |offset: usize| {
        text.bytes()
            .take(offset)
            .filter(|byte| *byte == b'\n')
            .count()
            + 1
    };
    let table = DeTable::parse(text).map_err(|error| Failure::Site {
        what: error.message().replace('\n', " "),
        place: match error.span() {
            Some(span) => format!("{file}:{}", line_at(span.start)),
            None => file.to_owned(),
        },
    })?;
    let mut spans = Vec::new();
    collect(table.get_ref(), &mut spans);
    Ok(spans
        .into_iter()
        .map(|(name, offset)| (name, line_at(offset)))
        .collect())
}

fn collect(table: &DeTable<'_>, found: &mut Vec<(String, usize)>) {
    for (key, value) in table {
        match value.get_ref() {
            DeValue::String(name) if FILE_KEYS.contains(&key.get_ref().as_ref()) => {
                found.push((name.to_string(), value.span().start));
            }
            DeValue::Table(inner) => collect(inner, found),
            DeValue::Array(items) => {
                for item in items.iter() {
                    if let DeValue::Table(inner) = item.get_ref() {
                        collect(inner, found);
                    }
                }
            }
            DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_) => {}
        }
    }
}

/// The bytes of a file that has at most `limit`.
pub(super) fn read_limited(path: &Path, limit: u64) -> Result<Vec<u8>, String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    let mut bytes = Vec::new();
    file.take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| error.to_string())?;
    if bytes.len() as u64 > limit {
        return Err(format!("it is larger than {limit} bytes"));
    }
    Ok(bytes)
}

fn print_change(session: &Session, change: &Value) -> Result<Exit, Failure> {
    let text = match session.output {
        Output::Json => render::json(change),
        Output::Csv => {
            let secrets = change.get("generated").and_then(Value::as_array);
            render::list(
                Output::Csv,
                &shape::SECRET,
                secrets.map_or(&[], Vec::as_slice),
            )
        }
        Output::Table => match serde_json::from_value::<SiteChange>(change.clone()) {
            Ok(change) => change_text(&change),
            Err(error) => {
                return Err(Failure::Garbled {
                    url: session
                        .client
                        .endpoint(session.client.attached())
                        .to_string(),
                    why: error.to_string(),
                });
            }
        },
    };
    session.print(&text)
}

fn change_text(change: &SiteChange) -> String {
    let mut out: String = fold(&change.diff)
        .iter()
        .map(|line| format!("{}\n", text::clean(line)))
        .collect();
    let what = if change.diff.is_empty() {
        "no difference; still in force:"
    } else if change.dry_run {
        "dry run, nothing changed; in force:"
    } else {
        "in force:"
    };
    out.push_str(&format!(
        "{what} version {}; {} calls, {} agents affected\n",
        change.version, change.calls_affected, change.agents_affected
    ));
    if !change.generated.is_empty() {
        out.push_str("\npasswords made, shown only now\n");
        let secrets: Vec<Value> = change
            .generated
            .iter()
            .filter_map(|s| serde_json::to_value(s).ok())
            .collect();
        out.push_str(&render::list(Output::Table, &shape::SECRET, &secrets));
    }
    out
}

/// Joins lines that differ only in a number that counts up: `+ extension 1001-1020 (20)`.
fn fold(lines: &[String]) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    let mut rest = lines;
    while let [first, after @ ..] = rest {
        let run = after
            .iter()
            .zip(1..)
            .take_while(|(line, step)| follows(first, line, *step))
            .count();
        match after.get(run.wrapping_sub(1)) {
            Some(last) => {
                let id = last.rsplit(' ').next().unwrap_or_default();
                out.push(format!("{first}-{id} ({})", run + 1));
            }
            None => out.push(first.clone()),
        }
        rest = after.get(run..).unwrap_or_default();
    }
    out
}

/// True when `line` is `first` with its last number raised by `step`, in as many digits.
fn follows(first: &str, line: &str, step: u64) -> bool {
    let stem = first.trim_end_matches(|c: char| c.is_ascii_digit());
    let digits = first.strip_prefix(stem).unwrap_or_default();
    // A word of its own, not a version or an address such as `10.0.0.1`.
    if first.split(' ').count() != 3 || first.contains('.') {
        return false;
    }
    let Ok(number) = digits.parse::<u64>() else {
        return false;
    };
    let width = digits.len();
    line.strip_prefix(stem) == Some(&format!("{:0width$}", number.saturating_add(step)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_count_up_are_one_line() {
        let lines = |lines: &[&str]| lines.iter().map(ToString::to_string).collect::<Vec<_>>();
        let diff = lines(&[
            "+ service address 127.0.0.1",
            "+ service address 127.0.0.2",
            "+ extension 1001",
            "+ extension 1002",
            "+ extension 1004",
            "- extension b098",
            "- extension b099",
            "- extension b100",
            "+ queue main",
        ]);
        let folded = [
            "+ service address 127.0.0.1",
            "+ service address 127.0.0.2",
            "+ extension 1001-1002 (2)",
            "+ extension 1004",
            "- extension b098-b100 (3)",
            "+ queue main",
        ];
        assert_eq!(fold(&diff), lines(&folded));
        assert!(fold(&[]).is_empty());
    }

    const SITE: &str = "[tenant]\nname = \"demo\"\n\n[[number]]\nnumber = \"4008\"\n\
        greeting = \"hello.wav\"\n\n[[queue]]\nname = \"main\"\nmusic = \"hold.wav\"\n\
        [[extension]]\nfile = \"users.csv\"\n";

    #[test]
    fn files_travel_along_under_the_path_written() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let site = folder.path().join("site.toml");
        std::fs::write(&site, SITE).expect("written");
        for name in ["hello.wav", "hold.wav", "users.csv"] {
            std::fs::write(folder.path().join(name), name).expect("written");
        }
        let upload = read(&site, true).expect("readable");
        assert_eq!(upload.text, SITE);
        assert!(upload.dry_run);
        let names: Vec<_> = upload.attachments.keys().collect();
        assert_eq!(names, ["hello.wav", "hold.wav", "users.csv"]);
        assert_eq!(upload.attachments["hold.wav"], "aG9sZC53YXY=");
    }

    #[test]
    fn a_missing_file_is_named_with_the_line_that_names_it() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let site = folder.path().join("site.toml");
        std::fs::write(&site, SITE).expect("written");
        std::fs::write(folder.path().join("users.csv"), "").expect("written");
        std::fs::write(folder.path().join("hello.wav"), "").expect("written");
        match read(&site, false) {
            Err(Failure::Attachment { what, place }) => {
                assert!(what.starts_with("cannot read hold.wav"), "{what}");
                assert!(place.ends_with("site.toml:10"), "{place}");
            }
            other => panic!("not refused: {other:?}"),
        }
    }

    #[test]
    fn no_toml_is_an_invalid_file_with_its_line() {
        match named_files("site.toml", "[tenant]\nname = demo\n") {
            Err(failure @ Failure::Site { .. }) => {
                assert_eq!(failure.exit(), Exit::InvalidFile);
                assert_eq!(failure.problem().place.as_deref(), Some("site.toml:2"));
            }
            other => panic!("not refused: {other:?}"),
        }
    }
}
