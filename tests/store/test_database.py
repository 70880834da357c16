from phalanx.store.base import Base
from phalanx.store.database import Database, sqlite_url
from phalanx.store.identity import AccessKey


def test_what_a_read_loaded_stays_readable(tmp_path):
    database = Database(sqlite_url(tmp_path / "phalanx.db"))
    Base.metadata.create_all(database.engine)
    with database.write() as session:
        session.add(AccessKey(id="AKIAEXAMPLE", secret="s", user_name="admin", created=1))
    with database.read() as session:
        key = session.get_one(AccessKey, "AKIAEXAMPLE")
    assert key.user_name == "admin"
    database.close()
