//! What belongs to a complete tree, and how large its files may grow.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::root;

/// Most lines of a Rust file. A file aims at 150 and is split long before this.
const MOST_LINES: usize = 400;

/// What the owner, the packager and the reader expect to find.
const EXPECTED: &[&str] = &[
    ".ci/run",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "Cargo.lock",
    "LICENSE",
    "README.md",
    "docs/architecture.md",
    "docs/backends.md",
    "docs/decisions",
    "docs/glossary.md",
    "docs/operations.md",
    "docs/peer-faults.md",
    "docs/protocol.md",
];

/// The files below the root that are the project's own text: no build output, no repository data.
pub(crate) fn files(extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![root()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                let ours = !name.starts_with('.') && name != "target";
                open.extend(ours.then_some(path));
            } else if path.extension().is_some_and(|e| e == extension) {
                found.push(path);
            }
        }
    }
    assert!(!found.is_empty(), "no {extension} files below {}", root().display());
    found
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

#[test]
fn the_tree_is_complete() {
    for path in EXPECTED {
        assert!(root().join(path).exists(), "{path} is missing");
    }
    assert!(fs::read_to_string(root().join("LICENSE")).unwrap().contains("Apache License"));
}

#[test]
fn no_rust_file_outgrows_its_reader() {
    let lines = |path: &PathBuf| fs::read_to_string(path).unwrap().lines().count();
    let grown: Vec<_> = files("rs").into_iter().filter(|path| lines(path) > MOST_LINES).map(|p| shown(&p)).collect();
    assert!(grown.is_empty(), "over {MOST_LINES} lines: {grown:?}");
}

#[test]
fn features_are_mentioned_in_one_file_of_the_binary() {
    let source = root().join("overlayd-bin/src");
    for path in files("rs")
        .into_iter()
        .filter(|path| path.starts_with(&source) && !path.ends_with("platform/linux/backends.rs"))
    {
        let text = fs::read_to_string(&path).unwrap();
        assert!(!text.contains("feature ="), "{} mentions a feature", shown(&path));
    }
}

#[test]
fn unsafe_code_is_allowed_in_one_file_of_a_crate() {
    let allowance = concat!("allow(", "unsafe_code");
    let mut crates: Vec<String> = Vec::new();
    for path in files("rs").into_iter().filter(|path| fs::read_to_string(path).unwrap().contains(allowance)) {
        let name = shown(&path).split("/src/").next().unwrap_or_default().to_owned();
        assert!(!crates.contains(&name), "{name} allows unsafe code in {} and another file", shown(&path));
        crates.push(name);
    }
}

#[test]
fn documents_link_to_files_that_exist() {
    for path in files("md") {
        let text = fs::read_to_string(&path).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next()) {
            let local = !link.is_empty() && !link.contains("://");
            let target = path.parent().unwrap().join(link);
            assert!(!local || target.exists(), "{} links to {link}, which does not exist", shown(&path));
        }
    }
}

#[test]
fn every_decision_is_in_the_index() {
    let directory = root().join("docs/decisions");
    let index = fs::read_to_string(directory.join("README.md")).unwrap();
    for path in files("md").into_iter().filter(|path| path.starts_with(&directory) && !path.ends_with("README.md")) {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        assert!(index.contains(&name), "docs/decisions/README.md does not list {name}");
    }
}

#[test]
fn the_tree_names_no_place_outside_itself() {
    let outside = concat!("/wo", "rk/");
    for path in ["rs", "md", "toml"].into_iter().flat_map(files) {
        let text = fs::read_to_string(&path).unwrap();
        assert!(!text.contains(outside), "{} names {outside}", shown(&path));
    }
}
