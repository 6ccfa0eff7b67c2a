//! `strowgerd recover`: one survivor goes on alone when a majority is lost for good.
//!
//! Without `--force` it prints what would happen and changes nothing. The lost nodes are
//! removed: whoever of them comes back with its old data is told so (SW0404) and stands
//! aside. What this node has in its log is kept, whether or not it knew it to be committed:
//! all of it may have been acknowledged.

use std::path::Path;

use strowger_cluster::offline::{self, Recovery};
use strowger_core::ids::NodeId;
use strowger_core::state::command::Command;
use strowger_core::state::machine::encode_command;
use strowger_core::state::store::is_readable;
use strowger_core::state::{ExchangeMachine, SharedState};

use crate::config::NodeConfig;
use crate::doctor::Idle;
use crate::fault::{Fault, code};
use crate::founding;

/// Prints what a recovery of the node of `file` means; with `force` carries it out.
///
/// # Errors
/// [`code::RECOVER_UNFORCED`] without `force`; otherwise why it cannot be done. Nothing is
/// changed then.
pub fn run(file: &Path, force: bool) -> Result<(), Fault> {
    let config = NodeConfig::load(file)?;
    founding::load(&config)?;
    let failed = |error: &dyn std::fmt::Display| {
        let next = "see the page of this code; `strowgerd doctor --data` tells what is wrong";
        Fault::of(code::DATA_FOLDER, error, next).at(config.data.display().to_string())
    };
    let state = SharedState::default();
    let mut machine = ExchangeMachine::new(state.clone(), Box::new(Idle));
    let survey = offline::survey(&config.data, &mut machine, is_readable);
    let survey = survey.map_err(|error| failed(&error))?;
    if let Some(finding) = survey.findings.first().filter(|_| !survey.restored) {
        return Err(failed(&format!("{}: {}", finding.place, finding.what)));
    }
    let recovery = offline::recovery(&config.data).map_err(|error| failed(&error))?;
    print!("{}", consequences(&recovery));
    if !force {
        let what = "nothing was changed";
        let next = "say it again with --force when the other nodes are lost for good";
        return Err(Fault::new(code::RECOVER_UNFORCED, what, next));
    }
    let lives: Vec<(NodeId, u64)> = {
        let state = state.read();
        let nodes = state.nodes.values().filter(|node| node.up);
        let others = nodes.filter(|node| node.id.0 != recovery.node);
        others.map(|node| (node.id, node.incarnation)).collect()
    };
    let done = offline::recover(&config.data, |_| {
        let down = lives
            .into_iter()
            .map(|(node, incarnation)| encode_command(&Command::NodeDown { node, incarnation }));
        down.collect()
    });
    let done = done.map_err(|error| failed(&error))?;
    println!(
        "recovered node={} lost={} entry={}",
        done.node,
        list(&done.lost),
        done.last
    );
    Ok(())
}

fn list(nodes: &[u64]) -> String {
    let names = nodes.iter().map(|node| NodeId(*node).to_string());
    names.collect::<Vec<_>>().join(",")
}

/// What an operator has to know before.
fn consequences(recovery: &Recovery) -> String {
    let (node, lost) = (NodeId(recovery.node), list(&recovery.lost));
    format!(
        "{node} becomes the only voter of its cluster. This means:\n\
         - Kept is what {node} has: its log up to entry {last} (term {term}; it knew entries up \
           to {committed} to be committed).\n\
         - Lost is what only {lost} had: registrations, calls, records and changes that were \
           acknowledged in the last moments and had not reached {node}. Should one of them still \
           be readable, look at it with `strowgerd doctor --data` first: recover the node whose \
           log reaches furthest.\n\
         - {lost} are removed. They must not be started on their old data where they cannot reach \
           {node}: two of them together would be a second exchange with the same numbers. Where \
           they reach it they are refused (SW0404). Clear their data and join them anew, under new \
           node numbers.\n\
         - Calls of {lost} go on at {node} as after any death of a node, if their phones still \
           send.\n\
         - Until other nodes have joined, the death of {node} ends everything.\n",
        last = recovery.last,
        term = recovery.term,
        committed = recovery.committed,
    )
}
