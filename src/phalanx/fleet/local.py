"""The local fleet: this host, through one node agent in a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import structlog

from phalanx.fleet import host
from phalanx.fleet.base import FleetError, NoRoom, Refused, Room, Unreachable
from phalanx.fleet.host import Host
from phalanx.linux import files
from phalanx.node import protocol
from phalanx.node.agent import REGISTRIES, Agent
from phalanx.node.messages import InstanceSpec, InstanceStatus
from phalanx.node.names import Names

START_SECONDS = 60.0
"""How long an agent may take until it answers: it first takes up the instances that an earlier one left."""

log = structlog.get_logger()


class LocalFleet(Host):
    """Starts the agent, keeps it running, and speaks to it. See `Fleet` for what the calls mean."""

    def __init__(
        self,
        data_dir: Path,
        images: Path,
        registries: Sequence[str] = (),
        term: Callable[[], int | None] = lambda: None,
    ) -> None:
        super().__init__(term)
        self._names = Names(data_dir)
        self._images = images
        self._registries = registries
        self._process: subprocess.Popen[bytes] | None = None
        self._starting = threading.Lock()

    def open(self, planned: Collection[str] | None = None, *, lead: bool = True) -> None:
        """Find this service's agent or start one; returns when it answers. With `lead` its orders come from here, and not from
        the control plane of a fleet. Raises FleetError.

        Instances that are not `planned` are no job's, where that is said, and are taken down: a service that was brought back
        from a backup finds such.
        """
        self._ensure_agent()
        if lead:
            self.lead()
        self._refresh()
        self._watcher.start()
        if planned is not None and (unknown := [id_ for id_ in self.everything() if id_ not in planned]):
            log.warning("there are instances of which nothing is known: they are taken down", instances=unknown)
            try:
                self.destroy(unknown)
            except FleetError as error:
                # The next start tries it again; meanwhile they are guarded, as they were.
                log.error("they cannot be taken down", reason=str(error))

    def close(self) -> None:
        """Stop the agent. Instances that still run stay, guarded, until a later agent takes them up."""
        if self._watcher.is_alive():
            try:
                # One that has just died or hangs cannot clear up behind itself.
                self._ensure_agent()
            except FleetError as error:
                log.error("no node agent clears up", reason=str(error))
        with self._starting:
            self._closing.set()
        told: set[int] = set()
        deadline = time.monotonic() + START_SECONDS
        while (agents := set(self._agents())) and time.monotonic() < deadline:
            for pid in agents - told:
                _signal(pid, signal.SIGTERM)
            told |= agents
            if self._process is not None:
                self._process.poll()
            time.sleep(0.02)
        for pid in agents:
            log.error("the node agent does not end and is killed; what it leaves the next start clears away", process=pid)
            _signal(pid, signal.SIGKILL)

    def rooms(self, *, draining: bool = False) -> list[Room]:
        """See Fleet. This host always takes some."""
        return [Room.whole(self.capacity())]

    def place(self, specs: Sequence[InstanceSpec]) -> None:
        """See Fleet."""
        if len(specs) > 1 and any(spec.spread for spec in specs):
            reason = f"There is one host, for {len(specs)} instances that shall each have a host of their own."
            raise NoRoom(reason, ever=False, soon=False)
        super().place(specs)

    def statuses(self, ids: Sequence[str]) -> dict[str, InstanceStatus]:
        """See Fleet. A replica that does not lead asks each time."""
        if not self._watcher.is_alive():
            with contextlib.suppress(FleetError):
                self._refresh()
        return super().statuses(ids)

    def _call(self, method: str, seconds: float = host.CALL_SECONDS, /, **arguments: object) -> Any:
        term = self._term_for(method)
        try:
            return protocol.call(self._names.agent_socket, Agent, method, arguments, seconds, term)
        except protocol.Hanging as error:
            # It keeps nothing that its successor does not find; calls that wait for it fail now, and are repeated.
            for pid in self._agents():
                log.warning("the node agent hangs and is killed", process=pid)
                _signal(pid, signal.SIGKILL)
            raise Unreachable(str(error)) from error
        except protocol.Unreachable as error:
            raise Unreachable(str(error)) from error
        except protocol.CallFailed as error:
            raise Refused(str(error)) from error

    def _lost(self, reason: FleetError) -> None:
        log.warning("the node agent does not answer", reason=str(reason))
        try:
            self._ensure_agent()
        except FleetError as failure:
            log.error("the node agent cannot be started", reason=str(failure))
            self._closing.wait(1.0)

    def _ensure_agent(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        output = self._names.data_dir / "agent.log"
        while time.monotonic() < deadline:
            if self._closing.is_set():
                raise FleetError("The service is stopping.")
            try:
                self._call("capacity", host.ANSWER_SECONDS)
                return
            except FleetError as failure:
                reason = str(failure)
            reason = self._start_agent(output) or reason
            if os.geteuid() != 0:
                raise FleetError(
                    f"{reason}. The node agent needs root: run `phalanx serve` as root,"
                    f" or start it with `sudo python -m phalanx.node --data-dir {self._names.data_dir}`"
                )
            time.sleep(0.02)
        raise FleetError(f"The node agent did not answer within {START_SECONDS:.0f} s: {reason}; its log is {output}")

    def _start_agent(self, output: Path) -> str | None:
        """Start an agent where none runs; the last words of the one before, if it had any."""
        with self._starting:
            said = None
            if self._process is not None and self._process.poll() not in (None, 0, -signal.SIGKILL):
                said = _last_line(output)
            # To look for it among all processes takes long, and this is asked every 20 ms until it answers.
            own = self._process is not None and self._process.poll() is None
            if os.geteuid() == 0 and not own and not self._agents() and not self._closing.is_set():
                # A session of its own: a signal to the control plane's terminal must not reach the data plane's keeper.
                try:
                    with output.open("ab") as file:
                        self._process = subprocess.Popen(
                            [sys.executable, "-m", "phalanx.node", *self._arguments()],
                            stdin=subprocess.DEVNULL,
                            stdout=file,
                            stderr=file,
                            env={**os.environ, REGISTRIES: " ".join(self._registries)},
                            start_new_session=True,
                        )
                except OSError as error:
                    # No process, memory or room on the disk for it now.
                    said = f"The node agent cannot be started: {error}"
            return said

    def _arguments(self) -> list[str]:
        return ["--data-dir", str(self._names.data_dir), "--images", str(self._images)]

    def _agents(self) -> list[int]:
        """Process ids of this service's agents, whoever started them."""
        wanted = "\0".join(["-m", "phalanx.node", *self._arguments()]).encode()
        parents = {}
        for path in Path("/proc").glob("[0-9]*"):
            try:
                if (path / "cmdline").read_bytes().rstrip(b"\0").endswith(wanted):
                    # proc(5): the name, in parentheses, may hold anything; the state and the parent follow it.
                    parents[int(path.name)] = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue  # it ended while we looked
        # A program that an agent starts has the agent's command line up to its exec; a signal would hit that program.
        return [pid for pid, parent in parents.items() if parent not in parents]


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _last_line(path: Path) -> str:
    last = "".join(files.last_lines(path))
    try:
        said = json.loads(last)
        return str(said.get("exception", said["event"])).splitlines()[-1]
    except (ValueError, TypeError, LookupError, AttributeError):
        return last
