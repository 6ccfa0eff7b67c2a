//! Encodings written down: what logs, rows and messages of running clusters look like.
//!
//! Types are described by asking serde for values of them (`explore`): every field, every
//! variant with its number, through everything they hold. The description and the bytes of
//! one value of each variant are lines of a file that is part of the sources, one file for
//! each feature level. Lines may be added, under a higher level; a line that goes means that
//! nodes of two versions, or a node and its own log, do not understand each other.
//!
//! Deliberately not here: what values mean, and which version may write what.

mod explore;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use explore::Trace;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Set to write the file of the level in force, where lines were only added.
const RECORD: &str = "STROWGER_RECORD";

/// The encodings of some types, a line for each struct, variant and sample.
#[derive(Default)]
pub struct Listing {
    trace: Trace,
    samples: BTreeSet<String>,
}

impl Listing {
    /// Adds `T` and all it holds, and the bytes of a value of `T`, or of each of its variants.
    ///
    /// # Panics
    /// `T` cannot be read from what it is written as, or one of its variants is never made.
    #[must_use]
    pub fn of<T: Serialize + DeserializeOwned>(
        mut self,
        what: &str,
        encode: impl Fn(&T) -> Vec<u8>,
        decode: impl Fn(&[u8]) -> Option<T>,
    ) -> Self {
        for (variant, value) in self.trace.samples::<T>(what) {
            let bytes = encode(&value);
            let read = decode(&bytes).unwrap_or_else(|| panic!("{what}{variant} cannot be read"));
            assert_eq!(encode(&read), bytes, "{what}{variant} is read as another");
            self.samples
                .insert(format!("bytes {what}{variant} {}", hex(&bytes)));
        }
        self
    }

    fn lines(&self) -> BTreeSet<String> {
        let shapes = self.trace.lines();
        shapes.chain(self.samples.iter().cloned()).collect()
    }

    /// Compares with the files of `folder`: that of `level` says exactly this, and those of
    /// lower levels nothing else.
    ///
    /// # Panics
    /// It differs. The message says what to do.
    pub fn check(&self, folder: &Path, level: u32) {
        let lines = self.lines();
        for older in 1..level {
            let kept = read(&file(folder, older));
            refuse(&file(folder, older), &kept, &lines);
        }
        let file = file(folder, level);
        let kept = if file.exists() {
            read(&file)
        } else {
            BTreeSet::new()
        };
        refuse(&file, &kept, &lines);
        let added: Vec<&String> = lines.difference(&kept).collect();
        if added.is_empty() {
            return;
        }
        if std::env::var_os(RECORD).is_some() {
            std::fs::create_dir_all(folder).expect("the sources are writable");
            let text: Vec<&str> = lines.iter().map(String::as_str).collect();
            std::fs::write(&file, text.join("\n") + "\n").expect("the sources are writable");
            return;
        }
        panic!(
            "encodings that {} does not have: {added:#?}\nNodes of level {level} that run \
             cannot read them. Raise the feature level, let them be written from that level on \
             only, and record its file with {RECORD}=1. (The level may stay while no program \
             of it was given to anybody.)",
            file.display()
        );
    }
}

/// Panics when a line that was kept is gone.
fn refuse(file: &Path, kept: &BTreeSet<String>, lines: &BTreeSet<String>) {
    let gone: Vec<&String> = kept.difference(lines).collect();
    let instead: Vec<&String> = lines.difference(kept).collect();
    assert!(
        gone.is_empty(),
        "{} has what this program does not write any more: {gone:#?}\ninstead: {instead:#?}\n\
         This changes what is in logs of running clusters; add a variant at the end and raise \
         the level instead. A row gets a new version byte or a table of its own. (Where only \
         the name of a field or type changed, its line may be changed by hand: names are not \
         in the bytes.)",
        file.display()
    );
}

fn file(folder: &Path, level: u32) -> PathBuf {
    folder.join(format!("level-{level}.txt"))
}

fn read(file: &Path) -> BTreeSet<String> {
    let text = std::fs::read_to_string(file)
        .unwrap_or_else(|error| panic!("{} is part of the sources: {error}", file.display()));
    text.lines().map(str::to_owned).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::IpAddr;

    use serde::Deserialize;

    use super::*;

    fn listing<T: Serialize + DeserializeOwned>() -> Listing {
        let encode = |value: &T| postcard::to_stdvec(value).expect("plain values");
        Listing::default().of("Top", encode, |bytes| postcard::from_bytes(bytes).ok())
    }

    fn text<T: Serialize + DeserializeOwned>() -> String {
        let lines: Vec<String> = listing::<T>().lines().into_iter().collect();
        lines.join("\n")
    }

    mod first {
        use super::*;

        #[derive(Serialize, Deserialize)]
        pub enum Top {
            Nothing,
            One(Inner),
            Many { at: IpAddr, of: BTreeMap<u8, Deep> },
        }

        #[derive(Serialize, Deserialize)]
        pub struct Inner {
            pub id: Id,
            pub hash: [u8; 4],
            pub name: Option<String>,
        }

        #[derive(Serialize, Deserialize)]
        pub struct Id(pub u64);

        #[derive(Serialize, Deserialize)]
        pub enum Deep {
            Leaf(bool),
            Nested(Vec<Deep>),
            Pair(i64, char),
        }
    }

    /// The same, changed: by a variant at the end, by one in the middle of what a variant
    /// holds, by a field, by two fields that change places.
    mod second {
        use super::*;

        #[derive(Serialize, Deserialize)]
        pub enum Appended {
            A,
            B,
        }

        #[derive(Serialize, Deserialize)]
        #[serde(rename = "Appended")]
        pub enum Before {
            A,
        }

        #[derive(Serialize, Deserialize)]
        #[serde(rename = "Appended")]
        pub enum Inserted {
            B,
            A,
        }

        #[derive(Serialize, Deserialize)]
        pub struct Row {
            pub from: u64,
            pub to: u64,
        }

        #[derive(Serialize, Deserialize)]
        #[serde(rename = "Row")]
        pub struct Swapped {
            pub to: u64,
            pub from: u64,
        }

        #[derive(Serialize, Deserialize)]
        #[serde(rename = "Row")]
        pub struct Longer {
            pub from: u64,
            pub to: u64,
            pub more: bool,
        }
    }

    #[test]
    fn every_variant_of_everything_held_is_described() {
        let expected = "\
enum Deep 00 Leaf(bool)
enum Deep 01 Nested([Deep])
enum Deep 02 Pair(i64, char)
enum IpAddr 00 V4([u8; 4])
enum IpAddr 01 V6([u8; 16])
enum Top 00 Nothing
enum Top 01 One(Inner)
enum Top 02 Many { at: IpAddr, of: {u8: Deep} }
struct Id(u64)
struct Inner { id: Id, hash: [u8; 4], name: String? }";
        let text = text::<first::Top>();
        let (bytes, shapes): (Vec<&str>, Vec<&str>) =
            text.lines().partition(|line| line.starts_with("bytes"));
        assert_eq!(shapes.join("\n"), expected);
        let variants = bytes.iter().filter_map(|line| line.split(' ').nth(1));
        let variants: Vec<&str> = variants.collect();
        assert_eq!(variants, ["Top::Many", "Top::Nothing", "Top::One"]);
    }

    /// Whether a program with `B` is let pass beside the file of `A`.
    fn passes<A, B>() -> bool
    where
        A: Serialize + DeserializeOwned,
        B: Serialize + DeserializeOwned,
    {
        let (kept, lines) = (listing::<A>().lines(), listing::<B>().lines());
        std::panic::catch_unwind(|| refuse(Path::new("level-1.txt"), &kept, &lines)).is_ok()
    }

    #[test]
    fn variants_at_the_end_are_let_pass_and_everything_else_is_not() {
        assert!(passes::<second::Before, second::Appended>());
        assert!(!passes::<second::Before, second::Inserted>());
        assert!(!passes::<second::Appended, second::Before>());
        assert!(!passes::<second::Row, second::Swapped>());
        assert!(!passes::<second::Row, second::Longer>());
        assert!(passes::<second::Row, second::Row>());
    }
}
