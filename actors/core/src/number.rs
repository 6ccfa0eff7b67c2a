//! Telephone numbers as the world writes them (ITU-T E.164): `+`, country code, number.
//!
//! What somebody dialled or wrote is turned into this form before it is proposed, by the
//! rules of the tenant's country; nothing here knows countries.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Digits of the longest number (E.164 §6).
pub const DIGITS_MAX: usize = 15;
/// Digits of the shortest number taken for one: shorter ones are extensions and services.
pub const DIGITS_MIN: usize = 7;

/// A number with its country code. A country code never begins with 0, so the digits are
/// a number without loss.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct E164(u64);

impl E164 {
    /// The number with these digits, country code first, without `+`; `None` when they
    /// are none.
    pub fn from_digits(digits: &str) -> Option<Self> {
        let length = (DIGITS_MIN..=DIGITS_MAX).contains(&digits.len());
        let fits =
            length && !digits.starts_with('0') && digits.bytes().all(|byte| byte.is_ascii_digit());
        digits.parse().ok().filter(|_| fits).map(Self)
    }

    /// As part of a key: numeric order.
    pub fn to_be_bytes(self) -> [u8; 8] {
        self.0.to_be_bytes()
    }
}

impl fmt::Display for E164 {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "+{}", self.0)
    }
}

impl fmt::Debug for E164 {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

/// Why a text is no number with a country code.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a number such as +861062345678")]
pub struct ParseNumberError(pub String);

impl FromStr for E164 {
    type Err = ParseNumberError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.strip_prefix('+')
            .and_then(Self::from_digits)
            .ok_or_else(|| ParseNumberError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_print_and_parse_back() {
        for text in ["+861062345678", "+13800138", "+999999999999999"] {
            let number: E164 = text.parse().expect(text);
            assert_eq!(number.to_string(), text);
        }
        let wrong = [
            "",
            "+",
            "861062345678",
            "+0861062345",
            "+123456",
            "+12345678x",
        ];
        for text in wrong
            .iter()
            .chain(&["+1234567890123456", "+１２３４５６７８"])
        {
            assert!(text.parse::<E164>().is_err(), "{text}");
        }
    }
}
