//! The commands that talk to the daemon: one request, one reply, shown.

use std::{io::Read as _, time::SystemTime};

use overlayd_core::protocol::{AttachContainer, AttachHandle, Hello, Request, Response, StatusSnapshot};
use serde::Serialize;

use super::{
    args::{self, CallArguments, DaemonLocation, OutputFormat},
    failure::CommandFailure,
    remote_daemon, tables,
    unknown_members::first_stray,
};

/// `overlayd status`.
pub(super) fn status(location: &DaemonLocation, output: OutputFormat) -> Result<(), CommandFailure> {
    let reply = accepted(remote_daemon::ask_once(location, Request::Status)?)?;
    if output.json {
        return print_json(&reply);
    }
    println!("{}", tables::status(&snapshot(reply)?, SystemTime::now()));
    Ok(())
}

/// `overlayd peers`.
pub(super) fn peers(location: &DaemonLocation, output: OutputFormat) -> Result<(), CommandFailure> {
    let peers = snapshot(remote_daemon::ask_once(location, Request::Status)?)?.peers;
    if output.json {
        return print_json(&peers);
    }
    match &peers[..] {
        [] => println!("no peers"),
        peers => println!("{}", tables::peers(peers, SystemTime::now())),
    }
    Ok(())
}

/// `overlayd services`.
pub(super) fn services(location: &DaemonLocation, output: OutputFormat) -> Result<(), CommandFailure> {
    let services = snapshot(remote_daemon::ask_once(location, Request::Status)?)?.services;
    if output.json {
        return print_json(&services);
    }
    match services.as_slice() {
        [] => println!("no services"),
        services => println!("{}", tables::services(services)),
    }
    Ok(())
}

/// `overlayd attach`.
pub(super) fn attach(location: &DaemonLocation, attach: args::AttachArguments) -> Result<(), CommandFailure> {
    let output = attach.output;
    let request = Request::AttachContainer(AttachContainer {
        handle: attach.handle.try_into()?,
        service: attach.service,
        join_global: attach.join_global,
        ephemeral: attach.ephemeral,
        isolation_network: attach.isolation_network,
        dns_server: attach.dns_server,
        dns_domain: attach.dns_domain,
    });
    let reply = accepted(remote_daemon::ask_once(location, request)?)?;
    match &reply {
        Response::Attached(attached) if !output.json => println!("attached with address {}", attached.ip),
        // A guest's configuration has no form for people: it is made for a machine.
        _ => return print_json(&reply),
    }
    Ok(())
}

/// `overlayd detach`.
pub(super) fn detach(location: &DaemonLocation, detach: args::DetachArguments) -> Result<(), CommandFailure> {
    let reply =
        accepted(remote_daemon::ask_once(location, Request::DetachContainer { handle: detach.handle.try_into()? })?)?;
    if detach.output.json {
        return print_json(&reply);
    }
    println!("detached");
    Ok(())
}

/// `overlayd publish`.
pub(super) fn publish(location: &DaemonLocation, publish: args::PublishArguments) -> Result<(), CommandFailure> {
    let count = publish.ports.len();
    let request = Request::PublishPorts { handle: publish.handle.try_into()?, ports: publish.ports };
    let reply = accepted(remote_daemon::ask_once(location, request)?)?;
    match (publish.output.json, count) {
        (true, _) => return print_json(&reply),
        (false, 0) => println!("no port leads to it any more"),
        (false, _) => println!("published"),
    }
    Ok(())
}

/// `overlayd edges`.
pub(super) fn edges(location: &DaemonLocation, output: OutputFormat) -> Result<(), CommandFailure> {
    let reply = accepted(remote_daemon::ask_once(location, Request::ListEdgePeers)?)?;
    let Response::EdgePeers { peers } = &reply else {
        return Err(CommandFailure::Refused(format!("it answered `{}` where `edge_peers` was due", reply.result())));
    };
    match peers.as_slice() {
        peers if output.json => return print_json(&peers),
        [] => println!("no edge peers"),
        peers => println!("{}", tables::edges(peers, SystemTime::now())),
    }
    Ok(())
}

/// `overlayd upgrade`.
pub(super) fn upgrade(location: &DaemonLocation, output: OutputFormat) -> Result<(), CommandFailure> {
    accepted(remote_daemon::ask_once(location, Request::Upgrade)?)?;
    let reply = accepted(remote_daemon::ask_once(location, Request::Hello(Hello::default()))?)?;
    match &reply {
        Response::Hello(hello) if !output.json => println!("{} serves now", hello.build),
        _ => return print_json(&reply),
    }
    Ok(())
}

/// `overlayd call`.
pub(super) fn call(location: &DaemonLocation, call: &CallArguments) -> Result<(), CommandFailure> {
    let text = match call.request.as_str() {
        "-" => from_standard_input()?,
        text => text.to_owned(),
    };
    let request: Request =
        serde_json::from_str(&text).map_err(|error| CommandFailure::Usage(format!("this is no request: {error}")))?;
    refuse_strays(&text, &request)?;
    let reply = remote_daemon::ask_once(location, request)?;
    print_json(&reply)?;
    accepted(reply).map(drop)
}

fn refuse_strays(text: &str, request: &Request) -> Result<(), CommandFailure> {
    let asked = serde_json::from_str(text).map_err(anyhow::Error::from)?;
    let understood = serde_json::to_value(request).map_err(anyhow::Error::from)?;
    match first_stray(&asked, &understood) {
        None => Ok(()),
        Some(member) => Err(CommandFailure::Usage(format!("`{}` has no member `{member}`", request.op()))),
    }
}

fn from_standard_input() -> Result<String, CommandFailure> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).map_err(anyhow::Error::from)?;
    Ok(text)
}

/// The reply, unless it is a refusal.
fn accepted(reply: Response) -> Result<Response, CommandFailure> {
    match reply {
        Response::Err { message } => Err(CommandFailure::Refused(message)),
        reply => Ok(reply),
    }
}

fn snapshot(reply: Response) -> Result<StatusSnapshot, CommandFailure> {
    match accepted(reply)? {
        Response::Status(status) => Ok(status),
        other => Err(CommandFailure::Refused(format!("it answered `{}` where `status` was due", other.result()))),
    }
}

/// Prints a value in one line as it is on the wire.
fn print_json(value: &impl Serialize) -> Result<(), CommandFailure> {
    let text = serde_json::to_string(value).map_err(anyhow::Error::from)?;
    println!("{text}");
    Ok(())
}

impl TryFrom<args::ContainerHandle> for AttachHandle {
    type Error = CommandFailure;

    fn try_from(handle: args::ContainerHandle) -> Result<Self, CommandFailure> {
        match handle {
            args::ContainerHandle { pid: Some(pid), .. } => Ok(Self::LinuxPid { pid }),
            args::ContainerHandle { netns: Some(path), id: Some(id), .. } => Ok(Self::LinuxNetns { id, path }),
            args::ContainerHandle { guest: Some(id), .. } => Ok(Self::GuestManaged { id }),
            args::ContainerHandle { host_shared: Some(id), .. } => Ok(Self::HostShared { id }),
            args::ContainerHandle { container: Some(container_id), .. } => {
                Ok(Self::WindowsContainer { container_id, ip: None })
            }
            _ => Err(CommandFailure::Usage("no container is named".into())),
        }
    }
}
