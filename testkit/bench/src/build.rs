//! The binary to be measured.

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};

use crate::peers::program;

/// Builds the release binary with its default features and says where it is.
pub(crate) fn overlayd() -> Result<PathBuf> {
    build(&[])?;
    std::path::absolute("target/release/overlayd").context("where are we?")
}

/// Builds the release binary, with these further arguments for cargo.
pub(crate) fn build(arguments: &[&str]) -> Result<()> {
    let mut cargo = program(std::env::var("CARGO").as_deref().unwrap_or("cargo"));
    cargo.args(["build", "--release", "--locked", "--package", "overlayd"]).args(arguments);
    ensure!(cargo.status().context("cargo")?.success(), "overlayd could not be built");
    Ok(())
}
