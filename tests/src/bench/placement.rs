//! Where processes run: wherever the kernel likes, or all on one core.

use std::ffi::OsStr;
use std::process::Command;

use serde::{Deserialize, Serialize};

/// Whether servers, clients and workload share one core.
///
/// Waking a thread on another core can cost ten times the work of a small request, and whether that happens
/// is luck; on one core the figures hold still and tell the work each operation costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Placement {
    /// Everything on core 0.
    Pinned,
    /// As the kernel schedules.
    Unpinned,
}

impl Placement {
    /// As tables name it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Pinned => "pinned",
            Self::Unpinned => "unpinned",
        }
    }

    /// A command that runs `program`, and all it starts, in this placement.
    pub(super) fn command(self, program: impl AsRef<OsStr>) -> Command {
        match self {
            Self::Unpinned => Command::new(program),
            Self::Pinned => {
                let mut command = Command::new("taskset");
                command.args(["-c", "0"]).arg(program);
                command
            }
        }
    }
}
