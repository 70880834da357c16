"""The processes of a container as the host sees them: to which of them a signal is of use."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

_PROGRAM = 2
"""Pid, in the container, of the program that its process 1 has started: the first that it ever starts."""


@dataclass(frozen=True, slots=True)
class _Process:
    pid: int
    parent: int
    inner: int
    """Its pid in the container."""
    handled: int
    """The signals that it has a handler for, or blocks so as to wait for them: a bit each, the lowest is signal 1."""

    def handles(self, signum: int) -> bool:
        return bool(self.handled >> (signum - 1) & 1)


def handling(first: int, members: Collection[int], signum: int) -> list[int]:
    """Which of `members`, a container's processes (pids of the host), a signal is to be sent to so that it does what it can.

    `first` is the container's process 1, which passes signals on to its program alone. Where the program is a shell or a
    toolkit that knows nothing of the signal, and would end with all that it has started, the outermost of its descendants that
    do know it are asked instead; `first` where there is none. /proc/PID/status: proc_pid_status(5).
    """
    processes = [process for pid in members if (process := _read(pid)) is not None]
    children: dict[int, list[_Process]] = {}
    for process in processes:
        children.setdefault(process.parent, []).append(process)

    program = next((child for child in children.get(first, ()) if child.inner == _PROGRAM), None)
    if program is None or program.handles(signum):
        return [first]
    asked, below = [], [program]
    while below:
        process = below.pop()
        if process.handles(signum):
            asked.append(process.pid)
        else:
            below += children.get(process.pid, ())
    return asked or [first]


def _read(pid: int) -> _Process | None:
    """None where there is no such process any more."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(errors="replace").splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    handled = int(fields["SigCgt"], 16) | int(fields["SigBlk"], 16)
    return _Process(pid, int(fields["PPid"]), int(fields["NSpid"].split()[-1]), handled)
