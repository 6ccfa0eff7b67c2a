//! What befalls the nodes.

use std::fmt;
use std::time::Duration;

use serde_json::Value;
use strowger_tests::apart::{Apart, service};
use strowger_tests::cluster::node_number;
use strowger_tests::dice::Dice;
use strowger_tests::poll::eventually;

use super::PATIENCE;
use super::load::Load;

/// Kinds of faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    Kill,
    Restart,
    Silence,
    Split,
    CutLink,
    OneWay,
    Flapping,
    Resets,
    Drain,
    Membership,
    MajorityLost,
}

impl Class {
    const ALL: [Self; 11] = [
        Self::Kill,
        Self::Restart,
        Self::Silence,
        Self::Split,
        Self::CutLink,
        Self::OneWay,
        Self::Flapping,
        Self::Resets,
        Self::Drain,
        Self::Membership,
        Self::MajorityLost,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill -9",
            Self::Restart => "restart",
            Self::Silence => "silent host",
            Self::Split => "split",
            Self::CutLink => "cut link",
            Self::OneWay => "one-way cut",
            Self::Flapping => "flapping link",
            Self::Resets => "injected resets",
            Self::Drain => "drain",
            Self::Membership => "removed, joined",
            Self::MajorityLost => "majority lost",
        }
    }
}

/// One fault, drawn beforehand: what the cluster does has no say in it.
pub struct Fault {
    class: Class,
    /// The nodes that suffer: a minority, but where the majority is lost.
    nodes: Vec<u8>,
    /// For how long.
    lasts: Duration,
    /// The other end, for what happens between two.
    other: u8,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nodes: Vec<String> = self.nodes.iter().map(u8::to_string).collect();
        let (name, nodes) = (self.class.name(), nodes.join(" and "));
        let ms = self.lasts.as_millis();
        match self.class {
            Class::OneWay => write!(f, "{name}, {nodes} to {}, {ms} ms", self.other),
            _ => write!(f, "{name}, node {nodes}, {ms} ms"),
        }
    }
}

impl Fault {
    pub fn draw(nodes: u8, dice: &mut Dice) -> Self {
        let class = *dice.pick(&Class::ALL);
        let minority = u64::from((nodes - 1) / 2);
        let count = match class {
            Class::MajorityLost => minority + 1,
            Class::OneWay | Class::Membership | Class::Drain => 1,
            _ => dice.between(1, minority),
        };
        let mut left: Vec<u8> = (1..=nodes).collect();
        let mut draw = || {
            let one = *dice.pick(&left);
            left.retain(|other| *other != one);
            one
        };
        let nodes: Vec<u8> = (0..count).map(|_| draw()).collect();
        let other = draw();
        let ms = match class {
            Class::Silence => dice.between(200, 6_000),
            Class::Kill | Class::Membership => dice.between(200, 4_000),
            Class::MajorityLost => dice.between(1_000, 4_000),
            _ => dice.between(300, 5_000),
        };
        Self {
            class,
            nodes,
            lasts: Duration::from_millis(ms),
            other,
        }
    }

    pub fn class(&self) -> Class {
        self.class
    }

    /// Lets it happen and pass; the load does what it does meanwhile.
    pub fn befall(&self, cluster: &mut Apart, load: &mut Load) {
        let nodes = self.nodes.as_slice();
        match self.class {
            Class::Kill | Class::MajorityLost => {
                for node in nodes {
                    cluster.kill(*node);
                }
                load.goes_on(self.lasts);
                cluster.run_all(nodes);
            }
            Class::Restart => {
                nodes.iter().for_each(|node| cluster.end(*node));
                load.goes_on(self.lasts);
                cluster.run_all(nodes);
            }
            Class::Silence => {
                nodes.iter().for_each(|node| cluster.freeze(*node));
                load.goes_on(self.lasts);
                nodes.iter().for_each(|node| cluster.thaw(*node));
            }
            Class::Split => {
                self.split(cluster, true);
                load.goes_on(self.lasts);
                self.split(cluster, false);
            }
            Class::CutLink => {
                nodes.iter().for_each(|node| cluster.cut(*node));
                load.goes_on(self.lasts);
                nodes.iter().for_each(|node| cluster.mend(*node));
            }
            Class::OneWay => {
                cluster.lose(nodes[0], service(self.other).ip());
                load.goes_on(self.lasts);
                cluster.carry(nodes[0], service(self.other).ip());
            }
            Class::Flapping => {
                let turn = Duration::from_millis(250);
                for _ in 0..self.lasts.as_millis() / (2 * turn.as_millis()) + 1 {
                    self.split(cluster, true);
                    load.goes_on(turn);
                    self.split(cluster, false);
                    load.goes_on(turn);
                }
            }
            Class::Resets => {
                for _ in 0..5 {
                    for node in nodes {
                        cluster.reset_connections(*node);
                    }
                    load.goes_on(self.lasts / 10);
                }
            }
            Class::Drain => drain(cluster, nodes[0], load),
            Class::Membership => {
                cluster.kill(nodes[0]);
                load.goes_on(self.lasts);
                cluster.replace(nodes[0]);
            }
        }
    }

    /// The nodes of the fault on one side, all others on the other.
    fn split(&self, cluster: &Apart, apart: bool) {
        let others = cluster
            .numbers()
            .filter(|number| !self.nodes.contains(number));
        for other in others {
            for node in &self.nodes {
                match apart {
                    true => cluster.separate(*node, other),
                    false => cluster.join(*node, other),
                }
            }
        }
    }
}

fn drain(cluster: &Apart, node: u8, load: &mut Load) {
    let name = cluster.id(node).to_string();
    let command = |words: &[&str]| {
        eventually(PATIENCE, "the node is drained, or is not any more", || {
            let (code, _, err) = cluster.command(&[&["node"], words].concat());
            // Who calls and hangs up meanwhile is waited for below.
            (code == 0 || err.contains("SW0913")).then_some(())
        });
    };
    command(&["drain", &name, "--within-s", "0"]);
    eventually(
        PATIENCE,
        "calls that talk have left the drained node",
        || {
            load.goes_on(Duration::from_millis(200));
            let calls = cluster.any_api().list("/v1/calls")?;
            let stays = |call: &Value| {
                // Callers of the queue come anew all the time.
                node_number(&call["node"]) == Some(cluster.id(node)) && call["to"] != "5008"
            };
            (!calls.iter().any(stays)).then_some(())
        },
    );
    command(&["undrain", &name]);
}
