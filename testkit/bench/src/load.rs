//! The load generator of the daemon's own benches, which measures what has no like among the others.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::{Bench, peers::program, report::Table};

/// Headline of what it tells of attachments.
pub(crate) const ATTACH: &str = "Attach with others present, and what the kernel takes for it";
/// Headline of what it tells of requests.
pub(crate) const CONTROL: &str = "Requests and peers";
/// Headline of what it tells of rest.
pub(crate) const SMALL: &str = "Start and rest";

/// Runs the part with this headline and takes its figures over.
pub(crate) fn measure(bench: &mut Bench, title: &'static str) -> Result<()> {
    let part = match title {
        ATTACH => "attach",
        CONTROL => "control",
        _ => "small",
    };
    fs::create_dir_all("target/bench")?;
    let path = std::path::absolute(format!("target/bench/{part}.json"))?;
    let (beside, peers) = (bench.options.beside.to_string(), bench.options.peers.to_string());
    let arguments = [part, "--beside", &beside, "--peers", &peers];
    let mut cargo = program(std::env::var("CARGO").as_deref().unwrap_or("cargo"));
    cargo.args(["bench", "--quiet", "--locked", "--package", "overlayd", "--bench", "load", "--"]);
    cargo.args(arguments).arg("--overlayd").arg(&bench.overlayd).arg("--json").arg(&path);
    // Of an earlier run.
    let _ = fs::remove_file(&path);
    let status = cargo.stdout(std::io::stderr()).status().context("cargo bench")?;
    ensure!(status.success(), "the load generator failed: {status}");
    bench.report.take(table(title, &arguments.join(" "), &figures(&path)?));
    Ok(())
}

fn figures(path: &Path) -> Result<Vec<Value>> {
    let text = fs::read_to_string(path).with_context(|| format!("could not read {}", path.display()))?;
    serde_json::from_str(&text).context("the figures of the load generator")
}

/// Calls, with how long they took, and single figures.
fn table(title: &'static str, arguments: &str, figures: &[Value]) -> Table {
    let method = format!("By `cargo bench -p overlayd --bench load -- {arguments}`.");
    let columns = [("all together", "1/s"), ("p50", "ms"), ("p99", "ms"), ("longest", "ms")];
    let mut table = Table { rivals: false, ..Table::new(title, method, &columns) };
    for figure in figures {
        let case = figure["case"].as_str().unwrap_or("unnamed").to_owned();
        match figure["value"].as_f64() {
            Some(value) => {
                let unit = figure["unit"].as_str().unwrap_or_default().to_owned();
                table.alone.push((case, value, unit));
            }
            None => {
                let cells = ["per_second", "p50_ms", "p99_ms", "max_ms"].map(|name| figure[name].as_f64());
                table.add(&format!("{case}, {} at once", figure["clients"]), &cells);
            }
        }
    }
    table
}
