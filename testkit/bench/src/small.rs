//! Start-up, memory, and the size of the binary with each set of features.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, ensure};

use crate::{Bench, build, load, peers::program, report::Table};

/// Sets of features of the binary.
const FEATURES: [&str; 3] = ["userspace-wg", "kernel-wg", "userspace-wg,kernel-wg"];

/// Measures the daemon, and builds it with every set of features.
pub(crate) fn compare(bench: &mut Bench) -> Result<()> {
    load::measure(bench, load::SMALL)?;
    let method = "As it is shipped (profile dist), without its symbols (strip(1)).".to_owned();
    let mut table = Table::new("Size of the binary", method, &[("size", "MB")]);
    for features in FEATURES {
        build::build(&["--no-default-features", "--features", features])?;
        table.add(features, &[Some(stripped(&Path::new(build::DIST).join("overlayd"))?)]);
    }
    build::overlayd()?;
    bench.report.take(table);
    Ok(())
}

/// Size in megabytes (of 10⁶ bytes) without symbols.
fn stripped(binary: &Path) -> Result<f64> {
    let copy = Path::new("target/bench/stripped");
    fs::create_dir_all("target/bench")?;
    let status = program("strip").arg("-o").arg(copy).arg(binary).status().context("strip(1)")?;
    ensure!(status.success(), "strip(1) failed on {}", binary.display());
    Ok(fs::metadata(copy)?.len() as f64 / 1e6)
}
