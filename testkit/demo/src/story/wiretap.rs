//! Proves that what containers say crosses the network between the hosts only encrypted.

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, ensure};
use overlayd_lab::{Lab, Namespace, probe::PacketCapture};

use super::End;
use crate::show::{Show, hex_lines};

const TEXT: &str = "this sentence is said by one container to another";
/// Where the control datagram goes: the discard service (RFC 863).
const DISCARD: u16 = 9;
/// Longest wait for a connection or for data.
const PATIENCE: Duration = Duration::from_secs(5);

/// Captures on the cable and on a host while a container speaks. A capture that finds nothing proves nothing: therefore the
/// host then sends the same text outside the overlay, where the capture on the cable has to find it.
pub(super) fn prove(show: Show, lab: &Lab, [a, b]: &[End<'_>; 2]) -> Result<()> {
    show.chapter("A wiretap on the cable between the hosts");
    show.say(format!("container {} says “{TEXT}”, and {} says it back", a.address, b.address));
    let on_host = PacketCapture::start(&a.site.host.namespace, TEXT.as_bytes());
    let on_cable = PacketCapture::start(&lab.core, TEXT.as_bytes());
    say_and_echo(&a.site.container, &b.site.container, b.address)?;
    let on_host = on_host.end();
    let on_cable = on_cable.end();
    ensure!(on_host.with_marker > 0, "the text was not heard even before it is encrypted: the wiretap proves nothing");
    show.proved(format!("on host a, before it is encrypted: readable in {} frames", on_host.with_marker));
    ensure!(on_cable.wireguard_data > 0, "no WireGuard message crossed the cable: the wiretap proves nothing");
    ensure!(on_cable.with_marker == 0, "the text crossed the cable readable {} times", on_cable.with_marker);
    let counted = format!("{} frames, {} of them WireGuard data", on_cable.frames, on_cable.wireguard_data);
    show.proved(format!("on the cable: readable in none of {counted}, such as"));
    for line in hex_lines(&on_cable.sample) {
        show.say(format!("    {line}"));
    }
    let control = PacketCapture::start(&lab.core, TEXT.as_bytes());
    say_outside(a, b)?;
    ensure!(control.end().with_marker > 0, "the control datagram was not heard: the wiretap proves nothing");
    show.proved("control: the same text sent by the host outside the overlay is read on the cable");
    Ok(())
}

/// Sends the text over TCP from one namespace to the other, which sends it back.
fn say_and_echo(from: &Namespace, to: &Namespace, address: IpAddr) -> Result<()> {
    let listener = to.enter(|| TcpListener::bind((address, 0))).context("could not listen")?;
    let server = listener.local_addr()?;
    let speaker = from.spawn(move || say(server));
    let (mut stream, _) = listener.accept().context("no connection arrived")?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut heard = vec![0; TEXT.len()];
    stream.read_exact(&mut heard).context("the text did not arrive")?;
    stream.write_all(&heard).context("the text could not be sent back")?;
    let answer = speaker.join().map_err(|_| anyhow!("the speaker panicked"))??;
    ensure!(answer == TEXT.as_bytes(), "the text came back changed");
    Ok(())
}

fn say(server: SocketAddr) -> Result<Vec<u8>> {
    let mut stream =
        TcpStream::connect_timeout(&server, PATIENCE).with_context(|| format!("could not reach {server}"))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(TEXT.as_bytes())?;
    let mut answer = vec![0; TEXT.len()];
    stream.read_exact(&mut answer).context("the text did not come back")?;
    Ok(answer)
}

/// Sends the text from host to host. No program needs to listen there.
fn say_outside(from: &End<'_>, to: &End<'_>) -> Result<()> {
    let source = SocketAddr::new(from.site.host.v4(), 0);
    let target = SocketAddr::new(to.site.host.v4(), DISCARD);
    let sent = from.site.host.namespace.enter(|| UdpSocket::bind(source)?.send_to(TEXT.as_bytes(), target));
    sent.context("the control datagram could not be sent").map(drop)
}
