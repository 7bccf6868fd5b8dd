//! GlusterFS with one brick and its native client, from volume files of our own, so that no cluster daemon has
//! to be configured. The client's layers are those that a volume made by its own tools has.

use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::Command;

use super::super::daemon::Daemon;
use super::{Role, Server, Site, System, free_port, missing};

pub(super) struct Gluster;

impl System for Gluster {
    fn name(&self) -> &'static str {
        "gluster"
    }

    fn role(&self) -> Role {
        Role::Rival
    }

    fn absent(&self) -> Option<String> {
        missing(&["glusterfs", "glusterfsd"])
    }

    fn serve(&self, site: &Site) -> anyhow::Result<Server> {
        let port = free_port()?;
        fs::create_dir_all(&site.state)?;
        let volume = site.state.join("brick.vol");
        fs::write(&volume, brick_volume(&site.export, port))?;
        let mut command = site.placement.command("glusterfsd");
        command.arg("-N").arg("-f").arg(&volume).arg("-l").arg(site.log("brick"));
        let mut daemon = Daemon::start(command, &site.log("server"))?;
        daemon.wait_until(|| TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok())?;
        Ok(Server::listening((daemon, port)))
    }

    fn mount(&self, server: &Server, site: &Site, mountpoint: &Path) -> Option<Command> {
        let volume = site.state.join("client.vol");
        if let Err(error) = fs::write(&volume, client_volume(server.port)) {
            log::warn!("cannot write {}: {error}", volume.display());
        }
        let mut command = site.placement.command("glusterfs");
        command.arg("-N").arg("-f").arg(&volume).arg("-l").arg(site.log("mount")).arg(mountpoint);
        Some(command)
    }

    /// A brick keeps an identity for each file beside it, which files put there behind its back lack.
    fn serves_files_as_they_are(&self) -> bool {
        false
    }
}

fn brick_volume(export: &Path, port: u16) -> String {
    let export = export.display();
    let server = format!(
        "option transport-type tcp\noption transport.socket.listen-port {port}\n\
         option transport.socket.bind-address 127.0.0.1\noption auth.addr.threads.allow 127.0.0.1\n"
    );
    [
        layer("posix", "storage/posix", &format!("option directory {export}\n"), ""),
        layer("locks", "features/locks", "", "posix"),
        layer("threads", "performance/io-threads", "", "locks"),
        layer("server", "protocol/server", &server, "threads"),
    ]
    .concat()
}

fn client_volume(port: u16) -> String {
    let remote = format!(
        "option transport-type tcp\noption remote-host 127.0.0.1\noption remote-port {port}\n\
         option remote-subvolume threads\n"
    );
    [
        layer("client", "protocol/client", &remote, ""),
        layer("write-behind", "performance/write-behind", "", "client"),
        layer("open-behind", "performance/open-behind", "", "write-behind"),
        layer("quick-read", "performance/quick-read", "", "open-behind"),
        layer("md-cache", "performance/md-cache", "", "quick-read"),
        layer("threads", "performance/io-threads", "", "md-cache"),
    ]
    .concat()
}

fn layer(name: &str, kind: &str, options: &str, beneath: &str) -> String {
    let subvolumes = if beneath.is_empty() { String::new() } else { format!("subvolumes {beneath}\n") };
    format!("volume {name}\ntype {kind}\n{options}{subvolumes}end-volume\n\n")
}
