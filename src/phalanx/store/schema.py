"""The schema's revisions, by Alembic: which there are, and bringing a database to the newest."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

_MIGRATIONS = str(Path(__file__).parent / "migrations")


def upgrade(connection: Connection) -> None:
    """Bring the schema to this version's, in the connection's transaction."""
    config = Config()
    config.set_main_option("script_location", _MIGRATIONS)
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def known() -> frozenset[str]:
    """All that this version can bring to its own."""
    return frozenset(each.revision for each in ScriptDirectory(_MIGRATIONS).walk_revisions())
