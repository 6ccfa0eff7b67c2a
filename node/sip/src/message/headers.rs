//! Header names and the ordered list of header fields (RFC 3261 §7.3).
//!
//! Values are single lines: folding was undone by the parser, and `push` removes line breaks, so
//! that no value can smuggle in a further header.

use super::address::{CSeq, NameAddr, ReasonValue, SessionExpires, Via, split_list};
use super::uri::Uri;

macro_rules! header_names {
    ($($variant:ident $name:literal $($compact:literal)?),* $(,)?) => {
        /// A header name; the known ones compare without text.
        #[derive(Debug, Clone, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum HeaderName {
            $(#[doc = concat!("`", $name, "`")] $variant,)*
            /// Any other header, as written.
            Other(String),
        }

        impl HeaderName {
            /// The name for this text, long or compact form, in any case.
            #[must_use]
            pub fn from_text(text: &str) -> Self {
                $(
                    if text.eq_ignore_ascii_case($name) $(|| text.eq_ignore_ascii_case($compact))? {
                        return Self::$variant;
                    }
                )*
                Self::Other(text.to_owned())
            }

            /// The name as written on the wire.
            #[must_use]
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $name,)*
                    Self::Other(text) => text,
                }
            }
        }
    };
}

header_names! {
    Via "Via" "v", From "From" "f", To "To" "t", CallId "Call-ID" "i", CSeq "CSeq",
    MaxForwards "Max-Forwards", Contact "Contact" "m", Route "Route",
    RecordRoute "Record-Route", ContentLength "Content-Length" "l",
    ContentType "Content-Type" "c", Allow "Allow", Supported "Supported" "k",
    Require "Require", UserAgent "User-Agent", Authorization "Authorization",
    WwwAuthenticate "WWW-Authenticate", ProxyAuthorization "Proxy-Authorization",
    ProxyAuthenticate "Proxy-Authenticate", ProxyRequire "Proxy-Require",
    Unsupported "Unsupported", Accept "Accept", Expires "Expires", MinExpires "Min-Expires",
    SessionExpires "Session-Expires" "x", MinSe "Min-SE", RetryAfter "Retry-After",
    Reason "Reason", Server "Server", Subject "Subject" "s", Date "Date",
    PAssertedIdentity "P-Asserted-Identity", Privacy "Privacy", AllowEvents "Allow-Events" "u",
    Event "Event" "o", ReferTo "Refer-To" "r", ContentEncoding "Content-Encoding" "e",
    Path "Path", AlertInfo "Alert-Info", Replaces "Replaces", Warning "Warning",
}

/// Header fields in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers {
    fields: Vec<(HeaderName, String)>,
}

impl Headers {
    /// An empty list with room for a usual message.
    #[must_use]
    pub fn new() -> Self {
        Self {
            fields: Vec::with_capacity(16),
        }
    }

    /// Number of header fields.
    #[must_use]
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// True without any field.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// Appends a field; line breaks in the value become spaces.
    pub fn push(&mut self, name: HeaderName, value: impl Into<String>) {
        self.fields.push((name, one_line(value.into())));
    }

    /// Puts a field before all others (Via, Route).
    pub fn push_front(&mut self, name: HeaderName, value: impl Into<String>) {
        self.fields.insert(0, (name, one_line(value.into())));
    }

    /// Replaces every field of this name by one.
    pub fn set(&mut self, name: HeaderName, value: impl Into<String>) {
        self.remove(&name);
        self.push(name, value);
    }

    /// Replaces the first value of this name in place; appends when there is none.
    pub fn replace_first(&mut self, name: HeaderName, value: impl Into<String>) {
        let value = one_line(value.into());
        match self.fields.iter_mut().find(|(n, _)| *n == name) {
            Some(field) => field.1 = value,
            None => self.fields.push((name, value)),
        }
    }

    /// Removes every field of this name.
    pub fn remove(&mut self, name: &HeaderName) {
        self.fields.retain(|(n, _)| n != name);
    }

    /// The first value of this name.
    #[must_use]
    pub fn get(&self, name: &HeaderName) -> Option<&str> {
        self.fields
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, v)| v.as_str())
    }

    /// Every value of this name, one per field.
    pub fn get_all<'a>(&'a self, name: &'a HeaderName) -> impl Iterator<Item = &'a str> {
        self.fields
            .iter()
            .filter(move |(n, _)| n == name)
            .map(|(_, v)| v.as_str())
    }

    /// Every value of this name, comma lists taken apart.
    #[must_use]
    pub fn list(&self, name: &HeaderName) -> Vec<&str> {
        let mut out = Vec::new();
        for (n, value) in &self.fields {
            if n == name {
                out.extend(split_list(value));
            }
        }
        out
    }

    /// True when a comma list of this name contains the token (in any case).
    #[must_use]
    pub fn has_token(&self, name: &HeaderName, token: &str) -> bool {
        self.get_all(name).any(|value| {
            value
                .split(',')
                .any(|t| t.trim().eq_ignore_ascii_case(token))
        })
    }

    /// All fields in order.
    pub fn iter(&self) -> impl Iterator<Item = (&HeaderName, &str)> {
        self.fields.iter().map(|(n, v)| (n, v.as_str()))
    }

    /// Call-ID; empty only in messages built without one.
    #[must_use]
    pub fn call_id(&self) -> &str {
        self.get(&HeaderName::CallId).unwrap_or("")
    }

    /// From.
    #[must_use]
    pub fn from(&self) -> Option<NameAddr> {
        self.get(&HeaderName::From).and_then(NameAddr::parse)
    }

    /// To.
    #[must_use]
    pub fn to(&self) -> Option<NameAddr> {
        self.get(&HeaderName::To).and_then(NameAddr::parse)
    }

    /// The tag of From, without parsing the address.
    #[must_use]
    pub fn from_tag(&self) -> Option<&str> {
        tag_of(self.get(&HeaderName::From)?)
    }

    /// The tag of To, without parsing the address.
    #[must_use]
    pub fn to_tag(&self) -> Option<&str> {
        tag_of(self.get(&HeaderName::To)?)
    }

    /// The topmost Via.
    #[must_use]
    pub fn via(&self) -> Option<Via> {
        let first = self.get(&HeaderName::Via)?;
        Via::parse(split_list(first).next()?)
    }

    /// CSeq.
    #[must_use]
    pub fn cseq(&self) -> Option<CSeq> {
        self.get(&HeaderName::CSeq).and_then(CSeq::parse)
    }

    /// The URI of the first Contact.
    #[must_use]
    pub fn contact_uri(&self) -> Option<Uri> {
        let first = self.get(&HeaderName::Contact)?;
        NameAddr::parse(split_list(first).next()?).map(|address| address.uri)
    }

    /// Max-Forwards.
    #[must_use]
    pub fn max_forwards(&self) -> Option<u32> {
        self.number(&HeaderName::MaxForwards)
    }

    /// Expires, in seconds.
    #[must_use]
    pub fn expires(&self) -> Option<u32> {
        self.number(&HeaderName::Expires)
    }

    /// Retry-After, in seconds; a comment or parameter after the number is ignored.
    #[must_use]
    pub fn retry_after(&self) -> Option<u32> {
        let value = self.get(&HeaderName::RetryAfter)?;
        let digits = value.split(|c: char| !c.is_ascii_digit()).next()?;
        digits.parse().ok()
    }

    /// Session-Expires (RFC 4028).
    #[must_use]
    pub fn session_expires(&self) -> Option<SessionExpires> {
        self.get(&HeaderName::SessionExpires)
            .and_then(SessionExpires::parse)
    }

    /// The Q.850 cause of a Reason header (RFC 3326).
    #[must_use]
    pub fn q850(&self) -> Option<u16> {
        self.list(&HeaderName::Reason)
            .into_iter()
            .filter_map(ReasonValue::parse)
            .find(|reason| reason.protocol.eq_ignore_ascii_case("Q.850"))
            .and_then(|reason| reason.cause)
    }

    /// A header whose value is one number.
    #[must_use]
    pub fn number(&self, name: &HeaderName) -> Option<u32> {
        self.get(name)?.trim().parse().ok()
    }

    /// Writes all fields but Content-Length, which belongs to the body.
    pub(crate) fn write_to(&self, out: &mut String) {
        for (name, value) in &self.fields {
            if *name == HeaderName::ContentLength {
                continue;
            }
            out.push_str(name.as_str());
            out.push_str(": ");
            out.push_str(value);
            out.push_str("\r\n");
        }
    }
}

fn one_line(value: String) -> String {
    if value.bytes().any(|b| matches!(b, b'\r' | b'\n')) {
        value.replace(['\r', '\n'], " ")
    } else {
        value
    }
}

/// The `tag` parameter behind the address of a From or To value.
fn tag_of(value: &str) -> Option<&str> {
    // Parameters start behind '>' when the address is bracketed, else at the first ';'. A quoted
    // display name may contain '>' as well, and rfind is still right because parameters of From
    // and To that contain one are quoted strings nobody sends.
    let from = match value.rfind('>') {
        Some(at) => at + 1,
        None => value.find(';')?,
    };
    let rest = value.get(from..)?;
    super::address::param_of(rest, "tag").flatten()
}
