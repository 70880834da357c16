import socket

import pytest

from phalanx.data import objects
from phalanx.data.server import S3Server


@pytest.fixture(scope="session")
def free_port():
    """Gives ports of 127.0.0.1 that nobody listens on."""

    def find():
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return probe.getsockname()[1]

    return find


@pytest.fixture(scope="session")
def s3(tmp_path_factory, free_port):
    """The real embedded S3 server."""
    directory = tmp_path_factory.mktemp("s3")
    server = S3Server(directory / "s3", "127.0.0.1", free_port(), "AKIATEST", 'sec"ret/+=x', directory / "s3.log")
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture
def store(s3):
    return s3.store


@pytest.fixture
def bucket(store, request):
    """A bucket of the test's own, and a client."""
    name = "b-" + "".join(c if c.isalnum() else "-" for c in request.node.name.lower())[:50].strip("-")
    objects.ensure_bucket(store, name)
    return name, objects.client(store)
