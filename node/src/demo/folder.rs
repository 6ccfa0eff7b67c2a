//! The demonstration's folder: what it holds, who may use it, what is never touched.
//!
//! A folder is ours when it holds our marker, which is also the lock that lets one
//! demonstration use it at a time. Nothing else is ever written to or deleted: a folder
//! that holds something of somebody else's is refused, and starting over removes only
//! the names listed here.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

use crate::fault::{Fault, code};

/// The marker and lock.
const MARKER: &str = "demo.lock";
/// Files at the top of the folder, apart from the marker and the site's own files.
const FILES: [&str; 3] = ["phones.csv", "admin.token", "site.toml"];
/// Nodes of a demonstration: a cluster has at most five voters.
pub(super) const NODES_MAX: u8 = 5;

/// Port of each node's interface.
pub(super) const API_PORT: u16 = 8080;
/// Port of each node for its peers.
pub(super) const CLUSTER_PORT: u16 = 7400;
/// Port of SIP on each service address.
pub(super) const SIP_PORT: u16 = 5060;

/// A folder in use by this process.
#[derive(Debug)]
pub(super) struct Folder {
    root: PathBuf,
    nodes: u8,
    /// Held until the demonstration ends.
    _lock: Flock<File>,
}

impl Folder {
    /// Opens `dir` for `nodes` nodes, making it when it is not there. With `fresh` the
    /// contents of an earlier demonstration are to be removed by [`Folder::clear`].
    ///
    /// # Errors
    /// `SW0501` when it holds something else, another demonstration uses it, or it was
    /// made for another number of nodes.
    pub(super) fn open(dir: &Path, nodes: u8, fresh: bool) -> Result<Self, Fault> {
        fs::create_dir_all(dir).map_err(|error| trouble(dir, &error))?;
        // The console and the nodes get paths that hold wherever they run.
        let root = fs::canonicalize(dir).map_err(|error| trouble(dir, &error))?;
        let marker = root.join(MARKER);
        if !marker.is_file() {
            refuse_strangers(&root)?;
        }
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&marker)
            .map_err(|error| trouble(&marker, &error))?;
        let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| {
            if error != nix::errno::Errno::EWOULDBLOCK {
                return trouble(&marker, &error);
            }
            let what = "another demonstration uses this folder";
            let next = "end it, or name another folder with --dir";
            Fault::new(code::DEMO_FOLDER, what, next).at(root.display().to_string())
        })?;
        let folder = Self {
            root,
            nodes,
            _lock: lock,
        };
        let present = (1..=NODES_MAX).filter(|number| folder.node_file(*number).is_file());
        let present = present.max().unwrap_or(0);
        if present > nodes && !fresh {
            let what = format!("it was made for {present} nodes, not {nodes}");
            let next = format!("use --nodes {present}, or --fresh to start over");
            let fault = Fault::new(code::DEMO_FOLDER, what, next);
            return Err(fault.at(folder.root.display().to_string()));
        }
        Ok(folder)
    }

    /// Removes what an earlier demonstration left, and nothing else. Its nodes must have
    /// ended.
    ///
    /// # Errors
    /// `SW0501` when something cannot be removed.
    pub(super) fn clear(&self) -> Result<(), Fault> {
        for number in 1..=NODES_MAX {
            let folder = self.node_folder(number);
            match fs::remove_dir_all(&folder) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(trouble(&folder, &error));
                }
                Ok(()) | Err(_) => {}
            }
        }
        // The site's own files stay: they are written again when their content differs.
        for name in FILES {
            let path = self.root.join(name);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(trouble(&path, &error));
                }
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    /// The folder itself, absolute.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Numbers of the nodes.
    pub(super) fn numbers(&self) -> std::ops::RangeInclusive<u8> {
        1..=self.nodes
    }

    /// Folder of a node.
    pub(super) fn node_folder(&self, number: u8) -> PathBuf {
        self.root.join(format!("n{number}"))
    }

    /// Node file of a node.
    pub(super) fn node_file(&self, number: u8) -> PathBuf {
        self.node_folder(number).join("node.toml")
    }

    /// Data folder of a node.
    pub(super) fn data(&self, number: u8) -> PathBuf {
        self.node_folder(number).join("data")
    }

    /// Pid file of a node.
    pub(super) fn pid_file(&self, number: u8) -> PathBuf {
        self.node_folder(number).join("pid")
    }

    /// What a node says on its way up, when it is no log yet.
    pub(super) fn start_log(&self, number: u8) -> PathBuf {
        self.node_folder(number).join("log/start.log")
    }

    /// The admin token.
    pub(super) fn token_file(&self) -> PathBuf {
        self.root.join("admin.token")
    }

    /// The site's text, written once it is applied.
    pub(super) fn site_file(&self) -> PathBuf {
        self.root.join("site.toml")
    }

    /// The extensions' passwords.
    pub(super) fn phones_file(&self) -> PathBuf {
        self.root.join("phones.csv")
    }

    /// Writes the node file of a node that has none.
    ///
    /// # Errors
    /// `SW0501` when it cannot be written.
    pub(super) fn write_node_file(&self, number: u8) -> Result<(), Fault> {
        let path = self.node_file(number);
        if path.is_file() {
            return Ok(());
        }
        let log = self.node_folder(number).join("log");
        fs::create_dir_all(&log).map_err(|error| trouble(&log, &error))?;
        write(&path, node_file(number).as_bytes(), 0o644)
    }

    /// The passwords as written; empty when there is no file.
    ///
    /// # Errors
    /// `SW0501` when the file cannot be read or understood.
    pub(super) fn phones(&self) -> Result<BTreeMap<String, String>, Fault> {
        let path = self.phones_file();
        if !path.is_file() {
            return Ok(BTreeMap::new());
        }
        let mut reader = csv::Reader::from_path(&path).map_err(|error| trouble(&path, &error))?;
        let rows: Result<Vec<(String, String)>, _> = reader.deserialize().collect();
        rows.map(|rows| rows.into_iter().collect())
            .map_err(|error| trouble(&path, &error))
    }

    /// Writes the passwords, for the owner's eyes only.
    ///
    /// # Errors
    /// `SW0501` when the file cannot be written.
    pub(super) fn write_phones(&self, phones: &BTreeMap<String, String>) -> Result<(), Fault> {
        let path = self.phones_file();
        let mut out = csv::Writer::from_writer(Vec::new());
        let rows = phones.iter().map(|(extension, word)| [extension, word]);
        out.write_record(["extension", "password"])
            .and_then(|()| {
                for row in rows {
                    out.write_record(row)?;
                }
                Ok(())
            })
            .map_err(|error| trouble(&path, &error))?;
        let text = out
            .into_inner()
            .map_err(|error| trouble(&path, error.error()))?;
        write(&path, &text, 0o600)
    }
}

/// A node's own address: 127.0.0.n.
pub(super) fn address(number: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(127, 0, 0, number))
}

/// Where a node's interface is.
pub(super) fn api_address(number: u8) -> SocketAddr {
    SocketAddr::new(address(number), API_PORT)
}

/// Where a node's peers reach it.
pub(super) fn cluster_address(number: u8) -> SocketAddr {
    SocketAddr::new(address(number), CLUSTER_PORT)
}

/// Writes a file whole or not at all, with its mode from the beginning.
///
/// # Errors
/// `SW0501` when it cannot be written.
pub(super) fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Fault> {
    let draft = path.with_extension("new");
    let written = || -> std::io::Result<()> {
        if let Err(error) = fs::remove_file(&draft)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            return Err(error);
        }
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(mode);
        let mut file = options.open(&draft)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&draft, path)
    };
    written().map_err(|error| trouble(path, &error))
}

/// A folder without our marker must be empty.
fn refuse_strangers(root: &Path) -> Result<(), Fault> {
    let mut entries = fs::read_dir(root).map_err(|error| trouble(root, &error))?;
    let Some(entry) = entries.next() else {
        return Ok(());
    };
    let entry = entry.map_err(|error| trouble(root, &error))?;
    let name = entry.file_name();
    let what = format!(
        "the folder holds {} and is no demonstration's",
        name.display()
    );
    let next = "name an empty or new folder with --dir";
    Err(Fault::new(code::DEMO_FOLDER, what, next).at(root.display().to_string()))
}

fn trouble(path: &Path, error: &dyn std::fmt::Display) -> Fault {
    let next = "name a folder you may write to with --dir";
    Fault::new(code::DEMO_FOLDER, error.to_string(), next).at(path.display().to_string())
}

fn node_file(number: u8) -> String {
    let address = address(number);
    format!(
        "# Node {number} of the demonstration. A dead node is started again with\n\
         #   strowgerd run --config THIS_FILE\n\
         \n[node]\nid = {number}\ndata = \"data\"\n\
         \n[listen]\naddress = \"{address}\"\nsip_udp = {SIP_PORT}\nsip_tcp = {SIP_PORT}\n\
         sip_tls = 5061\nws = 5080\nwss = 5443\napi = {API_PORT}\ncluster = {CLUSTER_PORT}\n\
         rtp = \"20000-29999\"\n\
         \n[limits]\nper_source_rps = 200\ntrusted_sources = [\"127.0.0.1/32\"]\n\
         \n[log]\nfile = \"log/strowgerd.log\"\nlevel = \"info\"\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::NodeConfig;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn node_files_are_ones_the_daemon_reads() {
        for number in 1..=NODES_MAX {
            let text = node_file(number);
            let path = Path::new("/d/node.toml");
            let config = NodeConfig::parse(path, &text, std::iter::empty()).expect("valid");
            assert_eq!(config.id, u64::from(number));
            assert_eq!(config.listen.address, address(number));
            let (api, cluster) = (config.listen.api, config.listen.cluster);
            assert_eq!((api, cluster), (API_PORT, CLUSTER_PORT));
            assert_eq!(config.data, Path::new("/d/data"));
        }
    }

    #[test]
    fn somebody_elses_folder_is_refused_and_untouched() {
        let dir = tempfile::tempdir().expect("folder");
        fs::write(dir.path().join("thesis.txt"), "years of work").expect("write");
        for fresh in [false, true] {
            let fault = Folder::open(dir.path(), 3, fresh).expect_err("not ours");
            assert_eq!(fault.code, code::DEMO_FOLDER);
            assert!(fault.to_string().contains("thesis.txt"), "{fault}");
        }
        assert_eq!(fs::read_dir(dir.path()).expect("read").count(), 1);
    }

    #[test]
    fn one_demonstration_at_a_time_uses_a_folder() {
        let dir = tempfile::tempdir().expect("folder");
        let path = dir.path().join("demo");
        let first = Folder::open(&path, 3, false).expect("new");
        let fault = Folder::open(&path, 3, false).expect_err("in use");
        assert!(fault.to_string().contains("another demonstration"));
        drop(first);
        Folder::open(&path, 3, false).expect("free again");
    }

    #[test]
    fn starting_over_removes_our_names_only() {
        let dir = tempfile::tempdir().expect("folder");
        let folder = Folder::open(dir.path(), 3, false).expect("new");
        for number in folder.numbers() {
            folder.write_node_file(number).expect("written");
        }
        let phones = BTreeMap::from([("1001".to_owned(), "a,\"b".to_owned())]);
        folder.write_phones(&phones).expect("written");
        assert_eq!(folder.phones().expect("read"), phones);
        fs::write(dir.path().join("notes.txt"), "mine").expect("write");
        folder.clear().expect("cleared");
        let mut left: Vec<_> = fs::read_dir(dir.path())
            .expect("read")
            .flatten()
            .map(|entry| entry.file_name())
            .collect();
        left.sort();
        assert_eq!(left, [MARKER, "notes.txt"]);
    }

    #[test]
    fn the_number_of_nodes_is_kept() {
        let dir = tempfile::tempdir().expect("folder");
        let folder = Folder::open(dir.path(), 3, false).expect("new");
        folder.write_node_file(3).expect("written");
        drop(folder);
        let fault = Folder::open(dir.path(), 1, false).expect_err("made for three");
        assert!(fault.to_string().contains("--nodes 3"), "{fault}");
        Folder::open(dir.path(), 1, true).expect("starting over");
    }

    #[test]
    fn passwords_are_for_the_owner_only() {
        let dir = tempfile::tempdir().expect("folder");
        let folder = Folder::open(dir.path(), 3, false).expect("new");
        fs::write(folder.phones_file(), "old").expect("write");
        folder.write_phones(&BTreeMap::new()).expect("written");
        let mode = fs::metadata(folder.phones_file())
            .expect("there")
            .permissions();
        assert_eq!(mode.mode() & 0o777, 0o600);
        let text = fs::read_to_string(folder.phones_file()).expect("read");
        assert_eq!(text, "extension,password\n");
    }
}
