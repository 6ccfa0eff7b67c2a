//! Reading TOML that people write: every value knows its line, an unknown key is an
//! error that names the nearest known one, and a wrong type says what was wanted.
//!
//! Used for the node file and the site file. It deliberately does not use derived
//! deserialisation: that gives up the line of values that are wrong for reasons of
//! meaning, and cannot suggest names.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::fault::Fault;

/// The codes a kind of document uses for its errors.
#[derive(Clone, Copy, Debug)]
pub struct Codes {
    /// Not TOML.
    pub syntax: &'static str,
    /// Unknown section or key.
    pub unknown: &'static str,
    /// Missing, wrong type, out of range.
    pub value: &'static str,
}

/// A text with its name, for messages, and what wins over it.
#[derive(Debug)]
pub struct Source<'t> {
    file: &'t str,
    text: &'t str,
    codes: Codes,
    /// Byte offset at which each line begins.
    lines: Vec<usize>,
    overrides: &'t [Override<'t>],
    /// Names that may be overridden, as far as they were asked for.
    asked: RefCell<BTreeSet<String>>,
}

/// A value that wins over the text, from an environment variable.
#[derive(Debug)]
pub struct Override<'t> {
    /// Name of the variable.
    pub variable: &'t str,
    /// `section.key` in small letters.
    pub name: String,
    /// The value.
    pub value: Spanned<DeValue<'t>>,
    /// Set once somebody asked for it.
    pub used: Cell<bool>,
}

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct At<T> {
    /// The value.
    pub value: T,
    /// `file:line`.
    pub place: String,
}

impl<'t> Source<'t> {
    /// A text with its name and the values that win over it.
    pub fn new(file: &'t str, text: &'t str, codes: Codes, overrides: &'t [Override<'t>]) -> Self {
        let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let lines = std::iter::once(0)
            .chain(breaks.map(|(offset, _)| offset + 1))
            .collect();
        Self {
            file,
            text,
            codes,
            lines,
            overrides,
            asked: RefCell::default(),
        }
    }

    /// `file:line` of a byte offset.
    pub fn place(&self, offset: usize) -> String {
        let line = self.lines.partition_point(|start| *start <= offset).max(1);
        format!("{}:{line}", self.file)
    }

    /// Parses the text into its root section's entries.
    ///
    /// # Errors
    /// A [`Fault`] with the syntax code and the line.
    pub fn parse(&self) -> Result<Spanned<DeTable<'t>>, Fault> {
        DeTable::parse(self.text).map_err(|error| {
            let offset = error.span().map_or(0, |span: Range<usize>| span.start);
            let what = error.message().lines().collect::<Vec<_>>().join(", ");
            Fault::new(self.codes.syntax, what, "correct the TOML").at(self.place(offset))
        })
    }

    /// Refuses the overrides nobody asked for.
    ///
    /// # Errors
    /// A [`Fault`] that names the variable and the nearest known name.
    pub fn finish(&self) -> Result<(), Fault> {
        let Some(unused) = self.overrides.iter().find(|one| !one.used.get()) else {
            return Ok(());
        };
        let asked = self.asked.borrow();
        let known = asked.iter().map(String::as_str);
        let fault = unknown_key(self.codes.unknown, &unused.name, "the environment", known);
        Err(fault.at(unused.variable))
    }
}

/// A value found in the text or the environment.
#[derive(Clone, Copy)]
struct Found<'d, 't> {
    value: &'d Spanned<DeValue<'t>>,
    variable: Option<&'t str>,
}

/// One table of a document, read key by key. Call [`Section::finish`] at the end:
/// it refuses the keys nobody asked for.
#[derive(Debug)]
pub struct Section<'d, 't> {
    source: &'d Source<'t>,
    name: String,
    entries: Option<&'d DeTable<'t>>,
    offset: usize,
    asked: BTreeSet<&'static str>,
}

impl<'d, 't> Section<'d, 't> {
    /// The section `name` with these entries, beginning at byte `offset`.
    pub fn new(
        source: &'d Source<'t>,
        name: impl Into<String>,
        entries: Option<&'d DeTable<'t>>,
        offset: usize,
    ) -> Self {
        Self {
            source,
            name: name.into(),
            entries,
            offset,
            asked: BTreeSet::new(),
        }
    }

    /// `file:line` of the section's beginning.
    pub fn place(&self) -> String {
        self.source.place(self.offset)
    }

    fn entry(&mut self, key: &'static str) -> Option<Found<'d, 't>> {
        self.asked.insert(key);
        let source = self.source;
        if !source.overrides.is_empty() {
            let name = format!("{}.{key}", self.name.trim_matches(['[', ']']));
            let over = source.overrides.iter().find(|one| one.name == name);
            source.asked.borrow_mut().insert(name);
            if let Some(over) = over {
                over.used.set(true);
                return Some(Found {
                    value: &over.value,
                    variable: Some(over.variable),
                });
            }
        }
        let value = self.entries.and_then(|entries| entries.get(key))?;
        Some(Found {
            value,
            variable: None,
        })
    }

    fn place_of(&self, found: Found<'_, '_>) -> String {
        match found.variable {
            Some(variable) => variable.to_owned(),
            None => self.source.place(found.value.span().start),
        }
    }

    fn wrong(&self, found: Found<'_, '_>, what: String, next: String) -> Fault {
        Fault::new(self.source.codes.value, what, next).at(self.place_of(found))
    }

    fn wrong_type(&self, key: &str, wanted: &str, found: Found<'_, '_>) -> Fault {
        let kind = match found.value.get_ref().type_str() {
            "string" => "text",
            "integer" => "whole number",
            kind => kind,
        };
        let what = format!("`{key}` in {} is a {kind}", self.name);
        self.wrong(found, what, format!("write {wanted}"))
    }

    /// A sub-table such as `[node]`; absent ones read as empty.
    ///
    /// # Errors
    /// When the key is not a table.
    pub fn section(&mut self, key: &'static str) -> Result<Option<Section<'d, 't>>, Fault> {
        let Some(found) = self.entry(key) else {
            return Ok(None);
        };
        let DeValue::Table(entries) = found.value.get_ref() else {
            return Err(self.wrong_type(key, &format!("[{key}]"), found));
        };
        let name = format!("[{key}]");
        Ok(Some(Section::new(
            self.source,
            name,
            Some(entries),
            found.value.span().start,
        )))
    }

    /// The entries of an array of tables such as `[[queue]]`.
    ///
    /// # Errors
    /// When the key is something else.
    pub fn sections(&mut self, key: &'static str) -> Result<Vec<Section<'d, 't>>, Fault> {
        let Some(found) = self.entry(key) else {
            return Ok(Vec::new());
        };
        let wanted = format!("[[{key}]]");
        let DeValue::Array(items) = found.value.get_ref() else {
            return Err(self.wrong_type(key, &wanted, found));
        };
        let mut sections = Vec::with_capacity(items.len());
        for item in items.iter() {
            let DeValue::Table(entries) = item.get_ref() else {
                let item = Found {
                    value: item,
                    variable: found.variable,
                };
                return Err(self.wrong_type(key, &wanted, item));
            };
            let start = item.span().start;
            sections.push(Section::new(
                self.source,
                wanted.clone(),
                Some(entries),
                start,
            ));
        }
        Ok(sections)
    }

    /// A text.
    ///
    /// # Errors
    /// When the value is something else.
    pub fn text(&mut self, key: &'static str) -> Result<Option<At<String>>, Fault> {
        let Some(found) = self.entry(key) else {
            return Ok(None);
        };
        match found.value.get_ref() {
            DeValue::String(text) => Ok(Some(self.at(found, text.to_string()))),
            _ => Err(self.wrong_type(key, &format!("{key} = \"…\""), found)),
        }
    }

    /// A text that must be there.
    ///
    /// # Errors
    /// When it is missing or of another type.
    pub fn required(&mut self, key: &'static str) -> Result<At<String>, Fault> {
        self.text(key)?.ok_or_else(|| {
            Fault::new(
                self.source.codes.value,
                format!("{} lacks `{key}`", self.name),
                format!("add {key} = \"…\""),
            )
            .at(self.place())
        })
    }

    /// A whole number within `range`.
    ///
    /// # Errors
    /// When it is of another type or out of range.
    pub fn number(
        &mut self,
        key: &'static str,
        range: std::ops::RangeInclusive<u64>,
    ) -> Result<Option<At<u64>>, Fault> {
        let Some(found) = self.entry(key) else {
            return Ok(None);
        };
        let DeValue::Integer(digits) = found.value.get_ref() else {
            return Err(self.wrong_type(key, &format!("{key} = a whole number"), found));
        };
        let number = i128::from_str_radix(digits.as_str(), digits.radix()).ok();
        match number.and_then(|number| u64::try_from(number).ok()) {
            Some(number) if range.contains(&number) => Ok(Some(self.at(found, number))),
            _ => Err(self.wrong(
                found,
                format!("`{key}` in {} is {}", self.name, digits.as_str()),
                format!("use {} to {}", range.start(), range.end()),
            )),
        }
    }

    /// A table of names with whole numbers within `range`, such as `skills = {lang = 3}`.
    ///
    /// # Errors
    /// When it is something else, or a number is out of range.
    pub fn levels(
        &mut self,
        key: &'static str,
        range: std::ops::RangeInclusive<u64>,
    ) -> Result<Vec<(At<String>, u64)>, Fault> {
        let Some(found) = self.entry(key) else {
            return Ok(Vec::new());
        };
        let wanted = format!("{key} = {{name = {}, …}}", range.end());
        let DeValue::Table(entries) = found.value.get_ref() else {
            return Err(self.wrong_type(key, &wanted, found));
        };
        let mut levels = Vec::with_capacity(entries.len());
        for (name, value) in entries.iter() {
            let name = At {
                value: name.get_ref().to_string(),
                place: self.source.place(name.span().start),
            };
            let found = Found {
                value,
                variable: None,
            };
            let DeValue::Integer(digits) = value.get_ref() else {
                return Err(self.wrong_type(key, &wanted, found));
            };
            let level = u64::from_str_radix(digits.as_str(), digits.radix()).ok();
            let level = level.filter(|level| range.contains(level)).ok_or_else(|| {
                let what = format!("`{}` in {key} is {}", name.value, digits.as_str());
                let next = format!("use {} to {}", range.start(), range.end());
                self.wrong(found, what, next)
            })?;
            levels.push((name, level));
        }
        Ok(levels)
    }

    /// True or false.
    ///
    /// # Errors
    /// When the value is something else.
    pub fn flag(&mut self, key: &'static str) -> Result<Option<bool>, Fault> {
        let Some(found) = self.entry(key) else {
            return Ok(None);
        };
        match found.value.get_ref() {
            DeValue::Boolean(flag) => Ok(Some(*flag)),
            _ => Err(self.wrong_type(key, &format!("{key} = true or false"), found)),
        }
    }

    /// A list of texts.
    ///
    /// # Errors
    /// When the value or an item is something else.
    pub fn texts(&mut self, key: &'static str) -> Result<Option<Vec<At<String>>>, Fault> {
        let Some(found) = self.entry(key) else {
            return Ok(None);
        };
        let wanted = format!("{key} = [\"…\", \"…\"]");
        let DeValue::Array(items) = found.value.get_ref() else {
            return Err(self.wrong_type(key, &wanted, found));
        };
        let mut texts = Vec::with_capacity(items.len());
        for item in items.iter() {
            let item = Found {
                value: item,
                variable: found.variable,
            };
            match item.value.get_ref() {
                DeValue::String(text) => texts.push(self.at(item, text.to_string())),
                _ => return Err(self.wrong_type(key, &wanted, item)),
            }
        }
        Ok(Some(texts))
    }

    /// Refuses the keys nobody asked for.
    ///
    /// # Errors
    /// A [`Fault`] that names the first unknown key and the nearest known one.
    pub fn finish(self) -> Result<(), Fault> {
        let Some(entries) = self.entries else {
            return Ok(());
        };
        let unknown = entries
            .iter()
            .filter(|(key, _)| !self.asked.contains(key.get_ref().as_ref()))
            .min_by_key(|(key, _)| key.span().start);
        let Some((key, _)) = unknown else {
            return Ok(());
        };
        let fault = unknown_key(
            self.source.codes.unknown,
            key.get_ref(),
            &self.name,
            self.asked.iter().copied(),
        );
        Err(fault.at(self.source.place(key.span().start)))
    }

    fn at<T>(&self, found: Found<'_, '_>, value: T) -> At<T> {
        At {
            value,
            place: self.place_of(found),
        }
    }
}

/// The refusal of an unknown key, with the nearest known one.
pub fn unknown_key<'k>(
    code: &'static str,
    key: &str,
    section: &str,
    known: impl Iterator<Item = &'k str> + Clone,
) -> Fault {
    let next = match nearest(key, known.clone()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("known are {}", known.collect::<Vec<_>>().join(", ")),
    };
    Fault::new(code, format!("unknown key `{key}` in {section}"), next)
}

/// The name nearest to `text`, when one is near enough to be a slip of the finger.
pub fn nearest<'k>(text: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    let limit = (text.chars().count() / 2).clamp(1, 4);
    known
        .map(|name| (distance(text, name), name))
        .filter(|(steps, _)| *steps <= limit)
        .min()
        .map(|(_, name)| name)
}

/// Levenshtein distance in letters.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (line, letter) in left.chars().enumerate() {
        let mut next = Vec::with_capacity(row.len());
        next.push(line + 1);
        for (column, other) in right.iter().enumerate() {
            let replaced = row
                .get(column)
                .map_or(0, |above| above + usize::from(letter != *other));
            let removed = row.get(column + 1).map_or(0, |above| above + 1);
            let added = next.last().map_or(0, |left| left + 1);
            next.push(replaced.min(removed).min(added));
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODES: Codes = Codes {
        syntax: "SW0201",
        unknown: "SW0202",
        value: "SW0203",
    };

    fn source(text: &str) -> Source<'_> {
        Source::new("f.toml", text, CODES, &[])
    }

    #[test]
    fn the_nearest_name_is_suggested_only_when_near() {
        let known = ["ring_s", "wrap_s", "missed_max"];
        assert_eq!(nearest("rings", known.into_iter()), Some("ring_s"));
        assert_eq!(nearest("misedmax", known.into_iter()), Some("missed_max"));
        assert_eq!(nearest("colour", known.into_iter()), None);
    }

    #[test]
    fn errors_carry_file_and_line() {
        let text = "[queue]\nname = \"a\"\nring = 3\n";
        let parsed = source(text);
        let root = parsed.parse().expect("toml");
        let mut root = Section::new(&parsed, "the file", Some(root.get_ref()), 0);
        let mut queue = root.section("queue").expect("table").expect("present");
        queue.required("name").expect("there");
        queue.number("ring_s", 1..=9).expect("absent");
        let fault = queue.finish().expect_err("unknown key");
        assert_eq!(
            fault.to_string(),
            "SW0202 f.toml:3: unknown key `ring` in [queue]; did you mean `ring_s`?"
        );
        assert_eq!(
            source("a = = 1").parse().expect_err("syntax").code,
            "SW0201"
        );
    }

    #[test]
    fn a_wrong_type_or_range_says_what_is_wanted() {
        let text = "a = 5\nb = \"x\"\nc = [1]\nd = 0x_\n";
        assert!(
            source(text).parse().is_err(),
            "an empty hexadecimal number is no TOML"
        );
        let text = "a = 5\nb = \"x\"\nc = [1]\nd = 0xff\n";
        let parsed = source(text);
        let root = parsed.parse().expect("toml");
        let mut root = Section::new(&parsed, "the file", Some(root.get_ref()), 0);
        let fault = root.number("a", 6..=9).expect_err("range");
        assert_eq!(
            fault.to_string(),
            "SW0203 f.toml:1: `a` in the file is 5; use 6 to 9"
        );
        assert_eq!(
            root.number("b", 0..=9).expect_err("type").place.as_deref(),
            Some("f.toml:2")
        );
        assert!(root.texts("c").is_err());
        assert_eq!(
            root.number("d", 0..=300).expect("hex").map(|d| d.value),
            Some(255)
        );
        root.finish().expect("all asked for");
    }
}
