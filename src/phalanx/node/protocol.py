"""How the agent is called: one JSON line each way on a Unix socket. Types come from the Agent's own signatures."""

from __future__ import annotations

import contextlib
import inspect
import json
import socket
import socketserver
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from phalanx.node.messages import decode, encode
from phalanx.node.terms import Terms

LINE_LIMIT = 64 * 1024 * 1024
"""Bytes of the longest request or answer."""

READING = frozenset({"capacity", "has_image", "mtu", "statuses", "logs", "measure", "usage"})
"""Calls that change nothing, which any replica of a control plane may make; all others are the leader's."""
WHOLE = frozenset({"place", "enforce"})
"""Calls that must not be under way any more when another leads: what they do late would stand beside what it does."""


class CallFailed(Exception):
    """The agent refused or failed a call; the text says why."""


class Unreachable(Exception):
    """No agent answers on the socket."""


class Hanging(Unreachable):
    """There is an agent, but it did not answer in time."""


class LineServer(socketserver.ThreadingUnixStreamServer):
    """Serves lines of at most `limit` bytes on the socket `path`, each connection in a thread: `answer` gives each its line."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, path: Path, answer: Callable[[bytes], bytes], limit: int) -> None:
        super().__init__(str(path), _Connection)
        self.answer = answer
        self.limit = limit


class _Connection(socketserver.StreamRequestHandler):
    server: LineServer

    def handle(self) -> None:
        # Who has asked may be gone by now, killed, or tired of waiting: there is nobody to tell, and no fault to report.
        with contextlib.suppress(ConnectionError):
            for line in iter(lambda: self.rfile.readline(self.server.limit), b""):
                self.wfile.write(self.server.answer(line))


def call(path: Path, agent: type, method: str, arguments: Mapping[str, object], timeout: float, term: int | None = None) -> Any:
    """Call `method` of the agent behind a socket, for `timeout` seconds at most. Raises CallFailed, Unreachable or Hanging."""
    return result(agent, method, send(path, request(agent, method, arguments, term), timeout))


def request(agent: type, method: str, arguments: Mapping[str, object], term: int | None = None) -> bytes:
    """The line that asks for a call; `term` is the leader's, where a control plane has replicas."""
    parameters, _ = _signature(agent, method)
    encoded = {name: encode(parameters[name], value) for name, value in arguments.items()}
    given = {} if term is None else {"term": term}
    return json.dumps({"method": method, "arguments": encoded, **given}).encode() + b"\n"


def result(agent: type, method: str, line: bytes) -> Any:
    """What an answer's line says. Raises CallFailed."""
    said = json.loads(line)
    if "error" in said:
        raise CallFailed(said["error"])
    return decode(_signature(agent, method)[1], said["result"])


def send(path: Path, line: bytes, timeout: float) -> bytes:
    """Send a line to the agent behind a socket, and return its answer's, as they are. Raises Unreachable or Hanging."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(timeout)
            connection.connect(str(path))
            connection.sendall(line)
            with connection.makefile("rb") as stream:
                answered = stream.readline(LINE_LIMIT)
    except TimeoutError as error:
        raise Hanging(f"The node agent at {path} did not answer within {timeout:.0f} s") from error
    except OSError as error:
        raise Unreachable(f"The node agent at {path} does not answer: {error}") from error
    if not answered.endswith(b"\n"):
        raise Unreachable(f"The node agent at {path} closed the connection")
    return answered


def answer(agent: Any, line: bytes, terms: Terms | None = None) -> bytes:
    """Serve one request line. `terms` tell whose orders are taken; without them it is anybody's who can reach the socket."""
    try:
        request = json.loads(line)
        method = request["method"]
        parameters, returns = _signature(type(agent), method)
        arguments = {name: decode(parameters[name], value) for name, value in request["arguments"].items()}
        ordered: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
        if terms is not None and method not in READING:
            ordered = terms.order(request.get("term"), method in WHOLE)
        with ordered:
            result = encode(returns, getattr(agent, method)(**arguments))
        return json.dumps({"result": result}).encode() + b"\n"
    except Exception as error:
        # The caller decides what a failure means; to the agent no request may be fatal.
        return json.dumps({"error": str(error) or type(error).__name__}).encode() + b"\n"


def _signature(agent: type, method: str) -> tuple[dict[str, Any], Any]:
    if method.startswith("_"):
        raise CallFailed(f"no such call: {method}")
    hints = typing.get_type_hints(inspect.getattr_static(agent, method))
    returns = hints.pop("return")
    return hints, returns
