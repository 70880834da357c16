"""Secrets are sealed, each for its key alone."""

import pytest
from sqlalchemy import select

from phalanx.identity import access_keys
from phalanx.identity.directory import Directory
from phalanx.identity.seal import Broken, Seal
from phalanx.store.base import Base
from phalanx.store.database import Database, sqlite_url


def test_what_is_sealed_opens_for_its_owner_alone(tmp_path):
    seal = Seal(tmp_path / "key")
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    closed = seal.close("secret", "AKIA1")
    assert Seal(tmp_path / "key").open(closed, "AKIA1") == "secret"
    assert closed != seal.close("secret", "AKIA1")
    for opener, text, owner in (
        (seal, closed, "AKIA2"),
        (Seal(tmp_path / "other"), closed, "AKIA1"),
        (seal, closed[:-8] + "AAAAAAA=", "AKIA1"),
        (seal, "secret", "AKIA1"),
    ):
        with pytest.raises(Broken):
            opener.open(text, owner)


@pytest.mark.parametrize("size", [0, 16, 24, 31, 33])
def test_a_key_that_is_cut_short_is_refused(tmp_path, size):
    (tmp_path / "key").write_bytes(bytes(size))
    with pytest.raises(Broken, match="holds no key"):
        Seal(tmp_path / "key")


def test_the_key_is_on_the_disk_before_it_seals_any(tmp_path, synced):
    Seal(tmp_path / "key")
    assert (tmp_path / "key").stat().st_ino in synced


def test_the_database_alone_tells_no_secret(tmp_path):
    database = Database(sqlite_url(tmp_path / "phalanx.db"))
    database.migrate()
    id, secret = access_keys.administrators(database, Seal(tmp_path / "key"))
    assert access_keys.administrators(database, Seal(tmp_path / "key")) == (id, secret)
    with pytest.raises(Broken, match="restore the file"):
        access_keys.administrators(database, Seal(tmp_path / "another"))
    with database.read() as session:
        stored = repr([session.execute(select(table)).all() for table in Base.metadata.sorted_tables])
    database.close()
    assert id in stored
    assert secret not in stored


def test_a_key_that_is_none_is_not_even_looked_for(tmp_path):
    database = Database(sqlite_url(tmp_path / "phalanx.db"))
    database.migrate()
    directory = Directory(database, Seal(tmp_path / "key"), "123456789012")
    for text in ("", "AKIA\0", "é", "A" * 129, "' OR 1=1 --", "ASIA/../x"):
        assert directory.find(text) is None
    database.close()
