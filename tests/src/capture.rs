//! What was on the wire, by a program that is neither the exchange nor the phone: SIP over
//! UDP on the loopback, captured by dumpcap and read by tshark where they are installed and
//! permitted.

use std::net::IpAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::poll::within_time;

/// How long dumpcap may take to begin or to end.
const PATIENCE: Duration = Duration::from_secs(5);
/// What is read of each message.
const FIELDS: [&str; 6] = [
    "frame.time_epoch",
    "ip.src",
    "ip.dst",
    "sip.Method",
    "sip.Status-Code",
    "sip.CSeq.method",
];

/// A capture under way; ended when dropped.
pub struct Capture {
    dumpcap: Child,
    folder: tempfile::TempDir,
}

/// A message that was seen.
#[derive(Clone, Debug, PartialEq)]
pub struct Sent {
    /// When, in seconds since 1970.
    pub at: f64,
    /// From where.
    pub from: IpAddr,
    /// To where.
    pub to: IpAddr,
    /// The method, of a request.
    pub method: Option<String>,
    /// The status, of a response.
    pub status: Option<u16>,
    /// The method of the CSeq.
    pub of: String,
}

impl Capture {
    /// Begins to capture what goes over UDP from and to `port`; `None` where that is not
    /// possible.
    pub fn start(port: u16) -> Option<Self> {
        let folder = tempfile::tempdir().ok()?;
        let file = folder.path().join("sip.pcapng");
        let dumpcap = Command::new("dumpcap")
            .args(["-q", "-i", "lo", "-f", &format!("udp port {port}"), "-w"])
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let mut capture = Self { dumpcap, folder };
        let began = within_time(PATIENCE, || {
            let ended = capture.dumpcap.try_wait().ok().flatten().is_some();
            (ended || file.metadata().is_ok_and(|file| file.len() > 0)).then_some(!ended)
        });
        (began == Some(true)).then_some(capture)
    }

    /// Ends it; every SIP message in the order in which it was seen.
    pub fn finish(mut self) -> Option<Vec<Sent>> {
        // What was sent last is handed over within this.
        std::thread::sleep(Duration::from_millis(300));
        self.end();
        let mut tshark = Command::new("tshark");
        tshark.arg("-n").arg("-r");
        tshark.arg(self.folder.path().join("sip.pcapng"));
        tshark.args(["-Y", "sip", "-T", "fields", "-E", "separator=|"]);
        for field in FIELDS {
            tshark.args(["-e", field]);
        }
        let output = tshark.stdin(Stdio::null()).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        Some(text.lines().filter_map(read).collect())
    }

    fn end(&mut self) {
        if let Ok(id) = i32::try_from(self.dumpcap.id()) {
            let _ = kill(Pid::from_raw(id), Signal::SIGINT);
        }
        let ended = within_time(PATIENCE, || self.dumpcap.try_wait().ok().flatten());
        if ended.is_none() {
            let _ = self.dumpcap.kill();
            let _ = self.dumpcap.wait();
        }
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        if self.dumpcap.try_wait().ok().flatten().is_none() {
            self.end();
        }
    }
}

fn read(line: &str) -> Option<Sent> {
    let mut fields = line.split('|');
    let mut next = || fields.next().filter(|text| !text.is_empty());
    let at = next()?.parse().ok()?;
    let from = next()?.parse().ok()?;
    let to = next()?.parse().ok()?;
    let method = next().map(str::to_owned);
    let status = next().and_then(|text| text.parse().ok());
    let of = next()?.to_owned();
    Some(Sent {
        at,
        from,
        to,
        method,
        status,
        of,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_tshark_are_read() {
        let cancel = read("1795334400.250000000|127.0.0.1|127.0.0.62|CANCEL||CANCEL");
        let cancel = cancel.expect("a request");
        assert!((cancel.at - 1_795_334_400.25).abs() < 1e-6);
        assert_eq!(cancel.method.as_deref(), Some("CANCEL"));
        let answer = read("1.0|127.0.0.62|127.0.0.1||200|INVITE").expect("a response");
        assert_eq!((answer.status, answer.of.as_str()), (Some(200), "INVITE"));
        assert_eq!(read("Capturing on 'Loopback'"), None);
    }
}
