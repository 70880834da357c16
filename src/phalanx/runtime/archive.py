"""Image archives: what is one, and owners of the files in one (docker-archive, github.com/moby/moby image/spec)."""

from __future__ import annotations

import hashlib
import json
import shutil
import tarfile
from pathlib import Path

from phalanx.runtime.model import IdRange
from phalanx.runtime.podman import ImageError


def check(file: Path) -> None:
    """Raises ImageError where a file is no image archive, in words that a user understands."""
    try:
        with tarfile.open(file) as archive:
            for member in archive:
                if member.name.removeprefix("./") in ("manifest.json", "oci-layout"):
                    return
    except (tarfile.TarError, EOFError, OSError, ValueError) as error:
        raise ImageError(f"{file} is no image archive (docker-archive or oci-archive): {error}") from error
    raise ImageError(f"{file} is no image archive: it has neither manifest.json nor oci-layout")


def unmap(image: Path, ids: IdRange) -> None:
    """Gives files that belong to a user namespace's ids on the host the owners that they have inside of it.

    `image` is the directory of an unpacked docker-archive. Layers without such files stay as they are, and so do their digests.
    """
    manifest = json.loads((image / "manifest.json").read_text())
    config = json.loads((image / manifest[0]["Config"]).read_text())
    for number, name in enumerate(manifest[0]["Layers"]):
        layer = image / name
        with tarfile.open(layer) as source:
            if not any(member.uid >= ids.first or member.gid >= ids.first for member in source):
                continue
        partial = layer.with_suffix(".new")
        with tarfile.open(layer) as source, tarfile.open(partial, "w", format=tarfile.PAX_FORMAT) as target:
            for member in source:
                member.uid -= ids.first if member.uid >= ids.first else 0
                member.gid -= ids.first if member.gid >= ids.first else 0
                target.addfile(member, source.extractfile(member) if member.isreg() else None)
        with partial.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        layer.unlink()
        partial.rename(image / f"{digest}.tar")
        manifest[0]["Layers"][number] = f"{digest}.tar"
        config["rootfs"]["diff_ids"][number] = f"sha256:{digest}"
    text = json.dumps(config)
    manifest[0]["Config"] = f"{hashlib.sha256(text.encode()).hexdigest()}.json"
    (image / manifest[0]["Config"]).write_text(text)
    (image / "manifest.json").write_text(json.dumps(manifest))


def unpack(archive: Path, image: Path) -> None:
    """Unpacks a docker-archive of our own making into `image`, and deletes it."""
    with tarfile.open(archive) as source:
        source.extractall(image, filter="data")
    archive.unlink()


def pack(image: Path, archive: Path) -> None:
    """Packs a directory into a docker-archive again, and deletes it."""
    with tarfile.open(archive, "w") as target:
        for path in sorted(image.iterdir()):
            target.add(path, path.name)
    shutil.rmtree(image)
