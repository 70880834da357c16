"""Whether what instances write to their disk is encrypted there."""

from __future__ import annotations

import os
from pathlib import Path


def encrypted(path: Path, devices: Path = Path("/sys/dev/block")) -> bool:
    """Whether all that `path` lies on is dm-crypt (LUKS or plain): the block device, or everything that it is made of.

    `devices` is the kernel's folder of block devices by number (sysfs). A file system without a device of its own, as of a
    network, a container or memory, counts as not encrypted: nobody can tell from here.
    """
    number = os.stat(path).st_dev
    return _encrypted(devices / f"{os.major(number)}:{os.minor(number)}")


def _encrypted(device: Path) -> bool:
    try:
        if (device / "dm/uuid").read_text().startswith("CRYPT-"):
            return True
    except OSError:
        pass
    below = list(device.glob("slaves/*"))
    return bool(below) and all(map(_encrypted, below))
