"""Image stores of the tests' own, with one small image."""

import os
import shutil
import subprocess
import tarfile
from pathlib import Path

from phalanx.runtime.podman import Podman


def stock(directory: Path, *names: str) -> Path:
    """A new store with an image by each of these names, 3 MB each."""
    store = directory / "images"
    store.mkdir()
    for name in names:
        (directory / "file").write_bytes(os.urandom(3 << 20))
        with tarfile.open(directory / "image.tar", "w") as archive:
            archive.add(directory / "file", "file")
        Podman(store, directory / "podman").run("import", "--quiet", str(directory / "image.tar"), name)
    return store


def discard(store: Path) -> None:
    """Remove a store, and the mount that podman leaves in it."""
    # A bind mount on the same file system: no call of Python's knows it.
    subprocess.run(["umount", "--quiet", str(store / "overlay")], check=False)
    shutil.rmtree(store, ignore_errors=True)
