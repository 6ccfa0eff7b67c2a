//! Answers that say what went wrong, as `{"error":{"code","what","where","next"}}`.

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use strowger_core::state::command::Refusal;

use crate::fault::{Fault, code};
use crate::limits;

/// A refusal on its way out. The status follows from the code.
#[derive(Debug)]
pub struct Refused(pub Fault);

impl From<Fault> for Refused {
    fn from(fault: Fault) -> Self {
        Self(fault)
    }
}

impl Refused {
    /// Nothing of this name.
    pub fn not_found(what: impl std::fmt::Display) -> Self {
        let next = "list what there is, or ask another node";
        Self(Fault::new(code::NOT_FOUND, format!("no such {what}"), next))
    }

    /// The request makes no sense.
    pub fn bad_request(what: impl Into<String>, next: &str) -> Self {
        Self(Fault::new(code::BAD_REQUEST, what, next))
    }

    /// The exchange refused.
    pub fn by_state(refusal: &Refusal) -> Self {
        match refusal {
            Refusal::NotFound(what) => Self::not_found(what),
            Refusal::Stale => {
                let what = "something else was changed at the same time";
                Self(Fault::new(
                    code::REFUSED,
                    what,
                    "look at the present state and try again",
                ))
            }
            other => {
                let next = "look at the present state";
                Self(Fault::new(code::REFUSED, other.to_string(), next))
            }
        }
    }

    /// No majority can be reached.
    pub fn no_quorum() -> Self {
        let what = "no majority of nodes can be reached, so nothing can be changed";
        Self(Fault::new(
            code::NO_QUORUM,
            what,
            "start the nodes that are down and try again",
        ))
    }

    fn status(&self) -> StatusCode {
        match &*self.0.code {
            code::UNAUTHORIZED => StatusCode::UNAUTHORIZED,
            code::NOT_FOUND => StatusCode::NOT_FOUND,
            code::BAD_REQUEST => StatusCode::BAD_REQUEST,
            code::REFUSED => StatusCode::CONFLICT,
            code::NO_QUORUM | code::BLOB_MAJORITY | code::BUSY => StatusCode::SERVICE_UNAVAILABLE,
            code::OUTCOME_UNKNOWN => StatusCode::GATEWAY_TIMEOUT,
            site if site.starts_with("SW02") => StatusCode::UNPROCESSABLE_ENTITY,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let status = self.status();
        let mut response = (status, Json(self.0.body())).into_response();
        let headers = response.headers_mut();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// A JSON body; what is wrong with it is answered in our own form.
pub struct Body<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Refused;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refused> {
        match Json::<T>::from_request(request, state).await {
            Ok(Json(value)) => Ok(Self(value)),
            Err(rejection) => {
                let next = match &rejection {
                    JsonRejection::MissingJsonContentType(_) => {
                        "send it with Content-Type: application/json"
                    }
                    _ => "see /v1/openapi.json",
                };
                Err(Refused::bad_request(rejection.body_text(), next))
            }
        }
    }
}

/// Ends a request that takes too long.
pub async fn timed(request: Request, next: Next) -> Response {
    match tokio::time::timeout(limits::REQUEST_TIMEOUT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            let what = "the request took too long; a change may have happened";
            let fault = Fault::new(code::OUTCOME_UNKNOWN, what, "look at the present state");
            Refused(fault).into_response()
        }
    }
}

/// No such path.
pub async fn no_such_path(uri: Uri) -> Refused {
    Refused::not_found(format!("path {}", uri.path()))
}

/// The path knows other methods.
pub async fn no_such_method(method: Method, uri: Uri) -> Response {
    let what = format!("{method} is not possible on {}", uri.path());
    let refused = Refused::bad_request(what, "see /v1/openapi.json");
    let mut response = refused.into_response();
    *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    response
}
