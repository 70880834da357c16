"""The image store: what it holds, and images from elsewhere."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from runtime_harness import CACHE, IMAGE, Service, podman

from phalanx.runtime.builder import Builder
from phalanx.runtime.images import Images
from phalanx.runtime.model import IdRange
from phalanx.runtime.podman import ImageError
from registries import registry


def test_the_store_is_asked_again_once_another_service_has_changed_it(
    images: Images, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    name = f"localhost/phalanx-test-named-{os.getpid()}:latest"
    asked: list[str] = []
    run = subprocess.run
    monkeypatch.setattr(
        "phalanx.runtime.podman.subprocess.run",
        lambda command, **options: (asked.append(command[-1]), run(command, **options))[1],
    )
    other = Images(CACHE / "store", CACHE / "run")
    other.podman.run("tag", IMAGE, name)
    first = images.layers(name)
    asked.clear()
    assert images.has(name)
    assert images.layers(name) == first
    assert asked == []
    other.remove(name)
    assert not images.has(name)
    assert images.layers(IMAGE) == first


def test_what_is_not_there(images: Images) -> None:
    assert not images.has("no-such-image")
    with pytest.raises(ImageError, match="no-such-image is not in the store: build or import it"):
        images.layers("no-such-image")


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
    Builder(images).build_directory(OWN, directory(place), IdRange(), print)
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
        Builder(images).build_directory(OWN, saved.parent, IdRange(), print)


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
