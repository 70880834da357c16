"""The OCI runtime configuration of a training container (opencontainers/runtime-spec, config.md and config-linux.md)."""

from __future__ import annotations

import json
import resource
from collections.abc import Mapping
from typing import Any

from phalanx.runtime import seccomp
from phalanx.runtime.images import ImageRoot
from phalanx.runtime.model import ContainerSpec, IdRange

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
CPU_PERIOD = 100_000
"""Microseconds over which the CPU quota is counted; the kernel's default."""

MASKED = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/kallsyms",
    "/proc/kcore",
    "/proc/key-users",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/fs/bpf",
    "/sys/hypervisor",
    "/sys/kernel",
    "/sys/module",
)
READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")


def command(spec: ContainerSpec, image: ImageRoot) -> tuple[str, ...]:
    """What runs, as `docker run` decides it: arguments replace CMD, and a new ENTRYPOINT drops the image's CMD."""
    if spec.command is not None:
        return (*spec.command, *spec.arguments)
    return (*image.entrypoint, *(spec.arguments or image.cmd))


def environment(spec: ContainerSpec, image: ImageRoot) -> dict[str, str]:
    """The container's environment: defaults as Docker gives them, the image's over them, the job's over both."""
    return {"PATH": PATH, "HOME": "/root", "HOSTNAME": spec.hostname, **image.env, **spec.environment}


def hosts(names: Mapping[str, str]) -> str:
    """The text of /etc/hosts."""
    lines = ["127.0.0.1 localhost", "::1 localhost ip6-localhost ip6-loopback"]
    return "\n".join(lines + [f"{address} {name}" for name, address in names.items()]) + "\n"


def config(spec: ContainerSpec, image: ImageRoot, *, init: str, stage: str, cgroup: str, ids: IdRange) -> dict[str, Any]:
    """The whole configuration.

    `init` is the host's path of the process 1 that reaps children and passes signals on; below `stage` the launcher has
    mounted `rootfs`, `sys`, `opt_ml` and `mount0` …; `cgroup` is the container's path in the cgroup hierarchy. The network
    namespace is not named: the runtime is started inside it and the container inherits it. No capability is held in any set.
    """
    limits, edits = spec.limits, spec.edits
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    mapping = [{"containerID": 0, "hostID": ids.first, "size": ids.count}]
    return {
        "ociVersion": "1.0.2",
        "hostname": spec.hostname,
        "root": {"path": f"{stage}/rootfs", "readonly": False},
        "process": {
            "terminal": False,
            "user": {"uid": 0, "gid": 0},
            "args": ["/dev/init", "--", *command(spec, image)],
            "env": [*(f"{name}={value}" for name, value in environment(spec, image).items()), *edits.environment],
            "cwd": image.workdir,
            "capabilities": {name: [] for name in ("bounding", "effective", "inheritable", "permitted", "ambient")},
            "rlimits": [
                {"type": "RLIMIT_NOFILE", "hard": files, "soft": files},
                {"type": "RLIMIT_CORE", "hard": 0, "soft": 0},
            ],
            "noNewPrivileges": True,
            # When the host itself runs out of memory, containers go before the agent and its daemons.
            "oomScoreAdj": 500,
        },
        "mounts": [
            _mount("/proc", "proc", "proc", "nosuid", "noexec", "nodev"),
            _mount("/dev", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
            _mount("/dev/pts", "devpts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"),
            _mount("/dev/mqueue", "mqueue", "mqueue", "nosuid", "noexec", "nodev"),
            _mount("/dev/shm", "tmpfs", "shm", "nosuid", "noexec", "nodev", "mode=1777", f"size={limits.memory}"),  # noqa: S108
            _mount("/dev/init", "bind", init, "bind", "ro", "nosuid", "nodev"),
            _mount("/tmp", "tmpfs", "tmpfs", "nosuid", "nodev", "mode=1777", f"size={limits.memory}"),  # noqa: S108
            _mount("/sys", "bind", f"{stage}/sys", "rbind", "ro", "nosuid", "noexec", "nodev"),
            _mount("/sys/fs/cgroup", "cgroup", "cgroup", "ro", "nosuid", "noexec", "nodev"),
            _mount("/opt/ml", "bind", f"{stage}/opt_ml", "bind"),
            *(_mount(at, "bind", f"{stage}/mount{number}", "bind") for number, at in enumerate(spec.mounts)),
            # Of a device node in a user namespace there can only be a bind mount.
            *(_mount(node.path, "bind", node.source, "bind", "nosuid", "noexec") for node in edits.devices),
            *(_mount(at, "bind", source, *options) for at, source, options in edits.mounts),
        ],
        "hooks": {name: [json.loads(content) for kind, content in edits.hooks if kind == name] for name, _ in edits.hooks},
        "linux": {
            "namespaces": [{"type": name} for name in ("user", "pid", "ipc", "uts", "mount", "cgroup")],
            "uidMappings": mapping,
            "gidMappings": mapping,
            "cgroupsPath": cgroup,
            "resources": {
                "devices": [
                    {"allow": False, "access": "rwm"},
                    *(
                        {"allow": True, "type": node.kind, "major": node.major, "minor": node.minor, "access": node.access}
                        for node in edits.devices
                    ),
                ],
                "cpu": {"period": CPU_PERIOD, "quota": round(limits.cpus * CPU_PERIOD)},
                "memory": {"limit": limits.memory, "swap": limits.memory},
                "pids": {"limit": limits.pids},
            },
            "seccomp": seccomp.profile(),
            "maskedPaths": list(MASKED),
            "readonlyPaths": list(READ_ONLY),
        },
    }


def _mount(destination: str, kind: str, source: str, *options: str) -> dict[str, Any]:
    return {"destination": destination, "type": kind, "source": source, "options": list(options)}
