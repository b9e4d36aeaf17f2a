//! How the demo ends: everything withdrawn over the socket, or everything left running.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use overlayd_core::protocol::Request;

use super::{SERVICE, Story};
use crate::{privilege::Rights, show::Show, site::Site};

/// The interface that each host started with.
const UNDERLAY: &str = "eth0";
/// How long the kernel may take to remove interfaces. Far more than it needs.
const PATIENCE: Duration = Duration::from_secs(20);

/// Has the daemons withdraw everything, looks at what is left, and ends them.
pub(super) fn tidy_up(show: Show, sites: [&mut Site; 2]) -> Result<()> {
    show.chapter("Everything is withdrawn");
    for site in sites {
        site.ask(Request::DetachContainer { handle: site.handle() })?;
        site.ask(Request::TeardownServiceOverlay { service: SERVICE.into() })?;
        site.ask(Request::TeardownGlobalOverlay)?;
        let left = last_links(site);
        ensure!(left == [UNDERLAY], "host {} is left with {}", site.name, left.join(", "));
        show.proved(format!("host {} has the interfaces it started with: lo, {UNDERLAY}", site.name));
        site.ask(Request::Shutdown)?;
        let status = site.host.wait();
        ensure!(status.success(), "the daemon of host {} ended with {status}", site.name);
    }
    show.chapter("Done");
    Ok(())
}

/// The links once they are those that the host started with, or patience has ended. The daemon answers before the kernel
/// has removed a link.
fn last_links(site: &Site) -> Vec<String> {
    let start = Instant::now();
    loop {
        let links = site.host.namespace.links();
        if links == [UNDERLAY] || start.elapsed() > PATIENCE {
            return links;
        }
    }
}

/// Says how to enter what is left running, and waits for the supervisor to end this process. With each site comes the
/// address of the other one's container.
pub(super) fn keep(story: &Story, sites: [(&Site, IpAddr); 2]) -> Result<()> {
    let show = story.show;
    let user = match story.rights {
        Rights::Root => "",
        Rights::UserNamespace => " --user --preserve-credentials",
    };
    show.chapter("Left running");
    for (site, other) in sites {
        let enter = format!("nsenter --target {}{user} --net --mount", site.host.namespace.pid());
        show.say(format!("host {}        {enter} ip address", site.name));
        show.say(format!("its device    {enter} wg show"));
        show.say(format!(
            "its daemon    {} --socket {} status",
            story.overlayd.display(),
            site.host.socket().display()
        ));
        show.say(format!("its container nsenter --target {}{user} --net ping {other}", site.container.pid()));
    }
    show.say("Ctrl-C here removes it all");
    loop {
        // Only a signal ends this.
        std::thread::park();
    }
}
