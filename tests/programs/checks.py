"""The list of checks, and the few words they are written in.

A check is a function of two directories: `there` on the file system that is judged and `here` on the local one.
Both are its own and empty. It fails by raising, and is killed when its time is over.
"""

import os
import subprocess
from pathlib import Path

CHECKS = []


def check(seconds=60):
    """Lists the function below as a check that may take so long."""

    def enlist(function):
        CHECKS.append((function.__name__, seconds, function))
        return function

    return enlist


def shell(script, cwd=None, **variables):
    """Runs a piece of bash that must succeed, and returns what it printed. Keywords become variables."""
    environment = dict(os.environ, LC_ALL="C.UTF-8", **{name: str(value) for name, value in variables.items()})
    ended = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=cwd, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
    )
    if ended.returncode != 0:
        tail = (ended.stdout + ended.stderr).strip()[-1500:]
        raise AssertionError(f"exit code {ended.returncode} of: {script.strip()}\n{tail}")
    return ended.stdout


def same(found, wanted, what="value"):
    """Demands equality and says what differs."""
    if found != wanted:
        raise AssertionError(f"{what} is {str(found)[:700]}, not {str(wanted)[:700]}")


def holds(condition, what):
    """Demands that something is so."""
    if not condition:
        raise AssertionError(f"does not hold: {what}")


def fails(errno_wanted, action, *arguments, **keywords):
    """Demands that the action fails with this errno."""
    try:
        action(*arguments, **keywords)
    except OSError as error:
        same(error.errno, errno_wanted, "errno")
    else:
        raise AssertionError(f"succeeded instead of failing with {os.strerror(errno_wanted)}")


def at_once(count, work):
    """Runs work(0), ..., work(count - 1) in processes of their own, all of which must succeed."""
    children = [fork(work, number) for number in range(count)]
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    same(codes, [0] * count, "exit codes")


def fork(work, *arguments):
    """Runs work in a child, whose exit code tells whether it returned."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        work(*arguments)
        code = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(code)


def tree_of(top):
    """Everything that a copy must keep, by path: kind, mode, owner, size, time, content, links, attributes."""
    import hashlib

    top = os.fsencode(top)
    found, first_names = {}, {}
    for directory, subdirectories, files in os.walk(top):
        for name in sorted(subdirectories + files):
            path = os.path.join(directory, name)
            relative = os.path.relpath(path, top)
            status = os.lstat(path)
            entry = [oct(status.st_mode), status.st_uid, status.st_gid]
            if os.path.islink(path):
                entry.append(os.readlink(path))
            elif os.path.isfile(path):
                digest = hashlib.sha256(Path(os.fsdecode(path)).read_bytes()).hexdigest()
                entry += [status.st_size, status.st_mtime_ns, digest]
                entry.append(first_names.setdefault(status.st_ino, relative) if status.st_nlink > 1 else None)
            if not os.path.islink(path):
                entry.append({name: os.getxattr(path, name) for name in sorted(os.listxattr(path))})
            found[relative] = entry
    return found
