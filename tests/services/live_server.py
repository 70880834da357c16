"""A live server for tests, which real clients can reach."""

from contextlib import contextmanager

from asgi import listening
from guards import Open
from phalanx.wire.app import application
from phalanx.wire.sigv4 import Principal


@contextmanager
def serving(services):
    """A live server with these services; its URL. It knows one key: AKIAEXAMPLE with the secret `secret`."""
    keys = {"AKIAEXAMPLE": Principal("secret", "arn:aws:iam::123456789012:user/admin", "AIDAEXAMPLE")}
    app = application(services, keys.get, "123456789012", Open())
    with listening(app) as url:
        yield url
