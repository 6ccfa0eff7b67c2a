//! Secrets: sealed before they are proposed, opened only in memory.
//!
//! All keys derive from the cluster's authority key, which every member holds and the
//! log never sees. An extension's secret is its digest HA1 for each algorithm
//! (RFC 7616 §3.4.2, RFC 8760); passwords are never kept. Challenge nonces are made
//! under a key of the hour, so that any node verifies any node's challenge.
//!
//! Sealed form: version byte, 24 byte nonce, XChaCha20-Poly1305 of the value; the
//! tenant and name are authenticated with it, so that no row can stand for another.

use std::collections::BTreeMap;

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use sha2::Digest;
use strowger_core::ids::{Extension, TenantId};
use strowger_core::ports::{RowsRead, Table};
use strowger_core::site::DigestAlgorithm;
use strowger_core::state::store::secret_key;
use subtle::ConstantTimeEq;

use crate::limits;

const VERSION: u8 = 1;
const NONCE_BYTES: usize = 24;
/// Contexts of key derivation; each use has its own.
const SEAL_CONTEXT: &str = "strowger 2026 seal of secrets";
const DIGEST_CONTEXT: &str = "strowger 2026 digest nonces";
const TOKEN_CONTEXT: &str = "strowger 2026 admin token";
const SIP_CONTEXT: &str = "strowger 2026 sip tokens";
/// Seconds a nonce key is in use.
const NONCE_KEY_S: u64 = 3_600;

/// The digest secret of an extension.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Realm the hashes were made for.
    pub realm: String,
    /// HA1 = hash of `user:realm:password`, lower case hexadecimal, by algorithm.
    pub ha1: BTreeMap<DigestAlgorithm, String>,
}

/// The same as sealed: hashes as bytes, since a site carries thousands of them.
#[derive(Serialize, Deserialize)]
pub(crate) struct Hashes {
    realm: String,
    md5: [u8; 16],
    sha256: [u8; 32],
}

impl Hashes {
    fn of(user: &str, realm: &str, password: &str) -> Self {
        let text = format!("{user}:{realm}:{password}");
        Self {
            realm: realm.to_owned(),
            md5: md5::Md5::digest(&text).into(),
            sha256: sha2::Sha256::digest(&text).into(),
        }
    }
}

impl From<Hashes> for Credentials {
    fn from(hashes: Hashes) -> Self {
        let ha1 = BTreeMap::from([
            (DigestAlgorithm::Md5, hex::encode(hashes.md5)),
            (DigestAlgorithm::Sha256, hex::encode(hashes.sha256)),
        ]);
        Self {
            realm: hashes.realm,
            ha1,
        }
    }
}

impl Credentials {
    /// Makes the hashes of every known algorithm, so that a site may change its list.
    pub fn of(user: &str, realm: &str, password: &str) -> Self {
        Hashes::of(user, realm, password).into()
    }
}

/// The key that opens the sealed secrets of a cluster, as an operator keeps it. Opens no
/// connection and signs nothing.
pub struct SealKey(XChaCha20Poly1305);

/// What the text of a [`SealKey`] begins with.
const SEAL_KEY_PREFIX: &str = "swk1.";

impl SealKey {
    /// Reads the text of a key: `swk1.` and 64 hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        let mut key = [0; 32];
        hex::decode_to_slice(text.strip_prefix(SEAL_KEY_PREFIX)?, &mut key).ok()?;
        Some(Self(XChaCha20Poly1305::new(&key.into())))
    }
}

/// The keys of a cluster. Holds no key that is stored anywhere else.
pub struct Vault {
    seal: XChaCha20Poly1305,
    seal_text: String,
    digest: [u8; 32],
    token: String,
    sip: [u8; 32],
    opened: RwLock<BTreeMap<Vec<u8>, (blake3::Hash, Credentials)>>,
}

impl Vault {
    /// The keys derived by `derive` (from a context), which is the cluster identity's.
    pub fn new(derive: impl Fn(&str) -> [u8; 32]) -> Self {
        let seal = derive(SEAL_CONTEXT);
        Self {
            seal_text: format!("{SEAL_KEY_PREFIX}{}", hex::encode(seal)),
            seal: XChaCha20Poly1305::new(&seal.into()),
            digest: derive(DIGEST_CONTEXT),
            token: letters(&derive(TOKEN_CONTEXT)),
            sip: derive(SIP_CONTEXT),
            opened: RwLock::default(),
        }
    }

    /// The admin token of the cluster.
    pub fn admin_token(&self) -> &str {
        &self.token
    }

    /// The key that opens this cluster's secrets, as [`SealKey`] reads it.
    pub fn export_key(&self) -> String {
        self.seal_text.clone()
    }

    /// A secret sealed under `old`, sealed under this cluster's key; `None` when it cannot
    /// be opened.
    pub fn reseal(
        &self,
        old: &SealKey,
        tenant: &TenantId,
        extension: &Extension,
        sealed: &[u8],
    ) -> Option<Vec<u8>> {
        let name = secret_key(tenant, extension);
        let plain = open_with(&old.0, &name, sealed)?;
        Some(seal_with(&self.seal, &name, &plain))
    }

    /// Whether `presented` is the admin token, in constant time.
    pub fn is_admin(&self, presented: &str) -> bool {
        let (ours, theirs) = (
            blake3::hash(self.token.as_bytes()),
            blake3::hash(presented.as_bytes()),
        );
        ours.as_bytes().ct_eq(theirs.as_bytes()).into()
    }

    /// Key of the authentication codes in SIP tags, Call-IDs and branches.
    pub fn sip_key(&self) -> [u8; 32] {
        self.sip
    }

    /// Keys of digest nonces for a time in s since 1970: the present one and the one
    /// before, which nonces still in use were made under.
    pub fn nonce_keys(&self, now_s: u64) -> ([u8; 32], [u8; 32]) {
        let hour = now_s / NONCE_KEY_S;
        (self.nonce_key(hour), self.nonce_key(hour.saturating_sub(1)))
    }

    fn nonce_key(&self, hour: u64) -> [u8; 32] {
        *blake3::keyed_hash(&self.digest, &hour.to_be_bytes()).as_bytes()
    }

    /// Makes the credentials of an extension and seals them for the log.
    pub fn seal(
        &self,
        tenant: &TenantId,
        extension: &Extension,
        realm: &str,
        password: &str,
    ) -> Vec<u8> {
        let name = secret_key(tenant, extension);
        let plain = postcard::to_stdvec(&Hashes::of(extension.as_str(), realm, password))
            .expect("a text and arrays of bytes have an encoding");
        seal_with(&self.seal, &name, &plain)
    }

    /// Opens sealed credentials; `None` when they are not ours or damaged.
    pub fn open(
        &self,
        tenant: &TenantId,
        extension: &Extension,
        sealed: &[u8],
    ) -> Option<Credentials> {
        let plain = open_with(&self.seal, &secret_key(tenant, extension), sealed)?;
        postcard::from_bytes::<Hashes>(&plain)
            .ok()
            .map(Credentials::from)
    }

    /// The credentials of an extension as committed, opened once and then remembered
    /// until the sealed value changes.
    pub fn credentials(
        &self,
        rows: &dyn RowsRead,
        tenant: &TenantId,
        extension: &Extension,
    ) -> Option<Credentials> {
        let key = secret_key(tenant, extension);
        let sealed = rows.get(Table::Secret, &key)?;
        let hash = blake3::hash(&sealed);
        if let Some((known, credentials)) = self.opened.read().get(&key)
            && *known == hash
        {
            return Some(credentials.clone());
        }
        let credentials = self.open(tenant, extension, &sealed)?;
        let mut opened = self.opened.write();
        if opened.len() >= limits::EXTENSIONS_MAX {
            opened.clear();
        }
        opened.insert(key, (hash, credentials.clone()));
        Some(credentials)
    }
}

/// Seals `plain` for the row `name`.
fn seal_with(cipher: &XChaCha20Poly1305, name: &[u8], plain: &[u8]) -> Vec<u8> {
    let nonce: [u8; NONCE_BYTES] = rand::random();
    let payload = Payload {
        msg: plain,
        aad: name,
    };
    let sealed = cipher
        .encrypt(&XNonce::from(nonce), payload)
        .expect("a secret is far below the cipher's limit of 256 GiB");
    [[VERSION].as_slice(), &nonce, &sealed].concat()
}

/// Opens what was sealed for the row `name`.
fn open_with(cipher: &XChaCha20Poly1305, name: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
    let (version, rest) = sealed.split_first()?;
    let (nonce, body) = rest.split_first_chunk::<NONCE_BYTES>()?;
    let payload = Payload {
        msg: body,
        aad: name,
    };
    (*version == VERSION)
        .then(|| cipher.decrypt(&XNonce::from(*nonce), payload).ok())
        .flatten()
}

/// A password of 100 random bits in letters that are not mistaken for each other.
pub fn password() -> String {
    letters(&rand::random::<[u8; limits::PASSWORD_LETTERS]>())
}

/// One letter for each byte: its low five bits.
fn letters(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 32] = b"abcdefghjkmnpqrstuvwxyz023456789";
    bytes
        .iter()
        .filter_map(|byte| ALPHABET.get(usize::from(byte & 31)))
        .map(|letter| char::from(*letter))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vault(seed: u8) -> Vault {
        Vault::new(move |context| blake3::derive_key(context, &[seed; 32]))
    }

    #[test]
    fn ha1_is_the_hash_of_user_realm_password() {
        let made = Credentials::of("Mufasa", "http-auth@example.org", "Circle of Life");
        // RFC 7616 §3.9.1 states the answers; these are the HA1 they are made from.
        let md5 = made.ha1.get(&DigestAlgorithm::Md5).map(String::as_str);
        assert_eq!(md5, Some("3d78807defe7de2157e2b0b6573a855f"));
        let sha = made.ha1.get(&DigestAlgorithm::Sha256).map(String::as_str);
        assert_eq!(
            sha,
            Some("7987c64c30e25f1b74be53f966b49b90f2808aa92faf9a00262392d7b4794232")
        );
    }

    #[test]
    fn what_is_sealed_opens_only_under_its_name_and_key() {
        let (tenant, extension) = (TenantId::from("t"), Extension::from("1001"));
        let secret = Credentials::of("1001", "r", "p");
        let sealed = vault(1).seal(&tenant, &extension, "r", "p");
        assert!(vault(1).open(&tenant, &extension, &sealed) == Some(secret));
        assert!(vault(2).open(&tenant, &extension, &sealed).is_none());
        assert!(
            vault(1)
                .open(&tenant, &Extension::from("1002"), &sealed)
                .is_none()
        );
        for place in 0..sealed.len() {
            let mut broken = sealed.clone();
            if let Some(byte) = broken.get_mut(place) {
                *byte ^= 1;
            }
            assert!(
                vault(1).open(&tenant, &extension, &broken).is_none(),
                "byte {place}"
            );
        }
    }

    #[test]
    fn a_secret_is_sealed_anew_with_the_exported_key_of_its_cluster_only() {
        let (tenant, extension) = (TenantId::from("t"), Extension::from("1001"));
        let sealed = vault(1).seal(&tenant, &extension, "r", "p");
        let key = SealKey::parse(&vault(1).export_key()).expect("a key");
        let anew = vault(2).reseal(&key, &tenant, &extension, &sealed);
        let anew = anew.expect("opened");
        let opened = vault(2).open(&tenant, &extension, &anew);
        assert!(opened == Some(Credentials::of("1001", "r", "p")));
        let wrong = SealKey::parse(&vault(3).export_key()).expect("a key");
        assert!(
            vault(2)
                .reseal(&wrong, &tenant, &extension, &sealed)
                .is_none()
        );
        assert!(SealKey::parse("swk1.00").is_none());
    }

    #[test]
    fn every_node_derives_the_same_token_and_nonce_keys() {
        let (one, other) = (vault(1), vault(1));
        assert!(other.is_admin(one.admin_token()));
        assert!(!vault(2).is_admin(one.admin_token()));
        assert!(!one.is_admin(""));
        let (now, before) = one.nonce_keys(7_200);
        assert_eq!(other.nonce_keys(3_600).0, before);
        assert_ne!(now, before);
    }

    #[test]
    fn passwords_differ_and_have_their_length() {
        assert_eq!(password().len(), limits::PASSWORD_LETTERS);
        assert_ne!(password(), password());
    }
}
