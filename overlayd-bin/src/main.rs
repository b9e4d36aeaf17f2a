//! The overlay network daemon and its command line.

mod absent;
mod cli;
mod daemon;
mod host;
mod ipc;
mod logging;
mod settings;
mod upgrade;
mod wiring;

fn main() -> std::process::ExitCode {
    cli::main()
}
