//! The binary to be measured.

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};

use crate::peers::program;

/// Where cargo puts what is built as it is shipped.
pub(crate) const DIST: &str = "target/dist";

/// Builds the binary as it is shipped, with its default features, and says where it is.
pub(crate) fn overlayd() -> Result<PathBuf> {
    build(&[])?;
    std::path::absolute(format!("{DIST}/overlayd")).context("could not find the current directory")
}

/// Builds the binary as it is shipped, with these further arguments for cargo.
pub(crate) fn build(arguments: &[&str]) -> Result<()> {
    let mut cargo = program(std::env::var("CARGO").as_deref().unwrap_or("cargo"));
    cargo.args(["build", "--profile", "dist", "--locked", "--package", "overlayd"]).args(arguments);
    ensure!(cargo.status().context("cargo")?.success(), "overlayd could not be built");
    Ok(())
}
