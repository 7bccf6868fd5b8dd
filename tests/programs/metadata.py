"""What is known about a file beside its bytes."""

import ctypes
import errno
import os
import socket
import stat
import threading
import time

from checks import check, fails, holds, same, shell

RENAME_NOREPLACE, RENAME_EXCHANGE = 1, 2
AT_FDCWD = -100
libc = ctypes.CDLL(None, use_errno=True)


def rename_with(flags, source, target):
    """os.rename has no flags."""
    if libc.renameat2(AT_FDCWD, os.fsencode(source), AT_FDCWD, os.fsencode(target), flags) != 0:
        raise OSError(ctypes.get_errno(), "renameat2")


@check()
def times_to_the_nanosecond(there, here):
    path = there / "file"
    path.touch()
    wanted = (1_234_567_890_123_456_789, 1_334_567_890_987_654_321)
    os.utime(path, ns=wanted)
    same((path.stat().st_atime_ns, path.stat().st_mtime_ns), wanted, "times")
    os.symlink("file", there / "link")
    os.utime(there / "link", ns=(5, 6), follow_symlinks=False)
    same((there / "link").lstat().st_mtime_ns, 6, "time of a link")
    same(path.stat().st_mtime_ns, wanted[1], "time behind the link")
    for change in (lambda: path.write_text("x"), lambda: path.chmod(0o600), lambda: os.link(path, there / "second")):
        before = path.stat()
        time.sleep(0.02)
        change()
        holds(path.stat().st_ctime_ns > before.st_ctime_ns, "ctime moves on")
    before = there.stat().st_mtime_ns
    time.sleep(0.02)
    (there / "another").touch()
    holds(there.stat().st_mtime_ns > before, "mtime of the directory moves on")
    before = path.stat().st_mtime_ns
    time.sleep(0.02)
    os.utime(path)
    holds(abs(path.stat().st_mtime_ns - time.time_ns()) < 2_000_000_000, "touched now")


@check()
def hard_links(there, here):
    first, second = there / "first", there / "second"
    first.write_text("text")
    os.link(first, second)
    same(first.stat().st_ino, second.stat().st_ino, "inode number")
    same((first.stat().st_nlink, second.stat().st_nlink), (2, 2), "numbers of links")
    second.write_text("changed text")
    same(first.read_text(), "changed text", "content through the other name")
    same(first.stat().st_size, 12, "size through the other name")
    first.unlink()
    same(second.stat().st_nlink, 1, "number of links")
    fails(errno.EPERM, os.link, there, there / "directory")


@check()
def symbolic_links(there, here):
    os.symlink("target", there / "link")
    same(os.readlink(there / "link"), "target", "text of the link")
    same((there / "link").exists(), False, "dangling")
    (there / "target").write_text("x")
    same((there / "link").read_text(), "x", "content")
    os.symlink("loop", there / "loop")
    fails(errno.ELOOP, os.stat, there / "loop")
    long_text = "/".join(["x" * 250] * 16)
    os.symlink(long_text, there / "long")
    same(os.readlink(there / "long"), long_text, "long text")
    same((there / "long").lstat().st_size, len(long_text), "size of a link")
    shell("ln -sfn other link; [ $(readlink link) = other ]; rm link; [ -e target ]", cwd=there)


@check()
def renames(there, here):
    one, two = there / "one", there / "two"
    one.write_text("1")
    two.write_text("2")
    fails(errno.EEXIST, rename_with, RENAME_NOREPLACE, one, two)
    rename_with(RENAME_EXCHANGE, one, two)
    same((one.read_text(), two.read_text()), ("2", "1"), "contents exchanged")
    os.rename(one, two)
    same((os.listdir(there), two.read_text()), (["two"], "2"), "the replacing file")
    (there / "empty").mkdir()
    (there / "full" / "inner").mkdir(parents=True)
    fails(errno.ENOTEMPTY, os.rename, there / "empty", there / "full")
    fails(errno.EISDIR, os.rename, two, there / "full")
    fails(errno.ENOTDIR, os.rename, there / "full", two)
    fails(errno.EINVAL, os.rename, there / "full", there / "full" / "inner" / "deeper")
    os.rename(there / "full", there / "empty")
    same(sorted(os.listdir(there)), ["empty", "two"], "names")


@check()
def removals(there, here):
    (there / "full" / "inner").mkdir(parents=True)
    (there / "file").touch()
    fails(errno.ENOTEMPTY, os.rmdir, there / "full")
    fails(errno.ENOTDIR, os.rmdir, there / "file")
    fails(errno.EISDIR, os.unlink, there / "full")
    fails(errno.ENOENT, os.unlink, there / "absent")
    before = (there / "full").stat().st_nlink
    os.rmdir(there / "full" / "inner")
    same(before - (there / "full").stat().st_nlink, 1, "links lost with a sub-directory")


@check()
def modes_and_umask(there, here):
    os.umask(0o027)
    (there / "file").touch()
    (there / "directory").mkdir()
    same(oct((there / "file").stat().st_mode), oct(stat.S_IFREG | 0o640), "mode of a file")
    same(oct((there / "directory").stat().st_mode), oct(stat.S_IFDIR | 0o750), "mode of a directory")
    for mode in (0o000, 0o777, 0o1777, 0o2755, 0o4755):
        (there / "file").chmod(mode)
        same(oct((there / "file").stat().st_mode & 0o7777), oct(mode), "mode set")
    shell("install -d -m 2775 group; mkdir group/inner; touch group/file", cwd=there)
    same((there / "group" / "inner").stat().st_gid, (there / "group").stat().st_gid, "group inherited")


@check()
def extended_attributes(there, here):
    path = there / "file"
    path.touch()
    fails(errno.ENODATA, os.getxattr, path, "user.absent")
    os.setxattr(path, "user.one", b"first", os.XATTR_CREATE)
    fails(errno.EEXIST, os.setxattr, path, "user.one", b"again", os.XATTR_CREATE)
    fails(errno.ENODATA, os.setxattr, path, "user.two", b"absent", os.XATTR_REPLACE)
    os.setxattr(path, "user.one", b"second", os.XATTR_REPLACE)
    os.setxattr(path, "user.empty", b"")
    os.setxattr(path, "user.long", bytes(range(256)) * 8)
    same(sorted(os.listxattr(path)), ["user.empty", "user.long", "user.one"], "names of attributes")
    same(os.getxattr(path, "user.one"), b"second", "attribute")
    same(os.getxattr(path, "user.long"), bytes(range(256)) * 8, "long attribute")
    os.removexattr(path, "user.one")
    fails(errno.ENODATA, os.removexattr, path, "user.one")
    fails(errno.EOPNOTSUPP, os.setxattr, path, "nonsense.name", b"x")


@check()
def access_control_lists(there, here):
    shell("""
        touch file; mkdir directory
        setfacl -m u:1234:rwx,g:5678:r-x,m::rx file
        getfacl -cn file | grep -q 'user:1234:rwx.*#effective:r-x'
        [ "$(stat -c %a file)" = 654 ]
        chmod 600 file
        getfacl -cn file | grep -q 'mask::---'
        setfacl -d -m u:1234:rwx,g::r-x,o::--- directory
        umask 077
        touch directory/inner; mkdir directory/deeper
        getfacl -cn directory/inner | grep -q 'user:1234:rwx'
        [ "$(stat -c %a directory/inner)" = 660 ]
        getfacl -cn directory/deeper | grep -q 'default:user:1234:rwx'
        setfacl -b file
        [ "$(getfacl -cn file | grep -c .)" = 3 ]
    """, cwd=there)


@check()
def fifos_and_sockets(there, here):
    os.mkfifo(there / "fifo", 0o600)
    holds(stat.S_ISFIFO((there / "fifo").stat().st_mode), "is a fifo")
    writer = threading.Thread(target=lambda: (there / "fifo").write_text("through the pipe"))
    writer.start()
    same((there / "fifo").read_text(), "through the pipe", "text")
    writer.join()
    os.chdir(there)
    server, client = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
    server.bind("socket")
    server.listen()
    holds(stat.S_ISSOCK(os.stat("socket").st_mode), "is a socket")
    client.connect("socket")
    client.sendall(b"hello")
    same(server.accept()[0].recv(5), b"hello", "text")


@check()
def space_and_limits(there, here):
    space = os.statvfs(there)
    holds(space.f_blocks >= space.f_bfree >= space.f_bavail > 0, "blocks")
    same(space.f_namemax, 255, "longest name")
    shell("df . > /dev/null; df -i . > /dev/null; stat -f . > /dev/null", cwd=there)
    fails(errno.EFBIG, os.truncate, make_file(there), (1 << 63) - 1)
    fails(errno.EINVAL, os.truncate, there / "file", -1)


def make_file(there):
    (there / "file").touch()
    return there / "file"


@check()
def inode_numbers_are_stable(there, here):
    paths = [there / f"file{number}" for number in range(200)]
    for path in paths:
        path.touch()
    before = [path.stat().st_ino for path in paths]
    same(len(set(before)), 200, "different numbers")
    listed = {entry.name: entry.inode() for entry in os.scandir(there)}
    same([listed[path.name] for path in paths], before, "numbers in the listing")
    os.rename(paths[0], there / "renamed")
    same((there / "renamed").stat().st_ino, before[0], "number after a rename")
    same([path.stat().st_ino for path in paths[1:]], before[1:], "numbers seen again")
