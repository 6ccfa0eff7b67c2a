//! The set-up script: quick when nothing is missing, plain when it cannot help.
//!
//! The script runs for real; only the programs it asks about the machine (`dpkg-query`,
//! `id`, `sudo`, `apt-get`) are replaced, by small scripts in front of the path.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use strowger_tests::programs::{repository, run};

/// "Within seconds": what the script may take when everything is there.
const QUICK: Duration = Duration::from_secs(3);

fn setup(arguments: &[&str]) -> Command {
    let mut command = Command::new(repository().join("packaging/setup.sh"));
    command
        .args(arguments)
        .env_remove("ROCKSDB_LIB_DIR")
        .env_remove("ROCKSDB_STATIC");
    command
}

/// Puts scripts in front of the path.
fn pretend(command: &mut Command, folder: &Path, programs: &[(&str, &str)]) {
    use std::os::unix::fs::PermissionsExt;
    for (name, body) in programs {
        let path = folder.join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{body}\n")).expect("a temporary folder");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))
            .expect("our own file");
    }
    let path = std::env::var("PATH").expect("there is a path");
    command.env("PATH", format!("{}:{path}", folder.display()));
}

/// A cache folder in which RocksDB seems to be built.
fn full_cache(folder: &Path) -> String {
    let mut command = setup(&["run", "true"]);
    command.env("STROWGER_CACHE", folder);
    // The folder's name is the script's own business: let it say which one it looks for.
    let mut traced = Command::new("bash");
    traced
        .arg("-x")
        .arg(command.get_program())
        .args(["run", "true"])
        .env("STROWGER_CACHE", folder)
        .env_remove("ROCKSDB_LIB_DIR");
    let (_, _, trace) = run(&mut traced);
    let prefix = format!("{}/rocksdb-", folder.display());
    let at = trace
        .find(&prefix)
        .unwrap_or_else(|| panic!("no cache folder named in {trace}"));
    let rest: String = trace[at..]
        .chars()
        .take_while(|c| !c.is_whitespace())
        .collect();
    rest.trim_end_matches("/librocksdb.a").to_owned()
}

#[test]
fn a_prepared_machine_is_left_alone_at_once() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let cache = full_cache(folder.path());
    std::fs::create_dir_all(&cache).expect("a temporary folder");
    std::fs::write(format!("{cache}/librocksdb.a"), "").expect("a temporary folder");
    let mut command = setup(&["test"]);
    command.env("STROWGER_CACHE", folder.path());
    pretend(
        &mut command,
        folder.path(),
        &[
            ("dpkg-query", "echo 'ii '"),
            ("apt-get", "echo called >&2; exit 9"),
        ],
    );
    let began = Instant::now();
    let (code, out, err) = run(&mut command);
    assert_eq!((code, out.as_str(), err.as_str()), (0, "", ""));
    assert!(began.elapsed() < QUICK, "took {:?}", began.elapsed());

    let mut command = setup(&["run", "printenv", "ROCKSDB_LIB_DIR", "ROCKSDB_STATIC"]);
    command.env("STROWGER_CACHE", folder.path());
    let (code, out, _) = run(&mut command);
    assert_eq!((code, out), (0, format!("{cache}\n1\n")));
}

#[test]
fn a_user_without_rights_is_told_what_to_run() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut command = setup(&["test"]);
    pretend(
        &mut command,
        folder.path(),
        &[
            (
                "dpkg-query",
                "case \"$*\" in *libclang*) exit 1;; *) echo 'ii ';; esac",
            ),
            ("id", "echo 1000"),
            ("sudo", "exit 1"),
            ("apt-get", "echo called >&2; exit 9"),
        ],
    );
    let (code, _, err) = run(&mut command);
    assert_eq!(code, 1);
    assert!(err.contains("apt-get install libclang-dev"), "{err}");
    assert!(!err.contains("called"), "apt must not be tried: {err}");
}

#[test]
fn what_is_missing_is_installed_through_sudo_without_questions() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let cache = full_cache(folder.path());
    std::fs::create_dir_all(&cache).expect("a temporary folder");
    std::fs::write(format!("{cache}/librocksdb.a"), "").expect("a temporary folder");
    let mut command = setup(&["test"]);
    command.env("STROWGER_CACHE", folder.path());
    pretend(
        &mut command,
        folder.path(),
        &[
            (
                "dpkg-query",
                "case \"$*\" in *baresip*) exit 1;; *) echo 'ii ';; esac",
            ),
            ("id", "echo 1000"),
            ("sudo", "[ \"$1\" = -n ] && shift && exec \"$@\""),
            ("apt-get", "echo \"apt $DEBIAN_FRONTEND $*\" >&2"),
        ],
    );
    let (code, _, err) = run(&mut command);
    assert_eq!(code, 0, "{err}");
    assert!(
        err.contains("installing baresip-core (for the tests)"),
        "{err}"
    );
    assert!(
        err.contains("apt noninteractive") && err.contains(" -y "),
        "{err}"
    );
}

#[test]
fn an_unknown_word_is_a_usage_error() {
    let (code, _, err) = run(&mut setup(&["conquer"]));
    assert_eq!(code, 1);
    assert!(err.contains("usage:"), "{err}");
}

#[test]
fn the_toolchain_is_pinned_and_versions_are_declared_once() {
    let read = |name: &str| {
        std::fs::read_to_string(repository().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    };
    assert!(read("rust-toolchain.toml").contains("channel = \""));
    assert!(
        repository().join("Cargo.lock").is_file(),
        "the lock file is committed"
    );
    let root: toml::Table = read("Cargo.toml").parse().expect("cargo reads it too");
    let members = root["workspace"]["members"].as_array().expect("a list");
    for member in members.iter().filter_map(toml::Value::as_str) {
        let manifest: toml::Table = read(&format!("{member}/Cargo.toml"))
            .parse()
            .expect("cargo reads it too");
        assert_eq!(
            manifest["lints"]["workspace"].as_bool(),
            Some(true),
            "{member}"
        );
        for kind in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let Some(table) = manifest.get(kind).and_then(toml::Value::as_table) else {
                continue;
            };
            for (name, value) in table {
                let inherited = value.get("workspace").and_then(toml::Value::as_bool);
                assert_eq!(
                    inherited,
                    Some(true),
                    "{member}: {name} has a version of its own"
                );
            }
        }
    }
}
