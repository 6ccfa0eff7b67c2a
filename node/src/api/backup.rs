//! A backup, as a body that is read while it is taken.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use strowger_core::api;

use super::Office;
use super::answer::Refused;

/// Gives a backup of this node's rows and sound files, in frames; `strowgerd backup` reads
/// and keeps it. Secrets in it stay sealed.
#[utoipa::path(get, path = "/v1/backup",
    responses((status = 200, content_type = "application/octet-stream"),
        (status = 409, body = api::ErrorBody), (status = 503, body = api::ErrorBody)))]
pub async fn take(State(office): State<Arc<Office>>) -> Result<Response, Refused> {
    let body = crate::backup::stream(&office).await?;
    let kind = [(header::CONTENT_TYPE, "application/octet-stream")];
    Ok((kind, body).into_response())
}
