//! Values of trunks and routes: lists with weights and rules for the caller's number.

use strowger_core::site::{CallerId, Choice};

use super::read::{duplicate, wrong};
use crate::document::At;
use crate::fault::{Fault, code};
use crate::limits;

/// Reads a list whose entries may end in ` weight=N`.
///
/// # Errors
/// A bad weight, an entry that `read` refuses, or one that is there twice, each with its
/// line.
pub(super) fn choices<T: PartialEq>(
    texts: &[At<String>],
    read: impl Fn(&At<String>) -> Result<T, Fault>,
) -> Result<Vec<Choice<T>>, Fault> {
    let mut choices: Vec<Choice<T>> = Vec::with_capacity(texts.len());
    for text in texts {
        if choices.len() == limits::CHOICES_MAX {
            let next = format!("list at most {}", limits::CHOICES_MAX);
            let fault = Fault::new(code::SITE_VALUE, "too many entries", next);
            return Err(fault.at(text.place.clone()));
        }
        let (value, weight) = match text.value.split_once(' ') {
            None => (text.value.as_str(), 0),
            Some((value, rest)) => {
                let weight = rest
                    .trim()
                    .strip_prefix("weight=")
                    .and_then(|digits| digits.parse::<u32>().ok())
                    .filter(|weight| (1..=limits::WEIGHT_MAX).contains(weight));
                let Some(weight) = weight else {
                    let next = "write \"ENTRY weight=N\" with N from 1 to 1000";
                    return Err(wrong(text, "an entry with a weight", next));
                };
                (value, weight)
            }
        };
        let text = At {
            value: value.to_owned(),
            place: text.place.clone(),
        };
        let what = read(&text)?;
        if choices.iter().any(|choice| choice.what == what) {
            return Err(duplicate("entry", &text));
        }
        choices.push(Choice { what, weight });
    }
    Ok(choices)
}

/// Reads `pass`, `fixed:NUMBER`, `strip:N`, `prepend:DIGITS` or `strip:N prepend:DIGITS`.
///
/// # Errors
/// Anything else, with its line.
pub(super) fn caller_id(text: &At<String>) -> Result<CallerId, Fault> {
    let refused = || {
        let next = "use \"pass\", \"fixed:NUMBER\", \"strip:N\", \"prepend:DIGITS\" or \
                    \"strip:N prepend:DIGITS\"";
        wrong(text, "a rule for the caller's number", next)
    };
    let is_number = |digits: &str| {
        let letters = |one: char| one.is_ascii_digit() || "+*#".contains(one);
        !digits.is_empty()
            && digits.len() <= limits::NAME_LETTERS_MAX
            && digits.chars().all(letters)
    };
    if text.value == "pass" {
        return Ok(CallerId::default());
    }
    if let Some(number) = text.value.strip_prefix("fixed:") {
        return is_number(number)
            .then(|| CallerId::Fixed(number.to_owned()))
            .ok_or_else(refused);
    }
    let (mut strip, mut prepend) = (0usize, String::new());
    let words: Vec<&str> = text.value.split_whitespace().collect();
    if words.is_empty() || words.len() > 2 {
        return Err(refused());
    }
    for (place, word) in words.iter().enumerate() {
        if let Some(count) = word.strip_prefix("strip:").filter(|_| place == 0) {
            let count = count.parse().ok().filter(|count| (1..=32).contains(count));
            strip = count.ok_or_else(refused)?;
        } else if let Some(digits) = word.strip_prefix("prepend:")
            && is_number(digits)
            && prepend.is_empty()
        {
            digits.clone_into(&mut prepend);
        } else {
            return Err(refused());
        }
    }
    Ok(CallerId::Own { strip, prepend })
}
