//! The client's example, against an engine whose host is in memory.

use std::{io, sync::Arc};

use async_trait::async_trait;
use overlayd_client::{AttachHandle, ByteStream, Client, ClientOptions, Connector};
use overlayd_core::{
    engine::Engine,
    ipc::{Caller, CallerIdentity, ConnectionLimits, ServerContext, serve_connection},
};
use tokio_util::sync::CancellationToken;

use crate::node::Node;

#[path = "../../client/examples/attach_container.rs"]
#[expect(dead_code, unreachable_pub, reason = "written as a program of its own")]
mod attach_container;

/// A connection to the engine of this process.
struct InMemory(Arc<Engine>);

#[async_trait]
impl Connector for InMemory {
    fn endpoint(&self) -> String {
        "an engine in memory".into()
    }

    async fn connect(&self) -> io::Result<Box<dyn ByteStream>> {
        let (near, far) = tokio::io::duplex(1 << 16);
        let closing = CancellationToken::new();
        let server = ServerContext::new(Arc::clone(&self.0), ConnectionLimits::default(), Arc::default(), closing);
        let caller = Caller { connection: 1, identity: CallerIdentity::InProcess };
        tokio::spawn(async move { serve_connection(far, caller, &server).await });
        Ok(Box::new(near))
    }
}

#[tokio::test]
async fn the_example_sets_an_overlay_up_and_attaches_a_container() {
    let node = Node::fresh().await;
    node.start_process(7);
    let client = Client::new(InMemory(Arc::clone(&node.engine)), ClientOptions::default());
    let ip = attach_container::attach(&client, 7).await.unwrap();
    let status = client.status().await.unwrap();
    let block: ipnet::IpNet = status.services[0].subnet.as_deref().unwrap().parse().unwrap();
    assert!(block.contains(&ip), "{ip} is not in {block}");
    assert_eq!(status.services[0].attachments, 1);

    let refused = client.attach_container(overlayd_client::AttachContainer::new(AttachHandle::process(0), "web")).await;
    assert_eq!(refused.unwrap_err().code(), Some("invalid_request"));
}
