"""What a client receives, write by write."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from asgi import listening

FIRST, SECOND = b"a" * 5000, b"HTTP/1.1 200 OK\r\n\r\n"


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Answers with a body; without one; with parts of one, the second after a while."""
    path = scope["path"]
    if path == "/received":
        while (await receive()).get("more_body"):
            pass
    length = {"/none": 0, "/parts": len(FIRST + SECOND)}.get(path, len(FIRST))
    headers = [(b"content-length", str(length).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    if path == "/parts":
        await send({"type": "http.response.body", "body": FIRST, "more_body": True})
        await asyncio.sleep(0.05)
        await send({"type": "http.response.body", "body": SECOND})
    else:
        await send({"type": "http.response.body", "body": b"" if path == "/none" else FIRST})


@pytest.fixture(scope="module")
def address() -> Iterator[tuple[str, int]]:
    with listening(application) as url:
        parts = urlsplit(url)
        yield parts.hostname, parts.port


@pytest.fixture
def client(address: tuple[str, int]) -> Iterator[socket.socket]:
    with socket.create_connection(address, timeout=10) as connected:
        yield connected


def segments(client: socket.socket) -> int:
    """Segments with data that have come: tcpi_data_segs_in of struct tcp_info (linux/tcp.h)."""
    return struct.unpack_from("I", client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 160), 152)[0]


def test_head_and_body_arrive_together(client: socket.socket) -> None:
    """Between two writes a process can be killed, and a client that has the head alone need not notice."""
    for number in range(1, 101):
        client.sendall(b"GET /whole HTTP/1.1\r\nhost: a\r\n\r\n")
        assert client.recv(1 << 16).endswith(b"\r\n\r\n" + FIRST)
        assert segments(client) == number


@pytest.mark.parametrize("request_line", [b"GET /none", b"HEAD /whole"])
def test_an_answer_without_a_body_arrives(client: socket.socket, request_line: bytes) -> None:
    client.sendall(request_line + b" HTTP/1.1\r\nhost: a\r\n\r\n")
    assert client.recv(1 << 16).endswith(b"\r\n\r\n")


def test_a_body_in_parts_keeps_its_order(client: socket.socket) -> None:
    client.sendall(b"GET /parts HTTP/1.1\r\nhost: a\r\n\r\n")
    assert client.recv(1 << 16).endswith(b"\r\n\r\n" + FIRST)
    assert client.recv(1 << 16) == SECOND


def test_answers_to_requests_in_one_go_keep_their_order(client: socket.socket) -> None:
    last = b"GET /whole HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"
    client.sendall(b"GET /none HTTP/1.1\r\nhost: a\r\n\r\n" * 3 + last)
    received = b"".join(iter(lambda: client.recv(1 << 16), b""))
    assert received.count(b"HTTP/1.1 200") == 4
    assert received.endswith(b"\r\n\r\n" + FIRST)


def test_a_client_that_asks_whether_to_go_on_is_told_at_once(client: socket.socket) -> None:
    client.sendall(b"PUT /received HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n")
    assert client.recv(1 << 16) == b"HTTP/1.1 100 Continue\r\n\r\n"
    client.sendall(b"abc")
    assert client.recv(1 << 16).endswith(FIRST)


def test_what_is_no_request_gets_the_whole_refusal(client: socket.socket) -> None:
    client.sendall(b"\0\r\n\r\n")
    received = b"".join(iter(lambda: client.recv(1 << 16), b""))
    assert received.startswith(b"HTTP/1.1 400")
    assert received.endswith(b"Invalid HTTP request received.")


@pytest.mark.parametrize(
    "endless",
    [
        (b"GET / HTTP/1.1\r\nhost: a\r\n", b"a:b\r\n" * 100_000),
        (b"GET / HTTP/1.1\r\nhost: a\r\nx: ", b"x" * 2_000_000),
        (b"GET /?", b"x" * 2_000_000),
    ],
)
def test_a_head_without_end_is_not_kept(address: tuple[str, int], client: socket.socket, endless: tuple[bytes, bytes]) -> None:
    """Anybody could fill the memory by it, and have the loop work for minutes, before their signature is looked at."""
    with contextlib.suppress(ConnectionError):
        for part in endless:
            client.sendall(part)
    received = b""
    with contextlib.suppress(ConnectionError):
        received = b"".join(iter(lambda: client.recv(1 << 16), b""))
    assert received == b"" or received.startswith(b"HTTP/1.1 400")
    with socket.create_connection(address, timeout=10) as another:
        another.sendall(b"GET /whole HTTP/1.1\r\nhost: a\r\n\r\n")
        assert another.recv(1 << 16).endswith(FIRST)


def test_a_long_body_that_comes_with_the_end_of_its_head_is_taken(client: socket.socket) -> None:
    length = 4 << 20
    client.sendall(b"PUT /received HTTP/1.1\r\nhost: a\r\ncontent-le")
    time.sleep(0.05)
    client.sendall(b"ngth: %d\r\n\r\n" % length + bytes(length))
    assert client.recv(1 << 16).endswith(FIRST)


def test_a_client_that_is_gone_ends_nothing(address: tuple[str, int], client: socket.socket) -> None:
    for _ in range(50):
        with socket.create_connection(address) as gone:
            gone.sendall(b"GET /parts HTTP/1.1\r\nhost: a\r\n\r\n")
    time.sleep(0.1)
    test_head_and_body_arrive_together(client)


@pytest.mark.parametrize("begun", [b"", b"\r\n", b"GET /whole HT", b"GET /whole HTTP/1.1\r\nhost: a\r\n"])
@pytest.mark.parametrize("before", [0, 2])
def test_a_client_that_does_not_say_what_it_wants_is_not_waited_for(begun: bytes, before: int) -> None:
    """Else who has no key, too, could hold all connections that there may be."""
    with listening(application, idle=1) as url:
        parts = urlsplit(url)
        with socket.create_connection((parts.hostname, parts.port), timeout=10) as client:
            for _ in range(before):
                client.sendall(b"GET /whole HTTP/1.1\r\nhost: a\r\n\r\n")
                assert client.recv(1 << 16).endswith(FIRST)
            client.sendall(begun)
            assert client.recv(1 << 16) == b""


def test_a_client_that_sends_for_long_is_waited_for() -> None:
    with listening(application, idle=1) as url:
        parts = urlsplit(url)
        with socket.create_connection((parts.hostname, parts.port), timeout=10) as client:
            client.sendall(b"PUT /received HTTP/1.1\r\nhost: a\r\ncontent-length: 12\r\n\r\n")
            for _ in range(12):
                time.sleep(0.2)
                client.sendall(b"a")
            assert client.recv(1 << 16).endswith(FIRST)
