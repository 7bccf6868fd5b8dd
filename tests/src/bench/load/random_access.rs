//! Blocks of a file in random order.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread;
use std::time::Instant;

use anyhow::{Context, anyhow, ensure};

use super::Load;
use crate::bench::size::RANDOM_BYTES;
use crate::random::Random;

/// Reads `count` different blocks with `threads` reads in flight.
pub(super) fn read(file: &Path, count: usize, threads: usize) -> anyhow::Result<Load> {
    let source = File::open(file).with_context(|| format!("cannot open {}", file.display()))?;
    let offsets = shuffled_offsets(source.metadata()?.len(), count)?;
    let part_count = count.div_ceil(threads.max(1));
    let started = Instant::now();
    thread::scope(|scope| {
        let readers: Vec<_> =
            offsets.chunks(part_count).map(|part| scope.spawn(|| read_all(&source, part))).collect();
        readers.into_iter().try_for_each(|reader| reader.join().map_err(|_| anyhow!("a reader panicked"))?)
    })?;
    Ok(Load::since(started, count, (count * RANDOM_BYTES) as u64))
}

/// Writes `count` different blocks of an existing file, then waits for the disk.
pub(super) fn write(file: &Path, count: usize) -> anyhow::Result<Load> {
    let target =
        File::options().write(true).open(file).with_context(|| format!("cannot open {}", file.display()))?;
    let offsets = shuffled_offsets(target.metadata()?.len(), count)?;
    let block = [b'y'; RANDOM_BYTES];
    let started = Instant::now();
    for offset in offsets {
        target.write_all_at(&block, offset)?;
    }
    target.sync_all()?;
    Ok(Load::since(started, count, (count * RANDOM_BYTES) as u64))
}

fn read_all(source: &File, offsets: &[u64]) -> anyhow::Result<()> {
    let mut block = [0; RANDOM_BYTES];
    offsets.iter().try_for_each(|offset| Ok(source.read_exact_at(&mut block, *offset)?))
}

/// The first `count` offsets of a shuffled deck (Fisher and Yates), the same in every run.
fn shuffled_offsets(file_bytes: u64, count: usize) -> anyhow::Result<Vec<u64>> {
    let mut offsets: Vec<u64> =
        (0..file_bytes / RANDOM_BYTES as u64).map(|block| block * RANDOM_BYTES as u64).collect();
    ensure!(offsets.len() >= count, "the file has only {} blocks", offsets.len());
    let mut random = Random::new(file_bytes);
    for index in 0..count {
        let other = index + random.below((offsets.len() - index) as u64) as usize;
        offsets.swap(index, other);
    }
    offsets.truncate(count);
    Ok(offsets)
}
