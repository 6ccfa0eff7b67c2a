//! Who may ask: holders of the admin token. Metrics need none on loopback.

use std::sync::Arc;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::Office;
use super::answer::Refused;
use super::listen::Peer;
use crate::fault::{Fault, code};

/// Lets a request through or refuses it.
pub async fn admit(
    State(office): State<Arc<Office>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    request: Request,
    next: Next,
) -> Response {
    let open = request.uri().path() == "/metrics" && peer.0.ip().is_loopback();
    let presented = token(request.headers());
    if open || presented.is_some_and(|token| office.vault.is_admin(token)) {
        return next.run(request).await;
    }
    let what = match presented {
        Some(_) => "the token is not this cluster's",
        None => "the request carries no token",
    };
    let next = "name the token file with --token-file or STROWGER_TOKEN_FILE";
    Refused(Fault::new(code::UNAUTHORIZED, what, next)).into_response()
}

/// The bearer token of a request (RFC 6750 §2.1).
fn token(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}
