//! Mounts a nearfs export through FUSE.
//!
//! Thin: `filesystem` unpacks the kernel's requests, calls the client library's
//! [`Vfs`](nearfs_client::vfs::Vfs) and sends its answers back; `notify` tells the kernel what to forget.
//! The rest is the life of a mount: `mount` is the story from the command line to the end, `attach` knows
//! mount(2) and fusermount3, `control` is the socket by which `status` and `umount` talk to a running mount.

mod answer;
mod attach;
mod background;
mod bounded;
mod capabilities;
mod control;
mod convert;
pub mod doctor;
mod filesystem;
mod holders;
mod live_mount;
mod logging;
pub mod mount;
pub mod mount_option;
mod mount_point;
mod mountinfo;
mod notify;
pub mod options;
pub mod roster;
pub mod secrecy;
mod signals;
mod status;
pub mod status_command;
pub mod umount;
pub mod usage;
