//! Tells the network managers of the host, systemd-networkd and NetworkManager, to leave our links and routes alone.
//!
//! Each reads files from a directory below `/run`; a file is written where the manager runs, which its own runtime
//! directory tells. A manager that runs already takes a new file up when it is told to reload, which is a call over D-Bus
//! and not made here: the log says so, and the next start of the manager needs no call.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::{Error, Link, Result, Rtnl, steps};

/// What every alias of a link of this program begins with.
const MARK: &str = "overlayd:";
/// Kinds of links that are devices and networks. Links of containers go with these, some a moment later.
const LASTING: [&str; 3] = ["bridge", "tun", "wireguard"];

/// A file for a manager.
struct DropIn {
    /// Directories of which one exists while the manager runs.
    runs: &'static [&'static str],
    path: &'static str,
    text: &'static str,
    reload: &'static str,
}

const DROP_INS: [DropIn; 3] = [
    DropIn {
        runs: &["systemd/netif", "systemd/network"],
        path: "systemd/network/10-zlayer-unmanaged.network",
        text: "[Match]\nName=zl-* veth-* vns-*\n\n[Link]\nUnmanaged=yes\n",
        reload: "networkctl reload",
    },
    DropIn {
        runs: &["systemd/netif", "systemd/network"],
        path: "systemd/networkd.conf.d/10-zlayer-foreign.conf",
        text: "[Network]\nManageForeignRoutes=no\nManageForeignRoutingPolicyRules=no\nManageForeignNextHops=no\n",
        reload: "systemctl restart systemd-networkd",
    },
    DropIn {
        runs: &["NetworkManager"],
        path: "NetworkManager/conf.d/10-zlayer-unmanaged.conf",
        text: "[keyfile]\nunmanaged-devices+=interface-name:zl-*;interface-name:veth-*;interface-name:vns-*\n",
        reload: "nmcli general reload",
    },
];

/// The managers of one host. All daemons of a host share the files.
#[derive(Debug, Clone)]
pub struct NetworkManagers {
    root: PathBuf,
}

impl NetworkManagers {
    /// Those whose runtime directories are below `root`, which is `/run` but in tests.
    pub fn below(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Writes the files that are missing or say something else. One that cannot be written is logged: the overlay works
    /// without it where no manager meddles.
    pub fn keep_off(&self) {
        warn(self.write());
    }

    /// Removes the files once no daemon has a device or a network in the namespace of `rtnl`.
    pub fn release(&self, rtnl: &Rtnl) {
        warn(self.remove_unused(rtnl));
    }

    fn write(&self) -> Result<()> {
        for drop_in in DROP_INS.iter().filter(|drop_in| self.is_running(drop_in)) {
            let path = self.root.join(drop_in.path);
            if write(&path, drop_in.text)? {
                let DropIn { reload, .. } = drop_in;
                tracing::info!(
                    path = %path.display(),
                    "a network manager is told to leave overlay links alone; if it runs already, it reads this after `{reload}`"
                );
            }
        }
        Ok(())
    }

    fn remove_unused(&self, rtnl: &Rtnl) -> Result<()> {
        if rtnl.links()?.iter().any(is_lasting) { Ok(()) } else { self.remove() }
    }

    fn remove(&self) -> Result<()> {
        for drop_in in &DROP_INS {
            let path = self.root.join(drop_in.path);
            match fs::remove_file(&path) {
                Ok(()) => remove_if_empty(&path)?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(Error::new(format!("remove {}", path.display()), error)),
            }
        }
        Ok(())
    }

    fn is_running(&self, drop_in: &DropIn) -> bool {
        drop_in.runs.iter().any(|directory| self.root.join(directory).is_dir())
    }
}

fn warn(outcome: Result<()>) {
    if let Err(error) = outcome {
        tracing::warn!(%error, "the network managers of this host may not know that they must leave overlay links alone");
    }
}

fn is_lasting(link: &Link) -> bool {
    let marked = link.alias.as_deref().is_some_and(|alias| alias.starts_with(MARK));
    marked && LASTING.iter().any(|kind| link.is_kind(kind))
}

/// Whether the file had to be written.
fn write(path: &Path, text: &str) -> Result<bool> {
    let failed = |error| Error::new(format!("write {}", path.display()), error);
    if fs::read(path).is_ok_and(|present| present == text.as_bytes()) {
        return Ok(false);
    }
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).map_err(failed)?;
    }
    // A manager that reads at this moment sees all of the file or nothing; names with another ending are not read.
    let half = path.with_extension("new");
    fs::write(&half, text).and_then(|()| fs::rename(&half, path)).map_err(failed)?;
    steps::done("tell a network manager");
    Ok(true)
}

/// Removes the file's directory unless there are other files in it.
fn remove_if_empty(path: &Path) -> Result<()> {
    let Some(directory) = path.parent() else { return Ok(()) };
    match fs::remove_dir(directory) {
        Ok(()) => Ok(()),
        Err(error) if matches!(error.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::NotFound) => Ok(()),
        Err(error) => Err(Error::new(format!("remove {}", directory.display()), error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(directories: &[&str]) -> (tempfile::TempDir, NetworkManagers) {
        let root = tempfile::tempdir().unwrap();
        for directory in directories {
            fs::create_dir_all(root.path().join(directory)).unwrap();
        }
        let managers = NetworkManagers::below(root.path());
        (root, managers)
    }

    /// All files and directories below.
    fn tree(root: &Path) -> Vec<String> {
        let mut open = vec![root.to_owned()];
        let mut found = Vec::new();
        while let Some(directory) = open.pop() {
            for entry in fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                found.push(path.strip_prefix(root).unwrap().display().to_string());
                open.extend(path.is_dir().then_some(path));
            }
        }
        found.sort();
        found
    }

    #[test]
    fn a_host_without_managers_gets_no_file() {
        let (root, managers) = host(&[]);
        managers.write().unwrap();
        assert!(tree(root.path()).is_empty());
    }

    #[test]
    fn each_manager_that_runs_is_told_and_the_files_go_again() {
        let (root, managers) = host(&["systemd/netif", "NetworkManager"]);
        let before = tree(root.path());
        for _ in 0..2 {
            managers.write().unwrap();
        }
        let text = |path| fs::read_to_string(root.path().join(path)).unwrap();
        let networkd = text("systemd/network/10-zlayer-unmanaged.network");
        assert!(networkd.contains("Name=zl-* veth-*") && networkd.contains("Unmanaged=yes"), "{networkd}");
        assert!(text("systemd/networkd.conf.d/10-zlayer-foreign.conf").contains("ManageForeignRoutes=no"));
        let keyfile = text("NetworkManager/conf.d/10-zlayer-unmanaged.conf");
        assert!(keyfile.contains("interface-name:zl-*;interface-name:veth-*"), "{keyfile}");
        for _ in 0..2 {
            managers.remove().unwrap();
        }
        assert_eq!(tree(root.path()), before);
    }

    #[test]
    fn what_others_wrote_stays() {
        let (root, managers) = host(&["systemd/network"]);
        let other = root.path().join("systemd/network/20-lan.network");
        fs::write(&other, "[Match]\nName=eth0\n").unwrap();
        managers.write().unwrap();
        managers.remove().unwrap();
        assert_eq!(tree(root.path()), ["systemd", "systemd/network", "systemd/network/20-lan.network"]);
    }

    #[test]
    fn a_file_that_was_changed_is_put_right() {
        let (root, managers) = host(&["systemd/network"]);
        managers.write().unwrap();
        let path = root.path().join("systemd/network/10-zlayer-unmanaged.network");
        fs::write(&path, "").unwrap();
        managers.write().unwrap();
        assert!(fs::read_to_string(path).unwrap().contains("Unmanaged=yes"));
    }

    #[test]
    fn devices_and_networks_of_any_daemon_keep_the_files() {
        let link =
            |kind: &str, alias: &str| Link { kind: Some(kind.into()), alias: Some(alias.into()), ..Link::default() };
        assert!(is_lasting(&link("tun", "overlayd:0123")));
        assert!(is_lasting(&link("bridge", "overlayd:4567:network")));
        assert!(!is_lasting(&link("veth", "overlayd:4567:pid:1:2:3")));
        assert!(!is_lasting(&link("bridge", "rack 4")));
    }
}
