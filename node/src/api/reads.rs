//! Lists and objects. Each is a fold of [`crate::view`].

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, State};
use serde::Deserialize;
use strowger_cluster::Liveness;
use strowger_core::api;
use strowger_core::cdr::CdrRow;
use strowger_core::ids::{CallId, NodeId};
use strowger_core::ports::{NodeNumber, Table};
use strowger_core::state::decode_row;
use tokio::task::JoinSet;

use super::Office;
use super::answer::Refused;
use crate::limits;
use crate::peer::{self, PeerRequest, PeerStatus};
use crate::view;

type Shared = State<Arc<Office>>;
type One<T> = Result<Json<T>, Refused>;

fn one<T>(list: Vec<T>, what: &str, name: &str, is: impl Fn(&T) -> bool) -> One<T> {
    let found = list.into_iter().find(is);
    found
        .map(Json)
        .ok_or_else(|| Refused::not_found(format!("{what} {name}")))
}

/// The cluster at a glance.
#[utoipa::path(get, path = "/v1/cluster", responses((status = 200, body = api::Cluster)))]
pub async fn cluster(State(office): Shared) -> Json<api::Cluster> {
    let id = office.cluster.cluster_id().to_string();
    let figures = office.cluster.figures();
    let state = office.state.read();
    Json(view::cluster(&state, office.cluster.name(), &id, &figures))
}

/// What a supervisor looks at all day.
#[utoipa::path(get, path = "/v1/overview", responses((status = 200, body = api::Overview)))]
pub async fn overview(State(office): Shared) -> Json<api::Overview> {
    let (now, alarms) = (office.now(), office.alarms());
    Json(view::overview(&office.state.read(), now, alarms))
}

/// Nodes, each asked about itself.
#[utoipa::path(get, path = "/v1/nodes", responses((status = 200, body = [api::Node])))]
pub async fn nodes(State(office): Shared) -> Json<Vec<api::Node>> {
    Json(all_nodes(&office).await)
}

/// One node.
#[utoipa::path(get, path = "/v1/nodes/{id}", params(("id" = String, Path)),
    responses((status = 200, body = api::Node), (status = 404, body = api::ErrorBody)))]
pub async fn node(State(office): Shared, Path(id): Path<String>) -> One<api::Node> {
    let wanted = id
        .parse::<NodeId>()
        .map(|node| node.to_string())
        .unwrap_or_default();
    one(all_nodes(&office).await, "node", &id, |node| {
        node.id == wanted
    })
}

async fn all_nodes(office: &Office) -> Vec<api::Node> {
    let members = office.cluster.members();
    let own = office.cluster.node();
    let mut asking: JoinSet<(NodeNumber, Option<PeerStatus>)> = JoinSet::new();
    for member in &members {
        let (cluster, node) = (office.cluster.clone(), member.node);
        let dead = matches!(member.liveness, Liveness::Dead { .. });
        if node != own && !dead {
            asking.spawn(async move {
                let deadline = limits::PEER_STATUS_DEADLINE;
                (
                    node,
                    peer::ask(&cluster, node, &PeerRequest::Status, deadline).await,
                )
            });
        }
    }
    let mut answers = BTreeMap::from([(own, peer::status(&office.cluster).await)]);
    while let Some(answer) = asking.join_next().await {
        if let Ok((node, Some(status))) = answer {
            answers.insert(node, status);
        }
    }
    let last_log = office.cluster.figures().last_log;
    view::nodes(&office.state.read(), &members, &answers, last_log)
}

/// Extensions.
#[utoipa::path(get, path = "/v1/extensions", responses((status = 200, body = [api::ExtensionInfo])))]
pub async fn extensions(State(office): Shared) -> Json<Vec<api::ExtensionInfo>> {
    Json(view::extensions(&office.state.read()))
}

/// One extension.
#[utoipa::path(get, path = "/v1/extensions/{number}", params(("number" = String, Path)),
    responses((status = 200, body = api::ExtensionInfo), (status = 404, body = api::ErrorBody)))]
pub async fn extension(
    State(office): Shared,
    Path(number): Path<String>,
) -> One<api::ExtensionInfo> {
    let list = view::extensions(&office.state.read());
    one(list, "extension", &number, |one| one.extension == number)
}

/// Registered contacts.
#[utoipa::path(get, path = "/v1/registrations", responses((status = 200, body = [api::Registration])))]
pub async fn registrations(State(office): Shared) -> Json<Vec<api::Registration>> {
    Json(view::registrations(&office.state.read()))
}

/// Agents.
#[utoipa::path(get, path = "/v1/agents", responses((status = 200, body = [api::Agent])))]
pub async fn agents(State(office): Shared) -> Json<Vec<api::Agent>> {
    Json(view::agents(&office.state.read()))
}

/// One agent.
#[utoipa::path(get, path = "/v1/agents/{id}", params(("id" = String, Path)),
    responses((status = 200, body = api::Agent), (status = 404, body = api::ErrorBody)))]
pub async fn agent(State(office): Shared, Path(id): Path<String>) -> One<api::Agent> {
    let list = view::agents(&office.state.read());
    one(list, "agent", &id, |agent| agent.id == id)
}

/// Queues.
#[utoipa::path(get, path = "/v1/queues", responses((status = 200, body = [api::Queue])))]
pub async fn queues(State(office): Shared) -> Json<Vec<api::Queue>> {
    let now = office.now();
    Json(view::queues(&office.state.read(), now))
}

/// One queue.
#[utoipa::path(get, path = "/v1/queues/{name}", params(("name" = String, Path)),
    responses((status = 200, body = api::Queue), (status = 404, body = api::ErrorBody)))]
pub async fn queue(State(office): Shared, Path(name): Path<String>) -> One<api::Queue> {
    let now = office.now();
    let list = view::queues(&office.state.read(), now);
    one(list, "queue", &name, |queue| queue.name == name)
}

/// Opening hours.
#[utoipa::path(get, path = "/v1/hours", responses((status = 200, body = [api::Hours])))]
pub async fn all_hours(State(office): Shared) -> Json<Vec<api::Hours>> {
    let now = office.now();
    Json(view::hours(&office.state.read(), now))
}

/// One of the opening hours.
#[utoipa::path(get, path = "/v1/hours/{name}", params(("name" = String, Path)),
    responses((status = 200, body = api::Hours), (status = 404, body = api::ErrorBody)))]
pub async fn hours(State(office): Shared, Path(name): Path<String>) -> One<api::Hours> {
    let now = office.now();
    let list = view::hours(&office.state.read(), now);
    one(list, "hours", &name, |hours| hours.name == name)
}

/// Opening hours on a day, past or to come, as the site in force has them.
#[utoipa::path(get, path = "/v1/hours/{name}/days/{date}",
    params(("name" = String, Path), ("date" = String, Path)),
    responses((status = 200, body = api::HoursDay), (status = 400, body = api::ErrorBody),
        (status = 404, body = api::ErrorBody)))]
pub async fn hours_day(
    State(office): Shared,
    Path((name, date)): Path<(String, String)>,
) -> One<api::HoursDay> {
    let day = date.parse::<jiff::civil::Date>().map_err(|_| {
        let what = format!("\"{date}\" is no date");
        Refused::bad_request(what, "write such as 2027-01-01")
    })?;
    let site = {
        let state = office.state.read();
        super::tenant(&state).and_then(|tenant| state.site(&tenant).cloned())
    };
    let spec = site.as_ref().and_then(|site| {
        let found = site.hours.iter().find(|(own, _)| own.as_str() == name);
        found.map(|(_, spec)| spec)
    });
    let spec = spec.ok_or_else(|| Refused::not_found(format!("hours {name}")))?;
    Ok(Json(view::hours_day(&name, spec, day)))
}

/// Live calls, oldest first.
#[utoipa::path(get, path = "/v1/calls", responses((status = 200, body = [api::Call])))]
pub async fn calls(State(office): Shared) -> Json<Vec<api::Call>> {
    let now = office.now();
    Json(view::calls(&office.state.read(), now))
}

/// One live call.
#[utoipa::path(get, path = "/v1/calls/{id}", params(("id" = String, Path)),
    responses((status = 200, body = api::Call), (status = 404, body = api::ErrorBody)))]
pub async fn call(State(office): Shared, Path(id): Path<String>) -> One<api::Call> {
    let now = office.now();
    let state = office.state.read();
    let row = id.parse().ok().and_then(|id| state.calls.get(&id));
    let row = row.ok_or_else(|| Refused::not_found(format!("live call {id}")))?;
    Ok(Json(view::call(&state, row, now)))
}

/// Why a call was offered to whom, oldest assignment first; also after its end.
#[utoipa::path(get, path = "/v1/calls/{id}/why", params(("id" = String, Path)),
    responses((status = 200, body = [api::Explanation]), (status = 404, body = api::ErrorBody)))]
pub async fn why(State(office): Shared, Path(id): Path<String>) -> One<Vec<api::Explanation>> {
    let missing = || Refused::not_found(format!("call {id}"));
    let call: CallId = id.parse().map_err(|_| missing())?;
    let live = office.state.read().calls.contains_key(&call);
    let rows = office.cluster.rows();
    let reading = tokio::task::spawn_blocking(move || {
        let prefix = call.0.to_be_bytes();
        let page = rows.scan(Table::Explanation, &prefix, None, limits::PAGE_MAX);
        let found: Vec<api::Explanation> = page
            .iter()
            .filter_map(|(_, value)| Some(view::explanation(&decode_row(value)?)))
            .collect();
        let known = live || !found.is_empty() || rows.get(Table::CdrByCall, &prefix).is_some();
        known.then_some(found)
    });
    let found = reading.await.unwrap_or_default();
    found.map(Json).ok_or_else(missing)
}

/// Callbacks that stand.
#[utoipa::path(get, path = "/v1/callbacks", responses((status = 200, body = [api::Callback])))]
pub async fn callbacks(State(office): Shared) -> Json<Vec<api::Callback>> {
    Json(view::callbacks(&office.state.read()))
}

/// Trunks.
#[utoipa::path(get, path = "/v1/trunks", responses((status = 200, body = [api::Trunk])))]
pub async fn trunks(State(office): Shared) -> Json<Vec<api::Trunk>> {
    Json(view::trunks(&office.state.read()))
}

/// One trunk.
#[utoipa::path(get, path = "/v1/trunks/{name}", params(("name" = String, Path)),
    responses((status = 200, body = api::Trunk), (status = 404, body = api::ErrorBody)))]
pub async fn trunk(State(office): Shared, Path(name): Path<String>) -> One<api::Trunk> {
    let list = view::trunks(&office.state.read());
    one(list, "trunk", &name, |trunk| trunk.name == name)
}

/// Which records to list.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
pub struct Page {
    /// Cursor of the last record already seen.
    after: Option<String>,
    /// Records wanted, at most 1,000.
    limit: Option<usize>,
}

/// Call detail records, oldest first.
#[utoipa::path(get, path = "/v1/cdrs", params(Page), responses((status = 200, body = [api::Cdr])))]
pub async fn cdrs(State(office): Shared, Query(page): Query<Page>) -> One<Vec<api::Cdr>> {
    let after = match page.after.as_deref().filter(|after| !after.is_empty()) {
        None => None,
        Some(cursor) => Some(
            hex::decode(cursor)
                .ok()
                .filter(|key| key.len() == 8)
                .ok_or_else(|| {
                    Refused::bad_request(
                        format!("\"{cursor}\" is no cursor"),
                        "take it from a record",
                    )
                })?,
        ),
    };
    let limit = page
        .limit
        .unwrap_or(limits::PAGE_DEFAULT)
        .min(limits::PAGE_MAX);
    let rows = office.cluster.rows();
    let reading = tokio::task::spawn_blocking(move || {
        let page = rows.scan(Table::Cdr, &[], after.as_deref(), limit);
        page.iter()
            .filter_map(|(key, value)| Some(view::cdr(key, &decode_row::<CdrRow>(value)?)))
            .collect::<Vec<_>>()
    });
    let found = reading.await.map_err(|error| {
        let next = "look into the log of this node";
        Refused(crate::fault::Fault::new(
            crate::fault::code::START,
            error.to_string(),
            next,
        ))
    });
    found.map(Json)
}
