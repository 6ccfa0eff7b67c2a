//! `strowgerd backup`: asks a running node for a backup and writes it down.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls_pki_types::{CertificateDer, ServerName};
use serde::de::DeserializeOwned;
use strowger_cluster::copy::RowsFile;
use strowger_core::api::ErrorBody;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::manifest::{FORMAT, FileHash, Manifest};
use super::wire::{End, Head, Kind};
use crate::config::NodeConfig;
use crate::fault::{Fault, code};
use crate::{founding, limits};

/// What the verb is told.
#[derive(Clone, Debug, clap::Args)]
pub struct BackupOptions {
    /// Node file of a node of this machine that runs
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Folder of the backup; it must not exist yet
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// File for the key that opens the secrets in the backup; keep it elsewhere
    #[arg(long, value_name = "FILE")]
    key_to: Option<PathBuf>,
}

/// Takes a backup of a running node. The folder has its name only when everything in it is
/// on disk.
///
/// # Errors
/// [`code::BACKUP_FAILED`], or what the node refused with; no folder is left at the name.
pub async fn backup(options: &BackupOptions) -> Result<(), Fault> {
    let config = NodeConfig::load(&options.config)?;
    let to = &options.to;
    let refused = |what: String| {
        let next = "name a folder that does not exist, on a disk with room";
        Fault::new(code::BACKUP_FAILED, what, next).at(to.display().to_string())
    };
    if to.exists() {
        return Err(refused("it exists".to_owned()));
    }
    let (identity, vault) = founding::load(&config)?;
    let name = to.file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| refused("it has no name".to_owned()))?;
    let draft = to.with_file_name(format!("{name}.partial-{}", std::process::id()));
    let parent = to.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new(".")).to_owned();
    let made = std::fs::DirBuilder::new().mode(0o700).create(&draft);
    made.map_err(|error| refused(error.to_string()))?;
    let written = async {
        let manifest = receive(&config, &identity, vault.admin_token(), &draft).await?;
        let named = || -> std::io::Result<()> {
            manifest.write(&draft)?;
            File::open(&draft)?.sync_all()?;
            std::fs::rename(&draft, to)?;
            File::open(&parent)?.sync_all()
        };
        if let Some(file) = &options.key_to {
            let wrote = write_key(file, &vault.export_key());
            wrote.map_err(|error| refused(format!("{}: {error}", file.display())))?;
        }
        named().map_err(|error| refused(error.to_string()))?;
        Ok(manifest)
    };
    let manifest: Manifest = match written.await {
        Ok(manifest) => manifest,
        Err(fault) => {
            // What was written is worthless and has no name anybody would take it by.
            let _ = std::fs::remove_dir_all(&draft);
            return Err(fault);
        }
    };
    let bytes: u64 = manifest.files.iter().map(|file| file.bytes).sum();
    println!(
        "backup cluster={} node={} entry={} rows={} files={} bytes={bytes} dir={}",
        manifest.cluster,
        manifest.node,
        manifest.taken.index,
        manifest.rows,
        manifest.files.len(),
        to.display()
    );
    Ok(())
}

/// Writes the key for its owner's eyes only; replaces none.
fn write_key(path: &Path, key: &str) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(key.as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()
}

trait Stream: AsyncRead + tokio::io::AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + tokio::io::AsyncWrite + Unpin + Send> Stream for T {}

fn unreachable(config: &NodeConfig, why: impl std::fmt::Display) -> Fault {
    let what = format!("the node does not answer: {why}");
    let fault = Fault::new(
        code::BACKUP_FAILED,
        what,
        "start it, or name another's file",
    );
    Fault {
        exit: crate::fault::Exit::Unreachable,
        ..fault.at(config.file.display().to_string())
    }
}

/// A connection to the interface of the node: plain on loopback, TLS elsewhere.
async fn connect(
    config: &NodeConfig,
    identity: &strowger_cluster::identity::Identity,
) -> Result<Box<dyn Stream>, Fault> {
    let address = std::net::SocketAddr::new(config.listen.address, config.listen.api);
    let stream = TcpStream::connect(address).await;
    let stream = stream.map_err(|error| unreachable(config, error))?;
    if config.listen.address.is_loopback() {
        return Ok(Box::new(stream));
    }
    let failed = |error: &dyn std::fmt::Display| unreachable(config, error);
    let mut roots = rustls::RootCertStore::empty();
    let authority = CertificateDer::from(identity.authority_certificate().to_vec());
    roots.add(authority).map_err(|error| failed(&error))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(&error))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(identity.certificate_name());
    let name = name.map_err(|error| failed(&error))?;
    let connector = tokio_rustls::TlsConnector::from(Arc::new(tls));
    let secured = connector.connect(name, stream).await;
    Ok(Box::new(secured.map_err(|error| failed(&error))?))
}

/// Asks the node and writes what it sends into `folder`; the manifest is still to be
/// written.
async fn receive(
    config: &NodeConfig,
    identity: &strowger_cluster::identity::Identity,
    token: &str,
    folder: &Path,
) -> Result<Manifest, Fault> {
    let mut stream = connect(config, identity).await?;
    // In HTTP/1.0 a body goes on until the connection ends (RFC 9112 §6.3): no chunks.
    let asked = format!("GET /v1/backup HTTP/1.0\r\nAuthorization: Bearer {token}\r\n\r\n");
    let sent = stream.write_all(asked.as_bytes()).await;
    sent.map_err(|error| unreachable(config, error))?;
    let mut stream = BufReader::with_capacity(1 << 20, stream);
    let mut status = String::new();
    let mut line = String::new();
    loop {
        line.clear();
        let mut bounded = (&mut stream).take(16 << 10);
        let reading = bounded.read_line(&mut line);
        match tokio::time::timeout(limits::BACKUP_STALL_MAX, reading).await {
            Ok(Ok(length)) if length > 0 => {}
            _ => return Err(unreachable(config, "it hung up")),
        }
        if status.is_empty() {
            status.clone_from(&line);
        }
        if line == "\r\n" {
            break;
        }
    }
    if status.split(' ').nth(1) != Some("200") {
        let mut body = Vec::new();
        let _ = stream.take(64 << 10).read_to_end(&mut body).await;
        return Err(match serde_json::from_slice::<ErrorBody>(&body) {
            Ok(ErrorBody { error }) => {
                let message = format!("{}: {}", error.code, error.what);
                Fault::of(
                    code::BACKUP_FAILED,
                    &message,
                    error.next.unwrap_or_default(),
                )
            }
            Err(_) => unreachable(config, status.trim()),
        });
    }
    let taken = write_frames(&mut stream, folder).await;
    taken.map_err(|why| {
        let next = "look into the node's log, and try again";
        Fault::new(code::BACKUP_FAILED, why, next).at(config.file.display().to_string())
    })
}

/// A file being written, with its hash.
struct Writing {
    path: String,
    file: File,
    hasher: blake3::Hasher,
    bytes: u64,
}

impl Writing {
    fn finish(self) -> std::io::Result<FileHash> {
        self.file.sync_all()?;
        Ok(FileHash {
            path: self.path,
            bytes: self.bytes,
            blake3: self.hasher.finalize().to_hex().to_string(),
        })
    }
}

async fn frame(
    stream: &mut (impl AsyncRead + Unpin),
    hasher: &mut blake3::Hasher,
) -> Result<(Kind, Vec<u8>, blake3::Hash), String> {
    let before = hasher.finalize();
    let mut head = [0; 5];
    let reading = async {
        stream.read_exact(&mut head).await?;
        let [kind, length @ ..] = head;
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if length > limits::BACKUP_FRAME_BYTES_MAX {
            return Err(std::io::Error::other("a frame that is too long"));
        }
        let mut content = vec![0; length];
        stream.read_exact(&mut content).await?;
        Ok((kind, content))
    };
    let read = tokio::time::timeout(limits::BACKUP_STALL_MAX, reading).await;
    let read = read.map_err(|_| "the node sends no more".to_owned())?;
    let (kind, content) = read.map_err(|error| format!("the node broke it off: {error}"))?;
    hasher.update(&head);
    hasher.update(&content);
    let kind = Kind::from_byte(kind).ok_or("a frame of an unknown kind")?;
    Ok((kind, content, before))
}

fn parse<T: DeserializeOwned>(content: &[u8]) -> Result<T, String> {
    serde_json::from_slice(content).map_err(|error| error.to_string())
}

/// Writes the frames of a whole backup.
async fn write_frames(
    stream: &mut (impl AsyncRead + Unpin),
    folder: &Path,
) -> Result<Manifest, String> {
    let said = |error: std::io::Error| error.to_string();
    let mut hasher = blake3::Hasher::new();
    let (kind, content, _) = frame(stream, &mut hasher).await?;
    if kind != Kind::Head {
        return Err("it does not begin with its head".to_owned());
    }
    let head: Head = parse(&content)?;
    std::fs::create_dir(folder.join("blobs")).map_err(said)?;
    let rows_path = folder.join("rows");
    let mut rows = Some(RowsFile::create(&rows_path).map_err(said)?);
    let mut files = Vec::new();
    let mut blob: Option<Writing> = None;
    let end: End = loop {
        let (kind, content, before) = frame(stream, &mut hasher).await?;
        if kind != Kind::Rows
            && let Some(rows) = rows.take()
        {
            rows.finish().map_err(said)?;
            files.push(hash_file(&rows_path, "rows").map_err(said)?);
        }
        if kind != Kind::Piece
            && let Some(done) = blob.take()
        {
            files.push(done.finish().map_err(said)?);
        }
        match kind {
            Kind::Rows => match &mut rows {
                Some(rows) => rows.add(&content).map_err(said)?,
                None => return Err("rows after the last of them".to_owned()),
            },
            Kind::Blob => {
                let path = format!("blobs/{}", hex::encode(&content));
                blob = Some(Writing {
                    file: File::create_new(folder.join(&path)).map_err(said)?,
                    path,
                    hasher: blake3::Hasher::new(),
                    bytes: 0,
                });
            }
            Kind::Piece => {
                let blob = blob.as_mut().ok_or("bytes of no file")?;
                blob.file.write_all(&content).map_err(said)?;
                blob.hasher.update(&content);
                blob.bytes += u64::try_from(content.len()).unwrap_or(u64::MAX);
            }
            Kind::End => {
                let end: End = parse(&content)?;
                if before.to_hex().as_str() != end.blake3 {
                    return Err("it arrived damaged".to_owned());
                }
                break end;
            }
            Kind::Head => return Err("it begins twice".to_owned()),
        }
    };
    File::open(folder.join("blobs"))
        .and_then(|blobs| blobs.sync_all())
        .map_err(said)?;
    Ok(Manifest {
        format: FORMAT,
        cluster: head.cluster,
        name: head.name,
        node: head.node,
        taken: head.taken,
        state_hash: end.state_hash,
        feature_level: end.feature_level,
        version: head.version,
        taken_at: head.taken_at,
        rows: end.rows,
        files,
    })
}

/// Reads a written file back: the hash is of what the disk gives.
fn hash_file(path: &Path, name: &str) -> std::io::Result<FileHash> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(File::open(path)?)?;
    Ok(FileHash {
        path: name.to_owned(),
        bytes: std::fs::metadata(path)?.len(),
        blake3: hasher.finalize().to_hex().to_string(),
    })
}
