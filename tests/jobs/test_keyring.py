"""Keys at rest: sealed by a root key that is not in the store, and useless without it."""

import os
import stat

import pytest
from sqlalchemy import select

from phalanx.data.envelope import CONTEXT
from phalanx.jobs.keyring import Keyring, KeyringError
from phalanx.store.base import Base
from phalanx.store.database import Database, sqlite_url
from phalanx.store.keys import Key

ARN = "arn:aws:kms:us-west-2:123456789012:key/"


@pytest.fixture
def database(tmp_path):
    database = Database(sqlite_url(tmp_path / "phalanx.db"))
    Base.metadata.create_all(database.engine)
    yield database
    database.close()


def test_the_root_key_is_on_the_disk_before_it_seals_any(database, tmp_path, synced):
    Keyring(database, tmp_path / "root.key")
    assert (tmp_path / "root.key").stat().st_ino in synced
    (tmp_path / "root.key").write_bytes(b"")
    with pytest.raises(KeyringError, match="must have 32 bytes, and has 0"):
        Keyring(database, tmp_path / "root.key")


def test_the_store_alone_opens_nothing(database, tmp_path):
    root = tmp_path / "elsewhere.key"
    keyring = Keyring(database, root)
    with database.write() as session:
        keyring.create(session, ARN, "")
    assert stat.S_IMODE(root.stat().st_mode) == 0o600
    (data_key,) = Keyring(database, root).data_keys()
    with database.read() as session:
        key = session.scalar(select(Key))
        assert keyring.decrypt(session, key.data_key, CONTEXT) == (key, data_key.plaintext)
        material = keyring._material(key)
    with database.rows() as rows:
        stored = [value for value in rows.execute(select(Key.__table__)).one() if isinstance(value, bytes)]
    files = b"".join([*stored, *(path.read_bytes() for path in tmp_path.glob("phalanx.db*"))])
    assert key.sealed in files
    for secret in (material, data_key.plaintext, root.read_bytes()):
        assert secret not in files


def test_a_root_key_that_is_missing_or_wrong_is_said_at_the_start(database, tmp_path):
    root = tmp_path / "root.key"
    keyring = Keyring(database, root)
    with database.write() as session:
        keyring.create(session, ARN, "")
    root.rename(tmp_path / "away")
    with pytest.raises(KeyringError, match=r"root\.key is missing"):
        Keyring(database, root)
    assert not root.exists()
    root.write_bytes(os.urandom(32))
    with pytest.raises(KeyringError, match="is not the one"):
        Keyring(database, root)
    root.write_bytes(b"short")
    with pytest.raises(KeyringError, match="must have 32 bytes, and has 5"):
        Keyring(database, root)
