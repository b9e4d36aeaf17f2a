//! The commands that talk to the daemon: one request, one reply, shown.

use std::{io::Read as _, time::SystemTime};

use overlayd_core::protocol::{AttachContainer, AttachHandle, Hello, Request, Response, StatusSnapshot};

use super::{
    args::{self, CallArguments, OutputFormat},
    failure::CommandFailure,
    print::{print_json, print_text},
    remote_daemon,
    request_members::{first_unknown, first_wrong},
    tables,
};
use crate::options::DaemonLocation;

/// `overlayd status`.
pub(super) fn status(location: &DaemonLocation, output: OutputFormat) -> Result<(), CommandFailure> {
    let reply = accepted(remote_daemon::ask_once(location, Request::Status)?)?;
    if output.json {
        return print_json(&reply);
    }
    print_text(&tables::status(&snapshot(reply)?, SystemTime::now()))
}

/// `overlayd peers`.
pub(super) fn peers(location: &DaemonLocation, output: OutputFormat) -> Result<(), CommandFailure> {
    let peers = snapshot(remote_daemon::ask_once(location, Request::Status)?)?.peers;
    if output.json {
        return print_json(&peers);
    }
    match &peers[..] {
        [] => print_text("no peers"),
        peers => print_text(&tables::peers(peers, SystemTime::now())),
    }
}

/// `overlayd services`.
pub(super) fn services(location: &DaemonLocation, output: OutputFormat) -> Result<(), CommandFailure> {
    let services = snapshot(remote_daemon::ask_once(location, Request::Status)?)?.services;
    if output.json {
        return print_json(&services);
    }
    match services.as_slice() {
        [] => print_text("no services"),
        services => print_text(&tables::services(services)),
    }
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
        Response::Attached(attached) if !output.json => print_text(&format!("attached with address {}", attached.ip)),
        // A guest's configuration has no form for people: it is made for a machine.
        _ => print_json(&reply),
    }
}

/// `overlayd detach`.
pub(super) fn detach(location: &DaemonLocation, detach: args::DetachArguments) -> Result<(), CommandFailure> {
    let reply =
        accepted(remote_daemon::ask_once(location, Request::DetachContainer { handle: detach.handle.try_into()? })?)?;
    if detach.output.json {
        return print_json(&reply);
    }
    print_text("detached")
}

/// `overlayd publish`.
pub(super) fn publish(location: &DaemonLocation, publish: args::PublishArguments) -> Result<(), CommandFailure> {
    let count = publish.ports.len();
    let request = Request::PublishPorts { handle: publish.handle.try_into()?, ports: publish.ports };
    let reply = accepted(remote_daemon::ask_once(location, request)?)?;
    match (publish.output.json, count) {
        (true, _) => print_json(&reply),
        (false, 0) => print_text("its ports are no longer published"),
        (false, _) => print_text("published"),
    }
}

/// `overlayd edges`.
pub(super) fn edges(location: &DaemonLocation, output: OutputFormat) -> Result<(), CommandFailure> {
    let reply = accepted(remote_daemon::ask_once(location, Request::ListEdgePeers)?)?;
    let Response::EdgePeers { peers } = &reply else {
        return Err(CommandFailure::Refused(format!("it answered `{}` instead of `edge_peers`", reply.result())));
    };
    match peers.as_slice() {
        peers if output.json => print_json(&peers),
        [] => print_text("no edge peers"),
        peers => print_text(&tables::edges(peers, SystemTime::now())),
    }
}

/// `overlayd upgrade`.
pub(super) fn upgrade(location: &DaemonLocation, output: OutputFormat) -> Result<(), CommandFailure> {
    accepted(remote_daemon::ask_once(location, Request::Upgrade)?)?;
    let reply = accepted(remote_daemon::ask_once(location, Request::Hello(Hello::default()))?)?;
    match &reply {
        Response::Hello(hello) if !output.json => print_text(&format!("{} serves now", hello.build)),
        _ => print_json(&reply),
    }
}

/// `overlayd call`.
pub(super) fn call(location: &DaemonLocation, call: &CallArguments) -> Result<(), CommandFailure> {
    let text = match call.request.as_str() {
        "-" => from_standard_input()?,
        text => text.to_owned(),
    };
    let request: Request = serde_json::from_str(&text).map_err(|error| not_a_request(&text, &error))?;
    refuse_unknown(&text, &request)?;
    let reply = remote_daemon::ask_once(location, request)?;
    print_json(&reply)?;
    accepted(reply).map(drop)
}

/// Why a text is no request, with the member at fault where it can be told.
fn not_a_request(text: &str, error: &serde_json::Error) -> CommandFailure {
    let member = serde_json::from_str(text).ok().and_then(|asked| first_wrong::<Request>(&asked));
    CommandFailure::Usage(match member {
        Some(member) => format!("this is not a valid request: `{member}`: {error}"),
        None => format!("this is not a valid request: {error}"),
    })
}

fn refuse_unknown(text: &str, request: &Request) -> Result<(), CommandFailure> {
    let asked = serde_json::from_str(text).map_err(anyhow::Error::from)?;
    let understood = serde_json::to_value(request).map_err(anyhow::Error::from)?;
    match first_unknown(&asked, &understood) {
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
        Response::Err { message, .. } => Err(CommandFailure::Refused(message)),
        reply => Ok(reply),
    }
}

fn snapshot(reply: Response) -> Result<StatusSnapshot, CommandFailure> {
    match accepted(reply)? {
        Response::Status(status) => Ok(status),
        other => Err(CommandFailure::Refused(format!("it answered `{}` instead of `status`", other.result()))),
    }
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
            _ => Err(CommandFailure::Usage(
                "name the container: --pid, --netns with --id, --guest, --host-shared or --container".into(),
            )),
        }
    }
}
