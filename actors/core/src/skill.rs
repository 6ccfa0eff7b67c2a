//! What agents can do, and what a queue asks of them: levels from 1 to 10 and rules
//! such as `lang>=2 & (tv | radio>=3)`.
//!
//! `&` binds closer than `|`; a skill alone means level 1 or more; the empty rule asks
//! for nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::SkillName;
use crate::limits;

/// The highest level.
pub const LEVEL_MAX: u8 = 10;

/// What is asked of an agent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SkillRule {
    /// Nothing.
    #[default]
    Anyone,
    /// This skill at this level or a higher one.
    AtLeast(SkillName, u8),
    /// All of these.
    All(Vec<SkillRule>),
    /// One of these.
    Either(Vec<SkillRule>),
}

impl SkillRule {
    /// Reads a rule.
    ///
    /// # Errors
    /// Says in words what cannot be understood.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > limits::SKILL_RULE_BYTES {
            return Err(format!(
                "it is longer than {} bytes",
                limits::SKILL_RULE_BYTES
            ));
        }
        let words = words(text)?;
        if words.is_empty() {
            return Ok(Self::Anyone);
        }
        let mut reader = Reader {
            words: &words,
            depth: 0,
        };
        let rule = reader.either()?;
        match reader.words.first() {
            None => Ok(rule),
            Some(word) => Err(format!("nothing is expected at {word}")),
        }
    }

    /// True when an agent with these levels may serve.
    pub fn fits(&self, levels: &BTreeMap<SkillName, u8>) -> bool {
        match self {
            Self::Anyone => true,
            Self::AtLeast(skill, level) => levels.get(skill).is_some_and(|has| has >= level),
            Self::All(rules) => rules.iter().all(|rule| rule.fits(levels)),
            Self::Either(rules) => rules.iter().any(|rule| rule.fits(levels)),
        }
    }

    /// The skills it names.
    pub fn names(&self) -> BTreeSet<&SkillName> {
        match self {
            Self::Anyone => BTreeSet::new(),
            Self::AtLeast(skill, _) => BTreeSet::from([skill]),
            Self::All(rules) | Self::Either(rules) => rules.iter().flat_map(Self::names).collect(),
        }
    }
}

impl fmt::Display for SkillRule {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |out: &mut fmt::Formatter<'_>, rules: &[Self], sign: &str| {
            for (n, rule) in rules.iter().enumerate() {
                if n > 0 {
                    out.write_str(sign)?;
                }
                match rule {
                    Self::Either(_) => write!(out, "({rule})")?,
                    _ => write!(out, "{rule}")?,
                }
            }
            Ok(())
        };
        match self {
            Self::Anyone => out.write_str("none"),
            Self::AtLeast(skill, level) => write!(out, "{skill}>={level}"),
            Self::All(rules) => list(out, rules, " & "),
            Self::Either(rules) => list(out, rules, " | "),
        }
    }
}

/// A word of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Word {
    Name(String),
    AtLeast,
    And,
    Or,
    Open,
    Close,
}

impl fmt::Display for Word {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = match self {
            Self::Name(name) => return write!(out, "\"{name}\""),
            Self::AtLeast => "\">=\"",
            Self::And => "\"&\"",
            Self::Or => "\"|\"",
            Self::Open => "\"(\"",
            Self::Close => "\")\"",
        };
        out.write_str(sign)
    }
}

fn is_name(letter: char) -> bool {
    letter.is_alphanumeric() || ".-_+*#".contains(letter)
}

fn words(text: &str) -> Result<Vec<Word>, String> {
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let (word, length) = match first {
            '&' => (Word::And, 1),
            '|' => (Word::Or, 1),
            '(' => (Word::Open, 1),
            ')' => (Word::Close, 1),
            '≥' => (Word::AtLeast, first.len_utf8()),
            '>' if rest.starts_with(">=") => (Word::AtLeast, 2),
            _ if is_name(first) => {
                let name: String = rest.chars().take_while(|one| is_name(*one)).collect();
                let length = name.len();
                (Word::Name(name), length)
            }
            _ => return Err(format!("\"{first}\" has no meaning in it")),
        };
        words.push(word);
        rest = rest.get(length..).unwrap_or_default().trim_start();
    }
    Ok(words)
}

struct Reader<'w> {
    words: &'w [Word],
    depth: usize,
}

impl Reader<'_> {
    fn take(&mut self, wanted: &Word) -> bool {
        match self.words.split_first() {
            Some((word, rest)) if word == wanted => {
                self.words = rest;
                true
            }
            _ => false,
        }
    }

    fn name(&mut self) -> Option<String> {
        match self.words.split_first() {
            Some((Word::Name(name), rest)) => {
                self.words = rest;
                Some(name.clone())
            }
            _ => None,
        }
    }

    fn either(&mut self) -> Result<SkillRule, String> {
        let mut rules = vec![self.all()?];
        while self.take(&Word::Or) {
            rules.push(self.all()?);
        }
        Ok(one_or(rules, SkillRule::Either))
    }

    fn all(&mut self) -> Result<SkillRule, String> {
        let mut rules = vec![self.single()?];
        while self.take(&Word::And) {
            rules.push(self.single()?);
        }
        Ok(one_or(rules, SkillRule::All))
    }

    fn single(&mut self) -> Result<SkillRule, String> {
        if self.take(&Word::Open) {
            self.depth += 1;
            if self.depth > limits::SKILL_RULE_DEPTH {
                return Err(String::from("its brackets are too deep"));
            }
            let rule = self.either()?;
            self.depth -= 1;
            return if self.take(&Word::Close) {
                Ok(rule)
            } else {
                Err(String::from("a \")\" is missing"))
            };
        }
        let Some(skill) = self.name() else {
            return Err(match self.words.first() {
                Some(word) => format!("a skill is expected at {word}"),
                None => String::from("a skill is missing at its end"),
            });
        };
        let level = if self.take(&Word::AtLeast) {
            let level = self.name().and_then(|level| level.parse().ok());
            level
                .filter(|level| (1..=LEVEL_MAX).contains(level))
                .ok_or_else(|| format!("the level of {skill} is not 1 to {LEVEL_MAX}"))?
        } else {
            1
        };
        Ok(SkillRule::AtLeast(SkillName::from(skill), level))
    }
}

fn one_or(mut rules: Vec<SkillRule>, many: fn(Vec<SkillRule>) -> SkillRule) -> SkillRule {
    match rules.len() {
        1 => rules.pop().unwrap_or_default(),
        _ => many(rules),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn levels(pairs: &[(&str, u8)]) -> BTreeMap<SkillName, u8> {
        let pairs = pairs.iter();
        pairs
            .map(|(name, level)| (SkillName::from(*name), *level))
            .collect()
    }

    #[test]
    fn a_rule_asks_for_levels() {
        let agent = levels(&[("lang", 2), ("tv", 1)]);
        let table = [
            ("", true),
            ("  ", true),
            ("lang", true),
            ("lang>=2", true),
            ("lang ≥ 3", false),
            ("lang>=2 & tv>=1", true),
            ("lang>=2&radio", false),
            ("radio | lang", true),
            ("radio | lang & tv>=2", false),
            ("(radio | lang) & tv", true),
            ("((tv))", true),
        ];
        for (text, fits) in table {
            let rule = SkillRule::parse(text).unwrap_or_else(|why| panic!("{text}: {why}"));
            assert_eq!(rule.fits(&agent), fits, "{text}");
        }
    }

    #[test]
    fn what_is_no_rule_is_refused_in_words() {
        let deep = "(".repeat(100);
        let long = "a".repeat(limits::SKILL_RULE_BYTES + 1);
        let wrong = [
            "lang>=",
            "lang>=0",
            "lang>=11",
            "lang>2",
            "&",
            "lang &",
            "(lang",
            "lang)",
            "lang tv",
            "lang>=2>=3",
            "lang = 2",
            deep.as_str(),
            long.as_str(),
        ];
        for text in wrong {
            assert!(SkillRule::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_rule_shown_reads_the_same() {
        for text in ["a>=1 & (b>=2 | c>=3)", "a>=1 | b>=2 & c>=3", "a>=10"] {
            let rule = SkillRule::parse(text).expect("a rule");
            assert_eq!(rule.to_string(), text);
            assert_eq!(SkillRule::parse(&rule.to_string()), Ok(rule));
        }
    }
}
