//! What a backup holds, in its file `manifest.json`.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Component, Path};

use serde::{Deserialize, Serialize};
use strowger_cluster::copy::Taken;
use strowger_core::state::FEATURE_LEVEL;

use crate::fault::{Fault, code};

/// Version of the form of backups this program writes; it reads no newer one.
pub const FORMAT: u32 = 1;

/// Name of the manifest in the folder of a backup.
const NAME: &str = "manifest.json";

/// Bytes of a manifest; larger ones are refused unread.
const BYTES_MAX: u64 = 16 << 20;

/// A file of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileHash {
    /// Path under the folder.
    pub path: String,
    /// Length.
    pub bytes: u64,
    /// BLAKE3 of its content, hexadecimal.
    pub blake3: String,
}

/// What a backup holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of the form.
    pub format: u32,
    /// Id of the cluster it was taken of.
    pub cluster: String,
    /// Name of that cluster.
    pub name: String,
    /// Node that gave it.
    pub node: u64,
    /// The last entry it holds.
    pub taken: Taken,
    /// Hash of the state as of that entry.
    pub state_hash: String,
    /// Feature level in force.
    pub feature_level: u32,
    /// Program version of the node.
    pub version: String,
    /// When it was begun, RFC 3339.
    pub taken_at: String,
    /// Rows in it.
    pub rows: u64,
    /// Its files.
    pub files: Vec<FileHash>,
}

/// The file: the manifest and its own hash.
#[derive(Serialize, Deserialize)]
struct Sealed {
    manifest: Manifest,
    /// BLAKE3 of the manifest as compact JSON.
    blake3: String,
}

/// Only what is needed to tell that a manifest is of a newer form.
#[derive(Deserialize)]
struct AnyForm {
    manifest: OnlyFormat,
}

#[derive(Deserialize)]
struct OnlyFormat {
    format: u32,
}

fn hash_of(manifest: &Manifest) -> String {
    let text = serde_json::to_vec(manifest).unwrap_or_default();
    blake3::hash(&text).to_hex().to_string()
}

fn damaged(path: &Path, what: impl Into<String>) -> Fault {
    let next = "use another backup; this one is not whole";
    Fault::new(code::BACKUP_DAMAGED, what, next).at(path.display().to_string())
}

impl Manifest {
    /// Writes the manifest into the folder of its backup, synced.
    ///
    /// # Errors
    /// What the system said.
    pub fn write(&self, folder: &Path) -> std::io::Result<()> {
        let sealed = Sealed {
            blake3: hash_of(self),
            manifest: self.clone(),
        };
        let mut file = File::create_new(folder.join(NAME))?;
        let text = serde_json::to_string_pretty(&sealed).map_err(std::io::Error::other)?;
        file.write_all(text.as_bytes())?;
        file.write_all(b"\n")?;
        file.sync_all()
    }

    /// Reads and checks the manifest of the backup in `folder`, and then every file.
    ///
    /// # Errors
    /// [`code::BACKUP_FORMAT`] for one of a newer version, [`code::BACKUP_DAMAGED`] with the
    /// file that is missing or damaged.
    pub fn verify(folder: &Path) -> Result<Self, Fault> {
        let path = folder.join(NAME);
        let text = match File::open(&path) {
            Ok(file) => {
                let mut text = String::new();
                let read = file.take(BYTES_MAX).read_to_string(&mut text);
                read.map_err(|error| damaged(&path, error.to_string()))?;
                text
            }
            Err(error) => return Err(damaged(&path, format!("no whole backup: {error}"))),
        };
        let newer = |what: String| {
            let next = "restore it with the program version named in the manifest, or newer";
            Fault::new(code::BACKUP_FORMAT, what, next).at(path.display().to_string())
        };
        let form = serde_json::from_str::<AnyForm>(&text);
        let form = form.map_err(|error| damaged(&path, error.to_string()))?;
        if form.manifest.format > FORMAT {
            let what = format!("form {} is newer than {FORMAT}", form.manifest.format);
            return Err(newer(what));
        }
        let sealed: Sealed =
            serde_json::from_str(&text).map_err(|error| damaged(&path, error.to_string()))?;
        let manifest = sealed.manifest;
        if hash_of(&manifest) != sealed.blake3 {
            return Err(damaged(&path, "its content does not fit its hash"));
        }
        if manifest.feature_level > FEATURE_LEVEL {
            let level = manifest.feature_level;
            let what = format!("feature level {level} is newer than {FEATURE_LEVEL}");
            return Err(newer(what));
        }
        for file in &manifest.files {
            file.verify(folder)?;
        }
        Ok(manifest)
    }

    /// The files under `blobs/`.
    pub fn blobs(&self) -> impl Iterator<Item = &FileHash> {
        let files = self.files.iter();
        files.filter(|file| file.path.starts_with("blobs/"))
    }
}

impl FileHash {
    /// Compares the file under `folder` with its length and hash.
    fn verify(&self, folder: &Path) -> Result<(), Fault> {
        let mut parts = Path::new(&self.path).components();
        let path = folder.join(&self.path);
        if !parts.all(|part| matches!(part, Component::Normal(_))) {
            return Err(damaged(&path, "a path that leaves the folder"));
        }
        let hashed = || -> std::io::Result<(u64, blake3::Hash)> {
            let mut file = File::open(&path)?;
            let mut hasher = blake3::Hasher::new();
            let mut piece = vec![0; 1 << 20];
            let mut bytes = 0;
            loop {
                let length = file.read(&mut piece)?;
                let Some(read) = piece.get(..length).filter(|read| !read.is_empty()) else {
                    return Ok((bytes, hasher.finalize()));
                };
                hasher.update(read);
                bytes += u64::try_from(length).unwrap_or(u64::MAX);
            }
        };
        let (bytes, hash) = hashed().map_err(|error| damaged(&path, error.to_string()))?;
        if bytes != self.bytes || hash.to_hex().as_str() != self.blake3 {
            return Err(damaged(&path, "its content does not fit its hash"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        Manifest {
            format: FORMAT,
            cluster: "00".to_owned(),
            name: "lab".to_owned(),
            node: 1,
            taken: Taken {
                term: 1,
                leader: 1,
                index: 7,
            },
            state_hash: "00".to_owned(),
            feature_level: FEATURE_LEVEL,
            version: "0.1.0".to_owned(),
            taken_at: "2026-01-01T00:00:00.000Z".to_owned(),
            rows: 0,
            files: vec![FileHash {
                path: "rows".to_owned(),
                bytes: 3,
                blake3: blake3::hash(b"abc").to_hex().to_string(),
            }],
        }
    }

    #[test]
    fn a_backup_is_whole_or_the_file_that_is_not_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let refused = |what: &str| {
            let fault = Manifest::verify(folder.path()).expect_err(what);
            (fault.code.into_owned(), fault.place.unwrap_or_default())
        };
        assert_eq!(refused("no manifest").0, code::BACKUP_DAMAGED);
        manifest().write(folder.path()).expect("written");
        let (code, place) = refused("no rows");
        assert!(place.ends_with("/rows"), "{place}");
        assert_eq!(code, code::BACKUP_DAMAGED);
        std::fs::write(folder.path().join("rows"), b"abc").expect("written");
        assert_eq!(Manifest::verify(folder.path()), Ok(manifest()));
        std::fs::write(folder.path().join("rows"), b"abd").expect("written");
        assert!(refused("a flipped bit").1.ends_with("/rows"));
        std::fs::write(folder.path().join("rows"), b"abc").expect("written");

        let path = folder.path().join(NAME);
        let text = std::fs::read_to_string(&path).expect("text");
        let put = |from: &str, to: &str| {
            std::fs::write(&path, text.replace(from, to)).expect("written");
        };
        put("\"index\": 7", "\"index\": 8");
        assert!(refused("another index").1.ends_with(NAME));
        put("\"format\": 1", "\"format\": 2");
        assert_eq!(refused("a newer form").0, code::BACKUP_FORMAT);
        std::fs::write(&path, &text[..text.len() / 2]).expect("written");
        assert_eq!(refused("half a manifest").0, code::BACKUP_DAMAGED);
    }

    #[test]
    fn a_newer_feature_level_and_a_path_out_of_the_folder_are_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let newer = Manifest {
            feature_level: FEATURE_LEVEL + 1,
            ..manifest()
        };
        newer.write(folder.path()).expect("written");
        let fault = Manifest::verify(folder.path()).expect_err("newer");
        assert_eq!(fault.code, code::BACKUP_FORMAT);
        let mut foreign = manifest();
        foreign.files[0].path = "../rows".to_owned();
        std::fs::remove_file(folder.path().join(NAME)).expect("removed");
        foreign.write(folder.path()).expect("written");
        let fault = Manifest::verify(folder.path()).expect_err("elsewhere");
        assert_eq!(fault.code, code::BACKUP_DAMAGED);
    }
}
