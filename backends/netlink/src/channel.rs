//! A netlink socket: requests go out, and their answers are read. The kernel works on a request inside the `send`, so that
//! the answer is there when the `send` returns.

use std::{io, time::Duration};

use netlink_sys::Socket;
use rustix::{
    io::Errno,
    net::sockopt::{Timeout, set_socket_timeout},
};

use crate::{
    Error, Request, Result,
    message::{NLM_F_ACK, NLM_F_DUMP, ReceivedMessage, messages},
    traffic,
};

/// How often a listing is repeated when the kernel says that it changed underneath.
const DUMP_ATTEMPTS: usize = 16;
/// How long the kernel may take for an answer; it gives one inside the `send`, so that this only bounds a broken one.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);
/// The kernel fills at most 32 KiB per datagram of a listing.
const BUFFER: usize = 64 * 1024;

/// One netlink socket and its read buffer.
pub(crate) struct NetlinkChannel {
    socket: Socket,
    port: u32,
    sequence: u32,
    buffer: Vec<u8>,
    settled: bool,
}

impl std::fmt::Debug for NetlinkChannel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NetlinkChannel").field("sequence", &self.sequence).finish_non_exhaustive()
    }
}

impl NetlinkChannel {
    /// For the calling thread's network namespace; `protocol` is one of `netlink(7)`.
    pub(crate) fn open(protocol: isize) -> Result<Self> {
        let open = || -> io::Result<Self> {
            let mut socket = Socket::new(protocol)?;
            let port = socket.bind_auto()?.port_number();
            socket.set_ext_ack(true)?;
            socket.set_cap_ack(true)?;
            socket.set_netlink_get_strict_chk(true)?;
            set_socket_timeout(&socket, Timeout::Recv, Some(ANSWER_WITHIN))?;
            Ok(Self { socket, port, sequence: 0, buffer: Vec::with_capacity(BUFFER), settled: true })
        };
        open().map_err(|e| Error::new("open a netlink socket", e))
    }

    /// The number by which the kernel tells this socket from others.
    pub(crate) fn port(&self) -> u32 {
        self.port
    }

    /// Whether all answers are read. Otherwise the next request would get those of the last one.
    pub(crate) fn is_settled(&self) -> bool {
        self.settled
    }

    /// Says that what may still be answered to earlier requests is of no interest: answers are known by their numbers.
    pub(crate) fn settle(&mut self) {
        self.settled = true;
    }

    /// Carries out all requests, in one datagram. The kernel answers requests in order, and says of those before the last
    /// one only what has failed.
    pub(crate) fn acknowledge(&mut self, requests: &[Request]) -> Result<Vec<Result<()>>> {
        let Some(last) = requests.len().checked_sub(1) else { return Ok(Vec::new()) };
        let first = self.send(requests, NLM_F_ACK)?;
        let mut outcomes: Vec<Result<()>> = requests.iter().map(|_| Ok(())).collect();
        while !self.settled {
            self.receive(&requests[last].action)?;
            for message in messages(&self.buffer) {
                let index = message.sequence.wrapping_sub(first) as usize;
                if index > last || !message.is_verdict() {
                    continue;
                }
                outcomes[index] = verdict(&requests[index].action, &message);
                self.settled |= index == last;
            }
        }
        Ok(outcomes)
    }

    /// The one object that the request asks for: it is the answer, or an error is.
    pub(crate) fn get<T>(&mut self, request: Request, parse: impl Fn(&[u8]) -> Option<T>) -> Result<T> {
        let sequence = self.send(std::slice::from_ref(&request), 0)?;
        loop {
            self.receive(&request.action)?;
            let Some(message) = messages(&self.buffer).find(|message| message.sequence == sequence) else { continue };
            self.settled = true;
            if message.is_verdict() {
                verdict(&request.action, &message)?;
            }
            let found = if message.is_verdict() { None } else { parse(message.payload) };
            return found.ok_or_else(|| Error::new(&request.action, Errno::NOENT));
        }
    }

    /// All objects that the request asks for, as they were at one moment.
    pub(crate) fn dump<T>(
        &mut self,
        request: impl Fn() -> Request,
        parse: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<Vec<T>> {
        for _ in 1..DUMP_ATTEMPTS {
            match self.dump_once(&request(), &parse) {
                Err(error) if error.errno() == Some(Errno::INTR) => {}
                outcome => return outcome,
            }
        }
        self.dump_once(&request(), &parse)
    }

    fn dump_once<T>(&mut self, request: &Request, parse: impl Fn(&[u8]) -> Option<T>) -> Result<Vec<T>> {
        let sequence = self.send(std::slice::from_ref(request), NLM_F_DUMP)?;
        let mut found = Vec::new();
        let mut torn = false;
        loop {
            self.receive(&request.action)?;
            for message in messages(&self.buffer).filter(|message| message.sequence == sequence) {
                torn |= message.is_torn();
                if message.is_verdict() {
                    self.settled = true;
                    verdict(&request.action, &message)?;
                } else if message.is_end() {
                    self.settled = true;
                    return finished(&request.action, &message, torn).map(|()| found);
                } else {
                    found.extend(parse(message.payload));
                }
            }
        }
    }

    /// Sends all requests in one datagram, the last one with these flags, and returns the sequence number of the first.
    fn send(&mut self, requests: &[Request], flags: u16) -> Result<u32> {
        let first = self.sequence.wrapping_add(1);
        let mut datagram = Vec::with_capacity(512);
        for (index, request) in requests.iter().enumerate() {
            let flags = if index + 1 == requests.len() { flags } else { 0 };
            tracing::trace!(action = request.action, listing = flags == NLM_F_DUMP, "asks the kernel");
            if request.message.is_overlong() {
                return Err(Error::new(&request.action, Errno::MSGSIZE));
            }
            let sequence = self.next_sequence();
            request.message.write_to(&mut datagram, flags, sequence);
            traffic::said(1);
        }
        let action = requests.last().map_or("send nothing", |request| request.action.as_str());
        self.send_datagram(action, &datagram)?;
        Ok(first)
    }

    /// The number of the next message to be sent.
    pub(crate) fn next_sequence(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1);
        self.sequence
    }

    /// Sends messages that are finished; `action` says in errors what they do.
    pub(crate) fn send_datagram(&mut self, action: &str, datagram: &[u8]) -> Result<()> {
        self.settled = false;
        match self.socket.send(datagram, 0) {
            Ok(_) => Ok(()),
            Err(error) => Err(Error::new(action, error)),
        }
    }

    /// The next datagram of the kernel.
    pub(crate) fn receive(&mut self, action: &str) -> Result<&[u8]> {
        loop {
            self.buffer.clear();
            match self.socket.recv(&mut self.buffer, 0) {
                Ok(_) => {
                    traffic::heard(messages(&self.buffer).count());
                    return Ok(&self.buffer);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::new(action, error)),
            }
        }
    }
}

/// What the kernel answers to a request.
pub(crate) fn verdict(action: &str, message: &ReceivedMessage<'_>) -> Result<()> {
    match message.errno() {
        0 => Ok(()),
        errno => Err(Error::refused(action, errno, message.explanation())),
    }
}

/// The end of a listing carries its result, and a listing that was torn has none.
fn finished(action: &str, end: &ReceivedMessage<'_>, torn: bool) -> Result<()> {
    match end.errno() {
        0 if torn => Err(Error::new(action, Errno::INTR)),
        0 => Ok(()),
        errno => Err(Error::refused(action, errno, None)),
    }
}
