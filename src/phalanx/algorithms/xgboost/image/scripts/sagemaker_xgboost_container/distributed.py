"""XGBoost on all hosts of a job, by its collective."""

from __future__ import annotations

import logging
import socket
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any

from xgboost import collective
from xgboost.tracker import RabitTracker

_PORT = 9099
_SECONDS = 900.0
"""In which the first host begins, and all can be found by name: others may read their data for long."""
_COLLECTIVE_SECONDS = 7 * 24 * 3600
"""XGBoost's patience with a slow peer."""
_PAUSE = 0.1


def wait_hostname_resolution(sm_hosts: Iterable[str]) -> None:
    """Returns when all hosts are found by name. Raises OSError where one is not within 15 minutes."""
    for host in sm_hosts:
        _address(host)


def rabit_run(
    exec_fun: Callable[..., Any],
    args: dict[str, Any],
    include_in_training: bool,
    hosts: Sequence[str],
    current_host: str,
    first_port: int | None = None,
    second_port: int | None = None,
    update_rabit_args: bool = False,
) -> None:
    """Calls `exec_fun(**args)` in the collective of the hosts with `include_in_training`; the process of any other one ends.

    With `update_rabit_args` the function also gets `is_master`, which is True on one host. Raises RuntimeError where no host
    is included.
    """
    with Rabit(hosts, current_host, port=first_port) as everybody:
        said = everybody.synchronize({"host": current_host, "include_in_training": bool(include_in_training)})
    included = [each["host"] for each in said if each["include_in_training"]]
    if not included:
        raise RuntimeError("No hosts received training data.")
    if not include_in_training:
        logging.warning("Host %s not being used for distributed training.", current_host)
        sys.exit(0)
    if len(included) == 1:
        exec_fun(**args, **({"is_master": True} if update_rabit_args else {}))
        return
    # The first tracker's port is not free at once.
    with Rabit(included, current_host, port=second_port or everybody.master_port + 1) as these:
        exec_fun(**args, **({"is_master": these.is_master} if update_rabit_args else {}))


class RabitHelper:
    """A host's place in the collective."""

    def __init__(self, is_master: bool, current_host: str, master_port: int) -> None:
        self.is_master = is_master
        self.rank = collective.get_rank()
        self.current_host = current_host
        self.master_port = master_port

    def synchronize(self, data: Any) -> list[Any]:
        """What all hosts give, in the order of their ranks."""
        return [collective.broadcast(data, rank) for rank in range(collective.get_world_size())]


class Rabit:
    """The collective of `hosts`, as a context; `master_host`, the first of them by name unless it is given, joins them."""

    def __init__(
        self, hosts: Sequence[str], current_host: str | None = None, master_host: str | None = None, port: int | None = None
    ) -> None:
        self.hosts = sorted(hosts)
        self.current_host = current_host or "127.0.0.1"
        self.master_host = master_host or self.hosts[0]
        self.is_master_host = self.current_host == self.master_host
        self.port = port or _PORT
        self._tracker: RabitTracker | None = None

    def start(self) -> RabitHelper:
        """Join the others; returns when all have. Raises OSError where the first host does not begin within 15 minutes."""
        address = _address(self.master_host)
        if self.is_master_host:
            self._tracker = RabitTracker(len(self.hosts), host_ip=address, port=self.port, sortby="task")
            self._tracker.start()
        else:
            # XGBoost itself waits for seconds between its attempts, and gives up after a few.
            _await(lambda: socket.create_connection((address, self.port), timeout=5).close())
        collective.init(
            dmlc_communicator="rabit",
            dmlc_tracker_uri=address,
            dmlc_tracker_port=self.port,
            dmlc_task_id=f"{self.hosts.index(self.current_host):06d}",
            dmlc_timeout=_COLLECTIVE_SECONDS,
        )
        return RabitHelper(self.is_master_host, self.current_host, self.port)

    def stop(self) -> None:
        """Leave the others."""
        collective.finalize()
        if self._tracker is not None:
            self._tracker.wait_for()

    def __enter__(self) -> RabitHelper:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # Others wait for what has failed here: the end of this process tells them.
        if kind is None:
            self.stop()


def _address(host: str) -> str:
    found: str = _await(lambda: socket.gethostbyname(host))
    return found


def _await(attempt: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + _SECONDS
    while time.monotonic() < deadline:
        with suppress(OSError):
            return attempt()
        time.sleep(_PAUSE)
    return attempt()
