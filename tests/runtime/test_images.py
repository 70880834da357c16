"""The image store: what a build makes, when it makes it again, and who gets in its way."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from runtime_harness import CACHE, CONTEXT, IMAGE, Service, podman, until

from phalanx.runtime.images import ImageError, Images

BUILDER = """
import sys
from pathlib import Path
from phalanx.runtime.images import Images
Images(Path(sys.argv[1]), Path(sys.argv[2])).build(sys.argv[3], Path(sys.argv[4]), lambda line: print(line, flush=True))
"""
BUILT = f"phalanx-test-built-{os.getpid()}"


def builder(runroot: Path, context: Path) -> subprocess.Popen[str]:
    """Another service on this host that builds the image, on the same store with a runtime directory of its own."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", BUILDER, str(CACHE / "store"), str(runroot), BUILT, str(context)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


@pytest.fixture
def context(tmp_path: Path, images: Images) -> Iterator[Path]:
    """A context like the test image's, whose image is not in the store and will not stay there."""
    directory = tmp_path / "context"
    shutil.copytree(CONTEXT, directory)
    (directory / "train.py").write_text("print('first')\n")
    forget()
    yield directory
    forget()


def forget() -> None:
    podman("image", "rm", "--force", BUILT)
    podman("image", "prune", "--force")


def test_a_build_is_done_once(images: Images, context: Path) -> None:
    said: list[str] = []
    assert not images.has(BUILT)
    images.build(BUILT, context, said.append)
    assert images.has(BUILT)
    assert said[-1] == f"Image {BUILT} is ready"
    assert not (CACHE / "store" / "build").exists()
    said.clear()
    (context / "__pycache__").mkdir()
    (context / "__pycache__" / "train.pyc").touch()
    images.build(BUILT, context, said.append)
    assert said == []
    root = images.layers(BUILT)
    assert (root.entrypoint, root.cmd, root.workdir) == (("python3", "/opt/program/train.py"), ("train",), "/")
    assert all(layer.is_dir() for layer in root.layers)
    assert root.layers[-1] == images.layers(IMAGE).layers[-1]  # the base is shared


def test_a_changed_context_is_built_again(images: Images, context: Path, service: Service) -> None:
    images.build(BUILT, context, print)
    assert service.run("", image=BUILT)[1] == "first\n"
    (context / "train.py").write_text("import iniconfig; print('second')\n")
    images.build(BUILT, context, print)
    assert service.run("", image=BUILT)[1] == "second\n"


def test_two_builders_at_once(images: Images, context: Path, tmp_path: Path) -> None:
    said = [process.communicate()[0] for process in [builder(tmp_path / f"run-{number}", context) for number in (1, 2)]]
    assert sum(f"Image {BUILT} is ready" in text for text in said) == 1
    assert images.has(BUILT)


@pytest.mark.parametrize("delay", [100, 600])
def test_a_killed_builder_leaves_nothing_that_counts_as_done(
    images: Images, context: Path, tmp_path: Path, service: Service, delay: int
) -> None:
    process = builder(tmp_path / "run", context)
    assert process.stdout is not None
    while not process.stdout.readline().startswith("Building"):
        pass
    time.sleep(delay / 1000)
    process.kill()
    process.wait()
    podmen = [path for path in Path("/proc").glob("[0-9]*/cmdline") if f"{BUILT}\0".encode() in _read(path)]
    for path in podmen:
        os.kill(int(path.parent.name), signal.SIGKILL)
    until(lambda: None if any(path.exists() for path in podmen) else True)
    images.build(BUILT, context, print)
    assert service.run("", image=BUILT)[1] == "first\n"
    assert str(CACHE) not in Path("/proc/self/mountinfo").read_text()
    (context / "train.py").write_text("print('second')\n")
    images.build(BUILT, context, print)
    assert (CACHE / "store/overlay-containers/containers.json").read_text() == "[]"


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def test_what_is_not_there(images: Images, tmp_path: Path) -> None:
    assert not images.has("no-such-image")
    with pytest.raises(ImageError, match="no-such-image is not in the store: build it, or load it"):
        images.layers("no-such-image")
    with pytest.raises(ImageError, match=r"it needs requirements.txt and train.py"):
        images.build(BUILT, tmp_path, print)


def test_a_package_that_does_not_exist_fails_the_build(images: Images, context: Path) -> None:
    (context / "requirements.txt").write_text("iniconfig==0.0.0.1\n")
    with pytest.raises(ImageError, match=r"pip(.|\n)*iniconfig==0\.0\.0\.1"):
        images.build(BUILT, context, print)
    assert not images.has(BUILT)
    assert not (CACHE / "store" / "build").exists()
