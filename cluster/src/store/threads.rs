//! The threads that hold an open store.
//!
//! The engine frees its directory when the last of them lets go of the store, so whoever wants
//! to open it again waits for all of them.

use std::io;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::error::StoreError;

/// Threads that each end by themselves when nobody can ask them any more.
#[derive(Default)]
pub struct Threads(Mutex<Vec<JoinHandle<()>>>);

impl Threads {
    /// Starts a thread that holds the store.
    ///
    /// # Errors
    /// [`StoreError::File`] when the system gives no thread.
    pub fn spawn(
        &self,
        name: &'static str,
        run: impl FnOnce() + Send + 'static,
    ) -> Result<(), StoreError> {
        let named = std::thread::Builder::new().name(name.to_owned());
        let spawned = named
            .spawn(run)
            .map_err(|source: io::Error| StoreError::File {
                path: name.into(),
                source,
            })?;
        let mut threads = self.0.lock();
        let ended = threads.extract_if(.., |thread| thread.is_finished());
        ended.for_each(end);
        threads.push(spawned);
        Ok(())
    }

    /// Waits until all have ended, at most so long; false when one has not.
    #[must_use]
    pub fn join(&self, patience: Duration) -> bool {
        let until = Instant::now() + patience;
        let threads = std::mem::take(&mut *self.0.lock());
        let mut left = Vec::new();
        for thread in threads {
            // A handle that is left somewhere may still be able to ask.
            while !thread.is_finished() && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(1));
            }
            if thread.is_finished() {
                end(thread);
            } else {
                left.push(thread);
            }
        }
        let all = left.is_empty();
        self.0.lock().extend(left);
        all
    }
}

fn end(thread: JoinHandle<()>) {
    if thread.join().is_err() {
        tracing::error!("a thread of the store ended badly");
    }
}
