//! What a site says about customers: how numbers are written and what tiers weigh.

use std::collections::BTreeMap;

use strowger_core::site::Numbering;

use super::read::{Part, duplicate, named, wrong};
use crate::document::At;
use crate::fault::Fault;

/// Digits of a country code, area code or prefix at most.
const CODE_DIGITS_MAX: usize = 8;
/// The greatest weight of a tier.
const WEIGHT_MAX: u64 = 1_000_000;

/// Reads `country`, `area`, `trunk_prefix` and `international_prefix` of `[tenant]`.
pub(super) fn numbering(part: &mut Part<'_, '_>) -> Result<Numbering, Fault> {
    let mut digits = |key| -> Result<Option<At<String>>, Fault> {
        let Some(text) = part.text(key)? else {
            return Ok(None);
        };
        let plain = text.value.bytes().all(|byte| byte.is_ascii_digit());
        if !plain || text.value.len() > CODE_DIGITS_MAX {
            let next = "use up to 8 digits, such as country = \"86\"";
            return Err(wrong(&text, "a code or prefix", next));
        }
        Ok(Some(text))
    };
    let (country, area) = (digits("country")?, digits("area")?);
    let (trunk, international) = (digits("trunk_prefix")?, digits("international_prefix")?);
    if let Some(zero) = country.as_ref().filter(|text| text.value.starts_with('0')) {
        let next = "write it without prefix, such as country = \"86\"";
        return Err(wrong(zero, "a country code", next));
    }
    let known = country.as_ref().is_some_and(|text| !text.value.is_empty());
    if let Some(area) = area
        .as_ref()
        .filter(|text| !text.value.is_empty() && !known)
    {
        let next = "add country = \"86\" or whichever it is";
        return Err(wrong(area, "an area of a known country", next));
    }
    let value = |text: Option<At<String>>, usual: &str| match text {
        Some(text) => text.value,
        None if known => usual.to_owned(),
        None => String::new(),
    };
    Ok(Numbering {
        area: value(area, ""),
        trunk_prefix: value(trunk, "0"),
        international_prefix: value(international, "00"),
        country: value(country, ""),
    })
}

/// Reads the entries `[[tier]]`.
pub(super) fn tiers(parts: Vec<Part<'_, '_>>) -> Result<BTreeMap<String, i64>, Fault> {
    let mut tiers = BTreeMap::new();
    for mut part in parts {
        let name = named(&mut part, "name")?;
        let weight = part.number("weight", 0..=WEIGHT_MAX)?;
        part.finish()?;
        let weight = weight.map_or(0, |weight| weight.value);
        let weight = i64::try_from(weight).unwrap_or(i64::MAX);
        if tiers.insert(name.value.clone(), weight).is_some() {
            return Err(duplicate("tier", &name));
        }
    }
    Ok(tiers)
}
