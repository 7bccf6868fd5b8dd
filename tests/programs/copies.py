"""rsync, tar, cp and mv keep everything there is to keep."""

import os

from checks import check, same, shell, tree_of


def make_tree(top):
    """A directory with everything a copy can lose."""
    top.mkdir()
    (top / "directory" / "nested").mkdir(parents=True)
    (top / "directory" / "plain").write_text("plain text\n" * 1000)
    (top / "directory" / "nested" / "binary").write_bytes(os.urandom(1_000_003))
    (top / "empty").touch()
    os.link(top / "directory" / "plain", top / "hard link")
    os.link(top / "directory" / "plain", top / "directory" / "nested" / "another")
    os.symlink("directory/plain", top / "symlink")
    os.symlink("/nowhere/at all", top / "dangling")
    os.mkfifo(top / "fifo")
    for mode in (0o400, 0o640, 0o755, 0o1777, 0o2755, 0o4755):
        path = top / f"mode {mode:o}"
        path.touch()
        if os.geteuid() == 0:
            os.chown(path, 1234, 5678)
        path.chmod(mode)
    (top / "dir 2770").mkdir()
    (top / "dir 2770").chmod(0o2770)
    with open(top / "sparse", "wb") as sparse:
        sparse.write(b"begin")
        sparse.truncate(50_000_000)
        sparse.seek(30_000_000)
        sparse.write(b"middle")
    for name in (b"caf\xc3\xa9", b"cafe\xcc\x81", b"\xff\xfe invalid", b"new\nline", b"-dash", b"x" * 255):
        with open(os.path.join(os.fsencode(top), name), "wb") as file:
            file.write(name)
    os.setxattr(top / "empty", "user.colour", b"blue")
    os.setxattr(top / "directory", "user.binary", bytes(range(256)))
    shell("setfacl -m u:1234:rw,g:5678:r empty; setfacl -d -m u:1234:rwx directory", cwd=top)
    os.utime(top / "directory" / "plain", ns=(1_000_000_000_123_456_789, 1_100_000_000_987_654_321))
    os.utime(top / "directory", ns=(0, 946_684_799_999_999_999))


def round_trip(there, here, copy):
    """Copies a tree there and back with a piece of bash that copies $from to $to."""
    source, middle, back = here / "source", there / "copy", here / "back"
    make_tree(source)
    wanted = tree_of(source)
    shell(copy, **{"from": source, "to": middle})
    same(difference(tree_of(middle), wanted), {}, "what differs on the way there")
    shell(copy, **{"from": middle, "to": back})
    same(difference(tree_of(back), wanted), {}, "what differs on the way back")
    used = os.stat(middle / "sparse").st_blocks * 512
    if used > 5_000_000:
        raise AssertionError(f"the sparse file takes {used} bytes")


def difference(found, wanted):
    paths = found.keys() | wanted.keys()
    return {path: (found.get(path), wanted.get(path)) for path in paths if found.get(path) != wanted.get(path)}


@check(seconds=120)
def rsync_round_trip(there, here):
    round_trip(there, here, 'rsync -aHAXS "$from/" "$to/"; [ -z "$(rsync -aHAXSnci "$from/" "$to/")" ]')


@check(seconds=120)
def tar_round_trip(there, here):
    tar = "tar --xattrs --xattrs-include='*' --acls --sparse --numeric-owner --format=pax"
    round_trip(there, here, f'mkdir "$to"; {tar} -C "$from" -c . | {tar} -C "$to" -xp')


@check(seconds=120)
def cp_round_trip(there, here):
    round_trip(there, here, 'cp -a --sparse=auto "$from" "$to"')


@check()
def rsync_updates_in_place(there, here):
    shell("""
        mkdir source; seq 100000 > source/file; rsync -a source/ "$there/copy/"
        echo more >> source/file; sed -i 's/^500$/five hundred/' source/file
        rsync -a --inplace --no-whole-file source/ "$there/copy/"
        cmp source/file "$there/copy/file"
        rm source/file; touch source/other
        rsync -a --delete source/ "$there/copy/"
        [ "$(ls "$there/copy")" = other ]
    """, cwd=here, there=there)


@check()
def move_between_file_systems(there, here):
    make_tree(here / "tree")
    wanted = tree_of(here / "tree")
    shell('mv tree "$there/moved"', cwd=here, there=there)
    same(difference(tree_of(there / "moved"), wanted), {}, "what differs after the move")
    shell('mv moved renamed; mv renamed "$here/tree"', cwd=there, here=here)
    same(difference(tree_of(here / "tree"), wanted), {}, "what differs after the way back")


@check()
def copy_within(there, here):
    shell("""
        head -c 20000000 /dev/urandom > original
        cp original copy; cmp original copy
        cp --reflink=auto original second; cmp original second
        dd if=original of=third bs=1M conv=fsync status=none; cmp original third
        cat original > fourth; cmp original fourth
        install -m 600 original fifth; [ "$(stat -c %a fifth)" = 600 ]
        split -b 3000000 original piece.; cat piece.* | cmp - original
        gzip -k original; zcat original.gz | cmp - original
        sha256sum original copy second third fourth fifth > sums; sha256sum --quiet -c sums
    """, cwd=there)
