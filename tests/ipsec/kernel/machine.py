"""A virtual machine with Debian's kernel, which has ESP, on any host: emulated in software, it boots in seconds.

It has the host's own files, read-only under a layer in memory, so what runs in it is what the host would run: the same
interpreter, package, charon and native parts. `tools/setup` unpacks the kernel; nothing is installed or built for it.
"""

from __future__ import annotations

import contextlib
import shlex
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
UNPACKED = ROOT / "build" / "machine"
VIRTIOFSD = "/usr/lib/qemu/virtiofsd"
EARLY = ("virtio_pci", "virtiofs")
"""What the kernel needs to get at the host's files, and with them at everything else."""
MEMORY = "1G"
REPORT = "/run/report.xml"
LIMIT = 400.0
"""Seconds after which the machine is killed, whatever it does."""


class Failed(Exception):
    """The machine did not hand back a report; the text ends with its console."""


def run(command: Sequence[str]) -> str:
    """Boot, run `command` as root in this checkout, and return what it wrote to REPORT. Raises Failed."""
    release = (UNPACKED / "release").read_text().strip()
    with tempfile.TemporaryDirectory(prefix="phxt-machine-", dir="/dev/shm") as text:
        directory = Path(text)
        _initramfs(directory / "initramfs", release, command)
        console, report = directory / "console", directory / "report"
        with _files(directory / "files") as files:
            machine = subprocess.Popen(
                [
                    *("qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
                    *("-machine", "q35,accel=tcg,memory-backend=memory", "-cpu", "max", "-smp", "2", "-m", MEMORY),
                    *("-object", f"memory-backend-memfd,id=memory,size={MEMORY},share=on"),
                    *("-chardev", f"socket,id=files,path={files}", "-device", "vhost-user-fs-pci,chardev=files,tag=host"),
                    *("-device", "virtio-rng-pci", "-serial", f"file:{console}", "-serial", f"file:{report}"),
                    *("-kernel", str(UNPACKED / f"boot/vmlinuz-{release}"), "-initrd", str(directory / "initramfs")),
                    *("-append", "console=ttyS0 panic=-1 quiet"),
                ],
                stdin=subprocess.DEVNULL,
            )
            try:
                machine.wait(LIMIT)
                end = "it ended without a report"
            except subprocess.TimeoutExpired:
                end = f"it was killed after {LIMIT:.0f} s"
            finally:
                machine.kill()
                machine.wait()
        found = report.read_text() if report.exists() else ""
        said = console.read_text(errors="replace") if console.exists() else ""
        (UNPACKED / "console.log").write_text(said)
        if not found.rstrip().endswith(">"):
            raise Failed(f"the virtual machine failed: {end}; its console:\n{said[-20000:]}")
        return found


def _initramfs(target: Path, release: str, command: Sequence[str]) -> None:
    """busybox, the first modules and the first process, as the kernel unpacks it (cpio newc)."""
    tree = target.with_name("tree")
    for name in ("bin", "early"):
        (tree / name).mkdir(parents=True)
    shutil.copy(UNPACKED / "bin/busybox", tree / "bin")
    shutil.copy(HERE / "init", tree)
    (tree / "init").chmod(0o755)
    modules = UNPACKED / "lib/modules"
    for number, module in enumerate(_needed(modules / release, EARLY)):
        shutil.copy(module, tree / f"early/{number:02}.ko")
    environment = "PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/run TMPDIR=/run"
    script = f"cd {shlex.quote(str(ROOT))} && exec env -i {environment} {shlex.join(command)}"
    plan = {"modules": str(modules), "command": script, "report": REPORT}
    (tree / "plan").write_text("".join(f"{name}={shlex.quote(value)}\n" for name, value in plan.items()))
    names = "".join(f"{path.relative_to(tree)}\n" for path in sorted(tree.rglob("*")))
    with target.open("wb") as file:
        packed = [str(UNPACKED / "bin/busybox"), "cpio", "-o", "-H", "newc"]
        subprocess.run(packed, cwd=tree, input=names.encode(), stdout=file, stderr=subprocess.DEVNULL, check=True)


def _needed(tree: Path, names: Sequence[str]) -> list[Path]:
    """The modules of these names and what they depend on, in the order in which they can be loaded (modules.dep)."""
    lines = (line.split(":") for line in (tree / "modules.dep").read_text().splitlines())
    dependencies = {path: rest.split() for path, rest in lines}
    found: list[str] = []
    for name in names:
        (path,) = (path for path in dependencies if Path(path).stem.replace("-", "_") == name)
        found += [needed for needed in (*reversed(dependencies[path]), path) if needed not in found]
    return [tree / path for path in found]


@contextlib.contextmanager
def _files(path: Path) -> Iterator[Path]:
    """The host's files for a virtual machine that connects to `path`."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(1)
        daemon = subprocess.Popen(
            [
                *(VIRTIOFSD, f"--fd={listener.fileno()}", "--rlimit-nofile=0", "-o", "source=/"),
                *("-o", "sandbox=chroot", "-o", "cache=always"),
            ],
            pass_fds=(listener.fileno(),),
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,  # it tells of every step
        )
    try:
        yield path
    finally:
        daemon.kill()
        daemon.wait()
