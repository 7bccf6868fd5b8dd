//! The language of `-o`: options as sshfs, NFS and FUSE have them, and what mount(8) adds.

use std::time::Duration;

use nearfs_client::config::{LocalLock, TRUST_MAX, VfsConfig};
use nearfs_protocol::limits::CONNECTIONS_MAX;
use rustix::mount::MountFlags;

/// Shortest and longest `timeout=`.
const TIMEOUT_RANGE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(24 * 60 * 60));
/// Smallest `max_read=` that the kernel takes seriously: a page.
const MAX_READ_MIN: u64 = 4096;

/// What the options of a mount come to.
#[derive(Clone, Debug)]
pub struct MountSettings {
    /// How the client behaves. The identity's own ids and the client's name are still open.
    pub vfs: VfsConfig,
    /// Flags of mount(2) that were asked to be on.
    pub set: MountFlags,
    /// Flags that were asked to be off.
    pub cleared: MountFlags,
    /// Who may use the mount.
    pub access: Access,
    /// Whether the kernel checks permissions; `None` leaves it to the kind of server.
    pub default_permissions: Option<bool>,
    /// Most bytes of one read request; `None` leaves it to the kernel.
    pub max_read_bytes: Option<u32>,
    /// Bytes of a file that may be on their way while its program goes on; `None` leaves it to the distance of the server.
    pub write_behind_bytes: Option<u64>,
    /// The source to show instead of the real one.
    pub fsname: Option<String>,
    /// Mount over a directory that has something in it.
    pub nonempty: bool,
    /// Use plain connections to other machines as well.
    pub insecure: bool,
    /// Change an existing mount instead of making one.
    pub remount: bool,
    /// What was adjusted, one sentence each.
    pub warnings: Vec<String>,
}

/// Who may use a mount, beside whoever made it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// Nobody, root included.
    #[default]
    Owner,
    /// Root.
    Root,
    /// Everybody.
    Other,
}

/// An option that cannot be obeyed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionError {
    /// Nobody knows it.
    #[error("unknown mount option {0:?}; `nearfs mount --help` lists them")]
    Unknown(String),
    /// It belongs to another file system.
    #[error("mount option {option:?} does not exist here: {instead}")]
    Elsewhere {
        /// The option as written.
        option: String,
        /// What to do instead.
        instead: &'static str,
    },
    /// Its value makes no sense.
    #[error("mount option {option:?} wants {wants}")]
    Value {
        /// The option as written.
        option: String,
        /// What would do.
        wants: &'static str,
    },
}

/// Options that are flags of mount(2): name, flag, whether the name sets or clears it.
const FLAGS: &[(&str, MountFlags, bool)] = &[
    ("ro", MountFlags::RDONLY, true),
    ("rw", MountFlags::RDONLY, false),
    ("nosuid", MountFlags::NOSUID, true),
    ("suid", MountFlags::NOSUID, false),
    ("nodev", MountFlags::NODEV, true),
    ("dev", MountFlags::NODEV, false),
    ("noexec", MountFlags::NOEXEC, true),
    ("exec", MountFlags::NOEXEC, false),
    ("sync", MountFlags::SYNCHRONOUS, true),
    ("async", MountFlags::SYNCHRONOUS, false),
    ("dirsync", MountFlags::DIRSYNC, true),
    ("noatime", MountFlags::NOATIME, true),
    ("atime", MountFlags::NOATIME, false),
    ("nodiratime", MountFlags::NODIRATIME, true),
    ("diratime", MountFlags::NODIRATIME, false),
    ("relatime", MountFlags::RELATIME, true),
    ("norelatime", MountFlags::RELATIME, false),
    ("strictatime", MountFlags::STRICTATIME, true),
    ("nostrictatime", MountFlags::STRICTATIME, false),
];

/// Options without an effect here: words of mount(8), fstab(5) and systemd.mount(5), and what other file
/// systems have to be asked for and this one always does.
const HARMLESS: &[&str] = &[
    "defaults",
    "auto",
    "noauto",
    "user",
    "users",
    "nouser",
    "owner",
    "group",
    "nofail",
    "_netdev",
    "_rnetdev",
    "silent",
    "loud",
    "lazytime",
    "nolazytime",
    "iversion",
    "noiversion",
    "nomand",
    "auto_unmount",
    "big_writes",
    "large_read",
    "intr",
    "nointr",
    "fg",
    "lock",
    "reconnect",
    "auto_cache",
    "idmap=user",
    "subtype=nearfs",
    "ServerAliveInterval",
    "ServerAliveCountMax",
    "TCPKeepAlive",
    "user_id",
    "group_id",
    "rootmode",
    "blksize",
    "helper",
];

/// Options of other file systems that people will try, and what to do instead.
const ELSEWHERE: &[(&str, &str)] = &[
    ("idmap", "the server maps users, see `nearfs serve --identity`"),
    ("uidfile", "the server maps users, see `nearfs serve --identity`"),
    ("gidfile", "the server maps users, see `nearfs serve --identity`"),
    ("port", "write the port into the source, as in nearfs://host:port/"),
    ("Port", "write the port into the source, or into ~/.ssh/config for ssh"),
    ("IdentityFile", "write it into ~/.ssh/config"),
    ("StrictHostKeyChecking", "write it into ~/.ssh/config"),
    ("UserKnownHostsFile", "write it into ~/.ssh/config"),
    ("ProxyJump", "write it into ~/.ssh/config"),
    ("Compression", "write it into ~/.ssh/config"),
    ("compression", "data travels as it is"),
    ("ssh_command", "write the command as the source, as in 'exec:ssh host nearfs serve --stdio DIR'"),
    ("directport", "start `nearfs serve` there and mount nearfs://host:port/"),
    ("max_conns", "use nconnect="),
    ("cache", "use cache_size=, where 0 is none"),
    ("cache_timeout", "use attr_timeout= and entry_timeout="),
    ("dcache_timeout", "use entry_timeout="),
    ("ac_attr_timeout", "use attr_timeout="),
    ("actimeo", "use attr_timeout= and entry_timeout="),
    ("noac", "use attr_timeout=0,entry_timeout=0,negative_timeout=0"),
    ("kernel_cache", "the kernel's cache is checked at each open"),
    ("direct_io", "use cache_size=0"),
    ("no_readahead", "use readahead=0"),
    ("sshfs_sync", "use sync"),
    ("follow_symlinks", "symlinks are followed on this machine, as everywhere"),
    ("transform_symlinks", "symlinks are shown as they are"),
    ("timeo", "use timeout=, in seconds"),
    ("retrans", "use timeout=, in seconds"),
    ("rsize", "use max_read="),
    ("wsize", "writes are as large as the kernel makes them"),
    ("nolock", "use local_lock=all"),
    ("vers", "there is one version of the protocol"),
    ("proto", "write the transport as the source: nearfs://host/, unix:/socket or exec:command"),
    ("bg", "use the mount options nofail and x-systemd.automount of fstab"),
];

impl Default for MountSettings {
    fn default() -> Self {
        MountSettings {
            vfs: VfsConfig::default(),
            set: MountFlags::empty(),
            cleared: MountFlags::empty(),
            access: Access::Owner,
            default_permissions: None,
            max_read_bytes: None,
            write_behind_bytes: None,
            fsname: None,
            nonempty: false,
            insecure: false,
            remount: false,
            warnings: Vec::new(),
        }
    }
}

impl MountSettings {
    /// Reads lists as `-o` takes them, in order: a later option wins over an earlier one.
    pub fn parse<S: AsRef<str>>(lists: &[S]) -> Result<MountSettings, OptionError> {
        MountSettings::parse_with(lists, Err)
    }

    /// The same, passing over options that do not exist here (`mount -s`).
    pub fn parse_known<S: AsRef<str>>(lists: &[S]) -> Result<MountSettings, OptionError> {
        MountSettings::parse_with(lists, |error| match error {
            OptionError::Unknown(_) | OptionError::Elsewhere { .. } => Ok(()),
            OptionError::Value { .. } => Err(error),
        })
    }

    /// The flags of a new mount: no setuid programs and no devices of the server unless asked for.
    pub fn flags(&self) -> MountFlags {
        (MountFlags::NOSUID | MountFlags::NODEV | self.set) - self.cleared
    }

    fn parse_with<S: AsRef<str>>(
        lists: &[S],
        refused: impl Fn(OptionError) -> Result<(), OptionError>,
    ) -> Result<MountSettings, OptionError> {
        let mut settings = MountSettings::default();
        let options = lists.iter().flat_map(|list| list.as_ref().split(','));
        for option in options.map(str::trim).filter(|option| !option.is_empty()) {
            settings.apply(option).or_else(&refused)?;
        }
        settings.vfs.sync = settings.set.contains(MountFlags::SYNCHRONOUS);
        settings.vfs.dirsync = settings.set.intersects(MountFlags::DIRSYNC | MountFlags::SYNCHRONOUS);
        Ok(settings)
    }

    fn apply(&mut self, option: &str) -> Result<(), OptionError> {
        let name = option.split_once('=').map_or(option, |(name, _)| name);
        if let Some(&(_, flag, on)) = FLAGS.iter().find(|(flag_name, ..)| *flag_name == option) {
            self.set.set(flag, on);
            self.cleared.set(flag, !on);
            return Ok(());
        }
        if self.apply_word(option) || self.apply_value(option)? {
            return Ok(());
        }
        let for_others = name.starts_with("x-") || name.starts_with("X-") || option.starts_with("comment=");
        if for_others || HARMLESS.contains(&option) || HARMLESS.contains(&name) {
            return Ok(());
        }
        match ELSEWHERE.iter().find(|(other, _)| *other == name) {
            Some((_, instead)) => Err(OptionError::Elsewhere { option: option.into(), instead }),
            None => Err(OptionError::Unknown(option.into())),
        }
    }

    /// Options without a value. False if it is none of them.
    fn apply_word(&mut self, option: &str) -> bool {
        match option {
            "allow_other" => self.access = Access::Other,
            "allow_root" => self.access = Access::Root,
            "default_permissions" => self.default_permissions = Some(true),
            "no_default_permissions" => self.default_permissions = Some(false),
            "hard" => self.vfs.hard = true,
            "soft" => self.vfs.hard = false,
            "nonempty" => self.nonempty = true,
            "insecure" => self.insecure = true,
            "remount" => self.remount = true,
            _ => return false,
        }
        true
    }

    /// Options with a value. False if it is none of them.
    fn apply_value(&mut self, option: &str) -> Result<bool, OptionError> {
        let Some((name, value)) = option.split_once('=') else { return Ok(false) };
        let wants = |wants| OptionError::Value { option: option.into(), wants };
        match name {
            "uid" => self.vfs.identity.uid = Some(value.parse().map_err(|_| wants("a user id"))?),
            "gid" => self.vfs.identity.gid = Some(value.parse().map_err(|_| wants("a group id"))?),
            "umask" => {
                let bits = u32::from_str_radix(value, 8).ok().filter(|bits| *bits <= 0o777);
                self.vfs.identity.umask = Some(bits.ok_or_else(|| wants("octal permission bits"))?);
            }
            "timeout" => {
                let time = seconds(value).filter(|t| (TIMEOUT_RANGE.0..=TIMEOUT_RANGE.1).contains(t));
                self.vfs.timeout = time.ok_or_else(|| wants("seconds, from 0.1 to 86400"))?;
            }
            "attr_timeout" => self.vfs.attr_timeout = self.trust(option, value)?,
            "entry_timeout" => self.vfs.entry_timeout = self.trust(option, value)?,
            "negative_timeout" => self.vfs.negative_timeout = self.trust(option, value)?,
            "cache_size" => {
                self.vfs.cache_bytes = bytes(value).ok_or_else(|| wants("bytes, as in 64M or 1G"))?;
            }
            "readahead" => {
                self.vfs.readahead_bytes = bytes(value).ok_or_else(|| wants("bytes, as in 16M"))?;
            }
            "write_behind" => {
                self.write_behind_bytes = Some(bytes(value).ok_or_else(|| wants("bytes, as in 16M"))?);
            }
            "max_read" => {
                let size = bytes(value).filter(|size| *size >= MAX_READ_MIN);
                let size = size.and_then(|size| u32::try_from(size).ok());
                self.max_read_bytes = Some(size.ok_or_else(|| wants("bytes, from 4096 on"))?);
            }
            "nconnect" => {
                let count = value.parse().ok().filter(|n| (1..=CONNECTIONS_MAX).contains(&usize::from(*n)));
                self.vfs.connections = count.ok_or_else(|| wants("a number from 1 to 16"))?;
            }
            "local_lock" => {
                self.vfs.local_lock = local_lock(value).ok_or_else(|| wants("none, flock, posix or all"))?;
            }
            "fsname" if value.is_empty() => return Err(wants("a name")),
            "fsname" => self.fsname = Some(value.into()),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// How long something is believed: what is longer than can be promised becomes what can.
    fn trust(&mut self, option: &str, value: &str) -> Result<Duration, OptionError> {
        let wants = OptionError::Value { option: option.into(), wants: "seconds, from 0 to 1" };
        let time = seconds(value).ok_or(wants)?;
        if time > TRUST_MAX {
            let max = TRUST_MAX.as_secs();
            self.warnings.push(format!("mount option {option:?} is taken as {max} s, the longest there is"));
        }
        Ok(time.min(TRUST_MAX))
    }
}

fn local_lock(value: &str) -> Option<LocalLock> {
    match value {
        "none" => Some(LocalLock::None),
        "flock" => Some(LocalLock::Flock),
        "posix" => Some(LocalLock::Posix),
        "all" => Some(LocalLock::All),
        _ => None,
    }
}

/// Seconds with an optional fraction.
fn seconds(value: &str) -> Option<Duration> {
    if !value.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return None;
    }
    Duration::try_from_secs_f64(value.parse().ok()?).ok()
}

/// Bytes, with K, M or G for powers of 1,024.
fn bytes(value: &str) -> Option<u64> {
    let (digits, unit) = match value.as_bytes().last()?.to_ascii_uppercase() {
        b'K' => (&value[..value.len() - 1], 1 << 10),
        b'M' => (&value[..value.len() - 1], 1 << 20),
        b'G' => (&value[..value.len() - 1], 1 << 30),
        _ => (value, 1),
    };
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

#[cfg(test)]
#[path = "mount_option_tests.rs"]
mod tests;
