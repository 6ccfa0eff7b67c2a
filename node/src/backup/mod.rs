//! Backups: taken of a cluster that runs, verified, and made into a new cluster.
//!
//! A backup is a folder: `rows` with every replicated row as of one entry, `blobs/` with
//! the sound files, and `manifest.json`, written last, with the hash of every file and its
//! own. It holds no key and no identity: secrets in it stay sealed. The key that opens them
//! is written to a file of its own when asked for, to be kept elsewhere.
//!
//! Invariant: what lies at the name a backup was asked for is whole, because it gets that
//! name last; and a folder becomes a node's data only after every hash was compared.

mod manifest;
mod restore;
mod take;
mod wire;

pub use self::manifest::{FORMAT, FileHash, Manifest};
pub use self::restore::{RestoreOptions, restore};
pub use self::take::{BackupOptions, backup};
pub use self::wire::stream;
