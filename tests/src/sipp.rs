//! SIPp as a crowd of callers, agents or registering phones.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::poll::within_time;
use crate::programs;

/// How much of SIPp's error log is shown, in characters: the first errors tell most.
const ERRORS_MAX: usize = 2_000;

/// A SIPp run to be started.
#[derive(Clone, Debug)]
pub struct Sipp {
    scenario: PathBuf,
    local: SocketAddr,
    remote: Option<SocketAddr>,
    number: String,
    calls: u32,
    rate: u32,
    together: u32,
    rows: Vec<String>,
    keys: Vec<(String, String)>,
    tcp: bool,
    short_messages: bool,
    pause: Duration,
    timeout: Duration,
}

/// A running SIPp; killed when dropped.
pub struct Running {
    child: Child,
    folder: tempfile::TempDir,
    timeout: Duration,
}

/// What a finished SIPp counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// SIPp's exit code; 0 when every call went as its scenario says.
    pub code: i32,
    /// Calls begun.
    pub created: u64,
    /// Calls that went as the scenario says.
    pub successful: u64,
    /// Calls that did not.
    pub failed: u64,
    /// Messages sent again.
    pub retransmissions: u64,
    /// SIPp's own error log, for messages of tests.
    pub errors: String,
}

impl Sipp {
    /// A run of `tests/scenarios/NAME.xml` from `local`.
    pub fn new(name: &str, local: SocketAddr) -> Self {
        Self {
            scenario: programs::fixture(&format!("scenarios/{name}.xml")),
            local,
            remote: None,
            number: "4008".to_owned(),
            calls: 1,
            rate: 10,
            together: 1_000,
            rows: Vec::new(),
            keys: vec![("contact".to_owned(), local.to_string())],
            tcp: false,
            short_messages: false,
            pause: Duration::from_millis(300),
            timeout: Duration::from_secs(60),
        }
    }

    /// Where to send, and to which number.
    pub fn to(mut self, remote: SocketAddr, number: &str) -> Self {
        self.remote = Some(remote);
        self.number = number.to_owned();
        self
    }

    /// How many calls, begun how many a second.
    pub fn calls(mut self, calls: u32, rate: u32) -> Self {
        (self.calls, self.rate) = (calls, rate);
        self
    }

    /// At most this many calls at a time.
    pub fn together(mut self, together: u32) -> Self {
        self.together = together;
        self
    }

    /// One row of fields (`a;b`) for each call, taken in order.
    pub fn rows(mut self, rows: impl IntoIterator<Item = String>) -> Self {
        self.rows = rows.into_iter().collect();
        self
    }

    /// A value for `[name]` in the scenario; `contact` is where it runs unless said.
    pub fn key(mut self, name: &str, value: &str) -> Self {
        // SIPp takes the first of two.
        self.keys.retain(|(own, _)| own != name);
        self.keys.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Over TCP, one connection for all calls.
    pub fn tcp(mut self) -> Self {
        self.tcp = true;
        self
    }

    /// Keeps a line for each message, which [`Running::messages`] returns.
    pub fn short_messages(mut self) -> Self {
        self.short_messages = true;
        self
    }

    /// How long a `<pause/>` of the scenario lasts; 300 ms unless said.
    pub fn pause(mut self, pause: Duration) -> Self {
        self.pause = pause;
        self
    }

    /// The run fails when it lasts longer.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Starts the run.
    pub fn start(&self) -> Running {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut command = Command::new("sipp");
        command
            .current_dir(folder.path())
            .arg("-sf")
            .arg(&self.scenario)
            .args([
                "-i",
                &self.local.ip().to_string(),
                "-p",
                &self.local.port().to_string(),
            ])
            .args(["-mi", &self.local.ip().to_string()])
            .args(["-m", &self.calls.to_string(), "-r", &self.rate.to_string()])
            .args(["-l", &self.together.to_string(), "-s", &self.number])
            .args(["-t", if self.tcp { "t1" } else { "u1" }])
            // A phone's call outlives its connection.
            .args(["-reconnect_close", "false"])
            .args([
                "-nostdin",
                "-trace_err",
                "-error_file",
                "errors",
                "-trace_stat",
            ])
            .args(["-stf", "counts", "-fd", "1"])
            .args(["-d", &self.pause.as_millis().to_string()])
            .args([
                "-timeout",
                &format!("{}s", self.timeout.as_secs()),
                "-timeout_error",
            ]);
        if self.short_messages {
            command.args(["-trace_shortmsg", "-shortmessage_file", "messages"]);
        }
        for (name, value) in &self.keys {
            command.args(["-key", name, value]);
        }
        if !self.rows.is_empty() {
            let text = format!("SEQUENTIAL\n{}\n", self.rows.join("\n"));
            std::fs::write(folder.path().join("rows"), text).expect("a temporary folder");
            command.args(["-inf", "rows"]);
        }
        if let Some(remote) = self.remote {
            command.arg(remote.to_string());
        }
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("sipp (Debian package sip-tester): {error}"));
        Running {
            child,
            folder,
            timeout: self.timeout,
        }
    }

    /// Starts the run and waits for its end.
    pub fn run(&self) -> Counts {
        self.start().wait()
    }
}

impl Running {
    /// What was counted up to about a second ago.
    pub fn counts(&self) -> Counts {
        read_counts(&self.folder.path().join("counts")).unwrap_or_default()
    }

    /// The messages so far, one a line, with tabs between: date, time, seconds, `S` or `R`,
    /// Call-ID, CSeq, first line.
    pub fn messages(&self) -> String {
        let read = std::fs::read(self.folder.path().join("messages"));
        String::from_utf8_lossy(&read.unwrap_or_default()).into_owned()
    }

    /// Waits for the end.
    pub fn wait(mut self) -> Counts {
        // SIPp ends by its own timeout; the rest is for a SIPp that hangs.
        let patience = self.timeout + Duration::from_secs(10);
        let status = within_time(patience, || self.child.try_wait().ok().flatten());
        let errors = std::fs::read_to_string(self.folder.path().join("errors"));
        Counts {
            code: status.and_then(|status| status.code()).unwrap_or(-1),
            errors: errors
                .unwrap_or_default()
                .chars()
                .take(ERRORS_MAX)
                .collect(),
            ..self.counts()
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.child.try_wait().ok().flatten().is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// The cumulative columns of the last line of a statistics file.
fn read_counts(path: &Path) -> Option<Counts> {
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(b';')
        .flexible(true)
        .from_path(path)
        .ok()?;
    let names = reader.headers().ok()?.clone();
    let last = reader.records().map_while(Result::ok).last()?;
    let column = |name: &str| -> u64 {
        names
            .iter()
            .position(|own| own == name)
            .and_then(|index| last.get(index)?.trim().parse().ok())
            .unwrap_or_default()
    };
    Some(Counts {
        created: column("TotalCallCreated"),
        successful: column("SuccessfulCall(C)"),
        failed: column("FailedCall(C)"),
        retransmissions: column("Retransmissions(C)"),
        ..Counts::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_and_answering_machines_agree() {
        let server: SocketAddr = "127.0.0.60:6070".parse().expect("an address");
        let answering = Sipp::new("answer", server).calls(20, 10).start();
        let callers = Sipp::new("call", "127.0.0.60:6071".parse().expect("an address"))
            .to(server, "4008")
            .rows((1..=20).map(|n| format!("c{n:04};0")))
            .calls(20, 40)
            .run();
        assert_eq!(
            (callers.code, callers.successful, callers.failed),
            (0, 20, 0),
            "{callers:?}"
        );
        let answered = answering.wait();
        assert_eq!(
            (answered.code, answered.successful),
            (0, 20),
            "{answered:?}"
        );
    }

    #[test]
    fn calls_nobody_answers_are_failures() {
        let nobody = "127.0.0.60:6079".parse().expect("an address");
        let counts = Sipp::new("call", "127.0.0.60:6072".parse().expect("an address"))
            .to(nobody, "4008")
            .rows(["c0001;0".to_owned()])
            .timeout(Duration::from_secs(3))
            .run();
        assert_ne!(counts.code, 0);
        assert_eq!(counts.successful, 0);
    }
}
