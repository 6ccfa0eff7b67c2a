//! A cluster on machines of which none can have another's address: each node in a network
//! namespace of its own, with exactly one service address. The phones are with the test, in
//! one more, on the same bridge. Links can be cut, one way or both, and machines can fall
//! silent (`faults`).
//!
//! Needs the rights to make namespaces. Where they are missing [`Apart::start`] says so and
//! there is nothing to be seen.

mod faults;
pub mod site;

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

use crate::api::Api;
use crate::cluster::{GREETING_HZ, MUSIC_HZ, node_number, spawn, wait_for_line};
use crate::poll::{eventually, within_time};
use crate::programs::ip;
use crate::{programs, tone};

/// All nodes serve within this time on a busy machine.
const START_MAX: Duration = Duration::from_secs(90);
/// What a node may take to end.
const STOP_MAX: Duration = Duration::from_secs(15);
/// Nodes, by number from 1, unless a test says otherwise.
const NODES: u8 = 3;
/// Where the phones are: at the first of these, or at others of them that a test cuts off from
/// some nodes.
const PHONES: RangeInclusive<u8> = 100..=119;
/// The network that holds the addresses of all phones and no node's: a source that is trusted.
const PHONES_NET: &str = "127.73.0.96/27";

/// What the names of all namespaces of such clusters begin with.
const PREFIX: &str = "strowger-apart-";

/// A running cluster.
pub struct Apart {
    folder: TempDir,
    name: String,
    nodes: Vec<Option<Child>>,
    /// The id of the node on each machine: at first the machine's number.
    ids: Vec<u64>,
    /// The folder of the programs on each machine.
    programs: Vec<PathBuf>,
    token: String,
}

/// The address of the phones.
pub fn phones() -> IpAddr {
    phones_at(0)
}

/// Another address of the phones, by number from 0 to 19.
pub fn phones_at(number: u8) -> IpAddr {
    let last = PHONES.start() + number;
    assert!(PHONES.contains(&last), "there are no phones at {last}");
    IpAddr::from([127, 73, 0, last])
}

/// The service address of a node, by number; it has no other.
pub fn service(number: u8) -> SocketAddr {
    SocketAddr::from(([127, 73, 0, number], 5060))
}

/// A service address that is no node's own; each node may hold any of them.
pub fn moving(number: u8) -> SocketAddr {
    SocketAddr::from(([127, 73, 0, 10 + number], 5060))
}

impl Apart {
    /// Starts the cluster with this site, after the calling thread has gone to a network of
    /// its own: its phones, and those of threads it starts, are at [`phones`]. `None`, with a
    /// word about it, where namespaces cannot be made.
    pub fn start(site: &str, passwords: &str) -> Option<Self> {
        Self::start_many(NODES, site, passwords)
    }

    /// The same with so many nodes.
    pub fn start_many(nodes: u8, site: &str, passwords: &str) -> Option<Self> {
        Self::start_programs(&programs::folder(), nodes, site, passwords)
    }

    /// The same with the daemon of this folder.
    pub fn start_programs(
        folder_of_programs: &Path,
        nodes: u8,
        site: &str,
        passwords: &str,
    ) -> Option<Self> {
        let name = cluster_name();
        if let Err(why) = make_network(&name, nodes) {
            println!("NOT SEEN: network namespaces cannot be made here ({why}); run it as root");
            return None;
        }
        let folder = tempfile::tempdir().expect("a temporary folder");
        tone::write_wav(&folder.path().join("hello.wav"), GREETING_HZ, 1);
        tone::write_wav(&folder.path().join("hold.wav"), MUSIC_HZ, 3);
        let file = folder.path().join("site.toml");
        std::fs::write(&file, site).expect("a temporary folder is writable");
        for number in 1..=nodes {
            write_node_file(&node_folder(folder.path(), number), number, number.into());
        }
        let mut cluster = Self {
            folder,
            name,
            nodes: (0..nodes).map(|_| None).collect(),
            ids: (1..=u64::from(nodes)).collect(),
            programs: vec![folder_of_programs.to_owned(); usize::from(nodes)],
            token: String::new(),
        };
        cluster.daemon(1, &["init", "--name", "apart"]);
        let token = cluster.node_folder(1).join("data/admin.token");
        let text = std::fs::read_to_string(token).expect("made with the cluster");
        std::fs::write(cluster.token_file(), &text).expect("a temporary folder is writable");
        text.trim().clone_into(&mut cluster.token);
        cluster.run(1);
        for number in 2..=nodes {
            cluster.take_in(number);
        }
        cluster.apply(&file);
        if !passwords.is_empty() {
            let list = cluster.folder.path().join("passwords.csv");
            std::fs::write(&list, passwords).expect("a temporary folder is writable");
            let list = list.to_str().expect("plain ASCII").to_owned();
            let (code, _, err) = cluster.command(&["extension", "import", &list]);
            assert_eq!(code, 0, "{err}");
        }
        cluster.wait_at_home();
        Some(cluster)
    }

    fn apply(&self, site: &Path) {
        let site = site.to_str().expect("plain ASCII");
        eventually(START_MAX, "the site is in force", || {
            let (code, _, err) = self.command(&["site", "apply", site]);
            if code != 0 {
                println!("site apply: {err}");
            }
            (code == 0).then_some(())
        });
    }

    /// Waits until every node that runs holds its own address, after all that had to be tried.
    pub fn wait_at_home(&self) {
        eventually(START_MAX, "each node holds its own address", || {
            let nodes = self.any_api().list("/v1/nodes")?;
            let mut at_home = self.running().map(|number| {
                let own = service(number).ip().to_string();
                nodes.iter().any(|node| {
                    node_number(&node["id"]) == Some(self.id(number))
                        && (node["state"] == "up" || node["state"] == "draining")
                        && (node["service_addresses"] == serde_json::json!([own])
                            || holds_one_that_moves(&node["service_addresses"]))
                })
            });
            at_home.all(|fits| fits).then_some(())
        });
    }

    /// The numbers of the nodes.
    pub fn numbers(&self) -> RangeInclusive<u8> {
        1..=u8::try_from(self.nodes.len()).expect("made with a small number of nodes")
    }

    /// The nodes whose process runs, or stands still.
    pub fn running(&self) -> impl Iterator<Item = u8> {
        let runs = |number: &u8| self.nodes[at(*number)].is_some();
        self.numbers().filter(runs)
    }

    /// The process of a node that runs.
    pub fn process(&self, number: u8) -> u32 {
        let child = self.nodes[at(number)].as_ref();
        // `ip netns exec` becomes the program it starts.
        child.expect("the node runs").id()
    }

    fn namespace(&self, number: u8) -> String {
        namespace(&self.name, number)
    }

    /// Waits until every node runs, is up, holds its own address, leads or follows with
    /// nothing left to apply, and serves.
    pub fn wait_caught_up(&self) {
        self.wait_at_home();
        for number in self.numbers() {
            let api = self.api(number);
            eventually(START_MAX, "every node has caught up", || {
                let ready = api.get("/health/ready").ok()?;
                (ready.status == 200).then_some(())
            });
        }
        // A node may hear late that it was thought dead.
        self.wait_at_home();
    }

    /// The id of the node on this machine.
    pub fn id(&self, number: u8) -> u64 {
        self.ids[at(number)]
    }

    /// The machine of the node with this id.
    pub fn machine(&self, id: u64) -> Option<u8> {
        self.numbers().find(|number| self.id(*number) == id)
    }

    /// A file of the cluster's folder, where the sounds are that sites name.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The administrator's token, where it outlives every node's data.
    fn token_file(&self) -> PathBuf {
        self.folder.path().join("admin.token")
    }

    fn node_folder(&self, number: u8) -> PathBuf {
        node_folder(self.folder.path(), number)
    }

    /// The daemon in a node's namespace.
    fn daemon_command(&self, number: u8, words: &[&str]) -> Command {
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", &self.namespace(number)])
            .arg(programs::path_in(&self.programs[at(number)], "strowgerd"))
            .args(words)
            .arg("--config")
            .arg(self.node_folder(number).join("node.toml"));
        command
    }

    fn daemon(&self, number: u8, words: &[&str]) {
        let (code, out, err) = programs::run(&mut self.daemon_command(number, words));
        assert_eq!(code, 0, "strowgerd {}: {out}{err}", words.join(" "));
    }

    /// How many sound files a node has.
    pub fn sounds(&self, number: u8) -> usize {
        let list = |folder: PathBuf| std::fs::read_dir(folder).into_iter().flatten().flatten();
        let blobs = list(self.node_folder(number).join("data/blobs"));
        blobs.flat_map(|folder| list(folder.path())).count()
    }

    /// From its next start on a node runs the daemon of this folder.
    pub fn install(&mut self, number: u8, folder: &Path) {
        folder.clone_into(&mut self.programs[at(number)]);
    }

    /// The daemon that a node runs now.
    pub fn program(&self, number: u8) -> PathBuf {
        let link = format!("/proc/{}/exe", self.process(number));
        std::fs::read_link(link).expect("a running process has a program")
    }

    /// Starts a node that is expected to end by itself; exit code (124 when it did not end in
    /// time), stdout, stderr.
    pub fn run_to_its_end(&self, number: u8) -> (i32, String, String) {
        let run = self.daemon_command(number, &["run"]);
        let mut command = Command::new("timeout");
        command.args(["--kill-after=5", "60"]);
        command.arg(run.get_program()).args(run.get_args());
        programs::run(&mut command)
    }

    /// Starts a node on its data and waits until it serves.
    pub fn run(&mut self, number: u8) {
        self.run_all(&[number]);
    }

    /// Starts nodes on their data and waits until each serves: one alone may have to wait for
    /// a majority.
    pub fn run_all(&mut self, numbers: &[u8]) {
        let mut started = Vec::new();
        for number in numbers {
            let (child, lines) = spawn(self.daemon_command(*number, &["run"]));
            self.nodes[at(*number)] = Some(child);
            started.push((number, lines));
        }
        for (number, lines) in started {
            wait_for_line(&lines, |line| {
                let ready = format!("ready node={}", self.id(*number));
                line.starts_with(&ready).then_some(())
            })
            .unwrap_or_else(|seen| panic!("node {number} was not ready; it said {seen:?}"));
        }
    }

    /// Removes a dead node from the cluster, and lets a new one join on its machine.
    pub fn replace(&mut self, number: u8) {
        let name = self.id(number).to_string();
        eventually(START_MAX, "the dead node is removed", || {
            let (code, _, err) = self.command(&["node", "remove", &name]);
            if code != 0 {
                println!("node remove: {}", err.trim());
            }
            (code == 0).then_some(())
        });
        let id = self.ids.iter().max().expect("there are nodes") + 1;
        self.ids[at(number)] = id;
        let folder = self.node_folder(number);
        write_node_file(&folder, number, id);
        let data = folder.join("data");
        std::fs::remove_dir_all(&data).expect("a dead node holds nothing open");
        self.take_in(number);
    }

    fn take_in(&mut self, number: u8) {
        let invitation = eventually(START_MAX, "an invitation", || {
            let (code, out, _) = self.command(&["node", "invite"]);
            (code == 0).then(|| out.trim().to_owned())
        });
        self.daemon(number, &["join", "--token", &invitation]);
        self.run(number);
    }

    /// Kills a node with SIGKILL; when that was.
    pub fn kill(&mut self, number: u8) -> Instant {
        let mut child = self.nodes[at(number)].take().expect("the node runs");
        // `setpriv` and `ip netns exec` become the program they start.
        kill(pid_of(&child), Signal::SIGKILL).expect("the node runs");
        let moment = Instant::now();
        child.wait().expect("our own child can be waited for");
        moment
    }

    /// Runs an operators' command; exit code, stdout, stderr.
    pub fn command(&self, arguments: &[&str]) -> (i32, String, String) {
        let urls: Vec<String> = self.numbers().map(url).collect();
        let mut command = programs::strowger();
        command
            .env("STROWGER_API", urls.join(","))
            .env("STROWGER_TOKEN_FILE", self.token_file());
        programs::run(command.args(arguments))
    }

    /// The addresses of a node's machine on its network.
    pub fn addresses(&self, number: u8) -> Vec<IpAddr> {
        let mut command = Command::new("ip");
        command.args([
            "-n",
            &self.namespace(number),
            "-j",
            "address",
            "show",
            "dev",
            "lan",
        ]);
        let (code, out, err) = programs::run(&mut command);
        assert_eq!(code, 0, "{err}");
        let links: Value = serde_json::from_str(&out).expect("ip prints JSON");
        let all = links[0]["addr_info"].as_array().into_iter().flatten();
        all.filter_map(|address| address["local"].as_str()?.parse().ok())
            .collect()
    }

    /// The interface of a node.
    pub fn api(&self, number: u8) -> Api {
        Api::new(&url(number), &self.token)
    }

    /// The interface of a node that runs.
    pub fn any_api(&self) -> Api {
        self.api(self.running().next().expect("a node runs"))
    }

    /// The node that leads.
    pub fn leader(&self) -> u8 {
        eventually(START_MAX, "there is a leader", || {
            let nodes = self.any_api().list("/v1/nodes")?;
            let leads = nodes.iter().find(|node| node["role"] == "leader")?;
            self.machine(node_number(&leads["id"])?)
        })
    }

    /// The events of a node's log, one JSON object for each line.
    pub fn log(&self, number: u8) -> Vec<Value> {
        let path = self.node_folder(number).join("log/strowgerd.log");
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let lines = text.lines();
        lines
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    /// Log events named `panic`, over all nodes.
    pub fn panics(&self) -> Vec<Value> {
        let all = self.numbers().flat_map(|number| self.log(number));
        all.filter(|event| event.to_string().contains("\"panic\""))
            .collect()
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        for child in self.nodes.iter_mut().flatten() {
            let _ = kill(pid_of(child), Signal::SIGTERM);
            // One that stands still does not hear it before.
            let _ = kill(pid_of(child), Signal::SIGCONT);
        }
        for child in self.nodes.iter_mut().flatten() {
            if within_time(STOP_MAX, || child.try_wait().ok().flatten()).is_none() {
                let _ = child.kill();
                let _ = child.wait();
            }
        }
        if std::thread::panicking() && std::env::var_os("STROWGER_KEEP").is_some() {
            self.folder.disable_cleanup(true);
            eprintln!("kept: {}", self.folder.path().display());
        }
        for number in self.numbers() {
            let _ = ip(&format!("netns delete {}", self.namespace(number)));
        }
    }
}

fn holds_one_that_moves(held: &Value) -> bool {
    let mut held = held.as_array().into_iter().flatten();
    held.any(|address| (1..=NODES).any(|n| *address == moving(n).ip().to_string().as_str()))
}

fn at(number: u8) -> usize {
    usize::from(number) - 1
}

fn url(number: u8) -> String {
    format!("http://{}:8080", service(number).ip())
}

/// A name no other cluster on this machine has, which tells whose it is.
fn cluster_name() -> String {
    static SERIAL: AtomicU32 = AtomicU32::new(0);
    let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
    format!("{PREFIX}{}-{serial}", std::process::id())
}

fn namespace(cluster: &str, number: u8) -> String {
    format!("{cluster}-{number}")
}

/// Deletes the namespaces of test programs that were killed.
fn clear_up() {
    let names = std::fs::read_dir("/run/netns").into_iter().flatten();
    let names = names
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok());
    for name in names {
        let owner = name
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split('-').next());
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            let _ = ip(&format!("netns delete {name}"));
        }
    }
}

fn node_folder(root: &Path, number: u8) -> PathBuf {
    root.join(format!("n{number}"))
}

fn pid_of(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).expect("a pid fits"))
}

/// A bridge in a network of this thread's own, and a namespace on it for each node.
fn make_network(cluster: &str, nodes: u8) -> Result<(), String> {
    clear_up();
    unshare(CloneFlags::CLONE_NEWNET).map_err(|error| error.to_string())?;
    go_local("")?;
    ip("link add bridge type bridge")?;
    for last in PHONES {
        ip(&format!("address add 127.73.0.{last}/24 dev bridge"))?;
    }
    ip("link set bridge up")?;
    for number in 1..=nodes {
        let name = namespace(cluster, number);
        ip(&format!("netns add {name}"))?;
        go_local(&name)?;
        let peer = format!("type veth peer name lan netns {name}");
        ip(&format!("link add n{number} {peer}"))?;
        ip(&format!("link set n{number} master bridge up"))?;
        let address = service(number).ip();
        ip(&format!("-n {name} address add {address}/24 dev lan"))?;
        ip(&format!("-n {name} link set lan up"))?;
    }
    Ok(())
}

/// Lets addresses of 127.0.0.0/8 be those of machines on a wire. The interface is plain HTTP
/// on such addresses only.
fn go_local(name: &str) -> Result<(), String> {
    let within = if name.is_empty() {
        String::new()
    } else {
        format!("-n {name} ")
    };
    ip(&format!("{within}link set lo up"))?;
    ip(&format!("{within}address delete 127.0.0.1/8 dev lo"))?;
    const SWITCH: &str = "/proc/sys/net/ipv4/conf/all/route_localnet";
    if name.is_empty() {
        return std::fs::write(SWITCH, "1").map_err(|error| format!("{SWITCH}: {error}"));
    }
    // The switches a program sees are those of the namespace it runs in.
    ip(&format!(
        "netns exec {name} sysctl -q -w net.ipv4.conf.all.route_localnet=1"
    ))
}

fn write_node_file(folder: &Path, number: u8, id: u64) {
    std::fs::create_dir_all(folder.join("log")).expect("a temporary folder is writable");
    let address = service(number).ip();
    let text = format!(
        "[node]\nid = {id}\ndata = \"data\"\n\n\
         [listen]\naddress = \"{address}\"\nsip_udp = 5060\nsip_tcp = 5060\nsip_tls = 5061\n\
         ws = 5080\nwss = 5443\napi = 8080\ncluster = 7400\nrtp = \"20000-29999\"\n\n\
         [limits]\nper_source_rps = 200\ntrusted_sources = [\"{PHONES_NET}\"]\n\n\
         [log]\nfile = \"log/strowgerd.log\"\nlevel = \"info\"\n"
    );
    std::fs::write(folder.join("node.toml"), text).expect("a temporary folder is writable");
}
