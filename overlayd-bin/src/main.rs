//! The overlay network daemon and its command line.

mod cli;
mod daemon;
mod logging;
mod options;
mod platform;
mod settings;

fn main() -> std::process::ExitCode {
    cli::main()
}
