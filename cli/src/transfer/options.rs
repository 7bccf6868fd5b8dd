//! What can be chosen of any transfer.

use std::path::PathBuf;

use clap::Args;
use nearfs_client::transfer::Options;

use crate::shell::failure::Failure;

/// So few names are looked at one by one before a transfer begins.
pub(crate) const FEW: usize = 8;

/// How files are transferred
#[derive(Args, Debug, Clone)]
pub(crate) struct TransferOptions {
    /// Replace what has the target's name
    #[arg(short, long)]
    pub(crate) force: bool,
    /// Go on with large files that an earlier transfer left incomplete
    #[arg(short = 'c', long = "continue")]
    pub(crate) resume: bool,
    /// Keep modes, times and symbolic links
    #[arg(short, long)]
    pub(crate) archive: bool,
    /// Directories with all below them, which is so without it as well
    #[arg(short, long, hide = true)]
    recursive: bool,
    /// Refuse to make missing directories
    #[arg(long, conflicts_with = "parents")]
    pub(crate) no_parents: bool,
    /// Keep the whole path below the target: a/b/f goes to TARGET/a/b/f
    #[arg(long)]
    pub(crate) parents: bool,
    #[command(flatten)]
    pub(crate) pace: PaceOptions,
}

/// How fast it goes, and what is shown of it
#[derive(Args, Debug, Clone)]
pub(crate) struct PaceOptions {
    /// Bytes a second at most, with K, M or G for 1024 and its powers
    #[arg(long, value_name = "RATE", value_parser = bytes)]
    pub(crate) limit_rate: Option<u64>,
    /// Write down how fast it goes: time, bytes, rate, average over 60 points
    #[arg(long, value_name = "FILE.csv")]
    pub(crate) rate_log: Option<PathBuf>,
    /// Draw how fast it went: seconds against MiB a second
    #[arg(long, value_name = "FILE.svg")]
    pub(crate) rate_plot: Option<PathBuf>,
    /// Draw this earlier log into the same picture
    #[arg(long, value_name = "FILE.csv", requires = "rate_plot")]
    pub(crate) rate_compare: Option<PathBuf>,
    /// Show no progress
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

impl TransferOptions {
    pub(crate) fn options(&self, umask: u32, resume: bool) -> Options {
        Options {
            overwrite: self.force,
            resume: self.resume || resume,
            archive: self.archive,
            make_parents: !self.no_parents,
            rate_limit: self.pace.limit_rate,
            umask,
            ..Options::default()
        }
    }
}

/// A number of bytes as people write it.
pub(crate) fn bytes(text: &str) -> Result<u64, String> {
    text.parse::<bytesize::ByteSize>()
        .ok()
        .map(|size| if ends_binary(text) { size.as_u64() } else { binary(text, size.as_u64()) })
        .filter(|bytes| *bytes > 0)
        .ok_or_else(|| format!("{text:?} is no number of bytes"))
}

fn ends_binary(text: &str) -> bool {
    text.to_ascii_lowercase().contains('i')
}

/// K, M and G are powers of 1024 here, as scp, rsync and lftp have them.
fn binary(text: &str, decimal: u64) -> u64 {
    let digits: String = text.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
    let power = match text[digits.len()..].trim().to_ascii_lowercase().chars().next() {
        Some('k') => 1,
        Some('m') => 2,
        Some('g') => 3,
        Some('t') => 4,
        Some(_) | None => return decimal,
    };
    let number: f64 = digits.parse().unwrap_or(0.0);
    (number * 1024_f64.powi(power)) as u64
}

/// Where several things go is a directory.
pub(crate) fn only_into_directory(target: &str, count: usize, is_other: bool) -> Result<(), Failure> {
    if count > 1 && is_other {
        return Err(Failure::Refused(format!(
            "several things go only into a directory, and {target} is a file"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_as_people_write_them() {
        for (text, expected) in [
            ("1000", 1000),
            ("1K", 1024),
            ("2M", 2 << 20),
            ("1.5M", 3 << 19),
            ("1MiB", 1 << 20),
            ("3g", 3 << 30),
        ] {
            assert_eq!(bytes(text), Ok(expected), "{text}");
        }
        assert!(bytes("fast").is_err() && bytes("0").is_err() && bytes("-1").is_err());
    }
}
