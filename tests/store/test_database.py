"""In SQLite and in PostgreSQL: the schema is what the tables say; transactions hold; everything survives a restart."""

import contextlib
import os
import signal
import threading
import time

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect, select, text

from phalanx.store import experiments, identity, jobs, keys, lineage, metrics, network, replicas, tuning  # noqa: F401
from phalanx.store.base import Base, now_ms
from phalanx.store.database import UNAVAILABLE, Database, Unsuitable, session_on, sqlite_url
from phalanx.store.identity import AccessKey
from postgres import Postgres


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    return sqlite_url(tmp_path / "phalanx.db") if request.param == "sqlite" else request.getfixturevalue("postgresql")


@pytest.fixture
def database(url):
    yield from opened(url)


@pytest.fixture
def in_sqlite(tmp_path):
    yield from opened(sqlite_url(tmp_path / "phalanx.db"))


def opened(url):
    database = Database(url)
    database.migrate()
    yield database
    database.close()


def key(id_, user_name="u"):
    return AccessKey(id=id_, secret="s", user_name=user_name, created=now_ms())


def test_migrations_make_exactly_the_tables(database):
    with database.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []


def test_migrating_twice_changes_nothing(database):
    database.migrate()


def test_a_newer_versions_schema_is_left_alone(database):
    with database.write() as session:
        session.connection().exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(Unsuitable, match=r"newer Phalanx .*9999"):
        database.migrate()


def test_the_files_are_their_owners_alone_those_of_an_earlier_version_too(tmp_path):
    for earlier in (False, True):
        with contextlib.closing(Database(sqlite_url(tmp_path / "phalanx.db"))) as database:
            database.migrate()
            with database.write() as session:
                session.add(key(f"A{earlier}"))
            files = list(tmp_path.iterdir())
            assert {path.name: path.stat().st_mode & 0o777 for path in files} == {
                "phalanx.db": 0o600,
                "phalanx.db-wal": 0o600,
                "phalanx.db-shm": 0o600,
            }
            for path in files:
                path.chmod(0o644)
            database.migrate()
            assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
        (tmp_path / "phalanx.db").chmod(0o644)


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


def test_a_committed_row_is_there_after_reopening(url, database):
    with database.write() as session:
        session.add(AccessKey(id="A", secret="s", user_name="u", created=now_ms()))
    database.close()
    again = Database(url)
    with again.read() as session:
        assert session.get_one(AccessKey, "A").secret == "s"
    again.close()


def test_texts_sort_by_their_code_points(database):
    ids = ["b", "a-1", "B", "a", "_", "é", "a1", "Z-9", "z", "\U0001f600"]
    with database.write() as session:
        session.add_all(map(key, ids))
    with database.read() as session:
        assert list(session.scalars(select(AccessKey.id).order_by(AccessKey.id))) == sorted(ids)
        assert set(session.scalars(select(AccessKey.id).where(AccessKey.id > "a"))) == {each for each in ids if each > "a"}


def test_writers_in_two_processes_lose_no_update(url, database):
    with database.write() as session:
        session.add(key("A", "0"))
    # Two objects stand for two processes: they share neither connections nor locks.
    other = Database(url)

    def count(store):
        for _ in range(20):
            with store.write() as session:
                row = session.get_one(AccessKey, "A")
                row.user_name = str(int(row.user_name) + 1)

    threads = [threading.Thread(target=count, args=(store,)) for store in (database, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with other.read() as session:
        assert session.get_one(AccessKey, "A").user_name == "40"
    other.close()


def test_a_reader_sees_one_moment_and_waits_for_nobody(database):
    with database.write() as session:
        session.add_all([key("A"), key("B")])
    with database.read() as reader, database.rows() as rows:
        assert reader.scalar(select(AccessKey.user_name).where(AccessKey.id == "A")) == "u"
        assert rows.scalar(select(AccessKey.user_name).where(AccessKey.id == "A")) == "u"
        with database.write() as session:
            session.get_one(AccessKey, "B").user_name = "other"
        assert reader.scalar(select(AccessKey.user_name).where(AccessKey.id == "B")) == "u"
        assert rows.scalar(select(AccessKey.user_name).where(AccessKey.id == "B")) == "u"
    with database.read() as session:
        assert session.get_one(AccessKey, "B").user_name == "other"


def test_another_database_is_refused():
    with pytest.raises(ValueError, match="neither"):
        Database("mysql://localhost/phalanx")


@pytest.fixture
def in_postgresql(postgresql):
    yield from opened(postgresql)


def test_every_text_column_has_the_order_of_code_points(in_postgresql):
    with in_postgresql.engine.connect() as connection:
        query = text("SELECT count(*) FROM information_schema.columns WHERE table_schema = 'public' AND table_name != :own"
                     " AND data_type = 'character varying' AND collation_name IS DISTINCT FROM 'C'")  # fmt: skip
        assert connection.scalar(query, {"own": "alembic_version"}) == 0
        assert len(inspect(connection).get_table_names()) > 30


def test_a_nul_in_a_text_becomes_a_mark(in_postgresql):
    with in_postgresql.write() as session:
        session.add(key("A", "a\0b"))
    with in_postgresql.read() as session:
        assert session.get_one(AccessKey, "A").user_name == "a\ufffdb"


@pytest.fixture
def server():
    server = Postgres()
    server.start()
    yield server
    server.close()


def test_a_server_that_goes_away_is_told_and_found_again(server):
    database = Database(server.fresh("phalanx"))
    database.migrate()
    with database.write() as session:
        session.add(key("A"))
    server.stop(signal.SIGQUIT)
    for use in (database.read, database.write, database.rows):
        with pytest.raises(UNAVAILABLE), use() as session:
            session.execute(select(AccessKey.id))
    server.start()
    # In the midst of a transaction: it is lost as a whole.
    with pytest.raises(UNAVAILABLE), database.write() as session:
        session.add(key("B"))
        session.flush()
        server.stop(signal.SIGQUIT)
    server.start()
    for use in (database.read, database.write, database.rows):
        with use() as session:
            assert list(session.execute(select(AccessKey.id))) == [("A",)]
    database.close()


def test_commits_that_wait_together_are_brought_to_the_disk_together(in_sqlite, monkeypatch):
    def add(number):
        with in_sqlite.write() as session:
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
    while in_sqlite._wal._asked < 6:
        time.sleep(0.01)
    # All are committed, and nobody was told yet.
    assert all(thread.is_alive() for thread in threads)
    go_on.set()
    for thread in threads:
        thread.join()
    assert len(synced) == 2
    assert synced[0].endswith("phalanx.db-wal")


def test_only_what_may_wait_is_postponed(in_sqlite, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fdatasync", synced.append)

    def add(name, **may):
        with in_sqlite.changes(**may) as connection, session_on(connection) as session:
            session.add(key(name))

    add("A", may_wait=True)  # nobody postpones
    assert len(synced) == 1
    with in_sqlite.postponing() as owed:
        add("B")
        assert (len(owed), len(synced)) == (0, 2)
        add("C", may_wait=True)
        assert (len(owed), len(synced)) == (1, 2)
    with in_sqlite.postponing() as owed:
        assert owed == []
    in_sqlite.sync()
    assert len(synced) == 3
    add("D", may_wait=True)
    assert len(synced) == 4


def test_a_disk_that_fails_is_told(in_sqlite, monkeypatch):
    def broken(_):
        raise OSError("Input/output error")

    monkeypatch.setattr(os, "fdatasync", broken)
    for _ in range(2):
        with pytest.raises(OSError), in_sqlite.write() as session:
            session.add(AccessKey(id=str(now_ms()), secret="s", user_name="u", created=now_ms()))
