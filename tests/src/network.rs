//! A network for one test: the addresses of a demonstration are fixed (127.0.0.1 to .6), and
//! so are those of the test sites' phones.

use std::fs::File;

use nix::sched::{CloneFlags, setns, unshare};

use crate::programs;

/// The right to use this machine's loopback addresses, as long as it is kept.
#[derive(Debug)]
pub struct Network {
    _alone: Option<File>,
}

impl Network {
    /// Gives the calling thread, and the threads and programs it starts from now on, loopback
    /// addresses that nothing else on the machine shares: a network namespace. Where the
    /// machine lets nobody make one, waits until no other test uses the common ones.
    ///
    /// Programs in a namespace reach nothing but each other.
    pub fn own() -> Self {
        let _alone = match make() {
            Ok(()) => None,
            Err(why) => {
                println!("no network of its own for this test ({why}): it waits for its turn");
                Some(alone())
            }
        };
        Self { _alone }
    }
}

/// A namespace with nothing but its loopback, or the thread stays where it is.
fn make() -> Result<(), String> {
    let text = |error: nix::Error| error.to_string();
    let common = File::open("/proc/thread-self/ns/net").map_err(|error| error.to_string())?;
    unshare(CloneFlags::CLONE_NEWNET).map_err(text)?;
    programs::ip("link set lo up").inspect_err(|_| {
        setns(&common, CloneFlags::CLONE_NEWNET).expect("a thread may return to where it was");
    })
}

/// Waits until no other test holds the machine's own loopback addresses.
pub fn alone() -> File {
    turn("strowger-tests.lock")
}

/// Waits for the lock of this name, which serialises tests across threads and processes.
fn turn(name: &str) -> File {
    let path = std::env::temp_dir().join(name);
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .unwrap_or_else(|error| panic!("cannot open {}: {error}", path.display()));
    file.lock().expect("a local file system has locks");
    file
}
