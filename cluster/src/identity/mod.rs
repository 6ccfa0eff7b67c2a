//! Who a node is: its number, its cluster, its certificate and the cluster's authority.
//!
//! Files under `<data>/identity`, readable by the owner only. Written once by [`init`]
//! (first node) or [`join`] (the others). Every member holds the authority's key, so any
//! of them can admit a newcomer. Certificates name node and cluster as
//! `n<node>.<cluster>.strowger`; both are checked on every connection.

mod certificate;
mod join;
mod token;

use std::fmt;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use strowger_core::ports::NodeNumber;

use crate::error::IdentityError;
pub(crate) use certificate::{NewKey, hash_of, name_of, subject_of};
pub use join::join;
pub(crate) use join::{BootstrapReply, BootstrapRequest};
pub use token::Token;

/// Names a cluster for ever; made at random by [`init`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ClusterId(pub [u8; 16]);

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClusterId({self})")
    }
}

/// The identity of a node.
#[derive(Clone, Serialize, Deserialize)]
pub struct Identity {
    /// Its cluster.
    pub cluster: ClusterId,
    /// The cluster's name, for people.
    pub name: String,
    /// Its number.
    pub node: NodeNumber,
    /// True on the node that founded the cluster.
    pub founder: bool,
    /// Members known when the identity was written, to find the cluster at first start.
    pub seeds: Vec<(NodeNumber, String)>,
    /// Certificate of the node, DER.
    pub(crate) certificate: Vec<u8>,
    /// Private key of the node, PKCS #8 DER.
    pub(crate) key: Vec<u8>,
    /// Certificate of the authority, DER.
    pub(crate) authority: Vec<u8>,
    /// Private key of the authority, PKCS #8 DER.
    pub(crate) authority_key: Vec<u8>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Identity {{ node: {}, cluster: {} }}",
            self.node, self.cluster
        )
    }
}

const FILE: &str = "identity";
const LIVES: &str = "lives";
const VERSION: u8 = 1;

impl Identity {
    /// Reads the identity under `data_dir`.
    ///
    /// # Errors
    /// [`IdentityError::Missing`] when there is none, [`IdentityError::Damaged`] when it
    /// cannot be understood.
    pub fn load(data_dir: &Path) -> Result<Self, IdentityError> {
        let path = file(data_dir);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(IdentityError::Missing(data_dir.to_owned()));
            }
            Err(source) => return Err(IdentityError::File { path, source }),
        };
        let damaged = |why: &str| IdentityError::Damaged {
            path: path.clone(),
            why: why.into(),
        };
        let (sum, rest) = bytes
            .split_first_chunk::<32>()
            .ok_or_else(|| damaged("too short"))?;
        if blake3::hash(rest) != *sum {
            return Err(damaged("the checksum does not match"));
        }
        match rest.split_first() {
            Some((&VERSION, body)) => {
                postcard::from_bytes(body).map_err(|error| damaged(&error.to_string()))
            }
            _ => Err(damaged("written by another version")),
        }
    }

    /// Writes the identity under `data_dir`, synced; refuses to replace one.
    pub(crate) fn store(&self, data_dir: &Path) -> Result<(), IdentityError> {
        let path = file(data_dir);
        if path.exists() {
            return Err(IdentityError::Exists(data_dir.to_owned()));
        }
        let at = |source| IdentityError::File {
            path: path.clone(),
            source,
        };
        let dir = path.parent().unwrap_or(data_dir);
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(at)?;
        let mut body = vec![VERSION];
        body.extend(crate::store::encode(self));
        let mut bytes = blake3::hash(&body).as_bytes().to_vec();
        bytes.extend(body);
        let draft = path.with_extension("new");
        let mut options = fs::OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut out = options.open(&draft).map_err(at)?;
        out.write_all(&bytes)
            .and_then(|()| out.sync_all())
            .map_err(at)?;
        fs::rename(&draft, &path).map_err(at)?;
        fs::File::open(dir)
            .and_then(|dir| dir.sync_all())
            .map_err(at)
    }
}

fn file(data_dir: &Path) -> PathBuf {
    data_dir.join(FILE).join("node.identity")
}

/// How many lives the node at `data_dir` has had, noted beside its identity: a store that
/// knows of fewer is an old one, or was lost.
///
/// # Errors
/// [`IdentityError::File`] when it cannot be read, [`IdentityError::Damaged`] when it is no
/// number.
pub(crate) fn lives(data_dir: &Path) -> Result<u64, IdentityError> {
    let path = data_dir.join(FILE).join(LIVES);
    match fs::read_to_string(&path) {
        Ok(text) => text.trim().parse().map_err(|_| IdentityError::Damaged {
            path,
            why: "not a number".to_owned(),
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(0),
        Err(source) => Err(IdentityError::File { path, source }),
    }
}

/// Notes that a life has begun, synced.
///
/// # Errors
/// [`IdentityError::File`] when it cannot be written.
pub(crate) fn note_life(data_dir: &Path, life: u64) -> Result<(), IdentityError> {
    let dir = data_dir.join(FILE);
    let path = dir.join(LIVES);
    let draft = dir.join("lives.new");
    let written = || -> std::io::Result<()> {
        let mut file = fs::File::create(&draft)?;
        writeln!(file, "{life}")?;
        file.sync_all()?;
        fs::rename(&draft, &path)?;
        fs::File::open(&dir)?.sync_all()
    };
    written().map_err(|source| IdentityError::File {
        path: path.clone(),
        source,
    })
}

/// Founds a cluster: makes its authority and the certificate of its first node, number
/// `node`, dialled at `address`.
///
/// # Errors
/// [`IdentityError`] when `data_dir` already holds an identity or cannot be written.
pub fn init(
    data_dir: &Path,
    name: &str,
    node: NodeNumber,
    address: std::net::SocketAddr,
) -> Result<Identity, IdentityError> {
    if file(data_dir).exists() {
        return Err(IdentityError::Exists(data_dir.to_owned()));
    }
    let identity = new(name, node, address)?;
    identity.store(data_dir)?;
    Ok(identity)
}

/// The identity of the first node of a new cluster, written nowhere yet.
///
/// # Errors
/// [`IdentityError`] when the name or number cannot be used.
pub fn new(
    name: &str,
    node: NodeNumber,
    address: std::net::SocketAddr,
) -> Result<Identity, IdentityError> {
    if name.is_empty() || name.len() > 64 {
        return Err(IdentityError::Invalid(
            "a cluster name has 1 to 64 characters".into(),
        ));
    }
    if node == 0 {
        return Err(IdentityError::Invalid("node numbers start at 1".into()));
    }
    let cluster = ClusterId(rand::random());
    let (authority, authority_key) = certificate::authority(cluster, name)?;
    let key = NewKey::generate()?;
    let certificate = certificate::sign(
        &authority,
        &authority_key,
        cluster,
        node,
        &key.request(cluster)?,
    )?;
    let identity = Identity {
        cluster,
        name: name.to_owned(),
        node,
        founder: true,
        seeds: vec![(node, address.to_string())],
        certificate,
        key: key.into_der(),
        authority,
        authority_key,
    };
    Ok(identity)
}

impl Identity {
    /// A key that every member of this cluster derives alike and nobody else can, for
    /// the purpose named by `context`.
    pub fn derive_key(&self, context: &str) -> [u8; 32] {
        blake3::derive_key(context, &self.authority_key)
    }

    /// Certificate of the cluster's authority, DER: what clients of this node trust.
    pub fn authority_certificate(&self) -> &[u8] {
        &self.authority
    }

    /// The name in this node's certificate, which clients of it may ask for.
    pub fn certificate_name(&self) -> String {
        name_of(self.node, self.cluster)
    }

    /// Certificate and PKCS #8 private key of this node, DER, for serving TLS.
    pub fn tls_identity(&self) -> (&[u8], &[u8]) {
        (&self.certificate, &self.key)
    }

    /// Signs a newcomer's request for number `node`.
    pub(crate) fn sign(&self, node: NodeNumber, request: &[u8]) -> Result<Vec<u8>, IdentityError> {
        certificate::sign(
            &self.authority,
            &self.authority_key,
            self.cluster,
            node,
            request,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_survives_the_disk_and_damage_is_named() {
        let dir = tempfile::tempdir().expect("temporary directory");
        assert!(matches!(
            Identity::load(dir.path()),
            Err(IdentityError::Missing(_))
        ));
        let address = "127.0.0.1:7000".parse().expect("address");
        let made = init(dir.path(), "lab", 1, address).expect("init");
        assert!(matches!(
            init(dir.path(), "lab", 1, address),
            Err(IdentityError::Exists(_))
        ));
        let read = Identity::load(dir.path()).expect("load");
        assert_eq!((read.node, read.cluster), (1, made.cluster));
        assert_eq!(subject_of(&read.certificate), Some((1, made.cluster)));
        let path = file(dir.path());
        let mut bytes = fs::read(&path).expect("read");
        bytes[100] ^= 4;
        fs::write(&path, bytes).expect("write");
        assert!(matches!(
            Identity::load(dir.path()),
            Err(IdentityError::Damaged { .. })
        ));
    }
}
