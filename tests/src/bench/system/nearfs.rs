//! nearfs, with the defaults that its users get.

use std::path::Path;
use std::process::Command;

use super::super::daemon::Daemon;
use super::{Role, Server, Site, System, not_built, sibling};

pub(in crate::bench) struct Nearfs;

impl System for Nearfs {
    fn name(&self) -> &'static str {
        "nearfs"
    }

    fn role(&self) -> Role {
        Role::Ours
    }

    fn absent(&self) -> Option<String> {
        not_built("nearfs")
    }

    fn serve(&self, site: &Site) -> anyhow::Result<Server> {
        let mut command = site.placement.command(sibling("nearfs"));
        command.args(["serve", "--listen", "127.0.0.1:0"]).arg(&site.export);
        Ok(Server::listening(Daemon::start_listening(command, &site.log("server"))?))
    }

    fn mount(&self, server: &Server, site: &Site, mountpoint: &Path) -> Option<Command> {
        let mut command = site.placement.command(sibling("nearfs"));
        command.args(["mount", "-f"]).arg(format!("nearfs://127.0.0.1:{}/", server.port)).arg(mountpoint);
        Some(command)
    }
}
