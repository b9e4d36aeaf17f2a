//! Kernel settings that are changed for as long as they are needed. What they were before is on disk before they are
//! changed, so that not even a crash makes us take our own change for the host's.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use overlayd_core::contract::{self, Error};
use overlayd_netlink::{Netns, steps, sysctl};
use serde::{Deserialize, Serialize};

/// The settings of one network namespace, and the memory of them.
#[derive(Debug)]
pub(crate) struct HostSettings {
    netns: Netns,
    file: PathBuf,
    memory: SavedSettings,
}

/// What the file holds.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct SavedSettings {
    /// The boot and namespace that it speaks of; of another one nothing is left to restore.
    world: String,
    changed: Vec<ChangedSetting>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct ChangedSetting {
    /// Path under `/proc/sys/net`.
    setting: String,
    before: String,
    /// What it is while we need it; `None` where another change of this crate has the side effect of losing it.
    ours: Option<String>,
}

impl HostSettings {
    /// Loads the memory of this boot and namespace, if there is any.
    pub(crate) fn load(netns: Netns, state_dir: &Path, boot: &str) -> contract::Result<Self> {
        let file = state_dir.join("host-settings.json");
        let world = format!("{boot}/{}", netns.id());
        let stored = match fs::read(&file) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|e| unreadable(&file, e.into()))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => SavedSettings::default(),
            Err(error) => return Err(unreadable(&file, error)),
        };
        let memory = if stored.world == world { stored } else { SavedSettings { world, changed: Vec::new() } };
        Ok(Self { netns, file, memory })
    }

    /// Reads a setting; `None` where the host does not have it.
    pub(crate) fn read(&self, setting: &str) -> contract::Result<Option<String>> {
        Ok(sysctl::read(&self.netns, setting)?)
    }

    /// Writes a setting that ends with what it belongs to, such as an interface of this instance.
    pub(crate) fn write(&self, setting: &str, value: &str) -> contract::Result<()> {
        Ok(sysctl::write(&self.netns, setting, value)?)
    }

    /// The interfaces that have settings of this family, `ipv4` or `ipv6`.
    pub(crate) fn interfaces(&self, family: &str) -> contract::Result<Vec<String>> {
        Ok(sysctl::interfaces(&self.netns, family)?)
    }

    /// Makes the setting be `value` until [`HostSettings::restore`]. A setting that the host does not have, or that is so
    /// already, is left alone.
    pub(crate) fn hold(&mut self, setting: &str, value: &str) -> contract::Result<()> {
        let Some(now) = self.read(setting)? else { return Ok(()) };
        if now == value {
            return Ok(());
        }
        if !self.memory.changed.iter().any(|changed| changed.setting == setting) {
            self.remember(setting, now, Some(value.into()))?;
        }
        self.write(setting, value)?;
        tracing::info!(setting, value, "changed a host setting for as long as it is needed");
        Ok(())
    }

    /// Notes that restoring an earlier change will lose this setting, which is to be as it is now.
    pub(crate) fn keep(&mut self, setting: &str) -> contract::Result<()> {
        match self.read(setting)? {
            Some(now) if !self.memory.changed.iter().any(|changed| changed.setting == setting) => {
                self.remember(setting, now, None)
            }
            _ => Ok(()),
        }
    }

    /// Whether the setting is held, by this run or an earlier one of this boot.
    pub(crate) fn is_held(&self, setting: &str) -> bool {
        self.memory.changed.iter().any(|changed| changed.setting == setting)
    }

    /// Puts everything back, the last change first. What another program changed since stays as it is.
    pub(crate) fn restore(&mut self) -> contract::Result<()> {
        while let Some(changed) = self.memory.changed.last() {
            let now = self.read(&changed.setting)?;
            let still_ours = changed.ours.is_none() || now == changed.ours;
            if now.is_some() && still_ours && now.as_ref() != Some(&changed.before) {
                self.write(&changed.setting, &changed.before)?;
                tracing::info!(setting = changed.setting, value = changed.before, "restored a host setting");
            }
            self.memory.changed.pop();
        }
        steps::done("restore settings");
        match fs::remove_file(&self.file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::host(format!("remove {}", self.file.display()), error))
            }
            _ => Ok(()),
        }
    }

    fn remember(&mut self, setting: &str, before: String, ours: Option<String>) -> contract::Result<()> {
        self.memory.changed.push(ChangedSetting { setting: setting.into(), before, ours });
        self.save().map_err(|error| {
            self.memory.changed.pop();
            Error::host(format!("write {}", self.file.display()), error)
        })
    }

    /// Replaces the file, durably and in one step.
    fn save(&self) -> io::Result<()> {
        let draft = self.file.with_extension("new");
        let mut file = File::create(&draft)?;
        file.write_all(&serde_json::to_vec_pretty(&self.memory)?)?;
        file.sync_all()?;
        fs::rename(&draft, &self.file)?;
        steps::done("remember a setting");
        File::open(self.file.parent().unwrap_or(Path::new(".")))?.sync_all()
    }
}

fn unreadable(file: &Path, error: io::Error) -> Error {
    Error::host(format!("read the host settings to restore from {} (repair or remove it)", file.display()), error)
}

#[cfg(test)]
#[path = "settings_tests.rs"]
mod tests;
