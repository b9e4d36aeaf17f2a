//! What can be said on the command line.

use std::net::IpAddr;

use clap::{Args, Parser, Subcommand};
use overlayd_core::protocol::PortSpec;

use crate::options::{DaemonFlags, DaemonLocation};

/// The container overlay network of this host: the daemon, and the commands to talk to it.
#[derive(Debug, Parser)]
#[command(name = "overlayd", version)]
pub(crate) struct CommandLine {
    #[command(flatten)]
    pub(crate) location: DaemonLocation,
    #[command(flatten)]
    pub(crate) daemon: DaemonFlags,
    /// Print the id of this build, 64 hex digits, and exit.
    #[arg(long, hide = true)]
    pub(crate) build_id: bool,
    #[command(subcommand)]
    pub(crate) command: Option<CliCommand>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CliCommand {
    /// Run the daemon (the default without a subcommand)
    Run(DaemonFlags),
    /// Show the overlay of this node
    Status(OutputFormat),
    /// Show the peers of this node
    Peers(OutputFormat),
    /// Show the services this node has networks for
    Services(OutputFormat),
    /// Attach a container to the network of a service
    Attach(AttachArguments),
    /// Detach a container
    Detach(DetachArguments),
    /// Publish ports of this host for an attached container, in place of those published for it before
    Publish(PublishArguments),
    /// Show the edge peers of this node
    Edges(OutputFormat),
    /// Replace the running daemon with the program that is now at its path, without losing packets
    Upgrade(OutputFormat),
    /// Send a request as it is and print the reply
    Call(CallArguments),
}

/// How to print a reply.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct OutputFormat {
    /// Print the reply's fields as they are on the wire
    #[arg(long)]
    pub(crate) json: bool,
}

/// Names a container; exactly one way is to be given.
#[derive(Debug, Clone, Args)]
pub(crate) struct ContainerHandle {
    /// A process in the container's network namespace
    #[arg(long, value_name = "PID", group = "container-handle")]
    pub(crate) pid: Option<u32>,
    /// A network namespace, which gets the name of --id
    #[arg(long, value_name = "PATH", group = "container-handle", requires = "id")]
    pub(crate) netns: Option<String>,
    /// A guest that runs WireGuard itself
    #[arg(long, value_name = "ID", group = "container-handle")]
    pub(crate) guest: Option<String>,
    /// A process that shares the host's network
    #[arg(long, value_name = "ID", group = "container-handle")]
    pub(crate) host_shared: Option<String>,
    /// A Windows container (to detach: the namespace GUID that attach returned)
    #[arg(long, value_name = "ID", group = "container-handle")]
    pub(crate) container: Option<String>,
    /// Name of the attachment of --netns
    #[arg(long, requires = "netns")]
    pub(crate) id: Option<String>,
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("container-handle").required(true))]
pub(crate) struct AttachArguments {
    #[command(flatten)]
    pub(crate) handle: ContainerHandle,
    /// Service whose network to join
    #[arg(long)]
    pub(crate) service: String,
    /// Also give it an address of the cluster-wide network
    #[arg(long)]
    pub(crate) join_global: bool,
    /// Remove the service's network with its last container
    #[arg(long)]
    pub(crate) ephemeral: bool,
    /// Fence it into this isolated network
    #[arg(long, value_name = "NAME")]
    pub(crate) isolation_network: Option<String>,
    /// Resolver for the container
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) dns_server: Option<IpAddr>,
    /// Search domain for the container
    #[arg(long, value_name = "DOMAIN")]
    pub(crate) dns_domain: Option<String>,
    #[command(flatten)]
    pub(crate) output: OutputFormat,
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("container-handle").required(true))]
pub(crate) struct DetachArguments {
    #[command(flatten)]
    pub(crate) handle: ContainerHandle,
    #[command(flatten)]
    pub(crate) output: OutputFormat,
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("container-handle").required(true))]
pub(crate) struct PublishArguments {
    #[command(flatten)]
    pub(crate) handle: ContainerHandle,
    /// [ADDRESS:]HOST[-LAST]:CONTAINER[/udp], as 8080:80 or [2001:db8::1]:5000-5010:5000/udp; none unpublishes all
    #[arg(value_name = "PORTS", value_parser = super::ports::parse)]
    pub(crate) ports: Vec<PortSpec>,
    #[command(flatten)]
    pub(crate) output: OutputFormat,
}

#[derive(Debug, Args)]
pub(crate) struct CallArguments {
    /// The request, as {"op":"status"}; `-` reads it from standard input
    pub(crate) request: String,
}
