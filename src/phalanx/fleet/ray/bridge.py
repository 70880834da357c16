"""The control plane's way to the hosts: starts the driver, keeps it running, and has it carry calls."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import structlog

from phalanx.fleet.base import FleetError, Refused, Unreachable
from phalanx.fleet.host import ANSWER_SECONDS
from phalanx.fleet.ray.credentials import Authority, environment
from phalanx.fleet.ray.runtime import directory
from phalanx.node import protocol
from phalanx.node.agent import Agent
from phalanx.node.messages import Offer, decode
from phalanx.node.names import Names

START_SECONDS = 90.0
END_SECONDS = 30.0

log = structlog.get_logger()


class Bridge:
    """Asks the driver. All methods may be called from any thread."""

    def __init__(self, data_dir: Path, address: str, port: int, images: Path) -> None:
        self._arguments = [str(data_dir), address, str(port), str(images)]
        kept = data_dir / "ray"
        self._environment = environment(Authority(kept).invite(f"{address}:{port}", address, None), kept)
        self._log = kept / "driver.log"
        self._socket = directory(Names(data_dir)) / "driver.sock"
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def open(self) -> None:
        """Start the driver where none runs; returns when it answers. Raises FleetError."""
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                with self._log.open("ab") as output:
                    self._process = subprocess.Popen(
                        [sys.executable, "-m", "phalanx.fleet.ray.driver", *self._arguments],
                        stdin=subprocess.PIPE,
                        stdout=output,
                        stderr=output,
                        env={**os.environ, **self._environment},
                        start_new_session=True,
                    )
            deadline = time.monotonic() + START_SECONDS
            while self._process.poll() is None and time.monotonic() < deadline:
                try:
                    self.hosts()
                    return
                except Unreachable:
                    time.sleep(0.1)
            # Where it hangs, the next attempt begins anew.
            self._process.kill()
            self._process.wait()
            raise FleetError(f"Ray does not start; see {self._log} and ray.log beside it")

    def close(self) -> None:
        """End the driver, and with it the control plane's part of Ray. Hosts wait for the next."""
        with self._lock:
            if self._process is None:
                return
            if self._process.stdin is not None:
                self._process.stdin.close()
            try:
                self._process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                log.error("the driver of Ray does not end and is killed")
                self._process.kill()
                self._process.wait()

    def hosts(self) -> tuple[dict[str, str], set[str]]:
        """The hosts that answer, by address; the value changes when a host has joined anew. And those that have left in order.
        Raises Unreachable."""
        found = self._ask({}, ANSWER_SECONDS)
        return found["hosts"], set(found["left"])

    def offer(self, image: str) -> Offer | None:
        """What a job's image is in this machine's store; None where it is not there. Raises Unreachable."""
        found = self._ask({"image": image}, ANSWER_SECONDS)["offer"]
        return None if found is None else decode(Offer, found)

    def call(self, address: str, method: str, seconds: float, arguments: dict[str, object], term: int | None) -> Any:
        """Call `method` of a host's agent, in the leader's `term`. Raises Unreachable or Refused."""
        line = protocol.request(Agent, method, arguments, term).decode()
        said = self._ask({"host": address, "line": line, "seconds": seconds}, seconds + ANSWER_SECONDS)
        if "unreachable" in said:
            raise Unreachable(said["unreachable"])
        try:
            return protocol.result(Agent, method, said["line"].encode())
        except protocol.CallFailed as error:
            raise Refused(str(error)) from error

    def _ask(self, message: dict[str, object], seconds: float) -> dict[str, Any]:
        try:
            answer = protocol.send(self._socket, json.dumps(message).encode() + b"\n", seconds)
        except protocol.Unreachable as error:
            raise Unreachable(f"Ray's driver does not answer: {error}") from error
        found: dict[str, Any] = json.loads(answer)
        return found
