//! Bars, one for each contender.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use super::{Table, median};

const WIDTH: u32 = 720;
const BAR: u32 = 34;
const MARGIN: u32 = 60;

/// Draws the first column as horizontal bars.
pub(super) fn bars(table: &Table, directory: &Path) -> Result<()> {
    let figures: Vec<(&str, f64)> =
        table.rows.iter().filter_map(|row| Some((row.name.as_str(), median(&row.figures[0])?))).collect();
    let Some(most) = figures.iter().map(|(_, figure)| *figure).reduce(f64::max) else { return Ok(()) };
    let path = directory.join(format!("{}.svg", table.title.to_lowercase().replace(' ', "-")));
    draw(table, &figures, most, &path).map_err(|error| anyhow!("{}: {error}", path.display()))
}

fn draw(table: &Table, figures: &[(&str, f64)], most: f64, path: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let rows = u32::try_from(figures.len())?;
    let root = SVGBackend::new(path, (WIDTH, rows * BAR + MARGIN)).into_drawing_area();
    root.fill(&WHITE)?;
    let headline = format!("{}: {}, {}", table.title, table.columns[0].name, table.columns[0].unit);
    root.draw_text(&headline, &("sans-serif", 18).into_font().color(&BLACK), (10, 10))?;
    let room = f64::from(WIDTH - 340);
    for (row, (name, figure)) in (0..).zip(figures) {
        let top = (MARGIN - 20 + row * BAR).cast_signed();
        let length = if most > 0.0 { figure / most * room } else { 0.0 } as i32;
        let colour = if row == 0 { RGBColor(0x1f, 0x6f, 0xb4) } else { RGBColor(0xa0, 0xa8, 0xb0) };
        root.draw(&Rectangle::new([(230, top), (230 + length, top + 22)], colour.filled()))?;
        let small = ("sans-serif", 14).into_font();
        root.draw_text(name, &small.color(&BLACK), (10, top + 4))?;
        root.draw_text(&super::short(*figure), &small.color(&BLACK), (238 + length, top + 4))?;
    }
    root.present()?;
    Ok(())
}
