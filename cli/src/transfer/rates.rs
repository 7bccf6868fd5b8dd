//! How fast a transfer was: a log of points, and a picture of one or two logs.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use plotters::prelude::*;

use crate::shell::failure::Failure;
use crate::shell::output::shown;
use crate::transfer::options::PaceOptions;

/// Points over which the average is taken.
const AVERAGED: usize = 60;
/// Points of a log that are drawn.
const POINTS_MAX: usize = 1_000_000;
const HEADER: &str = "seconds,bytes,bytes_per_second,average_bytes_per_second";
const COLORS: [RGBColor; 2] = [RGBColor(31, 119, 180), RGBColor(214, 96, 39)];

/// One moment of a transfer.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Point {
    seconds: f64,
    bytes: u64,
    rate: f64,
    average: f64,
}

/// The rates of one transfer.
pub(super) struct Rates {
    log: Option<(BufWriter<File>, PathBuf)>,
    plot: Option<(PathBuf, Option<PathBuf>)>,
    points: Vec<Point>,
    last: Option<(f64, u64)>,
    recent: VecDeque<f64>,
}

impl Rates {
    /// Whether anybody looks at them.
    pub(super) fn are_wanted(&self) -> bool {
        self.log.is_some() || self.plot.is_some()
    }

    pub(super) fn begin(options: &PaceOptions) -> Result<Rates, Failure> {
        let mut log = None;
        if let Some(path) = &options.rate_log {
            let mut file = BufWriter::new(File::create(path).map_err(Failure::local(path))?);
            writeln!(file, "{HEADER}").map_err(Failure::local(path))?;
            log = Some((file, path.clone()));
        }
        let plot = options.rate_plot.clone().map(|plot| (plot, options.rate_compare.clone()));
        Ok(Rates { log, plot, points: Vec::new(), last: None, recent: VecDeque::new() })
    }

    /// So many bytes were moved by now.
    pub(super) fn point(&mut self, elapsed: Duration, bytes: u64) -> Result<(), Failure> {
        if !self.are_wanted() {
            return Ok(());
        }
        let seconds = elapsed.as_secs_f64();
        let (last_seconds, last_bytes) = self.last.replace((seconds, bytes)).unwrap_or((0.0, 0));
        // A file that was begun anew has taken bytes back.
        let rate = bytes.saturating_sub(last_bytes) as f64 / (seconds - last_seconds).max(1e-3);
        self.recent.push_back(rate);
        if self.recent.len() > AVERAGED {
            self.recent.pop_front();
        }
        let average = self.recent.iter().sum::<f64>() / self.recent.len() as f64;
        let point = Point { seconds, bytes, rate, average };
        if let Some((file, path)) = &mut self.log {
            writeln!(file, "{seconds:.3},{bytes},{rate:.0},{average:.0}").map_err(Failure::local(path))?;
        }
        if self.plot.is_some() && self.points.len() < POINTS_MAX {
            self.points.push(point);
        }
        Ok(())
    }

    /// The transfer is over.
    pub(super) fn end(mut self, elapsed: Duration, bytes: u64) -> Result<(), Failure> {
        self.point(elapsed, bytes)?;
        // Logs are told apart by their names, as a person gave them.
        let mut name = "this transfer".to_owned();
        if let Some((mut file, path)) = self.log {
            file.flush().map_err(Failure::local(&path))?;
            name = log_name(&path);
        }
        let Some((plot, compare)) = self.plot else { return Ok(()) };
        let mut series = vec![(name, self.points)];
        if let Some(compare) = compare {
            series.push((log_name(&compare), read(&compare)?));
        }
        draw(&plot, &series).map_err(|error| Failure::Refused(format!("{}: {error}", shown(&plot))))
    }
}

fn log_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// Reads a log that was written before.
fn read(path: &Path) -> Result<Vec<Point>, Failure> {
    let text = std::fs::read_to_string(path).map_err(Failure::local(path))?;
    let wrong = || Failure::Refused(format!("{} is no log of rates", shown(path)));
    let mut lines = text.lines();
    if lines.next() != Some(HEADER) {
        return Err(wrong());
    }
    lines
        .take(POINTS_MAX)
        .map(|line| {
            let mut numbers = line.split(',').map(str::parse::<f64>);
            let mut number =
                || numbers.next().and_then(Result::ok).filter(|n| n.is_finite()).ok_or_else(wrong);
            Ok(Point { seconds: number()?, bytes: number()? as u64, rate: number()?, average: number()? })
        })
        .collect()
}

/// Draws rates over time: each point thin, the average thick.
fn draw(path: &Path, series: &[(String, Vec<Point>)]) -> Result<(), Box<dyn std::error::Error>> {
    const MIB: f64 = 1024.0 * 1024.0;
    let all = || series.iter().flat_map(|(_, points)| points);
    let end = all().map(|point| point.seconds).fold(0.1, f64::max);
    let top = all().map(|point| point.rate / MIB).fold(0.1, f64::max) * 1.05;
    let root = SVGBackend::new(path, (900, 480)).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .margin(16)
        .x_label_area_size(40)
        .y_label_area_size(70)
        .build_cartesian_2d(0.0..end, 0.0..top)?;
    chart.configure_mesh().x_desc("seconds").y_desc("MiB/s").light_line_style(TRANSPARENT).draw()?;
    for ((name, points), color) in series.iter().zip(COLORS) {
        let rates = points.iter().map(|point| (point.seconds, point.rate / MIB));
        chart.draw_series(LineSeries::new(rates, color.mix(0.35)))?;
        let averages = points.iter().map(|point| (point.seconds, point.average / MIB));
        chart
            .draw_series(LineSeries::new(averages, color.stroke_width(2)))?
            .label(name.clone())
            .legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 20, y)], color.stroke_width(2)));
    }
    chart.configure_series_labels().background_style(WHITE.mix(0.8)).border_style(BLACK).draw()?;
    root.present()?;
    Ok(())
}
