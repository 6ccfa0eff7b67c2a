//! baresip, a real telephone without a sound card: plays a tone, records what it hears.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::netstring;
use crate::poll::{eventually, within_time};
use crate::tone;

/// Where Debian puts the modules.
const MODULES: &str = "/usr/lib/baresip/modules";
/// It starts within this time on a busy machine.
const START_MAX: Duration = Duration::from_secs(10);
/// Seconds of tone it can play in one call.
const TONE_S: u32 = 120;

/// A running baresip; killed when dropped.
pub struct Baresip {
    child: Child,
    folder: tempfile::TempDir,
    control: TcpStream,
    buffer: Vec<u8>,
    seen: Vec<Value>,
    tokens: u64,
}

/// What a baresip is to be.
#[derive(Clone, Debug)]
pub struct Account<'a> {
    /// Its own address; the SIP port is free choice unless `port` is set.
    pub address: IpAddr,
    /// Its SIP port, 0 for any.
    pub port: u16,
    /// Where it registers; `None` for a phone that only dials and listens.
    pub server: Option<SocketAddr>,
    /// Its user name.
    pub user: &'a str,
    /// Its password.
    pub password: &'a str,
    /// `udp` or `tcp`.
    pub transport: &'a str,
    /// The frequency it sends.
    pub tone_hz: u32,
    /// Answers by itself.
    pub answers: bool,
}

impl Baresip {
    /// Starts a phone and connects to its control port.
    pub fn start(account: &Account<'_>) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let control_port = std::net::TcpListener::bind((account.address, 0))
            .and_then(|listener| listener.local_addr())
            .expect("loopback has free ports")
            .port();
        tone::write_wav(&folder.path().join("tone.wav"), account.tone_hz, TONE_S);
        std::fs::create_dir(folder.path().join("heard")).expect("a temporary folder");
        write_configuration(folder.path(), account, control_port);
        let log = std::fs::File::create(folder.path().join("log")).expect("a temporary folder");
        let mut child = Command::new("baresip")
            .arg("-s")
            .arg("-f")
            .arg(folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file handle can be copied"))
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("baresip (Debian package baresip-core): {error}"));
        let control = within_time(START_MAX, || {
            TcpStream::connect((account.address, control_port)).ok()
        });
        let Some(control) = control else {
            let _ = child.kill();
            let _ = child.wait();
            let log = std::fs::read_to_string(folder.path().join("log")).unwrap_or_default();
            panic!("baresip opened no control port; its log:\n{log}");
        };
        control
            .set_read_timeout(Some(Duration::from_millis(50)))
            .expect("a TCP socket takes a timeout");
        Self {
            child,
            folder,
            control,
            buffer: Vec::new(),
            seen: Vec::new(),
            tokens: 0,
        }
    }

    /// Sends a command of its menu; the answer's text.
    pub fn command(&mut self, name: &str, parameters: &str) -> String {
        self.tokens += 1;
        let token = self.tokens.to_string();
        let request = json!({"command": name, "params": parameters, "token": token});
        self.control
            .write_all(&netstring::encode(&request.to_string()))
            .expect("baresip runs and listens");
        eventually(
            Duration::from_secs(5),
            &format!("baresip answers to {name}"),
            || {
                self.read();
                let index = self
                    .seen
                    .iter()
                    .position(|value| value["token"] == token.as_str())?;
                Some(
                    self.seen.remove(index)["data"]
                        .as_str()
                        .unwrap_or_default()
                        .to_owned(),
                )
            },
        )
    }

    /// Dials a number or URI.
    pub fn dial(&mut self, target: &str) {
        self.command("dial", target);
    }

    /// Ends the current call.
    pub fn hang_up(&mut self) {
        self.command("hangup", "");
    }

    /// Puts the other end on hold.
    pub fn hold(&mut self) {
        self.command("hold", "");
    }

    /// Takes the other end back.
    pub fn resume(&mut self) {
        self.command("resume", "");
    }

    /// The types of the events so far (`REGISTER_OK`, `CALL_ESTABLISHED` …).
    pub fn events(&mut self) -> Vec<String> {
        self.read();
        let kinds = self.seen.iter().filter(|value| value["event"] == true);
        kinds
            .filter_map(|value| value["type"].as_str().map(str::to_owned))
            .collect()
    }

    /// Waits for an event of a type.
    pub fn wait_for(&mut self, kind: &str, within: Duration) -> bool {
        within_time(within, || {
            self.events().iter().any(|seen| seen == kind).then_some(())
        })
        .is_some()
    }

    /// Forgets the events so far.
    pub fn forget(&mut self) {
        self.read();
        self.seen.clear();
    }

    /// What it has recorded of the other end: files, oldest first.
    pub fn recordings(&self) -> Vec<PathBuf> {
        let mut files: Vec<PathBuf> = std::fs::read_dir(self.folder.path().join("heard"))
            .expect("made at the start")
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.to_string_lossy().ends_with("dec.wav"))
            .collect();
        files.sort();
        files
    }

    /// How many tenths of a second of a tone all recordings hold.
    pub fn tenths_of(&self, hz: u32) -> usize {
        self.recordings()
            .iter()
            .filter_map(|path| tone::read_wav(path))
            .map(|(rate, samples)| tone::stretches_with(&samples, rate, hz))
            .sum()
    }

    /// Bits per second it last sent and received, by its own clock's line (every 3 s).
    pub fn bit_rates(&self) -> Option<(u32, u32)> {
        let log = self.log();
        let (sent, received) = log.rsplit("audio=").next()?.split_once('/')?;
        let received = received.split(' ').next()?;
        Some((sent.parse().ok()?, received.parse().ok()?))
    }

    /// Its log, for messages of tests.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    fn read(&mut self) {
        let mut chunk = [0u8; 4_096];
        // One pass takes what is there; the read times out after 50 ms.
        while let Ok(length) = self.control.read(&mut chunk) {
            if length == 0 {
                break;
            }
            self.buffer.extend(&chunk[..length]);
            while let Ok(Some(text)) = netstring::decode(&mut self.buffer) {
                self.seen.extend(serde_json::from_str::<Value>(&text));
            }
            if length < chunk.len() {
                break;
            }
        }
    }
}

impl Drop for Baresip {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            // With the messages it sent and received; its running clock says nothing.
            for line in log.lines().filter(|line| !line.contains("(bit/s)")) {
                eprintln!("baresip: {line}");
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn write_configuration(folder: &Path, account: &Account<'_>, control_port: u16) {
    let at = folder.display();
    let Account { address, port, .. } = account;
    let configuration = format!(
        "poll_method epoll\n\
         sip_listen {address}:{port}\n\
         net_interface {address}\n\
         call_max_calls 4\n\
         call_local_timeout 120\n\
         audio_path {at}\n\
         audio_player aufile,{at}/played.wav\n\
         audio_source aufile,{at}/tone.wav\n\
         audio_alert aufile,{at}/alert.wav\n\
         audio_srate 8000-8000\n\
         audio_channels 1-1\n\
         ausrc_srate 8000\n\
         auplay_srate 8000\n\
         rtp_tos 184\n\
         rtcp_mux no\n\
         module_path {MODULES}\n\
         module g711.so\n\
         module aufile.so\n\
         module sndfile.so\n\
         module_tmp account.so\n\
         module_app menu.so\n\
         module_app ctrl_tcp.so\n\
         ctrl_tcp_listen {address}:{control_port}\n\
         snd_path {at}/heard\n"
    );
    let Account {
        user,
        password,
        transport,
        ..
    } = account;
    let answer = if account.answers { "auto" } else { "manual" };
    let line = match account.server {
        Some(server) => format!(
            "<sip:{user}@{};transport={transport}>;auth_user={user};auth_pass={password};\
             regint=60;answermode={answer};audio_codecs=PCMU/8000/1\n",
            server.ip()
        ),
        None => format!(
            "<sip:{user}@{address}>;regint=0;answermode={answer};audio_codecs=PCMU/8000/1\n"
        ),
    };
    for (name, text) in [
        ("config", configuration),
        ("accounts", line),
        ("contacts", String::new()),
    ] {
        std::fs::write(folder.join(name), text).expect("a temporary folder is writable");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_phones_hear_each_other() {
        let account = Account {
            address: "127.0.0.71".parse().expect("an address"),
            port: 6081,
            server: None,
            user: "b",
            password: "",
            transport: "udp",
            tone_hz: 620,
            answers: true,
        };
        let mut b = Baresip::start(&account);
        let mut a = Baresip::start(&Account {
            address: "127.0.0.72".parse().expect("an address"),
            port: 6082,
            user: "a",
            tone_hz: 440,
            answers: false,
            ..account
        });
        a.dial("sip:b@127.0.0.71:6081");
        assert!(
            a.wait_for("CALL_ESTABLISHED", Duration::from_secs(10)),
            "{:?}",
            a.events()
        );
        eventually(
            Duration::from_secs(10),
            "each records the other's tone",
            || (a.tenths_of(620) >= 5 && b.tenths_of(440) >= 5).then_some(()),
        );
        assert_eq!(a.tenths_of(440), 0, "a does not hear itself");
        a.hang_up();
        assert!(
            b.wait_for("CALL_CLOSED", Duration::from_secs(5)),
            "{:?}",
            b.events()
        );
    }
}
