//! Commands and invitations: proposed, then answered by what was committed.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use serde::Deserialize;
use strowger_cluster::MemberError;
use strowger_core::api;
use strowger_core::ids::{AgentId, CallId, CustomerId, Extension, HoursName, NodeId, TenantId};
use strowger_core::ports::{Outcome, Proposer};
use strowger_core::state::command::{Action, Command, CrmChange, Reply};
use strowger_core::state::machine::{decode_reply, encode_command};
use strowger_core::time::TimeMs;

use super::answer::{Body, Refused};
use super::{Office, tenant};
use crate::fault::{Fault, code};
use crate::limits;

type Shared = State<Arc<Office>>;

/// Letters of an id chosen by a sender and of a reason.
pub(super) const WORDS_MAX: usize = 128;

/// Proposes a command and waits for its reply.
pub(super) async fn commit(
    office: &Office,
    command: &Command,
    deadline: Duration,
) -> Result<Reply, Refused> {
    office.majority().await?;
    let proposal = office.cluster.propose(encode_command(command), deadline);
    let outcome = tokio::select! {
        outcome = proposal => outcome,
        // The majority went while the change was under way: nobody knows.
        () = office.majority_lost() => return Err(unknown()),
    };
    match outcome {
        Outcome::Committed(reply) => match decode_reply(&reply) {
            Some(Reply::Refused(refusal)) => Err(Refused::by_state(&refusal)),
            Some(reply) => Ok(reply),
            None => Err(unknown()),
        },
        Outcome::NoQuorum => Err(Refused::no_quorum()),
        Outcome::Unknown(_) => Err(unknown()),
    }
}

impl Office {
    fn reaches_majority(&self) -> bool {
        self.cluster.leader().is_some() && self.cluster.lease_valid()
    }

    /// Waits a little for a majority: an election may be under way.
    async fn majority(&self) -> Result<(), Refused> {
        let wait = async {
            while !self.reaches_majority() {
                tokio::time::sleep(limits::MAJORITY_LOOK).await;
            }
        };
        let reached = tokio::time::timeout(limits::MAJORITY_WAIT, wait).await;
        reached.map_err(|_| Refused::no_quorum())
    }

    /// Waits until no majority was reached for a while.
    async fn majority_lost(&self) {
        let mut reached_at = tokio::time::Instant::now();
        while reached_at.elapsed() < limits::MAJORITY_WAIT {
            if self.reaches_majority() {
                reached_at = tokio::time::Instant::now();
            }
            tokio::time::sleep(limits::MAJORITY_LOOK).await;
        }
    }
}

fn unknown() -> Refused {
    let what = "the change was sent but its outcome is not known yet";
    Refused(Fault::new(
        code::OUTCOME_UNKNOWN,
        what,
        "look at the present state",
    ))
}

/// Carries out a command.
#[utoipa::path(post, path = "/v1/commands", request_body = api::Command,
    responses((status = 200, body = api::CommandOutcome), (status = 404, body = api::ErrorBody),
        (status = 409, body = api::ErrorBody), (status = 503, body = api::ErrorBody)))]
pub async fn command(
    State(office): Shared,
    Body(command): Body<api::Command>,
) -> Result<Json<api::CommandOutcome>, Refused> {
    let api::Command { id, action } = command;
    if id.is_empty() || id.chars().count() > WORDS_MAX {
        return Err(Refused::bad_request(
            "the id has no or too many letters",
            "use 1 to 128",
        ));
    }
    let tenant = tenant(&office.state.read()).unwrap_or_else(|| TenantId::from(""));
    if let api::Action::CallCustomer { call, customer } = action {
        let change = CrmChange::Attach {
            call: call_named(call)?,
            customer: customer.map(CustomerId::from),
        };
        let command = Command::Crm {
            id: id.clone(),
            tenant,
            change,
        };
        commit(&office, &command, limits::COMMIT_DEADLINE).await?;
        return Ok(done(id));
    }
    let action = wanted(action, office.now())?;
    if let Action::Forget { node } = action {
        office.majority().await?;
        remove(&office, node).await?;
    }
    let act = Command::Act {
        id: id.clone(),
        tenant,
        action,
    };
    commit(&office, &act, limits::COMMIT_DEADLINE).await?;
    Ok(done(id))
}

fn done(id: String) -> Json<api::CommandOutcome> {
    Json(api::CommandOutcome {
        id,
        outcome: "done".to_owned(),
        error: None,
    })
}

fn call_named(call: String) -> Result<CallId, Refused> {
    call.parse()
        .map_err(|_| Refused::not_found(format!("live call {call}")))
}

fn callback_named(id: &str) -> Result<CallId, Refused> {
    id.parse()
        .map_err(|_| Refused::not_found(format!("callback {id}")))
}

/// Takes a callback back; an attempt under way is cancelled.
#[utoipa::path(delete, path = "/v1/callbacks/{id}", params(("id" = String, Path)),
    responses((status = 200), (status = 404, body = api::ErrorBody),
        (status = 503, body = api::ErrorBody)))]
pub async fn withdraw(
    State(office): Shared,
    Path(id): Path<String>,
) -> Result<Json<serde_json::Value>, Refused> {
    let callback = callback_named(&id)?;
    let act = Command::Act {
        id: String::new(),
        tenant: tenant(&office.state.read()).unwrap_or_else(|| TenantId::from("")),
        action: Action::Withdraw { callback },
    };
    commit(&office, &act, limits::COMMIT_DEADLINE).await?;
    Ok(Json(serde_json::json!({ "id": id })))
}

fn wanted(action: api::Action, now: TimeMs) -> Result<Action, Refused> {
    let node = |text: String| {
        text.parse::<NodeId>()
            .map_err(|_| Refused::not_found(format!("node {text}")))
    };
    Ok(match action {
        api::Action::AgentSignIn { agent, extension } => Action::SignIn {
            agent: AgentId::from(agent),
            extension: extension.map(Extension::from),
        },
        api::Action::AgentSignOut { agent } => Action::SignOut {
            agent: AgentId::from(agent),
        },
        api::Action::AgentPause { agent, reason } => Action::Pause {
            agent: AgentId::from(agent),
            reason: reason.chars().take(WORDS_MAX).collect(),
        },
        api::Action::AgentReady { agent } => Action::Ready {
            agent: AgentId::from(agent),
        },
        api::Action::CallHangup { call } => Action::Hangup {
            call: call_named(call)?,
        },
        api::Action::CallCustomer { .. } => {
            return Err(Refused::bad_request(
                "call_customer changes no floor",
                "see /v1/openapi.json",
            ));
        }
        api::Action::AgentExtendWrapUp { agent, by_s } => Action::ExtendWrapUp {
            agent: AgentId::from(agent),
            by_ms: by_s.saturating_mul(1_000),
        },
        api::Action::CallPrioritize { call, weight } => Action::Prioritize {
            call: call_named(call)?,
            weight,
        },
        api::Action::CallPrefer { call, agent } => Action::Prefer {
            call: call_named(call)?,
            agent: AgentId::from(agent),
        },
        api::Action::NodeDrain { node: id } => Action::Drain {
            node: node(id)?,
            on: true,
        },
        api::Action::NodeUndrain { node: id } => Action::Drain {
            node: node(id)?,
            on: false,
        },
        api::Action::NodeRemove { node: id } => Action::Forget { node: node(id)? },
        api::Action::HoursOverride {
            open: Some(_),
            for_s: None,
            ..
        } => {
            return Err(Refused::bad_request(
                "hours are opened or closed for some time",
                "add for_s, seconds",
            ));
        }
        api::Action::HoursOverride { hours, open, for_s } => Action::Override {
            hours: HoursName::from(hours),
            open,
            until: now.plus(for_s.unwrap_or(0).saturating_mul(1_000)),
        },
        api::Action::CallbackCancel { callback } => Action::Withdraw {
            callback: callback_named(&callback)?,
        },
    })
}

/// Takes a node that is down out of the group, before the floor forgets it.
async fn remove(office: &Office, node: NodeId) -> Result<(), Refused> {
    let up = office
        .state
        .read()
        .nodes
        .get(&node)
        .is_some_and(|row| row.up);
    if up {
        let what = format!("{node} is up");
        let next = "drain it, stop its daemon and remove it then";
        return Err(Refused(Fault::new(code::REFUSED, what, next)));
    }
    match office.cluster.remove(node.0).await {
        // Removed earlier: the floor may still know it.
        Ok(()) | Err(MemberError::Unknown(_)) => Ok(()),
        Err(MemberError::NoQuorum) => Err(Refused::no_quorum()),
        Err(error) => {
            let next = "look at the members with `strowger node list`";
            Err(Refused(Fault::of(code::REFUSED, &error, next)))
        }
    }
}

/// How long an invitation holds.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
pub struct Invite {
    /// Seconds.
    ttl_s: u64,
    /// Number for the newcomer; the next free one when absent.
    node: Option<u64>,
}

/// Makes a one-time join token.
#[utoipa::path(post, path = "/v1/nodes/invite", request_body = Invite,
    responses((status = 200, body = api::Invitation), (status = 409, body = api::ErrorBody),
        (status = 503, body = api::ErrorBody)))]
pub async fn invite(
    State(office): Shared,
    Body(wish): Body<Invite>,
) -> Result<Json<api::Invitation>, Refused> {
    office.majority().await?;
    let ttl = wish.ttl_s.clamp(1, 7 * 24 * 3_600);
    match office
        .cluster
        .invite(wish.node, Duration::from_secs(ttl))
        .await
    {
        Ok(token) => Ok(Json(api::Invitation {
            token: token.to_string(),
            expires_at: TimeMs(token.expires_ms).rfc3339(),
        })),
        Err(MemberError::NoQuorum) => Err(Refused::no_quorum()),
        Err(error) => {
            let next = "look at the members with `strowger node list`";
            Err(Refused(Fault::of(code::REFUSED, &error, next)))
        }
    }
}
