//! Unplugging a container.

use overlayd_core::contract::{AttachmentId, Result};
use overlayd_netlink::Link;

use crate::{host::HostContext, interfaces::host_ends, mark::LinkMark};

/// Puts every interface of the container out of service; they are deleted a little later. Its fence and ports go last.
pub(crate) fn detach(host: &HostContext, id: &AttachmentId) -> Result<()> {
    for name in host_ends(id) {
        let found = host.link(name.as_str())?;
        if let Some(link) = found.filter(|link| is_of(host, link, id) || host.marks.is_half_made(link)) {
            host.reap(link.index)?;
            tracing::debug!(container = %id, interface = link.name, "detached a container");
        }
    }
    host.rules().release(id)
}

fn is_of(host: &HostContext, link: &Link, id: &AttachmentId) -> bool {
    let mark = host.marks.read(link);
    !host.marks.is_reaped(link) && matches!(mark, Some(LinkMark::Attachment(owner)) if owner.id == *id)
}
