"""Whose orders this host takes: those of the newest leader among the replicas of a control plane."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

from phalanx.linux import files


class Outdated(Exception):
    """The order is that of a control plane's replica that does not lead any more."""


class Terms:
    """The highest term that was heard of, kept in a file. A control plane without replicas has none, and gives none."""

    def __init__(self, path: Path) -> None:
        """Raises OSError, ValueError where the file cannot be read: better no order is taken than an outdated one."""
        self._path = path
        self._condition = threading.Condition()
        self._newest = int(path.read_text()) if path.exists() else 0
        self._under_way: list[int] = []
        """Terms of the orders that are."""

    @contextlib.contextmanager
    def order(self, term: int | None, whole: bool) -> Iterator[None]:
        """Carry out an order given in `term`. Raises Outdated, OSError.

        No order of a newer leader is obeyed before those of earlier ones have ended that are `whole`: they would undo its own.
        """
        with self._condition:
            given = term or 0
            if given < self._newest:
                raise Outdated(
                    f"Another replica of the control plane leads: its term is {self._newest}, this order's {given}. (After a"
                    f" database was brought back from a backup: remove {self._path}, and start the host's agent again.)"
                )
            if given > self._newest:
                files.replace(self._path, str(given))
                self._newest = given
            self._condition.wait_for(lambda: all(term >= given for term in self._under_way))
            if given < self._newest:
                raise Outdated("Another replica of the control plane has taken the lead meanwhile")
            if whole:
                self._under_way.append(given)
        try:
            yield
        finally:
            if whole:
                with self._condition:
                    self._under_way.remove(given)
                    self._condition.notify_all()
