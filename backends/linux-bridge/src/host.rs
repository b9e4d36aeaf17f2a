use std::{
    fs,
    sync::{Arc, Mutex, MutexGuard},
};

use overlayd_core::{
    contract::{Error, Result},
    names::InstanceId,
    sync::lock,
};
use overlayd_netlink::{Link, OrAbsent, OwnChanges, Rtnl, link};

use crate::{
    mark::InstanceMarks,
    reaper::LinkReaper,
    rules::{NftRules, TableProtection},
};

/// The host as all calls share it.
#[derive(Debug)]
pub(crate) struct HostContext {
    pub(crate) rtnl: Arc<Rtnl>,
    pub(crate) marks: InstanceMarks,
    pub(crate) reaper: LinkReaper,
    rules: Mutex<NftRules>,
    /// Tells this boot from others.
    pub(crate) boot: String,
}

impl HostContext {
    /// Opens the calling thread's network namespace.
    pub(crate) fn open(instance: InstanceId, protection: TableProtection, own_changes: OwnChanges) -> Result<Self> {
        let rtnl = Arc::new(Rtnl::noting(own_changes)?);
        let marks = InstanceMarks::new(instance);
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")
            .map_err(|e| Error::host("read the identity of this boot", e))?;
        let reaper =
            LinkReaper::start(rtnl.clone(), marks.reaped_group()).map_err(|e| Error::host("start a thread", e))?;
        // On a thread that may wait for the kernel; the caller's may have asynchronous tasks to run.
        let rules = rtnl.netns().run(|| NftRules::here(&marks, protection))??;
        let rules = Mutex::new(rules);
        Ok(Self { rtnl, marks, reaper, rules, boot: boot.trim_end().to_owned() })
    }

    /// The rules, for one change at a time: the kernel makes no two at once either.
    pub(crate) fn rules(&self) -> MutexGuard<'_, NftRules> {
        lock(&self.rules)
    }

    /// The link of that name, if there is one.
    pub(crate) fn link(&self, name: &str) -> Result<Option<Link>> {
        Ok(self.rtnl.link(name)?)
    }

    /// Our bridge of that name; another link there is a conflict.
    pub(crate) fn bridge(&self, name: &str) -> Result<Option<Link>> {
        match self.link(name)? {
            Some(link) if self.marks.is_network(&link) => Ok(Some(link)),
            Some(link) => Err(self.taken(&link)),
            None => Ok(None),
        }
    }

    /// Deletes a link now, at the kernel's leisure of some 20 ms.
    pub(crate) fn delete(&self, index: u32) -> Result<()> {
        self.rtnl.run(link::delete(index)).or_absent()?;
        Ok(())
    }

    /// Puts a container interface out of service at once, and leaves its deletion to the reaper.
    pub(crate) fn reap(&self, index: u32) -> Result<()> {
        let retire = link::change(index).group(self.marks.reaped_group()).down().request();
        if self.rtnl.run(retire).or_absent()?.is_some() {
            self.reaper.take();
        }
        Ok(())
    }

    /// The conflict with a link of another program that has a name this instance needs.
    pub(crate) fn taken(&self, link: &Link) -> Error {
        let kind = link.kind.as_deref().unwrap_or("device");
        let by = match link.alias.as_deref() {
            Some(alias) => format!("a {kind} marked `{alias}`"),
            None => format!("a {kind} that carries no mark of this daemon; rename or remove it"),
        };
        Error::Conflict { what: format!("interface name {}", link.name), by }
    }
}
