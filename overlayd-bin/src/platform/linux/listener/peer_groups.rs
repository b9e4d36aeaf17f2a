//! The groups of a peer, by a socket option.
#![allow(unsafe_code, reason = "no safe wrapper knows SO_PEERGROUPS")]

use std::{
    io,
    os::fd::{AsFd, AsRawFd},
};

/// More groups than the kernel lets a process have (`NGROUPS_MAX`).
const MOST: usize = 65_536;

/// The supplementary groups of a Unix socket's peer at the time it connected (`SO_PEERGROUPS`, Linux 4.13).
///
/// The kernel's word is preferred to the user database: it needs no look-up that could block, and it is what the
/// socket's mode was checked against.
pub(super) fn peer_groups(socket: &impl AsFd) -> io::Result<Vec<u32>> {
    let mut groups = vec![0_u32; 64];
    loop {
        match read(socket, &mut groups) {
            Ok(count) => {
                groups.truncate(count);
                return Ok(groups);
            }
            Err(error) if error.raw_os_error() == Some(libc::ERANGE) && groups.len() < MOST => {
                groups.resize(groups.len() * 4, 0);
            }
            Err(error) => return Err(error),
        }
    }
}

/// Fills `groups` and tells how many there are, or fails with `ERANGE` when there are more than fit.
fn read(socket: &impl AsFd, groups: &mut [u32]) -> io::Result<usize> {
    let mut len = libc::socklen_t::try_from(size_of_val(groups)).map_err(io::Error::other)?;
    // SAFETY: the descriptor is open while it is borrowed; the kernel writes at most `len` bytes, which is the size of
    // `groups`, and any bit pattern is a valid `u32`; `len` is a valid place for the length.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERGROUPS,
            groups.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(len as usize / size_of::<u32>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_groups_of_a_peer_are_those_of_its_process() {
        let (one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        let own: Vec<u32> = nix::unistd::getgroups().unwrap().into_iter().map(|gid| gid.as_raw()).collect();
        assert_eq!(peer_groups(&one).unwrap(), own);
    }
}
