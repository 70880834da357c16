"""What the process that gives credentials makes of what a container says to it."""

import http.client
import os
import socket
import threading
from contextlib import suppress

import pytest

from phalanx.data import lender as module
from phalanx.data.lender import Lender

PATH = "/v2/credentials/0f2a"


@pytest.fixture
def port(tmp_path):
    file = tmp_path / "lent"
    file.write_bytes(b'{"AccessKeyId": "ASIAEXAMPLE"}'.ljust(module.DOCUMENT_BYTES))
    listener, lent = socket.create_server(("127.0.0.1", 0)), os.open(file, os.O_RDONLY)

    def serve():
        with suppress(OSError):
            Lender(listener, lent, PATH.encode()).serve()

    serving = threading.Thread(target=serve)
    serving.start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    serving.join()
    listener.close()
    os.close(lent)


def get(port, path=PATH, method="GET"):
    asking = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        asking.request(method, path)
        answer = asking.getresponse()
        assert answer.getheader("Content-Type") == "application/json"
        return answer.status, answer.read()
    finally:
        asking.close()


def said(port, *pieces):
    """What comes back for raw bytes."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as asking:
        with suppress(OSError):
            for piece in pieces:
                asking.sendall(piece)
        answer = b""
        with suppress(ConnectionResetError):
            while more := asking.recv(4096):
                answer += more
        return answer


def test_the_path_has_the_document(port):
    assert get(port) == (200, b'{"AccessKeyId": "ASIAEXAMPLE"}')


@pytest.mark.parametrize("path", ["/", "/v2/credentials", PATH + "0", PATH + "?a=b", "/latest/meta-data/"])
def test_elsewhere_is_none(port, path):
    assert get(port, path)[0] == 404


def test_nothing_but_get_is_understood(port):
    assert get(port, method="PUT")[0] == 400
    for garbage in (b"", b"GET", f"GET {PATH}".encode(), f"GET {PATH} SPDY/3".encode(), b"\0" * 64):
        assert said(port, garbage + b"\r\n\r\n").startswith(b"HTTP/1.1 400 ")


def test_a_request_in_pieces_is_one(port):
    assert said(port, b"GET ", PATH.encode(), b" HTTP/1.1\r\nHost: x\r\n", b"\r\n").startswith(b"HTTP/1.1 200 ")


def test_who_says_nothing_says_too_much_or_leaves_harms_nobody(port, monkeypatch):
    monkeypatch.setattr(module, "_REQUEST_SECONDS", 0.05)
    assert said(port) == b""
    said(port, b"x" * 100_000)
    with socket.create_connection(("127.0.0.1", port)):
        pass
    assert get(port)[0] == 200
