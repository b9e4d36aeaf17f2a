//! The binary under test.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::process::{Command, Output, Stdio};

/// The binary under test, without the caller's settings.
#[expect(clippy::disallowed_methods, reason = "a test runs the binary")]
pub(crate) fn overlayd() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_overlayd"));
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command
}

/// What a command came to.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl From<Output> for Outcome {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }
}

/// Runs the binary to its end.
pub(crate) fn run(arguments: &[&str]) -> Outcome {
    overlayd().args(arguments).stdin(Stdio::null()).output().unwrap().into()
}
