import pytest
from sqlalchemy import delete, event, insert

from phalanx.jobs.tuning.curves import Curves
from phalanx.store.base import now_ms
from phalanx.store.database import Database, sqlite_url
from phalanx.store.jobs import TrainingJob
from phalanx.store.tuning import ObjectiveValue


@pytest.fixture
def database(tmp_path):
    made = Database(sqlite_url(tmp_path / "phalanx.db"))
    made.migrate()
    with made.write() as session:
        known = {"request": {}, "status": "InProgress", "secondary_status": "Training", "stage": "running", "encrypted": False}
        for name in ("one", "two"):
            session.add(TrainingJob(name=name, arn=name, created=now_ms(), modified=now_ms(), instances=2, **known))
    yield made
    made.close()


def emit(database, job, values, host="algo-1", first=0, anew=False):
    """`values`: as they come, each a ms after the one before."""
    with database.write() as session:
        if anew:
            session.execute(delete(ObjectiveValue).where(ObjectiveValue.job == job, ObjectiveValue.host == host))
        rows = [
            {"job": job, "host": host, "number": number, "timestamp": 1000 * anew + number, "value": value}
            for number, value in enumerate(values, first)
        ]
        session.execute(insert(ObjectiveValue), rows)


def test_what_came_since_is_added(database):
    curves = Curves(database)
    emit(database, "one", [3.0, 2.0])
    assert curves.read(["one", "two"], []) == {"one": [3.0, 2.0], "two": []}
    emit(database, "one", [1.0], first=2)
    emit(database, "two", [9.0])
    assert curves.read(["one", "two"], []) == {"one": [3.0, 2.0, 1.0], "two": [9.0]}
    assert curves.read(["two"], ["one"]) == {"one": [3.0, 2.0, 1.0], "two": [9.0]}
    emit(database, "two", [8.0, 7.0], host="algo-2")
    assert curves.read(["two"], ["one"]) == {"one": [3.0, 2.0, 1.0], "two": [8.0, 7.0]}
    curves.forget(["one"])
    assert curves.read(["two"], []) == {"two": [8.0, 7.0]}


def test_a_row_is_read_once(database):
    curves = Curves(database)
    emit(database, "one", [float(number) for number in range(500)])
    curves.read(["one"], [])
    emit(database, "one", [500.0], first=500)
    asked = []
    event.listen(database.engine, "before_cursor_execute", lambda *each: asked.append((each[2], each[3])))
    assert len(curves.read(["one"], [])["one"]) == 501
    assert [given for words, given in asked if "number" in words.partition("WHERE")[2]] == [("one", "algo-1", 499)]
    asked.clear()
    assert len(curves.read([], ["one"])["one"]) == 501
    asked.clear()
    assert len(curves.read([], ["one"])["one"]) == 501
    assert not asked


@pytest.mark.parametrize("again", [[5.0], [5.0, 4.0], [5.0, 4.0, 3.0]])
def test_a_log_that_begins_anew_takes_back_what_it_said(database, again):
    """Also where it has emitted as much as before, or more, when it is looked at next."""
    curves = Curves(database)
    emit(database, "one", [3.0, 4.0])
    emit(database, "one", [7.0], host="algo-2")
    curves.read(["one"], [])
    emit(database, "one", again, anew=True)
    assert curves.read(["one"], []) == {"one": again}
    with database.write() as session:
        session.execute(delete(ObjectiveValue))
    assert curves.read(["one"], []) == {"one": []}
