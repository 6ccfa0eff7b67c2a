//! Who a request comes from: an extension that proved itself by digest (RFC 8760), a
//! fixed device or trunk known by its source address, or nobody.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use strowger_core::call::Caller;
use strowger_core::ids::{Extension, TenantId};
use strowger_core::site::{DigestAlgorithm, Site};
use strowger_sip::digest::{Algorithm, Answer, Challenge, NonceKeys, Verdict};
use strowger_sip::message::{HeaderName, Request, Response, Uri};
use strowger_sip::transport::Flow;

use super::Shared;
use crate::numbering;

/// What is known of the sender of a request.
pub enum Sender {
    /// Goes on as this caller.
    Known(Caller),
    /// Has to answer a challenge first; true when only its nonce was too old.
    Challenge {
        /// The nonce was fine but is no longer.
        stale: bool,
    },
    /// Answered wrongly: another challenge is all it gets.
    Wrong,
    /// Its answer was made for another Request-URI: 400 (RFC 7616 §3.4.6).
    Misdirected,
}

/// The tenant a request is for, by its Request-URI's host, else by its From's.
pub fn tenant_of(shared: &Shared, request: &Request) -> Option<(TenantId, Arc<Site>)> {
    let state = shared.state.read();
    let from = request.headers.from().map(|from| from.uri.host);
    let row = state
        .tenant_of(&request.uri.host)
        .or_else(|| from.and_then(|host| state.tenant_of(&host)))?;
    Some((row.site.tenant.clone(), Arc::clone(&row.site)))
}

/// Finds out who sent an INVITE.
pub fn sender(shared: &Shared, site: &Site, request: &Request, flow: &Flow) -> Sender {
    let from = request.headers.from();
    let number = from
        .as_ref()
        .and_then(|from| from.uri.user_text())
        .unwrap_or_default();
    let display = from.and_then(|from| from.display).unwrap_or_default();
    let source = flow.remote.ip();
    let caller = |extension: Option<Extension>, trunk| Caller {
        number: number.clone(),
        display: display.clone(),
        e164: extension
            .is_none()
            .then(|| numbering::e164(&site.numbering, &number))
            .flatten(),
        extension,
        trunk,
    };
    let trunk = site.trunks.iter().find(|(_, trunk)| {
        trunk
            .sources
            .iter()
            .any(|network| network.contains(&source))
    });
    if let Some((name, _)) = trunk {
        return Sender::Known(caller(None, Some(name.clone())));
    }
    let extension = Extension::from(number.as_str());
    match site.extensions.get(&extension) {
        None => Sender::Known(caller(None, None)),
        Some(spec) => match &spec.contact {
            Some(contact) => {
                let device = Uri::parse(contact).and_then(|uri| uri.socket_address());
                if device.is_some_and(|device| device.ip() == source) {
                    Sender::Known(caller(Some(extension), None))
                } else {
                    Sender::Wrong
                }
            }
            None => match verify(shared, site, &extension, request) {
                Ok(()) => Sender::Known(caller(Some(extension), None)),
                Err(sender) => sender,
            },
        },
    }
}

/// Checks that a request was made with the secret of `extension`.
pub fn verify(
    shared: &Shared,
    site: &Site,
    extension: &Extension,
    request: &Request,
) -> Result<(), Sender> {
    let Some(answer) = Answer::of_request(request, &site.domain) else {
        return Err(Sender::Challenge { stale: false });
    };
    let algorithm = match answer.algorithm {
        Algorithm::Md5 => DigestAlgorithm::Md5,
        Algorithm::Sha256 => DigestAlgorithm::Sha256,
    };
    let ours = |host: &str| {
        let state = shared.state.read();
        let row = state.tenant_of(host);
        row.is_some_and(|row| row.site.tenant == site.tenant)
    };
    if !answer.is_for(&request.uri, ours) {
        return Err(Sender::Misdirected);
    }
    if answer.user != extension.as_str() || !site.digest.contains(&algorithm) {
        return Err(Sender::Wrong);
    }
    let rows = shared.cluster.rows();
    let credentials = shared.vault.credentials(&*rows, &site.tenant, extension);
    let Some(ha1) = credentials
        .as_ref()
        .and_then(|known| known.ha1.get(&algorithm))
    else {
        return Err(Sender::Wrong);
    };
    let (now, keys) = nonce_keys(shared);
    match shared
        .verifier
        .verify(&answer, request.method.as_str(), ha1, &keys, now)
    {
        Verdict::Good => Ok(()),
        Verdict::Stale => Err(Sender::Challenge { stale: true }),
        Verdict::Bad => Err(Sender::Wrong),
    }
}

/// Turns a response into a challenge.
pub fn challenge(shared: &Shared, site: &Site, mut response: Response, stale: bool) -> Response {
    let algorithms = site.digest.iter().map(|algorithm| match algorithm {
        DigestAlgorithm::Md5 => Algorithm::Md5,
        DigestAlgorithm::Sha256 => Algorithm::Sha256,
    });
    let challenge = Challenge {
        realm: site.domain.clone(),
        algorithms: algorithms.collect(),
    };
    let (now, keys) = nonce_keys(shared);
    for value in challenge.values(&keys, now, stale) {
        response.headers.push(HeaderName::WwwAuthenticate, value);
    }
    response
}

fn nonce_keys(shared: &Shared) -> (SystemTime, NonceKeys) {
    let now = SystemTime::now();
    let seconds = now
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let (current, previous) = shared.vault.nonce_keys(seconds);
    (
        now,
        NonceKeys {
            current,
            previous: Some(previous),
        },
    )
}
