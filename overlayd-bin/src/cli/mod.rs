//! The command line: reads what was said, does it, and turns the outcome into an exit code.

pub(crate) mod args;
mod commands;
mod failure;
mod ports;
mod print;
mod remote_daemon;
mod request_members;
mod tables;

use std::process::ExitCode;

use clap::Parser as _;

use self::{
    args::{CliCommand, CommandLine},
    failure::CommandFailure,
};
use crate::{daemon, options::DaemonFlags};

/// Runs the command line of this process. Usage errors end it with code 2 on the way.
pub(crate) fn main() -> ExitCode {
    let arguments = CommandLine::parse();
    if arguments.build_id {
        return exit(print::print_text(env!("OVERLAYD_BUILD_ID")));
    }
    exit(run(arguments))
}

fn exit(outcome: Result<(), CommandFailure>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("overlayd: {failure}");
            failure.code()
        }
    }
}

fn run(arguments: CommandLine) -> Result<(), CommandFailure> {
    let location = &arguments.location;
    match arguments.command.unwrap_or_else(|| CliCommand::Run(DaemonFlags::default())) {
        CliCommand::Run(flags) => Ok(daemon::run(location, &flags.or(arguments.daemon))?),
        CliCommand::Status(output) => commands::status(location, output),
        CliCommand::Peers(output) => commands::peers(location, output),
        CliCommand::Services(output) => commands::services(location, output),
        CliCommand::Attach(attach) => commands::attach(location, attach),
        CliCommand::Detach(detach) => commands::detach(location, detach),
        CliCommand::Publish(publish) => commands::publish(location, publish),
        CliCommand::Edges(output) => commands::edges(location, output),
        CliCommand::Upgrade(output) => commands::upgrade(location, output),
        CliCommand::Call(call) => commands::call(location, &call),
    }
}
