//! Several devices below one export, folded into one space of node ids.

use std::collections::HashMap;
use std::os::fd::BorrowedFd;
use std::sync::OnceLock;

use nearfs_protocol::id::NodeId;
use parking_lot::RwLock;
use rustix::fs::IFlags;
use rustix::io::Errno;

/// Most devices below one export.
const DEVICES_MAX: usize = 4096;
/// Most nodes whose inode number leaves no room for a device beside it.
const ODD_NODES_MAX: usize = 1 << 20;

/// An id of a node that is not on the root's device: this byte, the device's slot (16 bits), the inode number
/// (40 bits: an xfs of 512 TB).
const TAG: u64 = 0xa7;
const TAG_SHIFT: u32 = 56;
const SLOT_SHIFT: u32 = 40;
/// The slot of ids that count up because the inode number does not fit.
const ODD_SLOT: u16 = u16::MAX;

/// `f_type` of the file systems whose change times tell any two changes apart, since [`FINE_TIMES_SINCE`]:
/// ext4, xfs, btrfs, tmpfs.
const FINE_TIMES: [u64; 4] = [0xef53, 0x5846_5342, 0x9123_683e, 0x0102_1994];
/// `f_type` of the file systems that compare names byte for byte, but in directories with [`CASEFOLD`]: ext4, xfs (unless
/// made with `version=ci`, which is deprecated and unknown here), btrfs, tmpfs, f2fs, overlayfs.
const EXACT_NAMES: [u64; 6] = [0xef53, 0x5846_5342, 0x9123_683e, 0x0102_1994, 0xf2f5_2010, 0x794c_7630];
/// `FS_CASEFOLD_FL` of `linux/fs.h`.
const CASEFOLD: IFlags = IFlags::from_bits_retain(0x4000_0000);
/// The first Linux whose file systems give a change that follows a look its own time stamp (multigrain timestamps).
const FINE_TIMES_SINCE: (u32, u32) = (6, 13);

/// Major and minor number, as statx(2) gives them.
pub(crate) type DeviceNumber = (u32, u32);

/// What is to be known of a device.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Device {
    /// Where its node ids lie; `None` for the root's device, whose inode numbers are the ids.
    slot: Option<u16>,
    /// Whether a change after a look always shows in the change time.
    pub(crate) fine_times: bool,
    /// Whether names are compared byte for byte, but in directories that say otherwise.
    exact_names: bool,
}

impl Device {
    fn of(fd: BorrowedFd<'_>, slot: Option<u16>) -> Result<Device, Errno> {
        let kind = rustix::fs::fstatfs(fd)?.f_type as u64;
        let fine_times = kernel_has_fine_times() && FINE_TIMES.contains(&kind);
        Ok(Device { slot, fine_times, exact_names: EXACT_NAMES.contains(&kind) })
    }

    /// Whether this directory, which is open for reading, compares names byte for byte for certain.
    pub(crate) fn has_exact_names(self, directory: BorrowedFd<'_>) -> bool {
        self.exact_names
            && match rustix::fs::ioctl_getflags(directory) {
                Ok(flags) => !flags.contains(CASEFOLD),
                Err(errno) => matches!(errno, Errno::NOTTY | Errno::OPNOTSUPP), // It has no such flags.
            }
    }
}

/// The devices met so far.
pub(crate) struct Devices {
    root: (DeviceNumber, Device),
    others: RwLock<HashMap<DeviceNumber, Device>>,
    odd: RwLock<HashMap<(DeviceNumber, u64), u64>>,
}

impl Devices {
    /// `root` is on the device whose inode numbers become node ids as they are.
    pub(crate) fn new(number: DeviceNumber, root: BorrowedFd<'_>) -> Result<Devices, Errno> {
        let device = Device::of(root, None)?;
        Ok(Devices { root: (number, device), others: RwLock::default(), odd: RwLock::default() })
    }

    /// A device that was met before.
    pub(crate) fn known(&self, number: DeviceNumber) -> Option<Device> {
        if number == self.root.0 {
            return Some(self.root.1);
        }
        self.others.read().get(&number).copied()
    }

    /// Takes up the device that `fd` is on.
    ///
    /// Errors: `EOVERFLOW` beyond [`DEVICES_MAX`].
    pub(crate) fn meet(&self, number: DeviceNumber, fd: BorrowedFd<'_>) -> Result<Device, Errno> {
        let device = Device::of(fd, None)?;
        let mut others = self.others.write();
        if let Some(known) = others.get(&number) {
            return Ok(*known);
        }
        if others.len() >= DEVICES_MAX {
            return Err(Errno::OVERFLOW);
        }
        let slot = free_slot(&others, first_slot(number, fd)?);
        let device = Device { slot: Some(slot), ..device };
        others.insert(number, device);
        Ok(device)
    }

    /// The id of a node: the same each time, and never that of another node.
    ///
    /// Errors: `EOVERFLOW` beyond [`ODD_NODES_MAX`] nodes with odd inode numbers.
    pub(crate) fn fold(&self, number: DeviceNumber, device: Device, ino: u64) -> Result<NodeId, Errno> {
        match device.slot {
            None if ino >> TAG_SHIFT != TAG => Ok(NodeId(ino)),
            Some(slot) if ino >> SLOT_SHIFT == 0 => Ok(tagged(slot, ino)),
            None | Some(_) => self.fold_odd(number, ino),
        }
    }

    fn fold_odd(&self, number: DeviceNumber, ino: u64) -> Result<NodeId, Errno> {
        if let Some(&count) = self.odd.read().get(&(number, ino)) {
            return Ok(tagged(ODD_SLOT, count));
        }
        let mut odd = self.odd.write();
        if odd.len() >= ODD_NODES_MAX {
            return Err(Errno::OVERFLOW);
        }
        let next = odd.len() as u64;
        Ok(tagged(ODD_SLOT, *odd.entry((number, ino)).or_insert(next)))
    }
}

fn tagged(slot: u16, low: u64) -> NodeId {
    NodeId(TAG << TAG_SHIFT | u64::from(slot) << SLOT_SHIFT | low)
}

/// Where a device's slot is looked for first: by the file system's own id where it has one, so that it is the same
/// after a restart of the server and of its machine.
fn first_slot(number: DeviceNumber, fd: BorrowedFd<'_>) -> Result<u16, Errno> {
    let figures = rustix::fs::fstatvfs(fd)?;
    let number = u64::from(number.0) << 32 | u64::from(number.1);
    let seed = if figures.f_fsid == 0 { number } else { figures.f_fsid };
    Ok((super::mix(seed) >> 48) as u16)
}

fn free_slot(others: &HashMap<DeviceNumber, Device>, first: u16) -> u16 {
    let taken = |slot: u16| slot == ODD_SLOT || others.values().any(|device| device.slot == Some(slot));
    let mut slot = first;
    while taken(slot) {
        slot = slot.wrapping_add(1);
    }
    slot
}

fn kernel_has_fine_times() -> bool {
    static SINCE: OnceLock<bool> = OnceLock::new();
    *SINCE.get_or_init(|| {
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        release_number(&release) >= Some(FINE_TIMES_SINCE)
    })
}

fn release_number(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::os::fd::AsFd;

    use super::*;

    fn devices() -> (Devices, std::fs::File) {
        let root = std::fs::File::open("/").unwrap();
        (Devices::new((8, 1), root.as_fd()).unwrap(), root)
    }

    #[test]
    fn the_roots_inode_numbers_are_the_ids() {
        let (devices, _root) = devices();
        let device = devices.known((8, 1)).unwrap();
        for ino in [2, 1 << 33, u64::MAX, 0x1234_5678_9abc_def0] {
            assert_eq!(devices.fold((8, 1), device, ino), Ok(NodeId(ino)));
        }
    }

    #[test]
    fn no_two_nodes_of_several_devices_share_an_id() {
        let (devices, root) = devices();
        let inos =
            [0, 1, 2, 1 << 39, 1 << 40, u64::MAX, 0xa7 << 56, 0xa700_0100_0000_0002, 0xa7ff_ff00_0000_0000];
        let mut seen = HashSet::new();
        for minor in 1..40 {
            let number = (8, minor);
            let device = devices.known(number).unwrap_or_else(|| devices.meet(number, root.as_fd()).unwrap());
            for ino in inos {
                let id = devices.fold(number, device, ino).unwrap();
                assert!(seen.insert(id), "{number:?} {ino:#x}");
                assert_eq!(devices.fold(number, devices.known(number).unwrap(), ino), Ok(id));
            }
        }
    }

    #[test]
    fn only_known_file_systems_compare_names_byte_for_byte() {
        let temporary = tempfile::tempdir().unwrap();
        for (path, exact) in [(temporary.path(), true), ("/proc".as_ref(), false)] {
            let directory = std::fs::File::open(path).unwrap();
            let device = Device::of(directory.as_fd(), None).unwrap();
            assert_eq!(device.has_exact_names(directory.as_fd()), exact, "{}", path.display());
        }
    }

    #[test]
    fn releases_are_compared_as_numbers() {
        assert_eq!(release_number("6.13.0-rc1\n"), Some((6, 13)));
        assert!(release_number("6.9.3-amd64") < Some(FINE_TIMES_SINCE));
        assert!(release_number("10.1") > Some(FINE_TIMES_SINCE));
        assert_eq!(release_number("unknown"), None);
    }
}
