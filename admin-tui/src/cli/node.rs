//! `strowger node …`: who is there, who joins, who is taken out of service and comes back.

use std::time::{Duration, Instant};

use serde_json::Value;
use strowger_core::api::{Action, Node};

use super::Session;
use super::args::NodeVerb;
use crate::client::segment;
use crate::error::{Exit, Failure};
use crate::limits;
use crate::render::{Output, shape};

/// Runs a verb of nodes.
pub fn run(session: &Session, verb: NodeVerb) -> Result<Exit, Failure> {
    match verb {
        NodeVerb::List => session.list("/v1/nodes", &shape::NODE),
        NodeVerb::Show { id } => session.show("/v1/nodes", &node_id(&id), &shape::NODE),
        NodeVerb::Invite { ttl_s } => {
            let body = serde_json::json!({ "ttl_s": ttl_s });
            let invitation = session.client.post("/v1/nodes/invite", &body)?;
            match session.output {
                // The token alone, ready for `strowgerd join --token "$(…)"`.
                Output::Table => session.print(&table_token(&invitation)),
                Output::Json | Output::Csv => session.one(&shape::INVITATION, &invitation),
            }
        }
        NodeVerb::Drain { id, within_s } => {
            drain(session, &node_id(&id), Duration::from_secs(within_s))
        }
        NodeVerb::Undrain { id } => session.act(Action::NodeUndrain { node: node_id(&id) }),
        NodeVerb::Remove { id, force } => remove(session, &node_id(&id), force),
    }
}

/// Drains a node, and says how many calls it still has until it has none. A node that has some
/// at the end goes on draining.
fn drain(session: &Session, id: &str, within: Duration) -> Result<Exit, Failure> {
    let until = Instant::now() + within;
    let outcome = session.send(Action::NodeDrain {
        node: id.to_owned(),
    })?;
    let mut shown = None;
    loop {
        let node: Node = session.client.get(&format!("/v1/nodes/{}", segment(id)))?;
        // Scripts that ask for JSON read one object on standard error, or nothing.
        let changed = shown.replace(node.calls) != Some(node.calls);
        if changed && session.output == Output::Table {
            eprintln!("{} has {} calls", crate::text::clean(&node.id), node.calls);
        }
        if node.calls == 0 {
            return session.outcome(&outcome);
        }
        if Instant::now() >= until {
            return Err(Failure::Draining {
                node: node.id,
                calls: node.calls,
            });
        }
        std::thread::sleep(limits::DRAIN_LOOK);
    }
}

/// Removing a node that is up is asked for twice: its calls end with it.
fn remove(session: &Session, id: &str, force: bool) -> Result<Exit, Failure> {
    let node: Node = session.client.get(&format!("/v1/nodes/{}", segment(id)))?;
    if !force && node.state == "up" && node.calls > 0 {
        return Err(Failure::Usage {
            what: format!("{id} is up and owns {} calls", node.calls),
            next: "drain it first, or add --force".to_owned(),
        });
    }
    session.act(Action::NodeRemove {
        node: id.to_owned(),
    })
}

fn table_token(invitation: &Value) -> String {
    let token = invitation
        .get("token")
        .and_then(Value::as_str)
        .unwrap_or_default();
    format!("{}\n", crate::text::clean(token))
}

/// `2` and `node_2` name the same node.
fn node_id(id: &str) -> String {
    if !id.is_empty() && id.chars().all(|c| c.is_ascii_digit()) {
        format!("node_{id}")
    } else {
        id.to_owned()
    }
}
