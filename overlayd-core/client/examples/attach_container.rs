//! Sets an overlay up and attaches a container, named by any process in it:
//! `cargo run --example attach_container -- SOCKET PID`.

use std::net::IpAddr;

use overlayd_client::{
    AttachContainer, AttachHandle, Client, ClientOptions, ClientResult, OverlayMode, PortProtocol, PortSpec,
    SetupGlobalOverlay,
};

/// Returns the address of the container.
pub async fn attach(client: &Client, pid: u32) -> ClientResult<IpAddr> {
    client.set_local_node_id(1).await?;
    let setup = SetupGlobalOverlay::new("atlas", "n1", "10.77.0.0/16", 51820).slice_cidr("10.77.4.0/26");
    client.setup_global_overlay(setup).await?;
    client.setup_service_overlay("web", OverlayMode::Auto).await?;
    let container = AttachHandle::process(pid);
    let attached = client.attach_container(AttachContainer::new(container.clone(), "web")).await?;
    client.publish_ports(container, vec![PortSpec::new(PortProtocol::Tcp, 8080, 80)]).await?;
    Ok(attached.ip())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [socket, pid] = &arguments[..] else { return Err("usage: attach_container SOCKET PID".into()) };
    let client = Client::unix(socket, ClientOptions::default());
    println!("{}", attach(&client, pid.parse()?).await?);
    Ok(())
}
