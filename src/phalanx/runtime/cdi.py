"""GPUs of this host, as the vendor's toolkit describes them in Container Device Interface specs (CNCF CDI, SPEC.md).

`nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml` writes one. A spec says which device nodes, files, variables and hooks a
container needs for a device: nothing here knows more of a GPU than its name.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from phalanx.runtime.model import DeviceNode, Edits

FOLDERS = "PHALANX_CDI_DIRS"
"""Environment variable: where specs lie, folders joined by `:`; later ones win."""
DEFAULT_FOLDERS = "/etc/cdi:/var/run/cdi"
_CLASS = "gpu"
_HOOKS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
_WHOLE = ("all",)
"""Names that stand for several devices."""


class CdiError(Exception):
    """A spec cannot be used; the text says which and why."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """A device: its qualified name (`nvidia.com/gpu=0`), and what a container needs to use it."""

    name: str
    edits: Edits


def gpus(folders: str | None = None) -> tuple[Gpu, ...]:
    """The host's GPUs, in the order of their names. Raises CdiError for a spec that is none, or names what is not there.

    A GPU that goes by its index and by its UUID counts once: only the names of the first kind are taken, where there are any.
    """
    found: dict[str, Gpu] = {}
    for folder in (folders or os.environ.get(FOLDERS) or DEFAULT_FOLDERS).split(":"):
        for path in sorted(Path(folder).glob("*")):
            if path.suffix in (".json", ".yaml", ".yml"):
                found |= {gpu.name: gpu for gpu in _spec(path)}
    numbered = {name: gpu for name, gpu in found.items() if name.rpartition("=")[2].isdecimal()}
    chosen = numbered or found
    return tuple(chosen[name] for name in sorted(chosen, key=lambda name: (len(name), name)))


def merged(gpus: Sequence[Gpu]) -> Edits:
    """What a container needs to use all of these; what they share comes once."""
    parts = [gpu.edits for gpu in gpus]
    return Edits(
        environment=tuple(dict.fromkeys(each for part in parts for each in part.environment)),
        devices=tuple(dict.fromkeys(each for part in parts for each in part.devices)),
        mounts=tuple(dict.fromkeys(each for part in parts for each in part.mounts)),
        hooks=tuple(dict.fromkeys(each for part in parts for each in part.hooks)),
    )


def _spec(path: Path) -> Iterator[Gpu]:
    try:
        spec = yaml.safe_load(path.read_text())
        kind = spec["kind"]
        if kind.rpartition("/")[2] != _CLASS:
            return
        common = spec.get("containerEdits") or {}
        for device in spec["devices"]:
            if device["name"] not in _WHOLE:
                yield Gpu(f"{kind}={device['name']}", _edits(common, device.get("containerEdits") or {}))
    except (OSError, yaml.YAMLError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise CdiError(f"{path} is no CDI spec of GPUs that are here: {type(error).__name__}: {error}") from error


def _edits(*parts: Mapping[str, Any]) -> Edits:
    def all_of(name: str) -> list[Any]:
        return [each for part in parts for each in part.get(name) or ()]

    return Edits(
        environment=tuple(map(str, all_of("env"))),
        devices=tuple(map(_device, all_of("deviceNodes"))),
        mounts=tuple(
            (each["containerPath"], each["hostPath"], tuple(each.get("options") or ("ro", "nosuid", "nodev", "bind")))
            for each in all_of("mounts")
        ),
        hooks=tuple(map(_hook, all_of("hooks"))),
    )


def _device(node: Mapping[str, Any]) -> DeviceNode:
    source = node.get("hostPath") or node["path"]
    status = os.stat(source)
    if not (stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode)):
        raise ValueError(f"{source} is no device node")
    return DeviceNode(
        path=node["path"],
        source=source,
        kind="c" if stat.S_ISCHR(status.st_mode) else "b",
        major=os.major(status.st_rdev),
        minor=os.minor(status.st_rdev),
        access=node.get("permissions") or "rwm",
    )


def _hook(hook: Mapping[str, Any]) -> tuple[str, str]:
    """Which of the OCI runtime's hooks it is, and what that consists of, as JSON."""
    if hook["hookName"] not in _HOOKS:
        raise ValueError(f"there is no hook {hook['hookName']}")
    content = {name: hook[name] for name in ("path", "args", "env", "timeout") if name in hook}
    return hook["hookName"], json.dumps(content)
