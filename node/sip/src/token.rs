//! Which leg a message belongs to, written into our tags, Call-IDs and branches.
//!
//! A [`LegToken`] names a leg anywhere in the cluster. The text forms carry it in the clear with
//! a truncated keyed MAC, so any node can route any in-dialog request or response without a
//! look-up, and nobody outside can make one up. The MAC binds the token to its place (tag,
//! Call-ID or branch); it authenticates routing, not people.

use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use std::fmt::Write;
use subtle::ConstantTimeEq;

/// The magic cookie of RFC 3261 §8.1.1.7.
pub const BRANCH_COOKIE: &str = "z9hG4bK";
const MAC_BYTES: usize = 6;

/// One SIP leg of the exchange: the log index and sequence that minted it, and the epoch of the
/// owner that speaks for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LegToken {
    /// Log index that minted the leg.
    pub index: u64,
    /// Sequence within that index.
    pub n: u32,
    /// Epoch of the owner.
    pub epoch: u32,
}

/// Makes and reads the text forms under the cluster's key.
#[derive(Clone)]
pub struct TokenKey {
    mac: Hmac<Sha256>,
}

impl std::fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenKey(..)")
    }
}

impl TokenKey {
    /// A key shared by the nodes of one cluster.
    #[must_use]
    pub fn new(key: &[u8; 32]) -> Self {
        Self {
            mac: Hmac::new_from_slice(key).expect("HMAC takes a key of any length"),
        }
    }

    /// The local tag of a leg.
    #[must_use]
    pub fn tag(&self, token: LegToken) -> String {
        self.seal("t", token, None)
    }

    /// The Call-ID of a leg that we start.
    #[must_use]
    pub fn call_id(&self, token: LegToken) -> String {
        self.seal("c", token, None)
    }

    /// A branch for one request of a leg; `unique` tells the requests of a leg apart.
    #[must_use]
    pub fn branch(&self, token: LegToken, unique: u64) -> String {
        self.seal(BRANCH_COOKIE, token, Some(unique))
    }

    /// The leg of one of our tags.
    #[must_use]
    pub fn from_tag(&self, tag: &str) -> Option<LegToken> {
        self.open("t", tag, false)
    }

    /// The leg of one of our Call-IDs.
    #[must_use]
    pub fn from_call_id(&self, call_id: &str) -> Option<LegToken> {
        self.open("c", call_id, false)
    }

    /// The leg of one of our branches.
    #[must_use]
    pub fn from_branch(&self, branch: &str) -> Option<LegToken> {
        self.open(BRANCH_COOKIE, branch, true)
    }

    fn seal(&self, prefix: &str, token: LegToken, unique: Option<u64>) -> String {
        let LegToken { index, n, epoch } = token;
        let mut text = String::with_capacity(64);
        text.push_str(prefix);
        // Writing to a String cannot fail.
        let _ = write!(text, "{index:x}-{n:x}-{epoch:x}");
        if let Some(unique) = unique {
            let _ = write!(text, "-{unique:x}");
        }
        let mac = self.mac(&text);
        text.push('-');
        text.push_str(&hex::encode(mac));
        text
    }

    fn open(&self, prefix: &str, text: &str, unique: bool) -> Option<LegToken> {
        let (signed, mac) = text.rsplit_once('-')?;
        let mut parts = signed.strip_prefix(prefix)?.split('-');
        let token = LegToken {
            index: u64::from_str_radix(parts.next()?, 16).ok()?,
            n: u32::from_str_radix(parts.next()?, 16).ok()?,
            epoch: u32::from_str_radix(parts.next()?, 16).ok()?,
        };
        if unique {
            parts.next()?;
        }
        if parts.next().is_some() {
            return None;
        }
        let mut given = [0_u8; MAC_BYTES];
        hex::decode_to_slice(mac, &mut given).ok()?;
        bool::from(given.ct_eq(&self.mac(signed))).then_some(token)
    }

    fn mac(&self, text: &str) -> [u8; MAC_BYTES] {
        let mut mac = self.mac.clone();
        mac.update(text.as_bytes());
        let full = mac.finalize().into_bytes();
        let mut out = [0_u8; MAC_BYTES];
        for (to, from) in out.iter_mut().zip(full) {
            *to = from;
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: LegToken = LegToken {
        index: 0x1a2b_3c4d_5e6f,
        n: 7,
        epoch: 3,
    };

    #[test]
    fn every_form_reads_back_and_no_form_passes_for_another() {
        let key = TokenKey::new(&[7; 32]);
        let (tag, call_id, branch) = (key.tag(TOKEN), key.call_id(TOKEN), key.branch(TOKEN, 9));
        assert_eq!(key.from_tag(&tag), Some(TOKEN));
        assert_eq!(key.from_call_id(&call_id), Some(TOKEN));
        assert_eq!(key.from_branch(&branch), Some(TOKEN));
        assert_eq!(key.from_call_id(&tag.replacen('t', "c", 1)), None);
        assert_eq!(key.from_tag(&call_id), None);
    }

    #[test]
    fn a_foreign_key_and_an_altered_text_are_refused() {
        let (ours, theirs) = (TokenKey::new(&[7; 32]), TokenKey::new(&[8; 32]));
        let tag = ours.tag(TOKEN);
        assert_eq!(theirs.from_tag(&tag), None);
        assert_eq!(ours.from_tag(&tag.replacen("-7-", "-8-", 1)), None);
        for text in [
            "",
            "t",
            "t--",
            "t1-2-3-",
            "t1-2-3-zzzzzzzzzzzz",
            "1-2-3-4",
            "té-1",
        ] {
            assert_eq!(ours.from_tag(text), None, "{text}");
        }
    }
}
