//! Reading REGISTER requests and writing their answers (RFC 3261 §10.3, RFC 5626 §4).
//!
//! No storage: the daemon keeps the bindings. What is read here was checked by the parser, what
//! is returned is owned.

use crate::limits;
use crate::message::{HeaderName, NameAddr, Request, Response, Uri};
use serde::{Deserialize, Serialize};

/// One Contact of a REGISTER.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContactBinding {
    /// The contact.
    pub uri: Uri,
    /// Requested lifetime in seconds; 0 removes.
    pub expires_s: u32,
    /// Preference in thousandths, 0 to 1000.
    pub q: u16,
    /// `+sip.instance`, without its quotes.
    pub instance: Option<String>,
    /// `reg-id`.
    pub reg_id: Option<u32>,
}

/// What a REGISTER asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Registration {
    /// No Contact: only the list is wanted.
    Query,
    /// `*`: remove everything.
    RemoveAll,
    /// Add, refresh or remove these.
    Update(Vec<ContactBinding>),
}

/// Bounds a registrar sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExpiryBounds {
    /// Shortest lifetime in seconds; shorter is refused with 423.
    pub min_s: u32,
    /// Longest lifetime; longer is shortened.
    pub max_s: u32,
    /// Lifetime when none is asked for.
    pub default_s: u32,
}

/// Why a REGISTER is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RegisterError {
    /// `*` with another contact or without `Expires: 0`: answer 400.
    #[error("malformed wildcard contact")]
    Wildcard,
    /// A contact is malformed, or there are too many: answer 400.
    #[error("malformed contact")]
    Contact,
    /// Shorter than the bound: answer 423 with Min-Expires.
    #[error("registration interval below {0} s")]
    TooBrief(u32),
}

impl RegisterError {
    /// The status to answer with.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::Wildcard | Self::Contact => 400,
            Self::TooBrief(_) => 423,
        }
    }

    /// Adds what the answer must say (Min-Expires).
    #[must_use]
    pub fn complete(self, response: Response) -> Response {
        match self {
            Self::TooBrief(min_s) => response.with(HeaderName::MinExpires, min_s.to_string()),
            Self::Wildcard | Self::Contact => response,
        }
    }
}

/// What a REGISTER asks for, within bounds.
///
/// # Errors
/// [`RegisterError`] with the status to answer.
pub fn parse_register(
    request: &Request,
    bounds: ExpiryBounds,
) -> Result<Registration, RegisterError> {
    let contacts = request.headers.list(&HeaderName::Contact);
    if contacts.is_empty() {
        return Ok(Registration::Query);
    }
    if contacts.len() > limits::CONTACTS_MAX {
        return Err(RegisterError::Contact);
    }
    if contacts.contains(&"*") {
        let alone = contacts.len() == 1 && request.headers.expires() == Some(0);
        return if alone {
            Ok(Registration::RemoveAll)
        } else {
            Err(RegisterError::Wildcard)
        };
    }
    contacts
        .into_iter()
        .map(|contact| binding(contact, request.headers.expires(), bounds))
        .collect::<Result<_, _>>()
        .map(Registration::Update)
}

fn binding(
    contact: &str,
    header: Option<u32>,
    bounds: ExpiryBounds,
) -> Result<ContactBinding, RegisterError> {
    let address = NameAddr::parse(contact).ok_or(RegisterError::Contact)?;
    let own = address
        .param("expires")
        .flatten()
        .and_then(|text| text.parse().ok());
    let asked = own.or(header).unwrap_or(bounds.default_s);
    if asked != 0 && asked < bounds.min_s {
        return Err(RegisterError::TooBrief(bounds.min_s));
    }
    let unquoted = |name| {
        let value = address.param(name).flatten()?;
        Some(value.trim_matches('"').to_owned())
    };
    Ok(ContactBinding {
        expires_s: asked.min(bounds.max_s),
        q: address.param("q").flatten().map_or(1_000, thousandths),
        instance: unquoted("+sip.instance"),
        reg_id: address
            .param("reg-id")
            .flatten()
            .and_then(|text| text.parse().ok()),
        uri: address.uri,
    })
}

/// A q value, `0.7`, in thousandths; what is malformed counts as 1.
fn thousandths(text: &str) -> u16 {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits: String = part.chars().chain("000".chars()).take(3).collect();
    match (whole.parse::<u16>(), digits.parse::<u16>()) {
        (Ok(0), Ok(part)) => part,
        (Err(_), Ok(part)) if whole.is_empty() => part,
        _ => 1_000,
    }
}

/// Completes the 200 to a REGISTER with the bindings in force and their remaining seconds.
#[must_use]
pub fn with_bindings<'a>(
    mut response: Response,
    bindings: impl IntoIterator<Item = (&'a ContactBinding, u32)>,
) -> Response {
    for (binding, remaining_s) in bindings {
        let mut value = format!("<{}>;expires={remaining_s}", binding.uri);
        if binding.q < 1_000 {
            value.push_str(&format!(";q=0.{:03}", binding.q));
        }
        if let Some(instance) = &binding.instance {
            value.push_str(&format!(";+sip.instance=\"{instance}\""));
        }
        if let Some(reg_id) = binding.reg_id {
            value.push_str(&format!(";reg-id={reg_id}"));
        }
        response.headers.push(HeaderName::Contact, value);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Message, parse, response_to};

    const BOUNDS: ExpiryBounds = ExpiryBounds {
        min_s: 60,
        max_s: 3_600,
        default_s: 300,
    };

    fn register(extra: &str) -> Request {
        let text = format!(
            "REGISTER sip:demo.invalid SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1;branch=z9hG4bKx\r\n\
             From: <sip:1001@demo.invalid>;tag=a\r\nTo: <sip:1001@demo.invalid>\r\n\
             Call-ID: x\r\nCSeq: 1 REGISTER\r\nMax-Forwards: 70\r\n{extra}\r\n"
        );
        match parse(text.as_bytes()) {
            Ok(Message::Request(request)) => request,
            other => panic!("not a request: {other:?}"),
        }
    }

    #[test]
    fn contacts_are_read_with_their_parameters() {
        let request = register(
            "Contact: <sip:1001@10.0.0.1:5070>;expires=120;q=0.5;+sip.instance=\"<urn:uuid:1>\";\
             reg-id=2, <sip:1001@10.0.0.2>\r\nExpires: 7200\r\n",
        );
        let Ok(Registration::Update(list)) = parse_register(&request, BOUNDS) else {
            panic!("an update");
        };
        assert_eq!(list.len(), 2);
        assert_eq!(
            (list[0].expires_s, list[0].q, list[0].reg_id),
            (120, 500, Some(2))
        );
        assert_eq!(list[0].instance.as_deref(), Some("<urn:uuid:1>"));
        assert_eq!((list[1].expires_s, list[1].q), (3_600, 1_000));
        let response = with_bindings(
            response_to(&request, 200, "", None),
            list.iter().map(|binding| (binding, binding.expires_s)),
        );
        let contacts = response.headers.list(&HeaderName::Contact);
        assert_eq!(
            contacts[0],
            "<sip:1001@10.0.0.1:5070>;expires=120;q=0.500;+sip.instance=\"<urn:uuid:1>\";reg-id=2"
        );
    }

    #[test]
    fn the_wildcard_stands_alone_and_expires_now() {
        let all = register("Contact: *\r\nExpires: 0\r\n");
        assert_eq!(parse_register(&all, BOUNDS), Ok(Registration::RemoveAll));
        for wrong in ["Contact: *\r\n", "Contact: *, <sip:a@b>\r\nExpires: 0\r\n"] {
            let wrong = register(wrong);
            assert_eq!(parse_register(&wrong, BOUNDS), Err(RegisterError::Wildcard));
        }
        assert_eq!(
            parse_register(&register(""), BOUNDS),
            Ok(Registration::Query)
        );
    }

    #[test]
    fn too_brief_is_refused_and_zero_is_not() {
        let brief = register("Contact: <sip:a@b>;expires=5\r\n");
        let error = parse_register(&brief, BOUNDS).expect_err("too brief");
        assert_eq!(error, RegisterError::TooBrief(60));
        let response = error.complete(response_to(&brief, error.status(), "", None));
        assert_eq!(response.headers.get(&HeaderName::MinExpires), Some("60"));
        let gone = register("Contact: <sip:a@b>;expires=0\r\n");
        assert!(matches!(
            parse_register(&gone, BOUNDS),
            Ok(Registration::Update(_))
        ));
    }
}
