//! The load generator of the daemon's own benches, which measures what has no like among the others.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::{
    peers::program,
    report::{Report, Table},
};

/// Runs one part of it and takes its figures over.
pub(crate) fn measure(part: &str, title: &'static str, report: &mut Report) -> Result<()> {
    let path = std::path::absolute(PathBuf::from(format!("target/bench/{part}.json")))?;
    fs::create_dir_all("target/bench")?;
    let mut cargo = program(std::env::var("CARGO").as_deref().unwrap_or("cargo"));
    cargo.args(["bench", "--quiet", "--locked", "--package", "overlayd", "--bench", "load", "--", part, "--json"]);
    let status = cargo.arg(&path).stdout(std::io::stderr()).status().context("cargo bench")?;
    ensure!(status.success(), "the load generator failed: {status}");
    let text = fs::read_to_string(&path).with_context(|| format!("could not read {}", path.display()))?;
    let figures: Vec<Value> = serde_json::from_str(&text).context("the figures of the load generator")?;
    for table in tables(title, part, &figures) {
        report.take(table);
    }
    Ok(())
}

/// Calls, with how long they took, and single figures.
fn tables(title: &'static str, part: &str, figures: &[Value]) -> Vec<Table> {
    let method = format!("The daemon alone, by `cargo bench -p overlayd --bench load -- {part}`.");
    let columns = [("all together", "1/s"), ("p50", "ms"), ("p99", "ms"), ("longest", "ms")];
    let mut calls = Table::new(title, method.clone(), &columns);
    let mut single = Vec::new();
    for figure in figures {
        let case = figure["case"].as_str().unwrap_or("unnamed");
        match figure["value"].as_f64() {
            Some(value) => single.push((case, figure["unit"].as_str().unwrap_or_default(), value)),
            None => {
                let clients = &figure["clients"];
                let cells = ["per_second", "p50_ms", "p99_ms", "max_ms"].map(|name| figure[name].as_f64());
                calls.add(&format!("{case}, {clients} at once"), &cells);
            }
        }
    }
    let mut method = method;
    for (case, unit, value) in &single {
        method.push_str(&format!(" {case}: **{value:.2} {unit}**."));
    }
    calls.method = method;
    vec![calls].into_iter().filter(|table| !table.rows.is_empty() || !single.is_empty()).collect()
}
