//! The directory itself.

use std::path::Path;
use std::process::Command;

use super::{Role, Server, Site, System};

pub(super) struct Local;

impl System for Local {
    fn name(&self) -> &'static str {
        "local"
    }

    fn role(&self) -> Role {
        Role::Local
    }

    fn absent(&self) -> Option<String> {
        None
    }

    fn serve(&self, _site: &Site) -> anyhow::Result<Server> {
        Ok(Server::none())
    }

    fn mount(&self, _server: &Server, _site: &Site, _mountpoint: &Path) -> Option<Command> {
        None
    }
}
