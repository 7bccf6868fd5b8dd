//! FUSE over the directory without a network: the ceiling.

use std::path::Path;
use std::process::Command;

use super::{Role, Server, Site, System, not_built, sibling};

pub(super) struct Passthrough;

impl System for Passthrough {
    fn name(&self) -> &'static str {
        "passthrough"
    }

    fn role(&self) -> Role {
        Role::Ceiling
    }

    fn absent(&self) -> Option<String> {
        not_built("passthrough")
    }

    fn serve(&self, _site: &Site) -> anyhow::Result<Server> {
        Ok(Server::none())
    }

    fn mount(&self, _server: &Server, site: &Site, mountpoint: &Path) -> Option<Command> {
        let mut command = site.placement.command(sibling("passthrough"));
        command.arg(&site.export).arg(mountpoint);
        Some(command)
    }
}
