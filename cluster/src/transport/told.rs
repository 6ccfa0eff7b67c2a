//! What was said of whom: a peer that is refused again and again is written about once.
//!
//! Deliberately not here: whether it is refused. A peer that fits again is forgotten, so that
//! its next refusal is news.

use std::collections::HashMap;

use parking_lot::Mutex;

/// Refused peers remembered; when there are more, all are forgotten and told anew.
const TOLD_MAX: usize = 256;

/// The last refusal of each peer.
#[derive(Debug, Default)]
pub struct Told {
    last: Mutex<HashMap<String, String>>,
}

impl Told {
    /// True when `why` is not what was last said of `peer`.
    pub fn is_news(&self, peer: &str, why: &str) -> bool {
        let mut last = self.last.lock();
        if last.get(peer).is_some_and(|known| known == why) {
            return false;
        }
        if last.len() >= TOLD_MAX {
            last.clear();
        }
        last.insert(peer.to_owned(), why.to_owned());
        true
    }

    /// `peer` was taken in.
    pub fn forget(&self, peer: &str) {
        self.last.lock().remove(peer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_news_once_for_each_reason_and_again_after_a_change() {
        let told = Told::default();
        assert!(told.is_news("3 of a", "foreign"));
        assert!(!told.is_news("3 of a", "foreign"));
        assert!(told.is_news("4 of a", "foreign"), "another peer");
        assert!(told.is_news("3 of a", "not signed"), "another reason");
        told.forget("3 of a");
        assert!(told.is_news("3 of a", "not signed"), "it had been taken in");
        for n in 0..2 * TOLD_MAX {
            told.is_news(&n.to_string(), "foreign");
        }
        assert!(told.last.lock().len() <= TOLD_MAX);
    }
}
