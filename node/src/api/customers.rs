//! Customers: lists and cards read from rows, edits and imports proposed as commands.
//!
//! Numbers are normalised here, before anything is proposed. Imports take turns, one keeps
//! a single small command under way and rests between two, so that calls do not wait.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, State};
use serde::Deserialize;
use strowger_core::api;
use strowger_core::crm::{Customer, ImportRow, Interaction, Profile, Reject, keys};
use strowger_core::ids::{AgentId, CustomerId, TenantId};
use strowger_core::limits as core_limits;
use strowger_core::number::E164;
use strowger_core::ports::{RowsRead, Table};
use strowger_core::site::Numbering;
use strowger_core::state::apply_crm::{customers_with, read_customer};
use strowger_core::state::command::{Command, CrmChange, ImportBatch, Reply};
use strowger_core::state::decode_row;

use super::Office;
use super::answer::{Body, Refused};
use super::changes::{WORDS_MAX, commit};
use crate::fault::{Fault, code};
use crate::{limits, numbering, view};

type Shared = State<Arc<Office>>;

/// Which customers to list.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
pub struct Wanted {
    /// A number, as dialled in the tenant's country or with country code.
    number: Option<String>,
    /// The beginning of the name.
    name: Option<String>,
    /// Id of the last customer already seen.
    after: Option<String>,
    /// Customers wanted, at most 1,000.
    limit: Option<usize>,
}

/// Which part of a list.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
pub struct Page {
    /// Cursor or line of the last one already seen.
    after: Option<String>,
    /// How many, at most 1,000.
    limit: Option<usize>,
}

impl Page {
    fn limit(&self) -> usize {
        page_limit(self.limit)
    }
}

fn page_limit(limit: Option<usize>) -> usize {
    limit.unwrap_or(limits::PAGE_DEFAULT).min(limits::PAGE_MAX)
}

/// Whose customers, and how numbers are written there.
fn desk(office: &Office) -> Result<(TenantId, Numbering), Refused> {
    let state = office.state.read();
    let row = state.sites.values().next();
    let row = row.ok_or_else(|| Refused::not_found("site: none is in force yet"))?;
    Ok((row.site.tenant.clone(), row.site.numbering.clone()))
}

/// Reads rows away from the threads that serve requests.
async fn reading<T: Send + 'static>(
    office: &Office,
    read: impl FnOnce(&dyn RowsRead) -> T + Send + 'static,
) -> Result<T, Refused> {
    let rows = office.cluster.rows();
    let reading = tokio::task::spawn_blocking(move || read(&*rows));
    reading.await.map_err(|error| {
        let next = "look into the log of this node";
        Refused(Fault::new(code::START, error.to_string(), next))
    })
}

fn number_of(numbering: &Numbering, text: &str) -> Result<E164, String> {
    numbering::e164(numbering, text).ok_or_else(|| {
        let text: String = text.chars().take(40).collect();
        format!("\"{text}\" is no number; write it with country code, such as +861062345678")
    })
}

fn bad(what: String) -> Refused {
    Refused::bad_request(what, "see /v1/openapi.json")
}

/// Customers, by id, number or name.
#[utoipa::path(get, path = "/v1/customers", params(Wanted),
    responses((status = 200, body = [api::Customer])))]
pub async fn list(
    State(office): Shared,
    Query(wanted): Query<Wanted>,
) -> Result<Json<Vec<api::Customer>>, Refused> {
    let (tenant, numbering) = desk(&office)?;
    let limit = page_limit(wanted.limit);
    let number = wanted.number.as_deref().filter(|text| !text.is_empty());
    let number = number
        .map(|text| number_of(&numbering, text))
        .transpose()
        .map_err(bad)?;
    let found = reading(&office, move |rows| {
        let after = wanted.after.filter(|after| !after.is_empty());
        let after = after.map(CustomerId::from);
        match (number, wanted.name.filter(|name| !name.is_empty())) {
            (Some(number), _) => customers_with(rows, &tenant, number),
            (None, Some(name)) => by_name(rows, &tenant, &name, after.as_ref(), limit),
            (None, None) => by_id(rows, &tenant, after.as_ref(), limit),
        }
    });
    let found = found.await?;
    Ok(Json(found.iter().take(limit).map(view::customer).collect()))
}

fn by_id(
    rows: &dyn RowsRead,
    tenant: &TenantId,
    after: Option<&CustomerId>,
    limit: usize,
) -> Vec<Customer> {
    let after = after.map(|id| keys::customer(tenant, id));
    let prefix = keys::customers(tenant);
    let page = rows.scan(Table::Customer, &prefix, after.as_deref(), limit);
    page.iter().filter_map(|(_, row)| decode_row(row)).collect()
}

fn by_name(
    rows: &dyn RowsRead,
    tenant: &TenantId,
    beginning: &str,
    after: Option<&CustomerId>,
    limit: usize,
) -> Vec<Customer> {
    let after = after
        .and_then(|id| read_customer(rows, tenant, id))
        .map(|last| keys::by_name(tenant, &last.profile.name, &last.profile.id));
    let prefix = keys::name(tenant, beginning);
    let page = rows.scan(Table::CustomerByName, &prefix, after.as_deref(), limit);
    let ids = page.iter().filter_map(|(key, _)| keys::id_of_name(key));
    ids.filter_map(|id| read_customer(rows, tenant, &id))
        .collect()
}

/// A customer with the latest contacts, newest first.
#[utoipa::path(get, path = "/v1/customers/{id}", params(("id" = String, Path), Page),
    responses((status = 200, body = api::CustomerCard), (status = 404, body = api::ErrorBody)))]
pub async fn card(
    State(office): Shared,
    Path(id): Path<String>,
    Query(page): Query<Page>,
) -> Result<Json<api::CustomerCard>, Refused> {
    let (tenant, _) = desk(&office)?;
    let limit = page.limit();
    let customer = CustomerId::from(id.as_str());
    let timeline = keys::timeline(&tenant, &customer);
    let after = match page.after.as_deref().filter(|after| !after.is_empty()) {
        None => None,
        Some(cursor) => Some(
            hex::decode(cursor)
                .ok()
                .filter(|place| place.len() == 16)
                .map(|place| [timeline.as_slice(), &place].concat())
                .ok_or_else(|| bad(format!("\"{cursor}\" is no cursor of a timeline")))?,
        ),
    };
    let found = reading(&office, move |rows| {
        let customer = read_customer(rows, &tenant, &customer)?;
        let contacts = rows.scan(Table::Interaction, &timeline, after.as_deref(), limit);
        let interactions = contacts.iter().filter_map(|(key, row)| {
            let place = key.get(timeline.len()..).unwrap_or_default();
            let contact: Interaction = decode_row(row)?;
            Some(view::interaction(place, &contact))
        });
        Some(api::CustomerCard {
            interactions: interactions.collect(),
            customer: view::customer(&customer),
        })
    });
    let found = found.await?;
    found
        .map(Json)
        .ok_or_else(|| Refused::not_found(format!("customer {id}")))
}

/// What a sender wrote, to be normalised.
struct Written {
    name: String,
    tier: Option<String>,
    tags: Vec<String>,
    fields: BTreeMap<String, String>,
    numbers: Vec<String>,
    owner: Option<String>,
}

fn profile(numbering: &Numbering, id: CustomerId, written: Written) -> Result<Profile, String> {
    let filled = |text: Option<String>| {
        let text = text.map(|text| text.trim().to_owned());
        text.filter(|text| !text.is_empty())
    };
    let mut numbers: Vec<E164> = Vec::new();
    for text in written
        .numbers
        .iter()
        .filter(|text| !text.trim().is_empty())
    {
        let number = number_of(numbering, text)?;
        if !numbers.contains(&number) {
            numbers.push(number);
        }
    }
    let tags = written.tags.into_iter().map(|tag| tag.trim().to_owned());
    let profile = Profile {
        id,
        name: written.name.trim().to_owned(),
        tier: filled(written.tier),
        tags: tags.filter(|tag| !tag.is_empty()).collect(),
        fields: written.fields,
        numbers,
        owner: filled(written.owner).map(AgentId::from),
    };
    profile.check()?;
    Ok(profile)
}

async fn propose(office: &Office, id: Option<String>, change: CrmChange) -> Result<Reply, Refused> {
    let id = id.unwrap_or_default();
    if id.chars().count() > WORDS_MAX {
        return Err(bad("the command's id has too many letters".to_owned()));
    }
    let (tenant, _) = desk(office)?;
    let command = Command::Crm { id, tenant, change };
    commit(office, &command, limits::COMMIT_DEADLINE).await
}

/// Writes a profile and returns the customer as it stands then.
async fn write(
    office: &Office,
    id: Option<String>,
    profile: Profile,
    expected: Option<u64>,
) -> Result<Json<api::Customer>, Refused> {
    let (tenant, _) = desk(office)?;
    let reply = propose(office, id, CrmChange::Put { profile, expected }).await?;
    let Reply::Customer { id, version } = reply else {
        return Err(Refused(Fault::new(
            code::OUTCOME_UNKNOWN,
            "the exchange answered something else",
            "look at the present state",
        )));
    };
    // The leader may have answered before this node applied the same.
    let until = tokio::time::Instant::now() + limits::APPLY_WAIT;
    loop {
        let (tenant, who) = (tenant.clone(), id.clone());
        let found = reading(office, move |rows| read_customer(rows, &tenant, &who)).await?;
        match found.filter(|found| found.version >= version) {
            Some(found) => return Ok(Json(view::customer(&found))),
            None if tokio::time::Instant::now() >= until => {
                return Err(Refused::not_found(format!("customer {id}")));
            }
            None => tokio::time::sleep(limits::MAJORITY_LOOK).await,
        }
    }
}

fn written(body: api::CustomerProfile) -> (Option<String>, Option<u64>, Written) {
    let written = Written {
        name: body.name,
        tier: body.tier,
        tags: body.tags,
        fields: body.fields,
        numbers: body.numbers,
        owner: body.owner,
    };
    (body.command, body.version, written)
}

/// Makes a customer with an id of the exchange's own.
#[utoipa::path(post, path = "/v1/customers", request_body = api::CustomerProfile,
    responses((status = 200, body = api::Customer), (status = 400, body = api::ErrorBody)))]
pub async fn create(
    State(office): Shared,
    Body(body): Body<api::CustomerProfile>,
) -> Result<Json<api::Customer>, Refused> {
    let (_, numbering) = desk(&office)?;
    let (command, _, written) = written(body);
    let profile = profile(&numbering, CustomerId::from(""), written).map_err(bad)?;
    write(&office, command, profile, Some(0)).await
}

/// Makes or replaces a customer.
#[utoipa::path(put, path = "/v1/customers/{id}", params(("id" = String, Path)),
    request_body = api::CustomerProfile,
    responses((status = 200, body = api::Customer), (status = 400, body = api::ErrorBody),
        (status = 409, body = api::ErrorBody)))]
pub async fn put(
    State(office): Shared,
    Path(id): Path<String>,
    Body(body): Body<api::CustomerProfile>,
) -> Result<Json<api::Customer>, Refused> {
    let (_, numbering) = desk(&office)?;
    let (command, version, written) = written(body);
    let profile = profile(&numbering, CustomerId::from(id), written).map_err(bad)?;
    write(&office, command, profile, version).await
}

/// Changes some of what is written about a customer.
#[utoipa::path(patch, path = "/v1/customers/{id}", params(("id" = String, Path)),
    request_body = api::CustomerPatch,
    responses((status = 200, body = api::Customer), (status = 400, body = api::ErrorBody),
        (status = 404, body = api::ErrorBody), (status = 409, body = api::ErrorBody)))]
pub async fn patch(
    State(office): Shared,
    Path(id): Path<String>,
    Body(body): Body<api::CustomerPatch>,
) -> Result<Json<api::Customer>, Refused> {
    let (tenant, numbering) = desk(&office)?;
    let customer = CustomerId::from(id.as_str());
    let found = reading(&office, move |rows| read_customer(rows, &tenant, &customer)).await?;
    let found = found.ok_or_else(|| Refused::not_found(format!("customer {id}")))?;
    let old = found.profile;
    let mut fields = old.fields;
    for (name, text) in body.fields {
        match text {
            Some(text) => drop(fields.insert(name, text)),
            None => drop(fields.remove(&name)),
        }
    }
    let numbers = || old.numbers.iter().map(ToString::to_string).collect();
    let written = Written {
        name: body.name.unwrap_or(old.name),
        tier: body.tier.or(old.tier),
        tags: body.tags.unwrap_or_else(|| old.tags.into_iter().collect()),
        fields,
        numbers: body.numbers.unwrap_or_else(numbers),
        owner: body.owner.or(old.owner.map(|owner| owner.to_string())),
    };
    let profile = profile(&numbering, old.id, written).map_err(bad)?;
    // Whatever else changed since it was read would be overwritten unseen.
    let expected = Some(body.version.unwrap_or(found.version));
    write(&office, body.command, profile, expected).await
}

/// Removes a customer with the timeline; records of calls stay.
#[utoipa::path(delete, path = "/v1/customers/{id}", params(("id" = String, Path)),
    responses((status = 200), (status = 404, body = api::ErrorBody)))]
pub async fn remove(
    State(office): Shared,
    Path(id): Path<String>,
) -> Result<Json<serde_json::Value>, Refused> {
    let customer = CustomerId::from(id.as_str());
    loop {
        let customer = customer.clone();
        if propose(&office, None, CrmChange::Delete { customer }).await? != Reply::More {
            return Ok(Json(serde_json::json!({ "id": id })));
        }
    }
}

/// Takes in the next rows of a file.
#[utoipa::path(post, path = "/v1/customers/import", request_body = api::CustomerUpload,
    responses((status = 200, body = api::CustomerImport), (status = 400, body = api::ErrorBody),
        (status = 409, body = api::ErrorBody), (status = 503, body = api::ErrorBody)))]
pub async fn import(
    State(office): Shared,
    Body(upload): Body<api::CustomerUpload>,
) -> Result<Json<api::CustomerImport>, Refused> {
    let (tenant, numbering) = desk(&office)?;
    let size = upload.rows.len() + upload.rejects.len();
    if size > limits::IMPORT_UPLOAD_ROWS {
        let most = limits::IMPORT_UPLOAD_ROWS;
        return Err(bad(format!(
            "{size} rows at once, at most {most} are taken"
        )));
    }
    if upload.import.is_empty() || upload.import.len() > core_limits::IMPORT_TEXT_BYTES {
        return Err(bad("the import's id has no or too many letters".to_owned()));
    }
    let _turn = office
        .imports
        .acquire()
        .await
        .map_err(|_| Refused::no_quorum())?;
    let batches = tokio::task::spawn_blocking(move || batches(&numbering, upload));
    let batches = batches.await.map_err(|error| bad(error.to_string()))?;
    let mut last = None;
    for batch in batches {
        let command = Command::Crm {
            id: String::new(),
            tenant: tenant.clone(),
            change: CrmChange::Import(batch),
        };
        let begun = tokio::time::Instant::now();
        last = Some(commit(&office, &command, limits::IMPORT_COMMIT_DEADLINE).await?);
        // The busier the cluster, the longer a commit takes and the longer the rest is in
        // which calls have it for themselves.
        let rest = begun.elapsed() / limits::IMPORT_REST_SHARE;
        tokio::time::sleep(rest.min(limits::IMPORT_REST_MAX)).await;
    }
    match last {
        Some(Reply::Import(row)) => Ok(Json(view::import(&row))),
        _ => Err(bad("the upload has no rows".to_owned())),
    }
}

/// Splits an upload into commands; rows that cannot be taken become refused lines.
fn batches(numbering: &Numbering, upload: api::CustomerUpload) -> Vec<ImportBatch> {
    let refused = |reject: api::CustomerReject| {
        let mut reason = reject.reason.replace(char::is_control, " ");
        let end = reason.floor_char_boundary(core_limits::IMPORT_TEXT_BYTES);
        reason.truncate(end);
        Reject {
            line: reject.line,
            reason,
        }
    };
    let mut taken: Vec<(u64, Result<Profile, Reject>)> = Vec::new();
    for reject in upload.rejects {
        taken.push((reject.line, Err(refused(reject))));
    }
    for row in upload.rows {
        let line = row.line;
        let read = line_profile(numbering, row);
        let read = read.map_err(|reason| refused(api::CustomerReject { line, reason }));
        taken.push((line, read));
    }
    taken.sort_by_key(|(line, _)| *line);
    let empty = taken.is_empty();
    let count = taken.len().div_ceil(limits::IMPORT_COMMAND_ROWS).max(1);
    let mut batches = Vec::with_capacity(count);
    let mut offset = upload.offset;
    let mut taken = taken.into_iter().map(|(_, read)| read).peekable();
    while taken.peek().is_some() || (empty && batches.is_empty()) {
        let (mut rows, mut rejects) = (Vec::new(), Vec::new());
        for read in taken.by_ref().take(limits::IMPORT_COMMAND_ROWS) {
            match read {
                Ok(profile) => rows.push(profile),
                Err(reject) => rejects.push(reject),
            }
        }
        let count = u64::try_from(rows.len() + rejects.len()).unwrap_or(0);
        batches.push(ImportBatch {
            import: upload.import.clone(),
            offset,
            count,
            restart: upload.restart && offset == 0,
            last: upload.last && taken.peek().is_none(),
            rows,
            rejects,
        });
        offset = offset.saturating_add(count);
    }
    batches
}

fn line_profile(numbering: &Numbering, row: api::CustomerLine) -> Result<Profile, String> {
    let id = row.id.trim();
    if id.is_empty() {
        return Err("the id is missing".to_owned());
    }
    let id = CustomerId::from(id);
    let written = Written {
        name: row.name,
        tier: row.tier,
        tags: row.tags,
        fields: row.fields,
        numbers: row.numbers,
        owner: row.owner,
    };
    profile(numbering, id, written)
}

/// Imports, running and ended.
#[utoipa::path(get, path = "/v1/imports", responses((status = 200, body = [api::CustomerImport])))]
pub async fn imports(State(office): Shared) -> Result<Json<Vec<api::CustomerImport>>, Refused> {
    let (tenant, _) = desk(&office)?;
    let found = reading(&office, move |rows| {
        let prefix = keys::imports(&tenant);
        let page = rows.scan(Table::CustomerImport, &prefix, None, limits::PAGE_MAX);
        let rows = page.iter().filter_map(|(_, row)| decode_row(row));
        rows.map(|row: ImportRow| view::import(&row)).collect()
    });
    Ok(Json(found.await?))
}

/// How far an import has come.
#[utoipa::path(get, path = "/v1/imports/{id}", params(("id" = String, Path)),
    responses((status = 200, body = api::CustomerImport), (status = 404, body = api::ErrorBody)))]
pub async fn progress(
    State(office): Shared,
    Path(id): Path<String>,
) -> Result<Json<api::CustomerImport>, Refused> {
    let (tenant, _) = desk(&office)?;
    let key = keys::import(&tenant, &id);
    let found = reading(&office, move |rows| {
        decode_row::<ImportRow>(&rows.get(Table::CustomerImport, &key)?)
    });
    let found = found.await?;
    found
        .map(|row| Json(view::import(&row)))
        .ok_or_else(|| Refused::not_found(format!("import {id}")))
}

/// Lines an import refused, in the order of the file.
#[utoipa::path(get, path = "/v1/imports/{id}/rejects", params(("id" = String, Path), Page),
    responses((status = 200, body = [api::CustomerReject])))]
pub async fn rejects(
    State(office): Shared,
    Path(id): Path<String>,
    Query(page): Query<Page>,
) -> Result<Json<Vec<api::CustomerReject>>, Refused> {
    let (tenant, _) = desk(&office)?;
    let limit = page.limit();
    let after = match page.after.as_deref().filter(|after| !after.is_empty()) {
        None => None,
        Some(line) => {
            let line = line
                .parse()
                .map_err(|_| bad(format!("\"{line}\" is no line")))?;
            Some(keys::reject(&tenant, &id, line))
        }
    };
    let found = reading(&office, move |rows| {
        let prefix = keys::rejects(&tenant, &id);
        let page = rows.scan(Table::CustomerImport, &prefix, after.as_deref(), limit);
        let lines = page.iter().filter_map(|(_, row)| decode_row(row));
        lines
            .map(|Reject { line, reason }| api::CustomerReject { line, reason })
            .collect()
    });
    Ok(Json(found.await?))
}
