"""From every schema that there ever was to the newest, with what is in it."""

from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import MetaData, Table, select

import phalanx.store
from phalanx.store import experiments, identity, jobs, keys, metrics, network, replicas, tuning  # noqa: F401
from phalanx.store.base import Base
from phalanx.store.database import REVISION, Database, sqlite_url

MIGRATIONS = str(Path(phalanx.store.__file__).parent / "migrations")
REVISIONS = [each.revision for each in ScriptDirectory(MIGRATIONS).walk_revisions()]
ROW = {"id": "A", "secret": "sealed", "user_name": "u", "active": True, "created": 1}


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request, tmp_path):
    on_disk = request.param == "sqlite"
    database = Database(sqlite_url(tmp_path / "phalanx.db") if on_disk else request.getfixturevalue("postgresql"))
    yield database
    database.close()


def test_the_last_is_this_versions():
    assert ScriptDirectory(MIGRATIONS).get_current_head() == REVISION


@pytest.mark.parametrize("revision", REVISIONS)
def test_upgrade(database, revision):
    config = Config()
    config.set_main_option("script_location", MIGRATIONS)
    with database.engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    with database.engine.begin() as connection:
        # As that schema has it, whatever the newest one makes of it.
        connection.execute(Table("access_keys", MetaData(), autoload_with=connection).insert(), ROW)
    database.migrate()
    with database.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
        row = connection.execute(select(Table("access_keys", MetaData(), autoload_with=connection))).one()
    assert row._mapping["secret"] == "sealed"
