"""Built images: what a build makes, when it makes it again, and who gets in its way."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from runtime_harness import CACHE, CONTEXT, IMAGE, Service, podman, until

from phalanx.runtime.builder import Builder
from phalanx.runtime.images import Images
from phalanx.runtime.podman import ImageError

BUILDER = """
import sys
from pathlib import Path
from phalanx.runtime.builder import Builder
from phalanx.runtime.images import Images
store = Images(Path(sys.argv[1]), Path(sys.argv[2]))
Builder(store).build(sys.argv[3], (Path(sys.argv[4]),), lambda line: print(line, flush=True))
"""
BUILT = f"phalanx-test-built-{os.getpid()}"


def builder(context: Path) -> subprocess.Popen[str]:
    """Another process on this host that builds the image, on the same store."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", BUILDER, str(CACHE / "store"), str(CACHE / "run"), BUILT, str(context)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


@contextmanager
def alone() -> Iterator[None]:
    """While nobody builds on the store, as other tests may."""
    with (CACHE / "store" / "build.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture
def context(tmp_path: Path, images: Images) -> Iterator[Path]:
    """A context like the test image's, whose images are not in the store and will not stay there."""
    directory = tmp_path / "context"
    shutil.copytree(CONTEXT, directory)
    (directory / "train.py").write_text("print('first')\n")
    yield directory
    for name in built(images):
        images.remove(name)
    podman("image", "prune", "--force")


def built(images: Images) -> list[str]:
    """Names of the context's images in the store."""
    return [image.name for image in images.listing() if BUILT in image.name]


def test_a_build_is_done_once(images: Images, context: Path) -> None:
    said: list[str] = []
    name = Builder(images).build(BUILT, (context,), said.append)
    assert built(images) == [name]
    assert said[-1] == f"Image {BUILT} is ready"
    with alone():
        assert not (CACHE / "store" / "build").exists()
    said.clear()
    (context / "__pycache__").mkdir()
    (context / "__pycache__" / "train.pyc").touch()
    assert Builder(images).build(BUILT, (context,), said.append) == name
    assert said == []
    root = images.layers(name)
    assert (root.entrypoint, root.cmd, root.workdir) == (("python3", "/opt/program/train.py"), ("train",), "/")
    assert all(layer.is_dir() for layer in root.layers)
    assert root.layers[-1] == images.layers(IMAGE).layers[-1]  # the base is shared


def test_images_of_two_versions_of_a_context_lie_side_by_side(images: Images, context: Path, service: Service) -> None:
    program = context / "train.py"
    first, before = Builder(images).build(BUILT, (context,), print), program.read_text()
    program.write_text("import iniconfig; print('second')\n")
    second = Builder(images).build(BUILT, (context,), print)
    assert [service.run("", image=name)[1] for name in (first, second)] == ["first\n", "second\n"]
    program.write_text(before)
    said: list[str] = []
    assert Builder(images).build(BUILT, (context,), said.append) == first
    assert said == []
    images.tag(second, f"{BUILT}:named")
    assert images.layers(f"{BUILT}:named") == images.layers(second)


def test_layers_below_are_built_once(images: Images, context: Path, tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.mkdir()
    (program / "Containerfile").write_text("ARG BASE\nFROM ${BASE}\nCOPY . /opt/more\n")
    first = images.layers(Builder(images).build(BUILT, (context, program), print)).layers
    (program / "more.py").touch()
    second = images.layers(Builder(images).build(BUILT, (context, program), print)).layers
    assert first[0] != second[0]
    assert first[1:] == second[1:]


def test_a_context_that_changes_while_it_waits_for_its_turn_is_not_built_under_its_old_name(
    images: Images, context: Path
) -> None:
    lock = os.open(CACHE / "store" / "build.lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    said: list[str] = []

    def change(line: str) -> None:
        said.append(line)
        if len(said) == 1:
            (context / "train.py").unlink()
            os.close(lock)

    with pytest.raises(ImageError, match=f"sources of image {BUILT} were changed"):
        Builder(images).build(BUILT, (context,), change)
    assert said == ["Waiting for another image build on this host"]
    assert built(images) == []


def test_two_builders_at_once(images: Images, context: Path, tmp_path: Path) -> None:
    said = [process.communicate()[0] for process in [builder(context) for _ in (1, 2)]]
    assert sum(f"Image {BUILT} is ready" in text for text in said) == 1
    assert len(built(images)) == 1


@pytest.mark.parametrize("delay", [100, 600])
def test_a_killed_builder_leaves_nothing_that_counts_as_done(
    images: Images, context: Path, tmp_path: Path, service: Service, delay: int
) -> None:
    process = builder(context)
    assert process.stdout is not None
    assert any(line.startswith("Building") for line in process.stdout)
    time.sleep(delay / 1000)
    process.kill()
    process.wait()
    podmen = [path for path in Path("/proc").glob("[0-9]*/cmdline") if f"{BUILT}:".encode() in _read(path)]
    for path in podmen:
        os.kill(int(path.parent.name), signal.SIGKILL)
    until(lambda: None if any(path.exists() for path in podmen) else True)
    name = Builder(images).build(BUILT, (context,), print)
    assert service.run("", image=name)[1] == "first\n"
    # Podman mounts the store while it runs, for other tests too.
    until(lambda: None if str(CACHE) in Path("/proc/self/mountinfo").read_text() else True)
    (context / "train.py").write_text("print('second')\n")
    Builder(images).build(BUILT, (context,), print)
    with alone():
        assert (CACHE / "store/overlay-containers/containers.json").read_text() == "[]"


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def test_a_context_needs_a_containerfile(images: Images, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"it needs a Containerfile"):
        Builder(images).build(BUILT, (tmp_path,), print)


def test_a_package_that_does_not_exist_fails_the_build(images: Images, context: Path) -> None:
    (context / "requirements.txt").write_text("iniconfig==0.0.0.1\n")
    with pytest.raises(ImageError, match=r"pip(.|\n)*iniconfig==0\.0\.0\.1"):
        Builder(images).build(BUILT, (context,), print)
    assert built(images) == []
    with alone():
        assert not (CACHE / "store" / "build").exists()
