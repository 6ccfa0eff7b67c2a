//! From bytes to a checked message (RFC 3261 §7, §18.3; RFC 4475 is the test).
//!
//! Two steps: frame (start line, header lines, body), then check. What fails the check is
//! answered when it still says whom to answer; `Rejected::response` is that answer.

use super::address::{CSeq, NameAddr, Via, is_token_char, param_of};
use super::build::response_to;
use super::{HeaderName, Headers, Message, Method, Request, Response, Uri};
use crate::limits;
use bytes::Bytes;
use std::borrow::Cow;

/// What is wrong with a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}{}", header.as_deref().map(|h| format!(" in {h}")).unwrap_or_default())]
pub struct ParseError {
    /// The fault.
    pub reason: &'static str,
    /// The header it was found in.
    pub header: Option<String>,
}

impl ParseError {
    pub(crate) fn new(reason: &'static str, header: Option<&HeaderName>) -> Self {
        Self {
            reason,
            header: header.map(|h| h.as_str().to_owned()),
        }
    }
}

/// A message that was not accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// Why.
    pub error: ParseError,
    /// The answer to send, when the message is a request that says whom to answer.
    pub response: Option<Box<Response>>,
}

impl From<ParseError> for Rejected {
    fn from(error: ParseError) -> Self {
        Self {
            error,
            response: None,
        }
    }
}

/// Parses one datagram or one stream frame.
///
/// # Errors
/// [`Rejected`] with the fault, and with the 400 or 505 to send where one can be built.
pub fn parse(bytes: &[u8]) -> Result<Message, Rejected> {
    if bytes.len() > limits::MESSAGE_BYTES_MAX {
        return Err(ParseError::new("message too large", None).into());
    }
    let end = head_end(bytes);
    let (head, body) = end
        .and_then(|end| bytes.split_at_checked(end))
        .unwrap_or((bytes, &[]));
    let head = String::from_utf8_lossy(head);
    let (start, mut rest) = match head.split_once("\r\n") {
        Some((start, rest)) => (start, Cow::Borrowed(rest)),
        None => return Err(ParseError::new("no start line", None).into()),
    };
    if is_folded(&rest) {
        rest = Cow::Owned(unfold(&rest));
    }
    let (headers, mut fault) = header_lines(&rest);
    if end.is_none() {
        fault.get_or_insert(ParseError::new("no end of headers", None));
    }
    if let Some(line) = start.strip_prefix("SIP/") {
        if let Some(error) = fault {
            return Err(error.into());
        }
        return response(line, headers, body).map(Message::Response);
    }
    request(start, headers, body, fault).map(Message::Request)
}

/// The declared Content-Length of a head (everything up to the blank line), for stream framing.
///
/// # Errors
/// [`ParseError`] when it is missing, repeated with another value, or not a number in bounds.
pub fn parse_length(head: &[u8]) -> Result<usize, ParseError> {
    let head = String::from_utf8_lossy(head);
    let (_, rest) = head.split_once("\r\n").unwrap_or((&head, ""));
    let rest = unfold(rest);
    let mut found = None;
    for line in rest.split("\r\n") {
        let Some((name, value)) = line.split_once(':') else {
            continue;
        };
        if HeaderName::from_text(name.trim()) == HeaderName::ContentLength {
            let length = length_of(value)?;
            if found.is_some_and(|other| other != length) {
                return Err(length_error("repeated with another value"));
            }
            found = Some(length);
        }
    }
    found.ok_or(length_error("missing on a stream"))
}

fn length_error(reason: &'static str) -> ParseError {
    ParseError::new(reason, Some(&HeaderName::ContentLength))
}

fn length_of(value: &str) -> Result<usize, ParseError> {
    let value = value.trim();
    if value.is_empty() || !value.bytes().all(|b| b.is_ascii_digit()) {
        return Err(length_error("not a number"));
    }
    match value.parse::<usize>() {
        Ok(length) if length <= limits::MESSAGE_BYTES_MAX => Ok(length),
        _ => Err(length_error("too large")),
    }
}

/// Index just behind the blank line.
pub(crate) fn head_end(bytes: &[u8]) -> Option<usize> {
    let mut from = 0;
    loop {
        let at = from + bytes.get(from..)?.iter().position(|b| *b == b'\r')?;
        if bytes.get(at..at + 4)? == b"\r\n\r\n" {
            return Some(at + 4);
        }
        from = at + 1;
    }
}

/// The lines of a head. Only CRLF ends one: a lone CR or LF stays in its value and becomes a
/// space there.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let mut from = 0;
        loop {
            let found = rest.get(from..).and_then(|tail| tail.find('\n'));
            let Some(at) = found.map(|at| from + at) else {
                return Some(std::mem::take(&mut rest));
            };
            if let Some(line) = rest.get(..at).and_then(|line| line.strip_suffix('\r')) {
                rest = rest.get(at + 1..).unwrap_or("");
                return Some(line);
            }
            from = at + 1;
        }
    })
}

fn is_folded(text: &str) -> bool {
    lines(text)
        .skip(1)
        .any(|line| line.starts_with([' ', '\t']))
}

/// Joins folded lines (RFC 3261 §7.3.1).
fn unfold(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for line in text.split_inclusive("\r\n") {
        if line.starts_with([' ', '\t']) && out.ends_with("\r\n") {
            out.truncate(out.len() - 2);
            out.push(' ');
            out.push_str(line.trim_start_matches([' ', '\t']));
        } else {
            out.push_str(line);
        }
    }
    out
}

/// Reads header lines; the first fault is kept so that a request can still be answered.
fn header_lines(text: &str) -> (Headers, Option<ParseError>) {
    let mut headers = Headers::new();
    let mut fault = None;
    for line in lines(text) {
        if line.is_empty() {
            continue;
        }
        let parsed = header_line(line);
        if headers.len() >= limits::HEADERS_MAX {
            fault.get_or_insert(ParseError::new("too many headers", None));
            break;
        }
        match parsed {
            Ok((name, value)) => headers.push(name, value),
            Err(error) => {
                fault.get_or_insert(error);
            }
        }
    }
    (headers, fault)
}

fn header_line(line: &str) -> Result<(HeaderName, &str), ParseError> {
    let (name, value) = line
        .split_once(':')
        .ok_or(ParseError::new("header line without a colon", None))?;
    let name = name.trim_end();
    if name.is_empty() || !name.chars().all(is_token_char) {
        return Err(ParseError::new("malformed header name", None));
    }
    let name = HeaderName::from_text(name);
    if value.len() > limits::HEADER_BYTES_MAX {
        return Err(ParseError::new("value too long", Some(&name)));
    }
    Ok((name, value.trim()))
}

fn response(line: &str, headers: Headers, body: &[u8]) -> Result<Response, Rejected> {
    let (version, rest) = line.split_once(' ').unwrap_or((line, ""));
    if version != "2.0" {
        return Err(ParseError::new("unknown protocol version", None).into());
    }
    let (code, reason) = rest.split_once(' ').unwrap_or((rest, ""));
    let status = match (code.len(), code.parse::<u16>()) {
        (3, Ok(status)) if (100..700).contains(&status) => status,
        _ => return Err(ParseError::new("malformed status code", None).into()),
    };
    let body = body_of(&headers, body)?;
    check_common(&headers)?;
    Ok(Response {
        status,
        reason: reason.to_owned(),
        headers,
        body,
    })
}

fn request(
    start: &str,
    headers: Headers,
    body: &[u8],
    fault: Option<ParseError>,
) -> Result<Request, Rejected> {
    let version_at = start
        .rfind("SIP/")
        .ok_or(ParseError::new("not SIP", None))?;
    let version = start.get(version_at..).unwrap_or("");
    let method = Method::from_name(start.split(' ').next().unwrap_or(""));
    let mut request = Request {
        method,
        uri: Uri::sip(None, "invalid", None),
        headers,
        body: Bytes::new(),
    };
    let method_fits = request.method.as_str().chars().all(is_token_char);
    if request.method.as_str().is_empty() || !method_fits {
        return Err(ParseError::new("malformed method", None).into());
    }
    let digits = version.trim_start_matches("SIP/").trim_end();
    if digits != "2.0" {
        return Err(refuse(
            &request,
            505,
            ParseError::new("unknown protocol version", None),
        ));
    }
    match fault
        .map_or(Ok(()), Err)
        .and_then(|()| request_uri(start))
        .and_then(|uri| {
            request.uri = uri;
            check_request(&request)?;
            body_of(&request.headers, body)
        }) {
        Ok(body) => {
            request.body = body;
            Ok(request)
        }
        Err(error) => Err(refuse(&request, 400, error)),
    }
}

fn request_uri(start: &str) -> Result<Uri, ParseError> {
    let mut words = start.split(' ');
    let (Some(_), Some(uri), Some("SIP/2.0"), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(ParseError::new("malformed request line", None));
    };
    let uri = Uri::parse(uri).ok_or(ParseError::new("malformed Request-URI", None))?;
    if uri.headers.is_empty() {
        Ok(uri)
    } else {
        Err(ParseError::new("Request-URI with headers", None))
    }
}

/// The answer to a request that failed its check, when it says whom to answer.
fn refuse(request: &Request, status: u16, error: ParseError) -> Rejected {
    let headers = &request.headers;
    let answerable = request.method != Method::Ack
        && headers.get(&HeaderName::Via).is_some()
        && [
            HeaderName::CSeq,
            HeaderName::CallId,
            HeaderName::From,
            HeaderName::To,
        ]
        .iter()
        .filter(|name| headers.get(name).is_some())
        .count()
            > 0;
    let response = answerable.then(|| {
        let text = if status == 505 {
            String::new()
        } else {
            format!("Bad Request - {error}")
        };
        Box::new(response_to(request, status, &text, None))
    });
    Rejected { error, response }
}

fn check_request(request: &Request) -> Result<(), ParseError> {
    let headers = &request.headers;
    check_common(headers)?;
    let cseq = headers.cseq();
    if cseq.is_none_or(|cseq| cseq.method != request.method) {
        return Err(ParseError::new("method differs", Some(&HeaderName::CSeq)));
    }
    let single = [
        HeaderName::MaxForwards,
        HeaderName::Expires,
        HeaderName::ContentType,
    ];
    check_single(headers, &single)?;
    if let Some(value) = headers.get(&HeaderName::MaxForwards) {
        let fits = value.parse::<u32>().is_ok_and(|n| n <= 255);
        if !fits {
            return Err(ParseError::new(
                "out of range",
                Some(&HeaderName::MaxForwards),
            ));
        }
    }
    if headers.get(&HeaderName::Expires).is_some() && headers.expires().is_none() {
        return Err(ParseError::new("not a number", Some(&HeaderName::Expires)));
    }
    // RFC 3261 §20.17: only GMT; a date in another zone is refused (RFC 4475 §3.1.2.12).
    if headers
        .get(&HeaderName::Date)
        .is_some_and(|date| !date.ends_with("GMT"))
    {
        return Err(ParseError::new("not in GMT", Some(&HeaderName::Date)));
    }
    check_addresses(request)
}

fn check_addresses(request: &Request) -> Result<(), ParseError> {
    let headers = &request.headers;
    for (name, most) in [
        (HeaderName::Contact, limits::CONTACTS_MAX),
        (HeaderName::Route, limits::ROUTES_MAX),
        (HeaderName::RecordRoute, limits::ROUTES_MAX),
    ] {
        let values = headers.list(&name);
        if values.len() > most {
            return Err(ParseError::new("too many values", Some(&name)));
        }
        for value in values {
            let star = value == "*" && request.method == Method::Register;
            if star && name == HeaderName::Contact {
                continue;
            }
            if !NameAddr::is_valid(value) {
                return Err(ParseError::new("malformed address", Some(&name)));
            }
            let tail = value.rsplit('>').next().unwrap_or("");
            let tail = tail
                .get(tail.find(';').unwrap_or(tail.len())..)
                .unwrap_or("");
            let expires = param_of(tail, "expires").flatten();
            if expires.is_some_and(|text| text.parse::<u32>().is_err()) {
                return Err(ParseError::new("expires out of range", Some(&name)));
            }
        }
    }
    Ok(())
}

/// The headers every message must have, each once and well formed.
fn check_common(headers: &Headers) -> Result<(), ParseError> {
    let once = [
        HeaderName::From,
        HeaderName::To,
        HeaderName::CallId,
        HeaderName::CSeq,
    ];
    check_single(headers, &once)?;
    for name in &once {
        if headers.get(name).is_none_or(str::is_empty) {
            return Err(ParseError::new("missing", Some(name)));
        }
    }
    for name in [HeaderName::From, HeaderName::To] {
        if !headers.get(&name).is_some_and(NameAddr::is_valid) {
            return Err(ParseError::new("malformed address", Some(&name)));
        }
    }
    if headers
        .get(&HeaderName::CSeq)
        .and_then(CSeq::parse)
        .is_none()
    {
        return Err(ParseError::new("malformed value", Some(&HeaderName::CSeq)));
    }
    let call_id = headers.call_id();
    if call_id.contains([' ', '\t', ',', ';']) {
        return Err(ParseError::new(
            "malformed value",
            Some(&HeaderName::CallId),
        ));
    }
    let vias = headers.list(&HeaderName::Via);
    if vias.is_empty() {
        return Err(ParseError::new("missing", Some(&HeaderName::Via)));
    }
    if vias.len() > limits::VIAS_MAX {
        return Err(ParseError::new("too many values", Some(&HeaderName::Via)));
    }
    if !vias.iter().all(|via| !via.is_empty() && Via::is_valid(via)) {
        return Err(ParseError::new("malformed value", Some(&HeaderName::Via)));
    }
    Ok(())
}

fn check_single(headers: &Headers, names: &[HeaderName]) -> Result<(), ParseError> {
    for name in names {
        if headers.get_all(name).count() > 1 {
            return Err(ParseError::new("more than one", Some(name)));
        }
    }
    Ok(())
}

/// Cuts the body to its declared length (RFC 3261 §18.3).
fn body_of(headers: &Headers, body: &[u8]) -> Result<Bytes, ParseError> {
    let mut declared = None;
    for value in headers.get_all(&HeaderName::ContentLength) {
        let length = length_of(value)?;
        if declared.is_some() {
            return Err(length_error("more than one"));
        }
        declared = Some(length);
    }
    let length = declared.unwrap_or(body.len());
    body.get(..length)
        .map(Bytes::copy_from_slice)
        .ok_or(length_error("larger than the message"))
}
