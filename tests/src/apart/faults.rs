//! What befalls the machines of such a cluster, and how it is mended again.
//!
//! Links are cut where a machine is plugged in, or lost silently in one direction between two
//! of them: a neighbour entry that names nobody's card swallows what is sent there, and
//! nobody is told. A machine falls silent when its only process stands still; its kernel goes
//! on taking what is sent to it, as that of a starved or suspended machine would.

use std::fs::File;
use std::net::IpAddr;

use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};

use super::{Apart, at, pid_of, service};
use crate::programs::{ip, run};

/// The address of a card nobody has (locally administered).
const NOBODY: &str = "02:00:00:00:00:ff";
/// The port of the death watch.
const CLUSTER_PORT: u16 = 7_400;

impl Apart {
    /// Unplugs a node: nobody reaches it, its phones neither.
    pub fn cut(&self, number: u8) {
        ip(&format!("link set n{number} down")).expect("the link is there");
    }

    /// Plugs it in again.
    pub fn mend(&self, number: u8) {
        ip(&format!("link set n{number} up")).expect("the link is there");
    }

    /// From now on nothing that `from` sends to `address` arrives, and nobody is told.
    pub fn lose(&self, from: u8, address: IpAddr) {
        let name = self.namespace(from);
        let entry = format!("{address} lladdr {NOBODY} dev lan nud permanent");
        ip(&format!("-n {name} neigh replace {entry}")).expect("the namespace is there");
    }

    /// Ends [`Apart::lose`]; does nothing where nothing is lost.
    pub fn carry(&self, from: u8, address: IpAddr) {
        let name = self.namespace(from);
        let _ = ip(&format!("-n {name} neigh delete {address} dev lan"));
    }

    /// Two nodes lose all they send each other. Phones reach both.
    pub fn separate(&self, one: u8, other: u8) {
        self.lose(one, service(other).ip());
        self.lose(other, service(one).ip());
    }

    /// Ends [`Apart::separate`].
    pub fn join(&self, one: u8, other: u8) {
        self.carry(one, service(other).ip());
        self.carry(other, service(one).ip());
    }

    /// Separates a node from all others.
    pub fn isolate(&self, number: u8) {
        let others = self.numbers().filter(|other| *other != number);
        others.for_each(|other| self.separate(number, other));
    }

    /// Joins a node to all others.
    pub fn rejoin(&self, number: u8) {
        let others = self.numbers().filter(|other| *other != number);
        others.for_each(|other| self.join(number, other));
    }

    /// A node's process stands still.
    pub fn freeze(&self, number: u8) {
        self.signal(number, Signal::SIGSTOP);
    }

    /// And goes on.
    pub fn thaw(&self, number: u8) {
        self.signal(number, Signal::SIGCONT);
    }

    fn signal(&self, number: u8, signal: Signal) {
        let child = self.nodes[at(number)].as_ref().expect("the node runs");
        kill(pid_of(child), signal).expect("the node runs");
    }

    /// Resets all TCP connections of a living node's death watch, those it watches with and
    /// those it is watched by; how many.
    pub fn reset_connections(&self, number: u8) -> usize {
        let port = CLUSTER_PORT;
        let mut command = std::process::Command::new("ip");
        command
            .args(["netns", "exec", &self.namespace(number)])
            .args(["ss", "-t", "-n", "-K", "-H", "state", "established"])
            .arg(format!("( sport = :{port} or dport = :{port} )"));
        let (code, out, err) = run(&mut command);
        assert_eq!(code, 0, "ss: {err}");
        out.lines().count()
    }

    /// Does something on a node's machine, as its operator would where no other way leads
    /// there.
    pub fn on_machine<T: Send>(&self, number: u8, act: impl FnOnce() -> T + Send) -> T {
        let path = format!("/run/netns/{}", self.namespace(number));
        let there = File::open(path).expect("the namespace is there");
        std::thread::scope(|scope| {
            let done = scope.spawn(|| {
                setns(&there, CloneFlags::CLONE_NEWNET).expect("the test made it");
                act()
            });
            done.join()
                .expect("what is done there says itself what went wrong")
        })
    }

    /// Ends a node with SIGTERM and waits until it is gone.
    pub fn end(&mut self, number: u8) {
        self.signal(number, Signal::SIGTERM);
        let mut child = self.nodes[at(number)].take().expect("the node runs");
        child.wait().expect("our own child can be waited for");
    }
}
