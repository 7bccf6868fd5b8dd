"""Names are bytes; only / and NUL are not allowed in them."""

import errno
import os

from checks import check, fails, same, shell

NAMES = [
    "caf\u00e9".encode(), "cafe\u0301".encode(), b"\xff\xfe\x80", b"new\nline", b"-rf", b"x" * 255, b" ", b"a b ", b"*?[",
    b"\\", b"'\"", b"$HOME", b"...", b".hidden", b"\x01\x7f", b"\xe2\x82", b"CON", b"a:b", b"Case", b"case",
    "\u65e5\u672c\u8a9e".encode() * 28, b"\xf0\x9f\x90\xa7",
]


@check()
def any_bytes_are_names(there, here):
    top = os.fsencode(there)
    for name in NAMES:
        with open(os.path.join(top, name), "wb") as file:
            file.write(name)
    same(sorted(os.listdir(top)), sorted(NAMES), "names")
    for name in NAMES:
        with open(os.path.join(top, name), "rb") as file:
            same(file.read(), name, "content")
    for name in NAMES:
        os.rename(os.path.join(top, name), os.path.join(top, b"moving"))
        os.mkdir(os.path.join(top, name))
        os.symlink(name, os.path.join(top, name, name))
        same(os.readlink(os.path.join(top, name, name)), name, "link")
        os.unlink(os.path.join(top, b"moving"))
    same(sorted(os.listdir(top)), sorted(NAMES), "names of directories")


@check()
def tools_with_odd_names(there, here):
    shell(r"""
        touch -- -rf $'new\nline' $'\xff' 'a b' "quote'"
        [ "$(find . -type f -print0 | tr -dc '\0' | wc -c)" = 5 ]
        find . -type f -print0 | xargs -0 -n1 cp -t "$here" --
        [ "$(ls -A "$here" | wc -l)" = 6 ]
        rm -- *
    """, cwd=there, here=here)


@check()
def names_that_are_refused(there, here):
    fails(errno.ENAMETOOLONG, open, there / ("x" * 256), "w")
    fails(errno.ENAMETOOLONG, os.stat, there / ("x" * 256))
    fails(errno.ENAMETOOLONG, os.mkdir, there / ("x" * 256))
    fails(errno.ENAMETOOLONG, os.stat, str(there) + "/x" * 2100)
    fails(errno.ENOENT, open, there / "absent" / "file", "w")
    (there / "file").touch()
    fails(errno.ENOTDIR, open, there / "file" / "inner", "w")
    fails(errno.ENOTDIR, os.stat, str(there / "file") + "/")
    fails(errno.EISDIR, open, there, "w")
