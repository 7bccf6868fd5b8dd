//! EVALUATION.md and its pictures: measured in parts, each of which can be measured anew by itself.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::curve::{self, Curve};
use super::job::{Ends, Job};
use super::record::Stage;
use super::servers::Servers;
use super::tool::Tool;
use super::{Amounts, choose, compare, picture, report};
use crate::bench::options::TransferPlan;
use crate::bench::placement::Placement;
use crate::bench::record::Machine;
use crate::bench::workspace::Workspace;

/// The programs whose rates are drawn over sizes: ours, and what most people use.
const CURVES: [Tool; 3] = [Tool::Nearfs, Tool::Scp, Tool::Rsync];
/// The round trip at which the course of a transfer is drawn.
const COURSE_RTT: Duration = Duration::from_millis(20);
const REPETITIONS: u16 = 3;

/// The command line of the `evaluate` binary.
#[derive(Debug, clap::Parser)]
#[command(name = "evaluate", about = "Measure transfers, and write EVALUATION.md and its pictures")]
pub struct EvaluationOptions {
    /// Only these parts; the others stay as they were measured last.
    #[arg(long, value_delimiter = ',', value_name = "PART")]
    only: Vec<Part>,
    /// Only these rows of the table and, of large files, these ways of the rates; the others stay as they were measured last.
    #[arg(long, value_delimiter = ',', value_name = "ROW", value_parser = known_row)]
    rows: Vec<Job>,
    /// Small sizes and one repetition: to see that it works, not for figures to quote.
    #[arg(long)]
    quick: bool,
    /// Repetitions of each transfer, in turns over the programs [default: 3, with --quick 1].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=100))]
    reps: Option<u16>,
    /// Round trip times in milliseconds; 0 is a direct connection.
    #[arg(long, value_delimiter = ',', default_value = "0,20", value_name = "MS")]
    rtt: Vec<u16>,
    /// End what takes longer than this: its time is then a lower bound.
    #[arg(long, default_value_t = 40, value_name = "SECONDS", value_parser = clap::value_parser!(u16).range(1..))]
    limit: u16,
    /// Where the figures and the working files go.
    #[arg(long, default_value = "target/evaluation", value_name = "DIR")]
    out: PathBuf,
    /// Where EVALUATION.md goes, and `evaluation/` with the pictures.
    #[arg(long, default_value = ".", value_name = "DIR")]
    pages: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Rates over file sizes.
    Sizes,
    /// The table beside other programs.
    Compare,
    /// Rates over the time of one transfer.
    Course,
}

fn known_row(id: &str) -> Result<Job, String> {
    let known = || Job::ALL.map(Job::id).join(", ");
    Job::ALL.into_iter().find(|job| job.id() == id).ok_or_else(|| format!("rows are {}", known()))
}

/// Measures what was asked for and writes the page.
///
/// # Errors
/// When something cannot be measured or written.
pub fn evaluate(options: &EvaluationOptions) -> anyhow::Result<()> {
    let plan = TransferPlan {
        placement: Placement::Unpinned,
        rtts: options.rtt.iter().map(|ms| Duration::from_millis((*ms).into())).collect(),
        is_quick: options.quick,
        repetitions: options.reps.unwrap_or(if options.quick { 1 } else { REPETITIONS }).into(),
        limit: Duration::from_secs(options.limit.into()),
        tools: Vec::new(),
        jobs: if options.rows.is_empty() { Job::ALL.to_vec() } else { options.rows.clone() },
    };
    let (tools, skipped) = choose(&plan)?;
    ensure!(skipped.is_empty(), "the page needs all programs, but {skipped:?}");
    let pictures = options.pages.join("evaluation");
    fs::create_dir_all(&pictures)?;
    let is_wanted = |part| options.only.is_empty() || options.only.contains(&part);
    let workspace = Workspace::open(&options.out)?;
    let (sizes, stages) = (options.out.join("sizes.json"), options.out.join("compare.json"));
    if is_wanted(Part::Sizes) {
        let measured = curve::measure(&plan, &CURVES, &workspace)?;
        keep(&sizes, measured, |curve: &Curve| (curve.rtt_ms, curve.job, curve.tool), |_, curve| curve)?;
    }
    if is_wanted(Part::Compare) {
        keep(&stages, compare(&plan, &tools, &workspace)?, |stage: &Stage| stage.rtt_ms, Stage::with)?;
    }
    if is_wanted(Part::Course) {
        draw_course(&plan, &workspace, &pictures.join("course.svg"))?;
    }
    workspace.close(false)?;
    let (curves, stages): (Vec<Curve>, Vec<Stage>) = (read(&sizes)?, read(&stages)?);
    curve::draw(&curves, &pictures.join("sizes.svg"))?;
    picture::draw(&stages, &pictures.join("transfers.svg"))?;
    let page = options.pages.join("EVALUATION.md");
    fs::write(&page, text(&curves, &stages)).with_context(|| format!("cannot write {}", page.display()))
}

/// Writes down figures, with those that were there for the same thing.
fn keep<T: Serialize + DeserializeOwned, K: Ord>(
    path: &Path,
    measured: Vec<T>,
    key: impl Fn(&T) -> K,
    with: impl Fn(T, T) -> T,
) -> anyhow::Result<()> {
    let earlier: Vec<T> = if path.exists() { read(path)? } else { Vec::new() };
    let mut all = BTreeMap::new();
    for figure in earlier.into_iter().chain(measured) {
        let key = key(&figure);
        let figure = match all.remove(&key) {
            Some(earlier) => with(earlier, figure),
            None => figure,
        };
        all.insert(key, figure);
    }
    let all: Vec<T> = all.into_values().collect();
    Ok(fs::write(path, serde_json::to_string_pretty(&all)?)?)
}

fn read<T: DeserializeOwned>(path: &Path) -> anyhow::Result<Vec<T>> {
    let text =
        fs::read_to_string(path).with_context(|| format!("{} was not measured yet", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is not understood", path.display()))
}

/// Has nearfs itself draw the rates of an upload and a download.
fn draw_course(plan: &TransferPlan, workspace: &Workspace, picture: &Path) -> anyhow::Result<()> {
    let ends = Ends { here: workspace.work().join("here"), export: workspace.export() };
    let amounts = if plan.is_quick { Amounts::QUICK } else { Amounts::FULL };
    ends.prepare(&amounts, &[Job::PutLarge, Job::GetLarge])?;
    let places = ends.clear(Job::PutLarge)?;
    let servers = Servers::start(&[Tool::Nearfs], &ends, workspace.work(), plan.placement, COURSE_RTT)?;
    let between = |job: Job| {
        let (here, there) = ends.paths(job, &places);
        (here.display().to_string(), format!("{}{}", servers.nearfs_address(), there.display()))
    };
    let log = |name| ends.here.join(name).display().to_string();
    let (up, down) = (log("upload.csv"), log("download.csv"));
    let (source, target) = between(Job::PutLarge);
    run(&["put", "--quiet", "--rate-log", &up, &source, &target])?;
    let drawn = ["--rate-log", &down, "--rate-plot", &picture.display().to_string(), "--rate-compare", &up];
    let get = ["get", "--quiet"].into_iter().chain(drawn);
    let (target, source) = between(Job::GetLarge);
    run(&get.chain([source.as_str(), &target]).collect::<Vec<_>>())
}

fn run(arguments: &[&str]) -> anyhow::Result<()> {
    let mut command = Placement::Unpinned.command(crate::bench::system::sibling("nearfs"));
    let status = command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status()?;
    ensure!(status.success(), "nearfs {} failed: {status}", arguments.join(" "));
    Ok(())
}

const BEGIN: &str = "# Evaluation

How fast `nearfs put` and `nearfs get` bring files, beside the programs that people use for it today. All figures and
pictures of this page are measured, drawn and written by one command:

    scripts/evaluate
";

const PLACES: &str = "Both
ends and the disk are that one machine, so that what is compared is the work that each program makes of a transfer. \"20 ms\"
means that a proxy between both ends delays everything by 10 ms each way, as the way to a server some thousand kilometres
off would; it limits nothing else. The ssh server has the defaults of OpenSSH.
";

const SIZES: &str = "## Rates over file sizes

One file, from the start of the command to its end: starting the program, connecting, the transfer, and for nearfs the
comparison of hashes and the sync to the disk.

![Rates over file sizes](evaluation/sizes.svg)

nearfs in MB/s (10^6 bytes a second):
";

const TOOLS: &str = "## Beside scp, sftp, rsync and lftp
";

const END: &str = "
![Times beside those of other programs](evaluation/transfers.svg)

scp and rsync have -r, sftp its put and get with -r, lftp mirror with eight connections for trees and pget with eight
pieces for a large file. All but nearfs go through the same ssh server and encrypt, which nearfs does not yet: on loopback
that is part of the difference for large files, and little of it for small ones or where the server is far away.

## The course of one transfer

What `--rate-log` and `--rate-plot` make of 1 GiB at a round trip of 20 ms: each point thin, the average over 60 points thick.

![Rates over time](evaluation/course.svg)

It was drawn by

    nearfs put --rate-log upload.csv large nearfs://server/arrived
    nearfs get --rate-log download.csv --rate-plot course.svg --rate-compare upload.csv nearfs://server/large arrived

## Where the time goes

- **A large file on loopback** is as fast as the disk lets it be: nearfs has begun to write while it receives, and waits for
  the rest before it gives the file its name. Where the disk is slower than the network it can take longer than a program
  that ends before anything is written; the line below the row then says what that is worth.
- **A large file far away** takes others as long as their windows say: a channel of OpenSSH has 2 MiB under way, which is
  100 MB/s at 20 ms whatever the network can do. nearfs has 24 MiB under way, on several connections.
- **Small files on loopback** cost scp and sftp several questions each, one after the other. nearfs and rsync do not wait for
  answers; what is left is making the files, which nearfs does on several threads, and syncs many of them together.
- **Small files far away** cost nearfs a round trip for each 512 of them, which is how much a session may have under way,
  and one for eight directories that are looked at or made at once. rsync says all it has to without waiting; scp, sftp and
  lftp wait for several answers a file.
- **A single small file** costs nearfs the start of a program and, far away, about seven round trips to get it and eleven to
  put it: a greeting, finding the place, telling others, the file, its name, and the server's count in the end. ssh takes
  longer for its greeting alone.

## How it is measured

The programs take turns, each repetition anew, so that a slow minute of the machine hits all of them. Before each run
what the last one brought is removed and the disk is left to become quiet; the source is in the page cache. Small files go
to a new directory in another part of the disk: where files were just deleted ext4 looks for a free inode for a long time,
whoever asks. What arrived is compared with what was sent. `scripts/bench --transfers` makes the tables alone,
`scripts/evaluate --only sizes` one part anew; `--help` of both tells the rest.
";

/// The page.
fn text(curves: &[Curve], stages: &[Stage]) -> String {
    let mut text = format!(
        "{BEGIN}\nThe figures of this page are from a machine with {}. {PLACES}\n{SIZES}\n{}\n{TOOLS}\n{}\n",
        Machine::here().in_words(),
        curve::table(curves, Tool::Nearfs),
        report::legend(stages),
    );
    for stage in stages {
        text.push_str(&format!("\n### {}\n\n{}", stage.title(), report::table(stage)));
    }
    text.push_str(END);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_measured_anew_replaces_what_it_was() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("figures.json");
        let key = |figure: &(u32, u32)| figure.0;
        let newer = |_, figure| figure;
        keep(&path, vec![(20, 1), (0, 1)], key, newer).unwrap();
        keep(&path, vec![(20, 2)], key, newer).unwrap();
        assert_eq!(read::<(u32, u32)>(&path).unwrap(), [(0, 1), (20, 2)]);
        assert!(read::<(u32, u32)>(&directory.path().join("none")).is_err());
    }
}
