//! Kernel settings of a network namespace (`/proc/sys/net`).

use std::{fs, io, path::PathBuf};

use crate::{Error, Netns, Result, steps};

/// Reads a setting by its path under `/proc/sys/net`, as `ipv4/ip_forward`; `None` where the kernel or the interface
/// does not have it.
pub fn read(netns: &Netns, setting: &str) -> Result<Option<String>> {
    let path = path_of(setting);
    // Which namespace a path under /proc/sys/net means is decided when it is opened, by the thread that opens it.
    let text = netns.run(|| fs::read_to_string(&path))?;
    match text {
        Ok(text) => Ok(Some(text.trim_end().to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::new(format!("read {}", path.display()), error)),
    }
}

/// Writes a setting by its path under `/proc/sys/net`.
pub fn write(netns: &Netns, setting: &str, value: &str) -> Result<()> {
    netns.run(|| write_here(setting, value))?
}

/// Writes a setting of the calling thread's namespace by its path under `/proc/sys/net`.
pub fn write_here(setting: &str, value: &str) -> Result<()> {
    let path = path_of(setting);
    fs::write(&path, value).map_err(|e| Error::new(format!("write {value} to {}", path.display()), e))?;
    steps::done("write a setting");
    Ok(())
}

/// Names of the interfaces that have settings of this family, `ipv4` or `ipv6`, without `all` and `default`.
pub fn interfaces(netns: &Netns, family: &str) -> Result<Vec<String>> {
    let path = path_of(&format!("{family}/conf"));
    let list = || -> io::Result<Vec<String>> {
        let names = fs::read_dir(&path)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        names.filter(|name| !matches!(name.as_deref(), Ok("all" | "default"))).collect()
    };
    netns.run(list)?.map_err(|e| Error::new(format!("list {}", path.display()), e))
}

fn path_of(setting: &str) -> PathBuf {
    PathBuf::from("/proc/sys/net").join(setting)
}
