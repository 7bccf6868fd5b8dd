//! The reports: tables for people, figures for programs, a picture.

mod picture;
mod table;

use std::fs;
use std::path::Path;

use anyhow::Context;

use super::record::Record;

pub(super) use table::markdown;

/// Writes `bench.md`, `bench.json` and `bench.svg` into `out`.
pub(super) fn write(record: &Record, out: &Path) -> anyhow::Result<()> {
    fs::write(out.join("bench.md"), markdown(record)).context("cannot write bench.md")?;
    fs::write(out.join("bench.json"), serde_json::to_string_pretty(record)?)
        .context("cannot write bench.json")?;
    picture::draw(record, &out.join("bench.svg")).context("cannot draw bench.svg")
}
