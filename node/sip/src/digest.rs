//! Digest authentication (RFC 7616, RFC 8760; MD5 as RFC 2617 has it for older phones).
//!
//! Server: nonces are a time and a MAC under a key the cluster shares and rotates, so any node
//! verifies any node's challenge without memory; only the replay window is kept, bounded, per
//! node. Secrets come in as HA1. Client: one answer to one challenge.
//!
//! The `uri` of an answer is hashed as given and must name what the Request-URI names (RFC 7616
//! §3.4.6), in any form of it that phones write: [`Answer::is_for`].

use crate::limits;
use crate::message::{HeaderName, Uri};
use hmac::{Hmac, KeyInit, Mac};
use md5::Md5;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use std::collections::{HashMap, VecDeque};
use std::time::{SystemTime, UNIX_EPOCH};
use subtle::ConstantTimeEq;

/// A hash algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Algorithm {
    /// `SHA-256`
    Sha256,
    /// `MD5`
    Md5,
}

impl Algorithm {
    /// The name in a header.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sha256 => "SHA-256",
            Self::Md5 => "MD5",
        }
    }

    /// The algorithm of this name, in any case.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Sha256, Self::Md5]
            .into_iter()
            .find(|algorithm| algorithm.as_str().eq_ignore_ascii_case(name))
    }

    fn hash(self, text: &str) -> String {
        match self {
            Self::Sha256 => hex::encode(Sha256::digest(text.as_bytes())),
            Self::Md5 => hex::encode(Md5::digest(text.as_bytes())),
        }
    }
}

/// H(user:realm:password) in hex: what is stored instead of a password.
#[must_use]
pub fn ha1(algorithm: Algorithm, user: &str, realm: &str, password: &str) -> String {
    algorithm.hash(&format!("{user}:{realm}:{password}"))
}

/// The keys nonces are made and verified with.
#[derive(Clone)]
pub struct NonceKeys {
    /// Makes nonces.
    pub current: [u8; 32],
    /// Still accepted.
    pub previous: Option<[u8; 32]>,
}

impl std::fmt::Debug for NonceKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NonceKeys(..)")
    }
}

/// The challenges a server sends, best algorithm first.
#[derive(Debug, Clone)]
pub struct Challenge {
    /// The realm, which is part of HA1.
    pub realm: String,
    /// Algorithms in the order they are offered.
    pub algorithms: Vec<Algorithm>,
}

impl Challenge {
    /// The values of the WWW-Authenticate (or Proxy-Authenticate) headers of one response.
    #[must_use]
    pub fn values(&self, keys: &NonceKeys, now: SystemTime, stale: bool) -> Vec<String> {
        let nonce = new_nonce(&keys.current, &self.realm, now);
        let stale = if stale { ", stale=true" } else { "" };
        let realm = self.realm.replace(['"', '\\'], "");
        self.algorithms
            .iter()
            .map(|algorithm| {
                format!(
                    "Digest realm=\"{realm}\", nonce=\"{nonce}\", \
                     algorithm={}, qop=\"auth\"{stale}",
                    algorithm.as_str()
                )
            })
            .collect()
    }
}

/// An Authorization value as sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Whom the sender claims to be.
    pub user: String,
    /// Realm.
    pub realm: String,
    /// Algorithm; MD5 when not named.
    pub algorithm: Algorithm,
    nonce: String,
    uri: String,
    response: String,
    qop: Option<String>,
    nc: String,
    cnonce: String,
}

/// What became of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It proves knowledge of the secret.
    Good,
    /// It does, but the nonce is too old or was used with this count: challenge again with
    /// `stale=true`.
    Stale,
    /// It does not.
    Bad,
}

impl Answer {
    /// Reads an Authorization or Proxy-Authorization value; `None` for other schemes and for
    /// values that lack a part.
    #[must_use]
    pub fn parse(value: &str) -> Option<Self> {
        let fields = Fields::parse(value)?;
        let algorithm = match fields.value("algorithm") {
            Some(name) => Algorithm::from_name(&name)?,
            None => Algorithm::Md5,
        };
        Some(Self {
            user: fields.value("username")?,
            realm: fields.value("realm")?,
            algorithm,
            nonce: fields.value("nonce")?,
            uri: fields.value("uri")?,
            response: fields.value("response")?,
            qop: fields.value("qop"),
            nc: fields.value("nc").unwrap_or_default(),
            cnonce: fields.value("cnonce").unwrap_or_default(),
        })
    }

    /// True when the `uri` of the answer names what the Request-URI `target` names. Taken as the
    /// same: any port and parameters, `sips` for `sip`, another spelling of the user, a host that
    /// `is_ours` just as the target's is, and no user at all, for testers such as SIPp write the
    /// server alone. Another user, another host and what is no SIP URI are not.
    #[must_use]
    pub fn is_for(&self, target: &Uri, is_ours: impl Fn(&str) -> bool) -> bool {
        let Some(uri) = Uri::parse(&self.uri).filter(Uri::is_sip) else {
            // `tel:` has no host: there the text decides.
            return self.uri == target.to_string();
        };
        let user = uri.user_text().filter(|user| !user.is_empty());
        let same_user = user.is_none() || user == target.user_text();
        let same_host = uri.host.eq_ignore_ascii_case(&target.host)
            || (is_ours(&uri.host) && is_ours(&target.host));
        same_user && same_host
    }

    /// The first Digest answer for this realm among a request's Authorization headers.
    #[must_use]
    pub fn of_request(request: &crate::message::Request, realm: &str) -> Option<Self> {
        request
            .headers
            .get_all(&HeaderName::Authorization)
            .chain(request.headers.get_all(&HeaderName::ProxyAuthorization))
            .filter_map(Self::parse)
            .find(|answer| answer.realm == realm)
    }
}

/// Verifies answers; remembers which counts of which nonces were used.
#[derive(Debug, Default)]
pub struct Verifier {
    used: Mutex<Used>,
}

#[derive(Debug, Default)]
struct Used {
    /// Highest count and the 64 counts below it.
    counts: HashMap<Stamp, (u32, u64)>,
    /// In the order of their first use.
    order: VecDeque<Stamp>,
}

/// What the MAC of a nonce covers besides the realm; no two nonces have the same, but for one
/// in four thousand million of the same second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Stamp {
    /// When the nonce was made, s since 1970.
    made_s: u64,
    chance: u32,
}

impl Stamp {
    fn is_old(self, now_s: u64) -> bool {
        now_s.saturating_sub(self.made_s) > limits::NONCE_AGE_MAX.as_secs()
    }
}

impl Verifier {
    /// A verifier without memory of earlier answers.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Judges an answer against the HA1 of its user for its algorithm.
    #[must_use]
    pub fn verify(
        &self,
        answer: &Answer,
        method: &str,
        ha1: &str,
        keys: &NonceKeys,
        now: SystemTime,
    ) -> Verdict {
        let Some(stamp) = stamp_of(&answer.nonce, &answer.realm, keys) else {
            // Not one of our nonces. It may be one under a key that was rotated out, so the
            // phone gets a chance to answer a fresh one.
            return Verdict::Stale;
        };
        let expected = response_hash(answer, method, ha1);
        let given = answer.response.to_ascii_lowercase();
        if !bool::from(expected.as_bytes().ct_eq(given.as_bytes())) {
            return Verdict::Bad;
        }
        let now_s = seconds(now);
        if stamp.is_old(now_s) {
            return Verdict::Stale;
        }
        if answer.qop.is_some() && !self.used.lock().take(stamp, &answer.nc, now_s) {
            return Verdict::Stale;
        }
        Verdict::Good
    }
}

impl Used {
    /// Takes one count of a nonce; false when it was taken before or is not a count.
    fn take(&mut self, nonce: Stamp, nc: &str, now_s: u64) -> bool {
        let Ok(count) = u32::from_str_radix(nc, 16) else {
            return false;
        };
        if let Some((highest, seen)) = self.counts.get_mut(&nonce) {
            if count > *highest {
                *seen = seen.checked_shl(count - *highest).unwrap_or(0) | 1;
                *highest = count;
                return true;
            }
            let bit = 1_u64.checked_shl(*highest - count).unwrap_or(0);
            let fresh = bit != 0 && *seen & bit == 0;
            *seen |= bit;
            return fresh;
        }
        while let Some(oldest) = self.order.front().copied()
            && (oldest.is_old(now_s) || self.order.len() >= limits::NONCES_MAX)
        {
            self.order.pop_front();
            self.counts.remove(&oldest);
        }
        self.order.push_back(nonce);
        self.counts.insert(nonce, (count, 1));
        true
    }
}

fn response_hash(answer: &Answer, method: &str, ha1: &str) -> String {
    let algorithm = answer.algorithm;
    let ha2 = algorithm.hash(&format!("{method}:{}", answer.uri));
    let nonce = &answer.nonce;
    match &answer.qop {
        Some(qop) => {
            let (nc, cnonce) = (&answer.nc, &answer.cnonce);
            algorithm.hash(&format!("{ha1}:{nonce}:{nc}:{cnonce}:{qop}:{ha2}"))
        }
        None => algorithm.hash(&format!("{ha1}:{nonce}:{ha2}")),
    }
}

fn new_nonce(key: &[u8; 32], realm: &str, now: SystemTime) -> String {
    let signed = format!("{:x}-{:08x}", seconds(now), rand::random::<u32>());
    let mac = nonce_mac(key, &signed, realm);
    format!("{signed}-{mac}")
}

/// When a nonce was made, and with what; `None` when it is not ours.
fn stamp_of(nonce: &str, realm: &str, keys: &NonceKeys) -> Option<Stamp> {
    let (signed, mac) = nonce.rsplit_once('-')?;
    let ours = [Some(&keys.current), keys.previous.as_ref()]
        .into_iter()
        .flatten()
        .any(|key| {
            let expected = nonce_mac(key, signed, realm);
            bool::from(expected.as_bytes().ct_eq(mac.as_bytes()))
        });
    let (made, chance) = signed.split_once('-')?;
    let stamp = Stamp {
        made_s: u64::from_str_radix(made, 16).ok()?,
        chance: u32::from_str_radix(chance, 16).ok()?,
    };
    ours.then_some(stamp)
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

fn nonce_mac(key: &[u8; 32], signed: &str, realm: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    mac.update(signed.as_bytes());
    mac.update(b"|");
    mac.update(realm.as_bytes());
    let full = mac.finalize().into_bytes();
    hex::encode(full.get(..12).unwrap_or_default())
}

/// A challenge as a client sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientChallenge {
    /// Realm.
    pub realm: String,
    /// Algorithm; MD5 when not named.
    pub algorithm: Algorithm,
    nonce: String,
    opaque: Option<String>,
    qop: bool,
}

impl ClientChallenge {
    /// Reads a WWW-Authenticate or Proxy-Authenticate value; `None` when it cannot be answered.
    #[must_use]
    pub fn parse(value: &str) -> Option<Self> {
        let fields = Fields::parse(value)?;
        let algorithm = match fields.value("algorithm") {
            Some(name) => Algorithm::from_name(&name)?,
            None => Algorithm::Md5,
        };
        let qop = fields.value("qop");
        let offers_auth = qop
            .as_deref()
            .is_some_and(|list| list.split(',').any(|one| one.trim() == "auth"));
        if qop.is_some() && !offers_auth {
            return None;
        }
        Some(Self {
            realm: fields.value("realm")?,
            algorithm,
            nonce: fields.value("nonce")?,
            opaque: fields.value("opaque"),
            qop: offers_auth,
        })
    }
}

/// The Authorization value that answers a challenge.
#[must_use]
pub fn authorize(
    challenge: &ClientChallenge,
    user: &str,
    password: &str,
    method: &str,
    uri: &str,
) -> String {
    let algorithm = challenge.algorithm;
    let mut answer = Answer {
        user: user.to_owned(),
        realm: challenge.realm.clone(),
        algorithm,
        nonce: challenge.nonce.clone(),
        uri: uri.to_owned(),
        response: String::new(),
        qop: challenge.qop.then(|| "auth".to_owned()),
        nc: "00000001".to_owned(),
        cnonce: format!("{:016x}", rand::random::<u64>()),
    };
    let secret = ha1(algorithm, user, &challenge.realm, password);
    answer.response = response_hash(&answer, method, &secret);
    let mut out = format!(
        "Digest username=\"{user}\", realm=\"{}\", nonce=\"{}\", uri=\"{uri}\", \
         response=\"{}\", algorithm={}",
        answer.realm,
        answer.nonce,
        answer.response,
        algorithm.as_str()
    );
    if challenge.qop {
        out.push_str(&format!(
            ", qop=auth, nc={}, cnonce=\"{}\"",
            answer.nc, answer.cnonce
        ));
    }
    if let Some(opaque) = &challenge.opaque {
        out.push_str(&format!(", opaque=\"{opaque}\""));
    }
    out
}

/// The `name=value` pairs of a Digest header.
struct Fields<'a> {
    pairs: Vec<(&'a str, &'a str)>,
}

impl<'a> Fields<'a> {
    fn parse(value: &'a str) -> Option<Self> {
        let value = value.trim();
        let (scheme, rest) = value.split_once(char::is_whitespace)?;
        if !scheme.eq_ignore_ascii_case("Digest") {
            return None;
        }
        let pairs = crate::message::split_list(rest)
            .filter_map(|pair| pair.split_once('='))
            .map(|(name, value)| (name.trim(), value.trim()))
            .collect();
        Some(Self { pairs })
    }

    fn value(&self, name: &str) -> Option<String> {
        let (_, value) = self
            .pairs
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name))?;
        let inner = value.strip_prefix('"').and_then(|v| v.strip_suffix('"'));
        Some(match inner {
            Some(inner) => crate::message::unquote(inner),
            None => (*value).to_owned(),
        })
    }
}

#[cfg(test)]
#[path = "digest_tests.rs"]
mod tests;
