//! Tables of figures, as Markdown and as plots.

mod plot;

use std::{fmt::Write as _, fs, path::Path};

use anyhow::Result;

use crate::{peers::Peers, targets};

/// What was measured in one run.
#[derive(Debug, Default)]
pub(crate) struct Report {
    tables: Vec<Table>,
    /// What is said before and after the tables.
    opening: String,
    closing: String,
}

/// One comparison: contenders by figures.
#[derive(Debug)]
pub(crate) struct Table {
    /// Headline, and name of the plot.
    pub(crate) title: &'static str,
    /// How it was measured.
    pub(crate) method: String,
    pub(crate) columns: Vec<Column>,
    pub(crate) rows: Vec<Row>,
    /// Whether the rows are rivals, so that each is told in proportion to the first.
    pub(crate) rivals: bool,
    /// Figures that stand alone: what, how much, of what.
    pub(crate) alone: Vec<(String, f64, String)>,
    /// Contenders that did not run, each with the reason.
    pub(crate) absent: Vec<String>,
}

/// What one column tells.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Column {
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
}

/// One contender's figures.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) name: String,
    /// For each column the figure of every round; none where the contender has no such figure.
    pub(crate) figures: Vec<Vec<f64>>,
}

impl Table {
    /// A table without rows.
    pub(crate) fn new(title: &'static str, method: String, columns: &[(&'static str, &'static str)]) -> Self {
        let columns = columns.iter().map(|&(name, unit)| Column { name, unit }).collect();
        Self { title, method, columns, rows: Vec::new(), rivals: true, alone: Vec::new(), absent: Vec::new() }
    }

    /// Adds the figures of one round to the contender's row.
    pub(crate) fn add(&mut self, name: &str, figures: &[Option<f64>]) {
        assert_eq!(figures.len(), self.columns.len(), "a figure for each column");
        let place = self.rows.iter().position(|row| row.name == name).unwrap_or_else(|| {
            self.rows.push(Row { name: name.to_owned(), figures: vec![Vec::new(); self.columns.len()] });
            self.rows.len() - 1
        });
        for (all, figure) in self.rows[place].figures.iter_mut().zip(figures) {
            all.extend(figure);
        }
    }

    /// Notes that a contender took no part.
    pub(crate) fn leave_out(&mut self, name: &str, why: &str) {
        eprintln!("   {name} takes no part: {why}");
        let line = format!("{name}: {why}");
        if !self.absent.contains(&line) {
            self.absent.push(line);
        }
    }

    /// The figures of the first row, which the others are compared with.
    fn reference(&self, column: usize) -> Option<f64> {
        self.rows.first().filter(|_| self.rivals).and_then(|row| median(&row.figures[column]))
    }

    fn markdown(&self) -> String {
        let mut text = format!("## {}\n\n{}\n\n|", self.title, self.method);
        for Column { name, unit } in &self.columns {
            let unit = if unit.is_empty() { String::new() } else { format!(", {unit}") };
            write!(text, " | {name}{unit}").expect("a string takes everything");
        }
        text.push_str(" |\n|---");
        text.push_str(&"|---:".repeat(self.columns.len()));
        text.push_str("|\n");
        for row in &self.rows {
            write!(text, "| {}", row.name).expect("a string takes everything");
            for (column, figures) in row.figures.iter().enumerate() {
                text.push_str(" | ");
                text.push_str(&cell(figures, self.reference(column)));
            }
            text.push_str(" |\n");
        }
        if !self.alone.is_empty() {
            text.push('\n');
        }
        for (what, figure, unit) in &self.alone {
            writeln!(text, "- {what}: **{}** {unit}", short(*figure)).expect("a string takes everything");
        }
        for line in &self.absent {
            write!(text, "\nNot compared: {line}.\n").expect("a string takes everything");
        }
        text
    }
}

/// `median (least–most) ×ratio to the first row`.
fn cell(figures: &[f64], reference: Option<f64>) -> String {
    let Some(middle) = median(figures) else { return "–".to_owned() };
    let least = figures.iter().copied().fold(f64::INFINITY, f64::min);
    let most = figures.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let range = if figures.len() > 1 { format!(" ({}–{})", short(least), short(most)) } else { String::new() };
    let ratio = reference.filter(|reference| *reference != 0.0).map(|reference| middle / reference);
    let ratio = ratio.map_or_else(String::new, |ratio| format!(" ×{ratio:.2}"));
    format!("**{}**{range}{ratio}", short(middle))
}

/// Three digits that count.
pub(crate) fn short(figure: f64) -> String {
    match figure.abs() {
        size if size >= 100.0 || size == 0.0 => format!("{figure:.0}"),
        size if size >= 10.0 => format!("{figure:.1}"),
        _ => format!("{figure:.2}"),
    }
}

/// The figure in the middle; none of no figures.
pub(crate) fn median(figures: &[f64]) -> Option<f64> {
    percentile(figures, 50)
}

/// The figure that so many of a hundred do not exceed.
pub(crate) fn percentile(figures: &[f64], of_a_hundred: usize) -> Option<f64> {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get((sorted.len() * of_a_hundred / 100).min(sorted.len().saturating_sub(1))).copied()
}

impl Report {
    /// Takes a finished table, and shows it.
    pub(crate) fn take(&mut self, table: Table) {
        eprintln!("{}", table.markdown());
        self.tables.push(table);
    }

    /// The median of a figure.
    pub(crate) fn figure(&self, title: &str, row: &str, column: &str) -> Option<f64> {
        let table = self.tables.iter().find(|table| table.title == title)?;
        let column = table.columns.iter().position(|of| of.name == column)?;
        median(&table.rows.iter().find(|of| of.name == row)?.figures[column])
    }

    /// A figure that stands alone.
    pub(crate) fn alone(&self, title: &str, what: &str) -> Option<f64> {
        let table = self.tables.iter().find(|table| table.title == title)?;
        table.alone.iter().find(|(name, ..)| name == what).map(|(_, figure, _)| *figure)
    }

    /// Says by what, on what, and what came of it.
    pub(crate) fn finish(&mut self, peers: &Peers, failed: &[String]) {
        self.opening = format!("{}\n\nVersions: {}.", machine(), peers.versions().join(", "));
        for why in failed {
            write!(self.opening, "\n\n**Not measured to the end**: {why}").expect("a string takes everything");
        }
        self.closing = targets::table(self);
    }

    /// The whole report.
    pub(crate) fn markdown(&self) -> String {
        let tables: Vec<String> = self.tables.iter().map(Table::markdown).collect();
        format!("# Measured\n\n{}\n\n{}\n{}", self.opening, tables.join("\n"), self.closing)
    }

    /// Writes `report.md`, and a plot of the first column of each table.
    pub(crate) fn write(&self, directory: &Path) -> Result<()> {
        fs::create_dir_all(directory)?;
        fs::write(directory.join("report.md"), self.markdown())?;
        self.tables.iter().try_for_each(|table| plot::bars(table, directory))
    }
}

/// Processor, kernel and how busy the machine is with other things.
fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let processors = read("/proc/cpuinfo");
    let models: Vec<&str> = processors.lines().filter_map(|line| line.strip_prefix("model name\t: ")).collect();
    let model = models.first().copied().unwrap_or("an unnamed processor");
    let kernel = read("/proc/sys/kernel/osrelease");
    let load = read("/proc/loadavg");
    let load = load.split(' ').next().unwrap_or("unknown");
    format!(
        "{} × {model}, kernel {}, load average {load} at the end of the run. Each cell: the median of the rounds, least \
         and most of them, and, between rivals, the ratio to the first row.",
        models.len().max(1),
        kernel.trim(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_tells_median_range_and_ratio() {
        let mut table = Table::new("rates", "Measured.".into(), &[("TCP", "Gbit/s"), ("lost", "")]);
        for (name, rate) in [("ours", 4.0), ("theirs", 1.0), ("ours", 6.0), ("ours", 5.0)] {
            table.add(name, &[Some(rate), None]);
        }
        let text = table.markdown();
        assert!(text.contains("| | TCP, Gbit/s | lost |"), "{text}");
        assert!(text.contains("| ours | **5.00** (4.00–6.00) ×1.00 | – |"), "{text}");
        assert!(text.contains("| theirs | **1.00** ×0.20 | – |"), "{text}");
    }
}
