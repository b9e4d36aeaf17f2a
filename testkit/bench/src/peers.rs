//! The programs that overlayd is compared with: found where they are, or installed.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// Where crates are installed.
const ROOT: &str = "target/peers";

/// Where a program comes from.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Source {
    /// A crate of this version.
    Crate(&'static str, &'static str),
    /// A package of Debian.
    Debian(&'static str),
}

/// A program by its name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer {
    pub(crate) program: &'static str,
    pub(crate) source: Source,
}

impl Peer {
    /// Where the program is, after it was installed if need be; otherwise why it is not there.
    pub(crate) fn find(&self, offline: bool) -> Result<PathBuf, String> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut directories = vec![Path::new(ROOT).join("bin")];
        directories.extend(std::env::split_paths(&path));
        self.find_in(&directories, offline)
    }

    /// The same for a program that is kept where only those look who know it.
    pub(crate) fn find_in(&self, directories: &[PathBuf], offline: bool) -> Result<PathBuf, String> {
        let installed = || {
            let found = directories.iter().map(|directory| directory.join(self.program)).find(|path| path.is_file());
            found.and_then(|path| std::path::absolute(path).ok())
        };
        if let Some(path) = installed() {
            return Ok(path);
        }
        if offline {
            return Err("not installed, and nothing is installed offline".to_owned());
        }
        eprintln!("   installing {}", self.program);
        let mut install = match self.source {
            Source::Crate(name, version) => {
                let mut cargo = program("cargo");
                cargo.args(["install", "--quiet", "--locked", "--root", ROOT, "--version", version, name]);
                cargo
            }
            Source::Debian(package) => {
                let mut apt = program("apt-get");
                apt.args(["install", "-q", "-y", "--no-install-recommends", package]).stdout(std::io::stderr());
                apt
            }
        };
        let status = install.status().map_err(|error| format!("its installer did not start: {error}"))?;
        installed().ok_or_else(|| format!("it could not be installed ({status})"))
    }
}

#[expect(clippy::disallowed_methods, reason = "the programs to compare with are run as their users run them")]
pub(crate) fn program(name: &str) -> Command {
    Command::new(name)
}
