//! The log: JSON lines in the file of the node file, and on standard error when the
//! daemon is run by hand. A panic is an error-level event whose `event` is `panic`.

use std::backtrace::Backtrace;
use std::fs::{File, OpenOptions};
use std::io::{IsTerminal, Write};
use std::sync::{Arc, Mutex};

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{Level, Log};
use crate::fault::{Fault, code};

/// Opens the log and takes over panics. Call it once.
///
/// # Errors
/// `SW0108` when the file cannot be opened.
pub fn start(log: &Log) -> Result<(), Fault> {
    let file = log.file.as_ref().map(|path| {
        let opened = path
            .parent()
            .map_or(Ok(()), std::fs::create_dir_all)
            .and_then(|()| OpenOptions::new().create(true).append(true).open(path));
        opened.map_err(|error| {
            let next = "correct [log] file, or make the folder writable";
            Fault::new(code::LOG_FILE, error.to_string(), next).at(path.display().to_string())
        })
    });
    let file = file.transpose()?.map(LogFile::new);
    let by_hand = std::io::stderr().is_terminal() || file.is_none();
    let to_file = file.map(|file| tracing_subscriber::fmt::layer().json().with_writer(file));
    let to_stderr = by_hand.then(|| {
        tracing_subscriber::fmt::layer()
            .json()
            .with_writer(std::io::stderr)
    });
    let level = match log.level {
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
        Level::Trace => LevelFilter::TRACE,
    };
    // Libraries warn of what the crates handle, a dead peer above all; they are heard
    // when they err, and in full at debug and trace.
    let others = if level > LevelFilter::INFO {
        level
    } else {
        LevelFilter::ERROR
    };
    let ours = [
        "strowgerd",
        "strowger_node",
        "strowger_core",
        "strowger_cluster",
        "strowger_actors",
        "strowger_sip",
        "strowger_media",
    ];
    let targets = Targets::new()
        .with_default(others)
        .with_targets(ours.map(|target| (target, level)));
    let subscriber = tracing_subscriber::registry()
        .with(targets)
        .with(to_file)
        .with(to_stderr);
    // A second call, as tests in one process make, keeps the first log.
    if subscriber.try_init().is_ok() {
        log_panics();
    }
    Ok(())
}

fn log_panics() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let message = panic.payload_as_str().unwrap_or("without a message");
        let place = panic
            .location()
            .map(ToString::to_string)
            .unwrap_or_default();
        let backtrace = Backtrace::force_capture().to_string();
        tracing::error!(name: "panic", event = "panic", message, place, backtrace);
        before(panic);
    }));
}

/// The log file: one writer at a time, each line in one write.
#[derive(Clone)]
struct LogFile(Arc<Mutex<File>>);

impl LogFile {
    fn new(file: File) -> Self {
        Self(Arc::new(Mutex::new(file)))
    }
}

impl Write for LogFile {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        // A writer's panic leaves at worst half a line.
        let mut file = self
            .0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        file.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LogFile {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}
