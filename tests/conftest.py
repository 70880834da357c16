"""PostgreSQL for tests that want it, and for all that have a store: `pytest --postgresql tests/jobs tests/services …`."""

import hashlib
import os
import signal

import pytest
from hypothesis import HealthCheck, settings

from phalanx.store import database
from postgres import Postgres

# How long an example takes says what else the machine does.
settings.register_profile("phalanx", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("phalanx")

_servers = []
_made = set()


def pytest_addoption(parser):
    parser.addoption("--postgresql", action="store_true", help="keep every store of the tests in PostgreSQL instead of SQLite")


def pytest_configure(config):
    if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
        # Under nohup: what tests start would inherit it, and not hear SIGHUP either. A handler goes with the next program.
        signal.signal(signal.SIGHUP, lambda _number, _frame: None)
    if config.getoption("--postgresql"):
        # Before any test imports it.
        database.sqlite_url = _instead


def pytest_collection_modifyitems(items):
    """Files of whole jobs first: the last one to end should be a short one, or a core has nothing to do meanwhile."""
    items.sort(key=lambda item: "e2e" not in item.path.parts)


def pytest_unconfigure():
    while _servers:
        _servers.pop().close()


@pytest.fixture
def postgresql(request):
    """The URL of an empty database, in a server that the session shares."""
    return _url(request.node.nodeid)


@pytest.fixture
def synced(monkeypatch):
    """The numbers (inodes) of all files that the process has had written to the disk."""
    inodes, fsync = set(), os.fsync

    def seen(descriptor):
        fsync(descriptor)
        inodes.add(os.fstat(descriptor).st_ino)

    monkeypatch.setattr(os, "fsync", seen)
    return inodes


def _instead(path):
    """Each path is a database of its own; commands that are given its directory find it too."""
    url = _url(str(path))
    (path.parent / "database").write_text(url)
    return url


def _url(name):
    if not _servers:
        _servers.append(Postgres())
        _servers[0].start()
    short = hashlib.sha256(name.encode()).hexdigest()[:16]
    if short in _made:
        return _servers[0].url(short)
    _made.add(short)
    return _servers[0].fresh(short)
