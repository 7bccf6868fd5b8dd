"""Several processes at once on one file system."""

import errno
import fcntl
import os
import subprocess
import time

from checks import at_once, check, fork, holds, same, shell

PROCESSES = 8


@check(seconds=180)
def eight_processes_at_once(there, here):
    def work(number):
        own = there / f"own{number}"
        own.mkdir()
        for turn in range(100):
            (own / "draft").write_text(f"{number} {turn}" * 100)
            os.rename(own / "draft", own / f"final{turn}")
            os.link(own / f"final{turn}", there / f"shared-{number}-{turn}")
            same((there / f"shared-{number}-{turn}").read_text(), f"{number} {turn}" * 100, "text")
            if turn % 2:
                (own / f"final{turn}").unlink()
        same(len(os.listdir(own)), 50, "files of one process")

    at_once(PROCESSES, work)
    same(len(list(there.glob("shared-*"))), PROCESSES * 100, "shared files")


@check()
def appends_are_whole(there, here):
    def work(number):
        log = os.open(there / "log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        for turn in range(200):
            record = f"{number} {turn} ".ljust(80, ".") + "\n"
            same(os.write(log, record.encode()), 81, "bytes written")

    at_once(PROCESSES, work)
    lines = (there / "log").read_text().splitlines()
    same({len(line) for line in lines}, {80}, "lengths of lines")
    wanted = {(str(number), str(turn)) for number in range(PROCESSES) for turn in range(200)}
    same((len(lines), {tuple(line.split()[:2]) for line in lines} == wanted), (len(wanted), True), "records")


@check()
def exclusive_creation_has_one_winner(there, here):
    def work(number):
        with open(here / f"won{number}", "w") as won:
            for turn in range(100):
                try:
                    os.close(os.open(there / f"lock{turn}", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
                    won.write(f"{turn}\n")
                except FileExistsError:
                    pass

    at_once(PROCESSES, work)
    winners = sorted(int(turn) for file in here.glob("won*") for turn in file.read_text().split())
    same(winners, list(range(100)), "winners")


def count_under(there, lock):
    (there / "counter").write_text("0")

    def work(_):
        for _ in range(50):
            with open(there / "counter", "r+") as counter:
                lock(counter)
                value = int(counter.read())
                counter.seek(0)
                counter.write(str(value + 1))
                counter.flush()

    at_once(4, work)
    same((there / "counter").read_text(), "200", "counter")


@check()
def counter_under_posix_locks(there, here):
    count_under(there, lambda file: fcntl.lockf(file, fcntl.LOCK_EX))


@check()
def counter_under_flock(there, here):
    count_under(there, lambda file: fcntl.flock(file, fcntl.LOCK_EX))


@check()
def locks_exclude_and_end_with_their_owner(there, here):
    path = there / "file"
    path.write_bytes(bytes(100))

    def hold():
        own = open(path, "r+")
        fcntl.lockf(own, fcntl.LOCK_EX, 10, 0)
        (here / "held").touch()
        time.sleep(60)

    holder = fork(hold)
    while not (here / "held").exists():
        time.sleep(0.01)
    with open(path, "r+") as file:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 10)
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 5)
            raise AssertionError("a locked range was locked again")
        except OSError as error:
            holds(error.errno in (errno.EAGAIN, errno.EACCES), "refusal")
        os.kill(holder, 9)
        os.waitpid(holder, 0)
        fcntl.lockf(file, fcntl.LOCK_EX, 10, 5)


@check()
def replaced_file_is_never_missing_or_torn(there, here):
    path = there / "file"
    path.write_text("0" * 5000)

    def replace():
        for turn in range(300):
            (there / "draft").write_text(str(turn % 10) * 5000)
            os.rename(there / "draft", path)

    writer = fork(replace)
    reads = 0
    while os.waitpid(writer, os.WNOHANG) == (0, 0):
        text = path.read_text()
        same((len(text), len(set(text))), (5000, 1), "length and digits")
        reads += 1
    holds(reads > 10, "enough reads")


@check()
def follow_a_growing_file(there, here):
    path = there / "log"
    path.touch()
    follower = subprocess.Popen(["tail", "-n", "+1", "-f", path], stdout=subprocess.PIPE, text=True)
    try:
        for turn in range(5):
            with open(path, "a") as log:
                log.write(f"line {turn}\n")
            same(follower.stdout.readline(), f"line {turn}\n", "line")
    finally:
        follower.kill()
        follower.wait()


@check()
def pipelines_and_file_descriptors(there, here):
    shell("""
        exec 3<> file
        echo first >&3
        rm file
        echo second >&3
        [ "$(wc -l < /dev/fd/3)" = 2 ]
        exec 3>&-
        seq 100000 | tee one two | sha256sum > sum
        cat one | sha256sum | cmp - sum
        (while read -r line; do echo "$line"; done) < one | tail -n 1 | grep -qx 100000
        xargs -P 8 -n 500 -a one bash -c 'printf "%s\\n" "$@" > "part$1"' _
        cat part* | sort -n | cmp - one
    """, cwd=there)
