//! Building responses from requests, and bare requests (RFC 3261 §8.1.1, §8.2.6).

use super::{HeaderName, Headers, Method, Request, Response, Uri};
use bytes::Bytes;

/// A response with the headers every response copies: Via, From, To, Call-ID, CSeq.
///
/// `to_tag` is added to To unless it has a tag already.
#[must_use]
pub fn response_to(request: &Request, status: u16, reason: &str, to_tag: Option<&str>) -> Response {
    let mut headers = Headers::new();
    for (name, value) in request.headers.iter() {
        match name {
            HeaderName::Via | HeaderName::From | HeaderName::CallId | HeaderName::CSeq => {
                headers.push(name.clone(), value);
            }
            HeaderName::To => match to_tag {
                Some(tag) if request.headers.to_tag().is_none() => {
                    headers.push(HeaderName::To, format!("{value};tag={tag}"));
                }
                _ => headers.push(HeaderName::To, value),
            },
            _ => {}
        }
    }
    let reason = if reason.is_empty() {
        reason_phrase(status)
    } else {
        reason
    };
    Response {
        status,
        reason: reason.chars().filter(|c| !c.is_control()).collect(),
        headers,
        body: Bytes::new(),
    }
}

/// A request with only Max-Forwards set; the caller adds the rest.
#[must_use]
pub fn new_request(method: Method, uri: Uri) -> Request {
    let mut headers = Headers::new();
    headers.push(HeaderName::MaxForwards, "70");
    Request {
        method,
        uri,
        headers,
        body: Bytes::new(),
    }
}

/// The usual reason phrase of a status.
#[must_use]
pub fn reason_phrase(status: u16) -> &'static str {
    match status {
        100 => "Trying",
        180 => "Ringing",
        181 => "Call Is Being Forwarded",
        182 => "Queued",
        183 => "Session Progress",
        200 => "OK",
        202 => "Accepted",
        302 => "Moved Temporarily",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        407 => "Proxy Authentication Required",
        408 => "Request Timeout",
        410 => "Gone",
        413 => "Request Entity Too Large",
        415 => "Unsupported Media Type",
        416 => "Unsupported URI Scheme",
        420 => "Bad Extension",
        422 => "Session Interval Too Small",
        423 => "Interval Too Brief",
        480 => "Temporarily Unavailable",
        481 => "Call/Transaction Does Not Exist",
        482 => "Loop Detected",
        483 => "Too Many Hops",
        484 => "Address Incomplete",
        486 => "Busy Here",
        487 => "Request Terminated",
        488 => "Not Acceptable Here",
        491 => "Request Pending",
        500 => "Server Internal Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        504 => "Server Time-out",
        505 => "Version Not Supported",
        600 => "Busy Everywhere",
        603 => "Decline",
        604 => "Does Not Exist Anywhere",
        606 => "Not Acceptable",
        _ => match status / 100 {
            1 => "Progress",
            2 => "OK",
            3 => "Redirected",
            4 => "Request Failed",
            5 => "Server Failed",
            _ => "Declined",
        },
    }
}
