"""Which replica leads: one, and whoever led before changes nothing any more."""

import threading
import time

import psycopg
import pytest

from phalanx.store import leadership, news
from phalanx.store.database import UNAVAILABLE, WRITTEN, Database, Deposed, sqlite_url
from phalanx.store.identity import AccessKey
from phalanx.store.leadership import Leadership, NotLeading
from phalanx.store.news import News


class Replica:
    """One that has joined the election; its connections stand for a process of its own."""

    def __init__(self, url, place="here"):
        self.database = Database(url)
        self.database.migrate()
        self.deposed = threading.Event()
        self.leadership = Leadership(self.database, place, self.deposed.set, threading.Event())

    def leads(self, seconds=0.0):
        if self.leadership.claim(seconds):
            self.leadership.begin()
            return True
        return False

    def write(self, id_):
        with self.database.write() as session:
            session.add(AccessKey(id=id_, secret="s", user_name="u", created=1))

    def close(self):
        self.leadership.close()
        self.database.close()


@pytest.fixture
def replicas(postgresql):
    made = [Replica(postgresql), Replica(postgresql)]
    yield made
    for replica in made:
        replica.close()


def cut(url):
    """End all connections to the database, as a network does that fails."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


def test_one_leads_and_the_next_when_that_is_gone(replicas):
    first, second = replicas
    assert first.leads()
    assert first.leadership.term() == 1
    assert not second.leads()
    with pytest.raises(NotLeading, match="Another replica"):
        second.leadership.term()
    assert first.leadership.others()
    assert second.leadership.fits()
    # What a replica writes that does not lead, because it was asked to, is as good as any.
    second.write("A")
    first.leadership.close()
    assert second.leads(30.0)
    assert second.leadership.term() == 2
    eventually(lambda: not second.leadership.others())


def test_a_leader_whose_session_was_cut_leads_on_where_nobody_has_led_meanwhile(replicas, postgresql):
    first, _ = replicas
    assert first.leads()
    before = first.leadership._connection
    cut(postgresql)
    eventually(lambda: first.leadership._locked and first.leadership._connection not in (None, before))
    assert first.leadership.term() == 1
    first.write("A")
    assert not first.deposed.is_set()


def test_a_leader_that_was_overtaken_writes_nothing_and_learns_of_it(replicas, monkeypatch):
    # It asks the server for itself too late.
    monkeypatch.setattr(leadership, "ASK_SECONDS", 60.0)
    first, second = replicas
    assert first.leads()
    first.leadership._let_go()
    assert second.leads(30.0)
    with pytest.raises(Deposed):
        first.write("A")
    assert first.deposed.is_set()
    second.write("A")


def test_a_leader_that_only_looks_learns_that_it_was_overtaken(replicas):
    first, second = replicas
    assert first.leads()
    second.leadership._locked = True
    second.leadership.begin()
    assert first.deposed.wait(30)


def test_a_leader_that_hears_nothing_stops_before_another_may_begin(replicas, monkeypatch):
    first, _ = replicas
    assert leadership.TRUSTED_SECONDS < leadership.LEASE_SECONDS
    assert first.leads()
    now = leadership._now()
    monkeypatch.setattr(leadership, "_now", lambda: now + leadership.TRUSTED_SECONDS + 1)
    with pytest.raises(NotLeading, match="does not say"):
        first.leadership.term()


def test_a_session_that_says_nothing_loses_the_lock(replicas, monkeypatch):
    monkeypatch.setattr(leadership, "LEASE_SECONDS", 0.5)
    monkeypatch.setattr(leadership, "ASK_SECONDS", 60.0)
    first, second = replicas
    assert first.leads()
    assert second.leads(30.0)


def test_who_claimed_the_lead_and_cannot_begin_leaves_it_to_another(replicas, postgresql):
    first, second = replicas
    with psycopg.connect(postgresql, autocommit=True) as connection:
        (name,) = connection.execute("SELECT current_database()").fetchone()
        # The session that holds the lock is there already; one that is to write is not.
        assert first.leadership.claim(0.0)
        connection.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
        first.database.engine.dispose()
        with pytest.raises(UNAVAILABLE):
            first.leadership.begin()
        with pytest.raises(NotLeading):
            first.leadership.term()
        connection.execute(f'ALTER DATABASE "{name}" RESET default_transaction_read_only')
    assert second.leads(30.0)
    assert second.leadership.term() == 1
    assert not first.leads()


def test_on_sqlite_there_is_one(tmp_path):
    replica = Replica(sqlite_url(tmp_path / "phalanx.db"))
    assert replica.leads()
    assert replica.leadership.term() is None
    assert not replica.leadership.others()
    replica.close()


def test_commits_are_told_to_others_and_what_was_missed_is_asked_for(replicas, postgresql):
    first, second = replicas
    assert first.leads()
    told = {WRITTEN: 0, "other": 0}

    def count(what):
        told[what] += 1

    heard = News(first.database, {what: lambda what=what: count(what) for what in told})
    heard.open()
    eventually(heard.fresh)
    assert told == {WRITTEN: 1, "other": 1}
    second.write("A")
    eventually(lambda: told[WRITTEN] == 2)
    # The leader's own are not news; what it is to tell it tells.
    first.write("B")
    with first.database.write(tell="other"):
        pass
    eventually(lambda: told["other"] == 2)
    assert told[WRITTEN] == 2
    with pytest.raises(ZeroDivisionError), second.database.write():
        raise ZeroDivisionError
    cut(postgresql)
    eventually(lambda: told == {WRITTEN: 3, "other": 3})
    eventually(heard.fresh)
    heard.close()
    assert news.FRESH_SECONDS > news.LISTEN_SECONDS


def eventually(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
