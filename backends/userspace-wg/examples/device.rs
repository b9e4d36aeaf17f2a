//! One device in the current network namespace, for measurements: `device NAME [all|none]`. Peers and the key are set by
//! `wg(8)`; it ends with its standard input.
#![allow(clippy::unwrap_used, reason = "a tool for measurements")]

use std::{io::Read, path::Path};

use overlayd_core::{
    contract::{DeviceMtu, DevicePlan, OverlayBackend},
    keys::PrivateKey,
    names::{InstanceId, LinkName},
};
use overlayd_userspace_wg::{Config, KernelOffloads, UserspaceWg};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().expect("the name of the interface");
    let offloads = match arguments.next().as_deref() {
        None | Some("all") => KernelOffloads::ALL,
        Some("none") => KernelOffloads::NONE,
        Some(other) => panic!("offloads are all or none, not {other}"),
    };
    let config = Config { offloads, ..Config::new(InstanceId::of_data_dir(Path::new(&format!("/measured/{name}")))) };
    let plan = DevicePlan {
        name: LinkName::new(&name).unwrap(),
        private_key: PrivateKey::generate(),
        listen_port: 0,
        addresses: Vec::new(),
        routes: Vec::new(),
        mtu: DeviceMtu::Bytes(1420),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let backend = UserspaceWg::new(config);
    runtime.block_on(backend.ensure_device(&plan)).unwrap();
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
}
