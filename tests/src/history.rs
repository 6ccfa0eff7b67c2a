//! What clients did to one register and were told of it, and whether a single register could
//! have told them that: linearizability (Herlihy and Wing), checked by search (Wing and Gong,
//! with the states already tried remembered, as Lowe does).

use std::collections::BTreeSet;
use std::time::Instant;

/// What a client did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Did {
    /// Wrote this.
    Wrote(String),
    /// Read this.
    Read(String),
}

/// One operation of a client.
#[derive(Clone, Debug)]
pub struct Operation {
    /// When it was sent.
    pub began: Instant,
    /// When its outcome was known; `None` for a write that may have happened, then or later,
    /// or never. What surely did not happen is no operation.
    pub ended: Option<Instant>,
    /// What it was.
    pub did: Did,
}

/// Whether a register that held `initial` at first could have answered like this. The error
/// shows the operations from the first one nobody can explain.
///
/// # Errors
/// It could not.
pub fn check(initial: &str, operations: &[Operation]) -> Result<(), String> {
    let mut sorted: Vec<&Operation> = operations.iter().collect();
    sorted.sort_by_key(|one| one.began);
    let mut search = Search {
        operations: &sorted,
        tried: BTreeSet::new(),
        furthest: 0,
    };
    let done = vec![false; sorted.len()];
    if search.explains(done, initial.to_owned()) {
        return Ok(());
    }
    let from = search.furthest.saturating_sub(6);
    let shown: Vec<String> = sorted[from..]
        .iter()
        .take(20)
        .map(|one| describe(one, sorted[0]))
        .collect();
    Err(format!(
        "no order explains, from {from} on:\n{}",
        shown.join("\n")
    ))
}

fn describe(one: &Operation, first: &Operation) -> String {
    let ms = |at: Instant| at.saturating_duration_since(first.began).as_millis();
    let ended = one.ended.map_or("?".to_owned(), |at| ms(at).to_string());
    format!("  {:>6} to {ended:>6} ms {:?}", ms(one.began), one.did)
}

struct Search<'a> {
    operations: &'a [&'a Operation],
    tried: BTreeSet<(Vec<bool>, String)>,
    furthest: usize,
}

impl Search<'_> {
    /// Depth first; a history of one round is short, and few of its operations overlap.
    fn explains(&mut self, mut done: Vec<bool>, mut value: String) -> bool {
        loop {
            let Some(first_end) = self.first_end(&done) else {
                return true;
            };
            let mut open: Vec<usize> = Vec::new();
            let mut read = None;
            for (at, one) in self.operations.iter().enumerate() {
                if done[at] || one.began > first_end {
                    continue;
                }
                match &one.did {
                    Did::Read(seen) if *seen == value => read = read.or(Some(at)),
                    Did::Read(_) => {}
                    Did::Wrote(_) => open.push(at),
                }
            }
            // A read that fits changes nothing: it may as well come first.
            if let Some(at) = read {
                done[at] = true;
                continue;
            }
            let count = done.iter().filter(|done| **done).count();
            self.furthest = self.furthest.max(count);
            if !self.tried.insert((done.clone(), value.clone())) {
                return false;
            }
            let Some((last, others)) = open.split_last() else {
                return false;
            };
            for at in others {
                let mut next = done.clone();
                next[*at] = true;
                if self.explains(next, self.written(*at)) {
                    return true;
                }
            }
            done[*last] = true;
            value = self.written(*last);
        }
    }

    fn written(&self, at: usize) -> String {
        match &self.operations[at].did {
            Did::Wrote(value) | Did::Read(value) => value.clone(),
        }
    }

    /// Whatever comes next must have begun before this; `None` when all is explained that
    /// surely happened.
    fn first_end(&self, done: &[bool]) -> Option<Instant> {
        let left = self.operations.iter().zip(done).filter(|(_, done)| !**done);
        left.filter_map(|(one, _)| one.ended).min()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn history(rows: &[(u64, u64, &str)]) -> Vec<Operation> {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let row = |(began, ended, what): &(u64, u64, &str)| {
            let value = what[1..].to_owned();
            Operation {
                began: at(*began),
                ended: (*ended > 0).then(|| at(*ended)),
                did: if what.starts_with('w') {
                    Did::Wrote(value)
                } else {
                    Did::Read(value)
                },
            }
        };
        rows.iter().map(row).collect()
    }

    #[test]
    fn what_a_register_can_answer_is_told_from_what_it_cannot() {
        let good: [&[(u64, u64, &str)]; 5] = [
            &[],
            &[(0, 10, "wa"), (20, 30, "ra"), (5, 40, "r0")],
            // Two writes at once, read in the order nobody expected.
            &[(0, 50, "wa"), (0, 50, "wb"), (60, 70, "ra"), (60, 70, "ra")],
            // One of unknown outcome that happened late, and one that never did.
            &[
                (0, 0, "wa"),
                (0, 0, "wb"),
                (5, 10, "wc"),
                (20, 30, "rc"),
                (40, 50, "ra"),
            ],
            &[
                (0, 10, "wa"),
                (5, 15, "ra"),
                (7, 30, "wb"),
                (16, 20, "rb"),
                (21, 25, "rb"),
            ],
        ];
        for rows in good {
            assert_eq!(check("0", &history(rows)), Ok(()), "{rows:?}");
        }
        let bad: [&[(u64, u64, &str)]; 5] = [
            // A write was acknowledged and lost.
            &[(0, 10, "wa"), (20, 30, "r0")],
            // A read went back.
            &[(0, 100, "wa"), (10, 20, "ra"), (30, 40, "r0")],
            // Two readers see two writes in different orders.
            &[
                (0, 10, "wa"),
                (20, 30, "wb"),
                (40, 50, "rb"),
                (60, 70, "ra"),
            ],
            // Somebody read what nobody wrote.
            &[(0, 10, "rx")],
            // Of unknown outcome, yet it cannot have happened before it was sent.
            &[(0, 10, "ra"), (20, 0, "wa")],
        ];
        for rows in bad {
            assert!(check("0", &history(rows)).is_err(), "{rows:?}");
        }
    }

    #[test]
    fn a_long_history_is_checked_soon() {
        let mut rows: Vec<(u64, u64, String)> = Vec::new();
        for n in 1..600u64 {
            rows.push((10 * n, 10 * n + 25, format!("w{n}")));
            rows.push((10 * n + 26, 10 * n + 30, format!("r{n}")));
        }
        let rows: Vec<(u64, u64, &str)> =
            rows.iter().map(|(a, b, c)| (*a, *b, c.as_str())).collect();
        // Each write overlaps the next two; each is read after its end and before theirs.
        assert!(check("0", &history(&rows)).is_ok());
    }
}
