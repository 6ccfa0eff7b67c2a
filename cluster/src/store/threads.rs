//! The threads that hold an open store.
//!
//! The engine frees its directory when the last of them lets go of the store, so whoever wants
//! to open it again waits for all of them.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::error::StoreError;

/// Threads that each end by themselves when nobody can ask them any more.
#[derive(Default)]
pub struct Threads(Mutex<Vec<Holder>>);

struct Holder {
    thread: JoinHandle<()>,
    /// Disconnected once the thread has let go of all it held.
    held: Receiver<()>,
}

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
        let (holds, held) = mpsc::channel();
        let named = std::thread::Builder::new().name(name.to_owned());
        let spawned = named.spawn(move || {
            let _holds: Sender<()> = holds;
            run();
        });
        let thread = spawned.map_err(|source| StoreError::File {
            path: name.into(),
            source,
        })?;
        let mut threads = self.0.lock();
        let ended = threads.extract_if(.., |holder| holder.thread.is_finished());
        ended.for_each(Holder::end);
        threads.push(Holder { thread, held });
        Ok(())
    }

    /// Waits until all have ended, at most so long; false when one has not: a handle that is left
    /// somewhere may still be able to ask it.
    #[must_use]
    pub fn join(&self, patience: Duration) -> bool {
        let until = Instant::now() + patience;
        let threads = std::mem::take(&mut *self.0.lock());
        let mut left = Vec::new();
        for holder in threads {
            let patience = until.saturating_duration_since(Instant::now());
            match holder.held.recv_timeout(patience) {
                Err(RecvTimeoutError::Timeout) => left.push(holder),
                Ok(()) | Err(RecvTimeoutError::Disconnected) => holder.end(),
            }
        }
        let all = left.is_empty();
        self.0.lock().extend(left);
        all
    }
}

impl Holder {
    fn end(self) {
        if self.thread.join().is_err() {
            tracing::error!("a thread of the store ended badly");
        }
    }
}
