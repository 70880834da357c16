"""Taking rights away from the engine process once its sockets are open."""

from __future__ import annotations

import ctypes
import os
import resource
from pathlib import Path

NOBODY = 65534

_PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS, _PR_CAPBSET_DROP, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 4, 38, 24, 47, 4
_MCL_CURRENT, _MCL_FUTURE, _MCL_ONFAULT = 1, 2, 4
_CAPABILITY_VERSION_3 = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)


def _call(what: str, result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def lock_memory() -> bool:
    """Keeps all memory of the process out of swap, now and later. False where part of it may get there.

    Without the right to lift the limit on locked memory (CAP_SYS_RESOURCE) nothing is locked: a stack that is locked beyond
    the limit could not grow any more.
    """
    try:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    except (OSError, ValueError):
        return not _has_swap()
    return _libc.mlockall(_MCL_CURRENT | _MCL_FUTURE | _MCL_ONFAULT) == 0 or not _has_swap()


def _has_swap() -> bool:
    return len(Path("/proc/swaps").read_text().splitlines()) > 1


def drop_privileges() -> None:
    """Gives up root and every capability for good; no core dumps, no ptrace by others. Raises OSError.

    Capabilities belong to a thread: call this before there is a second one.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    capability = 0
    while _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0) == 0:
        capability += 1
    _call("PR_CAP_AMBIENT", _libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0))
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    _call("capset", _libc.capset(header, (ctypes.c_uint32 * 6)()))
    _call("PR_SET_NO_NEW_PRIVS", _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    _call("PR_SET_DUMPABLE", _libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0))
