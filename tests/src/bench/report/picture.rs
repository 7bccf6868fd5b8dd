//! The picture: for each metric a bar a system, on a logarithmic scale, with the local directory or the ceiling
//! as 1, so that metrics of all units fit beside each other.

use std::ops::Range;
use std::path::Path;

use anyhow::anyhow;
use plotters::coord::Shift;
use plotters::prelude::*;

use crate::bench::metric::{METRICS, Metric};
use crate::bench::record::{Record, StageRecord};
use crate::bench::system::Role;

const WIDTH: u32 = 1100;
const BAR_HEIGHT: u32 = 9;
const TITLE_HEIGHT: u32 = 70;
const FOOT_HEIGHT: u32 = 50;
const LABEL_WIDTH: u32 = 330;

/// Nobody reads more than four powers of ten.
const SPEED_MIN: f64 = 1e-3;
const SPEED_MAX: f64 = 1e3;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Draws all stages, one below the other.
pub(super) fn draw(record: &Record, path: &Path) -> anyhow::Result<()> {
    let heights: Vec<u32> = record.stages.iter().map(height).collect();
    let root = SVGBackend::new(path, (WIDTH, heights.iter().sum())).into_drawing_area();
    root.fill(&WHITE).map_err(drawing)?;
    let mut rest = root.clone();
    for (stage, height) in record.stages.iter().zip(heights) {
        let (area, below) = rest.split_vertically(height);
        draw_stage(stage, &area)?;
        rest = below;
    }
    root.present().map_err(drawing)
}

fn draw_stage(stage: &StageRecord, area: &Area) -> anyhow::Result<()> {
    let metrics = measured(stage);
    let rows = rows(stage);
    let speeds = speed_range(stage, &metrics);
    let mut chart = ChartBuilder::on(area)
        .margin(10)
        .margin_top(TITLE_HEIGHT - 10)
        .x_label_area_size(FOOT_HEIGHT - 20)
        .y_label_area_size(LABEL_WIDTH)
        .build_cartesian_2d(speeds.clone().log_scale(), 0.0..(metrics.len() * rows) as f64)
        .map_err(drawing)?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .disable_y_axis()
        .x_desc("times as fast")
        .draw()
        .map_err(drawing)?;
    for (index, metric) in metrics.iter().enumerate() {
        let top = ((metrics.len() - index) * rows) as f64;
        let label_at = chart.backend_coord(&(speeds.start, top - rows as f64 / 2.0));
        draw_label(area, metric, stage, label_at)?;
        for (bar, system) in stage.systems.iter().enumerate() {
            let Some(speed) = relative_speed(stage, metric, system.name) else { continue };
            let (upper, lower) = (top - bar as f64 - 0.6, top - bar as f64 - 1.4);
            let end = speed.clamp(speeds.start, speeds.end);
            let corners = [(speeds.start, lower), (end, upper)];
            chart.draw_series([Rectangle::new(corners, colour(bar).filled())]).map_err(drawing)?;
        }
        if let Some(target) = goal_speed(stage, metric) {
            let target = target.clamp(speeds.start, speeds.end);
            let mark = [(target, top - rows as f64 + 0.4), (target, top - 0.4)];
            chart.draw_series([PathElement::new(mark, BLACK.stroke_width(2))]).map_err(drawing)?;
        }
    }
    area.draw_text(&caption(stage), &("sans-serif", 18).into_text_style(area), (10, 8)).map_err(drawing)?;
    draw_legend(stage, area)
}

fn draw_label(area: &Area, metric: &Metric, stage: &StageRecord, (x, y): (i32, i32)) -> anyhow::Result<()> {
    use plotters::style::text_anchor::{HPos, Pos, VPos};
    let median = stage.of_role(Role::Ours).find_map(|system| system.median(metric.id));
    let figure = median.map_or(String::new(), |value| format!(" ({value:.4} {})", metric.unit.symbol()));
    let style = ("sans-serif", 12).into_text_style(area).pos(Pos::new(HPos::Right, VPos::Center));
    // The chart counts pixels from the corner of the whole picture, the area from its own.
    let (left, top) = area.get_base_pixel();
    area.draw_text(&format!("{}{figure}", metric.title), &style, (x - left - 6, y - top)).map_err(drawing)
}

fn draw_legend(stage: &StageRecord, area: &Area) -> anyhow::Result<()> {
    let mut x = LABEL_WIDTH as i32;
    for (bar, system) in stage.systems.iter().enumerate() {
        area.draw(&Rectangle::new([(x, 40), (x + 12, 50)], colour(bar).filled())).map_err(drawing)?;
        area.draw_text(system.name, &("sans-serif", 12).into_text_style(area), (x + 16, 39))
            .map_err(drawing)?;
        x += 30 + 8 * system.name.len() as i32;
    }
    area.draw(&PathElement::new([(x + 4, 38), (x + 4, 52)], BLACK.stroke_width(2))).map_err(drawing)?;
    area.draw_text("goal", &("sans-serif", 12).into_text_style(area), (x + 10, 39)).map_err(drawing)
}

fn caption(stage: &StageRecord) -> String {
    format!("{}: speed relative to {}", stage.title(), base_name(stage).unwrap_or("nothing"))
}

/// The system whose speed counts as 1: the ceiling, or with a delay the first rival.
fn base_name(stage: &StageRecord) -> Option<&'static str> {
    let ordered = [Role::Ceiling, Role::Rival, Role::Local, Role::Ours];
    ordered.into_iter().find_map(|role| stage.of_role(role).next()).map(|system| system.name)
}

fn relative_speed(stage: &StageRecord, metric: &Metric, name: &str) -> Option<f64> {
    let speed = |name| Some(metric.unit.speed(stage.system(name)?.median(metric.id)?));
    Some(speed(name)? / speed(base_name(stage)?)?)
}

fn goal_speed(stage: &StageRecord, metric: &Metric) -> Option<f64> {
    let base = stage.system(base_name(stage)?)?.median(metric.id)?;
    Some(metric.unit.speed(stage.goals.get(metric.id)?.target) / metric.unit.speed(base))
}

fn measured(stage: &StageRecord) -> Vec<&'static Metric> {
    let has_figure =
        |metric: &&Metric| base_name(stage).is_some_and(|base| relative_speed(stage, metric, base).is_some());
    METRICS.iter().filter(has_figure).collect()
}

fn speed_range(stage: &StageRecord, metrics: &[&Metric]) -> Range<f64> {
    let mut range = 0.5_f64..2.0;
    for metric in metrics {
        for system in &stage.systems {
            let speed = relative_speed(stage, metric, system.name).unwrap_or(1.0).clamp(SPEED_MIN, SPEED_MAX);
            range = range.start.min(speed / 1.5)..range.end.max(speed * 1.5);
        }
        let goal = goal_speed(stage, metric).unwrap_or(1.0).clamp(SPEED_MIN, SPEED_MAX);
        range = range.start.min(goal / 1.5)..range.end.max(goal * 1.5);
    }
    range
}

/// Bars of a metric and the gap to the next.
fn rows(stage: &StageRecord) -> usize {
    stage.systems.len() + 1
}

fn height(stage: &StageRecord) -> u32 {
    let bars = u32::try_from(measured(stage).len() * rows(stage)).unwrap_or(0);
    TITLE_HEIGHT + FOOT_HEIGHT + bars * BAR_HEIGHT
}

fn colour(index: usize) -> PaletteColor<Palette99> {
    Palette99::pick(index)
}

fn drawing(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("{error}")
}
