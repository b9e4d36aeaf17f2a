//! The socket pair between a daemon and its successor: messages, with file descriptors that go along (unix(7), `SCM_RIGHTS`).

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use tokio::{io::Interest, net::UnixDatagram};

use super::message::UpgradeMessage;

/// Longest message in bytes: a reason for people is cut before.
const LONGEST: usize = 16 << 10;
/// Descriptors that come with one message, at most.
const MOST_DESCRIPTORS: usize = 8;

/// One end of the socket pair between the two processes. Its end of file says that the other process is gone.
#[derive(Debug)]
pub(super) struct UpgradeChannel(UnixDatagram);

/// A message and the descriptors that came with it.
pub(super) type ReceivedMessage = (UpgradeMessage, Vec<OwnedFd>);

impl UpgradeChannel {
    /// Ours, and the other one.
    pub(super) fn pair() -> io::Result<(Self, OwnedFd)> {
        // SEQPACKET keeps messages apart, as datagrams do, and has an end of file, as streams do.
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        Ok((Self::new(ours)?, theirs))
    }

    /// The end that another process made.
    pub(super) fn new(socket: OwnedFd) -> io::Result<Self> {
        // The type stands for a Unix socket to wait on; that this one has a connection and an end is used in here alone.
        Ok(Self(UnixDatagram::from_std(socket.into())?))
    }

    /// Sends a message with these descriptors.
    pub(super) async fn send(&self, message: &UpgradeMessage, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        self.0.async_io(Interest::WRITABLE, || send(self.0.as_fd(), message, descriptors)).await
    }

    /// The next message; `None` when the other process is gone.
    pub(super) async fn receive(&self) -> io::Result<Option<ReceivedMessage>> {
        self.0.async_io(Interest::READABLE, || receive(self.0.as_fd())).await
    }
}

/// Sends without waiting.
pub(super) fn send(socket: BorrowedFd<'_>, message: &UpgradeMessage, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let text = serde_json::to_vec(message)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::other(format!("{} descriptors are too many for one message", descriptors.len())));
    }
    sendmsg(socket, &[IoSlice::new(&text)], &mut control, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)?;
    Ok(())
}

fn receive(socket: BorrowedFd<'_>) -> io::Result<Option<ReceivedMessage>> {
    let mut text = vec![0; LONGEST];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let got = match recvmsg(socket, &mut [IoSliceMut::new(&mut text)], &mut control, flags) {
        Ok(got) => got,
        // The other process ended before it had read everything that was sent.
        Err(rustix::io::Errno::CONNRESET) => return Ok(None),
        Err(errno) => return Err(errno.into()),
    };
    // No message is empty, so nothing read is the end of file.
    if got.bytes == 0 {
        return Ok(None);
    }
    let descriptors = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    let descriptors = descriptors.flatten().collect();
    Ok(Some((serde_json::from_slice(&text[..got.bytes])?, descriptors)))
}

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Read as _};

    use super::*;

    #[tokio::test]
    async fn messages_and_descriptors_arrive_in_order_and_then_the_end_is_seen() {
        let (ours, theirs) = UpgradeChannel::pair().unwrap();
        let theirs = UpgradeChannel::new(theirs).unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("file"), "content").unwrap();
        let file = File::open(dir.path().join("file")).unwrap();
        ours.send(&UpgradeMessage::Device { name: "wg0".into() }, &[file.as_fd()]).await.unwrap();
        ours.send(&UpgradeMessage::Go, &[]).await.unwrap();
        let (message, mut descriptors) = theirs.receive().await.unwrap().unwrap();
        assert_eq!((message, descriptors.len()), (UpgradeMessage::Device { name: "wg0".into() }, 1));
        let mut text = String::new();
        File::from(descriptors.remove(0)).read_to_string(&mut text).unwrap();
        assert_eq!(text, "content");
        assert_eq!(theirs.receive().await.unwrap().unwrap().0, UpgradeMessage::Go);
        drop(ours);
        assert!(theirs.receive().await.unwrap().is_none());
    }
}
