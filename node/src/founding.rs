//! `strowgerd init` and `strowgerd join`: how a node gets its identity and the file with
//! the admin token.

use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use strowger_cluster::IdentityError;
use strowger_cluster::identity::{self, Identity};

use crate::config::NodeConfig;
use crate::fault::{Fault, code};
use crate::secrets::Vault;

/// Founds a cluster of this node alone.
///
/// # Errors
/// When the data folder cannot be written or holds an identity already.
pub fn init(config: &NodeConfig, name: &str) -> Result<Identity, Fault> {
    prepare(config)?;
    let made = identity::init(&config.data, name, config.id, cluster_address(config));
    let identity = made.map_err(|error| of_identity(&error))?;
    write_token(&config.data, &identity)?;
    Ok(identity)
}

/// Joins the cluster of `token`. The token must have been made for this node's number,
/// or for whichever is free.
///
/// # Errors
/// Each reason has its own code; nothing is kept of a join that failed.
pub fn join(config: &NodeConfig, token: &str) -> Result<Identity, Fault> {
    prepare(config)?;
    let joined = identity::join(&config.data, token.trim(), cluster_address(config));
    let identity = joined.map_err(|error| {
        let next = "make a new token with `strowger node invite` and use it once, in time";
        Fault::of(code::START, &error, next)
    })?;
    write_token(&config.data, &identity)?;
    Ok(identity)
}

/// The identity of the node and the keys of its cluster; renews the token file.
///
/// # Errors
/// When there is no identity, or it is another node's.
pub fn load(config: &NodeConfig) -> Result<(Identity, Vault), Fault> {
    let identity = Identity::load(&config.data).map_err(|error| of_identity(&error))?;
    if identity.node != config.id {
        let what = format!(
            "the data folder belongs to node {}, not {}",
            identity.node, config.id
        );
        let next = "correct [node] id or data";
        let place = config.file.display().to_string();
        return Err(Fault::new(code::NODE_FILE_VALUE, what, next).at(place));
    }
    write_token(&config.data, &identity)?;
    let vault = Vault::new(|context| identity.derive_key(context));
    Ok((identity, vault))
}

/// Where the other nodes reach this one.
pub fn cluster_address(config: &NodeConfig) -> SocketAddr {
    SocketAddr::new(config.listen.address, config.listen.cluster)
}

/// The file with the admin token.
pub fn token_file(data: &Path) -> PathBuf {
    data.join("admin.token")
}

fn prepare(config: &NodeConfig) -> Result<(), Fault> {
    std::fs::create_dir_all(&config.data).map_err(|error| of_data(&config.data, &error))
}

fn of_data(path: &Path, error: &std::io::Error) -> Fault {
    let next = "make the folder writable, or correct [node] data";
    Fault::new(code::DATA_FOLDER, error.to_string(), next).at(path.display().to_string())
}

fn of_identity(error: &IdentityError) -> Fault {
    let next = match error {
        IdentityError::Missing(_) => "run `strowgerd init` or `strowgerd join` first",
        IdentityError::Exists(_) => "run it, or name another data folder",
        _ => "see the page of this code",
    };
    Fault::of(code::DATA_FOLDER, error, next)
}

/// Writes the admin token for its owner's eyes only, unless it stands there already.
fn write_token(data: &Path, identity: &Identity) -> Result<(), Fault> {
    let path = token_file(data);
    let vault = Vault::new(|context| identity.derive_key(context));
    let text = format!("{}\n", vault.admin_token());
    if std::fs::read_to_string(&path).is_ok_and(|known| known == text) {
        return Ok(());
    }
    let draft = path.with_extension("new");
    let written = || -> std::io::Result<()> {
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        options.open(&draft)?.write_all(text.as_bytes())?;
        std::fs::rename(&draft, &path)
    };
    written().map_err(|error| of_data(&path, &error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn config(folder: &Path, id: u64) -> NodeConfig {
        let text = format!("[node]\nid = {id}\n[listen]\naddress = \"127.0.0.1\"\n");
        NodeConfig::parse(&folder.join("node.toml"), &text, std::iter::empty()).expect("valid")
    }

    #[test]
    fn a_founded_node_has_identity_and_token_and_is_not_founded_twice() {
        let folder = tempfile::tempdir().expect("a folder");
        let config = config(folder.path(), 1);
        let missing = load(&config).err().expect("nothing there");
        assert_eq!(missing.code, "SW0410");
        init(&config, "lab").expect("founded");
        let again = init(&config, "lab").expect_err("founded already");
        assert_eq!(again.code, "SW0411");
        let (identity, vault) = load(&config).expect("loaded");
        assert_eq!(identity.node, 1);
        let token = std::fs::read_to_string(token_file(&config.data)).expect("token");
        assert!(vault.is_admin(token.trim()));
        let mode = std::fs::metadata(token_file(&config.data))
            .expect("token")
            .permissions();
        assert_eq!(mode.mode() & 0o777, 0o600);
    }

    #[test]
    fn another_nodes_data_is_refused_and_so_is_a_wrong_token() {
        let folder = tempfile::tempdir().expect("a folder");
        init(&config(folder.path(), 1), "lab").expect("founded");
        let fault = load(&config(folder.path(), 2))
            .err()
            .expect("node 1's data");
        assert_eq!(fault.code, code::NODE_FILE_VALUE);
        let empty = tempfile::tempdir().expect("a folder");
        let fault = join(&config(empty.path(), 2), "not-a-token").expect_err("no token");
        assert_eq!(fault.code, "SW0430");
    }
}
