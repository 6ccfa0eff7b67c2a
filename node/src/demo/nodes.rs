//! The nodes of a demonstration as processes: starting, recognising and ending them.
//!
//! A node is known by its pid file, whoever started it: an operator may have started a
//! killed one again by hand. Because numbers are used again by the system, a number
//! counts only while its process runs the daemon on that very node file. Nodes get a
//! process group of their own, so that Ctrl-C in the terminal reaches the demonstration
//! alone and it ends them in order.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::folder::{Folder, api_address, cluster_address, write};
use crate::fault::{Fault, code};
use crate::limits;

/// Interval at which an ending process is looked at.
const LOOK: Duration = Duration::from_millis(50);
/// Bytes of a node's last words that are shown.
const LAST_WORDS_MAX: usize = 600;

/// The processes this demonstration started, by node number.
#[derive(Debug, Default)]
pub(super) struct Nodes {
    children: Vec<(u8, Child)>,
}

impl Nodes {
    /// Starts a node unless it runs already.
    ///
    /// # Errors
    /// `SW0107` when an address is taken, `SW0502` when the process cannot be started.
    pub(super) fn start(&mut self, folder: &Folder, number: u8) -> Result<(), Fault> {
        if running(folder, number).is_some() {
            return Ok(());
        }
        free_node(number)?;
        let failed = |error: std::io::Error| {
            let next = "see what the system says";
            Fault::new(code::DEMO_NODE, error.to_string(), next).at(format!("node {number}"))
        };
        let words = File::create(folder.start_log(number)).map_err(failed)?;
        let program = std::env::current_exe().map_err(failed)?;
        let child = Command::new(program)
            .arg("run")
            .arg("--config")
            .arg(folder.node_file(number))
            .stdin(Stdio::null())
            .stdout(words.try_clone().map_err(failed)?)
            .stderr(words)
            .process_group(0)
            .spawn()
            .map_err(failed)?;
        let pid = format!("{}\n", child.id());
        self.children.push((number, child));
        write(&folder.pid_file(number), pid.as_bytes(), 0o644)
    }

    /// Refuses when a node this demonstration started has ended, with its last words.
    ///
    /// # Errors
    /// `SW0502`.
    pub(super) fn all_alive(&mut self, folder: &Folder) -> Result<(), Fault> {
        for (number, child) in &mut self.children {
            if let Ok(Some(status)) = child.try_wait() {
                let words = last_words(&folder.start_log(*number));
                let what = format!("it ended with {status}: {words}");
                let log = folder.node_folder(*number).join("log/strowgerd.log");
                let next = format!("see {}", log.display());
                let fault = Fault::new(code::DEMO_NODE, what, next);
                return Err(fault.at(format!("node {number}")));
            }
        }
        Ok(())
    }

    /// Numbers of the nodes that ended since the last look.
    pub(super) fn departed(&mut self) -> Vec<u8> {
        let mut gone = Vec::new();
        self.children.retain_mut(|(number, child)| {
            let ended = !matches!(child.try_wait(), Ok(None));
            if ended {
                gone.push(*number);
            }
            !ended
        });
        gone
    }

    /// Ends every node named by a pid file: SIGTERM, and SIGKILL for what is left after
    /// a while.
    pub(super) async fn end(&mut self, folder: &Folder) {
        let mut left = all_running(folder);
        signal(&left, Signal::SIGTERM);
        let deadline = Instant::now() + limits::DEMO_STOP_TIMEOUT;
        while !left.is_empty() {
            tokio::time::sleep(LOOK).await;
            // Our own children must be waited for, or they would look alive for ever.
            self.departed();
            left.retain(|(number, pid)| runs(folder, *number, *pid));
            if !left.is_empty() && Instant::now() > deadline {
                signal(&left, Signal::SIGKILL);
                break;
            }
        }
        for (_, child) in &mut self.children {
            // One that no pid file names any more ends here; the others have ended.
            let _ = child.kill();
            let _ = child.wait();
        }
        self.children.clear();
    }
}

/// Ends nodes left over by an earlier demonstration in this folder.
pub(super) async fn end_leftovers(folder: &Folder) {
    Nodes::default().end(folder).await;
}

/// Whether no node of this folder runs.
pub(super) fn none_running(folder: &Folder) -> bool {
    all_running(folder).is_empty()
}

/// Checks that nobody uses the addresses of the nodes or the service addresses yet.
///
/// # Errors
/// `SW0107` naming the address.
pub(super) fn free_addresses(folder: &Folder, sip: &[SocketAddr]) -> Result<(), Fault> {
    folder.numbers().try_for_each(free_node)?;
    sip.iter().try_for_each(|address| {
        free_tcp(*address)?;
        free_udp(*address)
    })
}

fn free_node(number: u8) -> Result<(), Fault> {
    free_tcp(api_address(number))?;
    free_tcp(cluster_address(number))?;
    free_udp(cluster_address(number))
}

fn free_tcp(address: SocketAddr) -> Result<(), Fault> {
    TcpListener::bind(address)
        .map(drop)
        .map_err(|error| taken("TCP", address, &error))
}

fn free_udp(address: SocketAddr) -> Result<(), Fault> {
    UdpSocket::bind(address)
        .map(drop)
        .map_err(|error| taken("UDP", address, &error))
}

fn taken(protocol: &str, address: SocketAddr, error: &std::io::Error) -> Fault {
    let what = format!("cannot use {protocol} {address} for the demonstration: {error}");
    let next = "end what uses it, perhaps another demonstration on this machine";
    Fault::new(code::BIND, what, next)
}

fn all_running(folder: &Folder) -> Vec<(u8, Pid)> {
    // Also those of an earlier demonstration with more nodes.
    (1..=super::folder::NODES_MAX)
        .filter_map(|number| Some((number, running(folder, number)?)))
        .collect()
}

/// The process of a node, when its pid file names one that runs.
fn running(folder: &Folder, number: u8) -> Option<Pid> {
    let text = fs::read_to_string(folder.pid_file(number)).ok()?;
    let pid = Pid::from_raw(text.trim().parse().ok().filter(|pid: &i32| *pid > 1)?);
    runs(folder, number, pid).then_some(pid)
}

/// Whether the process runs the daemon on this node's file.
fn runs(folder: &Folder, number: u8, pid: Pid) -> bool {
    let process = PathBuf::from(format!("/proc/{pid}"));
    let (Ok(line), Ok(place)) = (
        fs::read(process.join("cmdline")),
        fs::read_link(process.join("cwd")),
    ) else {
        return false;
    };
    let wanted = folder.node_file(number);
    node_file_in(&line)
        .is_some_and(|path| fs::canonicalize(place.join(path)).is_ok_and(|path| path == wanted))
}

/// The node file named by a command line as the system keeps it, words ended by NUL.
fn node_file_in(line: &[u8]) -> Option<&Path> {
    let mut words = line.split(|byte| *byte == 0);
    words.any(|word| word == b"run").then_some(())?;
    while let Some(word) = words.next() {
        if word == b"--config" {
            return words.next().map(path_of);
        }
        if let Some(path) = word.strip_prefix(b"--config=") {
            return Some(path_of(path));
        }
    }
    None
}

fn path_of(word: &[u8]) -> &Path {
    Path::new(std::ffi::OsStr::from_bytes(word))
}

fn signal(nodes: &[(u8, Pid)], signal: Signal) {
    for (_, pid) in nodes {
        // It may have ended meanwhile, which is what we want.
        let _ = kill(*pid, signal);
    }
}

fn last_words(path: &Path) -> String {
    let text = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let text = text.trim();
    let cut = text.len().saturating_sub(LAST_WORDS_MAX);
    let start = (cut..=text.len()).find(|at| text.is_char_boundary(*at));
    match start.and_then(|start| text.get(start..)) {
        None | Some("") => "it said nothing".to_owned(),
        Some(words) => words.replace('\n', " | "),
    }
}

/// Notes the calling process in the pid file beside a node file, when there is one: so
/// the demonstration finds a node that was started again by hand. Called by the daemon
/// once it holds its data folder.
pub fn note_pid(node_file: &Path) {
    let pid_file = node_file.with_file_name("pid");
    if pid_file.is_file() {
        let pid = format!("{}\n", std::process::id());
        if let Err(fault) = write(&pid_file, pid.as_bytes(), 0o644) {
            tracing::warn!(%fault, "the pid file was not renewed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_names_its_node_file() {
        let table: [(&[u8], Option<&str>); 5] = [
            (
                b"/x/strowgerd\0run\0--config\0/d/n1/node.toml\0",
                Some("/d/n1/node.toml"),
            ),
            (
                b"strowgerd\0run\0--config=n1/node.toml\0",
                Some("n1/node.toml"),
            ),
            (b"strowgerd\0run\0--config\0", Some("")),
            (b"less\0--config\0/d/n1/node.toml\0", None),
            (b"", None),
        ];
        for (line, path) in table {
            assert_eq!(node_file_in(line), path.map(Path::new));
        }
    }

    #[test]
    fn a_number_used_again_by_another_program_is_not_a_node() {
        let dir = tempfile::tempdir().expect("folder");
        let folder = Folder::open(dir.path(), 1, false).expect("new");
        folder.write_node_file(1).expect("written");
        // This test program runs, but is no node.
        write(
            &folder.pid_file(1),
            std::process::id().to_string().as_bytes(),
            0o644,
        )
        .expect("written");
        assert!(none_running(&folder));
        for nonsense in ["", "0", "-1", "1", "x"] {
            write(&folder.pid_file(1), nonsense.as_bytes(), 0o644).expect("written");
            assert!(none_running(&folder), "{nonsense:?}");
        }
    }

    /// A process that looks like a node: a shell whose command line names the file.
    fn pretender(folder: &Folder, script: &str) -> Child {
        let child = Command::new("sh")
            .args(["-c", script, "run", "--config"])
            .arg(folder.node_file(1))
            .stdin(Stdio::piped())
            .spawn()
            .expect("a shell");
        // For a moment after it begins a program has no command line to show.
        let line = format!("/proc/{}/cmdline", child.id());
        while fs::read(&line).expect("it runs").is_empty() {
            std::thread::yield_now();
        }
        let pid = child.id().to_string();
        write(&folder.pid_file(1), pid.as_bytes(), 0o644).expect("written");
        child
    }

    #[tokio::test]
    async fn a_node_in_a_pid_file_is_ended_whoever_started_it() {
        let dir = tempfile::tempdir().expect("folder");
        let folder = Folder::open(dir.path(), 1, false).expect("new");
        folder.write_node_file(1).expect("written");
        let mut child = pretender(&folder, "read forever");
        // Held open until the end, when a reader that still reads would end by itself.
        let _input = child.stdin.take();
        assert!(!none_running(&folder));
        let waiting = std::thread::spawn(move || child.wait().expect("a child"));
        end_leftovers(&folder).await;
        assert!(none_running(&folder));
        use std::os::unix::process::ExitStatusExt;
        let status = waiting.join().expect("joined");
        assert_eq!(status.signal(), Some(Signal::SIGTERM as i32));
    }

    #[test]
    fn a_taken_address_is_named() {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("bind");
        let address = socket.local_addr().expect("bound");
        let fault = free_udp(address).expect_err("taken");
        assert_eq!(fault.code, code::BIND);
        assert!(fault.to_string().contains(&address.to_string()), "{fault}");
    }

    #[test]
    fn a_pid_file_is_renewed_only_where_there_is_one() {
        let dir = tempfile::tempdir().expect("folder");
        let node_file = dir.path().join("node.toml");
        note_pid(&node_file);
        assert!(!dir.path().join("pid").exists());
        fs::write(dir.path().join("pid"), "1").expect("write");
        note_pid(&node_file);
        let text = fs::read_to_string(dir.path().join("pid")).expect("read");
        assert_eq!(text.trim(), std::process::id().to_string());
    }
}
