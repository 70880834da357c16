"""A service's knowledge in one file, and back."""

import os
import shutil
import signal
import sqlite3
import tarfile
import threading
from pathlib import Path

import pytest
import typer
from sqlalchemy import func, select

from phalanx.cli.backup import backup, restore
from phalanx.identity.seal import Seal
from phalanx.identity.trail import Trail, verify
from phalanx.linux import files
from phalanx.store.base import now_ms
from phalanx.store.database import Database, sqlite_url
from phalanx.store.identity import AccessKey
from phalanx.wire.service import Client, Event

ACCOUNT = "123456789012"


@pytest.fixture
def data_dir(tmp_path):
    """A data directory as a service keeps it."""
    directory = tmp_path / "data"
    (directory / "s3" / "buckets" / "b").mkdir(parents=True)
    (directory / "instances" / "i-1").mkdir(parents=True)
    (directory / "tls").mkdir()
    (directory / "ray").mkdir()
    for name in (
        "evidence.key",
        "root.key",
        "credentials",
        "tls/key.pem",
        "s3/buckets/b/object",
        "lock",
        "s3.log",
        "agent.log",
        "agent.log.1.gz",
        "ray/ports",
        "ray/driver.log",
        "ray/ray.log.2",
    ):
        (directory / name).write_text(name)
        (directory / name).chmod(0o600)
    return directory


@pytest.fixture
def database(data_dir):
    database = Database(sqlite_url(data_dir / "phalanx.db"))
    database.migrate()
    yield database
    database.close()


@pytest.fixture
def busy(data_dir, database):
    """A service at work: keys and records come all the while, each record after its key."""
    seal, trail = Seal(data_dir / "identity.key"), Trail(data_dir / "audit", ACCOUNT)
    closing, begun = threading.Event(), threading.Event()

    def work():
        number = 0
        while not closing.is_set():
            with database.write() as session:
                session.add(AccessKey(id=f"A{number:06}", secret=seal.close("secret", "A"), user_name="u", created=now_ms()))
            trail.record(Event("id", Client("127.0.0.1"), None, "A", "us-west-2", "iam", f"CreateAccessKey{number}"), None)
            number += 1
            if number == 20:
                begun.set()

    thread = threading.Thread(target=work)
    thread.start()
    assert begun.wait(60)
    yield
    closing.set()
    thread.join()
    trail.close()


def keys(directory):
    database = Database(sqlite_url(directory / "phalanx.db"))
    with database.read() as session:
        found = session.scalar(select(func.count()).select_from(AccessKey))
        sealed = session.get_one(AccessKey, "A000000").secret
    database.close()
    return found, sealed


def test_what_a_service_knows_is_copied_while_it_works_and_restored(data_dir, busy, tmp_path):
    file, again = tmp_path / "backup", tmp_path / "again"
    backup(file, data_dir)
    assert file.stat().st_mode & 0o777 == 0o600
    assert {path.name for path in tmp_path.iterdir()} == {"data", "backup"}
    restore(file, again)
    found, sealed = keys(again)
    assert found >= 20
    assert Seal(again / "identity.key").open(sealed, "A") == "secret"
    # Of everything in the database the trail tells, and it is whole.
    verdict = verify(again / "audit")
    assert verdict.fault is None
    assert verdict.records >= found - 1
    assert {path.name for path in again.iterdir()} == {
        *("phalanx.db", "identity.key", "evidence.key", "root.key", "credentials", "tls", "audit", "ray")
    }
    assert [path.name for path in (again / "ray").iterdir()] == ["ports"]
    assert (again / "root.key").read_text() == "root.key"
    assert {path.stat().st_mode & 0o077 for path in (again, again / "root.key", again / "tls" / "key.pem")} == {0}


def test_files_that_are_replaced_meanwhile_do_not_end_it(data_dir, database, tmp_path):
    """As a fleet does with its ledger, whenever an instance is placed."""
    over = threading.Event()

    def place(number):
        while not over.is_set():
            files.replace(data_dir / "ray" / f"ledger-{number}.json", "{}", durable=False)

    threads = [threading.Thread(target=place, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(20):
            backup(tmp_path / "backup.tar.gz", data_dir)
    finally:
        over.set()
        for thread in threads:
            thread.join()
    with tarfile.open(tmp_path / "backup.tar.gz") as archive:
        assert {"ray/ledger-0.json", "ray/ports"} <= set(archive.getnames())


def test_nothing_is_overwritten(data_dir, database, tmp_path, capsys):
    backup(tmp_path / "backup", data_dir)
    with pytest.raises(typer.Exit):
        restore(tmp_path / "backup", data_dir)
    assert "not empty" in capsys.readouterr().err


def test_a_backup_does_not_lie_in_what_it_copies(data_dir, database, capsys):
    with pytest.raises(typer.Exit):
        backup(data_dir / "tls" / "backup", data_dir)
    assert "next backup" in capsys.readouterr().err
    assert not (data_dir / "tls" / "backup").exists()


def full(_path):
    raise sqlite3.OperationalError("database or disk is full")


def stopped(_path):
    signal.raise_signal(signal.SIGTERM)


@pytest.mark.parametrize(("copy", "raised"), [(full, typer.Exit), (stopped, SystemExit)])
def test_a_backup_that_is_broken_off_leaves_nothing(data_dir, database, tmp_path, monkeypatch, capsys, copy, raised):
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(Database, "copy", lambda _, path: copy(path))
    with pytest.raises(raised):
        backup(tmp_path / "backup", data_dir)
    assert (copy is stopped) or "disk is full" in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"data"}
    assert signal.getsignal(signal.SIGTERM) == before


def test_restore_says_where_it_cannot_put_a_data_directory(data_dir, database, tmp_path, monkeypatch, capsys):
    backup(tmp_path / "backup", data_dir)
    (tmp_path / "file").touch()
    for place, words in ((tmp_path / "file", "is a file"), (Path("/proc"), "--data-dir /proc/NAME")):
        with pytest.raises(typer.Exit):
            restore(tmp_path / "backup", place)
        assert words in capsys.readouterr().err
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    restore(tmp_path / "backup", Path())
    assert (tmp_path / "here" / "phalanx.db").exists()


def cut(file):
    os.truncate(file, file.stat().st_size // 2)


def newer(file):
    remade(file, "UPDATE alembic_version SET version_num = '9999'")


def damaged(file):
    remade(file, None)


def remade(file, statement):
    """The backup with another database in it."""
    directory = Path(f"{file}.unpacked")
    with tarfile.open(file) as archive:
        archive.extractall(directory, filter="data")
    if statement is None:
        content = bytearray((directory / "phalanx.db").read_bytes())
        content[4096 * 3 : 4096 * 6] = os.urandom(4096 * 3)
        (directory / "phalanx.db").write_bytes(content)
    else:
        database = Database(sqlite_url(directory / "phalanx.db"))
        with database.write() as session:
            session.connection().exec_driver_sql(statement)
        database.close()
    with tarfile.open(file, "w:gz") as archive:
        archive.add(directory, ".")
    shutil.rmtree(directory)


def forged(file):
    """Another's file that would write elsewhere."""
    with tarfile.open(file, "w:gz") as archive:
        archive.add("/etc/hostname", "../outside")


@pytest.mark.parametrize(("harm", "word"), [(cut, ""), (newer, "9999"), (damaged, ""), (forged, "outside")])
def test_a_backup_that_is_not_whole_leaves_nothing(data_dir, database, tmp_path, capsys, harm, word):
    file, again = tmp_path / "backup", tmp_path / "again"
    backup(file, data_dir)
    harm(file)
    with pytest.raises(typer.Exit):
        restore(file, again)
    told = capsys.readouterr().err
    assert "cannot be restored" in told
    assert word in told
    assert {path.name for path in tmp_path.iterdir()} == {"data", "backup"}


def test_a_service_that_keeps_its_jobs_in_postgresql_is_told_what_to_do(tmp_path, capsys):
    (tmp_path / "database").write_text("postgresql://phalanx@/phalanx")
    with pytest.raises(typer.Exit):
        backup(tmp_path / "backup", tmp_path)
    assert "pg_dump" in capsys.readouterr().err
