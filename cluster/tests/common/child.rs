//! A node in a process of its own: the test binary runs itself.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use strowger_cluster::{Cluster, ClusterConfig};

use super::Counter;

const DIR: &str = "STROWGER_TEST_DIR";
const ADDRESS: &str = "STROWGER_TEST_ADDRESS";

/// Body of the ignored test that is the child. Ends when it is killed.
pub fn body(tune: impl Fn(&mut ClusterConfig)) {
    let (Ok(dir), Ok(address)) = (std::env::var(DIR), std::env::var(ADDRESS)) else {
        return;
    };
    super::log();
    let mut config = ClusterConfig::new(
        PathBuf::from(dir),
        address.parse::<SocketAddr>().expect("address"),
    );
    tune(&mut config);
    let _cluster = Cluster::open(config, Counter::default()).expect("open");
    println!("child is up");
    loop {
        std::thread::park();
    }
}

/// Starts the test `name` of this binary as a node over `dir`.
pub fn spawn(name: &str, dir: &Path, address: SocketAddr, environment: &[(&str, &str)]) -> Child {
    let mut command = Command::new(std::env::current_exe().expect("this binary"));
    command.args([
        "--exact",
        name,
        "--ignored",
        "--nocapture",
        "--test-threads=1",
    ]);
    command
        .env(DIR, dir)
        .env(ADDRESS, address.to_string())
        .envs(environment.iter().copied());
    command.stdout(Stdio::piped()).spawn().expect("spawn")
}

/// Waits until the child says that it is up; false when it ended before.
pub fn is_up(child: &mut Child) -> bool {
    let out = child.stdout.take().expect("piped");
    let mut lines = BufReader::new(out).lines();
    let up = lines
        .by_ref()
        .map_while(Result::ok)
        .any(|line| line.contains("child is up"));
    // Keep reading, or the child stops when the pipe is full.
    std::thread::spawn(move || lines.for_each(drop));
    up
}
