//! What a command prints on standard output.

use std::io::{ErrorKind, Write as _};

use serde::Serialize;

use super::failure::CommandFailure;

/// Prints a text and ends its line. A reader that has left, as `head` does, wants no more of it: that is no failure.
pub(super) fn print_text(text: &str) -> Result<(), CommandFailure> {
    match writeln!(std::io::stdout().lock(), "{text}") {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(anyhow::Error::from(error).context("could not write to standard output").into()),
        Ok(()) => Ok(()),
    }
}

/// Prints a value in one line as it is on the wire.
pub(super) fn print_json(value: &impl Serialize) -> Result<(), CommandFailure> {
    print_text(&serde_json::to_string(value).map_err(anyhow::Error::from)?)
}
