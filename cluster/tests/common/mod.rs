//! A toy machine and helpers that start nodes on loopback addresses of their own.

#![allow(dead_code, reason = "each test uses what it needs")]

pub mod child;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use strowger_cluster::{Cluster, ClusterConfig, OpenError, Role, identity};
use strowger_core::ports::{Machine, Meta, Outcome, Proposal, Proposer, Rows, RowsRead, Table};

/// Counts commands per key and keeps the last reply of each proposer, as the real
/// machine does. A command is `key` or `key=value`; the reply is the count and index.
#[derive(Default)]
pub struct Counter {
    total: u64,
    /// The feature level its program reads; 0 reads every.
    pub reads: u32,
    level: u32,
}

impl Counter {
    /// One of a program that reads this feature level, which `level=N` puts in force.
    pub fn reading(reads: u32) -> Self {
        Self {
            reads,
            ..Self::default()
        }
    }
}

fn raised_to(command: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(command).ok()?;
    text.strip_prefix("level=")?.parse().ok()
}

const TOTAL: &[u8] = b"total";
const LEVEL: &[u8] = b"level";

impl Machine for Counter {
    fn beyond(&self, batch: &[Proposal]) -> Option<u32> {
        let raised = batch.iter().filter_map(|one| raised_to(&one.command));
        let level = raised.chain([self.level]).max();
        level.filter(|level| self.reads > 0 && *level > self.reads)
    }

    fn apply(&mut self, rows: &mut dyn Rows, meta: Meta, batch: &[Proposal]) -> Vec<Vec<u8>> {
        batch
            .iter()
            .map(|proposal| self.one(rows, meta, proposal))
            .collect()
    }

    fn restore(&mut self, rows: &dyn RowsRead) {
        let total = rows.get(Table::Meta, TOTAL).unwrap_or_default();
        self.total = String::from_utf8_lossy(&total).parse().unwrap_or(0);
        let level = rows.get(Table::Meta, LEVEL).unwrap_or_default();
        self.level = String::from_utf8_lossy(&level).parse().unwrap_or(0);
    }

    fn published(&mut self, _: u64) {}

    fn state_hash(&self) -> [u8; 16] {
        let mut hash = [0; 16];
        hash[..8].copy_from_slice(&self.total.to_be_bytes());
        hash
    }
}

impl Counter {
    fn one(&mut self, rows: &mut dyn Rows, meta: Meta, proposal: &Proposal) -> Vec<u8> {
        let id = format!(
            "{}/{}/{}",
            proposal.request.node, proposal.request.incarnation, proposal.request.sequence
        );
        if let Some(reply) = rows.get(Table::Reply, id.as_bytes()) {
            return reply;
        }
        let text = String::from_utf8_lossy(&proposal.command).into_owned();
        let (key, value) = text.split_once('=').unwrap_or((&text, ""));
        rows.put(Table::Call, key.as_bytes(), value.as_bytes().to_vec());
        rows.put(Table::Cdr, key.as_bytes(), value.as_bytes().to_vec());
        self.total += 1;
        if let Some(level) = raised_to(&proposal.command) {
            self.level = level;
            rows.put(Table::Meta, LEVEL, level.to_string().into_bytes());
        }
        rows.put(Table::Meta, TOTAL, self.total.to_string().into_bytes());
        let reply = format!("{}@{}", self.total, meta.index).into_bytes();
        rows.put(Table::Reply, id.as_bytes(), reply.clone());
        reply
    }
}

/// A free address for both UDP and TCP, at a loopback address of its own: while the node is
/// closed, nobody else's socket gets its port.
pub fn free_address() -> SocketAddr {
    static NODES: AtomicU32 = AtomicU32::new(1);
    loop {
        let node = NODES.fetch_add(1, Ordering::Relaxed) % 250;
        let process = std::process::id() % (100 * 250);
        let part = |number: u32| u8::try_from(number).expect("below 256");
        let own = [
            127,
            part(100 + process / 250),
            part(process % 250),
            part(node),
        ];
        let tcp = TcpListener::bind((Ipv4Addr::from(own), 0)).expect("bind tcp");
        let address = tcp.local_addr().expect("address");
        if UdpSocket::bind(address).is_ok() {
            return address;
        }
    }
}

pub fn config(dir: &Path, address: SocketAddr) -> ClusterConfig {
    ClusterConfig::new(dir, address)
}

pub fn log() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| "strowger_cluster=info,openraft=error".into());
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_test_writer()
        .try_init();
}

/// A node of a test with its directory.
pub struct Node {
    pub dir: tempfile::TempDir,
    pub address: SocketAddr,
    pub cluster: Option<Cluster>,
}

impl Node {
    pub fn cluster(&self) -> &Cluster {
        self.cluster.as_ref().expect("the node is open")
    }

    pub fn open(&mut self, tune: impl Fn(&mut ClusterConfig)) {
        self.try_open(tune, Counter::default()).expect("open");
    }

    pub fn try_open(
        &mut self,
        tune: impl Fn(&mut ClusterConfig),
        machine: Counter,
    ) -> Result<(), OpenError> {
        let mut config = config(self.dir.path(), self.address);
        tune(&mut config);
        self.cluster = Some(Cluster::open(config, machine)?);
        Ok(())
    }

    pub fn close(&mut self) {
        if let Some(cluster) = self.cluster.take() {
            cluster.close();
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.close();
    }
}

pub fn founder(tune: impl Fn(&mut ClusterConfig)) -> Node {
    log();
    let dir = tempfile::tempdir().expect("directory");
    let address = free_address();
    identity::init(dir.path(), "lab", 1, address).expect("init");
    let mut node = Node {
        dir,
        address,
        cluster: None,
    };
    node.open(tune);
    node
}

pub fn joiner(member: &Cluster) -> Node {
    let dir = tempfile::tempdir().expect("directory");
    let address = free_address();
    let token = block(member.invite(None, Duration::from_secs(60))).expect("invite");
    identity::join(dir.path(), &token.to_string(), address).expect("join");
    Node {
        dir,
        address,
        cluster: None,
    }
}

/// `count` nodes, all voters.
pub fn cluster_of(count: usize, tune: impl Fn(&mut ClusterConfig)) -> Vec<Node> {
    let mut nodes = vec![founder(&tune)];
    for _ in 1..count {
        let mut node = joiner(nodes[0].cluster());
        node.open(&tune);
        nodes.push(node);
    }
    wait("all nodes vote", || {
        nodes.iter().all(|node| voters(node.cluster()) == count)
    });
    nodes
}

pub fn voters(cluster: &Cluster) -> usize {
    cluster
        .members()
        .iter()
        .filter(|member| member.role == Role::Voter)
        .count()
}

pub fn wait(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < until, "did not happen in time: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub fn block<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("runtime");
    runtime.block_on(future)
}

/// Proposes and expects a commit; returns the reply.
pub fn write(cluster: &Cluster, command: &str) -> String {
    let outcome = block(cluster.propose(command.as_bytes().to_vec(), Duration::from_secs(10)));
    match outcome {
        Outcome::Committed(reply) => String::from_utf8(reply).expect("text"),
        other => panic!("{command} was not committed: {other:?}"),
    }
}

/// All rows of the floor and of history.
pub fn rows(cluster: &Cluster) -> BTreeMap<String, String> {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    let rows = cluster.rows();
    let mut floor = rows.scan(Table::Call, b"", None, usize::MAX);
    // Two scans may see two moments; once nothing is under way they must agree.
    wait("floor and history agree", || {
        let history = rows.scan(Table::Cdr, b"", None, usize::MAX);
        let agree = floor == history;
        floor = rows.scan(Table::Call, b"", None, usize::MAX);
        agree && floor == history
    });
    floor
        .into_iter()
        .map(|(key, value)| (text(key), text(value)))
        .collect()
}

pub fn leader_of(nodes: &[Node]) -> usize {
    let mut found = None;
    wait("a leader everybody knows", || {
        let leaders: Vec<_> = nodes
            .iter()
            .filter_map(|node| node.cluster.as_ref())
            .map(|cluster| cluster.leader())
            .collect();
        found = leaders.first().copied().flatten();
        found.is_some() && leaders.iter().all(|leader| *leader == found)
    });
    let leader = found.expect("waited for it");
    nodes
        .iter()
        .position(|node| {
            node.cluster
                .as_ref()
                .is_some_and(|cluster| cluster.node() == leader)
        })
        .expect("the leader is one of them")
}
