//! A three-node cluster of real processes, started and ended by a test.
//!
//! The demo's addresses are fixed (127.0.0.1 to .6), so each cluster has a [`Network`] of its
//! own: phones and programs that shall reach it are started after it, by the same thread.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

use crate::api::Api;
use crate::network::Network;
use crate::poll::{eventually, within_time};
use crate::programs;
use crate::tone;

/// All nodes serve within this time on a busy machine.
const START_MAX: Duration = Duration::from_secs(90);
/// SIGTERM ends a demo within 10 s (a promise); beyond this it is killed.
const STOP_MAX: Duration = Duration::from_secs(15);

/// The greeting of the test sites, recognised by its frequency.
pub const GREETING_HZ: u32 = 350;
/// The music on hold of the test sites.
pub const MUSIC_HZ: u32 = 480;

/// A running demo cluster.
pub struct Cluster {
    folder: TempDir,
    demo: Child,
    restarted: BTreeMap<u64, Child>,
    ready: Ready,
    token: String,
    _network: Network,
}

/// The line the daemon prints once it serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ready {
    /// Number of nodes.
    pub nodes: u64,
    /// The demo's folder.
    pub dir: PathBuf,
    /// One URL for each node, in order.
    pub api: Vec<String>,
    /// The service addresses.
    pub sip: Vec<SocketAddr>,
}

/// Takes `ready nodes=3 dir=DIR api=URL,… sip=ADDR:PORT,…` apart; `None` for other lines.
pub fn parse_ready(line: &str) -> Option<Ready> {
    let rest = line.trim_end().strip_prefix("ready ")?;
    // The folder may hold spaces: it ends where ` api=` begins.
    let (head, tail) = rest.split_once(" api=")?;
    let (nodes, dir) = head.strip_prefix("nodes=")?.split_once(" dir=")?;
    let (api, sip) = tail.split_once(" sip=")?;
    Some(Ready {
        nodes: nodes.parse().ok()?,
        dir: PathBuf::from(dir),
        api: api.split(',').map(str::to_owned).collect(),
        sip: sip
            .split(',')
            .map(str::parse)
            .collect::<Result<_, _>>()
            .ok()?,
    })
}

impl Cluster {
    /// Starts three nodes with a site file of `tests/sites/`.
    pub fn start(site: &str) -> Self {
        Self::start_with(site, |_| {})
    }

    /// The same; `prepare` may put further files into the folder the site file is copied to.
    pub fn start_with(site: &str, prepare: impl FnOnce(&Path)) -> Self {
        Self::start_in(site, |folder| {
            prepare(folder);
            Vec::new()
        })
    }

    /// The same; what `prepare` returns is in the environment of the nodes.
    pub fn start_in(site: &str, prepare: impl FnOnce(&Path) -> Vec<(String, String)>) -> Self {
        let network = Network::own();
        let folder = tempfile::tempdir().expect("a temporary folder");
        let site_folder = folder.path().join("site");
        copy_folder(&programs::fixture("sites"), &site_folder);
        tone::write_wav(&site_folder.join("hello.wav"), GREETING_HZ, 1);
        tone::write_wav(&site_folder.join("hold.wav"), MUSIC_HZ, 3);
        let environment = prepare(&site_folder);
        let dir = folder.path().join("demo");
        let (demo, ready) = spawn_demo(&dir, &site_folder.join(site), environment);
        let token = std::fs::read_to_string(dir.join("admin.token"))
            .expect("the demo writes admin.token before it is ready");
        Self {
            folder,
            demo,
            restarted: BTreeMap::new(),
            ready,
            token: token.trim().to_owned(),
            _network: network,
        }
    }

    /// The demo's folder.
    pub fn dir(&self) -> PathBuf {
        self.folder.path().join("demo")
    }

    /// The folder with the site file and what it names.
    pub fn site_folder(&self) -> PathBuf {
        self.folder.path().join("site")
    }

    /// What the ready line said.
    pub fn ready(&self) -> &Ready {
        &self.ready
    }

    /// The administrator's token.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// The service addresses.
    pub fn sip(&self) -> &[SocketAddr] {
        &self.ready.sip
    }

    /// A service address by position, from 0.
    pub fn service(&self, index: usize) -> SocketAddr {
        self.ready.sip[index]
    }

    /// The interface of node `number`, from 1.
    pub fn api(&self, number: u64) -> Api {
        let index = usize::try_from(number).expect("small") - 1;
        Api::new(&self.ready.api[index], &self.token)
    }

    /// The interfaces of all nodes, living or not.
    pub fn apis(&self) -> Vec<Api> {
        self.ready
            .api
            .iter()
            .map(|base| Api::new(base, &self.token))
            .collect()
    }

    /// The interface of a node that answers.
    pub fn any_api(&self) -> Api {
        eventually(Duration::from_secs(10), "a node answers", || {
            self.apis().into_iter().find(|api| {
                api.get("/health/live")
                    .is_ok_and(|answer| answer.status == 200)
            })
        })
    }

    /// The secret the demo generated for an extension.
    pub fn password(&self, extension: &str) -> String {
        let path = self.dir().join("phones.csv");
        let mut reader = csv::Reader::from_path(&path)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        reader
            .records()
            .flatten()
            .find(|row| row.get(0) == Some(extension))
            .and_then(|row| row.get(1).map(str::to_owned))
            .unwrap_or_else(|| panic!("phones.csv names no extension {extension}"))
    }

    /// Runs an operators' command against the cluster; exit code, stdout, stderr.
    pub fn command(&self, arguments: &[&str]) -> (i32, String, String) {
        programs::run(self.client().args(arguments))
    }

    /// The operators' program with this cluster's addresses and token.
    pub fn client(&self) -> Command {
        let mut command = programs::strowger();
        command
            .env("STROWGER_API", self.ready.api.join(","))
            .env("STROWGER_TOKEN_FILE", self.dir().join("admin.token"));
        command
    }

    /// A list command's JSON array.
    pub fn command_list(&self, arguments: &[&str]) -> Vec<Value> {
        let (code, out, err) =
            programs::run(self.client().args(["--output", "json"]).args(arguments));
        assert_eq!(code, 0, "strowger {}: {err}", arguments.join(" "));
        match serde_json::from_str(&out) {
            Ok(Value::Array(rows)) => rows,
            other => panic!(
                "strowger {} printed no array: {other:?}",
                arguments.join(" ")
            ),
        }
    }

    /// The process id of node `number`.
    pub fn pid(&self, number: u64) -> Pid {
        let path = self.dir().join(format!("n{number}/pid"));
        let text = std::fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Pid::from_raw(text.trim().parse().expect("a pid file holds a number"))
    }

    /// Kills node `number` with SIGKILL and returns the moment of the kill.
    pub fn kill(&mut self, number: u64) -> Instant {
        kill(self.pid(number), Signal::SIGKILL).expect("the node runs");
        let moment = Instant::now();
        if let Some(mut child) = self.restarted.remove(&number) {
            child.wait().expect("a killed child can be waited for");
        }
        moment
    }

    /// Sends a signal to node `number`.
    pub fn signal(&self, number: u64, signal: Signal) {
        kill(self.pid(number), signal).expect("the node runs");
    }

    /// Starts a dead node that is expected to end by itself; exit code (124 when it did not
    /// end in time), stdout, stderr.
    pub fn run_to_its_end(
        &self,
        number: u64,
        environment: &[(&str, &str)],
    ) -> (i32, String, String) {
        wait_gone(self.pid(number));
        let mut command = Command::new("timeout");
        command.args(["--kill-after=5", "60"]);
        command.arg(programs::path("strowgerd"));
        command
            .arg("run")
            .arg("--config")
            .arg(self.node_file(number));
        programs::run(command.envs(environment.iter().copied()))
    }

    fn node_file(&self, number: u64) -> PathBuf {
        self.dir().join(format!("n{number}/node.toml"))
    }

    /// Ends node `number` with SIGTERM and waits until its process is gone.
    pub fn end(&mut self, number: u64) {
        let pid = self.pid(number);
        kill(pid, Signal::SIGTERM).expect("the node runs");
        if let Some(mut child) = self.restarted.remove(&number) {
            child.wait().expect("our own child can be waited for");
        }
        wait_gone(pid);
    }

    /// Starts a dead node on its data again and waits until it serves.
    pub fn restart(&mut self, number: u64) {
        self.restart_with(number, &[]);
    }

    /// The same with these variables in its environment.
    pub fn restart_with(&mut self, number: u64, environment: &[(&str, &str)]) {
        let lines = self.start_again(number, environment);
        self.wait_ready(number, &lines);
    }

    /// Starts all nodes, which are dead, on their data again and waits until each serves:
    /// one alone would wait for a majority.
    pub fn restart_all_with(&mut self, environment: &[(&str, &str)]) {
        let started: Vec<_> = (1..=self.ready.nodes)
            .map(|number| (number, self.start_again(number, environment)))
            .collect();
        for (number, lines) in started {
            self.wait_ready(number, &lines);
        }
    }

    fn start_again(&mut self, number: u64, environment: &[(&str, &str)]) -> Receiver<String> {
        wait_gone(self.pid(number));
        let mut command = programs::strowgerd();
        command
            .arg("run")
            .arg("--config")
            .arg(self.node_file(number));
        command.envs(environment.iter().copied());
        let (child, lines) = spawn(command);
        self.restarted.insert(number, child);
        lines
    }

    fn wait_ready(&self, number: u64, lines: &Receiver<String>) {
        wait_for_line(lines, |line| {
            line.starts_with(&format!("ready node={number}"))
                .then_some(())
        })
        .unwrap_or_else(|seen| panic!("node {number} was not ready again; it said {seen:?}"));
    }

    /// The node that leads, as the living nodes see it.
    pub fn leader(&self) -> u64 {
        eventually(Duration::from_secs(10), "there is a leader", || {
            self.apis().iter().find_map(|api| {
                api.list("/v1/nodes")?
                    .iter()
                    .find(|node| node["role"] == "leader" && node["state"] == "up")
                    .and_then(|node| node_number(&node["id"]))
            })
        })
    }

    /// The node that holds a service address.
    pub fn holder(&self, address: SocketAddr) -> u64 {
        let wanted = address.ip().to_string();
        eventually(Duration::from_secs(10), "the address has a holder", || {
            self.any_api().list("/v1/nodes")?.iter().find_map(|node| {
                let held = node["service_addresses"].as_array()?;
                let holds = held.iter().any(|held| {
                    held.as_str().or(held["address"].as_str()) == Some(wanted.as_str())
                });
                (holds && node["state"] == "up").then(|| node_number(&node["id"]))?
            })
        })
    }

    /// The events of a node's log, one JSON object for each line.
    pub fn log(&self, number: u64) -> Vec<Value> {
        let path = self.dir().join(format!("n{number}/log/strowgerd.log"));
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    /// Log events named `panic`, over all nodes.
    pub fn panics(&self) -> Vec<Value> {
        (1..=self.ready.nodes)
            .flat_map(|number| self.log(number))
            .filter(|event| event.to_string().contains("\"panic\""))
            .collect()
    }

    /// Ends the cluster as an operator would; the demo's exit code and how long it took.
    pub fn stop(&mut self) -> (Option<i32>, Duration) {
        let began = Instant::now();
        let pid = Pid::from_raw(i32::try_from(self.demo.id()).expect("a pid fits"));
        if self.demo.try_wait().ok().flatten().is_none() {
            kill(pid, Signal::SIGTERM).expect("the demo runs");
        }
        let status = within_time(STOP_MAX, || {
            self.demo
                .try_wait()
                .expect("our own child can be waited for")
        });
        for child in self.restarted.values_mut() {
            let _ = kill(
                Pid::from_raw(i32::try_from(child.id()).expect("a pid fits")),
                Signal::SIGTERM,
            );
            if within_time(STOP_MAX, || child.try_wait().ok().flatten()).is_none() {
                let _ = child.kill();
                let _ = child.wait();
            }
        }
        self.restarted.clear();
        (status.and_then(|status| status.code()), began.elapsed())
    }

    fn print_trouble(&self) {
        for number in 1..=self.ready.nodes {
            let events = self.log(number);
            let bad: Vec<&Value> = events
                .iter()
                .filter(|event| matches!(event["level"].as_str(), Some("ERROR" | "WARN")))
                // What the library says about an unreachable peer, it says many times.
                .filter(|event| {
                    !event["target"]
                        .as_str()
                        .is_some_and(|t| t.starts_with("openraft"))
                })
                .collect();
            for event in bad.iter().rev().take(20).rev() {
                eprintln!("node {number}: {event}");
            }
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.print_trouble();
        }
        let (code, _) = self.stop();
        if code.is_none() {
            // Whatever SIGTERM did not end is killed by the numbers it left behind.
            for number in 1..=self.ready.nodes {
                let path = self.dir().join(format!("n{number}/pid"));
                let pid = std::fs::read_to_string(path)
                    .ok()
                    .and_then(|t| t.trim().parse().ok());
                if let Some(pid) = pid.filter(|&pid: &i32| is_ours(pid)) {
                    let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
                }
            }
            let _ = self.demo.kill();
            let _ = self.demo.wait();
        }
        if std::thread::panicking() && std::env::var_os("STROWGER_KEEP").is_some() {
            self.folder.disable_cleanup(true);
            eprintln!("kept: {}", self.folder.path().display());
        }
    }
}

/// Waits until a process holds nothing any more.
pub(crate) fn wait_gone(pid: Pid) {
    let gone = || is_gone(pid).then_some(());
    eventually(STOP_MAX, "the node's process is gone", gone);
}

/// Whether a process holds nothing any more: it is gone, or a zombie (the demo may not have
/// waited for it yet) of which the last thread has ended too.
pub fn is_gone(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
    stat.is_empty() || (stat.contains(") Z ") && threads <= 1)
}

/// Whether a process is one of our daemons, so that a reused number harms nobody.
fn is_ours(pid: i32) -> bool {
    std::fs::read(format!("/proc/{pid}/cmdline"))
        .is_ok_and(|line| String::from_utf8_lossy(&line).contains("strowgerd"))
}

/// The number in a node's id (`1`, `"1"` or `"node_1"`).
pub fn node_number(id: &Value) -> Option<u64> {
    id.as_u64()
        .or_else(|| id.as_str()?.rsplit('_').next()?.parse().ok())
}

fn spawn_demo(dir: &Path, site: &Path, environment: Vec<(String, String)>) -> (Child, Ready) {
    let mut command = programs::strowgerd();
    command.envs(environment);
    command
        .args(["demo", "--headless", "--no-traffic", "--dir"])
        .arg(dir)
        .arg("--site")
        .arg(site);
    let (mut child, lines) = spawn(command);
    match wait_for_line(&lines, parse_ready) {
        Ok(ready) => (child, ready),
        Err(seen) => {
            let _ = kill(
                Pid::from_raw(i32::try_from(child.id()).expect("a pid fits")),
                Signal::SIGTERM,
            );
            let _ = within_time(STOP_MAX, || child.try_wait().ok().flatten());
            panic!("the demo was not ready; it said {seen:?}")
        }
    }
}

/// Starts a daemon that ends with the test program, however that ends (`setpriv`).
pub(crate) fn spawn(command: Command) -> (Child, Receiver<String>) {
    let mut wrapped = Command::new("setpriv");
    wrapped
        .args(["--pdeathsig", "TERM"])
        .arg(command.get_program())
        .args(command.get_args())
        .envs(
            command
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        )
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = wrapped
        .spawn()
        .expect("setpriv and the daemon can be started");
    let (sender, lines) = channel();
    let out = child.stdout.take().expect("piped above");
    let err = child.stderr.take().expect("piped above");
    let errors = sender.clone();
    std::thread::spawn(move || {
        for line in BufReader::new(out).lines().map_while(Result::ok) {
            // The receiver goes once the daemon is ready; its output is drained on.
            let _ = sender.send(line);
        }
    });
    std::thread::spawn(move || {
        for line in BufReader::new(err).lines().map_while(Result::ok) {
            let _ = errors.send(line);
        }
    });
    (child, lines)
}

pub(crate) fn wait_for_line<T>(
    lines: &Receiver<String>,
    fits: impl Fn(&str) -> Option<T>,
) -> Result<T, Vec<String>> {
    let deadline = Instant::now() + START_MAX;
    let mut seen = Vec::new();
    while let Ok(line) = lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        if let Some(found) = fits(&line) {
            return Ok(found);
        }
        seen.push(line);
    }
    Err(seen)
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a temporary folder is writable");
    for entry in std::fs::read_dir(from)
        .expect("the fixture folder is there")
        .flatten()
    {
        std::fs::copy(entry.path(), to.join(entry.file_name())).expect("a small file copies");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ready_line_is_taken_apart() {
        let ready = parse_ready(
            "ready nodes=3 dir=/a b/demo api=http://127.0.0.1:8080,http://127.0.0.2:8080 \
             sip=127.0.0.1:5060,127.0.0.2:5060\n",
        )
        .expect("well formed");
        assert_eq!(ready.nodes, 3);
        assert_eq!(ready.dir, Path::new("/a b/demo"));
        assert_eq!(ready.api.len(), 2);
        assert_eq!(ready.sip[1], "127.0.0.2:5060".parse().expect("an address"));
        assert_eq!(parse_ready("ready node=1 dir=x"), None);
        assert_eq!(parse_ready("starting"), None);
    }

    #[test]
    fn node_ids_in_their_forms() {
        assert_eq!(node_number(&serde_json::json!(2)), Some(2));
        assert_eq!(node_number(&serde_json::json!("node_3")), Some(3));
        assert_eq!(node_number(&serde_json::json!(null)), None);
    }
}
