//! The daemon's Unix socket.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use async_trait::async_trait;
use tokio::net::UnixStream;

use super::{ByteStream, Client, ClientOptions, Connector};

/// Reaches a daemon through its Unix socket.
#[derive(Debug, Clone)]
pub struct UnixConnector(pub PathBuf);

#[async_trait]
impl Connector for UnixConnector {
    fn endpoint(&self) -> String {
        self.0.display().to_string()
    }

    fn access(&self) -> Option<String> {
        Some(access(&self.0))
    }

    async fn connect(&self) -> io::Result<Box<dyn ByteStream>> {
        Ok(Box::new(UnixStream::connect(&self.0).await?))
    }
}

impl Client {
    /// A client of the daemon at this Unix socket.
    pub fn unix(socket: impl Into<PathBuf>, options: ClientOptions) -> Self {
        Self::new(UnixConnector(socket.into()), options)
    }
}

/// Who may use the socket. Connecting to a Unix socket needs write permission on its file.
fn access(socket: &Path) -> String {
    // Blocking, but one look at a file, and only after the connection was denied.
    let Ok(metadata) = fs::metadata(socket) else {
        return "a directory on the way to it may not be entered; use sudo".into();
    };
    let user = name_of(metadata.uid(), Path::new("/etc/passwd"));
    let group = name_of(metadata.gid(), Path::new("/etc/group"));
    let mode = metadata.permissions().mode() & 0o7777;
    // No user should join root's group, and a group without write permission does not help.
    let remedy = match metadata.gid() {
        gid if gid != 0 && mode & 0o020 != 0 => format!("join the group {group} or use sudo"),
        _ => "use sudo".to_owned(),
    };
    format!("it belongs to {user}:{group}, {mode:04o}; {remedy}")
}

/// The name of a user or group in one of the system's files; the number where it has none there, as on hosts that keep
/// their users in a directory service.
fn name_of(id: u32, file: &Path) -> String {
    // For one error message: not worth a library that asks the system's own resolver.
    let entries = fs::read_to_string(file).unwrap_or_default();
    let name = entries.lines().find_map(|line| {
        let mut columns = line.split(':');
        let name = columns.next()?;
        // name:password:id
        (columns.nth(1)?.parse() == Ok(id)).then(|| name.to_owned())
    });
    name.unwrap_or_else(|| id.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_denied_user_is_told_whose_socket_it_is() {
        let root = access(Path::new("/"));
        assert!(root.starts_with("it belongs to root:root, 0") && root.ends_with("; use sudo"), "{root}");
        assert!(access(Path::new("/nowhere/x.sock")).contains("directory"));
    }

    #[test]
    fn an_id_without_a_name_stays_a_number() {
        assert_eq!(name_of(0, Path::new("/etc/passwd")), "root");
        assert_eq!(name_of(4_294_000_000, Path::new("/etc/group")), "4294000000");
    }
}
