//! Unplugging a container.

use overlayd_core::{
    contract::{AttachmentId, Result},
    plan::host_end,
};
use overlayd_netlink::Link;

use crate::{error::host, host::Host, mark::Mark};

/// Puts every interface of the container out of service; they are deleted a little later. Its fence and ports go last.
pub(crate) fn detach(host: &Host, id: &AttachmentId) -> Result<()> {
    let mut found = by_name(host, id)?;
    if found.is_empty() && matches!(id, AttachmentId::Namespace(_)) {
        found = by_mark(host, id)?;
    }
    for link in &found {
        host.reap(link.index)?;
        tracing::debug!(container = %id, interface = link.name, "detached a container");
    }
    host.rules().release(id)
}

/// The interfaces under the names that derive from the id.
fn by_name(host: &Host, id: &AttachmentId) -> Result<Vec<Link>> {
    let names = ['s', 'g'].into_iter().filter_map(|leg| host_end(id, leg).ok());
    let mut found = Vec::new();
    for name in names {
        found.extend(host.link(name.as_str())?.filter(|link| is_of(host, link, id) || host.marks.is_half_made(link)));
    }
    Ok(found)
}

/// The interfaces whose mark has the id, under whatever names: callers may choose those for namespaces.
fn by_mark(shared: &Host, id: &AttachmentId) -> Result<Vec<Link>> {
    let links = shared.rtnl.links().map_err(host)?;
    Ok(links.into_iter().filter(|link| is_of(shared, link, id)).collect())
}

fn is_of(host: &Host, link: &Link, id: &AttachmentId) -> bool {
    let mark = host.marks.read(link);
    !host.marks.is_reaped(link) && matches!(mark, Some(Mark::Attachment(owner)) if owner.id == *id)
}
