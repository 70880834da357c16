"""The engine process of one instance, seen from outside: start, adopt, measure, stop."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from phalanx.ipsec import routing
from phalanx.ipsec.engine.core import built
from phalanx.ipsec.engine.errors import EngineError
from phalanx.ipsec.model import Work
from phalanx.ipsec.plane import Association, PlaneReport, Totals
from phalanx.linux import files
from phalanx.linux.descriptors import readable

XFRM_SOCKET = "xfrm.sock"
CONTROL_SOCKET = "engine.sock"
SETTINGS = "engine.json"
LOG = "engine.log"
LOCK = "engine.lock"
"""Locked twice: by the engine while it lives (fcntl, which tells its process id), by whoever starts or stops it (flock)."""
READY = b"ready"

DEAD = "the ESP engine is dead or does not answer"
"""What is wrong with an engine that says nothing."""

_ASSOCIATION, _TOTALS = (tuple(each.name for each in fields(kind)) for kind in (Association, Totals))
"""Of an engine's report, which may be that of an earlier version."""

START_SECONDS = 30.0
ANSWER_SECONDS = 5.0
STOP_SECONDS = 5.0


class Engine:
    """The engine process of one instance.

    `space` is the path of the instance's network namespace; `rundir` an existing private directory on tmpfs, short enough
    for a Unix socket. The process outlives whoever starts it; this class keeps no state and finds it by its control socket.
    """

    def __init__(self, space: str, rundir: Path) -> None:
        self._netns = space
        self._rundir = rundir

    @property
    def xfrm_socket(self) -> Path:
        """Where an IKE daemon's XFRM messages go."""
        return self._rundir / XFRM_SOCKET

    def charon_environment(self) -> dict[str, str]:
        """Environment variables that let a process (charon, `ip xfrm …`) take the engine for the kernel's XFRM.

        Raises EngineError where the shim is not built or its path cannot be in LD_PRELOAD.
        """
        shim = str(built("_xfrm_shim"))
        if any(character in shim for character in " :"):
            raise EngineError(f"{shim} cannot be preloaded: the path has a space or a colon; install the package elsewhere")
        return {"LD_PRELOAD": shim, "PHALANX_XFRM_SOCKET": str(self.xfrm_socket)}

    def start(
        self,
        address: str,
        peers: Sequence[str],
        device: str = "eth0",
        tun: str = "ipsec0",
        *,
        udp_port: int | None = None,
        mtu: int | None = None,
        aead: str | None = None,
    ) -> None:
        """Starts the engine in the namespace, or adopts the one that runs there. Returns when it is ready.

        It makes the TUN device `tun` with routes to `peers` (IPv4 addresses) in the main table and carries what is sent
        there as ESP from `address` through `device`: as IP protocol 50, or in UDP (RFC 3948) where `udp_port` names the port
        of all ends, which no IKE daemon may have. The inner MTU follows from the device's and is `mtu` bytes at most. `aead`
        names the library for AES-GCM (core.choose_aead). Raises EngineError with the cause.
        """
        wanted = {"address": address, "peers": sorted(peers), "device": device, "tun": tun, "aead": aead,
                  "udp_port": udp_port, "mtu": mtu}  # fmt: skip
        with self._locked() as lock:
            running = self._ask()
            if running is not None:
                if running["settings"] != wanted:
                    raise EngineError(
                        f"an engine with other settings runs in {self._rundir}: {running['settings']}; stop it first"
                    )
                if not self._lost(running):
                    return
            self._kill(lock)  # one that does not answer, or has no right any more to mend its routes
            self._remember(wanted)
            self._launch(wanted, lock)
            try:
                routing.straighten(self._netns, peers, tun)
            except OSError as error:
                raise EngineError(f"the routes of {self._netns} cannot be mended: {error}") from error

    def _launch(self, settings: dict[str, Any], lock: int) -> None:
        reader, writer = os.pipe()
        with open(reader, "rb") as ready, open(self._rundir / LOG, "ab") as log:
            try:
                command = ["nsenter", f"--net={self._netns}", "--", sys.executable, "-P", "-m", "phalanx.ipsec.engine"]
                command += ["--rundir", str(self._rundir.absolute()), "--address", settings["address"]]
                command += ["--device", settings["device"], "--tun", settings["tun"], "--ready", str(writer)]
                for name in ("aead", "udp_port", "mtu"):
                    if settings[name] is not None:
                        command += [f"--{name.replace('_', '-')}", str(settings[name])]
                command += [word for peer in settings["peers"] for word in ("--peer", peer)]
                started = subprocess.run(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env={name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ},
                    pass_fds=(writer,),
                    start_new_session=True,
                    timeout=START_SECONDS,
                    check=False,
                )
            except (OSError, subprocess.TimeoutExpired) as error:
                raise EngineError(f"the engine cannot be started: {error}") from error
            finally:
                os.close(writer)
            if started.returncode:
                raise EngineError(f"the engine cannot be started in {self._netns}: {self._last_words()}")
            answer = ready.read() if readable(reader, START_SECONDS) else b"it did not get ready in time"
        if answer != READY:
            self._kill(lock)
            raise EngineError(answer.decode(errors="replace") or f"the engine died at its start: {self._last_words()}")

    def _last_words(self) -> str:
        return "".join(files.last_lines(self._rundir / LOG)) or "it said nothing"

    def fault(self) -> str | None:
        """None where the engine runs, answers and is the way to all its peers; else what is wrong, in words."""
        answer = self._ask()
        if answer is None:
            return DEAD
        if lost := self._lost(answer):
            return f"{answer['settings']['tun']} is not the way to {', '.join(lost)} any more"
        return None

    def _lost(self, answer: dict[str, Any]) -> list[str]:
        """Peers whose route somebody took away from the TUN, or put another beside; a device that is down has none."""
        settings = answer["settings"]
        try:
            return routing.astray(self._netns, settings["peers"], settings["tun"])
        except OSError as error:
            raise EngineError(f"the routes of {self._netns} cannot be read: {error}") from error

    def measure(self) -> tuple[int, PlaneReport]:
        """When the running engine was started, in nanoseconds of the host's monotonic clock, which tells it from others of the
        same instance, and what it has counted since. Raises EngineError when it is dead."""
        answer = self._ask()
        if answer is None:
            raise EngineError(
                f"the engine in {self._rundir} is dead or hangs: {self._last_words()}; traffic to peers stands still"
            )
        report = answer["report"]
        return (
            # One that an earlier version of Phalanx has started does not tell, and is before all others.
            report.get("started", 0),
            PlaneReport(
                associations=tuple(Association(*(each[name] for name in _ASSOCIATION)) for each in report["associations"]),
                flows=frozenset((source, destination) for source, destination in report["flows"]),
                totals={each["remote"]: Totals(*(each[name] for name in _TOTALS)) for each in report["pairs"]},
                drops=report["drops"],
                work=Work(**report["work"]),
            ),
        )

    def stop(self) -> None:
        """Ends the engine, removes its sockets and the TUN. Idempotent. Leaves the log to the owner of the directory.

        Without the TUN its routes are gone: what the instance sends to its peers then meets the guards. Raises EngineError
        where something stays.
        """
        if not self._rundir.is_dir():
            return
        with self._locked() as lock:
            self._kill(lock)
            settings = self._recall()
            if settings is not None:
                self._remove_tun(settings["tun"])
            for name in (XFRM_SOCKET, CONTROL_SOCKET, SETTINGS):
                (self._rundir / name).unlink(missing_ok=True)

    def _remove_tun(self, tun: str) -> None:
        if not Path(self._netns).exists():
            return
        command = ["nsenter", f"--net={self._netns}", "--", "ip", "link", "delete", "dev", tun]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode and "Cannot find device" not in done.stderr:
            raise EngineError(f"the TUN device {tun} in {self._netns} cannot be removed: {done.stderr.strip()}")

    def _remember(self, settings: dict[str, Any]) -> None:
        """Notes what is about to be made, so that stop finds it whatever dies."""
        files.replace(self._rundir / SETTINGS, json.dumps(settings), durable=False)

    def _recall(self) -> dict[str, Any] | None:
        try:
            settings: dict[str, Any] = json.loads((self._rundir / SETTINGS).read_text())
        except FileNotFoundError:
            return None
        return settings

    @contextlib.contextmanager
    def _locked(self) -> Iterator[int]:
        """One start or stop at a time, of whatever process. The lock file's descriptor."""
        try:
            lock = os.open(self._rundir / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise EngineError(f"the engine's directory {self._rundir} cannot be used: {error.strerror}") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield lock
        finally:
            os.close(lock)

    def _ask(self) -> dict[str, Any] | None:
        """What the engine says of itself, or None where there is none that answers."""
        answer = bytearray()
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as control:
                control.settimeout(ANSWER_SECONDS)
                control.connect(str(self._rundir / CONTROL_SOCKET))
                while part := control.recv(65536):
                    answer += part
            found: dict[str, Any] = json.loads(answer)
        except (OSError, ValueError):
            return None
        return found

    def _kill(self, lock: int) -> None:
        """Ends the process that holds the lock, if one does: politely, then not."""
        pid = _holder(lock)
        if pid is None:
            return
        try:
            process = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        try:
            # The number may have been given anew: who still holds the lock now is what the pidfd names.
            if _holder(lock) != pid:
                return
            for number in (signal.SIGTERM, signal.SIGKILL):
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(process, number)
                if readable(process, STOP_SECONDS):
                    return
            raise EngineError(f"process {pid} in {self._rundir} does not die")
        finally:
            os.close(process)


def _holder(lock: int) -> int | None:
    """The process that holds an fcntl lock on the file: struct flock, answered by F_GETLK."""
    asked = struct.pack("@hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    kind, _, _, _, pid = struct.unpack("@hhqqi4x", fcntl.fcntl(lock, fcntl.F_GETLK, asked))
    return None if kind == fcntl.F_UNLCK else int(pid)
