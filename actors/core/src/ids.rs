//! Typed identifiers. Each prints with a prefix, parses back, and is an integer
//! or a short name inside, so that no table mixes two kinds of things.
//!
//! Ids of calls, legs and records are minted by `apply` from (log index, n): they
//! are unique for the life of the cluster and rise with time. They are written in
//! Crockford base 32 at a fixed width, so text order is age order.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Why a text is not an id of the wanted kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {wanted}")]
pub struct ParseIdError {
    /// What was read.
    pub text: String,
    /// What was wanted, with an example.
    pub wanted: &'static str,
}

/// Crockford base 32: no I, L, O, U.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// Digits needed for 64 bits.
const WIDTH: u32 = 13;
/// Bits of a minted id that count the things one log entry made. The end of a node
/// writes a record for each of its calls in one entry, which sets the need.
const MINT_BITS: u32 = 16;

fn write_base32(value: u64, out: &mut fmt::Formatter<'_>) -> fmt::Result {
    for place in (0..WIDTH).rev() {
        let digit = (value >> (place * 5)) & 31;
        let byte = ALPHABET
            .get(usize::try_from(digit).unwrap_or(0))
            .copied()
            .unwrap_or(b'0');
        fmt::Write::write_char(out, char::from(byte))?;
    }
    Ok(())
}

fn read_base32(text: &str) -> Option<u64> {
    if text.is_empty() || text.len() > 13 {
        return None;
    }
    text.bytes().try_fold(0u64, |value, byte| {
        let digit = ALPHABET
            .iter()
            .position(|&known| known == byte.to_ascii_uppercase())?;
        value
            .checked_mul(32)?
            .checked_add(u64::try_from(digit).ok()?)
    })
}

/// The value of a minted id: the `n`th thing made by the entry at `index`.
///
/// One entry makes at most 65,536 things.
pub fn mint(index: u64, n: u16) -> u64 {
    (index << MINT_BITS) | u64::from(n)
}

macro_rules! minted_id {
    ($name:ident, $prefix:literal, $wanted:literal, $doc:literal) => {
        #[doc = $doc]
        #[derive(
            Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// Log index of the entry that made it.
            pub fn index(self) -> u64 {
                self.0 >> MINT_BITS
            }

            /// Position among the things that entry made.
            pub fn n(self) -> u32 {
                u32::try_from(self.0 & ((1 << MINT_BITS) - 1)).unwrap_or(0)
            }

            /// The id with this log index and position.
            pub fn from_parts(index: u64, n: u32) -> Self {
                Self(mint(index, u16::try_from(n).unwrap_or(u16::MAX)))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str($prefix)?;
                write_base32(self.0, out)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, out)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.strip_prefix($prefix)
                    .and_then(read_base32)
                    .map(Self)
                    .ok_or_else(|| ParseIdError {
                        text: text.to_owned(),
                        wanted: $wanted,
                    })
            }
        }
    };
}

minted_id!(
    CallId,
    "call_",
    "a call id such as call_0000000001A40",
    "A call: legs that belong together."
);
minted_id!(
    LegId,
    "leg_",
    "a leg id such as leg_0000000001A41",
    "One SIP dialog of ours with one phone or trunk."
);
minted_id!(
    CdrId,
    "cdr_",
    "a record id such as cdr_0000000001A42",
    "A call detail record."
);
minted_id!(
    InteractionId,
    "int_",
    "an interaction id such as int_0000000001A43",
    "One contact of a customer in any channel."
);

/// A node, by the number in its certificate.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeId(pub u64);

impl fmt::Display for NodeId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "node_{}", self.0)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

impl FromStr for NodeId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.strip_prefix("node_")
            .unwrap_or(text)
            .parse()
            .ok()
            .filter(|number| *number > 0)
            .map(Self)
            .ok_or_else(|| ParseIdError {
                text: text.to_owned(),
                wanted: "a node such as node_2 or 2",
            })
    }
}

macro_rules! name {
    ($name:ident, $doc:literal) => {
        #[doc = $doc]
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(Arc::from(text))
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(Arc::from(text))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, out)
            }
        }
    };
}

name!(TenantId, "A client company, by the name in its site file.");
name!(AgentId, "An agent, by the id in the site file.");
name!(QueueName, "A queue, by the name in the site file.");
name!(Extension, "The number of an internal line, as dialled.");
name!(TrunkName, "A trunk, by the name in the site file.");
name!(
    CustomerId,
    "A customer, by the id in the client company's own system, else minted."
);

impl CustomerId {
    /// The id of a customer nobody has named, from a minted value.
    pub fn minted(value: u64) -> Self {
        struct Digits(u64);

        impl fmt::Display for Digits {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_base32(self.0, out)
            }
        }

        Self::from(format!("cust_{}", Digits(value)))
    }
}
name!(SkillName, "A skill agents have at a level from 1 to 10.");
name!(HoursName, "Opening hours, by the name in the site file.");
name!(TeamName, "A team of agents, by the name in the site file.");

/// The content address of a blob: BLAKE3 of its bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BlobId(pub [u8; 32]);

impl fmt::Display for BlobId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("blob_")?;
        self.0.iter().try_for_each(|byte| write!(out, "{byte:02x}"))
    }
}

impl fmt::Debug for BlobId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

impl FromStr for BlobId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wanted = "a blob id: blob_ and 64 hexadecimal digits";
        let refused = || ParseIdError {
            text: text.to_owned(),
            wanted,
        };
        let digits = text
            .strip_prefix("blob_")
            .filter(|digits| digits.len() == 64);
        let digits = digits
            .filter(|digits| digits.is_ascii())
            .ok_or_else(refused)?;
        let mut bytes = [0u8; 32];
        for (place, byte) in bytes.iter_mut().enumerate() {
            let pair = digits.get(place * 2..place * 2 + 2).ok_or_else(refused)?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| refused())?;
        }
        Ok(Self(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_print_and_parse_back_in_age_order() {
        let older = CallId::from_parts(41, 3);
        let newer = CallId::from_parts(42, 0);
        assert!(older.to_string() < newer.to_string());
        assert_eq!(older.to_string().parse(), Ok(older));
        assert_eq!((older.index(), older.n()), (41, 3));
        assert!("leg_0000000001A40".parse::<CallId>().is_err());
        assert!("call_".parse::<CallId>().is_err());
    }

    #[test]
    fn a_node_is_named_with_or_without_prefix() {
        assert_eq!("2".parse(), Ok(NodeId(2)));
        assert_eq!("node_2".parse(), Ok(NodeId(2)));
        assert!("node_0".parse::<NodeId>().is_err());
    }

    #[test]
    fn a_blob_id_survives_text() {
        let id = BlobId([0xA7; 32]);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert!("blob_ÿÿ".parse::<BlobId>().is_err());
    }
}
