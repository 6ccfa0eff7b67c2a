//! `strowgerd restore`: makes the first node of a new cluster from a backup.

use std::path::{Path, PathBuf};

use strowger_cluster::identity;
use strowger_cluster::offline::{self, Founding};
use strowger_core::ids::{Extension, TenantId};
use strowger_core::ports::Table;
use strowger_core::state::command::Command;
use strowger_core::state::machine::encode_command;
use strowger_core::state::{ExchangeMachine, SharedState};

use super::manifest::Manifest;
use crate::blobs::BlobStore;
use crate::config::NodeConfig;
use crate::doctor::Idle;
use crate::fault::{Fault, code};
use crate::founding;
use crate::secrets::{SealKey, Vault};

/// What the verb is told.
#[derive(Clone, Debug, clap::Args)]
pub struct RestoreOptions {
    /// Folder of the backup
    #[arg(long, value_name = "DIR")]
    from: PathBuf,
    /// Node file of the first node of the new cluster; its data folder must be empty
    #[arg(long, value_name = "FILE", required_unless_present = "check")]
    config: Option<PathBuf>,
    /// Key that was written with the backup; without it every password is lost
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Go on without the key
    #[arg(long, conflicts_with = "key")]
    without_key: bool,
    /// Only verify the backup
    #[arg(long)]
    check: bool,
}

/// Verifies a backup and makes a new cluster of one node of it.
///
/// # Errors
/// Each reason has its own code. The data folder is no node's until the last step, so that
/// what a failed restore leaves never runs.
pub fn restore(options: &RestoreOptions) -> Result<(), Fault> {
    let manifest = Manifest::verify(&options.from)?;
    let bytes: u64 = manifest.files.iter().map(|file| file.bytes).sum();
    let Some(config) = options.config.as_ref().filter(|_| !options.check) else {
        println!(
            "whole cluster={} entry={} taken_at={} rows={} bytes={bytes}",
            manifest.cluster, manifest.taken.index, manifest.taken_at, manifest.rows
        );
        return Ok(());
    };
    let config = NodeConfig::load(config)?;
    let old_key = read_key(options)?;
    prepare(&config.data)?;
    let identity = identity::new(
        &manifest.name,
        config.id,
        founding::cluster_address(&config),
    );
    let failed = |error: &dyn std::fmt::Display| {
        let next = "clear the data folder and try again, or use another backup";
        Fault::of(code::RESTORE_FAILED, error, next).at(config.data.display().to_string())
    };
    let identity = identity.map_err(|error| failed(&error))?;
    let vault = Vault::new(|context| identity.derive_key(context));
    restore_blobs(&manifest, &options.from, &config.data).map_err(|error| failed(&error))?;
    let (mut opened, mut lost) = (0_u64, 0_u64);
    let mut edit = |table: Table, key: &[u8], value: Vec<u8>| match table {
        // Whoever asked is no node of this cluster.
        Table::Reply => None,
        Table::Secret => {
            let resealed = old_key
                .as_ref()
                .and_then(|old| reseal(&vault, old, key, &value));
            match &resealed {
                Some(_) => opened += 1,
                None => lost += 1,
            }
            resealed
        }
        _ => Some(value),
    };
    let founding = Founding {
        identity: &identity,
        rows: &options.from.join("rows"),
        taken: manifest.taken,
        first: encode_command(&Command::Refounded),
    };
    let found = offline::found_from(&config.data, &founding, &mut edit, |rows| {
        check_state(&manifest, rows)
    });
    let rows = found.map_err(|error| failed(&error))?;
    println!(
        "restored cluster={} node={} entry={} rows={rows} secrets={opened} bytes={bytes} token={}",
        identity.cluster,
        identity.node,
        manifest.taken.index,
        founding::token_file(&config.data).display()
    );
    if lost > 0 {
        eprintln!(
            "{lost} passwords could not be opened: give these extensions new ones with \
             `strowger extension import`"
        );
    }
    founding::load(&config).map(drop)
}

/// The key of the backup's cluster, or the word that there is none.
fn read_key(options: &RestoreOptions) -> Result<Option<SealKey>, Fault> {
    match &options.key {
        Some(file) => {
            let wrong = |what: String| {
                let next = "name the file `strowgerd backup --key-to` wrote with this backup";
                Fault::new(code::BACKUP_KEY, what, next).at(file.display().to_string())
            };
            let text = std::fs::read_to_string(file).map_err(|error| wrong(error.to_string()))?;
            let key = SealKey::parse(text.trim());
            let key = key.ok_or_else(|| wrong("it is no key of a cluster".to_owned()))?;
            Ok(Some(key))
        }
        None if options.without_key => Ok(None),
        None => {
            let what = "the passwords in this backup are sealed";
            let next = "name the key with --key; with --without-key all passwords are lost";
            Err(Fault::new(code::BACKUP_KEY, what, next))
        }
    }
}

/// The target: made when it is not there, refused when anything is in it.
fn prepare(data: &Path) -> Result<(), Fault> {
    let refused = |what: String| {
        let next = "name an empty data folder; a restore replaces nothing";
        Fault::new(code::RESTORE_TARGET, what, next).at(data.display().to_string())
    };
    let listed = std::fs::create_dir_all(data).and_then(|()| std::fs::read_dir(data));
    let mut listed = listed.map_err(|error| refused(error.to_string()))?;
    match listed.next() {
        None => Ok(()),
        Some(_) => Err(refused("it is not empty".to_owned())),
    }
}

/// Copies the sound files; the store checks each against its name when it is read.
fn restore_blobs(manifest: &Manifest, from: &Path, data: &Path) -> std::io::Result<()> {
    let store = BlobStore::new(data.join("blobs"));
    for file in manifest.blobs() {
        store.put_blocking(&std::fs::read(from.join(&file.path))?)?;
    }
    Ok(())
}

/// A secret of the old cluster, sealed for the new one.
fn reseal(vault: &Vault, old: &SealKey, key: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(key).ok()?;
    let (tenant, extension) = text.split_once('\0')?;
    vault.reseal(
        old,
        &TenantId::from(tenant),
        &Extension::from(extension),
        sealed,
    )
}

/// Loads the state from the rows that were written and compares it with the manifest.
fn check_state(
    manifest: &Manifest,
    rows: &dyn strowger_core::ports::RowsRead,
) -> Result<(), String> {
    use strowger_core::ports::Machine;
    let state = SharedState::default();
    let mut machine = ExchangeMachine::new(state.clone(), Box::new(Idle));
    machine.restore(rows);
    let state = state.read();
    let (hash, index) = (hex::encode(state.meta.hash), state.meta.index);
    if hash != manifest.state_hash || index > manifest.taken.index {
        let (wanted, at) = (&manifest.state_hash, manifest.taken.index);
        return Err(format!(
            "the state {hash} at entry {index} is not the backup's {wanted} at {at}"
        ));
    }
    match state.check().first() {
        Some(broken) => Err(format!("the state is broken: {broken}")),
        None => Ok(()),
    }
}
