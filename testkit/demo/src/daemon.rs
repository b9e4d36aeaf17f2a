//! The daemon that is shown.

use std::{
    env,
    ffi::OsStr,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

/// The source tree.
const WORKSPACE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// The given program, or the one next to this executable, which cargo brings up to date first where cargo started this.
pub(crate) fn executable(given: Option<&Path>) -> Result<PathBuf> {
    if let Some(path) = given {
        return path.canonicalize().with_context(|| format!("there is no program {}", path.display()));
    }
    let own = env::current_exe().context("could not find the path of this program")?;
    if let Some(cargo) = env::var_os("CARGO") {
        build(&cargo, &own)?;
    }
    let sibling = own.with_file_name("overlayd");
    ensure!(sibling.exists(), "there is no {}: build it, or name a daemon with --overlayd", sibling.display());
    Ok(sibling)
}

/// Builds the daemon with the profile of this executable, whose directory has the profile's name.
#[expect(clippy::disallowed_methods, reason = "only cargo knows whether the daemon is up to date")]
fn build(cargo: &OsStr, own: &Path) -> Result<()> {
    let directory = own.parent().and_then(Path::file_name).and_then(|name| name.to_str());
    let profile = match directory.context("this program is in no directory of a profile")? {
        // The one profile whose directory is called otherwise.
        "debug" => "dev",
        name => name,
    };
    let mut cargo = Command::new(cargo);
    // Set by the cargo that started this; build scripts that read them would run again.
    for (variable, _) in env::vars_os() {
        let name = variable.to_string_lossy();
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
            cargo.env_remove(&variable);
        }
    }
    cargo.current_dir(WORKSPACE).args(["build", "--locked", "--profile", profile, "--package", "overlayd"]);
    ensure!(cargo.status().context("could not start cargo")?.success(), "overlayd could not be built");
    Ok(())
}
