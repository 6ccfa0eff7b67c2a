//! Admission: whatever outsiders can start passes here first, because mailboxes have
//! no bound of their own.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Counts what is alive and refuses more than its limit. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Gate {
    alive: Arc<AtomicUsize>,
    limit: usize,
}

/// One admitted thing; gives its place back when dropped.
#[derive(Debug)]
pub struct Pass {
    alive: Arc<AtomicUsize>,
}

impl Gate {
    /// A gate for at most `limit` at once.
    pub fn new(limit: usize) -> Self {
        Self {
            alive: Arc::default(),
            limit,
        }
    }

    /// Admits one more, or says that the place is full.
    pub fn enter(&self) -> Option<Pass> {
        let admitted = self
            .alive
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |alive| {
                (alive < self.limit).then_some(alive + 1)
            })
            .is_ok();
        admitted.then(|| Pass {
            alive: Arc::clone(&self.alive),
        })
    }

    /// How many are alive.
    pub fn alive(&self) -> usize {
        self.alive.load(Ordering::Acquire)
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.alive.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_given_back() {
        let gate = Gate::new(1);
        let pass = gate.enter();
        assert!(pass.is_some());
        assert!(gate.enter().is_none());
        drop(pass);
        assert_eq!(gate.alive(), 0);
        assert!(gate.enter().is_some());
    }
}
