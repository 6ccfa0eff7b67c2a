//! Imports of extensions: validated with line, counted, sealed and put in force.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, header};
use serde::Deserialize;
use strowger_core::api;

use super::Office;
use super::answer::Refused;
use super::sites::{apply, defect, plan, sealed};
use crate::site::SiteRead;
use crate::site::import::{Import, import as merged};

/// How a CSV body is meant; JSON says it itself.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Wish {
    file: Option<String>,
    replace: bool,
    dry_run: bool,
}

/// Adds extensions with known passwords to the site in force, or changes their passwords.
///
/// Takes the object as JSON, or the CSV itself as `text/csv` with `file`, `replace` and
/// `dry_run` in the query.
#[utoipa::path(post, path = "/v1/extensions/import", request_body = api::ExtensionImport,
    responses((status = 200, body = api::ExtensionsImported), (status = 404, body = api::ErrorBody),
        (status = 409, body = api::ErrorBody), (status = 422, body = api::ErrorBody),
        (status = 503, body = api::ErrorBody)))]
pub async fn import(
    State(office): State<Arc<Office>>,
    Query(wish): Query<Wish>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<api::ExtensionsImported>, Refused> {
    let body = body.map_err(|error| {
        Refused::bad_request(error.body_text(), "import fewer extensions at once")
    })?;
    let wanted = wanted(&headers, wish, &body)?;
    let row = office.state.read().sites.values().next().cloned();
    let row = row.ok_or_else(|| Refused::not_found("site; apply one first"))?;
    let (site, replace, dry_run) = (Arc::clone(&row.site), wanted.replace, wanted.dry_run);
    let reading = tokio::task::spawn_blocking(move || {
        merged(&site, &wanted.file, wanted.text.as_bytes(), replace)
    });
    let Import {
        site,
        passwords,
        added,
        removed,
    } = reading.await.map_err(|error| defect(&error))??;
    let rows = passwords.len();
    let read = SiteRead {
        site,
        text: row.text.clone(),
        passwords,
        generated: std::collections::BTreeSet::new(),
        blobs: std::collections::BTreeMap::new(),
    };
    let (secrets, _) = sealed(&office, &read);
    let known = secrets.iter().filter(|(one, _)| !added.contains(one));
    let updated = known.count();
    let count = |length: usize| u64::try_from(length).unwrap_or(u64::MAX);
    let mut result = api::ExtensionsImported {
        version: row.version,
        dry_run,
        added: count(added.len()),
        updated: count(updated),
        unchanged: count(rows.saturating_sub(added.len() + updated)),
        removed: count(removed.len()),
    };
    if !dry_run && (!secrets.is_empty() || read.site != *row.site) {
        let plan = plan(&office, &read.site, row.version);
        let Json(change) = apply(&office, plan, read.site, read.text, secrets, Vec::new()).await?;
        result.version = change.version;
    }
    Ok(Json(result))
}

/// The import as sent, in either form.
fn wanted(headers: &HeaderMap, wish: Wish, body: &[u8]) -> Result<api::ExtensionImport, Refused> {
    let kind = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if kind.eq_ignore_ascii_case("text/csv") {
        let text = std::str::from_utf8(body)
            .map_err(|error| Refused::bad_request(error.to_string(), "send UTF-8"))?;
        return Ok(api::ExtensionImport {
            file: wish.file.unwrap_or_else(|| "extensions.csv".to_owned()),
            text: text.to_owned(),
            replace: wish.replace,
            dry_run: wish.dry_run,
        });
    }
    if !kind.eq_ignore_ascii_case("application/json") {
        let next = "send it with Content-Type: application/json or text/csv";
        return Err(Refused::bad_request("neither JSON nor CSV", next));
    }
    serde_json::from_slice(body)
        .map_err(|error| Refused::bad_request(error.to_string(), "see /v1/openapi.json"))
}
