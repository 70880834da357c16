"""The image store: what a build makes, when it makes it again, and who gets in its way; images from elsewhere."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from runtime_harness import CACHE, CONTEXT, IMAGE, Service, podman, until

from phalanx.runtime.images import Images
from phalanx.runtime.model import IdRange
from phalanx.runtime.podman import ImageError
from registries import registry

BUILDER = """
import sys
from pathlib import Path
from phalanx.runtime.images import Images
Images(Path(sys.argv[1]), Path(sys.argv[2])).build(sys.argv[3], (Path(sys.argv[4]),), lambda line: print(line, flush=True))
"""
BUILT = f"phalanx-test-built-{os.getpid()}"


def builder(context: Path) -> subprocess.Popen[str]:
    """Another process on this host that builds the image, on the same store."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", BUILDER, str(CACHE / "store"), str(CACHE / "run"), BUILT, str(context)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


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
    name = images.build(BUILT, (context,), said.append)
    assert built(images) == [name]
    assert said[-1] == f"Image {BUILT} is ready"
    assert not (CACHE / "store" / "build").exists()
    said.clear()
    (context / "__pycache__").mkdir()
    (context / "__pycache__" / "train.pyc").touch()
    assert images.build(BUILT, (context,), said.append) == name
    assert said == []
    root = images.layers(name)
    assert (root.entrypoint, root.cmd, root.workdir) == (("python3", "/opt/program/train.py"), ("train",), "/")
    assert all(layer.is_dir() for layer in root.layers)
    assert root.layers[-1] == images.layers(IMAGE).layers[-1]  # the base is shared


def test_the_store_is_asked_again_once_another_service_has_changed_it(
    images: Images, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    name = f"localhost/{BUILT}:named"
    asked: list[str] = []
    run = subprocess.run
    monkeypatch.setattr(
        "phalanx.runtime.images.subprocess.run",
        lambda command, **options: (asked.append(command[-1]), run(command, **options))[1],
    )
    other = Images(CACHE / "store", CACHE / "run")
    other._podman.run("tag", IMAGE, name)
    first = images.layers(name)
    asked.clear()
    assert images.has(name)
    assert images.layers(name) == first
    assert asked == []
    other.remove(name)
    assert not images.has(name)
    assert images.layers(IMAGE) == first


def test_images_of_two_versions_of_a_context_lie_side_by_side(images: Images, context: Path, service: Service) -> None:
    program = context / "train.py"
    first, before = images.build(BUILT, (context,), print), program.read_text()
    program.write_text("import iniconfig; print('second')\n")
    second = images.build(BUILT, (context,), print)
    assert [service.run("", image=name)[1] for name in (first, second)] == ["first\n", "second\n"]
    program.write_text(before)
    said: list[str] = []
    assert images.build(BUILT, (context,), said.append) == first
    assert said == []
    images.tag(second, f"{BUILT}:named")
    assert images.layers(f"{BUILT}:named") == images.layers(second)


def test_layers_below_are_built_once(images: Images, context: Path, tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.mkdir()
    (program / "Containerfile").write_text("ARG BASE\nFROM ${BASE}\nCOPY . /opt/more\n")
    first = images.layers(images.build(BUILT, (context, program), print)).layers
    (program / "more.py").touch()
    second = images.layers(images.build(BUILT, (context, program), print)).layers
    assert first[0] != second[0]
    assert first[1:] == second[1:]


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
    name = images.build(BUILT, (context,), print)
    assert service.run("", image=name)[1] == "first\n"
    # Podman mounts the store while it runs, for other tests too.
    until(lambda: None if str(CACHE) in Path("/proc/self/mountinfo").read_text() else True)
    (context / "train.py").write_text("print('second')\n")
    images.build(BUILT, (context,), print)
    assert (CACHE / "store/overlay-containers/containers.json").read_text() == "[]"


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def test_what_is_not_there(images: Images, tmp_path: Path) -> None:
    assert not images.has("no-such-image")
    with pytest.raises(ImageError, match="no-such-image is not in the store: build or import it"):
        images.layers("no-such-image")
    with pytest.raises(ImageError, match=r"it needs a Containerfile"):
        images.build(BUILT, (tmp_path,), print)


def test_a_package_that_does_not_exist_fails_the_build(images: Images, context: Path) -> None:
    (context / "requirements.txt").write_text("iniconfig==0.0.0.1\n")
    with pytest.raises(ImageError, match=r"pip(.|\n)*iniconfig==0\.0\.0\.1"):
        images.build(BUILT, (context,), print)
    assert built(images) == []
    assert not (CACHE / "store" / "build").exists()


OWN = f"phalanx-test-own-{os.getpid()}"


def directory(place: Path) -> Path:
    """A user's directory with a Containerfile."""
    (place / "Containerfile").write_text(
        f"FROM {IMAGE}\nRUN cat /proc/self/uid_map > /etc/map && mkdir -m 700 /etc/private && chown 7:8 /etc/map\n"
        "COPY own.sh /bin/own\nENTRYPOINT []\n"
    )
    script = "#!/bin/sh\nread _ host _ < /etc/map; echo built by $host; stat -c %u:%g /etc/map /bin/own\n"
    (place / "own.sh").write_text(script)
    (place / "own.sh").chmod(0o755)
    return place


@pytest.fixture(scope="module")
def archive(images: Images, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The user's image, built once, as an archive."""
    place = tmp_path_factory.mktemp("own")
    images.build_directory(OWN, directory(place), IdRange(), print)
    podman("save", "--quiet", "--format", "oci-archive", "--output", str(place / "own.tar"), OWN)
    podman("image", "rm", "--force", OWN)
    return place / "own.tar"


@pytest.fixture
def saved(archive: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of the archive; its image is not in the store, before and after."""
    yield Path(shutil.copy(archive, tmp_path))
    podman("image", "rm", "--force", OWN)


def test_a_users_image_is_built_by_nobody_and_belongs_to_root(images: Images, saved: Path, service: Service) -> None:
    images.load(saved, OWN)
    status, text = service.run("", image=OWN, command=("own",))
    assert (status.exit_code, text.split()) == (0, ["built", "by", "100000", "7:8", "0:0"])
    assert images.layers(OWN).layers[-1] == images.layers(IMAGE).layers[-1]  # the base is shared
    assert f"localhost/{OWN}:latest" in {image.name for image in images.listing()}
    assert not any("mapped" in image.name for image in images.listing())
    images.remove(OWN)
    assert not images.has(OWN)
    with pytest.raises(ImageError, match="has no Containerfile"):
        images.build_directory(OWN, saved.parent, IdRange(), print)


@pytest.mark.parametrize("kind", ["oci-archive", "docker-archive", "oci"])
def test_an_image_is_imported(images: Images, saved: Path, service: Service, tmp_path: Path, kind: str) -> None:
    if kind == "docker-archive":
        podman("load", "--quiet", "--input", str(saved))
        saved.unlink()
        podman("save", "--quiet", "--output", str(saved), OWN)
        podman("image", "rm", "--force", OWN)
    elif kind == "oci":
        layout = tmp_path / "layout"
        shutil.unpack_archive(saved, layout, "tar", filter="data")
        with pytest.raises(ImageError, match="give one, --tag NAME"):
            images.load(layout, None)
        saved = layout
    assert images.load(saved, OWN) == [OWN]
    assert service.run("", image=OWN, command=("own",))[1].startswith("built by")
    if kind != "oci":
        podman("image", "rm", "--force", OWN)
        assert images.load(saved, None) == [f"localhost/{OWN}:latest"]


def test_what_cannot_be_imported(images: Images, saved: Path, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"there is no .*/nothing"):
        images.load(tmp_path / "nothing", None)
    (tmp_path / "text").write_text("no archive")
    with pytest.raises(ImageError, match=r"is no image archive \(docker-archive or oci-archive\)"):
        images.load(tmp_path / "text", None)
    layout = tmp_path / "layout"
    shutil.unpack_archive(saved, layout, "tar", filter="data")
    blob = min((layout / "blobs/sha256").iterdir(), key=lambda path: (json_of(path) is not None, path.stat().st_size))
    content = bytearray(blob.read_bytes())
    content[len(content) // 2] ^= 1
    blob.write_bytes(content)
    with pytest.raises(ImageError, match=r"(?i)digest|checksum|corrupt"):
        images.load(layout, OWN)
    assert not images.has(OWN)


def json_of(path: Path) -> object:
    try:
        return json.loads(path.read_bytes())
    except ValueError:
        return None


def test_an_image_is_fetched_from_a_registry_by_what_its_tag_means(
    images: Images, saved: Path, service: Service, tmp_path: Path
) -> None:
    with registry(tmp_path) as (address, store):
        fetch(images, saved, service, address, store)


def test_what_a_silent_registry_keeps_waiting_can_be_cancelled(images: Images) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        asked = threading.Event()

        def cancelled() -> bool:
            if not asked.is_set():
                silent.accept()
                asked.set()
            return True

        assert images.pull(f"127.0.0.1:{silent.getsockname()[1]}/team/own:1", cancelled) is None


def fetch(images: Images, saved: Path, service: Service, address: str, store: Path) -> None:
    name = f"{address}/team/own:1"
    podman("load", "--quiet", "--input", str(saved))
    podman("push", "--quiet", OWN, name)
    podman("image", "rm", "--force", OWN)
    fetched = images.pull(name)
    assert service.run("", image=fetched, command=("own",))[1].startswith("built by")
    assert images.pull(name) == fetched
    podman("push", "--quiet", IMAGE, name)
    assert images.pull(name) != fetched
    podman("image", "rm", "--force", name, fetched)
    with pytest.raises(ImageError, match="manifest unknown"):
        images.pull(f"{address}/team/own:2")
    for blob in store.rglob("data"):
        if json_of(blob) is None and blob.stat().st_size < 10_000:
            blob.write_bytes(bytes(blob.stat().st_size))
    podman("image", "prune", "--force")
    with pytest.raises(ImageError, match=r"pull \S+ … ended with code"):
        images.pull(f"{address}/team/own@{digest_of(store)}")


def digest_of(store: Path) -> str:
    """Digest of the first manifest that was pushed: that of the user's own image."""
    revisions = store.rglob("_manifests/revisions/sha256/*")
    return "sha256:" + min(revisions, key=lambda path: path.stat().st_ctime).name
