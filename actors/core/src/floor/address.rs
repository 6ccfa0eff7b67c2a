//! Nodes and service addresses: who is up, who holds what, at which epoch.
//!
//! Invariant: an address has at most one holder, the holder is up, and the epoch
//! rises whenever the holder changes.

use std::collections::BTreeMap;
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
    /// Its holder; `None` while no node is up.
    pub holder: Option<NodeId>,
    /// Rises when the holder changes.
    pub epoch: u32,
    /// Place in the site file; spreads the addresses evenly at the start.
    pub place: u32,
}

/// Decides who holds `address` next: the eligible node that holds fewest, and among
/// equals the one that comes first after `place` counted round the nodes.
pub fn next_holder(
    nodes: &BTreeMap<NodeId, NodeRow>,
    addresses: &BTreeMap<IpAddr, AddressRow>,
    place: u32,
) -> Option<NodeId> {
    let eligible: Vec<NodeId> = nodes
        .values()
        .filter(|node| node.up && !node.draining)
        .map(|node| node.id)
        .collect();
    // With every node draining, those that are up still serve.
    let eligible = if eligible.is_empty() {
        nodes
            .values()
            .filter(|node| node.up)
            .map(|node| node.id)
            .collect()
    } else {
        eligible
    };
    let count = u32::try_from(eligible.len())
        .ok()
        .filter(|count| *count > 0)?;
    let start = usize::try_from(place % count).unwrap_or(0);
    let rotated = eligible.iter().cycle().skip(start).take(eligible.len());
    rotated.copied().min_by_key(|node| {
        addresses
            .values()
            .filter(|address| address.holder == Some(*node))
            .count()
    })
}

/// The node with most and the node with fewest addresses among those that may hold
/// any, when moving one from the first to the second would even them out.
pub fn imbalance(
    nodes: &BTreeMap<NodeId, NodeRow>,
    addresses: &BTreeMap<IpAddr, AddressRow>,
) -> Option<(NodeId, NodeId)> {
    let held = |node: NodeId| {
        addresses
            .values()
            .filter(|address| address.holder == Some(node))
            .count()
    };
    let open = || {
        nodes
            .values()
            .filter(|node| node.up && !node.draining)
            .map(|node| node.id)
    };
    let fewest = open().min_by_key(|node| held(*node))?;
    let leaving = nodes
        .values()
        .find(|node| node.up && node.draining && held(node.id) > 0);
    if let Some(node) = leaving {
        return Some((node.id, fewest));
    }
    let most = open().max_by_key(|node| held(*node))?;
    (held(most) > held(fewest) + 1).then_some((most, fewest))
}
