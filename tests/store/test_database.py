"""The schema is what the tables say; transactions hold; everything survives a restart."""

import os
import threading
import time

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from phalanx.store import experiments, identity, jobs, keys, metrics, network, tuning  # noqa: F401
from phalanx.store.base import Base, now_ms
from phalanx.store.database import Database, sqlite_url
from phalanx.store.identity import AccessKey


@pytest.fixture
def database(tmp_path):
    database = Database(sqlite_url(tmp_path / "phalanx.db"))
    database.migrate()
    yield database
    database.close()


def test_migrations_make_exactly_the_tables(database):
    with database.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []


def test_migrating_twice_changes_nothing(database):
    database.migrate()


def test_an_exception_rolls_everything_back(database):
    with pytest.raises(RuntimeError), database.write() as session:
        session.add(AccessKey(id="A", secret="s", user_name="u", created=now_ms()))
        session.flush()
        raise RuntimeError
    with database.read() as session:
        assert session.get(AccessKey, "A") is None


def test_reads_change_nothing(database):
    with database.read() as session:
        session.add(AccessKey(id="A", secret="s", user_name="u", created=now_ms()))
    with database.read() as session:
        assert session.get(AccessKey, "A") is None


def test_concurrent_writers_lose_no_update(database):
    with database.write() as session:
        session.add(AccessKey(id="A", secret="s", user_name="0", created=now_ms()))

    def count():
        for _ in range(20):
            with database.write() as session:
                row = session.get_one(AccessKey, "A")
                row.user_name = str(int(row.user_name) + 1)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with database.read() as session:
        assert session.get_one(AccessKey, "A").user_name == "80"


def test_a_committed_row_is_there_after_reopening(tmp_path, database):
    with database.write() as session:
        session.add(AccessKey(id="A", secret="s", user_name="u", created=now_ms()))
    database.close()
    again = Database(sqlite_url(tmp_path / "phalanx.db"))
    with again.read() as session:
        assert session.get_one(AccessKey, "A").secret == "s"
    again.close()


def test_commits_that_wait_together_are_brought_to_the_disk_together(database, monkeypatch):
    def add(number):
        with database.write() as session:
            session.add(AccessKey(id=str(number), secret="s", user_name="u", created=now_ms()))

    synced, begun, go_on = [], threading.Event(), threading.Event()

    def slow(file):
        synced.append(os.readlink(f"/proc/self/fd/{file}"))
        begun.set()
        assert go_on.wait(30)

    monkeypatch.setattr(os, "fdatasync", slow)
    threads = [threading.Thread(target=add, args=(number,)) for number in range(6)]
    threads[0].start()
    assert begun.wait(30)
    for thread in threads[1:]:
        thread.start()
    while database._wal._asked < 6:
        time.sleep(0.01)
    # All are committed, and nobody was told yet.
    assert all(thread.is_alive() for thread in threads)
    go_on.set()
    for thread in threads:
        thread.join()
    assert len(synced) == 2
    assert synced[0].endswith("phalanx.db-wal")


def test_a_disk_that_fails_is_told(database, monkeypatch):
    def broken(_):
        raise OSError("Input/output error")

    monkeypatch.setattr(os, "fdatasync", broken)
    for _ in range(2):
        with pytest.raises(OSError), database.write() as session:
            session.add(AccessKey(id=str(now_ms()), secret="s", user_name="u", created=now_ms()))
