use std::{
    io::{Read, Write},
    net::IpAddr,
    os::unix::net::UnixStream,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use overlayd_core::protocol::{AttachContainer, AttachHandle, Event, Frame, Request, Response, StatusSnapshot};

/// How long an event is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// An orchestrator's end of the socket, as published clients are: one request in flight, ids from 1, events dropped unless they are waited for.
/// It has a codec of its own (length as u32 little-endian, then JSON), so that the daemon's is tested against another.
#[derive(Debug)]
pub struct LabClient {
    stream: UnixStream,
    next_id: u64,
}

impl LabClient {
    /// Connects, waiting this long for a daemon to answer.
    pub fn connect(socket: &Path, patience: Duration) -> std::io::Result<Self> {
        let start = Instant::now();
        loop {
            match UnixStream::connect(socket) {
                Ok(stream) => return Ok(Self { stream, next_id: 1 }),
                Err(error) if start.elapsed() > patience => return Err(error),
                // A socket that is not there yet announces itself to no one; published clients poll too.
                Err(_) => thread::sleep(Duration::from_millis(2)),
            }
        }
    }

    /// Asks, and returns the answer; an error means that the connection is of no more use.
    pub fn call(&mut self, request: Request) -> std::io::Result<Response> {
        let id = self.say(request)?;
        self.reply(id)
    }

    /// Asks without reading; the id of the request.
    pub fn say(&mut self, request: Request) -> std::io::Result<u64> {
        let id = self.next_id;
        self.next_id += 1;
        let body = Frame::Request { id, request }.encode().map_err(std::io::Error::other)?;
        let length = u32::try_from(body.len()).map_err(std::io::Error::other)?;
        self.stream.write_all(&length.to_le_bytes())?;
        self.stream.write_all(&body)?;
        Ok(id)
    }

    /// Bytes that have arrived and are not read yet.
    pub fn unread(&self) -> std::io::Result<u64> {
        Ok(rustix::io::ioctl_fionread(&self.stream)?)
    }

    /// The answer to this request; those before it are dropped.
    pub fn reply(&mut self, id: u64) -> std::io::Result<Response> {
        loop {
            match self.frame()? {
                Frame::Response { id: of, response } if of == id => return Ok(response),
                Frame::Response { .. } | Frame::Event(_) => {}
                Frame::Request { .. } => return Err(std::io::Error::other("the daemon sent a request")),
            }
        }
    }

    /// Waits for this event; those before it are dropped. Panics if it does not come.
    #[track_caller]
    pub fn hear(&mut self, wished: &Event) {
        self.stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        loop {
            match self.frame() {
                Ok(Frame::Event(event)) if event == *wished => break,
                Ok(_) => {}
                Err(error) => panic!("{wished:?} was not heard: {error}"),
            }
        }
        self.stream.set_read_timeout(None).expect("no time-out");
    }

    fn frame(&mut self) -> std::io::Result<Frame> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let mut body = vec![0; u32::from_le_bytes(length) as usize];
        self.stream.read_exact(&mut body)?;
        Frame::decode(&body).map_err(std::io::Error::other)
    }

    /// Asks; panics if the daemon is gone or says no.
    #[track_caller]
    pub fn ask(&mut self, request: Request) -> Response {
        let shown = format!("{request:?}");
        match self.call(request) {
            Ok(Response::Err { message, .. }) => panic!("{shown} was refused: {message}"),
            Ok(response) => response,
            Err(error) => panic!("{shown} was not answered: {error}"),
        }
    }

    /// Asks for something whose reply is `ok`.
    #[track_caller]
    pub fn ok(&mut self, request: Request) {
        let response = self.ask(request);
        assert_eq!(response, Response::Ok);
    }

    /// The daemon's status.
    #[track_caller]
    pub fn status(&mut self) -> StatusSnapshot {
        match self.ask(Request::Status) {
            Response::Status(status) => status,
            other => panic!("status was answered {other:?}"),
        }
    }

    /// Asks for the status until it is as wished, or for a few seconds, and returns the last one: what a device learns
    /// by itself shows in the status a little later.
    #[track_caller]
    pub fn status_until(&mut self, wished: impl Fn(&StatusSnapshot) -> bool) -> StatusSnapshot {
        let start = Instant::now();
        loop {
            let status = self.status();
            if wished(&status) || start.elapsed() > Duration::from_secs(10) {
                return status;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Attaches a process to a service; its address there.
    #[track_caller]
    pub fn attach(&mut self, pid: u32, service: &str) -> IpAddr {
        match self.ask(attach_request(pid, service)) {
            Response::Attached(attached) => attached.ip,
            other => panic!("attach was answered {other:?}"),
        }
    }

    /// Detaches a process.
    #[track_caller]
    pub fn detach(&mut self, pid: u32) {
        self.ok(Request::DetachContainer { handle: AttachHandle::LinuxPid { pid } });
    }
}

/// The plain attach of a process to a service.
pub fn attach_request(pid: u32, service: &str) -> Request {
    Request::AttachContainer(AttachContainer {
        handle: AttachHandle::LinuxPid { pid },
        service: service.into(),
        join_global: false,
        ephemeral: false,
        isolation_network: None,
        dns_server: None,
        dns_domain: None,
    })
}
