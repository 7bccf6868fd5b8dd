"""Runs real programs on a directory, usually a mount: python3 tests/programs DIR [CHECK...]"""

import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

# Importing these modules lists their checks.
import builds
import concurrency
import copies
import databases
import editors
import files
import metadata
import names
import repositories
import trees
from checks import CHECKS

# How long a killed check may take to go away before it counts as stuck in the kernel.
GRACE_SECONDS = 5


def main():
    if len(sys.argv) < 2:
        sys.exit("usage: python3 tests/programs DIR [CHECK...]")
    directory, wanted = Path(sys.argv[1]).resolve(), sys.argv[2:]
    unknown = set(wanted) - {name for name, _, _ in CHECKS}
    if unknown:
        sys.exit("no such check: " + ", ".join(sorted(unknown)))
    chosen = [check for check in CHECKS if not wanted or check[0] in wanted]
    failed = [name for name, seconds, function in chosen if not passes(name, seconds, function, directory)]
    print(f"{len(chosen) - len(failed)} of {len(chosen)} checks passed")
    if failed:
        sys.exit("failed: " + " ".join(failed))


def passes(name, seconds, function, directory):
    """Runs one check in a process group of its own, so that all it started can be ended with it."""
    start = time.monotonic()
    with tempfile.TemporaryFile("w+") as report:
        child = os.fork()
        if child == 0:
            run_child(name, function, directory, report)
        code = wait(child, seconds)
        end_group(child)
        if code is None:
            end_stuck(child, report, seconds)
        report.seek(0)
        said = report.read().strip()
    print(f"{'ok    ' if code == 0 else 'FAILED'} {time.monotonic() - start:6.1f} s  {name}", flush=True)
    if code != 0:
        print("       " + said[-2500:].replace("\n", "\n       "), flush=True)
    return code == 0


def run_child(name, function, directory, report):
    os.setsid()
    os.dup2(report.fileno(), 1)
    os.dup2(report.fileno(), 2)
    code = 1
    try:
        here = Path(tempfile.mkdtemp(prefix="programs-"))
        there = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=directory))
        try:
            function(there, here)
            os.chdir("/")
            shutil.rmtree(there)
            code = 0
        finally:
            shutil.rmtree(here, ignore_errors=True)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def wait(child, seconds):
    """The exit code, or None when the time is over."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    return None


def end_group(child):
    try:
        os.killpg(child, signal.SIGKILL)
    except ProcessLookupError:
        pass


def end_stuck(child, report, seconds):
    gone = wait(child, GRACE_SECONDS) is not None
    report.seek(0, os.SEEK_END)
    report.write(f"\nnot done after {seconds} s" + ("" if gone else ", and SIGKILL does not end it"))


main()
