//! `strowger customer import FILE.csv`: sends a file of customers in order, some rows at
//! a time, and goes on where it was interrupted.
//!
//! What a row means is decided by the exchange, which also keeps how far the import has
//! come and which lines it refused: this program may be killed at any moment. The import
//! is named by the file's name and content, so that another file never goes on with it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;
use strowger_core::api::{CustomerImport, CustomerLine, CustomerReject, CustomerUpload};

use super::Session;
use super::customer::{parts, with_query};
use crate::client::segment;
use crate::error::{Exit, Failure};
use crate::limits;
use crate::render::{self, Output, shape};

/// What a column of the file is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Column {
    Id,
    Name,
    Tier,
    Tags,
    Number,
    Owner,
    Field(String),
}

/// Runs the import.
pub fn run(session: &Session, path: &Path, resume: bool) -> Result<Exit, Failure> {
    let id = identity(path)?;
    let mut rows = Rows::open(path)?;
    let known = known(session, &id)?;
    let from = match known {
        Some(known) if resume && known.state == "ended" => return finish(session, path, &known),
        Some(known) if resume => known.rows,
        _ => {
            // Names the import before the first row: repeating this changes nothing.
            let begin = CustomerUpload {
                import: id.clone(),
                restart: true,
                ..CustomerUpload::default()
            };
            send(session, &begin)?;
            0
        }
    };
    for _ in 0..from {
        rows.next()?;
    }
    if from > 0 {
        eprintln!("going on after {from} rows");
    }
    let begun = Instant::now();
    let mut shown = begun;
    let mut offset = from;
    loop {
        let mut upload = CustomerUpload {
            import: id.clone(),
            offset,
            ..CustomerUpload::default()
        };
        let mut count = 0;
        while count < limits::IMPORT_ROWS {
            match rows.next()? {
                None => {
                    upload.last = true;
                    break;
                }
                Some(Ok(row)) => upload.rows.push(row),
                Some(Err(reject)) => upload.rejects.push(reject),
            }
            count += 1;
        }
        let last = upload.last;
        let progress = send(session, &upload)?;
        offset = progress.rows;
        if last {
            report_rate(offset - from, begun.elapsed());
            return finish(session, path, &progress);
        }
        if shown.elapsed() > Duration::from_secs(1) {
            shown = Instant::now();
            report_rate(offset - from, begun.elapsed());
        }
    }
}

fn report_rate(rows: u64, elapsed: Duration) {
    let ms = u64::try_from(elapsed.as_millis())
        .unwrap_or(u64::MAX)
        .max(1);
    let rate = rows.saturating_mul(1_000) / ms;
    eprintln!("{rows} rows, {rate} rows/s");
}

/// How far the exchange is with this import; `None` when it does not know it.
fn known(session: &Session, id: &str) -> Result<Option<CustomerImport>, Failure> {
    match session.client.get(&format!("/v1/imports/{}", segment(id))) {
        Ok(known) => Ok(Some(known)),
        Err(failure) if failure.exit() == Exit::NotFound => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// Sends rows; tries again while no node takes them, because rows that were taken in
/// already are taken in no second time.
fn send(session: &Session, upload: &CustomerUpload) -> Result<CustomerImport, Failure> {
    let until = Instant::now() + limits::IMPORT_PATIENCE;
    loop {
        let answer = session.client.post("/v1/customers/import", upload);
        match answer {
            Ok(value) => {
                return serde_json::from_value(value).map_err(|error| Failure::Garbled {
                    url: session
                        .client
                        .endpoint(session.client.attached())
                        .to_string(),
                    why: error.to_string(),
                });
            }
            Err(failure) if failure.exit() == Exit::Unreachable && Instant::now() < until => {
                std::thread::sleep(limits::IMPORT_RETRY);
            }
            Err(failure) => return Err(failure),
        }
    }
}

/// Says what became of the rows and writes down the lines that were refused.
fn finish(session: &Session, path: &Path, progress: &CustomerImport) -> Result<Exit, Failure> {
    let report = PathBuf::from(format!("{}.rejected.csv", path.display()));
    if progress.rejected > 0 {
        write_rejects(session, &report, &progress.id)?;
        let count = progress.rejected;
        eprintln!("{count} lines refused, see {}", report.display());
    } else if report.exists() {
        // What an earlier run refused is not what this one did.
        std::fs::remove_file(&report).map_err(|error| unwritable(&report, &error))?;
    }
    let value = serde_json::to_value(progress).unwrap_or(Value::Null);
    match session.output {
        Output::Table => session.print(&render::one(Output::Table, &shape::IMPORT, &value)),
        Output::Json | Output::Csv => session.one(&shape::IMPORT, &value),
    }
}

fn unwritable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::CustomerFile {
        what: format!("cannot write the refused lines: {error}"),
        place: path.display().to_string(),
    }
}

fn write_rejects(session: &Session, report: &Path, id: &str) -> Result<(), Failure> {
    let path = format!("/v1/imports/{}/rejects", segment(id));
    let mut text = csv::Writer::from_writer(Vec::new());
    let garbled = |error: &dyn std::fmt::Display| Failure::CustomerFile {
        what: format!("cannot write the refused lines: {error}"),
        place: report.display().to_string(),
    };
    text.write_record(["line", "reason"])
        .map_err(|error| garbled(&error))?;
    let mut after: Option<u64> = None;
    loop {
        let query = [
            ("after", after.map(|line| line.to_string())),
            ("limit", Some("1000".to_owned())),
        ];
        let page: Vec<CustomerReject> = session.client.get(&with_query(&path, &query))?;
        let Some(last) = page.last() else { break };
        after = Some(last.line);
        for reject in &page {
            text.write_record([&reject.line.to_string(), &reject.reason])
                .map_err(|error| garbled(&error))?;
        }
    }
    let bytes = text.into_inner().map_err(|error| garbled(&error))?;
    let mut file = File::create(report).map_err(|error| unwritable(report, &error))?;
    file.write_all(&bytes)
        .map_err(|error| unwritable(report, &error))
}

fn unreadable(path: &Path, why: impl std::fmt::Display) -> Failure {
    Failure::CustomerFile {
        what: format!("cannot read the customers: {why}"),
        place: path.display().to_string(),
    }
}

/// Name and content of a file in one word: FNV-1a, since nobody gains by a collision
/// among his own files.
fn identity(path: &Path) -> Result<String, Failure> {
    let file = File::open(path).map_err(|error| unreadable(path, error))?;
    let mut file = BufReader::with_capacity(1 << 16, file);
    let mut buffer = vec![0; 1 << 16];
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    loop {
        let read = file
            .read(&mut buffer)
            .map_err(|error| unreadable(path, error))?;
        let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else {
            break;
        };
        for byte in bytes {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let stem: String = stem
        .chars()
        .filter(|letter| letter.is_alphanumeric() || "-_.".contains(*letter))
        .take(40)
        .collect();
    Ok(format!("{stem}-{hash:016x}"))
}

/// A file without carriage returns: a Windows line end would count the next row's line
/// from the carriage return.
struct UnixLines(File);

impl Read for UnixLines {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        loop {
            let read = self.0.read(buffer)?;
            let mut kept = 0;
            for place in 0..read {
                if buffer[place] != b'\r' {
                    buffer.swap(kept, place);
                    kept += 1;
                }
            }
            if kept > 0 || read == 0 {
                return Ok(kept);
            }
        }
    }
}

/// The rows of a file, read one by one.
struct Rows {
    path: PathBuf,
    reader: csv::Reader<UnixLines>,
    columns: Vec<Column>,
    record: csv::ByteRecord,
}

impl Rows {
    fn open(path: &Path) -> Result<Self, Failure> {
        let file = File::open(path).map_err(|error| unreadable(path, error))?;
        let mut reader = csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .buffer_capacity(1 << 16)
            .from_reader(UnixLines(file));
        let mut record = csv::ByteRecord::new();
        reader
            .read_byte_record(&mut record)
            .map_err(|error| unreadable(path, error))?;
        let columns = columns(&record).map_err(|what| Failure::CustomerFile {
            what,
            place: format!("{}:1", path.display()),
        })?;
        Ok(Self {
            path: path.to_owned(),
            reader,
            columns,
            record,
        })
    }

    /// The next row, or why it cannot be sent; `None` at the end.
    fn next(&mut self) -> Result<Option<Result<CustomerLine, CustomerReject>>, Failure> {
        let more = self.reader.read_byte_record(&mut self.record);
        if !more.map_err(|error| unreadable(&self.path, error))? {
            return Ok(None);
        }
        let line = self.record.position().map_or(0, csv::Position::line);
        let row = row(&self.columns, line, &self.record);
        Ok(Some(row.map_err(|reason| CustomerReject { line, reason })))
    }
}

fn columns(header: &csv::ByteRecord) -> Result<Vec<Column>, String> {
    let mut columns = Vec::with_capacity(header.len());
    for name in header {
        let name = std::str::from_utf8(name).map_err(|_| "the header is not UTF-8")?;
        let name = name.trim_start_matches('\u{feff}').trim();
        let column = match name.to_ascii_lowercase().as_str() {
            "" => return Err("a column has no name".to_owned()),
            "id" => Column::Id,
            "name" => Column::Name,
            "tier" => Column::Tier,
            "tags" | "tag" => Column::Tags,
            "owner" => Column::Owner,
            number if is_number(number) => Column::Number,
            _ => Column::Field(name.to_owned()),
        };
        if column != Column::Number && columns.contains(&column) {
            return Err(format!("the column {name} is there twice"));
        }
        columns.push(column);
    }
    if !columns.contains(&Column::Id) {
        return Err("no column is named id".to_owned());
    }
    Ok(columns)
}

/// `number`, `numbers`, `number2`, `phone`, `phone_2` …
fn is_number(name: &str) -> bool {
    let stem = name.trim_end_matches(|letter: char| letter.is_ascii_digit() || letter == '_');
    matches!(stem, "number" | "numbers" | "phone" | "phones")
}

fn row(columns: &[Column], line: u64, record: &csv::ByteRecord) -> Result<CustomerLine, String> {
    if record.len() != columns.len() {
        let (fields, wanted) = (record.len(), columns.len());
        return Err(format!("{fields} fields, the header has {wanted}"));
    }
    let mut row = CustomerLine {
        line,
        ..CustomerLine::default()
    };
    let mut fields = BTreeMap::new();
    for (column, bytes) in columns.iter().zip(record) {
        let text = std::str::from_utf8(bytes).map_err(|_| "not UTF-8".to_owned())?;
        let text = text.trim();
        if text.is_empty() {
            continue;
        }
        match column {
            Column::Id => row.id = text.to_owned(),
            Column::Name => row.name = text.to_owned(),
            Column::Tier => row.tier = Some(text.to_owned()),
            Column::Owner => row.owner = Some(text.to_owned()),
            Column::Tags => row.tags = parts(text),
            Column::Number => row.numbers.extend(parts(text)),
            Column::Field(name) => {
                fields.insert(name.clone(), text.to_owned());
            }
        }
    }
    row.fields = fields;
    Ok(row)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8]) -> Vec<Result<CustomerLine, CustomerReject>> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("customers.csv");
        std::fs::write(&path, text).expect("written");
        let mut rows = Rows::open(&path).expect("a header");
        let mut all = Vec::new();
        while let Some(row) = rows.next().expect("readable") {
            all.push(row);
        }
        all
    }

    #[test]
    fn columns_become_what_they_are_named() {
        let text = "\u{feff}ID,Name,phone,phone2,tags,City\r\n\
            7,\"Lee, Amy\",010 6234 5678;+491234567,,a;b,Berlin\n8,,,555,,\n";
        let rows = read(text.as_bytes());
        let first = rows[0].as_ref().expect("a row");
        assert_eq!((first.line, &*first.id, &*first.name), (2, "7", "Lee, Amy"));
        assert_eq!(first.numbers, ["010 6234 5678", "+491234567"]);
        assert_eq!(first.tags, ["a", "b"]);
        assert_eq!(first.fields.get("City").map(String::as_str), Some("Berlin"));
        let second = rows[1].as_ref().expect("a row");
        assert_eq!(second.numbers, ["555"]);
        assert!(second.fields.is_empty(), "what is empty is not there");
    }

    #[test]
    fn a_row_that_cannot_be_read_is_refused_with_its_line() {
        let rows = read(b"id,name\n1,a\n2\n3,\xff\n4,\"two\nlines\"\n5,e\n");
        let refused: Vec<(u64, &str)> = rows
            .iter()
            .filter_map(|row| row.as_ref().err())
            .map(|reject| (reject.line, &*reject.reason))
            .collect();
        assert_eq!(
            refused,
            [(3, "1 fields, the header has 2"), (4, "not UTF-8")]
        );
        let lines: Vec<u64> = rows.iter().flatten().map(|row| row.line).collect();
        assert_eq!(lines, [2, 5, 7]);
    }

    #[test]
    fn a_file_without_id_or_with_a_column_twice_is_refused() {
        for header in [
            "name,number\n",
            "id,name,Name\n",
            "id,,x\n",
            "id,\u{e9}\n",
            "",
        ] {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let path = folder.path().join("customers.csv");
            std::fs::write(&path, header).expect("written");
            let fine = header == "id,\u{e9}\n";
            assert_eq!(Rows::open(&path).is_ok(), fine, "{header:?}");
        }
    }

    #[test]
    fn another_content_is_another_import() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("my customers.csv");
        std::fs::write(&path, "id\n1\n").expect("written");
        let first = identity(&path).expect("readable");
        assert_eq!(identity(&path).expect("readable"), first);
        assert!(first.starts_with("mycustomers-"), "{first}");
        std::fs::write(&path, "id\n2\n").expect("written");
        assert_ne!(identity(&path).expect("readable"), first);
    }
}
