//! Bugs put back on purpose: each patch of `bugs/` is applied to a copy of the production
//! sources, and the simulator must find what it breaks. A simulator that finds nothing proves
//! nothing.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Seeds within which a bug must show.
const SEEDS: &str = "1000";
/// What the simulator is built from, beside the workspace's own manifest.
const SOURCES: [&str; 6] = [
    "actors",
    "cluster/src",
    "tests/frozen",
    "tests/sim",
    "Cargo.lock",
    "rust-toolchain.toml",
];

fn repository() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.join("../..")
        .canonicalize()
        .expect("the workspace exists")
}

fn run(command: &mut Command) -> (bool, String) {
    let output = command.output().expect("the program can be started");
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

/// A copy of what the simulator is built from.
fn copy(into: &Path) {
    let from = repository();
    for source in SOURCES {
        let target = into.join(source);
        let parent = target.parent().expect("it lies below the copy");
        std::fs::create_dir_all(parent).expect("a temporary folder can be written");
        let (done, text) = run(Command::new("cp")
            .arg("-r")
            .arg(from.join(source))
            .arg(&target));
        assert!(done, "{text}");
    }
    let manifest = std::fs::read_to_string(from.join("Cargo.toml")).expect("there is one");
    let members = manifest
        .lines()
        .find(|line| line.starts_with("members = "))
        .expect("the workspace names its members");
    let few = "members = [\"actors\", \"actors/core\", \"tests/frozen\", \"tests/sim\"]";
    std::fs::write(into.join("Cargo.toml"), manifest.replace(members, few))
        .expect("a temporary folder can be written");
}

/// Builds the simulator of a copy; where it is.
fn build(copy: &Path, target: &Path) -> PathBuf {
    let mut build = Command::new(env!("CARGO"));
    build.args([
        "build",
        "--release",
        "--offline",
        "--quiet",
        "-p",
        "strowger-sim",
    ]);
    build.current_dir(copy).env("CARGO_TARGET_DIR", target);
    // A bug shows within some seeds: building takes longer than running them.
    build.env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1");
    build.env("CARGO_PROFILE_RELEASE_DEBUG", "false");
    let (built, text) = run(&mut build);
    assert!(built, "the copy does not build:\n{text}");
    target.join("release/strowger-sim")
}

/// Runs seeds until one breaks any of these properties: that seed, and what was said of it.
fn seek(program: &Path, breaks: &[&str]) -> Result<(String, String), String> {
    let (_, said) = run(Command::new(program).args(["--seeds", SEEDS, "--first"]));
    let found = said.lines().find_map(|line| {
        let (seed, broken) = line.strip_prefix("seed ")?.split_once(" breaks ")?;
        let (property, _) = broken.split_once(':')?;
        breaks
            .contains(&property)
            .then(|| (seed.to_owned(), line.to_owned()))
    });
    found.ok_or(said)
}

/// The trace of a seed, to the line that says what is broken.
fn trace(program: &Path, seed: &str) -> String {
    let (fine, said) = run(Command::new(program).args(["--seed", seed, "--trace"]));
    assert!(!fine, "seed {seed} breaks nothing the second time");
    // What follows the trace says how long the run took.
    let end = said.find("BROKEN").expect("the trace says what is broken");
    said.get(..end).unwrap_or_default().to_owned()
}

/// Puts one bug back; the seed that finds it, in words, or what was said instead.
fn find(patch: &Path, source: &Path, target: &Path) -> Result<String, String> {
    let text = std::fs::read_to_string(patch).expect("a listed file can be read");
    let breaks = text.lines().find_map(|line| line.strip_prefix("breaks: "));
    let breaks: Vec<&str> = breaks.expect("it says what it breaks").split(' ').collect();
    // Each in a folder of the same name, so that only what the patch touches is built.
    let _ = std::fs::remove_dir_all(source);
    copy(source);
    let mut apply = Command::new("git");
    apply.arg("apply").arg(patch).current_dir(source);
    let (applied, why) = run(&mut apply);
    assert!(
        applied,
        "{} does not apply any more:\n{why}",
        patch.display()
    );
    let program = build(source, target);
    let (seed, line) = seek(&program, &breaks)?;
    let (first, second) = (trace(&program, &seed), trace(&program, &seed));
    assert!(first == second, "{line}: two runs of the seed differ");
    Ok(format!(
        "{line} ({} lines, twice the same)",
        first.lines().count()
    ))
}

/// The patches, by name.
fn patches() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("bugs");
    let mut patches: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("there are bugs")
        .map(|entry| entry.expect("a listed file can be read").path())
        .collect();
    patches.sort();
    assert!(patches.len() >= 3, "{patches:?}");
    patches
}

#[test]
fn every_bug_can_still_be_put_back() {
    for patch in patches() {
        let mut apply = Command::new("git");
        apply.args(["apply", "--check"]).arg(&patch);
        let (applies, why) = run(apply.current_dir(repository()));
        assert!(applies, "{} has to be renewed:\n{why}", patch.display());
    }
}

#[test]
#[ignore = "minutes: builds the simulator once for each bug; `make sim-bugs` and `make test-long` run it"]
fn bugs_put_back_on_purpose_are_found() {
    let base = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bugs");
    let (source, target) = (base.join("source"), base.join("target"));
    let mut missed = Vec::new();
    for patch in &patches() {
        let name = patch.file_stem().expect("a file").to_string_lossy();
        match find(patch, &source, &target) {
            Ok(found) => println!("{name}: {found}"),
            Err(said) => {
                println!("{name}: not found");
                missed.push(format!("{name}, in {SEEDS} seeds:\n{said}"));
            }
        }
    }
    std::fs::remove_dir_all(&source).expect("what was made can be removed");
    assert!(missed.is_empty(), "not found: {}", missed.join("\n"));
}
