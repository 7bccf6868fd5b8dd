"""What programs do with the bytes of a file."""

import ctypes
import errno
import fcntl
import mmap
import os

from checks import at_once, check, fails, holds, same, shell

GIB = 1 << 30
FALLOC_KEEP_SIZE, FALLOC_PUNCH_HOLE, FALLOC_COLLAPSE_RANGE, FALLOC_ZERO_RANGE = 1, 2, 8, 16
libc = ctypes.CDLL(None, use_errno=True)


def fallocate(descriptor, mode, offset, length):
    """os.posix_fallocate has no modes."""
    if libc.fallocate(descriptor, mode, ctypes.c_long(offset), ctypes.c_long(length)) != 0:
        raise OSError(ctypes.get_errno(), "fallocate")


def open_new(path, flags=0):
    return os.open(path, os.O_RDWR | os.O_CREAT | flags, 0o644)


@check()
def file_beyond_4_gib(there, here):
    file = open_new(there / "file")
    for offset in (0, 2 * GIB - 3, 4 * GIB - 3, 5 * GIB):
        os.pwrite(file, f"at {offset}".encode(), offset)
    os.fsync(file)
    for offset in (0, 2 * GIB - 3, 4 * GIB - 3, 5 * GIB):
        wanted = f"at {offset}".encode()
        same(os.pread(file, len(wanted), offset), wanted, f"bytes at {offset}")
    same(os.fstat(file).st_size, 5 * GIB + len(f"at {5 * GIB}"), "size")
    same(os.pread(file, 100, 3 * GIB), bytes(100), "bytes of a hole")
    os.ftruncate(file, 4 * GIB + 1)
    same(os.stat(there / "file").st_size, 4 * GIB + 1, "size after truncation")


@check()
def sparse_terabyte(there, here):
    path = there / "file"
    file = open_new(path)
    os.ftruncate(file, 1024 * GIB)
    os.pwrite(file, b"x" * 4096, 512 * GIB)
    os.pwrite(file, b"end", 1024 * GIB - 3)
    os.fsync(file)
    same(os.stat(path).st_size, 1024 * GIB, "size")
    holds(os.stat(path).st_blocks * 512 < GIB, "few blocks")
    same(os.lseek(file, 0, os.SEEK_DATA), 512 * GIB, "first data")
    same(os.lseek(file, 512 * GIB, os.SEEK_HOLE), 512 * GIB + 4096, "hole behind it")
    fails(errno.ENXIO, os.lseek, file, 1024 * GIB, os.SEEK_DATA)
    same(os.pread(file, 10, 1024 * GIB - 3), b"end", "last bytes")
    shell("cp --sparse=auto file copy; [ $(stat -c %s copy) = $(stat -c %s file) ]", cwd=there)
    holds(os.stat(there / "copy").st_blocks * 512 < GIB, "few blocks of the copy")


@check()
def deleted_but_open(there, here):
    path = there / "file"
    file = open_new(path)
    os.write(file, b"still here")
    path.unlink()
    same(os.listdir(there), [], "names")
    same(os.fstat(file).st_nlink, 0, "number of links")
    same(os.pread(file, 100, 0), b"still here", "content")
    os.pwrite(file, b"grown", 10)
    os.ftruncate(file, 12)
    os.fchmod(file, 0o600)
    os.utime(file, ns=(1, 2))
    same((os.fstat(file).st_size, os.fstat(file).st_mode & 0o777), (12, 0o600), "size and mode")
    same(os.pread(file, 100, 0), b"still heregr", "content after truncation")
    path.write_text("another")
    same(os.pread(file, 5, 0), b"still", "content beside a new file of that name")


@check()
def replaced_but_open(there, here):
    (there / "file").write_text("old")
    old = os.open(there / "file", os.O_RDONLY)
    (there / "draft").write_text("new text")
    os.rename(there / "draft", there / "file")
    same(os.pread(old, 100, 0), b"old", "content of the open file")
    same(os.fstat(old).st_nlink, 0, "number of links")
    same((there / "file").read_text(), "new text", "content of the name")


@check()
def removed_working_directory(there, here):
    (there / "gone").mkdir()
    os.chdir(there / "gone")
    os.rmdir(there / "gone")
    same(os.listdir("."), [], "names")
    fails(errno.ENOENT, open, "file", "w")
    fails(errno.ENOENT, os.getcwd)


@check()
def mapped_files(there, here):
    path = there / "file"
    path.write_bytes(bytes(1_000_000))
    file = os.open(path, os.O_RDWR)
    shared = mmap.mmap(file, 1_000_000)
    shared[500_000:500_005] = b"by me"
    same(os.pread(file, 5, 500_000), b"by me", "bytes read")
    os.pwrite(file, b"by it", 700_000)
    same(shared[700_000:700_005], b"by it", "bytes mapped")
    shared.flush()
    private = mmap.mmap(file, 1_000_000, flags=mmap.MAP_PRIVATE)
    private[0:4] = b"mine"
    same(path.read_bytes()[:4], bytes(4), "bytes behind a private mapping")

    def write(number):
        own = mmap.mmap(os.open(path, os.O_RDWR), 1_000_000)
        own[number * 100] = number + 1

    at_once(4, write)
    same([shared[number * 100] for number in range(4)], [1, 2, 3, 4], "bytes of four processes")
    shared.close()
    private.close()
    os.close(file)
    found = path.read_bytes()
    same((found[500_000:500_005], found[700_000:700_005]), (b"by me", b"by it"), "bytes kept")


@check()
def allocation_and_holes(there, here):
    file = open_new(there / "file")
    os.posix_fallocate(file, 0, 1_000_000)
    same(os.fstat(file).st_size, 1_000_000, "size allocated")
    os.pwrite(file, b"x" * 1_000_000, 0)
    fallocate(file, FALLOC_KEEP_SIZE, 1_000_000, 1_000_000)
    same(os.fstat(file).st_size, 1_000_000, "size kept")
    fallocate(file, FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE, 100_000, 300_000)
    fallocate(file, FALLOC_ZERO_RANGE, 600_000, 100_001)
    wanted = bytearray(b"x" * 1_000_000)
    wanted[100_000:400_000] = bytes(300_000)
    wanted[600_000:700_001] = bytes(100_001)
    holds(os.pread(file, 1_000_000, 0) == wanted, "holes are zero and the rest is kept")
    fallocate(file, FALLOC_ZERO_RANGE, 900_000, 200_000)
    same(os.fstat(file).st_size, 1_100_000, "size after zeroing beyond the end")
    try:
        fallocate(file, FALLOC_COLLAPSE_RANGE, 0, 4096)
        same(os.fstat(file).st_size, 1_100_000 - 4096, "size after a collapse")
    except OSError as error:
        same(error.errno, errno.EOPNOTSUPP, "refusal of a collapse")


@check()
def direct_reads_and_writes(there, here):
    file = open_new(there / "file", os.O_DIRECT)
    block = mmap.mmap(-1, 65536)
    block[:] = bytes(range(256)) * 256
    for position in (0, 131072, 65536):
        same(os.pwritev(file, [block], position), 65536, "bytes written")
    into = mmap.mmap(-1, 65536)
    same(os.preadv(file, [into], 65536), 65536, "bytes read")
    holds(into[:] == block[:], "bytes are equal")
    holds((there / "file").read_bytes() == block[:] * 3, "bytes are equal through the cache")
    (there / "file").write_bytes(b"y" * 65536)
    same(os.preadv(file, [into], 0), 65536, "bytes read again")
    holds(into[:] == b"y" * 65536, "a buffered write is seen directly")


@check()
def copies_inside_the_kernel(there, here):
    original = os.urandom(3_000_000)
    (there / "source").write_bytes(original)
    source = os.open(there / "source", os.O_RDONLY)
    ranged, sent = open_new(there / "ranged"), open_new(there / "sent")
    done = 0
    while done < len(original):
        done += os.copy_file_range(source, ranged, len(original) - done, done, done)
    holds((there / "ranged").read_bytes() == original, "copy_file_range")
    done = 0
    while done < len(original):
        done += os.sendfile(sent, source, done, len(original) - done)
    holds((there / "sent").read_bytes() == original, "sendfile")
    same(os.copy_file_range(ranged, ranged, 1000, 0, 2_999_500), 1000, "bytes copied within a file")
    same(os.pread(ranged, 2000, 2_999_500), original[:1000], "bytes behind the old end")


@check()
def ways_to_open(there, here):
    path = there / "file"
    fails(errno.ENOENT, os.open, path, os.O_RDONLY)
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    fails(errno.EEXIST, os.open, path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    path.write_text("0123456789")
    append = os.open(path, os.O_WRONLY | os.O_APPEND)
    os.write(append, b"a")
    os.ftruncate(append, 5)
    os.write(append, b"b")
    same(path.read_text(), "01234b", "content after appends")
    fails(errno.EBADF, os.read, append, 1)
    os.close(os.open(path, os.O_WRONLY | os.O_TRUNC))
    same(path.stat().st_size, 0, "size after O_TRUNC")
    os.symlink("file", there / "link")
    fails(errno.ELOOP, os.open, there / "link", os.O_RDONLY | os.O_NOFOLLOW)
    fails(errno.ENOTDIR, os.open, path, os.O_RDONLY | os.O_DIRECTORY)
    synced = os.open(path, os.O_WRONLY | os.O_SYNC)
    same(os.write(synced, b"synced"), 6, "bytes written")
    os.fdatasync(synced)
    directory = os.open(there, os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(directory)
    holds(os.open("file", os.O_RDONLY, dir_fd=directory) > 0, "open beneath a descriptor")


@check()
def write_seen_by_another_reader(there, here):
    path = there / "file"
    writer, reader = open_new(path), os.open(path, os.O_RDONLY)
    for turn in range(200):
        os.pwrite(writer, f"{turn:08}".encode(), turn * 8)
        same(os.pread(reader, 8, turn * 8), f"{turn:08}".encode(), "record")
        same(os.fstat(reader).st_size, (turn + 1) * 8, "size")
    os.ftruncate(writer, 3)
    same(os.pread(reader, 100, 0), b"000", "content after truncation")
    same(fcntl.fcntl(reader, fcntl.F_GETFL) & os.O_ACCMODE, os.O_RDONLY, "access mode")
