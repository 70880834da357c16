"""The image store of a host: podman's, at a root that services share; and how the built-in images are built.

A built-in image is a base (Debian with Python, made by mmdebstrap from the machine's own apt configuration) and one layer:
the program's directory at /opt/program and the wheels of its requirements.txt, fetched with the machine's pip configuration.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

SUITE = "bookworm"
PYTHON = "3.11"
"""Debian release of the base, and the Python that it has."""
PACKAGES = ("ca-certificates", "libgomp1", "python3", "python3-pip")

_IGNORED = ("__pycache__", "*.pyc")
_PIP_DOWNLOAD = (sys.executable, "-m", "pip", "download", "--quiet", "--only-binary=:all:", "--python-version", PYTHON)
_RECIPE = "org.phalanx.recipe"
_CONTAINERFILE = """\
FROM {base}
COPY program /opt/program
RUN --mount=type=bind,source=wheels,target=/run/wheels \\
    python3 -m pip install --no-index --find-links /run/wheels --no-cache-dir --root-user-action ignore \\
    -r /opt/program/requirements.txt \\
 && printf '#!/bin/sh\\nexec python3 /opt/program/train.py "$@"\\n' > /usr/local/bin/train \\
 && chmod 755 /usr/local/bin/train
# Instances share the host's CPUs: an OpenMP thread that spins while it waits takes them from those it waits for.
ENV PYTHONUNBUFFERED=1 OMP_WAIT_POLICY=PASSIVE
ENTRYPOINT ["python3", "/opt/program/train.py"]
CMD ["train"]
"""
_CONTAINERS_CONF = """\
[engine]
cgroup_manager = "cgroupfs"
events_logger = "none"
lock_type = "file"
static_dir = "{runroot}/static"
tmp_dir = "{runroot}/libpod"
volume_path = "{runroot}/volumes"
"""
_STORAGE_CONF = """\
[storage]
driver = "overlay"
graphroot = "{root}"
runroot = "{runroot}/storage"
"""


class ImageError(Exception):
    """An image that is not there or cannot be built; says why and what to do."""


@dataclass(frozen=True, slots=True)
class ImageRoot:
    """An image as a container needs it: its layers' directories, topmost first, and what it says about running."""

    layers: tuple[Path, ...]
    entrypoint: tuple[str, ...]
    cmd: tuple[str, ...]
    env: Mapping[str, str]
    workdir: str


class Images:
    """podman's image store at `root` (on a disk), which services may share; `runroot` is podman's state on a tmpfs."""

    def __init__(self, root: Path, runroot: Path) -> None:
        self._root = root.absolute()
        self._runroot = runroot.absolute()

    def build(self, name: str, context: Path, progress: Callable[[str], None]) -> None:
        """Builds the built-in image `name` from `context`, unless the store has it from the same recipe already.

        `context` holds `requirements.txt` (pinned), `train.py` and whatever else the program needs. `progress` gets a line per
        step. One builder works at a time on a store, in whatever process; a killed one leaves an untagged layer at most,
        since the name is given last. Raises ImageError.
        """
        base_recipe = _digest([SUITE, *PACKAGES])
        recipe = _digest([base_recipe, _CONTAINERFILE, *_fingerprint(context)])
        if self._recipe(name) == recipe:
            return
        with self._building(progress) as (work, lock):
            if self._recipe(name) == recipe:
                return
            self._clear(lock)
            base = f"localhost/phalanx-base:{base_recipe[:16]}"
            if not self.has(base):
                progress(f"Making the base image: Debian {SUITE} with Python {PYTHON}")
                self._make_base(base, work, lock)
            progress(f"Fetching the packages of image {name}")
            program, wheels = work / "program", work / "wheels"
            shutil.copytree(context, program, ignore=shutil.ignore_patterns(*_IGNORED))
            wheels.mkdir()
            _run([*_PIP_DOWNLOAD, "--dest", str(wheels), "-r", str(program / "requirements.txt")], lock)
            progress(f"Building image {name}")
            (work / "Containerfile").write_text(_CONTAINERFILE.format(base=base))
            options = ("--isolation", "chroot", "--layers=false", "--label", f"{_RECIPE}={recipe}", "--tag", name)
            _run(["podman", "build", "--quiet", *options, str(work)], lock, self._environment())
            progress(f"Image {name} is ready")

    def has(self, name: str) -> bool:
        """Whether the store has an image of that name."""
        return self._inspect(name) is not None

    def layers(self, name: str) -> ImageRoot:
        """An image's layers and configuration (OCI image-spec, config.md). Raises ImageError where it is not in the store."""
        image = self._inspect(name)
        if image is None:
            raise ImageError(f"image {name} is not in the store: build it, or load it with `podman --root {self._root} load`")
        data, config = image["GraphDriver"]["Data"], image["Config"]
        return ImageRoot(
            layers=tuple(Path(part) for part in [data["UpperDir"], *filter(None, data.get("LowerDir", "").split(":"))]),
            entrypoint=tuple(config.get("Entrypoint") or ()),
            cmd=tuple(config.get("Cmd") or ()),
            env=dict(entry.split("=", 1) for entry in config.get("Env") or ()),
            workdir=config.get("WorkingDir") or "/",
        )

    def _recipe(self, name: str) -> str | None:
        image = self._inspect(name)
        return None if image is None else (image["Labels"] or {}).get(_RECIPE)

    def _inspect(self, name: str) -> dict[str, Any] | None:
        result = subprocess.run(
            ["podman", "image", "inspect", name], capture_output=True, text=True, env=self._environment(), check=False
        )
        if result.returncode != 0:
            if "no such image" in result.stderr or "image not known" in result.stderr:
                return None
            raise ImageError(f"podman cannot read the image store {self._root}: {result.stderr.strip()}")
        image: dict[str, Any] = json.loads(result.stdout)[0]
        return image

    def _environment(self) -> dict[str, str]:
        """podman's environment: configuration of its own, so that the machine's and the user's play no part.

        By files, because with --root podman keeps its database in the store, where it insists on one runroot for all.
        """
        for name, template in (("containers.conf", _CONTAINERS_CONF), ("storage.conf", _STORAGE_CONF)):
            file, text = self._runroot / name, template.format(root=self._root, runroot=self._runroot)
            if not file.exists() or file.read_text() != text:
                self._runroot.mkdir(parents=True, exist_ok=True)
                new = file.with_suffix(f".{os.getpid()}.{threading.get_ident()}")
                new.write_text(text)
                new.replace(file)
        return {
            **os.environ,
            "CONTAINERS_CONF": str(self._runroot / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(self._runroot / "storage.conf"),
        }

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
            try:
                yield work, lock
            finally:
                shutil.rmtree(work)
        finally:
            os.close(lock)

    def _clear(self, lock: int) -> None:
        """Removes what killed builds were working on."""
        listing = _run(["podman", "ps", "--all", "--external", "--format", "{{.ID}} {{.Names}}"], lock, self._environment())
        for line in listing.splitlines():
            container, _, name = line.partition(" ")
            if name.startswith("phalanx-base-working-container"):
                _run(["podman", "rm", "--force", container], lock, self._environment())

    def _make_base(self, name: str, work: Path, lock: int) -> None:
        """Makes the base from the Debian archives and proxies that the machine's apt is configured with."""
        proxies = _run(["apt-config", "dump", "--format", '%f "%v";%n', "Acquire::http::Proxy", "Acquire::https::Proxy"], lock)
        (work / "proxy.conf").write_text(proxies)
        (work / "sources.list").write_text("\n".join(_sources(lock)) + "\n")
        archive = work / "base.tar"
        hooks = (
            f'--setup-hook=cp {shlex.quote(str(work / "proxy.conf"))} "$1"/etc/apt/apt.conf.d/99proxy',
            '--customize-hook=rm "$1"/etc/apt/apt.conf.d/99proxy "$1"/usr/lib/python3*/EXTERNALLY-MANAGED',
        )
        excluded = [f"--dpkgopt=path-exclude=/usr/share/{part}/*" for part in ("doc", "info", "locale", "man")]
        _run(
            [
                *("mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(PACKAGES)}", *excluded, *hooks),
                *(SUITE, str(archive), str(work / "sources.list")),
            ],
            lock,
            {**os.environ, "TMPDIR": str(work)},
        )
        _run(["podman", "import", "--quiet", str(archive), name], lock, self._environment())


def _sources(lock: int) -> list[str]:
    """sources.list lines for SUITE from the archives that the machine's apt has Debian's own packages from."""
    form = "$(REPO_URI) $(RELEASE) $(COMPONENT)"
    lines = []
    for target in _run(
        ["apt-get", "indextargets", "--format", form, "Created-By: Packages", "Origin: Debian"], lock
    ).splitlines():
        uri, release, component = target.split()
        suite = "-".join([SUITE, *release.split("-")[1:]])
        line = f"deb {uri} {suite} {component}"
        if component == "main" and suite in (SUITE, f"{SUITE}-updates", f"{SUITE}-security") and line not in lines:
            lines.append(line)
    if not lines:
        raise ImageError("apt knows no Debian archive to make the base image from: run apt-get update as root")
    return lines


def _fingerprint(context: Path) -> Iterator[str]:
    """What makes a context this one: every file's path, mode and content."""
    if not (context / "requirements.txt").is_file() or not (context / "train.py").is_file():
        raise ImageError(f"{context} is no image context: it needs requirements.txt and train.py")
    for file in sorted(context.rglob("*")):
        if file.is_file() and not any(
            fnmatch(part, pattern) for part in file.relative_to(context).parts for pattern in _IGNORED
        ):
            yield f"{file.relative_to(context)} {file.stat().st_mode:o} {hashlib.sha256(file.read_bytes()).hexdigest()}"


def _digest(parts: Iterable[str]) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _run(arguments: list[str], lock: int, environment: Mapping[str, str] | None = None) -> str:
    """Runs a step of a build; returns what it prints. Raises ImageError with the end of what it complained of."""
    try:
        result = subprocess.run(
            arguments, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=environment, pass_fds=(lock,), check=False
        )
    except FileNotFoundError as fault:
        raise ImageError(f"building an image needs {arguments[0]}, which is not installed") from fault
    if result.returncode != 0:
        said = "\n".join(result.stderr.strip().splitlines()[-12:])
        raise ImageError(f"{' '.join(arguments[:3])} … ended with code {result.returncode}:\n{said}")
    return result.stdout
