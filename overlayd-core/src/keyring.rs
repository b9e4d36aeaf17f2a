//! Private keys, one file each (mode 0600) in a directory of their own (mode 0700), apart from the state.

use std::{
    io,
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

use crate::{
    keys::{InvalidKey, PrivateKey},
    private_file,
};

/// Why a key cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// The file or its directory cannot be read or written.
    #[error("could not use the key file {path}: {source}")]
    Io {
        /// The key's file.
        path: PathBuf,
        /// The system's own words.
        source: io::Error,
    },
    /// The file holds something else than a key.
    #[error("{path} holds no key: {source}; restore it from a backup, or move it away to get a new identity")]
    Damaged {
        /// The key's file.
        path: PathBuf,
        /// What is wrong with it.
        source: InvalidKey,
    },
    /// Others may read the file.
    #[error("{path} can be read by others (mode {mode:o}); make it 0600 and consider the key known")]
    Exposed {
        /// The key's file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
}

/// The private keys of this node.
#[derive(Debug)]
pub struct Keyring {
    dir: PathBuf,
}

impl Keyring {
    /// The keys in `dir`, which is created (0700) when absent.
    pub fn open(dir: PathBuf) -> Result<Self, KeyringError> {
        let io_error = |source| KeyringError::Io { path: dir.clone(), source };
        private_file::create_dir(&dir).map_err(io_error)?;
        private_file::remove_drafts(&dir).map_err(io_error)?;
        Ok(Self { dir })
    }

    /// The key called `name`, generated and stored on first use; `name` must be safe as a file name.
    pub fn load_or_generate(&self, name: &str) -> Result<PrivateKey, KeyringError> {
        self.load_or_store(name, PrivateKey::generate)
    }

    /// The key called `name`, or else `new`, which is stored; `name` must be safe as a file name.
    pub fn load_or_store(&self, name: &str, new: impl FnOnce() -> PrivateKey) -> Result<PrivateKey, KeyringError> {
        let path = self.dir.join(format!("{name}.key"));
        match std::fs::read_to_string(&path).map(Zeroizing::new) {
            Ok(text) => {
                check_mode(&path)?;
                PrivateKey::from_base64(text.trim()).map_err(|source| KeyringError::Damaged { path, source })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let key = new();
                let text = Zeroizing::new(format!("{}\n", *Zeroizing::new(key.reveal_base64())));
                private_file::replace(&path, text.as_bytes()).map_err(|source| KeyringError::Io { path, source })?;
                Ok(key)
            }
            Err(source) => Err(KeyringError::Io { path, source }),
        }
    }
}

impl Keyring {
    /// Forgets the key called `name`; an unknown one is no error.
    pub fn remove(&self, name: &str) -> Result<(), KeyringError> {
        let path = self.dir.join(format!("{name}.key"));
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(KeyringError::Io { path, source: error }),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Forgets the keys of this kind (see [`key_name`]) whose names are not to be kept.
    pub fn keep(&self, kind: &str, keep: impl Fn(&str) -> bool) -> Result<(), KeyringError> {
        let io_error = |source| KeyringError::Io { path: self.dir.clone(), source };
        for entry in std::fs::read_dir(&self.dir).map_err(io_error)? {
            let file = entry.map_err(io_error)?.file_name();
            let name = file.to_str().and_then(|file| file.strip_suffix(".key"));
            match name.filter(|name| name.split_once('-').is_some_and(|(of, _)| of == kind)) {
                Some(name) if !keep(name) => self.remove(name)?,
                Some(_) | None => {}
            }
        }
        Ok(())
    }
}

/// A key name that is safe as a file name, for what callers name freely: `kind` and a hash of `name`.
pub fn key_name(kind: &str, name: &str) -> String {
    use std::hash::Hasher;
    let mut hasher = siphasher::sip128::SipHasher13::new();
    hasher.write(name.as_bytes());
    let hash = siphasher::sip128::Hasher128::finish128(&hasher).as_u128();
    format!("{kind}-{hash:032x}")
}

#[cfg(unix)]
fn check_mode(path: &Path) -> Result<(), KeyringError> {
    use std::os::unix::fs::PermissionsExt;
    let io_error = |source| KeyringError::Io { path: path.to_owned(), source };
    let mode = std::fs::metadata(path).map_err(io_error)?.permissions().mode() & 0o777;
    if mode & 0o077 == 0 { Ok(()) } else { Err(KeyringError::Exposed { path: path.to_owned(), mode }) }
}

/// On Windows the data directory's access list protects what is inside.
#[cfg(not(unix))]
fn check_mode(_: &Path) -> Result<(), KeyringError> {
    Ok(())
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_key_is_generated_once_and_only_its_owner_may_read_it() {
        let dir = tempfile::tempdir().unwrap();
        let keys = dir.path().join("keys");
        let first = Keyring::open(keys.clone()).unwrap().load_or_generate("node").unwrap();
        assert_eq!(Keyring::open(keys.clone()).unwrap().load_or_generate("node").unwrap(), first);
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&keys), mode(&keys.join("node.key"))), (0o700, 0o600));
    }

    #[test]
    fn half_a_key_that_a_crash_left_is_removed_and_keys_of_a_kind_are_kept_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let keyring = Keyring::open(dir.path().to_owned()).unwrap();
        let [kept, dropped] = ["a", "b"].map(|name| key_name("guest", name));
        for name in ["node", &kept, &dropped] {
            keyring.load_or_generate(name).unwrap();
        }
        std::fs::write(dir.path().join("guest-1.new"), "half").unwrap();
        Keyring::open(dir.path().to_owned()).unwrap().keep("guest", |name| name == kept).unwrap();
        let left = std::fs::read_dir(dir.path()).unwrap().count();
        assert!(left == 2 && dir.path().join(format!("{kept}.key")).exists(), "{left} files");
    }

    #[test]
    fn a_damaged_or_exposed_key_is_refused_rather_than_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let keyring = Keyring::open(dir.path().to_owned()).unwrap();
        let path = dir.path().join("node.key");
        std::fs::write(&path, "garbage").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert!(matches!(keyring.load_or_generate("node"), Err(KeyringError::Damaged { .. })));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(keyring.load_or_generate("node"), Err(KeyringError::Exposed { .. })));
    }
}
