//! What happened, line by line: hashed as a whole, the last lines kept for whoever has to
//! understand a failure.

use std::collections::VecDeque;

/// Lines kept when not all are wanted.
const KEPT: usize = 400;

/// The trace of a run.
#[derive(Default)]
pub struct Trace {
    hasher: blake3::Hasher,
    lines: VecDeque<String>,
    whole: bool,
}

impl Trace {
    /// An empty trace that keeps every line, or the last ones.
    pub fn new(whole: bool) -> Self {
        Self {
            whole,
            ..Self::default()
        }
    }

    /// Adds a line.
    pub fn line(&mut self, now: u64, text: &str) {
        let line = format!("{:>10}.{:03} {text}", now / 1_000, now % 1_000);
        self.hasher.update(line.as_bytes());
        self.hasher.update(b"\n");
        if !self.whole && self.lines.len() >= KEPT {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    /// The hash over every line so far.
    pub fn hash(&self) -> String {
        self.hasher.finalize().to_hex().to_string()
    }

    /// The lines kept.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for line in &self.lines {
            text.push_str(line);
            text.push('\n');
        }
        text
    }
}
