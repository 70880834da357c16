import pytest

import embedded_s3
from phalanx.data import objects


@pytest.fixture(scope="session")
def free_port():
    """Gives ports of 127.0.0.1 that nobody listens on."""
    return embedded_s3.free_port


@pytest.fixture(scope="session")
def s3(tmp_path_factory):
    """The real embedded S3."""
    with embedded_s3.running(tmp_path_factory.mktemp("s3")) as s3:
        yield s3


@pytest.fixture
def store(s3):
    return s3.store


@pytest.fixture
def bucket(store, request):
    """A bucket of the test's own, and a client."""
    name = "b-" + "".join(c if c.isalnum() else "-" for c in request.node.name.lower())[:50].strip("-")
    objects.ensure_bucket(store, name)
    return name, objects.client(store)
