use std::{io, sync::Mutex, time::Duration};

use netlink_sys::{Socket, protocols::NETLINK_ROUTE};
use nlink::netlink::{
    MessageBuilder, MessageIter,
    message::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NlMsgError, NlMsgHdr, NlMsgType},
};
use overlayd_core::sync::lock;
use rustix::{
    io::Errno,
    net::sockopt::{Timeout, set_socket_timeout},
};

use crate::{Error, Netns, Result, steps, traffic};

/// How often a listing is repeated when the kernel says that it changed underneath.
const DUMP_ATTEMPTS: usize = 16;
/// How long the kernel may take for an answer; it gives one inside the `send`, so that this only bounds a broken one.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);
/// The kernel fills at most 32 KiB per datagram of a listing.
const BUFFER: usize = 64 * 1024;

/// One request to the kernel's routing interface, not sent yet.
#[derive(Debug)]
pub struct Request {
    action: String,
    message: MessageBuilder,
}

impl Request {
    /// A request of this message type; `action` says what it does in errors, as `delete link veth-42-s`.
    pub(crate) fn new(action: String, kind: u16, flags: u16) -> Self {
        Self { action, message: MessageBuilder::new(kind, NLM_F_REQUEST | flags) }
    }

    pub(crate) fn message(&mut self) -> &mut MessageBuilder {
        &mut self.message
    }

    /// Gives the request another name in errors.
    #[must_use]
    pub fn named(mut self, action: impl Into<String>) -> Self {
        self.action = action.into();
        self
    }
}

/// The routing interface of one network namespace. Any number of threads may use it at once.
#[derive(Debug)]
pub struct Rtnl {
    netns: Netns,
    idle: Mutex<Vec<Channel>>,
}

impl Rtnl {
    /// For the calling thread's network namespace.
    pub fn here() -> Result<Self> {
        Self::visiting(Netns::current()?)
    }

    /// For the calling thread's network namespace, which is `netns`: asking for it takes as long as a small request.
    pub fn visiting(netns: Netns) -> Result<Self> {
        let channel = Channel::open()?;
        Ok(Self { netns, idle: Mutex::new(vec![channel]) })
    }

    /// For another network namespace.
    pub fn inside(netns: &Netns) -> Result<Self> {
        let channel = netns.run(Channel::open)??;
        Ok(Self { netns: netns.try_clone()?, idle: Mutex::new(vec![channel]) })
    }

    /// The namespace it speaks for.
    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    /// Carries out one request.
    pub fn run(&self, request: Request) -> Result<()> {
        self.run_all([request])
    }

    /// Carries out all requests in order, in one datagram. The kernel goes on after a failed one; the first failure
    /// is returned.
    pub fn run_all(&self, requests: impl IntoIterator<Item = Request>) -> Result<()> {
        self.try_each(requests)?.into_iter().collect()
    }

    /// As [`Rtnl::run_all`], with the outcome of each request.
    pub fn try_each(&self, requests: impl IntoIterator<Item = Request>) -> Result<Vec<Result<()>>> {
        if !steps::are_told() {
            return self.with_channel(|channel| channel.acknowledge(requests.into_iter().collect()));
        }
        let one = |request: Request| {
            let action = request.action.clone();
            let outcome = self.with_channel(|channel| channel.acknowledge(vec![request]))?;
            steps::done(&action);
            Ok(outcome)
        };
        Ok(requests.into_iter().map(one).collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
    }

    /// The one object that the request asks for.
    pub(crate) fn get<T>(&self, request: Request, parse: impl Fn(&[u8]) -> Option<T>) -> Result<T> {
        self.with_channel(|channel| channel.get(request, parse))
    }

    /// All objects that the request asks for, as they were at one moment.
    pub(crate) fn dump<T>(&self, request: impl Fn() -> Request, parse: impl Fn(&[u8]) -> Option<T>) -> Result<Vec<T>> {
        for _ in 1..DUMP_ATTEMPTS {
            match self.with_channel(|channel| channel.dump(request(), &parse)) {
                Err(error) if error.errno() == Some(Errno::INTR) => {}
                outcome => return outcome,
            }
        }
        self.with_channel(|channel| channel.dump(request(), &parse))
    }

    fn with_channel<T>(&self, work: impl FnOnce(&mut Channel) -> Result<T>) -> Result<T> {
        let idle = lock(&self.idle).pop();
        let mut channel = match idle {
            Some(channel) => channel,
            None => self.netns.run(Channel::open)??,
        };
        let outcome = work(&mut channel);
        // A channel whose answers are not all read would hand them to the next request.
        if channel.settled {
            lock(&self.idle).push(channel);
        }
        outcome
    }
}

/// One netlink socket and its read buffer.
struct Channel {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
    settled: bool,
}

impl std::fmt::Debug for Channel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Channel").field("sequence", &self.sequence).finish_non_exhaustive()
    }
}

impl Channel {
    fn open() -> Result<Self> {
        let open = || -> io::Result<Socket> {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            crate::watch::register(socket.bind_auto()?);
            socket.set_ext_ack(true)?;
            socket.set_cap_ack(true)?;
            socket.set_netlink_get_strict_chk(true)?;
            set_socket_timeout(&socket, Timeout::Recv, Some(ANSWER_WITHIN))?;
            Ok(socket)
        };
        let socket = open().map_err(|e| Error::new("open a netlink socket", e))?;
        Ok(Self { socket, sequence: 0, buffer: Vec::with_capacity(BUFFER), settled: true })
    }

    /// The kernel answers requests in order, and says of those before the last one only what has failed.
    fn acknowledge(&mut self, requests: Vec<Request>) -> Result<Vec<Result<()>>> {
        let Some(last) = requests.len().checked_sub(1) else { return Ok(Vec::new()) };
        let first = self.send(&requests.iter().collect::<Vec<_>>(), NLM_F_ACK)?;
        let mut outcomes: Vec<Result<()>> = requests.iter().map(|_| Ok(())).collect();
        while !self.settled {
            self.receive(&requests[last].action)?;
            for message in MessageIter::new(&self.buffer) {
                let (header, payload) = message.map_err(|e| Error::new("read an answer", io::Error::other(e)))?;
                let index = header.nlmsg_seq.wrapping_sub(first) as usize;
                if index > last || !header.is_error() {
                    continue;
                }
                outcomes[index] = verdict(&requests[index].action, header, payload);
                self.settled |= index == last;
            }
        }
        Ok(outcomes)
    }

    /// The object is the answer, or an error is.
    fn get<T>(&mut self, request: Request, parse: impl Fn(&[u8]) -> Option<T>) -> Result<T> {
        let sequence = self.send(&[&request], 0)?;
        loop {
            self.receive(&request.action)?;
            for message in MessageIter::new(&self.buffer) {
                let (header, payload) = message.map_err(|e| Error::new(&request.action, io::Error::other(e)))?;
                if header.nlmsg_seq != sequence {
                    continue;
                }
                self.settled = true;
                let found = match header.is_error() {
                    true => verdict(&request.action, header, payload).map(|()| None),
                    false => Ok(parse(payload)),
                };
                return found?.ok_or_else(|| Error::new(&request.action, Errno::NOENT));
            }
        }
    }

    fn dump<T>(&mut self, request: Request, parse: impl Fn(&[u8]) -> Option<T>) -> Result<Vec<T>> {
        let sequence = self.send(&[&request], NLM_F_DUMP)?;
        let mut found = Vec::new();
        let mut torn = false;
        loop {
            self.receive(&request.action)?;
            for message in MessageIter::new(&self.buffer) {
                let (header, payload) = message.map_err(|e| Error::new(&request.action, io::Error::other(e)))?;
                if header.nlmsg_seq != sequence {
                    continue;
                }
                torn |= header.is_dump_interrupted();
                if header.is_error() {
                    self.settled = true;
                    verdict(&request.action, header, payload)?;
                } else if header.nlmsg_type == NlMsgType::DONE {
                    self.settled = true;
                    return finished(&request.action, payload, torn).map(|()| found);
                } else {
                    found.extend(parse(payload));
                }
            }
        }
    }

    /// Sends all requests in one datagram, the last one with these flags, and returns the sequence number of the first.
    fn send(&mut self, requests: &[&Request], flags: u16) -> Result<u32> {
        let first = self.sequence.wrapping_add(1);
        let mut datagram = Vec::with_capacity(512);
        let mut action = "send a request";
        for (request, left) in requests.iter().zip((0..requests.len()).rev()) {
            self.sequence = self.sequence.wrapping_add(1);
            action = &request.action;
            let flags = if left == 0 { flags } else { 0 };
            if request.message.oversized_nest().is_some() {
                return Err(Error::new(action, Errno::MSGSIZE));
            }
            tracing::trace!(action, listing = flags == NLM_F_DUMP, "asks the kernel");
            let start = datagram.len();
            datagram.extend_from_slice(request.message.as_bytes());
            finish_header(&mut datagram[start..], flags, self.sequence);
            crate::watch::sending(&datagram[start..]);
            traffic::said(1);
        }
        self.settled = false;
        self.socket.send(&datagram, 0).map_err(|e| Error::new(action, e))?;
        Ok(first)
    }

    fn receive(&mut self, action: &str) -> Result<()> {
        loop {
            self.buffer.clear();
            match self.socket.recv(&mut self.buffer, 0) {
                Ok(_) => {
                    traffic::heard(MessageIter::new(&self.buffer).count());
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::new(action, error)),
            }
        }
    }
}

/// Fills in the header of one message (`struct nlmsghdr`): its length, further flags and its sequence number.
fn finish_header(message: &mut [u8], flags: u16, sequence: u32) {
    let length = message.len() as u32;
    let flags = u16::from_ne_bytes([message[6], message[7]]) | flags;
    message[0..4].copy_from_slice(&length.to_ne_bytes());
    message[6..8].copy_from_slice(&flags.to_ne_bytes());
    message[8..12].copy_from_slice(&sequence.to_ne_bytes());
}

fn verdict(action: &str, header: &NlMsgHdr, payload: &[u8]) -> Result<()> {
    let answer = NlMsgError::from_bytes(payload).map_err(|e| Error::new(action, io::Error::other(e)))?;
    if answer.is_ack() {
        return Ok(());
    }
    Err(Error::refused(action, -answer.error, answer.ext_ack(header.nlmsg_flags, payload).describe()))
}

/// The end of a listing carries its result, and a torn one is none.
fn finished(action: &str, payload: &[u8], torn: bool) -> Result<()> {
    let code = payload.get(..4).and_then(|b| b.try_into().ok()).map_or(0, i32::from_ne_bytes);
    if code < 0 {
        return Err(Error::refused(action, -code, None));
    }
    if torn { Err(Error::new(action, Errno::INTR)) } else { Ok(()) }
}
