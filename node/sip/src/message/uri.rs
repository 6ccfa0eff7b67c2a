//! SIP URIs (RFC 3261 §19.1) and just enough of `tel:` and others to name what was refused.
//!
//! Parameters are kept as written and read on demand: a URI we must send back (a remote target,
//! a route) leaves exactly as it came.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The scheme of a URI.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Scheme {
    /// `sip:`
    Sip,
    /// `sips:`
    Sips,
    /// `tel:` (RFC 3966).
    Tel,
    /// Anything else.
    Other(String),
}

/// A URI.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Uri {
    /// The scheme.
    pub scheme: Scheme,
    /// User part as written (escaped), with its password; for `tel:` the number; for other
    /// schemes everything behind the colon.
    pub user: Option<String>,
    /// Host name or address (IPv6 in brackets); empty unless `sip:` or `sips:`.
    pub host: String,
    /// Port, when written.
    pub port: Option<u16>,
    /// Parameters as written, from the first `;`; empty when there are none.
    pub params: String,
    /// Headers as written, from the `?`; empty when there are none.
    pub headers: String,
}

/// The parts of a URI, borrowed: what checking costs, without what keeping costs.
pub(super) struct UriRef<'a> {
    scheme: SchemeRef<'a>,
    user: Option<&'a str>,
    host: &'a str,
    port: Option<u16>,
    params: &'a str,
    headers: &'a str,
}

#[derive(Clone, Copy)]
enum SchemeRef<'a> {
    Sip,
    Sips,
    Tel,
    Other(&'a str),
}

impl SchemeRef<'_> {
    fn to_owned(self) -> Scheme {
        match self {
            Self::Sip => Scheme::Sip,
            Self::Sips => Scheme::Sips,
            Self::Tel => Scheme::Tel,
            Self::Other(name) => Scheme::Other(name.to_ascii_lowercase()),
        }
    }
}

impl<'a> UriRef<'a> {
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let forbidden = |b: u8| b <= b' ' || matches!(b, b'<' | b'>' | b'"' | 0x7f);
        if text.bytes().any(forbidden) {
            return None;
        }
        let (scheme, rest) = text.split_once(':')?;
        let scheme = parse_scheme(scheme)?;
        let cut = match scheme {
            SchemeRef::Sip | SchemeRef::Sips => return Self::parse_sip(scheme, rest),
            SchemeRef::Tel => rest.find(';').unwrap_or(rest.len()),
            SchemeRef::Other(_) => rest.len(),
        };
        (!rest.is_empty()).then_some(())?;
        Some(Self {
            scheme,
            user: Some(rest.get(..cut)?),
            host: "",
            port: None,
            params: rest.get(cut..)?,
            headers: "",
        })
    }

    fn parse_sip(scheme: SchemeRef<'a>, rest: &'a str) -> Option<Self> {
        // The user part may itself contain ';', '?' and '/', so '@' is looked for first.
        let (user, rest) = match rest.rsplit_once('@') {
            Some((user, rest)) if valid_user(user) => (Some(user), rest),
            Some(_) => return None,
            None => (None, rest),
        };
        let cut = rest.find([';', '?']).unwrap_or(rest.len());
        let (hostport, tail) = rest.split_at_checked(cut)?;
        let (params, headers) = match tail.find('?') {
            Some(at) => tail.split_at_checked(at)?,
            None => (tail, ""),
        };
        let (host, port) = parse_hostport(hostport)?;
        if !valid_escapes(params) || params.contains(";;") || params.ends_with(';') {
            return None;
        }
        Some(Self {
            scheme,
            user,
            host,
            port,
            params,
            headers,
        })
    }
}

impl Uri {
    /// A `sip:` URI.
    #[must_use]
    pub fn sip(user: Option<&str>, host: &str, port: Option<u16>) -> Self {
        Self {
            scheme: Scheme::Sip,
            user: user.map(escape_user),
            host: host.to_owned(),
            port,
            params: String::new(),
            headers: String::new(),
        }
    }

    /// A `sip:` URI for a socket address.
    #[must_use]
    pub fn of_address(user: Option<&str>, address: std::net::SocketAddr) -> Self {
        Self::sip(user, &host_of(address.ip()), Some(address.port()))
    }

    /// Reads a URI; `None` when it breaks the grammar.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        UriRef::parse(text).map(|parts| Self {
            scheme: parts.scheme.to_owned(),
            user: parts.user.map(str::to_owned),
            host: parts.host.to_owned(),
            port: parts.port,
            params: parts.params.to_owned(),
            headers: parts.headers.to_owned(),
        })
    }

    /// True for `sip:` and `sips:`.
    #[must_use]
    pub fn is_sip(&self) -> bool {
        matches!(self.scheme, Scheme::Sip | Scheme::Sips)
    }

    /// The user part unescaped, without its password.
    #[must_use]
    pub fn user_text(&self) -> Option<String> {
        let user = self.user.as_deref()?;
        let user = user.split(':').next().unwrap_or(user);
        Some(unescape(user))
    }

    /// A parameter: outer `None` absent, inner `None` without a value.
    #[must_use]
    pub fn param(&self, name: &str) -> Option<Option<&str>> {
        super::address::param_of(&self.params, name)
    }

    /// The `transport` parameter.
    #[must_use]
    pub fn transport(&self) -> Option<&str> {
        self.param("transport").flatten()
    }

    /// Adds a parameter.
    #[must_use]
    pub fn with_param(mut self, name: &str, value: Option<&str>) -> Self {
        self.params.push(';');
        self.params.push_str(name);
        if let Some(value) = value {
            self.params.push('=');
            self.params.push_str(value);
        }
        self
    }

    /// The socket address when the host is an address; the port defaults to 5060 or 5061.
    #[must_use]
    pub fn socket_address(&self) -> Option<std::net::SocketAddr> {
        let host = self.host.trim_start_matches('[').trim_end_matches(']');
        let default = if self.scheme == Scheme::Sips {
            5061
        } else {
            5060
        };
        let ip: std::net::IpAddr = host.parse().ok()?;
        Some(std::net::SocketAddr::new(ip, self.port.unwrap_or(default)))
    }

    /// Appends the URI as text.
    pub fn write_to(&self, out: &mut String) {
        match &self.scheme {
            Scheme::Sip => out.push_str("sip:"),
            Scheme::Sips => out.push_str("sips:"),
            Scheme::Tel => out.push_str("tel:"),
            Scheme::Other(name) => {
                out.push_str(name);
                out.push(':');
            }
        }
        if let Some(user) = &self.user {
            out.push_str(user);
            if self.is_sip() {
                out.push('@');
            }
        }
        out.push_str(&self.host);
        if let Some(port) = self.port {
            out.push(':');
            out.push_str(&port.to_string());
        }
        out.push_str(&self.params);
        out.push_str(&self.headers);
    }

    /// Equality as RFC 3261 §19.1.4 wants it for bindings: scheme, user and port exactly, host
    /// without case, and the parameters that must match when only one side has them.
    #[must_use]
    pub fn equivalent(&self, other: &Self) -> bool {
        self.scheme == other.scheme
            && self.user.as_deref().map(unescape) == other.user.as_deref().map(unescape)
            && self.host.eq_ignore_ascii_case(&other.host)
            && self.port == other.port
            && ["user", "ttl", "method", "maddr", "transport"]
                .iter()
                .all(
                    |name| match (self.param(name).flatten(), other.param(name).flatten()) {
                        (Some(a), Some(b)) => a.eq_ignore_ascii_case(b),
                        (None, None) => true,
                        _ => false,
                    },
                )
    }
}

impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = String::new();
        self.write_to(&mut out);
        f.write_str(&out)
    }
}

impl std::str::FromStr for Uri {
    type Err = super::ParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text).ok_or(super::ParseError::new("malformed URI", None))
    }
}

/// A host as written in a URI or Via: IPv6 gets brackets.
#[must_use]
pub fn host_of(ip: std::net::IpAddr) -> String {
    match ip {
        std::net::IpAddr::V4(ip) => ip.to_string(),
        std::net::IpAddr::V6(ip) => format!("[{ip}]"),
    }
}

/// Escapes a user part (RFC 3261 §25.1 `user`).
#[must_use]
pub fn escape_user(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        let plain = byte.is_ascii_alphanumeric() || b"-_.!~*'()&=+$,;?/".contains(&byte);
        if plain {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

fn unescape(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let pair = bytes.get(at + 1..at + 3).and_then(|pair| {
            let pair = std::str::from_utf8(pair).ok()?;
            u8::from_str_radix(pair, 16).ok()
        });
        match (byte, pair) {
            (b'%', Some(value)) => {
                out.push(value);
                at += 3;
            }
            _ => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn parse_scheme(text: &str) -> Option<SchemeRef<'_>> {
    for (name, scheme) in [
        ("sip", SchemeRef::Sip),
        ("sips", SchemeRef::Sips),
        ("tel", SchemeRef::Tel),
    ] {
        if text.eq_ignore_ascii_case(name) {
            return Some(scheme);
        }
    }
    let mut bytes = text.bytes();
    let first = bytes.next()?;
    let valid = first.is_ascii_alphabetic()
        && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'));
    valid.then_some(SchemeRef::Other(text))
}

fn valid_user(user: &str) -> bool {
    !user.is_empty() && !user.contains(['@', '[', ']', '\\', '^']) && valid_escapes(user)
}

fn valid_escapes(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.iter().enumerate().all(|(at, &byte)| {
        byte != b'%'
            || bytes
                .get(at + 1..at + 3)
                .is_some_and(|pair| pair.iter().all(u8::is_ascii_hexdigit))
    })
}

/// Reads `host[:port]`.
pub(super) fn parse_hostport(text: &str) -> Option<(&str, Option<u16>)> {
    let (host, port) = if text.starts_with('[') {
        let end = text.find(']')? + 1;
        let (host, rest) = text.split_at_checked(end)?;
        let inner = host.get(1..host.len().checked_sub(1)?)?;
        inner.parse::<std::net::Ipv6Addr>().ok()?;
        match rest.strip_prefix(':') {
            Some(port) => (host, Some(port)),
            None if rest.is_empty() => (host, None),
            None => return None,
        }
    } else {
        match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        }
    };
    let valid = host.starts_with('[')
        || (!host.is_empty()
            && host
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_')));
    if !valid {
        return None;
    }
    let port = match port {
        Some(port) if port.bytes().all(|b| b.is_ascii_digit()) => Some(port.parse().ok()?),
        Some(_) => return None,
        None => None,
    };
    Some((host, port))
}
