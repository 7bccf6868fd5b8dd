//! The workloads, in groups that share a mount: what is done, in which order, and what figure comes of it.

use std::thread;
use std::time::Duration;

use super::bed::Bed;
use super::fixture::{NEEDLE, listed_lines, needle_count};
use super::load::Load;
use crate::random::write_noise;

/// Longer than the second in which git cannot tell whether a file changed after its index.
const GIT_RACE: Duration = Duration::from_millis(1_100);

/// Figures by the name of their metric.
pub(super) type Figures = Vec<(&'static str, f64)>;

/// Workloads that run one after the other.
pub(super) struct Group {
    /// The metrics it yields.
    pub(super) metrics: &'static [&'static str],
    /// Whether it also runs with a delay.
    pub(super) delayed: bool,
    /// Whether the export is on tmpfs instead of the disk.
    pub(super) tmpfs: bool,
    pub(super) run: fn(Bed<'_, '_>) -> anyhow::Result<Figures>,
}

/// All groups, in the order in which they run.
pub(super) const GROUPS: &[Group] = &[
    Group { metrics: &["seq-write"], delayed: true, tmpfs: false, run: sequential_write },
    Group { metrics: &["seq-write-tmpfs"], delayed: false, tmpfs: true, run: sequential_write_tmpfs },
    Group {
        metrics: &["seq-read-fresh", "seq-read-again"],
        delayed: true,
        tmpfs: false,
        run: sequential_read,
    },
    Group { metrics: &["create", "rename", "unlink"], delayed: true, tmpfs: false, run: names },
    Group { metrics: &["stat-fresh"], delayed: true, tmpfs: false, run: stat },
    Group { metrics: &["open-read-fresh", "open-read-again"], delayed: true, tmpfs: false, run: open_read },
    Group { metrics: &["find-fresh", "find-again"], delayed: true, tmpfs: false, run: find },
    Group { metrics: &["tar-x", "rm-rf"], delayed: true, tmpfs: false, run: tar },
    Group {
        metrics: &["git-clone", "git-status-fresh", "git-status-again"],
        delayed: true,
        tmpfs: false,
        run: git,
    },
    Group { metrics: &["grep-fresh", "grep-again"], delayed: true, tmpfs: false, run: grep },
    Group { metrics: &["sqlite"], delayed: true, tmpfs: false, run: sqlite },
    Group { metrics: &["random-read-1", "random-read-4"], delayed: true, tmpfs: false, run: random_read },
    Group { metrics: &["random-write"], delayed: true, tmpfs: false, run: random_write },
    Group { metrics: &["parallel-fresh", "parallel-again"], delayed: false, tmpfs: false, run: parallel },
];

fn sequential_write(bed: Bed) -> anyhow::Result<Figures> {
    let load = bed.load("write", &bed.scratch().join("large"), &[bed.sizes.large_bytes])?;
    bed.finish()?;
    Ok(vec![("seq-write", megabytes_per_second(load))])
}

fn sequential_write_tmpfs(bed: Bed) -> anyhow::Result<Figures> {
    let load = bed.load("write", &bed.scratch().join("large"), &[bed.sizes.large_bytes])?;
    bed.finish()?;
    Ok(vec![("seq-write-tmpfs", megabytes_per_second(load))])
}

fn sequential_read(bed: Bed) -> anyhow::Result<Figures> {
    let large = bed.fixtures().large();
    let fresh = bed.load("read", &large, &[])?;
    let again = bed.load("read", &large, &[])?;
    for load in [fresh, again] {
        anyhow::ensure!(load.bytes == bed.sizes.large_bytes, "{} bytes were read", load.bytes);
    }
    bed.finish()?;
    Ok(vec![("seq-read-fresh", megabytes_per_second(fresh)), ("seq-read-again", megabytes_per_second(again))])
}

fn names(bed: Bed) -> anyhow::Result<Figures> {
    let (dir, count) = (bed.scratch().join("names"), [bed.sizes.created_count as u64]);
    let created = bed.load("create", &dir, &count)?;
    let renamed = bed.load("rename", &dir, &count)?;
    let unlinked = bed.load("unlink", &dir, &count)?;
    bed.finish()?;
    Ok(vec![
        ("create", per_second(created)),
        ("rename", per_second(renamed)),
        ("unlink", per_second(unlinked)),
    ])
}

fn stat(bed: Bed) -> anyhow::Result<Figures> {
    let load = bed.load("stat", &bed.fixtures().listed(), &[bed.sizes.stat_count as u64])?;
    bed.finish()?;
    Ok(vec![("stat-fresh", per_second(load))])
}

fn open_read(bed: Bed) -> anyhow::Result<Figures> {
    let (tree, count) = (bed.fixtures().small(), [bed.sizes.opened_count as u64]);
    let fresh = bed.load("open-read", &tree, &count)?;
    let again = bed.load("open-read", &tree, &count)?;
    bed.finish()?;
    Ok(vec![("open-read-fresh", per_second(fresh)), ("open-read-again", per_second(again))])
}

fn find(bed: Bed) -> anyhow::Result<Figures> {
    let lines = listed_lines(bed.sizes.listed_count.max(bed.sizes.stat_count));
    let mut seconds = [0.0; 2];
    for took in &mut seconds {
        let mut command = bed.program("find");
        command.arg(bed.fixtures().listed()).arg("-ls");
        *took = bed.time_lines(command, lines)?;
    }
    bed.finish()?;
    let rate = |took: f64| lines as f64 / took;
    Ok(vec![("find-fresh", rate(seconds[0])), ("find-again", rate(seconds[1]))])
}

fn tar(bed: Bed) -> anyhow::Result<Figures> {
    let mut extract = bed.program("tar");
    extract.arg("-xf").arg(bed.local_fixtures().archive()).arg("-C").arg(bed.scratch());
    let extracted = bed.time_lines(extract, 0)?;
    let mut remove = bed.program("rm");
    remove.arg("-rf").arg(bed.scratch().join("source"));
    let removed = bed.time_lines(remove, 0)?;
    bed.finish()?;
    Ok(vec![("tar-x", extracted), ("rm-rf", removed)])
}

fn git(bed: Bed) -> anyhow::Result<Figures> {
    let mut clone = bed.program("git");
    // A clone over git's own protocol; a local path would be copied or linked instead.
    clone.args(["-c", "safe.directory=*", "clone", "-q", "--no-local"]);
    clone.arg(bed.local_fixtures().repository()).arg(bed.scratch().join("clone"));
    let cloned = bed.time_lines(clone, 0)?;
    // git reads again what changed in the second in which it wrote its index. A status after that second makes
    // the index current, so that what is measured does not depend on how long the clone took.
    thread::sleep(GIT_RACE);
    git_status(&bed)?;
    let bed = bed.remount()?;
    let (fresh, again) = (git_status(&bed)?, git_status(&bed)?);
    bed.finish()?;
    Ok(vec![("git-clone", cloned), ("git-status-fresh", fresh), ("git-status-again", again)])
}

fn git_status(bed: &Bed) -> anyhow::Result<f64> {
    let mut status = bed.program("git");
    status
        .args(["-c", "safe.directory=*", "-C"])
        .arg(bed.scratch().join("clone"))
        .args(["status", "--short"]);
    bed.time_lines(status, 0)
}

fn grep(bed: Bed) -> anyhow::Result<Figures> {
    let lines = needle_count(bed.sizes.source_count);
    let mut seconds = [0.0; 2];
    for took in &mut seconds {
        let mut command = bed.program("grep");
        command.args(["-r", NEEDLE]).arg(bed.fixtures().source());
        *took = bed.time_lines(command, lines)?;
    }
    bed.finish()?;
    Ok(vec![("grep-fresh", seconds[0]), ("grep-again", seconds[1])])
}

fn sqlite(bed: Bed) -> anyhow::Result<Figures> {
    let count = bed.sizes.transaction_count;
    let mut script = String::from("CREATE TABLE entry(id INTEGER PRIMARY KEY, value TEXT);\n");
    for index in 0..count {
        script.push_str(&format!("INSERT INTO entry(value) VALUES('value {index}');\n"));
    }
    script.push_str(&format!("SELECT 'row' FROM entry LIMIT {};\n", count + 1));
    let script = bed.write_local("transactions.sql", &script)?;
    let mut command = bed.program("sqlite3");
    command.arg("-bail").arg(bed.scratch().join("database")).arg(format!(".read {}", script.display()));
    let seconds = bed.time_lines(command, count)?;
    bed.finish()?;
    Ok(vec![("sqlite", count as f64 / seconds)])
}

fn random_read(bed: Bed) -> anyhow::Result<Figures> {
    let count = bed.sizes.random_read_count as u64;
    let one = bed.load("random-read", &bed.fixtures().random(), &[count, 1])?;
    let bed = bed.remount()?;
    let four = bed.load("random-read", &bed.fixtures().random(), &[count, 4])?;
    bed.finish()?;
    Ok(vec![("random-read-1", per_second(one)), ("random-read-4", per_second(four))])
}

fn random_write(bed: Bed) -> anyhow::Result<Figures> {
    write_noise(&bed.local_scratch().join("random"), bed.sizes.random_write_bytes, 0)?;
    let bed = bed.remount()?;
    let load =
        bed.load("random-write", &bed.scratch().join("random"), &[bed.sizes.random_write_count as u64])?;
    bed.finish()?;
    Ok(vec![("random-write", per_second(load))])
}

fn parallel(bed: Bed) -> anyhow::Result<Figures> {
    let (tree, count) = (bed.fixtures().small(), [bed.sizes.opened_count as u64]);
    let fresh = bed.load("parallel", &tree, &count)?;
    let again = bed.load("parallel", &tree, &count)?;
    bed.finish()?;
    Ok(vec![("parallel-fresh", per_second(fresh)), ("parallel-again", per_second(again))])
}

fn per_second(load: Load) -> f64 {
    load.operations as f64 / load.seconds
}

fn megabytes_per_second(load: Load) -> f64 {
    load.bytes as f64 / load.seconds / 1e6
}
