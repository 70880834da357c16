"""Which instance has which GPUs. What is taken is written beside the instance's spec, and is free when that is gone."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from phalanx.linux import files
from phalanx.runtime.cdi import Gpu

_FILE = "gpus"
_LOCK = "gpus.lock"


class NoGpu(Exception):
    """There are not as many free GPUs; the text says how many there are."""


def take(known: Sequence[Gpu], run_dir: Path, count: int) -> tuple[Gpu, ...]:
    """The GPUs of the instance with this run directory, its own alone until the directory is gone: the same at every call.

    Run directories of all services of the host lie two levels below one folder, so that services do not share GPUs either.
    Raises NoGpu.
    """
    own = run_dir / _FILE
    with _turn(run_dir.parents[1]):
        if not own.exists():
            taken = {name for path in run_dir.parents[1].glob(f"*/*/{_FILE}") for name in path.read_text().splitlines()}
            free = [gpu.name for gpu in known if gpu.name not in taken]
            if len(free) < count:
                raise NoGpu(f"{len(free)} of this host's {len(known)} GPUs are free, and {count} are needed")
            files.replace(own, "\n".join(free[:count]), durable=False)
        names = own.read_text().splitlines()
    found = tuple(gpu for gpu in known if gpu.name in names)
    if len(found) < len(names):
        raise NoGpu(f"{', '.join(names)} of this instance are not all there any more")
    return found


@contextmanager
def _turn(folder: Path) -> Iterator[None]:
    lock = os.open(folder / _LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)
