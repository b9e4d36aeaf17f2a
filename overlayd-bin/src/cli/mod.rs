//! The command line: reads what was said, does it, and turns the outcome into an exit code.

pub(crate) mod args;
mod ask;
mod exit;
pub(crate) mod place;
mod ports;
mod remote;
mod strays;
mod tables;

use std::process::ExitCode;

use clap::Parser as _;

use self::{
    args::{Arguments, Command, DaemonFlags},
    exit::Failure,
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
        Command::Status(output) => ask::status(place, output),
        Command::Peers(output) => ask::peers(place, output),
        Command::Services(output) => ask::services(place, output),
        Command::Attach(attach) => ask::attach(place, attach),
        Command::Detach(detach) => ask::detach(place, detach),
        Command::Publish(publish) => ask::publish(place, publish),
        Command::Edges(output) => ask::edges(place, output),
        Command::Upgrade(output) => ask::upgrade(place, output),
        Command::Call(call) => ask::call(place, &call),
    }
}
