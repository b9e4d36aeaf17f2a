//! Linux: many datagrams with one system call, and what `/proc` and `/sys` tell.

mod datagrams;
mod port_owner;

use std::{fs, path::Path};

pub(crate) use self::{
    datagrams::{DatagramBatch, with_batch},
    port_owner::find_port_owner,
};

/// The number of a network interface, by its name.
pub(crate) fn interface_index(name: &str) -> Option<u32> {
    let path = Path::new("/sys/class/net").join(name).join("ifindex");
    fs::read_to_string(path).ok()?.trim().parse().ok()
}
