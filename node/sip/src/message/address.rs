//! Structured header values: addresses, Via, CSeq, Reason, Session-Expires (RFC 3261 §20, §25).
//!
//! All of them parse from one value of a list (`split_list` takes lists apart) and print back.

use super::uri::{Uri, UriRef, parse_hostport};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fmt;

/// A display name, a URI and header parameters: From, To, Contact, Route and their kin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameAddr {
    /// Display name without its quotes, unescaped.
    pub display: Option<String>,
    /// The URI.
    pub uri: Uri,
    /// Header parameters as written, from the first `;`.
    pub params: String,
}

impl NameAddr {
    /// An address without display name or parameters.
    #[must_use]
    pub fn new(uri: Uri) -> Self {
        Self {
            display: None,
            uri,
            params: String::new(),
        }
    }

    /// Reads one address; `None` when it breaks the grammar.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let parts = NameAddrRef::parse(text)?;
        Some(Self {
            display: match parts.display {
                Display::None => None,
                Display::Words(words) => Some(words.to_owned()),
                Display::Quoted(inner) => Some(unquote(inner)),
            },
            uri: Uri::parse(parts.uri)?,
            params: tidy_params(parts.params),
        })
    }

    /// True when the text is one well-formed address.
    pub(super) fn is_valid(text: &str) -> bool {
        NameAddrRef::parse(text).is_some_and(|parts| UriRef::parse(parts.uri).is_some())
    }

    /// A header parameter: outer `None` absent, inner `None` without a value.
    #[must_use]
    pub fn param(&self, name: &str) -> Option<Option<&str>> {
        param_of(&self.params, name)
    }

    /// The tag.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.param("tag").flatten()
    }

    /// Adds a header parameter.
    #[must_use]
    pub fn with_param(mut self, name: &str, value: &str) -> Self {
        self.params.push(';');
        self.params.push_str(name);
        self.params.push('=');
        self.params.push_str(value);
        self
    }
}

impl fmt::Display for NameAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(display) = &self.display {
            f.write_str("\"")?;
            for c in display.chars().filter(|c| !c.is_control()) {
                if matches!(c, '"' | '\\') {
                    f.write_str("\\")?;
                }
                write!(f, "{c}")?;
            }
            f.write_str("\" ")?;
        }
        write!(f, "<{}>{}", self.uri, self.params)
    }
}

enum Display<'a> {
    None,
    Words(&'a str),
    Quoted(&'a str),
}

/// The parts of an address, borrowed; the URI is not looked into.
struct NameAddrRef<'a> {
    display: Display<'a>,
    uri: &'a str,
    params: &'a str,
}

impl<'a> NameAddrRef<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let text = text.trim();
        let (display, rest) = if text.starts_with('"') {
            let (quoted, rest) = text.split_at_checked(quoted_end(text)?)?;
            let inner = quoted.get(1..quoted.len().checked_sub(1)?)?;
            (Display::Quoted(inner), rest.trim_start())
        } else if let Some(at) = text.find('<') {
            let (name, rest) = text.split_at_checked(at)?;
            let name = name.trim();
            let fits = |c| is_token_char(c) || c == ' ' || c == '\t';
            if !name.chars().all(fits) {
                return None;
            }
            let words = if name.is_empty() {
                Display::None
            } else {
                Display::Words(name)
            };
            (words, rest)
        } else {
            return Self::parse_bare(text);
        };
        let (uri, tail) = rest.strip_prefix('<')?.split_once('>')?;
        let params = tail.trim();
        (params.is_empty() || valid_params(params)).then_some(Self {
            display,
            uri,
            params,
        })
    }

    /// Without brackets every parameter belongs to the header, and a '?' or ',' is not allowed
    /// (RFC 3261 §20.10).
    fn parse_bare(text: &'a str) -> Option<Self> {
        let cut = text.find(';').unwrap_or(text.len());
        let (uri, params) = text.split_at_checked(cut)?;
        let uri = uri.trim_end();
        let fits = !uri.contains(['?', ',']) && (params.is_empty() || valid_params(params));
        fits.then_some(Self {
            display: Display::None,
            uri,
            params,
        })
    }
}

/// One Via value (RFC 3261 §20.42, RFC 3581).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Via {
    /// `UDP`, `TCP`, `TLS` … in upper case.
    pub transport: String,
    /// Host of sent-by.
    pub host: String,
    /// Port of sent-by.
    pub port: Option<u16>,
    /// Parameters as written, from the first `;`.
    pub params: String,
}

impl Via {
    /// Reads one Via value; `None` when it breaks the grammar.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (transport, sent_by, params) = Self::parts(text)?;
        let (host, port) = parse_hostport(&sent_by)?;
        Some(Self {
            transport: transport.to_ascii_uppercase(),
            host: host.to_owned(),
            port,
            params: tidy_params(params),
        })
    }

    /// True when the text is one well-formed Via value.
    pub(super) fn is_valid(text: &str) -> bool {
        Self::parts(text).is_some_and(|(_, sent_by, _)| parse_hostport(&sent_by).is_some())
    }

    /// Transport, sent-by without white space, and parameters.
    fn parts(text: &str) -> Option<(&str, Cow<'_, str>, &str)> {
        let (name, rest) = text.trim().split_once('/')?;
        let (version, rest) = rest.split_once('/')?;
        if !name.trim().eq_ignore_ascii_case("SIP") || version.trim() != "2.0" {
            return None;
        }
        let rest = rest.trim_start();
        let cut = rest.find([' ', '\t'])?;
        let (transport, rest) = rest.split_at_checked(cut)?;
        if transport.is_empty() || !transport.chars().all(is_token_char) {
            return None;
        }
        let cut = rest.find(';').unwrap_or(rest.len());
        let (sent_by, params) = rest.split_at_checked(cut)?;
        if !(params.is_empty() || valid_params(params)) {
            return None;
        }
        let sent_by = sent_by.trim();
        let sent_by = if sent_by.contains(char::is_whitespace) {
            Cow::Owned(sent_by.split_whitespace().collect())
        } else {
            Cow::Borrowed(sent_by)
        };
        Some((transport, sent_by, params))
    }

    /// The branch parameter.
    #[must_use]
    pub fn branch(&self) -> Option<&str> {
        self.param("branch").flatten()
    }

    /// A parameter: outer `None` absent, inner `None` without a value.
    #[must_use]
    pub fn param(&self, name: &str) -> Option<Option<&str>> {
        param_of(&self.params, name)
    }

    /// Records where the request really came from: `received` always, `rport` when asked for
    /// (RFC 3261 §18.2.1, RFC 3581 §4).
    pub fn mark_source(&mut self, source: std::net::SocketAddr) {
        let wants_port = self.param("rport").is_some();
        let mut params = String::with_capacity(self.params.len() + 32);
        for (name, value) in params_iter(&self.params) {
            let replaced = ["received", "rport"]
                .iter()
                .any(|n| name.eq_ignore_ascii_case(n));
            if !replaced {
                push_param(&mut params, name, value);
            }
        }
        push_param(&mut params, "received", Some(&source.ip().to_string()));
        if wants_port {
            push_param(&mut params, "rport", Some(&source.port().to_string()));
        }
        self.params = params;
    }
}

impl fmt::Display for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SIP/2.0/{} {}", self.transport, self.host)?;
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        f.write_str(&self.params)
    }
}

/// CSeq (RFC 3261 §20.16).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CSeq {
    /// Sequence number, below 2^31.
    pub number: u32,
    /// Method.
    pub method: super::Method,
}

impl CSeq {
    /// Reads a CSeq value; `None` when it breaks the grammar or the number is too large.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_ascii_whitespace();
        let number = words.next()?;
        let method = words.next()?;
        if words.next().is_some() || !number.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let number: u32 = number.parse().ok()?;
        (number < 1 << 31).then(|| Self {
            number,
            method: super::Method::from_name(method),
        })
    }
}

/// One Reason value (RFC 3326).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReasonValue {
    /// `SIP`, `Q.850` …
    pub protocol: String,
    /// The cause.
    pub cause: Option<u16>,
}

impl ReasonValue {
    /// Reads one value.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let cut = text.find(';').unwrap_or(text.len());
        let (protocol, params) = text.split_at_checked(cut)?;
        Some(Self {
            protocol: protocol.trim().to_owned(),
            cause: param_of(params, "cause")
                .flatten()
                .and_then(|v| v.parse().ok()),
        })
    }

    /// The header value for a Q.850 cause.
    #[must_use]
    pub fn q850(cause: u16) -> String {
        format!("Q.850;cause={cause}")
    }
}

/// Session-Expires (RFC 4028 §4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionExpires {
    /// Interval in seconds.
    pub seconds: u32,
    /// Who refreshes: `Some(true)` the UAC, `Some(false)` the UAS, `None` left open.
    pub refresher_uac: Option<bool>,
}

impl SessionExpires {
    /// Reads the value.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let cut = text.find(';').unwrap_or(text.len());
        let (seconds, params) = text.split_at_checked(cut)?;
        let refresher_uac = param_of(params, "refresher")
            .flatten()
            .map(|who| who.eq_ignore_ascii_case("uac"));
        Some(Self {
            seconds: seconds.trim().parse().ok()?,
            refresher_uac,
        })
    }
}

impl fmt::Display for SessionExpires {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.seconds)?;
        match self.refresher_uac {
            Some(true) => f.write_str(";refresher=uac"),
            Some(false) => f.write_str(";refresher=uas"),
            None => Ok(()),
        }
    }
}

/// Takes a comma list apart; commas in quotes and angle brackets do not count.
pub fn split_list(value: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(value);
    std::iter::from_fn(move || {
        let text = rest?;
        let end = list_end(text);
        let (item, tail) = text.split_at_checked(end).unwrap_or((text, ""));
        rest = tail.strip_prefix(',');
        Some(item.trim())
    })
}

fn list_end(text: &str) -> usize {
    let (mut quoted, mut escaped, mut depth) = (false, false, 0_u32);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'<' if !quoted => depth += 1,
            b'>' if !quoted => depth = depth.saturating_sub(1),
            b',' if !quoted && depth == 0 => return at,
            _ => {}
        }
    }
    text.len()
}

/// Index just behind the closing quote of a text that starts with one.
pub(crate) fn quoted_end(text: &str) -> Option<usize> {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Some(at + 1),
            _ => {}
        }
    }
    None
}

pub(crate) fn unquote(inner: &str) -> String {
    let mut out = String::with_capacity(inner.len());
    let mut escaped = false;
    for c in inner.chars() {
        if c == '\\' && !escaped {
            escaped = true;
        } else {
            out.push(c);
            escaped = false;
        }
    }
    out
}

/// The parameters of `;a=b;c`, values still quoted.
pub(crate) fn params_iter(params: &str) -> impl Iterator<Item = (&str, Option<&str>)> {
    let mut rest = params;
    std::iter::from_fn(move || {
        loop {
            let text = rest.trim_start().strip_prefix(';')?;
            let mut quoted = false;
            let mut escaped = false;
            let end = text
                .bytes()
                .position(|b| {
                    match b {
                        _ if escaped => escaped = false,
                        b'\\' if quoted => escaped = true,
                        b'"' => quoted = !quoted,
                        b';' if !quoted => return true,
                        _ => {}
                    }
                    false
                })
                .unwrap_or(text.len());
            let (item, tail) = text.split_at_checked(end)?;
            rest = tail;
            let (name, value) = match item.split_once('=') {
                Some((name, value)) => (name.trim(), Some(value.trim())),
                None => (item.trim(), None),
            };
            if !name.is_empty() {
                return Some((name, value));
            }
            if rest.is_empty() {
                return None;
            }
        }
    })
}

/// One parameter of `;a=b;c`: outer `None` absent, inner `None` without a value.
pub(crate) fn param_of<'a>(params: &'a str, name: &str) -> Option<Option<&'a str>> {
    params_iter(params)
        .find(|(n, _)| n.eq_ignore_ascii_case(name))
        .map(|(_, value)| value)
}

fn push_param(out: &mut String, name: &str, value: Option<&str>) {
    out.push(';');
    out.push_str(name);
    if let Some(value) = value {
        out.push('=');
        out.push_str(value);
    }
}

/// Parameters without the white space around `;` and `=`.
fn tidy_params(params: &str) -> String {
    if !params.contains([' ', '\t']) {
        return params.to_owned();
    }
    let mut out = String::with_capacity(params.len());
    for (name, value) in params_iter(params) {
        push_param(&mut out, name, value);
    }
    out
}

/// Checks `;name[=value]…`: no empty parameter, names are tokens, quotes closed.
fn valid_params(params: &str) -> bool {
    let Some(first) = params.trim_start().strip_prefix(';') else {
        return false;
    };
    let (mut quoted, mut escaped, mut start) = (false, false, 0);
    for (at, byte) in first.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b';' if !quoted => {
                if !first.get(start..at).is_some_and(valid_param) {
                    return false;
                }
                start = at + 1;
            }
            _ => {}
        }
    }
    !quoted && first.get(start..).is_some_and(valid_param)
}

fn valid_param(item: &str) -> bool {
    let (name, value) = match item.split_once('=') {
        Some((name, value)) => (name.trim(), Some(value.trim())),
        None => (item.trim(), None),
    };
    let value_fits = value.is_none_or(|v| {
        !v.is_empty() && (v.starts_with('"') || !v.contains([' ', '\t', ',', '<', '>', '"']))
    });
    !name.is_empty() && name.chars().all(is_token_char) && value_fits
}

pub(crate) fn is_token_char(c: char) -> bool {
    c.is_ascii_alphanumeric()
        || matches!(
            c,
            '-' | '.' | '!' | '%' | '*' | '_' | '+' | '`' | '\'' | '~'
        )
}
