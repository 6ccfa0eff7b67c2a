//! The mechanical rules of the project: who may depend on whom, what decides without a
//! clock, how long a file may be, and that the documents speak of things that exist.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use strowger_tests::programs::repository;

/// No source file is longer.
const LINES_MAX: usize = 800;
/// Files that were longer when the rule came, with their length. It only goes down.
const LONG_FILES: &[(&str, usize)] = &[];
/// The code that stands for "any code" in explanations.
const EXAMPLE_CODE: &str = "SW0123";
/// Calls that would let a replica decide differently from the others.
const BANNED_IN_CORE: &[&str] = &[
    "Instant::now",
    "SystemTime::now",
    "HashMap",
    "HashSet",
    "thread_rng",
    "rand::",
    "tokio::",
];

/// Every file of the repository (as a relative path) that is not built or fetched.
fn files() -> Vec<PathBuf> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        let entries = std::fs::read_dir(folder).expect("a listed folder can be read");
        for entry in entries.flatten() {
            let path = entry.path();
            let name = entry.file_name();
            let skipped = [".git", "target"].iter().any(|skip| name == *skip);
            match entry.file_type() {
                Ok(kind) if kind.is_dir() && !skipped => walk(&path, found),
                Ok(kind) if kind.is_file() => found.push(path),
                _ => {}
            }
        }
    }
    let mut found = Vec::new();
    walk(repository(), &mut found);
    found.sort();
    found
}

fn relative(path: &Path) -> String {
    path.strip_prefix(repository())
        .expect("found below the root")
        .display()
        .to_string()
}

/// Files whose name ends in one of `endings`, with their text.
fn texts(endings: &[&str]) -> Vec<(String, String)> {
    files()
        .into_iter()
        .filter(|path| {
            endings
                .iter()
                .any(|ending| relative(path).ends_with(ending))
        })
        .filter_map(|path| Some((relative(&path), std::fs::read_to_string(&path).ok()?)))
        .collect()
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with("//")
}

#[test]
fn crates_depend_downward_only() {
    let metadata = cargo_metadata::MetadataCommand::new()
        .manifest_path(repository().join("Cargo.toml"))
        .no_deps()
        .exec()
        .expect("cargo describes the workspace");
    let all = [
        "strowger-actors",
        "strowger-cluster",
        "strowger-core",
        "strowger-media",
        "strowger-sip",
    ];
    // A tool of tests: it knows nothing of the rest, and no program holds it.
    let tool = "strowger-frozen";
    let allowed: BTreeMap<&str, &[&str]> = BTreeMap::from([
        ("strowger-tests", &all[..]),
        ("strowger-node", &all[..]),
        ("strowger", &["strowger-core"][..]),
        ("strowger-actors", &["strowger-core"][..]),
        ("strowger-cluster", &["strowger-core"][..]),
        ("strowger-sim", &["strowger-actors", "strowger-core"][..]),
        ("strowger-core", &[][..]),
        ("strowger-media", &[][..]),
        ("strowger-sip", &[][..]),
        (tool, &[][..]),
    ]);
    let mut wrong = Vec::new();
    for package in &metadata.packages {
        let name = package.name.to_string();
        let may = allowed
            .get(name.as_str())
            .unwrap_or_else(|| panic!("{name} has no rule here"));
        for dependency in package.dependencies.iter().filter(|d| d.path.is_some()) {
            let of_tests = dependency.kind == cargo_metadata::DependencyKind::Development;
            if dependency.name == tool && of_tests {
                continue;
            }
            if !may.contains(&dependency.name.as_str()) {
                wrong.push(format!("{name} → {}", dependency.name));
            }
            let wire_only = !dependency.uses_default_features && dependency.features == ["api"];
            if name == "strowger" && !wire_only {
                wrong.push(format!(
                    "{name} → {} beyond its wire types",
                    dependency.name
                ));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "edges that DESIGN does not allow: {wrong:#?}"
    );
}

#[test]
fn what_decides_has_no_clock_chance_or_unordered_map() {
    let mut wrong = Vec::new();
    for (path, text) in texts(&[".rs"]) {
        if !path.starts_with("actors/core/src/") {
            continue;
        }
        for (number, line) in text
            .lines()
            .enumerate()
            .filter(|(_, line)| !is_comment(line))
        {
            if let Some(banned) = BANNED_IN_CORE.iter().find(|banned| line.contains(**banned)) {
                wrong.push(format!("{path}:{}: {banned}", number + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn files_stay_short_and_say_what_they_are_for() {
    let known: BTreeMap<&str, usize> = LONG_FILES.iter().copied().collect();
    let mut wrong = Vec::new();
    for (path, text) in texts(&[".rs"]) {
        let lines = text.lines().count();
        match known.get(path.as_str()) {
            Some(&length) if lines > length => {
                wrong.push(format!("{path} grew from {length} to {lines} lines"));
            }
            Some(&length) if lines < length => {
                wrong.push(format!(
                    "{path} shrank to {lines}: lower its entry, well done"
                ));
            }
            None if lines > LINES_MAX => wrong.push(format!("{path} has {lines} lines")),
            _ => {}
        }
        if !text.trim_start().starts_with("//!") {
            wrong.push(format!("{path} does not open with //!"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn nothing_is_left_unfinished() {
    // Split, so that this file does not find itself.
    let marks = [
        "TO\u{44}O",
        "FIX\u{4d}E",
        "db\u{67}!(",
        "unimplemente\u{64}!(",
        "tod\u{6f}!(",
    ];
    let mut wrong = Vec::new();
    for (path, text) in texts(&[".rs", ".sh", "Makefile", ".toml"]) {
        for (number, line) in text.lines().enumerate() {
            if let Some(mark) = marks.iter().find(|mark| line.contains(**mark)) {
                wrong.push(format!("{path}:{}: {mark}", number + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Every `SWnnnn` in a text.
fn codes(text: &str) -> BTreeSet<String> {
    let bytes = text.as_bytes();
    text.match_indices("SW")
        .filter(|(at, _)| {
            let digits = bytes.get(at + 2..at + 6);
            digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_digit))
                && !bytes.get(at + 6).is_some_and(u8::is_ascii_alphanumeric)
        })
        .map(|(at, _)| text[at..at + 6].to_owned())
        .filter(|code| code != EXAMPLE_CODE)
        .collect()
}

#[test]
fn every_error_code_has_a_page_and_every_page_a_code() {
    let used: BTreeSet<String> = texts(&[".rs"])
        .into_iter()
        .filter(|(path, _)| !path.contains("/tests/") && !path.starts_with("tests/"))
        .flat_map(|(_, text)| codes(&text))
        .collect();
    let pages: BTreeSet<String> = files()
        .iter()
        .map(|path| relative(path))
        .filter_map(|path| {
            Some(
                path.strip_prefix("docs/errors/")?
                    .strip_suffix(".md")?
                    .to_owned(),
            )
        })
        .filter(|name| name.starts_with("SW"))
        .collect();
    let without_page: Vec<_> = used.difference(&pages).collect();
    let without_use: Vec<_> = pages.difference(&used).collect();
    assert!(
        without_page.is_empty(),
        "codes without a page in docs/errors: {without_page:?}"
    );
    assert!(
        without_use.is_empty(),
        "pages whose code nothing can show: {without_use:?}"
    );
}

#[test]
fn links_in_documents_lead_somewhere() {
    let mut wrong = Vec::new();
    for (path, text) in texts(&[".md"]) {
        let folder = repository().join(&path);
        let folder = folder.parent().expect("a file lies in a folder");
        for (at, _) in text.match_indices("](") {
            let target = text[at + 2..].split(')').next().unwrap_or_default();
            let file = target.split(['#', ' ']).next().unwrap_or_default();
            let elsewhere = file.is_empty() || file.contains("://") || file.starts_with("mailto:");
            if !elsewhere && !folder.join(file).exists() {
                wrong.push(format!("{path}: {target}"));
            }
        }
    }
    assert!(wrong.is_empty(), "dead links: {wrong:#?}");
}

#[test]
fn no_file_names_a_folder_of_one_machine() {
    let roots = ["wor\u{6b}", "roo\u{74}", "hom\u{65}"].map(|name| format!("/{name}/"));
    let mut wrong = Vec::new();
    for (path, text) in texts(&[".rs", ".toml", ".md", ".sh", ".xml", "Makefile", ".ci/run"]) {
        for (number, line) in text.lines().enumerate() {
            let found = roots.iter().any(|root| {
                line.match_indices(root.as_str()).any(|(at, _)| {
                    // `x/work/` is a relative path; only the start of a path counts.
                    !line[..at].ends_with(|c: char| c.is_alphanumeric() || "._-~}".contains(c))
                })
            });
            if found {
                wrong.push(format!("{path}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn documents_name_make_targets_that_exist() {
    let makefile = std::fs::read_to_string(repository().join("Makefile")).expect("there is one");
    let targets: BTreeSet<&str> = makefile
        .lines()
        .filter_map(|line| line.strip_prefix(".PHONY:"))
        .flat_map(str::split_whitespace)
        .collect();
    for target in [
        "build",
        "demo",
        "test",
        "test-long",
        "chaos",
        "bench",
        "check",
        "show",
    ] {
        assert!(
            targets.contains(target),
            "the interface promises `make {target}`"
        );
    }
    let mut wrong = Vec::new();
    for (path, text) in texts(&[".md"]) {
        for (at, found) in text.match_indices("`make ") {
            let rest = text[at + found.len()..]
                .split('`')
                .next()
                .unwrap_or_default();
            let target = rest.split_whitespace().next().unwrap_or_default();
            if !targets.contains(target) {
                wrong.push(format!("{path}: make {target}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_demonstration_is_a_test() {
    let list = std::fs::read_to_string(repository().join("tests/demonstrations"));
    let list = list.expect("make show reads it");
    let mut count = 0;
    for line in list
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
    {
        let fields: Vec<&str> = line.split('|').collect();
        let [name, target, filter, text] = fields[..] else {
            panic!("not name|program|test|text: {line}")
        };
        // `make` in the place of a test program stands for a make target.
        let (file, wanted) = match target {
            "make" => (Some(repository().join("Makefile")), format!("\n{filter}:")),
            _ => {
                // A test in a module of its program stands in a file of the program's folder.
                let (ending, filter) = match filter.rsplit_once("::") {
                    Some((module, test)) => (
                        format!("/tests/{target}/{}.rs", module.replace("::", "/")),
                        test,
                    ),
                    None => (format!("/tests/{target}.rs"), filter),
                };
                let file = files()
                    .into_iter()
                    .find(|path| relative(path).ends_with(&ending));
                (file, format!("fn {filter}("))
            }
        };
        let file = file.unwrap_or_else(|| panic!("{name}: there is no test program {target}"));
        let source = std::fs::read_to_string(&file).expect("a listed file can be read");
        assert!(
            source.contains(&wanted),
            "{name}: {} has no {filter}",
            relative(&file)
        );
        assert!(!text.trim().is_empty(), "{name} says nothing about itself");
        count += 1;
    }
    assert!(count > 0, "there are demonstrations");
}
