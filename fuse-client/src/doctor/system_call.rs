//! System calls as `/proc/TID/syscall` tells of them, as far as they are about files.

/// A call that a thread is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SystemCall {
    number: i64,
    arguments: [u64; 6],
}

/// What in a call leads to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Argument {
    /// An open file.
    Descriptor(i32),
    /// A path in the caller's memory, counted from an open directory or from the current one.
    Path { directory: Option<i32>, address: u64 },
}

/// Where a call has its file: in these places, numbered from 0.
#[derive(Clone, Copy)]
enum Shape {
    Descriptor(usize),
    Path(usize),
    PathAt(usize),
    TwoPathsAt,
}

impl SystemCall {
    /// `None` for a thread that is not in a call (`running`, or -1 as the number).
    pub(super) fn parse(line: &str) -> Option<SystemCall> {
        let mut fields = line.split_whitespace();
        let number = fields.next()?.parse().ok().filter(|number| *number >= 0)?;
        let mut arguments = [0; 6];
        for argument in &mut arguments {
            *argument = u64::from_str_radix(fields.next()?.strip_prefix("0x")?, 16).ok()?;
        }
        Some(SystemCall { number, arguments })
    }

    /// The files that it is about; none if it is about none or is not known here.
    pub(super) fn arguments(&self) -> Vec<Argument> {
        let descriptor = |at: usize| self.arguments[at] as i32;
        let path_at = |at: usize| {
            let directory = descriptor(at);
            let directory = (directory != libc::AT_FDCWD).then_some(directory);
            Argument::Path { directory, address: self.arguments[at + 1] }
        };
        match self.shape() {
            None => Vec::new(),
            Some(Shape::Descriptor(at)) => vec![Argument::Descriptor(descriptor(at))],
            Some(Shape::Path(at)) => vec![Argument::Path { directory: None, address: self.arguments[at] }],
            // An empty path stands for the descriptor itself.
            Some(Shape::PathAt(at)) => vec![path_at(at), Argument::Descriptor(descriptor(at))],
            Some(Shape::TwoPathsAt) => vec![path_at(0), path_at(2)],
        }
    }

    fn shape(&self) -> Option<Shape> {
        let shape = match self.number {
            libc::SYS_openat
            | libc::SYS_openat2
            | libc::SYS_mkdirat
            | libc::SYS_mknodat
            | libc::SYS_unlinkat
            | libc::SYS_newfstatat
            | libc::SYS_statx
            | libc::SYS_readlinkat
            | libc::SYS_faccessat
            | libc::SYS_faccessat2
            | libc::SYS_fchmodat
            | libc::SYS_fchownat
            | libc::SYS_utimensat
            | libc::SYS_execveat => Shape::PathAt(0),
            libc::SYS_symlinkat => Shape::PathAt(1),
            libc::SYS_renameat | libc::SYS_renameat2 | libc::SYS_linkat => Shape::TwoPathsAt,
            libc::SYS_execve
            | libc::SYS_chdir
            | libc::SYS_truncate
            | libc::SYS_statfs
            | libc::SYS_getxattr
            | libc::SYS_lgetxattr
            | libc::SYS_setxattr
            | libc::SYS_lsetxattr
            | libc::SYS_listxattr
            | libc::SYS_llistxattr
            | libc::SYS_removexattr
            | libc::SYS_lremovexattr => Shape::Path(0),
            libc::SYS_read
            | libc::SYS_write
            | libc::SYS_readv
            | libc::SYS_writev
            | libc::SYS_pread64
            | libc::SYS_pwrite64
            | libc::SYS_preadv
            | libc::SYS_pwritev
            | libc::SYS_preadv2
            | libc::SYS_pwritev2
            | libc::SYS_lseek
            | libc::SYS_fsync
            | libc::SYS_fdatasync
            | libc::SYS_syncfs
            | libc::SYS_sync_file_range
            | libc::SYS_ftruncate
            | libc::SYS_fallocate
            | libc::SYS_fstat
            | libc::SYS_fstatfs
            | libc::SYS_fchmod
            | libc::SYS_fchown
            | libc::SYS_fchdir
            | libc::SYS_getdents64
            | libc::SYS_flock
            | libc::SYS_fcntl
            | libc::SYS_ioctl
            | libc::SYS_close
            | libc::SYS_fgetxattr
            | libc::SYS_fsetxattr
            | libc::SYS_copy_file_range => Shape::Descriptor(0),
            libc::SYS_sendfile => Shape::Descriptor(1),
            number => return of_old(number),
        };
        Some(shape)
    }
}

/// Calls that only older machines have.
#[cfg(target_arch = "x86_64")]
fn of_old(number: i64) -> Option<Shape> {
    match number {
        libc::SYS_open
        | libc::SYS_creat
        | libc::SYS_stat
        | libc::SYS_lstat
        | libc::SYS_access
        | libc::SYS_mkdir
        | libc::SYS_mknod
        | libc::SYS_rmdir
        | libc::SYS_unlink
        | libc::SYS_rename
        | libc::SYS_link
        | libc::SYS_readlink
        | libc::SYS_chmod
        | libc::SYS_chown
        | libc::SYS_lchown
        | libc::SYS_utime
        | libc::SYS_utimes => Some(Shape::Path(0)),
        libc::SYS_symlink => Some(Shape::Path(1)),
        libc::SYS_getdents => Some(Shape::Descriptor(0)),
        _ => None,
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn of_old(_number: i64) -> Option<Shape> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(number: i64, arguments: &str) -> Vec<Argument> {
        SystemCall::parse(&format!("{number} {arguments} 0x7ffe 0x7f")).unwrap().arguments()
    }

    #[test]
    fn files_are_found_in_calls() {
        let current = Argument::Path { directory: None, address: 0x7ff0 };
        assert_eq!(call(libc::SYS_openat, "0xffffff9c 0x7ff0 0x0 0x0 0x0 0x0")[0], current);
        assert_eq!(
            call(libc::SYS_unlinkat, "0x3 0x7ff0 0x0 0x0 0x0 0x0"),
            [Argument::Path { directory: Some(3), address: 0x7ff0 }, Argument::Descriptor(3)]
        );
        assert_eq!(call(libc::SYS_read, "0x4 0x1 0x2 0x0 0x0 0x0"), [Argument::Descriptor(4)]);
        assert_eq!(call(libc::SYS_getpid, "0x4 0x1 0x2 0x0 0x0 0x0"), []);
        assert_eq!(call(libc::SYS_renameat2, "0x5 0x10 0x6 0x20 0x0 0x0").len(), 2);
    }

    #[test]
    fn what_is_no_call_says_nothing() {
        for line in ["", "running", "-1 0x7ffe 0x7f", "0 0x1", "257 0xzz 0x0 0x0 0x0 0x0 0x0 0x0 0x0"] {
            assert_eq!(SystemCall::parse(line), None, "{line:?}");
        }
    }
}
