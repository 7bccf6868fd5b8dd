//! A large file from end to end.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::time::Instant;

use anyhow::Context;

use super::Load;
use crate::bench::size::BLOCK_BYTES;

pub(super) fn write(file: &Path, bytes: u64) -> anyhow::Result<Load> {
    let block: Vec<u8> = (0..BLOCK_BYTES).map(|index| (index % 251) as u8).collect();
    let started = Instant::now();
    let mut target = File::create(file).with_context(|| format!("cannot create {}", file.display()))?;
    let mut left = bytes;
    while left > 0 {
        let count = left.min(BLOCK_BYTES as u64);
        target.write_all(&block[..count as usize])?;
        left -= count;
    }
    target.sync_all()?;
    drop(target);
    Ok(Load::since(started, bytes.div_ceil(BLOCK_BYTES as u64) as usize, bytes))
}

pub(super) fn read(file: &Path) -> anyhow::Result<Load> {
    let mut block = vec![0; BLOCK_BYTES];
    let started = Instant::now();
    let mut source = File::open(file).with_context(|| format!("cannot open {}", file.display()))?;
    let (mut reads, mut bytes) = (0, 0);
    loop {
        match source.read(&mut block)? {
            0 => break,
            count => bytes += count as u64,
        }
        reads += 1;
    }
    Ok(Load::since(started, reads, bytes))
}
