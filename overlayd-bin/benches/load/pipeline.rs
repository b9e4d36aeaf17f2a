//! Many requests on one connection, sent without waiting for replies.

use std::{
    io::{BufReader, Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use overlayd_core::protocol::{Frame, Request, Response};

/// Sends all requests at once and reads the replies, which must come in order and be no refusals; how long all took.
pub(crate) fn run(socket: &Path, requests: &[Request]) -> Duration {
    let stream = UnixStream::connect(socket).unwrap();
    let mut bytes = Vec::new();
    for (id, request) in (1..).zip(requests) {
        let body = Frame::Request { id, request: request.clone() }.encode().unwrap();
        bytes.extend_from_slice(&u32::try_from(body.len()).unwrap().to_le_bytes());
        bytes.extend_from_slice(&body);
    }
    let begun = Instant::now();
    thread::scope(|scope| {
        scope.spawn(|| (&stream).write_all(&bytes).unwrap());
        let mut replies = BufReader::with_capacity(1 << 16, &stream);
        for expected in 1..=requests.len() as u64 {
            let id = reply(&mut replies);
            assert_eq!(id, expected, "replies come in order");
        }
    });
    begun.elapsed()
}

/// The id of the next reply.
fn reply(from: &mut impl Read) -> u64 {
    loop {
        let mut length = [0; 4];
        from.read_exact(&mut length).unwrap();
        let mut body = vec![0; u32::from_le_bytes(length) as usize];
        from.read_exact(&mut body).unwrap();
        match Frame::decode(&body).unwrap() {
            Frame::Response { response: Response::Err { message, .. }, .. } => panic!("refused: {message}"),
            Frame::Response { id, .. } => return id,
            Frame::Event(_) => {}
            Frame::Request { .. } => panic!("the daemon sent a request"),
        }
    }
}
