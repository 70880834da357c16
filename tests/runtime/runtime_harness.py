"""One service's containers, as the tests of this room drive them."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from phalanx.runtime.containers import Containers
from phalanx.runtime.images import Images
from phalanx.runtime.model import ContainerSpec, ContainerStatus, Limits
from phalanx.runtime.podman import Podman

T = TypeVar("T")
CACHE = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "phalanx" / "test-images"
IMAGE = "phalanx-test"
CONTEXT = Path(__file__).parent / "image"


class Service:
    """One service's containers in directories of its own."""

    def __init__(self, images: Images, netns: str) -> None:
        self.images = images
        self.netns = netns
        self.cgroup = f"/phalanx-test-{uuid.uuid4().hex[:12]}"
        self.rundir = Path(tempfile.mkdtemp(prefix="phalanx-test-", dir="/run"))
        self.disk = Path(tempfile.mkdtemp(prefix="phalanx-test-"))
        self.containers = self.reopen()

    def reopen(self) -> Containers:
        """As a restarted agent would see them."""
        return Containers(self.images, self.rundir, self.disk / "logs", self.cgroup)

    def spec(self, code: str, id: str = "one", **changes: object) -> ContainerSpec:
        opt_ml = self.disk / id
        opt_ml.mkdir(exist_ok=True)
        os.chown(opt_ml, *self.containers.owner())
        fields: dict[str, object] = {
            "id": id,
            "image": IMAGE,
            "command": None,
            "arguments": (code,),
            "environment": {},
            "netns": self.netns,
            "hostname": "algo-1",
            "hosts": {"algo-1": "10.0.0.1", "algo-2": "10.0.0.2"},
            "opt_ml": str(opt_ml),
            "limits": Limits(cpus=1, memory=256 << 20, pids=64),
        }
        return ContainerSpec(**{**fields, **changes})

    def wait(self, id: str = "one", state: str = "exited") -> ContainerStatus:
        return until(lambda: status if (status := self.containers.status(id)).state == state else None)

    def run(self, code: str, **changes: object) -> tuple[ContainerStatus, str]:
        """Runs a program to its end: what became of it, and the text it wrote."""
        spec = self.spec(code, **changes)
        self.containers.start(spec)
        status = self.wait(spec.id)
        text = self.text(spec.id)
        self.containers.remove(spec.id)
        return status, text

    def text(self, id: str = "one", *streams: str) -> str:
        """What a container wrote, to the streams named or to both."""
        lines = (line.split(" ", 3) for line in self.containers.log_path(id).read_text().splitlines())
        return "".join(text + ("\n" if tag == "F" else "") for _, name, tag, text in lines if name in (streams or (name,)))

    def groups(self, path: str = "") -> list[Path]:
        """The service's control group, or a path in it, in every hierarchy; those of others come and go meanwhile."""
        root = Path("/sys/fs/cgroup")
        return [*root.glob(f"*{self.cgroup}/{path}"), *root.glob(f"{self.cgroup.strip('/')}/{path}")]

    def traces(self) -> list[str]:
        """All that the service has on this host besides its empty directories."""
        name = self.rundir.name
        found = [str(path) for path in (self.rundir / "containers").rglob("*")]
        found += [str(path) for path in (self.disk / "logs").glob("*")]
        found += map(str, self.groups())
        for process in Path("/proc").glob("[0-9]*"):
            for file in ("cmdline", "mountinfo"):
                try:
                    if name in (process / file).read_text(errors="replace"):
                        found.append(f"{process / file}: {(process / 'cmdline').read_text(errors='replace')}")
                except OSError:
                    continue
        return found

    def close(self) -> None:
        for id in self.containers.listing():
            self.containers.remove(id)
        shutil.rmtree(self.rundir)
        shutil.rmtree(self.disk)


def until(look: Callable[[], T | None]) -> T:
    """What `look` sees when it sees something; the bound only keeps a broken test from hanging."""
    deadline = time.monotonic() + 60
    while (seen := look()) is None:
        assert time.monotonic() < deadline, "nothing to be seen for a minute"
        time.sleep(0.01)
    return seen


def podman(*arguments: str) -> None:
    """podman on the tests' store."""
    Podman(CACHE / "store", CACHE / "run").run(*arguments)
