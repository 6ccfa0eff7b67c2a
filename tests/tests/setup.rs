//! The set-up script: quick when nothing is missing, plain when it cannot help.
//!
//! The script runs for real; only the programs it asks about the machine (`dpkg-query`,
//! `id`, `sudo`, `apt-get`) are replaced, by small scripts in front of the path.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use strowger_tests::poll::within_time;
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

/// A cold build of everything on two busy cores, RocksDB included.
const COLD_MAX: Duration = Duration::from_secs(90 * 60);

#[test]
#[ignore = "takes an hour; make show D=fresh-clone runs it"]
fn a_fresh_clone_builds_demonstrates_and_tests() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let clone = folder.path().join("clone");
    let (code, _, err) = run(Command::new("git")
        .arg("clone")
        .arg("-q")
        .arg(repository())
        .arg(&clone));
    assert_eq!(code, 0, "{err}");
    let make = |arguments: &[&str]| {
        let mut command = Command::new("make");
        command
            .current_dir(&clone)
            .args(arguments)
            .stdin(Stdio::null());
        for name in [
            "CARGO_TARGET_DIR",
            "ROCKSDB_LIB_DIR",
            "ROCKSDB_STATIC",
            "STROWGER_BIN_DIR",
        ] {
            command.env_remove(name);
        }
        for (name, below) in [
            ("CARGO_HOME", "cargo"),
            ("STROWGER_CACHE", "cache"),
            ("XDG_STATE_HOME", "state"),
            ("CCACHE_DIR", "ccache"),
        ] {
            command.env(name, folder.path().join(below));
        }
        command
    };
    let began = Instant::now();
    {
        let _alone = strowger_tests::network::alone();
        let log = std::fs::File::create(folder.path().join("log")).expect("a temporary folder");
        let mut demo = make(&["demo"])
            .stderr(log.try_clone().expect("a file handle can be copied"))
            .stdout(log)
            .process_group(0)
            .spawn()
            .expect("make is installed");
        let read = || std::fs::read_to_string(folder.path().join("log")).unwrap_or_default();
        let ready = within_time(COLD_MAX, || {
            let ended = demo.try_wait().expect("our own child").is_some();
            (ended || read().lines().any(|line| line.starts_with("ready nodes="))).then_some(ended)
        });
        // The whole group, as Ctrl-C in a terminal would.
        let group = Pid::from_raw(i32::try_from(demo.id()).expect("a pid fits"));
        if ready == Some(false) {
            killpg(group, Signal::SIGTERM).expect("the demo runs");
        }
        let _ = demo.wait();
        assert_eq!(ready, Some(false), "make demo: {}", read());
        println!("make demo was ready after {} s", began.elapsed().as_secs());
    }
    let began = Instant::now();
    let (code, out, err) = run(&mut make(&["test"]));
    assert_eq!(code, 0, "make test: {out}{err}");
    println!("make test passed after {} s", began.elapsed().as_secs());
    let began = Instant::now();
    let (code, out, err) = run(&mut make(&["test"]));
    assert_eq!(code, 0, "make test, warm: {out}{err}");
    let took = began.elapsed();
    println!("make test passed again after {} s", took.as_secs());
    assert!(
        took <= Duration::from_secs(8 * 60),
        "warm, it takes at most 8 minutes: {took:?}"
    );
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
