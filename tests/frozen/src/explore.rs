//! A deserializer that makes values up, and notes what it was asked for.

use std::collections::{BTreeMap, BTreeSet};

use serde::de::value::U32Deserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, MapAccess,
    SeqAccess, VariantAccess, Visitor,
};

/// Deeper than any of our types: what holds itself is empty from there on.
const DEPTH_MAX: usize = 48;
/// Stands in a description for what was not looked into.
const UNKNOWN: &str = "…";

type Variants = &'static [&'static str];

/// What is known of an enum.
#[derive(Default)]
struct Enum {
    names: Vec<&'static str>,
    /// What each variant holds, by its number, once it was seen whole.
    shapes: BTreeMap<u32, String>,
    /// Enums inside each variant, at any depth.
    inside: BTreeMap<u32, BTreeSet<&'static str>>,
}

impl Enum {
    fn is_whole(&self) -> bool {
        self.shapes.len() == self.names.len()
    }
}

/// What was seen of types so far.
#[derive(Default)]
pub struct Trace {
    enums: BTreeMap<&'static str, Enum>,
    structs: BTreeMap<&'static str, String>,
    /// Description of what was made last.
    last: String,
    /// Variants that are being made, outermost first.
    open: Vec<(&'static str, u32)>,
    depth: usize,
    /// Rises with each number and text made, so that all of a value differ.
    made: u64,
    /// Making a sample: the variant of the outermost enum.
    sample: Option<u32>,
}

impl Trace {
    /// Lines that describe everything seen.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        let structs = self.structs.iter();
        let structs = structs.map(|(name, shape)| format!("struct {name}{shape}"));
        let enums = self.enums.iter().flat_map(|(name, one)| {
            let variants = (0..).zip(&one.names);
            variants.map(move |(at, variant): (u32, _)| {
                let shape = one.shapes.get(&at).map_or(UNKNOWN, String::as_str);
                format!("enum {name} {at:02} {variant}{shape}")
            })
        });
        structs.chain(enums)
    }

    /// A value of `T`, or one of each of its variants with `::Variant`, always the same.
    pub fn samples<T: DeserializeOwned>(&mut self, what: &str) -> Vec<(String, T)> {
        loop {
            let before = self.seen();
            drop(self.make::<T>(what));
            if self.seen() == before {
                break;
            }
        }
        let top = self.last.clone();
        let names = self.enums.get(top.as_str());
        let names = names.map(|one| one.names.clone()).unwrap_or_default();
        let missing: Vec<_> = self.lines().filter(|line| line.contains(UNKNOWN)).collect();
        assert!(missing.is_empty(), "{what}: never made: {missing:#?}");
        let samples: Vec<_> = if names.is_empty() {
            vec![(String::new(), 0)]
        } else {
            let variants = names.iter().zip(0..);
            variants
                .map(|(name, at)| (format!("::{name}"), at))
                .collect()
        };
        let made = samples.into_iter().map(|(name, at)| {
            self.sample = Some(at);
            (name, self.make::<T>(what))
        });
        let made = made.collect();
        self.sample = None;
        made
    }

    fn seen(&self) -> (usize, usize) {
        let whole = self.enums.values().map(|one| one.shapes.len());
        (whole.sum(), self.structs.len())
    }

    fn make<T: DeserializeOwned>(&mut self, what: &str) -> T {
        self.made = 0;
        let made = T::deserialize(Maker(self));
        made.unwrap_or_else(|error| panic!("{what} refuses a value made up: {error}"))
    }

    fn number(&mut self) -> u64 {
        self.made += 1;
        self.made
    }

    /// The variant to make of an enum now.
    fn choose(&mut self, name: &'static str, variants: Variants) -> u32 {
        for (outer, at) in &self.open {
            let outer = self.enums.get_mut(outer).expect("noted when it was opened");
            outer.inside.entry(*at).or_default().insert(name);
        }
        let one = self.enums.entry(name).or_default();
        if one.names.is_empty() {
            one.names = variants.to_vec();
        }
        assert_eq!(one.names, variants, "two enums are named {name}");
        let all = 0..u32::try_from(variants.len()).expect("few variants");
        if let Some(at) = self.sample.filter(|_| self.open.is_empty()) {
            return at;
        }
        let one = &self.enums[name];
        let inside = |at: &u32| one.inside.get(at).into_iter().flatten();
        if self.sample.is_none() {
            let open = |at: &u32| self.open.contains(&(name, *at));
            let new = |at: &u32| !one.shapes.contains_key(at) && !open(at);
            if let Some(at) = all.clone().find(new) {
                return at;
            }
            let part = |at: &u32| inside(at).any(|inner| !self.enums[inner].is_whole());
            let deep = self.open.iter().any(|(outer, _)| *outer == name);
            if let Some(at) = all.clone().find(part).filter(|_| !deep) {
                return at;
            }
        }
        // The first that does not hold itself.
        let leaf = |at: &u32| !inside(at).any(|inner| *inner == name);
        all.clone().find(leaf).unwrap_or(0)
    }

    fn note_struct(&mut self, name: &'static str, shape: String) {
        self.last = name.to_owned();
        if shape.contains(UNKNOWN) {
            return;
        }
        let known = self.structs.entry(name).or_insert_with(|| shape.clone());
        assert_eq!(*known, shape, "two structs are named {name}");
    }
}

/// What serde is told is wrong.
type Error = serde::de::value::Error;

struct Maker<'a>(&'a mut Trace);

macro_rules! numbers {
    ($($method:ident $visit:ident $type:ident $name:literal $most:literal,)*) => { $(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            let number = self.0.number() % $most + 1;
            let value = visitor.$visit($type::try_from(number).expect("within bounds"));
            self.0.last = $name.to_owned();
            value
        }
    )* };
}

impl<'de> Deserializer<'de> for Maker<'_> {
    type Error = Error;

    // Small enough for lengths of address prefixes; wider types take several bytes.
    numbers! {
        deserialize_u8 visit_u8 u8 "u8" 24,
        deserialize_i8 visit_i8 i8 "i8" 24,
        deserialize_u16 visit_u16 u16 "u16" 1_000,
        deserialize_i16 visit_i16 i16 "i16" 1_000,
        deserialize_u32 visit_u32 u32 "u32" 1_000,
        deserialize_i32 visit_i32 i32 "i32" 1_000,
        deserialize_u64 visit_u64 u64 "u64" 1_000,
        deserialize_i64 visit_i64 i64 "i64" 1_000,
        deserialize_u128 visit_u128 u128 "u128" 1_000,
        deserialize_i128 visit_i128 i128 "i128" 1_000,
    }

    fn is_human_readable(&self) -> bool {
        false
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        Err(serde::de::Error::custom("a value of any type"))
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_any(visitor)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_any(visitor)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.0.last = "bool".to_owned();
        visitor.visit_bool(true)
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.0.last = "f32".to_owned();
        visitor.visit_f32(0.5)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.0.last = "f64".to_owned();
        visitor.visit_f64(0.5)
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.0.last = "char".to_owned();
        visitor.visit_char('c')
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_string(visitor)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.0.last = "String".to_owned();
        let text = format!("s{}", self.0.number());
        visitor.visit_string(text)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_byte_buf(visitor)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.0.last = "bytes".to_owned();
        let byte = u8::try_from(self.0.number() % 200).expect("within bounds");
        visitor.visit_byte_buf(vec![byte, 0])
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.0.depth >= DEPTH_MAX {
            self.0.last = UNKNOWN.to_owned();
            return visitor.visit_none();
        }
        self.0.depth += 1;
        let value = visitor.visit_some(Maker(self.0));
        self.0.depth -= 1;
        self.0.last.push('?');
        value
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.0.last = "()".to_owned();
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        let value = visitor.visit_unit();
        self.0.note_struct(name, String::new());
        value
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        let value = visitor.visit_newtype_struct(Maker(self.0));
        let shape = format!("({})", self.0.last);
        self.0.note_struct(name, shape);
        value
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let length = usize::from(self.0.depth < DEPTH_MAX);
        let (value, parts) = Parts::read(self.0, length, visitor)?;
        let part = parts.first().map_or(UNKNOWN, String::as_str);
        self.0.last = format!("[{part}]");
        Ok(value)
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        let (value, parts) = Parts::read(self.0, length, visitor)?;
        self.0.last = tuple(&parts);
        Ok(value)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        let (value, parts) = Parts::read(self.0, length, visitor)?;
        self.0.note_struct(name, format!("({})", parts.join(", ")));
        Ok(value)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let length = usize::from(self.0.depth < DEPTH_MAX);
        let mut parts = Parts::new(self.0, length);
        let value = visitor.visit_map(&mut parts)?;
        let shape = match parts.found.as_slice() {
            [key, value] => format!("{{{key}: {value}}}"),
            _ => UNKNOWN.to_owned(),
        };
        self.0.last = shape;
        Ok(value)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: Variants,
        visitor: V,
    ) -> Result<V::Value, Error> {
        let (value, parts) = Parts::read(self.0, fields.len(), visitor)?;
        self.0.note_struct(name, named(fields, &parts));
        Ok(value)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: Variants,
        visitor: V,
    ) -> Result<V::Value, Error> {
        let at = self.0.choose(name, variants);
        self.0.open.push((name, at));
        self.0.depth += 1;
        self.0.last.clear();
        let value = visitor.visit_enum(Variant(self.0, at));
        self.0.depth -= 1;
        self.0.open.pop();
        let shape = std::mem::replace(&mut self.0.last, name.to_owned());
        if !shape.contains(UNKNOWN) {
            let one = self
                .0
                .enums
                .get_mut(name)
                .expect("noted when it was chosen");
            let known = one.shapes.entry(at).or_insert_with(|| shape.clone());
            assert_eq!(*known, shape, "two enums are named {name}");
        }
        value
    }
}

fn named(fields: Variants, parts: &[String]) -> String {
    let fields = fields.iter().zip(parts);
    let fields: Vec<String> = fields
        .map(|(name, shape)| format!("{name}: {shape}"))
        .collect();
    format!(" {{ {} }}", fields.join(", "))
}

fn tuple(parts: &[String]) -> String {
    match parts {
        [first, .., last] if parts.iter().all(|part| part == first) => {
            format!("[{last}; {}]", parts.len())
        }
        _ => format!("({})", parts.join(", ")),
    }
}

/// The parts of what has several, made one after the other.
struct Parts<'a> {
    trace: &'a mut Trace,
    left: usize,
    found: Vec<String>,
}

impl<'a> Parts<'a> {
    fn new(trace: &'a mut Trace, left: usize) -> Self {
        Self {
            trace,
            left,
            found: Vec::new(),
        }
    }

    fn read<'de, V: Visitor<'de>>(
        trace: &'a mut Trace,
        length: usize,
        visitor: V,
    ) -> Result<(V::Value, Vec<String>), Error> {
        let mut parts = Self::new(trace, length);
        let value = visitor.visit_seq(&mut parts)?;
        Ok((value, parts.found))
    }

    fn part<'de, S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Error> {
        self.trace.depth += 1;
        let value = seed.deserialize(Maker(self.trace));
        self.trace.depth -= 1;
        self.found.push(std::mem::take(&mut self.trace.last));
        value
    }
}

impl<'de> SeqAccess<'de> for Parts<'_> {
    type Error = Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Error> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        self.part(seed).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left)
    }
}

impl<'de> MapAccess<'de> for Parts<'_> {
    type Error = Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Error> {
        self.next_element_seed(seed)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Error> {
        self.part(seed)
    }
}

/// A variant by its number.
struct Variant<'a>(&'a mut Trace, u32);

impl<'de, 'a> EnumAccess<'de> for Variant<'a> {
    type Error = Error;
    type Variant = Content<'a>;

    fn variant_seed<S: DeserializeSeed<'de>>(
        self,
        seed: S,
    ) -> Result<(S::Value, Content<'a>), Error> {
        let number: U32Deserializer<Error> = self.1.into_deserializer();
        Ok((seed.deserialize(number)?, Content(self.0)))
    }
}

/// What a variant holds.
struct Content<'a>(&'a mut Trace);

impl<'de> VariantAccess<'de> for Content<'_> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        self.0.last.clear();
        Ok(())
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Error> {
        let value = seed.deserialize(Maker(self.0))?;
        self.0.last = format!("({})", self.0.last);
        Ok(value)
    }

    fn tuple_variant<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, Error> {
        let (value, parts) = Parts::read(self.0, length, visitor)?;
        self.0.last = format!("({})", parts.join(", "));
        Ok(value)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: Variants,
        visitor: V,
    ) -> Result<V::Value, Error> {
        let (value, parts) = Parts::read(self.0, fields.len(), visitor)?;
        self.0.last = named(fields, &parts);
        Ok(value)
    }
}
