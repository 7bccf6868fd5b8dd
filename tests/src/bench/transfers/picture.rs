//! The picture of the comparison: for each row a bar a program, as long as it took, on a logarithmic scale.

use std::ops::Range;
use std::path::Path;

use anyhow::anyhow;
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::record::{Stage, Until};
use super::report::digits;
use super::tool::Tool;

const WIDTH: u32 = 900;
const BAR_HEIGHT: u32 = 15;
const TITLE_HEIGHT: u32 = 60;
const FOOT_HEIGHT: u32 = 50;
const LABEL_WIDTH: u32 = 190;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Draws all stages, one below the other.
pub(super) fn draw(stages: &[Stage], path: &Path) -> anyhow::Result<()> {
    let root =
        SVGBackend::new(path, (WIDTH, stages.iter().map(height).sum::<u32>().max(1))).into_drawing_area();
    root.fill(&WHITE).map_err(drawing)?;
    let medians = || {
        let rows = stages.iter().flat_map(|stage| stage.rows.values());
        rows.flat_map(|row| row.cells.values()).filter_map(|cell| cell.median(Until::End))
    };
    let range = medians().fold(1.0, f64::min) / 2.0..medians().fold(1.0, f64::max) * 3.0;
    let mut rest = root.clone();
    for stage in stages.iter().filter(|stage| !stage.rows.is_empty()) {
        let (area, below) = rest.split_vertically(height(stage));
        draw_stage(stage, range.clone(), &area)?;
        rest = below;
    }
    root.present().map_err(drawing)
}

fn draw_stage(stage: &Stage, range: Range<f64>, area: &Area) -> anyhow::Result<()> {
    let bars = rows(stage);
    let mut chart = ChartBuilder::on(area)
        .margin(10)
        .margin_top(TITLE_HEIGHT - 10)
        .x_label_area_size(FOOT_HEIGHT - 20)
        .y_label_area_size(LABEL_WIDTH)
        .build_cartesian_2d(range.clone().log_scale(), 0.0..(stage.rows.len() * bars) as f64)
        .map_err(drawing)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .disable_y_mesh()
        .disable_y_axis()
        .x_desc("seconds")
        .draw()
        .map_err(drawing)?;
    let (left, top) = area.get_base_pixel();
    let small = || ("sans-serif", 12).into_text_style(area);
    for (index, (job, row)) in stage.rows.iter().enumerate() {
        let begin = (stage.rows.len() - index) * bars;
        for (bar, tool) in stage.tools.iter().enumerate() {
            let Some(cell) = row.cells.get(tool) else { continue };
            let Some(median) = cell.median(Until::End) else { continue };
            let edge = (begin - bar) as f64;
            let corners = [(range.start, edge - 0.1), (median, edge - 0.9)];
            chart.draw_series([Rectangle::new(corners, colour(*tool).filled())]).map_err(drawing)?;
            let bound = if cell.is_stopped { "> " } else { "" };
            let (x, y) = chart.backend_coord(&(median, edge - 0.5));
            let style = small().pos(Pos::new(HPos::Left, VPos::Center));
            let text = format!("{bound}{} s", digits(median));
            area.draw_text(&text, &style, (x - left + 4, y - top)).map_err(drawing)?;
        }
        let middle = begin as f64 - stage.tools.len() as f64 / 2.0;
        let (x, y) = chart.backend_coord(&(range.start, middle));
        let style = small().pos(Pos::new(HPos::Right, VPos::Center));
        area.draw_text(&job.title(&stage.amounts), &style, (x - left - 6, y - top)).map_err(drawing)?;
    }
    area.draw_text(&stage.title(), &("sans-serif", 18).into_text_style(area), (10, 8)).map_err(drawing)?;
    let mut x = LABEL_WIDTH as i32;
    for tool in &stage.tools {
        area.draw(&Rectangle::new([(x, 34), (x + 12, 44)], colour(*tool).filled())).map_err(drawing)?;
        area.draw_text(tool.name(), &small(), (x + 16, 33)).map_err(drawing)?;
        x += 80;
    }
    Ok(())
}

/// Each program has its colour, whichever of them were measured.
pub(super) fn colour(tool: Tool) -> RGBColor {
    match tool {
        Tool::Nearfs => RGBColor(31, 119, 180),
        Tool::Scp => RGBColor(214, 96, 39),
        Tool::Sftp => RGBColor(44, 160, 44),
        Tool::Rsync => RGBColor(148, 103, 189),
        Tool::Lftp => RGBColor(140, 140, 140),
    }
}

/// Bars of a row and the gap to the next.
fn rows(stage: &Stage) -> usize {
    stage.tools.len() + 1
}

fn height(stage: &Stage) -> u32 {
    match u32::try_from(stage.rows.len() * rows(stage)).unwrap_or(0) {
        0 => 0,
        bars => TITLE_HEIGHT + FOOT_HEIGHT + bars * BAR_HEIGHT,
    }
}

pub(super) fn drawing(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("{error}")
}
