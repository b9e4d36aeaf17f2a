//! The programs that overlayd is compared with: found where they are, or installed.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
};

/// Where crates are installed.
const ROOT: &str = "target/peers";
/// Where Debian has programs that are not everybody's.
const HIDDEN: [&str; 4] = ["/usr/sbin", "/usr/lib/cni", "/usr/lib/podman", "/usr/libexec/podman"];

/// Where a program comes from.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Source {
    /// A crate of this version.
    Crate(&'static str, &'static str),
    /// A package of Debian.
    Debian(&'static str),
    /// It has to be built before measuring.
    Built,
}

/// A program by its name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer {
    pub(crate) program: &'static str,
    pub(crate) source: Source,
}

/// What was found of the programs.
#[derive(Debug)]
pub(crate) struct Peers {
    directories: Vec<PathBuf>,
    offline: bool,
    /// By name of the program: where it is, or why it is not there. Each is looked for once.
    found: RefCell<BTreeMap<&'static str, Result<PathBuf, String>>>,
    versions: RefCell<BTreeMap<&'static str, String>>,
}

impl Peers {
    /// Looks for programs in these directories first.
    pub(crate) fn new(given: &[PathBuf], offline: bool) -> Self {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut directories = given.to_vec();
        directories.push(Path::new(ROOT).join("bin"));
        directories.extend(std::env::split_paths(&path));
        directories.extend(HIDDEN.map(PathBuf::from));
        Self { directories, offline, found: RefCell::default(), versions: RefCell::default() }
    }

    /// Where the program is, after it was installed if need be; otherwise why it is not there.
    pub(crate) fn find(&self, peer: &Peer) -> Result<PathBuf, String> {
        if let Some(known) = self.found.borrow().get(peer.program) {
            return known.clone();
        }
        let place = self.find_or_install(peer);
        if let Ok(path) = &place {
            self.versions.borrow_mut().insert(peer.program, version(path, peer.source));
        }
        self.found.borrow_mut().insert(peer.program, place.clone());
        place
    }

    /// The version of every program that was found.
    pub(crate) fn versions(&self) -> Vec<String> {
        self.versions.borrow().iter().map(|(program, version)| format!("{program} {version}")).collect()
    }

    fn look(&self, program: &str) -> Option<PathBuf> {
        let found = self.directories.iter().map(|directory| directory.join(program)).find(|path| path.is_file())?;
        std::path::absolute(found).ok()
    }

    fn find_or_install(&self, peer: &Peer) -> Result<PathBuf, String> {
        if let Some(path) = self.look(peer.program) {
            return Ok(path);
        }
        let mut install = match peer.source {
            Source::Built => return Err(format!("there is no {} in PATH or in --programs", peer.program)),
            _ if self.offline => return Err("not installed, and nothing is installed offline".to_owned()),
            Source::Crate(name, version) => {
                let mut cargo = program("cargo");
                cargo.args(["install", "--quiet", "--locked", "--root", ROOT, "--version", version, name]);
                cargo
            }
            Source::Debian(package) => {
                let mut apt = program("apt-get");
                apt.args(["install", "-q", "-y", "--no-install-recommends", package]).stdout(std::io::stderr());
                apt.env("DEBIAN_FRONTEND", "noninteractive");
                apt
            }
        };
        eprintln!("   installing {}", peer.program);
        let status = install.status().map_err(|error| format!("its installer did not start: {error}"))?;
        self.look(peer.program).ok_or_else(|| format!("it could not be installed ({status})"))
    }
}

/// What it says of itself, or else what its package says of it.
fn version(path: &Path, source: Source) -> String {
    let said = |command: &mut Command| {
        let output = command.output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        let number = |word: &&str| word.trim_start_matches('v').starts_with(|first: char| first.is_ascii_digit());
        text.lines().next()?.split_whitespace().find(number).map(str::to_owned)
    };
    let package = || match source {
        Source::Debian(package) => said(program("dpkg-query").args(["--show", "--showformat", "${Version}", package])),
        Source::Crate(..) | Source::Built => None,
    };
    said(program(&path.display().to_string()).arg("--version"))
        .or_else(package)
        .unwrap_or_else(|| "of an unknown version".to_owned())
}

#[expect(clippy::disallowed_methods, reason = "the programs to compare with are run as their users run them")]
pub(crate) fn program(name: &str) -> Command {
    Command::new(name)
}
