//! Proves that what containers say crosses the network between the hosts only encrypted.

use std::net::{IpAddr, SocketAddr, UdpSocket};

use anyhow::{Context as _, Result, ensure};

use super::{PORT, Site, Story};
use crate::demo::{
    lab::Lab,
    probe::{
        capture::{Capture, Seen, Wanted},
        tcp, within,
    },
    show::hex_lines,
};

const TEXT: &str = "this sentence is said by one container to another";
/// Where the control datagram goes: the discard service (RFC 863).
const DISCARD: u16 = 9;

/// Listens on the cable and in the overlay while a container speaks; then, to show that the ear on the cable hears,
/// has a host say the same outside the overlay.
pub(super) async fn prove(story: &Story, lab: &Lab, a: &Site, b: &Site) -> Result<()> {
    let show = story.show;
    show.chapter("A wiretap on the cable between the hosts");
    show.say(format!("container {} says “{TEXT}”, and {} says it back", a.address, b.address));
    let status = a.host.status().await?;
    let device = status.interface.context("the node has no device")?;
    let tap = Tap { switch: lab.switch(), cable: Lab::port(a.host.name), device, a: End::of(a), b: End::of(b) };
    let heard = tokio::task::spawn_blocking(move || tap.listen()).await??;
    let Heard { overlay, cable, control } = heard;
    ensure!(overlay.readable > 0, "the text was not heard even inside the overlay: the wiretap proves nothing");
    show.proved(format!("inside the overlay: readable in {} of {} packets", overlay.readable, overlay.frames));
    ensure!(cable.wireguard > 0, "no WireGuard message crossed the cable: the wiretap proves nothing");
    ensure!(cable.readable == 0, "the text crossed the cable readable {} times", cable.readable);
    let counted = format!("{} frames, {} of them WireGuard data", cable.frames, cable.wireguard);
    show.proved(format!("on the cable: readable in none of {counted}, such as"));
    for line in hex_lines(&cable.sample) {
        show.say(format!("    {line}"));
    }
    ensure!(control.readable > 0, "the control datagram was not heard: the wiretap proves nothing");
    show.proved("control: the same text sent by the host outside the overlay is read on the cable");
    Ok(())
}

/// A place to speak from and to.
struct End {
    container: u32,
    address: IpAddr,
    host: u32,
    host_address: IpAddr,
}

impl End {
    fn of(site: &Site) -> Self {
        Self {
            container: site.container,
            address: site.address.into(),
            host: site.host.pid,
            host_address: site.host.address.into(),
        }
    }
}

struct Tap {
    switch: u32,
    cable: String,
    device: String,
    a: End,
    b: End,
}

struct Heard {
    overlay: Seen,
    cable: Seen,
    control: Seen,
}

impl Tap {
    fn listen(&self) -> Result<Heard> {
        let inner = Capture::start(self.a.host, wanted(&self.device))?;
        let outer = Capture::start(self.switch, wanted(&self.cable))?;
        tcp::echo(self.a.container, self.b.container, self.b.address, TEXT)?;
        let (overlay, cable) = (inner.finish()?, outer.finish()?);
        let outer = Capture::start(self.switch, wanted(&self.cable))?;
        self.say_outside()?;
        Ok(Heard { overlay, cable, control: outer.finish()? })
    }

    /// Sends the text from host to host; nobody needs to listen there.
    fn say_outside(&self) -> Result<()> {
        let (from, to) = (SocketAddr::new(self.a.host_address, 0), SocketAddr::new(self.b.host_address, DISCARD));
        within(self.a.host, move || {
            UdpSocket::bind(from)?.send_to(TEXT.as_bytes(), to)?;
            Ok(())
        })
        .join()
    }
}

fn wanted(interface: &str) -> Wanted {
    Wanted { interface: interface.to_owned(), text: TEXT, wireguard_port: PORT }
}
