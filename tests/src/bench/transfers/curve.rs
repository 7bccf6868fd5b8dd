//! How fast files of different sizes are brought: the whole command, from its start to its end.

use std::fs;
use std::ops::Range;
use std::path::Path;

use anyhow::Context;
use plotters::coord::Shift;
use plotters::prelude::*;
use serde::{Deserialize, Serialize};

use super::job::{Ends, Job, binary_size};
use super::picture::{colour, drawing};
use super::record::{Cell, Until};
use super::report::digits;
use super::servers::Servers;
use super::tool::{Move, Tool};
use crate::bench::options::TransferPlan;
use crate::bench::workspace::Workspace;
use crate::random::write_noise;

/// The smallest and the largest file, and how many times as large each is as the one before.
const SIZE_MIN: u64 = 1 << 10;
const SIZE_MAX: u64 = 1 << 30;
const SIZE_MAX_QUICK: u64 = 1 << 20;
const SIZE_STEP: u64 = 4;

const WIDTH: u32 = 900;
const PANEL_HEIGHT: u32 = 330;

/// One program in one direction at one delay.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Curve {
    pub(super) rtt_ms: u64,
    pub(super) job: Job,
    pub(super) tool: Tool,
    pub(super) points: Vec<Point>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Point {
    bytes: u64,
    cell: Cell,
}

impl Point {
    /// Megabytes (10^6 bytes) a second.
    fn rate(&self) -> Option<f64> {
        self.cell
            .median(Until::End)
            .filter(|_| !self.cell.is_stopped)
            .map(|seconds| self.bytes as f64 / seconds / 1e6)
    }
}

/// Brings a file of each size with each program, both ways.
pub(super) fn measure(
    plan: &TransferPlan,
    tools: &[Tool],
    workspace: &Workspace,
) -> anyhow::Result<Vec<Curve>> {
    let ends = Ends { here: workspace.work().join("here"), export: workspace.export() };
    let largest = if plan.is_quick { SIZE_MAX_QUICK } else { SIZE_MAX };
    let sizes: Vec<u64> = std::iter::successors(Some(SIZE_MIN), |bytes| Some(bytes * SIZE_STEP))
        .take_while(|bytes| *bytes <= largest)
        .collect();
    ends.prepare(&super::Amounts::QUICK, &[])?;
    for bytes in &sizes {
        let name = name(*bytes);
        write_noise(&ends.here.join(&name), *bytes, 5)?;
        fs::copy(ends.here.join(&name), ends.export.join(&name)).context("cannot copy a file")?;
    }
    let mut curves = Vec::new();
    for rtt in &plan.rtts {
        let servers = Servers::start(tools, &ends, workspace.work(), plan.placement, *rtt)?;
        for job in plan.jobs.iter().copied().filter(|job| !job.is_tree()) {
            let rtt_ms = u64::try_from(rtt.as_millis()).unwrap_or(u64::MAX);
            let mut of_job: Vec<Curve> =
                tools.iter().map(|tool| Curve { rtt_ms, job, tool: *tool, points: Vec::new() }).collect();
            for bytes in &sizes {
                measure_size(plan, &servers, &ends, *bytes, &mut of_job)?;
            }
            curves.extend(of_job);
        }
    }
    Ok(curves)
}

/// Adds the point of one size to the curves of all programs, which take turns.
fn measure_size(
    plan: &TransferPlan,
    servers: &Servers,
    ends: &Ends,
    bytes: u64,
    curves: &mut [Curve],
) -> anyhow::Result<()> {
    let mut cells = vec![Cell::default(); curves.len()];
    for _ in 0..plan.repetitions {
        for (curve, cell) in curves.iter().zip(&mut cells) {
            if cell.is_stopped || cell.failure.is_some() {
                continue;
            }
            let places = ends.clear(curve.job)?;
            let (here, there) = ends.paths_of(&name(bytes), curve.job.is_put(), &places);
            let moved = Move { job: curve.job, here: &here, there: &there, export: &ends.export };
            let attempt = servers.attempt(curve.tool, &moved, plan.limit);
            let synced = ends.sync()?;
            let is_same = || {
                let sizes = [fs::metadata(&here)?.len(), fs::metadata(ends.export.join(&there))?.len()];
                anyhow::ensure!(sizes == [bytes; 2], "{sizes:?} bytes arrived instead of {bytes}");
                Ok(())
            };
            super::keep(cell, attempt, synced, is_same);
        }
    }
    for (curve, cell) in curves.iter_mut().zip(cells) {
        eprintln!("[{} ms] {} {}: {cell:?}", curve.rtt_ms, curve.tool.name(), binary_size(bytes));
        curve.points.push(Point { bytes, cell });
    }
    Ok(())
}

/// The rates of one program, a row a size and a column a curve.
pub(super) fn table(curves: &[Curve], tool: Tool) -> String {
    let own: Vec<&Curve> = curves.iter().filter(|curve| curve.tool == tool).collect();
    let heads: Vec<String> = own.iter().map(|curve| title(curve.rtt_ms, curve.job)).collect();
    let mut text = format!("| file | {} |\n|---|{}\n", heads.join(" | "), "--:|".repeat(own.len()));
    let sizes = own.first().map_or(&[][..], |curve| &curve.points);
    for (index, size) in sizes.iter().enumerate() {
        let rates = own.iter().map(|curve| curve.points.get(index).and_then(Point::rate));
        let cells: Vec<String> = rates.map(|rate| rate.map_or("-".to_owned(), digits)).collect();
        text.push_str(&format!("| {} | {} |\n", binary_size(size.bytes), cells.join(" | ")));
    }
    text
}

/// Draws all curves: a panel a delay and direction, both axes logarithmic.
pub(super) fn draw(curves: &[Curve], path: &Path) -> anyhow::Result<()> {
    let mut panels: Vec<(u64, Job)> = curves.iter().map(|curve| (curve.rtt_ms, curve.job)).collect();
    panels.dedup();
    let lines = panels.len().div_ceil(2).max(1);
    let size = (WIDTH, PANEL_HEIGHT * u32::try_from(lines).unwrap_or(1));
    let root = SVGBackend::new(path, size).into_drawing_area();
    root.fill(&WHITE).map_err(drawing)?;
    for ((rtt_ms, job), area) in panels.into_iter().zip(root.split_evenly((lines, 2))) {
        let shown: Vec<&Curve> =
            curves.iter().filter(|curve| (curve.rtt_ms, curve.job) == (rtt_ms, job)).collect();
        draw_panel(&title(rtt_ms, job), &shown, rates(curves), &area)?;
    }
    root.present().map_err(drawing)
}

fn draw_panel(
    title: &str,
    curves: &[&Curve],
    rates: Range<f64>,
    area: &DrawingArea<SVGBackend, Shift>,
) -> anyhow::Result<()> {
    let sizes = curves.iter().flat_map(|curve| &curve.points).map(|point| point.bytes as f64);
    let widest = sizes.fold(2.0 * SIZE_MIN as f64, f64::max);
    let mut chart = ChartBuilder::on(area)
        .caption(format!("{title}, MB/s"), ("sans-serif", 16))
        .margin(12)
        .x_label_area_size(30)
        .y_label_area_size(60)
        .build_cartesian_2d((SIZE_MIN as f64..widest).log_scale().base(4.0), rates.log_scale())
        .map_err(drawing)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .x_label_formatter(&|bytes| binary_size(bytes.round() as u64))
        .x_labels(6)
        .y_label_formatter(&|rate| format!("{rate}"))
        .draw()
        .map_err(drawing)?;
    for curve in curves {
        let points = || curve.points.iter().filter_map(|point| Some((point.bytes as f64, point.rate()?)));
        let colour = colour(curve.tool);
        chart
            .draw_series(LineSeries::new(points(), colour.stroke_width(2)).point_size(3))
            .map_err(drawing)?
            .label(curve.tool.name())
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK)
        .draw()
        .map_err(drawing)
}

fn rates(curves: &[Curve]) -> Range<f64> {
    let rates = || curves.iter().flat_map(|curve| &curve.points).filter_map(Point::rate);
    rates().fold(1.0, f64::min) / 1.5..rates().fold(1.0, f64::max) * 1.5
}

fn title(rtt_ms: u64, job: Job) -> String {
    let verb = if job.is_put() { "upload" } else { "download" };
    if rtt_ms == 0 { format!("{verb}, loopback") } else { format!("{verb}, {rtt_ms} ms") }
}

fn name(bytes: u64) -> String {
    format!("size-{bytes}")
}
