//! Founding the exchange of a demonstration: the first node, its companions, and waiting
//! until all of them serve.
//!
//! Each step looks at what is there already, so a start that was cut off is taken up where
//! it stopped. Nodes join with one-time tokens like any others; no file is copied from one
//! data folder to another.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use strowger_cluster::identity::{self, Identity};
use strowger_cluster::{IdentityError, JoinError};
use strowger_core::api::{Invitation, Node};
use tokio::time::Instant;

use super::folder::{Folder, api_address, cluster_address, write};
use super::http::{Api, AskError};
use super::nodes::Nodes;
use crate::fault::{Fault, code};
use crate::limits;
use crate::secrets::Vault;

/// Interval at which nodes on their way up are asked.
const ASK: Duration = Duration::from_millis(200);
/// Life of a join token, which is used at once.
const INVITATION_S: u64 = 600;
/// Name of the cluster.
const NAME: &str = "demo";

/// The interfaces of a running exchange, by node.
#[derive(Debug)]
pub(super) struct Exchange {
    apis: Vec<Api>,
}

impl Exchange {
    /// Starts the nodes, founding and joining where that has not been done.
    ///
    /// # Errors
    /// `SW0502` when a node does not come up or is not let in, `SW0107` when an address is
    /// taken.
    pub(super) async fn establish(folder: &Folder, nodes: &mut Nodes) -> Result<Self, Fault> {
        for number in folder.numbers() {
            folder.write_node_file(number)?;
        }
        let identity = first_identity(folder)?;
        let vault = Vault::new(|context| identity.derive_key(context));
        let token = vault.admin_token();
        write(&folder.token_file(), format!("{token}\n").as_bytes(), 0o600)?;
        let apis = folder
            .numbers()
            .map(|number| Api::new(api_address(number), token))
            .collect();
        let exchange = Self { apis };
        let (members, newcomers): (Vec<u8>, Vec<u8>) = folder
            .numbers()
            .partition(|number| is_member(&folder.data(*number)));
        for number in members {
            nodes.start(folder, number)?;
        }
        for number in newcomers {
            let invitation = exchange.invitation(number, folder, nodes).await?;
            join(folder, number, invitation).await?;
            nodes.start(folder, number)?;
        }
        exchange.agree(folder, nodes).await?;
        Ok(exchange)
    }

    /// The interface of the first node.
    pub(super) fn first(&self) -> &Api {
        self.apis
            .first()
            .expect("a demonstration has at least one node")
    }

    /// The URLs of all nodes.
    pub(super) fn urls(&self) -> Vec<String> {
        self.apis.iter().map(Api::url).collect()
    }

    /// Waits until every node is ready and every service address is served.
    ///
    /// # Errors
    /// `SW0502` when that takes too long or a node ends.
    pub(super) async fn serves(
        &self,
        folder: &Folder,
        nodes: &mut Nodes,
        sip: &[SocketAddr],
    ) -> Result<(), Fault> {
        let deadline = Instant::now() + limits::DEMO_START_TIMEOUT;
        loop {
            let missing = self.missing(sip).await;
            let Some(missing) = missing else {
                return Ok(());
            };
            patience(deadline, &missing, folder, nodes).await?;
        }
    }

    /// What is not served yet; `None` when all is.
    async fn missing(&self, sip: &[SocketAddr]) -> Option<String> {
        for (number, api) in (1u8..).zip(&self.apis) {
            if !api.says_yes("/health/ready").await {
                return Some(format!("node {number} is not ready"));
            }
        }
        let rows = match self.first().get::<Vec<Node>>("/v1/nodes").await {
            Ok(rows) => rows,
            Err(error) => return Some(error.to_string()),
        };
        let held: Vec<&String> = rows
            .iter()
            .filter(|row| row.state == "up")
            .flat_map(|row| &row.service_addresses)
            .collect();
        sip.iter()
            .map(|address| address.ip().to_string())
            .find(|address| !held.contains(&address))
            .map(|address| format!("nobody holds {address}"))
    }

    /// Waits until every node is up and votes.
    async fn agree(&self, folder: &Folder, nodes: &mut Nodes) -> Result<(), Fault> {
        let deadline = Instant::now() + limits::DEMO_START_TIMEOUT;
        loop {
            let waiting_for = match self.first().get::<Vec<Node>>("/v1/nodes").await {
                Ok(rows) if rows.iter().filter(|row| votes(row)).count() >= self.apis.len() => {
                    return Ok(());
                }
                Ok(rows) => unsettled(&rows),
                Err(error) => error.to_string(),
            };
            patience(deadline, &waiting_for, folder, nodes).await?;
        }
    }

    /// A join token for a node, as soon as the exchange can give one.
    async fn invitation(
        &self,
        number: u8,
        folder: &Folder,
        nodes: &mut Nodes,
    ) -> Result<String, Fault> {
        let deadline = Instant::now() + limits::DEMO_START_TIMEOUT;
        let body = serde_json::json!({ "ttl_s": INVITATION_S, "node": number });
        loop {
            let asked = self
                .first()
                .post::<Invitation>("/v1/nodes/invite", &body, limits::REQUEST_TIMEOUT)
                .await;
            let waiting_for = match asked {
                Ok(invitation) => return Ok(invitation.token),
                // Until a leader is elected the answer is 503.
                Err(error @ (AskError::Unreachable(..) | AskError::Refused(503 | 504, _))) => {
                    error.to_string()
                }
                Err(error) => {
                    let next = "look into the log of node 1";
                    return Err(Fault::of(code::DEMO_NODE, &error, next));
                }
            };
            patience(deadline, &waiting_for, folder, nodes).await?;
        }
    }
}

/// Waits a moment; refuses when a node has ended or the time is over.
async fn patience(
    deadline: Instant,
    waiting_for: &str,
    folder: &Folder,
    nodes: &mut Nodes,
) -> Result<(), Fault> {
    nodes.all_alive(folder)?;
    if Instant::now() > deadline {
        let limit = limits::DEMO_START_TIMEOUT.as_secs();
        let what = format!("not all nodes serve within {limit} s: {waiting_for}");
        let log = folder.root().join("n1/log/strowgerd.log");
        let next = format!("see {} and its neighbours", log.display());
        return Err(Fault::new(code::DEMO_NODE, what, next));
    }
    tokio::time::sleep(ASK).await;
    Ok(())
}

fn votes(row: &Node) -> bool {
    row.state == "up" && matches!(row.role.as_str(), "leader" | "voter")
}

fn unsettled(rows: &[Node]) -> String {
    let rows = rows.iter().filter(|row| !votes(row));
    let words: Vec<String> = rows
        .map(|row| format!("{} is {} and {}", row.id, row.state, row.role))
        .collect();
    if words.is_empty() {
        return "a node has not been seen yet".to_owned();
    }
    words.join(", ")
}

fn is_member(data: &Path) -> bool {
    Identity::load(data).is_ok()
}

/// The identity of the first node, which founds the cluster when it has none.
fn first_identity(folder: &Folder) -> Result<Identity, Fault> {
    let data = folder.data(1);
    let known = match Identity::load(&data) {
        Err(IdentityError::Missing(_)) => identity::init(&data, NAME, 1, cluster_address(1)),
        known => known,
    };
    known.map_err(|error| {
        let next = "start over with --fresh";
        Fault::of(code::DEMO_NODE, &error, next).at("node 1")
    })
}

/// Lets a node join with a token.
async fn join(folder: &Folder, number: u8, token: String) -> Result<(), Fault> {
    let place = format!("node {number}");
    let data = folder.data(number);
    let joined =
        tokio::task::spawn_blocking(move || identity::join(&data, &token, cluster_address(number)));
    let refused = |error: &dyn std::fmt::Display| {
        Fault::of(code::DEMO_NODE, error, "start over with --fresh").at(place.clone())
    };
    let joined: Result<Identity, JoinError> = joined.await.map_err(|error| refused(&error))?;
    let identity = joined.map_err(|error| refused(&error))?;
    if identity.node != u64::from(number) {
        let what = format!("it was given number {}", identity.node);
        return Err(refused(&what));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: &str, state: &str, role: &str) -> Node {
        Node {
            id: id.to_owned(),
            address: String::new(),
            state: state.to_owned(),
            role: role.to_owned(),
            term: None,
            applied: None,
            lag: None,
            calls: 0,
            version: None,
            state_hash: None,
            service_addresses: Vec::new(),
        }
    }

    #[test]
    fn what_is_waited_for_is_said() {
        let rows = [
            row("node_1", "up", "leader"),
            row("node_2", "up", "learner"),
            row("node_3", "down", "voter"),
        ];
        assert_eq!(
            unsettled(&rows),
            "node_2 is up and learner, node_3 is down and voter"
        );
        assert_eq!(unsettled(&rows[..1]), "a node has not been seen yet");
    }

    #[test]
    fn the_first_node_founds_once() {
        let dir = tempfile::tempdir().expect("folder");
        let folder = Folder::open(dir.path(), 3, false).expect("new");
        let founded = first_identity(&folder).expect("founded");
        let again = first_identity(&folder).expect("known");
        assert_eq!((founded.node, founded.cluster), (1, again.cluster));
        assert!(is_member(&folder.data(1)) && !is_member(&folder.data(2)));
    }
}
