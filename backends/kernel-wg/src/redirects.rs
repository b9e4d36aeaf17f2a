//! Keeps a setting of the host that the kernel changes when a WireGuard device comes up.

use std::sync::Mutex;

use overlayd_core::{
    contract::{Error, Result},
    sync::lock,
};
use overlayd_netlink::{Link, Rtnl, link as request, sysctl};

use crate::mark::DeviceMark;

/// A setting of the whole host that the kernel switches off whenever a WireGuard device comes up. It is not ours to
/// change, and nothing else would ever switch it on again.
const SETTING: &str = "ipv4/conf/all/send_redirects";
/// What it was where nothing but the device's mark is left to tell that it was on.
const ON: &str = "1";
const OFF: &str = "0";

/// Keeps that setting as it is while devices come up.
///
/// Until it is put back, the group of the device says that it has to be: a process that finds such a device after this process
/// was killed, on its way to change the device or to remove it, puts it back.
#[derive(Debug, Default)]
pub(crate) struct RedirectSetting {
    /// Two devices that come up at the same time would take each other's change for the host's.
    turn: Mutex<()>,
}

impl RedirectSetting {
    /// Does `work`, which brings the device up where it is not, and finishes a new one.
    pub(crate) fn keep(
        &self,
        rtnl: &Rtnl,
        mark: &DeviceMark,
        link: &Link,
        work: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let _turn = lock(&self.turn);
        let before = note(rtnl, mark, link)?;
        let outcome = work();
        if let Some(value) = &before {
            sysctl::write(rtnl.netns(), SETTING, value)?;
        }
        let finish = request::change(link.index).group(mark.lasting_group(link)).request();
        let finished = match before.is_some() || mark.is_unfinished(link) {
            true => rtnl.run(finish).map_err(Error::from),
            false => Ok(()),
        };
        outcome.and(finished)
    }

    /// Puts back what a process did not that was killed while the device came up.
    pub(crate) fn restore(&self, rtnl: &Rtnl, mark: &DeviceMark, link: &Link) -> Result<()> {
        let _turn = lock(&self.turn);
        match mark.switches_redirects_off(link) {
            true => sysctl::write(rtnl.netns(), SETTING, ON).map_err(Error::from),
            false => Ok(()),
        }
    }
}

/// Has the device say that the setting is to be put back, and returns what it is then; `None` where nothing changes.
fn note(rtnl: &Rtnl, mark: &DeviceMark, link: &Link) -> Result<Option<String>> {
    if mark.switches_redirects_off(link) {
        return Ok(Some(ON.to_owned()));
    }
    if link.up {
        return Ok(None);
    }
    let Some(value) = sysctl::read(rtnl.netns(), SETTING)?.filter(|value| value != OFF) else {
        return Ok(None);
    };
    rtnl.run(mark.switching_redirects_off(link.index))?;
    Ok(Some(value))
}
