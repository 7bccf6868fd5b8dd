"""Many files: 20,000 in a tree, thousands in a directory, directories in directories."""

import os

from checks import check, same, shell

DIRECTORIES = 200
FILES_EACH = 100


@check(seconds=300)
def tree_of_20000_files(there, here):
    for number in range(DIRECTORIES):
        directory = there / "tree" / f"d{number // 20}" / f"d{number}"
        directory.mkdir(parents=True)
        for which in range(FILES_EACH):
            (directory / f"file{which}").write_text(f"content of {number} {which}\n")
    files = DIRECTORIES * FILES_EACH
    same(shell("find tree -type f | wc -l", cwd=there).strip(), str(files), "files found")
    same(shell("find tree -ls | wc -l", cwd=there).strip(), str(files + DIRECTORIES + 11), "entries listed")
    same(shell("grep -r 'content of 1[0-9]* 7$' tree | wc -l", cwd=there).strip(), "111", "lines found")
    shell("chmod -R g-r tree; [ -z \"$(find tree -perm /g=r -print -quit)\" ]", cwd=there)
    shell("mv tree moved; cp -r moved/d0 again; diff -r moved/d0 again; tar -cf archive moved", cwd=there)
    same(shell("tar -tf archive | grep -c file", cwd=there).strip(), str(files), "files archived")
    shell("rm -rf moved again archive", cwd=there)
    same(os.listdir(there), [], "what rm has left")


@check(seconds=120)
def directory_changed_while_it_is_listed(there, here):
    stays = {f"stays{number}" for number in range(3000)}
    goes = {f"goes{number}" for number in range(3000)}
    for name in stays | goes:
        (there / name).touch()
    seen = []
    with os.scandir(there) as entries:
        for position, entry in enumerate(entries):
            seen.append(entry.name)
            if position % 2 and goes:
                (there / goes.pop()).unlink()
                (there / f"new{position}").touch()
    listed = [name for name in seen if name in stays]
    same(len(listed), len(set(listed)), "number of names listed")
    same(stays - set(listed), set(), "names missed")
    for name in os.listdir(there):
        (there / name).unlink()
    there.rmdir()
    there.mkdir()


@check()
def directory_rewound(there, here):
    for number in range(500):
        (there / f"file{number}").touch()
    descriptor = os.open(there, os.O_RDONLY)
    first = sorted(os.listdir(descriptor))
    (there / "late").touch()
    os.lseek(descriptor, 0, os.SEEK_SET)
    same(sorted(os.listdir(descriptor)), sorted(first + ["late"]), "names after rewinding")
    os.close(descriptor)


@check()
def deep_directories(there, here):
    # Longer than any path may be, so it can only be walked step by step.
    shell("""
        for level in $(seq 60); do mkdir "$(printf 'd%.0s' $(seq 100))"; cd d*; done
        echo deepest > file
        [ "$(cat file)" = deepest ]
        [ "$(pwd -P | wc -c)" -gt 6000 ]
    """, cwd=there)
    same(shell("find . -name file | wc -l", cwd=there).strip(), "1", "files found")
    shell("rm -rf d*", cwd=there)


@check()
def directory_moved_while_in_use(there, here):
    shell("""
        mkdir -p one/inner two
        cd one/inner
        echo before > file
        mv ../../one ../../two/moved 2> /dev/null || mv "$there/one" "$there/two/moved"
        [ "$(cat file)" = before ]
        echo after > file
        [ "$(cat "$there/two/moved/inner/file")" = after ]
        ! mv "$there/two" "$there/two/moved/inner" 2> /dev/null
    """, cwd=there, there=there)
