"""The image store of a host: what it holds, and how images come into it. `builder.py` makes images there."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phalanx.runtime import archive
from phalanx.runtime.podman import ImageError, Podman

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
        self.podman = Podman(root, runroot)
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

    def tag(self, image: str, name: str) -> None:
        """Gives an image of the store a name more, which is taken from the image that had it. Raises ImageError."""
        self.podman.run("tag", "--", image, name)

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
        loaded = _LOADED.findall(self.podman.run("load", "--input", str(source.resolve())))
        if name is None:
            if any(each.startswith("sha256:") for each in loaded):
                raise ImageError(f"{source} does not say the name of its image: give one, --tag NAME")
            return loaded
        if len(loaded) != 1:
            raise ImageError(f"{source} holds {len(loaded)} images: {', '.join(loaded)}. Import it without --tag")
        self.podman.run("tag", "--", loaded[0], name)
        return [name]

    def _load_layout(self, source: Path, name: str) -> str:
        before = {image.name for image in self.listing()}
        id = self.podman.run("pull", "--quiet", f"oci:{source.resolve()}").split()[-1]
        given = {image.name for image in self.listing() if image.id == id} - before
        for path in given:
            self.podman.run("untag", id, path)  # podman has called it by its path
        self.podman.run("tag", "--", id, name)
        return name

    def pull(self, name: str, cancelled: Callable[[], bool] = lambda: False) -> str | None:
        """Fetches an image from its registry, unless the store has all of what its name means there now. The image's id, or
        None where it is cancelled.

        The manifest and every blob are checked against their digests, and the image against the host's policy.json
        (containers-policy.json(5)). Keys for registries are those of `podman login`. Raises ImageError.
        """
        pulled = self._pull(["--", name], self.podman.environment(), cancelled)
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
        self.podman.run("push", "--quiet", id.removeprefix("sha256:"), f"dir:{directory}")

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
        environment = {**self.podman.environment(), "TMPDIR": str(work), "NO_PROXY": host, "no_proxy": host}
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
            for image in json.loads(self.podman.run("images", "--format", "json"))
            for name in image.get("Names") or ()
        }
        return sorted(found, key=lambda image: image.name)

    def remove(self, name: str) -> None:
        """Takes a name from an image, and the image with its last name. Raises ImageError."""
        self.podman.run("image", "rm", "--", name)

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
        try:
            said = self.podman.run("image", "inspect", "--", name)
        except ImageError as error:
            if "no such image" in str(error) or "image not known" in str(error):
                return None
            raise ImageError(f"podman cannot read the image store {self.podman.root}: {error}") from error
        image: dict[str, Any] = json.loads(said)[0]
        if version is not None:
            # Should the store have changed meanwhile, this version will not be asked for again.
            held[name] = image
        return image

    def _version(self) -> tuple[int, ...] | None:
        """What changes with every image and every name of one, whoever gives or takes it: podman's list, a file that it
        replaces (containers/storage, `images.json`). None where there is none."""
        try:
            found = os.stat(self.podman.root / "overlay-images" / "images.json")
        except FileNotFoundError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size
