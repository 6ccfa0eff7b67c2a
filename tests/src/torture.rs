//! The torture messages of RFC 4475, kept as files beside the signalling they test.

use std::path::PathBuf;

use crate::programs;

/// Name (without extension) and bytes of every message, by name.
pub fn messages() -> Vec<(String, Vec<u8>)> {
    let folder: PathBuf = programs::repository().join("node/sip/tests/torture");
    let mut found: Vec<(String, Vec<u8>)> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "dat"))
        .map(|path| {
            let name = path
                .file_stem()
                .expect("a file has a name")
                .to_string_lossy()
                .into_owned();
            (
                name,
                std::fs::read(&path).expect("a listed file can be read"),
            )
        })
        .collect();
    found.sort();
    found
}
