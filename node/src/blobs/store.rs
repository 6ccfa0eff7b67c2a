//! The folder of blobs: `aa/aabb…`, written once, verified at every read.

use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use strowger_core::ids::BlobId;

use crate::limits;

/// A folder of files named by their content.
#[derive(Clone, Debug)]
pub struct BlobStore {
    folder: PathBuf,
}

/// A file of the store as it was found.
#[derive(Clone, Debug)]
pub struct Examined {
    /// Where it lies.
    pub path: PathBuf,
    /// What it should be.
    pub id: BlobId,
    /// Its bytes, or why it is not what it should be.
    pub content: Result<u64, String>,
}

impl Examined {
    fn read(path: PathBuf, id: BlobId) -> Self {
        let content = match std::fs::read(&path) {
            Err(error) => Err(error.to_string()),
            Ok(bytes) if *blake3::hash(&bytes).as_bytes() == id.0 => {
                Ok(u64::try_from(bytes.len()).unwrap_or(u64::MAX))
            }
            Ok(_) => Err("its content does not fit its name".to_owned()),
        };
        Self { path, id, content }
    }
}

/// What names of files begin with that are not whole yet.
const DRAFT: &str = "draft.";
/// Distinguishes drafts written at the same time.
static DRAFTS: AtomicU64 = AtomicU64::new(0);

impl BlobStore {
    /// A store in `folder`, which is made when first needed.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Removes what a life that was cut short has begun to write. Only for who is alone with
    /// the folder.
    pub fn remove_drafts(&self) {
        let list = |folder: &Path| std::fs::read_dir(folder).into_iter().flatten().flatten();
        for draft in list(&self.folder).flat_map(|folder| list(&folder.path())) {
            if draft.file_name().to_string_lossy().starts_with(DRAFT) {
                let _ = std::fs::remove_file(draft.path());
            }
        }
    }

    /// Where a blob lies.
    pub fn path(&self, id: BlobId) -> PathBuf {
        let digits = hex::encode(id.0);
        self.folder
            .join(digits.get(..2).unwrap_or("00"))
            .join(digits)
    }

    /// Stores bytes under their hash, synced; a second time does nothing.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub async fn put(&self, bytes: &[u8]) -> std::io::Result<BlobId> {
        let id = BlobId(*blake3::hash(bytes).as_bytes());
        let (path, bytes) = (self.path(id), bytes.to_vec());
        blocking(move || write(&path, &bytes)).await?;
        Ok(id)
    }

    /// [`BlobStore::put`], blocking.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn put_blocking(&self, bytes: &[u8]) -> std::io::Result<BlobId> {
        let id = BlobId(*blake3::hash(bytes).as_bytes());
        write(&self.path(id), bytes)?;
        Ok(id)
    }

    /// The bytes of a blob; `None` when it is not here. A damaged copy is removed.
    /// Blocks while it reads.
    pub fn read(&self, id: BlobId) -> Option<Vec<u8>> {
        let path = self.path(id);
        let bytes = std::fs::read(&path).ok()?;
        if *blake3::hash(&bytes).as_bytes() == id.0 {
            return Some(bytes);
        }
        tracing::error!(blob = %id, "a sound file was damaged on disk and is fetched anew");
        let _ = std::fs::remove_file(&path);
        None
    }

    /// Every file in the folder, with whether its content fits its name. Blocks while it
    /// reads them all.
    ///
    /// # Errors
    /// When a folder cannot be listed.
    pub fn examine(&self) -> std::io::Result<Vec<Examined>> {
        let mut examined = Vec::new();
        let folders = match std::fs::read_dir(&self.folder) {
            Ok(folders) => folders,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(examined),
            Err(error) => return Err(error),
        };
        for folder in folders {
            for file in std::fs::read_dir(folder?.path())? {
                let path = file?.path();
                let name = path.file_name().and_then(|name| name.to_str());
                let mut id = [0; 32];
                // What a cut-off write left behind has another name and is nobody's.
                let named = name.is_some_and(|name| hex::decode_to_slice(name, &mut id).is_ok());
                if named {
                    examined.push(Examined::read(path, BlobId(id)));
                }
            }
        }
        examined.sort_by(|one, other| one.path.cmp(&other.path));
        Ok(examined)
    }

    /// [`BlobStore::read`] without blocking.
    pub async fn get(&self, id: BlobId) -> Option<Vec<u8>> {
        let store = self.clone();
        blocking(move || store.read(id)).await
    }

    /// True when the blob is here and whole.
    pub async fn holds(&self, id: BlobId) -> bool {
        self.get(id).await.is_some()
    }

    /// At most `length` bytes from `offset`; `None` when the blob is not here.
    pub async fn piece(&self, id: BlobId, offset: u64, length: usize) -> Option<Vec<u8>> {
        let path = self.path(id);
        blocking(move || {
            let mut file = std::fs::File::open(&path).ok()?;
            file.seek(SeekFrom::Start(offset)).ok()?;
            let limit = u64::try_from(length.min(limits::BLOB_PIECE_BYTES)).ok()?;
            let mut bytes = Vec::new();
            file.take(limit).read_to_end(&mut bytes).ok()?;
            Some(bytes)
        })
        .await
    }
}

fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    // A file that cannot be read, or is not what its name says, is written anew.
    if std::fs::read(path).is_ok_and(|held| held == bytes) {
        return Ok(());
    }
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    let number = DRAFTS.fetch_add(1, Ordering::Relaxed);
    let draft = folder.join(format!("{DRAFT}{}.{number}", std::process::id()));
    let written = std::fs::File::create(&draft).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&draft, path)
    });
    if written.is_err() {
        // A full disk is not filled further with what cannot be used.
        let _ = std::fs::remove_file(&draft);
    }
    written?;
    std::fs::File::open(folder)?.sync_all()
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(failed) => std::panic::resume_unwind(failed.into_panic()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_put_comes_back_and_damage_is_noticed() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = BlobStore::new(folder.path().join("blobs"));
        let id = store.put(b"hello there").await.expect("stored");
        assert_eq!(store.put(b"hello there").await.expect("again"), id);
        assert_eq!(
            store.get(id).await.as_deref(),
            Some(b"hello there".as_slice())
        );
        assert_eq!(
            store.piece(id, 6, 3).await.as_deref(),
            Some(b"the".as_slice())
        );
        assert_eq!(
            store.piece(id, 99, 3).await.as_deref(),
            Some(b"".as_slice())
        );
        assert!(store.get(BlobId([7; 32])).await.is_none());
        let draft = store.path(id).with_file_name("draft.1.7");
        std::fs::write(&draft, b"hel").expect("a draft");
        store.remove_drafts();
        assert!(!draft.exists() && store.path(id).exists());
        std::fs::write(store.path(id), b"hello xhere").expect("damage");
        assert!(store.get(id).await.is_none());
        assert!(!store.path(id).exists(), "the damaged copy is gone");
    }
}
