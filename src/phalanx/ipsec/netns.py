"""Doing something inside a named network namespace, without leaving ours."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def path(name: str) -> str:
    """Where the namespace `name` is bound, as `ip netns` does it; an absolute path stands for itself."""
    return name if name.startswith("/") else f"/run/netns/{name}"


def inside(name: str, action: Callable[[], T]) -> T:
    """Call `action` in the network namespace `name` and return what it returns; its exceptions pass through.

    setns(2) moves one thread only, so a thread of its own goes in and ends there: no thread of ours can ever be left in
    a foreign namespace. A socket made by `action` stays in the namespace; /proc/sys/net and /proc/thread-self/net show it.
    Raises OSError where the namespace is not there.
    """

    def run() -> T:
        descriptor = os.open(path(name), os.O_RDONLY | os.O_CLOEXEC)
        try:
            if _libc.setns(descriptor, _CLONE_NEWNET) != 0:
                raise _failure("setns", path(name))
        finally:
            os.close(descriptor)
        return action()

    return _in_thread(run)


def throwaway(action: Callable[[str], T]) -> T:
    """Call `action` in a new network namespace that has no name but its path, and is gone, with all in it, afterwards."""

    def run() -> T:
        if _libc.unshare(_CLONE_NEWNET) != 0:
            raise _failure("unshare", "a new network namespace")
        return action(f"/proc/{os.getpid()}/task/{threading.get_native_id()}/ns/net")

    return _in_thread(run)


def _in_thread(run: Callable[[], T]) -> T:
    results: list[T] = []
    errors: list[BaseException] = []

    def catch() -> None:
        try:
            results.append(run())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=catch, name="netns")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def _failure(call: str, what: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"{call}: {os.strerror(number)}", what)


def xfrm_statistics(name: str) -> dict[str, int]:
    """What the kernel's XFRM layer counted in the namespace (/proc/net/xfrm_stat, linux/snmp.h LINUX_MIB_XFRM*).

    Raises OSError, as where the kernel does not count (CONFIG_XFRM_STATISTICS).
    """

    def read() -> str:
        with open("/proc/thread-self/net/xfrm_stat") as file:
            return file.read()

    return {key: int(value) for key, value in (line.split() for line in inside(name, read).splitlines())}
