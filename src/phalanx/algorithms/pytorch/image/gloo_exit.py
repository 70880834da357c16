"""Lets Gloo's threads finish before the interpreter goes. Every Python process of the image imports this when it starts.

A worker thread of Gloo that lets go of a tensor once its work is done needs the interpreter's lock. If the script has ended
meanwhile, Python ends the thread in the middle of a destructor instead, and C++ aborts the process: `terminate called without
an active exception`, exit code 134, after the last line of a script that did all it should (PyTorch 2.13, pull request 179291).
"""

from __future__ import annotations

import atexit
import sys
import time
from pathlib import Path

_PATIENCE = 10
"""Seconds. A thread that is still at work then is not about to finish."""
_TASKS = Path("/proc/self/task")


def _settle() -> None:
    """Wait, without the interpreter's lock, until no worker of Gloo wants a CPU: those that wanted the lock have had it."""
    if "torch.distributed" not in sys.modules:
        return
    end = time.monotonic() + _PATIENCE
    while workers := _workers():
        time.sleep(0.02)
        if not any(map(_runs, workers)) or time.monotonic() > end:
            return


def _workers() -> list[Path]:
    """Gloo's worker threads, by the name that PyTorch gives them."""
    return [task for task in _TASKS.iterdir() if _read(task / "comm") == "pt_gloo_runloop\n"]


def _runs(task: Path) -> bool:
    """Whether a thread runs or waits for a CPU (proc_pid_stat(5))."""
    return _read(task / "stat").rpartition(")")[2].split()[:1] == ["R"]


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # it has ended
        return ""


# What is registered first is called last.
atexit.register(_settle)
