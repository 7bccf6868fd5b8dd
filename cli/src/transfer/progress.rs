//! How a transfer goes: bars on a terminal, lines elsewhere.

use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use nearfs_client::transfer::{Counts, Running};

use crate::shell::output::{count, size};

/// How often a line is written where there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(5);
/// Files that have a bar of their own.
const BARS_MAX: usize = 8;
const TOTAL: &str = "{msg} {wide_bar:.green} {percent:>3} %  {binary_bytes}/{binary_total_bytes}  {binary_bytes_per_sec}  {eta} left";
const ONE: &str = "  {msg:30!} {wide_bar:.cyan} {percent:>3} %  {binary_bytes}/{binary_total_bytes}  {binary_bytes_per_sec}  {eta} left";

/// A display.
pub(super) struct Progress {
    kind: Display,
}

enum Display {
    Nothing,
    Lines { next: Instant, begun: Instant },
    Bars { all: MultiProgress, total: ProgressBar, files: Vec<(Arc<Running>, ProgressBar)> },
}

impl Progress {
    pub(super) fn begin(is_wanted: bool) -> Progress {
        let kind = if !is_wanted {
            Display::Nothing
        } else if std::io::stderr().is_terminal() {
            let all = MultiProgress::new();
            let total = all.add(ProgressBar::new(0));
            total.set_style(style(TOTAL));
            Display::Bars { all, total, files: Vec::new() }
        } else {
            let now = Instant::now();
            Display::Lines { next: now + LINE_INTERVAL, begun: now }
        };
        Progress { kind }
    }

    /// Shows where it stands.
    pub(super) fn show(&mut self, counts: &Counts, running: &[Arc<Running>]) {
        match &mut self.kind {
            Display::Nothing => {}
            Display::Lines { next, begun } => {
                if Instant::now() >= *next {
                    *next = Instant::now() + LINE_INTERVAL;
                    // Where nobody reads errors there is nobody to tell.
                    let _ = writeln!(std::io::stderr(), "{}", line(counts, begun.elapsed()));
                }
            }
            Display::Bars { all, total, files } => {
                total.set_length(counts.bytes_expected);
                total.set_position(counts.bytes);
                let more = if counts.is_all_found { "" } else { "+" };
                let same = match counts.unchanged {
                    0 => String::new(),
                    unchanged => format!(", {unchanged} unchanged"),
                };
                total.set_message(format!("{}/{}{more} files{same}", counts.files, counts.files_expected));
                files.retain(|(file, bar)| {
                    let stays = running.iter().any(|other| Arc::ptr_eq(file, other));
                    if !stays {
                        bar.finish_and_clear();
                        all.remove(bar);
                    }
                    stays
                });
                for file in running {
                    let is_shown = files.iter().any(|(other, _)| Arc::ptr_eq(file, other));
                    if !is_shown && files.len() < BARS_MAX {
                        let bar = all.insert_before(total, ProgressBar::new(file.bytes_expected));
                        bar.set_style(style(ONE));
                        bar.set_message(file.name.clone());
                        files.push((Arc::clone(file), bar));
                    }
                }
                files.iter().for_each(|(file, bar)| bar.set_position(file.bytes()));
            }
        }
    }

    /// Says something that is not to be overwritten.
    pub(super) fn aside<T>(&self, say: impl FnOnce() -> T) -> T {
        match &self.kind {
            Display::Bars { all, .. } => all.suspend(say),
            Display::Nothing | Display::Lines { .. } => say(),
        }
    }

    pub(super) fn end(&mut self) {
        if let Display::Bars { all, total, files } = &self.kind {
            files.iter().for_each(|(_, bar)| bar.finish_and_clear());
            total.finish_and_clear();
            // What cannot be cleared stays on the screen.
            let _ = all.clear();
        }
    }
}

fn line(counts: &Counts, elapsed: Duration) -> String {
    let seconds = elapsed.as_secs_f64().max(0.001);
    let rate = counts.moved_bytes() as f64 / seconds;
    let left = counts.bytes_expected.saturating_sub(counts.bytes) as f64 / rate.max(1.0);
    if counts.bytes_expected == 0 && counts.unchanged > 0 {
        let compared = count(counts.unchanged, "file", "files");
        return format!("{compared} compared, nothing to send so far");
    }
    let percent = (counts.bytes * 100).checked_div(counts.bytes_expected).unwrap_or(0);
    format!(
        "{percent} %, {} of {}, {} of {}, {}/s, {left:.0} s left",
        size(counts.bytes),
        size(counts.bytes_expected),
        counts.files,
        count(counts.files_expected, "file", "files"),
        size(rate as u64)
    )
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_tells_how_far_it_is_and_how_long_it_takes() {
        let counts = Counts {
            bytes: 1 << 20,
            bytes_expected: 4 << 20,
            files: 1,
            files_expected: 2,
            ..Counts::default()
        };
        let text = line(&counts, Duration::from_secs(1));
        assert_eq!(text, "25 %, 1.0 MiB of 4.0 MiB, 1 of 2 files, 1.0 MiB/s, 3 s left");
        let same = Counts { unchanged: 3, ..Counts::default() };
        assert_eq!(line(&same, Duration::from_secs(1)), "3 files compared, nothing to send so far");
    }

    #[test]
    fn the_templates_are_understood() {
        for template in [TOTAL, ONE] {
            ProgressStyle::with_template(template).unwrap();
        }
    }
}
