"""The schema's revisions, by Alembic: which one a database has, and bringing it to the newest."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

_MIGRATIONS = str(Path(__file__).parent / "migrations")


def upgrade(connection: Connection) -> None:
    """Bring the schema to this version's, in the connection's transaction; nothing happens when it is there already."""
    config = Config()
    config.set_main_option("script_location", _MIGRATIONS)
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def revision(connection: Connection) -> str | None:
    """What the database has; None where it is empty."""
    return MigrationContext.configure(connection).get_current_revision()


def newest() -> str | None:
    """This version's own."""
    return ScriptDirectory(_MIGRATIONS).get_current_head()


def known() -> frozenset[str]:
    """All that this version can bring to its own."""
    return frozenset(each.revision for each in ScriptDirectory(_MIGRATIONS).walk_revisions())
