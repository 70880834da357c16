"""What an agent leaves to the next one of its instances: specs and goals, in memory (tmpfs) only, since a spec holds keys."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from pathlib import Path

from phalanx.linux import files
from phalanx.node.messages import InstanceSpec, Phase, decode, encode
from phalanx.node.names import Names


def save(names: Names, spec: InstanceSpec, goal: Phase) -> None:
    """Keep an instance's spec and goal. Raises OSError."""
    directory = names.instance_run_dir(spec.id)
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    content = json.dumps({"goal": goal, "spec": encode(InstanceSpec, spec)})
    files.replace(directory / "spec.json", content, durable=False)


def saved(names: Names) -> list[tuple[InstanceSpec, Phase]]:
    """Specs and goals of the instances that an earlier agent of this service left."""
    found = []
    for path in sorted(names.run_dir.glob("i-*/spec.json")):
        content = json.loads(path.read_text())
        found.append((decode(InstanceSpec, content["spec"]), Phase(content["goal"])))
    return found


def erase(directory: Path) -> None:
    """Remove a directory of secrets; files are overwritten first, so that no page of the tmpfs keeps a key."""
    # No instance any more from here on: an agent that is killed meanwhile leaves what the next one sweeps away, not reads.
    with contextlib.suppress(FileNotFoundError):
        (directory / "spec.json").rename(directory / "spec.gone")
    for path in directory.rglob("*"):
        if path.is_file() and not path.is_symlink():
            with path.open("r+b") as file:
                file.write(bytes(os.fstat(file.fileno()).st_size))
    shutil.rmtree(directory, ignore_errors=True)
