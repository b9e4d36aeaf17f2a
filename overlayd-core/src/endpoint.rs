//! Where the daemon keeps its data and where it listens. Client and daemon evaluate the same rules, each for itself,
//! and so find each other without being told.

use std::{
    ffi::{OsStr, OsString},
    hash::Hasher,
    path::{Path, PathBuf},
};

/// Environment variable that names the data directory.
pub const DATA_DIR_VARIABLE: &str = "ZLAYER_DATA_DIR";
/// Longest path of a Unix socket in bytes (`sun_path` less its terminator on macOS, the smaller one).
pub const MAX_SOCKET_PATH: usize = 103;
/// Longest path in bytes of the directory of WireGuard's control sockets, which leaves room for their names.
pub const MAX_WIREGUARD_DIR: usize = 82;

/// System-wide data directory on Unix.
const SYSTEM_DATA_DIR: &str = "/var/lib/zlayer";
/// Endpoint of every daemon on Windows.
const WINDOWS_PIPE: &str = r"\\.\pipe\zlayer-overlayd";

/// What the rules depend on in addition to the data directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Platform {
    /// Linux.
    Linux {
        /// Effective user.
        euid: u32,
        /// `HOME`.
        home: Option<OsString>,
    },
    /// macOS.
    MacOs {
        /// `HOME`.
        home: Option<OsString>,
    },
    /// Windows.
    Windows {
        /// `ProgramData`.
        program_data: Option<OsString>,
    },
}

impl Platform {
    /// The data directory: the flag, else the environment's value, else the platform's default. Empty values count as
    /// absent.
    pub fn data_dir(&self, flag: Option<&Path>, variable: Option<&OsStr>) -> PathBuf {
        let named = |text: &OsStr| (!text.is_empty()).then(|| PathBuf::from(text));
        flag.and_then(|flag| named(flag.as_os_str()))
            .or_else(|| variable.and_then(named))
            .unwrap_or_else(|| self.default_data_dir())
    }

    /// The data directory of a process that was told nothing.
    pub fn default_data_dir(&self) -> PathBuf {
        match self {
            Self::Linux { euid: 0, .. } => SYSTEM_DATA_DIR.into(),
            Self::Linux { home, .. } | Self::MacOs { home } => match present(home) {
                Some(home) => Path::new(home).join(".zlayer"),
                None => SYSTEM_DATA_DIR.into(),
            },
            Self::Windows { program_data } => {
                let mut path = present(program_data).map_or_else(|| OsString::from(r"C:\ProgramData"), OsString::from);
                path.push(r"\ZLayer");
                path.into()
            }
        }
    }

    /// The daemon's endpoint: a Unix socket, or a named pipe on Windows.
    ///
    /// The default data directory is the one of *this* process, so a group member and a daemon of root may disagree
    /// about any other directory; naming the socket settles it.
    pub fn endpoint(&self, data_dir: &Path) -> PathBuf {
        match self {
            Self::Windows { .. } => WINDOWS_PIPE.into(),
            Self::Linux { .. } if data_dir == self.default_data_dir() => "/var/run/zlayer-overlayd.sock".into(),
            Self::Linux { .. } | Self::MacOs { .. } => {
                let path = data_dir.join("run/zlayer-overlayd.sock");
                if path.as_os_str().len() <= MAX_SOCKET_PATH {
                    return path;
                }
                format!("/tmp/zlayer-overlayd-{}.sock", hashed(data_dir, "overlayd")).into()
            }
        }
    }

    /// The directory of WireGuard's control sockets.
    pub fn wireguard_dir(&self, data_dir: &Path) -> PathBuf {
        if matches!(self, Self::Linux { .. }) && data_dir == self.default_data_dir() {
            return "/var/run/wireguard".into();
        }
        let path = data_dir.join("run").join("wireguard");
        if path.as_os_str().len() <= MAX_WIREGUARD_DIR {
            return path;
        }
        format!("/tmp/zlayer-wg-{}", hashed(data_dir, "wg")).into()
    }
}

/// A variable's value, where it is set to something.
fn present(variable: &Option<OsString>) -> Option<&OsStr> {
    variable.as_deref().filter(|value| !value.is_empty())
}

/// 16 lowercase hex digits that stand for a path that is too long: FNV-1a-64 of its bytes and the label.
fn hashed(data_dir: &Path, label: &str) -> String {
    let mut hasher = fnv::FnvHasher::default();
    hasher.write(data_dir.as_os_str().as_encoded_bytes());
    hasher.write(label.as_bytes());
    format!("{:016x}", hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn linux(euid: u32, home: Option<&str>) -> Platform {
        Platform::Linux { euid, home: home.map(OsString::from) }
    }

    #[test]
    fn the_flag_wins_over_the_environment_and_that_over_the_default() {
        let host = linux(0, Some("/root"));
        let (flag, variable) = (Path::new("/srv/a"), OsStr::new("/srv/b"));
        assert_eq!(host.data_dir(Some(flag), Some(variable)), flag);
        assert_eq!(host.data_dir(None, Some(variable)), Path::new("/srv/b"));
        assert_eq!(host.data_dir(None, Some(OsStr::new(""))), Path::new("/var/lib/zlayer"));
        assert_eq!(host.data_dir(None, None), Path::new("/var/lib/zlayer"));
    }

    #[test]
    fn each_platform_has_its_default() {
        let default = |host: Platform| host.default_data_dir().to_string_lossy().into_owned();
        assert_eq!(default(linux(1000, Some("/home/ada"))), "/home/ada/.zlayer");
        assert_eq!(default(linux(1000, None)), "/var/lib/zlayer");
        assert_eq!(default(Platform::MacOs { home: Some("/Users/ada".into()) }), "/Users/ada/.zlayer");
        assert_eq!(default(Platform::MacOs { home: None }), "/var/lib/zlayer");
        assert_eq!(default(Platform::Windows { program_data: None }), r"C:\ProgramData\ZLayer");
        assert_eq!(default(Platform::Windows { program_data: Some(r"D:\PD".into()) }), r"D:\PD\ZLayer");
    }

    #[test]
    fn the_endpoint_follows_the_data_directory() {
        let endpoint = |host: &Platform, dir: &str| host.endpoint(Path::new(dir)).to_string_lossy().into_owned();
        let (root, ada) = (linux(0, Some("/root")), linux(1000, Some("/home/ada")));
        assert_eq!(endpoint(&root, "/var/lib/zlayer"), "/var/run/zlayer-overlayd.sock");
        assert_eq!(endpoint(&root, "/srv/o"), "/srv/o/run/zlayer-overlayd.sock");
        assert_eq!(endpoint(&ada, "/home/ada/.zlayer"), "/var/run/zlayer-overlayd.sock");
        assert_eq!(endpoint(&ada, "/var/lib/zlayer"), "/var/lib/zlayer/run/zlayer-overlayd.sock");
        let mac = Platform::MacOs { home: Some("/Users/ada".into()) };
        assert_eq!(endpoint(&mac, "/Users/ada/.zlayer"), "/Users/ada/.zlayer/run/zlayer-overlayd.sock");
        assert_eq!(endpoint(&Platform::Windows { program_data: None }, r"D:\x"), WINDOWS_PIPE);
        assert_eq!(root.wireguard_dir(Path::new("/var/lib/zlayer")), Path::new("/var/run/wireguard"));
        assert_eq!(root.wireguard_dir(Path::new("/srv/o")), Path::new("/srv/o/run/wireguard"));
    }

    #[test]
    fn a_path_that_just_fits_a_socket_is_kept() {
        let host = linux(0, None);
        let room = MAX_SOCKET_PATH - "/run/zlayer-overlayd.sock".len();
        let fits = format!("/{}", "x".repeat(room - 1));
        assert_eq!(host.endpoint(Path::new(&fits)).as_os_str().len(), MAX_SOCKET_PATH);
        assert!(host.endpoint(Path::new(&format!("{fits}x"))).starts_with("/tmp"));
    }

    #[test]
    fn long_paths_hash_as_published() {
        #[derive(serde::Deserialize)]
        struct Vector {
            data_dir: PathBuf,
            label: String,
            path: PathBuf,
        }
        let golden = include_str!("../tests/golden/hashed_names.jsonl");
        let vectors: Vec<Vector> = golden.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        assert_eq!(vectors.len(), 2, "the file has two vectors of this shape");
        let host = linux(0, None);
        for Vector { data_dir, label, path } in vectors {
            let found = match label.as_str() {
                "overlayd" => host.endpoint(&data_dir),
                _ => host.wireguard_dir(&data_dir),
            };
            assert_eq!(found, path, "{label}");
        }
    }
}
