//! Readers of the events, who go from node to node with the position of what they saw last:
//! nothing is ever missing for them, nothing comes twice, and every node has told the same.

use std::hash::{DefaultHasher, Hash, Hasher};

use strowger_core::ports::{RowsRead, Table};

use crate::chance::Chance;
use crate::disk::Disk;
use crate::world::World;

const READERS: u64 = 2;
/// Of a thousand looks so many are at another node than the last.
const WANDERS: u64 = 150;
/// Events read at once.
const PAGE: usize = 1_024;

/// One of them.
#[derive(Debug)]
struct Reader {
    /// Its own, so that whoever reads changes nothing of what happens.
    chance: Chance,
    node: u64,
    /// Key of each event, and a hash of what it says.
    seen: Vec<(Vec<u8>, u64)>,
}

/// All of them.
#[derive(Debug)]
pub struct Readers(Vec<Reader>);

impl Readers {
    /// The readers of the run of this seed.
    pub fn new(seed: u64) -> Self {
        let reader = |n| Reader {
            chance: Chance::new(seed ^ (0xE7E7 + n)),
            node: 1,
            seen: Vec::new(),
        };
        Self((0..READERS).map(reader).collect())
    }

    /// Events that each of them has read.
    pub fn read(&self) -> usize {
        let counts = self.0.iter().map(|reader| reader.seen.len());
        counts.min().unwrap_or(0)
    }
}

impl Reader {
    /// Reads what this node has after what was seen last.
    fn read(&mut self, disk: &Disk) {
        loop {
            let last = self.seen.last().map(|(key, _)| key.as_slice());
            let page = disk.scan(Table::Event, &[], last, PAGE);
            let whole = page.len() < PAGE;
            let rows = page.into_iter();
            self.seen
                .extend(rows.map(|(key, value)| (key, hash(&value))));
            if whole {
                return;
            }
        }
    }

    /// How what was seen differs from what a node tells who begins with the oldest event it has.
    fn differs(&self, told: &[(Vec<u8>, u64)]) -> Option<String> {
        let (oldest, _) = told.first()?;
        let from = self.seen.partition_point(|(key, _)| key < oldest);
        let seen = self.seen.get(from..).unwrap_or_default();
        if let Some((told, seen)) = told.iter().zip(seen).find(|(told, seen)| told != seen) {
            return Some(format!("{:?} was read where {:?} is told", seen.0, told.0));
        }
        (told.len() != seen.len())
            .then(|| format!("{} were read where {} are told", seen.len(), told.len()))
    }
}

fn hash(value: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

impl World {
    /// Everybody reads on, here or at another node.
    pub fn read_events(&mut self) {
        let numbers: Vec<u64> = self.nodes.keys().copied().collect();
        for reader in &mut self.readers.0 {
            if reader.chance.once_in(WANDERS) {
                reader.node = *reader.chance.pick(&numbers).unwrap_or(&1);
            }
            let node = self.nodes.get(&reader.node);
            let serves = node.filter(|node| node.life.is_some() && !node.frozen);
            if let Some(node) = serves {
                reader.read(&node.disk);
            }
        }
    }

    /// Lets everybody read to the end, and compares.
    pub fn check_events(&mut self) {
        let mut wrong = None;
        for (number, node) in &self.nodes {
            let rows = node
                .disk
                .scan(Table::Event, &[], None, usize::MAX)
                .into_iter();
            let told: Vec<_> = rows.map(|(key, value)| (key, hash(&value))).collect();
            for (n, reader) in self.readers.0.iter_mut().enumerate() {
                reader.read(&node.disk);
                let differs = reader.differs(&told);
                wrong = wrong.or(differs.map(|why| format!("reader {n}, node {number}: {why}")));
            }
        }
        if let Some(why) = wrong {
            self.broken("events", why);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(of: std::ops::Range<u8>) -> Vec<(Vec<u8>, u64)> {
        of.map(|n| (vec![n], u64::from(n))).collect()
    }

    #[test]
    fn what_is_missing_doubled_or_other_is_found() {
        let mut reader = Reader {
            chance: Chance::new(1),
            node: 1,
            seen: told(0..9),
        };
        assert_eq!(reader.differs(&told(0..9)), None);
        assert_eq!(reader.differs(&told(4..9)), None, "older ones are gone");
        assert!(
            reader.differs(&told(0..10)).is_some(),
            "the last is missing"
        );
        assert!(reader.differs(&told(0..8)).is_some(), "one too many");
        reader.seen[5].1 = 77;
        assert!(reader.differs(&told(0..9)).is_some(), "another was told");
        reader.seen.remove(5);
        assert!(reader.differs(&told(0..9)).is_some(), "one is missing");
    }
}
