//! Where the built programs and the repository's files are.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The folder of the programs under test: `STROWGER_BIN_DIR`, else the profile folder the
/// running test program lies in.
pub fn folder() -> PathBuf {
    if let Some(folder) = std::env::var_os("STROWGER_BIN_DIR") {
        return PathBuf::from(folder);
    }
    let own = std::env::current_exe().expect("a running program has a path");
    let deps = own.parent().expect("a program lies in a folder");
    match deps.file_name().and_then(|name| name.to_str()) {
        Some("deps") => deps
            .parent()
            .expect("deps lies in the profile folder")
            .to_owned(),
        _ => deps.to_owned(),
    }
}

/// The path of `name`; panics with the command that builds it when it is not there.
pub fn path(name: &str) -> PathBuf {
    path_in(&folder(), name)
}

/// The same in another folder.
pub fn path_in(folder: &Path, name: &str) -> PathBuf {
    let path = folder.join(name);
    assert!(
        path.is_file(),
        "{} is not built; `make test` builds it before the tests run",
        path.display()
    );
    path
}

/// A command of the daemon.
pub fn strowgerd() -> Command {
    Command::new(path("strowgerd"))
}

/// A command of the operators' program.
pub fn strowger() -> Command {
    Command::new(path("strowger"))
}

/// Runs `command` and returns its exit code, stdout and stderr as text.
pub fn run(command: &mut Command) -> (i32, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = command
        .output()
        .unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (status.code().unwrap_or(-1), text(stdout), text(stderr))
}

/// Runs `ip` (iproute2) with these words; the error is what it said.
///
/// # Errors
/// It is not installed, or did not succeed.
pub fn ip(words: &str) -> Result<(), String> {
    let mut command = Command::new("ip");
    let output = command.args(words.split(' ')).output();
    let output = output.map_err(|error| format!("ip: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("ip {words}: {}", said.trim()))
}

/// The root of the repository.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ lies in the repository")
}

/// A file of the test crate, such as `sites/basic.toml`.
pub fn fixture(relative: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(relative)
}
