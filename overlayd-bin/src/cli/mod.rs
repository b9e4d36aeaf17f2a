//! The command line: reads what was said, does it, and turns the outcome into an exit code.

pub(crate) mod args;
mod commands;
mod failure;
mod ports;
mod remote_daemon;
mod tables;
mod unknown_members;

use std::process::ExitCode;

use clap::Parser as _;

use self::{
    args::{Arguments, Command, DaemonFlags},
    failure::Failure,
};
use crate::daemon;

/// Runs the command line of this process. Usage errors end it with code 2 on the way.
pub(crate) fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.build_id {
        println!("{}", env!("OVERLAYD_BUILD_ID"));
        return ExitCode::SUCCESS;
    }
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("overlayd: {failure}");
            failure.code()
        }
    }
}

fn run(arguments: Arguments) -> Result<(), Failure> {
    let place = &arguments.place;
    match arguments.command.unwrap_or_else(|| Command::Run(DaemonFlags::default())) {
        Command::Run(flags) => Ok(daemon::run(place, &flags.or(arguments.daemon))?),
        Command::Status(output) => commands::status(place, output),
        Command::Peers(output) => commands::peers(place, output),
        Command::Services(output) => commands::services(place, output),
        Command::Attach(attach) => commands::attach(place, attach),
        Command::Detach(detach) => commands::detach(place, detach),
        Command::Publish(publish) => commands::publish(place, publish),
        Command::Edges(output) => commands::edges(place, output),
        Command::Upgrade(output) => commands::upgrade(place, output),
        Command::Call(call) => commands::call(place, &call),
    }
}
