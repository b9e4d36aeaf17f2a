use std::{
    fs,
    io::{self, BufRead, BufReader, Read, Write},
    os::{
        fd::OwnedFd,
        unix::{
            fs::{DirBuilderExt, MetadataExt},
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{Builder, JoinHandle},
    time::Duration,
};

use overlayd_core::names::LinkName;
use rustix::{
    fs::Mode,
    net::{AddressFamily, Shutdown, SocketAddrUnix, SocketFlags, SocketType},
};
use zeroize::Zeroizing;

use super::{ControlTarget, SetRequest};

/// How long a client may be silent.
const PATIENCE: Duration = Duration::from_secs(30);
/// Clients served at once.
const MOST_CLIENTS: usize = 16;
/// Longest request in bytes: some 30,000 peers.
const LONGEST: u64 = 16 << 20;

/// The control socket of one device; it is gone, file and all, with this value.
pub(crate) struct ControlServer {
    path: PathBuf,
    inode: (u64, u64),
    listener: UnixListener,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// Path of the control socket.
pub(crate) fn socket_path(dir: &Path, device: &LinkName) -> PathBuf {
    dir.join(format!("{device}.sock"))
}

/// Removes the socket that a process which is gone has left; one that a process listens on stays.
pub(crate) fn remove_stale(path: &Path) -> io::Result<()> {
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(_) => Err(io::Error::new(io::ErrorKind::AddrInUse, "another process listens there")),
    }
}

impl ControlServer {
    /// Serves `target` on `<dir>/<device>.sock`, mode 0600.
    pub(crate) fn start(dir: &Path, device: &LinkName, target: ControlTarget) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let path = socket_path(dir, device);
        // bind(2) refuses a path that exists, also where the process that made it is gone.
        remove_stale(&path)?;
        let listener = listen(&path)?;
        let accepting = listener.try_clone()?;
        let metadata = fs::symlink_metadata(&path)?;
        let inode = (metadata.dev(), metadata.ino());
        let stopping = Arc::new(AtomicBool::new(false));
        let mut server = Self { path, inode, listener, stopping: stopping.clone(), thread: None };
        let thread = Builder::new().name(format!("{device}-ctl"));
        server.thread = Some(thread.spawn(move || accept(&accepting, &target, &stopping))?);
        Ok(server)
    }
}

impl Drop for ControlServer {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Release);
        // Ends the accept(2) of the thread, which closing the descriptor here would not.
        let stopped = rustix::net::shutdown(&self.listener, Shutdown::Both);
        if let (Ok(()), Some(thread)) = (stopped, self.thread.take()) {
            // A panic there has been printed and ends nothing else.
            let _ = thread.join();
        }
        // Another process may have put its own socket there, which must stay: the inode tells.
        let ours = fs::symlink_metadata(&self.path).is_ok_and(|found| (found.dev(), found.ino()) == self.inode);
        if ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "could not remove the control socket");
        }
    }
}

/// Listens at `path`. The mode is set on the socket before it gets its name, so that no other user connects in between.
fn listen(path: &Path) -> io::Result<UnixListener> {
    let socket: OwnedFd =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    rustix::fs::fchmod(&socket, Mode::from_raw_mode(0o600))?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    rustix::net::listen(&socket, 64)?;
    Ok(socket.into())
}

fn accept(listener: &UnixListener, target: &ControlTarget, stopping: &AtomicBool) {
    let clients = Arc::new(AtomicUsize::new(0));
    for client in listener.incoming() {
        if stopping.load(Ordering::Acquire) {
            return;
        }
        match client {
            // Each has a thread of its own, so their number is limited; one that is turned away may come again.
            Ok(client) if clients.load(Ordering::Relaxed) < MOST_CLIENTS => serve_aside(client, target, &clients),
            Ok(_) => tracing::warn!("too many clients on a control socket; one was turned away"),
            Err(error) => {
                tracing::warn!(%error, "could not accept a client on a control socket");
                // Out of descriptors, most likely: without a pause the thread would spin until one is free.
                std::thread::sleep(Duration::from_millis(100));
            }
        }
    }
}

fn serve_aside(client: UnixStream, target: &ControlTarget, clients: &Arc<AtomicUsize>) {
    clients.fetch_add(1, Ordering::Relaxed);
    let target = target.clone();
    let done = clients.clone();
    let thread = Builder::new().name("wg-ctl-client".to_owned()).spawn(move || {
        if let Err(error) = serve(&client, &target) {
            tracing::debug!(%error, "a client of a control socket left");
        }
        done.fetch_sub(1, Ordering::Relaxed);
    });
    if let Err(error) = thread {
        clients.fetch_sub(1, Ordering::Relaxed);
        tracing::warn!(%error, "could not serve a client of a control socket");
    }
}

fn serve(client: &UnixStream, target: &ControlTarget) -> io::Result<()> {
    client.set_read_timeout(Some(PATIENCE))?;
    client.set_write_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new(client);
    while let Some(request) = read_request(&mut reader)? {
        let mut writer = client;
        // Both hold keys, and are wiped when they go.
        let answer = Zeroizing::new(answer(&request, target));
        writer.write_all(answer.as_bytes())?;
    }
    Ok(())
}

/// One request with its first line, without the empty line at its end; `None` when the client is done.
fn read_request(reader: &mut impl BufRead) -> io::Result<Option<Zeroizing<String>>> {
    let mut request = Zeroizing::new(String::new());
    // A client may not make this process hold any amount of memory.
    let mut limited = reader.take(LONGEST);
    loop {
        let before = request.len();
        match limited.read_line(&mut request)? {
            0 if request.is_empty() => return Ok(None),
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            _ if &request[before..] == "\n" => {
                request.truncate(before);
                return Ok(Some(request));
            }
            _ => {}
        }
    }
}

fn answer(request: &str, target: &ControlTarget) -> String {
    let (operation, rest) = request.split_once('\n').unwrap_or((request, ""));
    let outcome = match operation {
        "get=1" if rest.is_empty() => target.get(),
        "set=1" => match SetRequest::parse(rest) {
            Ok(request) => target.set(&request).map(|()| String::new()),
            Err(error) => Err(io::Error::new(io::ErrorKind::InvalidInput, error)),
        },
        _ => Err(io::ErrorKind::InvalidInput.into()),
    };
    match outcome {
        Ok(text) => text + "errno=0\n\n",
        Err(error) => {
            tracing::debug!(%error, "a request on a control socket was refused");
            format!("errno=-{}\n\n", crate::io::control::number(&error))
        }
    }
}
