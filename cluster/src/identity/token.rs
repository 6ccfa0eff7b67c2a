//! The one-time join token, as text an operator copies.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use strowger_core::ports::NodeNumber;

use super::ClusterId;
use crate::error::JoinError;

const PREFIX: &str = "swj1.";

/// Lets one node join one cluster once. Prints as `swj1.…`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// The cluster.
    pub cluster: ClusterId,
    /// Hash of the authority's certificate; who cannot show it is not the cluster.
    pub(crate) authority_hash: [u8; 32],
    /// Members to ask, with their numbers.
    pub members: Vec<(NodeNumber, String)>,
    /// What the newcomer must know.
    pub(crate) secret: [u8; 32],
    /// End of its life, ms since 1970 UTC.
    pub expires_ms: u64,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Token {{ cluster: {}, expires_ms: {} }}",
            self.cluster, self.expires_ms
        )
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = crate::store::encode(self);
        let mut sealed = blake3::hash(&bytes).as_bytes()[..4].to_vec();
        sealed.extend(bytes);
        write!(f, "{PREFIX}{}", URL_SAFE_NO_PAD.encode(sealed))
    }
}

impl FromStr for Token {
    type Err = JoinError;

    fn from_str(text: &str) -> Result<Self, JoinError> {
        let malformed = |why: &str| JoinError::Malformed(why.to_owned());
        let text = text.trim();
        let body = text
            .strip_prefix(PREFIX)
            .ok_or_else(|| malformed("it starts with swj1."))?;
        let sealed = URL_SAFE_NO_PAD
            .decode(body)
            .map_err(|_| malformed("it is not base64"))?;
        let (sum, bytes) = sealed
            .split_first_chunk::<4>()
            .ok_or_else(|| malformed("it is too short"))?;
        if blake3::hash(bytes).as_bytes()[..4] != *sum {
            return Err(malformed("it was not copied whole"));
        }
        postcard::from_bytes(bytes).map_err(|error| malformed(&error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_survives_copying_and_notices_mistakes() {
        let token = Token {
            cluster: ClusterId([1; 16]),
            authority_hash: [2; 32],
            members: vec![(1, "127.0.0.1:7000".into())],
            secret: [3; 32],
            expires_ms: 4,
        };
        let text = token.to_string();
        assert_eq!(format!(" {text}\n").parse::<Token>().expect("parse"), token);
        for bad in [
            "",
            "swj1.",
            "swj1.!!",
            &text[..text.len() - 2],
            &text.replacen('A', "B", 1),
        ] {
            assert!(
                matches!(bad.parse::<Token>(), Err(JoinError::Malformed(_))),
                "{bad}"
            );
        }
    }
}
