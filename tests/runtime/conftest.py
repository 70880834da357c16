"""A small image in a store that test runs share, a network namespace, and services that must leave nothing behind."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from runtime_harness import CACHE, CONTEXT, IMAGE, Service

from phalanx.runtime.builder import Builder
from phalanx.runtime.images import Images


@pytest.fixture(scope="session")
def images() -> Images:
    store = Images(CACHE / "store", CACHE / "run")
    store.tag(Builder(store).build(IMAGE, (CONTEXT,), print), IMAGE)
    return store


@pytest.fixture(scope="session")
def netns() -> Iterator[str]:
    """A network namespace with loopback and an interface that the host does not have."""
    directory = Path(tempfile.mkdtemp(prefix="phalanx-test-netns-", dir="/run"))
    path = directory / "net"
    path.touch()
    try:
        subprocess.run(["unshare", f"--net={path}", "true"], check=True)
        for command in (["link", "set", "lo", "up"], ["link", "add", "probe0", "type", "veth", "peer", "name", "probe1"]):
            subprocess.run(["nsenter", f"--net={path}", "ip", *command], check=True)
        yield str(path)
    finally:
        subprocess.run(["umount", path], check=True)
        shutil.rmtree(directory)


@pytest.fixture
def services(images: Images, netns: str) -> Iterator[Callable[[], Service]]:
    made: list[Service] = []

    def make() -> Service:
        made.append(Service(images, netns))
        return made[-1]

    yield make
    for service in made:
        service.close()


@pytest.fixture
def service(services: Callable[[], Service]) -> Service:
    return services()
