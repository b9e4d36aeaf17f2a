//! How the demo ends: everything withdrawn over the socket, or everything left running.

use anyhow::{Context as _, Result, ensure};
use overlayd_core::protocol::{AttachHandle, Request};

use super::{SERVICE, Site, Story};
use crate::demo::{
    lab::{Lab, UPLINK, network_of},
    privilege::Rights,
};

/// Has the daemons withdraw everything, looks at what is left, and ends them.
pub(super) async fn tidy_up(story: &Story, a: &Site, b: &Site) -> Result<()> {
    story.show.chapter("Everything is withdrawn");
    for site in [a, b] {
        let handle = AttachHandle::LinuxPid { pid: site.container };
        site.host.ask(Request::DetachContainer { handle }).await?;
        site.host.ask(Request::TeardownServiceOverlay { service: SERVICE.into() }).await?;
        site.host.ask(Request::TeardownGlobalOverlay).await?;
        let left = links(site.host.pid).await?;
        ensure!(left == ["lo", UPLINK], "host {} is left with {}", site.host.name, left.join(", "));
        story.show.proved(format!("host {} has the interfaces it started with: {}", site.host.name, left.join(", ")));
        site.host.ask(Request::Shutdown).await?;
    }
    story.show.chapter("Done");
    Ok(())
}

async fn links(pid: u32) -> Result<Vec<String>> {
    let links = network_of(pid)?.get_links().await?;
    let mut names: Vec<_> = links.iter().map(|link| link.name_or("?").to_owned()).collect();
    names.sort();
    Ok(names)
}

/// Says how to enter what is left running, and how to remove it.
pub(super) fn keep(story: &Story, lab: &Lab, a: &Site, b: &Site) -> Result<()> {
    let show = story.show;
    let program = std::env::current_exe().context("could not find this executable")?;
    let user = match story.rights {
        Rights::Root => "",
        Rights::UserNamespace => " --user --preserve-credentials",
    };
    show.chapter("Left running");
    for (name, site, other) in [("a", a, b), ("b", b, a)] {
        let enter = format!("nsenter --target {}{user}", site.host.pid);
        show.say(format!("host {name}        {enter} --net --mount ip address"));
        show.say(format!("its device    {enter} --net --mount wg show"));
        show.say(format!("its daemon    {} --data-dir {} status", program.display(), site.host.state.display()));
        let ping = format!("--net ping {}", other.address);
        show.say(format!("its container nsenter --target {}{user} {ping}", site.container));
    }
    let processes = lab.processes().iter().map(u32::to_string).collect::<Vec<_>>().join(" ");
    show.say(format!("remove it all kill -9 {processes}; rm -r {}", lab.directory().display()));
    Ok(())
}
