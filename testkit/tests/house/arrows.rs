//! Which crate may know which.

use std::collections::BTreeSet;

use serde::Deserialize;

use crate::root;

/// Crates that only these members of the workspace may name.
const RESERVED: &[(&str, &[&str])] = &[
    ("boringtun", &["overlayd-userspace-wg"]),
    ("mockall", &["overlayd-core", "overlayd-testkit"]),
    ("windows", &["overlayd", "overlayd-windows-hcn"]),
    ("wireguard-control", &["overlayd-kernel-wg"]),
];

/// Crates that speak to one operating system.
const OS_CRATES: &[&str] =
    &["caps", "libc", "nix", "nlink", "rtnetlink", "rustix", "socket2", "tun-rs", "windows", "windows-sys"];

/// The wire types, which the client and the core share.
const PROTOCOL: &str = "overlayd-protocol";

/// The client library.
const CLIENT: &str = "overlayd-client";

/// Not a backend: what the Linux backends share.
const NETLINK: &str = "overlayd-netlink";

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    manifest_path: String,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    kind: Option<String>,
    optional: bool,
}

impl Dependency {
    fn in_release(&self) -> bool {
        self.kind.as_deref() != Some("dev")
    }
}

impl Package {
    fn is_backend(&self) -> bool {
        self.manifest_path.contains("/backends/") && self.name != NETLINK
    }

    fn release_dependencies(&self) -> impl Iterator<Item = &Dependency> {
        self.dependencies.iter().filter(|dependency| dependency.in_release())
    }
}

#[expect(clippy::disallowed_methods, reason = "cargo is the one who knows the manifests")]
fn workspace() -> Vec<Package> {
    let output = std::process::Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Metadata = serde_json::from_slice(&output.stdout).unwrap();
    assert!(metadata.packages.len() >= 6, "the workspace has lost members");
    metadata.packages
}

#[test]
fn the_core_and_the_client_know_no_operating_system_and_only_the_protocol() {
    let members = workspace();
    for name in ["overlayd-core", CLIENT, PROTOCOL] {
        let package = members.iter().find(|package| package.name == name).unwrap();
        for dependency in package.release_dependencies() {
            let is_member = dependency.name.starts_with("overlayd");
            assert!(!OS_CRATES.contains(&dependency.name.as_str()), "{name} names {}", dependency.name);
            assert!(!is_member || dependency.name == PROTOCOL, "{name} names {}", dependency.name);
        }
    }
}

/// What a program that only talks to a daemon must not have to build.
#[test]
fn a_client_brings_neither_the_store_nor_cryptography() {
    let crates = cargo_tree(&["--package", CLIENT]);
    for heavy in ["redb", "x25519-dalek", "curve25519-dalek", "boringtun", "overlayd-core"] {
        let found = crates.lines().any(|line| line.split(' ').next() == Some(heavy));
        assert!(!found, "{CLIENT} brings {heavy}:\n{crates}");
    }
}

#[test]
fn backends_know_the_core_and_no_other_backend() {
    let members = workspace();
    for backend in members.iter().filter(|package| package.is_backend()) {
        for dependency in backend.release_dependencies().filter(|d| d.name.starts_with("overlayd")) {
            let allowed = ["overlayd-core", NETLINK].contains(&dependency.name.as_str());
            assert!(allowed, "{} names {}", backend.name, dependency.name);
        }
    }
}

#[test]
fn the_linux_base_knows_the_core_and_no_other_member() {
    let members = workspace();
    let netlink = members.iter().find(|package| package.name == NETLINK).unwrap();
    for dependency in netlink.release_dependencies().filter(|d| d.name.starts_with("overlayd")) {
        assert_eq!(dependency.name, "overlayd-core", "{NETLINK} names {}", dependency.name);
    }
}

#[test]
fn reserved_crates_are_named_by_their_holders_alone() {
    for package in workspace() {
        for dependency in &package.dependencies {
            let Some((_, holders)) = RESERVED.iter().find(|(name, _)| *name == dependency.name) else { continue };
            assert!(holders.contains(&package.name.as_str()), "{} names {}", package.name, dependency.name);
        }
    }
}

/// What is built for tests, for measuring and for showing alone.
const TOOLS: [&str; 4] = ["overlayd-testkit", "overlayd-bench", "overlayd-lab", "overlayd-demo"];

#[test]
fn no_release_contains_the_testkit_or_mocks() {
    for package in workspace().iter().filter(|package| !TOOLS.contains(&package.name.as_str())) {
        for dependency in package.release_dependencies() {
            assert!(!TOOLS.contains(&dependency.name.as_str()), "{} ships {}", package.name, dependency.name);
            assert_ne!(dependency.name, "mockall", "{} ships mockall", package.name);
        }
    }
}

#[test]
fn every_wireguard_backend_is_a_feature_of_the_binary() {
    let members = workspace();
    let binary = members.iter().find(|package| package.name == "overlayd").unwrap();
    let optional: BTreeSet<_> = binary.dependencies.iter().filter(|d| d.optional).map(|d| d.name.as_str()).collect();
    for backend in members.iter().filter(|package| package.is_backend() && package.name.ends_with("-wg")) {
        assert!(optional.contains(backend.name.as_str()), "{} is not optional in the binary", backend.name);
    }
}

#[test]
fn a_wireguard_backend_brings_its_own_library_and_not_the_others() {
    for (feature, own, other) in
        [("kernel-wg", "wireguard-control", "boringtun"), ("userspace-wg", "boringtun", "wireguard-control")]
    {
        let crates = in_the_binary(feature);
        let has = |name: &str| crates.lines().any(|line| line.split(' ').next() == Some(name));
        assert!(has(own), "{feature} lacks {own}:\n{crates}");
        assert!(!has(other), "{feature} brings {other}");
    }
}

/// The crates of a release of the binary with this feature alone, one a line.
fn in_the_binary(feature: &str) -> String {
    cargo_tree(&["--package", "overlayd", "--no-default-features", "--features", feature])
}

#[test]
fn no_release_has_crash_points() {
    for line in features_of_the_binary().lines() {
        assert!(!line.contains("crash-points"), "a release is built with {line}");
    }
}

/// Every feature of every crate in a release of the binary, one a line.
fn features_of_the_binary() -> String {
    cargo_tree(&["--package", "overlayd", "--all-features", "--format", "{p} {f}"])
}

/// What `cargo tree` prints for what a release is built of, one crate a line.
#[expect(clippy::disallowed_methods, reason = "cargo is the one who knows what a build consists of")]
fn cargo_tree(arguments: &[&str]) -> String {
    let output = std::process::Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--locked", "--edges", "normal,build", "--prefix", "none"])
        .args(arguments)
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
