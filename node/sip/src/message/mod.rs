//! SIP messages as typed values (RFC 3261 §7).
//!
//! A message owns its text: keeping one header never keeps a datagram alive. Parsing applies the
//! limits and checks everything the exchange relies on, so that code behind it never meets a
//! missing Call-ID or a CSeq that names another method. What it does not do: judge policy (who
//! may call) or interpret bodies.

mod address;
mod build;
mod headers;
mod parse;
mod uri;

pub(crate) use address::unquote;
pub use address::{CSeq, NameAddr, ReasonValue, SessionExpires, Via, split_list};
pub use build::{new_request, reason_phrase, response_to};
pub use headers::{HeaderName, Headers};
pub use parse::{ParseError, Rejected, parse, parse_length};
pub use uri::{Scheme, Uri, escape_user, host_of};

use bytes::Bytes;
use std::fmt;

/// A request method.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Method {
    /// RFC 3261 §13.
    Invite,
    /// RFC 3261 §13.2.2.4.
    Ack,
    /// RFC 3261 §15.
    Bye,
    /// RFC 3261 §9.
    Cancel,
    /// RFC 3261 §11.
    Options,
    /// RFC 3261 §10.
    Register,
    /// RFC 6086.
    Info,
    /// RFC 3311.
    Update,
    /// Any other method, as written.
    Other(String),
}

impl Method {
    /// The method of this name (case-sensitive, RFC 3261 §7.1).
    #[must_use]
    pub fn from_name(name: &str) -> Self {
        match name {
            "INVITE" => Self::Invite,
            "ACK" => Self::Ack,
            "BYE" => Self::Bye,
            "CANCEL" => Self::Cancel,
            "OPTIONS" => Self::Options,
            "REGISTER" => Self::Register,
            "INFO" => Self::Info,
            "UPDATE" => Self::Update,
            other => Self::Other(other.to_owned()),
        }
    }

    /// The name on the wire.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Invite => "INVITE",
            Self::Ack => "ACK",
            Self::Bye => "BYE",
            Self::Cancel => "CANCEL",
            Self::Options => "OPTIONS",
            Self::Register => "REGISTER",
            Self::Info => "INFO",
            Self::Update => "UPDATE",
            Self::Other(name) => name,
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// What is asked.
    pub method: Method,
    /// The Request-URI.
    pub uri: Uri,
    /// Header fields in order.
    pub headers: Headers,
    /// The body; empty when there is none.
    pub body: Bytes,
}

/// A response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// Status code, 100 to 699.
    pub status: u16,
    /// Reason phrase, possibly empty.
    pub reason: String,
    /// Header fields in order.
    pub headers: Headers,
    /// The body; empty when there is none.
    pub body: Bytes,
}

/// A request or a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// A request.
    Request(Request),
    /// A response.
    Response(Response),
}

impl Message {
    /// The header fields.
    #[must_use]
    pub fn headers(&self) -> &Headers {
        match self {
            Self::Request(request) => &request.headers,
            Self::Response(response) => &response.headers,
        }
    }

    /// The bytes on the wire.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        match self {
            Self::Request(request) => request.to_bytes(),
            Self::Response(response) => response.to_bytes(),
        }
    }
}

impl Request {
    /// The bytes on the wire; Content-Length is written from the body.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        let mut out = String::with_capacity(640);
        out.push_str(self.method.as_str());
        out.push(' ');
        self.uri.write_to(&mut out);
        out.push_str(" SIP/2.0\r\n");
        finish(out, &self.headers, &self.body)
    }

    /// The body as text when it is declared as SDP (a missing Content-Type counts as SDP).
    #[must_use]
    pub fn sdp(&self) -> Option<String> {
        sdp_of(&self.headers, &self.body)
    }
}

impl Response {
    /// The bytes on the wire; Content-Length is written from the body.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        let mut out = String::with_capacity(512);
        out.push_str("SIP/2.0 ");
        out.push_str(&self.status.to_string());
        out.push(' ');
        out.push_str(&self.reason);
        out.push_str("\r\n");
        finish(out, &self.headers, &self.body)
    }

    /// The body as text when it is declared as SDP (a missing Content-Type counts as SDP).
    #[must_use]
    pub fn sdp(&self) -> Option<String> {
        sdp_of(&self.headers, &self.body)
    }

    /// Adds a header; for building answers in one expression.
    #[must_use]
    pub fn with(mut self, name: HeaderName, value: impl Into<String>) -> Self {
        self.headers.push(name, value);
        self
    }

    /// Sets the body and its Content-Type.
    #[must_use]
    pub fn with_body(mut self, content_type: &str, body: impl Into<Bytes>) -> Self {
        self.headers.set(HeaderName::ContentType, content_type);
        self.body = body.into();
        self
    }

    /// True for 1xx.
    #[must_use]
    pub fn is_provisional(&self) -> bool {
        self.status < 200
    }

    /// True for 2xx.
    #[must_use]
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

fn finish(mut out: String, headers: &Headers, body: &Bytes) -> Bytes {
    headers.write_to(&mut out);
    out.push_str("Content-Length: ");
    out.push_str(&body.len().to_string());
    out.push_str("\r\n\r\n");
    let mut bytes = out.into_bytes();
    bytes.extend_from_slice(body);
    Bytes::from(bytes)
}

fn sdp_of(headers: &Headers, body: &Bytes) -> Option<String> {
    if body.is_empty() || !is_sdp(headers.get(&HeaderName::ContentType)) {
        return None;
    }
    Some(String::from_utf8_lossy(body).into_owned())
}

/// True when a Content-Type names SDP or is missing.
pub(crate) fn is_sdp(content_type: Option<&str>) -> bool {
    content_type.is_none_or(|value| {
        value
            .split(';')
            .next()
            .is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/sdp"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text of a small request with these header lines.
    fn request(lines: &str) -> Result<Message, Rejected> {
        let text = format!(
            "OPTIONS sip:a@b SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bKx\r\nCall-ID: c\r\n\
             CSeq: 1 OPTIONS\r\n{lines}\r\n\r\n"
        );
        parse(text.as_bytes())
    }

    #[test]
    fn a_line_break_in_a_value_never_makes_a_header() {
        let message = request("From: <sip:a@b>;tag=1\r\nTo: <sip:a@b>\r\nSubject: x\nEvil: y")
            .expect("valid");
        assert_eq!(
            message.headers().get(&HeaderName::Subject),
            Some("x Evil: y")
        );
        let mut headers = Headers::new();
        headers.push(HeaderName::Subject, "a\r\nEvil: b");
        assert_eq!(headers.get(&HeaderName::Subject), Some("a  Evil: b"));
    }

    #[test]
    fn folded_lines_are_joined() {
        let message = request("From: <sip:a@b>\r\n ;tag=1\r\nTo:\r\n\t<sip:a@b>").expect("valid");
        assert_eq!(message.headers().from_tag(), Some("1"));
        assert!(message.headers().to().is_some());
    }

    #[test]
    fn addresses_are_read_and_written_back() {
        for (text, display, tag) in [
            (
                "\"A. \\\"B\\\" <C>\" <sip:a@b;x=y>;tag=1",
                Some("A. \"B\" <C>"),
                Some("1"),
            ),
            ("Bob <sips:bob@[::1]:5061>;tag=2", Some("Bob"), Some("2")),
            ("sip:+49301234@h;tag=3", None, Some("3")),
            ("<tel:+4930;phone-context=x>", None, None),
        ] {
            let address = NameAddr::parse(text).expect(text);
            assert_eq!(address.display.as_deref(), display, "{text}");
            assert_eq!(address.tag(), tag, "{text}");
            assert_eq!(
                NameAddr::parse(&address.to_string()),
                Some(address),
                "{text}"
            );
        }
        for text in [
            "",
            "<>",
            "<sip:a@b",
            "\"open <sip:a@b>",
            "a, b <sip:a@b>",
            "sip:a@b?x=y",
        ] {
            assert_eq!(NameAddr::parse(text), None, "{text}");
        }
    }

    #[test]
    fn uris_compare_as_bindings_do() {
        let uri = |text: &str| Uri::parse(text).expect("valid");
        assert!(uri("sip:%61lice@Host").equivalent(&uri("sip:alice@host;x=y")));
        assert!(!uri("sip:alice@host").equivalent(&uri("sip:alice@host:5060")));
        assert!(!uri("sip:a@h;transport=tcp").equivalent(&uri("sip:a@h")));
        assert_eq!(uri("sip:b%20b:pw@h").user_text().as_deref(), Some("b b"));
        assert_eq!(Uri::sip(Some("b b"), "h", None).to_string(), "sip:b%20b@h");
    }

    #[test]
    fn reason_and_session_headers_are_typed() {
        let lines = "From: <sip:a@b>;tag=1\r\nTo: <sip:a@b>\r\n\
            Session-Expires: 90;refresher=uas\r\nRetry-After: 18 (soon);duration=2\r\n\
            Reason: SIP;cause=200;text=\"a, b\", Q.850;cause=16";
        let message = request(lines).expect("valid");
        let headers = message.headers();
        assert_eq!(headers.q850(), Some(16));
        assert_eq!(headers.retry_after(), Some(18));
        let session = headers.session_expires().expect("typed");
        assert_eq!((session.seconds, session.refresher_uac), (90, Some(false)));
    }
}
