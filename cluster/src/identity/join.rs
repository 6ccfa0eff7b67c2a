//! The newcomer's side of joining: a question over a connection pinned to the authority.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use quinn::{ConnectionError, Endpoint};
use serde::{Deserialize, Serialize};
use strowger_core::ports::NodeNumber;

use super::certificate::name_of;
use super::{Identity, NewKey, Token, hash_of, subject_of};
use crate::error::{IdentityError, JoinError};
use crate::limits;
use crate::store::{decode, encode};
use crate::transport::{resolve, tls, wire};

/// What a newcomer sends.
#[derive(Serialize, Deserialize)]
pub struct BootstrapRequest {
    /// Secret of its token.
    pub secret: [u8; 32],
    /// Signing request for the key it made, DER.
    pub request: Vec<u8>,
    /// Where it will be dialled.
    pub address: String,
}

/// What it is told.
#[derive(Serialize, Deserialize)]
pub enum BootstrapReply {
    /// Welcome.
    Admitted(Box<Welcome>),
    /// The token is not known.
    Wrong,
    /// The token was used.
    Used,
    /// The token is too old.
    Expired,
    /// The wished number is taken.
    NodeTaken(NodeNumber),
    /// Nobody can decide at present.
    NoQuorum,
    /// Another reason.
    Refused(String),
}

/// Everything a newcomer needs to be a member.
#[derive(Serialize, Deserialize)]
pub struct Welcome {
    /// Its number.
    pub node: NodeNumber,
    /// The cluster's name.
    pub name: String,
    /// Its certificate.
    pub certificate: Vec<u8>,
    /// Certificate of the authority.
    pub authority: Vec<u8>,
    /// Key of the authority, so that this member can admit others.
    pub authority_key: Vec<u8>,
    /// The members.
    pub members: Vec<(NodeNumber, String)>,
}

/// Joins the cluster of `token` and writes the identity under `data_dir`; the node will
/// be dialled at `address`. Blocks; needs no runtime.
///
/// # Errors
/// [`JoinError`]: each reason has its own variant.
pub fn join(data_dir: &Path, token: &str, address: SocketAddr) -> Result<Identity, JoinError> {
    let token: Token = token.parse()?;
    if super::file(data_dir).exists() {
        return Err(IdentityError::Exists(data_dir.to_owned()).into());
    }
    if crate::raft::wall_clock_ms() >= token.expires_ms {
        return Err(JoinError::Expired);
    }
    let asked = std::thread::scope(|scope| scope.spawn(|| ask_members(&token, address)).join());
    let (key, welcome) =
        asked.map_err(|_| JoinError::Refused("the joining thread failed".to_owned()))??;
    let identity = Identity {
        cluster: token.cluster,
        name: welcome.name,
        node: welcome.node,
        founder: false,
        seeds: welcome.members,
        certificate: welcome.certificate,
        key: key.into_der(),
        authority: welcome.authority,
        authority_key: welcome.authority_key,
    };
    identity.store(data_dir)?;
    Ok(identity)
}

/// Asks one member after the other until one answers; the key stays the same, so that a
/// lost answer does not cost the token.
fn ask_members(token: &Token, address: SocketAddr) -> Result<(NewKey, Welcome), JoinError> {
    let key = NewKey::generate()?;
    let request = BootstrapRequest {
        secret: token.secret,
        request: key.request(token.cluster)?,
        address: address.to_string(),
    };
    let body = encode(&request);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| JoinError::Refused(error.to_string()))?;
    runtime.block_on(async {
        let mut last = JoinError::Unreachable("the token names no member".to_owned());
        for (node, member) in &token.members {
            match ask_member(token, *node, member, &body).await {
                Ok(reply) => match outcome(reply, token) {
                    Err(JoinError::NoQuorum) => last = JoinError::NoQuorum,
                    Err(error) => return Err(error),
                    Ok(welcome) => return Ok((key, welcome)),
                },
                Err(error) => last = error,
            }
        }
        Err(last)
    })
}

fn outcome(reply: BootstrapReply, token: &Token) -> Result<Welcome, JoinError> {
    match reply {
        BootstrapReply::Admitted(welcome) => {
            let named = subject_of(&welcome.certificate);
            if hash_of(&welcome.authority) != token.authority_hash
                || named != Some((welcome.node, token.cluster))
            {
                return Err(JoinError::Refused(
                    "the answer contradicts itself".to_owned(),
                ));
            }
            Ok(*welcome)
        }
        BootstrapReply::Wrong => Err(JoinError::Wrong),
        BootstrapReply::Used => Err(JoinError::Used),
        BootstrapReply::Expired => Err(JoinError::Expired),
        BootstrapReply::NodeTaken(node) => Err(JoinError::NodeTaken(node)),
        BootstrapReply::NoQuorum => Err(JoinError::NoQuorum),
        BootstrapReply::Refused(why) => Err(JoinError::Refused(why)),
    }
}

async fn ask_member(
    token: &Token,
    node: NodeNumber,
    address: &str,
    body: &[u8],
) -> Result<BootstrapReply, JoinError> {
    let unreachable = |why: String| JoinError::Unreachable(format!("{address}: {why}"));
    let socket = resolve(address).await.map_err(unreachable)?;
    let local: IpAddr = match socket {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    let endpoint = Endpoint::client(SocketAddr::new(local, 0))
        .map_err(|error| unreachable(error.to_string()))?;
    let config = tls::newcomer(token.authority_hash)
        .map_err(|error| JoinError::Refused(error.to_string()))?;
    let name = name_of(node, token.cluster);
    let exchange = async {
        let connecting = endpoint
            .connect_with(config, socket, &name)
            .map_err(|error| unreachable(error.to_string()))?;
        let connection = connecting.await.map_err(|error| refusal(address, &error))?;
        let (mut send, mut receive) = connection
            .open_bi()
            .await
            .map_err(|error| unreachable(error.to_string()))?;
        send.write_all(body)
            .await
            .map_err(|error| unreachable(error.to_string()))?;
        send.finish()
            .map_err(|error| unreachable(error.to_string()))?;
        let answer = receive.read_to_end(limits::JOIN_BYTES_MAX).await;
        let answer = answer.map_err(|error| unreachable(error.to_string()))?;
        connection.close(wire::CLOSE_GONE, b"done");
        decode("answer", &answer).map_err(|error| unreachable(error.to_string()))
    };
    let reply = tokio::time::timeout(Duration::from_secs(12), exchange).await;
    endpoint.wait_idle().await;
    reply.unwrap_or_else(|_| Err(unreachable("no answer".to_owned())))
}

/// A handshake that failed for its certificates met another cluster.
fn refusal(address: &str, error: &ConnectionError) -> JoinError {
    const CRYPTO: std::ops::Range<u64> = 0x100..0x200;
    let address = address.to_owned();
    match error {
        ConnectionError::TransportError(inner) if CRYPTO.contains(&u64::from(inner.code)) => {
            JoinError::Foreign {
                address,
                why: inner.reason.clone(),
            }
        }
        error => JoinError::Unreachable(format!("{address}: {error}")),
    }
}

impl Identity {
    /// A token for one newcomer and its secret's hash, known to the cluster once the
    /// hash is committed.
    pub(crate) fn token(
        &self,
        members: Vec<(NodeNumber, String)>,
        expires_ms: u64,
    ) -> (Token, [u8; 32]) {
        let token = Token {
            cluster: self.cluster,
            authority_hash: hash_of(&self.authority),
            members,
            secret: rand::random(),
            expires_ms,
        };
        let hash = hash_of(&token.secret);
        (token, hash)
    }

    /// The welcome for a newcomer that was given number `node`.
    pub(crate) fn welcome(
        &self,
        node: NodeNumber,
        request: &[u8],
        members: Vec<(NodeNumber, String)>,
    ) -> Result<Welcome, IdentityError> {
        Ok(Welcome {
            node,
            name: self.name.clone(),
            certificate: self.sign(node, request)?,
            authority: self.authority.clone(),
            authority_key: self.authority_key.clone(),
            members,
        })
    }
}
