"""In SQLite and in PostgreSQL: a statement does what SQLAlchemy's own way does."""

import pytest
from sqlalchemy import bindparam, exc, insert, select

from phalanx.store.base import now_ms
from phalanx.store.database import UNAVAILABLE, Database, sqlite_url
from phalanx.store.jobs import TrainingJob
from phalanx.store.statement import Statement

ADD = Statement(
    insert(TrainingJob.metadata.tables["training_jobs"]).values(status="InProgress", secondary_status="Starting"),
    *("name", "arn", "request", "created", "modified", "instances", "encrypted"),
)
FIND = Statement(select(TrainingJob.__table__).where(TrainingJob.name == bindparam("job")))
OF = Statement(
    select(TrainingJob.name, TrainingJob.encrypted).where(TrainingJob.instances == bindparam("count")).order_by("name")
)


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request, tmp_path):
    url = sqlite_url(tmp_path / "phalanx.db") if request.param == "sqlite" else request.getfixturevalue("postgresql")
    database = Database(url)
    database.migrate()
    yield database
    database.close()


def add(database, name, **given):
    values = {"arn": f"arn:{name}", "request": {"A": ["é", None]}, "created": now_ms(), "modified": 1, "instances": 2}
    with database.write() as session:
        ADD.run(session.connection(), **{"name": name, "encrypted": True, **values, **given})


def test_what_was_inserted_is_what_the_tables_say_and_what_is_found(database):
    add(database, "a")
    add(database, "b", encrypted=False)
    with database.read() as session:
        stored = session.get(TrainingJob, "a")
    with database.rows() as connection:
        found = FIND.first(connection, job="a")
        assert FIND.first(connection, job="c") is None
        assert [(each.name, each.encrypted) for each in OF.all(connection, count=2)] == [("a", True), ("b", False)]
        assert OF.all(connection, count=3) == []
    assert found._asdict() == {name: getattr(stored, name) for name in found._fields}
    assert (found.stage, found.stop_requested, found.request, found.plan) == ("starting", False, {"A": ["é", None]}, None)


def test_errors_are_sqlalchemys(database):
    add(database, "a")
    with pytest.raises(exc.IntegrityError):
        add(database, "b", arn="arn:a")
    with database.rows() as connection:
        assert FIND.first(connection, job="b") is None


def test_a_database_that_is_locked_is_unavailable(tmp_path):
    database = Database(sqlite_url(tmp_path / "phalanx.db"))
    database.migrate()
    with database.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA busy_timeout=1")
        connection.rollback()
        other = Database(sqlite_url(tmp_path / "phalanx.db"))
        with other.write(), pytest.raises(UNAVAILABLE), connection.execution_options(phalanx_write=True).begin():
            pass
        other.close()
    database.close()
