//! Waiting for a condition with a deadline, instead of sleeping for luck.

use std::time::{Duration, Instant};

/// How often a condition is looked at.
const STEP: Duration = Duration::from_millis(20);

/// Looks at `probe` until it yields a value, or panics naming `what` after `within`.
pub fn eventually<T>(within: Duration, what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    match within_time(within, &mut probe) {
        Some(value) => value,
        None => panic!("not within {} ms: {what}", within.as_millis()),
    }
}

/// Looks at `probe` until it yields a value; `None` after `within`.
pub fn within_time<T>(within: Duration, mut probe: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + within;
    loop {
        if let Some(value) = probe() {
            return Some(value);
        }
        if Instant::now() >= deadline {
            return None;
        }
        std::thread::sleep(STEP);
    }
}
