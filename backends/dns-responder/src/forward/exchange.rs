//! One question to one server. Each gets a socket of its own, so that the kernel chooses a random source port and lets
//! only this server's packets in.

use std::{io, net::SocketAddr, time::Duration};

use domain::base::{iana::Rcode, message_builder::PushError};
use rand_core::{OsRng, RngCore as _};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UdpSocket},
    time::timeout,
};

use crate::wire::{AnswerError, EdnsOffer, UpstreamAnswer, UpstreamQuestion};

/// How long a server may take over UDP.
const UDP_PATIENCE: Duration = Duration::from_millis(1200);
/// How long a server may take over TCP.
const TCP_PATIENCE: Duration = Duration::from_secs(3);
/// Largest datagram.
const MAX_DATAGRAM: usize = 65_535;

/// Why a server did not help.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExchangeError {
    #[error("no answer in time")]
    Late,
    #[error("it cannot be reached: {0}")]
    Unreachable(#[from] io::Error),
    #[error(transparent)]
    AnswerError(#[from] AnswerError),
    #[error("the question does not fit a message: {0}")]
    TooLong(#[from] PushError),
}

/// Asks over UDP, and over TCP where the answer is larger.
pub(crate) async fn ask(server: SocketAddr, question: &UpstreamQuestion) -> Result<UpstreamAnswer, ExchangeError> {
    let answer = match by_udp(server, question, EdnsOffer::Edns).await {
        // Servers older than EDNS say so in one of these ways (RFC 6891, section 7).
        Err(ExchangeError::AnswerError(AnswerError::Code(Rcode::FORMERR | Rcode::NOTIMP))) => {
            by_udp(server, question, EdnsOffer::Plain).await
        }
        answer => answer,
    };
    match answer {
        Err(ExchangeError::AnswerError(AnswerError::Truncated)) => {
            timeout(TCP_PATIENCE, by_tcp(server, question)).await.map_err(|_| ExchangeError::Late)?
        }
        answer => answer,
    }
}

async fn by_udp(
    server: SocketAddr,
    question: &UpstreamQuestion,
    offer: EdnsOffer,
) -> Result<UpstreamAnswer, ExchangeError> {
    let any: SocketAddr = if server.is_ipv4() { ([0; 4], 0).into() } else { ([0_u16; 8], 0).into() };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    // With the random port, 32 bits that a forger who does not see the query has to guess (RFC 5452).
    let id = random_id();
    socket.send(&question.to_message(id, offer)?).await?;
    timeout(UDP_PATIENCE, receive(&socket, id, question)).await.map_err(|_| ExchangeError::Late)?
}

/// Waits for the answer; strays are ignored, for they may be forged.
async fn receive(socket: &UdpSocket, id: u16, question: &UpstreamQuestion) -> Result<UpstreamAnswer, ExchangeError> {
    let mut buffer = vec![0; MAX_DATAGRAM];
    loop {
        let len = socket.recv(&mut buffer).await?;
        match UpstreamAnswer::read(&buffer[..len], id, question) {
            Err(AnswerError::Unrelated | AnswerError::Malformed) => continue,
            answer => return Ok(answer?),
        }
    }
}

async fn by_tcp(server: SocketAddr, question: &UpstreamQuestion) -> Result<UpstreamAnswer, ExchangeError> {
    let mut stream = TcpStream::connect(server).await?;
    let id = random_id();
    let message = question.to_message(id, EdnsOffer::Edns)?;
    // Length and message in one segment (RFC 7766, section 8); a question is never longer than 64 KiB.
    let framed = [&(message.len() as u16).to_be_bytes()[..], &message].concat();
    stream.write_all(&framed).await?;
    let len = stream.read_u16().await?;
    let mut buffer = vec![0; len.into()];
    stream.read_exact(&mut buffer).await?;
    Ok(UpstreamAnswer::read(&buffer, id, question)?)
}

fn random_id() -> u16 {
    OsRng.next_u32() as u16
}
