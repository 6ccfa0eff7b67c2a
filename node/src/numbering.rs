//! From what people dial and write to numbers with a country code (ITU-T E.164), by the
//! rules of the tenant's country.
//!
//! Done before a command is proposed: the state machine only ever sees the result. No
//! table of the world's numbering plans: what a digit string means is said by four keys
//! of the site, the same on every node and in every version.

use strowger_core::number::E164;
use strowger_core::site::Numbering;

/// National numbers of at most this many digits are local ones, to which the area code
/// belongs. Local numbers with an area code have eight digits at most; mobile numbers,
/// which have none, more.
const LOCAL_DIGITS_MAX: usize = 8;

/// Fewer digits are an extension or a service such as 110, not a number.
const LOCAL_DIGITS_MIN: usize = 5;

/// A national number has at least this many digits where one may be written with the
/// country code but without any prefix.
const NATIONAL_DIGITS_MIN: usize = 10;

/// The number `text` means; `None` when it is none.
pub fn e164(numbering: &Numbering, text: &str) -> Option<E164> {
    let digits = plain(text)?;
    if let Some(international) = digits.strip_prefix('+') {
        return E164::from_digits(international);
    }
    let Numbering {
        country,
        area,
        trunk_prefix,
        international_prefix,
    } = numbering;
    let abroad = Some(international_prefix).filter(|prefix| !prefix.is_empty());
    if let Some(international) = abroad.and_then(|prefix| digits.strip_prefix(prefix.as_str())) {
        return E164::from_digits(international);
    }
    if country.is_empty() || digits.len() < LOCAL_DIGITS_MIN {
        return None;
    }
    let trunk = Some(trunk_prefix).filter(|prefix| !prefix.is_empty());
    if let Some(national) = trunk.and_then(|prefix| digits.strip_prefix(prefix.as_str())) {
        return E164::from_digits(&format!("{country}{national}"));
    }
    if digits.len() <= LOCAL_DIGITS_MAX && !area.is_empty() {
        return E164::from_digits(&format!("{country}{area}{digits}"));
    }
    if digits.len() >= country.len() + NATIONAL_DIGITS_MIN && digits.starts_with(country) {
        return E164::from_digits(&digits);
    }
    E164::from_digits(&format!("{country}{digits}"))
}

/// The digits, with a `+` in front where there was one; `None` when the text holds what
/// belongs to no number.
fn plain(text: &str) -> Option<String> {
    let text = text.trim();
    let text = text.strip_prefix("tel:").unwrap_or(text);
    // `+44 (0)20 …`: the trunk prefix in brackets is dialled only inside the country.
    let text = text.replace("(0)", "");
    let mut plain = String::with_capacity(text.len());
    for letter in text.chars().map(narrow) {
        match letter {
            '0'..='9' => plain.push(letter),
            '+' if plain.is_empty() => plain.push(letter),
            '-' | '.' | '/' | '(' | ')' | '[' | ']' | ' ' => {}
            '\u{a0}' | '\u{2010}'..='\u{2015}' | '\u{202f}' | '\u{3000}' => {}
            _ => return None,
        }
    }
    Some(plain).filter(|plain| plain.len() <= 32)
}

/// Digits and signs as wide as ideographs, as sheets written in Chinese hold them.
fn narrow(letter: char) -> char {
    match letter {
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(u32::from(letter) - 0xfee0).unwrap_or(letter),
        _ => letter,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(country: &str, area: &str, trunk: &str, international: &str) -> Numbering {
        Numbering {
            country: country.to_owned(),
            area: area.to_owned(),
            trunk_prefix: trunk.to_owned(),
            international_prefix: international.to_owned(),
        }
    }

    #[test]
    fn every_way_of_writing_leads_to_one_number() {
        let beijing = rules("86", "10", "0", "00");
        let table: &[(&Numbering, &str, &[&str])] = &[
            (
                &beijing,
                "+861062345678",
                &[
                    "62345678",
                    "6234-5678",
                    "01062345678",
                    "(010) 6234 5678",
                    "861062345678",
                    "00861062345678",
                    "+861062345678",
                    "+86 (0)10 6234-5678",
                    "tel:+86-10-6234-5678",
                    "０１０－６２３４５６７８",
                ],
            ),
            (
                &beijing,
                "+8613800138000",
                &[
                    "13800138000",
                    "013800138000",
                    "8613800138000",
                    "+86 138 0013 8000",
                ],
            ),
            (&beijing, "+4930123456", &["004930123456", "+49 30 123456"]),
            (
                &rules("1", "212", "1", "011"),
                "+12125550100",
                &[
                    "5550100",
                    "2125550100",
                    "12125550100",
                    "01112125550100",
                    "(212) 555-0100",
                ],
            ),
            (
                &rules("39", "", "", "00"),
                "+390612345678",
                &["0612345678", "00390612345678"],
            ),
            (&Numbering::default(), "+4930123456", &["+4930123456"]),
        ];
        for (numbering, number, ways) in table {
            for way in *ways {
                let read = e164(numbering, way).map(|read| read.to_string());
                assert_eq!(read.as_deref(), Some(*number), "{way}");
            }
        }
    }

    #[test]
    fn what_is_no_number_is_none() {
        let beijing = rules("86", "10", "0", "00");
        for text in [
            "",
            "110",
            "1001",
            "anonymous",
            "+",
            "0",
            "00",
            "+86",
            "s001",
            "1+2345678",
        ] {
            assert_eq!(e164(&beijing, text), None, "{text}");
        }
        let long = "1".repeat(400);
        assert_eq!(e164(&beijing, &long), None);
        assert_eq!(e164(&Numbering::default(), "01062345678"), None);
    }
}
