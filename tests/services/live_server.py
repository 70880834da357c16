"""A live server for tests, which real clients can reach."""

import threading
import time
from contextlib import contextmanager

import uvicorn

from phalanx.wire.app import application
from phalanx.wire.sigv4 import Principal


@contextmanager
def serving(services):
    """A live server with these services; its URL. It knows one key: AKIAEXAMPLE with the secret `secret`."""
    keys = {"AKIAEXAMPLE": Principal("secret", "arn:aws:iam::123456789012:user/admin", "AIDAEXAMPLE")}
    app = application(services, keys.get, "123456789012")
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
