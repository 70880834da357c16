"""Which services may run on one data directory."""

import os
import threading
import time

import psycopg
import pytest
import typer

from phalanx.cli import replica
from phalanx.cli.replica import CLAIM_SECONDS, Replica, numbered, place
from phalanx.store.database import Database

URL = "postgresql://phalanx@localhost/phalanx"


def test_one_service_has_a_data_directory_whose_jobs_are_in_a_file(tmp_path, capsys):
    number, lock = place(tmp_path, None)
    assert number == 1
    with pytest.raises(typer.Exit):
        place(tmp_path, None)
    assert "Give this one its own: --data-dir DIR" in capsys.readouterr().err
    os.close(lock)
    os.close(place(tmp_path, None)[1])


def test_several_share_one_whose_jobs_are_in_the_same_postgresql(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(replica, "REPLICAS", 3)
    (tmp_path / "database").write_text(URL)
    first, second, third = place(tmp_path, URL), place(tmp_path, None), place(tmp_path, URL)
    assert [number for number, _ in (first, second, third)] == [1, 2, 3]
    with pytest.raises(typer.Exit):
        place(tmp_path, "postgresql://phalanx@elsewhere/phalanx")
    with pytest.raises(typer.Exit):
        place(tmp_path, None)
    assert "3 services run on" in capsys.readouterr().err
    os.close(second[1])
    again = place(tmp_path, None)
    assert again[0] == 2
    for _, lock in (first, again, third):
        os.close(lock)


def test_what_is_a_replicas_own_has_its_number():
    assert [numbered("audit", number) for number in (1, 2)] == ["audit", "audit.2"]


def test_a_replica_that_may_lead_and_cannot_tries_from_time_to_time(postgresql, monkeypatch):
    first, closing = Database(postgresql), threading.Event()
    leader = Replica(first, "here", threading.Event())
    leader.elect()
    second = Database(postgresql)
    follower = Replica(second, "here", closing)
    follower.elect()
    assert not follower.leads
    tried, leads = threading.Semaphore(0), threading.Event()
    begin = follower._leadership.begin
    monkeypatch.setattr(follower._leadership, "begin", lambda: (tried.release(), begin()))
    with psycopg.connect(postgresql, autocommit=True) as connection:
        (name,) = connection.execute("SELECT current_database()").fetchone()
        # No room for another session than the one that is to hold the lock.
        connection.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
        # The session that is to hold the lock is there already; those that are to write are not.
        second.engine.dispose()
        follower.follow(leads.set)
        leader.close()
        first.close()
        assert tried.acquire(timeout=30)
        begun = time.monotonic()
        for _ in range(2):
            assert tried.acquire(timeout=30)
        assert time.monotonic() - begun > CLAIM_SECONDS
        assert not leads.is_set()
        connection.execute(f'ALTER DATABASE "{name}" RESET default_transaction_read_only')
        assert leads.wait(30)
    closing.set()
    follower.close()
    second.close()
