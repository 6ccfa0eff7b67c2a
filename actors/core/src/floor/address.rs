//! Nodes and service addresses: who is up, who holds what, at which epoch.
//!
//! Invariant: an address has at most one holder, the holder is up and may hold it, and
//! the epoch rises whenever the holder changes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::ids::NodeId;
use crate::time::TimeMs;

/// A node as the log knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRow {
    /// Its number.
    pub id: NodeId,
    /// Its present or last life.
    pub incarnation: u64,
    /// Address of its API and cluster ports.
    pub address: IpAddr,
    /// Version of its program.
    pub version: String,
    /// The feature level its program reads.
    pub level: u32,
    /// True from `NodeUp` to `NodeDown`.
    pub up: bool,
    /// True while it takes no new addresses and gives its own away.
    pub draining: bool,
    /// When `up` last changed.
    pub since: TimeMs,
    /// Log index at which its copy of the state was found wrong. It stays so until the
    /// node has been removed.
    pub diverged: Option<u64>,
}

/// A service address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressRow {
    /// The IP address.
    pub address: IpAddr,
    /// Its holder; `None` while no node is up that may hold it.
    pub holder: Option<NodeId>,
    /// Rises when the holder changes.
    pub epoch: u32,
    /// Place in the site file; spreads the addresses evenly at the start.
    pub place: u32,
    /// Nodes on whose machine it was found not to be. They are not given it again before
    /// their next life.
    pub barred: BTreeSet<NodeId>,
}

/// Decides who holds the address of this row next: the eligible node that holds fewest, and
/// among equals the one that comes first after its place counted round the nodes.
pub fn next_holder(
    nodes: &BTreeMap<NodeId, NodeRow>,
    addresses: &BTreeMap<IpAddr, AddressRow>,
    row: &AddressRow,
) -> Option<NodeId> {
    let may = |node: &&NodeRow| node.up && !row.barred.contains(&node.id);
    let eligible: Vec<NodeId> = nodes
        .values()
        .filter(|node| may(node) && !node.draining)
        .map(|node| node.id)
        .collect();
    // With every node draining, those that are up still serve.
    let eligible = if eligible.is_empty() {
        nodes.values().filter(may).map(|node| node.id).collect()
    } else {
        eligible
    };
    let count = u32::try_from(eligible.len())
        .ok()
        .filter(|count| *count > 0)?;
    let start = usize::try_from(row.place % count).unwrap_or(0);
    let rotated = eligible.iter().cycle().skip(start).take(eligible.len());
    rotated
        .copied()
        .min_by_key(|node| held(addresses, *node).count())
}

fn held(
    addresses: &BTreeMap<IpAddr, AddressRow>,
    node: NodeId,
) -> impl Iterator<Item = &AddressRow> {
    let rows = addresses.values();
    rows.filter(move |row| row.holder == Some(node))
}

/// The node with most and the node with fewest addresses among those that may hold
/// any, when moving one from the first to the second is possible and would even them out.
pub fn imbalance(
    nodes: &BTreeMap<NodeId, NodeRow>,
    addresses: &BTreeMap<IpAddr, AddressRow>,
) -> Option<(NodeId, NodeId)> {
    let count = |node: NodeId| held(addresses, node).count();
    let takes = |from: NodeId, to: NodeId| {
        let mut rows = held(addresses, from);
        rows.any(|row| !row.barred.contains(&to))
    };
    let open = || {
        let open = nodes.values().filter(|node| node.up && !node.draining);
        open.map(|node| node.id)
    };
    let leaving = nodes.values().filter(|node| node.up && node.draining);
    for from in leaving.map(|node| node.id) {
        let takers = open().filter(|to| takes(from, *to));
        if let Some(to) = takers.min_by_key(|to| count(*to)) {
            return Some((from, to));
        }
    }
    let pairs = open().flat_map(|to| open().map(move |from| (from, to)));
    let uneven = pairs.filter(|(from, to)| count(*from) > count(*to) + 1 && takes(*from, *to));
    // Of equals the last with most and the first with fewest.
    uneven.max_by_key(|(from, to)| {
        (
            count(*from),
            std::cmp::Reverse(count(*to)),
            *from,
            std::cmp::Reverse(*to),
        )
    })
}
