"""The base of all built-in images: Debian with Python, made by mmdebstrap from the machine's own apt configuration."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from phalanx.runtime.podman import ImageError, run

SUITE = "bookworm"
PYTHON = "3.11"
"""Debian release of the base, and the Python that it has."""
PACKAGES = ("ca-certificates", "libgomp1", "python-is-python3", "python3", "python3-pip")


def make(archive: Path, work: Path, lock: int) -> None:
    """Makes the base's root file system as a tar archive, from the archives and proxies that the machine's apt knows.

    `work` is a directory for what is needed meanwhile. Raises ImageError.
    """
    (work / "sources.list").write_text("\n".join(_sources(lock)) + "\n")
    write_apt_configuration(work / "apt.conf", lock)
    hooks = (
        f'--setup-hook=cp {shlex.quote(str(work / "apt.conf"))} "$1"/etc/apt/apt.conf.d/99proxy',
        '--customize-hook=rm "$1"/etc/apt/apt.conf.d/99proxy "$1"/usr/lib/python3*/EXTERNALLY-MANAGED',
    )
    excluded = [f"--dpkgopt=path-exclude=/usr/share/{part}/*" for part in ("doc", "info", "locale", "man")]
    command = [
        *("mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(PACKAGES)}", *excluded, *hooks),
        *(SUITE, str(archive), str(work / "sources.list")),
    ]
    run(command, {**os.environ, "TMPDIR": str(work)}, lock)


def write_apt_configuration(file: Path, lock: int) -> None:
    """Writes the proxies that the machine's apt uses, for an apt in a container (APT_CONFIG, apt.conf(5))."""
    options = ("Acquire::http::Proxy", "Acquire::https::Proxy")
    file.write_text(run(["apt-config", "dump", "--format", '%f "%v";%n', *options], None, lock))


def _sources(lock: int) -> list[str]:
    """sources.list lines for SUITE from the archives that the machine's apt has Debian's own packages from."""
    form = "$(REPO_URI) $(RELEASE) $(COMPONENT)"
    lines = []
    found = run(["apt-get", "indextargets", "--format", form, "Created-By: Packages", "Origin: Debian"], None, lock)
    for target in found.splitlines():
        uri, release, component = target.split()
        suite = "-".join([SUITE, *release.split("-")[1:]])
        line = f"deb {uri} {suite} {component}"
        if component == "main" and suite in (SUITE, f"{SUITE}-updates", f"{SUITE}-security") and line not in lines:
            lines.append(line)
    if not lines:
        raise ImageError("apt knows no Debian archive to make the base image from: run apt-get update as root")
    return lines
