"""SQLite: transactions, many writers, sudden death."""

import os
import signal
import sqlite3
import time

from checks import at_once, check, fork, same

WRITERS = 4
ADDITIONS = 50


def connect(path):
    return sqlite3.connect(path, timeout=60, isolation_level=None)


def assert_sound(path):
    same(connect(path).execute("pragma integrity_check").fetchall(), [("ok",)], "integrity")


@check(seconds=120)
def sqlite_transactions(there, here):
    path = there / "database"
    database = connect(path)
    database.execute("create table records (id integer primary key, text text)")
    for number in range(200):
        database.execute("begin")
        database.executemany("insert into records (text) values (?)", [(f"{number} {row}",) for row in range(20)])
        database.execute("rollback" if number % 10 == 9 else "commit")
    same(database.execute("select count(*) from records").fetchone(), (3600,), "number of records")
    database.execute("create index by_text on records (text)")
    database.execute("delete from records where id % 2 = 0")
    database.execute("vacuum")
    assert_sound(path)


def count_together(path, journal):
    database = connect(path)
    database.execute(f"pragma journal_mode = {journal}")
    database.execute("create table counter (value integer)")
    database.execute("insert into counter values (0)")
    database.close()

    def add(_):
        own = connect(path)
        for _ in range(ADDITIONS):
            own.execute("begin immediate")
            own.execute("update counter set value = value + 1")
            own.execute("commit")

    at_once(WRITERS, add)
    same(connect(path).execute("select value from counter").fetchone(), (WRITERS * ADDITIONS,), "counter")
    assert_sound(path)


@check(seconds=180)
def sqlite_concurrent_writers(there, here):
    count_together(there / "database", "delete")


@check(seconds=180)
def sqlite_concurrent_writers_with_a_log(there, here):
    count_together(there / "database", "wal")


@check(seconds=120)
def sqlite_writer_killed(there, here):
    path, acknowledged = there / "database", here / "acknowledged"
    connect(path).execute("create table records (id integer)")

    def write():
        own = connect(path)
        with open(acknowledged, "a", buffering=1) as log:
            for number in range(1_000_000):
                own.execute("insert into records values (?)", (number,))
                log.write(f"{number}\n")

    for _ in range(3):
        child = fork(write)
        time.sleep(0.7)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        assert_sound(path)
    kept = connect(path).execute("select count(*) from records").fetchone()[0]
    told = len(acknowledged.read_text().splitlines())
    # Each killed writer may have committed one record that it could not tell of.
    if not (0 < told <= kept <= told + 3):
        raise AssertionError(f"{told} records were acknowledged and {kept} are kept")
