"""How images are made in a host's store: the built-in ones, and users' own.

A built-in image is the base (`base.py`) and what its own Containerfile adds: the wheels of its requirements.txt, and the
sources that its sources.txt names, are fetched with the machine's pip configuration and lie at /run/wheels meanwhile.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path

from phalanx.runtime import archive, base
from phalanx.runtime.images import Images
from phalanx.runtime.model import IdRange
from phalanx.runtime.podman import ImageError, run

BASE = "localhost/phalanx/base"
"""Name of the newest base, for Containerfiles: `FROM phalanx/base`."""

_IGNORED = ("__pycache__", "*.pyc")
_PIP_DOWNLOAD = (sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--python-version", base.PYTHON)
_MAPPED = "localhost/phalanx-mapped"
"""Name of a user's image while it is built."""


class Builder:
    """Makes images in a store; one at a time works on it, in whatever process."""

    def __init__(self, images: Images) -> None:
        self._images = images
        self._podman = images.podman

    def build(self, name: str, contexts: Sequence[Path], progress: Callable[[str], None]) -> str:
        """Builds the built-in image `name`, unless the store has it from the same recipe already; returns its whole name.

        The whole name carries a digest of the recipe, so that services of different versions on one store each find their own.
        `contexts` are directories, each with a Containerfile, `requirements.txt` (all packages that it adds, pinned) and
        whatever else it needs: the first is built on the base, the next on what came of it. All but the last are layers that
        images share. What is there is not built again. `progress` gets a line per step. A killed build leaves an untagged layer
        at most, since a name is given last. Raises ImageError.
        """
        names = _names(name, contexts)
        if self._images.has(names[-1]):
            return names[-1]
        with self._building(progress) as (work, lock):
            if self._images.has(names[-1]):
                return names[-1]
            places = {called: work / called.rpartition(":")[2] for called in names}
            if _names(name, [_copy(*each) for each in zip(contexts, places.values(), strict=True)]) != names:
                # As by an update of Phalanx: the name would promise what the image does not have.
                raise ImageError(f"The sources of image {name} were changed while it was built: build it again")
            progress(f"Fetching the packages of image {name}")
            # Packages come while the layers below are built.
            with ThreadPoolExecutor() as pool:
                fetched = {
                    called: pool.submit(_fetch, place, lock) for called, place in places.items() if not self._images.has(called)
                }
                below = self._base(work, lock, progress)
                for called in names:
                    if called in fetched:
                        fetched[called].result()
                        progress(f"Building image {called}")
                        self._build(called, places[called], below, lock)
                    below = called
            progress(f"Image {name} is ready")
        return names[-1]

    def _build(self, name: str, place: Path, below: str, lock: int) -> None:
        """Builds an image on the image `below` from what `_copy` and `_fetch` have brought to `place`."""
        program = place / "program"
        self._podman.run(
            *("build", "--quiet", "--isolation", "chroot", "--layers=false", "--tag", name, "--build-arg", f"BASE={below}"),
            *("--volume", f"{place / 'wheels'}:/run/wheels:ro", "--volume", f"{place / 'apt'}:/run/apt:ro"),
            *("--file", str(program / "Containerfile"), str(program)),
            lock=lock,
        )

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

    @contextmanager
    def _building(self, progress: Callable[[str], None]) -> Iterator[tuple[Path, int]]:
        """The one builder's empty work directory and lock. Programs it starts hold the lock too, so that it outlives a kill."""
        self._podman.root.mkdir(parents=True, exist_ok=True)
        lock = os.open(self._podman.root / "build.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                progress("Waiting for another image build on this host")
                fcntl.flock(lock, fcntl.LOCK_EX)
            work = self._podman.root / "build"
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir()
            # What killed builds were working on.
            for container in self._podman.run("ps", "--all", "--external", "--quiet", lock=lock).split():
                self._podman.run("rm", "--force", container, lock=lock)
            if self._images.has(_MAPPED):
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
        if not self._images.has(name):
            progress(f"Making the base image: Debian {base.SUITE} with Python {base.PYTHON}")
            base.make(work / "base.tar", work, lock)
            self._podman.run("import", "--quiet", str(work / "base.tar"), name, lock=lock)
            (work / "base.tar").unlink()
        self._podman.run("tag", name, BASE, lock=lock)
        return name


def built(name: str, contexts: Sequence[Path]) -> str:
    """The whole name that `Builder.build` gives to a built-in image."""
    return _names(name, contexts)[-1]


def _names(name: str, contexts: Sequence[Path]) -> list[str]:
    """The whole names of a built-in image and of what it is made of, the lowest first."""
    recipe, names = _base_recipe(), []
    for context in contexts:
        recipe = _digest([recipe, *_fingerprint(context)])
        called = name if context is contexts[-1] else "phalanx-shared"
        names.append(f"localhost/{called}:{recipe[:16]}")
    return names


def _copy(context: Path, place: Path) -> Path:
    """Copies a context to `place`, which it makes; where the copy lies."""
    return shutil.copytree(context, place / "program", ignore=shutil.ignore_patterns(*_IGNORED))


def _fetch(place: Path, lock: int) -> None:
    """Brings the packages of the context that was copied to `place`, and apt's configuration, there. Raises ImageError."""
    program, wheels, apt = place / "program", place / "wheels", place / "apt"
    for directory in (wheels, apt):
        directory.mkdir()
    base.write_apt_configuration(apt / "apt.conf", lock)
    for file, options in (("requirements.txt", "--only-binary=:all:"), ("sources.txt", "--no-binary=:all:")):
        if (program / file).exists():
            run([*_PIP_DOWNLOAD, "--dest", str(wheels), "-r", str(program / file), options], None, lock)


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
