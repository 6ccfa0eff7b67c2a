//! `strowger doctor`: checks a running cluster through its API, without changing it.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use strowger_core::api::{Cluster, Figures, Node, Overview};

use super::Session;
use crate::error::{Exit, Failure};
use crate::render::{self, Output, shape};
use crate::{limits, text};

/// One check.
struct Check {
    name: &'static str,
    wrong: bool,
    detail: String,
}

/// Makes every check; exit code 1 when one fails.
pub fn run(session: &Session) -> Result<Exit, Failure> {
    let cluster: Cluster = session.client.get("/v1/cluster")?;
    let mut nodes: Vec<Node> = session.client.get("/v1/nodes")?;
    let figures: Vec<Figures> = session.client.get("/v1/figures")?;
    let overview: Overview = session.client.get("/v1/overview")?;
    let mut checks = vec![
        urls_answer(session),
        nodes_answer(&nodes),
        one_leader(&nodes),
        lag_is_small(&nodes),
        one_version(&nodes),
        addresses_are_held(&cluster, &nodes),
        figures_add_up(&figures),
        invariants_hold(&overview),
    ];
    for _ in 1..limits::HASH_ROUNDS {
        if applied_differs(&nodes) {
            std::thread::sleep(limits::HASH_PAUSE);
            nodes = session.client.get("/v1/nodes")?;
        }
    }
    checks.push(states_are_equal(&nodes));
    checks.push(no_alarms(&overview));
    report(session, &checks)
}

fn report(session: &Session, checks: &[Check]) -> Result<Exit, Failure> {
    let rows: Vec<Value> = checks
        .iter()
        .map(|check| {
            let result = if check.wrong { "wrong" } else { "fine" };
            json!({ "check": check.name, "result": result, "detail": check.detail })
        })
        .collect();
    let text = match session.output {
        Output::Json => render::json(&Value::Array(rows)),
        output @ (Output::Table | Output::Csv) => render::list(output, &shape::CHECK, &rows),
    };
    session.print(&text)?;
    match checks.iter().filter(|check| check.wrong).count() {
        0 => Ok(Exit::Done),
        wrong => Err(Failure::Unwell {
            wrong,
            checks: checks.len(),
        }),
    }
}

/// A check that is wrong when anything is listed.
fn check(name: &'static str, wrong: &[String], fine: String) -> Check {
    let detail = if wrong.is_empty() {
        fine
    } else {
        wrong.join(", ")
    };
    Check {
        name,
        wrong: !wrong.is_empty(),
        detail: text::clean(&detail).into_owned(),
    }
}

fn urls_answer(session: &Session) -> Check {
    let endpoints = &session.client.access().endpoints;
    let silent: Vec<String> = endpoints
        .iter()
        .enumerate()
        .filter_map(|(index, _)| {
            session
                .client
                .get_from::<Cluster>(index, "/v1/cluster")
                .err()
        })
        .map(|failure| failure.to_string())
        .collect();
    check(
        "URLs given answer",
        &silent,
        format!("{} of {0}", endpoints.len()),
    )
}

fn nodes_answer(nodes: &[Node]) -> Check {
    let wrong: Vec<String> = nodes
        .iter()
        .filter(|node| !matches!(node.state.as_str(), "up" | "draining") || node.applied.is_none())
        .map(|node| format!("{} is {}", node.id, node.state))
        .collect();
    check(
        "nodes are up and answer",
        &wrong,
        format!("{} of {0}", nodes.len()),
    )
}

fn one_leader(nodes: &[Node]) -> Check {
    let leaders: Vec<&str> = nodes
        .iter()
        .filter(|node| node.role == "leader")
        .map(|node| node.id.as_str())
        .collect();
    let wrong = match leaders.len() {
        1 => Vec::new(),
        0 => vec!["no leader".to_owned()],
        _ => vec![leaders.join(" and ")],
    };
    check("one leader", &wrong, leaders.join(""))
}

fn lag_is_small(nodes: &[Node]) -> Check {
    let wrong: Vec<String> = nodes
        .iter()
        .filter_map(|node| {
            node.lag
                .filter(|lag| *lag > limits::LAG_MAX)
                .map(|lag| (node, lag))
        })
        .map(|(node, lag)| format!("{} is {lag} entries behind", node.id))
        .collect();
    let most = nodes.iter().filter_map(|node| node.lag).max().unwrap_or(0);
    check(
        "nodes keep up",
        &wrong,
        format!("at most {most} entries behind"),
    )
}

fn one_version(nodes: &[Node]) -> Check {
    let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for node in nodes {
        if let Some(version) = &node.version {
            versions.entry(version).or_default().push(&node.id);
        }
    }
    let each: Vec<String> = versions
        .iter()
        .map(|(version, ids)| format!("{version} on {}", ids.join(" ")))
        .collect();
    let wrong = if each.len() > 1 {
        each.clone()
    } else {
        Vec::new()
    };
    check("one program version", &wrong, each.join(""))
}

fn addresses_are_held(cluster: &Cluster, nodes: &[Node]) -> Check {
    let up = |id: &str| {
        nodes
            .iter()
            .any(|node| node.id == id && node.state != "down")
    };
    let wrong: Vec<String> = cluster
        .service_addresses
        .iter()
        .filter_map(|address| match &address.node {
            None => Some(format!("{} is held by nobody", address.address)),
            Some(node) if !up(node) => Some(format!("{} is held by {node}", address.address)),
            Some(_) => None,
        })
        .collect();
    check(
        "service addresses are held",
        &wrong,
        format!("{} of {0}", cluster.service_addresses.len()),
    )
}

fn figures_add_up(figures: &[Figures]) -> Check {
    let wrong: Vec<String> = figures
        .iter()
        .filter_map(|f| {
            let sum = [
                f.answered,
                f.abandoned,
                f.overflowed,
                f.callback_taken,
                f.node_lost,
                f.waiting,
            ]
            .iter()
            .fold(0_u64, |sum, part| sum.saturating_add(*part));
            (f.offered != sum)
                .then(|| format!("{} {}: offered {}, sum {sum}", f.tenant, f.name, f.offered))
        })
        .collect();
    check(
        "offered is the sum of its parts",
        &wrong,
        format!("{} queues", figures.len()),
    )
}

/// Each node checks its state every second; what the answering one found is an alarm.
fn invariants_hold(overview: &Overview) -> Check {
    let alarms = overview.alarms.iter();
    let wrong: Vec<String> = alarms
        .filter(|alarm| alarm.code == "SW0406")
        .map(|alarm| alarm.what.clone())
        .collect();
    check("invariants hold", &wrong, "checked every second".to_owned())
}

fn applied_differs(nodes: &[Node]) -> bool {
    let mut applied: Vec<u64> = nodes.iter().filter_map(|node| node.applied).collect();
    applied.dedup();
    applied.len() > 1
}

/// Hashes compare only between nodes that stand at the same entry.
fn states_are_equal(nodes: &[Node]) -> Check {
    let mut hashes: BTreeMap<u64, BTreeMap<&str, Vec<&str>>> = BTreeMap::new();
    for node in nodes {
        if let (Some(applied), Some(hash)) = (node.applied, &node.state_hash) {
            hashes
                .entry(applied)
                .or_default()
                .entry(hash)
                .or_default()
                .push(&node.id);
        }
    }
    let wrong: Vec<String> = hashes
        .iter()
        .filter(|(_, at)| at.len() > 1)
        .map(|(applied, at)| {
            let sides: Vec<String> = at.values().map(|ids| ids.join(" ")).collect();
            format!("at entry {applied}: {}", sides.join(" differs from "))
        })
        .collect();
    let most = hashes
        .values()
        .flat_map(BTreeMap::values)
        .map(Vec::len)
        .max()
        .unwrap_or(0);
    check("states are equal", &wrong, format!("{most} nodes compared"))
}

fn no_alarms(overview: &Overview) -> Check {
    let alarms: Vec<String> = overview
        .alarms
        .iter()
        .map(|alarm| format!("{} {}", alarm.code, alarm.what))
        .collect();
    check("no alarms", &alarms, "none".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: &str, applied: u64, hash: &str) -> Node {
        Node {
            id: id.to_owned(),
            address: "127.0.0.1".to_owned(),
            state: "up".to_owned(),
            role: "voter".to_owned(),
            term: Some(1),
            applied: Some(applied),
            lag: Some(0),
            calls: 0,
            version: Some("0.1.0".to_owned()),
            state_hash: Some(hash.to_owned()),
            service_addresses: Vec::new(),
        }
    }

    #[test]
    fn hashes_differ_only_at_the_same_entry() {
        let equal = [
            node("node_1", 7, "aa"),
            node("node_2", 7, "aa"),
            node("node_3", 8, "bb"),
        ];
        assert!(!states_are_equal(&equal).wrong);
        assert!(applied_differs(&equal));
        let split = [node("node_1", 7, "aa"), node("node_2", 7, "ab")];
        let found = states_are_equal(&split);
        assert!(found.wrong);
        assert_eq!(found.detail, "at entry 7: node_1 differs from node_2");
    }

    #[test]
    fn each_check_finds_its_fault() {
        let mut down = node("node_2", 1, "aa");
        down.state = "down".to_owned();
        down.lag = Some(limits::LAG_MAX + 1);
        down.version = Some("0.2.0".to_owned());
        let nodes = [node("node_1", 1, "aa"), down];
        assert!(nodes_answer(&nodes).wrong);
        assert!(one_leader(&nodes).wrong);
        assert!(lag_is_small(&nodes).wrong);
        assert!(one_version(&nodes).wrong);
        let mut figures = Figures {
            offered: 5,
            answered: 3,
            abandoned: 1,
            waiting: 1,
            ..Figures::default()
        };
        assert!(!figures_add_up(&[figures.clone()]).wrong);
        figures.node_lost = 1;
        assert!(figures_add_up(&[figures]).wrong);
    }
}
