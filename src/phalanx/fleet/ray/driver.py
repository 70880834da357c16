"""The control plane's end of Ray, in a process of its own: whatever becomes of Ray, the control plane goes on.

    python -m phalanx.fleet.ray.driver DATA_DIR ADDRESS PORT IMAGES

It answers lines on a Unix socket, and ends with its standard input, which is the control plane's other end. What Ray has to
be told (`credentials.environment`) is in its environment: Ray reads it as soon as it is imported. Hosts that lack an image
get it here, from this machine's store (IMAGES).
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

import ray
import structlog
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from phalanx.fleet.ray.runtime import HOST, HOST_PORTS, NAMESPACE, PORTS, SOCKET, Runtime, directory
from phalanx.linux import files
from phalanx.linux.signals import Signals
from phalanx.node import logging, protocol
from phalanx.node.depot import Certificates, Depot
from phalanx.node.messages import Offer, encode
from phalanx.node.names import Names

LOOK_SECONDS = 0.5
"""How often Ray is asked which hosts there are."""
START_SECONDS = 60.0
SILENT_SECONDS = 60.0
"""A control plane that has not asked for the hosts for so long is stopped, or does not lead any more: they are another's."""
_EXPECTED = 1
"""Ray's NodeDeathInfo.EXPECTED_TERMINATION: a node has taken its leave, instead of being missed."""
CALLS = 128
"""Calls that a host carries at a time."""

log = structlog.get_logger()


class Forwarder:
    """On each host an actor of this kind: hands lines to the host's node agent."""

    def ready(self) -> None:
        """Return once the actor runs."""

    def forward(self, line: bytes, seconds: float) -> bytes:
        """What the agent answers. Raises protocol.Unreachable."""
        return protocol.send(Path(os.environ[SOCKET]), line, seconds)


class Hosts:
    """The hosts that answer, by their addresses, and the images that they may have of us."""

    def __init__(self, depot: Depot) -> None:
        self._depot = depot
        self._forwarders: dict[str, tuple[str, Any]] = {}
        self._beginning: set[str] = set()
        self._left: set[str] = set()
        """Those that are gone and whose Ray has ended in order: what they run goes on."""
        self.asked = time.monotonic()
        """When the control plane has last asked for them."""

    def look(self) -> None:
        """Take up hosts that have come, and let go of those that are gone."""
        nodes = ray.nodes()
        alive = {node["NodeID"]: node["NodeManagerAddress"] for node in nodes if node["Alive"] and HOST in node["Resources"]}
        ended = {node["NodeID"] for node in nodes if node.get("DeathReason") == _EXPECTED}
        known = {node for node, _ in self._forwarders.values()} | self._beginning
        for node in set(alive) - known:
            self._beginning.add(node)
            threading.Thread(target=self._take_up, args=(node, alive[node]), name=node[:8], daemon=True).start()
        for address, (node, _) in list(self._forwarders.items()):
            if node not in alive:
                log.warning("a host is gone", host=address, in_order=node in ended)
                (self._left.add if node in ended else self._left.discard)(address)
                self._forwarders.pop(address, None)

    def answer(self, line: bytes) -> bytes:
        """Serve one line of the control plane's."""
        asked = json.loads(line)
        said: dict[str, object]
        if "image" in asked:
            said = self._offer(asked["image"])
        elif "host" not in asked:
            self.asked = time.monotonic()
            present = {address: node for address, (node, _) in list(self._forwarders.items())}
            said = {"hosts": present, "left": sorted(self._left)}
        else:
            said = self._call(asked["host"], asked["line"].encode(), asked["seconds"])
        return json.dumps(said).encode() + b"\n"

    def _call(self, address: str, line: bytes, seconds: float) -> dict[str, object]:
        try:
            _, forwarder = self._forwarders[address]
            return {"line": ray.get(forwarder.forward.remote(line, seconds)).decode()}
        except KeyError:
            return {"unreachable": f"The host {address} is not there"}
        except RayTaskError as error:
            return {"unreachable": f"On the host {address}: {error.cause}"}
        except RayError as error:
            return {"unreachable": f"The host {address} does not answer: {str(error).splitlines()[0]}"}

    def _offer(self, image: str) -> dict[str, object]:
        try:
            found = self._depot.offer(image)
            return {"offer": None if found is None else encode(Offer, found)}
        except Exception as error:
            # The hosts have what they have.
            log.warning("images cannot be offered", reason=str(error))
            return {"offer": None}

    def _take_up(self, node: str, address: str) -> None:
        try:
            forwarder = (
                ray.remote(Forwarder)
                .options(
                    name=node,
                    namespace=NAMESPACE,
                    lifetime="detached",
                    get_if_exists=True,
                    num_cpus=0,
                    max_restarts=-1,
                    max_concurrency=CALLS,
                    scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False),
                )
                .remote()
            )
            ray.get(forwarder.ready.remote(), timeout=START_SECONDS)
            self._forwarders[address] = (node, forwarder)
            log.info("a host has joined", host=address)
        except RayError as error:
            log.warning("a host cannot be taken up and will be tried again", host=address, reason=str(error))
            time.sleep(1.0)
        finally:
            self._beginning.discard(node)


def main() -> None:
    """Serve until standard input ends, or SIGTERM."""
    logging.configure()
    data_dir, address, port, images = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), Path(sys.argv[4])
    names, kept = Names(data_dir), data_dir / "ray"
    # An earlier one, whose control plane was killed, is about to end.
    lock = os.open(kept / "driver.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    head = f"{address}:{port}"
    runtime, ending = Runtime(names, {}, kept / "ray.log"), threading.Event()
    try:
        # What one that was killed has left, its socket above all.
        runtime.stop()
        runtime.start_head(address, port, _ports(names, kept / "ports"))
        _connect(head, runtime)
        # Ray has set a handler of its own.
        signals = Signals(signal.SIGTERM)
        path = directory(names) / "driver.sock"
        depot = _depot(data_dir, address, images)
        depot.open()
        hosts = Hosts(depot)
        server = protocol.LineServer(path, hosts.answer, 2 * protocol.LINE_LIMIT)
        threading.Thread(target=server.serve_forever, name="calls", daemon=True).start()
        threading.Thread(target=_look, args=(hosts, runtime, ending), name="hosts", daemon=True).start()
        log.info("fleet ready", address=head)
        select.select([sys.stdin, signals], [], [])
    finally:
        ending.set()
        with contextlib.suppress(Exception):
            ray.shutdown()
        runtime.stop()


def _ports(names: Names, file: Path) -> int:
    """The first of Ray's ports here: those that it had before, so that what firewalls were told stays true; else free ones.

    Other control planes and a host may be on this machine as well: each control plane begins to look somewhere else.
    """
    if not file.exists():
        # Below those that kernels give to whoever asks for any.
        blocks = range(HOST_PORTS + PORTS, 2 * HOST_PORTS, PORTS)
        begin = int(names.tag, 16) % len(blocks)
        files.replace(file, str(next(first for first in (*blocks[begin:], *blocks[:begin]) if _free(first))))
    return int(file.read_text())


def _free(first: int) -> bool:
    with contextlib.ExitStack() as opened:
        try:
            for port in range(first, first + PORTS):
                opened.enter_context(socket.create_server(("", port)))
        except OSError:
            return False
    return True


def _depot(data_dir: Path, address: str, images: Path) -> Depot:
    """At the port that it had before, since instances that are being started were told of that."""
    kept, file = data_dir / "ray", data_dir / "ray" / "images.port"
    certificates = Certificates(kept / "authority.pem", kept / "host.pem", kept / "host.key")
    depot = Depot(images, data_dir / "images", address, int(file.read_text()) if file.exists() else 0, certificates)
    files.replace(file, str(depot.port))
    return depot


def _look(hosts: Hosts, runtime: Runtime, ending: threading.Event) -> None:
    while runtime.runs():
        try:
            hosts.look()
        except Exception:
            log.exception("cannot look at the hosts")
        if time.monotonic() - hosts.asked > SILENT_SECONDS:
            log.error("the control plane does not look after its hosts: they may join another")
            os.kill(os.getpid(), signal.SIGTERM)
            return
        if ending.wait(LOOK_SECONDS):
            return
    # Without its head nothing of it can be saved: the control plane starts another.
    log.error("Ray has ended")
    os.kill(os.getpid(), signal.SIGTERM)


def _connect(head: str, runtime: Runtime) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            ray.init(address=head, namespace=NAMESPACE, log_to_driver=False, configure_logging=False)
            return
        except (ConnectionError, RuntimeError, RayError) as error:
            if not runtime.runs() or time.monotonic() > deadline:
                sys.exit(f"Ray does not start: {error}")
            ray.shutdown()
            time.sleep(0.5)


if __name__ == "__main__":
    main()
