"""The image store of a host: what it holds, how images come into it, and how the built-in ones are built.

A built-in image is the base (`base.py`) and what its own Containerfile adds: the wheels of its requirements.txt, and the
sources that its sources.txt names, are fetched with the machine's pip configuration and lie at /run/wheels meanwhile.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from phalanx.runtime import archive, base
from phalanx.runtime.model import IdRange
from phalanx.runtime.podman import ImageError, Podman, run

BASE = "localhost/phalanx/base"
"""Name of the newest base, for Containerfiles: `FROM phalanx/base`."""

_IGNORED = ("__pycache__", "*.pyc")
_PIP_DOWNLOAD = (sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--python-version", base.PYTHON)
_MAPPED = "localhost/phalanx-mapped"
"""Name of a user's image while it is built."""
_LOOK_SECONDS = 0.2
_LOADED = re.compile(r"^Loaded image: (?P<name>\S+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class ImageRoot:
    """An image as a container needs it: its layers' directories, topmost first, and what it says about running."""

    layers: tuple[Path, ...]
    entrypoint: tuple[str, ...]
    cmd: tuple[str, ...]
    env: Mapping[str, str]
    workdir: str


@dataclass(frozen=True, slots=True)
class StoredImage:
    """An image of a listing: its name, its id (the digest of its configuration), its size in bytes, when it was made, in s."""

    name: str
    id: str
    size: int
    created: int


class Images:
    """podman's image store at `root` (on a disk), which services may share, and podman's state `runroot` on a tmpfs with it."""

    def __init__(self, root: Path, runroot: Path) -> None:
        self._podman = Podman(root, runroot)
        self._root = self._podman.root
        # What podman said of images while its list of them was that version.
        self._inspected: tuple[tuple[int, ...] | None, dict[str, dict[str, Any]]] = (None, {})

    @classmethod
    def of(cls, root: Path) -> Images:
        """A host's store, whose images are no service's own, with a run directory that belongs to its place.

        There podman counts what is mounted. With run directories of their own, two would not know of each other's mounts, and
        whoever ends first would take the other's away, from under a build too.
        """
        place = hashlib.sha256(str(root.absolute()).encode()).hexdigest()[:8]
        return cls(root, Path("/run/phalanx") / f"images-{place}")

    def build(self, name: str, contexts: Sequence[Path], progress: Callable[[str], None]) -> str:
        """Builds the built-in image `name`, unless the store has it from the same recipe already; returns its whole name.

        The whole name carries a digest of the recipe, so that services of different versions on one store each find their own.
        `contexts` are directories, each with a Containerfile, `requirements.txt` (all packages that it adds, pinned) and
        whatever else it needs: the first is built on the base, the next on what came of it. All but the last are layers that
        images share. What is there is not built again. `progress` gets a line per step. One builder works at a time on a store,
        in whatever process; a killed one leaves an untagged layer at most, since a name is given last. Raises ImageError.
        """
        names = _names(name, contexts)
        if self.has(names[-1]):
            return names[-1]
        with self._building(progress) as (work, lock):
            if self.has(names[-1]):
                return names[-1]
            progress(f"Fetching the packages of image {name}")
            # Packages come while the layers below are built.
            with ThreadPoolExecutor() as pool:
                fetched = {
                    called: pool.submit(_fetch, context, work / called.rpartition(":")[2], lock)
                    for context, called in zip(contexts, names, strict=True)
                    if not self.has(called)
                }
                below = self._base(work, lock, progress)
                for called in names:
                    if called in fetched:
                        place = fetched[called].result()
                        progress(f"Building image {called}")
                        self._build(called, place, below, lock)
                    below = called
            progress(f"Image {name} is ready")
        return names[-1]

    def _build(self, name: str, place: Path, below: str, lock: int) -> None:
        """Builds an image on the image `below` from what `_fetch` has brought to `place`."""
        program = place / "program"
        self._podman.run(
            *("build", "--quiet", "--isolation", "chroot", "--layers=false", "--tag", name, "--build-arg", f"BASE={below}"),
            *("--volume", f"{place / 'wheels'}:/run/wheels:ro", "--volume", f"{place / 'apt'}:/run/apt:ro"),
            *("--file", str(program / "Containerfile"), str(program)),
            lock=lock,
        )

    def tag(self, image: str, name: str) -> None:
        """Gives an image of the store a name more, which is taken from the image that had it. Raises ImageError."""
        self._podman.run("tag", "--", image, name)

    def build_directory(self, name: str, directory: Path, ids: IdRange, progress: Callable[[str], None]) -> None:
        """Builds a user's image from the Containerfile (or Dockerfile) in `directory`.

        Its RUN steps run as the root of a user namespace of `ids`, never as the host's. Images that it is made FROM must be in
        the store; `FROM phalanx/base` always is. Raises ImageError.
        """
        file = next((path for path in (directory / "Containerfile", directory / "Dockerfile") if path.is_file()), None)
        if file is None:
            raise ImageError(f"{directory} has no Containerfile")
        mapping = f"0:{ids.first}:{ids.count}"
        with self._building(progress) as (work, lock):
            self._base(work, lock, progress)
            progress(f"Building image {name}")
            self._podman.run(
                *("build", "--quiet", "--isolation", "chroot", "--pull=never", "--layers=false", "--tag", _MAPPED),
                *("--userns-uid-map", mapping, "--userns-gid-map", mapping),
                *("--file", str(file), str(directory)),
                lock=lock,
            )
            # Files that the steps made belong to the namespace's ids on the host, also in the image: that is undone here.
            saved, unpacked = work / "image.tar", work / "image"
            self._podman.run("save", "--quiet", "--format", "docker-archive", "--output", str(saved), _MAPPED, lock=lock)
            self._podman.run("image", "rm", "--force", _MAPPED, lock=lock)
            archive.unpack(saved, unpacked)
            archive.unmap(unpacked, ids)
            archive.pack(unpacked, saved)
            self._podman.run("load", "--quiet", "--input", str(saved), lock=lock)
            self._podman.run("tag", "--", _MAPPED, name, lock=lock)
            self._podman.run("untag", _MAPPED, _MAPPED, lock=lock)

    def load(self, source: Path, name: str | None) -> list[str]:
        """Takes images from a docker-archive, an oci-archive (both tar, perhaps compressed) or an OCI layout's directory.

        Every blob is checked against its digest. `name` is given to the image where it is a single one. Returns the names;
        what the store had is as before where it raises ImageError.
        """
        if source.is_dir():
            if name is None:
                raise ImageError(f"{source} does not say the name of its image: give one, --tag NAME")
            return [self._load_layout(source, name)]
        if not source.is_file():
            raise ImageError(f"there is no {source}")
        archive.check(source)
        loaded = _LOADED.findall(self._podman.run("load", "--input", str(source.resolve())))
        if name is None:
            if any(each.startswith("sha256:") for each in loaded):
                raise ImageError(f"{source} does not say the name of its image: give one, --tag NAME")
            return loaded
        if len(loaded) != 1:
            raise ImageError(f"{source} holds {len(loaded)} images: {', '.join(loaded)}. Import it without --tag")
        self._podman.run("tag", "--", loaded[0], name)
        return [name]

    def _load_layout(self, source: Path, name: str) -> str:
        before = {image.name for image in self.listing()}
        id = self._podman.run("pull", "--quiet", f"oci:{source.resolve()}").split()[-1]
        given = {image.name for image in self.listing() if image.id == id} - before
        for path in given:
            self._podman.run("untag", id, path)  # podman has called it by its path
        self._podman.run("tag", "--", id, name)
        return name

    def pull(self, name: str, cancelled: Callable[[], bool] = lambda: False) -> str | None:
        """Fetches an image from its registry, unless the store has all of what its name means there now. The image's id, or
        None where it is cancelled.

        The manifest and every blob are checked against their digests, and the image against the host's policy.json
        (containers-policy.json(5)). Keys for registries are those of `podman login`. Raises ImageError.
        """
        pulled = self._pull(["--", name], self._podman.environment(), cancelled)
        if pulled is None:
            return None
        if pulled.returncode != 0:
            said = "\n".join(pulled.stderr.strip().splitlines()[-12:])
            raise ImageError(f"podman pull {name} … ended with code {pulled.returncode}:\n{said}")
        return "sha256:" + pulled.stdout.split()[-1]

    @staticmethod
    def _pull(
        arguments: Sequence[str], environment: Mapping[str, str], cancelled: Callable[[], bool]
    ) -> subprocess.CompletedProcess[str] | None:
        """`podman pull ARGUMENTS`, which waits as long as a registry keeps silent; None where it is cancelled."""
        process = subprocess.Popen(
            ["podman", "pull", "--quiet", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        while True:
            try:
                printed, said = process.communicate(timeout=_LOOK_SECONDS)
                break
            except subprocess.TimeoutExpired:
                if cancelled():
                    process.terminate()
        return None if cancelled() else subprocess.CompletedProcess(process.args, process.returncode, printed, said)

    def export(self, id: str, directory: Path) -> None:
        """Writes an image, its manifest and its blobs as they are in a registry, to `directory`, which is made (`dir:` in
        containers-transports(5)). Layers are not compressed, so that a store knows those that it has. Raises ImageError."""
        self._podman.run("push", "--quiet", id.removeprefix("sha256:"), f"dir:{directory}")

    def receive(self, name: str, id: str, certificates: Path, work: Path, cancelled: Callable[[], bool]) -> None:
        """Fetches the image `id` by its `name` from a registry that knows us by our certificate, with the layers alone that the
        store lacks; nothing happens where it has the image, and little where it is cancelled.

        The manifest and every blob are checked against their digests. `certificates` holds the registry's authority, our
        certificate and its key (containers-certs.d(5)); `work`, a directory, is emptied. Raises ImageError.
        """
        if self.has(id) or cancelled():
            return
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        host = name.partition("/")[0].rpartition(":")[0]
        # No proxy knows a host of the fleet.
        environment = {**self._podman.environment(), "TMPDIR": str(work), "NO_PROXY": host, "no_proxy": host}
        try:
            pulled = self._pull(["--tls-verify", "--cert-dir", str(certificates), "--", name], environment, cancelled)
        finally:
            shutil.rmtree(work, ignore_errors=True)
        if pulled is None:
            return
        if pulled.returncode != 0:
            raise ImageError("\n".join(pulled.stderr.strip().splitlines()[-3:]))
        if "sha256:" + pulled.stdout.split()[-1] != id:
            raise ImageError(f"{name} is another image: {pulled.stdout.split()[-1]}")

    def listing(self) -> list[StoredImage]:
        """What the store holds, by name."""
        found = {
            StoredImage(name, image["Id"], image["Size"], image["Created"])
            for image in json.loads(self._podman.run("images", "--format", "json"))
            for name in image.get("Names") or ()
        }
        return sorted(found, key=lambda image: image.name)

    def remove(self, name: str) -> None:
        """Takes a name from an image, and the image with its last name. Raises ImageError."""
        self._podman.run("image", "rm", "--", name)

    def has(self, name: str) -> bool:
        """Whether the store has an image of that name."""
        return self._inspect(name) is not None

    def id(self, name: str) -> str | None:
        """The id of the image of that name, which is the digest of its configuration and so of all its layers; None where the
        store has none."""
        image = self._inspect(name)
        return None if image is None else f"sha256:{image['Id']}"

    def layers(self, name: str) -> ImageRoot:
        """An image's layers and configuration (OCI image-spec, config.md). Raises ImageError where it is not in the store."""
        image = self._inspect(name)
        if image is None:
            raise ImageError(f"image {name} is not in the store: build or import it with `phalanx image`")
        data, config = image["GraphDriver"]["Data"], image["Config"]
        return ImageRoot(
            layers=tuple(Path(part) for part in [data["UpperDir"], *filter(None, data.get("LowerDir", "").split(":"))]),
            entrypoint=tuple(config.get("Entrypoint") or ()),
            cmd=tuple(config.get("Cmd") or ()),
            env=dict(entry.split("=", 1) for entry in config.get("Env") or ()),
            workdir=config.get("WorkingDir") or "/",
        )

    def _inspect(self, name: str) -> dict[str, Any] | None:
        """What podman says of an image. It is asked again once anybody has changed the store: starting podman costs more than
        all else that a small job's image needs."""
        version = self._version()
        if version is None or version != self._inspected[0]:
            self._inspected = (version, {})
        held = self._inspected[1]
        if name in held:
            return held[name]
        result = subprocess.run(
            ["podman", "image", "inspect", "--", name],
            capture_output=True,
            text=True,
            env=self._podman.environment(),
            check=False,
        )
        if result.returncode != 0:
            if "no such image" in result.stderr or "image not known" in result.stderr:
                return None
            raise ImageError(f"podman cannot read the image store {self._root}: {result.stderr.strip()}")
        image: dict[str, Any] = json.loads(result.stdout)[0]
        if version is not None:
            # Should the store have changed meanwhile, this version will not be asked for again.
            held[name] = image
        return image

    def _version(self) -> tuple[int, ...] | None:
        """What changes with every image and every name of one, whoever gives or takes it: podman's list, a file that it
        replaces (containers/storage, `images.json`). None where there is none."""
        try:
            found = os.stat(self._root / "overlay-images" / "images.json")
        except FileNotFoundError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size

    @contextmanager
    def _building(self, progress: Callable[[str], None]) -> Iterator[tuple[Path, int]]:
        """The one builder's empty work directory and lock. Programs it starts hold the lock too, so that it outlives a kill."""
        self._root.mkdir(parents=True, exist_ok=True)
        lock = os.open(self._root / "build.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                progress("Waiting for another image build on this host")
                fcntl.flock(lock, fcntl.LOCK_EX)
            work = self._root / "build"
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir()
            # What killed builds were working on.
            for container in self._podman.run("ps", "--all", "--external", "--quiet", lock=lock).split():
                self._podman.run("rm", "--force", container, lock=lock)
            if self.has(_MAPPED):
                self._podman.run("image", "rm", "--force", _MAPPED, lock=lock)
            try:
                yield work, lock
            finally:
                shutil.rmtree(work)
        finally:
            os.close(lock)

    def _base(self, work: Path, lock: int, progress: Callable[[str], None]) -> str:
        """The base, made where it is not there; its name."""
        name = f"localhost/phalanx-base:{_base_recipe()[:16]}"
        if not self.has(name):
            progress(f"Making the base image: Debian {base.SUITE} with Python {base.PYTHON}")
            base.make(work / "base.tar", work, lock)
            self._podman.run("import", "--quiet", str(work / "base.tar"), name, lock=lock)
            (work / "base.tar").unlink()
        self._podman.run("tag", name, BASE, lock=lock)
        return name


def built(name: str, contexts: Sequence[Path]) -> str:
    """The whole name that `Images.build` gives to a built-in image."""
    return _names(name, contexts)[-1]


def _names(name: str, contexts: Sequence[Path]) -> list[str]:
    """The whole names of a built-in image and of what it is made of, the lowest first."""
    recipe, names = _base_recipe(), []
    for context in contexts:
        recipe = _digest([recipe, *_fingerprint(context)])
        called = name if context is contexts[-1] else "phalanx-shared"
        names.append(f"localhost/{called}:{recipe[:16]}")
    return names


def _fetch(context: Path, place: Path, lock: int) -> Path:
    """Brings a copy of the context, its packages and apt's configuration to `place`, which it makes. Raises ImageError."""
    program, wheels, apt = place / "program", place / "wheels", place / "apt"
    shutil.copytree(context, program, ignore=shutil.ignore_patterns(*_IGNORED))
    for directory in (wheels, apt):
        directory.mkdir()
    base.write_apt_configuration(apt / "apt.conf", lock)
    for file, options in (("requirements.txt", "--only-binary=:all:"), ("sources.txt", "--no-binary=:all:")):
        if (program / file).exists():
            run([*_PIP_DOWNLOAD, "--dest", str(wheels), "-r", str(program / file), options], None, lock)
    return place


def _base_recipe() -> str:
    return _digest([base.SUITE, *base.PACKAGES])


def _fingerprint(context: Path) -> Iterator[str]:
    """What makes a context this one: every file's path, mode and content."""
    if not (context / "Containerfile").is_file():
        raise ImageError(f"{context} is no image context: it needs a Containerfile")
    for file in sorted(context.rglob("*")):
        if file.is_file() and not any(
            fnmatch(part, pattern) for part in file.relative_to(context).parts for pattern in _IGNORED
        ):
            yield f"{file.relative_to(context)} {file.stat().st_mode:o} {hashlib.sha256(file.read_bytes()).hexdigest()}"


def _digest(parts: Iterable[str]) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
