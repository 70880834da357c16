"""ASGI applications that real clients can reach, behind the connections that Phalanx's own are behind."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from phalanx.wire.connection import Connection


@contextmanager
def listening(app: Any, log_level: str = "warning", idle: int = 5) -> Iterator[str]:
    """The application, live on loopback; its URL. An `idle` connection stays for so many seconds."""
    config = uvicorn.Config(app, host="127.0.0.1", port=0, http=Connection, log_level=log_level, lifespan="off")
    config.timeout_keep_alive = idle
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
